"""The rule for two-dimensional convolution, as matrix products on rows of the image.

Inside, memory holds images as (h, c, w, n): the rows outermost, the batch innermost. Each row is copied kw times, shifted from
copy to copy by one position of the kernel. Then the kh rows that a row of the output looks at, lying one after the other, are
the matrix of its patches: the rows of the output share most of it, where im2col would copy each row kh * kw times. The way
back to the image is the same in the other direction; where rows are short, all of them go it at once. What follows (ReLU,
pooling) finds long contiguous runs. Outside the shape is (n, c, h, w): a transposed view. Source: Cho & Brand 2017, "MEC:
Memory-efficient Convolution for Deep Neural Network".
"""

from __future__ import annotations  # those of a vjp would be evaluated at every call

import functools
from collections.abc import Callable

import numpy as np

from tinygrad_lite import _blas, _check
from tinygrad_lite import _threads as threads
from tinygrad_lite._types import Array, Pair, RuleResult
from tinygrad_lite.errors import ShapeError

BLOCK = 1 << 23  # multiply-adds, below which a block of patches costs more calls than it brings
WIDE, PAGE = 6400, 4096  # bytes: the longest rows of patches, and the lengths (its multiples) that a cache is bad at
FEW = 32  # columns in the patches of a row, below which all rows are one product on the way back,
NARROW, MANY = 4, 1 << 20  # and forward, where there are fewer still, or more bytes of weights than a cache holds


@functools.lru_cache
def taps(size: int, count: int, stride: int, dilation: int) -> tuple[slice, ...]:
    """Slices of a padded axis, one for each of the `size` kernel positions: where `count` windows find that position."""
    return tuple([slice(i * dilation, i * dilation + (count - 1) * stride + 1, stride) for i in range(size)])


@functools.lru_cache
def columns_together(w_out: int, size: int, work: int) -> int:
    """How many columns of the output make up the rows of a block of patches: a divisor of their number.

    `size`: bytes of a column in such a row; `work`: multiply-adds of all rows of the output for one column.
    """
    enough = [d for d in range(1, w_out + 1) if w_out % d == 0 and d * work >= BLOCK]
    fitting = [d for d in enough if d * size <= WIDE and d * size % PAGE]
    return max(fitting, default=min(enough, default=w_out))


def windows(rows: Array, start: int, count: int, size: int, step: int = 1) -> Array:
    """View of contiguous rows (groups, ., width, L): `count` windows of `size` rows each, (groups, count, size * width, L).

    The first begins at row `start`, the others `step` rows further each. They may overlap.
    """
    groups, length, width, L = rows.shape
    row, item = width * L * rows.itemsize, rows.itemsize  # bytes
    return np.ndarray(
        (groups, count, size * width, L), rows.dtype, rows, start * row, (length * row, step * row, L * item, item)
    )


def image_rows(slabs: Array, start: int, upwards: list[Array], G: Array, stride: int) -> None:
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
            _blas.product(some, windows(G, first, together, size), slabs[:, places])
            i += together


