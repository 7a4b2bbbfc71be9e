"""Pages of a few digits, where a shadow's edge or a ruled square is as large as all that is written."""

from dataclasses import replace

import numpy as np
import pytest

from experiments import mnist
from experiments.paper import make_page
from experiments.reader import find, search
from experiments.reader.ink_reader import InkReader
from experiments.reader.nets import HIGH, Nets
from experiments.reader.page import SMALLER, Reader
from experiments.reader.reading import Reading
from experiments.reader.search import Search, Sought
from experiments.train_reader import KEPT_OUT
from tests.reader.made_up import one_read


@pytest.fixture(scope="module")
def digits():
    return mnist.Digits(*(array[-KEPT_OUT:] for array in mnist.load()[0]))


def test_a_row_is_not_missed_for_a_sure_one(reader, digits):
    rng = np.random.default_rng(136)  # of whose page the first guess at the ink sees one row of two, and reads it surely
    some = rng.choice(len(digits.labels), int(rng.integers(1, 7)), replace=False).tolist()
    written = make_page(*digits, some, "mixed", rng)
    assert reader.read(written.image).lines() == written.truth()["rows"]


def read_as(reader, monkeypatch, *steps):
    """What a picture is read as whose guesses at the ink read so, one after the other: of the rules, of the net."""
    left = iter([(digits, Reading(digits).score(), sure) for digits, sure in steps])

    def read_ink(*_):
        digits, score, sure = next(left, ([], 0.0, False))
        return Reading(digits), score, sure

    monkeypatch.setattr(InkReader, "read", read_ink)
    monkeypatch.setattr(search, "variants", lambda ink: [ink])
    picture = np.random.default_rng(0).integers(180, 220, (900, 900, 3)).astype(np.uint8)
    picture[300:390, 120:180] = 30
    found, _ = Search(reader.ink_reader, picture, 900, Sought()).read()
    return sorted(digit.digit for digit in found.digits)


def test_what_the_net_for_ink_sees_is_added_to_a_few_sure_digits(reader, monkeypatch):
    monkeypatch.setattr(Nets, "ink_on", lambda _, picture: (picture[..., 0] < 100).astype(np.float32))
    sure = one_read(7, 100, 100), one_read(4, 160, 100)
    more = one_read(2, 220, 100)
    assert read_as(reader, monkeypatch, (sure, True), ([*sure, more], True)) == [2, 4, 7]
    assert read_as(reader, monkeypatch, (sure, True), ([sure[0], one_read(9, 160, 100), more], True)) == [4, 7]
    faint = one_read(2, 220, 100, confidence=0.3)
    assert read_as(reader, monkeypatch, (sure, True), ([*sure, faint], True)) == [4, 7]  # nothing is surer
    assert read_as(reader, monkeypatch, (sure, False), ([sure[0], one_read(9, 160, 100), more], True)) == [2, 7, 9]


@pytest.mark.usefixtures("ink_everywhere")
def test_what_was_sure_on_a_strip_is_not_given_up_for_what_is_read_with_a_page_around_it(reader, monkeypatch):
    sure, large = [one_read(6, 100, 50), one_read(5, 160, 50)], [replace(one_read(4, 50, 20), box=(50, 20, 90, 140))]
    strip = np.full((200, 600, 3), 200, np.uint8)

    def read_as_strip_and_as_page(first, second):
        both = iter([Reading(list(first)), Reading(list(second))])
        monkeypatch.setattr(Reader, "_read_page", lambda *_, **__: next(both))
        return [digit.digit for digit in reader.read(strip).digits]

    assert read_as_strip_and_as_page(sure, large) == [6, 5]
    assert read_as_strip_and_as_page(sure[:1], large) == [4]
    assert read_as_strip_and_as_page([one_read(6, 100, 50, confidence=0.6), sure[1]], large) == [4]


