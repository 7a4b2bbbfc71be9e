"""What can be a digit by its shape and place, what may be several, and what is odd beside the page's other digits."""

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from experiments.reader.find import Box, Floats, Ink, Mask, Part, upper
from experiments.reader.normalise import stroke_width
from experiments.reader.split import Hypothesis

LOWEST = 9  # pixels; what is lower is noise, or cannot be read
HIGHEST = 3.0  # usual heights; what is higher is no digit
NARROW = 0.35  # usual heights; what is narrower and higher than a digit is a line
STACK = 4.5  # usual heights; what is higher is not three digits above one another
USUAL_LEAN = 0.13  # of MNIST's digits, the median of 8,000
LEANING, MOST_LEAN = 0.25, 0.5  # beyond it: what is worth setting upright, and as far as that goes
SEVERAL, MOST_LONG = 5, 3  # parts of like height, which may be digits, and of what is far higher beside them
RUN = 1.6  # times as wide as high: more than two digits that touch
SURE = 0.9  # above this confidence a digit is rarely something else
INSIDE = 0.12  # of the picture's height: what is as high, with ink all around it, may be the digit
FLAT = 4.0  # times as wide as high, and below a digit: an underline
FAINT = 0.75  # times as dark as the page's sure digits: what is less dark shines through, or is of a fainter pen
SIGN = 0.85  # usual heights: a + or x is lower than that,
ARMS = 0.9  # and so much of its ink lies along two straight lines that cross,
ARM = 0.3  # whose arms are no shorter than this part of the longest
REJECT = 0.25  # below this confidence it is taken for something else than a digit
REJECT_ODD = 0.90  # the same for what is unlike the page's other digits in size, pen or darkness


def plausible(
    found: list[Part], shape: tuple[int, ...], known: list[int], *, all_ink: bool = False
) -> tuple[list[Part], float]:
    """Drop what cannot be part of a digit; return the rest and the usual height of a digit, pixels.

    `known` are the heights of digits that were read surely before. all_ink: what runs off the picture may be a digit, too.
    """
    height, width = shape

    def at_border(part: Part) -> bool:
        x, y, w, h = part.box
        return x <= 1 or y <= 1 or x + w >= width - 1 or y + h >= height - 1

    kept = []
    for part in found:
        _, _, w, h = part.box
        if at_border(part) and max(w / width, h / height) > 0.3 and not all_ink:
            continue
        if w > 0.95 * width and h > 0.95 * height and not (all_ink and part.area > 0.12 * w * h):
            continue
        kept.append(part)
    if not kept:
        return [], 1.0
    unit = _weighted_median(np.array([p.box[3] for p in kept], float))
    unit = float(np.median(known)) if len(known) > 2 else unit
    if unit < LOWEST:
        return [], 1.0
    result = []
    for part in kept:
        _, _, w, h = part.box
        if max(w, h) < 0.2 * unit or h > STACK * unit or w > 12 * unit:
            continue
        if (w > 6 * h and w > 1.2 * unit) or (w < NARROW * unit and h > HIGHEST * unit):  # a line
            continue
        if at_border(part) and not all_ink and (w < 0.2 * unit or not 0.6 * unit < h <= HIGHEST * unit):
            continue
        result.append(part)
    return result, unit


def without_long(ink: Ink) -> Ink | None:
    """Leave out what is so much higher than all the rest that it would be taken for the usual height: a pen, a bracket.

    None where nothing is, or a row of digits, or where the rest are not several of like height.
    """
    _, labels, stats, _ = cv2.connectedComponentsWithStats(ink.mask, connectivity=8)
    heights = stats[:, cv2.CC_STAT_HEIGHT].astype(float)
    heights[0] = 0
    usual = _weighted_median(heights)
    rest = heights[(heights >= LOWEST) & (heights * HIGHEST < usual)]
    if not rest.size:
        return None
    unit = _weighted_median(rest)
    if (np.abs(np.log2(rest / unit)) < 0.5).sum() < SEVERAL or (heights >= HIGHEST * unit).sum() > MOST_LONG:
        return None
    low = (heights > 0) & (heights < HIGHEST * unit)
    return replace(ink, mask=low[labels].astype(np.uint8), name=f"{ink.name}, without what is long")


def _weighted_median(heights: NDArray[np.float64]) -> float:
    """Give the height above which half of all squared heights lie: specks are many, and count for little."""
    ordered = np.sort(heights)
    weights = np.cumsum(ordered**2)
    return float(ordered[np.searchsorted(weights, weights[-1] / 2)])


def usual_height(found: list[Part], read: list[Floats], unit: float, known: list[int]) -> float:
    """Correct the usual height by what reads surely as a digit: digits in one piece with those above them are no measure.

    A 1 may be a piece of a rule. `known` are the heights of digits that were read surely before.
    """
    heights = [p.box[3] for p, some in zip(found, read, strict=True) if some.max() > np.log(SURE) and some.argmax() != 1]
    heights += known
    return float(np.median(heights)) if len(heights) > 2 else unit


