"""What a check found, in words: the failure, where it is, what it looks like, and code that shows it again."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinygrad_lite.errors import GradientError
from tinygrad_lite.gradcheck.check import Point, Verdict, as_gradient, direction
from tinygrad_lite.gradcheck.layout import Array, lay_out, layout_of
from tinygrad_lite.gradcheck.nested import flattened
from tinygrad_lite.gradcheck.snippet import snippet
from tinygrad_lite.gradcheck.target import Target, quiet

MAX_ENTRIES = 64  # of the input, for a gradient taken entry by entry
LONG = 100  # characters of an array that are printed in the report's head


@dataclass
class Failure:
    """One thing that is wrong at one point.

    Attributes
    ----------
    name : "value", "finite", or the name of a property
    message : what is wrong
    leaf : index of the differentiable argument, or None
    verdict : Verdict of the direction that failed, for "value" and "finite"
    """

    name: str
    message: str
    leaf: int | None = None
    verdict: Verdict | None = None
    u: Sequence[Array] = ()


@dataclass
class GradReport:
    """What `check_grad` found at one point; true if the gradient is right. `str(report)` is for people.

    Attributes
    ----------
    target, v, seed, wrt : what was checked
    failures : list of Failure
    notes : list of str
        Values at kinks that are no subgradients, where these are only reported.
    kinds : Counter of "smooth", "kink", "jump", "edge", "unresolved" over the directions
    excess : float
        Largest error over allowed error of a direction.
    outside : bool
        Whether the output was not finite, so that there was no slope to compare with.
    asked : bool
        Whether there were entries whose slope was asked for.
    """

    target: Target
    v: Sequence[Array]
    seed: int
    wrt: Sequence[int]
    settings: dict[str, Any] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    excess: float = 0.0
    outside: bool = False
    asked: bool = False
    first: "GradReport | None" = None  # of the function, where this one is of its gradient

    def __bool__(self) -> bool:
        return not self.failures and not self.undecided

    @property
    def undecided(self) -> bool:
        """Whether slopes were asked for, and not one could be decided."""
        return self.asked and not self.kinds["smooth"] + self.kinds["kink"]

    @property
    def decided(self) -> float:
        """Share of the directions that were smooth or at a kink; 1 when there was none to look at."""
        total = sum(self.kinds.values())
        return (self.kinds["smooth"] + self.kinds["kink"]) / total if total else 1.0

    @property
    def worst(self) -> Failure:
        # What is written into, keeps state or has the wrong shape cannot have the right numbers.
        order = {"shape": 3, "untouched": 2, "deterministic": 2, "value": 1, "finite": 1}
        return max(
            self.failures, key=lambda failure: (order.get(failure.name, 0), failure.verdict.excess if failure.verdict else 0.0)
        )

    def raise_if_wrong(self) -> None:
        if self.failures:
            raise GradientFailure(self)

    def __str__(self) -> str:
        with quiet():
            return self._words()

    def _words(self) -> str:
        if not self.failures:
            kinds = ", ".join(f"{count} {kind}" for kind, count in self.kinds.most_common())
            if self.undecided:
                why = (
                    "the function is not finite here"
                    if self.outside
                    else f"in none of the directions ({kinds or 'there are none'})"
                )
                return f"{self.target.name}: nothing could be decided about the gradient: {why}; take another point."
            return "\n".join([f"{self.target.name}: gradient right in {kinds or 'no'} directions", *self.notes])
        failure = self.worst
        lines = [f"{self.target.name}  ({self.target.backend})   property: {failure.name}"]
        lines += [f"  {line}" for line in self._inputs()]
        lines.append(f"  wrong       {failure.message}")
        if failure.verdict:
            lines += [f"  {line}" for line in self._entries(failure)]
        lines.append(f"  diagnosis   {diagnose(self, failure)}")
        also = sorted({other.name for other in self.failures} - {failure.name})
        lines += [f"  also        {', '.join(also)}"] if also else []
        return "\n".join([*lines, "  reproduce   without Hypothesis:", *("      " + s for s in snippet(self).splitlines())])

    def _inputs(self) -> list[str]:
        names, lines = iter(self.target.names), []
        parameters = self.target.leaves[len(self.target.leaves) - len(self.target.parameters) :]
        for i, value in enumerate([*flattened(self.target.args), *parameters][:6]):
            if isinstance(value, np.ndarray):
                what = f"{_short(value)}  {value.shape} {value.dtype} {layout_of(value)}"
                lines.append(f"input       {next(names) if value.dtype.kind == 'f' else f'args[{i}]'} = {what}")
            else:
                lines.append(f"input       args[{i}] = {value!r}"[:110])
        cotangent = ", ".join(f"{_short(v)} {layout_of(v)}" for v in self.v)
        return [*lines, f"kwargs      {dict(self.target.kwargs)!r}"[:110], f"cotangent   {cotangent}"]

    def _entries(self, failure: Failure) -> list[str]:
        verdict, where = failure.verdict, self._touched(failure.u)
        if worst := self._worst_entry():  # one entry says more than a direction
            verdict, where = worst[2], [worst[:2]]
        assert verdict is not None
        entry = "".join(self.target.names[i] + (f"[{', '.join(map(str, at))}]" if at else "") for i, at in where[:1])
        source = "what the rule returned"
        if len(where) > 1:
            entry = f"a direction through {len(where)} entries of " + ", ".join(self.target.names[i] for i in self.wrt)
            source = "of what the rule returned, along it"
        slope = verdict.slope
        numeric = f"{slope.value!r} +- {slope.error:.1g}"
        if slope.kind == "kink":
            numeric = f"left {slope.left!r}, right {slope.right!r}"
        return [
            f"entry       {entry}",
            f"analytic    {verdict.analytic!r}    ({source})",
            f"numeric     {numeric}    ({slope.kind}, {slope.evals} evaluations)",
            f"excess      {verdict.excess:.3g} times the allowed error",
        ]

    def _touched(self, u: Sequence[Array]) -> list[tuple[int, tuple[int, ...]]]:
        return [(i, tuple(map(int, at))) for i, part in zip(self.wrt, u, strict=True) for at in np.argwhere(part)]

    def _worst_entry(self) -> tuple[int, tuple[int, ...], Verdict] | None:
        point = Point(self.target, self.wrt)
        if sum(point.leaves[i].size for i in self.wrt) > MAX_ENTRIES:
            return None
        wrong = [row for row in entrywise(self, point, point.gradients(self.v)) if row[2].wrong]
        return max(wrong, key=lambda row: row[2].excess, default=None)


class GradientFailure(GradientError):  # noqa: N818 - a GradientError, which is the name to catch
    """A GradientError that holds its report and words it only when it is read, as shrinking makes many of them."""

    def __init__(self, report: Any) -> None:
        super().__init__()
        self.report = report

    def __str__(self) -> str:
        return str(self.report)


def entrywise(report: GradReport, point: Point, grads: Sequence[Array]) -> list[tuple[int, tuple[int, ...], Verdict]]:
    """(leaf, index, verdict) for every entry of small inputs."""
    v, found = [np.array(w, np.float64) for w in report.v], []
    for position, i in enumerate(report.wrt):
        for index in np.ndindex(point.leaves[i].shape):
            u = [np.zeros(point.leaves[j].shape) for j in report.wrt]
            u[position][index] = 1.0
            verdict = point.compare(u, v, grads)
            if report.settings.get("complex_step") and not verdict.wrong:
                verdict = point.second_opinion(u, v, grads, verdict)
            found.append((i, index, verdict))
    return found


def diagnose(report: GradReport, failure: Failure) -> str:
    """What the error looks like, from comparing the gradient entry by entry."""
    target = report.target
    if failure.name == "shape" and failure.leaf is None:
        return "one gradient is wanted for each float array argument, as a tuple or a list, in their order"
    if failure.name not in ("value", "finite"):
        return _ADVICE[failure.name]
    v = [np.array(w, np.float64) for w in report.v]
    point = Point(target, report.wrt)
    given = target.run([leaf.astype(np.float64, copy=False) for leaf in target.leaves])[1](report.v)
    grads = [as_gradient(given[i], target.leaves[i]) for i in report.wrt]
    plain = point.gradients([lay_out(w, "C") for w in v])
    if any(not np.allclose(a, b, rtol=1e-6, equal_nan=True) for a, b in zip(grads, plain, strict=True)):
        return "right for contiguous arrays, wrong in this memory layout: use strides, or copy to C order first"
    if sum(point.leaves[i].size for i in report.wrt) > MAX_ENTRIES:
        return "too many entries to compare one by one; check a smaller input to see which are wrong"
    if any(not np.isfinite(g).all() for g in grads):
        return "not finite where the function is differentiable: a division by zero, 0 * inf or log of 0 in the backward"
    seen = []
    for i in report.wrt:
        rows = [(verdict, index) for leaf, index, verdict in entrywise(report, point, grads) if leaf == i]
        seen += [verdict.kind for verdict, _ in rows]
        if any(verdict.wrong for verdict, _ in rows):
            analytic = np.array([verdict.analytic for verdict, _ in rows])
            numeric = np.array([verdict.slope.value for verdict, _ in rows])
            name = target.names[i]
            if given[i] is None:
                return f"{name}: None was returned, which counts as a gradient of zeros"
            return f"{name}: " + _look(analytic, numeric, point.leaves[i], report, rows, point.gradients)
    if "kink" in seen and (verdict := failure.verdict):
        slope = verdict.slope
        less = abs(verdict.analytic) < min(abs(slope.left), abs(slope.right))
        gets = "arguments together get less than the gradient" if less else "each argument gets the full gradient"
        return f"every entry alone is allowed, the sum is not: at a tie or kink {gets}"
    return "every entry alone is allowed, the sum is not: small errors that add up"


def _look(
    analytic: Array,
    numeric: Array,
    leaf: Array,
    report: GradReport,
    rows: Sequence[Any],
    gradients: Callable[[Sequence[Array]], list[Array]],
) -> str:
    def close(a: Array, b: Array) -> bool:
        return bool(np.allclose(a, b, rtol=1e-5, atol=1e-9 * float(np.abs(numeric).max(initial=0))))

    if not np.isfinite(numeric).all():
        return "wrong at some entries, others are at the edge of the domain"
    if not analytic.any():
        return "the gradient is zero: a term is missing or overwritten, or the cotangent does not arrive"
    if any(verdict.wrong and verdict.kind == "kink" for verdict, _ in rows):
        return "at a kink or tie, and not between the slopes on its sides: ties counted twice or not at all?"
    large = np.abs(numeric) > 1e-9 * np.abs(numeric).max(initial=0)
    ratios = analytic[large] / numeric[large]
    others = [[np.ones_like(w) for w in report.v], direction("gauss", 1, [w.shape for w in report.v])]
    position = [i for i in report.wrt if rows and report.target.leaves[i].shape == leaf.shape]
    if any(not np.array_equal(a, b) for a, b in zip(others[0], report.v, strict=True)) and position:
        place = list(report.wrt).index(position[0])
        if all(close(gradients(other)[place].reshape(-1), analytic) for other in others):
            return "the same as for a cotangent of ones: the cotangent is ignored"
    if len(ratios) and 1e-6 < abs(ratios[0]) < 1e6 and close(analytic, numeric * ratios[0]):
        c = float(ratios[0])
        if abs(c + 1) < 1e-5:
            return "the sign is wrong"
        if abs(c - 1) < 1e-5:
            return f"off by {abs(c - 1):.1g} of itself: an eps that the function lacks, or a constant with too few digits?"
        factors = {leaf.size: "the number of entries", **{n: f"the size {n} of an axis" for n in leaf.shape}}
        for n, words in factors.items():
            if n > 1 and min(abs(c - n), abs(c - 1 / n)) < 1e-5:
                return f"a factor of {c:.6g}, {words}: a mean or sum that is counted wrongly, or a broadcast not summed"
            if n > 1 and min(abs(c - n / (n - 1)), abs(c - (n - 1) / n)) < 1e-5:
                return f"a factor of {c:.6g}: n against n - 1"
        return f"a factor of {c:.6g} too much" if abs(c) > 1 else f"a factor of {1 / c:.6g} is missing"
    if leaf.ndim == 2 and close(analytic.reshape(leaf.shape[::-1]).T.reshape(-1), numeric):
        return "the gradient is the transpose of the right one"
    if len(rows) > 1 and close(analytic - numeric, np.full_like(numeric, (analytic - numeric).mean())):
        return "all entries are off by the same number: a mean or sum over the input is not taken into account"
    too_small = (np.abs(analytic) < np.abs(numeric)) & (analytic * numeric >= 0)
    right = np.isclose(analytic, numeric, rtol=1e-5)
    if right.any() and np.all(right | too_small):
        return (
            "some entries are right and some too small: contributions overwritten where they should be added (= for +=), "
            "or a term left out there?"
        )
    wrong = sum(verdict.wrong for verdict, _ in rows)
    return f"{wrong} of {len(rows)} entries wrong, the first at {next(index for verdict, index in rows if verdict.wrong)}"


_ADVICE = {
    "shape": "give an array of the argument's shape and dtype (zeros_like): sum over the axes that broadcasting added",
    "untouched": "the rule writes into an array that belongs to somebody else: make a new one (g = g * m, not g *= m)",
    "alias": "two owners of one buffer: what one adds in place, the other sees; return a copy",
    "deterministic": "state is kept between calls (a cache, a generator): the same input must give the same gradient",
    "linear": "the backward pass is linear in the cotangent by definition: is it ignored, squared or its sign taken?",
    "zero": "something is added that does not depend on the cotangent",
    "layout": "reshape, ravel or strides were used as if the array were contiguous",
    "precision": "overflow, a wrong factor, or a constant or buffer of the wrong dtype in float32",
    "needs": "what is left out to save work must not change what is asked for",
    "forward": "the forward pass itself is wrong; its gradient may still be that of the wrong function",
    "error": "the backward pass must work wherever the forward pass does",
}


def _short(array: Array) -> str:
    text = " ".join(repr(array.tolist()).split())
    return text if len(text) <= LONG else text[: LONG - 3] + "..."
