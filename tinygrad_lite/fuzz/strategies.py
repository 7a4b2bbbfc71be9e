"""Hypothesis strategies for arrays and arguments that know where gradients break.

`tensors` makes one array. The others make whole argument lists, `(args, kwargs)`, that are valid by construction:
`broadcast` for elementwise ops, `reduced` for an axis, `matmul`, `indexed`, `conv`, `pooled`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tinygrad_lite import _check
from tinygrad_lite.errors import DtypeError, ShapeError
from tinygrad_lite.gradcheck.layout import LAYOUTS, Array, lay_out

Strategy = st.SearchStrategy
Arguments = tuple[tuple[Any, ...], dict[str, Any]]

SPECIAL = (0.0, 1.0, -1.0, 0.5, 2.0, -2.0, 3.0, -0.0, -0.5)
CENTRES = (0.0, 0.0, 0.0, 0.0, 1.0, -1.0, 3.0, -3.0)
EIGHTHS = st.integers(-40, 40).map(lambda n: n / 8)
WIDE = 8.0  # times numbers of about 1.5: tanh and the sigmoid saturate between 5 and 20
MAGNITUDES = st.builds(lambda e, sign: sign * float(f"{10 ** (e / 5):.3g}"), st.integers(-30, 15), st.sampled_from((1, -1)))
FULL = hnp.array_shapes(min_dims=0, max_dims=3, min_side=1, max_side=3)
SHAPES = st.one_of(FULL, FULL, FULL, hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=3))  # some are empty


def tensors(
    shape: Any = SHAPES,
    *,
    dtype: Any = np.float64,
    values: str = "nasty",
    low: float = -np.inf,
    high: float = np.inf,
    layout: str = "C",
) -> Strategy[Array]:
    """Float arrays with the numbers at which gradients go wrong.

    Parameters
    ----------
    shape : tuple, or strategy of tuples; 0-d and zero-size shapes are drawn by default
    dtype : float dtype, or strategy of them
    values : "nasty", "positive" (nasty, its absolute values), "smooth" (generic points only) or "large"
        "nasty" mixes numbers at generic points, few special numbers repeated (ties, zeros, constant rows), numbers of
        all magnitudes from 1e-6 to 1e3 (near kinks), and large ones up to 1000 (where exp overflows). Half of the arrays
        at generic points reach to about 30, where functions saturate.
    low, high : float
        Open interval that the numbers lie in, for functions with a domain; numbers outside are mapped into it.
    layout : "C", "any", or one of the layouts of `lay_out`
    """
    if not isinstance(shape, Strategy):
        shape = _check.integers("tensors", "shape", shape, 0)
    if not isinstance(dtype, Strategy) and _check.dtype("tensors", dtype).kind != "f":
        raise DtypeError(f"tensors: dtype must be that of floats, got {dtype!r:.80}; draw others with hypothesis.extra.numpy.")
    _check.one_of("tensors", "values", values, ("nasty", "positive", "smooth", "large"))
    _check.one_of("tensors", "layout", layout, ("any", *LAYOUTS, "expanded"))
    if not _check.number("tensors", "low", low) < _check.number("tensors", "high", high):
        raise ShapeError(f"tensors: low must be below high, got low={low!r:.40}, high={high!r:.40}; numbers lie between them.")
    return _tensors(shape, dtype, values, low, high, layout)


@st.composite
def _tensors(draw: st.DrawFn, /, shape: Any, dtype: Any, values: str, low: float, high: float, layout: str) -> Array:
    size = tuple(draw(shape) if isinstance(shape, Strategy) else shape)
    kind = np.dtype(draw(dtype) if isinstance(dtype, Strategy) else dtype)
    array = _into(draw(_numbers(size, values)), low, high).astype(kind)
    return lay_out(array, draw(st.sampled_from(LAYOUTS)) if layout == "any" else layout)


@st.composite
def _numbers(draw: st.DrawFn, /, shape: tuple[int, ...], values: str) -> Array:
    size = int(np.prod(shape))
    sources = ("special", "generic", "generic", "mixed", "magnitudes", "magnitudes", "large")
    source = {"smooth": "generic", "large": "large"}.get(values) or draw(st.sampled_from(sources))
    if source == "special":  # one to three numbers, so that repeats are the rule
        pool = draw(st.lists(st.sampled_from(SPECIAL), min_size=1, max_size=3))
        picks = draw(st.lists(st.integers(0, len(pool) - 1), min_size=size, max_size=size)) if size <= 24 else None
        rng = np.random.default_rng(0)
        flat = np.array([pool[p] for p in picks] if picks is not None else rng.choice(pool, size))
    elif source in ("mixed", "magnitudes") and size <= 24:
        entry = MAGNITUDES if source == "magnitudes" else st.one_of(st.sampled_from(SPECIAL), EIGHTHS, MAGNITUDES)
        flat = np.array(draw(st.lists(entry, min_size=size, max_size=size)), np.float64)
        if source == "magnitudes":  # half of them near a kink elsewhere than at 0
            flat = draw(st.sampled_from(CENTRES)) + flat
    else:
        rng = np.random.default_rng(draw(st.integers(0, 2**16)))
        flat = np.round(1.5 * rng.standard_normal(size), 3)
        if source == "generic" and values != "smooth":
            flat *= rng.choice([1.0, WIDE])  # all of them: beside a large slope one of 1e-7 is not seen
        elif source == "magnitudes":
            flat = rng.choice([-1.0, 1.0], size) * 10 ** rng.uniform(-6, 3, size)
        elif source == "large":
            flat = rng.choice([-1.0, 1.0], size) * rng.uniform(500, 1000, size)
    array = flat.astype(np.float64).reshape(shape)
    return np.abs(array) + (array == 0) if values == "positive" else array


def _into(array: Array, low: float, high: float) -> Array:
    """Map numbers outside an open interval into it; those inside stay."""
    if not (np.isfinite(low) or np.isfinite(high)):
        return array
    inside = (array > low) & (array < high)
    if np.isfinite(low):
        moved = low + np.abs(array - low) + (array == low)
        if np.isfinite(high):
            moved = np.where(moved < high, moved, low + (high - low) * (0.5 + np.arctan(array) / np.pi))
    else:
        moved = high - np.abs(array - high) - (array == high)
    return np.where(inside, array, moved)


@st.composite
def broadcast(
    draw: st.DrawFn, /, number: int = 2, *, kwargs: Strategy[dict[str, Any]] | None = None, **options: Any
) -> Arguments:
    """Arguments of `number` arrays whose shapes broadcast: equal, with leading axes missing, sides of 1, 0-d, empty."""
    if number == 1:
        shapes: Sequence[tuple[int, ...]] = [draw(SHAPES)]
    else:
        full, any_side = (
            hnp.mutually_broadcastable_shapes(num_shapes=number, min_dims=0, max_dims=3, min_side=side, max_side=3).map(
                lambda drawn: drawn.input_shapes
            )
            for side in (1, 0)
        )
        equal = hnp.array_shapes(min_dims=1, max_dims=2, max_side=3).map(lambda shape: [shape] * number)
        often = (_stretched(number) for _ in range(2))  # chance alone seldom gives a matrix and a bias, a row or a column
        shapes = draw(st.one_of(equal, full, any_side, *often))
    return tuple(draw(tensors(shape, **options)) for shape in shapes), draw(kwargs) if kwargs is not None else {}


@st.composite
def _stretched(draw: st.DrawFn, /, number: int) -> list[tuple[int, ...]]:
    """Shapes of which one is full and the others lack axes or have sides of 1: as biases, rows and columns beside a matrix."""
    full = draw(hnp.array_shapes(min_dims=2, max_dims=3, min_side=2, max_side=3))
    ones = (1,) * (len(full) - 1)
    parts = (full[1:], full[-1:], (1, *full[1:]), (*full[:-1], 1), (full[0], 1, *full[2:]), (full[0], *ones))
    return draw(st.permutations([full, *(draw(st.sampled_from(parts)) for _ in range(number - 1))]))


@st.composite
def reduced(
    draw: st.DrawFn,
    /,
    *,
    axis: str = "dim",
    keepdims: str | None = "keepdim",
    several: bool = True,
    min_side: int = 0,
    min_dims: int = 0,
    optional: bool = True,
    **options: Any,
) -> Arguments:
    """One array and a valid axis (an integer, negative or not, None, or several where allowed), by keyword."""
    shape = draw(hnp.array_shapes(min_dims=min_dims, max_dims=3, min_side=min_side, max_side=4))
    axes: list[Strategy[Any]] = [st.none()] if optional else []
    if shape:
        axes.append(st.integers(-len(shape), len(shape) - 1))
        if several:
            axes.append(hnp.valid_tuple_axes(len(shape), min_size=1))
    kwargs = {axis: draw(st.one_of(*axes))}
    if keepdims:
        kwargs[keepdims] = draw(st.booleans())
    return (draw(tensors(shape, **options)),), kwargs


@st.composite
def matmul(draw: st.DrawFn, /, *, signature: str = "(n?,k),(k,m?)->(n?,m?)", **options: Any) -> Arguments:
    """Arguments of a product: vectors, matrices and stacks of them that broadcast; signature as NumPy's gufuncs have it."""
    gufunc = hnp.mutually_broadcastable_shapes(signature=signature, max_dims=2, min_side=0, max_side=3)
    return tuple(draw(tensors(shape, **options)) for shape in draw(gufunc).input_shapes), {}


