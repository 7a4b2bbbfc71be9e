"""Rules for batch and layer normalisation."""

from __future__ import annotations  # those of a vjp would be evaluated at every call

from collections.abc import Callable

import numpy as np

from tinygrad_lite import _check
from tinygrad_lite import _threads as threads
from tinygrad_lite._types import Array, RuleResult
from tinygrad_lite.ops.half import in_single
from tinygrad_lite.ops.reduction import deviations


@in_single
def layer_norm(x: Array, weight: Array, bias: Array, *, eps: float = 1e-5, needs: tuple[bool, ...] = (True,) * 3) -> RuleResult:
    """Rule for (x - mean) / sqrt(var + eps) * weight + bias, mean and (biased) variance over the last axes, those of weight.

    x (..., *sizes), weight and bias (*sizes). Source: Ba, Kiros & Hinton 2016.
    """
    count = weight.size
    rows, w = x.reshape(-1, count), weight.reshape(count)
    out = np.empty(rows.shape, np.result_type(x, weight, bias))
    normed, scale = np.empty(rows.shape, x.dtype), np.empty((len(rows), 1), x.dtype)
    parts = threads.slices(len(rows), x.size, (threads.PASSES - 1) * x.nbytes)

    def forward(part: slice) -> None:
        centred = deviations(rows[part], (1,))
        inverse = 1 / np.sqrt(_dots(centred, centred, [0]) / count + eps)
        scale[part, 0] = inverse
        if np.count_nonzero(inverse > 0) < inverse.size:
            small = _shrinking(rows[part], inverse, 1)
            centred = deviations(rows[part] * small[:, None], (1,))
            inverse = 1 / np.sqrt(_dots(centred, centred, [0]) / count + eps * small * small)
            scale[part, 0] = inverse * small
        np.multiply(centred, inverse[:, None], out=normed[part])
        some = np.multiply(normed[part], w, out=out[part])
        some += bias.reshape(count)

    threads.run(forward, parts)

    def vjp(g: Array) -> tuple[Array | None, ...]:
        # With y = c s, h = g weight: dc = dx - mean(dx), ds = -s^3 mean(c dc)  =>  g_x = s (h - mean(h) - y mean(h y))
        G, g_x = g.reshape(rows.shape), np.empty(rows.shape, np.result_type(g, out))
        sums: dict[int, tuple[Array, Array]] = {}  # for weight and bias, of each part

        def backward(part: slice) -> None:
            some, y = G[part], normed[part]
            if any(needs[1:]):
                sums[part.start] = _dots(some, y, [1]), some.sum(axis=0)
            if needs[0]:
                h, to_x = some * w, g_x[part]
                np.multiply(y, _dots(h, y, [0])[:, None] / count, out=to_x)
                to_x += h.mean(axis=1, keepdims=True)
                np.subtract(h, to_x, out=to_x)
                to_x *= scale[part]

        threads.run(backward, parts)
        of_parts = zip(*[sums[start] for start in sorted(sums)], strict=True)
        g_weight, g_bias = [sum(some).reshape(weight.shape) for some in of_parts] or (None, None)
        return g_x.reshape(x.shape) if needs[0] else None, g_weight, g_bias

    return out.reshape(x.shape), vjp


@in_single
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
    mean, variance, scale, to_x = (np.empty(x.shape[1], x.dtype) for _ in range(4))

    def centre(some: Array, part: slice) -> None:
        c = centred[:, part]
        first = some[(slice(1), slice(None), *(slice(1),) * (x.ndim - 2))]  # taken off before, as in `deviations`
        np.subtract(some, first, out=c)
        rest = c.mean(axis=axes, keepdims=True)
        c -= rest
        mean[part], variance[part] = (first + rest).reshape(-1), _dots(c, c, [1]) / count

    def forward(part: slice) -> None:
        some, c = x[:, part], centred[:, part]
        centre(some, part)
        scale[part] = to_x[part] = inverse = 1 / np.sqrt(variance[part] + eps)
        if np.count_nonzero(inverse > 0) < inverse.size:
            small = _shrinking(some, inverse, axes)
            centre(some * small.reshape(per_channel), part)
            scale[part] = 1 / np.sqrt(variance[part] + eps * small * small)
            to_x[part] = scale[part] * small
            mean[part] /= small
            with np.errstate(over="ignore"):  # one too large for the dtype is infinite
                variance[part] = variance[part] / small / small
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
            if needs[0]:  # as in `layer_norm`: g_x = s w (g - mean(g) - s^2 c mean(g c)), the first s by x
                g_some = g_x[:, part]
                np.multiply(c, (s * s * dots / count).reshape(per_channel), out=g_some)
                g_some += (sums / count).reshape(per_channel)
                np.subtract(some, g_some, out=g_some)
                g_some *= (to_x[part] * weight[part]).reshape(per_channel)

        threads.run(backward, parts)
        return g_x if needs[0] else None, g_weight, g_bias

    return out, vjp


def _dots(a: Array, b: Array, kept: list[int]) -> Array:
    """Sum of a * b over all axes but those kept, without an array for the products."""
    axes = list(range(a.ndim))
    return np.asarray(np.einsum(a, axes, b, axes, kept))


def _shrinking(x: Array, inverse: Array, axes: int | tuple[int, ...]) -> Array:
    """Give powers of two that bring below 1 what is finite, but has squares or sums that are not; 1 for the rest.

    inverse: 1 / sqrt(var + eps), 0 or NaN there. What is normalised of x small with eps small^2 is that of x with eps.
    """
    largest = np.abs(x).max(axis=axes)
    wanted = ~(inverse > 0) & np.isfinite(largest)
    return np.asarray(np.ldexp(np.ones_like(largest), -np.frexp(np.where(wanted, largest, 0))[1]))
