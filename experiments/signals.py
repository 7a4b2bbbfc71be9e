"""How a program is stopped from outside: after a step, or at once, but not before it has cleared up."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any

from tinygrad_lite import TinygradError

ENDS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


@contextlib.contextmanager
def ending_as_ctrl_c() -> Iterator[None]:
    """Have SIGTERM and SIGHUP raise a KeyboardInterrupt, with their number, in this context: nothing half-written stays."""

    def interrupt(number: int, _: FrameType | None) -> None:
        raise KeyboardInterrupt(number)

    before: dict[int, Any] = {}
    with contextlib.suppress(ValueError):  # not in the main thread: whoever called us handles signals
        before = {number: signal.signal(number, interrupt) for number in ENDS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class StoppedError(TinygradError):
    """The user or the system asked the training to stop."""


class Stop:
    """Ctrl-C and SIGTERM become a note that is looked at after each step; a second Ctrl-C stops at once."""

    def __init__(self) -> None:
        self.signal = 0
        self._before: dict[int, Any] = {}
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        except ValueError:  # not in the main thread: whoever called us handles signals
            pass

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number

    def forget(self) -> None:
        """Give the signals back to whoever had them before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
