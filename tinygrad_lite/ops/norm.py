"""The rule behind batch and layer normalisation."""

from __future__ import annotations  # those of a vjp would be evaluated at every call

import numpy as np

from tinygrad_lite import _check
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
