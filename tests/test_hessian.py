"""Second derivatives, checked like any other derivative: the gradient of a gradient against the oracle."""

import warnings

import numpy as np
import pytest

import tinygrad_lite.functional as F
from tinygrad_lite import Tensor
from tinygrad_lite.errors import DtypeError, ShapeError
from tinygrad_lite.gradcheck import check_grad
from tinygrad_lite.hessian import hessian, hvp

RNG = np.random.default_rng(0)
W = RNG.standard_normal((3, 4))
IMAGE, FILTERS = RNG.standard_normal((1, 2, 5, 4)), RNG.standard_normal((2, 2, 3, 2))
FUNCTIONS = {
    "softmax": (lambda x: (F.softmax(x, 1) ** 2).sum(), (2, 3)),
    "log_softmax": (lambda x: -(F.log_softmax(x, 1)[:, 0]).mean(), (2, 3)),
    "linear, tanh": (lambda x: F.tanh(x @ Tensor(W)).sum(), (2, 3)),
    "gelu": (lambda x: (F.gelu(x) * x).sum(), (4,)),
    "sigmoid, exp, log": (lambda x: (F.log(1 + F.exp(x)) * F.sigmoid(x)).sum(), (3,)),
    "layer norm": (lambda x: (F.layer_norm(x, (3,)) ** 3).sum(), (2, 3)),
    "conv2d, max_pool2d": (lambda x: (F.max_pool2d(F.conv2d(x, Tensor(FILTERS), padding=1), 2) ** 2).sum(), IMAGE.shape),
    "norm, std": (lambda x: x.norm() * x.std(), (4,)),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_hvp_is_the_slope_of_the_gradient(name):
    fn, shape = FUNCTIONS[name]

    def gradient(x):
        """As a rule: the gradient, and its backward pass, which is a Hessian-vector product (a Hessian is symmetric)."""
        leaf = Tensor(x, requires_grad=True)
        fn(leaf).backward()
        return leaf.grad, lambda g: hvp(fn, x, g)

    assert check_grad(gradient, RNG.standard_normal(shape), properties=["value", "linear", "zero", "shape"])


def test_hessian_of_a_quadratic_is_exact():
    a = RNG.standard_normal((4, 4))
    found = hessian(lambda x: (x * (Tensor(a) @ x)).sum(), RNG.standard_normal(4))
    np.testing.assert_allclose(found, a + a.T, rtol=1e-14, atol=1e-14)


def test_hessian_has_the_shape_of_x_twice():
    assert hessian(lambda x: (x**2).sum(), np.ones((2, 3))).shape == (2, 3, 2, 3)


def test_errors_say_what_to_do():
    with pytest.raises(ShapeError, match=r"fn must give one number, got shape \(3,\)"):
        hvp(lambda x: x * 2, np.ones(3), np.ones(3))
    with pytest.raises(ShapeError, match=r"v\.shape=\(2,\), x\.shape=\(3,\)"):
        hvp(lambda x: x.sum(), np.ones(3), np.ones(2))
    with pytest.raises(DtypeError, match="complex"):
        hvp(lambda x: Tensor(x.data.real, requires_grad=True).sum(), np.ones(3), np.ones(3))


@pytest.mark.parametrize("cast", [lambda x: x.to(np.float64), lambda x: x.float()])
def test_a_part_that_drops_the_imaginary_part_is_seen(cast):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # whatever the user has set
        with pytest.raises(DtypeError, match="hvp: a part of fn drops the imaginary part"):
            hessian(lambda x: (x * x).sum() + (cast(x) ** 3).sum(), np.array([1.0, 2.0]))


def test_where_the_function_is_not_defined_there_is_no_curvature():
    for fn in (lambda x: F.sqrt(x).sum(), lambda x: F.log(x).sum(), lambda x: (x**2.5).sum()):
        assert np.isnan(hvp(fn, np.array([-1.0]), np.array([1.0]))).all()


def test_complex_points_are_refused():
    with pytest.raises(DtypeError, match="hvp: x and v must be real, got complex128"):
        hvp(lambda x: (x * x).sum(), np.array([1j]), np.array([1.0]))


def test_points_far_smaller_than_any_usual_step():
    np.testing.assert_allclose(hvp(F.norm, np.array([1e-35, 0.0]), np.array([0.0, 1.0])), [0, 1e35])


def test_directions_of_any_length():
    for length in (1e-300, 1e300):
        found = hvp(lambda x: (x**3).sum(), np.array([1.0, 2.0]), np.array([length, 0]))
        np.testing.assert_allclose(found, [6 * length, 0], rtol=1e-14)


@pytest.mark.parametrize("result", [3.0, np.ones(1)])
def test_what_gives_no_tensor_is_refused(result):
    with pytest.raises(DtypeError, match=f"hvp: fn must give a Tensor, got {type(result).__name__}"):
        hvp(lambda x: result, np.ones(2), np.ones(2))
