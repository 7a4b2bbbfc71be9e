"""Parts of ink to digits: what is broken is joined and what touches is cut, whichever way the net reads best.

Every cluster of parts is cut into more pieces than it has digits. A digit is then a run of neighbouring pieces, and
dynamic programming picks the runs whose sum of log-probabilities, less what the cuts and joins cost, is largest.
Source: over-segmentation with a recogniser's scores, LeCun et al. 1998, section V.
"""

from dataclasses import dataclass, field
from math import exp, log1p

import cv2
import numpy as np
from numpy.typing import NDArray

from experiments.reader.find import Box, Floats, Mask, Part
from experiments.reader.seams import evened, seams

# Costs, in log-probability. Set on pages of MNIST's training digits (README of models/weights).
CUT = 0.5  # a cut, however thin the ink there
CUT_INK = 0.12  # and for each stroke width of ink that it crosses beyond the first
JOIN = 0.15  # parts joined, touching or not
JOIN_GAP = 4.0  # and for each digit height between them
WIDE = 1.5  # wider than high, for each height
SMALL = 2.5  # lower than the page's digits
LOW = 0.8  # lower than is usual, for each usual height
TALL, HIGH = 1.0, 1.45  # higher than HIGH usual heights, for each of these
SKIP = 0.4  # ink left out
SKIP_INK = 5.0  # and for each usual digit's worth of it
LONGEST = 25  # pieces in a digit at most: a digit that needed no cut must still be one of the choices


@dataclass
class Cluster:
    """Neighbouring parts on one canvas: box on the page, (h, w) piece numbers from 1 (0: page), left to right."""

    box: Box
    pieces: NDArray[np.int32]
    count: int
    cuts: list[float]  # after piece i: stroke widths of ink cut through; -1 where nothing was cut
    cut: bool = True  # whether any part may be more than one digit


def _around(group: list[Part]) -> Box:
    x, y = min(p.box[0] for p in group), min(p.box[1] for p in group)
    return x, y, max(p.box[0] + p.box[2] for p in group) - x, max(p.box[1] + p.box[3] for p in group) - y


def make_cluster(group: list[Part], cut: list[bool], contrast: Floats) -> Cluster:
    """Lay parts on one canvas and number their pieces from left to right; part i is cut up where cut[i].

    contrast, (h, w) in [0, 1], is of the whole page.
    """
    x0, y0, width, height = box = _around(group)
    canvas = np.zeros((height, width), np.int32)
    centres: list[tuple[float, int, float]] = []  # x, piece, ink cut through after it
    number = 0
    for part, is_cut in zip(group, cut, strict=True):
        x, y, w, h = part.box
        view = canvas[y - y0 : y - y0 + h, x - x0 : x - x0 + w]
        ways = seams(evened(part, contrast), most=int(np.clip(5 * w / h, 4, 24))) if is_cut else []
        piece = np.zeros((h, w), np.int32)
        edge = np.zeros(h, np.int64)
        for columns, _ in ways:
            edge = np.maximum(edge, columns)
            piece += np.arange(w) >= edge[:, None]
        inked = part.mask > 0
        for k in range(len(ways) + 1):
            mine = inked & (piece == k)
            if mine.any():
                number += 1
                view[mine] = number
                after = ways[k][1] if k < len(ways) else -1.0
                centres.append((x - x0 + float(np.flatnonzero(mine.any(0)).mean()), number, after))
    centres.sort()
    order = np.zeros(number + 1, np.int32)
    for new, (_, old, _) in enumerate(centres, 1):
        order[old] = new
    return Cluster(box, order[canvas], number, [after for _, _, after in centres], any(cut))


@dataclass
class Hypothesis:
    """Pieces first to last (from 1) of a cluster taken for one digit, or for a pair that touches."""

    box: Box  # on the page
    mask: Mask
    first: int = 1
    last: int = 1
    cost: float = 0.0
    pair: bool = False
    image: Floats = field(default_factory=lambda: np.zeros((0, 0), np.float32))  # as the net saw it: (28, 28), a pair (28, 40)
    log_probs: Floats = field(default_factory=lambda: np.zeros((1, 10), np.float32))  # as read: (1, 10), a pair (2, 10); or 0
    surest: float = 0.0  # the log-probability of its likeliest digits together
    is_read: bool = False  # whether the nets have seen it
    halves: list["Hypothesis"] = field(default_factory=list)  # of a pair that was chosen

    def read_as(self, image: Floats, log_probs: Floats) -> None:
        """Note what the nets saw and read."""
        self.image, self.log_probs, self.surest, self.is_read = image, log_probs, float(log_probs.max(1).sum()), True


def together(group: list[Part]) -> Hypothesis:
    """Take all of some parts for one digit."""
    x0, y0, width, height = box = _around(group)
    mask = np.zeros((height, width), np.uint8)
    for part in group:
        x, y, w, h = part.box
        mask[y - y0 : y - y0 + h, x - x0 : x - x0 + w] |= part.mask
    return Hypothesis(box, mask)


