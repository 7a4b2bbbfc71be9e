"""Second derivatives, checked like any other derivative: the gradient of a gradient against the oracle."""

import warnings

import numpy as np
import pytest

import tinygrad_lite.functional as F
from tinygrad_lite import Tensor, nn
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


KINKS = {  # functions, and the second derivative at 0 of the side, or the mean of both, that their rules choose
    "relu": (lambda x: ((x.relu() - 1) ** 2).sum(), 0),
    "leaky_relu": (lambda x: (F.leaky_relu(x, 0.1) ** 2).sum(), 0.02),
    "elu": (lambda x: F.elu(x, 3.0).sum(), 3),
    "abs": (lambda x: ((x.abs() - 1) ** 2).sum(), 0),
    "clip": (lambda x: (x.clip(0, None) ** 2).sum(), 2),
    "clip from above": (lambda x: (x.clip(None, 0) ** 2).sum(), 2),
    "clip far away": (lambda x: ((x + 7).clip(-1, 3) ** 2).sum(), 0),
    "maximum": (lambda x: (F.maximum(x, 0 * x) ** 2).sum(), 0.5),
    "minimum": (lambda x: (F.minimum(0 * x, x) ** 2).sum(), 0.5),
    "maximum far away": (lambda x: (F.maximum(x + 1, 2 * x) ** 2).sum(), 2),
    "max": (lambda x: (F.max(F.stack([x, 2 * x]), 0) ** 2).sum(), 2),
    "argmax": (lambda x: F.stack([x, 3 * x])[int(F.stack([x, 3 * x]).flatten().argmax())].sum() ** 2, 2),
    "where": (lambda x: F.where(x > 0, x**3, x**2).sum(), 2),
    "sigmoid": (lambda x: (F.sigmoid(x) ** 2).sum(), 0.125),
    "softplus": (lambda x: F.softplus(x).sum(), 0.25),
    "gelu": (lambda x: F.gelu(x).sum(), 2 / np.sqrt(2 * np.pi)),
    "silu": (lambda x: F.silu(x).sum(), 0.5),
}


@pytest.mark.parametrize("name", KINKS)
def test_at_a_kink_the_direction_does_not_matter(name):
    fn, expected = KINKS[name]
    for direction in (1.0, -1.0):
        np.testing.assert_allclose(hvp(fn, [0.0], [direction]), [direction * expected], rtol=1e-12)


def test_hessian_is_symmetric_where_all_units_are_at_their_kink():
    x, first, second = np.zeros((1, 2)), RNG.standard_normal((2, 2)), RNG.standard_normal((2, 1))

    def loss(p):
        hidden = F.relu(x @ p[:4].reshape(2, 2) + p[4:6])
        return ((hidden @ p[6:8].reshape(2, 1) + p[8] - 1) ** 2).sum()

    found = hessian(loss, np.concatenate([first.ravel(), np.zeros(2), second.ravel(), [0.5]]))
    np.testing.assert_array_equal(found, found.T)
    np.testing.assert_array_equal(found, np.diag([0] * 8 + [2]))


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
    with pytest.raises(DtypeError, match=r"a model too: model\.to\(np\.float64\)"):
        hvp(lambda x: nn.Linear(3, 1)(x).sum(), np.ones(3), np.ones(3))


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
