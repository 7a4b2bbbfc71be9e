"""Guess after guess at the ink of one picture, each read, until one reads well enough."""

from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from experiments.reader import find, judge, size, steps
from experiments.reader.drawn import ink_of_two_shades
from experiments.reader.find import Floats, Ink
from experiments.reader.ink_reader import InkReader
from experiments.reader.judge import SURE
from experiments.reader.nets import in_tenth
from experiments.reader.normalise import stroke_width
from experiments.reader.reading import FEW, Known, Reading, clearer, completed, extends, loses, off_rules, whole_digits
from experiments.reader.rules import guesses_at_ink, variants

GRAIN = 0.7  # below this mean confidence what was read may be the grain of a table
BARE = 0.95  # above this mean confidence of what is read without rules the ink is not read with them, too
CLOSE = 2.5  # widths of the pen: a shadow wider than that can be told from a stroke
PATIENCE = 1500  # images seen by the nets, after which more guesses are not worth it: squares in noise have no end of pieces


@dataclass(frozen=True)
class Sought:
    """What is looked for on a picture.

    Parameters
    ----------
    single : bool
        All that is on it is one digit.
    hurried : bool
        Stop after one guess of each polarity, if that reads well or is grain.
    edges : bool
        A line alone is a sheet's, and no sure 1.
    empty : bool
        There may not even be the one digit.
    """

    single: bool = False
    hurried: bool = False
    edges: bool = False
    empty: bool = False


