"""Shuffled batches from arrays, repeatable and resumable."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from tinygrad_lite import _check
from tinygrad_lite._elsewhere import attributes_of
from tinygrad_lite._types import Array
from tinygrad_lite.errors import DtypeError, ShapeError

Transform = Callable[..., Any]


class Batches:
    """Go through arrays in batches, in a new random order each time.

    Parameters
    ----------
    *arrays : ndarray, (n, ...) each, of one n >= 1
        Images and labels, say. They stay as they are (bytes stay bytes); only a batch at a time is copied.
    batch_size : int >= 1
    rng : numpy.random.Generator or None
        None goes through in order. With it, each pass shuffles anew, and takes one number from the generator.
    drop_last : bool, default False; leave out a last batch that is not full
    independent : bool, default False; draw each batch anew from the whole set, without regard to those before
    transform : function from a batch's arrays to what shall be yielded, optional; for example to make floats from bytes

    Raises
    ------
    ShapeError : no arrays, arrays of different lengths or empty ones; no full batch, with drop_last.
    DtypeError : rng is no generator, or None where batches are independent.

    Examples
    --------
    >>> batches = Batches(np.arange(5), batch_size=2, rng=None)
    >>> [b.tolist() for (b,) in batches]
    [[0, 1], [2, 3], [4]]
    """

    def __init__(
        self,
        *arrays: Array,
        batch_size: int,
        rng: np.random.Generator | None,
        drop_last: bool = False,
        independent: bool = False,
        transform: Transform | None = None,
    ) -> None:
        self.arrays = [_check.array("Batches", "each argument", a) for a in arrays]
        lengths = {a.shape[0] if a.ndim else None for a in self.arrays}
        if len(lengths) != 1 or not lengths - {None, 0}:
            raise ShapeError(f"Batches: needs arrays of one length of at least 1, got shapes {[a.shape for a in self.arrays]}.")
        if rng is not None:
            _check.generator("Batches", rng)
        self.batch_size = _check.integer("Batches", "batch_size", batch_size, 1)
        self.rng, self.transform = rng, transform
        self.drop_last = drop_last = _check.flag("Batches", "drop_last", drop_last)
        self.independent = independent = _check.flag("Batches", "independent", independent)
        if transform is not None:
            _check.function_of("Batches", "transform", transform)
        self.size = len(self.arrays[0])
        if independent and rng is None:
            raise DtypeError("Batches: independent batches need an rng, got rng=None; pass np.random.default_rng(seed).")
        if drop_last and self.size < self.batch_size:
            raise ShapeError(f"Batches: no full batch of {batch_size} in {self.size} samples; use drop_last=False.")
        self.epoch = 0  # passes begun
        self.position = 0  # batches of this pass that were given out
        self._order_seed: int | None = None
        self._resuming = False

    def __len__(self) -> int:
        return self.size // self.batch_size if self.drop_last else -(-self.size // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        """Go through the data once, or, after load_state_dict(), through the rest of the pass."""
        resuming, self._resuming = self._resuming, False
        if not resuming:
            self.epoch, self.position = self.epoch + 1, 0
            shuffled = self.rng is not None and not self.independent
            self._order_seed = int(self.rng.integers(2**63)) if shuffled and self.rng is not None else None
        order = None if self._order_seed is None else np.random.default_rng(self._order_seed).permutation(self.size)
        position = self.position  # each pass has its own: two may go side by side
        while position < len(self):
            start = position * self.batch_size
            place: Any = slice(start, start + self.batch_size)
            if self.independent and self.rng is not None:
                place = self.rng.choice(self.size, min(self.batch_size, self.size), replace=False)
            elif order is not None:
                place = order[place]
            # Never a view of them, which a slice alone would be.
            batch = tuple(a[place].copy() if isinstance(place, slice) else a[place] for a in self.arrays)
            given = self.transform(*batch) if self.transform else batch
            self.position = position = position + 1
            yield given

    def state_dict(self) -> dict[str, Any]:
        """Where in which pass we are, and the generator's state, all of it plain numbers (fit for JSON)."""
        state = None if self.rng is None else _plain(self.rng.bit_generator.state)
        return {"epoch": self.epoch, "position": self.position, "order_seed": self._order_seed, "rng": state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where state_dict() was taken; the arrays and options must be the same."""
        _check.entries("load_state_dict", state, ("epoch", "position", "order_seed", "rng"))
        if (state["rng"] is None) != (self.rng is None):
            raise ShapeError("load_state_dict: one of the two has a generator and the other has none.")
        seed = state["order_seed"]
        seed = None if seed is None else _check.integer("load_state_dict", "order_seed", seed, 0)
        epoch, position = (_check.integer("load_state_dict", n, state[n], 0) for n in ("epoch", "position"))
        if self.rng is not None:
            try:
                self.rng.bit_generator.state = state["rng"]
            except (TypeError, ValueError, KeyError, OverflowError) as error:
                raise ShapeError(f"load_state_dict: rng is no state of this kind of generator ({error!r:.80}).") from None
        self.epoch, self.position, self._order_seed = epoch, position, seed
        self._resuming = 0 < self.position < len(self)


def _plain(state: Any) -> Any:
    """Give a generator's state with lists in the place of arrays, which some kinds of generator have."""
    if isinstance(state, dict):
        return {name: _plain(value) for name, value in state.items()}
    return state.tolist() if isinstance(state, np.ndarray) else state


if not TYPE_CHECKING:  # a type checker would take it for a promise
    __getattr__ = attributes_of(__name__)