def hypotheses(cluster: Cluster, unit: float, *, pairs: bool = False) -> list[Hypothesis]:
    """List the runs of pieces that could be one digit by their shape, or two; unit is a digit's usual height, pixels."""
    found = []
    x0, y0 = cluster.box[:2]
    boxes = [cv2.boundingRect((cluster.pieces == i).astype(np.uint8)) for i in range(1, cluster.count + 1)]
    for first in range(1, cluster.count + 1):
        left, top, right, bottom = 10**9, 10**9, 0, 0
        cost = 0.0
        for last in range(first, min(cluster.count, first + LONGEST - 1) + 1):
            x, y, w, h = boxes[last - 1]
            if last > first and cluster.cuts[last - 2] < 0:
                gap = max(0, x - right, y - bottom, top - (y + h)) / unit
                cost += JOIN + JOIN_GAP * gap
            left, top, right, bottom = min(left, x), min(top, y), max(right, x + w), max(bottom, y + h)
            width, height = right - left, bottom - top
            if width > (3.0 if pairs else 1.7) * max(height, unit) and last > first:
                break
            if height > 2.2 * unit and last > first and cluster.count > 1:
                continue
            shape = SMALL * max(0.0, 0.55 - height / unit) + LOW * max(0.0, 0.9 - height / unit) + tall(height, unit)
            ends = [first - 2, last - 1]  # the cuts on both sides; each is paid for half by either neighbour
            crossed = [cluster.cuts[i] for i in ends if i >= 0 and cluster.cuts[i] >= 0]
            cutting = sum(CUT + CUT_INK * max(0.0, ink - 1) for ink in crossed) / 2
            view = cluster.pieces[top:bottom, left:right]
            mask = ((view >= first) & (view <= last)).astype(np.uint8)
            box = (x0 + left, y0 + top, width, height)
            if width <= 1.7 * max(height, unit) or last == first:
                found.append(Hypothesis(box, mask, first, last, cost + cutting + shape + WIDE * max(0.0, width / height - 1.1)))
            if pairs and cluster.cut and height > 0.6 * unit and 0.3 * height < width:
                found.append(Hypothesis(box, mask, first, last, cost + cutting + 2 * shape, pair=True))
    return found


def tall(height: int, unit: float) -> float:
    """Return what it costs a digit to be higher than is usual."""
    return TALL * max(0.0, height / unit - HIGH)


def best_runs(cluster: Cluster, found: list[Hypothesis], usual_ink: float) -> tuple[list[Hypothesis], float]:
    """Choose runs that do not overlap and whose scores sum to most, left to right; and that sum.

    Parameters
    ----------
    found : list of Hypothesis
        Of this cluster, with what the nets read in them. What they have not seen yet is taken to be as sure as can be: when
        all that is chosen has been seen (see `unread`), nothing else can be better.
    usual_ink : float
        Pixels of ink in a digit of this page.
    """
    ink = np.bincount(cluster.pieces.ravel(), minlength=cluster.count + 1) / usual_ink
    best = [0.0] + [-np.inf] * cluster.count
    # The net for pairs tells them from single digits: its doubt is what is left for a single one.
    doubt = {(h.first, h.last): log1p(-min(exp(h.surest), 0.999)) for h in found if h.pair and h.is_read}
    ending: list[list[Hypothesis]] = [[] for _ in best]
    for one in found:
        ending[one.last].append(one)
    chosen: list[list[Hypothesis]] = [[] for _ in range(cluster.count + 1)]
    for last in range(1, cluster.count + 1):
        best[last] = best[last - 1] - SKIP * min(1.0, 5 * ink[last]) - SKIP_INK * ink[last]
        chosen[last] = chosen[last - 1]
        for one in ending[last]:
            total = best[one.first - 1] + one.surest - one.cost
            total += 0 if one.pair else doubt.get((one.first, one.last), 0)
            if total > best[last]:
                best[last] = total
                chosen[last] = [*chosen[one.first - 1], one]
    return _long_ones(chosen[-1], found, cluster.cuts), best[-1]


def unread(runs: list[Hypothesis], found: list[Hypothesis]) -> list[Hypothesis]:
    """List what the nets must see before it is certain that these runs are the best of what was found."""
    chosen, single = {id(h) for h in runs}, {(h.first, h.last) for h in runs if not h.pair}
    return [h for h in found if not h.is_read and (id(h) in chosen or (h.pair and (h.first, h.last) in single))]


def _long_ones(runs: list[Hypothesis], found: list[Hypothesis], cuts: list[float]) -> list[Hypothesis]:
    """Take two ones that touch for a 1 with a long upstroke, where the whole looks most like a 1."""
    kept: list[Hypothesis] = []
    for run in runs:
        kept.append(run)
        for some in (kept[-1:], kept[-2:]):
            ones = [int(digit) for h in some for digit in h.log_probs.argmax(1)] == [1, 1]
            if ones and (run.pair or cuts[some[0].last - 1] >= 0):
                ends = some[0].first, some[-1].last
                whole = next((h for h in found if not h.pair and (h.first, h.last) == ends), None)
                if whole and whole.log_probs[0, 1] > np.log(0.5):
                    kept[-len(some) :] = [whole]
                    break
    return kept


def halve(pair: Hypothesis, edges: Floats) -> list[Hypothesis]:
    """Say where either digit of a pair is; strokes that both share, and what lies above one another, belong to both.

    edges, (2,): where the left one ends and where the right one begins, 0 being the pair's left end and 1 its right end.
    """
    w = pair.box[2]
    stop, start = (round(float(edge) * w) for edge in edges)
    return [_columns(pair, 0, max(1, stop)), _columns(pair, min(max(0, start), w - 1), w)]


def _columns(pair: Hypothesis, start: int, stop: int) -> Hypothesis:
    """Take the ink of a pair between two of its columns."""
    x, y, w, h = cv2.boundingRect(pair.mask[:, start:stop])
    mask = pair.mask[y : y + h, start + x : start + x + w]
    return Hypothesis((pair.box[0] + start + x, pair.box[1] + y, w, h), mask, pair.first, pair.last)
