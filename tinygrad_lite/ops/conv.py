"""The rule for two-dimensional convolution, as matrix products on rows of the image.

Inside, memory holds images as (h, c, w, n): the rows outermost, the batch innermost. Each row is copied kw times, shifted from
copy to copy by one position of the kernel. Then the kh rows that a row of the output looks at, lying one after the other, are
the matrix of its patches: the rows of the output share most of it, where im2col would copy each row kh * kw times. The way
back to the image is the same in the other direction; where rows are short, all of them go it at once. What follows (ReLU,
pooling) finds long contiguous runs. Outside the shape is (n, c, h, w): a transposed view. Source: Cho & Brand 2017, "MEC:
Memory-efficient Convolution for Deep Neural Network".
"""

from __future__ import annotations  # those of a vjp would be evaluated at every call

from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_lite import _blas, _check
from tinygrad_lite import _threads as threads
from tinygrad_lite._types import Array, Pair, RuleResult
from tinygrad_lite.ops.half import in_single
from tinygrad_lite.ops.windows import Layout, layout, runs, taps

Task = tuple[Callable[[slice], None], int]  # for parts of so many rows


def _image_rows(slabs: Array, start: int, upwards: list[Array], G: Array, stride: int) -> None:
    """Compute the slabs of the image's rows from `start` on, (groups, rows, slab, L): W' G, added up where windows overlap.

    Row i stride + k of the image is row k of window i, row k + stride of the window above, and so on: one product of the rows
    k, k + stride, ... of the kernel from below upwards, which are upwards[k] (groups, ., o, slab), with as many rows of G
    (groups, h_out, o, L).
    """
    (groups, h_out, o, _), slab, stop = G.shape, slabs.shape[2], start + slabs.shape[1]
    for k, kernel in enumerate(upwards):
        i, end = (-(-max(0, row - k) // stride) for row in (start, stop))
        while i < end:
            top = i + 1 - kernel.shape[1]  # the window that ends with this row; it may be above the first
            first, last = max(0, top), min(i + 1, h_out)
            size = last - first
            together = min(end, h_out) - i if size == kernel.shape[1] else 1  # the next rows lie in as many windows
            some = kernel[:, first - top : last - top].reshape(groups, 1, size * o, slab).swapaxes(2, 3)
            place = i * stride + k - start
            places = slice(place, place + (together - 1) * stride + 1, stride)
            _blas.product(some, runs(G, first, together, size), slabs[:, places])
            i += together


def _side_by_side(rows: Array) -> Array:
    """Rows (groups, rows, ., L) as one matrix for each group, (groups, ., rows * L): a copy."""
    groups, count, width, L = rows.shape
    return rows.swapaxes(1, 2).reshape(groups, width, count * L)


def _products(lay: Layout, X: Array, W: Array, biases: Array | None, dtype: np.dtype[Any]) -> Array:
    """W C + b for all rows of the output, (h_out, groups, o, L)."""
    if lay.plain and threads.are_little(lay.multiply_adds, lay.largest, lay.scratch):
        out: Array = np.matmul(W, lay.patches(X, slice(0, lay.h_out), 0), dtype=dtype)
        if biases is not None:
            out += biases
        return out
    out = np.empty(lay.out, dtype)

    def forward(part: slice) -> None:
        rows = out[part]
        for block in lay.blocks:
            some, C = rows[..., lay.columns_of(block)], lay.patches(X, part, block)
            if lay.as_one:
                joined = np.matmul(W[:, 0], _side_by_side(C)).reshape(lay.groups, lay.o, len(some), lay.wide)
                some[...] = joined.transpose(2, 0, 1, 3)
            else:
                _blas.product(W, C, some.swapaxes(0, 1))
        if biases is not None:
            rows += biases

    threads.products(lay.multiply_adds, lay.largest, lay.scratch, (forward, lay.h_out))
    return out


def _image_gradient(lay: Layout, W: Array, G: Array, dtype: np.dtype[Any]) -> tuple[Array, Task]:
    """The gradient of the image by rows, as zeros, and the task that makes it: W' G, added up where patches overlap."""
    groups, o, kh, slab, sh, dh = lay.groups, lay.o, lay.kh, lay.slab, lay.sh, lay.dh
    g_X = np.zeros(lay.image, dtype)

    def add_shifted(image: Array, slabs: Array) -> None:  # (rows, groups, c_group, kw, columns of the output, n)
        for j, column in enumerate(taps(1, lay.kw, slabs.shape[4], lay.sw, lay.dw)):
            image[column] += slabs[:, :, :, j]

    if not ((lay.few and kh > 1) or dh > 1):
        kernels = W.reshape(groups, o, kh, slab).swapaxes(1, 2)
        upwards = [np.ascontiguousarray(kernels[:, k::sh][:, ::-1]) for k in range(min(kh, sh))]

        def to_image(part: slice) -> None:  # rows of the image
            count = part.stop - part.start
            first, last = max(0, -((kh - 1 - part.start) // sh)), (part.stop - 1) // sh + 1  # windows that have them
            g_slabs = (np.zeros if sh > kh else np.empty)((groups, count, slab, lay.wide), dtype)
            slabs = g_slabs.reshape(groups, count, lay.c_group, lay.kw, lay.together, lay.n).swapaxes(0, 1)
            for block in lay.blocks:
                some = np.ascontiguousarray(G[:, first:last, :, lay.columns_of(block)])
                _image_rows(g_slabs, part.start - first * sh, upwards, some, sh)
                add_shifted(g_X[part, :, :, block * lay.together * lay.sw :], slabs)

        return g_X, (to_image, (lay.h_out - 1) * sh + kh)

    def patches_to_image(_: slice) -> None:  # all rows of the output, some at a time, each patch for itself
        slabs = np.zeros((groups, len(g_X), lay.L * slab), dtype)
        few = max(1, threads.SCRATCH // max(1, groups * kh * slab * lay.L * G.itemsize))
        for start in range(0, lay.h_out, few):
            some = G[:, start : start + few]
            count = some.shape[1]
            g_C = np.empty((groups, kh, count * lay.L, slab), dtype)
            some = some.swapaxes(2, 3).reshape(groups, 1, count * lay.L, o)
            _blas.product(some, W.reshape(groups, o, kh, slab).swapaxes(1, 2), g_C)
            for k, row in enumerate(taps(1, kh, count, sh, dh)):
                slabs[:, start * sh :][row] += g_C[:, k].reshape(groups, count, lay.L * slab)
        slabs = slabs.reshape(groups, len(g_X), lay.w_out, lay.n, lay.c_group, lay.kw).transpose(1, 0, 4, 5, 2, 3)
        add_shifted(g_X, slabs)

    return g_X, (patches_to_image, 1)


def _weight_gradients(lay: Layout, X: Array, G: Array) -> tuple[dict[int, tuple[Array, Array]], Task]:
    """An empty table, and the task that fills it: for parts of the output's rows G C' and G 1, by the part's first row."""
    groups, o, kh, slab = lay.groups, lay.o, lay.kh, lay.slab
    sums: dict[int, tuple[Array, Array]] = {}
    dtype = np.result_type(X, G)
    step = max(1, threads.SCRATCH // max(1, groups * o * kh * slab * X.itemsize))

    def to_weights(part: slice) -> None:
        if lay.few:
            some, g_W = _side_by_side(G[:, part])[:, None], np.empty((groups, o, kh, slab), dtype)
            _blas.product(some, lay.transposed(X, part), g_W.swapaxes(1, 2))
            sums[part.start] = g_W.reshape(groups, o, kh * slab), some.sum(axis=(1, 3))
            return
        g_W = np.zeros(0)
        for block in lay.blocks:
            C, some = lay.patches(X, part, block), G[:, part, :, lay.columns_of(block)]
            for i in range(0, C.shape[1], step):  # transposed: C G' takes three quarters of the time of G C'
                few, rows = C[:, i : i + step], some[:, i : i + step]
                products = np.empty((*few.shape[:3], o), dtype)
                _blas.product(few, rows.swapaxes(2, 3), products)
                g_W = g_W + products.sum(axis=1) if block or i else products.sum(axis=1)
        sums[part.start] = g_W.swapaxes(1, 2), G[:, part].sum(axis=(1, 3))

    return sums, (to_weights, lay.h_out)


@in_single
def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
    needs: tuple[bool, ...] = (True,) * 3,
) -> RuleResult:
    """Rule for cross-correlation. x (n, c_in, h, w), weight (c_out, c_in / groups, kh, kw), bias (c_out,)."""
    dtype = _check.same_dtype("conv2d", "x weight bias", x, weight, bias)
    strides, border = _check.pair("conv2d", "stride", stride, 1), _check.pair("conv2d", "padding", padding, 0)
    dilations, groups = _check.pair("conv2d", "dilation", dilation, 1), _check.integer("conv2d", "groups", groups, 1)
    bias_shape = None if bias is None else bias.shape
    lay = layout(x.shape, weight.shape, bias_shape, x.dtype, strides, border, dilations, groups)
    X = np.ascontiguousarray(x.transpose(2, 1, 3, 0))  # (h, c_in, w, n); no copy after another convolution
    if lay.padded:
        image, X = X, np.zeros(lay.bordered, X.dtype)
        X[lay.inside] = image
    # Weights that lie in memory as Conv2d lays them are not copied.
    W = weight.transpose(0, 2, 1, 3).reshape(lay.kernels)
    # For a whole row: one long addition, not one for each channel.
    biases = None if bias is None else bias.repeat(lay.L).reshape(groups, lay.o, lay.L)
    out = _products(lay, X, W, biases, dtype)

    def vjp(g: Array) -> tuple[Array | None, ...]:  # out = W C + b  =>  dW = G C' over all rows, dC = W' G, db = G 1
        G = np.ascontiguousarray(g.transpose(2, 1, 3, 0).reshape(lay.h_out, groups, lay.o, lay.L).swapaxes(0, 1))
        g_x = g_weight = g_bias = None
        tasks: list[Task] = []
        if needs[0]:
            g_X, to_image = _image_gradient(lay, W, G, np.result_type(g, weight))
            tasks.append(to_image)
        if any(needs[1:]):
            sums, to_weights = _weight_gradients(lay, X, G)
            tasks.append(to_weights)
        threads.products(lay.multiply_adds, lay.multiply_adds, lay.scratch, *tasks)
        if needs[0]:
            g_x = g_X.reshape(lay.bordered)[lay.inside].transpose(3, 1, 0, 2)
        if any(needs[1:]):
            g_W, g_b = (sum(some[1:], some[0]) for some in zip(*[sums[start] for start in sorted(sums)], strict=True))
            g_weight = np.empty_like(weight, dtype=g_W.dtype)
            g_weight.transpose(0, 2, 1, 3)[...] = g_W.reshape(len(weight), lay.kh, lay.c_group, lay.kw)
            g_bias = g_b.reshape(len(weight))
        return (g_x, g_weight, g_bias)[: 2 if bias is None else 3]

    return out.reshape(lay.result).transpose(3, 1, 0, 2), vjp
