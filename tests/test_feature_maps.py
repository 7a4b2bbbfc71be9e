"""The feature maps experiment: what is drawn is what the net computes, on one signed colour scale a layer."""

import json
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from experiments import feature_maps, mnist, naive
from experiments.runs import RunError
from models.lenet import LeNet
from models.load import load_lenet
from tinygrad_lite import FileFormatError, serialize


@pytest.fixture(scope="module")
def model():
    return LeNet(np.random.default_rng(0)).eval()


@pytest.fixture(scope="module")
def weights(tmp_path_factory, model):
    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    serialize.save(model.state_dict(), path)
    return str(path)


@pytest.fixture(scope="module")
def digit():
    return mnist.load()[1].images[7]


def test_maps_equal_plain_loops(model, digit):
    found = feature_maps.maps(model, digit)
    weight, bias = model.conv1.weight.data, model.conv1.bias.data
    expected = naive.conv2d(digit[None, None] / 255, weight[[0, 7]], bias[[0, 7]])[0]
    np.testing.assert_allclose(found["conv1"][[0, 7]], expected, atol=1e-5)
    np.testing.assert_allclose(found["relu1"][[0, 7]], np.maximum(expected, 0), atol=1e-5)
    pooled = naive.max_pool2d(found["relu1"][None], 2)
    expected = naive.conv2d(pooled, model.conv2.weight.data[[31]], model.conv2.bias.data[[31]])[0]
    np.testing.assert_allclose(found["conv2"][[31]], expected, atol=1e-5)
    np.testing.assert_array_equal(found["relu2"], np.maximum(found["conv2"], 0))
    assert found["conv2"].min() < 0
    assert found["probs"].sum() == pytest.approx(1)


def test_mosaic_keeps_order_and_gaps():
    sheet = feature_maps.mosaic(np.arange(5 * 2 * 3.0).reshape(5, 2, 3), columns=2)
    nan = np.nan
    expected = [
        [0, 1, 2, nan, 6, 7, 8],
        [3, 4, 5, nan, 9, 10, 11],
        [nan] * 7,
        [12, 13, 14, nan, 18, 19, 20],
        [15, 16, 17, nan, 21, 22, 23],
        [nan] * 7,
        [24, 25, 26, nan, nan, nan, nan],
        [27, 28, 29, nan, nan, nan, nan],
    ]
    np.testing.assert_array_equal(sheet, expected)


@pytest.mark.parametrize("number", [1, 2])
def test_a_layers_maps_share_one_signed_colour_scale(model, digit, number):
    found = feature_maps.maps(model, digit)
    found[f"conv{number}"] -= 2  # what is far below 0 must fit on the scale too
    figure = feature_maps.draw_layer(number, model, found, digit, "title")
    sheets = [image for axes in figure.axes for image in axes.images if image.get_cmap().name == "RdBu_r"]
    filters, before, after = sheets
    assert before.get_clim() == after.get_clim()
    low, high = before.get_clim()
    assert -low == high == np.abs(found[f"conv{number}"]).max()  # 0 is white, and nothing is cut off
    columns = {1: 10, 2: 17}[number]
    shown = np.ma.filled(before.get_array(), np.nan)
    np.testing.assert_array_equal(shown, feature_maps.mosaic(found[f"conv{number}"], columns))
    np.testing.assert_array_equal(np.ma.filled(after.get_array(), np.nan), feature_maps.mosaic(found[f"relu{number}"], columns))
    kernels = np.ma.filled(filters.get_array(), np.nan)
    if number == 2:  # filter 7's kernel for input 3: column 7, row 3
        np.testing.assert_array_equal(kernels[18:23, 42:47], model.conv2.weight.data[7, 3])
    else:
        np.testing.assert_array_equal(kernels[6:11, 12:17], model.conv1.weight.data[12, 0])
    labels = {text.get_text() for axes in figure.axes for text in axes.texts}
    assert {"1", str(len(found[f"conv{number}"]))} <= labels
    plt.close(figure)


