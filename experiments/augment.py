"""Distortions for training: what pens, cameras and the reader's own cutting do to a digit.

A training example is made the way the reader makes its input: a digit of MNIST's training set (or one drawn from a
template) is bent and redrawn with another pen at four times its size, photographed, cut out, and normalised by the
reader's own `normalise`. Some examples are no digits at all (pairs, pieces, scribbles); their target is the same
probability for all ten, so that the net is unsure where it should be.

Sources: Simard, Steinkraus & Platt 2003 (elastic distortions); Hendrycks, Mazeika & Dietterich 2019 (outlier exposure).
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from experiments import strokes
from experiments.reader.normalise import normalise

Ink = NDArray[np.float32]

SCALE = 4  # working pixels to a pixel of MNIST
SIDE = 28 * SCALE
_GRID = np.indices((SIDE, SIDE), np.float32)[::-1] - np.float32(SIDE / 2 - 0.5)  # x, y from the middle


def bend(image: Ink, rng: np.random.Generator, *, strength: float = 1.0, width: float | None = None) -> Ink:
    """Turn, lean, stretch and bend a 28x28 digit, and redraw it with a wider or narrower pen.

    Parameters
    ----------
    image : float32, (28, 28), in [0, 1], ink 1
    strength : float
        1: 9 degrees, 12 % of size and 15 % of lean at one standard deviation, elastic waves of about a pixel.
    width : float or None
        Pixels of the 28x28 image to add to the stroke; None: drawn at random.

    Returns
    -------
    float32, (112, 112), in [0, 1]
    """
    turn, lean = rng.normal(0, 0.16 * strength), rng.normal(0, 0.15 * strength)
    stretch = np.exp(rng.normal(0, 0.12 * strength, 2))
    cos, sin = np.cos(turn), np.sin(turn)
    inverse = np.linalg.inv(np.array([[cos, -sin], [sin, cos]]) @ np.array([[stretch[0], lean], [0, stretch[1]]]))
    source = np.tensordot(inverse.astype(np.float32), _GRID, 1) / SCALE + np.float32(13.5)
    # Elastic: a coarse lattice of random shifts, spline between; 28 / (cells - 1) pixels is the length of the waves.
    cells = int(rng.integers(4, 8))
    amplitude = strength * rng.uniform(0, 8.0) / cells
    shifts = rng.normal(0, amplitude, (cells, cells, 2)).astype(np.float32)
    waves = cv2.resize(cv2.resize(shifts, (28, 28), interpolation=cv2.INTER_CUBIC), (SIDE, SIDE))
    source += waves.transpose(2, 0, 1)
    bent = cv2.remap(image, source[0], source[1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
    # The interpolated edge is a ramp: where it is cut decides the stroke's width, to a fraction of a pixel.
    change = (rng.normal(0, 0.6 * strength) if width is None else width) * SCALE
    grow = round(abs(change))
    if grow:
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (grow + 1, grow + 1))
        thin = cv2.erode(bent, disc) if change < 0 else cv2.dilate(bent, disc)
        bent = thin if thin.sum() > 0.35 * bent.sum() else bent  # a thin stroke is not worn away
    level = rng.uniform(0.35, 0.6)
    return np.asarray(np.clip((bent - level) * 3 + 0.5, 0, 1), np.float32)


def photograph(ink: Ink, rng: np.random.Generator, *, smallest: float = 0.16) -> Ink:
    """Wear the ink as paper, camera and reader do: uneven ink, few pixels, blur, noise, rules, neighbours' ends, a cut.

    Parameters
    ----------
    ink : float32, (h, w), in [0, 1]
    smallest : float
        The camera's least pixels to a pixel of the ink; at 0.16 a digit of MNIST is 13 high.

    Returns
    -------
    float32, (h', w'), in [0, 1]: the ink that the reader would hand to `normalise`, 0 outside its mask.
    """
    height, width = ink.shape
    if rng.random() < 0.3:  # pencils and ballpoints come and go
        cells = int(rng.integers(3, 16))
        tone = rng.uniform(rng.uniform(0.3, 0.9), 1.0, (cells, cells)).astype(np.float32)
        ink = ink * np.clip(cv2.resize(tone, (width, height), interpolation=cv2.INTER_CUBIC), 0, 1)
    if rng.random() < 0.08:  # what is left of a ruled line, or the gap where it was
        row, thick = int(rng.integers(height // 6, height)), int(rng.integers(1, 6))
        columns = np.flatnonzero(ink.max(0) > 0.5)
        if rng.random() < 0.5 and columns.size:
            left, right = columns[0] - rng.integers(12), columns[-1] + rng.integers(12)
            ink = ink.copy()
            ink[row : row + thick, max(0, left) : right] = 1
        else:
            ink = ink.copy()
            ink[row : row + thick // 2 + 1] = 0
    scale = float(np.exp(rng.uniform(np.log(smallest), 0)))
    ink = cv2.resize(ink, (max(1, round(width * scale)), max(1, round(height * scale))), interpolation=cv2.INTER_AREA)
    ink = cv2.GaussianBlur(ink, (0, 0), rng.uniform(0.3, max(0.5, min(1.5, 4 * scale))))
    noise = rng.uniform(0, 0.12) * rng.standard_normal(ink.shape).astype(np.float32)
    seen = ink + noise
    mask = ((ink + 0.5 * noise) > rng.uniform(0.25, 0.55) * float(ink.max(initial=0))).astype(np.uint8)
    mask = keep_large(mask)
    level = max(0.1, float(np.percentile(seen[mask > 0], 75))) if mask.any() else 1.0
    soft = cv2.dilate(mask, np.ones((3, 3), np.uint8))
    return np.asarray(np.clip(seen / level, 0, 1) * soft, np.float32)


def keep_large(mask: NDArray[np.uint8], share: float = 0.04) -> NDArray[np.uint8]:
    """Take away the components of a mask that hold less than `share` of it."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    areas = stats[:, cv2.CC_STAT_AREA]
    kept = (areas >= share * areas[1:].sum()) & (np.arange(count) > 0)
    return kept[labels].astype(np.uint8)


