"""Arguments for a function that came without any, from its signature and from what it accepts."""

import inspect
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tinygrad_lite.errors import DtypeError, ShapeError
from tinygrad_lite.fuzz.strategies import SHAPES, Arguments, Strategy, broadcast, conv, matmul, tensors
from tinygrad_lite.gradcheck.target import Target, parameters_of

INTEGERS = {"index", "indices", "idx", "labels", "targets", "target", "label"}
BOOLEANS = {"mask", "condition", "cond"}
SWITCHES = {"keepdims", "keepdim"}
AXES = {"axis", "dim"}
FREE = ("any shape", "shapes that broadcast")  # families in which a gradient of the wrong shape is the rule's fault
PER_AXIS = {"gamma", "beta", "weight", "bias", "scale", "shift", "w"}  # of the last or channel axis, not broadcast
REFUSED = (ValueError, TypeError, IndexError, AssertionError, RuntimeError, ArithmeticError, np.exceptions.AxisError)


def infer(fn: Any, backend: Any = None) -> tuple[Strategy[Arguments], str]:
    """Strategy of arguments that fn accepts, and what was inferred, in words.

    Families of shapes are tried in turn, each on a few small examples, and the first one that fn accepts is taken:
    shapes that broadcast, one shape for all, a matrix product, an affine map, convolutions, and fixed ranks.
    Parameters called labels, index, mask, axis, keepdims and the like get integers, booleans and axes; those with a
    float default get that and values near it, if fn takes them.
    """
    forward = fn[0] if isinstance(fn, tuple) else getattr(fn, "forward", fn)
    try:
        parameters = parameters_of(fn)
    except ValueError:
        raise ShapeError(f"fuzz_grad: {forward} has no signature that Python can read; give inputs=.") from None
    required = [p for p in parameters if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    number = len(required) or (2 if any(p.kind is p.VAR_POSITIONAL for p in parameters) else 0)
    names = [p.name for p in required] or [f"args[{i}]" for i in range(number)]
    plain = [name for name in names if name not in INTEGERS | BOOLEANS]
    tried, fallback, refusals = [], None, Counter[tuple[bool, str]]()
    per_axis = len(plain) > 1 and bool(PER_AXIS & set(names[1:]))
    for family, strategy in _families(len(plain)):
        if per_axis and ("equal shapes" in family or "square" in family):
            continue  # a parameter for each feature, as the names say, is not of the data's shape
        candidate = _with_others(names, plain, strategy)
        tried.append(family)
        forward_runs, backward_runs = _accepts(
            fn, candidate, backend, shapes=len(plain) > 1 and (per_axis or family not in FREE), refusals=refusals
        )
        if forward_runs:
            chosen, options = _with_options(fn, candidate, backend, [p for p in parameters if p not in required])
            words = f"{', '.join(names)}: {family}{options}"
            if backward_runs:
                return chosen, words
            fallback = fallback or (chosen, words)
    if fallback:
        return fallback
    name = getattr(forward, "__qualname__", forward)
    # Words about a type, as of a rule that returns no vjp, say more than those about one of many shapes.
    said = max(
        refusals, key=lambda refusal: (refusal[0], refusals[refusal]), default=(False, "no parameter asks for an array.")
    )
    raise ShapeError(
        f"fuzz_grad: no inputs could be inferred for {name}{inspect.signature(forward)}: {said[1]} Tried: "
        f"{'; '.join(tried) or 'nothing'}. Give inputs=, a strategy of (args, kwargs) or of a tuple of arrays."
    )


def _families(number: int) -> Iterator[tuple[str, Strategy[Arguments]]]:
    if number < 1:
        return
    yield ("any shape" if number == 1 else "shapes that broadcast"), broadcast(number)
    if number > 1:
        yield "equal shapes", _equal(number, SHAPES)
        yield "equal shapes, not empty", _equal(number, hnp.array_shapes(max_dims=3, max_side=3))
    if number == 2:
        yield "a product of matrices, vectors or stacks", matmul()
        yield "a product of matrices", _shaped("(n,k),(k,m)->(n,m)")
    gufuncs = {
        2: ["(n,k),(k)->(n)", "(n,k),(m,k)->(n,m)", "(n,k),(n,m)->(n)", "(n),(m)->(n,m)"],
        3: [
            "(n,k),(k,m),(m)->(n,m)",
            "(n,k),(m,k),(m)->(n,m)",
            "(n,k),(k),(k)->(n,k)",
            "(n,c,h,w),(c),(c)->(n,c,h,w)",
            "(n,k),(k,m),(m,j)->(n,j)",
        ],
    }
    for signature in gufuncs.get(number, []):
        yield f"shapes {signature.partition('->')[0]}", _shaped(signature)
    for ndim in (1, 2, 3, 4):
        yield f"{ndim}-d, equal shapes", _equal(number, hnp.array_shapes(min_dims=ndim, max_dims=ndim, max_side=4))
    if number in (2, 3):
        images: Strategy[Arguments] = conv(bias=number == 3).map(lambda arguments: (arguments[0], {}))
        yield "a 2-d convolution", images.map(_fitting)
        yield "a 1-d convolution", conv(1, bias=number == 3).map(lambda arguments: _fitting((arguments[0], {})))
    yield "square matrices", _equal(number, st.integers(1, 3).map(lambda n: (n, n)))


def _fitting(arguments: Arguments) -> Arguments:
    """A convolution without padding: the kernel is cut to the image."""
    (x, weight, *rest), kwargs = arguments
    cut = tuple(slice(0, side) for side in x.shape[2:])
    return (x, np.ascontiguousarray(weight[(slice(None), slice(None), *cut)]), *rest), kwargs


@st.composite
def _equal(draw: st.DrawFn, /, number: int, shapes: Strategy[Any]) -> Arguments:
    shape = draw(shapes)
    return tuple(draw(tensors(shape)) for _ in range(number)), {}


@st.composite
def _shaped(draw: st.DrawFn, /, signature: str) -> Arguments:
    sides = {letter: draw(st.integers(1, 3)) for letter in sorted(set(signature) & set("nkmjchw"))}
    operands = signature.partition("->")[0].strip("()").split("),(")
    return tuple(draw(tensors(tuple(sides[a] for a in operand.split(",")))) for operand in operands), {}


@st.composite
def _with_others(draw: st.DrawFn, /, names: list[str], plain: list[str], strategy: Strategy[Arguments]) -> Arguments:
    """Integers and booleans put between the float arrays, for parameters whose names say so."""
    floats, kwargs = draw(strategy)
    if len(names) == len(plain):
        return floats, kwargs
    rest, args = iter(floats), []
    first = floats[0]
    for name in names:
        if name in plain:
            args.append(next(rest))
        elif name in BOOLEANS:
            args.append(draw(hnp.arrays(np.bool_, first.shape)))
        else:  # class labels for rows of scores, or indices along the first axis
            labels = "index" not in name and name != "indices" and name != "idx" and first.ndim == 2
            length, count = (first.shape[0], first.shape[1]) if labels else (3, first.shape[0] if first.ndim else 1)
            args.append(draw(hnp.arrays(np.int64, length, elements=st.integers(0, max(count - 1, 0)))))
    return tuple(args), kwargs


def _with_options(
    fn: Any, strategy: Strategy[Arguments], backend: Any, parameters: list[inspect.Parameter]
) -> tuple[Strategy[Arguments], str]:
    """The strategy with keywords for the parameters that have defaults, where it is known what to draw, and words about it."""
    by_name = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name != "needs"]
    axes = {p.name: p.default for p in by_name if p.name in SWITCHES | AXES}
    floats = {p.name: taken for p in by_name if (taken := _near(fn, strategy, backend, p))}
    fixed = [f"{p.name}={p.default!r:.20}" for p in by_name if p.name not in axes | floats]
    words = f"; {', '.join([*axes, *floats])} varied" if axes or floats else ""
    words += f"; not varied: {', '.join(fixed)}" if fixed else ""
    return (_varied(strategy, axes, floats) if axes or floats else strategy), words


