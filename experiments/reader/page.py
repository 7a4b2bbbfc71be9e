"""A picture to the digits on it: every step of the reader in order.

This file is long because it is the one place where the steps, and the choices between their results, stand together.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from numpy.typing import NDArray

import tinygrad_lite.functional as F
from experiments.reader import find, order, split
from experiments.reader.find import Box, Floats, Ink, Part
from experiments.reader.normalise import normalise, stroke_width
from experiments.reader.rules import darkest, without_rules
from experiments.reader.split import Hypothesis
from models.lenet import LeNet
from tinygrad_lite import no_grad

UNSURE = 0.75  # below this confidence a digit is marked as unsure
MOST_PARTS = 400  # on a page; what is smaller than so many others is noise
REJECT = 0.25  # below this it is taken for something else than a digit
REJECT_ODD = 0.90  # the same for what is unlike the page's other digits in size, pen or darkness
# The normalisations that the last reading is the mean of: (thickness, shear).
VIEWS = ((0.0, 0.0), (0.7, 0.0), (-0.6, 0.0), (0.0, 0.15), (0.0, -0.15))


@dataclass
class Digit:
    """One digit as read: its box (x, y, w, h) in the picture's pixels and the net's two best guesses."""

    box: Box
    digit: int
    confidence: float
    second: int
    second_confidence: float
    image: Floats  # (28, 28), as the net saw it

    @property
    def unsure(self) -> bool:
        """Whether a person should look."""
        return self.confidence < UNSURE


@dataclass
class Reading:
    """What is on a picture: digits, and rows of indices into them, in reading order."""

    digits: list[Digit] = field(default_factory=list)
    rows: list[list[int]] = field(default_factory=list)
    how: str = "nothing found"

    def confidence(self) -> float:
        """Return the digits' mean confidence, 0 if there are none."""
        return float(np.mean([d.confidence for d in self.digits])) if self.digits else 0.0

    def lines(self) -> list[str]:
        """Return the rows as text."""
        return ["".join(str(self.digits[i].digit) for i in row) for row in self.rows]


class Reader:
    """Reads pictures with a net.

    Parameters
    ----------
    net : LeNet
        Its weights; it is set to evaluation.
    """

    def __init__(self, net: LeNet) -> None:
        self.net = net.eval()

    def log_probs(self, images: list[Floats]) -> Floats:
        """Read images (28, 28): float32 (n, 10), log-probabilities."""
        batches = []
        with no_grad():
            for start in range(0, len(images), 256):
                # the batch innermost in memory, where conv2d wants it
                batch = np.stack(images[start : start + 256], axis=-1).transpose(2, 0, 1)[:, None]
                batches.append(F.log_softmax(self.net(batch), dim=1).numpy())
        return np.concatenate(batches) if batches else np.zeros((0, 10), np.float32)

    def read(self, picture: NDArray[np.uint8], *, single: bool = False) -> Reading:
        """Find and read the digits on a picture.

        Parameters
        ----------
        picture : uint8, (h, w, 3), RGB
        single : bool
            All that is on it is one digit.

        Returns
        -------
        Reading
            Boxes in pixels of `picture`.
        """
        large, factor = find.enlarge(picture)
        best, best_score = Reading(), 0.0
        best_of = {True: 0.0, False: 0.0}  # light ink and dark ink
        tried = 0
        for ink in find.candidates(find.to_gray(large), single=single):
            if best_of[ink.light] < 0.5 * best_of[not ink.light]:
                continue  # the other polarity reads far better
            found_all = False
            for one in _variants(ink):
                reading, score, sure = self._read_single(one) if single else self._read_ink(one)
                best_of[ink.light] = max(best_of[ink.light], score)
                if score > 1.02 * best_score:
                    best, best_score = reading, score
                found_all = found_all or sure
            tried += 1
            if found_all or (tried >= 3 and best.confidence() > 0.9):
                break
        best.rows = order.rows([digit.box for digit in best.digits])
        for digit in best.digits:
            digit.box = tuple(round(n / factor) for n in digit.box)
        return best

    def _read_ink(self, ink: Ink) -> tuple[Reading, float, bool]:
        """Read one guess at the ink: the reading, how good it is, and whether there is no need to look further."""
        found, unit = plausible(find.parts(ink.mask), ink.mask.shape)
        if not found:
            return Reading(), 0.0, False
        found = sorted(found, key=lambda p: -p.area)[:MOST_PARTS]
        wholes = np.exp(self.log_probs([normalise(cut_out(ink, p.box, p.mask)) for p in found])).max(1)
        clusters = []
        for group in link(found, wholes, unit):
            cut = [needs_cut(found[i], float(wholes[i]), unit) for i in group]
            clusters.append(split.make_cluster([found[i] for i in group], cut, ink.contrast))
        guesses = [h for i, c in enumerate(clusters) for h in split.hypotheses(c, i, unit)]
        log_probs = self.log_probs([normalise(cut_out(ink, h.box, h.mask)) for h in guesses])
        scores = log_probs.max(1)
        digit_like = [p.area for p, s in zip(found, wholes, strict=True) if 0.6 * unit < p.box[3] < 1.6 * unit and s > 0.8]
        usual_ink = float(np.median(digit_like or [p.area for p in found]))
        chosen = []
        for i, cluster in enumerate(clusters):
            mine = [k for k, h in enumerate(guesses) if h.cluster == i]
            chosen += [mine[k] for k in split.best_runs(cluster, [guesses[k] for k in mine], scores[mine], usual_ink)]
        reading = Reading(how=ink.name)
        if not chosen:
            return reading, 0.0, False
        inks = [cut_out(ink, guesses[k].box, guesses[k].mask) for k in chosen]
        digits = self._finish([guesses[k].box for k in chosen], inks)
        odd = unlike([guesses[k] for k in chosen], ink, [d.confidence for d in digits])
        reading.digits = [d for d, o in zip(digits, odd, strict=True) if accept(d, float(o))]
        sure = np.array([d.confidence for d in reading.digits])
        # Weighed by size: a digit in pieces, each of them read as something, must not count for more than the whole.
        sizes = np.array([np.sqrt(d.box[2] * d.box[3]) for d in reading.digits])
        score = float(((sure - 0.5) * sizes).sum()) / min(ink.mask.shape)
        rejected = len(chosen) - len(reading.digits)
        return reading, score, not rejected and bool(sure.size) and float(sure.min()) > 0.8

    def _read_single(self, ink: Ink) -> tuple[Reading, float, bool]:
        """Read all the ink as one digit."""
        kept = only_digit(find.parts(ink.mask), ink.mask.shape)
        if not kept:
            return Reading(), 0.0, False
        x0, y0 = min(p.box[0] for p in kept), min(p.box[1] for p in kept)
        x1, y1 = max(p.box[0] + p.box[2] for p in kept), max(p.box[1] + p.box[3] for p in kept)
        mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
        for part in kept:
            x, y, w, h = part.box
            mask[y - y0 : y - y0 + h, x - x0 : x - x0 + w] |= part.mask
        box = (x0, y0, x1 - x0, y1 - y0)
        digits = self._finish([box], [cut_out(ink, box, mask)])
        return Reading(digits, how=ink.name), digits[0].confidence, digits[0].confidence > 0.97

    def _finish(self, boxes: list[Box], inks: list[Floats]) -> list[Digit]:
        """Read each digit in a few views and take the mean."""
        views = [[normalise(ink, thickness=t, shear=s) for ink in inks] for t, s in VIEWS]
        probs = np.mean([np.exp(self.log_probs(images)) for images in views], axis=0)
        digits = []
        for box, image, prob in zip(boxes, views[0], probs, strict=True):
            first, second = (int(i) for i in np.argsort(-prob, kind="stable")[:2])
            digits.append(Digit(box, first, float(prob[first]), second, float(prob[second]), image))
        return digits


