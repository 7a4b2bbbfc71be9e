"""Pictures of two shades: digits that are drawn, scanned or MNIST's own images, read as all the ink that is there."""

import cv2
import numpy as np
import pytest

from experiments import mnist
from experiments.reader import find, size
from experiments.reader.drawn import ink_of_two_shades
from experiments.reader.ink_reader import InkReader
from experiments.reader.judge import only_digit, plausible, unlike
from experiments.reader.reading import Digit, Reading
from experiments.reader.sheet import find_sheet
from experiments.reader.split import together

FORMS = ["as it is", "dark on light", "enlarged, a line along two edges", "dark on light, likewise"]
# Of the last 5,000 training images, in each form: edges and holes of their strokes were taken for ink, and strokes for page.
KEPT_OUT = [[55008, 55088, 55200, 55296, 55352, 55360], [55089], [55010, 55046, 55122, 55294, 55306, 55314], [55039, 55167]]


def in_form(image, form):
    """(28, 28) -> a picture."""
    picture = np.repeat(image[..., None], 3, axis=2)
    if form > 1:
        picture = cv2.resize(picture, None, fx=8, fy=8, interpolation=cv2.INTER_NEAREST)
        picture[-1] = picture[:, -1] = 255
    return 255 - picture if form % 2 else picture


def drawn(*strokes, pen=30, size=(300, 300)):
    """Strokes of black ink, each a list of points, on a white page."""
    page = np.full((*size, 3), 255, np.uint8)
    for stroke in strokes:
        cv2.polylines(page, [np.array(stroke)], False, (0, 0, 0), pen, cv2.LINE_AA)
    return page


def ink_on(picture):
    return ink_of_two_shades(find.to_gray(size.fit(picture)[0]))


@pytest.mark.parametrize("form", range(4), ids=FORMS)
@pytest.mark.parametrize("single", [False, True])
def test_images_of_mnist_are_read_whole(reader, form, single):
    digits, _ = mnist.load()
    chosen = KEPT_OUT[form]
    read = ["".join(reader.read(in_form(digits.images[i], form), single=single).lines()) for i in chosen]
    assert read == [str(digits.labels[i]) for i in chosen]


@pytest.mark.parametrize("light", [False, True])
def test_all_that_differs_from_a_page_of_one_shade_is_ink(light):
    page = drawn([(150, 60), (150, 240)], [(60, 150), (240, 150)], pen=50)  # wide strokes, with no page between their edges
    page[-2:] = page[:, -2:] = 0  # a line along two edges is none
    ink = ink_on(255 - page if light else page)
    assert (ink.light, ink.all_ink) == (light, True)
    assert ink.mask[3 * 60 : 3 * 240, 3 * 130 : 3 * 170].all()
    assert not ink.mask[:, -30:].any()
    assert not ink.mask[-30:].any()


def photographed(page):
    """As a camera sees it: light that falls off by a tenth from one side to the other, and noise."""
    light = np.linspace(1, 0.9, page.shape[1])[None, :, None]
    noise = np.random.default_rng(0).normal(0, 3, page.shape)
    return np.clip(page * light * 0.9 + noise, 0, 255).astype(np.uint8)


