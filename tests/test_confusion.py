"""The confusion experiment: its figures by hand, and its reasons on data whose reason is known."""

import json
import re
import struct

import numpy as np
import pytest
from scipy.stats import binomtest

from experiments import confusion, mnist, pairs
from experiments.confusion import confusion_matrix, reliability, wilson
from experiments.pairs import Classes, Seen, confused_pairs, explain, place, strokes
from experiments.training import as_input
from models.lenet import LeNet
from tinygrad_lite import serialize


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    serialize.save(LeNet(np.random.default_rng(0)).state_dict(), path)
    return str(path)


def test_wilson_against_scipy_and_the_origins_interval():
    for right, count in ((478, 500), (0, 7), (7, 7), (1, 3), (9935, 10_000)):
        expected = binomtest(right, count).proportion_ci(method="wilson")
        np.testing.assert_allclose(wilson(right, count), (expected.low, expected.high), rtol=1e-9, atol=1e-12)
    assert [round(100 * end, 1) for end in wilson(478, 500)] == [93.4, 97.1]
    assert wilson(0, 0) == (0, 1)


def test_matrix_has_truth_in_rows():
    matrix = confusion_matrix(np.array([3, 3, 5, 0]), np.array([5, 5, 3, 0]))
    assert (matrix[3, 5], matrix[5, 3], matrix[0, 0], matrix.sum()) == (2, 1, 1, 4)


def test_pairs_are_counted_in_both_directions():
    matrix = np.diag(np.full(10, 50))
    matrix[4, 9], matrix[9, 4] = 3, 4
    matrix[2, 7], matrix[7, 2] = 6, 0
    matrix[1, 8] = 5
    assert confused_pairs(matrix, 2) == [(9, 4), (2, 7)]
    assert confused_pairs(matrix, 9) == [(9, 4), (2, 7), (1, 8)]  # no pair without errors
    assert confused_pairs(np.diag(np.full(10, 50)), 2) == []


def test_reliability_by_hand():
    confidence = np.array([0.95, 0.97, 0.99, 0.35, 0.40])  # bins of 1/15: (14/15, 1] and (5/15, 6/15]
    right = np.array([True, True, False, False, True])
    found = reliability(confidence, right)
    low, high = found["bins"]
    assert (low["from"], low["to"]) == (5 / 15, 6 / 15)  # the upper end belongs to the bin
    assert (low["count"], low["right"], high["count"], high["right"]) == (2, 1, 3, 2)
    assert high["confidence"] == pytest.approx(0.97)
    expected = (2 * abs(0.5 - 0.375) + 3 * abs(2 / 3 - 0.97)) / 5
    assert found["expected_calibration_error"] == pytest.approx(expected)
    assert reliability(np.array([0.0, 1.0]), np.array([False, True]))["expected_calibration_error"] == 0


def test_places():
    assert place(6, 6) == "upper left"
    assert place(14, 14) == "centre"
    assert place(14, 22) == "middle right"
    assert place(22, 13) == "lower middle"
    assert place(0, 27) == "upper right"


def test_strokes_are_those_toward_the_other_class_and_no_others():
    own, other, image = np.zeros((3, 28, 28))
    own[5:23, 12:16] = other[5:23, 12:16] = image[5:23, 12:16] = 1  # a bar that all have
    other[5:9, 18:23] = 0.6  # the other class has a stroke at the upper right,
    image[5:9, 18:23] = 0.5  # and so has this image
    own[19:23, 5:10] = 0.5  # its own class has a foot at the lower left, and it has not
    own[11:16, 22:27], other[11:16, 22:27] = 0.5, 1  # what it lacks here leads away from the other class
    image[19:23, 19:24] = 1  # a stroke that neither class has explains nothing
    extra, missing = strokes(image, own, other)  # the stronger first
    assert (extra["kind"], extra["place"], missing["kind"], missing["place"]) == (
        "extra",
        "upper right",
        "missing",
        "lower left",
    )
    assert abs(extra["row"] - 6.5) <= 1
    assert abs(extra["column"] - 20) <= 1
    assert (extra["ink"], extra["own_ink"], extra["other_ink"]) == pytest.approx((0.4, 0, 0.48))  # 4 of 5 rows of the window
    assert (missing["ink"], missing["own_ink"]) == pytest.approx((0, 0.4))
    assert strokes(own, own, other) == []


def bars(rng, k, count):
    """Images of class k: a bar whose place tells the class, with a little noise."""
    images = rng.integers(0, 9, (count, 28, 28)).astype(np.uint8)
    images[:, 4 + 2 * k : 6 + 2 * k, 4:24] = 250
    return images


