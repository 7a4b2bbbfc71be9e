"""Windows on images: their number, their places, and how a convolution lies in memory. All of it follows from shapes alone."""

import functools
from typing import Any

import numpy as np

from tinygrad_lite import _check
from tinygrad_lite._types import Array
from tinygrad_lite.errors import ShapeError

Both = tuple[int, int]  # vertical, horizontal
Index = tuple[Any, ...]  # (..., a slice of an axis, and one of all for each axis behind it)

BLOCK = 1 << 23  # multiply-adds, below which a block of patches costs more calls than it brings
WIDE, PAGE = 6400, 4096  # bytes: the longest rows of patches, and the lengths (its multiples) that a cache is bad at
FEW = 32  # columns in the patches of a row, below which all rows are one product on the way back,
NARROW, MANY = 4, 1 << 20  # and forward, where there are fewer still, or more bytes of weights than a cache holds


def out_size(function: str, size: Both, kernel: Both, stride: Both, padding: Both, dilation: Both) -> Both:
    """Number of windows, (vertical, horizontal); pixels past the last full window are ignored."""
    padded = (size[0] + 2 * padding[0], size[1] + 2 * padding[1])
    span = (dilation[0] * (kernel[0] - 1) + 1, dilation[1] * (kernel[1] - 1) + 1)
    if min(kernel) < 1 or span[0] > padded[0] or span[1] > padded[1]:
        raise ShapeError(
            f"{function}: the kernel must fit into the padded image, but it covers {span[0]}x{span[1]} pixels "
            f"(kernel {kernel[0]}x{kernel[1]}, dilation {dilation}) of {padded[0]}x{padded[1]} "
            f"(x {size[0]}x{size[1]}, padding {padding}); use a smaller kernel or more padding."
        )
    return (padded[0] - span[0]) // stride[0] + 1, (padded[1] - span[1]) // stride[1] + 1


@functools.lru_cache(1024)
def taps(after: int, size: int, count: int, stride: int, dilation: int) -> tuple[Index, ...]:
    """Where `count` windows find each of the `size` kernel positions, on a padded axis with `after` axes behind it."""
    rest = (slice(None),) * after
    return tuple([(..., slice(i * dilation, i * dilation + (count - 1) * stride + 1, stride), *rest) for i in range(size)])


@functools.lru_cache(1024)
def grid(
    function: str, x: tuple[int, ...], dtype: np.dtype[Any], kernel: Both, stride: Both, padding: Both, dilation: Both
) -> tuple[Both, tuple[Index, ...], tuple[Index, ...]]:
    """Number of windows for pooling images of the shape x, and where they find each row and each column of the kernel.

    Raises
    ------
    ShapeError : no images (n, c, h, w); a kernel that exceeds them, or that their border could hold; a border beyond memory.
    """
    _check.rank(function, "x", x, (4,), "(n, c, h, w)")
    if 2 * padding[0] > kernel[0] or 2 * padding[1] > kernel[1]:
        raise ShapeError(
            f"{function}: padding may be at most half of kernel_size, or windows would hold no pixel, "
            f"got padding={padding}, kernel_size={kernel}."
        )
    n, c, h, w = x
    _check.fits_memory(function, "the padded image", (n, c, h + 2 * padding[0], w + 2 * padding[1]), dtype)
    h_out, w_out = out_size(function, (h, w), kernel, stride, padding, dilation)
    return (h_out, w_out), taps(1, kernel[0], h_out, stride[0], dilation[0]), taps(0, kernel[1], w_out, stride[1], dilation[1])


@functools.lru_cache(1024)
def columns_together(w_out: int, size: int, work: int) -> int:
    """How many columns of the output make up the rows of a block of patches: a divisor of their number.

    `size`: bytes of a column in such a row; `work`: multiply-adds of all rows of the output for one column.
    """
    enough = [d for d in range(1, w_out + 1) if w_out % d == 0 and d * work >= BLOCK]
    fitting = [d for d in enough if d * size <= WIDE and d * size % PAGE]
    return max(fitting, default=min(enough, default=w_out))


