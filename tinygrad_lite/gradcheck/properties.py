"""What a gradient must be besides the right number. Each property yields words for what is wrong; none is fine.

A property is a function of an `Example` and yields (message, leaf index or None). Tolerances scale with the numbers compared.
This file is long because it is a list of them.
"""

import contextlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tinygrad_lite.errors import ShapeError
from tinygrad_lite.gradcheck.check import Arrays, Point, as_gradient, direction, largest_of, rounding
from tinygrad_lite.gradcheck.layout import Array, lay_out, layout_of
from tinygrad_lite.gradcheck.nested import flattened
from tinygrad_lite.gradcheck.target import Target
from tinygrad_lite.gradcheck.tolerance import differ, last_bits, rounding_of, slack_of

Finding = tuple[str, int | None]
COARSE = 0.3  # of the largest entry of a float32 gradient


@dataclass
class Example:
    """One call of a target: what went in, what came out, and the same point on the numeric side."""

    target: Target
    wrt: Sequence[int]
    point: Point
    v: Arrays  # cotangents in the layout given
    seed: int
    reference: Callable[..., Any] | None = None

    def __post_init__(self) -> None:
        arrays = [a for a in [*flattened(self.target.args), *self.target.leaves] if isinstance(a, np.ndarray)]
        self._before = [(a, a.copy()) for a in arrays] + [(w, np.array(w)) for w in self.v]
        try:
            self._compute()
        finally:
            self.changed = self.restore()

    def _compute(self) -> None:
        self.outs, self.pull = self.target.run(self.target.leaves)
        self._before += [(o, o.copy()) for o in self.outs]
        if [o.shape for o in self.outs] != [o.shape for o in self.point.outs]:
            raise ShapeError(
                f"{self.target.name}: its surrogate gives shape {[o.shape for o in self.point.outs]}, "
                f"it itself {[o.shape for o in self.outs]}; give a function with outputs of the same shapes."
            )
        self.v = [
            w.astype(o.dtype) if o.dtype != w.dtype and o.dtype.kind == "f" else w
            for w, o in zip(self.v, self.outs, strict=True)
        ]
        self.raw = self.pull(self.v)
        self.grads = [as_gradient(self.raw[i], self.target.leaves[i]) for i in self.wrt]

    def restore(self) -> list[Array]:
        """Undo what the rule wrote into arguments, cotangent and output, so that a report shows them; list which they were."""
        changed = []
        for array, copy in self._before:
            if not np.array_equal(array, copy, equal_nan=array.dtype.kind == "f"):
                changed.append(array)
                np.copyto(array, copy)
        return changed

    def gradients(self, v: Arrays, leaves: Arrays | None = None) -> list[Array]:
        leaves = self.target.leaves if leaves is None else leaves
        raw = self.target.run(leaves)[1](v)
        return [as_gradient(raw[i], self.target.leaves[i]) for i in self.wrt]


def shape(example: Example) -> Iterator[Finding]:
    """Gradients are arrays of the shape and dtype of their argument."""
    for i in example.wrt:
        gradient, leaf = example.raw[i], example.target.leaves[i]
        if gradient is None:
            continue
        if not isinstance(gradient, (np.ndarray, np.generic, float)):
            yield f"gradient is a {type(gradient).__name__}, not an array", i
        elif np.shape(gradient) != leaf.shape:
            yield f"gradient has shape {np.shape(gradient)}, its argument {leaf.shape}", i
        elif np.asarray(gradient).dtype != leaf.dtype:
            yield f"gradient has dtype {np.asarray(gradient).dtype}, its argument {leaf.dtype}", i


def untouched(example: Example) -> Iterator[Finding]:
    """Neither the arguments nor the cotangent are written into, nor by the backward pass the output."""
    for array in example.changed:
        index = next((i for i, leaf in enumerate(example.target.leaves) if leaf is array), None)
        of_cotangent, of_outputs = (any(array is one for one in some) for some in (example.v, example.outs))
        what = "the cotangent" if of_cotangent else "by the backward pass, the output" if of_outputs else "an argument"
        yield f"{what} of shape {array.shape} was written into", index