def may_be_pair(part: Part, unit: float) -> bool:
    """Say whether a part is large enough for two digits."""
    _, _, w, h = part.box
    return h > 0.5 * unit and w > 0.4 * h


def high_as_digit(part: Part, unit: float) -> bool:
    """Say whether a part is about as high as the page's digits."""
    return 0.6 * unit < part.box[3] < 1.6 * unit


def lean(found: list[Part], unit: float) -> float:
    """Measure how far the page's hand leans beyond what a net trained on MNIST is used to, in pixels to the right a pixel up.

    0 where it leans little, or where there are too few parts to tell a hand's lean from a digit's own.
    """
    moments = [cv2.moments(part.mask, binaryImage=True) for part in found if high_as_digit(part, unit)]
    if len(moments) < 5:
        return 0.0
    beyond = float(np.median([-m["mu11"] / max(m["mu02"], 1e-6) for m in moments])) - USUAL_LEAN
    return float(np.clip(beyond, -MOST_LEAN, MOST_LEAN)) if abs(beyond) > LEANING else 0.0


def is_grain(known: list[Part], found: list[Part], sure: Floats, unit: float) -> bool:
    """Say whether the parts are the grain of a table or page: many are as high as digits, and most read as none.

    Those known from before were read surely. What is far wider than high may be many digits that touch, and counts for neither.
    """

    def one_or_two(part: Part) -> bool:
        return high_as_digit(part, unit) and part.box[2] < RUN * part.box[3]

    read = [1.0 for part in known if one_or_two(part)]
    read += [float(s) for part, s in zip(found, sure, strict=True) if one_or_two(part)]
    return len(read) > 15 and float(np.median(read)) < 0.4


def needs_cut(part: Part, sure: float, unit: float) -> bool:
    """Say whether a part may be more than one digit."""
    _, _, w, h = part.box
    return may_be_pair(part, unit) and (w > 0.9 * h or sure < 0.98)


def darkness(one: Hypothesis, ink: Ink) -> float:
    """Measure how far the darker part of its ink is from the page."""
    x, y, w, h = one.box
    return upper(ink.contrast[y : y + h, x : x + w][one.mask > 0])


