"""One guess at the ink to the digits that are written with it: cut, read, and judged beside each other."""

from dataclasses import replace
from itertools import compress
from math import exp

import numpy as np

from experiments.reader import find, judge, split, stack, steps
from experiments.reader.find import Box, Floats, Ink, Part
from experiments.reader.judge import SURE
from experiments.reader.nets import Nets
from experiments.reader.normalise import SIZE, normalise, stroke_width
from experiments.reader.reading import FEW, Digit, Known, Reading, heights, whole_digits, without_lonely_ones
from experiments.reader.split import Cluster, Hypothesis
from models.pair import WIDTH

MIRRORED = 0.15  # in mean log-probability: so much better faint digits of the back read mirrored, those of a faint pen worse
BLOT = 2.5  # of the usual pen: wider ink is not cut into digits
MOST_PARTS = 400  # on a page; what is smaller than so many others is noise
# Beside the first one, the normalisations that the last reading is the mean of: (thickness, shear).
VIEWS = ((0.7, 0.0), (-0.6, 0.0), (0.0, 0.15), (0.0, -0.15))
PLAIN = 0.999  # sure at first: of 1,500 that were, on kept-out pages, the other views left each above 0.98
Key = tuple[Box, bytes, bool]  # of ink: its box and mask, and whether it is taken for a pair
Seen = tuple[Floats, Floats]  # an image, and its log-probabilities


