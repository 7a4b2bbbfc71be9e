"""The rule for two-dimensional convolution, and the patches that turn it into one matrix product.

Inside, the batch axis is innermost in memory: (c, h, w, n). Then im2col is kh*kw copies of long contiguous runs, the product
needs no transposition, and what follows (ReLU, pooling, flattening) finds its data contiguous. Outside the shape is
(n, c, h, w): a transposed view. Source of im2col: Chellapilla, Puri & Simard 2006.
"""

import numpy as np

from tinygrad_lite import _check
from tinygrad_lite._types import Array, Pair, RuleResult
from tinygrad_lite.errors import ShapeError
from tinygrad_lite.ops.matmul import add_bias


def taps(size: int, count: int, stride: int, dilation: int) -> list[slice]:
    """Slices of a padded axis, one for each of the `size` kernel positions: where `count` windows find that position."""
    return [slice(i * dilation, i * dilation + (count - 1) * stride + 1, stride) for i in range(size)]


def im2col(x: Array, rows: list[slice], columns: list[slice], h_out: int, w_out: int) -> Array:
    """Patches of x (c, h, w, n): (c, kh, kw, h_out, w_out, n)."""
    c, _, _, n = x.shape
    cols = np.empty((c, len(rows), len(columns), h_out, w_out, n), x.dtype)
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            cols[:, i, j] = x[:, row, column]
    return cols


def col2im(cols: Array, rows: list[slice], columns: list[slice], h: int, w: int) -> Array:
    """Add patches (c, kh, kw, h_out, w_out, n) up where they came from, (c, h, w, n): the adjoint of im2col."""
    x = np.zeros((cols.shape[0], h, w, cols.shape[-1]), cols.dtype)
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            x[:, row, column] += cols[:, i, j]
    return x


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
    rows, columns = taps(kh, h_out, sh, dh), taps(kw, w_out, sw, dw)

    X = np.ascontiguousarray(x.transpose(1, 2, 3, 0))  # (c_in, h, w, n); no copy after another convolution
    if ph or pw:
        X = _with_border(X, ph, pw)
    # With groups each matrix below has a leading group axis, over which matmul runs.
    cols = im2col(X, rows, columns, h_out, w_out).reshape(groups, c_group * kh * kw, h_out * w_out * n)
    W = weight.reshape(groups, c_out // groups, c_group * kh * kw)
    out = add_bias((W @ cols).reshape(c_out, -1), None if bias is None else bias[:, None])
    kept = cols if needs[1] else None

    def vjp(g: Array) -> tuple[Array | None, ...]:  # Y = W C + b 1'  =>  dW = G C', dC = W' G, db = G 1
        G = np.ascontiguousarray(g.transpose(1, 2, 3, 0)).reshape(groups, c_out // groups, -1)
        g_x = g_weight = g_bias = None
        if needs[0]:
            g_cols = (W.swapaxes(1, 2) @ G).reshape(c_in, kh, kw, h_out, w_out, n)
            g_X = col2im(g_cols, rows, columns, h + 2 * ph, w + 2 * pw)
            g_x = g_X[:, ph : ph + h, pw : pw + w].transpose(3, 0, 1, 2)
        if kept is not None:
            g_weight = (G @ kept.swapaxes(1, 2)).reshape(weight.shape)
        if bias is not None and needs[2]:
            g_bias = G.reshape(c_out, -1).sum(axis=1)
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
    bordered = np.zeros((c, h + 2 * ph, w + 2 * pw, n), X.dtype)
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
