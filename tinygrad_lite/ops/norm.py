"""Rules for batch and layer normalisation."""

from __future__ import annotations  # those of a vjp would be evaluated at every call

from collections.abc import Callable

import numpy as np

from tinygrad_lite import _check
from tinygrad_lite import _threads as threads
from tinygrad_lite._types import Array, RuleResult
from tinygrad_lite.ops.reduction import deviations


def normalize(x: Array, *, axes: tuple[int, ...], eps: float = 1e-5) -> RuleResult:
    """Rule for (x - mean) / sqrt(var + eps), mean and (biased) variance over `axes`. Source: Ioffe & Szegedy 2015."""
    _check.not_empty("normalize", "x", x, "the mean", axes)
    centred = deviations(x, axes)
    scale = 1 / np.sqrt((centred * centred).mean(axis=axes, keepdims=True) + eps)
    out = centred * scale

    def vjp(g: Array) -> tuple[Array, ...]:
        # With y = c s: dc = dx - mean(dx), ds = -s^3 mean(c dc)  =>  g_x = s (g - mean(g) - y mean(g y))
        return (scale * (g - g.mean(axis=axes, keepdims=True) - out * (g * out).mean(axis=axes, keepdims=True)),)

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
        mean[part], variance[part] = (first + rest).reshape(-1), _dots(c, c) / count
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
            dots, sums = _dots(some, c), some.sum(axis=axes)
            g_weight[part], g_bias[part] = s * dots, sums
            if needs[0]:  # as in `normalize`: g_x = s w (g - mean(g) - s^2 c mean(g c))
                slope, g_some = s * weight[part], g_x[:, part]
                np.multiply(c, (-slope * s * s * dots / count).reshape(per_channel), out=g_some)
                g_some -= (slope * sums / count).reshape(per_channel)
                g_some += some * slope.reshape(per_channel)

        threads.run(backward, parts)
        return g_x if needs[0] else None, g_weight, g_bias

    return out, vjp


def _dots(a: Array, b: Array) -> Array:
    """Sum of a * b for each channel, without an array for the products. (n, c, ...), (n, c, ...) -> (c,)."""
    axes = list(range(a.ndim))
    return np.asarray(np.einsum(a, axes, b, axes, [1]))
