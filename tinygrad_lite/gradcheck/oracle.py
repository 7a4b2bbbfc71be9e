"""The oracle: the slope of a scalar function of one variable at 0, with an error estimate and what kind of point it is.

One-sided and central difference quotients on halved steps are extrapolated to step 0 (Richardson). The two one-sided
limits tell a smooth point from a kink; quotients that grow as the step shrinks are a jump or a cusp; samples that are
not finite are the edge of the domain; what does not settle is unresolved and is never called right or wrong.

Sources: C. Ridders, Advances in Engineering Software 4 (1982), for the tableau and its error estimate.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tinygrad_lite.errors import ShapeError

# The first step is 2^-7 of the input's scale. The extra bit makes x + h a number that float32 cannot hold, which shows
# a function that computes in float32 inside; it is far enough down that x + h is still exact in float64.
FIRST_STEP = 2.0**-7 * (1 + 2.0**-28)
BATCHES = (8, 14, 20, 26, 32)  # levels looked at before more are asked for: 17 evaluations where nothing is wrong
COLUMNS = 5  # orders of the error that are eliminated
APART = 4.0  # two values differ when they are further apart than this many times their error estimates


@dataclass(frozen=True)
class Slope:
    """What the oracle found at 0.

    Attributes
    ----------
    kind : "smooth", "kink", "jump" (or cusp), "edge" (of the domain) or "unresolved"
    value : float
        The derivative where smooth; the middle of the one-sided slopes at a kink; NaN elsewhere.
    error : float
        Estimated absolute error of value (of left and right at a kink).
    left, right : float
        One-sided slopes, NaN where there is none.
    evals : int
        Evaluations of the function.
    """

    kind: str
    value: float
    error: float
    left: float
    right: float
    evals: int

    @property
    def decided(self) -> bool:
        return self.kind in ("smooth", "kink")


def _pair(value: float | tuple[float, float]) -> tuple[float, float]:
    return value if isinstance(value, tuple) else (value, abs(value) if math.isfinite(value) else 0.0)


@dataclass(frozen=True)
class _Limit:
    value: float = math.nan
    error: float = math.inf


def directional(
    phi: Callable[[float], float | tuple[float, float]], *, scale: float = 1.0, magnitude: float = 0.0, eps: float = 2.0**-52
) -> Slope:
    """Slope of phi at 0.

    Parameters
    ----------
    phi : float -> float, or -> (float, size of the terms that it sums)
    scale : float
        Over which distance phi may be expected to change; the first step is 1/128 of it.
    magnitude : float
        Size of the terms at 0; their rounding is noise that phi's own value may not show.
    eps : float
        Relative rounding error of phi (that of float32 if it computes in float32).

    Examples
    --------
    >>> directional(abs).kind
    'kink'
    >>> slope = directional(lambda t: math.exp(3 * t))
    >>> slope.kind, abs(slope.value - 3) <= slope.error < 1e-9
    ('smooth', True)
    """
    if not 0 < scale < math.inf:
        raise ShapeError(f"directional: scale must be a positive number, got {scale!r}.")
    zero, size = _pair(phi(0.0))
    magnitude = max(magnitude, size)
    if not math.isfinite(zero):
        return Slope("edge", math.nan, math.inf, math.nan, math.nan, 1)
    steps: list[float] = []
    sizes: list[float] = []
    up: list[float] = []
    down: list[float] = []
    best = Slope("unresolved", math.nan, math.inf, math.nan, math.nan, 0)
    for levels in BATCHES:
        for k in range(len(steps), levels):
            steps.append(scale * FIRST_STEP * 2.0**-k)
            (ahead, size_ahead), (behind, size_behind) = _pair(phi(steps[-1])), _pair(phi(-steps[-1]))
            up.append(ahead)
            down.append(behind)
            sizes.append(max(magnitude, size_ahead, size_behind))
        slope = _classify(zero, steps, up, down, sizes, eps)
        if slope.decided and slope.error < best.error:
            best = slope
        coarse = max(abs(value - zero) / steps[0] if math.isfinite(value) else 0.0 for value in (up[0], down[0]))
        if slope.decided and slope.error <= 1e-8 * max(abs(slope.left), abs(slope.right), magnitude / scale, coarse):
            return slope
    return best if best.decided else slope


def _classify(
    zero: float, steps: Sequence[float], up: Sequence[float], down: Sequence[float], sizes: Sequence[float], eps: float
) -> Slope:
    evals = 1 + 2 * len(steps)
    usable = [math.isfinite(a) and math.isfinite(b) for a, b in zip(up, down, strict=True)]
    first = len(usable) - usable[::-1].index(False) if False in usable else 0  # levels after the last bad sample
    if len(usable) - first < 4:
        kind = "edge" if not all(usable[-3:]) else "unresolved"
        return Slope(kind, math.nan, math.inf, math.nan, math.nan, evals)
    steps, up, down, sizes = steps[first:], up[first:], down[first:], sizes[first:]
    noise = [2 * eps * size / h for h, size in zip(steps, sizes, strict=True)]
    right_quotients = [(a - zero) / h for h, a in zip(steps, up, strict=True)]
    left_quotients = [(zero - b) / h for h, b in zip(steps, down, strict=True)]
    centred = [(a - b) / (2 * h) for h, a, b in zip(steps, up, down, strict=True)]
    right, left = _extrapolate(right_quotients, noise, 2.0), _extrapolate(left_quotients, noise, 2.0)
    apart, slack = abs(right.value - left.value), right.error + left.error
    coarse = max(abs(right_quotients[0]), abs(left_quotients[0]), sizes[-1] * FIRST_STEP / steps[0])
    if apart <= APART * slack and slack <= 0.05 * max(abs(right.value), abs(left.value), coarse):
        value, error = (left.value + right.value) / 2, slack
        middle = _extrapolate(centred, noise, 4.0)  # better, unless the second derivative jumps here
        if middle.error <= slack and abs(middle.value - value) <= APART * slack:
            value, error = middle.value, middle.error
        # A kink too small to be seen would hide in the distance of the two sides: it is part of the error.
        return Slope("smooth", value, error + apart / 2, left.value, right.value, evals)
    if slack <= 0.05 * apart:
        return Slope("kink", (left.value + right.value) / 2, slack, left.value, right.value, evals)
    if len(steps) >= BATCHES[-1] - first and (_grows(right_quotients, noise) or _grows(left_quotients, noise)):
        return Slope("jump", math.nan, math.inf, left.value, right.value, evals)
    return Slope("unresolved", math.nan, math.inf, left.value, right.value, evals)


def _extrapolate(quotients: Sequence[float], noise: Sequence[float], ratio: float) -> _Limit:
    """Limit of quotients for step 0. Their error is a series in powers of h (ratio 2) or of h*h (ratio 4)."""
    table = [[quotients[0]]]
    candidates: list[tuple[float, int, float]] = []
    for k in range(1, len(quotients)):
        before, row = table[-1], [quotients[k]]
        for j in range(1, min(k, COLUMNS) + 1):
            value = row[j - 1] + (row[j - 1] - before[j - 1]) / (ratio**j - 1)
            if k > j:  # three neighbours to compare with: two that agree by accident are not enough
                spread = max(abs(value - row[j - 1]), abs(value - before[j - 1]), abs(value - before[j]))
                candidates.append((2 * spread + 8 * noise[k], k, value))
            row.append(value)
        table.append(row)
    for error, k, value in sorted(candidates):
        # All finer levels must agree with it, within their own change and noise; else something happens at their scale.
        if all(
            abs(table[i][1] - value) <= 2 * abs(table[i][1] - table[i - 1][1]) + 8 * noise[i] + 2 * error
            for i in range(k + 1, len(table))
        ):
            return _Limit(value, error)
    return _Limit()


def _grows(quotients: Sequence[float], noise: Sequence[float]) -> bool:
    """Whether the quotients keep growing as the step shrinks, by more than their noise."""
    last, sizes = range(len(quotients) - 6, len(quotients) - 1), [abs(q) for q in quotients]
    return all(sizes[k + 1] > 1.2 * sizes[k] and sizes[k] > 8 * noise[k] for k in last)
