"""A weight or a gradient that is no number: the training stops with a word, and no checkpoint holds it."""

import numpy as np
import pytest

from experiments import train, training
from experiments.checkpoint import NAME, PREVIOUS, load_checkpoint, save_checkpoint
from experiments.mnist import Digits
from tinygrad_lite import FileFormatError, Tensor
from tinygrad_lite.serialize import load

SMALL = ["--batch-size", "5", "--epochs", "1", "--quiet", "--checkpoint-seconds", "0"]


@pytest.fixture(autouse=True)
def noise(monkeypatch):
    rng = np.random.default_rng(0)
    digits = Digits(rng.integers(0, 256, (20, 28, 28), np.uint8), rng.integers(0, 10, 20).astype(np.uint8))
    monkeypatch.setattr(train, "load_data", lambda *_: (digits, digits))


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_weights_that_the_last_update_broke_reach_no_checkpoint(tmp_path, capsys, monkeypatch, value):
    update = training.Training.update

    def breaking(self):
        update(self)
        if self.step == 2:
            self.model.conv2.weight.data.flat[3] = value

    monkeypatch.setattr(training.Training, "update", breaking)
    assert train.main([*SMALL, "--out", str(tmp_path)]) == 1
    words = capsys.readouterr().err
    assert "train: the state model/conv2.weight is not finite at step 2 with learning rate" in words
    assert f"The last good checkpoint is {tmp_path / NAME} of step 1." in words
    arrays, state = load_checkpoint(tmp_path)
    assert state["step"] == 1
    assert all(np.isfinite(a).all() for a in arrays.values())


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_gradient_that_is_not_finite_stops_before_the_update(tmp_path, capsys, monkeypatch, value):
    backward, update = Tensor.backward, training.Training.update
    found = []

    def breaking(self):
        update(self)
        found.append(self.model)

    def broken(loss):
        backward(loss)
        if len(found) == 1:
            found[0].fc1.weight.grad[3, 5] = value

    monkeypatch.setattr(training.Training, "update", breaking)
    monkeypatch.setattr(Tensor, "backward", broken)
    monkeypatch.setattr(train, "KEEP_EVERY", 1)
    assert train.main([*SMALL, "--out", str(tmp_path)]) == 1
    words = capsys.readouterr().err
    assert "train: the gradient of fc1.weight is not finite at step 2 with learning rate" in words
    assert "all parameters are finite" in words
    assert f"The last good checkpoint is {tmp_path / NAME} of step 1." in words
    arrays, _ = load_checkpoint(tmp_path)
    result = "average/" if "average/fc1.weight" in arrays else "model/"
    for name, array in load(tmp_path / "model.safetensors").items():
        np.testing.assert_array_equal(array, arrays[result + name])


def test_checkpoint_with_nan_is_not_gone_on_with(tmp_path):
    save_checkpoint(tmp_path, {"model/w": np.ones(2)}, {"step": 1})
    save_checkpoint(tmp_path, {"model/w": np.array([1, np.nan])}, {"step": 2})
    assert load_checkpoint(tmp_path)[1] == {"step": 1}
    (tmp_path / PREVIOUS).unlink()
    with pytest.raises(FileFormatError, match="holds NaN or infinity in model/w"):
        load_checkpoint(tmp_path)
