"""Fuzzing a gradient: `fuzz_grad` runs at once and returns a report, `grad_property` makes a Hypothesis test."""

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, event, given, reject, settings
from hypothesis import seed as set_seed
from hypothesis import strategies as st
from hypothesis import target as steer
from hypothesis.errors import FlakyFailure

from tinygrad_lite.errors import GradientError
from tinygrad_lite.fuzz.infer import REFUSED, infer
from tinygrad_lite.fuzz.strategies import Arguments, Strategy
from tinygrad_lite.gradcheck import GradientFailure, GradReport, Target, examine, refuse_unknown
from tinygrad_lite.gradcheck.check import DIRECTIONS, direction
from tinygrad_lite.gradcheck.layout import LAYOUTS, Array, lay_out, layout_of

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


@dataclass
class FuzzReport:
    """What `fuzz_grad` found over all examples; true if nothing is wrong.

    Attributes
    ----------
    name : str
    inferred : str
        How inputs were made, when none were given.
    examples : int
    kinds : Counter of "smooth", "kink", "jump", "edge", "unresolved" over all directions looked at
    notes : Counter of what was noted and not failed
    failure : GradReport of the smallest failing example, or None
    outside : int
        Examples at which the output was not finite, where there is no slope to compare with.
    excess : float
        Largest error over allowed error in what passed.
    largest : float
        Largest excess (error over allowed error) seen before shrinking.
    examples_to_failure : int or None
    seconds : float
    """

    name: str
    inferred: str = ""
    examples: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    failure: GradReport | None = None
    outside: int = 0
    excess: float = 0.0
    largest: float = 0.0
    examples_to_failure: int | None = None
    seconds: float = 0.0
    seed: int | None = None

    def __bool__(self) -> bool:
        return self.failure is None

    @property
    def decided(self) -> float:
        """Share of the directions that were smooth or at a kink."""
        total = sum(self.kinds.values())
        return (self.kinds["smooth"] + self.kinds["kink"]) / total if total else float(not self.outside)

    def __str__(self) -> str:
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.kinds.most_common()) or "nothing to decide"
        lines = [str(self.failure)] if self.failure is not None else [f"{self.name}: gradient right"]
        lines.append(f"  fuzzed      {self.examples} examples; {self.decided:.1%} decided: {kinds}")
        if self.failure is not None:
            lines[-1] += f"; largest excess {self.largest:.3g}" if self.largest > 1 else ""
            lines[-1] += f"; seed={self.seed}"
        lines += [f"  inferred    {self.inferred}"] if self.inferred else []
        lines += [f"  noted       {count} x {note}" for note, count in self.notes.most_common(1)]
        return "\n".join(lines)


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
    min_decided: float = 0.5,
    raise_error: bool = True,
    shrink: bool = True,
) -> FuzzReport:
    """Fuzz the gradient of fn: draw arguments, check each, and shrink the first failure.

    Parameters
    ----------
    fn : a rule (arrays -> (output, vjp)), a pair (forward, backward), a function of Tensors, or a Module
    inputs : Hypothesis strategy of (args, kwargs), or of a tuple of arrays; inferred from the signature if not given
    max_examples : int
    seed : int
        Of the examples; by default one is drawn and reported.
    kinks, properties, reference, wrt, backend : as for `check_grad`
    min_decided : float
        Share of directions that must be decided (smooth or kink); less is a failure, as then nothing was checked.
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
    words = ""
    refuse_unknown("fuzz_grad", fn, kinks, properties, wrt, backend, reference, seed)
    if inputs is None:
        inputs, words = infer(fn, backend)
    number = random.SystemRandom().randrange(2**32) if seed is None else seed
    report = FuzzReport(_name(fn), words, seed=number)
    options = {"kinks": kinks, "properties": properties, "reference": reference, "wrt": wrt}
    check = _Check(fn, options, backend, guessed=bool(words))
    start = time.perf_counter()

    def one(arguments: Any, draw: Draw) -> None:
        report.examples += 1
        result = check(arguments, draw)
        if not result:
            report.largest = max(report.largest, result.excess)
            report.failure = result
            report.examples_to_failure = report.examples_to_failure or report.examples
            raise GradientFailure(result)
        if report.failure is None:
            report.kinds += result.kinds
            report.outside += result.outside
            report.excess = max(report.excess, result.excess)
            report.notes.update(result.notes)

    test = given(inputs, DRAWS)(one)
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
    if report.failure is not None and raise_error:
        raise GradientFailure(report)
    if report.failure is None and report.decided < min_decided and raise_error:
        raise GradientError(
            f"fuzz_grad: only {report.decided:.0%} of the directions for {report.name} could be decided "
            f"({dict(report.kinds)}); give inputs inside its domain, or lower min_decided={min_decided}."
        )
    return report


def grad_property(
    inputs: Strategy[Any] | None = None,
    *,
    kinks: str | None = None,
    properties: str | Sequence[str] = "all",
    reference: Callable[..., Any] | None = None,
    wrt: Sequence[int | str] | None = None,
    backend: Any = None,
) -> Callable[[Any], Any]:
    """Make a Hypothesis test of a function with a gradient, for pytest to collect.

    The test has the parameters `arguments`, an (args, kwargs), and `draw`, a `Draw`; so `@settings`, `@seed`, the
    database and `@example(arguments=((a, b), {}), draw=Draw())` work as for any Hypothesis test. The function itself
    is the test's attribute `fn`. Arguments as for `fuzz_grad`.

    Examples
    --------
    >>> from tinygrad_lite.fuzz.strategies import tensors
    >>> @grad_property(tensors())
    ... def test_sine(x):
    ...     return np.sin(x), lambda g: g * np.cos(x)
    >>> test_sine()
    """

    def decorate(fn: Any) -> Any:
        chosen, words = (inputs, "") if inputs is not None else infer(fn, backend)
        options = {"kinks": kinks, "properties": properties, "reference": reference, "wrt": wrt}
        check = _Check(fn, options, backend, guessed=bool(words))

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
        wrapped: Any = given(arguments=chosen, draw=DRAWS)(test)
        wrapped.fn = fn
        if callable(fn) and hasattr(fn, "__dict__"):
            fn.__dict__["under_test"] = True  # its name is now that of the test, which the report must know
        return wrapped

    return decorate


class _Check:
    """Examine fn at drawn arguments; how fn is called is found out once."""

    def __init__(self, fn: Any, options: dict[str, Any], backend: Any, *, guessed: bool) -> None:
        self.fn, self.options, self.backend, self.guessed = fn, options, backend, guessed

    def __call__(self, arguments: Any, draw: Draw) -> GradReport:
        args, kwargs = _arguments(arguments)
        args = _laid_out(args, draw.layout)

        def cotangent(shapes: Sequence[tuple[int, ...]]) -> list[Array]:
            if draw.v_layout == "expanded":
                return [lay_out(np.full(shape, 0.25 + draw.seed % 8), "expanded") for shape in shapes]
            return [lay_out(v, draw.v_layout) for v in direction(draw.v, draw.seed, shapes)]

        probes = [(draw.u, draw.seed), ("gauss", draw.seed + 1), ("ones", 0)]
        try:
            target = Target(self.fn, args, kwargs, self.backend)
            result = examine(target, probes, cotangent=cotangent, seed=draw.seed, full=False, **self.options)
        except REFUSED as error:
            if self.guessed:
                reject()  # the arguments were inferred: perhaps these are not valid
            error.add_note(f"called with {_arguments(arguments)!r}"[:500])
            raise
        self.backend = target.backend
        refused = self.guessed and not result and result.worst.name == "error"
        if refused and all(leaf.ndim == 0 or leaf.size == 0 for leaf in target.leaves):
            reject()  # nor is the rule perhaps meant for these shapes
        return result


def _arguments(drawn: Any) -> Arguments:
    """(args, kwargs) from what a strategy gave: that, a tuple or list of arguments, keyword arguments, or one array."""
    if isinstance(drawn, (tuple, list)):
        if len(drawn) == 2 and isinstance(drawn[0], (tuple, list)) and isinstance(drawn[1], dict):
            return tuple(drawn[0]), drawn[1]
        return tuple(drawn), {}
    return (drawn,), {}


def _laid_out(value: Any, layout: str) -> Any:
    if isinstance(value, (tuple, list)):
        return type(value)(_laid_out(item, layout) for item in value)
    plain = isinstance(value, np.ndarray) and value.dtype.kind == "f" and layout_of(value) == "C"
    return lay_out(value, layout) if plain else value


def _name(fn: Any) -> str:
    forward = fn[0] if isinstance(fn, tuple) else fn
    return getattr(forward, "__name__", type(forward).__name__)
