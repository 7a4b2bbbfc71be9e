"""Operations as functions of Tensors, with PyTorch's names and arguments. Arrays and numbers are taken too.

Usual import: `import tinygrad_lite.functional as F`. Unless said otherwise a result has the dtype of its input, a float32 input
gives float32, integers become float32 where the result cannot be one, and binary operations broadcast as in NumPy. Arrays that
are given are not copied, but for indices and conditions, and must stay as they are until backward; `Tensor(data)` copies.
Shapes and sizes that do not fit raise ShapeError, dtypes and kinds of arguments DtypeError; what is less plain stands below.

This file is long because it is the reference: one function an operation, each with its words.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from tinygrad_lite import _check
from tinygrad_lite._elsewhere import attributes_of
from tinygrad_lite._types import Array, Dims, Pair
from tinygrad_lite.errors import DtypeError, ShapeError
from tinygrad_lite.ops import activation, conv, elementwise, pool
from tinygrad_lite.ops import matmul as matmul_rules
from tinygrad_lite.ops import norm as norm_rules
from tinygrad_lite.ops import shape as shape_rules
from tinygrad_lite.ops import softmax as softmax_rules
from tinygrad_lite.tensor import (
    Tensor,
    _apply,
    _apply_wanted,
    _both_floating,
    _floating,
    _is_operand,
    _kept,
    _operands,
    _to_array,
    as_tensor,
)

Data = Tensor | ArrayLike

# -- each element alone ------------------------------------------------------------------------------------------------


def exp(x: Data) -> Tensor:
    """e^x, element by element."""
    return as_tensor(x).exp()


def log(x: Data) -> Tensor:
    """Natural logarithm; -inf at 0, NaN below."""
    return as_tensor(x).log()


def sin(x: Data) -> Tensor:
    """Sine of x in radians."""
    return as_tensor(x).sin()


def cos(x: Data) -> Tensor:
    """Cosine of x in radians."""
    return as_tensor(x).cos()


def sqrt(x: Data) -> Tensor:
    """Square root; its slope at 0 is infinite."""
    return as_tensor(x).sqrt()


def abs(x: Data) -> Tensor:
    """|x|; the slope at 0 is 0. Of complex numbers x or -x, as their real part is: that is analytic."""
    return as_tensor(x).abs()


def sigmoid(x: Data) -> Tensor:
    """1 / (1 + e^-x), without overflow and exact in both tails."""
    return as_tensor(x).sigmoid()


def tanh(x: Data) -> Tensor:
    """Hyperbolic tangent."""
    return as_tensor(x).tanh()


def relu(x: Data) -> Tensor:
    """max(x, 0); the slope at 0 is 0.

    Examples
    --------
    >>> relu([-1.0, 0.0, 0.5])
    Tensor([0. , 0. , 0.5])
    """
    return as_tensor(x).relu()


def leaky_relu(x: Data, negative_slope: float = 0.01) -> Tensor:
    """Where x > 0: x, else negative_slope * x. Source: Maas et al. 2013."""
    slope = _check.number("leaky_relu", "negative_slope", negative_slope)
    return _apply(activation.leaky_relu, _floating(as_tensor(x)), negative_slope=slope)


def elu(x: Data, alpha: float = 1.0) -> Tensor:
    """Where x > 0: x, else alpha * (e^x - 1). Source: Clevert et al. 2016."""
    return _apply(activation.elu, _floating(as_tensor(x)), alpha=_check.number("elu", "alpha", alpha))


def gelu(x: Data, approximate: str = "none") -> Tensor:
    """X times the standard normal's distribution function; `approximate="tanh"` for the formula with tanh.

    Source: Hendrycks & Gimpel 2016.
    """
    return _apply(activation.gelu, _floating(as_tensor(x)), approximate=_check.approximate("gelu", approximate))


def silu(x: Data) -> Tensor:
    """X * sigmoid(x), also called swish. Source: Elfwing et al. 2018."""
    return _apply(activation.silu, _floating(as_tensor(x)))


def softplus(x: Data, beta: float = 1.0) -> Tensor:
    """log(1 + e^(beta x)) / beta, a smooth relu. beta > 0."""
    return _apply(activation.softplus, _floating(as_tensor(x)), beta=_check.positive("softplus", "beta", beta))


def clip(x: Data, min: float | None = None, max: float | None = None) -> Tensor:
    """X limited to [min, max]; None for no limit. The slope is 1 inside and on the limits, 0 outside."""
    return as_tensor(x).clip(min, max)


def maximum(x: Data, other: Data) -> Tensor:
    """Larger of two elements; at a tie each gets half the gradient."""
    a, b = _pair_of(x, other)
    return a.maximum(b)


def minimum(x: Data, other: Data) -> Tensor:
    """Smaller of two elements; at a tie each gets half the gradient."""
    a, b = _pair_of(x, other)
    return a.minimum(b)


def where(condition: Data, x: Data, other: Data) -> Tensor:
    """X where the condition holds, else other. The three broadcast together; the condition has no gradient."""
    chosen = as_tensor(condition).data
    if chosen.dtype != bool:
        raise DtypeError(f"where: condition must hold truth values, got dtype={chosen.dtype}; compare with something first.")
    a, b = _pair_of(x, other)
    try:
        return _apply(elementwise.where, a, b, condition=_kept(condition, chosen, a, b))
    except ValueError:
        raise ShapeError(
            f"where: shapes {chosen.shape} (condition), {a.shape} (x) and {b.shape} (other) do not broadcast together."
        ) from None


# -- reductions --------------------------------------------------------------------------------------------------------
# dim is an axis, several, () for none, or None for all; negative ones count from the end. keepdim leaves reduced ones at 1.


def sum(x: Data, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """Sum over `dim`.

    Examples
    --------
    >>> sum([[1.0, 2.0], [3.0, 4.0]], dim=1, keepdim=True).shape
    (2, 1)
    """
    return as_tensor(x).sum(dim, keepdim)


def mean(x: Data, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """Mean over `dim`, of at least one element."""
    return as_tensor(x).mean(dim, keepdim)


def var(x: Data, dim: Dims = None, correction: int = 1, keepdim: bool = False) -> Tensor:
    """Squared deviations from the mean over `dim`, summed and divided by (count - correction).

    Raises
    ------
    ShapeError : no more than `correction` elements.
    """
    return as_tensor(x).var(dim, correction, keepdim)


def std(x: Data, dim: Dims = None, correction: int = 1, keepdim: bool = False) -> Tensor:
    """Square root of the variance, which see. Where all elements are equal its slope is 0."""
    return as_tensor(x).std(dim, correction, keepdim)


def norm(x: Data, p: Any = 2, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """Euclidean norm over `dim`, without overflow. Its slope at the zero vector is 0. Of complex x: sqrt(sum(x x)).

    `p` stands where PyTorch has it, and is 2 or "fro".
    """
    return as_tensor(x).norm(p, dim, keepdim)


def max(x: Data, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """Largest element over `dim`: the values only, also for one axis. The first of equal ones gets the gradient."""
    return as_tensor(x).max(dim, keepdim)


def min(x: Data, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """Smallest element over `dim`: the values only, also for one axis. The first of equal ones gets the gradient."""
    return as_tensor(x).min(dim, keepdim)


def prod(x: Data, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """Product over `dim`; the gradient is right where elements are zero, too."""
    return as_tensor(x).prod(dim, keepdim)


def argmax(x: Data, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """Index (int64) of the first largest element along `dim`, or in the flattened tensor."""
    return as_tensor(x).argmax(dim, keepdim)


def logsumexp(x: Data, dim: Dims, keepdim: bool = False) -> Tensor:
    """log(sum(e^x)) over `dim`, without overflow."""
    return as_tensor(x).logsumexp(dim, keepdim)


# -- moving elements ---------------------------------------------------------------------------------------------------


def reshape(x: Data, shape: Sequence[int]) -> Tensor:
    """Same elements, in C order, in another shape; one size may be -1."""
    return as_tensor(x).reshape(_check.integers("reshape", "shape", shape))


def flatten(x: Data, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Join the axes from start_dim to end_dim into one."""
    return as_tensor(x).flatten(start_dim, end_dim)


