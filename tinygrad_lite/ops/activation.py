"""Rules for activations: functions of each element alone, as they stand between layers.

relu, leaky_relu and elu have at 0 the slope of the left side: a choice, made on purpose.
"""

from __future__ import annotations  # those of a vjp would be evaluated at every call

import math

import numpy as np
from numpy.polynomial.chebyshev import cheb2poly

from tinygrad_lite import _threads as threads
from tinygrad_lite._threads import mapped
from tinygrad_lite._types import Array, RuleResult
from tinygrad_lite.ops.elementwise import keep


# Many times faster than `where`, which NumPy is slow at. Complex numbers go by their real part, 0 to the left as everywhere:
# each side is analytic, and a complex step from 0 has the slope that the rule gives.
def _above(x: Array, out: Array | None = None) -> Array:
    """max(x, 0). To clip is four times faster than maximum with a number."""
    if x.dtype.kind == "c":
        above = np.where(x.real <= 0, 0, x)
        if out is None:
            return above
        out[...] = above
        return out
    return np.asarray(x.clip(0, np.inf, out=out) if x.dtype.kind == "f" else np.maximum(x, 0, out=out))


def _below(x: Array) -> Array:
    """min(x, 0)."""
    if x.dtype.kind == "c":
        return np.where(x.real > 0, 0, x)
    return np.asarray(x.clip(-np.inf, 0) if x.dtype.kind == "f" else np.minimum(x, 0))


def _ones(where: Array, x: Array) -> Array:
    """1 where it holds, else 0, in the precision of x: NumPy is slow at truth values beside numbers."""
    return np.asarray(where).astype(x.real.dtype)


def _decay(x: Array) -> Array:
    """e^-|x|, which does not overflow."""
    return np.asarray(np.exp(np.minimum(x, -x) if x.dtype.kind != "c" else np.where(x.real > 0, -x, x)))


def _one_or(decay: Array, x: Array) -> Array:
    """1 where x > 0, else e^-|x|."""
    if x.dtype.kind == "c":
        return np.where(x.real > 0, 1, decay)
    return np.asarray(np.maximum(decay, _ones(x >= 0, x)))


def _sigmoid(x: Array, decay: Array) -> Array:
    """1 / (1 + e^-x), given e^-|x|. The numerator is 1, or e^x whose small values keep their digits."""
    return np.asarray(_one_or(decay, x) / (1 + decay))


def _sigmoid_slope(decay: Array) -> Array:
    """Slope s' = s(x) s(-x), which is even; s (1 - s) would lose the tail's digits."""
    return np.asarray(decay / np.square(1 + decay))


def sigmoid(x: Array) -> RuleResult:
    """Rule for 1 / (1 + e^-x)."""

    def value(x: Array) -> Array:
        return _sigmoid(x, _decay(x))

    def back(g: Array, x: Array) -> Array:
        return g * _sigmoid_slope(_decay(x))

    return mapped(value, x), lambda g: (mapped(back, g, x),)


def tanh(x: Array) -> RuleResult:
    """Rule for the hyperbolic tangent."""
    out = np.tanh(x)
    return out, lambda g: (g * (1 - out) * (1 + out),)  # 1 - tanh^2, as a product: exact where tanh is near 1


def relu(x: Array, *, needs: tuple[bool, ...] = (True,)) -> RuleResult:
    """Rule for max(x, 0). NaN stays NaN."""
    if not needs[0] and x.size < threads.ENOUGH:  # for one image in half the time of what follows
        return np.maximum(x, 0), lambda g: (None,)
    out = np.empty_like(x)
    if not needs[0]:
        threads.each(_above, x, out)
        return out, lambda g: (None,)
    through = np.empty_like(x, dtype=bool)

    def forward(x: Array, out: Array, through: Array) -> None:
        _above(x, out)
        np.not_equal(out, 0, out=through)  # positive, or NaN, whose gradient goes through as in PyTorch

    def vjp(g: Array) -> tuple[Array, ...]:
        g_x = np.empty_like(through, dtype=g.dtype)
        threads.each(keep, g, through, g_x)
        return (g_x,)

    threads.each(forward, x, out, through)
    return out, vjp


