"""Distortions and normalisation: what they keep, what they change, and that a seed is all that decides."""

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")

from experiments import augment, mnist, strokes  # noqa: E402
from experiments.reader.normalise import FIT, normalise, stroke_width  # noqa: E402


@pytest.fixture(scope="module")
def digits():
    return mnist.load()[0].take(300)


def centre_of_mass(image):
    rows, columns = np.indices(image.shape)
    return float((rows * image).sum() / image.sum()), float((columns * image).sum() / image.sum())


@pytest.mark.parametrize("scale", [0.7, 1.0, 3.0, 11.0])
def test_normalise_makes_what_mnist_is_from_any_size(digits, scale):
    for image in digits.images[:25]:
        ink = np.pad(image.astype(np.float32) / 255, ((3, 9), (14, 2)))
        ink = np.clip(cv2.resize(ink, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR), 0, 1)
        made = normalise(ink)
        assert made.shape == (28, 28)
        assert made.dtype == np.float32
        assert made.min() == 0
        assert 0.9 <= made.max() <= 1
        rows, columns = np.nonzero(made > 0.25)
        longest = max(np.ptp(rows), np.ptp(columns)) + 1
        assert abs(longest - FIT) <= 1
        row, column = centre_of_mass(made)
        assert abs(row - 14) < 0.35
        assert abs(column - 14) < 0.35


def test_normalise_keeps_the_aspect():
    ink = np.zeros((100, 60), np.float32)
    cv2.rectangle(ink, (10, 10), (39, 89), 1.0, 5)
    rows, columns = np.nonzero(normalise(ink) > 0.25)
    assert (np.ptp(columns) + 1) / (np.ptp(rows) + 1) == pytest.approx(34 / 84, abs=0.08)


def test_normalise_brings_pens_into_range():
    for pen in (1, 3, 8, 24):
        ink = np.zeros((140, 140), np.float32)
        cv2.circle(ink, (70, 70), 50, 1.0, pen)
        fine = cv2.resize(normalise(ink), None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
        width = stroke_width((fine > 0.5).astype(np.uint8)) / 4
        assert 1.2 < width < 4.6, pen


def test_the_stroke_width_of_a_mask_without_background_is_finite():
    assert 1 <= stroke_width(np.ones((20, 8), np.uint8)) <= 12


def test_normalise_of_nothing_is_nothing():
    assert not normalise(np.zeros((5, 9), np.float32)).any()
    assert not normalise(np.zeros((1, 1), np.float32)).any()


def test_thickness_shear_and_shift_do_what_they_say(digits):
    ink = digits.images[0].astype(np.float32) / 255
    plain = normalise(ink)
    assert normalise(ink, thickness=1.0).sum() > 1.15 * plain.sum() > 1.3 * normalise(ink, thickness=-1.0).sum()
    row, column = centre_of_mass(normalise(ink, shift=(2.0, -1.0)))
    assert (row, column) == pytest.approx((16, 13), abs=0.4)
    bar = np.zeros((60, 60), np.float32)
    bar[5:55, 27:33] = 1
    leaned = normalise(bar, shear=0.4)
    top, bottom = (np.flatnonzero(leaned[i] > 0.2).mean() for i in (7, 20))
    assert top - bottom == pytest.approx(0.4 * 13, abs=1.5)


def test_examples_are_repeatable_and_as_asked(digits):
    pick = augment.Picker(*digits)
    made = augment.examples(pick, 60, np.random.default_rng(5), junk=0.5)
    again = augment.examples(pick, 60, np.random.default_rng(5), junk=0.5)
    other = augment.examples(pick, 60, np.random.default_rng(6), junk=0.5)
    np.testing.assert_array_equal(made[0], again[0])
    np.testing.assert_array_equal(made[1], again[1])
    assert (made[0] != other[0]).any()
    np.testing.assert_allclose(made[1].sum(1), 1, rtol=1e-6)
    junk = made[1].max(1) < 0.5
    assert 15 < junk.sum() < 45
    assert (made[1][~junk].max(1) == 1).all()
    assert (made[0].reshape(60, -1).max(1) > 100).all()


def test_ink_narrower_than_a_pixel_of_the_camera_is_photographed(digits):
    for seed in range(20):
        seen = augment.photograph(np.ones((112, 2), np.float32), np.random.default_rng(seed))
        assert min(seen.shape) >= 1


def test_examples_leave_the_images_alone(digits):
    before = digits.images.copy()
    augment.examples(augment.Picker(*digits), 40, np.random.default_rng(0))
    np.testing.assert_array_equal(digits.images, before)


def test_bending_widens_and_thins(digits):
    ink = digits.images[0].astype(np.float32) / 255
    wide, thin = (augment.bend(ink, np.random.default_rng(1), strength=0, width=w).sum() for w in (1.0, -0.5))
    assert wide > 1.4 * thin


def test_touching_digits_touch(digits):
    rng = np.random.default_rng(0)
    for i in range(0, 40, 2):
        left, right = (augment.bend(digits.images[j].astype(np.float32) / 255, rng, strength=0) for j in (i, i + 1))
        joined, start = augment.touch(left, right, rng, overlap=3)
        apart, _ = augment.touch(left, right, rng, overlap=-6)
        assert 0 <= start < joined.shape[1]
        pieces = [cv2.connectedComponents((one > 0.5).astype(np.uint8))[0] for one in (left, right, joined, apart)]
        assert pieces[2] < pieces[0] + pieces[1] - 1
        assert pieces[3] == pieces[0] + pieces[1] - 1


@pytest.mark.parametrize("digit", range(10))
def test_drawn_digits_stay_on_the_canvas(digit):
    for seed in range(30):
        ink = strokes.draw(digit, np.random.default_rng(seed))
        assert ink.max() == 1
        edge = np.concatenate([ink[0], ink[-1], ink[:, 0], ink[:, -1]])
        assert (edge > 0.5).sum() < 12
