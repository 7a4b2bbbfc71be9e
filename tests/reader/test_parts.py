"""Parts of ink: what can be a digit by its shape, what is grain, how far a hand leans."""

import cv2
import numpy as np
import pytest

from experiments.paper import make_page
from experiments.reader import find, ink_reader, split
from experiments.reader.judge import is_grain, lean, link, plausible, usual_height
from experiments.reader.nets import Nets
from experiments.reader.rules import guesses_at_ink


def test_what_stands_above_one_another_is_no_digit_in_two_pieces():
    def part(y, height):
        return find.Part((10, y, 40, height), np.ones((height, 40), np.uint8))

    unsure = np.array([0.5, 0.5])
    assert link([part(0, 100), part(105, 100)], unsure, 100.0) == [[0], [1]]
    assert link([part(0, 60), part(65, 60)], unsure, 100.0) == [[0, 1]]


def test_parts_of_three_rows_are_kept_and_lines_as_high_are_not():
    row = [find.Part((10 + 60 * i, 10, 40, 50), np.ones((50, 40), np.uint8)) for i in range(20)]

    def kept(width, height, y=10):
        high = find.Part((1500, y, width, height), np.ones((height, width), np.uint8))
        return len(plausible([*row, high], (800, 2000), [50] * 3)[0]) > len(row)

    assert kept(40, 200)
    assert not kept(40, 240)
    assert not kept(15, 200)
    assert kept(15, 145)
    assert not kept(40, 200, y=0)
    assert kept(40, 145, y=0)


def test_a_digit_much_higher_than_the_others_stays_whole(digits, reader):
    whole = 0
    for i in np.flatnonzero(digits.labels == 8)[:20]:
        page = np.zeros((260, 700), np.float32)
        for k, (index, high) in enumerate([(3, 112), (4, 112), (i, 180), (5, 112), (6, 112)]):
            y, x = (260 - high) // 2, 10 + 125 * k + 50 * (k > 2)
            ink = cv2.resize(digits.images[index].astype(np.float32), (high, high), interpolation=cv2.INTER_CUBIC).clip(0, 255)
            page[y : y + high, x : x + high] = np.maximum(page[y : y + high, x : x + high], ink)
        whole += reader.read((235 - 0.8 * page).astype(np.uint8)[..., None].repeat(3, 2)).lines() == ["67889"]
    assert whole >= 18


@pytest.mark.parametrize(("count", "blot_is_cut"), [(7, False), (3, True)])
def test_a_blot_beside_digits_is_not_cut(digits, reader, monkeypatch, count, blot_is_cut):
    ink, cut = np.zeros((400, 1000), np.float32), {}
    for k, i in enumerate(np.flatnonzero(np.isin(digits.labels, (2, 3, 5)))[:count]):
        ink[50:162, 20 + 130 * k : 132 + 130 * k] = cv2.resize(digits.images[i], (112, 112), interpolation=cv2.INTER_CUBIC)
    for k, i in enumerate(np.flatnonzero(digits.labels == 0)[:2]):  # two that touch
        zero = cv2.resize(digits.images[i], (112, 112), interpolation=cv2.INTER_CUBIC)
        ink[230:342, 100 + 55 * k : 212 + 55 * k] = np.maximum(ink[230:342, 100 + 55 * k : 212 + 55 * k], zero)
    cv2.ellipse(ink, (600, 290), (90, 55), 0, 0, 360, 255, -1)
    real = split.make_cluster

    def noted(parts, needed, contrast):
        for part, flag in zip(parts, needed, strict=True):
            if part.box[1] > 200:  # below the row
                blot = part.box[0] > 400
                cut[blot] = flag or cut.get(blot, False)
        return real(parts, needed, contrast)

    monkeypatch.setattr(split, "make_cluster", noted)
    page = find.Ink(ink / 255, ink / 255, 255 - ink, (ink > 100).astype(np.uint8), False, "made")
    ink_reader.InkReader(Nets(reader.nets.net)).read(page, [])  # without the net for pairs, which would spare a cut
    assert cut == {False: True, True: blot_is_cut}


