"""Fuzzing a gradient: `fuzz_grad` runs at once and returns a report, `grad_property` makes a Hypothesis test."""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, event, given, reject, settings
from hypothesis import seed as set_seed
from hypothesis import strategies as st
from hypothesis import target as steer
from hypothesis.errors import FlakyFailure

from tinygrad_lite import _check
from tinygrad_lite.errors import DtypeError, GradientError
from tinygrad_lite.fuzz.infer import REFUSED, infer
from tinygrad_lite.fuzz.report import FuzzReport
from tinygrad_lite.fuzz.strategies import Arguments, Strategy
from tinygrad_lite.gradcheck import GradientFailure, GradReport, Target, examine, refuse_unknown
from tinygrad_lite.gradcheck.check import DIRECTIONS, OutputError, direction
from tinygrad_lite.gradcheck.layout import LAYOUTS, Array, lay_out, layout_of
from tinygrad_lite.gradcheck.nested import rebuilt
from tinygrad_lite.gradcheck.target import parameters_of

STEERED = 1000  # examples from which on Hypothesis is told the excess, to search for larger ones


@dataclass(frozen=True)
class Draw:
    """What the fuzzer chooses for an example besides the arguments. Everything shrinks to its simplest."""

    u: str = "onehot"
    v: str = "onehot"
    seed: int = 0
    layout: str = "C"
    v_layout: str = "C"


DRAWS = st.builds(
    Draw,
    u=st.sampled_from(DIRECTIONS),
    v=st.sampled_from(DIRECTIONS),
    seed=st.integers(0, 2**16),
    layout=st.sampled_from(("C", "C", *LAYOUTS[1:])),
    v_layout=st.sampled_from(("C", "C", *LAYOUTS[1:], "expanded")),
)


def fuzz_grad(
    fn: Any,
    inputs: Strategy[Any] | None = None,
    *,
    max_examples: int = 100,
    seed: int | None = None,
    kinks: str | None = None,
    properties: str | Sequence[str] = "all",
    reference: Callable[..., Any] | None = None,
    wrt: Sequence[int | str] | None = None,
    backend: Any = None,
    surrogate: Callable[..., Any] | None = None,
    order: int = 1,
    min_decided: float = 0.5,
    raise_error: bool = True,
    shrink: bool = True,
) -> FuzzReport:
    """Fuzz the gradient of fn: draw arguments, check each, and shrink the first failure.

    Parameters
    ----------
    fn : a rule (arrays -> (output, vjp)), a pair (forward, backward), a function of Tensors, or a Module
    inputs : Hypothesis strategy of (args, kwargs), or of a tuple of arrays; inferred from the signature if not given
    max_examples : int, at least 1
    seed : int
        Of the examples; by default one is drawn and reported.
    kinks, properties, reference, wrt, backend, surrogate, order : as for `check_grad`
    min_decided : float
        Share of directions, jumps aside, that must be decided (smooth or kink); less is a failure, as nothing was checked.
    raise_error : whether a wrong gradient raises
    shrink : whether a failure is made small

    Returns
    -------
    FuzzReport, true if the gradient is right.

    Raises
    ------
    GradientError : the gradient is wrong, or too little could be decided.
    ValueError : no inputs were given and none could be inferred.

    Examples
    --------
    >>> def square(x):
    ...     return x * x, lambda g: g * x
    >>> fuzz_grad(square, seed=1, raise_error=False).failure.worst.name
    'value'
    """
    refuse_unknown("fuzz_grad", fn, kinks, properties, wrt, backend, reference, seed, surrogate)
    _check.integer("fuzz_grad", "max_examples", max_examples, 1)
    _check.number("fuzz_grad", "min_decided", min_decided, 0, 1)
    number = random.SystemRandom().randrange(2**32) if seed is None else seed
    check = _Check(
        fn, inputs, backend, surrogate, kinks=kinks, properties=properties, reference=reference, wrt=wrt, order=order
    )
    report = FuzzReport(_name(fn), check.inferred, seed=number)
    start = time.perf_counter()

    def one(arguments: Any, draw: Draw) -> None:
        report.examples += 1
        result = check(arguments, draw)
        if report.failure is not None and _keeps_state(report.failure) and not _keeps_state(result):
            return  # smaller, but wrong only for what the calls before have left
        if result.failures:
            report.largest = max(report.largest, result.excess)
            report.failure = result
            report.examples_to_failure = report.examples_to_failure or report.examples
            raise GradientFailure(result)
        if report.failure is None:
            report.kinds += result.kinds
            report.outside += result.outside
            report.excess = max(report.excess, result.excess)
            report.notes.update(result.notes)

    test = given(check.inputs, DRAWS)(one)
    test = settings(
        max_examples=max_examples,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        derandomize=False,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink] if shrink else [Phase.generate],
    )(test)
    try:
        set_seed(number)(test)()
    except (GradientFailure, FlakyFailure):
        if report.failure is None:
            raise
    report.seconds = time.perf_counter() - start
    if report.failure is None and (properties == "all" or "value" in properties):
        if report.decided < min_decided:
            report.undecided = (
                f"fuzz_grad: only {report.decided:.0%} of the directions for {report.name} could be decided "
                f"({dict(report.kinds)}); give inputs inside its domain, or lower min_decided={min_decided}."
            )
        elif not report.kinds:
            report.undecided = (
                f"fuzz_grad: nothing of {report.name} was checked: no argument was a float array with numbers in it."
            )
    if raise_error and report.failure is not None:
        raise GradientFailure(report)
    if raise_error and report.undecided:
        raise GradientError(report.undecided)
    return report


