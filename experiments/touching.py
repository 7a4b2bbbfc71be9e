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


def couple(pick: Picker, rng: np.random.Generator) -> tuple[Ink, tuple[int, int]]:
    """Draw two digits that touch, of one hand: nearly the same size and height on the line."""
    (left, a), (right, b) = pick(rng), pick(rng)
    scale, rise = float(np.exp(rng.normal(0, 0.09))), float(rng.normal(0, 6))
    middle = right.shape[0] / 2
    place = np.array([[scale, 0, (1 - scale) * middle], [0, scale, (1 - scale) * middle + rise]])
    right = np.asarray(cv2.warpAffine(right, place, right.shape[::-1], flags=cv2.INTER_LINEAR), np.float32)
    overlap = rng.uniform(-2, 5) if rng.random() < 0.8 else rng.uniform(-6, 12)
    return touch(left, right, rng, overlap=overlap)[0], (a, b)


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
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Make training examples.

    Parameters
    ----------
    junk : float
        The share that are no pairs, with the target 1/10 for each class.

    Returns
    -------
    (uint8 (count, 28, 40), float32 (count, 2, 10))
        Images, and for each the probability of every digit on the left and on the right.
    """
    images = np.zeros((count, 28, WIDTH), np.uint8)
    targets = np.full((count, 2, 10), 0.1, np.float32)
    for i in range(count):
        if rng.random() < junk:
            ink = no_couple(pick, rng)
        else:
            ink, labels = couple(pick, rng)
            targets[i] = np.eye(10, dtype=np.float32)[list(labels)]
        image = normalise(
            photograph(ink, rng, smallest=SMALLEST),
            thickness=rng.normal(0, 0.4),
            shear=rng.normal(0, 0.08),
            shift=(rng.normal(0, 0.5), rng.normal(0, 0.5)),
            wide=WIDTH,
        )
        images[i] = np.round(image * 255)
    return images, targets
