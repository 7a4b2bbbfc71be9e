"""One guess at the ink after another: which are tried, what is taken over, and when it is enough."""

import threading
from dataclasses import replace
from itertools import islice

import cv2
import numpy as np
import pytest

from experiments.reader import find, judge, search, size
from experiments.reader.ink_reader import InkReader
from experiments.reader.page import Reader
from experiments.reader.reading import (
    Digit,
    Known,
    Reading,
)
from experiments.reader.rules import guesses_at_ink
from experiments.reader.search import Search, Sought
from tests.reader.made_up import one_read


@pytest.mark.parametrize(
    ("confidence", "count", "second", "guesses"),
    [(0.985, 9, "555555555", 2), (0.975, 9, "333333333", 2), (0.975, 4, "3333", 3)]
    + [(0.975, 9, second, 3) for second in ("333353333", "33333333", "3333333333")],
)
def test_two_guesses_at_the_ink_do_where_the_page_reads_well_or_they_agree(
    clean, reader, monkeypatch, confidence, count, second, guesses
):
    asked = []
    monkeypatch.setattr(reader.nets, "images", 0)  # by then it may have had enough

    def reading(_, ink, known, _steep):
        asked.append(ink)
        read = second if len(asked) == 2 else "3" * count
        boxes = [(40 * i, 5, 30, 40) for i in range(len(read))]
        digits = [
            Digit(b, int(d), confidence, 1, 0.0, np.zeros((28, 28), np.float32)) for b, d in zip(boxes, read, strict=True)
        ]
        return Reading(digits), 9.0, False

    monkeypatch.setattr(InkReader, "read", reading)
    monkeypatch.setattr(search, "variants", lambda ink: [ink])
    reader._read_picture(clean[0], Sought())
    assert len(asked) == guesses
    asked.clear()  # where a sheet is read for itself too, one of several digits that reads well does
    reader._read_picture(clean[0], Sought(hurried=True))
    assert len(asked) == 1 + (count < 5)


def test_where_all_is_read_surely_the_net_for_ink_says_whether_that_is_all(clean, reader, monkeypatch):
    picture, rows = clean
    read = []
    real = InkReader.read
    monkeypatch.setattr(InkReader, "read", lambda self, ink, *more: read.append(ink.name) or real(self, ink, *more))
    assert reader.read(picture).lines() == rows
    assert len(read) == 1  # the net's guess has no more

    def right_half(*some, **how):
        for ink in guesses_at_ink(*some, **how):
            yield replace(ink, mask=ink.mask * (np.arange(ink.mask.shape[1]) > 0.5 * ink.mask.shape[1]).astype(np.uint8))

    monkeypatch.setattr(search, "guesses_at_ink", right_half)
    assert reader.read(picture).lines() == rows
    assert read[2:] == ["dark ink, by the net"]


@pytest.mark.parametrize("hurried", [False, True])
def test_in_a_hurry_nothing_low_is_looked_for_beside_what_is_long(clean, reader, monkeypatch, hurried):
    asked = []
    monkeypatch.setattr(InkReader, "read", lambda _, ink, *more: (Reading(), 0.0, False))
    monkeypatch.setattr(judge, "without_long", asked.append)
    Search(reader.ink_reader, clean[0], 900, Sought(hurried=hurried)).read()
    assert bool(asked) is not hurried


def test_the_net_for_ink_looks_while_the_first_guess_is_read(clean, reader, monkeypatch):
    together = threading.Barrier(2, timeout=20)  # breaks where one waits for the other in vain
    real, looks = InkReader.read, reader.nets.ink_on
    monkeypatch.setattr(InkReader, "read", lambda *some: together.wait() >= 0 and real(*some))
    monkeypatch.setattr(reader.nets, "ink_on", lambda picture: together.wait() >= 0 and looks(picture))
    monkeypatch.setattr(search, "variants", lambda ink: [ink])
    monkeypatch.setattr(Reading, "lacks", lambda *_: False)  # one guess does
    assert reader._read_picture(clean[0], Sought())[1]


