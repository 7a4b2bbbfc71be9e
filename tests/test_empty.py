"""Images and rows with an axis of length 0: a result with such an axis too, or a refusal; forward and backward."""

import numpy as np
import pytest

import tinygrad_lite.functional as F
from tinygrad_lite import ShapeError, Tensor


def empty_cases():
    """Every function that takes images or rows, on such with an axis of length 0."""
    for axis in range(4):
        shape = tuple(0 if i == axis else size for i, size in enumerate((2, 3, 4, 4)))
        of_image = (shape, (3, shape[1], 1, 1))
        yield from ((F.conv2d, of_image, {}), (F.conv2d, (*of_image, (3,)), {}))
        yield from ((F.conv2d, ((2, 3, 4, 4), (0, 3, 1, 1), (0,)), {}), (F.max_pool2d, (shape,), {"kernel_size": 2}))
        yield from (
            (F.avg_pool2d, (shape,), {"kernel_size": 2}),
            (F.batch_norm, (shape,), {"running_mean": None, "running_var": None, "training": True}),
        )
        for function in (F.relu, F.exp, F.sigmoid, F.gelu, F.softplus, F.sum, F.mean, F.flatten):
            yield function, (shape,), {}
        for function in (F.softmax, F.log_softmax, F.logsumexp, F.sum, F.mean, F.max, F.prod, F.var, F.norm):
            yield from ((function, (shape,), {"dim": dim}) for dim in (0, 1, 3))
    for shape in ((0, 3), (2, 0), (0, 0)):
        yield from ((F.linear, (shape, (n, shape[1]), (n,)), {}) for n in (0, 5))
        yield from ((F.matmul, (shape, (shape[1], 4)), {}), (F.layer_norm, (shape,), {"normalized_shape": shape[1:]}))
        for reduction in ("none", "sum", "mean"):
            yield F.cross_entropy, (shape,), {"targets": np.zeros(shape[0], np.int64), "reduction": reduction}
            yield F.mse_loss, (shape, shape), {"reduction": reduction}
        yield from ((F.pad, (shape,), {"pad": (1, 1)}), (F.reshape, (shape,), {"shape": (0, 7)}))


@pytest.mark.parametrize(("function", "shapes", "options"), list(empty_cases()))
@pytest.mark.filterwarnings("error")
def test_nothing_goes_forward_and_backward_or_is_refused_in_words(function, shapes, options):
    tensors = [Tensor(np.ones(shape, np.float32), requires_grad=True) for shape in shapes]
    try:
        out = function(*tensors, **options)
    except ShapeError:
        assert function is not F.layer_norm or not shapes[0][1]
        if function is F.mean and "dim" in options:
            assert shapes[0][options["dim"]] == 0
        assert function in (
            F.conv2d,
            F.max_pool2d,
            F.avg_pool2d,
            F.batch_norm,
            F.mean,
            F.var,
            F.max,
            F.mse_loss,
            F.cross_entropy,
            F.layer_norm,
        )
        return
    assert not np.isnan(out.numpy()).any()
    out.backward(np.ones(out.shape))
    for tensor in tensors:
        assert tensor.grad.shape == tensor.shape
        assert np.isfinite(tensor.grad).all()


def test_the_loss_of_no_samples_and_no_classes_is_nothing():
    for smoothing in (0.0, 0.1):
        assert F.cross_entropy(np.zeros((0, 0)), np.zeros(0, int), "sum", smoothing).item() == 0
