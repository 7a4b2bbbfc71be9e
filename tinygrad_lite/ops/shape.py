"""Rules that move elements and do not change them. Results may be views."""

from __future__ import annotations  # those of a vjp would be evaluated at every call

import math
from typing import Any

import numpy as np

from tinygrad_lite._types import Array, RuleResult
from tinygrad_lite.ops.elementwise import unbroadcast

WIDE = 512  # numbers in a row, from which on a row is worth an addition of its own


def reshape(x: Array, *, shape: tuple[int, ...]) -> RuleResult:
    """Rule for x in another shape, elements in C order. A batch axis innermost in memory, as after a convolution, stays so."""
    if x.ndim > 2 and 1 < x.shape[0] == shape[0] and x.strides[0] == x.itemsize:
        out = x.transpose(*range(1, x.ndim), 0).reshape(*shape[1:], shape[0])

        def vjp(g: Array) -> tuple[Array, ...]:
            g_x = np.empty_like(x, dtype=g.dtype)
            g_x[...] = g.reshape(x.shape)
            return (g_x,)

        return out.transpose(out.ndim - 1, *range(out.ndim - 1)), vjp
    return x.reshape(shape), lambda g: (g.reshape(x.shape),)


def permute(x: Array, *, dims: tuple[int, ...]) -> RuleResult:
    """Rule for x with its axes in another order."""
    back = tuple(sorted(range(len(dims)), key=dims.__getitem__))
    return x.transpose(dims), lambda g: (g.transpose(back),)


def expand(x: Array, *, shape: tuple[int, ...]) -> RuleResult:
    """Rule for x repeated along new axes and axes of size 1, without a copy."""
    return np.broadcast_to(x, shape), lambda g: (unbroadcast(g, x),)


def pad(x: Array, *, widths: tuple[tuple[int, int], ...], value: float = 0.0) -> RuleResult:
    """Rule for x with `value` before and after each axis; a negative width cuts off instead.

    `widths` has (before, after) for every axis, first axis first.
    """
    inside = tuple(slice(max(before, 0), max(before, 0) + size + min(before, 0) + min(after, 0))
                   for (before, after), size in zip(widths, x.shape, strict=True))  # fmt: skip
    taken = tuple(slice(max(-before, 0), size - max(-after, 0))
                  for (before, after), size in zip(widths, x.shape, strict=True))  # fmt: skip
    out = np.full([size + before + after for (before, after), size in zip(widths, x.shape, strict=True)], value, x.dtype)
    out[inside] = x[taken]

    def vjp(g: Array) -> tuple[Array, ...]:
        g_x = np.zeros(x.shape, g.dtype)
        g_x[taken] = g[inside]
        return (g_x,)

    return out, vjp


def cat(*arrays: Array, axis: int = 0) -> RuleResult:
    """Rule for arrays joined along an axis that they have."""
    ends = np.cumsum([a.shape[axis] for a in arrays])[:-1]
    return np.concatenate(arrays, axis), lambda g: tuple(map(unbroadcast, np.split(g, ends, axis), arrays))


def stack(*arrays: Array, axis: int = 0) -> RuleResult:
    """Rule for arrays of one shape joined along a new axis."""
    return np.stack(arrays, axis), lambda g: tuple(map(unbroadcast, np.moveaxis(g, axis, 0), arrays))


def index(x: Array, *, key: Any) -> RuleResult:
    """Rule for x[key], NumPy's indexing. An element that is picked several times collects all its cotangents."""
    parts = key if isinstance(key, tuple) else (key,)
    lists = [np.asarray(part) for part in parts if isinstance(part, (list, tuple, range, np.ndarray))]
    repeats = any(array.dtype != bool for array in lists)
    of_rows = len(lists) == len(parts) == 1 and lists[0].dtype.kind in "iu" and x.size > 0 < x.ndim  # as embeddings take them

    def vjp(g: Array) -> tuple[Array, ...]:
        g_x = np.zeros(x.shape, g.dtype)
        if of_rows:  # row by row, or where they are short each number to its place: NumPy's way takes several times as long
            rows, width = lists[0].reshape(-1).astype(np.intp), math.prod(x.shape[1:])
            if width >= WIDE:
                for row, share in zip(rows, g.reshape(-1, width), strict=True):
                    g_x.reshape(-1, width)[row] += share
            else:
                places = rows[:, None] * width + np.arange(width)
                np.add.at(g_x.reshape(-1), places.reshape(-1), g.reshape(-1))
        elif repeats:
            np.add.at(g_x, key, g)
        else:
            g_x[key] = g
        return (g_x,)

    return x.take(lists[0], axis=0) if of_rows and x.flags.c_contiguous else x[key], vjp