@st.composite
def indexed(draw: st.DrawFn, /, kind: str = "any", **options: Any) -> tuple[tuple[Array, Any], dict[str, Any]]:
    """An array and an index for it: "basic" (slices, integers), "array", "tuple" (integers, repeated), "bool", or "any"."""
    array = draw(tensors(hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4), **options))
    kinds: dict[str, Strategy[Any]] = {
        "basic": hnp.basic_indices(array.shape, allow_newaxis=False),
        "array": st.lists(st.integers(-len(array), len(array) - 1), min_size=1, max_size=4).map(np.array),
        "tuple": st.integers(0, array.ndim - 1).flatmap(lambda axis: _picked(array.shape, axis)),
        "bool": hnp.arrays(np.bool_, array.shape),
    }
    return (array, draw(st.one_of(*kinds.values()) if kind == "any" else kinds[kind])), {}


def _picked(shape: tuple[int, ...], axis: int) -> Strategy[Any]:
    """Index with a tuple for one axis, x[:, (1, 1)], which NumPy reads as it reads a list."""
    places = st.lists(st.integers(-shape[axis], shape[axis] - 1), min_size=1, max_size=4)
    return places.map(lambda picks: (*[slice(None)] * axis, tuple(picks)))


@st.composite
def windows(
    draw: st.DrawFn, /, n: int, *, max_padding: int, dilated: bool
) -> tuple[tuple[int, ...], dict[str, tuple[int, ...]]]:
    """Sides of an image, and kernel_size, stride, padding and dilation that fit: the output's size is drawn first."""
    names = ("kernel_size", "stride", "padding", "dilation")
    sides, chosen = [], []
    for _ in range(n):
        kernel, stride, out = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 2))
        dilation = draw(st.integers(1, 2)) if dilated else 1
        padding = draw(st.integers(0, min(max_padding, kernel // 2) if max_padding == 1 else max_padding))
        overhang = draw(st.integers(0, stride - 1))  # pixels past the last full window
        reach = dilation * (kernel - 1) + 1
        sides.append(max((out - 1) * stride + reach - 2 * padding + overhang, 1, reach - 2 * padding))
        chosen.append((kernel, stride, padding, dilation))
    return tuple(sides), dict(zip(names, zip(*chosen, strict=True), strict=True))


@st.composite
def conv(draw: st.DrawFn, /, nd: int = 2, *, bias: bool | None = None, dilated: bool = True, **options: Any) -> Arguments:
    """(x, weight[, bias]) and stride, padding, dilation of a convolution over nd axes; no two sizes need be equal."""
    sides, given = draw(windows(nd, max_padding=2, dilated=dilated))
    kernel = given.pop("kernel_size")
    n, c_in, c_out = draw(st.integers(1, 2)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    args = [draw(tensors((n, c_in, *sides), **options)), draw(tensors((c_out, c_in, *kernel), **options))]
    if bias or (bias is None and draw(st.booleans())):
        args.append(draw(tensors((c_out,), **options)))
    kwargs: dict[str, Any] = dict(given)
    if not dilated:
        del kwargs["dilation"]
    return tuple(args), kwargs


@st.composite
def pooled(draw: st.DrawFn, /, nd: int = 2, *, dilated: bool = False, padded: bool = True, **options: Any) -> Arguments:
    """An image, and kernel_size, stride and padding of a pooling; ties are drawn on purpose."""
    sides, given = draw(windows(nd, dilated=dilated, max_padding=int(padded)))
    kwargs: dict[str, Any] = dict(given)
    for name, wanted in (("dilation", dilated), ("padding", padded)):
        if not wanted:
            del kwargs[name]
    return (draw(tensors((draw(st.integers(1, 2)), draw(st.integers(1, 2)), *sides), **options)),), kwargs
