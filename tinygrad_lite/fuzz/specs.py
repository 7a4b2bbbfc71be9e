"""A table of ops as tests: `OpSpec` says how an op is fuzzed, `grad_tests` makes pytest tests of a table."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import example

from tinygrad_lite.errors import ShapeError
from tinygrad_lite.fuzz.properties import Draw, fuzz_grad, grad_property
from tinygrad_lite.fuzz.report import FuzzReport
from tinygrad_lite.fuzz.strategies import Strategy
from tinygrad_lite.gradcheck.properties import PROPERTIES


@dataclass(frozen=True)
class OpSpec:
    """How one op is fuzzed.

    Attributes
    ----------
    name : str, unique in its table
    fn, inputs, reference, wrt, kinks, backend, surrogate, order : as for `fuzz_grad`
    exempt : names of properties that do not hold for this op on purpose
    examples : arguments, each (args, kwargs), that are always tried
    """

    name: str
    fn: Any
    inputs: Strategy[Any] | None = None
    reference: Callable[..., Any] | None = None
    wrt: Sequence[int | str] | None = None
    kinks: str | None = None
    backend: Any = None
    surrogate: Callable[..., Any] | None = None
    order: int = 1
    exempt: tuple[str, ...] = ()
    examples: tuple[Any, ...] = ()

    @property
    def _options(self) -> dict[str, Any]:
        kept = ["value", *(name for name in PROPERTIES if name not in self.exempt)]
        names = ("reference", "wrt", "kinks", "backend", "surrogate", "order")
        options = {name: getattr(self, name) for name in names}
        return {**options, "properties": kept if self.exempt else "all"}

    def fuzz(self, **options: Any) -> FuzzReport:
        """Run `fuzz_grad` on this op; options as there."""
        return fuzz_grad(self.fn, self.inputs, **self._options, **options)

    def test(self) -> Any:
        """Make a Hypothesis test of this op."""
        test = grad_property(self.inputs, **self._options)(self.fn)
        for arguments in self.examples:
            test = example(arguments=arguments, draw=Draw())(test)
        test.__name__ = test.__qualname__ = "test_" + "".join(c if c.isalnum() else "_" for c in self.name)
        return test


def grad_tests(specs: Iterable[OpSpec]) -> type:
    """Make a class with one test for each op, for pytest to collect: `TestGradients = grad_tests(SPECS)`.

    Raises
    ------
    ShapeError : two names that are one as the name of a test, in which all but letters and digits is _.
    """
    tests: dict[str, Any] = {}
    for spec in specs:
        test = spec.test()
        if test.__name__ in tests:
            raise ShapeError(f"grad_tests: two ops would have the test {test.__name__}, one of them {spec.name!r}; rename one.")
        tests[test.__name__] = staticmethod(test)
    return type("GradTests", (), {"__doc__": "Gradients of a table of ops.", **tests})
