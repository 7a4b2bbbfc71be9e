"""Files of every kind, what bad input gets, and what the command writes."""

import json
import pickle
import struct
import sys
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from experiments import read
from experiments.reader.load import LONG_SIDE, UnreadableImageError, load
from experiments.reader.reading import (
    Reading,
)
from models import lenet_mat
from tinygrad_lite import serialize


def saved(path, array, mode=None, **options):
    Image.fromarray(array, mode).save(path, **options)
    return path


def test_every_kind_of_file_reads_the_same(tmp_path, clean, reader):
    rgb, rows = clean
    picture = Image.fromarray(rgb)
    gray = np.asarray(picture.convert("L"))
    files = [
        saved(tmp_path / "plain.png", rgb),
        saved(tmp_path / "gray.png", gray),
        saved(tmp_path / "photo.jpg", rgb, quality=88),
        saved(tmp_path / "photo.webp", rgb, quality=90),
        saved(tmp_path / "scan.tiff", gray),
        saved(tmp_path / "old.bmp", rgb),
        saved(tmp_path / "sixteen.png", gray.astype(np.uint16) * 200 + 1000),  # not the whole range
    ]
    for name, changed in (
        ("palette.png", picture.convert("P", palette=Image.Palette.ADAPTIVE, colors=64)),
        ("palette.gif", picture.convert("P", palette=Image.Palette.ADAPTIVE, colors=64)),
        ("cmyk.jpg", picture.convert("CMYK")),
    ):
        changed.save(tmp_path / name)
        files.append(tmp_path / name)
    for path in files:
        assert reader.read(load(path)[0]).lines() == rows, path.name


def test_light_ink_reads_as_dark_ink_does(clean, reader):
    rgb, rows = clean
    assert reader.read(255 - rgb).lines() == rows


@pytest.mark.parametrize("ink", [0, 255])
def test_transparent_pages_get_the_page_that_shows_the_ink(tmp_path, clean, reader, ink):
    rgb, rows = clean
    strength = 255 - np.asarray(Image.fromarray(rgb).convert("L"), np.float32)
    alpha = np.clip((strength - np.median(strength)) * 3, 0, 255).astype(np.uint8)
    rgba = np.dstack([np.full_like(alpha, ink)] * 3 + [alpha])
    assert reader.read(load(saved(tmp_path / "clear.png", rgba))[0]).lines() == rows


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_undone(tmp_path, clean, orientation):
    rgb, _ = clean
    undo = {1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud,
            5: lambda a: a.transpose(1, 0, 2), 6: lambda a: np.rot90(a, 1),
            7: lambda a: np.rot90(a.transpose(1, 0, 2), 2), 8: lambda a: np.rot90(a, -1)}  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.png"
    Image.fromarray(np.ascontiguousarray(undo[orientation](rgb))).save(path, exif=exif)
    np.testing.assert_array_equal(load(path)[0], rgb)


@pytest.mark.parametrize("orientation", [1, 6])
def test_photographs_of_an_iphone(tmp_path, clean, reader, orientation):
    heif = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed")
    rgb, rows = clean
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "IMG_0001.HEIC"
    lying = Image.fromarray(rgb if orientation == 1 else np.ascontiguousarray(np.rot90(rgb)))
    heif.from_pillow(lying).save(path, quality=80, exif=exif.tobytes())
    assert reader.read(load(path)[0]).lines() == rows


def test_heic_without_its_package_is_named(tmp_path, monkeypatch):
    path = tmp_path / "IMG_0001.HEIC"
    path.write_bytes(b"\0\0\0\x24ftypheic" + bytes(100))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.setattr(Image, "OPEN", {name: opener for name, opener in Image.OPEN.items() if name != "HEIF"})
    monkeypatch.setattr(Image, "ID", [name for name in Image.ID if name != "HEIF"])
    with pytest.raises(UnreadableImageError, match=r"HEIC: `pip install pillow-heif` for these.; save it as PNG or JPEG"):
        load(path)


