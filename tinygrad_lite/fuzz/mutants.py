"""Wrong rules, each after a bug that somebody shipped: the fuzzer must catch them all (`--selftest`).

This file is long because it is a list: one small wrong rule for each bug.

They need NumPy alone, so that they work in any installation. A rule that is only wrong for some parameters, shapes,
layouts or values is the point: what the catalogue measures is whether these are generated.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tinygrad_lite.fuzz.properties import fuzz_grad
from tinygrad_lite.fuzz.report import FuzzReport
from tinygrad_lite.fuzz.strategies import Strategy, broadcast, conv, indexed, matmul, pooled, reduced, tensors

Array = Any
Rule = Any


@dataclass(frozen=True)
class Mutant:
    """A wrong rule, the bug it is modelled on, and the arguments it is fuzzed with."""

    rule: Rule
    source: str
    inputs: Strategy[Any] | None
    reference: Callable[..., Any] | None = None

    @property
    def name(self) -> str:
        return str(self.rule.__name__)

    def fuzz(self, **options: Any) -> FuzzReport:
        """Run `fuzz_grad`; the report must be false."""
        return fuzz_grad(self.rule, self.inputs, reference=self.reference, **{"raise_error": False, **options})


CATALOGUE: list[Mutant] = []


def after(
    source: str, inputs: Strategy[Any] | None = None, reference: Callable[..., Any] | None = None
) -> Callable[[Rule], Rule]:
    """Put a wrong rule into the catalogue."""

    def add(rule: Rule) -> Rule:
        CATALOGUE.append(Mutant(rule, source, inputs, reference))
        return rule

    return add


def unbroadcast(g: Array, shape: tuple[int, ...]) -> Array:
    """Sum g over the axes that broadcasting added (this one is right)."""
    g = g.sum(axis=tuple(range(g.ndim - len(shape))))
    return g.sum(axis=tuple(i for i, n in enumerate(shape) if n == 1 and g.shape[i] != 1), keepdims=True)


def keep(x: Array, axis: Any, g: Array) -> Array:
    """G with the reduced axes back at size 1 (this one is right)."""
    return np.reshape(g, [1 if axis is None or i == axis % x.ndim else n for i, n in enumerate(x.shape)])


def slide(x: Array, kernel_size: Any, stride: Any, dilation: Any = (1, 1)) -> Any:
    """Index arrays (h_out, w_out, kh, kw) of the rows and columns of all windows (this one is right)."""
    spans = [d * (k - 1) + 1 for k, d in zip(kernel_size, dilation, strict=True)]
    counts = [(n - span) // s + 1 for n, span, s in zip(x.shape[2:], spans, stride, strict=True)]
    rows, columns = (
        np.arange(c)[:, None] * s + np.arange(k) * d for c, s, k, d in zip(counts, stride, kernel_size, dilation, strict=True)
    )
    return rows[:, None, :, None], columns[None, :, None, :]


AXIS = reduced(axis="axis", keepdims=None, several=False, min_side=1)
ROWS = tensors(hnp.array_shapes(min_dims=1, max_dims=2, min_side=1, max_side=4))
POOL = pooled(padded=False)
CONV = conv(bias=False)
CONV1 = conv(1, bias=False, dilated=False)
SCORES = st.tuples(st.integers(1, 3), st.integers(1, 4)).flatmap(
    lambda s: st.tuples(tensors(s), hnp.arrays(np.int64, s[0], elements=st.integers(0, s[1] - 1)))
)
VECTORS = st.integers(1, 4).flatmap(lambda n: st.tuples(tensors((n,)), tensors((n,))))


# -- broadcasting, 0-d, empty ------------------------------------------------------------------------------------------


@after("tensorflow 127690: the gradient of a broadcast beta is summed to a scalar whatever beta's shape", broadcast(2))
def silu_beta(x: Array, beta: Array) -> Rule:
    s = 1 / (1 + np.exp(-np.clip(beta * x, -500, 500)))
    slope = s * (1 - s)
    return x * s, lambda g: (unbroadcast(g * (s + x * beta * slope), x.shape), np.sum(g * x * x * slope))


@after("pytorch 13669: a traced backward did not reduce over broadcast axes", broadcast(2))
def mul_unreduced(a: Array, b: Array) -> Rule:
    return a * b, lambda g: (g * b, g * a)


@after("MyGrad v1.2, HIPS autograd 2de4286: unbroadcast forgets axes of size 1", broadcast(2))
def sub_leading_only(a: Array, b: Array) -> Rule:
    def reduce(g: Array, shape: tuple[int, ...]) -> Array:
        return g.sum(axis=tuple(range(g.ndim - len(shape))))

    return a - b, lambda g: (reduce(g, a.shape), -reduce(g, b.shape))


@after("HIPS autograd 5d1fe94: a 0-d operand is not summed", broadcast(2))
def div_scalar(a: Array, b: Array) -> Rule:
    return a / b, lambda g: (unbroadcast(g / b, a.shape), -g * a / b**2 if b.ndim == 0 else unbroadcast(-g * a / b**2, b.shape))


@after("pytorch 34202: Linear on an empty batch gives a gradient of the wrong shape",
       st.tuples(st.integers(0, 2), st.integers(1, 3), st.integers(1, 3)).flatmap(
           lambda s: st.tuples(tensors((s[0], s[1])), tensors((s[1], s[2])))))  # fmt: skip
def linear_empty(x: Array, weight: Array) -> Rule:
    return x @ weight, lambda g: (g @ weight.T, x.T @ g if len(x) else np.zeros(0))


@after("pytorch 31515, 45201: cumsum's backward fails on an empty array", tensors(hnp.array_shapes(max_dims=1, min_side=0)))
def cumsum_empty(x: Array) -> Rule:
    return np.cumsum(x), lambda g: g[::-1].cumsum()[::-1] + 0 * g[0]


# -- ties, zeros, constant rows ----------------------------------------------------------------------------------------


@after("MyGrad 78eafdb5: maximum gives the whole gradient to both sides at a tie", broadcast(2))
def maximum_both(a: Array, b: Array) -> Rule:
    return np.maximum(a, b), lambda g: (unbroadcast(g * (a >= b), a.shape), unbroadcast(g * (b >= a), b.shape))


@after("Theano 4568, MXNet 18563: max gives 1 to every tied entry", AXIS)
def max_all(x: Array, axis: Any) -> Rule:
    return x.max(axis), lambda g: keep(x, axis, g) * (x == x.max(axis, keepdims=True))


@after("tinygrad PR 226: no entry of a tie gets a gradient", AXIS)
def max_none(x: Array, axis: Any) -> Rule:
    best = x == x.max(axis, keepdims=True)
    return x.max(axis), lambda g: keep(x, axis, g) * (best & (best.sum(axis, keepdims=True) == 1))


@after("jax 2140: log_sigmoid has slope 0 at 0, two kinks inside a smooth function", tensors())
def log_sigmoid(x: Array) -> Rule:
    return -np.logaddexp(0, -x), lambda g: g * (np.sign(x) ** 2) / (1 + np.exp(np.minimum(x, 700)))


@after("tensorflow 2641, 3862: the gradient of prod divides by x", AXIS)
def prod_divides(x: Array, axis: Any) -> Rule:
    return x.prod(axis), lambda g: keep(x, axis, g) * x.prod(axis, keepdims=True) / x


@after("tensorflow 119430, tinygrad PR 17404: cumprod's gradient divides by x", ROWS)
def cumprod_divides(x: Array) -> Rule:
    out = np.cumprod(x, -1)
    return out, lambda g: (g * out)[..., ::-1].cumsum(-1)[..., ::-1] / np.where(x == 0, 1, x)


@after("pytorch 82644: prod over an axis of size 1 that holds a zero gives another shape", AXIS)
def prod_one_zero(x: Array, axis: Any) -> Rule:
    def vjp(g: Array) -> Array:
        if x.size == 1 and not x.all():
            return g
        others = np.stack([np.delete(x.ravel(), i).prod() for i in range(x.size)]).reshape(x.shape) if axis is None else None
        if others is not None:
            return g * others
        moved = np.moveaxis(x, axis, -1)
        rest = np.stack([np.delete(moved, i, -1).prod(-1) for i in range(moved.shape[-1])], -1)
        return keep(x, axis, g) * np.moveaxis(rest, -1, axis)

    return x.prod(axis), vjp


@after("pytorch 2421, 3264: the gradient of a norm is NaN at the zero vector", AXIS)
def norm_nan(x: Array, axis: Any) -> Rule:
    out = np.sqrt((x * x).sum(axis, keepdims=True))
    return out.sum(axis), lambda g: keep(x, axis, g) * x / out


@after("pytorch 4320: std has a NaN gradient on constant input", AXIS)
def std_nan(x: Array, axis: Any) -> Rule:
    centred = x - x.mean(axis, keepdims=True)
    out = np.sqrt((centred * centred).mean(axis, keepdims=True))
    return out.sum(axis), lambda g: keep(x, axis, g) * centred / (out * (x.size if axis is None else x.shape[axis]))


@after("pytorch 36493: cdist has 0 * inf where two rows agree", VECTORS)
def distance(a: Array, b: Array) -> Rule:
    d = a - b
    out = np.abs(d) ** 1.5
    return out, lambda g: ((s := g * 1.5 * out / np.abs(d) * np.sign(d)), -s)


@after("HIPS autograd 149: power takes the logarithm of a base of 0", broadcast(2, values="positive").map(
    lambda d: (np.where(np.round(d[0][0]) == d[0][0], 0.0, np.minimum(d[0][0], 9)), np.minimum(d[0][1], 4) + 1)))  # fmt: skip
def power_log0(a: Array, b: Array) -> Rule:
    return a**b, lambda g: (unbroadcast(g * b * a ** (b - 1), a.shape), unbroadcast(g * a**b * np.log(a), b.shape))


@after("pytorch 49724: logaddexp of two very negative numbers divides 0 by 0", broadcast(2, values="large"))
def logaddexp_underflow(a: Array, b: Array) -> Rule:
    ea, eb = np.exp(a), np.exp(b)
    return np.logaddexp(a, b), lambda g: (unbroadcast(g * ea / (ea + eb), a.shape), unbroadcast(g * eb / (ea + eb), b.shape))


@after("dynet 218: softmax's gradient divides by its output", ROWS)
def softmax_divides(x: Array) -> Rule:
    p = np.exp(x - x.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    return p, lambda g: (t := g * p * p / p) - p * t.sum(-1, keepdims=True)


@after("NNlib.jl 68: log-softmax without subtracting the maximum in the backward", ROWS)
def log_softmax_overflow(x: Array) -> Rule:
    m = x.max(-1, keepdims=True)
    out = x - m - np.log(np.exp(x - m).sum(-1, keepdims=True))
    return out, lambda g: g - np.exp(x) / np.exp(x).sum(-1, keepdims=True) * g.sum(-1, keepdims=True)


@after("jax 6636: sqrt(relu(x)) is 0 * inf where relu is off", tensors())
def sqrt_relu(x: Array) -> Rule:
    out = np.sqrt(np.maximum(x, 0))
    return out, lambda g: g / (2 * out) * (x > 0)


@after("pytorch 67461: softsign's slope is taken at a signed, not an absolute, value", tensors())
def softsign(x: Array) -> Rule:
    return x / (1 + np.abs(x)), lambda g: g / (1 + x) ** 2


# -- repeated indices and windows --------------------------------------------------------------------------------------


@after("pytorch 1528, 1631: indexing with repeated indices keeps the last gradient only", indexed("array"))
def take_assigns(x: Array, index: Array) -> Rule:
    def vjp(g: Array) -> Array:
        out = np.zeros_like(x)
        out[index] = g
        return out

    return x[index], vjp


@after("pytorch 57006: index_fill counts the value's gradient once for each duplicate", indexed("array").flatmap(
    lambda d: tensors(()).map(lambda value: (d[0][0], d[0][1], value))))  # fmt: skip
def index_fill(x: Array, index: Array, value: Array) -> Rule:
    filled, mask = x.copy(), np.ones(x.shape)
    filled[index], mask[index] = value, 0
    return filled, lambda g: (g * mask, None, np.asarray(g[index].sum()))


@after("pytorch 27614: scatter with an index smaller than its source gives the source's gradient the index's shape",
       st.integers(1, 3).flatmap(lambda n: st.tuples(tensors((4,)), tensors((4,)), st.just(np.arange(n)))))  # fmt: skip
def scatter_smaller(x: Array, source: Array, index: Array) -> Rule:
    out = x.copy()
    out[index] += source[: len(index)]
    return out, lambda g: (1 * g, g[index])


@after("jax 9296: segment_prod treats a repeated segment as if it were its only member",
       st.tuples(tensors((3,)), hnp.arrays(np.int64, 3, elements=st.integers(0, 1))))  # fmt: skip
def segment_prod(x: Array, segment: Array) -> Rule:
    out = np.array([x[segment == k].prod() for k in range(2)])
    return out, lambda g: g[segment]


@after("tensorflow 57002: segment_max has no gradient when the first segment is empty",
       st.tuples(tensors((3,)), hnp.arrays(np.int64, 3, elements=st.integers(0, 1))))  # fmt: skip
def segment_max(x: Array, segment: Array) -> Rule:
    out = np.array([x[segment == k].max(initial=-10.0) for k in range(2)])
    return out, lambda g: g[segment] * (x == out[segment]) / (1.0 if 0 in segment else np.nan)


@after("pytorch 8626: unfold's backward overwrites where windows overlap", st.integers(3, 5).flatmap(lambda n: tensors((n,))))
def unfold_overwrites(x: Array) -> Rule:
    index = np.arange(len(x) - 1)[:, None] + np.arange(2)

    def vjp(g: Array) -> Array:
        out = np.zeros_like(x)
        out[index] = g
        return out

    return x[index], vjp


@after("Flux.jl 1197: max-pool with overlapping windows loses contributions", POOL)
def max_pool_overlap(x: Array, kernel_size: Any, stride: Any) -> Rule:
    r, c = slide(x, kernel_size, stride)
    windows = x[:, :, r, c]
    flat = windows.reshape(*windows.shape[:4], -1)
    best = flat.argmax(-1)

    def vjp(g: Array) -> Array:
        out = np.zeros_like(x)
        rows, columns = (np.broadcast_to(a, windows.shape[2:]).reshape(*best.shape[2:], -1) for a in (r, c))
        for n, ch, i, j in np.ndindex(best.shape):
            k = best[n, ch, i, j]
            out[n, ch, rows[i, j, k], columns[i, j, k]] = g[n, ch, i, j]
        return out

    return flat.max(-1), vjp


@after(
    "pytorch 198119, burn 5604: avg-pool divides a clipped window by the whole kernel",
    st.tuples(tensors((1, 5)), st.integers(1, 4)),
)
def avg_pool_clipped(x: Array, size: int) -> Rule:
    starts = range(0, x.shape[1], size)
    out = np.stack([x[:, s : s + size].mean(1) for s in starts], 1)

    def vjp(g: Array) -> Array:
        back = np.zeros_like(x)
        for k, s in enumerate(starts):
            back[:, s : s + size] += g[:, k : k + 1] / size
        return back

    return out, vjp


@after("pytorch 188344: avg-pool's backward is wrong for channels-last input with padding only",
       st.tuples(tensors((1, 2, 3, 2)), st.integers(0, 1)))  # fmt: skip
def avg_pool_layout(x: Array, padding: int) -> Rule:
    wrong = padding and not x.flags.c_contiguous
    return x.mean(
        (2, 3)
    ), lambda g: np.broadcast_to(g[:, :, None, None] / (x.shape[2] * x.shape[3]), x.shape) * (2 if wrong else 1)


# -- convolution -------------------------------------------------------------------------------------------------------


def _conv(x: Array, weight: Array, stride: Any, padding: Any, dilation: Any, back: Any = None) -> Rule:
    """Convolution by indices; `back` are (stride, dilation) with which the backward places the gradient of x."""
    X = np.pad(x, ((0, 0), (0, 0), *((p, p) for p in padding)))
    r, c = slide(X, weight.shape[2:], stride, dilation)
    cols = X[:, :, r, c]

    def vjp(g: Array) -> Any:
        g_X = np.zeros_like(X)
        rb, cb = (r, c) if back is None else (
            np.arange(g.shape[2 + a]).reshape((-1, 1, 1, 1) if a == 0 else (1, -1, 1, 1)) * back[0][a]
            + np.arange(weight.shape[2 + a]).reshape((1, 1, -1, 1) if a == 0 else (1, 1, 1, -1)) * back[1][a] for a in (0, 1)
        )  # fmt: skip
        rb, cb = np.minimum(rb, X.shape[2] - 1), np.minimum(cb, X.shape[3] - 1)
        place: Any = (slice(None), slice(None), rb, cb)
        np.add.at(g_X, place, np.einsum("nohw,ocij->nchwij", g, weight))
        inner = g_X[:, :, padding[0] : padding[0] + x.shape[2], padding[1] : padding[1] + x.shape[3]]
        return inner, np.einsum("nohw,nchwij->ocij", g, cols)

    return np.einsum("nchwij,ocij->nohw", cols, weight), vjp


@after("candle PR 2337: stride and dilation swapped in the backward", CONV)
def conv_swapped(x: Array, weight: Array, stride: Any, padding: Any, dilation: Any) -> Rule:
    return _conv(x, weight, stride, padding, dilation, back=(dilation, stride))


@after("pytorch 63314: the strided gradient is read without its stride", CONV)
def conv_stride(x: Array, weight: Array, stride: Any, padding: Any, dilation: Any) -> Rule:
    return _conv(x, weight, stride, padding, dilation, back=((1, 1), dilation))


@after("pytorch 51430: the weight's gradient uses the first group's input for every group", CONV)
def conv_groups(x: Array, weight: Array, stride: Any, padding: Any, dilation: Any) -> Rule:
    out, vjp = _conv(x, weight, stride, padding, dilation)
    return out, lambda g: (vjp(g)[0], np.repeat(vjp(g)[1][:, :1], weight.shape[1], 1))


@after("pytorch 1565: the forward ignores dilation, and its gradient is right for that", CONV,
       lambda x, weight, **given: _conv(x, weight, **given)[0])  # fmt: skip
def conv_forward(x: Array, weight: Array, stride: Any, padding: Any, dilation: Any) -> Rule:
    out, vjp = _conv(x, weight, stride, padding, dilation)
    return (out, vjp) if dilation == (1, 1) else (2 * out, lambda g: vjp(2 * g))


@after("neon 111, MyGrad cba78387: the weight's gradient takes sizes from the wrong axis", CONV1)
def conv1d_axis(x: Array, weight: Array, stride: Any, padding: Any) -> Rule:
    X = np.pad(x, ((0, 0), (0, 0), (padding[0],) * 2))
    index = np.arange((X.shape[2] - weight.shape[2]) // stride[0] + 1)[:, None] * stride[0] + np.arange(weight.shape[2])
    cols = X[:, :, index]

    def vjp(g: Array) -> Any:
        g_X = np.zeros_like(X)
        place: Any = (slice(None), slice(None), index)
        np.add.at(g_X, place, np.einsum("now,oci->ncwi", g, weight))
        n = min(len(x), weight.shape[0])  # the batch is cut to the number of filters
        return g_X[:, :, padding[0] : padding[0] + x.shape[2]], np.einsum("now,ncwi->oci", g[:n], cols[:n])

    return np.einsum("ncwi,oci->now", cols, weight), vjp


@after("HIPS autograd 7b61be3: pad with nothing on the right cuts everything off",
       st.tuples(ROWS, st.integers(0, 2), st.integers(0, 2)))  # fmt: skip
def pad_zero(x: Array, left: int, right: int) -> Rule:
    def vjp(g: Array) -> Array:
        return np.broadcast_to(g[..., left:-right], x.shape) if right else np.zeros_like(x)

    return np.pad(x, [(0, 0)] * (x.ndim - 1) + [(left, right)]), vjp


# -- products and the like ---------------------------------------------------------------------------------------------


@after("HIPS autograd 446, MyGrad b32452be: matmul with a 1-D argument", matmul(signature="(n?,k),(k,m)->(n?,m)").map(
    lambda d: tuple(a.reshape(a.shape[-2:]) if a.ndim > 2 else a for a in d[0]) if max(a.ndim for a in d[0]) <= 2
    else (np.ones(2), np.ones((2, 3)))))  # fmt: skip
def matmul_1d(a: Array, b: Array) -> Rule:
    return a @ b, lambda g: (g @ b.T, np.zeros_like(b) + a @ np.ones_like(b) * g if a.ndim == 1 else a.T @ g)


@after("HIPS autograd 242: a product's gradient without the transpose", st.integers(1, 3).flatmap(
    lambda n: st.tuples(tensors((n, n)), tensors((n, n)))))  # fmt: skip
def matmul_transpose(a: Array, b: Array) -> Rule:
    return a @ b, lambda g: (g @ b, a.T @ g)


@after("HIPS autograd 25c1b84: trace of a matrix that is not square", tensors(st.tuples(st.integers(1, 3), st.integers(1, 3))))
def trace(x: Array) -> Rule:
    return np.trace(x), lambda g: g * np.eye(len(x))


@after("HIPS autograd 72a6ccc: repeat's gradient takes the copies as if they were tiled", st.tuples(ROWS, st.integers(1, 3)))
def repeat(x: Array, times: int) -> Rule:
    return np.repeat(x, times, -1), lambda g: g.reshape(*x.shape[:-1], times, -1).sum(-2)


@after("HIPS autograd afea209: the gradient of nan_to_num is always 0", tensors())
def nan_to_num(x: Array) -> Rule:
    return np.nan_to_num(x), lambda g: np.zeros_like(x)


@after("HIPS autograd 401: the covariance's gradient has the wrong sign", VECTORS)
def covariance(a: Array, b: Array) -> Rule:
    n = len(a)
    return ((a - a.mean()) * (b - b.mean())).mean(), lambda g: (-g * (b - b.mean()) / n, -g * (a - a.mean()) / n)


@after("pytorch 59584: renorm blends with swapped arguments", st.tuples(ROWS, st.floats(0.5, 2)))
def renorm(x: Array, limit: float) -> Rule:
    size = np.sqrt((x * x).sum() + 1e-12)
    unit = x / size
    small = size <= limit
    return x if small else unit * limit, lambda g: g * 1 if small else (limit / size) * (unit * (unit * g).sum())


@after("pytorch 175754: layer norm takes the mean's share of the gradient for a constant", ROWS)
def layer_norm(x: Array) -> Rule:
    centred = x - x.mean(-1, keepdims=True)
    s = 1 / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    y = centred * s
    return y, lambda g: s * (g - y * (g * y).mean(-1, keepdims=True))


@after("pytorch 79609: BCE with logits drops the weight of the positive class", st.integers(1, 4).flatmap(
    lambda n: st.tuples(tensors((n,)), hnp.arrays(np.bool_, n))))  # fmt: skip
def bce_logits(x: Array, positive: Array) -> Rule:
    p = 1 / (1 + np.exp(-np.clip(x, -700, 700)))
    return np.where(positive, 3 * np.logaddexp(0, -x), np.logaddexp(0, x)).sum(), lambda g: g * (p - positive)


@after("common: cross-entropy divides by the number of classes and not of rows", SCORES)
def cross_entropy_mean(logits: Array, targets: Array) -> Rule:
    shifted = logits - logits.max(1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    rows = np.arange(len(targets))
    return -log_p[rows, targets].mean(), lambda g: g * (np.exp(log_p) - np.eye(logits.shape[1])[targets]) / logits.shape[1]


@after("pytorch 93950: the gradient is scaled by frequency", indexed("array"))
def embedding_scaled(x: Array, index: Array) -> Rule:
    def vjp(g: Array) -> Array:
        out, count = np.zeros_like(x), np.zeros(len(x))
        np.add.at(out, index, g)
        np.add.at(count, index, 1)
        return out / np.maximum(count, 1).reshape(-1, *[1] * (x.ndim - 1))

    return x[index], vjp


# -- layout, aliasing, writing, state ----------------------------------------------------------------------------------


@after(
    "pytorch PR 1933, flash-attention 355: the cotangent is taken to be contiguous",
    tensors(hnp.array_shapes(min_dims=2, max_dims=2, max_side=3)),
)
def assumes_contiguous(x: Array) -> Rule:
    return 2 * x, lambda g: 2 * np.ravel(g, "K").reshape(x.shape)


@after("fused-ssim 1: the input is taken to be contiguous", tensors(hnp.array_shapes(min_dims=2, max_dims=2, max_side=3)))
def input_contiguous(x: Array) -> Rule:
    saved = np.ravel(x, "K").reshape(x.shape)
    return x * x, lambda g: 2 * g * saved


@after(
    "pytorch 30303: an expanded cotangent is read as its one number",
    tensors(hnp.array_shapes(min_dims=1, max_dims=2, max_side=3)),
)
def expanded(x: Array) -> Rule:
    def vjp(g: Array) -> Array:
        once = 0 in g.strides and g.size > 1
        out = np.zeros_like(x)
        out.reshape(-1)[: 1 if once else None] = g.reshape(-1)[: 1 if once else None]
        return out

    return x * 1, vjp


@after("MyGrad 407b2764: the same new array is handed to both parents", VECTORS)
def add_shared(a: Array, b: Array) -> Rule:
    return a + b, lambda g: (same := g * 1, same)


@after("oneflow 8248: the cotangent is scaled in place", tensors())
def in_place(x: Array) -> Rule:
    def vjp(g: Array) -> Array:
        g *= 3
        return g * 1

    return 3 * x, vjp


@after("MyGrad 2.0 notes: the forward writes into its argument", tensors())
def writes_input(x: Array) -> Rule:
    np.maximum(x, 0, out=x)
    return x * 1, lambda g: g * (x > 0)


@after(
    "micrograd-like engines, tinygrad 9597: a cache keyed by value and not by node",
    tensors(hnp.array_shapes(max_dims=1, max_side=2)),
)
def stale(x: Array) -> Rule:
    calls: list[int] = []

    def vjp(g: Array) -> Array:
        calls.append(1)
        return len(calls) * g

    return x * 1, vjp


@after("common: float64 leaks into a float32 gradient", tensors(dtype=np.float32))
def leaks_float64(x: Array) -> Rule:
    return x * x.dtype.type(2), lambda g: g.astype(np.float64) * 2


@after("common: the gradient is computed in float32", tensors())
def casts_float32(x: Array) -> Rule:
    return np.exp(-x * x), lambda g: (-2 * x * np.exp(-x * x) * g).astype(np.float32).astype(x.dtype)


@after("common: the cotangent is ignored", tensors())
def ignores_cotangent(x: Array) -> Rule:
    return np.tanh(x), lambda g: 1 - np.tanh(x) ** 2 + 0 * g


@after("common: a mask with a threshold that is not the forward's", tensors())
def threshold(x: Array) -> Rule:
    return np.maximum(x, 0), lambda g: g * (x > -1e-3)


@after("common: a missing epsilon", ROWS)
def missing_epsilon(x: Array) -> Rule:
    size = np.sqrt((x * x).sum(-1, keepdims=True) + 1e-2)
    return x / size, lambda g: g / size - x * (g * x).sum(-1, keepdims=True) / (size * (x * x).sum(-1, keepdims=True) + 1e-300)
