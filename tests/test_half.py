"""float16: sums of it keep the digits that it holds, as PyTorch's do."""

import pickle

import numpy as np
import pytest

import tinygrad_lite.functional as F
from tinygrad_lite import DtypeError, Tensor, optim
from tinygrad_lite.serialize import load, save


@pytest.mark.parametrize("count", [2000, 5000])  # fewer and more than are summed in pieces: elementwise.LONG
@pytest.mark.parametrize("function", [
    F.mean, lambda x: F.sum(x / 1000, 0), lambda x: F.var(x / 10, 0), lambda x: F.std(x, 0), lambda x: F.norm(x / 100, dim=0),
    lambda x: F.softmax(x / 1000, 0), lambda x: F.logsumexp(x / 1000, 0), lambda x: F.layer_norm(x.T, len(x)),
    lambda x: F.batch_norm(x, None, None, training=True), lambda x: F.cross_entropy(x, np.zeros(len(x), int)),
    lambda x: F.log_softmax(x / 1000, 0), lambda x: F.avg_pool2d(x.reshape(1, 3, 50, -1), 40),
    lambda x: x[0] / 1000 + np.zeros((len(x), 3), x.dtype),
    lambda x: F.linear(np.ones((len(x), 3), x.dtype), x[:2] / 1000, x[2, :2]),
    lambda x: F.conv2d(np.ones((1, 3, len(x), 1), x.dtype), x[:2].reshape(2, 3, 1, 1) / 1000, x[2, :2] / 1000),
    lambda x: F.batch_norm(x, np.full(3, 1e3, np.float32), np.full(3, 1e5, np.float32)),
])  # fmt: skip
def test_float16_is_added_up_in_float32(function, count):
    rng = np.random.default_rng(0)
    x = rng.uniform(500, 1500, (count, 3)).astype(np.float16)
    half, single = Tensor(x, requires_grad=True), Tensor(x.astype(np.float32), requires_grad=True)
    out, want = function(half), function(single)
    assert out.dtype == np.float16
    np.testing.assert_allclose(out.data, want.data, rtol=2e-3, atol=1e-3)
    g = rng.uniform(0.5, 1.5, out.shape).astype(np.float16)
    out.backward(g)
    want.backward(g)
    np.testing.assert_allclose(half.grad, single.grad, rtol=3e-3, atol=1e-7 + 2e-3 * np.abs(single.grad).max())


@pytest.mark.parametrize("size", [300, 1e-4])
def test_the_norm_of_float16_gradients_does_not_over_or_underflow(size):
    p = Tensor(np.zeros(4, np.float16), requires_grad=True)
    p.grad = np.full(4, size, np.float16)
    np.testing.assert_allclose(optim.clip_grad_norm([p], size), 2 * size, rtol=1e-3)
    np.testing.assert_allclose(p.grad, size / 2, rtol=1e-2)
    assert p.grad.dtype == np.float16


@pytest.mark.parametrize("kind", [optim.Adam, optim.AdamW])
@pytest.mark.parametrize("size", [300, 1e-3])
def test_the_squares_of_float16_gradients_do_not_over_or_underflow(kind, size):
    half, single = (Tensor(np.ones(2, dtype), requires_grad=True) for dtype in (np.float16, np.float32))
    for p in (half, single):
        optimizer = kind([p], lr=0.01)
        for _ in range(5):
            p.grad = np.array([size, 0], p.dtype)
            optimizer.step()
    assert half.dtype == np.float16
    np.testing.assert_allclose(half.data, single.data, rtol=2e-3)


def test_a_convolution_refuses_float16_beside_float32():
    for dtypes in ((np.float16, np.float32), (np.float32, np.float16)):
        x, weight = (np.ones((1, 1, 2, 2), dtype) for dtype in dtypes)
        with pytest.raises(DtypeError, match="conv2d: all arrays must have the same dtype"):
            F.conv2d(x, weight)


def test_what_was_computed_from_float16_says_by_which_rule():
    x = Tensor(np.ones((1, 1, 2, 2), np.float16), requires_grad=True)
    assert "made by conv2d" in repr(F.conv2d(x, x))


@pytest.mark.parametrize("again", ["pickle", "load"])
def test_half_precision_that_comes_from_a_file_is_computed_as_any(tmp_path, again):
    """An array that was unpickled has a dtype that is equal to NumPy's, and not the same object."""
    x = np.array([[300, -300, 200, 100]], np.float16)
    if again == "pickle":
        same = pickle.loads(pickle.dumps(x))
    else:
        save({"x": x}, tmp_path / "x.safetensors")
        same = load(tmp_path / "x.safetensors")["x"]
        assert same.dtype is x.dtype  # what is quick is quick only then
    for function in (lambda x: F.layer_norm(x, 4), lambda x: F.sum(x, dim=1), F.norm):
        np.testing.assert_array_equal(function(same).data, function(x).data)
    a = Tensor(same, requires_grad=True)
    (a + np.zeros((3, 1, 4), np.float16)).sum().backward()
    assert a.grad.dtype == np.float16