def test_maps_that_are_all_0_are_counted_and_negative_ones_are_not(model, digit):
    found = feature_maps.maps(model, digit)
    found["relu1"] = np.ones_like(found["relu1"])
    found["relu1"][3], found["relu1"][[5, 8]] = -1, 0  # as a net without ReLU after the convolutions has them
    figure = feature_maps.draw_layer(1, model, found, digit, "title")
    assert sum("; 2 of them all 0" in axes.get_title() for axes in figure.axes) == 1
    plt.close(figure)


def test_an_image_file_gives_what_the_test_digit_gives(tmp_path, model, digit):
    Image.fromarray(digit).save(tmp_path / "light.png")
    Image.fromarray(255 - digit).convert("RGB").save(tmp_path / "dark.png")
    image, name = feature_maps.read_image(tmp_path / "light.png", model)
    np.testing.assert_array_equal(image, digit)
    assert name == "light.png"
    image, name = feature_maps.read_image(tmp_path / "dark.png", model)
    np.testing.assert_array_equal(image, digit)
    assert "inverted" in name


def test_a_photograph_is_read_as_the_reader_reads_it(tmp_path, digit):
    model = load_lenet()  # what is ink on a photograph is seen by a trained net only
    page = np.full((300, 240), 230, np.uint8)
    page[60:228, 40:208] -= np.kron(digit, np.ones((6, 6))).astype(np.uint8) // 5 * 4
    Image.fromarray(page).save(tmp_path / "photo.png")
    image, name = feature_maps.read_image(tmp_path / "photo.png", model)
    assert "photo.png" in name
    assert np.corrcoef(image.ravel(), digit.ravel())[0, 1] > 0.8
    Image.fromarray(np.full((300, 240), 230, np.uint8)).save(tmp_path / "bare.png")
    with pytest.raises(RunError, match=r"found no digit on .*bare\.png"):
        feature_maps.read_image(tmp_path / "bare.png", model)


def test_files_that_are_no_images(tmp_path, model):
    noise = np.random.default_rng(0).integers(0, 256, (28, 28)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:400])
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty.png").write_bytes(b"")
    for name in ("cut", "text", "empty"):
        with pytest.raises(FileFormatError, match=rf"{name}\.png"):
            feature_maps.read_image(tmp_path / f"{name}.png", model)


def test_command_line(tmp_path, capsys, weights, model):
    out = tmp_path / "maps"
    assert feature_maps.main(["--weights", weights, "--out", str(out), "--index", "7", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"test digit 7, a 9: read as \d \(", said)
    found = json.loads((out / "feature_maps.json").read_text())
    layer = found["layers"]["conv2"]
    assert layer["shape"] == [50, 8, 8]
    assert layer["colour_scale"][1] == max(max(layer["maximum"]), -min(layer["minimum"]))
    maps = feature_maps.maps(model, mnist.load()[1].images[7])
    np.testing.assert_allclose(layer["share_above_0"], (maps["conv2"] > 0).mean(axis=(1, 2)))
    assert sorted(p.name for p in out.iterdir()) == ["feature_maps.json", "feature_maps_1.png", "feature_maps_2.png"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--index", "10000"], "--index: must be between 0 and 9999, got 10000"),
        (["--image", "nowhere.png"], r"nowhere\.png"),
        (["--weights", "nowhere.mat"], r"there is no such file \(nowhere\.mat\)"),
    ],
)
def test_what_cannot_be_done_is_said_and_nothing_written(tmp_path, capsys, weights, change, words):
    assert feature_maps.main(["--weights", weights, "--out", str(tmp_path / "maps"), *change]) == 1
    assert re.search(words, capsys.readouterr().err)
    assert not (tmp_path / "maps").exists()


@pytest.mark.parametrize("size", [1e20, 3e37])
def test_weights_so_large_that_the_maps_are_not_finite_are_refused_in_words(tmp_path, capsys, model, size):
    state = {name: np.full_like(array, size) for name, array in model.state_dict().items()}
    serialize.save(state, tmp_path / "w.safetensors")
    asked = ["--weights", str(tmp_path / "w.safetensors"), "--out", str(tmp_path / "maps"), "--index", "7"]
    assert feature_maps.main(asked) == 1
    said = capsys.readouterr().err
    assert re.search(r"feature_maps: (conv1|conv2|fc1) of this net holds NaN or infinity, .* as large as (1e\+20|3e\+37)", said)
    assert not (tmp_path / "maps").exists()
