"""Training examples of touching digits, for the net that reads two at once (`models/pair.py`).

Made as `experiments.augment` makes single digits. Some are no pairs (one digit, three, a pair that lost a piece); their
target is the same probability for all ten, on both sides.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from experiments.augment import Ink, Picker, not_a_digit, photograph, piece, touch
from experiments.reader.normalise import normalise
from models.pair import WIDTH

SMALLEST = 0.25  # digits 20 pixels high; lower ones that touch cannot be told apart


def couple(pick: Picker, rng: np.random.Generator) -> tuple[Ink, tuple[int, int], NDArray[np.bool_]]:
    """Draw two digits that touch, of one hand: nearly the same size and height on the line.

    Returns
    -------
    (float32 (h, w), (int, int), bool (2, h, w))
        Their ink, what they are, and which of the ink is the left one's and which the right one's.
    """
    (left, a), (right, b) = pick(rng), pick(rng)
    scale, rise = float(np.exp(rng.normal(0, 0.09))), float(rng.normal(0, 6))
    middle = right.shape[0] / 2
    place = np.array([[scale, 0, (1 - scale) * middle], [0, scale, (1 - scale) * middle + rise]])
    right = np.asarray(cv2.warpAffine(right, place, right.shape[::-1], flags=cv2.INTER_LINEAR), np.float32)
    overlap = rng.uniform(-2, 5) if rng.random() < 0.8 else rng.uniform(-6, 12)
    ink, start = touch(left, right, rng, overlap=overlap)
    whose = np.zeros((2, *ink.shape), bool)
    for mine, one, at in zip(whose, (left, right), (0, start), strict=True):
        columns = np.flatnonzero(one.max(0) > 0.5)
        if columns.size:
            inked = one[:, columns[0] : columns[-1] + 1] > 0.5
            mine[:, at : at + inked.shape[1]] = inked[:, : ink.shape[1] - at]
    return ink, (a, b), whose


def inner_edges(whose: NDArray[np.bool_], shear: float) -> NDArray[np.float32]:
    """Say where the left digit of a pair ends and where the right one begins, from 0 to 1 of the pair; NaN if one is not there.

    shear: as for `normalise`; the edges are those of the pair as it looks afterwards.
    """
    ends = []
    for mine in whose:
        rows, columns = np.nonzero(mine)
        across = columns - shear * rows
        ends.append((across.min(), across.max() + 1) if across.size else (np.nan, np.nan))
    (first, stop), (start, last) = ends
    first, last = np.minimum(first, start), np.maximum(stop, last)  # NaN of either
    return np.array([(stop - first) / (last - first), (start - first) / (last - first)], np.float32)


def no_couple(pick: Picker, rng: np.random.Generator) -> Ink:
    """Draw what might be taken for a pair."""
    kind = rng.random()
    if kind < 0.35:
        return pick(rng)[0]
    if kind < 0.6:  # three in a row
        return touch(couple(pick, rng)[0], pick(rng)[0], rng, overlap=rng.uniform(-6, 6))[0]
    if kind < 0.9:  # one and a piece of another
        whole, part = pick(rng)[0], piece(pick(rng)[0], rng)
        left, right = (whole, part) if rng.random() < 0.5 else (part, whole)
        return touch(left, right, rng, overlap=rng.uniform(-4, 6))[0]
    return not_a_digit(pick, rng)


def pair_examples(
    pick: Picker, count: int, rng: np.random.Generator, *, junk: float = 0.25
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
    """Make training examples.

    Parameters
    ----------
    junk : float
        The share that are no pairs, with the target 1/10 for each class.

    Returns
    -------
    (uint8 (count, 28, 40), float32 (count, 2, 10), float32 (count, 2))
        Images; for each the probability of every digit on the left and on the right; and the inner edges, NaN for no pair.
    """
    images = np.zeros((count, 28, WIDTH), np.uint8)
    targets = np.full((count, 2, 10), 0.1, np.float32)
    edges = np.full((count, 2), np.nan, np.float32)
    for i in range(count):
        shear = rng.normal(0, 0.08)
        if rng.random() < junk:
            ink = no_couple(pick, rng)
        else:
            ink, labels, whose = couple(pick, rng)
            targets[i] = np.eye(10, dtype=np.float32)[list(labels)]
            edges[i] = inner_edges(whose, shear)
        image = normalise(
            photograph(ink, rng, smallest=SMALLEST),
            thickness=rng.normal(0, 0.4),
            shear=shear,
            shift=(rng.normal(0, 0.5), rng.normal(0, 0.5)),
            wide=WIDTH,
        )
        images[i] = np.round(image * 255)
    return images, targets, edges
