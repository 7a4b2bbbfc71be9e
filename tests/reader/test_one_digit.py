"""Pictures of a single digit, told so or not."""

from itertools import islice

import cv2
import numpy as np
import pytest

from experiments import pages
from experiments.reader import find, search, split
from experiments.reader.ink_reader import InkReader
from experiments.reader.judge import accept, only_digit, unlike
from experiments.reader.page import Reader
from experiments.reader.reading import Digit, Reading, surer
from experiments.reader.search import Sought
from tests.reader.made_up import one_read


@pytest.mark.parametrize("kind", ["plain", "inverted", "large", "margins", "frame", "specks", "thick", "thick light"])
def test_single_digits_of_every_kind(digits, reader, kind):
    rng = np.random.default_rng(0)
    right = 0
    for image, label in zip(digits.images[:12], digits.labels[:12], strict=True):
        picture = image
        if kind in ("large", "margins", "frame", "specks"):
            picture = cv2.resize(image, None, fx=9, fy=9, interpolation=cv2.INTER_CUBIC)
        if kind == "margins":
            picture = np.pad(picture, ((120, 10), (15, 260)))
        if kind == "frame":
            picture = np.pad(picture, 4)
            picture[:2], picture[:, -2:] = 255, 255
        if kind == "specks":
            picture = picture.copy()
            for x, y in rng.integers(3, 249, (6, 2)):
                cv2.circle(picture, (int(x), int(y)), 2, 255, -1)
        if kind == "inverted":
            picture = 255 - picture
        if kind.startswith("thick"):  # half of the picture is ink, and it runs to the border
            picture = cv2.dilate(cv2.resize(image, None, fx=9, fy=9), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (15, 15)))
            x, y, w, h = cv2.boundingRect((picture > 128).astype(np.uint8))
            picture = picture[y : y + h, x : x + w]
            picture = picture if kind == "thick light" else 255 - picture
        reading = reader.read(np.repeat(picture[..., None], 3, axis=2), single=True)
        assert len(reading.digits) == 1
        right += reading.digits[0].digit == label
    assert right >= (8 if kind == "thick light" else 11)


@pytest.mark.parametrize("kind", ["small", "border", "whole"])
def test_a_picture_of_one_large_digit_needs_no_telling(digits, reader, kind):
    right = 0
    for image, label in zip(digits.images[:12], digits.labels[:12], strict=True):
        picture = image
        if kind != "small":  # its strokes run to the border, at the top or everywhere
            picture = cv2.resize(image, None, fx=9, fy=9, interpolation=cv2.INTER_CUBIC)
            x, y, w, h = cv2.boundingRect((picture > 128).astype(np.uint8))
            aside = 60 * (kind == "border")
            picture = np.pad(picture[y : y + h, x : x + w], ((0, aside), (aside, aside)))
        right += reader.read(np.repeat(255 - picture[..., None], 3, axis=2)).lines() == [str(label)]
    assert right >= (10 if kind == "whole" else 11)


def test_pieces_of_a_digit_lie_within_it():
    def reading(*boxes, sure):
        return Reading([Digit(box, 4, sure, 9, 0.0, np.zeros((28, 28), np.float32)) for box in boxes])

    one = reading((10, 10, 80, 90), sure=0.998)
    inside, beside = (12, 12, 30, 50), (95, 12, 30, 50)
    assert surer(one, reading(inside, sure=0.99), within=True)
    assert not surer(one, reading(inside, beside, sure=0.99), within=True)
    assert surer(one, reading(inside, beside, sure=0.7), within=False)
    assert surer(one, reading(inside, sure=0.95), within=False)
    assert not surer(one, reading(inside, beside, sure=0.95), within=False)
    assert not surer(one, reading(inside, sure=0.999), within=False)
    assert not surer(reading((10, 10, 80, 90), sure=0.98), Reading(), within=False)
    sure = reading((10, 10, 80, 90), sure=0.92)
    holes, half = [(20, 20, 10, 20), (20, 60, 20, 44)], (20, 12, 30, 46)
    assert surer(sure, reading(*holes, sure=0.89), within=True)
    assert not surer(sure, reading(*holes, sure=0.91), within=True)
    assert not surer(sure, reading(*holes, half, sure=0.8), within=True)
    line = Reading([one_read(1, 10, 10, 80, 90)])
    assert not surer(line, reading(inside, sure=0.95), within=True)  # a shadow's edge across the digits
    assert surer(line, reading(inside, sure=0.85), within=True)
    assert not surer(sure, reading(*holes, beside, sure=0.8), within=False)
    assert not surer(reading((10, 10, 80, 90), sure=0.88), reading(*holes, sure=0.6), within=False)
    edge = one_read(1, 200, 0, 10, 150)
    assert surer(sure, Reading([edge, edge]), within=True)
    assert not surer(sure, Reading([edge, edge, edge]), within=True)
    assert not surer(sure, Reading([edge, one_read(7, 200, 0, 10, 150)]), within=False)
    assert not surer(Reading([one_read(1, 10, 10, 80, 90, 0.92)]), Reading([edge]), within=True)
    assert not surer(Reading(), Reading(), within=False)


