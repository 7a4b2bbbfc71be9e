"""The project's own ops and layers as a table: every public rule, function and layer with a gradient is in it.

This file is long because a table is read in one piece.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tinygrad_lite.functional as F
from tinygrad_lite import nn
from tinygrad_lite.fuzz.specs import OpSpec
from tinygrad_lite.fuzz.strategies import (
    Arguments,
    Strategy,
    broadcast,
    conv,
    indexed,
    matmul,
    pooled,
    reduced,
    tensors,
)  # fmt: skip
from tinygrad_lite.ops import activation, norm, pool, reduction, shape, softmax
from tinygrad_lite.ops import conv as conv_ops
from tinygrad_lite.ops import elementwise as ew
from tinygrad_lite.ops import matmul as matmul_ops

FLOATS = st.sampled_from((np.float64, np.float64, np.float64, np.float32))


def _one(**options: Any) -> Strategy[Arguments]:
    return broadcast(1, dtype=FLOATS, **options)


def _two(**options: Any) -> Strategy[Arguments]:
    """Two arrays that broadcast, of one dtype or of both."""
    mixed = broadcast(2, **options).map(lambda drawn: ((drawn[0][0], drawn[0][1].astype(np.float32)), drawn[1]))
    return st.one_of(*(broadcast(2, dtype=kind, **options) for kind in (np.float64, np.float64, np.float32)), mixed)


def _any_dtype(inputs: Strategy[Arguments]) -> Strategy[Arguments]:
    """The same arguments, some of them with all arrays in float32."""

    def cast(drawn: tuple[Arguments, Any]) -> Arguments:
        (args, kwargs), dtype = drawn
        return tuple(a.astype(dtype) for a in args), kwargs

    return st.tuples(inputs, FLOATS).map(cast)


def _given(**kwargs: Any) -> Strategy[dict[str, Any]]:
    return st.fixed_dictionaries({k: v if isinstance(v, Strategy) else st.just(v) for k, v in kwargs.items()})


def _axes(min_side: int = 0, min_dims: int = 0) -> Strategy[Arguments]:
    """An array and `axes` as the reduction rules want them: a sorted tuple of axes counted from the front."""

    def normal(arguments: Arguments) -> Arguments:
        (x,), kwargs = arguments
        axes = kwargs["axes"]
        several = range(x.ndim) if axes is None else axes if isinstance(axes, tuple) else (axes,)
        return (x,), {**kwargs, "axes": tuple(sorted(a % x.ndim for a in several))}

    return reduced(axis="axes", min_side=min_side, min_dims=min_dims, dtype=FLOATS).map(normal)


@st.composite
def _spread(draw: st.DrawFn, /) -> Arguments:
    """Arguments of var and std: enough elements in each group."""
    args, kwargs = draw(_axes(min_side=2, min_dims=1).filter(lambda arguments: len(arguments[1]["axes"]) > 0))
    return args, {**kwargs, "correction": draw(st.integers(0, 1))}


@st.composite
def _one_axis(draw: st.DrawFn, /, **options: Any) -> Arguments:
    x = draw(tensors(hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4), dtype=FLOATS))
    return (x,), {"axis": draw(st.integers(0, x.ndim - 1)), **options}


@st.composite
def _classes(draw: st.DrawFn, /) -> Arguments:
    """Scores (n, c) or (n, c, h), class indices, and the options of the losses."""
    sides = draw(st.lists(st.integers(1, 4), min_size=2, max_size=3))
    x = draw(tensors(tuple(sides), dtype=FLOATS))
    targets = draw(hnp.arrays(np.int64, (sides[0], *sides[2:]), elements=st.integers(0, sides[1] - 1)))
    reduction, smoothing = draw(st.sampled_from(("mean", "sum", "none"))), draw(st.sampled_from((0.0, 0.1)))
    return (x,), {"targets": targets, "reduction": reduction, "label_smoothing": smoothing}


@st.composite
def _moved(draw: st.DrawFn, /, kind: str) -> Arguments:
    """Arguments of the rules that move elements."""
    size = draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
    x = draw(tensors(size, dtype=FLOATS))
    if kind == "reshape":
        return (x,), {"shape": tuple(draw(st.permutations(size)))}
    if kind == "permute":
        return (x,), {"dims": tuple(draw(st.permutations(range(x.ndim))))}
    if kind == "expand":
        wide = tuple(draw(st.integers(0, 3)) if side == 1 else side for side in size)
        return (x,), {"shape": (*draw(st.lists(st.integers(1, 2), max_size=2)), *wide)}
    widths = tuple((draw(st.integers(-(n // 2), 2)), draw(st.integers(-(n // 2), 2))) for n in size)
    return (x,), {"widths": widths, "value": draw(st.sampled_from((0.0, 1.5)))}


@st.composite
def _joined(draw: st.DrawFn, /, along: bool) -> Arguments:
    """Several arrays to be joined along an axis, of other sizes there if `along`."""
    size = draw(hnp.array_shapes(min_dims=int(along), max_dims=3, min_side=0, max_side=3))
    axis, count = draw(st.integers(0, len(size) - 1 if along else len(size))), draw(st.integers(1, 3))
    shapes = [(*size[:axis], draw(st.integers(0, 3)), *size[axis + 1 :]) if along else size for _ in range(count)]
    return tuple(draw(tensors(s)) for s in shapes), {"axis": axis}


@st.composite
def _linear(draw: st.DrawFn, /) -> Arguments:
    lead, k, m = (
        draw(hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3)),
        *draw(st.tuples(*[st.integers(1, 3)] * 2)),
    )
    args = [draw(tensors((*lead, k))), draw(tensors((m, k)))]
    return tuple(args + [draw(tensors((m,)))] * draw(st.booleans())), {}


@st.composite
def _channels(draw: st.DrawFn, /) -> Arguments:
    """What a batch normalisation takes."""
    n, c, *rest = draw(hnp.array_shapes(min_dims=2, max_dims=4, min_side=1, max_side=3))
    # A big weight would multiply what rounding leaves of a gradient that is 0 by cancellation, as that of a constant is.
    weight = draw(tensors((c,), low=-2.0, high=2.0))
    return (draw(tensors((n, c, *rest))), weight, draw(tensors((c,)))), {"eps": draw(st.sampled_from((1e-5, 0.1)))}


@st.composite
def _last_axes(draw: st.DrawFn, /) -> Arguments:
    """What a layer normalisation takes, over one or two of the last axes."""
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=3))
    sizes = shape[-draw(st.integers(1, min(2, len(shape)))) :]
    weight = draw(tensors(sizes, low=-2.0, high=2.0))  # as in _channels
    return (draw(tensors(shape)), weight, draw(tensors(sizes))), {"eps": draw(st.sampled_from((1e-5, 0.1)))}


@st.composite
def _grouped(draw: st.DrawFn, /) -> Arguments:
    """A convolution with groups."""
    (x, weight, *bias), kwargs = draw(conv())
    groups = draw(st.integers(1, 2))
    return (np.concatenate([x] * groups, 1), np.concatenate([weight] * groups), *(np.tile(b, groups) for b in bias)), {
        **kwargs, "groups": groups,
    }  # fmt: skip


@st.composite
def _conditions(draw: st.DrawFn, /) -> Arguments:
    shapes = draw(hnp.mutually_broadcastable_shapes(num_shapes=3, max_dims=2, min_side=0, max_side=3)).input_shapes
    args = tuple(draw(tensors(s)) for s in shapes[:2])
    return args, {"condition": draw(hnp.arrays(np.bool_, shapes[2]))}


def naive_conv2d(x: Any, weight: Any, bias: Any = None, *, stride: Any, padding: Any, dilation: Any, groups: int = 1) -> Any:
    """Cross-correlation in loops, after its definition."""
    x = np.pad(x, ((0, 0), (0, 0), *((p, p) for p in padding)))
    (n, _, h, w), (c_out, c_group, kh, kw) = x.shape, weight.shape
    rows = range(0, h - dilation[0] * (kh - 1), stride[0])
    columns = range(0, w - dilation[1] * (kw - 1), stride[1])
    out = np.zeros((n, c_out, len(rows), len(columns)), x.dtype)
    for o, i, r in np.ndindex(c_out, len(rows), len(columns)):
        first = o // (c_out // groups) * c_group
        patch = x[:, first : first + c_group, rows[i] :: dilation[0], columns[r] :: dilation[1]][..., :kh, :kw]
        out[:, o, i, r] = (patch * weight[o]).sum((1, 2, 3)) + (0 if bias is None else bias[o])
    return out


def naive_pool(
    x: Any, reduce: Callable[..., Any], fill: float, *, kernel_size: Any, stride: Any, padding: Any, dilation: Any = (1, 1)
) -> Any:
    """Pooling in loops; `reduce` makes one number of a window."""
    x = np.pad(x, ((0, 0), (0, 0), *((p, p) for p in padding)), constant_values=fill)
    spans = [d * (k - 1) + 1 for d, k in zip(dilation, kernel_size, strict=True)]
    rows, columns = (range(0, x.shape[2 + a] - spans[a] + 1, stride[a]) for a in (0, 1))
    out = np.zeros((*x.shape[:2], len(rows), len(columns)), x.dtype)
    for i, j in np.ndindex(*out.shape[2:]):
        window = x[:, :, rows[i] : rows[i] + spans[0] : dilation[0], columns[j] : columns[j] + spans[1] : dilation[1]]
        out[:, :, i, j] = reduce(window, axis=(2, 3))
    return out


def _mean_inside(x: Any, **kwargs: Any) -> Any:
    counted = kwargs.pop("count_include_pad")
    return naive_pool(x, np.mean if counted else np.nanmean, 0.0 if counted else np.nan, **kwargs)


def _batch_norm(x: Any, weight: Any, bias: Any, eps: float) -> Any:
    flat = np.moveaxis(x, 1, -1).reshape(-1, x.shape[1])  # a row for each pixel
    unit = (flat - flat.mean(0)) / np.sqrt(flat.var(0) + eps)
    return np.moveaxis((unit * weight + bias).reshape(*np.moveaxis(x, 1, -1).shape), -1, 1)


def _layer_norm(x: Any, weight: Any, bias: Any, eps: float) -> Any:
    axes = tuple(range(-weight.ndim, 0))
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps) * weight + bias


def _reduce(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, axes, keepdim, **more: function(x, axis=axes, keepdims=keepdim, **more)


def _erfc(x: Any) -> Any:
    return np.vectorize(math.erfc, otypes=[np.float64])(x)


def _nll(x: Any, targets: Any, reduction: str, label_smoothing: float = 0.0) -> Any:
    one_hot = np.moveaxis(np.eye(x.shape[1])[targets], -1, 1) * (1 - label_smoothing) + label_smoothing / x.shape[1]
    losses = -(one_hot * x).sum(1)
    return losses if reduction == "none" else losses.mean() if reduction == "mean" else losses.sum()


def _log_softmax(x: Any, axis: int) -> Any:
    shifted = x - x.max(axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis, keepdims=True))


SPECS: tuple[OpSpec, ...] = (
    OpSpec("elementwise.add", ew.add, _two(), np.add),
    OpSpec("elementwise.sub", ew.sub, _two(), np.subtract),
    OpSpec("elementwise.mul", ew.mul, _two(), np.multiply),
    OpSpec("elementwise.div", ew.div, _two(), np.divide),
    OpSpec("elementwise.pow", ew.pow, _two(low=0.0, high=20.0), np.power),
    OpSpec("elementwise.pow integer", ew.pow, st.tuples(tensors(), st.sampled_from((-5.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 6.0)).map(np.array)), np.power, wrt=(0,)),
    OpSpec("elementwise.neg", ew.neg, _one(), np.negative),
    OpSpec("elementwise.exp", ew.exp, _one(), np.exp),
    OpSpec("elementwise.log", ew.log, _one(low=0.0), np.log),
    OpSpec("elementwise.sin", ew.sin, _one(), np.sin),
    OpSpec("elementwise.cos", ew.cos, _one(), np.cos),
    OpSpec("elementwise.sqrt", ew.sqrt, _one(low=0.0), np.sqrt),
    OpSpec("elementwise.abs", ew.abs, _one(), np.abs),
    OpSpec("activation.sigmoid", activation.sigmoid, _one(), lambda x: np.exp(-np.logaddexp(0, -x))),
    OpSpec("activation.tanh", activation.tanh, _one(), np.tanh),
    OpSpec("activation.relu", activation.relu, _one(), lambda x: x * (x > 0)),
    OpSpec("activation.leaky_relu", activation.leaky_relu, broadcast(1, kwargs=_given(negative_slope=st.sampled_from((0.01, 0.3)))),
           lambda x, negative_slope: np.where(x > 0, x, negative_slope * x)),
    OpSpec("activation.elu", activation.elu, broadcast(1, kwargs=_given(alpha=st.sampled_from((1.0, 0.5)))),
           lambda x, alpha: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))),
    OpSpec("activation.silu", activation.silu, _one(), lambda x: (x / (1 + np.exp(-x.astype(np.longdouble)))).astype(np.float64)),
    OpSpec("activation.softplus", activation.softplus, broadcast(1, kwargs=_given(beta=st.sampled_from((1.0, 2.5)))),
           lambda x, beta: np.logaddexp(0, beta * x) / beta),
    OpSpec("activation.gelu", activation.gelu, _one(), lambda x: x * 0.5 * _erfc(-x / math.sqrt(2))),
    OpSpec("activation.gelu tanh", activation.gelu, broadcast(1, kwargs=_given(approximate="tanh")),
           lambda x, approximate: x * np.exp(-np.logaddexp(0, -math.sqrt(8 / math.pi) * (x + 0.044715 * x**3)))),
    OpSpec("elementwise.clip", ew.clip,
           broadcast(1, kwargs=_given(min=st.sampled_from((None, -1.0, 0.0)), max=st.sampled_from((None, 0.5, 2.0)))),
           lambda x, min, max: x if min is None and max is None else np.clip(x, min, max)),
    OpSpec("elementwise.maximum", ew.maximum, _two(), np.maximum),
    OpSpec("elementwise.minimum", ew.minimum, _two(), np.minimum),
    OpSpec("elementwise.where", ew.where, _any_dtype(_conditions()), lambda a, b, condition: np.where(condition, a, b)),
    OpSpec("elementwise.cast", ew.cast, broadcast(1, dtype=np.float32, kwargs=_given(dtype=np.dtype(np.float64))),
           lambda x, dtype: x.astype(dtype)),
    OpSpec("reduction.sum", reduction.sum, _axes(), _reduce(np.sum)),
    OpSpec("reduction.mean", reduction.mean, _axes(min_side=1), _reduce(np.mean)),
    OpSpec("reduction.var", reduction.var, _spread(),
           lambda x, axes, keepdim, correction: np.var(x, axis=axes, keepdims=keepdim, ddof=correction)),
    OpSpec("reduction.std", reduction.std, _spread(),
           lambda x, axes, keepdim, correction: np.std(x, axis=axes, keepdims=keepdim, ddof=correction)),
    OpSpec("reduction.norm", reduction.norm, _axes(), lambda x, axes, keepdim: np.sqrt((x * x).sum(axis=axes, keepdims=keepdim))),
    OpSpec("reduction.max", reduction.max, _axes(min_side=1), _reduce(np.max)),
    OpSpec("reduction.min", reduction.min, _axes(min_side=1), _reduce(np.min)),
    OpSpec("reduction.prod", reduction.prod, _axes(), _reduce(np.prod)),
    OpSpec("shape.reshape", shape.reshape, _moved("reshape"), lambda x, shape: x.reshape(shape)),
    OpSpec("shape.permute", shape.permute, _moved("permute"), lambda x, dims: np.transpose(x, dims)),
    OpSpec("shape.expand", shape.expand, _moved("expand"), lambda x, shape: np.broadcast_to(x, shape)),
    OpSpec("shape.pad", shape.pad, _moved("pad")),
    OpSpec("shape.cat", shape.cat, _any_dtype(_joined(True)), lambda *arrays, axis: np.concatenate(arrays, axis)),
    OpSpec("shape.stack", shape.stack, _any_dtype(_joined(False)), lambda *arrays, axis: np.stack(arrays, axis)),
    OpSpec("shape.index", shape.index, indexed(dtype=FLOATS).map(lambda drawn: ((drawn[0][0],), {"key": drawn[0][1]})), lambda x, key: x[key]),
    OpSpec("matmul.matmul", matmul_ops.matmul, _any_dtype(matmul()), np.matmul),
    OpSpec("matmul.linear", matmul_ops.linear, _any_dtype(_linear()), lambda x, weight, bias=0.0: x @ weight.T + bias),
    OpSpec("conv.conv2d", conv_ops.conv2d, _any_dtype(_grouped()), naive_conv2d),
    OpSpec("pool.max_pool2d", pool.max_pool2d, pooled(dilated=True, dtype=FLOATS), lambda x, **given: naive_pool(x, np.max, -np.inf, **given)),
    OpSpec("pool.avg_pool2d", pool.avg_pool2d,
           st.tuples(pooled(dtype=FLOATS), st.booleans()).map(lambda d: (d[0][0], {**d[0][1], "count_include_pad": d[1]})), _mean_inside),
    OpSpec("norm.layer_norm", norm.layer_norm, _any_dtype(_last_axes()), _layer_norm),
    OpSpec("norm.batch_norm", norm.batch_norm, _any_dtype(_channels()), _batch_norm),
    OpSpec("softmax.logsumexp", softmax.logsumexp, _axes(), _reduce(np.logaddexp.reduce)),
    OpSpec("softmax.softmax", softmax.softmax, _one_axis(), lambda x, axis: np.exp(_log_softmax(x, axis))),
    OpSpec("softmax.log_softmax", softmax.log_softmax, _one_axis(), _log_softmax),
    OpSpec("softmax.nll_loss", softmax.nll_loss, _classes(), _nll),
    OpSpec("softmax.cross_entropy", softmax.cross_entropy, _classes(),
           lambda x, **given: _nll(_log_softmax(x, 1), **given)),
    # Functions of Tensors that are made of several rules
    OpSpec("functional.mse_loss", F.mse_loss, st.sampled_from(("mean", "sum", "none")).flatmap(
        lambda how: tensors(hnp.array_shapes(max_dims=2, max_side=3)).map(lambda x: ((x, np.roll(x, 1) + 0.5), {"reduction": how})))),
    OpSpec("functional.layer_norm", F.layer_norm, st.tuples(*[tensors((3,))] * 2, tensors((2, 3))).map(
        lambda d: ((d[2], (3,), d[0], d[1]), {}))),
    OpSpec("functional.batch_norm", F.batch_norm, st.tuples(tensors((3, 2, 2)), tensors((2,)), tensors((2,))).map(
        lambda d: ((d[0], None, None, d[1], d[2]), {"training": True}))),
    OpSpec("functional.dropout", F.dropout, tensors().map(lambda x: ((x,), {"p": 0.4, "rng": np.random.default_rng(1)}))),
    OpSpec("functional.flatten", F.flatten, tensors(hnp.array_shapes(max_dims=3, max_side=3)), lambda x: x.ravel()),
    OpSpec("functional.squeeze", F.squeeze, tensors(), np.squeeze),
    OpSpec("functional.unsqueeze", F.unsqueeze, tensors().map(lambda x: ((x, -1), {})), np.expand_dims),
    OpSpec("functional.transpose", F.transpose, tensors((2, 3, 2)).map(lambda x: ((x, 0, -1), {})), np.swapaxes),
)  # fmt: skip


def _layer(name: str, make: Callable[[np.random.Generator], nn.Module], inputs: Strategy[Any]) -> OpSpec:
    return OpSpec(f"nn.{name}", make(np.random.default_rng(0)), inputs)


def _f32(*size: int) -> Strategy[Any]:
    return tensors(size, dtype=np.float32)


IMAGES = _f32(2, 2, 4, 5)
LAYERS: tuple[OpSpec, ...] = (
    _layer("Linear", lambda rng: nn.Linear(3, 2, rng=rng), _f32(2, 3)),
    _layer("Conv2d", lambda rng: nn.Conv2d(2, 3, (2, 3), stride=(1, 2), padding=1, rng=rng), IMAGES),
    _layer("MaxPool2d", lambda rng: nn.MaxPool2d((2, 3), stride=(1, 2)), IMAGES),
    _layer("AvgPool2d", lambda rng: nn.AvgPool2d(2, padding=1, count_include_pad=False), IMAGES),
    _layer("Dropout", lambda rng: nn.Dropout(0.3, rng=rng), _f32(2, 3)),
    _layer("BatchNorm1d", lambda rng: nn.BatchNorm1d(2), _f32(3, 2)),
    _layer("BatchNorm2d", lambda rng: nn.BatchNorm2d(2), _f32(2, 2, 2, 2)),
    _layer("BatchNorm2d eval", lambda rng: nn.BatchNorm2d(2).eval(), _f32(2, 2, 2, 2)),
    _layer("LayerNorm", lambda rng: nn.LayerNorm((3,)), _f32(2, 3)),
    _layer("Flatten", lambda rng: nn.Flatten(), IMAGES),
    _layer("Identity", lambda rng: nn.Identity(), _f32(2)),
    *(OpSpec(f"nn.{name}", getattr(nn, name)(), _f32(2, 3))
      for name in ("ReLU", "LeakyReLU", "ELU", "GELU", "SiLU", "Sigmoid", "Tanh", "Softplus")),
    _layer("CrossEntropyLoss", lambda rng: nn.CrossEntropyLoss(label_smoothing=0.1),
           _f32(3, 4).map(lambda x: ((x, np.array([0, 3, 3])), {}))),
    _layer("MSELoss", lambda rng: nn.MSELoss(), st.tuples(_f32(2, 3), _f32(2, 3))),
    _layer("Sequential", lambda rng: nn.Sequential(nn.Linear(3, 4, rng=rng), nn.Tanh(), nn.Linear(4, 2, rng=rng)), _f32(2, 3)),
)  # fmt: skip