def alias(example: Example) -> Iterator[Finding]:
    """No gradient shares memory with an argument or with another gradient, or is overwritten by a later call.

    A rule may return (a view of) the cotangent, as an engine must not write into what it was given; two gradients that
    are both the cotangent are therefore let pass for rules, not for what an engine leaves in `.grad`.
    """
    arrays = [(i, g) for i in example.wrt if isinstance(g := example.raw[i], np.ndarray) and g.size]
    rule = example.target.backend == "rule"
    for place, (i, g) in enumerate(arrays):
        if any(np.shares_memory(g, leaf) for leaf in example.target.leaves):
            yield "gradient shares memory with an argument", i
        for j, other in arrays[:place]:
            of_cotangent = any(np.shares_memory(g, w) for w in example.v)
            if np.shares_memory(g, other) and not (rule and of_cotangent):
                yield f"gradient shares memory with that of {example.target.names[j]}", i
    if rule and arrays:
        before = [g.copy() for _, g in arrays]
        example.pull([-2 * v for v in example.v])
        for (i, g), copy in zip(arrays, before, strict=True):
            if not np.array_equal(g, copy, equal_nan=True):
                yield "gradient is overwritten when the backward pass runs again", i
                np.copyto(g, copy)


def deterministic(example: Example) -> Iterator[Finding]:
    """Twice the same call gives the same bits, and so does pulling back twice, or after another call."""
    outs, pull = example.target.run(example.target.leaves)
    if any(not np.array_equal(a, b, equal_nan=True) for a, b in zip(outs, example.outs, strict=True)):
        yield "two calls give different outputs: the function is random or keeps state; pass it a generator", None
        return
    again = [("two backward calls give different gradients", pull(example.v))]
    if example.target.backend == "rule":
        again.append((again[0][0], example.pull(example.v)))
    _, pull = example.target.run(example.target.leaves)
    with contextlib.suppress(Exception):  # other values may be outside of its domain
        example.target.run([leaf + leaf / 64 for leaf in example.target.leaves])
    again.append(
        ("the gradient changes when the function is called with other values before backward: it keeps state", pull(example.v))
    )
    for message, grads in again:
        for i in example.wrt:
            if not np.array_equal(as_gradient(grads[i], example.target.leaves[i]), _of(example, i), equal_nan=True):
                yield message, i


def linear(example: Example) -> Iterator[Finding]:
    """vjp(-2 v) = -2 vjp(v), and vjp(v + w) = vjp(v) + vjp(w), but for rounding: a vjp may solve equations, or iterate."""
    w = direction("gauss", example.seed + 1, [o.shape for o in example.outs])
    w = [part.astype(v.dtype) for part, v in zip(w, example.v, strict=True)]
    doubled = example.gradients([lay_out(-2 * v, layout_of(v)) for v in example.v])
    v_and_w = [v + part for v, part in zip(example.v, w, strict=True)]
    other, both = example.gradients(w), example.gradients(v_and_w)

    def all_three(nudge: Callable[[Array], Array]) -> list[Array]:
        leaves = [nudge(leaf) for leaf in example.target.leaves]
        return [g for some in (example.v, w, v_and_w) for g in example.gradients([nudge(part) for part in some], leaves)]

    for i, g, g2, gw, gb in zip(example.wrt, example.grads, doubled, other, both, strict=True):
        dtype = example.target.leaves[i].dtype
        tiny = 1e30 * float(np.finfo(dtype).tiny) if dtype == np.float64 else float(np.finfo(dtype).tiny)
        if differ(g2, -2 * g, slack_of(g2, example.v, dtype) + tiny):
            yield "gradient is not linear in the cotangent: vjp(-2 v) is not -2 vjp(v)", i
            continue
        slack = max(slack_of(part, example.v, dtype) for part in (g, gw, gb)) + tiny
        if differ(gb, g + gw, slack) and differ(gb, g + gw, slack + last_bits(all_three)):
            if differ(gb, g + gw, 1e-3 * largest_of(gb)):
                if not _matters(example, i, gb, g + gw, v_and_w):
                    continue  # as much as the gradient itself, and it is right: all of it is what rounding has left
            elif _adds_up_at_one(example, i, w):
                continue  # large numbers have left their last bits in a small gradient
            yield "gradient is not linear in the cotangent: vjp(v + w) is not vjp(v) + vjp(w)", i


