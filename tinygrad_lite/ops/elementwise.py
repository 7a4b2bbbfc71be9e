"""Rules for operations on each element alone; binary ones broadcast as NumPy does.

At kinks the derivative is a choice, and it is made here on purpose: relu, leaky_relu and elu have at 0 the slope of the
left side, abs has 0 there, clip has 1 on its bounds, and maximum and minimum share the cotangent in halves at a tie.
"""

from __future__ import annotations  # those of a vjp would be evaluated at every call

import math

import numpy as np

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
    sign = np.sign(x.real)
    return x * sign, lambda g: (g * sign,)


def _sigmoid(x: Array) -> Array:
    decay = np.exp(np.where(x > 0, -x, x))  # e^-|x|, so that nothing overflows and small values keep their digits
    s: Array = np.where(x > 0, 1, decay) / (1 + decay)
    return s


def sigmoid(x: Array) -> RuleResult:
    """Rule for 1 / (1 + e^-x)."""
    out = _sigmoid(x)
    return out, lambda g: (g * out * _sigmoid(-x),)  # s' = s(x) s(-x); 1 - s(x) would lose the tail's digits


def tanh(x: Array) -> RuleResult:
    """Rule for the hyperbolic tangent."""
    out = np.tanh(x)
    return out, lambda g: (g * (1 - out) * (1 + out),)  # 1 - tanh^2, as a product: exact where tanh is near 1


def relu(x: Array, *, needs: tuple[bool, ...] = (True,)) -> RuleResult:
    """Rule for max(x, 0). NaN stays NaN."""
    out = np.empty_like(x)
    positive = np.empty_like(x, dtype=bool) if needs[0] else out  # or nothing in particular

    def forward(x: Array, out: Array, positive: Array) -> None:
        if x.dtype.kind == "f":
            x.clip(0, np.inf, out=out)  # four times faster than maximum with a number
        else:
            np.maximum(x, 0, out=out)
        if needs[0]:
            np.greater(out, 0, out=positive)

    def vjp(g: Array) -> tuple[Array, ...]:
        g_x = np.empty_like(positive, dtype=g.dtype)
        threads.each(np.multiply, g, positive, g_x)
        return (g_x,)

    threads.each(forward, x, out, positive)
    return out, vjp


def leaky_relu(x: Array, *, negative_slope: float = 0.01) -> RuleResult:
    """Rule for x where x > 0, else negative_slope * x."""
    slope = np.where(x > 0, x.dtype.type(1), x.dtype.type(negative_slope))
    return x * slope, lambda g: (g * slope,)


def elu(x: Array, *, alpha: float = 1.0) -> RuleResult:
    """Rule for x where x > 0, else alpha * (e^x - 1). Source: Clevert et al. 2016, equation 15."""
    positive = x > 0
    low = np.where(positive, 0, x)
    out = np.where(positive, x, alpha * np.expm1(low))
    return out, lambda g: (g * np.where(positive, 1, alpha * np.exp(low)),)


def silu(x: Array) -> RuleResult:
    """Rule for x sigmoid(x). Source: Elfwing et al. 2018."""
    s = _sigmoid(x)
    return x * s, lambda g: (g * s * (1 + x * _sigmoid(-x)),)  # s + x s (1 - s)


def softplus(x: Array, *, beta: float = 1.0) -> RuleResult:
    """Rule for log(1 + e^(beta x)) / beta."""
    z = beta * x
    out = (np.where(z > 0, z, 0) + np.log1p(np.exp(np.where(z > 0, -z, z)))) / beta
    return out, lambda g: (g * _sigmoid(z),)


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


# Rational approximations of erf(x) / x in x^2 on |x| <= 0.5, of erfc(x) e^(x^2) in x on 0.46875 <= x <= 4, and beyond in
# 1/x^2; highest power first. Source: Cody, "Rational Chebyshev approximations for the error function", 1969.
_ERF_NEAR = (
    (1.85777706184603153e-1, 3.16112374387056560, 1.13864154151050156e2, 3.77485237685302021e2, 3.20937758913846947e3),
    (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.84423683343917062e3),
)
_ERFC_MIDDLE = (
    (2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594, 6.61191906371416295e1, 2.98635138197400131e2,
     8.81952221241769090e2, 1.71204761263407058e3, 2.05107837782607147e3, 1.23033935479799725e3),
    (1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2, 1.62138957456669019e3,
     3.29079923573345963e3, 4.36261909014324716e3, 3.43936767414372164e3, 1.23033935480374942e3),
)  # fmt: skip
_ERFC_FAR = (
    (1.63153871373020978e-2, 3.05326634961232344e-1, 3.60344899949804439e-1, 1.25781726111229246e-1,
     1.60837851487422766e-2, 6.58749161529837803e-4),
    (1.0, 2.56852019228982242, 1.87295284992346047, 5.27905102951428412e-1, 6.05183413124413191e-2,
     2.33520497626869185e-3),
)  # fmt: skip


def _rational(coefficients: tuple[tuple[float, ...], tuple[float, ...]], x: Array) -> Array:
    above, below = (np.full_like(x, c[0]) for c in coefficients)
    for c in coefficients[0][1:]:
        above = above * x + c
    for c in coefficients[1][1:]:
        below = below * x + c
    return above / below


def _erfc(x: Array) -> Array:
    """Complementary error function, relative error under 1e-13 in float64; its pieces are analytic: complex x works."""
    size = np.where(x < 0, -x, x)
    near = np.where(size < 0.5, x, 0)
    middle = np.where((size >= 0.5) & (size < 4), size, 1)
    far = np.where(size >= 4, size, 4)
    far_inverse = 1 / (far * far)
    tail = np.where(
        size < 4,
        _rational(_ERFC_MIDDLE, middle) * np.exp(-middle * middle),
        np.exp(-far * far) / far * (1 / math.sqrt(math.pi) - far_inverse * _rational(_ERFC_FAR, far_inverse)),
    )
    return np.where(size < 0.5, 1 - near * _rational(_ERF_NEAR, near * near), np.where(x < 0, 2 - tail, tail))


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
