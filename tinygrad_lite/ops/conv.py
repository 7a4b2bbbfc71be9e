"""The rule for two-dimensional convolution, and the patches that turn it into one matrix product.

Inside, the batch axis is innermost in memory: (c, h, w, n). Then im2col is a copy of long contiguous runs, the product needs no
transposition, and what follows (ReLU, pooling, flattening) finds its data contiguous. Outside the shape is (n, c, h, w): a
transposed view. Patches are kh kw times as large as the image, so none are kept: each part of the work, one for each core,
copies those that it needs. Source of im2col: Chellapilla, Puri & Simard 2006.
"""

from __future__ import annotations  # those of a vjp would be evaluated at every call

from collections.abc import Callable

import numpy as np

from tinygrad_lite import _check
from tinygrad_lite import _threads as threads
from tinygrad_lite._types import Array, Pair, RuleResult
from tinygrad_lite.errors import ShapeError

Size = tuple[int, int]
SMALL = 2048  # weights of a group


def taps(size: int, count: int, stride: int, dilation: int) -> list[slice]:
    """Slices of a padded axis, one for each of the `size` kernel positions: where `count` windows find that position."""
    return [slice(i * dilation, i * dilation + (count - 1) * stride + 1, stride) for i in range(size)]


def windows(x: Array, size: Size, kernel: Size, stride: Size, dilation: Size) -> Array:
    """The h_out x w_out = size patches of x (g, c, h, w, n), contiguous, as a view (g, c, kh, kw, h_out, w_out, n).

    Its copy is im2col.
    """
    g, c, _, _, n = x.shape
    sg, sc, sh, sw, sn = x.strides
    steps = (sg, sc, sh * dilation[0], sw * dilation[1], sh * stride[0], sw * stride[1], sn)
    return np.ndarray((g, c, *kernel, *size, n), x.dtype, x, 0, steps)


def add_windows(x: Array, cols: Array, rows: list[slice], columns: list[slice]) -> None:
    """Add patches (g, c, kh, kw, h_out, w_out, n) to x (g, c, h, w, n) where they came from: the adjoint of windows.

    Rows first, whose pixels lie side by side, and then columns: kh + kw additions of long runs, not kh * kw of short ones.
    """
    g, c, h, _, n = x.shape
    tall = np.zeros((g, c, len(columns), h, cols.shape[5], n), x.dtype)
    for i, row in enumerate(rows):
        tall[:, :, :, row] += cols[:, :, i]
    for j, column in enumerate(columns):
        x[:, :, :, column] += tall[:, :, j]


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
    X = np.ascontiguousarray(x.transpose(1, 2, 3, 0))  # (c_in, h, w, n); no copy after another convolution
    if ph or pw:
        X = _with_border(X, ph, pw)
    X = X.reshape(groups, c_group, h + 2 * ph, w + 2 * pw, n)
    patches = windows(X, (h_out, w_out), (kh, kw), (sh, sw), (dh, dw))
    # Over the groups runs matmul. In each, out (o, L) = [W b] [C; 1], C (K, L): the bias is one more column of the weights.
    o, K, L, row = c_out // groups, c_group * kh * kw, h_out * w_out * n, w_out * n
    W = weight.reshape(groups, o, K)
    if bias is not None:
        W = np.concatenate([W, bias.reshape(groups, o, 1)], axis=2)
    out = np.empty((groups, o, L), np.result_type(W, x))
    multiply_adds, scratch = W.size * L, groups * K * L * x.itemsize

    def columns_of(part: slice) -> Array:  # im2col for some rows of the output
        some = patches[:, :, :, :, part]
        cols = np.empty((groups, W.shape[2], *some.shape[4:]), x.dtype)
        cols[:, :K].reshape(some.shape)[...] = some
        cols[:, K:] = 1
        return cols.reshape(groups, W.shape[2], (part.stop - part.start) * row)

    def of_rows(a: Array, part: slice) -> Array:
        return a[:, :, part.start * row : part.stop * row]

    def forward(part: slice) -> None:
        np.matmul(W, columns_of(part), out=of_rows(out, part))

    threads.products(multiply_adds, scratch, (forward, h_out))

    def vjp(g: Array) -> tuple[Array | None, ...]:  # Y = [W b] [C; 1]  =>  [dW db] = G [C; 1]', dC = W' G
        G = np.ascontiguousarray(g.transpose(1, 2, 3, 0)).reshape(groups, o, L)
        g_x = g_weight = g_bias = None
        tasks: list[tuple[Callable[[slice], None], int]] = []
        if needs[0]:
            g_X = np.zeros(X.shape, np.result_type(g, weight))
            rows, columns = taps(kh, h_out, sh, dh), taps(kw, w_out, sw, dw)
            kernels = weight.reshape(groups, o, c_group, kh * kw)

            def to_channels(part: slice) -> None:
                channels = part.stop - part.start
                g_cols = kernels[:, :, part].reshape(groups, o, channels * kh * kw).swapaxes(1, 2) @ G
                add_windows(g_X[:, part], g_cols.reshape(groups, channels, kh, kw, h_out, w_out, n), rows, columns)

            tasks.append((to_channels, c_group))
        if any(needs[1:]):
            sums: dict[int, Array] = {}  # of each part of the output's rows

            def to_weights(part: slice) -> None:
                # Transposed: C G' takes three quarters of the time of G C'. Where the result is small, in pieces, half of it.
                C, G_part, pixels = columns_of(part), of_rows(G, part), (part.stop - part.start) * w_out
                pieces = threads.pieces(pixels, C.size * o) if W[0].size <= SMALL else 1
                a = C.reshape(groups, W.shape[2], pieces, pixels // pieces * n).transpose(2, 0, 1, 3)
                b = G_part.reshape(groups, o, pieces, pixels // pieces * n).transpose(2, 0, 3, 1)
                sums[part.start] = np.matmul(a, b).sum(axis=0)

            tasks.append((to_weights, h_out))
        threads.products(multiply_adds, scratch, *tasks)
        if needs[0]:
            g_x = g_X[:, :, ph : ph + h, pw : pw + w].reshape(c_in, h, w, n).transpose(3, 0, 1, 2)
        if any(needs[1:]):
            g_W = sum((sums[start] for start in sorted(sums)[1:]), sums[0]).swapaxes(1, 2)
            g_weight = g_W[:, :, :K].reshape(weight.shape)
            g_bias = None if bias is None else g_W[:, :, K:].reshape(c_out)
        return (g_x, g_weight, g_bias)[: 2 if bias is None else 3]

    return out.reshape(c_out, h_out, w_out, n).transpose(3, 0, 1, 2), vjp


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
    c, h, w, n = X.shape
    shape = (c, h + 2 * ph, w + 2 * pw, n)
    _check.fits_memory("conv2d", "the padded image", shape, X.dtype)
    bordered = np.zeros(shape, X.dtype)
    bordered[:, ph : ph + h, pw : pw + w] = X
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
