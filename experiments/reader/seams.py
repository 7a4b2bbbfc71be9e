"""Where to cut ink: the paths through little of it, from top to bottom of a part."""

import cv2
import numpy as np
from numpy.typing import NDArray

from experiments.reader.find import Floats, Part, upper
from experiments.reader.normalise import stroke_width

LEANS = (0.0, 0.25, 0.5, -0.25)  # of cuts, columns to the right for each row up


def seams(ink: Floats, most: int = 8) -> list[tuple[NDArray[np.int64], float]]:
    """Find ways to cut a part from top to bottom through little ink.

    Parameters
    ----------
    ink : float32, (h, w), in [0, 1]
        Strength, 0 off the part; between strokes that only just touch it is weaker than in their middle.

    Returns
    -------
    list of (columns (h,), ink)
        For each cut, left to right, its column in every row and the stroke widths of ink it crosses.

    Notes
    -----
    A cut is the path of least ink, downwards or diagonally, within a band about a starting line. Narrow bands along
    leaning lines keep the path from going round a narrow digit; a wide one follows overhanging strokes.
    """
    height = len(ink)
    scale = min(1.0, 48 / height)
    small = cv2.resize(ink, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    rows, columns = small.shape
    if columns < 4:
        return []
    starts = np.arange(1, columns - 1, max(1, rows // 24))
    narrow = [(start, lean) for lean in LEANS for start in starts]
    paths = np.hstack(
        [
            _paths(small, narrow, max(2, round(0.1 * rows))),
            _paths(small, [(start, 0.0) for start in starts], max(3, round(0.3 * rows))),
        ]
    )
    pen = max(1.0, stroke_width((small > 0.25).astype(np.uint8)) if (small > 0.25).any() else 1.0)
    inside = paths.clip(0, columns - 1)
    crossed = (np.take_along_axis(small, inside, 1) * ((paths >= 0) & (paths < columns))).sum(0) / pen
    up_to = np.pad(small.cumsum(1, dtype=np.float64), ((0, 0), (1, 0)))  # the ink of a row left of each column
    share = np.take_along_axis(up_to, paths.clip(0, columns), 1).sum(0) / max(float(up_to[:, -1].sum()), 1e-6)
    chosen: list[int] = []
    for i in np.argsort(crossed, kind="stable"):
        if 0.06 < share[i] < 0.94 and crossed[i] < 8 and all(abs(share[i] - share[j]) > 0.05 for j in chosen):
            chosen.append(int(i))
        if len(chosen) == most:
            break
    chosen.sort(key=lambda i: share[i])
    at = np.minimum((np.arange(height) * scale).astype(int), rows - 1)
    return [(np.round(paths[at, i] / scale).astype(np.int64), float(crossed[i])) for i in chosen]


def _paths(ink: Floats, lines: list[tuple[int, float]], band: int) -> NDArray[np.int64]:
    """Find the path of least ink near each line (column in the middle row, columns to the right for each row up).

    Returns
    -------
    int64, (rows, len(lines)): the paths' columns; they may leave the picture.
    """
    rows = len(ink)
    middles, leans = np.array(lines).T
    margin = band + rows
    page = np.pad(ink + 0.02, ((0, 0), (margin, margin)), constant_values=0.02)
    up = rows / 2 - np.arange(rows)
    lefts = (middles + np.round(up[:, None] * leans)).astype(np.int64) - band
    columns = (lefts[:, :, None] + np.arange(2 * band + 1) + margin).clip(0, page.shape[1] - 1)
    cost = np.take_along_axis(page[:, None], columns, 2).astype(np.float64)
    came = np.zeros(cost.shape, np.int8)
    total = np.pad(cost[0], ((0, 0), (1, 1)), constant_values=np.inf)  # between two walls
    left, here, right = total[:, :-2], total[:, 1:-1], total[:, 2:]
    for row in range(1, rows):
        straight, aside = here - 0.05, np.minimum(left, right)
        turned = (aside < straight) | (left == straight)
        came[row] = np.where(turned, np.where(left <= right, -1, 1), 0)
        # a step aside crosses ink over a longer way
        here[...] = np.where(turned, aside + 1.3 * cost[row], straight + cost[row])
    end = here.argmin(1)
    paths = np.zeros((rows, len(lines)), np.int64)
    for row in range(rows - 1, -1, -1):
        paths[row] = lefts[row] + end
        end = end + came[row, np.arange(len(lines)), end]
    return paths


def evened(part: Part, contrast: Floats) -> Floats:
    """Return the ink of a part, 1 in the middle of its strokes."""
    x, y, w, h = part.box
    seen = contrast[y : y + h, x : x + w] * part.mask
    level = max(1e-3, upper(seen[part.mask > 0]))
    return np.asarray(np.clip(seen / level, 0, 1) ** 2, np.float32)