def _near(fn: Any, strategy: Strategy[Arguments], backend: Any, parameter: inspect.Parameter) -> list[float]:
    """Values to draw for a parameter with a float default: that first, and those near it that fn takes."""
    name, default = parameter.name, parameter.default
    if not isinstance(default, float) or np.isnan(default):
        return []
    others = (0.75 * default, 1.5 * default) if default and np.isfinite(default) else (0.25, 1.0)
    taken = []
    for value in (np.copysign(other, default).item() for other in others):
        runs, runs_back = _accepts(fn, _varied(strategy, {}, {name: [value]}), backend, shapes=False, refusals=Counter())
        if runs and (runs_back or not isinstance(fn, tuple)):  # the backward of a pair need not know the parameter
            taken.append(value)
    return [default, *taken] if taken else []


@st.composite
def _varied(
    draw: st.DrawFn, /, strategy: Strategy[Arguments], axes: dict[str, Any], floats: dict[str, list[float]]
) -> Arguments:
    args, kwargs = draw(strategy)
    for name, default in axes.items():
        if name in SWITCHES:
            kwargs[name] = draw(st.booleans())
        elif isinstance(args[0], np.ndarray) and args[0].ndim:
            axis = st.integers(-args[0].ndim, args[0].ndim - 1)
            kwargs[name] = draw(axis if default is not None else st.none() | axis)
    return args, kwargs | {name: draw(st.sampled_from(values)) for name, values in floats.items()}


def _accepts(
    fn: Any, strategy: Strategy[Arguments], backend: Any, *, shapes: bool, refusals: Counter[tuple[bool, str]]
) -> tuple[bool, bool]:
    """Whether fn, and its backward, run on most small examples of a strategy (those with any numbers in them).

    With shapes, gradients of a wrong shape count as not running: the family is then not what fn is for. What fn says
    when it refuses is counted in `refusals`, as (is it about a type, words).
    """
    forward: list[bool] = []
    backward: list[bool] = []

    @settings(
        max_examples=15,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def attempt(arguments: Arguments) -> None:
        args, kwargs = arguments
        if not all(a.size for a in args):
            return
        try:
            target = Target(fn, args, kwargs, backend)
            outs, pull = target.run(target.leaves)
        except Exception as error:
            refusals[isinstance(error, DtypeError), f"{type(error).__name__}: {error}".rstrip(".") + "."] += 1
            forward.append(False)
            return
        forward.append(True)
        try:
            grads = pull([np.ones(o.shape, o.dtype) for o in outs])
            fit = all(g is None or np.shape(g) == leaf.shape for g, leaf in zip(grads, target.leaves, strict=True))
        except Exception:
            fit = not shapes and max(a.ndim for a in args) == 0  # some backward passes are not for 0-d
            backward.append(fit)
            return
        backward.append(fit or not shapes)

    attempt()
    return (
        bool(forward) and sum(forward) >= 0.6 * len(forward),
        bool(backward) and sum(backward) >= 0.9 * len(backward),
    )