def leaky_relu(x: Array, *, negative_slope: float = 0.01) -> RuleResult:
    """Rule for x where x > 0, else negative_slope * x."""

    def value(x: Array) -> Array:
        return _above(x) + negative_slope * _below(x)

    def back(g: Array, x: Array) -> Array:
        positive = _ones(x.real > 0, x)
        return g * (positive + negative_slope * (1 - positive))

    return mapped(value, x), lambda g: (mapped(back, g, x),)


def elu(x: Array, *, alpha: float = 1.0) -> RuleResult:
    """Rule for x where x > 0, else alpha * (e^x - 1). Source: Clevert et al. 2016, equation 15."""

    def value(x: Array) -> Array:
        return _above(x) + alpha * np.expm1(_below(x))

    def back(g: Array, x: Array) -> Array:
        positive = _ones(x.real > 0, x)
        return np.asarray(g * (alpha * np.exp(_below(x)) * (1 - positive) + positive))

    return mapped(value, x), lambda g: (mapped(back, g, x),)


def silu(x: Array) -> RuleResult:
    """Rule for x sigmoid(x). Source: Elfwing et al. 2018."""

    def value(x: Array) -> Array:  # root * rest is the sigmoid, which alone keeps few digits where it is next to nothing
        decay = _decay(x / 2)
        root = _one_or(decay, x)  # 1, or e^(x/2)
        rest = root / (1 + decay * decay)
        return np.asarray(x * root * rest)

    out = mapped(value, x)

    def back(g: Array, x: Array, out: Array) -> Array:  # s + x s (1 - s)
        s = _sigmoid(x, _decay(x))
        return np.asarray(g * (s + out * (1 - s)))

    return out, lambda g: (mapped(back, g, x, out),)


def softplus(x: Array, *, beta: float = 1.0) -> RuleResult:
    """Rule for log(1 + e^(beta x)) / beta."""

    def value(x: Array) -> Array:
        z = beta * x
        return np.asarray((_above(z) + np.log1p(_decay(z))) / beta)

    def back(g: Array, x: Array) -> Array:
        z = beta * x
        return g * _sigmoid(z, _decay(z))

    return mapped(value, x), lambda g: (mapped(back, g, x),)


def gelu(x: Array, *, approximate: str = "none") -> RuleResult:
    """Rule for x P(Z <= x), Z standard normal, or for its tanh approximation. Source: Hendrycks & Gimpel 2016."""
    if approximate == "tanh":
        return _gelu_tanh(x)
    cdf = mapped(lambda x: 0.5 * _erfc(x * -math.sqrt(0.5)), x)

    def back(g: Array, x: Array, cdf: Array) -> Array:  # cdf + x pdf
        return g * (cdf + x * np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi))

    return x * cdf, lambda g: (mapped(back, g, x, cdf),)


def _gelu_tanh(x: Array) -> RuleResult:  # x (1 + tanh(u)) / 2 = x sigmoid(2u), which keeps the digits of the tail
    a, b = math.sqrt(8 / math.pi), 0.044715 * math.sqrt(8 / math.pi)

    def parts(x: Array) -> tuple[Array, Array]:
        """2u = a x + b x^3, and x (a + 3 b x^2)."""
        near = x.clip(-25, 25)  # so that its cube cannot overflow; beyond, the sigmoid is 0 or 1
        square = b * near * near
        return near * (a + square), near * (a + 3 * square)

    def value(x: Array) -> Array:
        z, _ = parts(x)
        return x * _sigmoid(z, _decay(z))

    def back(g: Array, x: Array) -> Array:
        z, x_slope = parts(x)
        decay = _decay(z)
        return np.asarray(g * (_sigmoid(z, decay) + x_slope * _sigmoid_slope(decay)))

    return mapped(value, x), lambda g: (mapped(back, g, x),)


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
    z = np.maximum(x, -x) if x.dtype.kind != "c" else np.where(x.real < 0, -x, x)
    t = 2 / (2 + z)
    *coefficients, highest = (_ERFC_DOUBLE if x.real.itemsize > 4 else _ERFC_SINGLE).astype(x.real.dtype, copy=False)
    u, series = 2 * t - 1, np.full_like(t, highest)
    for coefficient in reversed(coefficients):  # Horner, in place: half the time of chebval
        series *= u
        series += coefficient
    tail = t * np.exp(series - z * z)
    return np.asarray(tail + _ones(x.real < 0, x) * (2 - 2 * tail))