def unlike(chosen: list[Hypothesis], ink: Ink, sure: list[float]) -> Floats:
    """Measure how unlike the page's surely read digits each one is; 1 is odd: a rule, a shadow's edge, a stain.

    Size, pen and darkness are compared with the medians. A shadow's edge also has a bright side and a dark one.
    """
    looks, edges = [], []
    height, width = ink.gray.shape
    for one in chosen:
        x, y, w, h = one.box
        pen = stroke_width(one.mask)
        looks.append((max(w, h), pen, darkness(one, ink)))
        rows, columns = (n[:: 1 + len(n) // 500] for n in np.nonzero(one.mask))  # some of its pixels tell as much as all
        step = round(pen) + 4
        down, across = np.array([[0, 0, -step, step], [-step, step, 0, 0]])[:, :, None]
        there = (rows + y + down).clip(0, height - 1), (columns + x + across).clip(0, width - 1)  # (4, pixels)
        bare = ink.mask[there] == 0  # the page beside it, not its neighbours' ink
        count = bare.sum(axis=1)
        left, right, above, below = (ink.gray[there] * bare).sum(axis=1) / np.maximum(count, 1) + 8
        seen = count > 0.15 * len(rows)
        apart = [float(abs(np.log2(a / b))) for a, b, i in ((left, right, 0), (above, below, 2)) if seen[i : i + 2].all()]
        edges.append(max(apart, default=0.0))
    looked, edge = np.log2(np.maximum(looks, 1e-6)), np.array(edges, np.float32) * (not ink.all_ink)
    model = looked[np.array(sure) > SURE]
    model_edge = float(np.median(edge[np.array(sure) > SURE])) if len(model) else 0.0
    away = (np.clip(edge - model_edge, 0, None) / 0.6) ** 2
    if len(model) >= 3:
        apart = (looked - np.median(model, 0)) / (1.5, 0.8, 0.8)
        apart[:, 2] = np.minimum(apart[:, 2], 0)  # only what is fainter: ink out of the shadow is stronger, and no less ink
        away += (apart**2).sum(1)
    elif len(model):  # of few digits what is not half as dark as the darkest is a shadow, if it is read as a 1
        away += np.minimum((np.minimum(looked[:, 2] - model[:, 2].max(), 0) / 0.9) ** 2, 2)
    return np.asarray(away, np.float32)


def is_cross(mask: Mask, unit: float) -> bool:
    """Say whether ink is a plus or a times sign, lower than the page's digits: two straight strokes that cross in their middle.

    Some digits of MNIST would be, if as low, such as an open 4; but those are read surely, as signs are not.
    """
    (h, w), pen = mask.shape, stroke_width(mask)
    y, x = (n[:: 1 + len(n) // 500] for n in np.nonzero(mask))
    x = x * (h / w)  # a narrow x's strokes are as far from upright as a wide one's
    if h >= SIGN * unit or not 0.6 < w / h < 1.7 or min(h, w) < 3 * pen or mask.sum() > 1.6 * (w + h) * pen:
        return False

    def from_stroke(away: NDArray[np.float64]) -> NDArray[np.float64]:  # that runs where most of the ink is
        lowest = np.floor(away.min())
        across = np.convolve(np.bincount((away - lowest).astype(int)), np.ones(max(1, round(pen))), "same")
        return away - (lowest + across.argmax() + 0.5)

    for turn in np.deg2rad([base + some for base in (0, 45) for some in range(-15, 16, 5)]):
        u, v = from_stroke(x * np.cos(turn) + y * np.sin(turn)), from_stroke(y * np.cos(turn) - x * np.sin(turn))
        on_v, on_u = (np.abs(away) <= 0.75 * pen + 1 for away in (u, v))
        arms = -v[on_v].min(), v[on_v].max(), -u[on_u].min(), u[on_u].max()
        if min(arms) >= max(1.3 * pen, ARM * max(arms)) and (on_u | on_v).mean() > ARMS:
            return True
    return False


def in_line(boxes: list[Box], digits: list[Box], *, least: int = 2) -> NDArray[np.bool_]:
    """Say of each box whether it stands in a row: near so many digits at least, as high as they are and on their level."""
    if not boxes or not digits:
        return np.zeros(len(boxes), bool)
    (x, y, w, h), (a, b, c, d) = np.array(boxes, float).T[:, :, None], np.array(digits, float).T[:, None]
    apart, off = np.abs((x + w / 2) - (a + c / 2)), np.abs((y + h / 2) - (b + d / 2))
    itself = apart + off < 0.1 * d
    near = (apart < 5 * d) & (off < 0.25 * d + 0.15 * apart) & (np.abs(np.log2(h / d)) < 0.5) & ~itself
    return np.asarray(near.sum(1) >= least)


def accept(digit: int, confidence: float, odd: float, *, in_row: bool) -> bool:
    """Say whether a digit is believed; a straight line is as sure a 1 as any, so an odd 1 is not.

    What stands in a row with other digits is one more likely than not.
    """
    if odd > (4 if in_row else 1 if digit == 1 else 3):
        return False
    return confidence >= (REJECT_ODD if odd > 1 and not in_row else REJECT)


def link(found: list[Part], sure: Floats, unit: float) -> list[list[int]]:
    """Group the parts that may belong to one digit: near ones, of which one at least is no digit by itself."""
    boxes = np.array([p.box for p in found], float)
    x, y, w, h = boxes.T
    gap_x = np.maximum(x[:, None], x) - np.minimum(x[:, None] + w[:, None], x + w)
    gap_y = np.maximum(y[:, None], y) - np.minimum(y[:, None] + h[:, None], y + h)
    incomplete = (h < 0.7 * unit) | (sure < 0.85)
    height = np.maximum(y[:, None] + h[:, None], y + h) - np.minimum(y[:, None], y)  # of both: not one above another
    near = (gap_x < 0.15 * unit) & (gap_y < 0.25 * unit) & (incomplete[:, None] | incomplete) & (height < 1.6 * unit)
    group = np.arange(len(found))
    for i, j in zip(*np.nonzero(np.triu(near, 1)), strict=True):
        group[group == group[j]] = group[i]
    return [list(np.flatnonzero(group == g)) for g in np.unique(group)]


def only_digit(found: list[Part], shape: tuple[int, ...], *, all_ink: bool = False) -> list[Part]:
    """Choose the parts of the one digit on a picture: no specks, no frame, no underline, nothing along or around the border.

    all_ink: what runs off the picture may be a part of it, too.
    """
    height, width = shape

    def sides(part: Part) -> int:
        x, y, w, h = part.box
        return (x <= 1) + (y <= 1) + (x + w >= width - 1) + (y + h >= height - 1)

    def frame(part: Part) -> bool:
        _, _, w, h = part.box
        thin = part.area < 0.12 * w * h or (min(w / width, h / height) < 0.06 and not all_ink)
        corners = sides(part) == 4 and part.mask[:: h - 1, :: w - 1].sum() > 2  # dark, as of a lens or a table
        return corners or (sides(part) >= 1 and thin and max(w / width, h / height) > 0.5)

    kept = [p for p in found if not frame(p)] or found  # a large 0 is no frame
    if not kept:
        return []
    inner = [p for p in kept if not sides(p)]
    around = any(sides(p) == 4 for p in kept) and any(p.box[3] > INSIDE * height for p in inner)  # dark corners, or a square
    # What lies inside is the digit when it is large enough to be one; else the digit runs off the picture.
    if inner and (around or (not all_ink and max(p.area for p in inner) > 0.15 * max(p.area for p in kept))):
        kept = inner
    digit = max(kept, key=lambda p: p.area)
    _, y, w, h = digit.box
    under = [p for p in kept if p.box[2] > FLAT * p.box[3] and p.box[2] > 0.5 * w and p.box[1] > y + 1.03 * h]
    return [p for p in kept if p.area >= 0.04 * digit.area and not any(p is line for line in under)]
