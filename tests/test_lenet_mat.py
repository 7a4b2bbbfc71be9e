"""The origin's weight file: read, written, and computed with by its own conventions."""

import numpy as np
import pytest
import scipy.io
import scipy.sparse

from models import lenet_mat
from models.lenet import LeNet
from models.load import load_lenet
from tinygrad_lite import FileFormatError, ShapeError, no_grad, serialize

SIZES = {0: (25, 20), 3: (500, 50), 6: (800, 500), 8: (9, 500)}  # cells counted from 0


def random_params(seed=0, dtype=np.float64, last=9, empty=None, column_biases=False):
    """`params` as the origin's file holds it, with random numbers of a size that keeps all activations alive."""
    rng = np.random.default_rng(seed)
    cells = np.empty((1, 9), object)
    for i in range(9):
        if i not in SIZES:
            cells[0, i] = {"w": np.zeros((0, 0)), "b": np.zeros((0, 0))} if empty is None else empty
            continue
        shape = SIZES[i] if i != 8 else (last, 500)
        fan_in, outputs = (shape[0], shape[1]) if i != 8 else (shape[1], shape[0])
        w = (rng.standard_normal(shape) * np.sqrt(2 / fan_in)).astype(dtype)
        b = (rng.standard_normal((outputs, 1) if i == 8 or column_biases else (1, outputs)) * 0.3).astype(dtype)
        cells[0, i] = {"w": w, "b": b}
    return cells


def write(path, cells):
    scipy.io.savemat(path, {"params": cells})
    return path


def matlab_logits(cells, image):
    """The origin's net on one upright image (28, 28), directly from `params` in MATLAB's conventions, in loops.

    Everything is a column vector that MATLAB's reshape(x, h, w, c) unfolds: element (h, w, c) is at h + H*w + H*W*c. MNIST's
    columns hold the rows of the image one after the other, so that MATLAB sees it transposed.
    """
    column, size, channels = image.reshape(-1), 28, 1
    for cell in (0, 3):
        w, b = cells[0, cell]["w"], cells[0, cell]["b"].ravel()
        filters, out = w.shape[1], size - 4
        result = np.zeros(out * out * filters)
        for f in range(filters):
            for x in range(out):
                for y in range(out):
                    total = b[f]
                    for c in range(channels):
                        for kw in range(5):
                            for kh in range(5):
                                total += w[kh + 5 * kw + 25 * c, f] * column[(y + kh) + size * (x + kw) + size * size * c]
                    result[y + out * x + out * out * f] = max(total, 0.0)
        size, channels = out // 2, filters
        column = np.zeros(size * size * channels)
        for c in range(channels):
            for x in range(size):
                for y in range(size):
                    corner = 2 * y + out * 2 * x + out * out * c
                    window = (corner, corner + 1, corner + out, corner + out + 1)
                    column[y + size * x + size * size * c] = max(result[i] for i in window)
    column = np.maximum(cells[0, 6]["w"].T @ column + cells[0, 6]["b"].ravel(), 0)
    logits = cells[0, 8]["w"] @ column + cells[0, 8]["b"].ravel()
    return np.append(logits, 0.0) if len(logits) == 9 else logits


def test_net_equals_a_direct_evaluation_of_the_layout(tmp_path):
    cells = random_params()
    image = np.random.default_rng(1).random((28, 28))
    model = LeNet(np.random.default_rng(2)).to(np.float64)
    model.load_state_dict(lenet_mat.load(write(tmp_path / "lenet.mat", cells)))
    with no_grad():
        logits = model(image[None, None]).numpy()[0]
    expected = matlab_logits(cells, image)
    assert np.abs(expected).min() == 0  # the digit 9
    assert np.abs(expected[:9]).min() > 1e-3
    np.testing.assert_allclose(logits, expected, rtol=1e-10, atol=1e-11)


def test_round_trip_keeps_every_bit(tmp_path):
    cells = random_params(3)
    lenet_mat.save(lenet_mat.load(write(tmp_path / "a.mat", cells)), tmp_path / "b.mat")
    back = scipy.io.loadmat(tmp_path / "b.mat")["params"]
    assert back.shape == (1, 9)
    for i in range(9):
        for place, key in enumerate("wb"):
            value = back[0, i][0, 0][place]  # as the Python course reads it
            expected = cells[0, i][key]
            assert value.dtype == np.float64
            assert value.shape == expected.shape
            assert value.tobytes() == expected.tobytes()


