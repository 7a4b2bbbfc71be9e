"""How far numbers may be apart that should be the same, where the last bits of what they were made from may differ."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygrad_lite.gradcheck.check import Arrays, largest_of, rounding
from tinygrad_lite.gradcheck.layout import Array


def last_bits(measure: Callable[[Callable[[Array], Array]], Sequence[Array]]) -> float:
    """How far what measure(nudge) gives moves when nudge changes the last bits of arrays: another order of summing may as far.

    Numbers in between may be far larger than any that is seen.
    """
    rng, moved = np.random.default_rng(0), [0.0]
    here = measure(lambda array: array)
    for low, high in 2 * ((-3, 4), (-6, 1), (0, 7)):  # both ways, towards 0, away from 0: a function may refuse some of these

        def nudge(array: Array, low: int = low, high: int = high) -> Array:
            return np.asarray(array * (1 + np.finfo(array.dtype).eps * rng.integers(low, high, array.shape)), array.dtype)

        with contextlib.suppress(Exception):
            near = measure(nudge)
            moved += [largest_of(a - b) for a, b in zip(near, here, strict=True) if a.shape == b.shape]
    return 32 * max(moved)


def rounding_of(array: Array, dtype: Any = np.float64) -> float:
    """What summing in another order may change, generously: 2e-9 of the largest number, 1e-4 in float32; or the last bit."""
    narrow = any(np.dtype(d).kind == "f" and np.finfo(d).eps > 1e-10 for d in (dtype, array.dtype))
    last_bit = float(np.finfo(dtype).smallest_subnormal) if np.dtype(dtype).kind in "fc" else 0.0
    return (1e-4 if narrow else 2e-9) * largest_of(array) + last_bit


def slack_of(array: Array, v: Arrays, dtype: Any) -> float:
    """What rounding may change in a gradient for the cotangent v."""
    return rounding_of(array, dtype) + 16 * rounding(v, float(np.finfo(dtype).eps))


def differ(one: Array, other: Array, allowed: Any) -> bool:
    """Whether two arrays differ by more than allowed anywhere both are finite."""
    both = np.isfinite(one) & np.isfinite(other)
    return bool(np.any(both & (np.abs(np.where(both, one, 0.0) - np.where(both, other, 0.0)) > allowed)))
