"""What a weight file says beside its weights: it is followed, kept when the file is converted, or refused."""

import re

import numpy as np
import pytest

pytest.importorskip("scipy")

from models import lenet_mat
from models.lenet import LeNet
from models.load import load_lenet
from tinygrad_lite import FileFormatError, serialize


def logits_of(path, images):
    return load_lenet(path)(images / np.float32(255)).numpy()


def test_a_converted_net_is_the_same_net(tmp_path, capsys):
    state = LeNet(np.random.default_rng(13)).state_dict()
    images = np.random.default_rng(14).integers(0, 256, (3, 1, 28, 28)).astype(np.float32)

    def converted(metadata, name):
        serialize.save(state, tmp_path / "w.safetensors", metadata)
        return lenet_mat.main([str(tmp_path / "w.safetensors"), str(tmp_path / name)])

    for name in ("w.mat", "w.npz", "v.safetensors"):
        assert converted({"relu_after_conv": "True", "pixel_scale": "60.0"}, name) == 0
        expected, logits = logits_of(tmp_path / "w.safetensors", images), logits_of(tmp_path / name, images)
        np.testing.assert_allclose(logits - logits[:, 9:], expected - expected[:, 9:], rtol=1e-4, atol=1e-4)
    assert converted({"relu_after_conv": "False", "pixel_scale": "60.0", "by": "me"}, "v.safetensors") == 0
    np.testing.assert_array_equal(logits_of(tmp_path / "v.safetensors", images), logits_of(tmp_path / "w.safetensors", images))
    assert serialize.load_metadata(tmp_path / "v.safetensors") == {"relu_after_conv": "False", "by": "me"}
    for name in ("no.mat", "no.MAT", "no.npz"):
        assert converted({"relu_after_conv": "False"}, name) == 1
        assert re.search(rf"without ReLU after the convolutions, .* got '{name}'", capsys.readouterr().err)
        assert not (tmp_path / name).exists()


def test_half_precision_does_not_overflow_where_the_pixel_scale_goes_in(tmp_path):
    state = {name: array.astype(np.float16) for name, array in LeNet(np.random.default_rng(15)).state_dict().items()}
    state["conv1.weight"][0, 0, 0, 0] = 1000
    serialize.save(state, tmp_path / "w.safetensors", {"pixel_scale": "1"})
    assert load_lenet(tmp_path / "w.safetensors").conv1.weight.data[0, 0, 0, 0] == 255_000


@pytest.mark.parametrize("relu", ["false", "0", ""])
def test_a_net_with_an_unknown_word_about_its_relu_is_refused(tmp_path, capsys, relu):
    serialize.save(LeNet(np.random.default_rng(0)).state_dict(), tmp_path / "w.safetensors", {"relu_after_conv": relu})
    with pytest.raises(FileFormatError, match=rf"relu_after_conv .*w\.safetensors must be True or False, got '{relu}'"):
        load_lenet(tmp_path / "w.safetensors")
    assert lenet_mat.main([str(tmp_path / "w.safetensors"), str(tmp_path / "w.mat")]) == 1
    assert "must be True or False" in capsys.readouterr().err


def test_what_no_program_can_use_is_not_converted(tmp_path, capsys):
    state = LeNet(np.random.default_rng(0)).state_dict()
    state["fc2.bias"][4] = np.nan
    lenet_mat.save(state, tmp_path / "w.mat")
    assert lenet_mat.main([str(tmp_path / "w.mat"), str(tmp_path / "v.safetensors")]) == 1
    assert re.search(r"w\.mat: fc2\.bias holds NaN or infinity", capsys.readouterr().err)
    assert not (tmp_path / "v.safetensors").exists()


def test_a_folder_is_no_weight_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="load_lenet: it is a folder"):
        load_lenet(tmp_path)