def with_neighbour(ink: Ink, other: Ink, rng: np.random.Generator) -> Ink:
    """Add the end of a neighbour's stroke on one side, as a cut between touching digits leaves it."""
    side = "left" if rng.random() < 0.5 else "right"
    joined, seam = touch(other, ink, rng) if side == "left" else touch(ink, other, rng)
    reach = int(rng.integers(2, 12))
    return joined[:, max(0, seam - reach) :] if side == "left" else joined[:, : seam + reach]


def touch(left: Ink, right: Ink, rng: np.random.Generator, overlap: float | None = None) -> tuple[Ink, int]:
    """Slide two digits together until their ink meets.

    Parameters
    ----------
    left, right : float32, (h, w) and (h, w'), in [0, 1]
    overlap : float or None
        Pixels to go on after the first touch; None: drawn, up to 6.

    Returns
    -------
    (float32 (h, w''), int)
        Both on one canvas, and the column where the right digit's box begins.
    """
    columns = [np.flatnonzero(one.max(0) > 0.5) for one in (left, right)]
    if not all(c.size for c in columns):
        return left, left.shape[1]
    left = left[:, columns[0][0] : columns[0][-1] + 1]
    right = right[:, columns[1][0] : columns[1][-1] + 1]
    # In every row the gap between left's last and right's first ink; the smallest closes first.
    far = 10_000
    inside_left, inside_right = left > 0.5, right > 0.5
    room_left = np.where(inside_left.any(1), inside_left[:, ::-1].argmax(1), far)
    room_right = np.where(inside_right.any(1), inside_right.argmax(1), far)
    gap = int((room_left + room_right).min())
    more = rng.uniform(0, 6) if overlap is None else overlap
    slide = min(gap if gap < far else 0, left.shape[1] - 1) + round(more)
    start = max(0, left.shape[1] - slide)
    joined = np.zeros((left.shape[0], max(left.shape[1], start + right.shape[1])), np.float32)
    joined[:, : left.shape[1]] = left
    joined[:, start : start + right.shape[1]] = np.maximum(joined[:, start : start + right.shape[1]], right)
    return joined, start