def grad_property(inputs: Strategy[Any] | None = None, **options: Any) -> Callable[[Any], Any]:
    """Make a Hypothesis test of a function with a gradient, for pytest to collect.

    The test has the parameters `arguments`, an (args, kwargs), and `draw`, a `Draw`; so `@settings`, `@seed`, the
    database and `@example(arguments=((a, b), {}), draw=Draw())` work as for any Hypothesis test. The function itself
    is the test's attribute `fn`. Options: kinks, properties, reference, wrt, backend, surrogate and order of `fuzz_grad`.

    Examples
    --------
    >>> from tinygrad_lite.fuzz.strategies import tensors
    >>> @grad_property(tensors())
    ... def test_sine(x):
    ...     return np.sin(x), lambda g: g * np.cos(x)
    >>> test_sine()
    """

    def decorate(fn: Any) -> Any:
        if _is_of_a_class(fn):
            raise DtypeError(f"grad_property: {fn.__qualname__} is a method; write it as a function, outside of the class.")
        check = _Check(fn, inputs, **options)

        def test(arguments: Any, draw: Draw) -> None:
            result = check(arguments, draw)
            for kind in result.kinds:
                event(f"kind: {kind}")
            event(f"layout: {draw.layout}")
            if settings().max_examples >= STEERED and result:  # long runs climb towards the allowed error
                steer(float(np.log10(result.excess + 1e-12)), label="log10 of the excess")
            result.raise_if_wrong()

        test.__name__, test.__qualname__ = _name(fn), _name(fn)
        test.__module__, test.__doc__ = getattr(fn, "__module__", __name__), fn.__doc__
        wrapped: Any = given(arguments=check.inputs, draw=DRAWS)(test)
        wrapped.fn = fn
        return wrapped

    return decorate


class _Check:
    """Examine fn at drawn arguments; how fn is called is found out once."""

    def __init__(self, fn: Any, inputs: Any, backend: Any = None, surrogate: Any = None, **options: Any) -> None:
        self.fn, self.backend, self.surrogate, self.options = fn, backend, surrogate, options
        given_or_inferred: tuple[Any, str] = (inputs, "") if inputs is not None else infer(fn, backend)
        self.inputs, self.inferred = given_or_inferred
        if not isinstance(self.inputs, Strategy):
            raise DtypeError(
                f"fuzz_grad: inputs must be a Hypothesis strategy of arguments, got {type(inputs).__name__}; "
                "make one with tensors(), broadcast(2), st.tuples(...), or check one point with check_grad."
            )

    def __call__(self, arguments: Any, draw: Draw) -> GradReport:
        args, kwargs = _arguments(arguments)
        args = _laid_out(args, draw.layout)

        def cotangent(shapes: Sequence[tuple[int, ...]]) -> list[Array]:
            if draw.v_layout == "expanded":
                return [lay_out(np.full(shape, 0.25 + draw.seed % 8), "expanded") for shape in shapes]
            return [lay_out(v, draw.v_layout) for v in direction(draw.v, draw.seed, shapes)]

        probes = [(draw.u, draw.seed), ("gauss", draw.seed + 1), ("ones", 0)]
        try:
            target = Target(self.fn, args, kwargs, self.backend, self.surrogate)
            result = examine(target, probes, cotangent=cotangent, seed=draw.seed, full=False, **self.options)
        except REFUSED as error:
            if self.inferred and not isinstance(error, OutputError):
                reject()  # the arguments were inferred: perhaps these are not valid
            error.add_note(f"called with {_arguments(arguments)!r}"[:500])
            raise
        self.backend = target.backend
        refused = self.inferred and result.failures and result.worst.name == "error"
        if refused and all(leaf.ndim == 0 or leaf.size == 0 for leaf in target.leaves):
            reject()  # nor is the rule perhaps meant for these shapes
        return result


def _keeps_state(result: GradReport) -> bool:
    return any(failure.name == "deterministic" for failure in result.failures)


def _arguments(drawn: Any) -> Arguments:
    """(args, kwargs) from what a strategy gave: that, a tuple or list of arguments, or one array."""
    if isinstance(drawn, dict):
        raise TypeError(
            f"fuzz_grad: inputs gave a dict {sorted(drawn)}; give (args, kwargs): what is differentiated is in args."
        )
    if isinstance(drawn, (tuple, list)):
        if len(drawn) == 2 and isinstance(drawn[0], (tuple, list)) and isinstance(drawn[1], dict):
            return tuple(drawn[0]), drawn[1]
        return tuple(drawn), {}
    return (drawn,), {}


def _laid_out(args: Any, layout: str) -> Any:
    """The arguments with float arrays in a layout; one that comes twice is one still."""
    made: dict[int, Array] = {}

    def one(value: Any) -> Any:
        if not (isinstance(value, np.ndarray) and value.dtype.kind == "f" and layout_of(value) == "C"):
            return value
        return made.setdefault(id(value), lay_out(value, layout))

    return rebuilt(args, one)


def _is_of_a_class(fn: Any) -> bool:
    """Whether it is a method that no object is bound to: one that is decorated in its class."""
    try:
        first = parameters_of(fn)[:1]
    except (TypeError, ValueError):  # it has no signature
        return False
    return [parameter.name for parameter in first] == ["self"]


def _name(fn: Any) -> str:
    forward = fn[0] if isinstance(fn, tuple) else fn
    return getattr(forward, "__name__", type(forward).__name__)
