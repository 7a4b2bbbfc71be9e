"""Rules for operations on each element alone; binary ones broadcast as NumPy does.

At kinks the derivative is a choice, and it is made here on purpose: relu, leaky_relu and elu have at 0 the slope of the
left side, abs has 0 there, clip has 1 on its bounds, and maximum and minimum share the cotangent in halves at a tie.
"""

from __future__ import annotations  # those of a vjp would be evaluated at every call

import math

import numpy as np
from numpy.polynomial.chebyshev import cheb2poly

from tinygrad_lite import _threads as threads
from tinygrad_lite._types import Array, RuleResult, Vjp

BOTH, LEFT, RIGHT, NEITHER = (True, True), (True, False), (False, True), (False, False)  # which gradients are wanted


def unbroadcast(g: Array, like: Array) -> Array:
    """Sum `g` over the axes along which `like` was repeated: the adjoint of broadcasting. Keeps `like`'s dtype.

    A complex `g` stays complex: that is how the complex step passes through.
    """
    if g.shape != like.shape:
        extra = g.ndim - like.ndim
        stretched = tuple(i for i, size in enumerate(like.shape, extra) if size == 1 and g.shape[i] != 1)
        g = g.sum(axis=(*range(extra), *stretched)).reshape(like.shape)
    return g if g.dtype is like.dtype or g.dtype.kind == "c" else g.astype(like.dtype, copy=False)


def add(a: Array, b: Array, *, needs: tuple[bool, ...] = BOTH) -> RuleResult:
    """Rule for a + b."""

    def vjp(g: Array) -> tuple[Array | None, ...]:
        return unbroadcast(g, a) if needs[0] else None, unbroadcast(g, b) if needs[1] else None

    return a + b, vjp


def sub(a: Array, b: Array, *, needs: tuple[bool, ...] = BOTH) -> RuleResult:
    """Rule for a - b."""

    def vjp(g: Array) -> tuple[Array | None, ...]:
        return unbroadcast(g, a) if needs[0] else None, unbroadcast(-g, b) if needs[1] else None

    return a - b, vjp


def mul(a: Array, b: Array, *, needs: tuple[bool, ...] = BOTH) -> RuleResult:
    """Rule for a * b."""

    def vjp(g: Array) -> tuple[Array | None, ...]:  # d(ab) = b da + a db
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
    # NumPy has fast ways for plain numbers, 2 and 0.5 above all.
    exponent = b.item() if b.ndim == 0 and b.dtype.kind in "fc" else b
    out = a**exponent

    def vjp(g: Array) -> tuple[Array | None, ...]:
        g_a = g_b = None
        if needs[0]:  # d/da a^b = b a^(b-1)
            slope = b * a ** (np.where(b == 0, 1, b) - 1)
            g_a = unbroadcast(g * slope, a)
        if needs[1]:  # d/db a^b = a^b log a, not a number for a < 0
            with np.errstate(invalid="ignore"):
                log_a = np.log(np.where(a == 0, 1, a))
            g_b = unbroadcast(g * np.where((a == 0) & (b >= 0), 0, out) * log_a, b)
        return g_a, g_b

    return out, vjp


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


def sqrt(x: Array) -> RuleResult:
    """Rule for the square root. Its slope at 0 is infinite."""
    out = np.sqrt(x)
    return out, lambda g: (g / (2 * out),)  # d sqrt(x) = dx / (2 sqrt(x))


def abs(x: Array) -> RuleResult:
    """Rule for |x|, for complex x the analytic continuation of the side on which its real part lies."""
    out = np.abs(x) if x.dtype.kind == "f" else x * np.sign(x.real)
    return out, lambda g: (g * np.sign(x.real),)


# Many times faster than `where`, which NumPy is slow at. Complex numbers go by their real part: each side is analytic.
def _above(x: Array, out: Array | None = None) -> Array:
    """max(x, 0). To clip is four times faster than maximum with a number."""
    return np.asarray(x.clip(0, np.inf, out=out) if x.dtype.kind == "f" else np.maximum(x, 0, out=out))


def _below(x: Array) -> Array:
    """min(x, 0)."""
    return np.asarray(x.clip(-np.inf, 0) if x.dtype.kind == "f" else np.minimum(x, 0))


