"""Infinite cotangents: where an operation has slope 0 nothing of them goes through, as in PyTorch."""

import numpy as np
import pytest

import tinygrad_lite.functional as F
from tinygrad_lite import Tensor

pytestmark = pytest.mark.filterwarnings("ignore:divide by zero")


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("cotangent", [np.inf, -np.inf, np.nan])
def test_nothing_goes_through_where_the_slope_is_0(dtype, cotangent):
    x = Tensor(np.array([-1, 4, -2, 3], dtype), requires_grad=True)
    for act in (F.relu, lambda x: x.clip(min=0.0), lambda x: F.max_pool2d(x.reshape(1, 1, 1, 4), (1, 2)).reshape(2)):
        out = act(x)
        g = np.full(out.shape, 2, dtype)
        g[:-1] = cotangent
        out.backward(g)
        np.testing.assert_array_equal(x.grad, [0, cotangent, 0, 2])
        x.zero_grad()


def test_overlapping_windows_add_up_only_what_is_theirs():
    x = Tensor(np.array([[[[1.0, 3.0, 2.0]]]]), requires_grad=True)
    F.max_pool2d(x, (1, 2), stride=1).backward(np.array([[[[np.inf, 5.0]]]]))
    np.testing.assert_array_equal(x.grad, [[[[0, np.inf, 0]]]])


def test_roots_and_logarithms_of_what_was_cut_off_have_no_gradient():
    x = Tensor([-1.0, 4.0], requires_grad=True)
    x.relu().sqrt().sum().backward()
    x.clip(min=0.0).log().sum().backward()
    np.testing.assert_array_equal(x.grad, [0, 0.5])
    image = Tensor(np.array([[[[0.0, -1.0], [-2.0, -3.0]]]]), requires_grad=True)
    F.max_pool2d(image, 2).sqrt().sum().backward()
    np.testing.assert_array_equal(image.grad, [[[[np.inf, 0], [0, 0]]]])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_gradient_goes_through_where_nothing_was_cut_off_but_a_nan_came(dtype):
    x = Tensor(np.array([-1, np.nan, 2, np.nan], dtype), requires_grad=True)
    y = Tensor(np.array([1, 2, np.nan, np.nan], dtype), requires_grad=True)
    x.relu().backward(np.full(4, 3))
    np.testing.assert_array_equal(x.grad, [0, 3, 3, 3])
    for act, first, second in ((F.maximum, [0, 3, 3, 3], [3, 3, 3, 3]), (F.minimum, [3, 3, 3, 3], [0, 3, 3, 3])):
        x.zero_grad(), y.zero_grad()
        act(x, y).backward(np.full(4, 3))
        np.testing.assert_array_equal(x.grad, first)
        np.testing.assert_array_equal(y.grad, second)
