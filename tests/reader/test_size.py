"""How large a picture is looked at: as its digits ask for; and by the net for ink a band at a time."""

import cv2
import numpy as np
import pytest
from PIL import Image

from experiments import mnist
from experiments.reader import find, load, nets, search, size
from experiments.reader.ink_reader import InkReader
from experiments.reader.reading import Reading
from experiments.reader.search import Search, Sought
from tests.reader.made_up import one_read


@pytest.fixture(scope="module")
def digits():
    return mnist.load()[0]


def written(digits, which, high, *, at=(150, 200), shape=(1200, 1600)):
    """Ink, 0 to 1, of rows of digits of one height, pixels, on a page; and the rows."""
    ink, text = np.zeros(shape, np.float32), []
    for row, some in enumerate(which):
        y, x = at[0] + 2 * high * row, at[1]
        for i in some:
            image = digits.images[i]
            ys, xs = np.nonzero(image > 60)
            digit = image[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1] / np.float32(255)
            wide = max(1, round(digit.shape[1] * high / len(digit)))
            ink[y : y + high, x : x + wide] = cv2.resize(digit, (wide, high), interpolation=cv2.INTER_CUBIC).clip(0, 1)
            x += wide + high // 3
        text.append("".join(str(digits.labels[i]) for i in some))
    return ink, text


