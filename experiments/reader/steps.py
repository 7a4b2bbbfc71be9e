"""Steps of brightness, in which ink ends, and noise and a slope of light do not."""

import cv2
import numpy as np

from experiments.reader.find import Floats, Part
from experiments.reader.judge import LOWEST

STEEP = 2.0  # shades of gray from pixel to pixel: a step that can be seen,
NOISE = 2.5  # and so many times what a page's noise mostly is
LONGER = 3  # pixels that a step is longer than what ends in it, at least


def steepness(gray: Floats) -> Floats:
    """Measure how steep a picture is at each pixel, (h, w): above 1 what is neither noise nor a slope of light."""
    smooth = cv2.GaussianBlur(gray, (0, 0), 1.5)
    slope = cv2.magnitude(*(cv2.Sobel(smooth, cv2.CV_32F, dx, 1 - dx, scale=1 / 8) for dx in (1, 0)))
    return np.asarray(slope / max(STEEP, NOISE * float(np.median(slope[::4, ::4]))), np.float32)


def are_short(steep: Floats) -> bool:
    """Say whether no step on a picture of this steepness, (h, w), is as long as a digit is high: it is bare."""
    _, _, stats, _ = cv2.connectedComponentsWithStats((steep > 1).astype(np.uint8), connectivity=8)
    return bool(stats[1:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]].max(initial=0) < LOWEST + LONGER)


def outlined(found: list[Part], steep: Floats | None) -> list[Part]:
    """Give the parts that end in a step, as ink does, and not where noise or light reaches a level; `steep` None: all parts."""
    three, kept = np.ones((3, 3), np.uint8), []
    for part in found:
        x, y, w, h = part.box
        outline = part.mask - cv2.erode(part.mask, three, borderType=cv2.BORDER_CONSTANT, borderValue=0)
        if steep is None or cv2.mean(steep[y : y + h, x : x + w], outline)[0] > 1:
            kept.append(part)
    return kept
