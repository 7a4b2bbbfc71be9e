"""Checkpoints: nested states, such as those of a model and its optimiser, in one file."""

import collections
import json

import numpy as np
import pytest

import tinygrad_lite.functional as F
from tinygrad_lite import DtypeError, FileFormatError, nn, optim, serialize
from tinygrad_lite.nn import Parameter

X = np.ones(1)
STATE = {
    "arrays": {"a": np.arange(6, dtype=np.float16).reshape(2, 3), "b": np.array(2, np.uint8), "empty": np.zeros((0, 2))},
    "plain": [None, True, 3, 2**70, 0.1, "d\u00e9j\u00e0 \u4e16", [], {}, (1, (2.5, np.ones(2)))],
    "infinite": [float("inf"), float("-inf")],
    "": {"": np.zeros(1)},
    "epoch": 3,
}


def same(found, expected):
    if isinstance(expected, dict):
        return type(found) is dict and list(found) == list(expected) and all(same(found[k], expected[k]) for k in expected)
    if isinstance(expected, (list, tuple)):
        return type(found) is type(expected) and len(found) == len(expected) and all(map(same, found, expected))
    if isinstance(expected, np.ndarray):
        return type(found) is np.ndarray and found.dtype == expected.dtype and np.array_equal(found, expected)
    return type(found) is type(expected) and found == expected


def test_a_nested_state_comes_back(tmp_path):
    path = tmp_path / "c.safetensors"
    serialize.save(STATE, path, {"seed": "7"})
    state, metadata = serialize.load_with_metadata(path)
    assert same(state, STATE)
    assert metadata == {"seed": "7"}
    serialize.save({"w": Parameter([1.0]), "best": None, "rates": (np.float64(0.1), np.float32(0.5))}, path)
    assert same(serialize.load(path), {"w": np.ones(1, np.float32), "best": None, "rates": (0.1, 0.5)})
    serialize.save({"state": Pair(X, None), "most": 2**10_000 - 1}, path)
    assert same(serialize.load(path), {"state": (X, None), "most": 2**10_000 - 1})


def test_other_programs_find_the_arrays_by_their_full_names(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    state = {"model": nn.Linear(2, 1).state_dict(), "optimizer": {"state": [{"mean": np.ones(3)}]}}
    serialize.save(state, tmp_path / "c.safetensors")
    found = safetensors.load_file(tmp_path / "c.safetensors")
    assert set(found) == {"model.weight", "model.bias", "optimizer.state.0.mean"}


def train(model, optimizer, scheduler, steps):
    rng = np.random.default_rng(len(steps))
    for _ in steps:
        x = rng.standard_normal((4, 3)).astype(np.float32)
        optimizer.zero_grad()
        F.mse_loss(model(x), x[:, :2]).backward()
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize("kind", [optim.Adam, optim.AdamW, lambda p: optim.SGD(p, lr=0.1, momentum=0.9)])
def test_a_training_goes_on_as_if_it_had_not_been_stopped(tmp_path, kind):
    def make():
        model = nn.Sequential(nn.Linear(3, 4, rng=np.random.default_rng(0)), nn.BatchNorm1d(4), nn.Linear(4, 2))
        optimizer = kind(model.parameters())
        return model, optimizer, optim.LRScheduler(optimizer, optim.cosine(10)), optim.AveragedModel(model)

    first, second = make(), make()
    train(*first[:3], range(3))
    first[3].update_parameters(first[0])
    names = ("model", "optimizer", "scheduler", "average")
    serialize.save({n: part.state_dict() for n, part in zip(names, first, strict=True)}, tmp_path / "c.safetensors")
    state = serialize.load(tmp_path / "c.safetensors")
    for name, part in zip(names, second, strict=True):
        part.load_state_dict(state[name])
    for model, optimizer, scheduler, average in (first, second):
        train(model, optimizer, scheduler, range(4))
        average.update_parameters(model)
    for a, b in zip(first, second, strict=True):
        assert same(a.state_dict(), b.state_dict())


itself: dict = {}
itself["again"] = itself
endless: list = []
endless.append(endless)
Pair = collections.namedtuple("Pair", "mean square")


@pytest.mark.parametrize(
    ("state", "name", "error", "words"),
    [
        ({"a": {}}, "c.npz", FileFormatError, r"a \.npz file holds arrays by name alone; for a nested state use \.safetensors"),
        (itself, "c.safetensors", DtypeError, "nested too deeply, or holds itself"),
        ({"a": endless}, "c.safetensors", DtypeError, "nested too deeply, or holds itself"),
        ({"a": {"b": -(10**5000)}}, "c.safetensors", DtypeError, "a.b has 16610 bits, and an integer may have 10000 here"),
        ({"a": {1: 2}}, "c.safetensors", DtypeError, "names must be text, got 1 in a"),
        ({"a": {"b": object()}}, "c.safetensors", DtypeError, "got 'a.b' with dtype object"),
        ({"a": ["x", "\ud800"]}, "c.safetensors", DtypeError, "got 'a.1' with dtype <U1"),
        (
            {"a": {"b.c": np.ones(1)}, "a.b": {"c": np.ones(1)}},
            "c.safetensors",
            FileFormatError,
            "two arrays of the name 'a.b.c'",
        ),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path, state, name, error, words):
    with pytest.raises(error, match=words):
        serialize.save(state, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_the_trees_name_is_the_librarys(tmp_path):
    with pytest.raises(FileFormatError, match=f"'{serialize.TREE}' is a reserved name in metadata"):
        serialize.save({"a": np.ones(1)}, tmp_path / "c.safetensors", {serialize.TREE: "{}"})


def test_a_model_says_which_part_it_wants(tmp_path):
    with pytest.raises(DtypeError, match="'model' is a mapping itself; give the part of the state that is the model's"):
        nn.Linear(2, 1).load_state_dict({"model": nn.Linear(2, 1).state_dict(), "epoch": 3})


@pytest.mark.parametrize(
    "tree",
    ["", "3", "[]", '{"array": "w"}', '{"dict": {"w": {"array": "v"}}}', '{"dict": {}}', '{"dict": {"w": {"set": []}}}',
     '{"dict": {"a": {"array": "w"}, "b": {"array": "w"}}}', '{"dict": {}, "list": []}', '{"dict": 3}',
     '{"list": [{"array": "w"}]}', '{"dict": {"w": {"array": ["w"]}}}', '{"list": ' * 2000 + "[]" + "}" * 2000],
)  # fmt: skip
def test_a_tree_that_is_none_is_a_damaged_file(tmp_path, tree):
    safetensors = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "c.safetensors"
    safetensors.save_file({"w": np.ones(2)}, path, {serialize.TREE: '{"dict": {"w": {"array": "w"}}}'})
    assert same(serialize.load(path), {"w": np.ones(2)})
    safetensors.save_file({"w": np.ones(2)}, path, {serialize.TREE: tree})
    with pytest.raises(FileFormatError, match=r"is not a whole \.safetensors file"):
        serialize.load(path)


def test_damage_to_the_tree_is_seen(tmp_path):
    path = tmp_path / "c.safetensors"
    serialize.save({"a": {"lr": 0.5, "w": np.ones(1)}}, path)
    content = path.read_bytes()
    place = content.index(b"0.5")
    path.write_bytes(content[:place] + b"0.7" + content[place + 3 :])
    assert json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])  # the text is still a header
    with pytest.raises(FileFormatError, match="its checksum differs"):
        serialize.load(path)
