"""Numbers at the ends of what a dtype holds: results are as wide and as exact as they can be."""

import operator

import numpy as np
import pytest

import tinygrad_lite.functional as F
from tinygrad_lite import ShapeError, Tensor


def test_quotients_of_integers_beside_wider_floats_keep_their_digits():
    large = np.array([16777217])
    quotient = Tensor(large) / Tensor([1.0], dtype=np.float64)
    assert (quotient.dtype, quotient.item()) == (np.float64, 16777217)
    assert (np.array([16777217.0]) / Tensor(np.array([1]))).item() == 16777217
    assert F.mse_loss(large, np.array([16777216.0])).item() == 1
    assert (Tensor(np.array([1])) / Tensor(np.float16(2.0))).dtype == np.float16
    assert (Tensor(np.array([1])) / Tensor(np.array([2]))).dtype == np.float32
    assert F.mse_loss(np.array([1]), np.array([3])).dtype == np.float32
    assert F.linear(np.zeros((2, 3, 0)), np.zeros((4, 0)), np.ones(4)).tolist() == [[[1.0] * 4] * 3] * 2


@pytest.mark.parametrize("number", [255, 256, -1, 2**40, 2**70, np.int64(300), np.int64(-1), np.uint8(3)], ids=repr)
@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int8, np.int64])
def test_integers_are_divided_by_any_number(dtype, number):
    x, wide = Tensor(np.array([1, 1], dtype)), np.ones(2)
    for found, expected in ((x / number, wide / int(number)), (number / x, int(number) / wide)):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found.data, expected, rtol=1e-6)
    with pytest.raises(ShapeError, match="a number of 1329 bits does not fit into dtype=float32"):
        x / 10**400


def test_numbers_of_numpy_do_not_wrap_around_beside_smaller_integers():
    x = Tensor(np.array([1, 200], np.uint8))
    for act in (operator.add, operator.mul):
        with pytest.raises(ShapeError, match="300 does not fit into dtype=uint8; convert the tensor to a wider one"):
            act(x, np.int64(300))
    assert (x > np.int64(300)).tolist() == [False, False]
    assert (np.int64(-1) < x).tolist() == [True, True]
    assert (x + np.int64(5)).dtype == np.uint8


@pytest.mark.parametrize("size", [1e20, 1.0, 1e-25])
def test_standard_deviations_that_fit_into_float32_are_there(size):
    numbers = np.array([1, -1, 3])
    x, expected = Tensor(numbers * size, True, np.float32), np.std(numbers, ddof=1)
    deviation = x.std()
    deviation.backward()
    np.testing.assert_allclose(deviation.item() / size, expected, rtol=1e-6)
    np.testing.assert_allclose(x.grad, (numbers - 1) / 2 / expected, atol=1e-6)


@pytest.mark.filterwarnings("ignore:divide by zero")
def test_a_power_of_zero_has_a_slope_by_its_exponent():
    b = Tensor([-1.0, 2.0, 0.0], requires_grad=True)
    (Tensor([0.0, 0.0, 0.0]) ** b).sum().backward()
    np.testing.assert_array_equal(b.grad, [-np.inf, 0, 0])


def test_a_number_before_a_tensor_takes_its_dtype():
    for function in (F.maximum, F.minimum):
        for x in (np.zeros(1), np.zeros(1, np.float16), np.zeros(1, np.int64)):
            first, second = function(1, Tensor(x)), function(Tensor(x), 1)
            assert first.dtype == second.dtype == x.dtype
    assert F.maximum(0.1, Tensor(np.zeros(1))).item() == 0.1
    assert F.maximum(2**24 + 1, Tensor(np.zeros(1, np.int64))).item() == 2**24 + 1


def test_arrays_of_others_keep_their_dtype():
    class Array:
        def __array__(self, dtype=None, copy=None):
            return np.array([2**24 + 1])

    assert Tensor(Array()).dtype == np.int64
    assert Tensor(Array()).item() == 2**24 + 1


@pytest.mark.parametrize("size", [3e19, 1e30, 1e37])  # of one row or channel, whose squares are too large for float32
@pytest.mark.parametrize("per_row", [True, False])
def test_rows_and_channels_are_normalised_whatever_their_size(size, per_row):
    rng = np.random.default_rng(0)
    (data, g), (w, b), sizes = rng.standard_normal((2, 5, 4)), rng.standard_normal((2, 4)), np.ones((5, 4))
    sizes[(1, ...) if per_row else (..., 1)] = size
    results = []
    for dtype in (np.float32, np.float64):
        x, weight, bias = (Tensor(a.astype(np.float32), requires_grad=True, dtype=dtype) for a in (data * sizes, w, b))
        mean, variance = np.zeros(4, dtype), np.zeros(4, dtype)
        options = (x, 4, weight, bias) if per_row else (x, mean, variance, weight, bias, True)
        y = (F.layer_norm if per_row else F.batch_norm)(*options)
        y.backward(g)
        results.append([y.data, x.grad * sizes, weight.grad, bias.grad, mean / sizes[0], variance])
    *single, variance = results[0]
    *double, expected = results[1]
    with np.errstate(over="ignore"):  # of the running variance
        np.testing.assert_allclose(variance, expected.astype(np.float32), rtol=1e-5)
    for found, right in zip(single, double, strict=True):
        np.testing.assert_allclose(found, right, rtol=0, atol=2e-6 * np.abs(right).max())


@pytest.mark.parametrize("shape", [(300_000, 3), (2, 100_001, 2), (2500, 1, 40)])
def test_long_sums_keep_their_digits(shape):
    """NumPy adds one after the other along an axis that is not innermost in memory, and is off by ten times as much."""
    x = np.random.default_rng(0).uniform(1, 2, shape).astype(np.float32)
    exact, axis = x.astype(np.float64), int(np.argmax(shape))
    rows = Tensor(np.zeros((1, *shape[1:]) if axis == 0 else (shape[0], 1, *shape[2:]), np.float32), requires_grad=True)
    (rows * x).sum().backward()
    wide = exact.sum(axis, keepdims=True)
    for found, right in (
        (F.sum(x, axis), wide.squeeze(axis)),
        (F.mean(x, axis), exact.mean(axis)),
        (F.var(x, axis), exact.var(axis, ddof=1)),
        (F.norm(x, dim=axis), np.sqrt((exact**2).sum(axis))),
        (rows.grad, wide),
    ):
        np.testing.assert_allclose(np.asarray(found), right, rtol=2e-6)


def test_relu_of_truth_values_is_the_same_for_few_and_many():
    for size in (2, 600_000):
        x = np.arange(size) % 2 == 0
        assert F.relu(x).dtype == bool
        np.testing.assert_array_equal(F.relu(x).data, x)
