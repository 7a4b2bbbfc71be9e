"""What is not as pages are: a row or column cut out of one, something far higher than the digits, a row in another pen."""

import cv2
import numpy as np
import pytest

from experiments import mnist
from experiments.reader import judge, strip
from experiments.reader.draw import annotated
from experiments.reader.find import Ink
from experiments.reader.judge import is_cross, without_long
from experiments.reader.reading import Digit, Reading, clearer
from experiments.reader.rules import without_rules


@pytest.fixture(scope="module")
def digits():
    return mnist.load()[0]


class Paper:
    """An empty page to write digits of the last 5,000 training images on, in gray ink."""

    def __init__(self, digits, height, width):
        self.digits, self.ink = digits, np.zeros((height, width), np.float32)

    def write(self, which, x, y, height, *, down=False, bold=0):
        """Write digits from (x, y) on; give them as text."""
        for i in which:
            image = self.digits.images[i]
            ys, xs = np.nonzero(image > 60)
            digit = image[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1] / np.float32(255)
            digit = cv2.resize(digit, None, fx=height / 20, fy=height / 20, interpolation=cv2.INTER_CUBIC).clip(0, 1)
            if bold:
                digit = cv2.dilate(digit, np.ones((bold, bold), np.uint8))
            h, w = digit.shape
            self.ink[y : y + h, x : x + w] = np.maximum(self.ink[y : y + h, x : x + w], digit)
            x, y = (x, y + h + height // 4) if down else (x + w + height // 5, y)
        return "".join(str(self.digits.labels[i]) for i in which)

    def picture(self):
        gray = 230 - 170 * self.ink + np.random.default_rng(0).normal(0, 3, self.ink.shape)
        return np.repeat(gray.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)

    def cut(self, margin):
        """The picture with so much page around its ink; it must have been written further from the page's border."""
        ys, xs = np.nonzero(self.ink > 0.3)
        rows = slice(ys.min() - margin, ys.max() + margin + 1)
        return np.ascontiguousarray(self.picture()[rows, xs.min() - margin : xs.max() + margin + 1])


def chosen(seed, count):
    return np.random.default_rng(seed).integers(55_000, 60_000, count)


@pytest.mark.parametrize("seed", [0, 3, 6, 14, 20, 33])  # on all of them strokes were taken for ruled lines
@pytest.mark.parametrize("margin", [4, 12])
def test_a_row_cut_out_of_a_page_is_read_whole(reader, digits, seed, margin):
    paper = Paper(digits, 200, 1300)
    text = paper.write(chosen(seed, 7), 60, 50, 100)
    picture = paper.cut(margin)
    reading = reader.read(picture)
    assert reading.lines() == [text]
    for x, y, w, h in (digit.box for digit in reading.digits):
        assert min(x, y) >= 0
        assert (x + w <= picture.shape[1], y + h <= picture.shape[0]) == (True, True)
        assert picture[y : y + h, x : x + w].min() < 100  # there is its ink


@pytest.mark.parametrize("seed", [2, 9, 11, 23])
def test_so_is_a_column(reader, digits, seed):
    paper = Paper(digits, 900, 300)
    text = paper.write(chosen(seed, 5), 90, 60, 100, down=True)
    assert reader.read(paper.cut(10)).lines() == list(text)


@pytest.mark.parametrize(("rows", "height", "times"), [(4, 60, 1), (1, 60, 1), (1, 100, 2)])
def test_a_wide_page_with_room_for_more_rows_is_read_once(reader, digits, monkeypatch, rows, height, times):
    paper, read = Paper(digits, 420, 1300), []
    for i in range(rows):
        paper.write(chosen(20 + i, 8), 80, 30 + 95 * i, height)
    once = reader._read_page
    monkeypatch.setattr(reader, "_read_page", lambda *given, **options: read.append(given) or once(*given, **options))
    reader.read(paper.picture())
    assert len(read) == times


@pytest.mark.parametrize(("strokes", "times"), [([], 1), ([(300, 60, 2, 2)], 1), ([(300, 60, 3, judge.LOWEST)], 2)])
def test_an_empty_strip_is_read_once(reader, digits, monkeypatch, strokes, times):
    picture, read = Paper(digits, 120, 1300).picture(), []
    for x, y, w, h in strokes:
        picture[y : y + h, x : x + w] = 60
    monkeypatch.setattr(reader, "_read_page", lambda *given, **_: (read.append(given), Reading())[1])
    assert reader.read(picture).digits == []
    assert len(read) == times


@pytest.mark.parametrize("across", [False, True])
def test_a_strip_gets_the_page_of_either_side_and_stays_as_it_is(across):
    shade = np.linspace(90, 200, 400).astype(np.uint8)
    picture = np.repeat(np.repeat(shade[None, :, None], 60, axis=0), 3, axis=2)
    picture[20:40, 100:108] = 10  # a stroke
    given = picture.transpose(1, 0, 2) if across else picture
    page, (x, y) = strip.with_page(np.ascontiguousarray(given))
    if across:
        page, x, y = page.transpose(1, 0, 2), y, x
    assert (page.shape, x, y) == ((300, 400, 3), 0, 120)
    assert np.array_equal(page[120:180], picture)
    assert np.abs(page[:120, ..., 0].astype(int) - shade).max() < 12  # the stroke is not drawn out, the light is
    assert np.array_equal(page[0], page[-1])


@pytest.mark.parametrize("shape", [(100, 189), (189, 100), (1600, 1200), (50, 50)])
def test_other_pictures_get_nothing(shape):
    picture = np.zeros((*shape, 3), np.uint8)
    assert strip.with_page(picture) == (picture, (0, 0))


@pytest.mark.parametrize(("box", "on"), [
    ((5, 130, 20, 30), (5, 10, 20, 30)),
    ((5, 100, 20, 30), (5, 0, 20, 10)),  # half of it is above
    ((5, 170, 20, 30), (5, 50, 20, 10)),
    ((5, 10, 20, 30), (5, 0, 20, 1)),  # all of it
    ((5, 200, 20, 30), (5, 59, 20, 1)),
])  # fmt: skip
def test_boxes_are_on_the_picture(box, on):
    assert strip.on_picture(box, (0, 120), (60, 400)) == on


@pytest.mark.parametrize("thing", ["pen", "line"])
def test_what_is_far_higher_than_the_digits_hides_none(reader, digits, thing):
    paper = Paper(digits, 900, 1200)
    rows = [paper.write(chosen(seed, 7), 150, 60 + 150 * seed, 60) for seed in range(5)]
    shapes = {
        "pen": ([(900, 40), (1010, 860)], 42),
        "line": ([(850, 30), (838, 870)], 7),
    }
    points, wide = shapes[thing]
    cv2.polylines(paper.ink, [np.array(points)], False, 1.0, wide, cv2.LINE_AA)
    assert reader.read(paper.picture()).lines() == rows


def test_labels_hide_no_digit_of_a_strip():
    """The second one's label goes below, as the first's is in its place."""
    strip_of = np.full((90, 900, 3), 77, np.uint8)
    boxes = [(100, 0, 60, 90), (165, 2, 60, 88), (500, 30, 60, 59)]
    drawn = annotated(strip_of, Reading([Digit(box, 8, 0.99, 3, 0.01, np.zeros((28, 28), np.float32)) for box in boxes]))
    above = int(np.argmax((drawn[:, 890] == 77).all(axis=1)))
    assert np.array_equal(drawn[above : above + 90, 600:], strip_of[:, 600:])
    for x, y, w, h in boxes:
        inside = drawn[above + y + 6 : above + y + h - 6, x + 6 : x + w - 6]
        assert (inside == 77).all()


def test_pictures_with_room_get_no_margin():
    picture = np.full((600, 900, 3), 77, np.uint8)
    one = Digit((100, 300, 60, 90), 8, 0.99, 3, 0.01, np.zeros((28, 28), np.float32))
    assert annotated(picture, Reading([one])).shape == picture.shape == annotated(picture, Reading()).shape


def ink_of(heights):
    """Ink in bars of these heights, side by side."""
    mask = np.zeros((1000, 40 * len(heights)), np.uint8)
    for i, height in enumerate(heights):
        mask[10 : 10 + height, 40 * i : 40 * i + 10] = 1
    gray = 255 - 200 * mask.astype(np.float32)
    return Ink(mask.astype(np.float32), mask.astype(np.float32), gray, mask, False, "bars")


@pytest.mark.parametrize(("heights", "left_out"), [
    ([900, 60, 60, 62, 58, 60], True),
    ([900, 850, 60, 60, 62, 58, 60], True),  # both
    ([170, 60, 60, 62, 58, 60], False),  # three digits above one another are as high
    ([900, 60, 60, 62, 58], False),  # too few to tell
    ([900, 10, 200, 22, 90, 45], False),  # nor are these of like height
    ([900, 900, 900, 900, 60, 60, 62, 58, 60], False),  # a row of high digits
    ([900, 5, 5, 5, 5, 5, 5], False),  # specks
    ([60, 60, 60, 60, 60, 60], False),
])  # fmt: skip
def test_what_is_long_is_left_out_beside_several_of_like_height(heights, left_out):
    low = without_long(ink_of(heights))
    assert (low is not None) == left_out
    if low is not None:
        assert np.array_equal(np.unique(low.mask.sum(0)), [0, *sorted({h for h in heights if h < 100})])


def test_a_title_in_a_bold_pen_is_read_beside_small_digits(reader, digits):
    paper = Paper(digits, 1100, 1200)
    title = paper.write(chosen(4, 5), 100, 60, 110, bold=7)
    rows = [paper.write(chosen(10 + i, 8), 100, 380 + 110 * i, 45) for i in range(6)]
    assert reader.read(paper.picture()).lines() == [title, *rows]


@pytest.mark.parametrize("share", [0.33, 0.5])
def test_the_back_of_the_sheet_that_shines_through_is_not_read(reader, digits, share):
    """It is in rows of digits that are alike, too, and some mirrored ones read surely: any 0 and 8."""
    paper, back = Paper(digits, 900, 1200), Paper(digits, 900, 1200)
    rows = []
    for i in range(5):
        rows.append(paper.write(chosen(20 + i, 8), 100, 60 + 160 * i, 60))
        back.write(chosen(40 + i, 8), 100, 140 + 160 * i, 60)
    paper.ink = np.maximum(paper.ink, share * cv2.GaussianBlur(back.ink[:, ::-1], (0, 0), 1.5))
    assert [len(line) for line in reader.read(paper.picture()).lines()] == list(map(len, rows))


@pytest.mark.parametrize("share", [0.33, 0.5])
def test_rows_in_a_fainter_pen_are_read(reader, digits, share):
    """Ones, too, of which a lonely faint one would be a shadow's edge."""
    paper, pencil = Paper(digits, 900, 1200), Paper(digits, 900, 1200)
    ones = np.flatnonzero(digits.labels == 1)[-8:]
    rows = [
        (pencil if i in (1, 4) else paper).write([*chosen(80 + i, 6), *ones[i : i + 2]], 100, 60 + 130 * i, 60)
        for i in range(6)
    ]
    paper.ink = np.maximum(paper.ink, share * pencil.ink)
    assert reader.read(paper.picture()).lines() == rows


def cross(width, height, *, turned=0, pen=5):
    """A plus sign or, turned, another pair of strokes that cross, without page around it."""
    picture = np.zeros((2 * height, 2 * width), np.uint8)
    at, along = np.array([width, height]), np.array([width, height]) / 2 - pen / 2
    for angle in np.deg2rad([turned, turned + 90]):
        way = np.array([np.cos(angle), np.sin(angle)])
        way = way / np.abs(way).max() * along
        cv2.line(picture, tuple(np.round(at - way).astype(int)), tuple(np.round(at + way).astype(int)), 1, pen)
    x, y, w, h = cv2.boundingRect(picture)
    return picture[y : y + h, x : x + w].copy()


@pytest.mark.parametrize("turned", [0, 10, -10, 45, 55])
@pytest.mark.parametrize(("width", "height"), [(40, 40), (30, 44), (48, 34)])
def test_a_low_cross_is_a_sign(width, height, turned):
    mask = cross(width, height, turned=turned)
    assert is_cross(mask, 60.0)
    assert not is_cross(mask, float(len(mask)))  # as high as the digits: a 4 may look like it


def test_strokes_that_do_not_cross_or_are_three_are_none():
    high, four = cross(36, 56), cross(60, 60)
    assert is_cross(high, 90.0)
    assert not is_cross(high[len(high) // 2 - 2 :], 90.0)  # a T
    assert is_cross(four, 90.0)
    cv2.line(four, (2, len(four) // 2), (four.shape[1] // 2, 2), 1, 5)
    assert not is_cross(four, 90.0)
    seven = np.zeros((32, 36), np.uint8)
    cv2.polylines(seven, [np.array([(3, 3), (31, 3), (1, 28)])], False, 1, 6)
    assert not is_cross(seven, 49.0)  # its strokes meet at a corner, as wide as the pen


def test_pluses_are_not_read(reader, digits):
    paper = Paper(digits, 700, 900)
    rows = []
    for i in range(5):
        y = 60 + 120 * i
        rows.append(paper.write(chosen(100 + i, 3), 80, y, 60) + paper.write(chosen(120 + i, 3), 480, y, 60))
        sign = cross(36, 36).astype(np.float32)
        paper.ink[y + 14 : y + 14 + len(sign), 370 : 370 + sign.shape[1]] = cv2.GaussianBlur(sign, (0, 0), 0.8)
    assert reader.read(paper.picture()).lines() == rows


@pytest.mark.parametrize("turned", [-2.5, 2.5])
def test_the_teeth_of_a_comb_are_no_ones(reader, digits, turned):
    paper = Paper(digits, 760, 1000)
    rows = []
    for y in range(100, 600, 170):
        rows.append("".join(paper.write([i], 120 + 100 * n, y, 60) for n, i in enumerate(chosen(300 + y, 7))))
        cv2.line(paper.ink, (95, y + 75), (795, y + 75), 0.6, 4)
        for x in range(95, 800, 100):
            cv2.line(paper.ink, (x, y + 30), (x, y + 75), 0.6, 4)
    paper.ink = cv2.warpAffine(paper.ink, cv2.getRotationMatrix2D((500, 380), turned, 1.0), (1000, 760))
    assert reader.read(paper.picture()).lines() == rows


@pytest.mark.parametrize(("places", "tops", "lean", "gone"), [
    ([100, 200, 300, 400, 500], [60] * 5, 0, True),
    ([100, 200, 400, 500], [60] * 4, 0, True),  # one is hidden
    ([100, 200, 300], [60] * 3, 0, False),  # too few to tell
    ([100, 200, 330, 400, 500], [60] * 5, 0, False),  # ones that somebody wrote
    ([100, 200, 300, 400, 500], [60, 70, 50, 75, 60], 0, False),
    ([100, 200, 300, 400, 500], [60] * 5, 14, False),
])  # fmt: skip
def test_strokes_on_a_line_are_teeth_if_they_are_alike_and_evenly_apart(places, tops, lean, gone):
    mask = np.zeros((400, 700), np.uint8)
    cv2.line(mask, (60, 100), (640, 100), 1, 3)
    for x, top in zip(places, tops, strict=True):
        cv2.line(mask, (x + lean, top), (x, 100), 1, 3)
    assert (without_rules(mask).sum() < 30) == gone


def test_of_strokes_taken_for_rules_a_surer_reading_of_more_is_believed():
    def reading(*found):
        return Reading([Digit((0, 0, 9, 9), digit, sure, 0, 0.0, np.zeros((28, 28), np.float32)) for digit, sure in found])

    pieces = reading((7, 0.98), (0, 0.99), (0, 0.97))
    assert clearer(reading(*[(8, 0.995)] * 4), pieces)
    assert not clearer(reading(*[(8, 0.995)] * 3), pieces)  # of no more
    assert not clearer(reading(*[(8, 0.96)] * 7), reading(*[(7, 0.91)] * 3))  # not sure enough: pieces of rules
    assert not clearer(reading(*[(8, 0.975)] * 7), pieces)  # less sure than those
    assert not clearer(reading(*[(1, 1.0)] * 7), pieces)  # ones are never sure