def test_ten_learned_logits_are_written_as_nine_with_the_same_softmax(tmp_path):
    model = LeNet(np.random.default_rng(4))
    lenet_mat.save(model.state_dict(), tmp_path / "lenet.mat")
    assert scipy.io.loadmat(tmp_path / "lenet.mat")["params"][0, 8][0, 0][0].shape == (9, 500)
    images = np.random.default_rng(5).random((6, 1, 28, 28), np.float32)
    back = load_lenet(tmp_path / "lenet.mat")
    with no_grad():
        expected = model(images).log_softmax(1).numpy()
        np.testing.assert_allclose(back(images).log_softmax(1).numpy(), expected, rtol=1e-5, atol=1e-6)
    assert np.ptp(expected, axis=0).max() > 1e-2  # images differ, so a constant answer would be seen


@pytest.mark.parametrize(
    "change",
    [
        {"dtype": np.float32},
        {"column_biases": True},
        {"empty": {}},
        {"empty": np.zeros((0, 0))},
        {"last": 10},
    ],
    ids=str,
)
def test_other_ways_to_write_the_same_layout(tmp_path, change):
    cells = random_params(6, **change)
    state = lenet_mat.load(write(tmp_path / "lenet.mat", cells))
    assert {value.dtype for value in state.values()} == {np.dtype(change.get("dtype", np.float64))}
    np.testing.assert_array_equal(state["fc1.weight"], cells[0, 6]["w"].T)
    np.testing.assert_array_equal(state["conv2.bias"], cells[0, 3]["b"].ravel())
    np.testing.assert_array_equal(state["fc2.weight"][:9], cells[0, 8]["w"][:9])
    assert state["fc2.weight"].shape == (10, 500)
    np.testing.assert_array_equal(state["fc2.bias"][9:], cells[0, 8]["b"].ravel()[9:] if change.get("last") == 10 else [0])
    # kernels: MATLAB's h is our column
    kernel = cells[0, 3]["w"][:, 7].reshape((5, 5, 20), order="F")
    np.testing.assert_array_equal(state["conv2.weight"][7], kernel.transpose(2, 1, 0))


def test_lists_columns_struct_arrays_and_the_last_weights_turned(tmp_path):
    cells = random_params(7)
    expected = lenet_mat.load(write(tmp_path / "cells.mat", cells))
    structs = np.empty((1, 9), [("w", object), ("b", object)])
    for i in range(9):
        structs[0, i] = cells[0, i]["w"], cells[0, i]["b"]
    others = {"list": list(cells[0]), "column": cells.T, "structs": structs}
    for options in ({}, {"struct_as_record": False}, {"squeeze_me": True}, {"simplify_cells": True}):  # written again
        others[f"{options}"] = scipy.io.loadmat(tmp_path / "cells.mat", **options)["params"]
    others["turned"] = broken(random_params(7), 8, w=cells[0, 8]["w"].T)
    for name, params in others.items():
        state = lenet_mat.load(write(tmp_path / f"{name}.mat", params))
        for key, value in expected.items():
            np.testing.assert_array_equal(state[key], value, err_msg=f"{name}: {key}")


def test_whole_numbers_that_matlab_stores_as_integers(tmp_path):
    cells = broken(random_params(), 0, b=np.arange(20, dtype=np.uint8)[None])
    bias = lenet_mat.load(write(tmp_path / "lenet.mat", cells))["conv1.bias"]
    assert bias.dtype == np.float64
    np.testing.assert_array_equal(bias, np.arange(20))


def broken(cells, cell, **fields):
    cells[0, cell] = {**cells[0, cell], **fields}
    return cells