def _adds_up_at_one(example: Example, i: int, w: Arrays) -> bool:
    """Whether vjp(v + w) is vjp(v) + vjp(w), to the last bits, once no argument is larger than 1."""
    leaves = [np.asarray(leaf / max(largest_of(leaf), 1.0), leaf.dtype) for leaf in example.target.leaves]
    if all(np.array_equal(one, leaf) for one, leaf in zip(leaves, example.target.leaves, strict=True)):
        return False
    position, dtype = example.wrt.index(i), example.target.leaves[i].dtype
    try:
        g, gw, gb = (
            example.gradients(some, leaves)[position]
            for some in (example.v, w, [v + part for v, part in zip(example.v, w, strict=True)])
        )
    except Exception:  # what refuses these values is judged by the others
        return False
    slack = max(slack_of(part, example.v, dtype) for part in (g, gw, gb))
    return bool(np.isfinite(gb).all() and gb.any()) and not differ(gb, g + gw, slack)


def zero(example: Example) -> Iterator[Finding]:
    """A cotangent of zeros gives gradients of exact zeros, where the gradient is finite."""
    grads = example.gradients([np.zeros_like(v) for v in example.v])
    for i, g, ordinary in zip(example.wrt, grads, example.grads, strict=True):
        if np.isfinite(ordinary).all() and np.any(g != 0):
            yield f"a zero cotangent gives {g[g != 0].flat[0]!r}", i


def layout(example: Example) -> Iterator[Finding]:
    """The memory layout of arguments and cotangent changes neither the output nor the gradient."""
    plain = [lay_out(leaf, "C") for leaf in example.target.leaves]
    runs = [([lay_out(a, kind) for a in plain], [lay_out(v, kind) for v in example.v]) for kind in ("C", "F", "reversed")]
    for leaves, v in runs:
        outs, pull = example.target.run(leaves)
        raw = pull(v)
        for out, expected in zip(outs, example.outs, strict=True):
            if out.shape == expected.shape and _far(example, out, expected, rounding_of(expected)):
                yield "the output depends on the memory layout of the input", None
        for i, g in zip(example.wrt, example.grads, strict=True):
            other = as_gradient(raw[i], leaves[i])
            slack = slack_of(g, example.v, example.target.leaves[i].dtype)
            if differ(other, g, slack) and _matters(example, i, other, g, example.v):
                yield "the gradient depends on the memory layout", i


def _far(example: Example, one: Array, other: Array, allowed: float) -> bool:
    """Whether two outputs differ by more than is allowed and than last bits of the inputs explain."""

    def outputs(nudge: Callable[[Array], Array]) -> list[Array]:
        return example.target.run([nudge(leaf) for leaf in example.target.leaves])[0]

    return differ(one, other, allowed) and differ(one, other, allowed + last_bits(outputs))


def _matters(example: Example, i: int, one: Array, other: Array, v: Arrays) -> bool:
    """Whether a difference between two gradients, for the cotangent v, is one of right and wrong, not of rounding or ties."""
    if example.target.leaves[i].dtype != np.float64:
        return differ(one, other, 0.01 * max(largest_of(one), largest_of(other)))
    position = example.wrt.index(i)
    entry = int(np.nanargmax(np.abs(np.where(np.isfinite(one - other), one - other, 0))))
    u = [np.zeros(example.point.leaves[j].shape) for j in example.wrt]
    u[position].reshape(-1)[entry] = 1.0
    v = [np.array(w, np.float64) for w in v]
    kinds = []
    for g in (one, other):
        grads = list(example.grads)
        grads[position] = g
        kinds.append(example.point.compare(u, v, grads).wrong)
    return any(kinds)


def precision(example: Example) -> Iterator[Finding]:
    """In float32 the gradient is that of float64, to what float32 can hold; of float16 arguments, in float16 too.

    What it can hold is measured: where inputs that differ a little give other gradients, the function loses digits there, and
    may. What is left to find is gross: overflow, NaN, saturation, a factor.
    """
    half = any(leaf.dtype == np.float16 for leaf in example.target.leaves)
    for dtype in (np.dtype(np.float32), np.dtype(np.float16)) if half else (np.dtype(np.float32),):
        yield from _precision_in(example, dtype)


