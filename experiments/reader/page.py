"""A picture to the digits on it: the whole, a sheet on it, or a page that fills it; each as large as its digits need."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from experiments.reader import find, judge, order, size, steps
from experiments.reader.drawn import ink_of_two_shades
from experiments.reader.ink_reader import InkReader
from experiments.reader.judge import SURE
from experiments.reader.nets import Nets
from experiments.reader.reading import FEW, ONE, UNSURE, Digit, Reading, lie_on, loses, surer, written_on
from experiments.reader.search import GRAIN, Search, Sought
from experiments.reader.sheet import Sheet, find_sheet
from experiments.reader.strip import on_picture, with_page
from models.ink import InkNet
from models.lenet import LeNet
from models.pair import PairNet

INK = 0.4  # likely: of 6,000 digits on kept-out pages none had less, and of what was read on empty ones next to nothing more
SEEN = 0.8  # likely, on the whole picture: of 370 such boxes, on kept-out and empty pages, none was less than INK for itself
SMALLER = 35  # pixels: a digit's height at which a wide stroke is seen to be ink that is not in the usual size
CERTAIN = 0.98  # above this confidence what is read is no rule or edge, unless it is read as a 1
DOUBTED = 0.6  # below this confidence a picture's one digit may have a shadow's edge for ink
PIECE = 0.3  # of a digit's height: pieces of it that read surely are higher
ROW = 0.2  # of a picture's shorter side: lower digits leave room for more rows than one
LARGE = 0.75  # of the height hoped for: where digits turn out to be lower a picture is read again, as large as it is
LEAST = 6  # pixels of a picture's shorter side; on less no digit can be told from another
Place = tuple[NDArray[np.uint8], tuple[int, int]]  # a part of a picture, and its corner there


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
        self.ink_reader = InkReader(self.nets)

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
        if page is picture or (not best.digits and _is_bare(picture)):
            return best
        of_page = self._read_page(page, single=False)
        for digit in of_page.digits:
            digit.box, digit.ink = on_picture(digit.box, corner, (height, width)), 0.0
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
            best, sure = self._read_picture(picture, Sought(single))
        else:
            best, sure, places = self._read_sheet(picture, sheet, single=single)
        if not single:
            best.digits = self._on_ink(picture, best.digits)
        boxes = [d.box for d in best.digits if d.confidence > SURE]
        row = judge.in_line(boxes, boxes).sum() > 2  # it is no single digit
        clear = best.is_clear(sure=sure)
        if not (single or row) and (len(best.digits) <= 6 or best.confidence() < 0.85):
            for place in places:
                one, _ = self._read_place(place, Sought(single=True, empty=True))
                one.digits = self._on_ink(picture, one.digits)
                if surer(one, best, within=clear):
                    best = one
        if single and (best.confidence() < ONE or best.is_line()):
            best.digits = self._other_one(picture, best) or best.digits
        if len(best.digits) > 10 and np.median([d.confidence for d in best.digits]) < UNSURE:  # the grain of a table or page
            best.digits = [d for d in best.digits if d.confidence >= judge.REJECT_ODD]
        best.rows = order.rows([digit.box for digit in best.digits])
        return best

    def _other_one(self, picture: NDArray[np.uint8], best: Reading) -> list[Digit]:
        """Give the largest sure digit on the page, if something else was taken for a picture's one digit, or with it.

        Where that may be a digit only a surer one, that is all there is on the page, or is too small for a piece of it and
        alone: several are no pieces, but labels.
        """
        on_page, sure = self._read_picture(picture, Sought())
        certain = [d for d in on_page.digits if d.confidence > SURE]
        if best.confidence() > DOUBTED and self._on_ink(picture, best.digits):
            high = PIECE * best.digits[0].box[3]
            certain = [d for d in certain if d.confidence > best.confidence()]
            if not (sure and len(on_page.digits) == 1):
                certain = [d for d in certain if d.box[3] < high]
                if sum(d.digit != 1 for d in certain) > 1:
                    return []
        return sorted(self._on_ink(picture, certain), key=lambda d: (d.digit != 1, d.box[2] * d.box[3]))[-1:]

    def _on_ink(self, picture: NDArray[np.uint8], digits: list[Digit]) -> list[Digit]:
        """Give the digits without specks and what the net for ink takes for none: edges of shadows and sheets, rules, grain.

        What was not seen to be ink on the whole picture is looked at again. Where something is surely written only ones, and
        what is less sure, are: edges and rules are never surer. What is none in the usual size is looked at in a smaller one,
        for itself, unless it is unsure as a digit, too.
        """
        digits = [d for d in digits if max(d.box[2:]) >= judge.LOWEST]
        written = len(Reading(digits).certain()) > FEW
        asked = [d for d in digits if d.ink < SEEN and (not written or d.digit == 1 or d.confidence < CERTAIN)]
        ink = self.nets.ink_in(picture, [d.box for d in asked])
        gone = [d for d, likely in zip(asked, ink, strict=True) if likely <= INK]
        gone = [d for d in gone if d.unsure or self.nets.ink_in(picture, [d.box], SMALLER)[0] <= INK]
        if not gone or ink_of_two_shades(find.to_gray(size.fit(picture)[0])):  # it is drawn: all that is there is ink
            return digits
        return [d for d in digits if not any(d is one for one in gone)]

    def _read_sheet(self, picture: NDArray[np.uint8], sheet: Sheet, *, single: bool) -> tuple[Reading, bool, list[Place]]:
        """Read a picture with a sheet on it: the best reading, whether all is sure, and where a single digit may be."""
        alone: Place = (sheet.alone, sheet.box[:2])
        places = [(picture, (0, 0)), alone]

        def read_whole() -> tuple[Reading, bool]:
            whole, sure = self._read_picture(picture, Sought(single, hurried=not sheet.doubtful, edges=True))
            return replace(whole, digits=written_on(sheet.mask, whole.digits, goes_on=sheet.doubtful)), sure

        if sheet.doubtful:
            whole, sure = read_whole()
            if not single and whole.is_clear(sure=sure) and not lie_on(sheet.mask, whole.digits).all():
                return whole, sure, places  # it is no sheet, but the lit part of a page
            on_sheet, _ = self._read_place(alone, Sought(single))
        else:
            on_sheet, sure = self._read_place(alone, Sought(single))
            if sure and sheet.has_all(d.box for d in on_sheet.digits):
                return on_sheet, True, [alone]
            whole, sure = read_whole()
        readings = [whole, on_sheet]
        if max(reading.confidence() for reading in readings) < GRAIN and not sheet.doubtful:  # else it was in no hurry
            readings.append(self._read_picture(picture, Sought(single))[0])
        for reading in readings[1:]:
            reading.digits = written_on(sheet.mask, reading.digits, goes_on=sheet.doubtful)
        return max(readings, key=Reading.worth), sure, places  # the first, if equal

    def _read_place(self, place: Place, sought: Sought) -> tuple[Reading, bool]:
        """Read a part of a picture as _read_picture does; the boxes are of the whole, of which the net saw no ink yet."""
        part, (x, y) = place
        reading, sure = self._read_picture(part, sought)
        reading.digits = [replace(d, box=(d.box[0] + x, d.box[1] + y, *d.box[2:]), ink=0.0) for d in reading.digits]
        return reading, sure

    def _read_picture(self, picture: NDArray[np.uint8], sought: Sought) -> tuple[Reading, bool]:
        """Read a picture as small as its digits allow: the best reading, without rows, and whether all is sure."""
        side = size.WORKING_SIDE if sought.single else size.side_enough(picture)
        reading, sure = Search(self.ink_reader, picture, side, sought).read()
        if not sought.single and side < size.LONG_SIDE:
            found = [d.box[3] for d in reading.certain()]
            if not found or np.median(found) * side / max(picture.shape[:2]) < LARGE * size.ENOUGH:
                larger, of_larger = Search(self.ink_reader, picture, size.LONG_SIDE, sought).read()
                if not loses(larger, reading):
                    return larger, of_larger
        return reading, sure


def _is_bare(picture: NDArray[np.uint8]) -> bool:
    """Say whether there is no step as long as a digit is high, in which all ink would end."""
    return steps.are_short(steps.steepness(find.to_gray(size.fit(picture)[0])))
