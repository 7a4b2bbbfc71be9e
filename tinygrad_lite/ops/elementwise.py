"""Rules for operations on each element alone; binary ones broadcast as NumPy does.

At kinks the derivative is a choice, and it is made here on purpose: abs has slope 0 at 0, clip has 1 on its bounds, and
maximum and minimum share the cotangent in halves at a tie.

Sum, difference and product hand their vjp what it needs as defaults of its arguments: a closure takes five objects where these
take two, and a long chain of small operations then takes 6 % longer.
"""

from __future__ import annotations  # those of a vjp would be evaluated at every call

from typing import Any

import numpy as np

from tinygrad_lite._types import Array, RuleResult
from tinygrad_lite.ops.half import HALF

BOTH, LEFT, RIGHT, NEITHER = (True, True), (True, False), (False, True), (False, False)  # which gradients are wanted
LONG, TOGETHER = 2048, 128  # terms of a sum, from which on it is made of sums of so many
WHOLE = (3, 4, 5, 6, 7, 8, -2, -3, -4, -5, -6, -7, -8)  # powers that products give, a hundred times faster than NumPy


def summed(x: Array, axes: tuple[int, ...], *, keepdims: bool = False, dtype: Any = None) -> Array:
    """x.sum(), also where an axis is long and others are summed beside each other.

    NumPy adds in pairs only along the axis that is innermost in memory. Along others it adds to one sum, whose rounding grows
    with the number of terms: a mean of two million float32 was off by more than a per cent.
    """
    axis = max(axes, key=x.shape.__getitem__, default=0)
    if x.size < LONG or x.shape[axis] < LONG or x.strides[axis] == x.itemsize or (len(axes) == x.ndim and x.flags.forc):
        return np.asarray(x.sum(axis=axes, keepdims=keepdims, dtype=dtype))
    rest = x.shape[axis] % TOGETHER
    blocks, left = np.split(x, [x.shape[axis] - rest], axis)
    shape = (*x.shape[:axis], -1, TOGETHER, *x.shape[axis + 1 :])
    sums = blocks.reshape(shape).sum(axis=axis + 1, dtype=dtype)
    sums = np.concatenate([sums, left.sum(axis=axis, keepdims=True, dtype=dtype)], axis)
    return summed(sums, axes, keepdims=keepdims, dtype=dtype)


def unbroadcast(g: Array, like: Array) -> Array:
    """Sum `g` over the axes along which `like` was repeated: the adjoint of broadcasting. Keeps `like`'s dtype.

    A complex `g` stays complex: that is how the complex step passes through.
    """
    if g.shape != like.shape:
        extra = g.ndim - like.ndim
        stretched = tuple(i for i, size in enumerate(like.shape, extra) if size == 1 and g.shape[i] != 1)
        wide = np.float32 if g.dtype == HALF else None
        g = summed(g, (*range(extra), *stretched), dtype=wide).reshape(like.shape)
    return g if g.dtype is like.dtype or g.dtype.kind == "c" else g.astype(like.dtype, copy=False)


def add(a: Array, b: Array, *, needs: tuple[bool, ...] = BOTH) -> RuleResult:
    """Rule for a + b."""

    def vjp(g: Array, a: Array = a, b: Array = b, needs: tuple[bool, ...] = needs) -> tuple[Array | None, ...]:
        return unbroadcast(g, a) if needs[0] else None, unbroadcast(g, b) if needs[1] else None

    return a + b, vjp


def sub(a: Array, b: Array, *, needs: tuple[bool, ...] = BOTH) -> RuleResult:
    """Rule for a - b."""

    def vjp(g: Array, a: Array = a, b: Array = b, needs: tuple[bool, ...] = needs) -> tuple[Array | None, ...]:
        return unbroadcast(g, a) if needs[0] else None, unbroadcast(-g, b) if needs[1] else None

    return a - b, vjp


def mul(a: Array, b: Array, *, needs: tuple[bool, ...] = BOTH) -> RuleResult:
    """Rule for a * b."""

    def vjp(g: Array, a: Array = a, b: Array = b, needs: tuple[bool, ...] = needs) -> tuple[Array | None, ...]:
        # d(ab) = b da + a db
        return unbroadcast(g * b, a) if needs[0] else None, unbroadcast(g * a, b) if needs[1] else None

    return a * b, vjp


def div(a: Array, b: Array, *, needs: tuple[bool, ...] = BOTH) -> RuleResult:
    """Rule for a / b."""
    out = a / b

    def vjp(g: Array) -> tuple[Array | None, ...]:  # d(a/b) = da / b - (a/b) db / b
        g_a = g / b
        return unbroadcast(g_a, a) if needs[0] else None, unbroadcast(-g_a * out, b) if needs[1] else None

    return out, vjp


def pow(a: Array, b: Array, *, needs: tuple[bool, ...] = BOTH) -> RuleResult:
    """Rule for a ** b. Where a = 0 the derivative by b is 0, the limit for b > 0; where b = 0 that by a is 0."""
    exponent = b.item() if b.ndim == 0 and b.dtype.kind in "fc" else b
    out = _power(a, exponent)

    def vjp(g: Array) -> tuple[Array | None, ...]:
        g_a = g_b = None
        if needs[0]:  # d/da a^b = b a^(b-1)
            below = np.where(b == 0, 1, b) - 1
            slope = b * _power(a, below.item() if exponent is not b else below)
            g_a = unbroadcast(g * slope, a)
        if needs[1]:  # d/db a^b = a^b log a, not a number for a < 0
            at_0 = (a == 0) & (b >= 0)
            with np.errstate(invalid="ignore", divide="ignore"):
                log_a = np.log(np.where(at_0, 1, a))
            g_b = unbroadcast(g * np.where(at_0, 0, out) * log_a, b)
        return g_a, g_b

    return out, vjp