@pytest.mark.parametrize(
    ("params", "words"),
    [
        (broken(random_params(), 6, w=np.zeros((500, 800))), r"cell 7 \(fc1\): w must be \(800, 500\), got \(500, 800\)"),
        (broken(random_params(), 8, w=np.zeros((8, 500))), r"cell 9 \(fc2\): w must be \(9, 500\) or \(10, 500\), got \(8"),
        (broken(random_params(), 0, b=np.zeros((4, 5))), r"cell 1 \(conv1\): b must hold 20 numbers .* got \(4, 5\)"),
        (broken(random_params(last=10), 8, b=np.zeros((9, 1))), r"cell 9 \(fc2\): b must hold 10 numbers .* got \(9, 1\)"),
        (broken(random_params(), 3, w=np.ones((500, 50)) * 1j), r"cell 4 \(conv2\): w and b must hold real numbers"),
        (broken(random_params(), 4, w=np.ones((2, 3))), r"cell 5: w must be empty, got shape \(2, 3\)"),
        (random_params()[:, :8], r"cell array of 9 structs, got shape \(1, 8\)"),
        (np.zeros((1, 9)), r"cell array of 9 structs, got shape \(1, 9\) of dtype float64"),
        (np.array([["text"] * 9], object), r"cell 1 \(conv1\): must be a struct with the fields w and b, got <U4 of shape"),
        (np.array([[{"W": 1, "B": 2}] * 9], object), r"cell 1 \(conv1\): must be a struct with the fields w and b, got W, B;"),
    ],
)  # fmt: skip
def test_the_weights_of_another_net_are_refused_with_what_differs(tmp_path, params, words):
    with pytest.raises(FileFormatError, match=words):
        lenet_mat.load(write(tmp_path / "lenet.mat", params))


def test_files_that_are_no_weight_files(tmp_path, capsys):
    whole = write(tmp_path / "whole.mat", random_params()).read_bytes()
    (tmp_path / "cut.mat").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.mat").write_text("nothing of the kind, but long enough to look at " * 9)
    (tmp_path / "empty.mat").write_bytes(b"")
    # Version 7.3 is HDF5 behind a head of 512 bytes that says so in its version field.
    (tmp_path / "v73.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(124, b" ") + b"\x00\x02IM" + bytes(512))
    for name in ("cut", "text", "empty"):
        with pytest.raises(FileFormatError, match=rf"{name}.mat is not a whole MAT file"):
            lenet_mat.load(tmp_path / f"{name}.mat")
    with pytest.raises(FileFormatError, match=r"version 7\.3 .*'-v7'"):
        lenet_mat.load(tmp_path / "v73.mat")
    scipy.io.savemat(tmp_path / "other.mat", {"weights": np.ones(3)})
    with pytest.raises(FileFormatError, match="must have a variable `params`, a cell array of layers, got weights"):
        lenet_mat.load(tmp_path / "other.mat")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        lenet_mat.load(tmp_path / "none.mat")
    state = LeNet(np.random.default_rng(0)).state_dict()
    del state["fc2.bias"]
    with pytest.raises(ShapeError, match=r"fc2\.bias missing, expected \(10,\)"):
        lenet_mat.save(state, tmp_path / "part.mat")
    assert not (tmp_path / "part.mat").exists()
    assert lenet_mat.main([str(tmp_path / "cut.mat"), str(tmp_path / "new.safetensors")]) == 1
    assert "cut.mat is not a whole MAT file" in capsys.readouterr().err
    assert not list(tmp_path.glob("*new*"))


def test_converting_both_ways_from_the_command_line(tmp_path, capsys):
    write(tmp_path / "a.mat", random_params(8))
    assert lenet_mat.main([str(tmp_path / "a.mat"), str(tmp_path / "b.safetensors")]) == 0
    assert lenet_mat.main([str(tmp_path / "b.safetensors"), str(tmp_path / "c.mat")]) == 0
    assert "c.mat" in capsys.readouterr().out
    first, last = lenet_mat.load(tmp_path / "a.mat"), lenet_mat.load(tmp_path / "c.mat")
    assert all(first[name].tobytes() == last[name].tobytes() for name in first)
    for name, words in (("new.txt", "the name must end in .mat, .safetensors or .npz, got 'new.txt'"),
                        ("none/new.mat", f"there is no folder {tmp_path / 'none'} for new.mat; make it")):  # fmt: skip
        assert lenet_mat.main([str(tmp_path / "a.mat"), str(tmp_path / name)]) == 1
        assert f"lenet_mat: {words}" in capsys.readouterr().err


def test_load_lenet_reads_every_format_and_names_what_is_wrong(tmp_path):
    model = LeNet(np.random.default_rng(9))
    images = np.random.default_rng(10).random((3, 1, 28, 28), np.float32)
    for suffix in (".safetensors", ".npz"):
        serialize.save(model.state_dict(), tmp_path / f"w{suffix}")
        loaded = load_lenet(tmp_path / f"w{suffix}")
        assert not loaded.training
        np.testing.assert_array_equal(loaded(images).numpy(), model(images).numpy())
    with pytest.raises(FileNotFoundError, match=r"none\.npz\); give --weights"):
        load_lenet(tmp_path / "none.npz")
    (tmp_path / "w.pt").write_bytes(b"pickle")
    with pytest.raises(FileFormatError, match=r"must end in \.safetensors, \.npz or \.mat, got 'w\.pt'; files with pickles"):
        load_lenet(tmp_path / "w.pt")
    np.savez(tmp_path / "pickled.npz", weights=np.array([{}], object))
    with pytest.raises(FileFormatError, match=r"pickled\.npz is not a whole"):
        load_lenet(tmp_path / "pickled.npz")
    state = model.state_dict()
    serialize.save({**state, "fc1.weight": np.zeros((84, 120)), "fc3.bias": np.zeros(3)}, tmp_path / "other.npz")
    words = r"other\.npz .*fc3\.bias is unknown; fc1\.weight has shape \(84, 120\), expected \(500, 800\)"
    with pytest.raises(FileFormatError, match=words):
        load_lenet(tmp_path / "other.npz")
    state["conv2.bias"][3] = np.nan
    serialize.save(state, tmp_path / "nan.npz")
    with pytest.raises(FileFormatError, match=r"nan\.npz: conv2\.bias holds NaN"):
        load_lenet(tmp_path / "nan.npz")


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"pixel_scale": "0.001"}, r"w\.safetensors: conv1\.weight holds NaN or infinity"),
        ({"pixel_scale": "nan"}, r"w\.safetensors was trained on pixels divided by what is no such number: .*nan"),
        ({"pixel_scale": "many"}, r"what is no such number: .*'many'"),
    ],
)
def test_weights_that_overflow_are_refused_in_words(tmp_path, metadata, words):
    state = {name: np.full_like(array, 3e38) for name, array in LeNet(np.random.default_rng(0)).state_dict().items()}
    serialize.save(state, tmp_path / "w.safetensors", metadata)
    with pytest.raises(FileFormatError, match=words):
        load_lenet(tmp_path / "w.safetensors")
    serialize.save({name: array.astype(np.float64) * 10 for name, array in state.items()}, tmp_path / "w.npz")
    with pytest.raises(FileFormatError, match=r"w\.npz: conv1\.weight holds NaN or infinity"):
        load_lenet(tmp_path / "w.npz")


