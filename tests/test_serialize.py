"""Weight files: round trips, damage, atomic writes.

This file is long because each kind of damage, and each kind of file of other programs, has its own small test.
"""

import json
import os
import tracemalloc
import zipfile

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from models.lenet import LeNet
from models.load import WEIGHTS
from tinygrad_lite import DtypeError, FileFormatError, ShapeError, _check, nn, serialize

SUFFIXES = [".safetensors", ".npz"]

ARRAYS = {
    "conv1.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a.name.with.dots": np.array([np.nan, np.inf, -0.0]),
    "number": np.array(3.5),
    "empty": np.zeros((0, 3), np.float32),
    "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "every second": np.arange(10)[::2],
    "backwards": np.arange(4, dtype=np.int32)[::-1],
    "bits": np.array([True, False]),
    "bytes": np.arange(3, dtype=np.uint8),
    "half": np.array([1.5], np.float16),
    "complex": np.array([1 + 2j], np.complex64),
    **{dtype: np.arange(3, dtype=dtype) for dtype in ("int8", "int16", "uint16", "uint32", "int64", "uint64")},
    "file": np.ones(1),
    "grösse/√": np.ones(1),
}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_round_trip(tmp_path, suffix):
    path = tmp_path / f"weights{suffix}"
    serialize.save(ARRAYS, path)
    loaded = serialize.load(str(path))
    assert set(loaded) == set(ARRAYS)
    for name, array in ARRAYS.items():
        assert (loaded[name].shape, loaded[name].dtype) == (array.shape, array.dtype), name
        assert loaded[name].tobytes() == array.tobytes(), name
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_other_byte_order_comes_back(tmp_path, suffix):
    path = tmp_path / f"weights{suffix}"
    wide = {"wide": np.ones(2, np.longdouble)} if suffix == ".npz" else {}  # which no other format holds
    serialize.save({"a": np.arange(3.0).astype(">f4"), "b": np.arange(3).astype("<i2"), **wide}, path)
    np.testing.assert_array_equal(serialize.load(path)["a"], [0, 1, 2])
    np.testing.assert_array_equal(serialize.load(path)["b"], [0, 1, 2])


def test_lists_that_differ_in_length_are_refused_by_name(tmp_path):
    with pytest.raises(ShapeError, match=r"save: the value of 'ragged' must be an array, got \[\[1\], \[2, 3\]\]"):
        serialize.save({"fine": np.ones(2), "ragged": [[1], [2, 3]]}, tmp_path / "weights.npz")
    assert not list(tmp_path.iterdir())


def test_saving_copies_no_array(tmp_path):
    arrays = {name: np.ones(1 << 20, np.float32) for name in "ab"}
    tracemalloc.start()
    try:
        serialize.save(arrays, tmp_path / "weights.safetensors")
        assert tracemalloc.get_traced_memory()[1] < arrays["a"].nbytes / 2
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_model_comes_back(tmp_path, suffix):
    model, other = (LeNet(np.random.default_rng(seed)) for seed in (0, 1))
    serialize.save(model.state_dict(), tmp_path / f"lenet{suffix}")
    other.load_state_dict(serialize.load(tmp_path / f"lenet{suffix}"))
    images = np.random.default_rng(2).random((3, 1, 28, 28)).astype(np.float32)
    np.testing.assert_array_equal(model(images).data, other(images).data)


def test_other_programs_read_what_is_written(tmp_path):
    for suffix, read in ((".npz", np.load), (".safetensors", load_file)):
        serialize.save({"a": ARRAYS["columns"]}, tmp_path / f"x{suffix}")
        np.testing.assert_array_equal(read(tmp_path / f"x{suffix}")["a"], ARRAYS["columns"])
    serialize.save(ARRAYS, tmp_path / "x.safetensors", {"seed": "7"})
    read = load_file(tmp_path / "x.safetensors")
    assert {name: (a.dtype, a.tobytes()) for name, a in read.items()} == {n: (a.dtype, a.tobytes()) for n, a in ARRAYS.items()}
    np.savez_compressed(tmp_path / "y.npz", a=ARRAYS["columns"])
    np.testing.assert_array_equal(serialize.load(tmp_path / "y.npz")["a"], ARRAYS["columns"])