class InkReader:
    """Reads what a guess says is ink; the boxes are in pixels of the guess's mask.

    Parameters
    ----------
    nets : Nets
    """

    def __init__(self, nets: Nets) -> None:
        self.nets = nets

    def read(self, ink: Ink, known: list[Known], steep: Floats | None = None) -> tuple[Reading, float, bool]:
        """Read one guess at the ink.

        Parameters
        ----------
        ink : Ink, its arrays (h, w)
        known : list of Known
            From other guesses: taken over, and what is now read surely is added to it.
        steep : float32, (h, w), or None
            Of a picture that may hold no ink at all; see steps.steepness.

        Returns
        -------
        (reading, how good it is, whether there is no need to look further)
        """
        found = steps.outlined(find.parts(ink.mask), steep)
        found, unit = judge.plausible(found, ink.mask.shape, heights(known), all_ink=ink.all_ink)
        if not found:
            return Reading(), 0.0, False
        found = sorted(found, key=lambda p: -p.area)[:MOST_PARTS]
        same = [next((k for k in known if k.is_same(p)), None) for p in found]
        before = [k for k in same if k is not None]
        upright = -judge.lean(found, unit)
        parts, runs = self._runs(ink, [p for p, k in zip(found, same, strict=True) if k is None], before, unit, upright)
        digits = self._finish(ink, [h for run in runs for h in run], upright)
        ends = np.cumsum([0] + [sum(2 if h.pair else 1 for h in run) for run in runs])
        read = [Known(part, run, digits[i:j]) for part, run, i, j in zip(parts, runs, ends, ends[1:], strict=False)]
        entries = before + [entry for entry in read if entry.chosen]
        chosen = [h for entry in entries for h in entry.chosen]
        digits = [digit for entry in entries for digit in entry.digits]
        reading = Reading()
        if not chosen:
            return reading, 0.0, False
        left_out = len(before) < len(found) and not runs  # as grain
        written = [h.halves or [h] for h in chosen]
        each = [one for some in written for one in some]
        odd = judge.unlike(each, ink, [d.confidence for d in digits])
        # Of a touching pair the half that is less odd speaks for both: no rule or stain is half a digit.
        starts = np.cumsum([0] + [len(some) for some in written])
        odd = np.repeat(np.minimum.reduceat(odd, starts[:-1]), np.diff(starts))
        known += [entry for entry in read if entry.part and entry.digits and entry.sure()]
        boxes = [d.box for d in digits]
        sure, one = np.array([(d.confidence > SURE, d.digit == 1) for d in digits]).T
        like = sure & (odd < 1)
        # Unlike those but as sure: together they are a row in another size or pen.
        title = sure & ~like & ~one
        dark = np.array([judge.darkness(one, ink) for one in each])
        faint = dark <= judge.FAINT * (np.median(dark[like]) if like.any() else 0.0)
        better = self._better_mirrored(ink, list(compress(each, faint)), upright)
        title &= ~faint | (better < -MIRRORED)
        odd[faint & (better > MIRRORED)] = np.inf  # it shines through from the back
        usual = float(np.median([box[3] for box in compress(boxes, like)])) if like.any() else unit
        odd[[d.confidence < SURE and judge.is_cross(one.mask, usual) for d, one in zip(digits, each, strict=True)]] = np.inf
        odd = np.where(judge.in_line(boxes, list(compress(boxes, title))), np.minimum(odd, 1), odd)
        judged = zip(digits, odd, judge.in_line(boxes, list(compress(boxes, like | title))), strict=True)
        reading.digits = [replace(d) for d, o, r in judged if judge.accept(d.digit, d.confidence, float(o), in_row=bool(r))]
        rejected = len(digits) - len(reading.digits)
        reading.digits = without_lonely_ones(reading.digits)
        sure = min((d.confidence for d in reading.digits), default=0.0) > 0.8
        return reading, reading.score(), sure and not (rejected or left_out)

    def read_single(self, ink: Ink, steep: Floats | None = None) -> tuple[Reading, float, bool]:
        """Read all the ink as one digit; else as `read` does."""
        found = steps.outlined(find.parts(ink.mask), steep)
        kept = judge.only_digit(found, ink.mask.shape, all_ink=ink.all_ink)
        if not kept:
            return Reading(), 0.0, False
        digits = self._finish(ink, [split.together(kept)])
        return Reading(digits), digits[0].confidence, digits[0].confidence > 0.97

    def _runs(
        self, ink: Ink, found: list[Part], known: list[Known], unit: float, shear: float
    ) -> tuple[list[Part | None], list[list[Hypothesis]]]:
        """Read parts one way and another: for each cluster of them its part, if it is but one, and what was chosen."""
        if not found:
            return [], []

        seen: dict[Key, Seen] = {}

        def as_digits(parts: list[Part]) -> list[Floats]:
            ones = [split.together([part]) for part in parts]
            self._see(ink, ones, shear, seen)
            return [one.log_probs for one in ones]

        read = as_digits(found)
        unit = judge.usual_height(found, read, unit, heights(known))
        found, read = stack.apart(found, read, as_digits, ink.contrast, unit, [d.box for k in known for d in k.digits])
        wholes = np.array([np.exp(log_probs.max()) for log_probs in read])
        complete = wholes.copy()
        if self.nets.pairs:  # what it reads as a pair is hardly one digit, however sure the other net is
            some = [i for i, p in enumerate(found) if judge.may_be_pair(p, unit)]
            pairs = [replace(split.together([found[i]]), pair=True) for i in some]
            self._see(ink, pairs, shear, seen)
            for i, pair in zip(some, pairs, strict=True):
                wholes[i] *= 1 - exp(pair.surest)
                complete[i] = max(wholes[i], exp(pair.surest))
        if judge.is_grain([p for k in known if (p := k.part)], found, complete, unit):
            return [], []
        digit_like = [p for p, s in zip(found, wholes, strict=True) if judge.high_as_digit(p, unit) and s > 0.8]
        digit_like += whole_digits(known)
        usual_ink = float(np.median([p.area for p in digit_like or found]))
        usual_pen = float(np.median([stroke_width(p.mask) for p in digit_like])) if len(digit_like) > FEW else np.inf

        def best_runs(clusters: list[Cluster]) -> list[tuple[list[Hypothesis], float]]:  # only what may be among them is read
            ways = [split.hypotheses(c, unit, pairs=self.nets.pairs is not None) for c in clusters]
            best, left = {}, list(range(len(clusters)))
            while left:
                best.update({i: split.best_runs(clusters[i], ways[i], usual_ink) for i in left})
                unread = {i: split.unread(best[i][0], ways[i]) for i in left}
                self._see(ink, [h for some in unread.values() for h in some], shear, seen)
                left = [i for i, some in unread.items() if some]
            return [best[i] for i in range(len(clusters))]

        groups = judge.link(found, complete, unit)
        parts = [[found[i] for i in group] for group in groups]

        def needs_cut(i: int) -> bool:
            return judge.needs_cut(found[i], float(wholes[i]), unit) and stroke_width(found[i].mask) < BLOT * usual_pen

        cuts = [list(map(needs_cut, group)) for group in groups]
        uncut = [split.make_cluster(some, [False] * len(some), ink.contrast) for some in parts]
        best = best_runs([replace(c, cut=any(cut)) for c, cut in zip(uncut, cuts, strict=True)])
        # Cut only what may gain by it.
        again = [i for i, (_, score) in enumerate(best) if any(cuts[i]) and score < -split.CUT / 2]
        for i, cut in zip(again, best_runs([split.make_cluster(parts[i], cuts[i], ink.contrast) for i in again]), strict=True):
            best[i] = max(cut, best[i], key=lambda one: one[1])
        return [some[0] if len(some) == 1 else None for some in parts], [runs for runs, _ in best]

    def _see(self, ink: Ink, unread: list[Hypothesis], shear: float, seen: dict[Key, Seen]) -> None:
        """Have the nets read what was not seen before, and note it."""
        new = [h for h in unread if _key(h) not in seen]
        views = [normalise(_cut_out(ink, h), shear=shear, wide=_width(h)) for h in new]
        seen.update(zip(map(_key, new), zip(views, self.nets.log_probs(views), strict=True), strict=True))
        for one in unread:
            one.read_as(*seen[_key(one)])

    def _better_mirrored(self, ink: Ink, digits: list[Hypothesis], upright: float) -> float:
        """Compare how well digits read mirrored, as those on the back of a sheet do, and as they stand: mean log-probabilities.

        0 of fewer than three, for a mirrored 0 or 8 reads as well.
        """
        if len(digits) < 3:
            return 0.0
        cut = [_cut_out(ink, one) for one in digits]
        read = self.nets.log_probs([normalise(one, shear=upright) for way in (1, -1) for one in (c[:, ::way] for c in cut)])
        stands, mirrored = np.reshape([log_probs.max() for log_probs in read], (2, -1)).mean(axis=1)
        return float(mirrored - stands)

    def _finish(self, ink: Ink, chosen: list[Hypothesis], upright: float = 0.0) -> list[Digit]:
        """Read each digit, or pair, and where that is not plain take the mean of a few views; say where a pair's digits are."""
        self._see(ink, [h for h in chosen if not h.is_read], upright, {})
        probs = [np.exp(h.log_probs) for h in chosen]
        doubted = [i for i, prob in enumerate(probs) if prob.max(axis=1).min() < PLAIN]
        inks = [(_cut_out(ink, chosen[i]), _width(chosen[i])) for i in doubted]
        views = [normalise(one, thickness=t, shear=upright + s, wide=wide) for one, wide in inks for t, s in VIEWS]
        read = self.nets.log_probs(views)
        for k, i in enumerate(doubted):
            probs[i] = np.mean([probs[i], *np.exp(read[k * len(VIEWS) : (k + 1) * len(VIEWS)])], axis=0)
        pairs = [one for one in chosen if one.pair]
        as_they_stand = self.nets.outputs([normalise(_cut_out(ink, one), wide=WIDTH) for one in pairs])  # for boxes do
        for one, (_, edges) in zip(pairs, as_they_stand, strict=True):
            one.halves = split.halve(one, edges)
        digits = []
        for one, of_one in zip(chosen, probs, strict=True):
            for half, prob in zip(one.halves or [one], of_one, strict=True):
                first, second = (int(i) for i in np.argsort(-prob, kind="stable")[:2])
                digits.append(Digit(half.box, first, float(prob[first]), second, float(prob[second]), one.image))
        return digits


def _key(one: Hypothesis) -> Key:
    return one.box, one.mask.tobytes(), one.pair


def _width(one: Hypothesis) -> int:
    return WIDTH if one.pair else SIZE


def _cut_out(ink: Ink, one: Hypothesis) -> Floats:
    return find.cut_out(ink, one.box, one.mask)