def squeeze(x: Data, dim: Dims = None) -> Tensor:
    """Drop the axes of size 1 (those of them that are in `dim`)."""
    return as_tensor(x).squeeze(dim)


def unsqueeze(x: Data, dim: int) -> Tensor:
    """Add an axis of size 1 at `dim`."""
    return as_tensor(x).unsqueeze(dim)


def transpose(x: Data, dim0: int, dim1: int) -> Tensor:
    """Exchange two axes."""
    return as_tensor(x).transpose(dim0, dim1)


def permute(x: Data, dims: Sequence[int]) -> Tensor:
    """Put the axes into the order `dims`."""
    return as_tensor(x).permute(_check.integers("permute", "dims", dims))


def expand(x: Data, sizes: Sequence[int]) -> Tensor:
    """Repeat along new leading axes and axes of size 1, without a copy; -1 keeps a size."""
    return as_tensor(x).expand(_check.integers("expand", "sizes", sizes))


def pad(x: Data, pad: Sequence[int], value: float = 0.0) -> Tensor:
    """Put `value` around x. `pad` is (before, after) for the last axis, then for the one before it, and so on.

    Negative widths cut off.

    Examples
    --------
    >>> pad([[1.0, 2.0]], (1, 2))
    Tensor([[0., 1., 2., 0., 0.]])
    """
    tensor = as_tensor(x)
    widths = _check.integers("pad", "pad", pad)
    if len(widths) % 2 or len(widths) > 2 * tensor.ndim:
        raise ShapeError(
            f"pad: needs (before, after) for at most {tensor.ndim} axes, last axis first, got {len(widths)} widths {[*widths]}."
        )
    pairs = [(0, 0)] * (tensor.ndim - len(widths) // 2) + list(zip(widths[::2], widths[1::2], strict=True))[::-1]
    for size, (before, after) in zip(tensor.shape, pairs, strict=True):
        if size + before + after < 0 or -before > size or -after > size:
            raise ShapeError(f"pad: cannot cut {-before} and {-after} off an axis of size {size}, shape={tensor.shape}.")
    sizes = [before + size + after for size, (before, after) in zip(tensor.shape, pairs, strict=True)]
    _check.fits_memory("pad", "the result", sizes, tensor.dtype)
    number = _check.number("pad", "value", value)
    if tensor.dtype.kind in "biu" and not (math.isfinite(number) and _holds(tensor.dtype, number)):
        raise DtypeError(f"pad: value={value} does not fit into dtype={tensor.dtype}; convert x with .float().")
    return _apply(shape_rules.pad, tensor, widths=tuple(pairs), value=number)


def cat(tensors: Sequence[Data], dim: int = 0) -> Tensor:
    """Join tensors along an axis that they have; their other axes must agree."""
    parts = _parts("cat", tensors)
    first = parts[0]
    if not first.ndim:
        raise ShapeError("cat: needs tensors with at least one axis, got shape (); use stack for single numbers.")
    axis = _check.axis("cat", "dim", dim, first.ndim)
    for part in parts[1:]:
        if part.ndim != first.ndim or any(
            i != axis and a != b for i, (a, b) in enumerate(zip(part.shape, first.shape, strict=True))
        ):
            raise ShapeError(f"cat: shapes may differ along dim={dim} only, got {first.shape} and {part.shape}.")
    return _apply(shape_rules.cat, *parts, axis=axis)


def stack(tensors: Sequence[Data], dim: int = 0) -> Tensor:
    """Join tensors of one shape along a new axis."""
    parts = _parts("stack", tensors)
    for part in parts[1:]:
        if part.shape != parts[0].shape:
            raise ShapeError(f"stack: all shapes must be equal, got {parts[0].shape} and {part.shape}.")
    return _apply(shape_rules.stack, *parts, axis=_check.axis("stack", "dim", dim, parts[0].ndim + 1))


# -- products ----------------------------------------------------------------------------------------------------------


def matmul(x: Data, other: Data) -> Tensor:
    """Matrix product. x (..., n, k), other (..., k, m) -> (..., n, m); leading axes broadcast; 1-D arguments are vectors.

    Raises
    ------
    ShapeError : the inner sizes differ.
    DtypeError : dtypes differ.
    """
    a, b = as_tensor(x), as_tensor(other)
    return a @ b


def linear(x: Data, weight: Data, bias: Data | None = None) -> Tensor:
    """X weight' + bias.

    Parameters
    ----------
    x : (..., in_features), float32 or float64
    weight : (out_features, in_features), dtype of x
    bias : (out_features,), dtype of x, optional

    Returns
    -------
    Tensor, (..., out_features)

    Raises
    ------
    ShapeError : sizes that do not fit.
    DtypeError : dtypes differ.
    """
    return _apply_wanted(matmul_rules.linear, *_with_bias(x, weight, bias))


def conv2d(
    x: Data,
    weight: Data,
    bias: Data | None = None,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> Tensor:
    """Cross-correlate images with a bank of filters (the kernel is not flipped).

    Parameters
    ----------
    x : (n, c_in, h, w), float32 or float64
    weight : (c_out, c_in / groups, kh, kw), dtype of x
    bias : (c_out,), dtype of x, optional
    stride : int or (int, int), default 1, >= 1
        Step in pixels, (vertical, horizontal).
    padding : int or (int, int), default 0, >= 0
        Pixels of zeros on each side.
    dilation : int or (int, int), default 1, >= 1
        Distance between the pixels that a filter looks at.
    groups : int, default 1
        Channels in and out are split into so many groups that do not see each other.

    Returns
    -------
    Tensor, (n, c_out, h_out, w_out), dtype of x
        h_out = (h + 2*padding - dilation*(kh - 1) - 1) // stride + 1; pixels past the last full window are ignored.
        In memory the rows of the images are outermost and the batch is innermost, (h_out, c_out, w_out, n).

    Raises
    ------
    ShapeError : x or weight is not 4-D, channels differ, or the kernel exceeds the padded image.
    DtypeError : dtypes differ.

    Notes
    -----
    vjp: g_weight = G C', g_bias = G 1, and W' G added up where the patches C of x overlap. Keeps x with its border until
    backward. Source: Cho & Brand 2017 for the product; the layer after LeCun et al. 1998, section II.

    Examples
    --------
    >>> conv2d(np.ones((1, 1, 3, 3)), np.ones((1, 1, 2, 2))).shape
    (1, 1, 2, 2)
    """
    tensors = _with_bias(x, weight, bias)
    return _apply_wanted(conv.conv2d, *tensors, stride=stride, padding=padding, dilation=dilation, groups=groups)


def max_pool2d(x: Data, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0, dilation: Pair = 1) -> Tensor:
    """Largest pixel of each window. x (n, c, h, w) -> (n, c, h_out, w_out), sizes as for conv2d.

    stride defaults to kernel_size; the border is -inf and beats no finite number; of equal pixels the first, row by row, gets
    the gradient. In a window with NaN any of its pixels may get it.

    Raises
    ------
    ShapeError : x is not 4-D, a window exceeds the padded image, padding is over half of kernel_size.
    """
    rule = pool.max_pool2d
    return _apply_wanted(
        rule, _floating(as_tensor(x)), kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation
    )


def avg_pool2d(
    x: Data, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0, count_include_pad: bool = True
) -> Tensor:
    """Mean of each window. x (n, c, h, w) -> (n, c, h_out, w_out), sizes as for conv2d.

    stride defaults to kernel_size; the border is zeros, which count as pixels unless count_include_pad is False.

    Raises
    ------
    ShapeError : as for max_pool2d.
    """
    return _apply(
        pool.avg_pool2d,
        _floating(as_tensor(x)),
        kernel_size=kernel_size,
        stride=stride,
        padding=padding,
        count_include_pad=_check.flag("avg_pool2d", "count_include_pad", count_include_pad),
    )


# -- regularisation and normalisation ----------------------------------------------------------------------------------


def dropout(x: Data, p: float = 0.5, training: bool = True, *, rng: np.random.Generator | None = None) -> Tensor:
    """Set each element to 0 with probability p and divide the others by 1 - p; while not training, x itself.

    Parameters
    ----------
    x : any shape, floating
    p : float in [0, 1]
    rng : numpy.random.Generator
        Needed in training, so that a run can be repeated.

    Notes
    -----
    Source: Srivastava et al. 2014.
    """
    p = _check.number("dropout", "p", p, 0, 1)
    tensor = _floating(as_tensor(x))
    if not _check.flag("dropout", "training", training) or p == 0:
        return tensor
    real = tensor.data.real.dtype
    kept = _check.generator("dropout", rng).random(tensor.shape, dtype=np.float32) >= p
    return tensor * as_tensor(kept.astype(real) * real.type(0 if p == 1 else 1 / (1 - p)))


def layer_norm(
    x: Data,
    normalized_shape: int | Sequence[int],
    weight: Data | None = None,
    bias: Data | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Bring the last axes to mean 0 and variance 1, then scale and shift.

    Parameters
    ----------
    x : (..., *normalized_shape)
    weight, bias : normalized_shape, dtype of x, optional
    eps : float >= 0, added to the variance

    Notes
    -----
    Source: Ba, Kiros & Hinton 2016.
    """
    tensor = _floating(as_tensor(x))
    sizes = normalized_shape if isinstance(normalized_shape, (tuple, list)) else (normalized_shape,)
    wanted = tuple(_check.integer("layer_norm", "normalized_shape", s, 1) for s in sizes)
    if not wanted or tensor.shape[-len(wanted) :] != wanted:
        raise ShapeError(f"layer_norm: the last axes of x must be normalized_shape={wanted}, got x.shape={tensor.shape}.")
    scale = _of_each("layer_norm", "weight", np.ones(wanted, tensor.dtype) if weight is None else weight, tensor, wanted)
    shift = _of_each("layer_norm", "bias", np.zeros(wanted, tensor.dtype) if bias is None else bias, tensor, wanted)
    return _apply_wanted(norm_rules.layer_norm, tensor, scale, shift, eps=_check.number("layer_norm", "eps", eps, 0))


def batch_norm(
    x: Data,
    running_mean: Array | None,
    running_var: Array | None,
    weight: Data | None = None,
    bias: Data | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Bring each channel to mean 0 and variance 1, then scale and shift.

    Parameters
    ----------
    x : (n, c) or (n, c, ...)
    running_mean, running_var : ndarray (c,)
        While training the batch's own mean and variance are used, and these are moved towards them *in place*:
        running = (1 - momentum) * running + momentum * batch (the unbiased variance); otherwise these are used.
    weight, bias : (c,), dtype of x, optional
    eps : float >= 0, added to the variance

    Raises
    ------
    ShapeError : x has one axis; training on one value a channel; a running mean or variance of another shape, or alone.
    DtypeError : running_mean or running_var is no array of floats that can be written.

    Notes
    -----
    Source: Ioffe & Szegedy 2015.
    """
    tensor = _floating(as_tensor(x))
    if tensor.ndim < 2:
        raise ShapeError(f"batch_norm: x must be (n, c) or (n, c, ...), got x.shape={tensor.shape}.")
    channels = tensor.shape[1]
    count = tensor.size // channels if channels else 0
    momentum, eps = _check.number("batch_norm", "momentum", momentum, 0, 1), _check.number("batch_norm", "eps", eps, 0)
    scale = _of_each("batch_norm", "weight", np.ones(channels, tensor.dtype) if weight is None else weight, tensor, (channels,))
    shift = _of_each("batch_norm", "bias", np.zeros(channels, tensor.dtype) if bias is None else bias, tensor, (channels,))
    for name, running in (("running_mean", running_mean), ("running_var", running_var)):
        if running is not None and not (
            isinstance(running, np.ndarray) and running.dtype.kind == "f" and running.flags.writeable
        ):
            raise DtypeError(f"batch_norm: {name} must be an array of floats that can be written, got {running!r:.80}.")
        if running is not None and running.shape != (channels,):
            raise ShapeError(f"batch_norm: {name} must have shape ({channels},), got {running.shape}.")
    if (running_mean is None) != (running_var is None):
        missing = "running_mean" if running_mean is None else "running_var"
        raise ShapeError(f"batch_norm: running_mean and running_var go together, got no {missing}; give both or neither.")
    if _check.flag("batch_norm", "training", training):
        if count < 2:
            raise ShapeError(
                f"batch_norm: training needs more than one value a channel, got x.shape={tensor.shape}; use a larger batch."
            )

        def remember(mean: Array, variance: Array) -> None:
            if running_mean is not None and running_var is not None:
                for running, seen in ((running_mean, mean.real), (running_var, variance.real * (count / (count - 1)))):
                    running += momentum * (seen - running)

        return _apply_wanted(norm_rules.batch_norm, tensor, scale, shift, eps=eps, seen=remember)
    if running_mean is None or running_var is None:
        raise ShapeError("batch_norm: needs running_mean and running_var unless training=True, got None.")
    real = tensor.data.real.dtype
    per_channel = (channels, *(1,) * (tensor.ndim - 2))
    scale = scale * (1 / np.sqrt(running_var.astype(np.float64) + eps)).astype(real)  # float16 may not hold the variance
    centred = tensor - running_mean.astype(real).reshape(per_channel)
    return centred * scale.reshape(per_channel) + shift.reshape(per_channel)


def _of_each(function: str, name: str, value: Data, x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Give a weight or bias, or refuse one that does not go with x."""
    tensor = as_tensor(value)
    _check.same_dtype(function, f"x {name}", x.data, tensor.data)
    if tensor.shape != shape:
        raise ShapeError(f"{function}: {name} must have shape {shape}, got {tensor.shape}; reshape it.")
    return tensor


# -- scores, probabilities, losses -------------------------------------------------------------------------------------


def softmax(x: Data, dim: int) -> Tensor:
    """e^x / sum(e^x) along `dim`: probabilities. Safe for scores of any finite size."""
    return as_tensor(x).softmax(dim)


def log_softmax(x: Data, dim: int) -> Tensor:
    """X - log(sum(e^x)) along `dim`: log-probabilities. Safe for scores of any finite size."""
    return as_tensor(x).log_softmax(dim)


def nll_loss(log_probs: Data, targets: Data, reduction: str = "mean") -> Tensor:
    """Minus the log-probability of the target class.

    Parameters
    ----------
    log_probs : (n, c) or (n, c, ...), floating
    targets : (n,) or (n, ...), integer class indices in [0, c)
    reduction : "mean", "sum" or "none"

    Returns
    -------
    Tensor, one number, or (n, ...) for "none"

    Raises
    ------
    ShapeError : shapes that do not fit, an index out of range, the mean of an empty batch.
    DtypeError : targets are not integers.
    """
    scores = _floating(as_tensor(log_probs))
    return _apply(softmax_rules.nll_loss, scores, targets=_targets(targets, scores), reduction=reduction)


def cross_entropy(logits: Data, targets: Data, reduction: str = "mean", label_smoothing: float = 0.0) -> Tensor:
    """nll_loss of log_softmax: the loss for classification from raw scores.

    Parameters
    ----------
    logits : (n, c) or (n, c, ...), floating
    targets : (n,) or (n, ...), integer class indices in [0, c)
    reduction : "mean", "sum" or "none"
    label_smoothing : float in [0, 1], default 0
        This part of the wanted probability is spread evenly over all classes. Source: Szegedy et al. 2016, section 7.

    Returns
    -------
    Tensor, one number, or (n, ...) for "none"

    Raises
    ------
    ShapeError, DtypeError : as for nll_loss.

    Examples
    --------
    >>> cross_entropy([[1000.0, 0.0]], np.array([1]))
    Tensor(1000.)
    """
    scores = _floating(as_tensor(logits))
    return _apply(
        softmax_rules.cross_entropy,
        scores,
        targets=_targets(targets, scores),
        reduction=reduction,
        label_smoothing=label_smoothing,
    )


def mse_loss(x: Data, targets: Data, reduction: str = "mean") -> Tensor:
    """Squared difference of two tensors of one shape; `reduction` is "mean", "sum" or "none"."""
    a, b = _pair_of(x, targets)
    if a.shape != b.shape:
        raise ShapeError(f"mse_loss: x and targets must have one shape, got {a.shape} and {b.shape}; nothing is broadcast.")
    _check.reduction("mse_loss", reduction)
    a, b = _both_floating(a, b)
    difference: Tensor = a - b
    squares = difference * difference
    return squares.mean() if reduction == "mean" else squares.sum() if reduction == "sum" else squares


def _with_bias(x: Data, weight: Data, bias: Data | None) -> tuple[Tensor, ...]:
    if bias is None:
        return as_tensor(x), as_tensor(weight)
    return as_tensor(x), as_tensor(weight), as_tensor(bias)


def _holds(dtype: np.dtype[Any], number: float) -> bool:
    """Whether a number is one of an integer dtype, or a truth value."""
    low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return number == int(number) and low <= number <= high


def _pair_of(x: Any, other: Any) -> tuple[Tensor, Tensor]:
    """Two operands as Tensors: as for an operator, and a list of numbers takes the dtype of floats beside it, too."""

    def operand(value: Any, beside: Any) -> Any:
        if isinstance(value, (list, tuple)) and isinstance(beside, (Tensor, np.ndarray)) and beside.dtype.kind in "fc":
            return _to_array(value, beside.dtype)
        return value if _is_operand(value) else as_tensor(value)

    return _operands(operand(x, other), operand(other, x))


def _targets(targets: Any, scores: Tensor) -> Array:
    if isinstance(targets, (list, tuple, int)):
        return _check.array("loss", "targets", targets)
    return _kept(targets, as_tensor(targets).data, scores)


def _parts(function: str, tensors: Sequence[Data]) -> list[Tensor]:
    parts = [as_tensor(t) for t in tensors] if isinstance(tensors, (list, tuple)) else []
    if not parts:
        raise ShapeError(f"{function}: needs a list of at least one tensor, got {tensors!r}.")
    dtypes = {part.dtype for part in parts}
    if len(dtypes) > 1:
        wider = np.result_type(*({d for d in dtypes if d.kind in "fc"} or dtypes))  # integers take the floats' dtype
        parts = [part.to(wider) for part in parts]
    return parts


if not TYPE_CHECKING:  # a type checker would take it for a promise
    __getattr__ = attributes_of(__name__)
