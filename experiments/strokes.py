# ruff: noqa: E501 - a template a line
"""Digits drawn with a pen from a few templates: forms that MNIST's American hands seldom wrote.

MNIST has few 1s with a flag and a foot, 7s with a bar, 4s open at the top, 8s of two rings, and 5s whose bar stands
apart; people who photograph their own digits write them all the time. A template is a list of strokes, each
("line" or "curve", points (x, y)) in the unit square, y down.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

Stroke = tuple[str, list[tuple[float, float]]]

CANVAS = 112  # pixels; the digit is about 80 high, as MNIST's at four times its size

_RING_9 = [(0.8, 0.15), (0.4, 0.0), (0.1, 0.25), (0.4, 0.5), (0.8, 0.3), (0.82, 0.08)]
_BOWL_5 = ("curve", [(0.15, 0.42), (0.55, 0.36), (0.92, 0.65), (0.6, 0.98), (0.05, 0.9)])
_BOWL_3 = ("curve", [(0.4, 0.42), (0.8, 0.52), (0.88, 0.8), (0.45, 1.0), (0.05, 0.88)])

TEMPLATES: dict[int, list[list[Stroke]]] = {
    0: [
        [("curve", [(0.5, 0.0), (0.1, 0.25), (0.08, 0.65), (0.45, 1.0), (0.88, 0.72), (0.88, 0.28), (0.52, 0.0)])],
        [("curve", [(0.6, 0.02), (0.2, 0.1), (0.05, 0.5), (0.3, 0.95), (0.7, 0.95), (0.95, 0.5), (0.75, 0.08), (0.4, 0.03)])],
    ],
    1: [
        [("line", [(0.5, 0.0), (0.5, 1.0)])],
        [("line", [(0.25, 0.25), (0.5, 0.0), (0.5, 1.0)])],
        [("line", [(0.05, 0.42), (0.55, 0.0), (0.55, 1.0)])],
        [("line", [(0.25, 0.22), (0.5, 0.0), (0.5, 1.0)]), ("line", [(0.12, 1.0), (0.88, 1.0)])],
        [("line", [(0.3, 0.12), (0.5, 0.0), (0.5, 1.0)]), ("line", [(0.0, 1.0), (0.98, 0.97)])],
    ],
    2: [
        [("curve", [(0.08, 0.25), (0.35, 0.0), (0.8, 0.1), (0.75, 0.45), (0.05, 1.0)]), ("line", [(0.05, 1.0), (0.95, 0.98)])],
        [("curve", [(0.1, 0.22), (0.45, 0.0), (0.82, 0.2), (0.65, 0.6), (0.2, 0.95), (0.1, 0.85), (0.35, 0.85), (0.95, 0.98)])],
        [("curve", [(0.1, 0.15), (0.5, 0.0), (0.85, 0.22), (0.55, 0.62), (0.08, 0.97), (0.5, 0.9), (0.95, 0.95)])],
    ],
    3: [
        [("curve", [(0.1, 0.12), (0.45, 0.0), (0.8, 0.18), (0.65, 0.4), (0.35, 0.47)]), ("curve", [(0.35, 0.47), (0.75, 0.54), (0.9, 0.78), (0.5, 1.0), (0.05, 0.88)])],
        [("line", [(0.08, 0.0), (0.85, 0.0), (0.4, 0.42)]), _BOWL_3],
        [("curve", [(0.1, 0.05), (0.7, 0.02), (0.75, 0.25), (0.4, 0.42)]), _BOWL_3],
    ],
    4: [
        [("line", [(0.2, 0.0), (0.1, 0.6), (0.95, 0.6)]), ("line", [(0.7, 0.25), (0.68, 1.0)])],
        [("line", [(0.1, 0.02), (0.1, 0.55), (0.95, 0.55)]), ("line", [(0.75, 0.0), (0.75, 1.0)])],
        [("line", [(0.3, 0.0), (0.05, 0.55), (0.95, 0.5)]), ("line", [(0.65, 0.1), (0.55, 1.0)])],
        [("line", [(0.65, 1.0), (0.65, 0.0), (0.05, 0.68), (0.98, 0.68)])],
    ],
    5: [
        [("line", [(0.85, 0.0), (0.2, 0.0), (0.15, 0.42)]), _BOWL_5],
        [("line", [(0.2, 0.05), (0.15, 0.42)]), _BOWL_5, ("line", [(0.25, 0.0), (0.95, -0.03)])],
        [("line", [(0.95, 0.02), (0.12, 0.0), (0.12, 0.5)]), ("curve", [(0.12, 0.5), (0.6, 0.4), (0.9, 0.7), (0.55, 1.0), (0.08, 0.95)])],
        [("curve", [(0.9, 0.02), (0.4, 0.02), (0.2, 0.28), (0.5, 0.45), (0.85, 0.68), (0.6, 0.97), (0.08, 0.92)])],
    ],
    6: [
        [("curve", [(0.7, 0.0), (0.3, 0.25), (0.08, 0.65), (0.3, 0.98), (0.8, 0.92), (0.85, 0.62), (0.5, 0.5), (0.12, 0.72)])],
        [("curve", [(0.55, 0.0), (0.25, 0.4), (0.1, 0.75), (0.45, 1.0), (0.85, 0.8), (0.6, 0.55), (0.15, 0.75)])],
        [("curve", [(0.85, 0.05), (0.4, 0.05), (0.1, 0.5), (0.25, 0.95), (0.75, 0.95), (0.85, 0.65), (0.45, 0.5), (0.12, 0.68)])],
    ],
    7: [
        [("line", [(0.05, 0.0), (0.9, 0.0), (0.4, 1.0)])],
        [("line", [(0.05, 0.15), (0.05, 0.0), (0.9, 0.0), (0.4, 1.0)])],
        [("line", [(0.05, 0.03), (0.9, 0.0), (0.45, 1.0)]), ("line", [(0.2, 0.5), (0.85, 0.48)])],
        [("line", [(0.0, 0.0), (0.75, 0.12), (0.5, 1.0)]), ("line", [(0.1, 0.6), (0.98, 0.62)])],
        [("line", [(0.05, 0.04), (0.9, 0.0)]), ("curve", [(0.9, 0.0), (0.58, 0.45), (0.42, 1.0)])],
        [("line", [(0.05, 0.04), (0.9, 0.0)]), ("curve", [(0.9, 0.0), (0.58, 0.45), (0.42, 1.0)]), ("line", [(0.25, 0.45), (0.85, 0.45)])],
    ],
    8: [
        [("curve", [(0.75, 0.12), (0.4, 0.0), (0.18, 0.22), (0.5, 0.46), (0.85, 0.75), (0.5, 1.0), (0.12, 0.77), (0.5, 0.48), (0.8, 0.22), (0.72, 0.1)])],
        [("curve", [(0.5, 0.0), (0.25, 0.1), (0.25, 0.38), (0.5, 0.48), (0.75, 0.38), (0.75, 0.1), (0.5, 0.0)]),
         ("curve", [(0.5, 0.46), (0.18, 0.58), (0.18, 0.9), (0.5, 1.0), (0.82, 0.9), (0.82, 0.58), (0.5, 0.46)])],
    ],
    9: [
        [("curve", _RING_9), ("line", [(0.82, 0.05), (0.78, 1.0)])],
        [("curve", _RING_9), ("curve", [(0.82, 0.08), (0.85, 0.45), (0.72, 0.8), (0.3, 1.0)])],
        [("curve", _RING_9), ("curve", [(0.82, 0.08), (0.86, 0.7), (0.5, 1.0), (0.12, 0.9)])],
    ],
}  # fmt: skip


def smooth(points: NDArray[np.float64], steps: int = 8) -> NDArray[np.float64]:
    """Draw a Catmull-Rom curve through points, (n, 2) -> (steps * (n - 1) + 1, 2)."""
    ends = np.vstack([2 * points[0] - points[1], points, 2 * points[-1] - points[-2]])
    before, start, stop, after = ends[:-3, None], ends[1:-2, None], ends[2:-1, None], ends[3:, None]
    t = np.arange(steps)[:, None] / steps
    curve = 0.5 * (
        2 * start
        + (stop - before) * t
        + (2 * before - 5 * start + 4 * stop - after) * t**2
        + (3 * start - before - 3 * stop + after) * t**3
    )
    return np.vstack([curve.reshape(-1, 2), points[-1:]])


def draw(digit: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw a digit: a template with its points moved, leaned and stretched, in a pen of any width.

    Returns
    -------
    float32, (112, 112), in [0, 1], ink 1
    """
    forms = TEMPLATES[digit]
    strokes = forms[rng.integers(len(forms))]
    height = rng.uniform(64, 80)
    aspect = rng.uniform(0.42, 0.95)
    lean, turn = rng.normal(0, 0.15), rng.normal(0, 0.06)
    frame = np.array([[aspect, -lean + turn], [-turn * aspect, 1.0]]) * height
    width = max(2, round(rng.choice([rng.uniform(3, 9), rng.uniform(6, 18)])))
    page = np.zeros((CANVAS, CANVAS), np.uint8)
    for kind, corners in strokes:
        points = (np.array(corners) - 0.5 + rng.normal(0, 0.028, (len(corners), 2))) @ frame.T + CANVAS / 2
        path = smooth(points) if kind == "curve" else points
        cv2.polylines(page, [np.round(path * 16).astype(np.int32)], False, 255, width, cv2.LINE_AA, shift=4)
    return np.asarray(page, np.float32) / 255
