"""Digits that touch those above them."""

import cv2
import numpy as np

from experiments.reader import find, split, stack
from experiments.reader.judge import in_line


def one_above_another(digits, first):
    """Draw three rows of four digits; those of the first column touch the ones above them."""
    page, rows, bottom = np.zeros((420, 520), np.float32), [""] * 3, 30
    for i in range(12):
        row, column = divmod(i, 4)
        image, label = digits.images[first + i], digits.labels[first + i]
        inked = np.flatnonzero(image.max(1) > 128)
        ink = image[inked[0] : inked[-1] + 1].astype(np.float32)
        ink = cv2.resize(ink, (112, (100, 80)[column > 0]), interpolation=cv2.INTER_CUBIC).clip(0, 255)
        x = 20 + 120 * column
        if not column:
            top = bottom
            while row and not ((ink > 128) & (page[top : top + 100, x : x + 112] > 128)).any():
                top -= 1
            bottom = top + 100
        y = top + (100 - len(ink)) // 2
        page[y : y + len(ink), x : x + 112] = np.maximum(page[y : y + len(ink), x : x + 112], ink)
        rows[row] += str(label)
    return (235 - 0.8 * page).astype(np.uint8)[..., None].repeat(3, 2), rows


def test_digits_that_touch_those_above_them_are_cut_apart(digits, reader):
    pages = [one_above_another(digits, start) for start in range(0, 120, 12)]
    read = [reader.read(picture).lines() for picture, _ in pages]
    assert sum([len(line) for line in lines] == [4, 4, 4] for lines in read) >= 8
    lines = [(line, row) for lines, (_, rows) in zip(read, pages, strict=True) for line, row in zip(lines, rows, strict=False)]
    assert sum(line == row for line, row in lines) >= 22


def test_a_part_is_cut_between_rows_only_where_it_is_high_and_beside_a_row(digits):
    picture, _ = one_above_another(digits, 24)
    (tallest,) = [p for p in find.parts((picture[..., 0] < 128).astype(np.uint8)) if p.box[3] > 250]
    x, y, w, h = tallest.box
    contrast = 1 - picture[..., 0].astype(np.float32) / 255
    beside = [(x + w + 30, y + 5, 60, 80)]
    whole, *ways = stack.slices(tallest, contrast, 90.0, beside)
    assert whole.part is tallest
    assert (whole.first, whole.last) == (0, max(one.last for one in ways))
    for one in ways:
        left, top, wide, high = one.part.box
        assert (one.part.mask <= tallest.mask[top - y : top - y + high, left - x : left - x + wide]).all()
        assert one.in_row == in_line([one.part.box], beside, least=1)[0]
        assert one.cost >= split.CUT / 2 * ((one.first > 0) + (one.last < whole.last)) + stack.OFF * (not one.in_row)
    assert {one.in_row for one in ways} == {True, False}
    far = [(x, y + 1000, 60, 80)]
    assert not any(one.in_row for one in stack.slices(tallest, contrast, 90.0, far))
    assert stack.slices(tallest, contrast, h / 1.5, beside)
    assert stack.slices(tallest, contrast, h / 1.4, beside) == []

    def surely(digit):  # whatever it is
        return lambda parts: [np.log(np.full((1, 10), 1e-9) + (np.arange(10) == digit)) for _ in parts]

    unsure = [np.log(np.full((1, 10), 0.1))]
    rows = [(x + w + 30, y + 10 + 95 * k, 60, 80) for k in range(3)]
    for known, digit, pieces in ((rows, 2, True), (far, 2, False), (rows, 1, False)):  # ones alone are a line
        parts, log_probs = stack.apart([tallest], unsure, surely(digit), contrast, 90.0, known)
        assert (len(parts) > 1) is pieces
        assert len(log_probs) == len(parts)
        assert sum(part.area for part in parts) == tallest.area


def test_what_is_cut_may_stand_beside_digits_known_from_another_guess(digits, reader, monkeypatch):
    before, cut_apart = [], stack.apart
    monkeypatch.setattr(stack, "apart", lambda *args: before.append((len(args[0]), len(args[-1]))) or cut_apart(*args))
    picture, _ = one_above_another(digits, 468)
    reader.read(picture)
    assert before[0][1] == 0
    assert any(parts < 12 and known > 4 for parts, known in before[1:])


def test_a_stack_is_the_whole_part_or_nothing_of_it():
    part = find.Part((0, 0, 10, 100), np.ones((100, 10), np.uint8))

    def read(first, last, score, cost=0.0):
        return stack.Slice(part, first, last, cost, in_row=True), np.full((1, 10), score)

    whole, above, middle, below = read(0, 3, -2.0), read(0, 1, -0.5), read(1, 2, -0.1), read(2, 3, -0.5)
    assert stack.best_stack([whole, below, middle, above]) == [above, middle, below]
    assert stack.best_stack([whole, above, middle]) == [whole]
    assert stack.best_stack([read(0, 3, -1.0), above, middle, below])[0][0].last == 3
    assert stack.best_stack([whole, read(0, 2, -0.5, cost=0.9), above, middle, below]) == [above, middle, below]
    assert stack.best_stack([read(0, 3, 0.0, cost=np.inf), above, middle]) == []
    assert stack.best_stack([]) == []
