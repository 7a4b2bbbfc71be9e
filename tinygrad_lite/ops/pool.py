"""Rules for pooling over windows of images (n, c, h, w). They work in whatever memory order the images come in."""

from __future__ import annotations  # those of a vjp would be evaluated at every call

from collections.abc import Callable

import numpy as np

from tinygrad_lite import _check
from tinygrad_lite import _threads as threads
from tinygrad_lite._types import Array, Pair, RuleResult
from tinygrad_lite.ops.elementwise import as_bits
from tinygrad_lite.ops.half import in_single
from tinygrad_lite.ops.windows import Index, grid

Backward = Callable[[Array, Array], Array]


def max_pool2d(
    x: Array,
    *,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    needs: tuple[bool, ...] = (True,),
) -> RuleResult:
    """Rule for the largest element of each window; of equal ones the first, row by row, takes the cotangent.

    The largest of each row of a window first, then the largest of those: two passes with kw and kh steps, not kw * kh.
    Where no gradient is wanted, columns first: the values are equal, though of equal zeros it may be the other one.
    """
    kernel, steps, border = _options("max_pool2d", kernel_size, stride, padding)
    dilation = _check.pair("max_pool2d", "dilation", dilation, 1)
    (h_out, w_out), in_rows, in_columns = grid("max_pool2d", x.shape, x.dtype, kernel, steps, border, dilation)
    X = _bordered(x, border, -np.inf)
    if not needs[0] and X.size < threads.ENOUGH and kernel != (1, 1):  # whose result would be a view of the image
        return _largest(_largest(X, in_rows), in_columns), lambda g: (None,)
    blocks = threads.blocks(X, axes=2)  # of images or of channels
    out = np.empty_like(X, shape=(*X.shape[:2], h_out, w_out))
    if not needs[0]:  # which of equal ones is first does not matter, and down the columns the runs in memory are longer
        threads.run(lambda some: _largest(_largest(X[some], in_rows), in_columns, out[some]), blocks)
        return out, lambda g: (None,)
    inside, shape, order = x.shape, X.shape, _memory_order(X)  # so that vjp keeps neither
    back: dict[int, tuple[Backward, Backward]] = {}

    def forward(i: int) -> None:
        row_max, rows_back = _max_along(X[blocks[i]], 3, in_columns)
        _, columns_back = _max_along(row_max, 2, in_rows, out[blocks[i]])
        back[i] = rows_back, columns_back

    threads.run(forward, range(len(blocks)))

    def vjp(g: Array) -> tuple[Array, ...]:
        g_X = np.empty_like(order, g.dtype, shape=shape)

        def backward(i: int) -> None:
            rows_back, columns_back = back[i]
            some = g_X[blocks[i]]
            rows_back(columns_back(g[blocks[i]], np.empty_like(some[..., :w_out])), some)

        threads.run(backward, range(len(blocks)))
        return (_inside(g_X, border, inside),)

    return out, vjp


def _largest(x: Array, places: tuple[Index, ...], out: Array | None = None, beats: list[Array] | None = None) -> Array:
    """Largest of x[place] over the places. To `beats` goes, for all but the first, where it is larger than those before."""
    best = x[places[0]]
    for place in places[1:]:
        other = x[place]
        if beats is not None:
            beats.append(other > best)
        best = np.maximum(best, other, out=out)
    if out is not None and len(places) == 1:
        out[...] = best
    return best


def _max_along(x: Array, axis: int, places: tuple[Index, ...], out: Array | None = None) -> tuple[Array, Backward]:
    """Largest of x[place] over the places along an axis. The way back writes into its second argument and returns it."""
    later: list[Array] = []  # an equal one does not beat those before, so the first maximum wins
    best = _largest(x, places, out, later)
    size = best.shape[axis]

    def backward(g: Array, g_x: Array) -> Array:
        (_, first, *_), (_, last, *_) = places[0], places[-1]
        apart = len(places) == 1 or (first.step or 1) > last.start  # windows that do not overlap
        if not apart or len(places) * size < g_x.shape[axis]:
            g_x[...] = 0

        def put(place: Index, part: Array) -> None:
            if apart:
                g_x[place] = part
            else:
                g_x[place] += part

        rest = as_bits(g)  # a loser's share is 0, that of an infinite cotangent too
        for place, wins in zip(places[:0:-1], later[::-1], strict=True):  # the last winner is the maximum
            part = wins.astype(rest.dtype)  # in two steps: NumPy is slow at a product of numbers and truth values
            part *= rest
            put(place, part.view(g.dtype))
            rest = np.subtract(rest, part, out=part)
        put(places[0], rest.view(g.dtype))
        return g_x

    return best, backward


@in_single
def avg_pool2d(
    x: Array, *, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0, count_include_pad: bool = True
) -> RuleResult:
    """Rule for the mean of each window; without `count_include_pad`, of its pixels inside the image."""
    kernel, steps, border = _options("avg_pool2d", kernel_size, stride, padding)
    _, in_rows, in_columns = grid("avg_pool2d", x.shape, x.dtype, kernel, steps, border, (1, 1))
    X = _bordered(x, border, 0)
    places = [(..., row, column) for _, row, _ in in_rows for _, column in in_columns]
    if count_include_pad:
        share = np.array(1 / len(places), x.dtype)
    else:
        pixels = _bordered(np.ones((1, 1, *x.shape[2:]), x.dtype), border, 0)
        share = np.asarray(1 / sum(pixels[place] for place in places))
    inside, shape, order = x.shape, X.shape, _memory_order(X)
    total = X[places[0]].copy("K")
    for place in places[1:]:
        total += X[place]

    def vjp(g: Array) -> tuple[Array, ...]:
        g_X = np.empty_like(order, g.dtype, shape=shape)
        g_X[...] = 0
        each = g * share
        for place in places:
            g_X[place] += each
        return (_inside(g_X, border, inside),)

    return total * share, vjp


def _options(
    function: str, kernel_size: Pair, stride: Pair | None, padding: Pair
) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    kernel = _check.pair(function, "kernel_size", kernel_size, 1)
    steps = kernel if stride is None else _check.pair(function, "stride", stride, 1)
    return kernel, steps, _check.pair(function, "padding", padding, 0)


def _memory_order(x: Array) -> Array:
    """A small array for np.empty_like, which knows the memory order of x so that x itself need not be kept."""
    return np.empty_like(x, shape=(2,) * x.ndim)


def _bordered(x: Array, border: tuple[int, int], value: float) -> Array:
    if border == (0, 0):
        return x
    n, c, h, w = x.shape
    X = np.full((n, c, h + 2 * border[0], w + 2 * border[1]), value, x.dtype)
    _inside(X, border, x.shape)[...] = x
    return X


def _inside(X: Array, border: tuple[int, int], shape: tuple[int, ...]) -> Array:
    """View of the image in one with a border; of the image's `shape`, (n, c, h, w)."""
    (ph, pw), (h, w) = border, shape[2:]
    return X[:, :, ph : ph + h, pw : pw + w]
