"""Pages with nothing written on them, in every light: nothing is read, however noise and light may look."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from experiments import pages
from experiments.reader import find, judge, search, steps
from experiments.reader.ink_reader import InkReader
from experiments.reader.nets import Nets
from experiments.reader.page import Reader
from experiments.reader.search import Sought
from tests.reader.made_up import one_read


def light_of(kind, height, width, rng):
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    x, y = x / width - 0.5, y / height - 0.5
    if kind == "slope":
        turn = rng.uniform(0, 2 * np.pi)
        return 1 - 0.3 * (x * np.cos(turn) + y * np.sin(turn) + 0.5)
    if kind == "corners":
        return 1 - 0.6 * ((x - 0.1) ** 2 + y**2)
    shadow = np.zeros((height, width), np.float32)
    points = (rng.uniform(0, 1, (5, 2)) * [width, height]).astype(np.int32)
    cv2.fillConvexPoly(shadow, cv2.convexHull(points), 1.0)
    return 1 - 0.3 * cv2.GaussianBlur(shadow, (0, 0), 0.03 * width)


def empty_page(kind, noise, shape=(900, 1200), seed=0):
    rng = np.random.default_rng(seed)
    gray = 225 * light_of(kind, *shape, rng)[..., None] * np.array([1.0, 0.98, 0.94])
    return (gray + noise * cv2.GaussianBlur(rng.normal(0, 1, (*shape, 3)), (0, 0), 0.6)).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("kind", ["slope", "corners", "shadow"])
@pytest.mark.parametrize(("noise", "shape"), [(2, (900, 1200)), (10, (700, 500)), (5, (1600, 1200))])
def test_on_an_empty_page_nothing_is_read(reader, kind, noise, shape):
    assert reader.read(empty_page(kind, noise, shape)).digits == []


def stroke(page, shades, *, width=6, blur=1.0):
    """The page with a stroke so many shades of gray darker, and where it is."""
    ink = np.zeros(page.shape[:2], np.float32)
    cv2.polylines(ink, [np.array([[100, 100], [160, 110], [120, 200]])], isClosed=False, color=1.0, thickness=width)
    ink = cv2.GaussianBlur(ink, (0, 0), blur)
    return (page - shades * ink[..., None]).clip(0, 255).astype(np.uint8), (ink > 0.5).astype(np.uint8)


@pytest.mark.parametrize(("shades", "noise", "blur"), [(25, 2, 1.0), (60, 8, 1.0), (60, 2, 4.0), (150, 40, 1.0)])
def test_strokes_end_in_a_step_though_faint_or_blurred_and_light_and_noise_do_not(shades, noise, blur):
    page, mask = stroke(empty_page("slope", noise, (500, 600)), shades, width=14, blur=blur)
    gray = find.to_gray(page)
    dark = (cv2.GaussianBlur(gray, (0, 0), 3) < np.median(gray)).astype(np.uint8)  # half of the page: where the light falls off
    grain = (gray < cv2.blur(gray, (31, 31)) - 2 * noise / 3).astype(np.uint8)  # the darkest of its noise
    steep = steps.steepness(gray)
    assert len(steps.outlined(find.parts(mask), steep)) == 1
    assert steps.outlined([max(find.parts(dark), key=lambda p: p.area)], steep) == []
    assert len(steps.outlined(find.parts(grain * (cv2.dilate(mask, np.ones((41, 41))) == 0)), steep)) <= 1


@pytest.mark.parametrize("kind", ["slope", "corners", "shadow"])
def test_nor_where_the_net_for_ink_takes_a_speck_of_noise_for_some(reader, monkeypatch, kind):
    def one_speck(_, picture):
        likely = np.zeros(picture.shape[:2], np.float32)
        likely[100:103, 200:202] = 0.95
        return likely

    monkeypatch.setattr(Nets, "ink_on", one_speck)
    assert reader.read(empty_page(kind, 2)).digits == []


@pytest.mark.parametrize("asked", [False, True])
def test_who_says_that_there_is_a_digit_gets_one_however_faint(reader, monkeypatch, asked):
    steep = []
    real = InkReader.read_single
    monkeypatch.setattr(InkReader, "read_single", lambda self, ink, s: steep.append(s is not None) or real(self, ink, s))
    picture = empty_page("slope", 5, (500, 600))
    picture[200:214, 300:302] -= 100  # a scratch
    reader.read(picture, single=asked)
    assert steep
    assert all(steep) is not asked


@pytest.mark.parametrize("kind", ["slope", "corners"])
def test_where_nothing_ends_in_a_step_few_guesses_are_made_and_many_where_something_low_does(reader, monkeypatch, kind):
    made = []
    real = find.guess
    monkeypatch.setattr(find, "guess", lambda *some, **how: made.append(some) or real(*some, **how))
    picture = empty_page(kind, 2)
    assert reader.read(picture).digits == []
    bare = len(made)
    picture[400 : 400 + judge.LOWEST, 600:603] -= 100
    made.clear()
    reader.read(picture)
    assert bare <= 2 < 8 <= len(made)


@pytest.mark.parametrize("kind", ["shadow", "rules", "mixed"])
def test_on_the_papers_of_pages_nothing_is_read(reader, digits, kind):
    for page in pages.make_pages(*digits, 24, 2, (kind,), on_page=(12, 12), empty=True):
        assert reader.read(page.image).lines() == page.rows == []


def test_ink_is_told_from_lines_and_edges_in_every_size(reader, clean):
    picture, _ = clean
    written = [digit.box for digit in reader.read(picture).digits]
    height, width = picture.shape[:2]
    picture = picture.copy()
    picture[:, : width // 2] //= 2  # a shadow's edge
    picture[height // 8] //= 2  # a rule
    lines = [(width // 2 - 5, 0, 10, height // 3), (20, height // 8 - 20, 60, 40), (width // 3, 0, width // 3, height // 10)]
    for factor in (0.7, 1, 5):
        sized = np.asarray(cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR), np.uint8)
        boxes = [tuple(round(side * factor) for side in box) for box in [*written, *lines]]
        ink = reader.nets.ink_in(sized, boxes)
        assert ink[: len(written)].min() > 0.6
        assert ink[len(written) :].max() < 0.2
        alone = [reader.nets.ink_in(sized, [box])[0] for box in boxes[:8]]  # then a part of the picture is looked at
        assert min(alone) > 0.6
    assert Nets(reader.nets.net).ink_in(picture, lines).tolist() == [1, 1, 1]
    assert reader.nets.ink_in(picture, []).tolist() == []


def test_what_was_seen_to_be_ink_on_the_whole_picture_is_not_looked_at_again(clean, reader, monkeypatch):
    picture, rows = clean
    asked = []
    monkeypatch.setattr(Nets, "ink_in", lambda _, picture, boxes, *high: asked.extend(boxes) or np.ones(len(boxes)))
    assert reader.read(picture).lines() == rows
    assert asked == []
    some = [replace(one_read(1, 40 * k, 50), ink=ink) for k, ink in enumerate((0.85, 0.75, 0.0))]
    assert len(reader._on_ink(picture, some)) == 3
    assert asked == [digit.box for digit in some[1:]]


def test_ink_seen_on_a_part_of_the_picture_is_looked_at_on_the_whole(clean, reader, monkeypatch):
    """The part's own edge, or that of the page put around a row, may have been seen."""
    picture, _ = clean
    whole, _ = reader._read_picture(picture, Sought())
    part, _ = reader._read_place((picture, (3, 5)), Sought())
    assert [d.digit for d in part.digits] == [d.digit for d in whole.digits]
    assert min(d.ink for d in whole.digits) > 0.8
    assert {d.ink for d in part.digits} == {0.0}
    looked = []
    real = Reader._on_ink
    monkeypatch.setattr(Reader, "_on_ink", lambda *some: looked.append({d.ink > 0 for d in some[-1]}) or real(*some))
    monkeypatch.setattr(search, "ink_of_two_shades", lambda _: None)  # with page around it the row is of two
    row = [d.box for d in whole.digits if d.box[1] < 200]
    assert len(row) == 9
    reader.read(picture[min(y for _, y, _, _ in row) - 20 : max(y + h for _, y, _, h in row) + 20])
    assert looked == [{True}, {True}, {False}]  # the row, the page around it, and what of that is on the row
