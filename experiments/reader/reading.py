"""What was read on a picture, and which of two readings of it to believe."""

from dataclasses import dataclass, field, replace
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from experiments.reader.find import Box, Floats, Ink, Mask, Part, common_area
from experiments.reader.judge import NARROW, SURE, high_as_digit, in_line
from experiments.reader.split import Hypothesis

UNSURE = 0.75  # below this confidence a digit is marked as unsure
WELL = 0.5  # the part of the best guess's score above which another guess is believed too
RULED = 0.5  # the part of a digit's ink above which it is but a piece of the rules
TAKEN = 0.3  # the part of a box above which another digit is in its place
FEW = 4  # digits, which may be a blot of the other polarity, or a table's grain
MANY = 10  # ones that are in no row with other digits
CLEAR = 0.97  # above this mean confidence what is read is hardly pieces of rules
ONE = 0.99  # above this confidence a picture may be one digit


@dataclass
class Digit:
    """One digit as read: its box (x, y, w, h) in the picture's pixels and the net's two best guesses."""

    box: Box
    digit: int
    confidence: float
    second: int
    second_confidence: float
    image: Floats  # as the net saw it: (28, 28), or (28, 40) for both digits of a touching pair
    ink: float = 0.0  # how likely there is ink, as the net for that saw it on the whole picture; 0 where it did not look

    @property
    def unsure(self) -> bool:
        """Whether a person should look."""
        return self.confidence < UNSURE


@dataclass(frozen=True)
class Known:
    """What was read in a part of the ink, or in several, under one guess at the ink."""

    part: Part | None  # None for several
    chosen: list[Hypothesis]
    digits: list[Digit]  # one for each choice, two for a pair

    def sure(self) -> bool:
        """Say whether another guess at the ink need not read it again."""
        return min(digit.confidence for digit in self.digits) > SURE

    def is_same(self, part: Part) -> bool:
        """Say whether a part under another guess is the same piece of ink, a little thinner or thicker."""
        if self.part is None:
            return False
        (x, y, w, h), (a, b, c, d) = part.box, self.part.box
        near = max(abs(x - a), abs(y - b), abs(x + w - a - c), abs(y + h - b - d)) <= 1 + 0.08 * max(c, d)
        return near and 0.7 < part.area / self.part.area < 1 / 0.7


@dataclass
class Reading:
    """What is on a picture: digits, and rows of indices into them, in reading order."""

    digits: list[Digit] = field(default_factory=list)
    rows: list[list[int]] = field(default_factory=list)

    def confidence(self) -> float:
        """Return the digits' mean confidence, 0 if there are none."""
        return float(np.mean([d.confidence for d in self.digits])) if self.digits else 0.0

    def score(self) -> float:
        """Return how well a guess at the ink reads: sure digits count most, and by their size.

        By size, for a digit in pieces, each of them read as something, must not count for more than the whole. Where most
        digits are unsure all count for much less: hundreds of pieces of squares are no page.
        """
        return self._clear() * sum((d.confidence - 0.5) * max(d.box[2:]) for d in self.digits)

    def worth(self) -> float:
        """Return how much there is to it, sure digits counting most; of ones, as grain is read, only few."""
        ones, others = (sum(d.confidence - 0.5 for d in self.digits if (d.digit == 1) is one) for one in (True, False))
        return self._clear() * (others + min(ones, 0.25 + 2 * max(0.0, others)))

    def _clear(self) -> float:
        """Return 1 where digits are sure on the whole, 0 where they are as likely something else.

        A straight 1 is never sure: ones that are no more than the others do not make it less clear.
        """
        others = Reading([d for d in self.digits if d.digit != 1])
        mean = max(self.confidence(), others.confidence() if 2 * len(others.digits) >= len(self.digits) else 0.0)
        return min(1.0, max(0.0, mean - 0.5) / (SURE - 0.5)) ** 4

    def certain(self) -> list[Digit]:
        """Return the digits that were read surely, without ones, as which pieces of rules are read."""
        return [d for d in self.digits if d.confidence > SURE and d.digit != 1]

    def is_clear(self, *, sure: bool) -> bool:
        """Return whether it is hardly a table's grain, which is read as a few odd digits; sure: as _read_picture says."""
        return self.confidence() > 0.93 and (sure or len(self.digits) > FEW)

    def has(self, digit: Digit) -> bool:
        """Return whether a digit of another reading was read in its place here, too."""
        (x, y, w, h), same = digit.box, [d.box for d in self.digits if d.digit == digit.digit]
        return any(abs(x + w / 2 - a - c / 2) < w / 2 and abs(y + h / 2 - b - d / 2) < h / 2 for a, b, c, d in same)

    def lacks(self, parts: list[Part]) -> bool:
        """Return whether one of the parts, as high as the digits and no line, lies where none was read, as in a dark corner."""
        boxes = [d.box for d in self.digits]
        unit = float(np.median([h for _, _, _, h in boxes]))
        likely = [p.box for p in parts if high_as_digit(p, unit) and p.box[2] > NARROW * unit]
        return any(all(shared(new, box) < TAKEN for box in boxes) for new in likely)

    def agrees(self, other: "Reading") -> bool:
        """Return whether both have the same digits in the same places."""
        return all(map(self.has, other.digits)) and all(map(other.has, self.digits))

    def is_line(self) -> bool:
        """Return whether it is but a straight stroke."""
        return [d.digit for d in self.digits] == [1]

    def lines(self) -> list[str]:
        """Return the rows as text."""
        return ["".join(str(self.digits[i].digit) for i in row) for row in self.rows]