def test_a_few_unsure_digits_may_be_of_the_other_polarity(clean, reader, monkeypatch):
    image = np.zeros((28, 28), np.float32)
    tried: list[bool] = []
    monkeypatch.setattr(search, "guesses_at_ink", lambda *some, **how: islice(guesses_at_ink(*some, **how), 1))
    for count, sure, both in ((4, False, True), (5, False, False), (4, True, False)):
        some = [Digit((40 * k, 50, 30, 40), 2, 0.85, 5, 0.0, image) for k in range(count)]
        monkeypatch.setattr(InkReader, "read", lambda _, ink, *more: (tried.append(ink.light) or Reading(some), 50.0, sure))  # noqa: B023
        tried.clear()
        reader._read_picture(clean[0], Sought())
        assert (len(set(tried)) == 2) is both


@pytest.mark.parametrize(("surely", "kept"), [(3, 0), (2, 1)])
def test_pieces_of_rules_go_where_enough_reads_without_them(clean, reader, monkeypatch, surely, kept):
    digits, piece = [one_read(2, 40 * k, 50) for k in range(surely)], one_read(7, 200, 10, 30, 60)

    def read_ink(_, ink, known, _steep):
        reading = Reading([*digits, *([] if ink.rules is None else [piece])])
        return reading, reading.score(), False

    def without_and_with_rules(ink):
        rules = np.zeros_like(ink.mask)
        rules[10:70, 200:230] = 1
        return [ink, replace(ink, mask=ink.mask | rules, rules=rules)]

    monkeypatch.setattr(InkReader, "read", read_ink)
    monkeypatch.setattr(search, "variants", without_and_with_rules)
    best, _ = reader._read_picture(clean[0], Sought())
    assert len(best.digits) == surely + kept


@pytest.mark.parametrize(("many", "confidence", "with_rules"), [(5, 0.97, False), (5, 0.93, True), (4, 0.97, True)])
def test_where_much_reads_well_without_rules_it_is_not_read_with_them(clean, reader, monkeypatch, many, confidence, with_rules):
    seen: list[find.Ink] = []

    def read_ink(_, ink, known, _steep):
        seen.append(ink)
        reading = Reading([one_read(2, 40 * k, 50, confidence=confidence) for k in range(many)])
        return reading, reading.score(), False

    monkeypatch.setattr(InkReader, "read", read_ink)
    monkeypatch.setattr(search, "variants", lambda ink: [ink, replace(ink, rules=np.zeros_like(ink.mask))])
    Search(reader.ink_reader, clean[0], 900, Sought()).read()
    assert seen[0].rules is None
    assert any(ink.rules is not None for ink in seen) is with_rules


@pytest.mark.parametrize("numbers", [(4, 5), (42, 43), (64, 65)])
def test_wide_strokes_of_a_few_digits_are_seen(digits, reader, numbers):
    page = np.zeros((280, 358), np.uint8)
    for k, i in enumerate(numbers):
        ink = (cv2.resize(digits.images[i], (110, 110), interpolation=cv2.INTER_CUBIC) > 110).astype(np.uint8)
        place = np.s_[100:210, 90 + 90 * k : 200 + 90 * k]
        page[place] = np.maximum(page[place], 255 * cv2.dilate(ink, np.ones((7, 7))))
    expected = "".join(str(digits.labels[i]) for i in numbers)
    assert reader.read(page[..., None].repeat(3, 2)).lines() == [expected]


@pytest.mark.parametrize("sure", [False, True])
def test_a_page_that_is_read_surely_is_not_completed(reader, monkeypatch, sure):
    gray = np.zeros((100, 100), np.float32)
    polarities = (False, False, True)
    inks = [find.Ink(gray, gray, gray, gray.astype(np.uint8), light, str(i)) for i, light in enumerate(polarities)]
    row = [one_read(3, 4 * k, 0, 3, 30, confidence=0.85) for k in range(4)]
    more = {"0": (), "1": (one_read(8, 20, 0, 3, 30, confidence=0.8),), "2": (one_read(9, 28, 0, 3, 30, confidence=0.8),)}

    def read_ink(_, ink, known, _steep):
        reading = Reading([replace(d) for d in (*row, *more[ink.name])])
        return reading, 9.0 if ink.name == "0" else 8.0, sure and ink.name == "1"

    monkeypatch.setattr(search, "guesses_at_ink", lambda gray, single, wanted, light=None: iter(() if light else inks))
    monkeypatch.setattr(search, "variants", lambda ink: [ink])
    monkeypatch.setattr(InkReader, "read", read_ink)
    read = reader._read_picture(np.zeros((900, 900, 3), np.uint8), Sought())[0]
    assert [d.digit for d in read.digits] == [3, 3, 3, 3] + [8] * (not sure)  # of the same polarity alone