def not_a_digit(pick: "Picker", rng: np.random.Generator) -> Ink:
    """Draw what a reader meets that is no digit: digits run together, pieces of digits, scribbles, blots, dashes."""
    kind = rng.random()
    if kind < 0.5:  # two or three digits taken for one, touching or apart
        joined = pick(rng)[0]
        for _ in range(int(rng.integers(1, 3)) if rng.random() < 0.3 else 1):
            joined, _ = touch(joined, pick(rng)[0], rng, overlap=rng.uniform(-8, 6))
        return joined
    if kind < 0.82:  # a piece of a digit: cut by a straight line
        ink, label = pick(rng)
        if label == 1:  # most pieces of a 1 are a 1
            ink = pick(rng)[0]
        return piece(ink, rng)
    page = np.zeros((SIDE, SIDE), np.uint8)
    pen = int(rng.integers(2, 14))
    if kind < 0.92:  # a scribble, round or angular
        points = rng.uniform(16, SIDE - 16, (int(rng.integers(4, 11)), 2))
        path = strokes.smooth(points) if rng.random() < 0.5 else points
        cv2.polylines(page, [np.round(path).astype(np.int32)], False, 255, pen, cv2.LINE_AA)
    elif kind < 0.965:  # a blot
        axes = rng.integers(10, 40, 2)
        cv2.ellipse(page, (SIDE // 2, SIDE // 2), axes.tolist(), float(rng.uniform(0, 180)), 0, 360, 255, -1, cv2.LINE_AA)
    else:  # a dash, level or nearly so
        rise = int(rng.integers(-10, 11))
        cv2.line(page, (12, SIDE // 2 - rise), (SIDE - 12, SIDE // 2 + rise), 255, pen, cv2.LINE_AA)
    return np.asarray(page, np.float32) / 255


def piece(ink: Ink, rng: np.random.Generator) -> Ink:
    """Keep what lies on one side of a straight, mostly upright cut: 25 to 60 % of the ink."""
    rows, cols = np.indices(ink.shape)
    angle = rng.normal(0, 0.35) if rng.random() < 0.7 else rng.uniform(0, np.pi)
    along = (cols * np.cos(angle) + rows * np.sin(angle)) * rng.choice([-1, 1])
    inked = ink > 0.5
    if not inked.any():
        return ink
    limit = np.quantile(along[inked], rng.uniform(0.25, 0.6))
    return np.where(along < limit, ink, 0).astype(np.float32)


class Picker:
    """Digits to train on: of a set of images, and some drawn from templates.

    Parameters
    ----------
    images : uint8, (n, 28, 28)
    labels : integers, (n,)
    drawn : float
        The share drawn from templates.
    """

    def __init__(self, images: NDArray[np.uint8], labels: NDArray[np.integer], *, drawn: float = 0.2) -> None:
        self.images, self.labels, self.drawn = images, labels, drawn

    def __call__(self, rng: np.random.Generator) -> tuple[Ink, int]:
        """Draw one: ink, float32 (112, 112), and its digit."""
        if rng.random() < self.drawn:
            digit = int(rng.integers(10))
            return strokes.draw(digit, rng), digit
        index = int(rng.integers(len(self.images)))
        image = self.images[index].astype(np.float32) / 255
        return bend(image, rng, strength=rng.uniform(0.3, 1.2)), int(self.labels[index])


def examples(
    pick: Picker, count: int, rng: np.random.Generator, *, junk: float = 0.25, plain: float = 0.15
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Make training examples.

    Parameters
    ----------
    junk : float
        The share that are no digits, with the target 1/10 for each class.
    plain : float
        The share that are images of the set as they are, but for a small bend: the net must not forget MNIST.

    Returns
    -------
    (uint8 (count, 28, 28), float32 (count, 10))
        Images, and for each the probability of every digit.
    """
    images = np.zeros((count, 28, 28), np.uint8)
    targets = np.full((count, 10), 0.1, np.float32)
    for i in range(count):
        kind = rng.random()
        if kind < junk:
            image = normalise(photograph(not_a_digit(pick, rng), rng))
        elif kind < junk + plain:
            index = int(rng.integers(len(pick.images)))
            label = int(pick.labels[index])
            ink = bend(pick.images[index].astype(np.float32) / 255, rng, strength=0.6, width=rng.normal(0, 0.2))
            image = np.roll(cv2.resize(ink, (28, 28), interpolation=cv2.INTER_AREA), rng.integers(-1, 2, 2), (0, 1))
            targets[i] = np.eye(10, dtype=np.float32)[label]
        else:
            ink, label = pick(rng)
            if rng.random() < 0.18:
                ink = with_neighbour(ink, pick(rng)[0], rng)
            image = normalise(
                photograph(ink, rng),
                thickness=rng.normal(0, 0.4),
                shear=rng.normal(0, 0.08),
                shift=(rng.normal(0, 0.5), rng.normal(0, 0.5)),
            )
            targets[i] = np.eye(10, dtype=np.float32)[label]
        images[i] = np.round(image * 255)
    return images, targets