def _power(a: Array, exponent: Any) -> Array:
    """Give a ** exponent. NumPy has fast ways for plain numbers from -1 to 2."""
    if isinstance(exponent, float) and a.dtype.kind in "fc" and exponent in WHOLE:
        if exponent < 0:
            return _power(1 / a, -exponent)  # large ones do not overflow
        half = _power(a, exponent // 2)
        return half * half * a if exponent % 2 else half * half
    return np.asarray(a**exponent)


def neg(x: Array) -> RuleResult:
    """Rule for -x."""
    return -x, lambda g: (-g,)


def exp(x: Array) -> RuleResult:
    """Rule for e^x."""
    out = np.exp(x)
    return out, lambda g: (g * out,)


def log(x: Array) -> RuleResult:
    """Rule for the natural logarithm."""
    return np.log(x), lambda g: (g / x,)


def sin(x: Array) -> RuleResult:
    """Rule for the sine of x in radians."""
    return np.sin(x), lambda g: (g * np.cos(x),)


def cos(x: Array) -> RuleResult:
    """Rule for the cosine of x in radians."""
    return np.cos(x), lambda g: (-g * np.sin(x),)


def sqrt(x: Array) -> RuleResult:
    """Rule for the square root. Its slope at 0 is infinite."""
    out = np.sqrt(x)
    return out, lambda g: (g / (2 * out),)  # d sqrt(x) = dx / (2 sqrt(x))


def abs(x: Array) -> RuleResult:
    """Rule for |x|, for complex x the analytic continuation of the side on which its real part lies."""
    out = np.abs(x) if x.dtype.kind == "f" else x * np.sign(x.real)
    return out, lambda g: (g * np.sign(x.real),)


_BITS = {np.dtype(number): bits for number, bits in (("f2", "i2"), ("f4", "i4"), ("f8", "i8"))}


def as_bits(x: Array) -> Array:
    """Real numbers as the integers of the same bits, which times 0 are 0: infinity and NaN, too. Others as they are."""
    return x.view(_BITS.get(x.dtype, x.dtype))


def keep(g: Array, where: Array, out: Array) -> None:
    """Write g to `out` where it is true, else 0. As fast as a product, of which an infinite g would leave NaN."""
    np.multiply(as_bits(g), where.view(np.int8), out=as_bits(out))


def clip(x: Array, *, min: float | None = None, max: float | None = None) -> RuleResult:
    """Rule for x limited to [min, max]; the bounds themselves have slope 1, as in PyTorch."""
    real = x.real
    inside = np.ones(x.shape, bool)
    if min is not None:
        inside &= real >= min
    if max is not None:
        inside &= real <= max

    def vjp(g: Array) -> tuple[Array, ...]:
        g_x = np.empty_like(g)
        keep(g, inside, g_x)
        return (g_x,)

    limited = np.clip(real, min, max)
    return limited if x.dtype.kind != "c" else np.where(inside, x, limited), vjp


def maximum(a: Array, b: Array, *, needs: tuple[bool, ...] = BOTH) -> RuleResult:
    """Rule for the larger of a and b; at a tie each gets half the cotangent, as in PyTorch. NaN on either side stays."""
    return _winner(np.maximum, a, b), lambda g: _but_to_the_loser(g, a, b, np.less, needs)


def minimum(a: Array, b: Array, *, needs: tuple[bool, ...] = BOTH) -> RuleResult:
    """Rule for the smaller of a and b; at a tie each gets half the cotangent, as in PyTorch. NaN on either side stays."""
    return _winner(np.minimum, a, b), lambda g: _but_to_the_loser(g, a, b, np.greater, needs)


def _winner(extreme: np.ufunc, a: Array, b: Array) -> Array:
    """Give the maximum or minimum; of complex numbers by their real parts, and at a tie of these the mean."""
    best = np.asarray(extreme(a.real, b.real))
    if a.dtype.kind != "c" and b.dtype.kind != "c":
        return best
    a_wins, b_wins = a.real == best, b.real == best
    return np.where(a_wins & b_wins, (a + b) / 2, np.where(a_wins, a, np.where(b_wins, b, a + b)))  # beside NaN it stays


def _but_to_the_loser(g: Array, a: Array, b: Array, loses: np.ufunc, needs: tuple[bool, ...]) -> tuple[Array | None, ...]:
    share = np.where(a.real == b.real, g / 2, g)
    g_a = unbroadcast(np.where(loses(a.real, b.real), 0, share), a) if needs[0] else None
    g_b = unbroadcast(np.where(loses(b.real, a.real), 0, share), b) if needs[1] else None
    return g_a, g_b  # beside NaN neither loses: both get g, as in PyTorch


def where(a: Array, b: Array, *, condition: Array) -> RuleResult:
    """Rule for a where condition holds, else b."""
    return np.where(condition, a, b), lambda g: (
        unbroadcast(np.where(condition, g, 0), a),
        unbroadcast(np.where(condition, 0, g), b),
    )


def cast(x: Array, *, dtype: np.dtype[np.generic]) -> RuleResult:
    """Rule for x in another floating dtype; the cotangent goes back to x's own."""
    return x.astype(dtype), lambda g: (g.astype(x.dtype),)