def test_one_digit_is_neither_what_lies_around_it_nor_a_line_below():
    digit = np.zeros((100, 80), np.uint8)
    digit[30:60, 30:36] = digit[30:36, 30:55] = 1
    corners = cv2.ellipse(np.ones_like(digit), (40, 50), (38, 48), 0, 0, 360, 0, -1)  # dark, as of a lens
    square = np.ones_like(digit)
    square[20:80, 15:65] = 0
    below, above, thick = (np.zeros_like(digit) for _ in range(3))
    below[64:67, 25:60] = above[20:23, 25:60] = thick[64:75, 25:60] = 1
    near = np.zeros_like(digit)
    near[58:61, 38:60] = 1
    only = [find.Part((30, 30, 25, 30), digit[30:60, 30:55])]

    def chosen(mask):
        return sorted(p.box for p in only_digit(find.parts(mask), mask.shape))

    for more in corners, square, below:
        assert chosen(digit | more) == [only[0].box]
    for more in above, thick, near:  # the flag of a 5, more of a digit, the foot of a 2
        assert len(chosen(digit | more)) == 2
    assert chosen(corners) == [(0, 0, 80, 100)]  # where there is nothing else
    full = cv2.ellipse(np.zeros_like(digit), (40, 50), (35, 45), 0, 0, 360, 1, 9)  # a 0, and a speck in it
    full[45:49, 38:44] = 1
    assert (0, 0, 80, 100) in chosen(full)


def test_ink_that_fills_a_part_of_the_page_is_no_noise():
    seen = np.abs(np.random.default_rng(0).normal(0, 0.01, (56, 56))).astype(np.float32)
    seen[15:41, 20:36] = 0.4
    assert find._noise(seen, 0.3).max() < 0.08
    seen[:, 28:] += 0.15  # as noisy as that is a dark half of a page, and there it counts
    assert find._noise(seen, 0.6)[:, 40:].min() > 0.15


def test_what_is_half_as_dark_as_the_only_sure_digit_is_no_1():
    gray = np.full((100, 300), 200, np.float32)
    mask = np.zeros(gray.shape, np.uint8)
    for x, dark in ((20, 150), (120, 60), (220, 110)):
        gray[20:80, x : x + 10], mask[20:80, x : x + 10] = 200 - dark, 1
    ink = find.Ink((200 - gray) / 200, (200 - gray) / 200, gray, mask, light=False, name="")
    found = [split.Hypothesis(p.box, p.mask) for p in sorted(find.parts(mask), key=lambda p: p.box)]
    odd = unlike(found, ink, [0.99, 0.95, 0.8])
    assert [accept(1, 0.95, float(o), in_row=False) for o in odd] == [True, False, True]
    assert accept(3, 0.95, float(odd[1]), in_row=False)  # a faint pencil beside a marker


@pytest.mark.usefixtures("ink_everywhere")
def test_of_one_digit_and_a_1_beside_it_the_digit_counts(clean, reader, monkeypatch):
    one, five = one_read(1, 200, 0, 100, 300, 0.97), one_read(5, 10, 10, 60, 90, 0.96)
    doubtful = Reading([one_read(9, 0, 0, 300, 300, 0.4)])
    monkeypatch.setattr(
        Reader, "_read_picture", lambda _, picture, sought: (doubtful if sought.single else Reading([one, five]), False)
    )
    assert reader.read(clean[0], single=True).lines() == ["5"]


def test_a_thin_0_that_fills_the_picture_is_no_frame(reader):
    picture = cv2.ellipse(np.full((300, 220, 3), 255, np.uint8), (110, 150), (107, 147), 0, 0, 360, (20, 20, 20), 6)
    assert reader.read(picture, single=True).lines() == ["0"]


