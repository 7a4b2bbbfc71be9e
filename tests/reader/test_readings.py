"""Which of two readings to believe, and what one adds to another."""

from dataclasses import replace

import numpy as np
import pytest

from experiments.reader import find
from experiments.reader.reading import Reading, completed, extends, loses, off_rules, without_lonely_ones
from experiments.reader.rules import variants
from tests.reader.made_up import one_read


def test_pieces_of_rules_are_no_digits():
    page = np.zeros((200, 200), np.uint8)
    page[100:102] = page[:, 100:102] = 1
    page[20:50, 30:34] = 1  # a stroke of a pen
    page[90:130, 40:45] = 1  # one that crosses a line
    page[60:98, 150:154] = 1  # and one beside it
    ink = find.Ink(page, page, page, page, light=False, name="")
    *_, without, whole = variants(ink)
    assert without.rules is None
    on_line, corner, *written = (one_read(1, x, y, w, h) for x, y, w, h in (
        (110, 99, 30, 4), (95, 95, 30, 30), (30, 20, 4, 30), (40, 90, 5, 40), (145, 60, 25, 42)))  # fmt: skip
    assert off_rules([on_line, corner, *written], whole) == written
    assert off_rules([on_line], replace(whole, rules=None)) == [on_line]


def test_ones_alone_are_worth_little_for_grain_is_read_as_ones():
    def worth(*digits):
        return Reading([one_read(digit, 0, 0) for digit in digits]).worth()

    assert worth(*[1] * 16) == worth(1) == 0.25  # less than one other digit
    assert worth(7, 1, 1, 1) == worth(7, 1, 1, 1, 1, 1) == 1.75
    assert worth(7, 7, 8, 3, 1, 5, 0) == 3.5
    few = Reading([one_read(7, 0, 0, confidence=0.6), one_read(1, 0, 0)])
    assert few.worth() == pytest.approx((0.1 + 0.45) * (0.3 / 0.4) ** 4)
    assert Reading().worth() == 0
    strip = Reading([one_read(7, 40 * k, 0, confidence=0.74) for k in range(21)])  # squares in a lit strip of a dark page
    assert strip.worth() < 0.2 * Reading([one_read(3, 40 * k, 0) for k in range(13)]).worth()


def test_a_straight_one_beside_a_sure_digit_does_not_make_it_less_clear():
    six, one = one_read(6, 40, 0), one_read(1, 0, 0, confidence=0.66)
    assert Reading([six, one]).score() == pytest.approx(Reading([six]).score() + 30 * 0.16)
    assert Reading([six, one, one]).score() < Reading([six]).score()  # pieces of rules, maybe
    assert Reading([six, one_read(7, 0, 0, confidence=0.66)]).score() < Reading([six]).score()


def test_many_ones_in_no_row_are_pieces_of_rules():
    row = [one_read(digit, 30 * k, 400) for k, digit in enumerate((5, 1, 3, 1, 7))]
    rules = [one_read(1, 500, 50 * k) for k in range(11)]
    assert without_lonely_ones(row + rules) == row
    assert without_lonely_ones(row + rules[1:]) == row + rules[1:]  # a column of ones, maybe
    others = [one_read(4, 30 * k, 900) for k in range(22)]
    assert without_lonely_ones(others + rules) == others + rules  # few beside so many


def test_hundreds_of_pieces_read_worse_than_a_page_of_digits():
    page = Reading([one_read(3, 40 * k, 0, confidence=0.96) for k in range(28)])
    assert page.score() == pytest.approx(28 * 30 * 0.46)
    one_more = Reading([*page.digits, one_read(3, 40 * 28, 0, confidence=0.6)])
    assert one_more.score() > page.score()
    pieces = Reading([one_read(4, 40 * k, 0, 20, 25, confidence=0.62) for k in range(276)])
    assert pieces.score() == pytest.approx(276 * 25 * 0.12 * 0.3**4)
    assert Reading([one_read(4, 40 * k, 0, confidence=0.4) for k in range(9)]).score() == 0
    assert Reading().score() == 0


