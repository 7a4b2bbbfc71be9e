"""Distortions of batches: each against what it says it does, and each sample by its own seed."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")

from experiments import mnist  # noqa: E402
from experiments.distort import SIGMA, Distorter, Distortion, distort, wave_basis  # noqa: E402
from experiments.runs import RunError  # noqa: E402

STRONG = Distortion(rotation=20, scale=0.3, shear=0.3, shift=6, elastic=2.0, thickness=0.8)
BASIS = wave_basis(SIGMA)


@pytest.fixture(scope="module")
def images():
    return mnist.load()[0].images[:300]


def distorter(distortion=STRONG, seed=0):
    return Distorter(distortion, np.random.SeedSequence(seed), 300)


def by_hand(images, distortion, *even):
    """Distort all images by the same affine numbers and no waves."""
    n, m = len(images), BASIS.shape[1]
    return distort(images, distortion, np.tile(np.float32(even), (n, 1)), np.zeros((n, 2, m, m), np.float32), BASIS)


def test_no_strength_changes_nothing(images):
    made = distorter(Distortion())(images, np.arange(300), 1)
    assert (made.dtype, made.shape) == (np.uint8, (300, 28, 28))
    assert np.array_equal(made, images)
    assert not Distortion()
    assert STRONG


def test_a_sample_follows_from_seed_epoch_and_place_alone(images):
    whole = distorter()(images, np.arange(300), 4)
    order = np.random.default_rng(1).permutation(300)
    batches = [order[i : i + 7] for i in range(0, 300, 7)]
    other = distorter()
    other(images, np.arange(300), 5)  # an epoch in between leaves no trace
    for batch in batches:
        assert np.array_equal(other(images[batch], batch, 4), whole[batch])
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda batch: other(images[batch], batch, 4), batches))
    assert np.array_equal(np.concatenate(made), whole[order])
    for changed in (distorter()(images, np.arange(300), 5), distorter(seed=1)(images, np.arange(300), 4)):
        assert (changed != whole).any(axis=(1, 2)).mean() > 0.99
    assert (distorter()(images, np.roll(np.arange(300), 1), 4) != whole).any(axis=(1, 2)).mean() > 0.99


def test_a_longer_training_set_begins_the_same(images):
    longer = Distorter(STRONG, np.random.SeedSequence(0), 1000)
    assert np.array_equal(longer(images, np.arange(300), 4), distorter()(images, np.arange(300), 4))


def test_many_images_are_as_few(images):
    many = np.tile(images, (4, 1, 1))
    made = by_hand(many, Distortion(rotation=10), 1, 0, 0, 0, 0, 0, 0)
    assert len(made) == 1200  # more than one canvas
    assert np.array_equal(made[900:], by_hand(images, Distortion(rotation=10), 1, 0, 0, 0, 0, 0, 0))


def test_a_neighbour_on_the_canvas_is_not_seen():
    images = np.zeros((40, 28, 28), np.uint8)
    images[::2] = 255
    made = Distorter(Distortion(45, 0.5, 1, 20, 5, 1), np.random.SeedSequence(0), 40)(images, np.arange(40), 1)
    assert not made[1::2].any()
    assert made[::2].any(axis=(1, 2)).sum() > 10


def test_what_comes_from_outside_is_0():
    made = by_hand(np.full((3, 28, 28), 255, np.uint8), Distortion(shift=5), 0, 0, 0, 0, 1, -1, 0)
    assert (made[:, 5:, :23] == 255).all()
    assert not made[:, :5].any()
    assert not made[:, :, 23:].any()


def test_whole_pixels_and_quarter_turns_are_exact(images):
    right_up = by_hand(images, Distortion(shift=3), 0, 0, 0, 0, -1, 1, 0)
    assert np.array_equal(right_up[:, :-3, 3:], images[:, 3:, :-3])
    turned = by_hand(images, Distortion(rotation=90), 1, 0, 0, 0, 0, 0, 0)
    assert np.array_equal(turned, np.rot90(images, axes=(1, 2)))


def test_scale_and_shear():
    bar = np.zeros((1, 28, 28), np.uint8)
    bar[:, 8:20, 12:16] = 255
    narrow = by_hand(bar, Distortion(scale=0.5), 0, -0.5, 0, 0, 0, 0, 0)[0] / 255  # each pixel comes from 3/4 as far out
    assert narrow.sum(axis=1).max() == pytest.approx(4 / 0.75, rel=0.02)
    assert narrow.sum(axis=0).max() == pytest.approx(12, rel=0.02)
    low = by_hand(bar, Distortion(scale=0.5), 0, 0, 0.5, 0, 0, 0, 0)[0] / 255
    assert low.sum(axis=0).max() == pytest.approx(12 / 1.25, rel=0.02)
    leaning = by_hand(bar, Distortion(shear=0.5), 0, 0, 0, 1, 0, 0, 0)[0] / 255
    middles = (leaning * np.arange(28)).sum(axis=1)[9:19] / leaning.sum(axis=1)[9:19]
    assert np.diff(middles).mean() == pytest.approx(-0.5, abs=0.01)


def test_thickness_goes_from_thinner_to_wider(images):
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    wider = by_hand(images, Distortion(thickness=1), 0, 0, 0, 0, 0, 0, 1)
    assert np.array_equal(wider, [cv2.dilate(image, cross) for image in images])
    thinner = by_hand(images, Distortion(thickness=1), 0, 0, 0, 0, 0, 0, -1)
    assert np.array_equal(thinner, [cv2.erode(image, cross, borderValue=0) for image in images])
    half = by_hand(images, Distortion(thickness=1), 0, 0, 0, 0, 0, 0, 0.5)
    assert np.abs(half - (images / 2 + wider / 2)).max() <= 0.5


def test_digits_keep_their_ink(images):
    made = distorter(Distortion(rotation=10, shear=0.1, elastic=1.0))(images, np.arange(300), 1)
    ratio = made.sum(axis=(1, 2)) / images.sum(axis=(1, 2))
    assert 0.97 < ratio.mean() < 1.03
    assert 0.02 < ratio.std() < 0.2


def test_waves_have_the_variance_and_correlation_of_smoothed_noise():
    distance = np.arange(28)[:, None] - np.arange(28)
    found = BASIS.astype(np.float64) @ BASIS.T  # of a line; the plane's is the product of both
    assert np.abs(found - np.exp(-(distance**2) / (4 * SIGMA**2))).max() < 0.05
    assert np.diag(found).mean() == pytest.approx(1, abs=0.01)
    bright = np.tile(np.arange(28, dtype=np.uint8) * 9, (300, 28, 1))  # brightness says which column a pixel came from
    made = distorter(Distortion(elastic=1.0))(bright, np.arange(300), 1)
    moved = made[:, 5:-5, 5:-5] / 9.0 - np.arange(5, 23)
    assert moved.std() == pytest.approx(1.0, abs=0.07)
    assert abs(moved.mean()) < 0.15


@pytest.mark.parametrize(
    ("field", "value", "limit"), [("scale", 1.5, "1"), ("rotation", -1, "inf"), ("elastic", np.nan, "inf")]
)
def test_impossible_strengths(field, value, limit):
    with pytest.raises(RunError, match=f"distortion: {field} must be a number from 0 to {limit}, got {value}"):
        Distortion(**{field: value})
