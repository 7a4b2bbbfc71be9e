"""Digits that touch the one above or below them: parts as high as two rows, cut between the rows."""

from collections.abc import Callable

import cv2
import numpy as np

from experiments.reader.find import Box, Floats, Mask, Part
from experiments.reader.judge import high_as_digit, in_line
from experiments.reader.seams import evened, seams
from experiments.reader.split import CUT, CUT_INK, HIGH, tall


def apart(
    found: list[Part], read: list[Floats], as_digits: Callable[[list[Part]], list[Floats]], contrast: Floats, unit: float
) -> tuple[list[Part], list[Floats]]:
    """Cut parts of two rows or more between them, where the halves read better than the whole.

    Parameters
    ----------
    read : list of log-probabilities, (1, 10)
        Of each part, taken for one digit.
    as_digits : function
        Reads other parts so.
    contrast, unit : as for cuts

    Returns
    -------
    (parts, what was read in them), those that were not cut first
    """
    rows = [p.box for p in found if high_as_digit(p, unit)]
    left, done = list(zip(found, read, strict=True)), []
    while left:
        ways = [cuts(part, contrast, unit, rows) for part, _ in left]
        pieces = [piece for some in ways for two, _ in some for piece in two]
        fresh, whole, left = iter(zip(pieces, as_digits(pieces), strict=True)), left, []
        for (part, log_probs), some in zip(whole, ways, strict=True):
            best, best_score = [], float(log_probs.max()) - tall(part.box[3], unit)
            for two, cost in some:
                halves = [next(fresh) for _ in two]
                score = sum(float(half.max()) for _, half in halves) - cost
                if score > best_score:
                    best, best_score = halves, score
            done += [] if best else [(part, log_probs)]
            left += best
    return [part for part, _ in done], [log_probs for _, log_probs in done]


def cuts(part: Part, contrast: Floats, unit: float, digits: list[Box]) -> list[tuple[list[Part], float]]:
    """List the ways to cut a part in two, one above the other; none where it is no higher than a digit.

    Parameters
    ----------
    contrast : float32, (h, w), in [0, 1]
        Of the whole page.
    unit : float
        A digit's usual height, pixels.
    digits : list of boxes
        What is as high as a digit on the page; one half must stand in a row with one of them.

    Returns
    -------
    list of (parts, the upper first, and what the cut costs, in log-probability)
    """
    height = part.box[3]
    if height <= HIGH * unit:
        return []
    found = []
    for edge, crossed in seams(evened(part, contrast).T):
        above = np.arange(height)[:, None] < edge
        two = [_taken(part, (part.mask * side).astype(np.uint8)) for side in (above, ~above)]
        if min(p.box[3] for p in two) > 0.5 * unit and in_line([p.box for p in two], digits, least=1).any():
            found.append((two, CUT + CUT_INK * max(0.0, crossed - 1)))
    return found


def _taken(part: Part, mask: Mask) -> Part:
    """Take some of a part's ink."""
    x, y, w, h = cv2.boundingRect(mask)
    return Part((part.box[0] + x, part.box[1] + y, w, h), mask[y : y + h, x : x + w])