@pytest.mark.usefixtures("ink_everywhere")
def test_a_row_of_digits_is_no_single_digit(clean, reader, monkeypatch):
    image = np.zeros((28, 28), np.float32)

    def row(confidence):
        return Reading([Digit((40 * k, 50, 30, 40), 2, confidence, 5, 0.0, image) for k in range(3)])

    one = Reading([Digit((0, 0, 200, 200), 1, 0.999, 7, 0.0, image)])
    monkeypatch.setattr(Reader, "_read_picture", lambda _, picture, sought: (one if sought.single else row(0.95), False))
    assert reader.read(clean[0]).lines() == ["222"]
    monkeypatch.setattr(Reader, "_read_picture", lambda _, picture, sought: (one if sought.single else row(0.85), False))
    assert reader.read(clean[0]).lines() == ["1"]


@pytest.mark.usefixtures("ink_everywhere")
def test_a_doubtful_single_digit_gives_way_to_the_largest_sure_one_on_the_page(reader, monkeypatch):
    sure = [one_read(4, 0, 0, 10, 10), one_read(9, 40, 50, 80, 90, 0.95), one_read(0, 0, 0, 99, 99, 0.8)]

    def read(confidence):
        one = one_read(2, 0, 0, confidence=confidence)
        monkeypatch.setattr(
            Reader, "_read_picture", lambda _, picture, sought: (Reading([one] if sought.single else list(sure)), False)
        )
        return reader.read(np.full((300, 300, 3), 200, np.uint8), single=True).lines()

    assert read(0.5) == ["9"]
    assert read(0.7) == ["2"]
    sure[:] = [one_read(4, 0, 0, 10, 10, 0.8)]
    assert read(0.5) == ["2"]


LOW = one_read(4, 5, 5, 15, 25), one_read(5, 5, 60, 15, 25), one_read(1, 5, 99, 5, 25)


@pytest.mark.usefixtures("ink_everywhere")
@pytest.mark.parametrize(("on_page", "sure", "digit"), [
    ([one_read(9, 5, 5, 30, 60)], True, 9),  # all that is on the page
    ([one_read(9, 5, 5, 30, 60)], False, 2),  # perhaps a piece
    ([one_read(9, 5, 5, 30, 60), one_read(7, 5, 66, 30, 60)], True, 2),  # pieces
    ([one_read(9, 5, 5, 30, 60, 0.91)], True, 2),  # no surer
    ([LOW[0]], False, 4),  # too low for a piece
    ([LOW[0], LOW[2]], False, 4),
    ([LOW[0], LOW[1]], False, 2),  # labels
])  # fmt: skip
def test_a_likely_single_digit_gives_way_to_a_surer_one_that_is_no_piece_of_it(reader, monkeypatch, on_page, sure, digit):
    one = one_read(2, 0, 0, 80, 100, 0.95)
    readings = {True: (Reading([one]), False), False: (Reading(on_page), sure)}
    monkeypatch.setattr(Reader, "_read_picture", lambda _, picture, sought: readings[sought.single])
    assert reader.read(np.full((300, 300, 3), 200, np.uint8), single=True).lines() == [str(digit)]


@pytest.mark.parametrize(("first", "digit"), [(0.35, 9), (0.95, 3)])
def test_ink_of_the_other_polarity_is_given_up_for_a_single_digit_only_where_the_first_is_sure(
    reader, monkeypatch, first, digit
):
    gray = np.zeros((100, 100), np.float32)
    inks = [find.Ink(gray, gray, gray, gray.astype(np.uint8), light, str(i)) for i, light in enumerate((False, True, True))]
    read = {"0": (3, first), "1": (7, 0.1), "2": (9, 0.96)}

    def read_single(_, ink, _steep):
        digit, confidence = read[ink.name]
        return Reading([one_read(digit, 0, 0, confidence=confidence)]), confidence, False

    monkeypatch.setattr(search, "guesses_at_ink", lambda gray, single, wanted: iter(inks))
    monkeypatch.setattr(search, "variants", lambda ink: [ink])
    monkeypatch.setattr(InkReader, "read_single", read_single)
    assert reader._read_picture(np.zeros((100, 100, 3), np.uint8), Sought(single=True))[0].digits[0].digit == digit


def test_a_digit_is_not_missed_for_the_shadow_s_edge_beside_it(digits, reader):
    one_each = pages.make_pages(*digits, 90, 1, ("shadow", "rules", "mixed"), on_page=(1, 1))
    written = next(islice(one_each, 23, None))  # whose shadow's edge reads as a surer 1 than its 3 as a 3
    assert reader.read(written.image, single=True).lines() == written.truth()["rows"] == ["3"]
