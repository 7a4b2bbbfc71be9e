"""How large a picture is looked at: large enough for its digits, and no larger, for time goes with its pixels."""

import cv2
import numpy as np
from numpy.typing import NDArray

from experiments.reader.find import Box, candidates, to_gray
from experiments.reader.judge import LOWEST
from experiments.reader.load import LONG_SIDE
from experiments.reader.rules import variants

WORKING_SIDE = 900  # smaller pictures are enlarged, so that a stroke is a few pixels wide
ENOUGH = 44.0  # pixels: a digit's height, above which more of them tell nothing new
HIGHEST = 0.25  # of a picture's shorter side: what is higher is hardly a page's digit
WORTH = 0.85  # of a picture's longer side, above which looking at it smaller saves less than it costs


def fit(picture: NDArray[np.uint8], side: int = LONG_SIDE) -> tuple[NDArray[np.uint8], float]:
    """Enlarge a small picture to WORKING_SIDE, at most eightfold, or shrink one larger than `side` to that; and the factor."""
    long = max(picture.shape[:2])
    factor = side / long if long > side else float(np.clip(WORKING_SIDE / long, 1, 8))
    if 1 <= factor < 1.05:
        return picture, 1.0
    how = cv2.INTER_CUBIC if factor > 1 else cv2.INTER_AREA
    return np.asarray(cv2.resize(picture, None, fx=factor, fy=factor, interpolation=how), np.uint8), factor


def unfit(box: Box, factor: float, shape: tuple[int, ...]) -> Box:
    """Give the pixels of a picture of this shape that a box covers in what fit made of it: one each way at least."""
    (x, y, w, h), (height, width) = box, shape[:2]
    left, top = min(round(x / factor), width - 1), min(round(y / factor), height - 1)
    right, bottom = min(round((x + w) / factor), width), min(round((y + h) / factor), height)
    return left, top, max(1, right - left), max(1, bottom - top)


def side_enough(picture: NDArray[np.uint8]) -> int:
    """Say to which longer side a picture may be shrunk for its digits to be ENOUGH pixels high, by a first look at it.

    Of the parts a quarter, by their heights squared, are lower than what is taken for a digit's height: rather too large a
    picture than too small a one.
    """
    long = min(LONG_SIDE, max(picture.shape[:2]))
    if WORTH * long < WORKING_SIDE:
        return LONG_SIDE
    small, factor = fit(picture, WORKING_SIDE)
    ink = next(candidates(to_gray(small)), None)
    if ink is None:
        return LONG_SIDE
    _, _, stats, _ = cv2.connectedComponentsWithStats(next(variants(ink)).mask, connectivity=8)
    heights = np.sort(stats[1:, cv2.CC_STAT_HEIGHT].astype(float))
    heights = heights[(heights >= LOWEST) & (heights < HIGHEST * min(small.shape[:2]))]
    if not heights.size:
        return LONG_SIDE
    weights = np.cumsum(heights**2)
    digit = heights[np.searchsorted(weights, weights[-1] / 4)] / factor
    side = max(WORKING_SIDE, round(ENOUGH / digit * max(picture.shape[:2])))
    return side if side < WORTH * long else LONG_SIDE