def _decay(x: Array) -> Array:
    """e^-|x|, which does not overflow."""
    return np.asarray(np.exp(np.minimum(x, -x)))


def _sigmoid(x: Array) -> Array:
    return np.asarray(np.exp(_below(x)) / (1 + _decay(x)))  # the numerator is 1, or e^x whose small values keep their digits


def sigmoid(x: Array) -> RuleResult:
    """Rule for 1 / (1 + e^-x)."""

    def vjp(g: Array) -> tuple[Array, ...]:  # s' = s(x) s(-x), which is even; s (1 - s) would lose the tail's digits
        decay = _decay(x)
        return (g * (decay / (1 + decay) ** 2),)

    return _sigmoid(x), vjp


def tanh(x: Array) -> RuleResult:
    """Rule for the hyperbolic tangent."""
    out = np.tanh(x)
    return out, lambda g: (g * (1 - out) * (1 + out),)  # 1 - tanh^2, as a product: exact where tanh is near 1


def relu(x: Array, *, needs: tuple[bool, ...] = (True,)) -> RuleResult:
    """Rule for max(x, 0). NaN stays NaN."""
    out = np.empty_like(x)
    if not needs[0]:
        threads.each(_above, x, out)
        return out, lambda g: (None,)
    positive = np.empty_like(x, dtype=bool)

    def forward(x: Array, out: Array, positive: Array) -> None:
        _above(x, out)
        np.greater(out, 0, out=positive)

    def vjp(g: Array) -> tuple[Array, ...]:
        g_x = np.empty_like(positive, dtype=g.dtype)
        threads.each(np.multiply, g, positive, g_x)
        return (g_x,)

    threads.each(forward, x, out, positive)
    return out, vjp


def leaky_relu(x: Array, *, negative_slope: float = 0.01) -> RuleResult:
    """Rule for x where x > 0, else negative_slope * x."""

    def vjp(g: Array) -> tuple[Array, ...]:
        positive = x > 0
        return (g * positive + negative_slope * (g * ~positive),)

    return _above(x) + negative_slope * _below(x), vjp


def elu(x: Array, *, alpha: float = 1.0) -> RuleResult:
    """Rule for x where x > 0, else alpha * (e^x - 1). Source: Clevert et al. 2016, equation 15."""

    def vjp(g: Array) -> tuple[Array, ...]:
        positive = x > 0
        return (g * (alpha * np.exp(_below(x)) * ~positive + positive),)

    return _above(x) + alpha * np.expm1(_below(x)), vjp


def silu(x: Array) -> RuleResult:
    """Rule for x sigmoid(x). Source: Elfwing et al. 2018."""
    root = np.exp(_below(x) / 2)  # sigmoid = root * rest, which alone keeps few digits where it is next to nothing
    rest = root / (1 + _decay(x))
    return x * root * rest, lambda g: (g * root * (1 + x * (1 - root * rest)) * rest,)  # s + x s (1 - s)


def softplus(x: Array, *, beta: float = 1.0) -> RuleResult:
    """Rule for log(1 + e^(beta x)) / beta."""
    z = beta * x
    return (_above(z) + np.log1p(_decay(z))) / beta, lambda g: (g * _sigmoid(z),)


def gelu(x: Array, *, approximate: str = "none") -> RuleResult:
    """Rule for x P(Z <= x), Z standard normal, or for its tanh approximation. Source: Hendrycks & Gimpel 2016."""
    if approximate == "tanh":  # x (1 + tanh(u)) / 2 = x sigmoid(2u), which keeps the digits of the tail
        far = np.abs(x.real) > 100
        near = np.where(far, 0, x)  # its cube cannot overflow
        scale = math.sqrt(8 / math.pi)
        z = np.where(far, 1e5 * np.sign(x.real), scale * (near + 0.044715 * near**3)).astype(x.dtype)
        s, rest = _sigmoid(z), _sigmoid(-z)
        slope = scale * (1 + 3 * 0.044715 * near**2)
        return x * s, lambda g: (g * s * (1 + near * rest * slope),)  # z' = slope, s' = s (1 - s)
    cdf = 0.5 * _erfc(-x / math.sqrt(2))

    def vjp(g: Array) -> tuple[Array, ...]:  # cdf + x pdf
        return (g * (cdf + x * np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)),)

    return x * cdf, vjp