def test_the_usual_height_is_that_of_what_reads_surely():
    def part(height):
        return find.Part((0, 0, 10, height), np.ones((height, 10), np.uint8))

    def read(digit, confidence):
        return np.log(np.full((1, 10), (1 - confidence) / 9) + (np.arange(10) == digit) * (confidence - (1 - confidence) / 9))

    sure = [(part(h), read(7, 0.99)) for h in (30, 32, 34)]
    others = [(part(99), read(7, 0.5)), (part(99), read(1, 0.99)), (part(90), read(1, 0.99)), (part(95), read(1, 0.99))]
    assert usual_height(*zip(*sure, *others, strict=True), 90.0, []) == 32
    assert usual_height(*zip(*sure[:2], *others, strict=True), 90.0, []) == 90
    assert usual_height(*zip(*sure[:2], *others, strict=True), 90.0, [40, 40, 40]) == 40


def test_a_blot_higher_than_the_known_digits_makes_them_no_specks():
    digits = [find.Part((50 + 40 * k, 300, 20, 30), np.ones((30, 20), np.uint8)) for k in range(10)]
    blot = find.Part((500, 100, 200, 300), np.ones((300, 200), np.uint8))
    assert plausible([*digits, blot], (800, 1000), [30] * 3) == (digits, 30.0)
    assert plausible([*digits, blot], (800, 1000), [30] * 2) == ([blot], 300.0)


def leaning(page, by):
    """The page with what is written on it sheared: `by` pixels to the right a pixel up."""
    height, width = page.shape[:2]
    shear = np.array([[1, -by, by * height], [0, 1, 0]])
    return cv2.warpAffine(page, shear, (round(width + by * height), height), borderMode=cv2.BORDER_REPLICATE)


def test_a_leaning_hand_is_set_upright(digits, reader, monkeypatch):
    page = make_page(*digits, list(range(252, 264)), "clean", np.random.default_rng(21))
    picture = leaning(page.image, 0.6)
    assert reader.read(picture).lines() == page.truth()["rows"]
    shears, by_hand = [], ink_reader.normalise
    monkeypatch.setattr(
        ink_reader, "normalise", lambda ink, *, shear, **how: shears.append(shear) or by_hand(ink, shear=shear, **how)
    )
    reader.read(picture)
    assert max(shears) < -0.1  # -0.5 but for the views: also where it is decided what to cut and to join


@pytest.mark.parametrize(("by", "expected"), [(0.0, 0.0), (0.3, 0.0), (0.5, 0.37), (-0.3, -0.43), (0.9, 0.5), (-0.9, -0.5)])
def test_how_far_a_hand_leans(by, expected):
    bar = np.zeros((60, 140, 3), np.uint8)
    bar[:, 65:75] = 1
    mask = leaning(bar, by)[..., 0]
    parts = [find.Part((100 * k, 0, mask.shape[1], 60), mask) for k in range(5)]
    small = [find.Part((0, 0, 30, 30), np.eye(30, dtype=np.uint8))] * 9  # of another hand, or no digits
    assert lean(parts + small, 60.0) == pytest.approx(expected, abs=0.02)
    assert lean(parts[1:] + small, 60.0) == 0.0


def test_many_parts_that_read_as_nothing_are_grain():
    parts = [find.Part((20 * k, 0, 15, 20 if k < 16 else 50), np.ones((20, 15), np.uint8)) for k in range(20)]
    nothing = np.where(np.arange(20) < 16, 0.39, 0.99)
    assert is_grain([], parts, nothing, 20.0)
    assert not is_grain([], parts, nothing + 0.02, 20.0)
    assert not is_grain([], parts[1:], nothing[1:], 20.0)  # a few
    assert is_grain(parts[:15], parts, nothing, 20.0)
    assert not is_grain(parts[:16] + parts[:1], parts, nothing, 20.0)  # with more digits that were read before
    wide = [find.Part((0, 0, 33, 20), np.ones((20, 33), np.uint8))] * 40  # runs of digits that touch read as none, either
    assert not is_grain([], wide, np.full(40, 0.1), 20.0)
    assert is_grain(wide, parts, nothing, 20.0)


def test_grain_is_not_taken_apart(reader, monkeypatch):
    page = np.full((700, 900, 3), 230, np.uint8)
    for place in range(24):  # scribbles, as high as digits
        corners = np.random.default_rng(place).uniform(0, 70, (9, 2))
        corners += np.array([60 + 140 * (place % 6), 60 + 160 * (place // 6)])
        cv2.polylines(page, [np.round(corners).astype(np.int32)], False, (40, 40, 40), 5, cv2.LINE_AA)
    assert not reader.read(page).digits
    monkeypatch.setattr(split, "hypotheses", None)  # not needed
    ink = next(guesses_at_ink(find.to_gray(page), single=False))
    assert not reader.ink_reader.read(ink, [])[0].digits