def _side_by_side(rows: Array) -> Array:
    """Rows (groups, rows, ., L) as one matrix for each group, (groups, ., rows * L): a copy."""
    groups, count, width, L = rows.shape
    return rows.swapaxes(1, 2).reshape(groups, width, count * L)


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
    _check.same_dtype("conv2d", x=x, weight=weight, bias=bias)
    _check.rank("conv2d", "x", x, (4,), "(n, c_in, h, w)")
    _check.rank("conv2d", "weight", weight, (4,), "(c_out, c_in / groups, kh, kw)")
    (sh, sw), (ph, pw) = _check.pair("conv2d", "stride", stride, 1), _check.pair("conv2d", "padding", padding, 0)
    dh, dw = _check.pair("conv2d", "dilation", dilation, 1)
    groups = _check.integer("conv2d", "groups", groups, 1)
    (n, c_in, h, w), (c_out, c_group, kh, kw) = x.shape, weight.shape
    _check_channels(x, weight, bias, groups)
    h_out, w_out = out_size("conv2d", "x", (h, w), (kh, kw), (sh, sw), (ph, pw), (dh, dw))
    # Of one window the stride does not matter, nor the dilation of a kernel of 1, however large.
    sh, sw, dh, dw = min(sh, h + 2 * ph), min(sw, w + 2 * pw), min(dh, h + 2 * ph), min(dw, w + 2 * pw)
    X = np.ascontiguousarray(x.transpose(2, 1, 3, 0))  # (h, c_in, w, n); no copy after another convolution
    if ph or pw:
        X = _with_border(X, ph, pw)
    X = X.reshape(len(X), groups, c_group, *X.shape[2:])
    # One row of the output is out (o, L) = W C + b, with the patches C (kh * slab, L). A slab is what one row of the image
    # gives to them. Weights that lie in memory as Conv2d lays them are not copied. Long rows are made a block at a time.
    o, L, slab = c_out // groups, w_out * n, c_group * kw
    W = weight.transpose(0, 2, 1, 3).reshape(groups, 1, o, kh * slab)
    out = np.empty((h_out, groups, o, L), np.result_type(W, x) if bias is None else np.result_type(W, x, bias))
    together = columns_together(w_out, n * x.itemsize, n * W.size * h_out)
    wide, blocks = together * n, range(w_out // together)
    multiply_adds, scratch = W.size * h_out * L, X.nbytes // len(blocks) * kw * (kh if dh > 1 or L < FEW else 1)
    as_one = L < FEW and (L < NARROW or W.nbytes > MANY)
    if bias is not None:
        biases = np.empty((groups, o, L), bias.dtype)  # for a whole row: one long addition, not one for each channel
        biases[...] = bias.reshape(groups, o, 1)

    def columns_of(block: int) -> slice:  # of the L
        return slice(block * wide, (block + 1) * wide)

    def looked_at(part: slice) -> Array:  # the rows of the image that some rows of the output look at
        return X[part.start * sh : (part.stop - 1) * sh + dh * (kh - 1) + 1]

    def patches(part: slice, block: int) -> Array:  # C of some rows of the output, (groups, rows, kh * slab, wide)
        count, step, some = part.stop - part.start, sh, looked_at(part)
        if dh > 1:  # then the rows of each window are copied to lie one after the other
            some = np.stack([some[row] for row in taps(kh, count, sh, dh)], axis=1).reshape(count * kh, *X.shape[1:])
            step = kh
        sr, sg, sc, sp, sn = some.strides
        shape, strides = (groups, len(some), c_group, kw, together, n), (sg, sr, sc, dw * sp, sw * sp, sn)
        taken = np.ndarray(shape, X.dtype, some, block * together * sw * sp, strides)
        slabs = np.ascontiguousarray(taken).reshape(groups, len(some), slab, wide)
        return windows(slabs, 0, count, kh, step)

    def transposed(part: slice) -> Array:  # C' of these rows one below the other, (groups, kh, rows * L, slab)
        count, some = part.stop - part.start, looked_at(part)
        sr, sg, sc, sp, sn = some.strides
        shape, strides = (groups, len(some), w_out, n, c_group, kw), (sg, sr, sw * sp, sn, sc, dw * sp)
        slabs = np.ascontiguousarray(np.ndarray(shape, X.dtype, some, 0, strides)).reshape(groups, len(some), L * slab)
        if sh > 1:
            slabs = np.stack([slabs[:, row] for row in taps(kh, count, sh, dh)], axis=1)
            return slabs.reshape(groups, kh, count * L, slab)
        size, item = L * slab * X.itemsize, X.itemsize
        overlapping = (len(some) * size, dh * size, slab * item, item)
        return np.ndarray((groups, kh, count * L, slab), X.dtype, slabs, 0, overlapping)

    def forward(part: slice) -> None:
        for block in blocks:
            some, C = out[part, ..., columns_of(block)], patches(part, block)
            if as_one:
                joined = np.matmul(W[:, 0], _side_by_side(C)).reshape(groups, o, len(some), wide)
                some[...] = joined.transpose(2, 0, 1, 3)
            else:
                _blas.product(W, C, some.swapaxes(0, 1))
        if bias is not None:
            out[part] += biases

    threads.products(multiply_adds, scratch, (forward, h_out))

    def vjp(g: Array) -> tuple[Array | None, ...]:  # out = W C + b  =>  dW = G C' over all rows, dC = W' G, db = G 1
        G = np.ascontiguousarray(g.transpose(2, 1, 3, 0).reshape(h_out, groups, o, L).swapaxes(0, 1))
        g_x = g_weight = g_bias = None
        tasks: list[tuple[Callable[[slice], None], int]] = []
        if needs[0]:
            g_X = np.zeros(X.shape, np.result_type(g, weight))

            def add_shifted(image: Array, slabs: Array) -> None:  # (rows, groups, c_group, kw, columns of the output, n)
                for j, column in enumerate(taps(kw, slabs.shape[4], sw, dw)):
                    image[:, :, :, column] += slabs[:, :, :, j]

            def to_image(part: slice) -> None:  # rows of the image
                count = part.stop - part.start
                first, last = max(0, -((kh - 1 - part.start) // sh)), (part.stop - 1) // sh + 1  # windows that have them
                g_slabs = (np.zeros if sh > kh else np.empty)((groups, count, slab, wide), g_X.dtype)
                slabs = g_slabs.reshape(groups, count, c_group, kw, together, n).swapaxes(0, 1)
                for block in blocks:
                    some = np.ascontiguousarray(G[:, first:last, :, columns_of(block)])
                    image_rows(g_slabs, part.start - first * sh, upwards, some, sh)
                    add_shifted(g_X[part, :, :, block * together * sw :], slabs)

            def patches_to_image(_: slice) -> None:  # all rows of the output, some at a time, each patch for itself
                slabs = np.zeros((groups, len(X), L * slab), g_X.dtype)
                few = max(1, threads.SCRATCH // max(1, groups * kh * slab * L * G.itemsize))
                for start in range(0, h_out, few):
                    some = G[:, start : start + few]
                    count = some.shape[1]
                    g_C = np.empty((groups, kh, count * L, slab), g_X.dtype)
                    some = some.swapaxes(2, 3).reshape(groups, 1, count * L, o)
                    _blas.product(some, W.reshape(groups, o, kh, slab).swapaxes(1, 2), g_C)
                    for k, row in enumerate(taps(kh, count, sh, dh)):
                        slabs[:, start * sh :][:, row] += g_C[:, k].reshape(groups, count, L * slab)
                slabs = slabs.reshape(groups, len(X), w_out, n, c_group, kw).transpose(1, 0, 4, 5, 2, 3)
                add_shifted(g_X, slabs)

            if (L < FEW and kh > 1) or dh > 1:
                tasks.append((patches_to_image, 1))
            else:
                kernels = W.reshape(groups, o, kh, slab).swapaxes(1, 2)
                upwards = [np.ascontiguousarray(kernels[:, k::sh][:, ::-1]) for k in range(min(kh, sh))]
                tasks.append((to_image, (h_out - 1) * sh + kh))
        if any(needs[1:]):
            sums: dict[int, tuple[Array, Array]] = {}  # of each part of the output's rows

            def to_weights(part: slice) -> None:
                if L < FEW:
                    some, g_W = _side_by_side(G[:, part])[:, None], np.empty((groups, o, kh, slab), np.result_type(X, G))
                    _blas.product(some, transposed(part), g_W.swapaxes(1, 2))
                    sums[part.start] = g_W.reshape(groups, o, kh * slab), some.sum(axis=(1, 3))
                    return
                g_W, step = np.zeros(0), max(1, threads.SCRATCH // max(1, W.nbytes))
                for block in blocks:
                    C, some = patches(part, block), G[:, part, :, columns_of(block)]
                    for i in range(0, C.shape[1], step):  # transposed: C G' takes three quarters of the time of G C'
                        few, rows = C[:, i : i + step], some[:, i : i + step]
                        products = np.empty((*few.shape[:3], o), np.result_type(X, G))
                        _blas.product(few, rows.swapaxes(2, 3), products)
                        g_W = g_W + products.sum(axis=1) if block or i else products.sum(axis=1)
                sums[part.start] = g_W.swapaxes(1, 2), G[:, part].sum(axis=(1, 3))

            tasks.append((to_weights, h_out))
        threads.products(multiply_adds, scratch, *tasks)
        if needs[0]:
            g_X = g_X.reshape(len(X), c_in, *X.shape[3:])
            g_x = g_X[ph : ph + h, :, pw : pw + w].transpose(3, 1, 0, 2)
        if any(needs[1:]):
            g_W, g_b = (sum(some[1:], some[0]) for some in zip(*[sums[start] for start in sorted(sums)], strict=True))
            g_weight = np.empty_like(weight, dtype=g_W.dtype)
            g_weight.reshape(groups, o, c_group, kh, kw)[...] = g_W.reshape(groups, o, kh, c_group, kw).swapaxes(2, 3)
            g_bias = g_b.reshape(c_out)
        return (g_x, g_weight, g_bias)[: 2 if bias is None else 3]

    return out.reshape(h_out, c_out, w_out, n).transpose(3, 1, 0, 2), vjp


@functools.lru_cache
def out_size(
    function: str,
    name: str,
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> tuple[int, int]:
    """Number of windows, (vertical, horizontal); pixels past the last full window are ignored."""
    padded = (size[0] + 2 * padding[0], size[1] + 2 * padding[1])
    span = (dilation[0] * (kernel[0] - 1) + 1, dilation[1] * (kernel[1] - 1) + 1)
    if min(kernel) < 1 or span[0] > padded[0] or span[1] > padded[1]:
        raise ShapeError(
            f"{function}: the kernel must fit into the padded image, but it covers {span[0]}x{span[1]} pixels "
            f"(kernel {kernel[0]}x{kernel[1]}, dilation {dilation}) of {padded[0]}x{padded[1]} "
            f"({name} {size[0]}x{size[1]}, padding {padding}); use a smaller kernel or more padding."
        )
    return (padded[0] - span[0]) // stride[0] + 1, (padded[1] - span[1]) // stride[1] + 1


def _with_border(X: Array, ph: int, pw: int) -> Array:
    h, c, w, n = X.shape
    shape = (h + 2 * ph, c, w + 2 * pw, n)
    _check.fits_memory("conv2d", "the padded image", (n, c, h + 2 * ph, w + 2 * pw), X.dtype)
    bordered = np.zeros(shape, X.dtype)
    bordered[ph : ph + h, :, pw : pw + w] = X
    return bordered


def _check_channels(x: Array, weight: Array, bias: Array | None, groups: int) -> None:
    c_in, (c_out, c_group) = x.shape[1], weight.shape[:2]
    if c_out % groups or c_in != c_group * groups:
        wanted = f"{c_group * groups} input channels" + (f" ({c_group} in each of {groups} groups)" if groups > 1 else "")
        raise ShapeError(
            f"conv2d: weight expects {wanted} but x has {c_in}, and {c_out} output channels must divide by groups={groups} "
            f"(x.shape={x.shape}, weight.shape={weight.shape}); weight is (c_out, c_in / groups, kh, kw)."
        )
    if bias is not None and bias.shape != (c_out,):
        raise ShapeError(f"conv2d: bias must have shape ({c_out},), one number an output channel, got {bias.shape}.")
