"""Convolution and pooling against plain loops, however their work is cut, and how images lie in memory."""

import itertools

import numpy as np
import pytest

import tinygrad_lite.functional as F
from tinygrad_lite import Tensor
from tinygrad_lite import _threads as threads
from tinygrad_lite.ops import conv
from tinygrad_lite.ops import windows as shapes


def naive_windows(x, kernel, stride, padding, dilation, border):
    """(n, c, h_out, w_out, kh, kw), pixel by pixel."""
    n, c, h, w = x.shape
    sizes = [
        (s + 2 * p - d * (k - 1) - 1) // t + 1 for s, k, t, p, d in zip((h, w), kernel, stride, padding, dilation, strict=True)
    ]
    out = np.full((n, c, *sizes, *kernel), border)
    for i, j, a, b in itertools.product(*map(range, (*sizes, *kernel))):
        row, column = i * stride[0] + a * dilation[0] - padding[0], j * stride[1] + b * dilation[1] - padding[1]
        if 0 <= row < h and 0 <= column < w:
            out[:, :, i, j, a, b] = x[:, :, row, column]
    return out


WINDOWS = [
    ((2, 3), (1, 1), (0, 0), (1, 1)), ((3, 2), (2, 3), (1, 0), (1, 2)), ((1, 1), (2, 1), (0, 0), (1, 1)),
    ((2, 4), (3, 1), (1, 2), (2, 1)), ((4, 1), (3, 1), (2, 0), (1, 1)), ((2, 2), (1, 2), (0, 1), (3, 1)),
]  # fmt: skip


@pytest.fixture
def layouts():
    """None kept from before, nor kept for later: they hold what the constants were."""
    shapes.layout.cache_clear()
    yield shapes.layout
    shapes.layout.cache_clear()


@pytest.fixture(params=["as it is", "rows joined", "rows alone", "rows in blocks", "many parts", "rows joined in many parts"])
def products(request, monkeypatch, layouts):
    """Each way in which a convolution cuts its products, for small arrays too."""
    if request.param != "as it is":
        monkeypatch.setattr(shapes, "FEW", 1000 if "joined" in request.param else 0)
        monkeypatch.setattr(shapes, "MANY", 0)
    if request.param == "rows in blocks":
        monkeypatch.setattr(shapes, "columns_together", lambda w_out, *_: 2 if w_out in (4, 6) else 1)
    if "many parts" in request.param:
        monkeypatch.setattr(threads, "SCRATCH", 100)
        monkeypatch.setattr(threads, "BLAS_SHARES", 0)