class Search:
    """The search for the digits of a picture, and how far it has come.

    Parameters
    ----------
    ink_reader : InkReader
    picture : uint8, (h, w, 3), RGB
    side : int
        Pixels of the longer side that the picture is shrunk to.
    sought : Sought
    """

    def __init__(self, ink_reader: InkReader, picture: NDArray[np.uint8], side: int, sought: Sought) -> None:
        self.ink_reader, self.nets = ink_reader, ink_reader.nets
        self.single, self.sought = sought.single, sought
        self.shape = picture.shape
        self.picture, self.factor = size.fit(picture, side)
        self.gray = find.to_gray(self.picture)
        # Until the net for ink has seen some the picture may be empty.
        self.steep = None if self.single and not sought.empty else steps.steepness(self.gray)
        self.best, self.score, self.light = Reading(), 0.0, False  # light: the polarity of the best
        self.likely: Floats | None = None  # that a pixel is ink, as the net for that says once it is asked
        self.best_of: dict[bool, float] = {}  # light ink and dark ink, once tried
        self.known: dict[bool, list[Known]] = {False: [], True: []}
        self.readings: dict[bool, list[Reading]] = {False: [], True: []}
        self.closer: set[bool] = set()  # where the page was followed as closely as the pen allows
        self.tried, self.all_sure = 0, False
        self.settled = False  # the last guess read well enough
        self.agreed = False  # and gave what was read before

    def read(self) -> tuple[Reading, bool]:
        """Give the best reading, without rows, its boxes in pixels of the whole picture, and whether all is sure."""
        with ThreadPoolExecutor(1) as aside:
            for ink in self._guesses(aside):
                net_asked = self.tried > (not self.single)
                if self.settled and net_asked and ink.light in self.best_of:
                    break
                if not self._wanted(ink.light):
                    continue
                self._try(ink)
                if self.settled and len(self.best.digits) > FEW and (self.tried > 1 or self.sought.hurried):
                    break
        best = self.best
        if not (self.single or self.all_sure):
            best = completed(best, [reading for reading in self.readings[self.light] if reading is not best])
        for digit in best.digits:
            digit.ink = 0.0 if self.likely is None else in_tenth(self.likely, digit.box)
            digit.box = size.unfit(digit.box, self.factor, self.shape)
        return best, self.all_sure

    def _guesses(self, aside: Executor) -> Iterator[Ink]:
        """Guesses at the ink, likely ones first; the net for ink looks at the picture `aside`, while the first one is read."""
        if (drawn := ink_of_two_shades(self.gray)) is not None:
            yield drawn
            if self.single or self.best.digits:
                return  # else it was a light or a shadow
        if self.single and self._is_bare():
            return
        by_rules = guesses_at_ink(self.gray, single=self.single, wanted=self._wanted)
        # One digit alone has wider strokes than the net knows.
        asked = None if self.single else aside.submit(self.nets.ink_on, self.picture)
        yield from islice(by_rules, 1)
        self.likely = asked and asked.result()
        by_net = None if self.likely is None else find.from_net(self.gray, self.likely)
        if self.all_sure and len(self.best.digits) > FEW and not (by_net and self.best.lacks(find.parts(by_net.mask))):
            return
        if by_net is not None:
            steep, self.steep = self.steep, None
            yield by_net
            if not any(reading.digits for some in self.readings.values() for reading in some):
                self.steep = steep  # it was a speck
        if self._is_bare():
            return
        yield from by_rules
        few = len(self.best.digits) <= FEW
        doubtful = not self.all_sure and (self.single or few or self.best.confidence() < GRAIN)
        if doubtful and len(self.best_of) == 1:  # where there is more ink than page, or shadow, it looks like the page
            light = not next(iter(self.best_of))
            yield from guesses_at_ink(self.gray, single=self.single, light=light, wanted=self._wanted)

    def _is_bare(self) -> bool:
        """Whether nothing was read and no step, in which all ink ends that may yet be found, is as long as a digit is high."""
        if self.steep is None or self.best.digits:
            return False
        return steps.are_short(self.steep)

    def _wanted(self, light: bool) -> bool:
        """Whether a further guess of light, or dark, ink is worth its time."""
        if light not in self.best_of:
            return True
        other = self.best_of.get(not light, 0.0)
        if self.best_of[light] < 0.5 * other and (other > SURE if self.single else len(self.best.digits) > FEW):
            return False  # the other polarity reads far better
        if self.sought.hurried and self.best.confidence() < GRAIN:
            return False
        return self.tried < 2 or self.nets.images <= PATIENCE

    def _try(self, ink: Ink) -> None:
        """Read a guess in each way to see it, and note what is better."""
        complete = self.settled and ink.light in self.best_of
        before, without_rules = self.best, Reading()
        self.agreed = False
        for k, one in enumerate(self._ways(ink)):
            if k and len(self.best.digits) > FEW and self.nets.images > PATIENCE:
                break
            if one.rules is not None and len(without_rules.digits) > FEW and without_rules.confidence() > BARE:
                break
            reading, score, sure = self._read(one)
            if loses(reading, without_rules) and not clearer(reading, without_rules):
                continue
            if len(without_rules.certain()) > 2:
                reading.digits = off_rules(reading.digits, one)
                score = reading.score()
            without_rules = reading
            self.best_of[ink.light] = max(self.best_of.get(ink.light, 0.0), score)
            self.readings[ink.light].append(reading)
            better = score > self.score or (ink.all_ink and not self.best.digits)  # unsure, for it is no shadow
            if better and (not complete or extends(reading, self.best)):
                self.best, self.score, self.light = reading, score, ink.light
            self.all_sure = self.all_sure or (sure and not (self.sought.edges and reading.is_line()))
            self.agreed = self.agreed or reading.agrees(before)
        self.settled = self._is_enough()
        self.tried += 1

    def _read(self, ink: Ink) -> tuple[Reading, float, bool]:
        if self.single:
            return self.ink_reader.read_single(ink, self.steep)
        return self.ink_reader.read(ink, self.known[ink.light], self.steep)

    def _ways(self, ink: Ink) -> Iterator[Ink]:
        """Ways to see a guess: without frames and rules, or with the page close to the strokes."""
        found = list(variants(ink))
        yield from found
        if len(self.best.digits) <= FEW and not self.sought.hurried and (low := judge.without_long(ink)) is not None:
            yield from variants(low)
        whole_page = found[0] is ink and not (self.single or self.all_sure or ink.light in self.closer)
        if whole_page and not (self.tried and self._is_enough()):
            pens = [stroke_width(p.mask) for p in whole_digits(self.known[ink.light])]
            if len(pens) > 2:  # a finger's shadow is wider than they are
                self.closer.add(ink.light)
                close = find.guess(self.gray, round(CLOSE * float(np.median(pens))), 1.0, light=ink.light)
                yield from () if close is None else variants(close)

    def _is_enough(self) -> bool:
        """Whether to settle after this guess; of few digits some strokes may be too wide for two of them."""
        after_two = (SURE if self.agreed else 0.98) if len(self.best.digits) > FEW else 1.0
        least = SURE if self.sought.hurried else {0: 1.0, 1: after_two}.get(self.tried, SURE)
        return self.all_sure or self.best.confidence() > least