def _variants(ink: Ink) -> Iterator[Ink]:
    """Yield the ink without rules, where there are any, before the ink as it is."""
    bare = without_rules(ink.mask)
    if bare is not None:
        strong = darkest(ink)
        if strong is not None:
            yield replace(ink, mask=strong, name=f"{ink.name}, the darkest")
        yield replace(ink, mask=bare, name=f"{ink.name}, rules removed")
    yield ink


def cut_out(ink: Ink, box: Box, mask: find.Mask) -> Floats:
    """Return the ink under a mask, (h + 2, w + 2), with its soft edge, evenly strong: 1 in the strokes."""
    x, y, w, h = box
    strength = np.zeros((h + 2, w + 2), np.float32)
    top, left = max(0, y - 1), max(0, x - 1)
    seen = ink.strength[top : y + h + 1, left : x + w + 1]
    strength[top - y + 1 : top - y + 1 + seen.shape[0], left - x + 1 : left - x + 1 + seen.shape[1]] = seen
    inside = np.pad(mask, 1)
    level = max(0.1, float(np.percentile(strength[inside > 0], 75)))
    # The soft edge is the stroke's own, not the neighbour's across a cut.
    soft = cv2.dilate(inside, np.ones((3, 3), np.uint8))
    other = np.pad(ink.mask[y : y + h, x : x + w], 1) * (1 - inside)
    return np.asarray(np.clip(strength / level, 0, 1) * soft * (1 - other), np.float32)


def plausible(found: list[Part], shape: tuple[int, ...]) -> tuple[list[Part], float]:
    """Drop what cannot be part of a digit; return the rest and the usual height of a digit, pixels."""
    height, width = shape

    def at_border(part: Part) -> bool:
        x, y, w, h = part.box
        return x <= 1 or y <= 1 or x + w >= width - 1 or y + h >= height - 1

    kept = []
    for part in found:
        _, _, w, h = part.box
        if at_border(part) and max(w / width, h / height) > 0.3:
            continue
        if w > 0.95 * width and h > 0.95 * height:
            continue
        kept.append(part)
    if not kept:
        return [], 1.0
    heights = np.array([p.box[3] for p in kept], float)
    by_height = np.argsort(heights)
    weights = np.cumsum(heights[by_height] ** 2)
    unit = float(heights[by_height][np.searchsorted(weights, weights[-1] / 2)])
    result = []
    for part in kept:
        _, _, w, h = part.box
        if max(w, h) < 0.2 * unit or h > 3 * unit or w > 12 * unit:
            continue
        if w > 6 * h and w > 1.2 * unit:  # a line
            continue
        if at_border(part) and (w < 0.2 * unit or h < 0.6 * unit):
            continue
        result.append(part)
    return result, unit