def test_metadata(tmp_path):
    serialize.save(ARRAYS, tmp_path / "a.safetensors", metadata={"seed": "7"})
    serialize.save(ARRAYS, tmp_path / "b.safetensors")
    assert serialize.load_metadata(tmp_path / "a.safetensors") == {"seed": "7"}
    assert serialize.load_metadata(tmp_path / "b.safetensors") == {}


def test_other_programs_find_the_metadata_and_the_file_does_not_hang_on_their_order(tmp_path):
    metadata = {"z": "", "format": "pt", "sha256": "abc", "tinygrad_litd": "9f" * 32}
    serialize.save(ARRAYS, tmp_path / "a.safetensors", metadata)
    serialize.save(ARRAYS, tmp_path / "b.safetensors", dict(reversed(metadata.items())))
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert serialize.load_metadata(tmp_path / "a.safetensors") == metadata
    with safe_open(tmp_path / "a.safetensors", "np") as file:
        found = file.metadata()
        assert found == {**metadata, serialize.OURS: found[serialize.OURS]}


def test_older_files_with_all_metadata_in_one_entry(tmp_path):
    arrays, metadata = serialize.load_with_metadata(WEIGHTS)
    old, entry = tmp_path / "old.safetensors", {**metadata, serialize.CHECKSUM: serialize._digest(arrays, metadata)}
    save_file(arrays, old, {serialize.OURS: json.dumps(entry)})
    found, told = serialize.load_with_metadata(old)
    assert told == metadata
    assert not {serialize.OURS, serialize.CHECKSUM} & set(metadata)
    assert all(np.array_equal(found[name], array) for name, array in arrays.items())
    save_file(arrays, old, {serialize.OURS: json.dumps({**entry, "net": "pairs"})})
    with pytest.raises(FileFormatError, match="checksum differs"):
        serialize.load_with_metadata(old)


def damaged(raw, step):
    """Every shorter file, and every `step`-th byte changed."""
    for length in range(0, len(raw), step):
        yield f"cut at {length}", raw[:length]
    for place in range(0, len(raw), step):
        for mask in (1, 255):
            changed = bytearray(raw)
            changed[place] ^= mask
            yield f"byte {place} ^ {mask}", bytes(changed)


@pytest.mark.parametrize("kind", ["safetensors", "npz", "compressed npz"])
def test_damage_is_refused_or_harmless(tmp_path, kind):
    arrays = {"a.b": ARRAYS["columns"], "c": np.random.default_rng(0).normal(size=20)}
    path = tmp_path / ("weights.npz" if "npz" in kind else "weights.safetensors")
    if kind == "compressed npz":
        np.savez_compressed(path, **arrays)
    else:
        serialize.save(arrays, path)
    refusals = []
    for what, content in damaged(path.read_bytes(), step=3):
        path.write_bytes(content)
        try:
            loaded = serialize.load(path)
        except FileFormatError as error:
            refusals.append(str(error))
        else:
            whole = "cut" not in what or set(loaded) == set(arrays)  # a comment at the end of an archive may be cut off
            assert whole, what
            assert all(loaded[name].tobytes() == arrays[name].tobytes() for name in set(arrays) & set(loaded)), what
    assert len(refusals) > 100
    assert all(f"{path} is not a whole {path.suffix} file" in words for words in refusals)


