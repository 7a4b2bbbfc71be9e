"""Rules for batch and layer normalisation."""

from __future__ import annotations  # those of a vjp would be evaluated at every call

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_lite import _check
from tinygrad_lite import _threads as threads
from tinygrad_lite._types import Array, RuleResult
from tinygrad_lite.ops.reduction import deviations


def normalize(x: Array, *, axes: tuple[int, ...], eps: float = 1e-5) -> RuleResult:
    """Rule for (x - mean) / sqrt(var + eps), mean and (biased) variance over `axes`. Source: Ioffe & Szegedy 2015."""
    _check.not_empty("normalize", "x", x, "the mean", axes)
    kept = [axis for axis in range(x.ndim) if not {axis, axis - x.ndim} & {*axes}]
    one_each = tuple(size if axis in kept else 1 for axis, size in enumerate(x.shape))  # shape of the means
    count = x.size // max(1, math.prod(one_each))
    lead = next((i for i, axis in enumerate(kept) if i != axis), len(kept))  # leading axes that stay
    blocks = threads.blocks(x, lead) if lead else [(...,)]
    out, scale = np.empty_like(x), np.empty(one_each, x.dtype)

    def forward(block: tuple[Any, ...]) -> None:
        centred = deviations(x[block], axes)
        scale[block] = 1 / np.sqrt(_dots(centred, centred, kept).reshape(scale[block].shape) / count + eps)
        np.multiply(centred, scale[block], out=out[block])

    threads.run(forward, blocks)

    def vjp(g: Array) -> tuple[Array, ...]:
        # With y = c s: dc = dx - mean(dx), ds = -s^3 mean(c dc)  =>  g_x = s (g - mean(g) - y mean(g y))
        g_x = np.empty_like(out, dtype=np.result_type(g, out))

        def backward(block: tuple[Any, ...]) -> None:
            some, y, g_some = g[block], out[block], g_x[block]
            np.multiply(y, _dots(some, y, kept).reshape(scale[block].shape) / count, out=g_some)
            g_some += some.mean(axis=axes, keepdims=True)
            np.subtract(some, g_some, out=g_some)
            g_some *= scale[block]

        threads.run(backward, blocks)
        return (g_x,)

    return out, vjp


def batch_norm(
    x: Array,
    weight: Array,
    bias: Array,
    *,
    eps: float = 1e-5,
    seen: Callable[[Array, Array], None] | None = None,
    needs: tuple[bool, ...] = (True,) * 3,
) -> RuleResult:
    """Rule for (x - mean) / sqrt(var + eps) * weight + bias, mean and (biased) variance of each channel; in any memory order.

    x (n, c, ...), weight and bias (c,). `seen` is told the mean and the variance, (c,). Source: Ioffe & Szegedy 2015.
    """
    _check.not_empty("batch_norm", "x", x, "the mean")
    axes, per_channel = (0, *range(2, x.ndim)), (-1, *(1,) * (x.ndim - 2))
    count, parts = x.size // x.shape[1], threads.slices(x.shape[1], x.size)
    centred, out = np.empty_like(x), np.empty_like(x, dtype=np.result_type(x, weight, bias))
    mean, variance, scale = (np.empty(x.shape[1], x.dtype) for _ in range(3))

    def forward(part: slice) -> None:
        some, c = x[:, part], centred[:, part]
        first = some[(slice(1), slice(None), *(slice(1),) * (x.ndim - 2))]  # taken off before, as in `deviations`
        np.subtract(some, first, out=c)
        rest = c.mean(axis=axes, keepdims=True)
        c -= rest
        mean[part], variance[part] = (first + rest).reshape(-1), _dots(c, c, [1]) / count
        scale[part] = 1 / np.sqrt(variance[part] + eps)
        np.multiply(c, (scale[part] * weight[part]).reshape(per_channel), out=out[:, part])
        out[:, part] += bias[part].reshape(per_channel)

    threads.run(forward, parts)
    if seen is not None:
        seen(mean, variance)

    def vjp(g: Array) -> tuple[Array | None, ...]:
        dtype = np.result_type(g, out)
        g_x = np.empty_like(centred, dtype=dtype)
        g_weight, g_bias = np.empty(weight.shape, dtype), np.empty(bias.shape, dtype)

        def backward(part: slice) -> None:
            some, c, s = g[:, part], centred[:, part], scale[part]
            dots, sums = _dots(some, c, [1]), some.sum(axis=axes)
            g_weight[part], g_bias[part] = s * dots, sums
            if needs[0]:  # as in `normalize`: g_x = s w (g - mean(g) - s^2 c mean(g c))
                g_some = g_x[:, part]
                np.multiply(c, (s * s * dots / count).reshape(per_channel), out=g_some)
                g_some += (sums / count).reshape(per_channel)
                np.subtract(some, g_some, out=g_some)
                g_some *= (s * weight[part]).reshape(per_channel)

        threads.run(backward, parts)
        return g_x if needs[0] else None, g_weight, g_bias

    return out, vjp


def _dots(a: Array, b: Array, kept: list[int]) -> Array:
    """Sum of a * b over all axes but those kept, without an array for the products."""
    axes = list(range(a.ndim))
    return np.asarray(np.einsum(a, axes, b, axes, kept))