def test_load_lenet_follows_the_metadata(tmp_path):
    caffe = LeNet(np.random.default_rng(11), relu_after_conv=False)
    serialize.save(caffe.state_dict(), tmp_path / "w.safetensors", {"relu_after_conv": "False", "pixel_scale": "128.0"})
    images = np.random.default_rng(12).integers(0, 256, (3, 1, 28, 28)).astype(np.float32)
    expected = caffe(images / np.float32(128)).numpy()
    logits = load_lenet(tmp_path / "w.safetensors")(images / np.float32(255)).numpy()
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


def test_sparse_weights_and_names_in_capitals(tmp_path):
    cells = random_params(16)
    expected = lenet_mat.load(write(tmp_path / "dense.mat", cells))
    for cell, fields in ((3, "wb"), (6, "w")):
        cells = broken(cells, cell, **{key: scipy.sparse.csc_matrix(cells[0, cell][key]) for key in fields})
    write(tmp_path / "SPARSE.MAT", broken(cells, 2, w=scipy.sparse.csc_matrix((0, 0))))
    state = lenet_mat.load(tmp_path / "SPARSE.MAT")
    assert all(np.array_equal(state[name], expected[name]) for name in expected)
    assert load_lenet(tmp_path / "SPARSE.MAT").conv1.weight.data.any()
    assert lenet_mat.main([str(tmp_path / "SPARSE.MAT"), str(tmp_path / "GOOD.MAT")]) == 0
    assert np.array_equal(lenet_mat.load(tmp_path / "GOOD.MAT")["fc1.weight"], expected["fc1.weight"])
    write(tmp_path / "huge.mat", broken(cells, 0, w=scipy.sparse.csc_matrix((1 << 30, 1 << 20))))
    with pytest.raises(FileFormatError, match=r"a sparse array of shape \(1073741824, 1048576\) is no weight"):
        lenet_mat.load(tmp_path / "huge.mat")


def test_weights_of_another_net_are_not_converted(tmp_path, capsys):
    serialize.save({"w": np.zeros(3, np.float32)}, tmp_path / "other.safetensors")
    for name in ("new.npz", "new.mat"):
        assert lenet_mat.main([str(tmp_path / "other.safetensors"), str(tmp_path / name)]) == 1
        assert "lenet_mat: these weights are not of this LeNet: conv1.bias missing" in capsys.readouterr().err
        assert not (tmp_path / name).exists()