def picture_of(ink):
    noise = np.random.default_rng(0).normal(0, 3, ink.shape)
    light = np.linspace(1, 0.7, ink.shape[1])
    return np.repeat(((235 - 170 * ink) * light + noise).clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


def some_rows(count=3, seed=0):
    return np.random.default_rng(seed).integers(55_000, 60_000, (count, 6)).tolist()


def test_boxes_lie_in_the_picture_and_are_never_empty():
    assert size.unfit((10, 20, 30, 41), 2.0, (40, 40, 3)) == (5, 10, 15, 20)
    assert size.unfit((10, 20, 1, 1), 8.0, (40, 40)) == (1, 2, 1, 1)
    assert size.unfit((79, 79, 1, 1), 2.0, (40, 40)) == (39, 39, 1, 1)  # half a pixel past the edge
    assert size.unfit((0, 70, 83, 13), 2.0, (40, 40)) == (0, 35, 40, 5)
    assert size.unfit((3, 4, 5, 6), 1.0, (40, 40)) == (3, 4, 5, 6)


def test_a_picture_is_shrunk_to_the_side_asked_for_and_a_small_one_enlarged():
    picture = np.zeros((600, 1200, 3), np.uint8)
    assert size.fit(picture, 1000)[0].shape == (500, 1000, 3)
    assert size.fit(picture) == (picture, 1.0)
    assert size.fit(picture[:300, :450], 1000)[0].shape == (600, 900, 3)
    assert size.fit(picture[:20, :40])[1] == 8.0


@pytest.mark.parametrize("high", [30, 50, 80, 140])
def test_the_side_goes_by_the_height_of_digits(digits, high):
    side = size.side_enough(picture_of(written(digits, some_rows(), high)[0]))
    as_high = 1600 * size.ENOUGH / high
    if as_high > 1600:
        assert side == size.LONG_SIDE
    else:
        assert max(size.WORKING_SIDE, 0.9 * as_high) <= side <= max(size.WORKING_SIDE, 1.3 * as_high)


@pytest.mark.parametrize("angle", [0.0, 3.0])
def test_squared_paper_does_not_hide_how_low_digits_are(digits, angle):
    ink, _ = written(digits, some_rows(), 50)
    grid = np.zeros((2400, 2400), np.float32)
    grid[::66], grid[1::66], grid[:, ::66], grid[:, 1::66] = 1, 1, 1, 1
    turn = cv2.getRotationMatrix2D((1200, 1200), angle, 1.0)
    ink = np.maximum(ink, cv2.warpAffine(grid, turn, (2400, 2400))[300:1500, 300:1900])
    assert size.side_enough(picture_of(ink)) > 1300


def test_nor_does_what_is_far_higher_than_any_digit_of_a_page(digits):
    ink, _ = written(digits, some_rows(), 50)
    ink[100:600, 1300:1340] = 1  # a pen that lies there
    assert size.side_enough(picture_of(ink)) > 1300


def test_nor_do_specks_make_a_page_of_large_digits_one_of_low_ones(digits):
    ink, _ = written(digits, some_rows(), 110)
    y, x = np.mgrid[0:1200, 0:1600]
    specks = (y % 26 < 10) & (x % 26 < 10) & (cv2.dilate(ink, np.ones((41, 41))) < 0.1)
    assert size.side_enough(picture_of(np.maximum(ink, specks))) < 1000


def test_a_page_of_many_digits_under_a_large_title_is_not_shrunk(digits):
    ink, _ = written(digits, some_rows(5), 34, at=(500, 200))
    title, _ = written(digits, some_rows(1, seed=1), 130, at=(150, 200))
    assert size.side_enough(picture_of(np.maximum(ink, title))) == size.LONG_SIDE


@pytest.mark.parametrize(("height", "width"), [(6, 6), (300, 1600), (1600, 9), (1200, 1600)])
def test_an_empty_page_is_looked_at_as_it_is(height, width):
    assert size.side_enough(picture_of(np.zeros((height, width)))) == size.LONG_SIDE
    assert size.side_enough(np.zeros((height, width, 3), np.uint8)) == size.LONG_SIDE


def test_large_digits_are_read_at_a_smaller_size_and_their_boxes_are_the_pictures(digits, reader, monkeypatch):
    ink, text = written(digits, some_rows(), 110)
    seen = []
    real = InkReader.read
    monkeypatch.setattr(InkReader, "read", lambda self, ink, *more: seen.append(max(ink.mask.shape)) or real(self, ink, *more))
    reading = reader.read(picture_of(ink))
    assert reading.lines() == text
    assert seen
    assert max(seen) < 1000
    for box in (d.box for d in reading.digits):
        x, y, w, h = box
        assert ink[y : y + h, x : x + w].max() > 0.9
        assert abs(h - 110) < 12


def test_where_digits_turn_out_to_be_low_the_picture_is_read_as_it_is(digits, reader, monkeypatch):
    ink, text = written(digits, some_rows(4), 38)
    sides = []
    real = Search.__init__
    monkeypatch.setattr(
        Search,
        "__init__",
        lambda self, nets, some, side, how: sides.append(side) or real(self, nets, some, side, how),
    )
    monkeypatch.setattr(size, "side_enough", lambda _: size.WORKING_SIDE)  # as where something on it is taken for digits
    assert reader.read(picture_of(ink)).lines() == text
    assert sides == [size.WORKING_SIDE, size.LONG_SIDE]
    sides.clear()
    assert reader.read(picture_of(np.zeros((1200, 1600)))).lines() == []
    assert sides[:2] == [size.WORKING_SIDE, size.LONG_SIDE]  # where nothing is found, too
    sides.clear()
    ink, text = written(digits, some_rows(), 110)
    assert reader.read(picture_of(ink)).lines() == text
    assert sides == [size.WORKING_SIDE]


def test_what_was_read_smaller_is_not_lost_for_nothing(reader, monkeypatch):
    some = [one_read(d, 40 * d, 50) for d in range(2, 6)]
    monkeypatch.setattr(size, "side_enough", lambda _: size.WORKING_SIDE)
    for larger, kept in ((some[:1], some), (some[:2], some[:2])):
        smaller = iter([(Reading(some), False), (Reading(larger), True)])
        monkeypatch.setattr(Search, "read", lambda _: next(smaller))  # noqa: B023
        reading, sure = reader._read_picture(np.zeros((1200, 1600, 3), np.uint8), Sought())
        assert (reading.digits, sure) == (kept, kept is not some)


def test_where_ink_of_two_shades_reads_as_nothing_other_guesses_are_tried(digits, reader, monkeypatch):
    ink, text = written(digits, some_rows(), 60)
    picture = picture_of(ink)
    assert reader.read(picture).lines() == text
    shapes = []
    band = np.zeros((900, 1200), np.uint8)  # as the picture is looked at first
    band[:300] = 1  # a light, say
    strength = band.astype(np.float32)
    drawn = find.Ink(strength, strength, 255 * strength, band, light=True, name="of two shades", all_ink=True)
    monkeypatch.setattr(search, "ink_of_two_shades", lambda gray: shapes.append(gray.shape) or drawn)
    assert reader.read(picture).lines() == text
    assert set(shapes) == {band.shape}


@pytest.mark.parametrize("height", [333, 128, 5])
def test_the_net_for_ink_sees_in_bands_what_it_sees_at_once(digits, reader, monkeypatch, height):
    picture = picture_of(written(digits, some_rows(), 60, at=(10, 10), shape=(400, 700))[0])[:height, :61]
    at_once = reader.nets.ink_on(picture)
    monkeypatch.setattr(nets, "BAND", 64)
    in_bands = reader.nets.ink_on(picture)
    assert in_bands.shape == at_once.shape == (height, 61)
    np.testing.assert_allclose(in_bands, at_once, atol=1e-4)


@pytest.mark.parametrize(
    ("given", "decoded"),
    [
        ((4000, 3000), (2000, 1500)),
        ((3000, 4000), (1500, 2000)),
        ((3190, 3190), (3190, 3190)),
        ((6500, 40), (1625, 10)),
        ((900, 700),) * 2,
    ],
)
def test_a_jpeg_is_decoded_no_larger_than_is_looked_at(tmp_path, monkeypatch, given, decoded):
    Image.new("RGB", given, (250, 240, 230)).save(tmp_path / "x.jpg")
    sizes = []
    rgb = load._rgb
    monkeypatch.setattr(load, "_rgb", lambda file: sizes.append(file.size) or rgb(file))
    picture, scale = load.load(tmp_path / "x.jpg")
    assert sizes == [decoded]
    assert max(picture.shape) == min(max(given), size.LONG_SIDE)
    assert scale == pytest.approx(max(given) / max(picture.shape))