def world(test_features_like, counts=40):
    """Ten classes of bars; two test images of class 2 are read as 7, their features being near class `test_features_like`."""
    rng = np.random.default_rng(0)
    counts = np.full(10, counts) if np.isscalar(counts) else counts
    labels = np.repeat(np.arange(10), counts).astype(np.uint8)
    images = np.concatenate([bars(rng, k, n) for k, n in enumerate(counts)])
    centres = 10 * np.eye(10, 500)
    centres[7] = centres[2] + 4 * np.eye(10, 500)[7]  # 2 and 7 are the closest in the features
    train = Seen(
        mnist.Digits(images, labels), np.eye(10)[labels], centres[labels] + 0.1 * rng.standard_normal((len(labels), 500))
    )
    test_images = bars(rng, 2, 3)
    test_images[:2, 18:20, 4:24] = 200  # two of them have a 7's bar as well
    probs = np.full((3, 10), 0.01)
    probs[:2, 7], probs[:2, 2], probs[2, 2] = 0.75, 0.17, 0.91
    features = centres[[test_features_like] * 2 + [2]] + 0.1 * rng.standard_normal((3, 500))
    return Seen(mnist.Digits(test_images, np.full(3, 2, np.uint8)), probs, features), Classes(train)


def test_a_reason_that_is_known_is_found():
    seen, classes = world(test_features_like=7)
    found = explain(2, 7, seen, classes)
    (direction,) = found["directions"]  # no 7 was read as 2
    assert (direction["count"], direction["of"], direction["second_is_true"]) == (2, 3, 2)
    assert direction["strokes"][0]["kind"] == "extra"
    assert abs(direction["strokes"][0]["row"] - 18.5) <= 2
    assert 0.3 < direction["toward"] < 0.5  # 200/250 of one bar of two: 0.4 of the way
    assert direction["training_images_as_far"] == 0
    assert (found["feature_rank"], found["training_images"]) == (1, [40, 40])
    assert [e["index"] for e in found["examples"]] == [0, 1]
    assert [e["neighbours_guess"] for e in found["examples"]] == [10, 10]
    assert found["examples"][0]["nearest_guess"]["distance"] < found["examples"][0]["nearest_true"]["distance"]
    reason = found["reason"]
    assert "2 and 7 have the" in reason
    assert "and the closest features in the net" in reason
    assert "Examples were not short: 40 and 40 training images" in reason
    assert f"The two 2s read as 7 have more ink at the {direction['strokes'][0]['place']} (" in reason
    assert "10 are 7s and 0 are 2s: already in the features they look like 7s" in reason
    assert "The net was 75% sure on average; its second guess was right for all of them." in reason


def test_the_reason_changes_with_the_data():
    seen, classes = world(test_features_like=2, counts=[40, 40, 40, 40, 40, 40, 40, 25, 40, 40])
    reason = explain(2, 7, seen, classes)["reason"]
    assert "0 are 7s and 10 are 2s: in the features they are among 2s, and it is the last layer that errs" in reason
    assert "There were fewer training images than usual of 7s (25)" in reason
    by_chance = world(test_features_like=2, counts=[40, 40, 40, 40, 40, 40, 40, 36, 40, 40])
    assert "Examples were not short: 40 and 36 training images" in explain(2, 7, *by_chance)["reason"]
    probs = seen.probs.copy()
    probs[:, 2], probs[1, 7] = 0.001, 0.001  # no second guess is right any more; only one image is read as 7
    probs[2, 2] = 0.9
    reason = explain(2, 7, seen._replace(probs=probs), classes)["reason"]
    assert "The 2 read as 7 has more ink" in reason
    assert "its second guess was wrong too" in reason


def test_nearest_means_and_gaps_by_hand():
    seen, classes = world(test_features_like=7)
    train = classes.train
    index, distance = classes.nearest(train.features[5] + 1e-3, classes.members[0])
    assert index == 5
    assert distance == pytest.approx(1e-3 * np.sqrt(500), rel=1e-6)
    own = train.digits.images[train.digits.labels == 3].astype(float).mean(axis=0) / 255
    np.testing.assert_allclose(classes.means[3], own)
    assert classes.image_distance[3, 5] == pytest.approx(np.linalg.norm(own - classes.means[5]))
    assert classes.toward(255 * classes.means[[4]], 4, 6)[0] == pytest.approx(0, abs=1e-12)
    assert classes.toward(255 * classes.means[[6]], 4, 6)[0] == pytest.approx(1)
    # 2 and 7 are 4 apart with a spread of 0.1 along the line, all others 14 (or, from 7, near to it)
    assert classes.feature_gap[2, 7] == pytest.approx(40, rel=0.15)
    assert classes.feature_gap[3, 5] == pytest.approx(141, rel=0.15)
    assert classes.rank(classes.feature_gap, 7, 2) == 1
    assert len(seen.digits.labels) == 3