def runs(rows: Array, start: int, count: int, size: int) -> Array:
    """View of contiguous rows (groups, ., width, L): `count` runs of `size` rows, (groups, count, size * width, L).

    The first begins at row `start`, each other at the next row.
    """
    shape, strides = run_views(rows.shape, rows.itemsize, count, size, 1)
    return np.ndarray(shape, rows.dtype, rows, start * strides[1], strides)


def run_views(shape: tuple[int, ...], item: int, count: int, size: int, step: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shape and strides of `count` runs of `size` rows each, `step` rows from one to the next; they may overlap."""
    groups, length, width, L = shape
    row = width * L * item  # bytes
    return (groups, count, size * width, L), (length * row, step * row, L * item, item)


class Layout:
    """How the arrays of a convolution lie in memory.

    Letters: o = c_out / groups, the filters of a group; L = w_out n, the numbers in one row of the output; slab = c_group kw,
    the numbers that a window takes from one row of the image. One row of the output is (o, L) = W C + b, with the filters
    W (o, kh slab) and the patches C (kh slab, L). Long rows are made in `blocks` of `together` columns, `wide` = together n
    numbers each. sh, sw, dh, dw are the steps and distances of the windows, down and to the right. Source: Cho & Brand 2017, as
    for the rule.

    Parameters
    ----------
    x, weight, bias : the shapes (n, c_in, h, w), (c_out, c_group, kh, kw) and (c_out,), or None
    dtype : of x
    stride, padding, dilation, groups : as conv2d takes them

    Attributes
    ----------
    bordered, image, kernels, out, result : shapes
        The image with its border (h, c_in, w, n), and by groups (h, groups, c_group, w, n); W; the output by rows
        (h_out, groups, o, L), and (h_out, c_out, w_out, n).
    few, as_one : bool
        So few columns that all rows are one product on the way back; and forward too.
    plain : bool
        One product for each row of the output, and no more.
    multiply_adds, largest, scratch : int, what `_threads.products` asks for

    Raises
    ------
    ShapeError : other shapes; channels that do not go together; a kernel that exceeds the padded image, or this the memory.
    """

    def __init__(
        self,
        x: tuple[int, ...],
        weight: tuple[int, ...],
        bias: tuple[int, ...] | None,
        dtype: np.dtype[Any],
        stride: Both,
        padding: Both,
        dilation: Both,
        groups: int,
    ) -> None:
        _check.rank("conv2d", "x", x, (4,), "(n, c_in, h, w)")
        _check.rank("conv2d", "weight", weight, (4,), "(c_out, c_in / groups, kh, kw)")
        (self.n, c_in, h, w), (c_out, self.c_group, self.kh, self.kw) = x, weight
        if c_out % groups or c_in != self.c_group * groups:
            wanted = f"{self.c_group * groups} input channels"
            wanted += f" ({self.c_group} in each of {groups} groups)" if groups > 1 else ""
            raise ShapeError(
                f"conv2d: weight expects {wanted} but x has {c_in}, and {c_out} output channels must divide by groups={groups} "
                f"(x.shape={x}, weight.shape={weight}); weight is (c_out, c_in / groups, kh, kw)."
            )
        if bias not in (None, (c_out,)):
            raise ShapeError(f"conv2d: bias must have shape {(c_out,)}, one number an output channel, got {bias}.")
        self.item = item = dtype.itemsize  # bytes
        self.groups, self.o = groups, c_out // groups
        ph, pw = padding
        rows, columns = h + 2 * ph, w + 2 * pw
        self.padded = any(padding)
        if self.padded:
            _check.fits_memory("conv2d", "the padded image", (self.n, c_in, rows, columns), dtype)
        self.h_out, self.w_out = out_size("conv2d", (h, w), (self.kh, self.kw), stride, padding, dilation)
        # Of one window the stride does not matter, nor the dilation of a kernel of 1, however large.
        (self.sh, self.sw), (self.dh, self.dw) = [(min(down, rows), min(right, columns)) for down, right in (stride, dilation)]
        self.L, self.slab = self.w_out * self.n, self.c_group * self.kw
        self.inside = np.s_[ph : ph + h, :, pw : pw + w]  # of the image with its border
        self.bordered = (rows, c_in, columns, self.n)
        self.image = (rows, groups, self.c_group, columns, self.n)
        self.kernels = (groups, 1, self.o, self.kh * self.slab)
        self.out = (self.h_out, groups, self.o, self.L)
        self.result = (self.h_out, c_out, self.w_out, self.n)
        weights = c_out * self.kh * self.slab
        self.together = columns_together(self.w_out, self.n * item, self.n * weights * self.h_out)
        self.wide, self.blocks = self.together * self.n, range(self.w_out // self.together)
        self.few = self.L < FEW
        self.as_one = self.few and (self.L < NARROW or weights * item > MANY)
        self.multiply_adds = weights * self.h_out * self.L
        self.largest = self.multiply_adds if self.as_one else weights * self.wide  # forward, of one product
        image = rows * c_in * columns * self.n * item
        self.scratch = image // len(self.blocks) * self.kw * (self.kh if self.dh > 1 or self.few else 1)
        self.plain = groups == len(self.blocks) == 1 and not self.as_one
        # Bytes from one to the next: rows of the image, groups, channels, pixels.
        self.pixel = self.n * item
        self.channel = columns * self.pixel
        self.group = self.c_group * self.channel
        self.row = groups * self.group

    def columns_of(self, block: int) -> slice:
        """Columns of the output in a block, of the L."""
        return slice(block * self.wide, (block + 1) * self.wide)

    def patches(self, X: Array, part: slice, block: int) -> Array:
        """C of some rows of the output, (groups, rows, kh * slab, wide)."""
        shape, steps, matrices, strides = _patch_views(self, part.stop - part.start)
        start = part.start * self.sh * self.row + block * self.together * self.sw * self.pixel
        slabs = np.ascontiguousarray(np.ndarray(shape, X.dtype, X, start, steps))
        return np.ndarray(matrices, X.dtype, slabs, 0, strides)

    def transposed(self, X: Array, part: slice) -> Array:
        """C' of some rows of the output, one below the other, (groups, kh, rows * L, slab)."""
        count, item = part.stop - part.start, X.itemsize
        if self.sh == 1:  # those of each row of the kernel overlap
            length = count + self.dh * (self.kh - 1)
            which: tuple[int, ...] = (self.groups, length)
            steps: tuple[int, ...] = (self.group, self.row)
        else:
            which, steps = (self.groups, self.kh, count), (self.group, self.dh * self.row, self.sh * self.row)
        taken = np.ndarray(
            (*which, self.w_out, self.n, self.c_group, self.kw),
            X.dtype,
            X,
            part.start * self.sh * self.row,
            (*steps, self.sw * self.pixel, item, self.channel, self.dw * self.pixel),
        )
        slabs, shape = np.ascontiguousarray(taken), (self.groups, self.kh, count * self.L, self.slab)
        if self.sh > 1:
            return slabs.reshape(shape)
        size, row = self.L * self.slab * item, self.slab * item
        return np.ndarray(shape, X.dtype, slabs, 0, (length * size, self.dh * size, row, item))


layout = functools.lru_cache(1024)(Layout)


@functools.lru_cache(1024)
def _patch_views(lay: Layout, count: int) -> tuple[tuple[int, ...], ...]:
    """For `count` rows of the output: shape and steps of what is copied of the image, then of the patches in the copy."""
    step = lay.sh
    if lay.dh == 1:
        length = (count - 1) * step + lay.kh
        which: tuple[int, ...] = (lay.groups, length)
        steps: tuple[int, ...] = (lay.group, lay.row)
    else:  # the rows of each window are copied to lie one after the other
        length = count * lay.kh
        which, steps, step = (lay.groups, count, lay.kh), (lay.group, step * lay.row, lay.dh * lay.row), lay.kh
    shape = (*which, lay.c_group, lay.kw, lay.together, lay.n)
    steps = (*steps, lay.channel, lay.dw * lay.pixel, lay.sw * lay.pixel, lay.item)
    return shape, steps, *run_views((lay.groups, length, lay.slab, lay.wide), lay.item, count, lay.kh, step)
