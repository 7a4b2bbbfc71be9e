"""Where the time of a model goes: each operation with its time, arithmetic and memory traffic, forward and backward."""

import copy
import inspect
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import numpy as np

from tinygrad_lite import _check, tape
from tinygrad_lite import _threads as threads
from tinygrad_lite._types import Array, Vjp
from tinygrad_lite.errors import TapeError
from tinygrad_lite.nn.module import Module
from tinygrad_lite.tensor import Tensor

PRODUCTS = {"conv2d": "weight", "linear": "weight", "matmul": "a"}  # rules that multiply matrices -> one of their factors
WRAPPER = "tinygrad_lite.ops.half"  # a module with a function that is called in a rule's place


@dataclass
class Row:
    """One operation of the model.

    Attributes
    ----------
    layer : str, name of the module that asked for it; "" for the model itself
    operation : str, name of the rule
    forward, backward : float, median seconds
    flop : (int, int), floating point operations of the matrix products, forward and backward; a multiply-add counts as two
    traffic : (int, int), bytes that must be read or written at least: arguments, result, cotangent and gradients
    """

    layer: str
    operation: str
    flop: tuple[int, int] = (0, 0)
    traffic: tuple[int, int] = (0, 0)
    times: tuple[list[float], list[float]] = field(default_factory=lambda: ([], []))

    @property
    def forward(self) -> float:
        return statistics.median(self.times[0])

    @property
    def backward(self) -> float:
        return statistics.median(self.times[1]) if self.times[1] else 0.0


@dataclass
class Profile:
    """A table of rows, one for each operation in the order in which they were called. Print it.

    Attributes
    ----------
    rows : list of Row
    seconds : float, median of a forward and backward pass
    peak : float, floating point operations a second in a large float32 matrix product on this machine
    """

    rows: list[Row]
    seconds: float
    peak: float

    def __str__(self) -> str:
        head = f"{'layer':12}{'operation':16}" + 2 * f"{'ms':>9}{'MFLOP':>9}{'MB':>8}{'of peak':>9}"
        lines = [f"{'':28}{'forward':>35}{'backward':>35}", head]
        total = Row("", "all", times=([], []))
        for row in self.rows:
            lines.append(self._line(row))
            total.flop = (total.flop[0] + row.flop[0], total.flop[1] + row.flop[1])
            total.traffic = (total.traffic[0] + row.traffic[0], total.traffic[1] + row.traffic[1])
        total.times = ([sum(row.forward for row in self.rows)], [sum(row.backward for row in self.rows)])
        lines.append(self._line(total))
        done = sum(total.flop) / self.seconds / self.peak if self.seconds else 0.0
        lines.append(
            f"{1e3 * self.seconds:.2f} ms forward and backward, {done:.0%} of the {self.peak / 1e9:.0f} GFLOP/s "
            "of a large matrix product"
        )
        return "\n".join(lines)

    def _line(self, row: Row) -> str:
        cells = ""
        for seconds, flop, traffic in zip((row.forward, row.backward), row.flop, row.traffic, strict=True):
            share = f"{flop / seconds / self.peak:.0%}" if flop and seconds else ""
            cells += f"{1e3 * seconds:9.3f}{flop / 1e6:9.1f}{traffic / 1e6:8.1f}{share:>9}"
        return f"{row.layer:12}{row.operation:16}{cells}"


class _Watch:
    """Sees the rules at work, through the interpreter's own hook for profilers: nothing is in the way when nobody looks."""

    def __init__(self, names: dict[int, str]) -> None:
        self.names = names  # of modules, by id
        self.begun: dict[FrameType, float] = {}
        self.calls: list[tuple[Row, float, Vjp]] = []

    def __call__(self, frame: FrameType, event: str, result: Any) -> None:
        if event == "call" and self._is_rule(frame):
            self.begun[frame] = time.perf_counter()
        elif event == "return" and frame in self.begun:
            seconds = time.perf_counter() - self.begun.pop(frame)
            # Not so where it raised, or where it was no rule
            if isinstance(result, tuple) and len(result) == 2 and isinstance(result[0], np.ndarray) and callable(result[1]):
                self.calls.append((self._row(frame, result[0]), seconds, result[1]))

    @staticmethod
    def _is_rule(frame: FrameType) -> bool:
        caller = frame.f_back
        if caller is not None and caller.f_globals.get("__name__") == WRAPPER:
            caller = caller.f_back
        if caller is None or frame.f_globals.get("__name__") == WRAPPER:
            return False
        return caller.f_globals.get("__name__") == "tinygrad_lite.tensor" and "vjp" in caller.f_code.co_varnames

    def _row(self, frame: FrameType, out: Array) -> Row:
        operation, arguments = frame.f_code.co_name, inspect.getargvalues(frame).locals
        code = frame.f_code
        arrays = [a for name in code.co_varnames[: code.co_argcount] if isinstance(a := arguments[name], np.ndarray)]
        wanted = arguments.get("needs", (True,) * len(arrays))[: len(arrays)]
        flop = 0
        if operation in PRODUCTS:
            factor = arguments[PRODUCTS[operation]]
            terms = factor.shape[-1] if operation == "matmul" else factor[0].size
            flop = 2 * terms * out.size
        size = sum(a.nbytes for a in arrays)
        gradients = sum(a.nbytes for a, wants in zip(arrays, wanted, strict=True) if wants)
        return Row(
            self._layer(frame), operation, (flop, flop * sum(wanted[:2])), (size + out.nbytes, size + out.nbytes + gradients)
        )

    def _layer(self, frame: FrameType | None) -> str:
        while frame is not None:
            name = self.names.get(id(frame.f_locals.get("self")))
            if name is not None:
                return name
            frame = frame.f_back
        return ""


