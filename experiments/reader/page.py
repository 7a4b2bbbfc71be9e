"""A picture to the digits on it: every step of the reader in order.

This file is long because the steps are one story.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import compress, islice
from math import exp

import numpy as np
from numpy.typing import NDArray

from experiments.reader import find, judge, order, size, split, stack
from experiments.reader.drawn import ink_of_two_shades
from experiments.reader.find import Box, Floats, Ink, Part
from experiments.reader.judge import SURE
from experiments.reader.nets import Nets
from experiments.reader.normalise import SIZE, normalise, stroke_width
from experiments.reader.reading import (
    FEW,
    ONE,
    UNSURE,
    Digit,
    Known,
    Reading,
    clearer,
    completed,
    extends,
    heights,
    lie_on,
    loses,
    off_rules,
    surer,
    whole_digits,
    without_lonely_ones,
    written_on,
)
from experiments.reader.rules import guesses_at_ink, variants
from experiments.reader.sheet import Sheet, find_sheet
from experiments.reader.split import Cluster, Hypothesis
from experiments.reader.strip import on_picture, with_page
from models.ink import InkNet
from models.lenet import LeNet
from models.pair import WIDTH, PairNet

GRAIN = 0.7  # below this mean confidence what was read may be the grain of a table
INK = 0.4  # likely: of 6,000 digits on kept-out pages none had less, and of what was read on empty ones next to nothing more
BARE = 0.95  # above this mean confidence of what is read without rules the ink is not read with them, too
CERTAIN = 0.98  # above this confidence what is read is no rule or edge, unless it is read as a 1
DOUBTED = 0.6  # below this confidence a picture's one digit may have a shadow's edge for ink
PIECE = 0.3  # of a digit's height: pieces of it that read surely are higher
CLOSE = 2.5  # widths of the pen: a shadow wider than that can be told from a stroke
ROW = 0.2  # of a picture's shorter side: lower digits leave room for more rows than one
MIRRORED = 0.15  # in mean log-probability: so much better faint digits of the back read mirrored, those of a faint pen worse
LARGE = 0.75  # of the height hoped for: where digits turn out to be lower a picture is read again, as large as it is
LEAST = 6  # pixels of a picture's shorter side; on less no digit can be told from another
PATIENCE = 1500  # images seen by the nets, after which more guesses are not worth it: squares in noise have no end of pieces
MOST_PARTS = 400  # on a page; what is smaller than so many others is noise
# The normalisations that the last reading is the mean of: (thickness, shear).
VIEWS = ((0.0, 0.0), (0.7, 0.0), (-0.6, 0.0), (0.0, 0.15), (0.0, -0.15))
Place = tuple[NDArray[np.uint8], tuple[int, int]]  # a part of a picture, and its corner there
Key = tuple[Box, bytes, bool]  # of ink: its box and mask, and whether it is taken for a pair


class Reader:
    """Reads pictures with three nets; they are set to evaluation.

    Parameters
    ----------
    net : LeNet
        For one digit.
    pairs : PairNet or None
        For two that touch; without it they are read where a cut leaves two digits.
    ink : InkNet or None
        For where the ink is; without it rules alone say that.
    """

    def __init__(self, net: LeNet, pairs: PairNet | None = None, ink: InkNet | None = None) -> None:
        self.nets = Nets(net, pairs, ink)

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
        height, width = picture.shape[:2]
        if min(height, width) < LEAST:
            return Reading()
        self.nets.images = 0
        best = self._read_page(picture, single=single)
        several_rows = len(best.digits) > FEW and np.median([d.box[3] for d in best.digits]) < ROW * min(height, width)
        if single or several_rows:
            return best
        page, corner = with_page(picture)
        if page is picture:
            return best
        of_page = self._read_page(page, single=False)
        for digit in of_page.digits:
            digit.box = on_picture(digit.box, corner, (height, width))
        of_page.digits = self._on_ink(picture, of_page.digits)  # where the picture ends the page put around it has an edge
        of_page.rows = order.rows([digit.box for digit in of_page.digits])
        return best if loses(of_page, best, least=2) else max(of_page, best, key=Reading.score)  # the first, if equal

    def _read_page(self, picture: NDArray[np.uint8], *, single: bool) -> Reading:
        """Read a picture as it is, which is taken for a whole page."""
        sheet = find_sheet(picture)
        if sheet is not None and ink_of_two_shades(find.to_gray(size.fit(picture)[0])):  # it is but a wide stroke
            sheet = None
        places: list[Place] = [(picture, (0, 0))]
        if sheet is None:
            best, sure = self._read_picture(picture, single=single)
        else:
            best, sure, places = self._read_sheet(picture, sheet, single=single)
        if not single:
            best.digits = self._on_ink(picture, best.digits)
        boxes = [d.box for d in best.digits if d.confidence > SURE]
        row = judge.in_line(boxes, boxes).sum() > 2  # it is no single digit
        clear = best.is_clear(sure=sure)
        if not (single or row) and (len(best.digits) <= 6 or best.confidence() < 0.85):
            for place in places:
                one, _ = self._read_place(place, single=True, empty=True)
                one.digits = self._on_ink(picture, one.digits)
                if surer(one, best, within=clear):
                    best = one
        if single and (best.confidence() < ONE or best.is_line()):
            best.digits = self._smaller_one(picture, best) or best.digits
        if len(best.digits) > 10 and np.median([d.confidence for d in best.digits]) < UNSURE:  # the grain of a table or page
            best.digits = [d for d in best.digits if d.confidence >= judge.REJECT_ODD]
        best.rows = order.rows([digit.box for digit in best.digits])
        return best

    def _smaller_one(self, picture: NDArray[np.uint8], best: Reading) -> list[Digit]:
        """Give the largest sure digit on the page, if for a picture's one digit the edge of a shadow or sheet was taken."""
        certain = [d for d in self._read_picture(picture, single=False)[0].digits if d.confidence > SURE]
        if best.confidence() > DOUBTED and self._on_ink(picture, best.digits):  # a surer one, too small for a piece of it
            high = PIECE * best.digits[0].box[3]
            certain = [d for d in certain if d.confidence > best.confidence() and d.box[3] < high]
        return sorted(self._on_ink(picture, certain), key=lambda d: (d.digit != 1, d.box[2] * d.box[3]))[-1:]

    def _on_ink(self, picture: NDArray[np.uint8], digits: list[Digit]) -> list[Digit]:
        """Give the digits without specks and what the net for ink takes for none: edges of shadows and sheets, rules, grain.

        Where something is surely written only ones, and what is less sure, are looked at: edges and rules are never surer.
        """
        digits = [d for d in digits if max(d.box[2:]) >= judge.LOWEST]
        written = len(Reading(digits).certain()) > FEW
        asked = [d for d in digits if not written or d.digit == 1 or d.confidence < CERTAIN]
        ink = self.nets.ink_in(picture, [d.box for d in asked])
        gone = [d for d, likely in zip(asked, ink, strict=True) if likely <= INK]
        if not gone or ink_of_two_shades(find.to_gray(size.fit(picture)[0])):  # it is drawn: all that is there is ink
            return digits
        return [d for d in digits if not any(d is one for one in gone)]

    def _read_sheet(self, picture: NDArray[np.uint8], sheet: Sheet, *, single: bool) -> tuple[Reading, bool, list[Place]]:
        """Read a picture with a sheet on it: the best reading, whether all is sure, and where a single digit may be."""
        alone: Place = (sheet.alone, sheet.box[:2])
        places = [(picture, (0, 0)), alone]

        def read_whole() -> tuple[Reading, bool]:
            whole, sure = self._read_picture(picture, single=single, hurried=not sheet.doubtful, edges=True)
            return replace(whole, digits=written_on(sheet.mask, whole.digits, goes_on=sheet.doubtful)), sure

        if sheet.doubtful:
            whole, sure = read_whole()
            if not single and whole.is_clear(sure=sure) and not lie_on(sheet.mask, whole.digits).all():
                return whole, sure, places  # it is no sheet, but the lit part of a page
            on_sheet, _ = self._read_place(alone, single=single)
        else:
            on_sheet, sure = self._read_place(alone, single=single)
            if sure and sheet.has_all(d.box for d in on_sheet.digits):
                return on_sheet, True, [alone]
            whole, sure = read_whole()
        readings = [whole, on_sheet]
        if max(reading.confidence() for reading in readings) < GRAIN:
            readings.append(self._read_picture(picture, single=single)[0])
        for reading in readings[1:]:
            reading.digits = written_on(sheet.mask, reading.digits, goes_on=sheet.doubtful)
        return max(readings, key=Reading.worth), sure, places  # the first, if equal

    def _read_place(self, place: Place, *, single: bool, empty: bool = False) -> tuple[Reading, bool]:
        """Read a part of a picture as _read_picture does; the boxes are of the whole."""
        part, (x, y) = place
        reading, sure = self._read_picture(part, single=single, empty=empty)
        reading.digits = [replace(d, box=(d.box[0] + x, d.box[1] + y, *d.box[2:])) for d in reading.digits]
        return reading, sure

    def _read_picture(
        self, picture: NDArray[np.uint8], *, single: bool, hurried: bool = False, edges: bool = False, empty: bool = False
    ) -> tuple[Reading, bool]:
        """Read a picture as small as its digits allow: the best reading, without rows, and whether all is sure.

        hurried: one guess of either polarity does for grain, or if it reads well. edges: a line alone is a sheet's, no sure 1.
        empty: there may not even be the one digit.
        """
        side = size.WORKING_SIDE if single else size.side_enough(picture)
        reading, sure = self._read_at(picture, side, single=single, hurried=hurried, edges=edges, empty=empty)
        if not single and side < size.LONG_SIDE:
            found = [d.box[3] for d in reading.certain()]
            if not found or np.median(found) * side / max(picture.shape[:2]) < LARGE * size.ENOUGH:
                return self._read_at(picture, size.LONG_SIDE, single=single, hurried=hurried, edges=edges, empty=empty)
        return reading, sure

    def _read_at(
        self, picture: NDArray[np.uint8], side: int, *, single: bool, hurried: bool, edges: bool, empty: bool
    ) -> tuple[Reading, bool]:
        """Try one guess at the ink after another on a picture shrunk to this side; else as _read_picture."""
        large, factor = size.fit(picture, side)
        best, best_score, all_sure = Reading(), 0.0, False
        best_of: dict[bool, float] = {}  # light ink and dark ink, once tried
        known: dict[bool, list[Known]] = {False: [], True: []}
        closer: set[bool] = set()  # where the page was followed as closely as the pen allows
        readings: dict[bool, list[Reading]] = {False: [], True: []}
        tried, settled, agreed, polarity = 0, False, False, False
        gray = find.to_gray(large)
        # Until the net for ink has seen some the picture may be empty.
        steep = None if single and not empty else judge.steepness(gray)

        def guesses() -> Iterator[Ink]:
            nonlocal steep
            if (drawn := ink_of_two_shades(gray)) is not None:
                yield drawn
                return
            by_rules = guesses_at_ink(gray, single=single, wanted=wanted)
            yield from islice(by_rules, 1)
            likely = None if single else self.nets.ink_on(large)  # one digit alone has wider strokes than the net knows
            by_net = None if likely is None else find.from_net(gray, likely)
            if by_net is not None:
                before, steep = steep, None
                yield by_net
                if not any(reading.digits for some in readings.values() for reading in some):
                    steep = before  # it was a speck
            yield from by_rules
            doubtful = not all_sure and (single or best.confidence() < GRAIN or len(best.digits) <= FEW)
            if doubtful and len(best_of) == 1:  # where there is more ink than page, or shadow, it looks like the page
                yield from guesses_at_ink(gray, single=single, light=not next(iter(best_of)), wanted=wanted)

        def wanted(light: bool) -> bool:  # a further guess of light, or dark, ink
            if light not in best_of:
                return True
            other = best_of.get(not light, 0.0)
            if best_of[light] < 0.5 * other and (other > SURE if single else len(best.digits) > FEW):
                return False  # the other polarity reads far better
            return not (hurried and best.confidence() < GRAIN) and (tried < 2 or self.nets.images <= PATIENCE)

        def is_enough() -> bool:  # to settle after this guess; of few digits some strokes may be too wide for two of them
            after_two = (SURE if agreed else 0.98) if len(best.digits) > FEW else 1.0
            return all_sure or best.confidence() > (SURE if hurried else {0: 1.0, 1: after_two}.get(tried, SURE))

        def ways(ink: Ink) -> Iterator[Ink]:  # to see it: without frames and rules, or with the page close to the strokes
            found = list(variants(ink))
            yield from found
            if len(best.digits) <= FEW and (low := judge.without_long(ink)) is not None:
                yield from variants(low)
            if found[0] is ink and not (single or all_sure or ink.light in closer or (tried and is_enough())):
                pens = [stroke_width(np.pad(p.mask, 1)) for p in whole_digits(known[ink.light])]
                if len(pens) > 2:  # a finger's shadow is wider than they are
                    closer.add(ink.light)
                    close = find.guess(gray, round(CLOSE * float(np.median(pens))), 1.0, light=ink.light)
                    yield from () if close is None else variants(close)

        for ink in guesses():
            if settled and tried > (not single) and ink.light in best_of:  # the net for ink has been asked
                break
            if not wanted(ink.light):
                continue
            complete = settled and ink.light in best_of
            before, agreed, without_rules = best, False, Reading()  # agreed: with what was read before
            for k, one in enumerate(ways(ink)):
                if k and len(best.digits) > FEW and self.nets.images > PATIENCE:
                    break
                if one.rules is not None and len(without_rules.digits) > FEW and without_rules.confidence() > BARE:
                    break
                reading, score, sure = self._read_single(one, steep) if single else self._read_ink(one, known[ink.light], steep)
                if loses(reading, without_rules) and not clearer(reading, without_rules):
                    continue
                if len(without_rules.certain()) > 2:
                    reading.digits = off_rules(reading.digits, one)
                    score = reading.score()
                without_rules = reading
                best_of[ink.light] = max(best_of.get(ink.light, 0.0), score)
                readings[ink.light].append(reading)
                better = score > best_score or (ink.all_ink and not best.digits)  # unsure, for it is no shadow
                if better and (not complete or extends(reading, best)):
                    best, best_score, polarity = reading, score, ink.light
                all_sure = all_sure or (sure and not (edges and reading.is_line()))
                agreed = agreed or reading.agrees(before)
            settled = is_enough()
            tried += 1
            if settled and len(best.digits) > FEW:
                break
        if not (single or all_sure):
            best = completed(best, [reading for reading in readings[polarity] if reading is not best])
        for digit in best.digits:
            digit.box = size.unfit(digit.box, factor, picture.shape)
        return best, all_sure

    def _read_ink(self, ink: Ink, known: list[Known], steep: Floats | None = None) -> tuple[Reading, float, bool]:
        """Read one guess at the ink: the reading, how good it is, and whether there is no need to look further.

        What is known from other guesses is taken over, and what is now read surely is added to it. steep: of the picture, where
        it may hold no ink at all; see judge.steepness.
        """
        found = judge.outlined(find.parts(ink.mask), steep)
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

    def _runs(
        self, ink: Ink, found: list[Part], known: list[Known], unit: float, shear: float
    ) -> tuple[list[Part | None], list[list[Hypothesis]]]:
        """Read parts one way and another: for each cluster of them its part, if it is but one, and what was chosen."""
        if not found:
            return [], []

        seen: dict[Key, Floats] = {}

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
        digit_like = [p.area for p, s in zip(found, wholes, strict=True) if judge.high_as_digit(p, unit) and s > 0.8]
        digit_like += [p.area for p in whole_digits(known)]
        usual_ink = float(np.median(digit_like or [p.area for p in found]))

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
        cuts = [[judge.needs_cut(found[i], float(wholes[i]), unit) for i in group] for group in groups]
        uncut = [split.make_cluster(some, [False] * len(some), ink.contrast) for some in parts]
        best = best_runs([replace(c, cut=any(cut)) for c, cut in zip(uncut, cuts, strict=True)])
        # Cut only what may gain by it.
        again = [i for i, (_, score) in enumerate(best) if any(cuts[i]) and score < -split.CUT / 2]
        for i, cut in zip(again, best_runs([split.make_cluster(parts[i], cuts[i], ink.contrast) for i in again]), strict=True):
            best[i] = max(cut, best[i], key=lambda one: one[1])
        return [some[0] if len(some) == 1 else None for some in parts], [runs for runs, _ in best]

    def _see(self, ink: Ink, unread: list[Hypothesis], shear: float, seen: dict[Key, Floats]) -> None:
        """Have the nets read what was not seen before, and note it."""
        new = [h for h in unread if _key(h) not in seen]
        views = [normalise(find.cut_out(ink, h.box, h.mask), shear=shear, wide=WIDTH if h.pair else SIZE) for h in new]
        seen.update(zip(map(_key, new), self.nets.log_probs(views), strict=True))
        for one in unread:
            one.read_as(seen[_key(one)])

    def _better_mirrored(self, ink: Ink, digits: list[Hypothesis], upright: float) -> float:
        """Compare how well digits read mirrored, as those on the back of a sheet do, and as they stand: mean log-probabilities.

        0 of fewer than three, for a mirrored 0 or 8 reads as well.
        """
        if len(digits) < 3:
            return 0.0
        cut = [find.cut_out(ink, one.box, one.mask) for one in digits]
        read = self.nets.log_probs([normalise(one, shear=upright) for way in (1, -1) for one in (c[:, ::way] for c in cut)])
        stands, mirrored = np.reshape([log_probs.max() for log_probs in read], (2, -1)).mean(axis=1)
        return float(mirrored - stands)

    def _read_single(self, ink: Ink, steep: Floats | None = None) -> tuple[Reading, float, bool]:
        """Read all the ink as one digit."""
        found = judge.outlined(find.parts(ink.mask), steep)
        kept = judge.only_digit(found, ink.mask.shape, all_ink=ink.all_ink)
        if not kept:
            return Reading(), 0.0, False
        digits = self._finish(ink, [split.together(kept)])
        return Reading(digits), digits[0].confidence, digits[0].confidence > 0.97

    def _finish(self, ink: Ink, chosen: list[Hypothesis], upright: float = 0.0) -> list[Digit]:
        """Read each digit, or pair, in a few views and take the mean; say where either digit of a pair is."""
        inks = [(find.cut_out(ink, h.box, h.mask), WIDTH if h.pair else SIZE) for h in chosen]
        views = [normalise(one, thickness=t, shear=upright + s, wide=wide) for one, wide in inks for t, s in VIEWS]
        read = self.nets.log_probs(views)
        pairs = [(one, part) for one, (part, _) in zip(chosen, inks, strict=True) if one.pair]
        as_they_stand = self.nets.outputs([normalise(part, wide=WIDTH) for _, part in pairs])  # for boxes do
        for (one, _), (_, edges) in zip(pairs, as_they_stand, strict=True):
            one.halves = split.halve(one, edges)
        digits = []
        for k, one in enumerate(chosen):
            mine = slice(k * len(VIEWS), (k + 1) * len(VIEWS))
            for half, prob in zip(one.halves or [one], np.mean(np.exp(read[mine]), axis=0), strict=True):
                first, second = (int(i) for i in np.argsort(-prob, kind="stable")[:2])
                digits.append(Digit(half.box, first, float(prob[first]), second, float(prob[second]), views[mine][0]))
        return digits


def _key(one: Hypothesis) -> Key:
    return one.box, one.mask.tobytes(), one.pair
