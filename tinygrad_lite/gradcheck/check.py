"""Is this gradient right? Analytic against numeric slope along directions, and the subgradient test at kinks.

This file is long because one verdict needs every step of the argument.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tinygrad_lite.errors import DtypeError
from tinygrad_lite.gradcheck.layout import Array
from tinygrad_lite.gradcheck.oracle import APART, FIRST_STEP, Slope, directional
from tinygrad_lite.gradcheck.target import Target, quiet

Arrays = Sequence[Array]
DIRECTIONS = ("onehot", "ones", "signs", "gauss")
RELATIVE = 1e-7  # of the slope: rules may use another formula than the forward pass
CANCELLATION = 1e-10  # of the largest term in the inner product of gradient and direction
FLOAT32 = 2.0**-23
COMPLEX_STEP = 1e-30  # its square vanishes beside all but the smallest numbers
LOST = 1e-9  # noise, as a share of the function, from which on nothing is called wrong
MAX_ROWS = 128  # outputs that are looked at one by one at a kink


def direction(kind: str, seed: int, shapes: Sequence[tuple[int, ...]]) -> list[Array]:
    """Arrays of the shapes: one entry 1 and the rest 0 ("onehot"), all 1, random signs, or standard normal (any other kind).

    Each kind has random numbers of its own, and none has those of default_rng(seed): with a cotangent equal to the input, the
    gradient of all that does not depend on the input's length is 0.
    """
    sizes = [int(np.prod(shape)) for shape in shapes]
    total = sum(sizes)
    if kind == "onehot":
        flat = np.zeros(total)
        flat[seed % max(total, 1) : seed % max(total, 1) + 1] = 1.0
    elif kind == "ones":
        flat = np.ones(total)
    else:
        rng = np.random.default_rng([seed, *kind.encode()])
        flat = rng.choice([-1.0, 1.0], total) if kind == "signs" else rng.standard_normal(total)
    ends = itertools.accumulate(sizes)
    return [flat[end - size : end].reshape(shape) for end, size, shape in zip(ends, sizes, shapes, strict=True)]


class OutputError(DtypeError):
    """A function whose outputs cannot be checked, whatever its arguments are."""


@dataclass(frozen=True)
class Verdict:
    """One direction: what the rule says, what the oracle says, and how many times the allowed error they differ."""

    slope: Slope
    analytic: float
    allowed: float
    excess: float  # <= 1 is right, > 1 is wrong, NaN is undecided
    kind: str  # the slope's; or "faint", right but for want of digits, or "rounded", off by no more than rounding explains

    @property
    def wrong(self) -> bool:
        return self.excess > 1


class Point:
    """A target at one point in float64: the numeric side of every comparison made there.

    Parameters
    ----------
    target : Target
    wrt : indices of the leaves that are differentiated; the others are constants
    """

    def __init__(self, target: Target, wrt: Sequence[int]) -> None:
        self.target, self.wrt, self.measured = target, wrt, target.measured
        self.leaves = [np.array(leaf, np.float64, order="C") for leaf in target.leaves]
        try:
            outs = self.measured.run(self.leaves)[0]
        except Exception as error:
            if any(leaf.dtype != np.float64 for leaf in target.leaves):
                error.add_note(
                    "called with float64 copies of its arguments, as a slope needs the digits; wrap what takes float32 only"
                )
            raise
        for k, out in enumerate(outs):
            if out.dtype.kind not in "biufc":
                what = f"a {type(out.item()).__name__}" if out.ndim == 0 else f"an array of dtype {out.dtype}"
                raise OutputError(
                    f"{target.name}: must return arrays of numbers, but output {k} is {what}; "
                    "what only the backward pass needs stays inside, see docs/fuzzing.md."
                )
        if target.leaves and any(np.iscomplexobj(out) for out in outs):
            raise OutputError(
                f"{target.name}: its output is complex, and only real ones can be checked; take .real, .imag or abs of it."
            )
        self.outs = [np.array(out, np.float64) for out in outs]
        self.finite = all(np.isfinite(out).all() for out in self.outs)
        self.eps = 2.0**-52
        self.stretch = 1.0  # of the distance over which the function is looked at

    def forward(self, step: float, u: Arrays) -> list[Array]:
        return self.along(u)(step)

    def along(self, u: Arrays) -> Callable[[float], list[Array]]:
        """The outputs as a function of the step along u from the leaves as they are now."""
        moving = [(i, part) for i, part in zip(self.wrt, u, strict=True) if part.any()]
        leaves, run, shapes = list(self.leaves), self.measured.run, [o.shape for o in self.outs]

        def at(step: float) -> list[Array]:
            moved = list(leaves)
            for i, part in moving:
                moved[i] = leaves[i] + step * part
            outs = run(moved)[0]
            if [o.shape for o in outs] != shapes:
                raise ValueError(f"{self.target.name}: the output's shape changed with the values of the input")
            return outs

        return at

    def gradients(self, v: Arrays) -> list[Array]:
        """Analytic gradients with respect to wrt in float64, for comparing numbers (None counts as zeros)."""
        grads = self.target.run(self.leaves)[1]([w.copy() for w in v])
        return [as_gradient(grads[i], self.leaves[i]) for i in self.wrt]

    def largest(self, u: Arrays) -> float:
        """Largest finite input that the direction touches."""
        touched = [largest_of(self.leaves[i][part != 0]) for i, part in zip(self.wrt, u, strict=True)]
        return max(touched, default=0.0)

    def scale(self, u: Arrays) -> float:
        largest = self.largest(u)
        return self.stretch * (min(max(largest, 1e-3), 1.0) if largest else 1.0)

    def slope(self, u: Arrays, v: Arrays, grads: Arrays, *, shrink: float = 1.0, noise: float = 0.0) -> Slope:
        """Numeric slope of <v, f> along u, first step and noise as known."""
        scale, coarse, fine, single = self.scale(u), False, False, False
        along = self.along(u)

        def phi(t: float) -> tuple[float, float]:
            nonlocal coarse, fine, single
            try:
                outs = self.outs if t == 0 else along(t)
            except Exception:  # what refuses this value has the edge of its domain here
                return np.nan, 0.0
            if t and not fine:  # what changes has digits that float32 does not hold, or else it was computed in float32
                changed = [o[o != here] for o, here in zip(outs, self.outs, strict=True)]
                fine = any((c != c.astype(np.float32)).any() for c in changed)
                coarse = coarse or any(c.size for c in changed)
                single = single or any(o.dtype == np.float32 and w.any() for o, w in zip(outs, v, strict=True))
            terms = [w * o for w, o in zip(v, outs, strict=True)]
            size = sum(float(np.abs(term).sum()) for term in terms)
            if not math.isfinite(size):  # an output that counts for nothing may be infinite
                terms = [w[w != 0] * o[w != 0] for w, o in zip(v, outs, strict=True)]
                size = sum(float(np.abs(term).sum()) for term in terms)
            return float(sum(term.sum() for term in terms)), size if math.isfinite(size) else 0.0

        # What the rounding of the inputs makes of them is noise too.
        terms = 4 * noise / self.eps
        for i, g, part in zip(self.wrt, grads, u, strict=True):
            product = np.abs(self.leaves[i] * g * part)
            terms += float(product[np.isfinite(product)].sum())
        with quiet():
            found = directional(phi, scale=scale * shrink, magnitude=terms, eps=self.eps)
            if single or (coarse and not fine):
                found = directional(phi, scale=scale * shrink, magnitude=terms, eps=FLOAT32)
        return found

    def _computes_in_float32(self) -> bool:
        """Whether the outputs here and nearer to 0 have many digits, but none that float32 does not hold."""
        exact, short = True, True
        for factor in (1.0, 0.37, 0.1, 0.01):
            try:
                outs = self.measured.run([leaf * factor if i in self.wrt else leaf for i, leaf in enumerate(self.leaves)])[0]
            except Exception:  # outside of the domain
                continue
            with quiet():  # neither holds what is very large
                for values in (out[np.isfinite(out)] for out in outs):
                    exact &= bool((values == values.astype(np.float32)).all())
                    short &= bool((values == values.astype(np.float16)).all())
        return exact and not short

    def complex_slope(self, u: Arrays, v: Arrays) -> float | None:
        """Slope of <v, f> along u as Im <v, f(x + ih u)> / h: exact to rounding, with no step to choose.

        None where f does not carry complex numbers through. Silently wrong where f is not analytic (|x|, a real part taken),
        so it counts only beside a numeric slope that it agrees with. Source: Squire & Trapp 1998.
        """
        moved: list[Array] = list(self.leaves)
        for i, part in zip(self.wrt, u, strict=True):
            moved[i] = moved[i] + 1j * COMPLEX_STEP * part
        try:
            outs = self.measured.run(moved)[0]
        except Exception:
            return None
        if not all(np.iscomplexobj(o) for o in outs):
            return None
        return float(sum((w * o.imag).sum() for w, o in zip(v, outs, strict=True)) / COMPLEX_STEP)

    def second_opinion(self, u: Arrays, v: Arrays, grads: Arrays, verdict: Verdict) -> Verdict:
        """Compare with the complex step to 1e-11 and rounding, where that is valid; else the verdict as it is."""
        slope = self.complex_slope(u, v)
        if slope is None or verdict.kind != "smooth" or not np.isfinite(verdict.analytic):
            return verdict
        if not abs(slope - verdict.slope.value) <= 8 * verdict.slope.error + 1e-6 * abs(slope):
            return verdict
        largest = max((float(np.abs(g * part).max(initial=0)) for g, part in zip(grads, u, strict=True)), default=0.0)
        # A rule whose terms cancel keeps the rounding of the terms.
        terms = self.typical(u) * sum(float(np.abs(w).sum()) for w in v) * sum(float(np.abs(part).sum()) for part in u)
        allowed = 1e-11 * max(abs(slope), largest) + 2.0**-50 * terms
        exact = replace(verdict.slope, value=slope, left=slope, right=slope, error=allowed)
        return Verdict(exact, verdict.analytic, allowed, abs(verdict.analytic - slope) / allowed, "smooth")

    def compare(self, u: Arrays, v: Arrays, grads: Arrays) -> Verdict:
        """Compare <u, grads> with the numeric slope of <v, f> along u."""
        verdict = self._compare(u, v, grads)
        stretch = self.largest(u) / self.scale(u)
        if verdict.kind == "rounded":  # longer steps, with larger errors of their own, would not notice
            return replace(verdict, kind="unresolved")
        if verdict.kind not in ("smooth", "kink") and stretch not in (0.0, 1.0):
            try:  # of very large and very small inputs a function may change over distances as large or small
                self.stretch = stretch
                again = self._compare(u, v, grads)
            finally:
                self.stretch = 1.0
            verdict = again if again.kind in ("smooth", "kink") else verdict
        return replace(verdict, kind=verdict.slope.kind) if verdict.kind == "faint" else verdict

    def _compare(self, u: Arrays, v: Arrays, grads: Arrays) -> Verdict:
        verdict = self._judge(self.slope(u, v, grads), u, v, grads)
        if not verdict.wrong:
            return verdict
        if np.isfinite(verdict.analytic) and verdict.excess * verdict.allowed <= 8 * self._lost_digits(u, v, grads):
            return replace(verdict, excess=np.nan, kind="unresolved")
        noise, size = self._noise(u, v)
        stair = verdict.slope.value == 0 and abs(verdict.analytic) * self.scale(u) * FIRST_STEP <= FLOAT32 * size
        if noise > LOST * size or (stair and self._computes_in_float32()):
            return replace(verdict, excess=np.nan, kind="unresolved")
        verdict = self._judge(self.slope(u, v, grads, noise=noise), u, v, grads)
        if not verdict.wrong:
            return verdict
        # A failure is only what smaller steps, which see finer structure, do not explain and confirm.
        slopes, confirmed, doubted = [verdict.slope], not np.isfinite(verdict.analytic), False
        for shrink in (0.37, 1e-3, 1e-5):
            closer = self.slope(u, v, grads, shrink=shrink, noise=noise)
            if not closer.decided:
                continue
            closer_verdict = self._judge(closer, u, v, grads)
            if not closer_verdict.wrong:
                if not _agree(closer, verdict.slope):
                    return closer_verdict
                doubted |= shrink > 1e-4  # at the finest steps noise hides a small error, which is no doubt
            confirmed |= closer_verdict.wrong and any(_agree(closer, other) for other in slopes)
            slopes.append(closer)
        # A bend of the slope nearer than the first steps is a small error of it, and only finer steps, with more noise, see it.
        small = abs(verdict.analytic - verdict.slope.value) <= 1e-3 * abs(verdict.slope.value)
        if not confirmed or (doubted and small):
            return replace(verdict, excess=np.nan, kind="unresolved" if confirmed else "rounded")
        if self._rounded_inside(u, v, verdict):
            return replace(verdict, excess=np.nan, kind="rounded")
        if np.isfinite(verdict.analytic) and self._rows_are_subgradients(u, v, grads):
            return Verdict(verdict.slope, verdict.analytic, verdict.allowed, 0.0, "kink")  # a subgradient, as right as any
        return verdict

    def _noise(self, u: Arrays, v: Arrays) -> tuple[float, float]:
        """Noise of <v, f> along u, and the size of its terms: digits lost inside, where terms cancel, do not show in the size.

        From third differences of close samples. Source: More & Wild, SIAM J. Sci. Comput. 33 (2011).
        """
        step = self.scale(u) * 2.0**-40
        try:
            *close, coarse = [self.forward(k * step, u) for k in (*range(8), 2**33)]
        except Exception:
            return 0.0, 0.0
        third = np.diff([sum(float((w * o).sum()) for w, o in zip(v, outs, strict=True)) for outs in close], 3)
        noise = float(np.sqrt((third * third).mean() / 20))
        size = sum(float(np.abs(w * o).sum()) for w, o in zip(v, coarse, strict=True))
        return (noise, size) if np.isfinite(noise + size) else (0.0, 0.0)

    def _rounded_inside(self, u: Arrays, v: Arrays, verdict: Verdict) -> bool:
        """Whether the first step agrees with the gradient, and what finer ones miss is less than the last bits of a 1.

        log(1 + tiny) is a staircase: between two stairs it is flat, and does not look noisy.
        """
        step = self.scale(u) * FIRST_STEP
        missed = abs(verdict.slope.value - verdict.analytic)
        try:
            sides = [self.forward(t, u) for t in (step, -step)]
        except Exception:  # what refuses these values is no such function
            return False
        first = sum(float((w * (a - b)).sum()) for w, a, b in zip(v, *sides, strict=True)) / (2 * step)
        return abs(first - verdict.analytic) < 0.5 * missed and missed * 1e-3 * step < rounding(v) * max(1.0, self.largest(u))

    def _judge(self, slope: Slope, u: Arrays, v: Arrays, grads: Arrays) -> Verdict:
        products = [g[part != 0] * part[part != 0] for g, part in zip(grads, u, strict=True)]
        analytic = float(sum(p.sum() for p in products))
        if not slope.decided:
            return Verdict(slope, analytic, np.nan, np.nan, slope.kind)
        largest = max((float(np.abs(p).max(initial=0)) for p in products), default=0.0)
        low, high = sorted((slope.left, slope.right)) if slope.kind == "kink" else (slope.value, slope.value)
        allowed = 8 * slope.error + RELATIVE * max(abs(low), abs(high)) + 5e-324
        if not np.isfinite(analytic):
            return Verdict(slope, analytic, allowed, np.inf, slope.kind)
        allowed += CANCELLATION * largest
        excess = max(low - analytic, analytic - high, 0.0) / allowed
        # Small beside what may be expected is 0, unless the outputs are large for a constant that was added to them.
        expected = min(self.typical(u), max((float(np.abs(w).max(initial=0)) for w in v), default=0.0) / self.scale(u))
        if excess <= 1 and allowed > max(0.01 * max(abs(low), abs(high), largest), 1e-14 * expected):
            if allowed > 1e-6 * expected:
                return Verdict(slope, analytic, allowed, np.nan, "unresolved")  # too coarse to call it right
            return Verdict(slope, analytic, allowed, excess, "faint")
        return Verdict(slope, analytic, allowed, excess, slope.kind)

    def _lost_digits(self, u: Arrays, v: Arrays, grads: Arrays) -> float:
        """How far <u, gradient> moves when all inputs are scaled by 1 and a few last bits: digits that the rule loses.

        One factor for all inputs, so that ties stay ties and zeros zeros; a jump of the gradient is not a loss of digits.
        """
        here, moved = list(self.leaves), []
        try:
            for bits in (-3, -2, -1, 1, 2, 3):
                self.leaves = [leaf * (1 + bits * 2.0**-52) for leaf in here]
                moved.append(abs(_inner(self.gradients(v), u) - _inner(grads, u)))
        finally:
            self.leaves = here
        largest = max((float(np.abs(g[part != 0]).max(initial=0)) for g, part in zip(grads, u, strict=True)), default=0.0)
        length = float(np.sqrt(sum((part * part).sum() for part in u)))
        return max(max(moved) if max(moved) <= 1e-5 * largest else 0.0, rounding(v) * length)

    def typical(self, u: Arrays) -> float:
        """Slope that the size of the outputs and inputs lets one expect."""
        return (max((float(np.abs(o).max(initial=0)) for o in self.outs), default=0.0) or 1.0) / self.scale(u)

    def _rows_are_subgradients(self, u: Arrays, v: Arrays, grads: Arrays) -> bool:
        """Whether each output's own gradient, along u, lies between derivatives nearby (Clarke's subgradient).

        Row by row, because a sum of outputs that are each at a kink may have a slope that no choice at the kinks gives.
        """
        weights = np.concatenate([w.reshape(-1) for w in v])
        outs = np.concatenate([o.reshape(-1) for o in self.outs])
        slopes = self._slopes_nearby(u, grads)
        seen = np.where(np.isfinite(slopes), slopes, np.nan)
        if np.isnan(seen).all(axis=0).any():
            return False
        low, high = np.nanmin(seen, axis=0), np.nanmax(seen, axis=0)
        slack = 1e-4 * np.maximum(np.abs(low), np.abs(high)) + 1e-8 * np.abs(outs) / self.scale(u)
        rows = np.flatnonzero((high - low > 10 * slack) & (weights != 0))
        if not len(rows):
            return False  # no output is at a kink here, so this is no excuse
        rest = weights.copy()
        rest[rows] = 0.0
        total, smooth = 0.0, self._parts(rest)
        if rest.any():  # the other outputs must be right as usual
            grads_of_rest = self.gradients(smooth)
            if self._judge(self.slope(u, smooth, grads_of_rest), u, smooth, grads_of_rest).wrong:
                return False
            total = _inner(grads_of_rest, u)
        for row in rows[:MAX_ROWS]:
            analytic = _inner(self.gradients(self._parts(np.eye(1, len(weights), row)[0])), u)
            total += weights[row] * analytic
            if not low[row] - slack[row] <= analytic <= high[row] + slack[row]:
                return False
        # They must also add up: a backward pass that is not linear in the cotangent has no such rows.
        size = np.abs(weights[rows]) @ np.maximum(np.abs(low), np.abs(high))[rows] + abs(total)
        return len(rows) > MAX_ROWS or bool(abs(total - _inner(grads, u)) <= 1e-3 * size)

    def _parts(self, flat: Array) -> list[Array]:
        """Cotangents, one for each output, from one flat array."""
        parts = np.split(flat, np.cumsum([o.size for o in self.outs])[:-1])
        return [part.reshape(o.shape) for part, o in zip(parts, self.outs, strict=True)]

    def _slopes_nearby(self, u: Arrays, grads: Arrays) -> Array:
        """Slopes of every output along u nearby: where the gradient and u lead, all one way, with ties put in order, at random.

        Each argument moves by its own size, lest a tiny one changes its sign: the slope is the sum of those along each of them.
        """
        rng, scale, here = np.random.default_rng(0), self.scale(u), list(self.leaves)
        sizes = [largest_of(here[i][part != 0] if part.any() else here[i]) for i, part in zip(self.wrt, u, strict=True)]
        distances = [1e-5 * min(scale, max(size, 1e-300) if size else scale) for size in sizes]
        alike: dict[int, list[int]] = {}  # arguments along u that move about as far
        for k, part in enumerate(u):
            if part.any():
                alike.setdefault(math.floor(math.log10(distances[k])), []).append(k)
        shifts = [[rng.uniform(-1, 1, g.shape) for g in grads] for _ in range(64)]
        for some in (grads, [np.abs(g) for g in grads], u):  # along u itself a norm has its extreme slopes
            largest = max(float(np.abs(g).max(initial=0)) for g in some) or 1.0
            for sign in (1.0, -1.0):
                leading = [sign * g / largest for g in some]
                shifts.append(leading)
                shifts += [[way + 0.3 * part for part in leading] for way in (1.0, -1.0)]  # all one way: seldom by chance
        for sign in (1.0, -1.0):  # as NumPy puts equal elements in order
            shifts.append([sign * _places(sign * here[i]) for i in self.wrt])
        found = []
        try:
            for shift in shifts:
                self.leaves = list(here)
                for i, part, distance in zip(self.wrt, shift, distances, strict=True):
                    self.leaves[i] = here[i] + distance * part
                rows = np.zeros(sum(o.size for o in self.outs))
                for members in alike.values():
                    step = 0.01 * min(distances[k] for k in members)
                    parts = [part if k in members else np.zeros_like(part) for k, part in enumerate(u)]
                    at = self.along(parts)
                    ahead, behind = at(step), at(-step)
                    with quiet():
                        rows += np.concatenate([(a - b).reshape(-1) / (2 * step) for a, b in zip(ahead, behind, strict=True)])
                found.append(rows)
        finally:
            self.leaves = here
        return np.array(found)


def largest_of(array: Array) -> float:
    """Give the largest size of a finite number in it."""
    return float(np.abs(array[np.isfinite(array)]).max(initial=0))


def _places(array: Array) -> Array:
    """Where each element comes when the last axis is put in order, from -1 to 1."""
    if not array.ndim:
        return np.zeros(())
    places = np.argsort(np.argsort(array, axis=-1), axis=-1)
    return np.asarray(2.0 * places / max(1, array.shape[-1] - 1) - 1)


def _agree(one: Slope, other: Slope) -> bool:
    return one.kind == other.kind and abs(one.value - other.value) <= APART * (one.error + other.error)


def rounding(v: Arrays, eps: float = 2.0**-52) -> float:
    """What the last bits of numbers of the cotangent's size, in the middle of a backward pass, may leave in a gradient.

    p - 1 of a softmax that is nearly one-hot, or a row minus its mean, is a difference of such numbers.
    """
    return 64 * eps * max((float(np.abs(w).max(initial=0)) for w in v), default=0.0) + 5e-324


def as_gradient(gradient: Array | float | None, leaf: Array) -> Array:
    """A returned gradient as a float64 array of the leaf's shape; one of another shape becomes NaN (and is reported)."""
    if gradient is None:
        return np.zeros(leaf.shape)
    array = np.asarray(gradient, np.float64)
    return array if array.shape == leaf.shape else np.full(leaf.shape, np.nan)


def _inner(grads: Arrays, u: Arrays) -> float:
    return float(sum((g[part != 0] * part[part != 0]).sum() for g, part in zip(grads, u, strict=True)))