def test_where_more_than_two_shades_are_no_page_is_taken_for_one():
    stroke = [(80, 60), (80, 240)]
    page = drawn(stroke)
    assert ink_on(page) is not None
    assert ink_on(photographed(page)) is None
    faint = page.copy()
    cv2.line(faint, (200, 80), (200, 220), (190, 190, 190), 8)  # pencil beside a marker
    assert ink_on(faint) is None
    speck = page.copy()
    cv2.circle(speck, (200, 150), 4, (190, 190, 190), -1)
    assert ink_on(speck) is not None
    assert ink_on(np.full_like(page, 255)) is None
    assert ink_on(255 - (255 - page) // 8) is None  # next to no ink


def test_a_wide_shadow_with_ink_in_it_is_none_itself():
    lit, dark = [(200, 60), (200, 240)], [(60, 60), (60, 240)]
    light = 1 - 0.6 / (1 + np.exp((np.arange(300) - 120) / 6))[None, :, None]
    for strokes, seen in (([lit, dark], False), ([lit], True)):  # a shadow alone may be a stroke, though a very wide one
        page = drawn(*strokes, pen=10) * light
        for shown in page, 255 - page:
            assert (ink_on(shown.astype(np.uint8)) is not None) is seen


@pytest.mark.parametrize("light", [False, True])
def test_a_sheet_or_square_with_something_on_it_is_no_ink(light):
    board = np.full((300, 300, 3), 255, np.uint8)
    cv2.fillPoly(board, [np.array([(60, 40), (250, 55), (240, 260), (50, 240)])], (0, 0, 0))
    board = 255 - board if light else board
    assert ink_on(board) is not None  # it may be a stroke, though a very wide one
    shade = 0 if light else 255
    assert ink_on(cv2.line(board, (150, 100), (150, 200), (shade,) * 3, 20)) is None
    zero = cv2.ellipse(np.full((300, 300, 3), 255, np.uint8), (150, 150), (60, 90), 0, 0, 360, (0, 0, 0), 45)
    assert ink_on(255 - zero if light else zero) is not None
    round_one = cv2.ellipse(np.full((300, 300, 3), 255, np.uint8), (150, 150), (90, 120), 0, 0, 360, (0, 0, 0), -1)
    for x in (110, 150, 190):  # two holes may be those of an 8
        assert ink_on(255 - round_one if light else round_one) is not None
        cv2.line(round_one, (x, 120), (x, 180), (255,) * 3, 10)
    assert ink_on(255 - round_one if light else round_one) is None
    zero[70, 130:180:10] = 255  # specks in its stroke
    assert ink_on(255 - zero if light else zero) is not None


def test_a_digit_that_runs_off_a_picture_of_two_shades_is_whole(reader):
    five = drawn([(110, 60), (100, 140)], [(130, 40), (230, 30)], pen=16, size=(300, 260))
    cv2.ellipse(five, (130, 215), (70, 78), 0, -125, 150, (0, 0, 0), 16, cv2.LINE_AA)  # past the lower edge
    parts = find.parts(ink_on(five).mask)
    shape = ink_on(five).mask.shape
    assert len(parts) > 1
    assert len(only_digit(parts, shape, all_ink=True)) == len(plausible(parts, shape, [], all_ink=True)[0]) == len(parts)
    assert len(only_digit(parts, shape)) < len(parts) > len(plausible(parts, shape, [])[0])
    for single in (False, True):
        assert reader.read(five, single=single).lines() == ["5"]


def test_a_1_along_the_edge_is_no_frame(reader):
    one = drawn([(6, 50), (6, 250)], [(22, 60), (36, 75)], pen=12)
    assert reader.read(drawn([(6, 50), (6, 250)], pen=12)).lines() == ["1"]
    parts, shape = find.parts(ink_on(one).mask), ink_on(one).mask.shape
    assert len(only_digit(parts, shape, all_ink=True)) == 2
    assert len(only_digit(parts, shape)) == 1


def test_a_wide_light_stroke_is_no_sheet(reader):
    one = 255 - drawn([(150, 60), (140, 240)], pen=60)
    assert find_sheet(one) is not None
    assert reader.read(one).lines() == ["1"]


@pytest.mark.parametrize(("size", "kept"), [(290, True), (10, False)], ids=["a digit", "a frame"])
def test_a_digit_may_fill_a_picture_of_two_shades_and_a_frame_may_not(size, kept):
    mask = np.ones((300, 300), np.uint8)
    mask[5:-5, 5:-5] = 0
    mask[:, :size] = 1
    filling, digit = find.parts(mask)[0], find.Part((100, 100, 60, 100), np.ones((100, 60), np.uint8))
    found, shape = [filling, digit], mask.shape
    assert any(part is filling for part in plausible(found, shape, [], all_ink=True)[0]) == kept
    assert not any(part is filling for part in plausible(found, shape, [])[0])


@pytest.mark.parametrize("turn", range(4))
def test_between_a_light_and_a_dark_side_lies_a_shadows_edge_but_on_a_page_of_one_shade(turn):
    gray = np.full((200, 200), 250, np.float32)
    gray[:, 100:] = 60
    mask = np.zeros((200, 200), np.uint8)
    mask[50:150, 95:105] = 1
    gray, mask = np.rot90(gray, turn), np.rot90(mask, turn).copy()
    stroke = together(find.parts(mask))
    for all_ink in (False, True):
        ink = find.Ink(mask.astype(np.float32), mask.astype(np.float32), gray, mask, False, "", all_ink=all_ink)
        assert bool(unlike([stroke], ink, [0.5])[0] > 1) != all_ink


@pytest.mark.parametrize("turn", range(4))
def test_a_digit_beside_another_has_no_dark_side(turn):
    mask = np.zeros((200, 200), np.uint8)
    mask[50:150, 95:105] = mask[50:150, 84:91] = 1
    mask = np.rot90(mask, turn).copy()
    gray = np.where(mask, 20, 250).astype(np.float32)
    stroke = together(sorted(find.parts(mask), key=lambda part: part.area)[1:])
    ink = find.Ink(mask.astype(np.float32), mask.astype(np.float32), gray, mask, False, "")
    assert unlike([stroke], ink, [0.5])[0] < 0.01


def test_an_unsure_digit_is_given_where_it_can_be_no_shadow(reader, monkeypatch):
    unsure = Digit((60, 40, 50, 90), 7, 0.4, 1, 0.3, np.zeros((28, 28), np.float32))
    monkeypatch.setattr(InkReader, "read", lambda *_: (Reading([unsure]), 0.0, False))
    monkeypatch.setattr(InkReader, "read_single", lambda *_: (Reading(), 0.0, False))
    page = drawn([(80, 60), (80, 240)])
    assert reader.read(page).lines() == ["7"]
    assert reader.read(photographed(page)).lines() == []