@pytest.mark.parametrize(("kernel", "stride", "padding", "dilation"), WINDOWS)
@pytest.mark.parametrize("groups", [1, 2])
def test_conv2d_against_loops(products, kernel, stride, padding, dilation, groups):
    rng = np.random.default_rng(0)
    x, weight, bias = rng.normal(size=(2, 4, 7, 6)), rng.normal(size=(6, 4 // groups, *kernel)), rng.normal(size=6)
    windows = naive_windows(x, kernel, stride, padding, dilation, 0.0)
    out = np.stack([
        np.einsum("nchwab,cab->nhw", windows[:, g * 4 // groups : (g + 1) * 4 // groups], weight[o]) + bias[o]
        for o in range(6) for g in [o * groups // 6]
    ], axis=1)  # fmt: skip
    tensors = [Tensor(array, requires_grad=True) for array in (x, weight, bias)]
    result = F.conv2d(*tensors, stride, padding, dilation, groups)
    np.testing.assert_allclose(result.data, out, rtol=1e-12, atol=1e-13)
    # It is linear in each argument, and so is what the gradient must give: <g, change of the result> = <gradient, change>.
    g = rng.normal(size=out.shape)
    result.backward(g)
    for i, tensor in enumerate(tensors):
        change = rng.normal(size=tensor.shape)
        arrays = ((change, weight, 0 * bias), (x, change, 0 * bias), (0 * x, weight, change))[i]
        along = (g * F.conv2d(*arrays, stride, padding, dilation, groups).data).sum()
        assert (tensor.grad * change).sum() == pytest.approx(along, rel=1e-11)


def test_the_gradient_of_many_weights_is_added_up_a_few_rows_at_a_time(monkeypatch, layouts):
    rng = np.random.default_rng(0)
    x, weight, g = rng.normal(size=(1, 4, 9, 3)), rng.normal(size=(40, 4, 3, 3)), rng.normal(size=(1, 40, 7, 1))
    expected = conv.conv2d(x, weight)[1](g)[1]
    monkeypatch.setattr(shapes, "FEW", 0)
    layouts.cache_clear()
    monkeypatch.setattr(threads, "SCRATCH", 2 * weight.nbytes)
    np.testing.assert_allclose(conv.conv2d(x, weight)[1](g)[1], expected, rtol=1e-12, atol=1e-13)


def test_strides_and_dilations_that_do_not_matter_may_be_huge():
    x, weight, point = np.ones((2, 4, 8, 8)), np.ones((6, 4, 3, 3)), np.ones((6, 4, 1, 1))
    assert F.conv2d(x, weight, stride=2**62).data.tolist() == np.full((2, 6, 1, 1), 36.0).tolist()
    assert F.conv2d(x, point, dilation=(2**62, 1)).data.tolist() == np.full((2, 6, 8, 8), 4.0).tolist()


@pytest.mark.parametrize(
    ("w_out", "size", "work", "together"),
    [
        (8, 400, 10**8, 8),  # as they are
        (24, 400, 10**7, 12),  # no longer than 6,400 bytes
        (24, 400, 10**5, 24),  # too little work for two blocks
        (8, 1024, 10**8, 2),  # 4 of them would be 4,096 bytes, which a cache is bad at
        (8, 1024, 3 * 10**6, 4),  # but 2 are too little work
        (7, 4000, 10**8, 1),
        (7, 10**6, 10**8, 1),  # one at least
        (8, 4096, 10**8, 1),
        (8, 0, 0, 8),  # no images
    ],
)
def test_so_many_columns_make_up_a_row_of_patches(w_out, size, work, together):
    assert shapes.columns_together(w_out, size, work) == together


def test_images_from_a_convolution_are_flattened_with_the_batch_innermost_and_back_into_their_own_order():
    images = np.arange(120.0).reshape(4, 3, 5, 2).transpose(3, 1, 0, 2)  # (h, c, w, n) in memory
    x = Tensor(images, requires_grad=True)
    flat = F.flatten(x, 1)
    np.testing.assert_array_equal(flat.data, images.reshape(2, 60))
    assert flat.data.flags.f_contiguous
    g = np.random.default_rng(0).normal(size=(2, 60))
    flat.backward(g)
    np.testing.assert_array_equal(x.grad, g.reshape(images.shape))
    assert x.grad.strides == images.strides


@pytest.mark.parametrize(("kernel", "stride", "padding", "dilation"), WINDOWS)
def test_pooling_against_loops(kernel, stride, padding, dilation):
    x = np.random.default_rng(0).normal(size=(2, 3, 7, 6))
    padding = tuple(min(p, k // 2) for p, k in zip(padding, kernel, strict=True))
    windows = naive_windows(x, kernel, stride, padding, dilation, -np.inf)
    for tensor in (Tensor(x), Tensor(x, requires_grad=True)):  # what is wanted of it decides in which order it compares
        np.testing.assert_array_equal(F.max_pool2d(tensor, kernel, stride, padding, dilation).data, windows.max(axis=(4, 5)))
    windows = naive_windows(x, kernel, stride, padding, (1, 1), np.nan)
    np.testing.assert_allclose(
        F.avg_pool2d(x, kernel, stride, padding, False).data, np.nanmean(windows, axis=(4, 5)), rtol=1e-13
    )
    whole = np.where(np.isnan(windows), 0, windows).mean(axis=(4, 5))
    np.testing.assert_allclose(F.avg_pool2d(x, kernel, stride, padding).data, whole, rtol=1e-13)


@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("groups", [1, 2])
def test_conv2d_takes_one_complex_argument_beside_real_ones(which, groups):  # which is how a complex step comes
    rng = np.random.default_rng(0)
    arguments = [rng.normal(size=shape) for shape in ((2, 2, 5, 5), (4, 2 // groups, 3, 3), (4,))]
    step = [rng.normal(size=a.shape) if i == which else 0 * a for i, a in enumerate(arguments)]
    mixed = [a + 1j * step[i] if i == which else a for i, a in enumerate(arguments)]
    out, _ = conv.conv2d(*mixed, groups=groups)
    without_bias = [*arguments[:2], 0 * arguments[2]]
    real, _ = conv.conv2d(*arguments, groups=groups)
    imaginary, _ = conv.conv2d(*[step[i] if i == which else a for i, a in enumerate(without_bias)], groups=groups)
    if which == 2:
        imaginary = np.broadcast_to(step[2][:, None, None], real.shape)
    np.testing.assert_allclose(out, real + 1j * imaginary, rtol=1e-13)


@pytest.mark.parametrize("kernel", [1, (1, 2), (2, 1), 2])
@pytest.mark.parametrize("wanted", [False, True])
def test_max_pool_gives_an_array_of_its_own(kernel, wanted):
    x = Tensor(np.arange(16.0).reshape(1, 1, 4, 4), requires_grad=wanted)
    assert not np.shares_memory(F.max_pool2d(x, kernel).data, x.data)


@pytest.mark.parametrize("needs", [True, False])
def test_relu_and_max_pooling_may_change_places(needs):
    # LeNet and PairNet pool first, which costs less; windows of ties, zeros and negative numbers alone are among these.
    values = np.random.default_rng(0).integers(-2, 3, (3, 2, 6, 8)).astype(np.float32)
    values[0, 0] = -np.abs(values[0, 0])
    inside, outside = (Tensor(values, requires_grad=needs) for _ in range(2))
    first, last = F.max_pool2d(F.relu(inside), 2), F.relu(F.max_pool2d(outside, 2))
    np.testing.assert_array_equal(first.numpy(), last.numpy())
    if needs:
        for result in (first, last):
            (result * np.arange(1, 1 + result.numpy().size, dtype=np.float32).reshape(result.shape)).sum().backward()
        np.testing.assert_array_equal(inside.grad, outside.grad)
        assert inside.grad.any()