def profile(model: Module, *inputs: Any, steps: int = 20) -> Profile:
    """Run a copy of a model forward and backward and tell where the time went.

    Parameters
    ----------
    model : Module, in the mode (train or eval) in which it shall be looked at
    inputs : what it is called with; its result must be a Tensor
    steps : int >= 1, passes; each time in the table is the median over them

    Raises
    ------
    TapeError : the model's result is no Tensor, or none of its parameters requires a gradient.

    Examples
    --------
    >>> from tinygrad_lite import nn
    >>> model = nn.Sequential(nn.Linear(800, 500, rng=np.random.default_rng(0)), nn.ReLU())
    >>> [row.operation for row in model.profile(np.zeros((10, 800), np.float32), steps=2).rows]
    ['linear', 'relu']
    """
    steps = _check.integer("profile", "steps", steps, 1)
    model = copy.deepcopy(model)  # steps leave gradients, change running values and draw random numbers
    names = {id(module): name for name, module in _named_modules(model)}
    rows: list[Row] = []
    seconds = []
    for step in range(steps + 1):  # the first one is for warming up
        watch = _Watch(names)
        before = sys.getprofile()
        start = time.perf_counter()
        sys.setprofile(watch)
        try:
            out = model(*inputs)
        finally:
            sys.setprofile(before)
        if not isinstance(out, Tensor) or not out.requires_grad:
            raise TapeError("profile: the model must give a Tensor that depends on a parameter that requires a gradient.")
        called = [row for row, _, _ in watch.calls]
        if step == 1:
            rows = called
        back = _time_vjps(out, [vjp for _, _, vjp in watch.calls])
        out.backward(np.ones_like(out.data))
        if step:
            seconds.append(time.perf_counter() - start)
            for i, (row, (_, forward, _)) in enumerate(zip(rows, watch.calls, strict=True)):
                row.times[0].append(forward)
                if i in back:
                    row.times[1].append(back[i])
        model.zero_grad()
    for i, row in enumerate(rows):
        if not row.times[1]:
            rows[i] = Row(row.layer, row.operation, (row.flop[0], 0), (row.traffic[0], 0), row.times)
    return Profile(rows, statistics.median(seconds), matrix_peak())


def matrix_peak(size: int = 1024) -> float:
    """Floating point operations a second of a float32 product of two square matrices, the best of ten."""
    a = np.ones((size, size), np.float32)
    best = np.inf
    for _ in range(10):
        start = time.perf_counter()
        threads.matmul(a, a)
        best = min(best, time.perf_counter() - start)
    return float(2 * size**3 / best)


def _time_vjps(out: Tensor, vjps: list[Vjp]) -> dict[int, float]:
    """Put a clock around each vjp of the graph behind `out`; give the seconds by number of the call, once it has run."""
    numbers = {id(vjp): i for i, vjp in enumerate(vjps)}
    seconds: dict[int, float] = {}

    def clocked(vjp: Vjp, number: int) -> Vjp:
        def timed(g: Array) -> tuple[Array | None, ...]:
            start = time.perf_counter()
            result = vjp(g)
            seconds[number] = time.perf_counter() - start
            return result

        return timed

    seen: set[tape.Node] = set()
    stack = [out._node]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        stack.extend(node.parents)
        if node.vjp is not None and id(node.vjp) in numbers:
            node.vjp = clocked(node.vjp, numbers[id(node.vjp)])
    return seconds


def _named_modules(module: Module, prefix: str = "", outer: tuple[Module, ...] = ()) -> Iterator[tuple[str, Module]]:
    yield prefix, module
    outer = (*outer, module)
    for name, child in module.named_children():
        if not any(child is one for one in outer):  # a module may know the one around it
            yield from _named_modules(child, f"{prefix}.{name}" if prefix else name, outer)
