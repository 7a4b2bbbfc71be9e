"""What photographs of pages show beside the digits: a desk, a shadow that ends on the page, the rule that a digit stands on."""

import cv2
import numpy as np
import pytest

from experiments import mnist, pages
from experiments.paper import make_page
from experiments.reader.page import Reader
from experiments.reader.reading import Digit, written_on
from experiments.reader.rules import without_frames
from experiments.reader.sheet import find_sheet


def on_a_desk(page, shade):
    """A page on a desk, as the camera saw it, multiplied by the light on it, (h, w), from the page's corner on."""
    height, width = page.shape[:2]
    top, left = round(0.15 * height), round(0.15 * width)
    desk = np.full((height + 2 * top, width + 2 * left, 3), (120, 95, 70), np.float32)
    desk *= 1 + np.random.default_rng(1).normal(0, 0.15, (*desk.shape[:2], 1))
    desk[top : top + height, left : left + width] = page
    light = np.pad(shade, ((top, top), (left, left)), mode="edge")[..., None]
    return np.clip(desk * light, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("side", ["left", "right", "top", "bottom"])
def test_a_page_that_goes_on_in_shadow_on_one_side_is_a_doubtful_sheet(side):
    page = np.clip(np.array([240, 228, 205]) + np.random.default_rng(0).normal(0, 3, (500, 700, 1)), 0, 255)
    down, right = np.mgrid[:500, :700]
    dark = {"left": right < 250, "right": right > 450, "top": down < 180, "bottom": down > 320}[side]
    assert find_sheet(on_a_desk(page, np.where(dark, 0.4, 1.0))).doubtful
    assert not find_sheet(on_a_desk(page, np.ones((500, 700)))).doubtful  # what is around it is the desk


def test_digits_in_the_shadow_are_read_where_the_lit_part_of_the_page_reads_surely(reader):
    training, _ = mnist.load()
    page = make_page(training.images[-500:], training.labels[-500:], list(range(12)), "clean", np.random.default_rng(1))
    height, width = page.image.shape[:2]
    bare = np.full((height, width, 3), np.median(page.image, axis=(0, 1)))
    wide = np.hstack([page.image, bare]) + np.random.default_rng(2).normal(0, 2, (height, 2 * width, 1))
    middle, size = (round(1.5 * width), round(0.8 * height)), (round(0.03 * height), round(0.05 * height))
    cv2.ellipse(wide, middle, size, 0, 0, 360, (40, 40, 40), 6)  # the only digit in the light, a sure one
    shade = np.where(np.arange(2 * width) < 1.1 * width, 0.4, 1.0)[None].repeat(height, 0)
    assert reader.read(on_a_desk(wide, shade)).lines() == [*page.truth()["rows"], "0"]


def test_a_1_in_the_shadow_that_continues_a_row_is_written_on_the_page():
    def digit(value, x, y, confidence=1.0):
        return Digit((x, y, 20, 30), value, confidence, 5, 0.0, np.zeros((28, 28), np.float32))

    lit = np.zeros((400, 400), np.uint8)
    lit[100:300, 100:300] = 1
    on = [digit(3, x, y) for y in (150, 200) for x in (200, 235, 270)]
    next_one = digit(1, 305, 152, 0.85)
    assert written_on(lit, [*on, next_one], goes_on=True) == [*on, next_one]
    assert written_on(lit, [*on, next_one]) == on  # the edge of a sheet
    for grain in digit(1, 305, 175), digit(1, 305, 152, 0.6), digit(1, 60, 330):
        assert written_on(lit, [*on, grain], goes_on=True) == on


def test_a_piece_of_a_rule_within_a_0_makes_no_frame_of_it():
    zero = np.zeros((600, 500), np.uint8)
    cv2.ellipse(zero, (250, 300), (170, 240), 0, 0, 360, 1, 36)
    cv2.line(zero, (150, 310), (350, 322), 1, 12)  # the rest of the rule is fainter than the ink beside it
    assert without_frames(zero) is None
    framed = zero * 0
    cv2.ellipse(framed, (250, 300), (170, 240), 0, 0, 360, 1, 12)
    cv2.line(framed, (260, 200), (250, 400), 1, 12)
    assert without_frames(framed) is not None  # a ring about a 1


def test_a_net_finds_faint_ink_on_squares_in_shadow_and_grain(reader):
    training, _ = mnist.load()
    page = make_page(training.images[-500:], training.labels[-500:], list(range(12)), "clean", np.random.default_rng(1))
    height, width = page.image.shape[:2]
    paper = np.median(page.image, axis=(0, 1))
    faint = paper + 0.25 * (page.image - paper)
    squares = np.zeros((height, width), np.uint8)
    for at in range(45, max(height, width), 90):
        cv2.line(squares, (0, at), (width, at), 255, 2, cv2.LINE_AA)
        cv2.line(squares, (at, 0), (at, height), 255, 2, cv2.LINE_AA)
    blue = 1 - squares[..., None] / 255 * np.array([0.4, 0.3, 0.12])
    down, right = np.mgrid[:height, :width]
    light = 1 - 0.7 / (1 + np.exp(25 * (1 - down / height - right / width)))
    grain = 0.03 * 255 * np.random.default_rng(0).standard_normal((height, width, 1))
    picture = np.clip(faint * blue * light[..., None] + grain, 0, 255).astype(np.uint8)
    assert reader.read(picture).lines() == page.truth()["rows"]
    by_rules = Reader(reader.nets.net, reader.nets.pairs).read(picture)
    counted = pages.count(page, by_rules)
    assert counted["right"] < 9
    assert counted["rows_right"] == 0


def test_a_deep_shadow_with_a_soft_edge_hides_no_digit(reader, digits):
    page = make_page(*digits, list(range(30)), "clean", np.random.default_rng(2))
    light = 0.5 - 0.4 / (1 + np.exp(30 * (np.linspace(0, 1, page.image.shape[1]) - 0.35)))[None, :, None]
    picture = page.image * light + np.random.default_rng(0).normal(0, 2, page.image.shape)
    assert reader.read(picture.clip(0, 255).astype(np.uint8)).lines() == page.truth()["rows"]


def test_digits_in_a_round_light_are_read(reader, clean):
    picture, rows = clean
    wide = cv2.copyMakeBorder(picture, 300, 300, 300, 300, cv2.BORDER_REPLICATE).astype(float)
    height, width = wide.shape[:2]
    down, right = np.mgrid[:height, :width]
    away = np.hypot((right - width / 2) / (0.5 * (width - 600)), (down - height / 2) / (0.5 * (height - 600)))
    light = 1 - 0.85 / (1 + np.exp(40 * (1 - away)))[..., None]
    noise = np.random.default_rng(0).normal(0, 2, wide.shape)
    assert reader.read((wide * light + noise).clip(0, 255).astype(np.uint8)).lines() == rows
