"""Rules for reductions over any axes. `axes` counts from the front and names each axis once."""

from __future__ import annotations  # those of a vjp would be evaluated at every call

import math
from collections.abc import Callable

import numpy as np

from tinygrad_lite import _check
from tinygrad_lite._types import Array, RuleResult
from tinygrad_lite.errors import ShapeError
from tinygrad_lite.ops.elementwise import summed
from tinygrad_lite.ops.half import in_single

Axes = tuple[int, ...]


def _kept(shape: tuple[int, ...], axes: Axes) -> tuple[int, ...]:
    """Shape of the result with its reduced axes kept at size 1, which broadcasts against the input."""
    return tuple(1 if i in axes else size for i, size in enumerate(shape))


def _count(shape: tuple[int, ...], axes: Axes) -> int:
    return int(np.prod([shape[i] for i in axes], dtype=np.int64))


def _wide(x: Array) -> type[np.int64] | None:
    """Integers add up and multiply in int64, as in PyTorch, where NumPy takes uint64 for bytes."""
    return np.int64 if x.dtype.kind in "biu" else None


@in_single
def sum(x: Array, *, axes: Axes, keepdim: bool = False) -> RuleResult:
    """Rule for the sum over `axes`."""

    def vjp(g: Array) -> tuple[Array, ...]:  # every term has slope 1
        return (np.broadcast_to(g.reshape(_kept(x.shape, axes)), x.shape),)

    return summed(x, axes, keepdims=keepdim, dtype=_wide(x)), vjp


@in_single
def mean(x: Array, *, axes: Axes, keepdim: bool = False) -> RuleResult:
    """Rule for the mean over `axes`."""
    _check.not_empty("mean", "x", x, "the mean", axes)
    total, sum_vjp = sum(x, axes=axes, keepdim=keepdim)
    count = _count(x.shape, axes)
    return total / count, lambda g: sum_vjp(g / count)


def deviations(x: Array, axes: Axes) -> Array:
    """Give x minus its mean over `axes`: exactly 0 where all elements are equal.

    x.mean() alone can be off by a rounding, which is then divided by itself: so the first element is taken off before.
    Axes may count from the end here.
    """
    shifted = x - x[tuple(slice(0, 1) if {i, i - x.ndim} & {*axes} else slice(None) for i in range(x.ndim))]
    shifted -= summed(shifted, tuple(axis % x.ndim for axis in axes), keepdims=True) / _count(x.shape, axes)
    return np.asarray(shifted)


@in_single
def var(x: Array, *, axes: Axes, correction: int = 1, keepdim: bool = False) -> RuleResult:
    """Rule for the sum of squared deviations from the mean, divided by (count - correction)."""
    count = _degrees("var", x, axes, correction)
    centred = deviations(x, axes)
    out = summed(centred * centred, axes, keepdims=keepdim) / count

    def vjp(g: Array) -> tuple[Array, ...]:  # the mean's own slope drops out: deviations sum to 0
        return (g.reshape(_kept(x.shape, axes)) * (2 / count) * centred,)

    return out, vjp


@in_single
def std(x: Array, *, axes: Axes, correction: int = 1, keepdim: bool = False) -> RuleResult:
    """Rule for the square root of `var`. Where all elements are equal the slope is 0, a subgradient, and not 0/0."""
    root = math.sqrt(_degrees("std", x, axes, correction))
    length, to_deviations = norm(deviations(x, axes), axes=axes, keepdim=keepdim)
    # The gradient by the deviations is a multiple of them and sums to 0, so it is that by x.
    return length / root, lambda g: to_deviations(g / root)


