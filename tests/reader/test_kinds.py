"""Pages of every kind, read whole."""

import cv2
import numpy as np
import pytest

from experiments import pages
from experiments.paper import make_page
from experiments.reader import find, split


def test_touching_digits_are_read_as_pairs(digits, reader):
    rng = np.random.default_rng(0)
    right = pairs = 0
    for k in range(2):
        page = make_page(*digits, list(range(30 * k, 30 * k + 30)), "touching", rng)
        counted = pages.count(page, reader.read(page.image))
        right, pairs = right + counted["pairs_right"], pairs + counted["pairs"]
    assert pairs > 15
    assert right >= 0.8 * pairs  # 0.6 where each is cut and the halves are read
    assert any(d.image.shape == (28, 40) for d in reader.read(page.image).digits)


@pytest.mark.parametrize("difficulty", ["light", "shadow", "rules", "slant", "rough", "dark", "small"])
def test_pages_of_every_kind(digits, reader, difficulty):
    page = make_page(*digits, list(range(100, 130)), difficulty, np.random.default_rng(8))
    lines = reader.read(page.image).lines()
    rows = page.truth()["rows"]
    assert len(lines) == len(rows)
    wrong = sum(a != b for row, line in zip(rows, lines, strict=True) for a, b in zip(row, line, strict=False))
    assert wrong + abs(sum(map(len, rows)) - sum(map(len, lines))) <= 3


def test_ink_fainter_than_the_squares_is_read(clean, reader):
    gray = clean[0].astype(np.float32)
    gray = np.median(gray) - 0.35 * (np.median(gray) - gray)
    for at in range(0, gray.shape[1], 30):
        gray[at : at + 2] = gray[:, at : at + 2] = 60
    assert reader.read(cv2.GaussianBlur(gray, (0, 0), 0.7).astype(np.uint8)).lines() == clean[1]


def test_digits_on_the_lines_of_a_frame_are_not_lost_with_it(clean, reader):
    boxes = np.array([digit.box for digit in reader.read(clean[0]).digits])
    left, top = boxes[:, :2].min(0) - 20
    right, bottom = (boxes[:, :2] + boxes[:, 2:]).max(0) + np.array([20, -6])
    page = cv2.rectangle(clean[0].copy(), (int(left), int(top)), (int(right), int(bottom)), (90, 90, 90), 3)
    assert reader.read(page).lines() == clean[1]


def test_shadows_as_wide_as_a_finger_hide_no_digit(digits, reader):
    page = make_page(*digits, list(range(12, 36)), "clean", np.random.default_rng(0))
    height, width = page.image.shape[:2]
    light = np.ones((height, width), np.float32)
    for y in (height // 4, height // 2, height * 3 // 4):
        cv2.line(light, (0, y), (width, y + height // 10), 0.5, 40)
    light = cv2.GaussianBlur(light, (0, 0), 4)[..., None]
    assert reader.read((page.image * light).astype(np.uint8)).lines() == page.truth()["rows"]


def test_pieces_of_squares_do_not_hide_the_digits(digits, reader):
    page = make_page(*digits, list(range(8)), "rules", np.random.default_rng(118))
    assert reader.read(page.image).lines() == page.truth()["rows"]


@pytest.mark.parametrize(("first", "expected"), [(0.9995, 0.9995), (0.9985, (0.9985 + 4 * 0.6) / 5)])
def test_what_is_not_plain_is_looked_at_in_more_views(reader, monkeypatch, first, expected):
    mask = np.ones((30, 12), np.uint8)
    strength = np.pad(mask, 10).astype(np.float32)
    ink = find.Ink(strength, strength, 255 * (1 - strength), np.pad(mask, 10), light=False, name="drawn")
    seen = []

    def log_probs(images):
        sure = [0.6 if seen else first for _ in images]
        seen.extend(images)
        return [np.log([[(1 - one) / 9] * 7 + [one] + [(1 - one) / 9] * 2]).astype(np.float32) for one in sure]

    monkeypatch.setattr(reader.nets, "log_probs", log_probs)
    (found,) = reader.ink_reader._finish(ink, [split.Hypothesis((10, 10, 12, 30), mask)])
    assert (found.digit, found.confidence) == (7, pytest.approx(expected, abs=1e-5))
    assert found.image is seen[0]
    assert len({image.tobytes() for image in seen}) == (1 if first > 0.999 else 5)


@pytest.mark.parametrize("lean", [-0.5, 0.0, 0.5])
def test_either_digit_of_a_pair_has_its_own_box(reader, digits, lean):
    labels = digits.labels.tolist()
    for left, right in ((1, 0), (7, 1), (2, 4)):
        whose = np.zeros((2, 120, 300), np.uint8)  # as they are written: both lean to the left
        for mine, label, start in zip(whose, (left, right), (0, 1), strict=True):
            image = cv2.resize(digits.images[labels.index(label)], None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
            shear = np.array([[1, lean, 60.0], [0, 1, 4]])
            mine[...] = cv2.warpAffine(np.asarray(image > 127, np.uint8), shear, (300, 120))
            columns = np.flatnonzero(mine.any(0))
            mine[...] = np.roll(mine, -columns[0] + 20, 1)
            if start:  # slid to the left one until they touch
                meets = [k for k in range(200) if (np.roll(mine, k, 1) & whose[0]).any()]
                mine[...] = np.roll(mine, max(meets) - 1, 1)
        mask = whose[0] | whose[1]
        box = cv2.boundingRect(mask)
        x, y, w, h = box
        strength = mask.astype(np.float32)
        ink = find.Ink(strength, strength, 255 * (1 - strength), mask, light=False, name="drawn")
        pair = split.Hypothesis(box, mask[y : y + h, x : x + w], pair=True)
        found = reader.ink_reader._finish(ink, [pair], lean)
        assert [d.digit for d in found] == [left, right]
        for digit, mine in zip(found, whose, strict=True):
            assert pages.overlap(digit.box, cv2.boundingRect(mine)) > 0.6
