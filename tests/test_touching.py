"""Training examples of touching digits, and the net that reads two at once."""

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")

from experiments import mnist, strokes, train_reader  # noqa: E402
from experiments.augment import Picker, piece  # noqa: E402
from experiments.reader.normalise import normalise  # noqa: E402
from experiments.reader.page import Reader  # noqa: E402
from experiments.touching import couple, no_couple, pair_examples  # noqa: E402
from models.load import load_lenet, load_pairs  # noqa: E402
from models.pair import PairNet  # noqa: E402
from tinygrad_lite import ShapeError, serialize  # noqa: E402


@pytest.fixture(scope="module")
def pick():
    training, _ = mnist.load()
    return Picker(training.images[-300:], training.labels[-300:], drawn=0.2)


def test_couples_touch_and_keep_their_order(pick):
    rng = np.random.default_rng(0)
    wide = []
    for _ in range(30):
        ink, labels = couple(pick, rng)
        assert all(0 <= label <= 9 for label in labels)
        columns = (ink > 0.5).any(0)
        gaps = np.flatnonzero(np.diff(np.flatnonzero(columns)) > 8)
        assert not gaps.size  # apart by a few pixels of 112 at most
        wide.append(columns.sum())
    assert 60 < np.median(wide) < 140  # two digits, not one on the other

    class InTurn:
        def __init__(self):
            self.labels = iter([7, 2])

        def __call__(self, rng):
            label = next(self.labels)
            ink = np.zeros((112, 112), np.float32)
            ink[56 - 5 * label : 56 + 5 * label, 40:70] = 1  # the 7 is the higher one
            return ink, label

    ink, labels = couple(InTurn(), np.random.default_rng(1))
    assert labels == (7, 2)
    assert ink[:, 3].sum() > 2 * ink[:, -4].sum() > 0


def test_examples_are_repeatable_and_junk_has_no_answer(pick):
    images, targets = pair_examples(pick, 60, np.random.default_rng(3), junk=0.5)
    again, _ = pair_examples(pick, 60, np.random.default_rng(3), junk=0.5)
    np.testing.assert_array_equal(images, again)
    assert (images.shape, images.dtype, targets.shape) == ((60, 28, 40), np.uint8, (60, 2, 10))
    np.testing.assert_allclose(targets.sum(-1), 1, rtol=1e-6)
    sure = targets.max(-1) == 1
    np.testing.assert_array_equal(sure[:, 0], sure[:, 1])
    assert 15 < sure[:, 0].sum() < 45
    assert (targets[~sure] == np.float32(0.1)).all()
    rng = np.random.default_rng(0)
    assert all(no_couple(pick, rng).max() > 0.5 for _ in range(20))


@pytest.mark.parametrize("shape", [(80, 120), (30, 120), (120, 40)])
def test_wide_normalisation_fits_20_by_32(shape):
    ink = np.zeros(shape, np.float32)
    cv2.rectangle(ink, (3, 3), (shape[1] - 4, shape[0] - 4), 1.0, 7)
    image = normalise(ink, wide=40)
    assert image.shape == (28, 40)
    rows, columns = ((image > 0.25).any(axis) for axis in (1, 0))
    assert max(rows.sum() / 20, columns.sum() / 32) == pytest.approx(1, abs=0.07)  # a pixel
    assert abs(np.flatnonzero(columns).mean() - 19.5) < 1
    assert abs(np.flatnonzero(rows).mean() - 13.5) < 1


def test_the_net_reads_what_it_was_trained_for(pick):
    plain = Picker(pick.images, pick.labels, drawn=0)
    images, targets = pair_examples(plain, 100, np.random.default_rng(5), junk=0)
    assert train_reader.accuracy(load_pairs(), images, targets.argmax(-1)) > 0.82  # 0.91 of 4,000


def test_weights_of_another_net_are_refused(tmp_path):
    net = PairNet(np.random.default_rng(0))
    state = net.state_dict()
    serialize.save({**state, "fc2.bias": state["fc2.bias"][:10]}, tmp_path / "w.npz")
    with pytest.raises(ShapeError, match=r"fc2\.bias"):
        load_pairs(tmp_path / "w.npz")


def test_training_makes_weights_and_figures(tmp_path, capsys):
    assert train_reader.main(["--net", "pairs", "--rounds", "1", "--size", "256", "--passes", "1", "--check", "40",
                              "--workers", "1", "--out", str(tmp_path)]) == 0  # fmt: skip
    assert sorted(p.name for p in tmp_path.iterdir()) == ["pairs.json", "pairs.safetensors"]
    assert load_pairs(tmp_path / "pairs.safetensors")
    assert f"Written to {tmp_path}: pairs.safetensors, pairs.json" in capsys.readouterr().out
    for argv, words in (
        (["--rounds", "0"], "--rounds: must be at least 1, got 0."),
        (["--size", "50"], "--size: must be at least"),
    ):
        assert train_reader.main([*argv, "--out", str(tmp_path / "new")]) == 1
        assert words in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_drawn_digits_are_what_they_are_called():
    rng = np.random.default_rng(0)
    images = [normalise(strokes.draw(digit, rng)) for digit in range(10) for _ in range(8)]
    read = Reader(load_lenet()).log_probs(images)
    assert sum(int(one.argmax()) == k // 8 for k, one in enumerate(read)) > 70


def test_a_piece_of_a_digit_is_the_smaller_one(pick):
    rng = np.random.default_rng(0)
    for _ in range(20):
        ink = pick(rng)[0]
        assert 0.15 < piece(ink, rng).sum() / ink.sum() < 0.65
