"""A sheet of paper on a table: where it is on a picture, and what of that may be but a page's lit part."""

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from experiments.reader.find import Box, Floats, Mask

SHADOW = 0.05  # how differently darker a shadow makes red, green and blue at most, as a logarithm
ROOM = 0.5  # heights of a digit around it, in which the next one would be
ROUGHER = 4.0  # than paper a table's grain is at least


@dataclass(frozen=True)
class Sheet:
    """A sheet of paper on a table: the picture of it alone, blank around, its box, and where it is, (h, w) of 0 and 1.

    `doubtful`: what is beyond one of its sides may be the same paper in shadow.
    """

    alone: NDArray[np.uint8]
    box: Box
    mask: Mask
    doubtful: bool

    def has_all(self, boxes: Iterable[Box]) -> bool:
        """Say whether these boxes, and as much room around each as a row needs to go on, lie on the sheet."""
        for x, y, w, h in boxes:
            more = ROOM * h
            rows, columns = (
                slice(max(0, round(y - more)), round(y + h + more)),
                slice(max(0, round(x - more)), round(x + w + more)),
            )
            if not self.mask[rows, columns].all():
                return False
        return True


def find_sheet(picture: NDArray[np.uint8]) -> Sheet | None:
    """Find a sheet of paper on a darker table; None if there is none.

    The largest bright area is a sheet when it is as convex as paper, between a tenth and nine tenths of the picture, and
    ends in a step, not in a slope of the light. A shadow may end so too: read the whole picture as well. Where the sheet
    lies in shadow in part, a lower level than Otsu's may still be above the table.
    """
    scale = min(1.0, 400 / max(picture.shape[:2]))
    small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    gray = cv2.medianBlur(small.min(axis=2), 9)  # paper is white: bright in every colour; no strokes, no grain
    level, _ = cv2.threshold(gray, 0, 255, cv2.THRESH_OTSU)
    shapes = (_convex_area(gray, share * level) for share in (1.0, 0.85, 0.7, 0.55))
    shape = next((shape for shape in shapes if shape is not None), None)
    if shape is None:
        return None
    inside = cv2.resize(shape, picture.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    x, y, w, h = cv2.boundingRect(inside)
    alone = picture[y : y + h, x : x + w].copy()
    blank = inside[y : y + h, x : x + w] == 0
    alone[blank] = np.median(small[shape > 0], axis=0).astype(np.uint8)
    return Sheet(alone, (x, y, w, h), inside, _is_shadow(small, shape))


def _convex_area(gray: NDArray[np.uint8], level: float) -> Mask | None:
    """Give the largest area brighter than a level, without its edge, where it may be a sheet."""
    bright = (gray > level).astype(np.uint8)
    outlines, _ = cv2.findContours(bright, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    if not outlines:
        return None
    hull = cv2.convexHull(max(outlines, key=cv2.contourArea))
    shape = np.zeros_like(gray)
    cv2.fillConvexPoly(shape, hull, 1)
    if not 0.1 < shape.mean() < 0.9 or bright[shape > 0].mean() < 0.85:
        return None
    border = round(0.015 * max(gray.shape)) + 1  # the sheet's own edge
    kernel = np.ones((2 * border + 1,) * 2, np.uint8)
    beside = cv2.dilate(shape, kernel) - shape
    edge = shape
    shape = cv2.erode(cv2.copyMakeBorder(shape, 1, 1, 1, 1, cv2.BORDER_CONSTANT), kernel)[1:-1, 1:-1]
    edge = (edge - shape) * cv2.dilate(beside, kernel)  # not where the picture ends
    if not shape.any() or not beside.any() or np.median(gray[edge > 0]) < 1.2 * np.median(gray[beside > 0]):
        return None
    return np.asarray(shape, np.uint8)


def _is_shadow(small: NDArray[np.uint8], shape: Mask) -> bool:
    """Say whether the paper may go on, in shadow, beyond one of a bright area's sides."""
    border = round(0.03 * max(shape.shape)) + 1
    beyond = cv2.dilate(shape, np.ones((2 * border + 1,) * 2, np.uint8))
    around = cv2.dilate(beyond, np.ones((2 * border + 1,) * 2, np.uint8)) - beyond
    fine = np.abs(small - cv2.GaussianBlur(small.astype(np.float32), (0, 0), 2.0)).mean(axis=2)
    (x, y), size, angle = cv2.minAreaRect(np.argwhere(shape)[:, ::-1].astype(np.float32))
    rows, columns = np.nonzero(around)
    turn = np.radians(angle)
    along = (columns - x) * np.cos(turn) + (rows - y) * np.sin(turn)
    across = (rows - y) * np.cos(turn) - (columns - x) * np.sin(turn)
    long, wide = (max(1.0, n / 2) for n in size)
    sides = [
        (along > long, across, wide),
        (along < -long, across, wide),
        (across > wide, along, long),
        (across < -wide, along, long),
    ]
    for outside, place, half in sides:
        side = outside & (np.abs(place) < half)  # not round the corner, where another side's surroundings begin
        if side.sum() > half and _is_same_paper(small, fine, shape > 0, (rows[side], columns[side])):
            return True
    return False


def _is_same_paper(small: NDArray[np.uint8], fine: Floats, lit: NDArray[np.bool_], dark: tuple[NDArray[np.intp], ...]) -> bool:
    """Say whether what is dark has the colour of what is lit, and is hardly rougher, as is the same paper in shadow."""
    colours = [np.median(small[where], axis=0) + 3 for where in (lit, dark)]
    rough = [float(np.median(fine[where])) / colour.mean() for where, colour in zip((lit, dark), colours, strict=True)]
    darker = np.log(colours[0] / colours[1])
    return bool(np.ptp(darker) < SHADOW and rough[1] < ROUGHER * rough[0])