def lie_on(sheet: Mask, digits: list[Digit]) -> NDArray[np.bool_]:
    """Say of each digit whether its middle lies on a sheet, (h, w) of 0 and 1, in whose pixels the boxes are."""
    middles = [(round(x + w / 2), round(y + h / 2)) for x, y, w, h in (d.box for d in digits)]
    return np.array([bool(sheet[min(y, len(sheet) - 1), min(x, sheet.shape[1] - 1)]) for x, y in middles], bool)


def written_on(sheet: Mask, digits: list[Digit], *, goes_on: bool = False) -> list[Digit]:
    """Give the digits on a sheet, without what the table beside it was taken for: a few, or ones, as grain is read.

    `sheet` is as in lie_on. Where much lies beside it the sheet is none, but the light part of a page in shadow, and all
    digits are given; so is what lies beside it but is sure and as high as the digits on it, if it continues a row of them
    or there are three of its kind. A one that continues a row is believed only where the paper may go on there, in shadow
    (`goes_on`): else it is the sheet's edge.
    """
    boxes = [d.box for d in digits]
    on = lie_on(sheet, digits)
    ones = np.array([d.digit == 1 for d in digits], bool)
    beside = ~on
    if not on.any() or (beside.sum() > on.sum() / 4 and (ones & beside).sum() < 0.8 * beside.sum()):
        return digits

    def in_row(others: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return in_line(boxes, list(compress(boxes, others)))

    sure = np.array([d.confidence > SURE for d in digits])
    heights = np.array([h for _, _, _, h in boxes], float)
    written = beside & sure & ~ones & (np.abs(np.log2(heights / np.median(heights[on]))) < 0.5)
    if written.sum() < 3:
        written &= in_row(on & sure)
    written |= sure & ones & in_row(written)
    if goes_on:
        likely = np.array([not d.unsure for d in digits])
        written |= beside & ones & likely & in_row((on & sure) | written)
    return list(compress(digits, on | written))


def loses(reading: Reading, before: Reading, *, least: int = 3) -> bool:
    """Say whether a reading lacks most of what was surely read before, if that is so many: pieces of rules for a few digits."""
    sure = before.certain()
    return len(sure) >= least and sum(map(reading.has, sure)) < len(sure) / 2


def extends(reading: Reading, before: Reading) -> bool:
    """Say whether a reading has all that was read before, and more, which stands in rows: what was missed in shadow."""
    new = [d.box for d in reading.digits if not before.has(d)]
    rows = in_line(new, [d.box for d in reading.digits], least=1)
    return bool(new) and all(map(reading.has, before.digits)) and bool(rows.all())


def clearer(reading: Reading, before: Reading) -> bool:
    """Say whether a reading is as sure as can be, and of more than the one before: that took strokes for rules."""
    return len(reading.certain()) > len(before.certain()) and reading.confidence() > max(CLEAR, before.confidence())


def off_rules(digits: list[Digit], ink: Ink) -> list[Digit]:
    """Give the digits without the pieces of the ink's rules, which are read as ones, and their corners as sevens."""

    def ruled(box: Box) -> bool:
        x, y, w, h = box
        here = np.s_[y : y + h, x : x + w]
        return bool(ink.rules[here].sum() > RULED * ink.mask[here].sum())

    return digits if ink.rules is None else [d for d in digits if not ruled(d.box)]


def without_lonely_ones(digits: list[Digit]) -> list[Digit]:
    """Give the digits without ones in no row with others, where they are many: pieces of rules."""
    others = [d for d in digits if d.digit != 1]
    in_row = in_line([d.box for d in digits], [d.box for d in others], least=1)
    kept = [d for d, near in zip(digits, in_row, strict=True) if d.digit != 1 or near]
    return kept if len(digits) - len(kept) > max(MANY, len(others) / 2) else digits


def surer(one: Reading, pieces: Reading, *, within: bool) -> bool:
    """Say whether a picture is rather one digit than the pieces read on it.

    Pieces must lie within it: all of them, or (`within` False) those that are surely digits, as hardly a 1 is. It need not be
    as sure where they can be its holes and strokes (all within it, none half as high or sure) or a shadow's edges (ones).
    A straight line is no digit that others lie on: it is a shadow's edge.
    """
    if not one.digits or (one.is_line() and pieces.certain()):
        return False
    x, y, w, h = one.digits[0].box

    def inside(digit: Digit) -> bool:
        at, down = digit.box[0] + digit.box[2] / 2, digit.box[1] + digit.box[3] / 2
        return x <= at <= x + w and y <= down <= y + h

    strokes = not pieces.certain() and all(inside(d) and d.box[3] < h / 2 for d in pieces.digits)
    edges = len(pieces.digits) <= 2 and one.digits[0].digit != 1 and all(d.digit == 1 for d in pieces.digits)
    if pieces.digits and (strokes or edges):
        return one.confidence() > SURE
    surest = one.confidence() > max(ONE, pieces.confidence())
    return surest and all(map(inside, pieces.digits if within else pieces.certain()))


def completed(reading: Reading, others: list[Reading]) -> Reading:
    """Put in what other guesses at the ink read, in a row with sure digits, where this one has nothing or is unsure.

    Not what a guess read that reads far worse: where rules were left in, their corners are digits.
    """
    digits = list(reading.digits)
    for other in sorted(others, key=Reading.score, reverse=True):
        if other.score() < WELL * reading.score():
            break
        sure = [d for d in digits if not d.unsure]
        free = [d for d in other.digits if not d.unsure and not any(shared(d.box, s.box) > TAKEN for s in sure)]
        new = list(compress(free, in_line([d.box for d in free], [d.box for d in sure], least=1)))
        digits = [d for d in digits if not d.unsure or not any(shared(d.box, n.box) > TAKEN for n in new)] + new
    return replace(reading, digits=digits)


def shared(a: Box, b: Box) -> float:
    """Return the area that two boxes share, as a part of the smaller one's."""
    return common_area(a, b) / max(1, min(a[2] * a[3], b[2] * b[3]))


def whole_digits(known: list[Known]) -> list[Part]:
    """List the parts that are known to be one digit each."""
    return [k.part for k in known if k.part and len(k.digits) == 1]


def heights(known: list[Known]) -> list[int]:
    """List how high the known digits are, without ones, as which pieces of rules are read."""
    return [digit.box[3] for k in known for digit in k.digits if digit.digit != 1]
