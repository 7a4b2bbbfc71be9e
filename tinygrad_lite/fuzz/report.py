"""What a fuzzing run found, and how to see it again."""

import runpy
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tinygrad_lite.errors import DtypeError
from tinygrad_lite.gradcheck import GradientFailure, GradReport, check_grad


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
    undecided: str = ""  # why nothing can be said, if so

    def __bool__(self) -> bool:
        return self.failure is None and not self.undecided

    @property
    def decided(self) -> float:
        """Share of the directions that were smooth or at a kink. Jumps do not count: a right floor has them everywhere."""
        total = sum(self.kinds.values()) - self.kinds["jump"]
        return (self.kinds["smooth"] + self.kinds["kink"]) / total if total else float(not (self.kinds or self.outside))

    def __str__(self) -> str:
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.kinds.most_common())
        lines = [str(self.failure)] if self.failure is not None else [self.undecided or f"{self.name}: gradient right"]
        none = "no slope was compared" if self.failure is None else "none before the wrong one"
        looked = f"{self.decided:.1%} decided: {kinds}" if kinds else none
        lines.append(f"  fuzzed      {self.examples} examples; {looked}")
        if self.failure is not None:
            lines[-1] += f"; largest excess {self.largest:.3g}" if self.largest > 1 else ""
            lines[-1] += f"; seed={self.seed}"
        lines += [f"  inferred    {self.inferred}"] if self.inferred else []
        lines += [f"  noted       {count} x {note}" for note, count in self.notes.most_common(1)]
        return "\n".join(lines)


def replay(failure: "FuzzReport | GradReport | str | Path") -> GradReport | None:
    """Check again what failed: a report, or a file with the snippet of one.

    Returns
    -------
    GradReport, true if the gradient is right now; None for a file whose snippet, or whatever is in it, raised nothing.
    """
    report = failure.failure if isinstance(failure, FuzzReport) else failure
    if report is None:
        raise DtypeError("replay: nothing failed in this report, so there is nothing to see again.")
    if isinstance(report, GradReport):
        first = report.first or report
        target, settings = first.target, first.settings
        return check_grad(
            target.fn, *target.args, kwargs=target.kwargs, cotangent=list(first.v), seed=first.seed, raise_error=False,
            **{**settings, "backend": target.backend, "order": settings.get("order") or 1},
        )  # fmt: skip
    try:
        runpy.run_path(str(report))
    except GradientFailure as error:
        return error.report  # type: ignore[no-any-return]
    return None
