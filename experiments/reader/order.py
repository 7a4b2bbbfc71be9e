"""Reading order: rows from the top, each from the left, on pages that are turned, askew or bent."""

import numpy as np
from numpy.typing import NDArray

from experiments.reader.find import Box

GAP, STEP = 2.5, 0.85  # heights of a digit across and up or down, within which a row may go on where another ends


def tilt(boxes: list[Box]) -> float:
    """Estimate the slope of the rows: by how many pixels they fall for each pixel to the right.

    The slope at which the digits' heights bunch into the clearest rows, within 20 degrees; flatter is likelier.
    """
    if len(boxes) < 3:
        return 0.0
    x, y, unit = _middles(boxes)
    best, best_score = 0.0, -np.inf
    for slope in np.tan(np.radians(np.arange(-20, 20.1, 0.5))):
        level = y - slope * x
        # How near each digit's line is to the lines of the others.
        apart = (level[:, None] - level[None, :]) / unit
        score = float(np.exp(-((apart / 0.2) ** 2)).sum()) / len(boxes) - 0.6 * abs(slope)
        if score > best_score + 1e-9:
            best, best_score = float(slope), score
    return best


def rows(boxes: list[Box]) -> list[list[int]]:
    """Put boxes in reading order.

    Parameters
    ----------
    boxes : list of (x, y, w, h)

    Returns
    -------
    list of list of int
        Indices into boxes: rows from the top, each from the left.

    Notes
    -----
    Each digit joins the row whose last digit is level with it (the slope of the page taken off); going by the nearest
    neighbour rather than by one straight line keeps rows that bend or climb together. Where one bends so much that it comes
    apart, one piece begins where another ends, and these are joined again.
    """
    if not boxes:
        return []
    x, y, unit = _middles(boxes)
    level = y - tilt(boxes) * x
    half = np.array([max(box[3], 0.6 * unit) for box in boxes]) / 2
    made: list[list[int]] = []
    for i in np.argsort(x, kind="stable"):
        best, best_apart = -1, np.inf
        for k, row in enumerate(made):
            j = row[-1]
            near = row[-2:]  # two, so that one short or raised digit does not lead the row astray
            at = float(np.mean(level[near]))
            apart = abs(level[i] - at) / min(half[i] + half[j], 1.4 * unit)
            if apart < min(best_apart, 0.55):
                best, best_apart = k, apart
        if best < 0:
            made.append([int(i)])
        else:
            made[best].append(int(i))
    made = _joined(made, x / unit, level / unit)
    made.sort(key=lambda row: float(np.mean(level[row])))
    return made


def _middles(boxes: list[Box]) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    array = np.array(boxes, float)
    return array[:, 0] + array[:, 2] / 2, array[:, 1] + array[:, 3] / 2, float(np.median(array[:, 3]))


def _joined(made: list[list[int]], x: NDArray[np.float64], level: NDArray[np.float64]) -> list[list[int]]:
    """Join rows of which one goes on where another ends, the most level first; x and level in heights of a digit."""
    first, last = [row[0] for row in made], [row[-1] for row in made]
    ahead, aside = x[first] - x[last][:, None], np.abs(level[first] - level[last][:, None])
    goes_on: dict[int, int] = {}
    for a, b in sorted(np.argwhere((ahead > 0) & (ahead < GAP) & (aside < STEP)).tolist(), key=lambda ab: float(aside[*ab])):
        if a not in goes_on and b not in goes_on.values():
            goes_on[a] = b
    joined = []
    for k in sorted(set(range(len(made))) - set(goes_on.values())):
        row = list(made[k])
        while k in goes_on:
            k = goes_on[k]
            row += made[k]
        joined.append(row)
    return joined