# log(erfc(z) e^(z^2) / t) as a Chebyshev series in 2 t - 1, where t = 2 / (2 + z); computed with 40 digits.
# Source for the form: Press et al., "Numerical Recipes", 3rd edition, section 6.2.2.
_ERFC = np.array((
    -0.6513268598908547, 0.6419697923564902, 0.019476473204185836, -0.009561514786808632, -0.0009465953444820369,
    0.00036683949785276145, 4.252332480690777e-05, -2.0278578112534242e-05, -1.6242900046470256e-06, 1.3036558355805232e-06,
    1.5626441722066142e-08, -8.523809591492654e-08, 6.5290544390988515e-09, 5.059343495551469e-09, -9.91364156493033e-10,
    -2.273651222931836e-10, 9.646791102015527e-11, 2.3940380830391146e-12, -6.886027526497553e-12, 8.944879273090725e-13,
    3.130921399342958e-13, -1.1270822361367252e-13, 3.810905255189232e-16, 7.106097613609237e-15, -1.5230282014571043e-15,
))  # fmt: skip
_ERFC_SINGLE = cheb2poly(_ERFC[:11])  # as much as single precision can tell apart
_ERFC_DOUBLE = cheb2poly(_ERFC)


def _erfc(x: Array) -> Array:
    """Complementary error function, relative error under 1e-13 in float64; either side is analytic: complex x works."""
    z, negative = np.maximum(x, -x), x.real < 0
    t = 2 / (2 + z)
    *coefficients, highest = (_ERFC_DOUBLE if x.real.itemsize > 4 else _ERFC_SINGLE).astype(x.real.dtype, copy=False)
    u, series = 2 * t - 1, np.full_like(t, highest)
    for coefficient in reversed(coefficients):  # Horner, in place: half the time of chebval
        series *= u
        series += coefficient
    tail = t * np.exp(series - z * z)
    return np.asarray(tail + negative * (2 - 2 * tail))


def clip(x: Array, *, min: float | None = None, max: float | None = None) -> RuleResult:
    """Rule for x limited to [min, max]; the bounds themselves have slope 1, as in PyTorch."""
    inside = np.ones(x.shape, bool)
    if min is not None:
        inside &= x >= min
    if max is not None:
        inside &= x <= max
    return np.clip(x, min, max), lambda g: (g * inside,)


def maximum(a: Array, b: Array, *, needs: tuple[bool, ...] = BOTH) -> RuleResult:
    """Rule for the larger of a and b; at a tie each gets half the cotangent, as in PyTorch. NaN on either side stays."""
    return np.maximum(a, b), _to_the_winner(a, b, a > b, needs)


def minimum(a: Array, b: Array, *, needs: tuple[bool, ...] = BOTH) -> RuleResult:
    """Rule for the smaller of a and b; at a tie each gets half the cotangent, as in PyTorch. NaN on either side stays."""
    return np.minimum(a, b), _to_the_winner(a, b, a < b, needs)


def _to_the_winner(a: Array, b: Array, a_wins: Array, needs: tuple[bool, ...]) -> Vjp:
    ties = a == b

    def vjp(g: Array) -> tuple[Array | None, ...]:
        halves = np.where(ties, g / 2, 0)
        g_a = unbroadcast(np.where(a_wins, g, halves), a) if needs[0] else None
        g_b = unbroadcast(np.where(a_wins | ties, halves, g), b) if needs[1] else None
        return g_a, g_b

    return vjp


def where(a: Array, b: Array, *, condition: Array) -> RuleResult:
    """Rule for a where condition holds, else b."""
    return np.where(condition, a, b), lambda g: (
        unbroadcast(np.where(condition, g, 0), a),
        unbroadcast(np.where(condition, 0, g), b),
    )


def cast(x: Array, *, dtype: np.dtype[np.generic]) -> RuleResult:
    """Rule for x in another floating dtype; the cotangent goes back to x's own."""
    return x.astype(dtype), lambda g: (g.astype(x.dtype),)
