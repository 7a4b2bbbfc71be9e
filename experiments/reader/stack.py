"""Digits that touch the one above or below them: parts as high as two rows or more, cut between the rows.

As split does with what touches from side to side: more seams than digits, and dynamic programming picks those between
which the net reads best.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations, islice

import cv2
import numpy as np

from experiments.reader.find import Box, Floats, Part
from experiments.reader.judge import HIGHEST, high_as_digit, in_line
from experiments.reader.seams import evened, seams
from experiments.reader.split import CUT, CUT_INK, HIGH, LOW, tall

OFF = 0.35  # what it costs, in log-probability, to stand in no row with another digit
BETWEEN = 0.5, 2.0  # usual heights of a digit in a stack


@dataclass(frozen=True)
class Slice:
    """What is between two seams of a part, from number `first` (0: its upper end) to `last`, taken for one digit."""

    part: Part
    first: int
    last: int
    cost: float  # in log-probability
    in_row: bool  # whether another digit of the page stands beside it


def apart(
    found: list[Part],
    read: list[Floats],
    as_digits: Callable[[list[Part]], list[Floats]],
    contrast: Floats,
    unit: float,
    known: list[Box],
) -> tuple[list[Part], list[Floats]]:
    """Cut parts of two rows or more between them, where the pieces read better than the whole.

    Parameters
    ----------
    read : list of log-probabilities, (1, 10)
        Of each part, taken for one digit.
    as_digits : function
        Reads other parts so.
    contrast, unit : as for slices
    known : list of boxes
        Of digits that were read before.

    Returns
    -------
    (parts, what was read in them), from above down those that were cut
    """
    digits = known + [p.box for p in found if high_as_digit(p, unit)]
    by_part = [slices(part, contrast, unit, digits) for part in found]
    fresh = iter(as_digits([one.part for some in by_part for one in some]))
    parts, log_probs = [], []
    for part, whole, some in zip(found, read, by_part, strict=True):
        stack = best_stack(list(zip(some, islice(fresh, len(some)), strict=True)))
        ones = all(digit.argmax() == 1 for _, digit in stack)  # as which a line is read
        if any(one.in_row for one, _ in stack) and not ones:
            parts += [one.part for one, _ in stack]
            log_probs += [digit for _, digit in stack]
        else:
            parts.append(part)
            log_probs.append(whole)
    return parts, log_probs


def slices(part: Part, contrast: Floats, unit: float, digits: list[Box]) -> list[Slice]:
    """List a part and what in it could be one digit of several; nothing where it is no higher than a digit.

    Parameters
    ----------
    contrast : float32, (h, w), in [0, 1]
        Of the whole page.
    unit : float
        A digit's usual height, pixels.
    digits : list of boxes
        What is as high as a digit on the page, and may stand in a row with a slice.
    """
    h, w = part.mask.shape
    if h <= HIGH * unit:
        return []
    ways = seams(evened(part, contrast).T, most=int(np.clip(5 * h / w, 4, 24)))
    edges = np.maximum.accumulate([np.zeros(w, np.int64)] + [edge for edge, _ in ways] + [np.full(w, h)])
    costs = [0.0] + [CUT + CUT_INK * max(0.0, crossed - 1) for _, crossed in ways] + [0.0]
    down, end = np.arange(h)[:, None], len(edges) - 1
    found: list[tuple[Part, int, int]] = []
    for first, last in combinations(range(len(edges)), 2):
        mask = (part.mask * ((down >= edges[first]) & (down < edges[last]))).astype(np.uint8)
        x, y, width, height = cv2.boundingRect(mask)
        if last - first < end and BETWEEN[0] * unit < height < BETWEEN[1] * unit:
            box = (part.box[0] + x, part.box[1] + y, width, height)
            found.append((Part(box, mask[y : y + height, x : x + width]), first, last))
    result = [Slice(part, 0, end, tall(h, unit) if h <= HIGHEST * unit else np.inf, in_row=False)]
    for (one, first, last), in_row in zip(found, in_line([p.box for p, _, _ in found], digits, least=1), strict=True):
        height = one.box[3]
        cost = (costs[first] + costs[last]) / 2 + tall(height, unit) + LOW * max(0.0, 0.9 - height / unit)
        result.append(Slice(one, first, last, cost + (0.0 if in_row else OFF), bool(in_row)))
    return result


def best_stack(read: list[tuple[Slice, Floats]]) -> list[tuple[Slice, Floats]]:
    """Choose slices that make up the whole part, from above down, and whose scores sum to most; none if there are none.

    read: slices, the whole first, with the log-probabilities, (1, 10), of what was read in them.
    """
    best: dict[int, tuple[list[tuple[Slice, Floats]], float]] = {0: ([], 0.0)}
    for one, log_probs in sorted(read, key=lambda some: some[0].last):
        above, score = best.get(one.first, ([], -np.inf))
        score += float(log_probs.max()) - one.cost
        if score > best.get(one.last, ([], -np.inf))[1]:
            best[one.last] = ([*above, (one, log_probs)], score)
    return best.get(read[0][0].last, ([], 0.0))[0] if read else []