def test_where_nothing_reads_surely_the_reader_does_not_look_for_ever(reader, monkeypatch):
    guesses = []

    def read_ink(self, ink, *_):
        guesses.append(ink)
        self.nets.images += 1000
        return Reading([one_read(2, 220, 100, confidence=0.6)]), 0.1, False

    monkeypatch.setattr(InkReader, "read", read_ink)
    monkeypatch.setattr(Nets, "ink_on", lambda _, picture: (picture[..., 0] < 100).astype(np.float32))
    picture = np.random.default_rng(0).integers(180, 220, (900, 900, 3)).astype(np.uint8)
    picture[300:390, 120:180] = 30

    made = []
    guess = find.guess
    monkeypatch.setattr(find, "guess", lambda *some, **how: made.append(ink := guess(*some, **how)) or ink)

    def tried(patience):
        monkeypatch.setattr(search, "PATIENCE", patience)
        guesses.clear()
        made.clear()
        reader.read(picture)
        return [(ink.light, "by the net" in ink.name) for ink in guesses]

    few, all_of_them = tried(0), tried(10**9)
    assert len(few) < len(all_of_them)
    assert {(True, False), (False, False), (False, True)} == set(few)  # the net has its say, and either polarity
    all_made = len(made)
    tried(0)
    assert len(made) < all_made / 2  # what would not be read is not made
    few = tried(4000)
    assert 5 <= len(few) < len(all_of_them)
    assert tried(4000) == few  # a new picture, a new count


@pytest.mark.parametrize(("many", "ways"), [(5, 1), (4, 3)])
def test_of_one_guess_too_no_more_ways_to_see_it_are_read_than_it_is_worth(reader, monkeypatch, many, ways):
    seen = []

    def read_ink(self, ink, *_):
        seen.append(ink.name)
        self.nets.images += 10_000
        reading = Reading([one_read(2, 40 * k, 100, confidence=0.95) for k in range(many)])
        return reading, reading.score(), False

    monkeypatch.setattr(InkReader, "read", read_ink)
    monkeypatch.setattr(search, "variants", lambda ink: [replace(ink, name=f"{ink.name}, {k}") for k in range(3)])
    monkeypatch.setattr(Nets, "ink_on", lambda _, picture: np.zeros(picture.shape[:2], np.float32))
    picture = np.random.default_rng(0).integers(180, 220, (900, 900, 3)).astype(np.uint8)
    picture[300:390, 120:180] = 30
    Search(reader.ink_reader, picture, 900, Sought()).read()
    assert len([name for name in seen if name.startswith(seen[0][:-1])]) == ways


def test_the_net_for_ink_is_asked_of_ones_and_unsure_digits_alone_where_others_are_sure(reader, monkeypatch):
    asked = []
    monkeypatch.setattr(Nets, "ink_in", lambda _, picture, boxes, *high: asked.append((boxes, *high)) or np.zeros(len(boxes)))
    picture = np.random.default_rng(0).integers(0, 255, (300, 400, 3)).astype(np.uint8)
    sure = [one_read(d, 40 * d, 50) for d in range(2, 7)]
    others = [one_read(1, 300, 50), one_read(7, 340, 50, confidence=0.85)]
    assert [d.digit for d in reader._on_ink(picture, [*sure, *others])] == [2, 3, 4, 5, 6]
    boxes = [digit.box for digit in others]
    assert asked == [(boxes,), (boxes[:1], SMALLER), (boxes[1:], SMALLER)]  # what is none is looked at again, for itself
    asked.clear()
    assert reader._on_ink(picture, [*sure[:4], *others]) == []  # of so few all
    assert len(asked[0][0]) == 6


def test_a_wide_stroke_is_ink_where_it_is_seen_smaller(reader, monkeypatch):
    """Felt on a sheet, and ones with a foot: rules and edges are none in either size."""
    digits = [one_read(4, 40, 50), one_read(1, 120, 50), one_read(1, 200, 50), one_read(1, 280, 50, confidence=0.6)]
    likely = dict(zip([d.box for d in digits], [(0.2, 0.9), (0.9, 0.2), (0.2, 0.3), (0.2, 0.9)], strict=True))
    monkeypatch.setattr(
        Nets, "ink_in", lambda _, picture, boxes, high=HIGH: np.array([likely[box][high == SMALLER] for box in boxes])
    )
    picture = np.random.default_rng(0).integers(0, 255, (300, 400, 3)).astype(np.uint8)
    assert reader._on_ink(picture, digits) == digits[:2]


def test_where_all_is_sure_an_edge_is_still_no_1(reader, monkeypatch):
    monkeypatch.setattr(Nets, "ink_in", lambda _, picture, boxes, *high: np.zeros(len(boxes)))
    sure, edge = [one_read(d, 40 * d, 50) for d in range(2, 8)], one_read(1, 320, 50)
    monkeypatch.setattr(Reader, "_read_picture", lambda *_, **__: (Reading([*sure, edge]), True))
    picture = np.random.default_rng(0).integers(180, 220, (300, 400, 3)).astype(np.uint8)
    assert reader.read(picture).lines() == ["234567"]