def needs_cut(part: Part, sure: float, unit: float) -> bool:
    """Say whether a part may be more than one digit."""
    _, _, w, h = part.box
    return h > 0.5 * unit and (w > 0.9 * h or (sure < 0.98 and w > 0.4 * h))


def unlike(chosen: list[Hypothesis], ink: Ink, sure: list[float]) -> Floats:
    """Measure how unlike the page's surely read digits each one is; 1 is odd: a rule, a shadow's edge, a stain.

    Size, pen and darkness are compared with the medians. A shadow's edge also has a bright side and a dark one.
    """
    looks, edges = [], []
    for one in chosen:
        x, y, w, h = one.box
        inside = one.mask > 0
        pen = stroke_width(np.pad(one.mask, 1))
        looks.append((max(w, h), pen, float(np.percentile(ink.contrast[y : y + h, x : x + w][inside], 75))))
        rows, columns = np.nonzero(inside)
        step = round(pen) + 4
        sides = []
        for dy, dx in ((0, -step), (0, step), (-step, 0), (step, 0)):
            there = (rows + y + dy).clip(0, ink.gray.shape[0] - 1), (columns + x + dx).clip(0, ink.gray.shape[1] - 1)
            bare = ink.mask[there] == 0  # the page beside it, not its neighbours' ink
            sides.append(float(ink.gray[there][bare].mean()) if bare.mean() > 0.15 else np.nan)
        apart = [abs(np.log2((sides[i] + 8) / (sides[i + 1] + 8))) for i in (0, 2)]
        edges.append(max((a for a in apart if not np.isnan(a)), default=0.0))
    looked, edge = np.log2(np.array(looks)), np.array(edges, np.float32)
    model = looked[np.array(sure) > 0.9]
    model_edge = float(np.median(edge[np.array(sure) > 0.9])) if len(model) else 0.0
    away = (np.clip(edge - model_edge, 0, None) / 0.6) ** 2
    if len(model) >= 3:
        away += (((looked - np.median(model, 0)) / (1.5, 0.8, 0.8)) ** 2).sum(1)
    return np.asarray(away, np.float32)


def accept(digit: Digit, odd: float) -> bool:
    """Say whether a digit is believed; a straight line is as sure a 1 as any, so an odd 1 is not."""
    if odd > 5 or (odd > 1.2 and digit.digit == 1):
        return False
    return digit.confidence >= (REJECT_ODD if odd > 1 else REJECT)


def link(found: list[Part], sure: Floats, unit: float) -> list[list[int]]:
    """Group the parts that may belong to one digit: near ones, of which one at least is no digit by itself."""
    boxes = np.array([p.box for p in found], float)
    x, y, w, h = boxes.T
    gap_x = np.maximum(x[:, None], x) - np.minimum(x[:, None] + w[:, None], x + w)
    gap_y = np.maximum(y[:, None], y) - np.minimum(y[:, None] + h[:, None], y + h)
    incomplete = (h < 0.7 * unit) | (sure < 0.85)
    near = (gap_x < 0.15 * unit) & (gap_y < 0.25 * unit) & (incomplete[:, None] | incomplete)
    group = np.arange(len(found))
    for i, j in zip(*np.nonzero(np.triu(near, 1)), strict=True):
        group[group == group[j]] = group[i]
    return [list(np.flatnonzero(group == g)) for g in np.unique(group)]


def only_digit(found: list[Part], shape: tuple[int, ...]) -> list[Part]:
    """Choose the parts of the one digit on a picture: no specks, no frame, no strip along the border."""
    height, width = shape

    def frame(part: Part) -> bool:
        x, y, w, h = part.box
        sides = (x <= 1) + (y <= 1) + (x + w >= width - 1) + (y + h >= height - 1)
        thin = part.area < 0.12 * w * h or min(w / width, h / height) < 0.06
        return sides >= 1 and thin and max(w / width, h / height) > 0.5

    kept = [p for p in found if not frame(p)]
    if not kept:
        return []
    inner = [p for p in kept if p.box[0] > 1 and p.box[1] > 1
             and p.box[0] + p.box[2] < width - 1 and p.box[1] + p.box[3] < height - 1]  # fmt: skip
    largest = max(p.area for p in kept)
    # What lies inside is the digit when it is large enough to be one; else the digit runs off the picture.
    if inner and max(p.area for p in inner) > 0.15 * largest:
        kept = inner
        largest = max(p.area for p in kept)
    return [p for p in kept if p.area >= 0.04 * largest]