def test_the_net_is_seen_as_it_answers():
    model = LeNet(np.random.default_rng(1), dropout=0.5).eval()
    digits = mnist.load()[1].take(601)  # more than a batch, and not a multiple of it
    seen = pairs.look(model, digits)
    logits = model(as_input(digits.images))
    np.testing.assert_allclose(seen.probs, logits.double().softmax(1).numpy(), rtol=1e-4)
    again = model.fc2(seen.features)
    np.testing.assert_allclose(again.numpy(), logits.numpy(), rtol=1e-4, atol=1e-5)
    for relu in (True, False):
        model.relu_after_conv = relu
        steps = model.activations(as_input(digits.images[:3]))
        np.testing.assert_array_equal(steps["fc2"].numpy(), model(as_input(digits.images[:3])).numpy())
        assert (steps["relu2"].numpy().min() < 0) != relu


def test_command_line(tmp_path, capsys, weights):
    out = tmp_path / "new"
    assert confusion.main(["--dry-run", "--weights", weights, "--out", str(out), "--seed", "5", "--pairs", "1"]) == 0
    said = capsys.readouterr().out
    found = json.loads((out / "confusion.json").read_text())
    matrix = np.array(found["matrix"])
    assert matrix.sum() == 200
    assert found["overall"]["right"] == np.trace(matrix) < 60  # random weights
    assert [one["count"] for one in found["by_class"]] == matrix.sum(axis=1).tolist()
    assert found["overall"]["low"] < found["overall"]["accuracy"] < found["overall"]["high"]
    (pair,) = found["pairs"]
    a, b = pair["pair"]
    assert len(pair["examples"]) == matrix[a, b] + matrix[b, a] == max((matrix + matrix.T)[np.triu_indices(10, 1)])
    assert pair["reason"] in said
    assert sorted(p.name for p in out.iterdir()) == ["calibration.png", "confusion.json", "confusion.png", "pair-1.png"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--weights", "nowhere.npz"], r"there is no such file \(nowhere\.npz\); give --weights FILE"),
        (["--pairs", "0"], "--pairs: must be at least 1, got 0"),
        (["--train-size", "70000"], r"--train-size: there are 60,000 training images, got 70000"),
        (["--train-size", "10"], r"needs training images of every digit, but has none of \[6, 7, 8\]"),
        (["--data-dir", "nowhere"], "expected train-images-idx3-ubyte"),
    ],
)
def test_what_cannot_be_done_is_said_and_nothing_written(tmp_path, capsys, weights, change, words):
    out = tmp_path / "new"
    assert confusion.main(["--dry-run", "--weights", weights, "--out", str(out), *change]) == 1
    assert re.search(words, capsys.readouterr().err)
    assert not out.exists()


def test_ten_training_images_are_enough(tmp_path, weights):
    few = tmp_path / "few"
    few.mkdir()
    train, test = mnist.load()
    first = [int(np.flatnonzero(train.labels == k)[0]) for k in range(10)]
    chosen = {"train": mnist.Digits(train.images[first], train.labels[first]), "t10k": test.take(50)}
    for part, (images, labels) in chosen.items():
        (few / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">4I", 2051, *images.shape) + images.tobytes())
        (few / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 2049, len(labels)) + labels.tobytes())
    out = tmp_path / "new"
    assert confusion.main(["--weights", weights, "--data-dir", str(few), "--pairs", "1", "--out", str(out)]) == 0
    (pair,) = json.loads((out / "confusion.json").read_text())["pairs"]
    for one in pair["examples"]:
        assert (one["neighbours_true"], one["neighbours_guess"]) == (1, 1)  # all ten are the nearest ten


@pytest.mark.parametrize(("inner", "last"), [(1e20, 1e-20), (1e3, 3e38)])  # features too far apart; logits that overflow
def test_huge_weights_are_refused_and_give_no_nan(tmp_path, capsys, inner, last):
    state = LeNet(np.random.default_rng(0)).state_dict()
    state["fc1.weight"] *= np.float32(inner)
    state["fc2.weight"] *= np.float32(last)
    path, out = tmp_path / "huge.safetensors", tmp_path / "new"
    serialize.save(state, path)
    assert confusion.main(["--dry-run", "--weights", str(path), "--out", str(out)]) == 1
    words = "confusion: the net's numbers overflow, so nothing can be said of it; give other weights.\n"
    assert capsys.readouterr().err == words
    assert not out.exists()


def test_classes_with_the_same_mean_image_give_no_nan():
    _, classes = world(test_features_like=7)
    classes.means[4] = classes.means[6]
    assert np.isfinite(classes.toward(np.zeros((1, 28, 28), np.uint8), 4, 6)).all()


def test_a_net_without_errors():
    labels = np.arange(10, dtype=np.uint8).repeat(2)
    digits = mnist.Digits(np.zeros((20, 28, 28), np.uint8), labels)
    seen = Seen(digits, np.eye(10)[labels], np.random.default_rng(0).random((20, 500)))
    found = confusion.analyse(seen, Classes(seen), 2)
    assert found["pairs"] == []
    assert "No digit was read wrongly" in confusion.words(found)
    confusion.confusion_pictures.draw_matrix(np.array(found["matrix"]))