@in_single
def norm(x: Array, *, axes: Axes, keepdim: bool = False) -> RuleResult:
    """Rule for the Euclidean norm over `axes`. At the zero vector the slope is 0, a subgradient, and not 0/0."""
    largest = np.abs(x.real).max(axis=axes, keepdims=True, initial=0)  # squares of x / largest cannot overflow
    largest = np.where((largest == 0) | np.isinf(largest), 1, largest).astype(x.real.dtype)
    scaled = x / largest
    length = np.sqrt(summed(scaled * scaled, axes, keepdims=True))

    def vjp(g: Array) -> tuple[Array, ...]:  # d|x| = x.dx / |x|
        return (g.reshape(length.shape) * (scaled / np.where(length == 0, 1, length)),)

    out = length * largest
    return out.reshape(out.shape if keepdim else _dropped(x.shape, axes)), vjp


def max(x: Array, *, axes: Axes, keepdim: bool = False) -> RuleResult:
    """Rule for the largest element over `axes`; of equal ones the first, in C order, takes the cotangent. NaN stays."""
    out, back = _extreme("max", x, axes, keepdim)
    return out, lambda g: back(g)  # made here, for the tape calls a rule by the name of what made its vjp


def min(x: Array, *, axes: Axes, keepdim: bool = False) -> RuleResult:
    """Rule for the smallest element over `axes`; of equal ones the first, in C order, takes the cotangent. NaN stays."""
    out, back = _extreme("min", x, axes, keepdim)
    return out, lambda g: back(g)  # made here, for the tape calls a rule by the name of what made its vjp


def _extreme(name: str, x: Array, axes: Axes, keepdim: bool) -> RuleResult:
    _check.not_empty(name, "x", x, f"the {name}", axes)
    rows, restore = _as_rows(x, axes)
    index = (rows.real.argmax(axis=-1) if name == "max" else rows.real.argmin(axis=-1))[..., None]
    shape = _kept(x.shape, axes) if keepdim else _dropped(x.shape, axes)

    def vjp(g: Array) -> tuple[Array, ...]:
        g_rows = np.zeros(rows.shape, g.dtype)
        np.put_along_axis(g_rows, index, g.reshape(index.shape), axis=-1)
        return (restore(g_rows),)

    return np.take_along_axis(rows, index, axis=-1).reshape(shape), vjp


def prod(x: Array, *, axes: Axes, keepdim: bool = False) -> RuleResult:
    """Rule for the product over `axes`. Right at zeros too: nothing is divided."""
    rows, restore = _as_rows(x, axes)
    shape = _kept(x.shape, axes) if keepdim else _dropped(x.shape, axes)

    def vjp(g: Array) -> tuple[Array, ...]:  # slope of the product by x_i: the product of those before and after it
        before, after = np.ones_like(rows), np.ones_like(rows)
        np.cumprod(rows[..., :-1], axis=-1, out=before[..., 1:])
        np.cumprod(rows[..., :0:-1], axis=-1, out=after[..., -2::-1])
        return (restore(g.reshape(*rows.shape[:-1], 1) * before * after),)

    return rows.prod(axis=-1, dtype=_wide(x)).reshape(shape), vjp


def _degrees(name: str, x: Array, axes: Axes, correction: int) -> int:
    count = _count(x.shape, axes)
    if count <= correction:
        raise ShapeError(
            f"{name}: needs more than correction={correction} elements in each group, got {count} "
            f"(x.shape={x.shape}, dim={axes}); use correction=0 or more elements."
        )
    return count - correction


def _dropped(shape: tuple[int, ...], axes: Axes) -> tuple[int, ...]:
    return tuple(size for i, size in enumerate(shape) if i not in axes)


def _as_rows(x: Array, axes: Axes) -> tuple[Array, Callable[[Array], Array]]:
    """Give x with its reduced axes, in C order, as one last axis, and the way back."""
    kept = tuple(i for i in range(x.ndim) if i not in axes)
    order = (*kept, *sorted(axes))
    moved = x.transpose(order)
    rows = moved.reshape(*(x.shape[i] for i in kept), _count(x.shape, axes))
    return rows, lambda g_rows: g_rows.reshape(moved.shape).transpose(np.argsort(order))
