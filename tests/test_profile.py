"""The profile counts what is there to count, and leaves the model as it was."""

import sys

import numpy as np
import pytest

import tinygrad_lite.functional as F
from models.lenet import LeNet
from tinygrad_lite import Tensor, nn
from tinygrad_lite.errors import DtypeError, ShapeError, TapeError


def lenet(batch=3):
    return LeNet(np.random.default_rng(0)), np.zeros((batch, 1, 28, 28), np.float32)


def test_rows_are_the_operations_with_their_layers():
    model, x = lenet()
    rows = model.profile(x, steps=1).rows
    assert [(row.layer, row.operation) for row in rows if row.layer] == [
        ("conv1", "conv2d"), ("conv2", "conv2d"), ("fc1", "linear"), ("fc2", "linear"),
    ]  # fmt: skip
    assert [row.operation for row in rows[:3]] == ["conv2d", "max_pool2d", "relu"]


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_rules_that_add_up_in_float32_are_seen_as_themselves(dtype):
    class Scores(nn.Module):
        def forward(self, x):
            return F.softmax(x, 1)

    rows = Scores().profile(Tensor(np.ones((2, 3), dtype), requires_grad=True), steps=1).rows
    assert [row.operation for row in rows] == ["softmax"]
    assert rows[0].forward > 0


def test_flop_are_those_of_the_matrix_products():
    model, x = lenet(batch=3)
    by_layer = {row.layer: row for row in model.profile(x, steps=1).rows if row.layer}
    one = {"conv1": 20 * 25 * 576, "conv2": 50 * 500 * 64, "fc1": 500 * 800, "fc2": 10 * 500}
    for layer, multiply_adds in one.items():
        forward = 2 * multiply_adds * 3
        assert by_layer[layer].flop == (forward, forward * (1 if layer == "conv1" else 2))  # the image wants no gradient


def test_traffic_counts_arguments_result_and_gradients():
    class Halve(nn.Module):
        def __init__(self):
            self.w = nn.Parameter(np.ones((2, 5), np.float32))

        def forward(self, x):
            return x @ self.w

    row = Halve().profile(Tensor(np.ones((3, 2), np.float32)), steps=1).rows[0]
    x, w, out = 4 * 6, 4 * 10, 4 * 15
    assert (row.layer, row.operation) == ("", "matmul")
    assert row.flop == (2 * 2 * 15, 2 * 2 * 15)
    assert row.traffic == (x + w + out, x + w + out + w)


def test_every_row_has_times_and_a_line():
    model, x = lenet(batch=20)
    profile = model.profile(x, steps=5)
    assert profile.seconds > 0
    assert all(row.forward > 0 and row.backward > 0 for row in profile.rows)
    table = str(profile).splitlines()
    assert len(table) == len(profile.rows) + 4
    assert "GFLOP/s" in table[-1]
    assert profile.peak > 1e8


def test_gradients_and_weights_stay_as_they_were():
    model, x = lenet()
    before = model.state_dict()
    grad = np.ones(model.fc1.weight.shape, np.float32)
    model.fc1.weight.grad = grad
    model.profile(x, steps=1)
    assert model.fc1.weight.grad is grad or (model.fc1.weight.grad == 1).all()
    assert model.conv1.weight.grad is None
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_running_values_generators_and_frozen_parameters_stay_as_they_were():
    rng = np.random.default_rng(0)
    model = nn.Sequential(nn.Linear(2, 2, rng=rng), nn.BatchNorm1d(2), nn.Dropout(0.5, rng=rng))
    model[0].weight.requires_grad = False
    before, random = model.state_dict(), rng.bit_generator.state
    assert "batch_norm" in [row.operation for row in model.profile(np.ones((8, 2), np.float32), steps=1).rows]
    assert rng.bit_generator.state == random
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_what_is_wrong_is_said():
    model, x = lenet()
    with pytest.raises(ShapeError, match="steps must be at least 1, got steps=0"):
        model.profile(x, steps=0)
    with pytest.raises(DtypeError, match="steps must be an integer"):
        model.profile(x, steps=1.5)
    with pytest.raises(TapeError, match="must give a Tensor that depends on a parameter"):
        nn.Identity().profile(x)
    with pytest.raises(ShapeError):  # the model's own error, with nothing left behind
        model.profile(np.zeros((1, 2, 28, 28), np.float32))
    assert sys.getprofile() is None
