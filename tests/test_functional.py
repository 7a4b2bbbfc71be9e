"""Plain examples: choices at kinks and ties, safe numbers, naive loops. Gradients in general are fuzzed in test_ops.py."""

import math

import numpy as np
import pytest

import tinygrad_lite.functional as F
from tinygrad_lite import Tensor
from tinygrad_lite.ops import activation, elementwise


def gradient(f, x, cotangent=None, dtype=np.float64):
    x = Tensor(np.array(x, dtype), requires_grad=True)
    f(x).backward(cotangent)
    return x.grad.tolist()


def total(f):
    return lambda x: f(x).sum()


# -- choices at kinks and ties -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("f", "slopes"), [
    (F.relu, [0, 0, 1]), (F.abs, [-1, 0, 1]), (lambda x: F.leaky_relu(x, 0.1), [0.1, 0.1, 1]),
    (lambda x: F.clip(x, 0, 2), [0, 1, 1]), (lambda x: F.clip(x, -2, 0), [1, 1, 0]),
    (lambda x: F.maximum(x, 0.0), [0, 0.5, 1]), (lambda x: F.minimum(x, 0.0), [1, 0.5, 0]),
    (lambda x: F.elu(x, 0.5), [0.5 * np.exp(-1), 0.5, 1]),
])  # fmt: skip
def test_slope_left_of_at_and_right_of_zero(f, slopes):
    assert gradient(total(f), [-1.0, 0.0, 1.0]) == pytest.approx(slopes, rel=1e-15)


@pytest.mark.parametrize(("f", "x", "place"), [
    (F.max, [1.0, 3.0, 3.0, 2.0], 1), (F.min, [2.0, 1.0, 1.0, 1.0], 1), (F.max, [0.0, -0.0], 0),
])  # fmt: skip
def test_first_of_equal_ones_takes_the_gradient(f, x, place):
    assert gradient(f, x) == [float(i == place) for i in range(len(x))]
    assert F.argmax([1.0, 3.0, 3.0, 2.0]).item() == 1


def test_first_in_c_order_over_several_axes():
    x = np.zeros((2, 3, 2))
    x[0, 2, 1] = x[1, 0, 1] = 5.0
    expected = np.zeros((2, 3, 2))
    expected[0, 2, 1] = 1
    assert gradient(F.max, x) == expected.tolist()


def test_first_pixel_of_a_window_wins_row_by_row():
    x = np.zeros((1, 1, 4, 4))
    x[0, 0, 0, 3] = x[0, 0, 1, 2] = 7.0  # equal, in the second window
    g = np.array(gradient(lambda t: F.max_pool2d(t, 2), x, np.array([[[[1.0, 2.0], [3.0, 4.0]]]])))[0, 0]
    np.testing.assert_array_equal(g, [[1, 0, 0, 2], [0, 0, 0, 0], [3, 0, 4, 0], [0, 0, 0, 0]])


def test_border_of_max_pool_never_wins():
    x = np.full((1, 1, 2, 2), -5.0)
    np.testing.assert_array_equal(F.max_pool2d(x, 2, padding=1).data, np.full((1, 1, 2, 2), -5.0))


def test_border_of_avg_pool_counts_or_not():
    x = np.full((1, 1, 2, 2), 4.0)
    assert F.avg_pool2d(x, 2, padding=1).data.ravel().tolist() == [1.0] * 4
    assert F.avg_pool2d(x, 2, padding=1, count_include_pad=False).data.ravel().tolist() == [4.0] * 4


@pytest.mark.parametrize(
    ("base", "exponent", "slope"), [(0.0, 1.0, 1.0), (0.0, 2.0, 0.0), (0.0, 0.0, 0.0), (-2.0, 3.0, 12.0), (5.0, 0.0, 0.0)]
)
def test_slopes_of_powers(base, exponent, slope):
    assert gradient(lambda x: x**exponent, base) == slope
    assert gradient(lambda x: x ** Tensor(np.array(exponent)), base) == slope


