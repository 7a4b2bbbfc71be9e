"""Rules for matrix products."""

from __future__ import annotations  # those of a vjp would be evaluated at every call

import math

import numpy as np

from tinygrad_lite import _check
from tinygrad_lite import _threads as threads
from tinygrad_lite._types import Array, RuleResult
from tinygrad_lite.errors import ShapeError
from tinygrad_lite.ops.elementwise import BOTH, unbroadcast


def matmul(a: Array, b: Array, *, needs: tuple[bool, ...] = BOTH) -> RuleResult:
    """Rule for a @ b. a (..., n, k), b (..., k, m) -> (..., n, m); leading axes broadcast, 1-D arguments as in NumPy."""
    _check.same_dtype("matmul", "a b", a, b)
    if not a.ndim or not b.ndim or a.shape[-1] != b.shape[-2 if b.ndim > 1 else 0]:
        raise ShapeError(
            f"matmul: a's last axis must be as long as b's {'second to last' if b.ndim > 1 else 'only'} axis, "
            f"got a.shape={a.shape}, b.shape={b.shape}; transpose or reshape one of them."
        )
    A = a[None, :] if a.ndim == 1 else a  # a 1-D a is a row, a 1-D b a column
    B = b[:, None] if b.ndim == 1 else b

    def vjp(g: Array) -> tuple[Array | None, ...]:  # Y = A B  =>  dA = G B', dB = A' G
        G = np.expand_dims(g, tuple(axis for axis, x in ((-2, a), (-1, b)) if x.ndim == 1))
        g_a = unbroadcast(threads.matmul(G, B.swapaxes(-1, -2)), A).reshape(a.shape) if needs[0] else None
        g_b = unbroadcast(threads.matmul(A.swapaxes(-1, -2), G), B).reshape(b.shape) if needs[1] else None
        return g_a, g_b

    return threads.matmul(a, b), vjp


def add_bias(fresh: Array, bias: Array | None) -> Array:
    """Add to a result that nobody else holds yet, in place where dtypes allow it."""
    if bias is None:
        return fresh
    return np.add(fresh, bias, out=fresh if fresh.dtype == bias.dtype else None)


def linear(x: Array, weight: Array, bias: Array | None = None, *, needs: tuple[bool, ...] = (True,) * 3) -> RuleResult:
    """Rule for x W' + b. x (..., in_features), weight (out_features, in_features), bias (out_features,)."""
    _check.same_dtype("linear", "x weight bias", x, weight, bias)
    _check.rank("linear", "weight", weight.shape, (2,), "(out_features, in_features)")
    if not x.ndim or x.shape[-1] != weight.shape[1]:
        raise ShapeError(
            f"linear: weight expects {weight.shape[1]} input features but x has {x.shape[-1] if x.ndim else 'no axis'} "
            f"(x.shape={x.shape}, weight.shape={weight.shape}); weight is (out_features, in_features)."
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ShapeError(
            f"linear: bias must have shape {weight.shape[:1]}, one number an output feature, got bias.shape={bias.shape}."
        )
    X = x.reshape(math.prod(x.shape[:-1]), x.shape[-1]) if x.ndim != 2 else x  # (rows, in)
    columns = X.flags.f_contiguous  # as flattened images are, with the batch axis innermost: and so it stays
    out = add_bias(threads.matmul(weight, X.T).T if columns else threads.matmul(X, weight.T), bias)  # (rows, out)

    def vjp(g: Array) -> tuple[Array | None, ...]:  # Y = X W' + 1 b''  =>  dX = G W, dW = G' X, db = G' 1
        G = g.reshape(out.shape)
        g_x = g_weight = g_bias = None
        if needs[0]:
            g_x = (threads.matmul(weight.T, G.T).T if columns else threads.matmul(G, weight)).reshape(x.shape)
        if needs[1]:
            g_weight = threads.matmul(G.T, X)
        if bias is not None and needs[2]:
            g_bias = unbroadcast(G, bias)
        return (g_x, g_weight, g_bias)[: 2 if bias is None else 3]

    return out if X is x else out.reshape(*x.shape[:-1], weight.shape[0]), vjp