def test_large_photographs_are_shrunk_and_boxes_are_of_the_file(tmp_path, clean, capsys):
    rgb, rows = clean
    factor = 2.6 * LONG_SIDE / max(rgb.shape)
    large = cv2.resize(rgb, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    path = saved(tmp_path / "large.jpg", large, quality=90)
    picture, scale = load(path)
    assert max(picture.shape) <= LONG_SIDE
    assert scale == pytest.approx(max(large.shape) / max(picture.shape))
    small = saved(tmp_path / "small.png", rgb)
    assert read.main([str(path), str(small), "--json", "--out", str(tmp_path / "out")]) == 0
    one, two = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert one["rows"] == two["rows"] == rows
    for a, b in zip(one["digits"], two["digits"], strict=True):
        np.testing.assert_allclose(np.array(a["box"]) / factor, b["box"], atol=0.12 * max(b["box"][2:]))


def huge_png(path):
    """A PNG whose head announces 120 megapixels; nothing of them is there."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 12_000, 10_000, 8, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b""))


def bad_files(folder, rgb):
    (folder / "empty.png").write_bytes(b"")
    (folder / "words.png").write_text("this is no picture")
    (folder / "film.mp4").write_bytes(b"\x00\x00\x00\x18ftypisom" + b"\x00" * 64)
    (folder / "renamed.jpg").write_bytes(b"\x00\x00\x00\x18ftypisom" + b"\x00" * 64)
    (folder / "folder.png").mkdir()
    huge_png(folder / "huge.png")
    Image.fromarray(rgb).save(folder / "whole.png")
    Image.fromarray(rgb).save(folder / "whole.jpg")
    (folder / "cut.png").write_bytes((folder / "whole.png").read_bytes()[:3000])
    (folder / "cut.jpg").write_bytes((folder / "whole.jpg").read_bytes()[:3000])
    Image.fromarray(rgb).save(folder / "program.png", "EPS")
    Image.fromarray(rgb).save(folder / "whole.dds")
    texture = bytearray((folder / "whole.dds").read_bytes())
    texture[80:84] = bytes(4)  # a kind of pixels that there is not
    (folder / "whole.dds").unlink()
    (folder / "texture.dds").write_bytes(texture)
    (folder / "start.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(40))
    return {
        "missing.png": "does not exist",
        "empty.png": "0 bytes",
        "words.png": "none that Pillow knows",
        "film.mp4": "is a video",
        "renamed.jpg": "looks like a video",
        "folder.png": "is a folder",
        "huge.png": r"at most 80 megapixels.*120 \(12000x10000\)",
        "cut.png": "damaged or incomplete",
        "cut.jpg": "damaged or incomplete",
        "start.jpg": "damaged or incomplete",
        "program.png": "none that Pillow knows .it looks like PostScript.",
        "texture.dds": "damaged or incomplete",
    }


def test_bad_files_are_named_and_the_others_are_read(tmp_path, clean, capsys):
    rgb, rows = clean
    expected = bad_files(tmp_path, rgb)
    for name, message in expected.items():
        with pytest.raises(UnreadableImageError, match=message):
            load(tmp_path / name)
    names = [*list(expected)[:4], "whole.png", *list(expected)[4:]]
    out = tmp_path / "out"
    assert read.main([*(str(tmp_path / name) for name in names), "--json", "--out", str(out)]) == 1
    printed = capsys.readouterr()
    assert json.loads(printed.out)["rows"] == rows
    for name in expected:
        assert str(tmp_path / name) in printed.err
    assert sorted(p.name for p in out.iterdir()) == ["read.json", "whole.inputs.png", "whole.read.png"]


def test_a_page_without_digits_gives_none_and_says_so(tmp_path, capsys):
    rng = np.random.default_rng(0)
    blank = np.full((500, 700, 3), 200, np.uint8)
    noisy = np.clip(200 + 8 * rng.standard_normal(blank.shape), 0, 255).astype(np.uint8)
    gradient = np.repeat(np.linspace(60, 230, 700)[None, :, None], 500, 0).repeat(3, 2).astype(np.uint8)
    files = [saved(tmp_path / f"{name}.png", a) for name, a in (("blank", blank), ("noisy", noisy), ("slope", gradient))]
    assert read.main([*map(str, files), "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.count("no digits found") == 3
    results = json.loads((tmp_path / "out" / "read.json").read_text())
    assert [(r["rows"], r["digits"]) for r in results] == [([], [])] * 3


@pytest.mark.parametrize("size", [(1, 1), (2, 300), (7, 5), (1, 1600), (1500, 6)])
def test_tiny_pictures_do_no_harm(size, reader):
    for single in (False, True):
        assert isinstance(reader.read(np.full((*size, 3), 90, np.uint8), single=single), Reading)


def test_weights_of_another_net_are_refused_in_words(tmp_path, clean, capsys):
    picture = saved(tmp_path / "page.png", clean[0])
    state = serialize.load(read.WEIGHTS)
    state["fc2.weight"] = state["fc2.weight"][:9]
    del state["conv1.bias"]
    serialize.save(state, tmp_path / "other.safetensors")
    out = tmp_path / "out"
    assert read.main([str(picture), "--weights", str(tmp_path / "other.safetensors"), "--out", str(out)]) == 1
    error = capsys.readouterr().err
    assert "conv1.bias is missing" in error
    assert "fc2.weight has shape (9, 500), expected (10, 500)" in error
    assert not out.exists()
    assert read.main([str(picture), "--weights", str(tmp_path / "none.npz"), "--out", str(out)]) == 1
    assert "none.npz" in capsys.readouterr().err


def test_other_weights_of_every_kind(tmp_path, clean, capsys):
    picture = saved(tmp_path / "page.png", clean[0])
    state = serialize.load(read.WEIGHTS)
    lenet_mat.save(state, tmp_path / "w.mat")
    serialize.save({**state, "conv1.weight": state["conv1.weight"] * 2}, tmp_path / "w.safetensors", {"pixel_scale": "510"})
    for name in ("w.mat", "w.safetensors"):
        assert read.main([str(picture), "--json", "--weights", str(tmp_path / name), "--out", str(tmp_path / "out")]) == 0
    one, two = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert one["rows"] == two["rows"] == clean[1]
    scaled = read.load_reader(tmp_path / "w.safetensors").nets.net.conv1.weight.data
    np.testing.assert_array_equal(scaled, state["conv1.weight"])
    serialize.save(state, tmp_path / "caffe.safetensors", {"relu_after_conv": "False"})
    assert not read.load_reader(tmp_path / "caffe.safetensors").nets.net.relu_after_conv


class Evil:
    """Whoever unpickles it makes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def test_nothing_pickled_is_loaded(tmp_path, clean, capsys):
    picture = saved(tmp_path / "page.png", clean[0])
    ran = tmp_path / "ran"
    names = serialize.load(read.WEIGHTS)
    np.savez(tmp_path / "evil.npz", **{name: np.array([Evil(ran)], dtype=object) for name in names})
    for name in ("evil.safetensors", "evil.mat", "evil.pt"):
        (tmp_path / name).write_bytes(pickle.dumps(Evil(ran)))
    ran.unlink(missing_ok=True)
    for name in ("evil.npz", "evil.safetensors", "evil.mat", "evil.pt"):
        assert read.main([str(picture), "--weights", str(tmp_path / name), "--out", str(tmp_path / "out")]) == 1
        assert name in capsys.readouterr().err
    assert not ran.exists()


def test_json_has_the_form_that_is_promised(tmp_path, clean, capsys):
    rgb, rows = clean
    path = saved(tmp_path / "page.png", rgb)
    assert read.main([str(path), "--json", "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr()
    result = json.loads(printed.out)
    assert set(result) == {"file", "rows", "digits"}
    assert result["file"] == str(path)
    assert result["rows"] == rows
    assert "".join(str(d["digit"]) for d in result["digits"]) == "".join(rows)
    for digit in result["digits"]:
        assert set(digit) == {"box", "digit", "confidence", "second", "second_confidence"}
        assert digit["digit"] != digit["second"]
        assert 1 >= digit["confidence"] >= digit["second_confidence"] >= 0
        assert all(isinstance(n, int) for n in digit["box"])
    assert "read.json" in printed.err
    for name in ("page.read.png", "page.inputs.png"):
        with Image.open(tmp_path / "out" / name) as picture:
            assert min(picture.size) > 28


def test_two_files_of_one_name_are_both_kept(tmp_path, clean):
    (tmp_path / "a").mkdir()
    files = [saved(tmp_path / "page.png", clean[0]), saved(tmp_path / "a" / "page.png", clean[0])]
    assert read.main([*map(str, files), "--out", str(tmp_path / "out")]) == 0
    assert {"page.read.png", "page-2.read.png"} <= {p.name for p in (tmp_path / "out").iterdir()}


def test_dry_run(tmp_path, capsys):
    assert read.main(["--dry-run", "--out", str(tmp_path)]) == 0
    assert "12 digits" in capsys.readouterr().out


@pytest.mark.skipif(sys.platform == "win32", reason="files cannot be replaced while open there")
def test_pictures_are_written_whole_or_not_at_all(tmp_path, clean, monkeypatch):
    path = saved(tmp_path / "page.png", clean[0])
    out = tmp_path / "out"

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    assert read.main([str(path), "--out", str(out)]) == 1
    assert not [p for p in out.iterdir() if not p.name.startswith(".")]
