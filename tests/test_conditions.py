"""What befalls a photograph: the truth stays where the ink is, and each condition does what it says."""

import numpy as np
import pytest

pytest.importorskip("cv2", reason="OpenCV is not installed")

from experiments import mnist, pages
from experiments.conditions import CONDITIONS
from experiments.paper import DIFFICULTIES, make_page


@pytest.fixture(scope="module")
def digits():
    training, _ = mnist.load()
    return mnist.Digits(training.images[-500:], training.labels[-500:])


@pytest.fixture(scope="module")
def before(digits):
    """Clean pages of twelve digits."""
    return [make_page(*digits, list(range(12)), "clean", np.random.default_rng(seed)) for seed in range(3)]


def taken(before, condition):
    return [CONDITIONS[condition](page, np.random.default_rng(seed)) for seed, page in enumerate(before)]


class Noted:
    """Random numbers, and which of several names were chosen."""

    def __init__(self, seed):
        self.rng, self.chosen = np.random.default_rng(seed), ""

    def __getattr__(self, name):
        return getattr(self.rng, name)

    def choice(self, names):
        self.chosen = str(self.rng.choice(names))
        return self.chosen


def each_form(page, condition, forms):
    """The page as it was and as it is with each of so many forms that the condition has."""
    found = {}
    for seed in range(40):
        rng = Noted(seed)
        changed = CONDITIONS[condition](page, rng)
        found.setdefault(rng.chosen, changed)
        if len(found) == forms:
            break
    assert len(found) == forms
    return [(page, changed) for changed in found.values()]


def gray(page):
    return page.image.astype(float).mean(axis=2)


def smooth(values):
    """Means of squares of 8x8, without the noise."""
    height, width = (side // 8 * 8 for side in values.shape)
    return values[:height, :width].reshape(height // 8, 8, width // 8, 8).mean(axis=(1, 3))


@pytest.mark.parametrize("condition", CONDITIONS)
def test_truth_is_where_the_ink_is(before, condition):
    for old, page in zip(before, taken(before, condition), strict=True):
        assert [d.digit for d in page.digits] == [d.digit for d in old.digits]
        assert page.rows == old.rows
        shades = gray(page)
        for x, y, w, h in (digit.box for digit in page.digits):
            around = np.median(shades[max(0, y - h // 3) : y + h + h // 3, max(0, x - w // 2) : x + w + w // 2])
            assert np.percentile(shades[y : y + h, x : x + w], 5) < 0.95 * around


@pytest.mark.parametrize("condition", CONDITIONS)
def test_the_same_numbers_give_the_same_page_and_others_another(before, condition):
    one, two, other = (CONDITIONS[condition](before[0], np.random.default_rng(seed)).image for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, two)
    assert one.shape != other.shape or (one != other).mean() > 0.3


def test_a_shadow_leaves_a_part_lit_and_dims_another(before):
    for old, page in each_form(before[0], "shadowed", 4):
        left = smooth(gray(page) / np.maximum(gray(old), 1))
        lit, dark = left.max(), left.min()
        assert 0.2 < dark / lit < 0.7
        assert 0.02 < (left < 0.5 * (lit + dark)).mean() < 0.98


def test_light_falls_on_all_that_is_written_and_not_beyond(before):
    for old, page in each_form(before[2], "spotlit", 3):
        (x, y, *_), (a, b, *_) = page.digits[0].box, old.digits[0].box
        height, width = old.image.shape[:2]
        left = smooth(gray(page)[y - b : y - b + height, x - a : x - a + width] / np.maximum(gray(old), 1))
        written = np.array(
            [left[r // 8, c // 8] for c, r in ((u + w // 2, v + h // 2) for u, v, w, h in (d.box for d in old.digits))]
        )
        assert written.min() > 0.75 * written.max()
        outside = smooth(gray(page))[-2]  # below all of it
        assert np.median(outside) < 0.6 * written.max() * np.median(gray(old))


def test_glare_is_nearly_white_and_small(before):
    for old, page in zip(before, taken(before, "glaring"), strict=True):
        whiter = (smooth(gray(page)) - 0.7 * smooth(gray(old))) / (255 - 0.7 * smooth(gray(old)))  # of the way to white
        assert 0.45 < whiter.max() < 0.9
        assert (whiter > 0.5 * whiter.max()).mean() < 0.4
        assert np.median(whiter) < 0.3


def test_a_shaken_camera_blurs_and_moves_nothing(before):
    kept = []
    for old, page in zip(before, taken(before, "shaken"), strict=True):
        x, y, w, h = max((d.box for d in old.digits), key=lambda box: box[2] * box[3])
        there = [gray(p)[y : y + h, x : x + w] for p in (old, page)]
        edges = [np.percentile(np.hypot(*np.gradient(shades)), 97) for shades in there]
        kept.append(edges[1] / edges[0])
        inks = [(shades.max() - shades) / (shades.max() - shades).sum() for shades in there]
        for axis in (0, 1):
            middles = [np.arange(ink.shape[axis]) @ ink.sum(axis=1 - axis) for ink in inks]
            assert abs(middles[1] - middles[0]) < 1
    assert np.median(kept) < 0.85
    assert max(kept) < 0.95


def test_on_a_coarse_picture_digits_are_low(before):
    for old, page in zip(before, taken(before, "coarse"), strict=True):
        assert 12 <= np.median([d.box[3] for d in page.digits]) <= 26
        assert page.image.shape[0] / page.image.shape[1] == pytest.approx(old.image.shape[0] / old.image.shape[1], rel=0.02)


def test_pages_of_a_condition_are_made_where_they_are_named(tmp_path, digits):
    assert pages.KINDS[: len(DIFFICULTIES)] == DIFFICULTIES  # a seed's pages stay as they were
    made = list(pages.make_pages(*digits, 30, 1, tuple(CONDITIONS)))
    assert {page.difficulty for page in made} == set(CONDITIONS)
    for page in pages.make_pages(*digits, 30, 1, tuple(CONDITIONS), empty=True):
        assert page.digits == []
        assert page.image.size
    assert pages.main(["--difficulty", "coarse", "--digits", "4", "--out", str(tmp_path)]) == 0
    assert [path.name for path in tmp_path.glob("*.png")] == ["coarse-0.png"]
    assert pages.main(["--difficulty", "clean", "--digits", "4", "--out", str(tmp_path)]) == 0
    assert [path.name for path in tmp_path.glob("*.png")] == ["clean-0.png"]  # those of the run before are its own