def _precision_in(example: Example, dtype: np.dtype[Any]) -> Iterator[Finding]:
    target, rng, eps = example.target, np.random.default_rng(example.seed), float(np.finfo(dtype).eps)
    large = min(1e30, float(np.finfo(dtype).max) / 16)
    narrow = [leaf.astype(dtype, order="K") for leaf in target.leaves]
    nudged = [
        [(leaf * (1 + size * rng.standard_normal(leaf.shape))).astype(dtype) for leaf in narrow]
        for size in (4 * eps, 4 * eps, (eps / 2) ** 0.5, (eps / 2) ** 0.5)
    ]
    v = [np.asarray(w, np.float64) for w in example.v]
    lost = rounding(v, eps) * max([1.0, *map(largest_of, narrow)])  # 1 - tanh(x)**2 of a large x, times another argument
    try:
        outs, pull = target.run(narrow)
    except Exception:
        return  # a rule may refuse this precision
    wide, pull_wide = target.run([leaf.astype(np.float64) for leaf in narrow])
    if not all(np.isfinite(o).all() and (np.abs(o) < large).all() for o in [*outs, *wide]):
        return
    low = [np.asarray(w, o.dtype) for w, o in zip(v, outs, strict=True)]
    try:
        got = pull(low)
    except Exception as error:
        yield f"the forward pass takes {dtype}, and the backward pass raises {type(error).__name__}: {error}", None
        return
    try:
        near = [target.run(leaves)[1](low) for leaves in nudged]
    except Exception:
        return  # nor need it take what is near
    want = pull_wide(v)
    for i in example.wrt:
        leaf = target.leaves[i]
        one, exact = as_gradient(got[i], leaf), as_gradient(want[i], leaf)
        loss = max(largest_of(as_gradient(other[i], leaf) - one) for other in near)
        if np.isfinite(exact).all() and largest_of(exact) < large:  # noqa: SIM102
            if not np.isfinite(one).all() or differ(one, exact, COARSE * largest_of(exact) + 16 * loss + lost):
                at = np.nanargmax(np.abs(np.where(np.isfinite(one), one - exact, np.inf)))
                yield f"the {dtype} gradient is not that of float64: {one.flat[at]:.6g}, and {exact.flat[at]:.6g} there", i


def forward(example: Example) -> Iterator[Finding]:
    """The output equals that of the reference."""
    if example.reference is None:
        return
    expected = example.reference(*example.target.args, **dict(example.target.kwargs))
    wanted = list(expected) if isinstance(expected, (tuple, list)) else [expected]
    for got, want in zip(example.outs, wanted, strict=True):
        if got.shape != np.shape(want):
            yield f"the output has shape {got.shape}, the reference {np.shape(want)}", None
        elif np.any(np.isfinite(want) & ~np.isfinite(got)):
            yield "the output is not finite where the reference is", None
        elif _far(example, got, np.asarray(want), rounding_of(np.asarray(want, np.float64), got.dtype)):
            yield "the output is not that of the reference", None


def needs(example: Example) -> Iterator[Finding]:
    """A rule with a keyword `needs` (one flag for each array) gives a gradient asked for alone as it gives it among all."""
    target = example.target
    if target.backend != "rule" or isinstance(target.fn, tuple) or "needs" in target.kwargs:
        return
    flags = inspect.signature(target.fn).parameters.get("needs")
    if flags is None or not isinstance(flags.default, tuple):  # it is something else
        return
    places = [place for place, arg in enumerate(target.args) if any(arg is leaf for leaf in target.leaves)]
    for i, g in zip(example.wrt, example.grads, strict=True):
        wanted = tuple(place == places[i] for place in range(len(flags.default)))
        alone = replace(target, kwargs={**target.kwargs, "needs": wanted}).run(target.leaves)[1](example.v)
        if alone[i] is None:
            yield f"with needs={wanted} there is no gradient", i
        elif differ(as_gradient(alone[i], target.leaves[i]), g, slack_of(g, example.v, target.leaves[i].dtype)):
            yield f"with needs={wanted} the gradient is another than with all", i


PROPERTIES: dict[str, Callable[[Example], Iterator[Finding]]] = {
    p.__name__: p for p in (shape, untouched, alias, deterministic, forward, linear, zero, layout, precision, needs)
}


def _of(example: Example, i: int) -> Array:
    return example.grads[list(example.wrt).index(i)]
