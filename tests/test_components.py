"""The components experiment, and the loop references it leans on."""

import json

import numpy as np
import pytest

from experiments import components, mnist, naive
from experiments.components import Layer, check_gradients, check_output, make_layers
from tinygrad_lite import GradientError
from tinygrad_lite.ops import activation, conv, pool


@pytest.fixture(scope="module")
def layers():
    return make_layers(mnist.load()[0].take(500))


def digits(rng):
    return rng.random((1, 1, 28, 28)).astype(np.float32)


def test_loops_by_hand():
    x = np.arange(12.0).reshape(1, 1, 3, 4)
    kernel = np.array([[[[1.0, 0.0], [0.0, 10.0]]]])
    # the kernel is not flipped: x[i, j] + 10 x[i + 1, j + 1], and 7
    expected = [[[[0 + 50 + 7, 1 + 60 + 7, 2 + 70 + 7], [4 + 90 + 7, 5 + 100 + 7, 6 + 110 + 7]]]]
    np.testing.assert_array_equal(naive.conv2d(x, kernel, np.array([7.0])), expected)
    np.testing.assert_array_equal(naive.max_pool2d(-x, 2), [[[[0, -2]]]])
    np.testing.assert_array_equal(naive.relu(np.array([-1.0, 0.0, 2.0])), [0, 0, 2])
    np.testing.assert_array_equal(naive.linear(np.array([[1.0, 2.0]]), np.array([[3.0, 4.0]]), np.array([5.0])), [[16]])


def test_loops_and_rules_agree():
    rng = np.random.default_rng(0)
    x, weight, bias = rng.standard_normal((2, 3, 7, 5)), rng.standard_normal((4, 3, 3, 2)), rng.standard_normal(4)
    np.testing.assert_allclose(naive.conv2d(x, weight, bias), conv.conv2d(x, weight, bias)[0], rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(naive.max_pool2d(x, 3), pool.max_pool2d(x, kernel_size=3)[0])


def test_every_layer_passes(layers):
    rng = np.random.default_rng(1)
    given = components.inputs(digits(rng), layers)
    assert list(given) == list(layers) == ["inner product", "pooling", "convolution", "ReLU"]
    assert given["ReLU"].min() < 0 < given["ReLU"].max()
    for name, layer in layers.items():
        output, difference = check_output(name, layer, given[name])
        assert output.dtype == np.float32
        assert difference < 1e-4
        differences = check_gradients(name, layer, components.smooth_point(name, given[name], rng), rng)
        assert list(differences) == (["x"] if not layer.weights else ["x", "weight", "bias"])


def wrong_output(rule, change):
    def changed(*arrays, **static):
        out, vjp = rule(*arrays, **static)
        return change(out), vjp

    return changed


def wrong_gradient(rule, change):
    def changed(*arrays, **static):
        out, vjp = rule(*arrays, **static)
        return out, lambda g: change(vjp(g))

    return changed


@pytest.mark.parametrize("name", ["inner product", "pooling", "convolution", "ReLU"])
def test_an_output_that_is_slightly_off_is_found(layers, name):
    layer, rng = layers[name], np.random.default_rng(2)

    def change(out):
        out = out.copy()
        place = np.unravel_index(np.abs(out).argmax(), out.shape)  # one number, by a ten thousandth
        out[place] *= np.float32(1.0001)
        return out

    broken = layer._replace(rule=wrong_output(layer.rule, change))
    with pytest.raises(GradientError, match=rf"{name} differs from plain loops by [\d.e-]+"):
        check_output(name, broken, components.inputs(digits(rng), layers)[name])


@pytest.mark.parametrize(
    ("name", "which", "key"),
    [
        ("inner product", 1, "weight"),
        ("inner product", 2, "bias"),
        ("pooling", 0, "x"),
        ("convolution", 0, "x"),
        ("convolution", 1, "weight"),
        ("ReLU", 0, "x"),
    ],
)
def test_a_gradient_that_is_slightly_off_is_found(layers, name, which, key):
    layer, rng = layers[name], np.random.default_rng(3)
    x = components.smooth_point(name, components.inputs(digits(rng), layers)[name], rng)

    def change(gradients):
        wrong = gradients[which].copy()
        wrong.flat[wrong.size // 2] += 1e-4 * np.abs(wrong).max()
        return tuple(wrong if i == which else g for i, g in enumerate(gradients))

    with pytest.raises(GradientError, match=f"gradient of {name} by {key} differs"):
        check_gradients(name, layer._replace(rule=wrong_gradient(layer.rule, change)), x, rng)


def test_a_forgotten_bias_is_found(layers):
    layer = layers["convolution"]
    forgetful = Layer(layer.rule, lambda x, w, b: naive.conv2d(x, w, 0 * b), layer.weights)
    with pytest.raises(GradientError, match=r"plain loops by 0\.1,"):
        check_output("convolution", forgetful, digits(np.random.default_rng(4)))


def test_pooling_is_checked_where_it_has_a_derivative():
    rng = np.random.default_rng(5)
    x = components.smooth_point("pooling", np.round(rng.random((1, 1, 28, 28)) * 3) / 255, rng)
    gaps = np.diff(np.sort(x.ravel()))
    assert gaps.min() > 2.1e-6  # two steps of the numeric differentiation
    x = components.smooth_point("ReLU", rng.integers(-1, 2, 50) * 1e-9, rng)
    assert np.abs(x).min() > 9e-4


def test_command_line(tmp_path, capsys):
    assert components.main(["--dry-run", "--seed", "3", "--out", str(tmp_path / "new")]) == 0
    said = capsys.readouterr().out
    assert "ReLU of the column 0, .5, .25, 0, 0, 0, -.5, 0, 0: 0, .5, .25, 0, 0, 0, 0, 0, 0\n" in said
    assert said.count("convolution") == 2  # two batches
    assert "components.png, components.json" in said
    figures = json.loads((tmp_path / "new" / "components.json").read_text())
    assert figures["layers"]["pooling"][1]["difference"] == 0
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["components.json", "components.png"]


def test_nothing_is_left_behind_when_a_check_fails(tmp_path, capsys, monkeypatch):
    honest = activation.relu
    monkeypatch.setattr(activation, "relu", lambda x: (honest(x)[0] + np.float32(1e-3), honest(x)[1]))
    out = tmp_path / "a" / "b"
    assert components.main(["--dry-run", "--out", str(out)]) == 1
    assert "components: ReLU differs from plain loops by 0.001" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert components.main(["--dry-run", "--seed", "-1"]) == 1
    assert "--seed: must be at least 0, got -1" in capsys.readouterr().err