@pytest.mark.parametrize("exponent", [float(n) for n in range(-10, 11)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_whole_powers_are_numpys_but_for_the_last_digits(exponent, dtype):
    x = np.concatenate([np.linspace(-9, 9, 401), [0.0, -0.0, np.inf, -np.inf, np.nan]]).astype(dtype)
    # 1 / x is off by half a last digit, its n-th power by n of them, and by another half for each product.
    rtol = max(1, abs(exponent)) * np.finfo(dtype).eps
    with np.errstate(divide="ignore"):
        expected = x.astype(np.longdouble) ** exponent
        np.testing.assert_allclose(elementwise.pow(x, np.array(exponent, dtype))[0], expected, rtol=rtol)


def test_small_powers_of_large_numbers_do_not_overflow():
    x = np.array([1e5, -1e5], np.float32)
    np.testing.assert_allclose(elementwise.pow(x, np.array(-8.0))[0], [1e-40, 1e-40], rtol=1e-4)


def test_slope_of_a_power_by_its_exponent():
    assert gradient(lambda b: Tensor(np.array(0.0)) ** b, 2.0) == 0.0
    assert gradient(lambda b: Tensor(np.array(3.0)) ** b, 2.0) == pytest.approx(9 * np.log(3), rel=1e-15)


# -- safe numbers ------------------------------------------------------------------------------------------------------

HUGE = [1000.0, -1000.0, 0.0, 1000.0]


def test_logits_of_plus_and_minus_1000():
    np.testing.assert_allclose(F.softmax(HUGE, 0).data, [0.5, 0, 0, 0.5])
    np.testing.assert_allclose(F.log_softmax(HUGE, 0).data, np.array(HUGE) - 1000 - np.log(2), rtol=1e-6)
    assert F.logsumexp(HUGE, 0).item() == pytest.approx(1000 + np.log(2), rel=1e-7)
    assert gradient(lambda x: F.logsumexp(x, 0), HUGE) == pytest.approx([0.5, 0, 0, 0.5])
    assert F.cross_entropy([HUGE], np.array([1])).item() == pytest.approx(2000 + np.log(2), rel=1e-7)
    assert gradient(lambda x: F.cross_entropy(x, np.array([1])), [HUGE])[0] == pytest.approx([0.5, -1, 0, 0.5])
    from_0 = (F.softplus, F.silu, F.gelu, lambda x: F.gelu(x, "tanh"))
    for f, ends in ((F.sigmoid, [0, 1]), (F.tanh, [-1, 1]), (F.elu, [-1, 1000]), *[(f, [0, 1000]) for f in from_0]):
        assert f([-1000.0, 1000.0]).data.tolist() == ends
        slopes = gradient(total(f), [-1000.0, 1000.0])
        assert slopes == [0.0, 0.0 if f in (F.sigmoid, F.tanh) else 1.0]


def test_differences_of_huge_logits_are_exact():
    assert F.log_softmax(np.array([1e6, 1e6 - 1]), 0).data.tolist() == pytest.approx(
        [-np.log1p(np.exp(-1)), -1 - np.log1p(np.exp(-1))], rel=1e-15
    )


def test_tails_keep_their_digits():
    assert F.sigmoid(np.array([-40.0])).item() == pytest.approx(np.exp(-40), rel=1e-15, abs=0)
    assert gradient(F.sigmoid, 40.0) == pytest.approx(np.exp(-40), rel=1e-12, abs=0)
    assert F.softplus(np.array([-40.0])).item() == pytest.approx(np.exp(-40), rel=1e-15, abs=0)


def test_silu_keeps_its_digits_where_the_sigmoid_is_next_to_nothing():
    x = np.array([-100.0, -95.0, -90.0, -50.0], np.float32)
    exact = x.astype(np.float64) / (1 + np.exp(-x.astype(np.float64)))
    np.testing.assert_allclose(F.silu(x).data, exact, rtol=1e-6, atol=2e-45)
    slope = exact / x * (1 + x.astype(np.float64))  # but for terms of e^(2 x)
    np.testing.assert_allclose(gradient(lambda t: F.silu(t).sum(), x, dtype=np.float32), slope, rtol=1e-6, atol=2e-45)


def test_gelu_in_single_precision():
    x = np.linspace(-5, 5, 2001).astype(np.float32)
    expected = [float(v) * 0.5 * math.erfc(-float(v) / math.sqrt(2)) for v in x]
    np.testing.assert_allclose(F.gelu(x).data, expected, rtol=3e-6, atol=0)
    assert F.gelu(x).dtype == np.float32
    assert F.gelu(x.astype(np.float16)).dtype == np.float16


@pytest.mark.parametrize("rule", [
    elementwise.abs, activation.sigmoid, activation.silu, activation.softplus, activation.elu, activation.leaky_relu,
    activation.relu, activation.gelu,
])  # fmt: skip
def test_a_complex_step_goes_through_what_is_analytic_on_either_side(rule):
    x = np.array([-5.0, -2.5, -0.1, 0.2, 1.7, 40.0])
    out, vjp = rule(x)
    stepped = rule(x + 1e-30j)[0]
    np.testing.assert_allclose(stepped.real, out, rtol=1e-14, atol=1e-15)
    np.testing.assert_allclose(stepped.imag / 1e-30, vjp(np.ones(6))[0], rtol=1e-13)


@pytest.mark.parametrize("rule", [activation.sigmoid, activation.silu, activation.softplus, activation.gelu])
def test_a_complex_step_goes_through_0_where_there_is_no_kink(rule):
    zeros = np.array([0.0, -0.0])
    for step in (1e-30, -1e-30):
        stepped, _ = rule(zeros + 1j * step)
        np.testing.assert_allclose(stepped.imag / step, rule(zeros)[1](np.ones(2))[0], rtol=1e-13)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_gelu_by_tanh_has_slope_1_or_0_far_out(dtype):
    x = np.array([np.finfo(dtype).max, 1e4, 100, 68, 30], dtype)
    for far, slope in ((x, 1), (-x, 0), ([np.inf], 1)):
        slopes = gradient(lambda t: F.gelu(t, "tanh"), far, np.ones(len(far)), dtype)
        np.testing.assert_allclose(slopes, np.full(len(far), slope), rtol=0, atol=1e-100)


@pytest.mark.parametrize("rule", [activation.sigmoid, activation.silu, activation.softplus, activation.gelu])
@pytest.mark.parametrize("x", [1e-17, -1e-17, 1e-200])
def test_a_complex_step_next_to_0(rule, x):
    for step in (1e-30, -1e-30):
        _, vjp = rule(np.array([x + 1j * step]))
        bend = (rule(np.array([1e-5]))[1](np.ones(1))[0] - rule(np.array([-1e-5]))[1](np.ones(1))[0]) / 2e-5
        np.testing.assert_allclose(vjp(np.ones(1))[0].imag / step, bend, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("value", [0.1, 1000.1, 123456.7])
@pytest.mark.parametrize("n", [3, 7, 10, 777])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_constant_rows(value, n, dtype):
    x = Tensor(np.full((2, n), value, dtype), requires_grad=True)
    normalised = (lambda t: F.layer_norm(t, n), lambda t: F.batch_norm(t.T, None, None, training=True))
    for f in (lambda t: F.std(t, dim=1), lambda t: F.var(t, dim=1), *normalised):
        x.zero_grad()
        y = f(x)
        assert not y.data.any()
        y.backward(np.random.default_rng(0).normal(size=y.shape))
        assert np.isfinite(x.grad).all()
        if y.ndim == 1:
            assert not x.grad.any()
    assert F.softmax(x, 1).data.ravel().tolist() == pytest.approx([1 / n] * 2 * n, rel=1e-6)


def test_deviations_around_a_large_mean():
    x = np.array([1e6, 1e6 + 1, 1e6 + 2, 1e6 + 3], np.float32)
    assert F.var(x).item() == pytest.approx(5 / 3, rel=1e-6)
    np.testing.assert_allclose(F.layer_norm(x, 4, eps=0).data, np.array([-3, -1, 1, 3]) / np.sqrt(5), rtol=1e-6)


@pytest.mark.parametrize(("x", "slopes"), [
    ([2.0, 3.0, 4.0], [12, 8, 6]), ([2.0, 0.0, 4.0], [0, 8, 0]), ([0.0, 3.0, 0.0], [0, 0, 0]), ([5.0], [1]),
])  # fmt: skip
def test_slopes_of_a_product_with_zeros(x, slopes):
    assert gradient(F.prod, x) == slopes


def test_norm_of_a_zero_vector_and_of_huge_and_tiny_ones():
    assert gradient(lambda x: F.norm(x, dim=1).sum(), [[0.0, 0.0], [3.0, -4.0]]) == [[0, 0], [0.6, -0.8]]
    for scale in (1e-30, 1e30):  # squares of both leave float32
        x = np.array([3, 4], np.float32) * np.float32(scale)
        assert F.norm(x).item() == pytest.approx(5 * scale, rel=1e-6, abs=0)
        assert gradient(F.norm, x, dtype=np.float32) == pytest.approx([0.6, 0.8], rel=1e-6)


def test_logsumexp_of_nothing_but_minus_infinity():
    assert F.logsumexp([-np.inf, -np.inf], 0).item() == -np.inf
    assert F.logsumexp([-np.inf, 2.0], 0).item() == 2.0
    assert F.softmax([-np.inf, 2.0], 0).data.tolist() == [0.0, 1.0]


@pytest.mark.parametrize("f", [
    F.relu, F.leaky_relu, F.elu, F.gelu, F.silu, F.softplus, F.sigmoid, F.tanh, F.abs, F.exp, F.log, F.sqrt,
    lambda x: F.clip(x, 0, 1), lambda x: F.maximum(x, 1.0), lambda x: F.minimum(1.0, x), F.max, F.min, F.sum, F.mean, F.var,
    F.std, F.norm, F.prod, lambda x: F.logsumexp(x, 0), lambda x: F.softmax(x, 0), lambda x: F.layer_norm(x, 3),
    lambda x: F.max_pool2d(x.reshape(1, 1, 1, 3), (1, 3)), lambda x: F.linear(x, np.ones((2, 3), np.float32)),
    lambda x: F.conv2d(x.reshape(1, 1, 1, 3), np.ones((1, 1, 1, 2), np.float32)),
    lambda x: F.cross_entropy(x.reshape(1, 3), np.array([0])),
])  # fmt: skip
@pytest.mark.parametrize("place", [0, 1, 2])
def test_nan_stays_visible(f, place):
    x = [1.0, 2.0, 0.5]
    x[place] = np.nan
    assert np.isnan(f(Tensor(x)).data).any()


# -- naive loops -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_against_loops(smoothing):
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(size=(3, 4, 2)), rng.integers(0, 4, (3, 2))
    losses = np.empty((3, 2))
    for i, j in np.ndindex(3, 2):
        p = np.exp(logits[i, :, j]) / np.exp(logits[i, :, j]).sum()
        wanted = np.full(4, smoothing / 4)
        wanted[targets[i, j]] += 1 - smoothing
        losses[i, j] = -(wanted * np.log(p)).sum()
    for reduction, expected in (("none", losses), ("sum", losses.sum()), ("mean", losses.mean())):
        found = F.cross_entropy(logits, targets, reduction, smoothing)
        np.testing.assert_allclose(found.data, expected, rtol=1e-13)


def test_gelu_against_the_error_function():
    from math import erfc, sqrt

    x = np.concatenate([np.linspace(-12, 12, 481), [-0.66, 0.66, -5.6, 5.7]])
    np.testing.assert_allclose(F.gelu(x).data, [v * 0.5 * erfc(-v / sqrt(2)) for v in x], rtol=1e-12)


def test_results_are_never_wider_than_the_inputs():
    x = Tensor(np.ones((2, 2), np.float32))
    for y in (
        F.where(np.ones((2, 2), bool), x, 0.0), F.where(np.ones((2, 2), bool), np.float64(1), x),
        F.cat([x, np.ones((1, 2), np.int64)]),
        F.stack([x, np.ones((2, 2), np.int64)]), F.clip(x, np.float64(0), np.float64(2)), x * np.float64(2), np.float64(2) / x,
        F.batch_norm(x, np.zeros(2), np.ones(2)), F.pad(x, (1, 1), np.float64(3)), x ** np.int64(2),
        F.dropout(x, 0.5, rng=np.random.default_rng(0)),
    ):  # fmt: skip
        assert y.dtype == np.float32
    assert F.clip(np.array([1, 5]), 0, 2).dtype == np.int64
    assert F.clip(np.array([1, 5]), 0, 2.5).dtype == np.float32
    assert F.where(np.array([True]), 1, np.array([2])).dtype == np.int64


def test_softmax_of_one_integer():
    assert F.softmax(np.int8(3), 0).item() == 1
    assert F.log_softmax(np.array(3), 0).item() == 0


@pytest.mark.parametrize(
    "key", [((1, 1),), (slice(None), (1, 1)), (slice(None), range(2)), ((0, 1), (0, 0)), (slice(None), ())]
)
def test_tuples_within_an_index_are_lists(key):
    x, y = (Tensor(np.arange(6.0).reshape(2, 3), requires_grad=True) for _ in range(2))
    picked = x[key]
    same = y[tuple(list(part) if isinstance(part, (tuple, range)) else part for part in key)]
    np.testing.assert_array_equal(picked.data, same.data)
    picked.sum().backward()
    same.sum().backward()
    np.testing.assert_array_equal(x.grad, y.grad)