def test_a_blot_of_the_other_colour_does_not_hide_the_digits(clean, reader):
    rgb, rows = clean
    readings = {True: (Reading([Digit((0, 0, 90, 90), 1, 0.99, 7, 0.0, rgb)]), 50.0, True)}  # one sure light 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(find, "_polarities", lambda gray, short: [True, False])
        real = reader.ink_reader.read
        patch.setattr(InkReader, "read", lambda _, ink, known, steep: readings.get(ink.light) or real(ink, known, steep))
        assert reader.read(rgb).lines() == rows


@pytest.mark.usefixtures("ink_everywhere")
def test_a_page_of_mostly_unsure_readings_keeps_the_sure_ones(reader):
    def reading(unsure):
        sure = [0.5] * unsure + [0.97] * 9
        return Reading([Digit((30 * i, 0, 20, 30), 7, c, 1, 0.0, np.zeros((28, 28))) for i, c in enumerate(sure)])

    with pytest.MonkeyPatch.context() as patch:
        for unsure, kept in ((8, 17), (10, 9)):
            patch.setattr(Reader, "_read_picture", lambda _, picture, sought, n=unsure: (reading(n), False))
            assert len(reader.read(np.full((99, 700, 3), 200, np.uint8)).digits) == kept


def test_what_was_read_surely_is_not_read_again(clean, reader, monkeypatch):
    ink = next(find.candidates(find.to_gray(size.fit(clean[0])[0])))
    seen: list[int] = []
    real = reader.nets.outputs
    monkeypatch.setattr(type(reader.nets), "outputs", lambda _, images: seen.append(len(images)) or real(images))
    known: list[Known] = []
    first, *_ = reader.ink_reader.read(ink, known)
    assert 8 <= len(known) <= len(first.digits) == 12
    thicker = replace(ink, mask=cv2.dilate(ink.mask, np.ones((2, 2), np.uint8)))
    once = sum(seen)
    second, *_ = reader.ink_reader.read(thicker, known)
    assert sum(seen) - once < 0.5 * once
    assert sorted(d.digit for d in second.digits) == sorted(d.digit for d in first.digits)
    unsure = Known(known[0].part, known[0].chosen, [replace(known[0].digits[0], confidence=0.89)])
    assert known[0].sure()
    assert not unsure.sure()
    x, y, w, h = known[0].part.box
    for box, same in (((x, y, w, h), True), ((x + w // 2, y, w, h), False), ((x, y, w, 2 * h), False)):
        assert known[0].is_same(find.Part(box, known[0].part.mask)) is same
    assert not known[0].is_same(find.Part((x, y, w, h), np.ones((h, w), np.uint8)))  # a blot over it


def test_what_is_left_out_as_grain_may_be_read_in_another_guess(clean, reader, monkeypatch):
    gray = find.to_gray(size.fit(clean[0])[0])
    guesses = list(guesses_at_ink(gray, single=False))[:2]
    known: list[Known] = []
    assert reader.ink_reader.read(guesses[0], known)[2]
    del known[-2:]
    assert reader.ink_reader.read(guesses[0], list(known))[2]
    monkeypatch.setattr(judge, "is_grain", lambda *_: True)
    reading, _, sure = reader.ink_reader.read(guesses[0], known)
    assert len(reading.digits) == 10
    assert not sure


def test_the_other_polarity_is_tried_where_the_first_reads_as_nothing(clean, reader, monkeypatch):
    monkeypatch.setattr(find, "_polarities", lambda gray, short: [True])  # as where most of the page lies in shadow
    assert reader.read(clean[0]).lines() == clean[1]
