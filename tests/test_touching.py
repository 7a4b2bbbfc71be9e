"""Training examples of touching digits, and the net that reads two at once."""

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")

from experiments import mnist, strokes, train_reader  # noqa: E402
from experiments.augment import Picker, piece  # noqa: E402
from experiments.reader.nets import Nets  # noqa: E402
from experiments.reader.normalise import normalise  # noqa: E402
from experiments.touching import couple, inner_edges, no_couple, pair_examples  # noqa: E402
from models.load import load_lenet, load_pairs  # noqa: E402
from models.pair import PairNet  # noqa: E402
from tinygrad_lite import FileFormatError, serialize  # noqa: E402


@pytest.fixture(scope="module")
def pick():
    training, _ = mnist.load()
    return Picker(training.images[-300:], training.labels[-300:], drawn=0.2)


def test_couples_touch_and_keep_their_order(pick):
    rng = np.random.default_rng(0)
    wide = []
    for _ in range(30):
        ink, labels, whose = couple(pick, rng)
        assert all(0 <= label <= 9 for label in labels)
        np.testing.assert_array_equal(whose[0] | whose[1], ink > 0.5)
        left, right = (np.flatnonzero(mine.any(0)) for mine in whose)
        assert (left[0], right[-1]) == (0, ink.shape[1] - 1) or min(left.size, right.size) < 30  # a short one may lie within
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

    ink, labels, (left, right) = couple(InTurn(), np.random.default_rng(1))
    assert labels == (7, 2)
    assert ink[:, 3].sum() > 2 * ink[:, -4].sum() > 0
    assert left.any(0).sum() == 30
    assert left.sum() > 2 * right.sum() > 0


def test_inner_edges_are_where_the_left_one_ends_and_the_right_one_begins():
    whose = np.zeros((2, 10, 40), bool)
    whose[0, 2:5, 0:16] = True
    whose[1, 2:9, 12:40] = True
    np.testing.assert_allclose(inner_edges(whose, 0.0), [16 / 40, 12 / 40])
    # Each row down goes half a column to the left of the one above: from -2 to 15, and from 8 to 39.
    np.testing.assert_allclose(inner_edges(whose, 0.5), [(15 + 2) / (39 + 2), (8 + 2) / (39 + 2)])
    whose[1] = False
    assert np.isnan(inner_edges(whose, 0.0)).all()
    within = np.zeros((2, 10, 40), bool)
    within[0, :, 5:8] = within[1, :, 0:40] = True  # a 1 that a wide digit reaches around
    np.testing.assert_allclose(inner_edges(within, 0.0), [8 / 40, 0])
    np.testing.assert_allclose(inner_edges(within[::-1], 0.0), [1, 5 / 40])


def test_the_loss_knows_of_edges_only_where_there_is_a_pair():
    rng = np.random.default_rng(0)
    net, images = PairNet(rng).eval(), rng.integers(0, 256, (3, 28, 40)).astype(np.uint8)
    targets = np.full((3, 2, 10), 0.1, np.float32)
    nowhere = np.full((3, 2), np.nan, np.float32)
    edges = np.array([[0.5, 0.4], [np.nan, np.nan], [0.2, 0.1]], np.float32)
    logits, places = (one.numpy() for one in net(train_reader.net_input(images)))
    alone = train_reader.loss(net, images, targets, nowhere)
    unlike = -(targets * (logits - np.log(np.exp(logits).sum(-1, keepdims=True)))).sum() / 3
    np.testing.assert_allclose(alone.item(), unlike, rtol=1e-5)
    off = np.nansum((places - edges) ** 2) / 3
    np.testing.assert_allclose(train_reader.loss(net, images, targets, edges).item() - unlike, 10 * off, rtol=1e-3)
    alone.backward()
    np.testing.assert_array_equal(net.fc2.weight.grad[[10, 21]], 0)


def test_examples_are_repeatable_and_junk_has_no_answer(pick):
    images, targets, edges = pair_examples(pick, 60, np.random.default_rng(3), junk=0.5)
    again, *_ = pair_examples(pick, 60, np.random.default_rng(3), junk=0.5)
    np.testing.assert_array_equal(images, again)
    assert (images.shape, images.dtype, targets.shape) == ((60, 28, 40), np.uint8, (60, 2, 10))
    np.testing.assert_allclose(targets.sum(-1), 1, rtol=1e-6)
    sure = targets.max(-1) == 1
    np.testing.assert_array_equal(sure[:, 0], sure[:, 1])
    assert 15 < sure[:, 0].sum() < 45
    assert (targets[~sure] == np.float32(0.1)).all()
    np.testing.assert_array_equal(np.isnan(edges), ~sure)
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
    images, targets, edges = pair_examples(plain, 100, np.random.default_rng(5), junk=0)
    logits, places = train_reader.outputs(load_pairs(), images)
    assert train_reader.accuracy(logits, targets.argmax(-1)) > 0.82  # 0.915 of 4,000
    assert np.abs(places - edges).mean() < 0.05  # 0.040 of 4,000


def test_weights_of_another_net_are_refused(tmp_path):
    net = PairNet(np.random.default_rng(0))
    state = net.state_dict()
    serialize.save({**state, "fc2.bias": state["fc2.bias"][:10]}, tmp_path / "w.npz")
    with pytest.raises(FileFormatError, match=r"load_pairs: .*w\.npz does not fit: .*fc2\.bias"):
        load_pairs(tmp_path / "w.npz")


def test_training_makes_weights_and_figures(tmp_path, capsys):
    assert train_reader.main(["--net", "pairs", "--rounds", "1", "--size", "256", "--passes", "1", "--check", "40",
                              "--workers", "1", "--out", str(tmp_path)]) == 0  # fmt: skip
    assert sorted(p.name for p in tmp_path.iterdir()) == ["pairs.json", "pairs.safetensors"]
    assert load_pairs(tmp_path / "pairs.safetensors")
    assert f"Written to {tmp_path}: pairs.safetensors, pairs.json" in capsys.readouterr().out
    for argv, words in (
        (["--dry-run", "--lr", "1e30"], "train_reader: the loss is "),
        (["--rounds", "0"], "--rounds: must be at least 1, got 0."),
        (["--size", "50"], "--size: must be at least"),
    ):
        assert train_reader.main([*argv, "--out", str(tmp_path / "new")]) == 1
        assert words in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_drawn_digits_are_what_they_are_called():
    rng = np.random.default_rng(0)
    images = [normalise(strokes.draw(digit, rng)) for digit in range(10) for _ in range(8)]
    read = Nets(load_lenet()).log_probs(images)
    assert sum(int(one.argmax()) == k // 8 for k, one in enumerate(read)) > 70


def test_a_piece_of_a_digit_is_the_smaller_one(pick):
    rng = np.random.default_rng(0)
    for _ in range(20):
        ink = pick(rng)[0]
        assert 0.15 < piece(ink, rng).sum() / ink.sum() < 0.65
