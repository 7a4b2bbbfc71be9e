"""Indexing: NumPy's, with a gradient that counts how often each element was picked."""

import tracemalloc

import numpy as np
import pytest

import tinygrad_lite.functional as F
from tinygrad_lite import ShapeError, Tensor

X = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], np.float32)


def leaf(data=X):
    return Tensor(data, requires_grad=True)


A = np.arange(24.0).reshape(2, 3, 4)


@pytest.mark.parametrize("key", [
    0, -1, (1, 2), slice(None, None, -1), (slice(None), slice(2, 0, -1)), (..., 1), (None, 0, ..., None), [1, 0, 1],
    (slice(None), [0, -1]),
    np.array([[0, 1], [1, 1]]), (np.array([0, 1, 0]), slice(None), np.array([3, 3, 3])), A > 11, (np.array([True, False]), 1),
    np.int64(1),
    np.array(1), [], np.zeros((2, 3), bool), (np.array([[0], [1]]), np.array([0, 2])), True,
], ids=repr)  # fmt: skip
def test_indexing_is_numpys_and_its_gradient_counts_the_picks(key):
    x = Tensor(A, requires_grad=True)
    key_for_numpy = np.array(key, int) if isinstance(key, list) else key
    y = x[key]
    np.testing.assert_array_equal(y.data, A[key_for_numpy])
    cotangent = np.random.default_rng(0).normal(size=y.shape)
    y.backward(cotangent)
    expected = np.zeros(24)
    for place, g in zip(np.arange(24).reshape(A.shape)[key_for_numpy].ravel(), cotangent.ravel(), strict=True):
        expected[place] += g
    np.testing.assert_allclose(x.grad.ravel(), expected, rtol=1e-14)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int64])
def test_rows_may_be_picked_by_small_integers(dtype):
    x = Tensor(np.ones((100, 50)), requires_grad=True)
    x[np.array([99, 3, 99], dtype)].sum().backward()
    np.testing.assert_array_equal(x.grad.sum(axis=1), 50 * np.bincount([99, 3, 99], minlength=100))


@pytest.mark.parametrize("width", [3, 600])  # short rows and long ones
def test_picked_rows_collect_what_flows_to_them(width):
    x = Tensor(np.zeros((4, width)), requires_grad=True)
    cotangent = np.random.default_rng(0).normal(size=(2, 3, width))
    x[np.array([[1, -1, 1], [0, 3, 1]])].backward(cotangent)
    expected = np.stack([cotangent[1, 0], cotangent[0, 0] + cotangent[0, 2] + cotangent[1, 2], np.zeros(width),
                         cotangent[0, 1] + cotangent[1, 1]])  # fmt: skip
    np.testing.assert_allclose(x.grad, expected, rtol=1e-14, atol=1e-15)


def test_a_number_has_no_rows():
    for key in ([0, -1], np.array([0])):
        with pytest.raises(ShapeError, match="too many indices"):
            Tensor(5.0)[key]
    with pytest.raises(ShapeError, match="index 5 is out of bounds"):
        Tensor(np.zeros((0, 2)))[np.array([5])]


def test_a_few_rows_cost_no_copy_of_the_whole():
    x = Tensor(np.zeros((3000, 500), np.float32), requires_grad=True)
    for whole, limit in ((x.T, 100_000), (x[:, ::2], 100_000)):
        tracemalloc.start()
        whole[[0, 1]]
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < limit
    wide = Tensor(np.zeros((2, 500_000), np.float32), requires_grad=True)
    cotangent = np.ones((1, 500_000), np.float32)
    tracemalloc.start()
    wide[[0]].backward(cotangent)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * wide.data.nbytes


def test_tensors_as_indices():
    x = Tensor(A, requires_grad=True)
    np.testing.assert_array_equal(x[Tensor(np.array([1, 1]))].data, A[[1, 1]])
    np.testing.assert_array_equal(x[x > 5].data, A[A > 5])
    np.testing.assert_array_equal(x[:, F.argmax([0.0, 2.0, 1.0])].data, A[:, 1])