def test_foreign_files(tmp_path):
    np.save(tmp_path / "single.npy", np.ones(3))
    (tmp_path / "single.npy").rename(tmp_path / "single.npz")
    with zipfile.ZipFile(tmp_path / "text.npz", "w") as archive:
        archive.writestr("hello.txt", "no array")
    with zipfile.ZipFile(tmp_path / "longer.npz", "w") as archive, archive.open("a.npy", "w") as entry:
        np.lib.format.write_array(entry, np.ones(3))
        entry.write(b"and more")
    (tmp_path / "words.safetensors").write_text("no weights at all")
    np.savez(tmp_path / "pickle.npz", a=np.array([{"code": "could run"}], dtype=object))
    for name in ("single.npz", "longer.npz", "text.npz", "words.safetensors", "pickle.npz"):
        with pytest.raises(FileFormatError, match=rf"load: .*{name} is not a whole \.{name.rpartition('.')[2]} file: "):
            serialize.load(tmp_path / name)


def packed(path, names_and_contents, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in names_and_contents:
            archive.writestr(name, content)


def npy(descr, shape, data=b""):
    header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}}}".encode()
    return b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header + data


ONE = npy("<f4", "(1,)", bytes(4))


def test_what_packs_well_is_no_bomb(tmp_path):
    np.savez_compressed(tmp_path / "x.npz", a=np.zeros(9_000_000))
    assert serialize.load(tmp_path / "x.npz")["a"].shape == (9_000_000,)
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", ONE)
        archive.infolist()[0].file_size = 1 << 61  # more than any machine's memory
    with pytest.raises(FileFormatError, match="would unpack to more than 200 times as many"):
        serialize.load(tmp_path / "x.npz")


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
@pytest.mark.parametrize(
    ("entries", "method", "words"),
    [
        ([("a.npy", npy("<f4", (10**11,)))], 0, r"a.npy announces shape \(100000000000,\), more than its \d+ bytes"),
        ([("a.npy", bytes(70 << 20))], zipfile.ZIP_DEFLATED, r"its \d+ bytes would unpack to more than 200 times as many"),
        ([("a.npy", ONE)], zipfile.ZIP_LZMA, "a.npy is packed as NumPy packs no file"),
        ([("a.npy", ONE), ("a", ONE)], 0, "it holds two arrays of one name"),
        ([("a.npy", npy("|S0", (10**14,)))], 0, r"a.npy holds no numbers, but dtype \|S0"),
        ([("a.npy", npy("|O", (1,), b"\x80\x04K\1."))], 0, "a.npy holds no numbers, but dtype object"),
        ([("a.npy", npy("<f4", "(True,)", bytes(4)))], 0, ""),
        ([("a.npy", npy("<f4", (0, 2**70)))], 0, ""),
        ([("a.npy", b"\x93NUMPY\1\0\xff\0" + b"(" * 255)], 0, ""),
    ],
)  # fmt: skip
def test_archives_that_were_made_to_harm(tmp_path, entries, method, words, monkeypatch):
    monkeypatch.setattr(_check, "memory_limit", lambda: 256 << 20)
    packed(path := tmp_path / "x.npz", entries, method)
    tracemalloc.start()
    try:
        with pytest.raises(FileFormatError, match=rf"x.npz is not a whole .npz file: .*{words}"):
            serialize.load(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_entries_of_other_names_are_seen(tmp_path):
    serialize.save({"right": np.ones(3)}, tmp_path / "x.npz")
    (tmp_path / "x.npz").write_bytes((tmp_path / "x.npz").read_bytes().replace(b"right", b"wrong"))
    with pytest.raises(FileFormatError, match="its checksum differs"):
        serialize.load(tmp_path / "x.npz")


def foreign(path, dtype, shape, data, metadata=None):
    entry = {"dtype": dtype, "shape": shape, "data_offsets": [0, len(data)]}
    header = json.dumps({"__metadata__": metadata, "right": entry}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)
    return path


def signed(metadata):
    """The one entry of older files, for an array of one zero."""
    return json.dumps({**metadata, serialize.CHECKSUM: serialize._digest({"right": np.zeros(1, np.float32)}, metadata)})


@pytest.mark.parametrize("ours", [None, "5", "[" * 10**5, signed({"pixel_scale": [1]})])
def test_metadata_that_is_none(tmp_path, ours):
    path = foreign(tmp_path / "x.safetensors", "F32", [1], bytes(4), None if ours is None else {serialize.OURS: ours})
    if ours is None:
        assert serialize.load_with_metadata(path) == ({"right": 0}, {})
    else:
        with pytest.raises(FileFormatError, match=r"x\.safetensors is not a whole"):
            serialize.load(path)


@pytest.mark.parametrize("kind", ["x.safetensors", "x.npz", "older x.safetensors"])
def test_damage_to_the_checksum_does_not_switch_it_off(tmp_path, kind):
    path = tmp_path / kind.removeprefix("older ")
    if kind.startswith("older"):
        foreign(path, "F32", [1], bytes(4), {serialize.OURS: signed({"seed": "7"})})
        assert serialize.load_with_metadata(path) == ({"right": 0}, {"seed": "7"})
    else:
        serialize.save({"right": np.zeros(1, np.float32)}, path, {"seed": "7"})
    content = path.read_bytes().replace(b"right", b"wrong")
    begin = content.index(serialize.CHECKSUM.encode() if path.suffix == ".npz" else serialize.OURS.encode())
    end = content.index(b"}", begin) if path.suffix == ".safetensors" else len(content)
    for place in range(begin, end):
        for value in range(256) if place < begin + len(serialize.OURS) else b'\\"\0a ':
            path.write_bytes(content[:place] + bytes([value]) + content[place + 1 :])
            with pytest.raises(FileFormatError, match="not a whole"):
                serialize.load(path)
    for first, name, digits in ((begin + 2, b"z", b"z"), (begin, b"", b"z" * 40)):  # both a little, the digits much
        both = bytearray(content)
        both[first : first + len(name)] = name
        both[end - 50 : end - 50 + len(digits)] = digits
        path.write_bytes(both)
        with pytest.raises(FileFormatError, match="checksum"):
            serialize.load(path)


def test_checksums_of_other_programs_are_not_taken_for_ours(tmp_path):
    metadata = {
        "sshs_model_hash": "9f86d081884c7d65" * 4,
        "sha256": "9f86d081884c7d65" * 4,
        "image_mean": "[0.48145466,0.4578275,0.40821073,0.26862954,0.26130258,0.27577711]",
        "training": signed({"seed": "7"}),
        "tinygrad_lite_version": "0.1.0",
    }
    save_file({"a": np.ones(3)}, tmp_path / "x.safetensors", metadata)
    assert serialize.load_metadata(tmp_path / "x.safetensors") == metadata
    packed(tmp_path / "x.npz", [("a.npy", ONE)])
    with zipfile.ZipFile(tmp_path / "x.npz", "a") as archive:
        archive.comment = b"commit " + b"9f86d081884c7d65" * 4
    assert list(serialize.load(tmp_path / "x.npz")) == ["a"]


def test_dtypes_that_numpy_has_not(tmp_path):
    values = np.array([[1.5, -0.0, np.inf], [3.3895314e38, 1e-40, np.nan]], np.float32)
    upper = (values.view(np.uint32) >> 16).astype("<u2")
    read = serialize.load(foreign(tmp_path / "x.safetensors", "BF16", [2, 3], upper.tobytes()))["right"]
    assert (read.dtype, read.shape) == (np.float32, (2, 3))
    np.testing.assert_array_equal(read.view(np.uint32), values.view(np.uint32) & 0xFFFF0000)
    foreign(tmp_path / "x.safetensors", "F8_E4M3", [3], bytes(3))
    with pytest.raises(
        FileFormatError, match=r"^load: [^:]*x\.safetensors holds 'right' with dtype F8_E4M3.*convert this array"
    ):
        serialize.load(tmp_path / "x.safetensors")


def test_names_and_places(tmp_path):
    with pytest.raises(FileFormatError, match=r"save: a weight file must end in \.safetensors or \.npz, got 'weights\.pkl'"):
        serialize.save(ARRAYS, tmp_path / "weights.pkl")
    with pytest.raises(FileFormatError, match=r"load: a weight file .* got 'weights'"):
        serialize.load(tmp_path / "weights")
    with pytest.raises(FileNotFoundError, match=r"load: there is no file .*none\.npz"):
        serialize.load(tmp_path / "none.npz")
    for suffix in SUFFIXES:
        with pytest.raises(FileNotFoundError, match=rf"^there is no folder .*none for w{suffix}; make it"):
            serialize.save(ARRAYS, tmp_path / "none" / f"w{suffix}")
    with pytest.raises(FileFormatError, match="'tinygrad_lite' is a reserved name in metadata"):
        serialize.save(ARRAYS, tmp_path / "w.safetensors", {serialize.OURS: "0.1"})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("state", "name", "error", "words"),
    [
        ({"a": np.array(["x"])}, "w.npz", DtypeError, "got 'a' with dtype <U1"),
        ({"a": object()}, "w.safetensors", DtypeError, "got 'a' with dtype object"),
        ({3: np.ones(2)}, "w.npz", DtypeError, "got 3 with dtype float64"),
        ({"a": np.ones(2, np.complex128)}, "w.safetensors", DtypeError, "complex128.*use .npz"),
        ({"\ud800": np.ones(2)}, "w.safetensors", DtypeError, r"got '.ud800' with dtype float64"),
        ({"\ud800": np.ones(2)}, "w.npz", DtypeError, r"got '.ud800' with dtype float64"),
        ({"a\0b": np.ones(2)}, "w.npz", FileFormatError, r"'a.x00b' is too long for .npz files, or has a zero in it"),
        ({"x" * 70000: np.ones(2)}, "w.npz", FileFormatError, r"'x+ is too long for .npz files"),
        ({"__metadata__": np.ones(2)}, "w.safetensors", FileFormatError, "'__metadata__' is a reserved name"),
    ],
)
def test_what_cannot_be_written_leaves_the_old_file(tmp_path, state, name, error, words):
    serialize.save({"old": np.ones(3)}, tmp_path / name)
    with pytest.raises(error, match=words):
        serialize.save({"new": np.ones(2), **state}, tmp_path / name)
    assert list(serialize.load(tmp_path / name)) == ["old"]
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_write_that_breaks_off_leaves_the_old_file(tmp_path, suffix, monkeypatch):
    path = tmp_path / f"weights{suffix}"
    serialize.save({"old": np.ones(3)}, path)

    def full_disk(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        serialize.save({"new": np.zeros(3)}, path)
    assert list(serialize.load(path)) == ["old"]
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_two_writes_at_once_leave_one_of_the_two(tmp_path, suffix, monkeypatch):
    path, sync = tmp_path / f"weights{suffix}", os.fsync

    def another_write(descriptor):
        monkeypatch.setattr(os, "fsync", sync)
        serialize.save({"second": np.ones(3)}, path)
        assert list(serialize.load(path)) == ["second"]

    monkeypatch.setattr(os, "fsync", another_write)
    serialize.save({"first": np.zeros(100)}, path)
    assert list(serialize.load(path)) == ["first"]
    assert os.listdir(tmp_path) == [path.name]


def test_parameters_are_saved_as_their_values(tmp_path):
    layer = nn.Linear(3, 2)
    for suffix in SUFFIXES:
        serialize.save(dict(layer.named_parameters()), tmp_path / f"w{suffix}")
        np.testing.assert_array_equal(serialize.load(tmp_path / f"w{suffix}")["weight"], layer.weight.data)


@pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions and links")
def test_a_link_stays_one_and_permissions_stay(tmp_path):
    real, link = tmp_path / "there" / "weights.npz", tmp_path / "link.npz"
    real.parent.mkdir()
    link.symlink_to(real)
    serialize.save({"a": np.zeros(2)}, link)  # where the file is not there yet, too
    real.chmod(0o640)
    serialize.save({"a": np.ones(2)}, link)
    assert link.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    assert serialize.load(real)["a"].tolist() == [1, 1]
    assert os.listdir(real.parent) == [real.name]