def test_a_reading_is_completed_by_other_guesses_at_the_ink():
    row = [one_read(3, 40 * k, 0) for k in (0, 1, 2, 5)] + [one_read(3, 40 * k, 100) for k in (0, 1)]
    missing, unsure = one_read(8, 120, 2, confidence=0.8), one_read(7, 160, 0, confidence=0.4)
    best = Reading([*row, unsure])

    def added(*digits, rest=row):
        made = completed(best, [Reading([*rest, *digits])])
        return [d for d in made.digits if d not in row]

    assert added() == [unsure]
    assert added(missing) == [unsure, missing]
    instead = one_read(4, 158, 1, 24, 30, confidence=0.9)
    assert added(missing, instead) == [missing, instead]
    halves = [one_read(4, 120, 0), one_read(2, 134, 0)]  # of a touching pair: they overlap
    assert added(*halves) == [unsure, *halves]
    below = one_read(9, 80, 100)
    assert added(below) == [unsure, below]
    assert added(one_read(8, 120, 2, confidence=0.7)) == [unsure]  # it is unsure itself
    assert added(one_read(8, 120, 50)) == [unsure]  # in no row
    assert added(one_read(8, 120, 0, 20, 60)) == [unsure]  # higher than the row
    assert added(one_read(8, 82, 0)) == [unsure]  # where a sure digit is
    assert added(missing, rest=[]) == [unsure]  # by a guess that read next to nothing
    assert best.digits == [*row, unsure]


def test_what_was_surely_read_without_the_rules_is_not_given_up_for_pieces_of_them():
    before = Reading([one_read(k, 40 * k, 100) for k in range(5)])
    shifted = [one_read(k, 40 * k + 5, 110, 26, 36) for k in range(5)]
    assert not loses(Reading(shifted), before)
    assert not loses(Reading(shifted[:3]), before)  # half of the four; ones do not count
    assert loses(Reading(shifted[:2]), before)
    assert loses(Reading([one_read(9 - k, 40 * k, 100) for k in range(5)]), before)
    assert loses(Reading([one_read(k, 40 * k, 130) for k in range(5)]), before)
    assert loses(Reading([one_read(k, 40 * k + 12, 100) for k in range(5)]), before)
    assert loses(Reading(), before)
    assert not loses(Reading(), Reading(before.digits[:3]))
    assert not loses(Reading(), Reading([one_read(k, 40 * k, 100, confidence=0.8) for k in range(5)]))
    assert loses(Reading(shifted[4:]), Reading(before.digits[2:4]), least=2)
    assert not loses(Reading(shifted[3:]), Reading(before.digits[2:4]), least=2)
    assert not loses(Reading(shifted[4:]), Reading(before.digits[2:3]), least=2)


def test_a_reading_lacks_what_is_as_high_as_its_digits_and_no_line():
    reading = Reading([one_read(3, 40 * k, 0) for k in range(5)])
    _, _, w, h = reading.digits[0].box

    def part(x, wide=w, high=h):
        return find.Part((x, 0, wide, high), np.ones((high, wide), np.uint8))

    assert reading.lacks([part(200)])
    assert not reading.lacks([part(41), part(200, wide=h // 4), part(200, high=h // 2), part(200, high=2 * h)])
    assert not reading.lacks([])


def test_a_reading_extends_another_if_it_has_all_of_it_and_more_of_its_rows():
    before = Reading([one_read(7, 0, 100), one_read(1, 40, 100)])
    same = [one_read(1, 42, 98, 18, 32), one_read(7, 1, 101)]
    assert extends(Reading([*same, one_read(4, 80, 100)]), before)
    assert extends(Reading([*same, *(one_read(k, 40 * k, 200) for k in range(3))]), before)  # a row of their own
    assert not extends(Reading(same), before)
    assert not extends(Reading([*same, one_read(4, 80, 200)]), before)  # a spot
    assert not extends(Reading([*same, one_read(4, 80, 100, 8, 10)]), before)
    assert not extends(Reading([same[1], one_read(4, 40, 100), one_read(4, 80, 100)]), before)  # it reads one otherwise
    assert not extends(Reading([*same, one_read(4, 80, 100), one_read(4, 80, 200)]), before)
