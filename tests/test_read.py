"""The reader: files of every kind, pages of every kind, order, and what bad input gets.

This file is long because every kind of file and page has a small test.
"""

import json
import pickle
import struct
import sys
import zlib
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")

from experiments import mnist, pages, read  # noqa: E402
from experiments.paper import make_page  # noqa: E402
from experiments.reader import find, order, rules, seams, size, split, stack  # noqa: E402
from experiments.reader import page as steps  # noqa: E402
from experiments.reader.judge import (  # noqa: E402
    accept,
    in_line,
    is_grain,
    lean,
    link,
    only_digit,
    plausible,
    unlike,
    usual_height,
)
from experiments.reader.load import LONG_SIDE, UnreadableImageError, load  # noqa: E402
from experiments.reader.nets import Nets  # noqa: E402
from experiments.reader.page import Reader  # noqa: E402
from experiments.reader.reading import (  # noqa: E402
    Digit,
    Known,
    Reading,
    completed,
    extends,
    loses,
    off_rules,
    surer,
    without_lonely_ones,
    written_on,
)
from experiments.reader.rules import guesses_at_ink, painted_over, variants, without_frames, without_rules  # noqa: E402
from experiments.reader.sheet import Sheet, find_sheet  # noqa: E402
from models import lenet_mat  # noqa: E402
from tinygrad_lite import serialize  # noqa: E402


@pytest.fixture(scope="module")
def digits():
    training, _ = mnist.load()
    return mnist.Digits(training.images[-500:], training.labels[-500:])


@pytest.fixture(scope="module")
def reader():
    return read.load_reader()


@pytest.fixture(scope="module")
def clean(digits):
    """A clean page of twelve digits in two or three rows, and its rows."""
    page = make_page(*digits, list(range(12)), "clean", np.random.default_rng(1))
    return page.image, page.truth()["rows"]


# --- files ----------------------------------------------------------------------------------------------------------


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


# --- what bad input gets ---------------------------------------------------------------------------------------------


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


# --- reading ---------------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("kind", ["plain", "inverted", "large", "margins", "frame", "specks", "thick", "thick light"])
def test_single_digits_of_every_kind(digits, reader, kind):
    rng = np.random.default_rng(0)
    right = 0
    for image, label in zip(digits.images[:12], digits.labels[:12], strict=True):
        picture = image
        if kind in ("large", "margins", "frame", "specks"):
            picture = cv2.resize(image, None, fx=9, fy=9, interpolation=cv2.INTER_CUBIC)
        if kind == "margins":
            picture = np.pad(picture, ((120, 10), (15, 260)))
        if kind == "frame":
            picture = np.pad(picture, 4)
            picture[:2], picture[:, -2:] = 255, 255
        if kind == "specks":
            picture = picture.copy()
            for x, y in rng.integers(3, 249, (6, 2)):
                cv2.circle(picture, (int(x), int(y)), 2, 255, -1)
        if kind == "inverted":
            picture = 255 - picture
        if kind.startswith("thick"):  # half of the picture is ink, and it runs to the border
            picture = cv2.dilate(cv2.resize(image, None, fx=9, fy=9), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (15, 15)))
            x, y, w, h = cv2.boundingRect((picture > 128).astype(np.uint8))
            picture = picture[y : y + h, x : x + w]
            picture = picture if kind == "thick light" else 255 - picture
        reading = reader.read(np.repeat(picture[..., None], 3, axis=2), single=True)
        assert len(reading.digits) == 1
        right += reading.digits[0].digit == label
    assert right >= (8 if kind == "thick light" else 11)


@pytest.mark.parametrize("kind", ["small", "border", "whole"])
def test_a_picture_of_one_large_digit_needs_no_telling(digits, reader, kind):
    right = 0
    for image, label in zip(digits.images[:12], digits.labels[:12], strict=True):
        picture = image
        if kind != "small":  # its strokes run to the border, at the top or everywhere
            picture = cv2.resize(image, None, fx=9, fy=9, interpolation=cv2.INTER_CUBIC)
            x, y, w, h = cv2.boundingRect((picture > 128).astype(np.uint8))
            aside = 60 * (kind == "border")
            picture = np.pad(picture[y : y + h, x : x + w], ((0, aside), (aside, aside)))
        right += reader.read(np.repeat(255 - picture[..., None], 3, axis=2)).lines() == [str(label)]
    assert right >= (10 if kind == "whole" else 11)


def test_pieces_of_a_digit_lie_within_it():
    def reading(*boxes, sure):
        return Reading([Digit(box, 4, sure, 9, 0.0, np.zeros((28, 28), np.float32)) for box in boxes])

    one = reading((10, 10, 80, 90), sure=0.998)
    inside, beside = (12, 12, 30, 50), (95, 12, 30, 50)
    assert surer(one, reading(inside, sure=0.99), within=True)
    assert not surer(one, reading(inside, beside, sure=0.99), within=True)
    assert surer(one, reading(inside, beside, sure=0.7), within=False)
    assert surer(one, reading(inside, sure=0.95), within=False)
    assert not surer(one, reading(inside, beside, sure=0.95), within=False)
    assert not surer(one, reading(inside, sure=0.999), within=False)
    assert not surer(reading((10, 10, 80, 90), sure=0.98), Reading(), within=False)
    sure = reading((10, 10, 80, 90), sure=0.92)
    holes, half = [(20, 20, 10, 20), (20, 60, 20, 44)], (20, 12, 30, 46)
    assert surer(sure, reading(*holes, sure=0.89), within=True)
    assert not surer(sure, reading(*holes, sure=0.91), within=True)
    assert not surer(sure, reading(*holes, half, sure=0.8), within=True)
    line = Reading([one_read(1, 10, 10, 80, 90)])
    assert not surer(line, reading(inside, sure=0.95), within=True)  # a shadow's edge across the digits
    assert surer(line, reading(inside, sure=0.85), within=True)
    assert not surer(sure, reading(*holes, beside, sure=0.8), within=False)
    assert not surer(reading((10, 10, 80, 90), sure=0.88), reading(*holes, sure=0.6), within=False)
    edge = one_read(1, 200, 0, 10, 150)
    assert surer(sure, Reading([edge, edge]), within=True)
    assert not surer(sure, Reading([edge, edge, edge]), within=True)
    assert not surer(sure, Reading([edge, one_read(7, 200, 0, 10, 150)]), within=False)
    assert not surer(Reading([one_read(1, 10, 10, 80, 90, 0.92)]), Reading([edge]), within=True)
    assert not surer(Reading(), Reading(), within=False)


def test_one_digit_is_neither_what_lies_around_it_nor_a_line_below():
    digit = np.zeros((100, 80), np.uint8)
    digit[30:60, 30:36] = digit[30:36, 30:55] = 1
    corners = cv2.ellipse(np.ones_like(digit), (40, 50), (38, 48), 0, 0, 360, 0, -1)  # dark, as of a lens
    square = np.ones_like(digit)
    square[20:80, 15:65] = 0
    below, above, thick = (np.zeros_like(digit) for _ in range(3))
    below[64:67, 25:60] = above[20:23, 25:60] = thick[64:75, 25:60] = 1
    near = np.zeros_like(digit)
    near[58:61, 38:60] = 1
    only = [find.Part((30, 30, 25, 30), digit[30:60, 30:55])]

    def chosen(mask):
        return sorted(p.box for p in only_digit(find.parts(mask), mask.shape))

    for more in corners, square, below:
        assert chosen(digit | more) == [only[0].box]
    for more in above, thick, near:  # the flag of a 5, more of a digit, the foot of a 2
        assert len(chosen(digit | more)) == 2
    assert chosen(corners) == [(0, 0, 80, 100)]  # where there is nothing else
    full = cv2.ellipse(np.zeros_like(digit), (40, 50), (35, 45), 0, 0, 360, 1, 9)  # a 0, and a speck in it
    full[45:49, 38:44] = 1
    assert (0, 0, 80, 100) in chosen(full)


def test_ink_that_fills_a_part_of_the_page_is_no_noise():
    seen = np.abs(np.random.default_rng(0).normal(0, 0.01, (56, 56))).astype(np.float32)
    seen[15:41, 20:36] = 0.4
    assert find._noise(seen, 0.3).max() < 0.08
    seen[:, 28:] += 0.15  # as noisy as that is a dark half of a page, and there it counts
    assert find._noise(seen, 0.6)[:, 40:].min() > 0.15


def test_beside_a_sheet_a_line_alone_is_no_sure_1(clean, reader, monkeypatch):
    line, row = Reading([one_read(1, 500, 10, 20, 500)]), Reading([one_read(4, 40 * k, 100, confidence=0.97) for k in range(9)])
    for edges, expected in ((True, row), (False, line)):
        found = iter([(line, 9.0, True), *[(row, 99.0, False)] * 20])
        monkeypatch.setattr(Reader, "_read_ink", lambda _, ink, known, _steep, found=found: next(found))
        monkeypatch.setattr(steps, "variants", lambda ink: [ink])
        reading, _ = reader._read_picture(clean[0], single=False, edges=edges)
        assert [d.digit for d in reading.digits] == [d.digit for d in expected.digits]
    asked = []
    monkeypatch.setattr(Reader, "_read_picture", lambda *_, **how: (asked.append(how.get("edges", False)), (row, False))[1])
    reader.read(on_a_table(clean[0])[0])
    assert asked[:2] == [False, True]  # the sheet alone, and all of the picture
    reader.read(clean[0])
    assert asked[2:3] == [False]


def test_what_is_half_as_dark_as_the_only_sure_digit_is_no_1():
    gray = np.full((100, 300), 200, np.float32)
    mask = np.zeros(gray.shape, np.uint8)
    for x, dark in ((20, 150), (120, 60), (220, 110)):
        gray[20:80, x : x + 10], mask[20:80, x : x + 10] = 200 - dark, 1
    ink = find.Ink((200 - gray) / 200, (200 - gray) / 200, gray, mask, light=False, name="")
    found = [split.Hypothesis(p.box, p.mask) for p in sorted(find.parts(mask), key=lambda p: p.box)]
    odd = unlike(found, ink, [0.99, 0.95, 0.8])
    assert [accept(1, 0.95, float(o), in_row=False) for o in odd] == [True, False, True]
    assert accept(3, 0.95, float(odd[1]), in_row=False)  # a faint pencil beside a marker


def test_of_one_digit_and_a_1_beside_it_the_digit_counts(clean, reader, monkeypatch):
    one, five = one_read(1, 200, 0, 100, 300, 0.97), one_read(5, 10, 10, 60, 90, 0.96)
    doubtful = Reading([one_read(9, 0, 0, 300, 300, 0.4)])
    monkeypatch.setattr(
        Reader, "_read_picture", lambda _, picture, single, **how: (doubtful if single else Reading([one, five]), False)
    )
    assert reader.read(clean[0], single=True).lines() == ["5"]


def test_a_thin_0_that_fills_the_picture_is_no_frame(reader):
    picture = cv2.ellipse(np.full((300, 220, 3), 255, np.uint8), (110, 150), (107, 147), 0, 0, 360, (20, 20, 20), 6)
    assert reader.read(picture, single=True).lines() == ["0"]


@pytest.mark.parametrize(("doubtful", "share", "pictures"), [(True, 0.3, 1), (True, 1, 2), (False, 0.3, 2)])
def test_the_lit_part_of_a_page_is_not_read_for_itself(clean, reader, monkeypatch, doubtful, share, pictures):
    picture, truth = clean
    height, width = picture.shape[:2]
    mask = np.zeros((height, width), np.uint8)
    mask[: round(share * height)] = 1
    lit = Sheet(picture[: round(share * height)].copy(), (0, 0, width, round(share * height)), mask, doubtful)
    monkeypatch.setattr(steps, "find_sheet", lambda _: lit)
    looked, read_picture = [], Reader._read_picture
    monkeypatch.setattr(Reader, "_read_picture", lambda *a, **k: (looked.append(a), read_picture(*a, **k))[1])
    assert reader.read(picture).lines() == truth
    assert len(looked) == pictures


@pytest.mark.parametrize(
    ("confidence", "count", "second", "guesses"),
    [(0.985, 9, "555555555", 2), (0.975, 9, "333333333", 2), (0.975, 4, "3333", 3)]
    + [(0.975, 9, second, 3) for second in ("333353333", "33333333", "3333333333")],
)
def test_two_guesses_at_the_ink_do_where_the_page_reads_well_or_they_agree(
    clean, reader, monkeypatch, confidence, count, second, guesses
):
    asked = []

    def reading(_, ink, known, _steep):
        asked.append(ink)
        read = second if len(asked) == 2 else "3" * count
        boxes = [(40 * i, 5, 30, 40) for i in range(len(read))]
        digits = [
            Digit(b, int(d), confidence, 1, 0.0, np.zeros((28, 28), np.float32)) for b, d in zip(boxes, read, strict=True)
        ]
        return Reading(digits), 9.0, False

    monkeypatch.setattr(Reader, "_read_ink", reading)
    monkeypatch.setattr(steps, "variants", lambda ink: [ink])
    reader._read_picture(clean[0], single=False)
    assert len(asked) == guesses
    asked.clear()  # where a sheet is read for itself too, one of several digits that reads well does
    reader._read_picture(clean[0], single=False, hurried=True)
    assert len(asked) == 1 + (count < 5)


def on_a_table(page):
    """The page, its upper left corner at (width // 2, height // 3) of a table of dark wood."""
    height, width = page.shape[:2]
    noise = np.random.default_rng(2).normal(0, 1, (height // 10, 4)).astype(np.float32)
    grain = 1 + 0.15 * cv2.resize(noise, (2 * width, 2 * height))[..., None]
    table = np.clip(np.array([95, 60, 35]) * grain, 0, 255).astype(np.uint8)
    table[height // 3 : height // 3 + height, width // 2 : width // 2 + width] = page
    return table, (width // 2, height // 3, width, height)


def test_a_sheet_on_a_table_is_found(clean, reader, monkeypatch):
    table, box = on_a_table(clean[0])
    sheet = find_sheet(table)
    alone, found = sheet.alone, sheet.box
    np.testing.assert_allclose(found, box, atol=0.08 * max(box))  # without its edge
    assert alone.shape == (found[3], found[2], 3)
    assert alone.min() > 50  # nothing of the table
    tried: list[find.Ink] = []
    real = reader._read_ink
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Reader, "_read_ink", lambda _, ink, known, steep: tried.append(ink) or real(ink, known, steep))
        assert reader.read(table).lines() == clean[1]
        assert {ink.mask.shape for ink in tried} == {
            size.fit(alone)[0].shape[:2]
        }  # it reads surely: the table is not looked at
        tried.clear()
        patch.setattr(Sheet, "has_all", lambda *_: False)
        assert reader.read(table).lines() == clean[1]
    whole = size.fit(table)[0].shape[:2]
    grain = [ink.light for ink in tried if ink.mask.shape == whole and "rules" not in ink.name and "darkest" not in ink.name]
    assert sorted(grain) == [False, True]  # not again and again
    monkeypatch.setattr(Sheet, "has_all", lambda *_: False)
    one = Digit((5, 7, 20, 30), 3, 1.0, 5, 0.0, np.zeros((28, 28), np.float32))
    # Where the whole picture reads as nothing the sheet counts, its boxes moved to where they are on the picture.
    monkeypatch.setattr(
        Reader,
        "_read_picture",
        lambda _, picture, single, **how: (Reading([one] * (picture.shape == alone.shape)), True),
    )
    assert reader.read(table).digits[0].box == (found[0] + 5, found[1] + 7, 20, 30)
    # So it does where it holds one digit.
    monkeypatch.setattr(
        Reader,
        "_read_picture",
        lambda _, picture, single, **how: (Reading([one] * (single and picture.shape == alone.shape)), True),
    )
    assert reader.read(table).digits[0].box == (found[0] + 5, found[1] + 7, 20, 30)
    # A shadow's edge looks like a sheet's: where the whole picture reads better it stays.
    half_sure = replace(one, confidence=0.9)
    monkeypatch.setattr(
        Reader,
        "_read_picture",
        lambda _, picture, single, **how: (
            Reading([] if single else [one] if picture.shape == alone.shape else [half_sure] * 2),
            False,
        ),
    )
    assert len(reader.read(table).digits) == 2


def test_a_light_part_of_a_page_in_shadow_is_a_doubtful_sheet(clean, reader, monkeypatch):
    height, width = clean[0].shape[:2]
    noise = np.random.default_rng(0).normal(0, 3, (height, width, 1))
    page = np.clip(cv2.cvtColor(clean[0], cv2.COLOR_RGB2GRAY)[..., None] * (0.9, 0.95, 0.8) + noise, 0, 255)
    lit = np.zeros((height, width, 1))
    lit[: round(0.6 * height)] = 1
    blue, grain = np.array([0.8, 1.0, 1.3]), 1 + np.random.default_rng(1).normal(0, 0.15, (height, width, 1))
    in_a_hurry: list[bool] = []
    real = Reader._read_picture

    def read(self, some, *, hurried=False, **how):
        if some.shape == picture.shape:
            in_a_hurry.append(hurried)
        return real(self, some, hurried=hurried, **how)

    monkeypatch.setattr(Reader, "_read_picture", read)
    for around, doubtful in ((0.4 * page, True), (0.4 * page * blue, False), (0.4 * page * grain, False)):
        picture = np.clip(lit * page + (1 - lit) * around, 0, 255).astype(np.uint8)
        assert find_sheet(picture).doubtful is doubtful
        for room in (False, True):
            monkeypatch.setattr(Sheet, "has_all", lambda *_, room=room: room)
            in_a_hurry = []
            reader.read(picture)
            assert in_a_hurry[:1] == ([False] if doubtful else [] if room else [True])  # what lies in shadow is looked at well


def test_a_row_that_may_go_on_beside_the_sheet_is_not_all():
    mask = np.zeros((300, 400), np.uint8)
    mask[50:250, 100:300] = 1
    sheet = Sheet(np.zeros((200, 200, 3), np.uint8), (100, 50, 200, 200), mask, False)
    assert sheet.has_all([(121, 71, 30, 40), (249, 189, 30, 40)])
    for box in (119, 100, 30, 40), (251, 100, 30, 40), (150, 69, 30, 40), (150, 191, 30, 40), (105, 52, 3, 4), (5, 5, 30, 40):
        assert sheet.has_all([(200, 150, 30, 40), box]) == (box[3] < 5)


def test_a_row_of_digits_is_no_single_digit(clean, reader, monkeypatch):
    image = np.zeros((28, 28), np.float32)

    def row(confidence):
        return Reading([Digit((40 * k, 50, 30, 40), 2, confidence, 5, 0.0, image) for k in range(3)])

    one = Reading([Digit((0, 0, 200, 200), 1, 0.999, 7, 0.0, image)])
    monkeypatch.setattr(Reader, "_read_picture", lambda _, picture, single, **how: (one if single else row(0.95), False))
    assert reader.read(clean[0]).lines() == ["222"]
    monkeypatch.setattr(Reader, "_read_picture", lambda _, picture, single, **how: (one if single else row(0.85), False))
    assert reader.read(clean[0]).lines() == ["1"]


def test_a_few_unsure_digits_may_be_of_the_other_polarity(clean, reader, monkeypatch):
    image = np.zeros((28, 28), np.float32)
    tried: list[bool] = []
    monkeypatch.setattr(steps, "guesses_at_ink", lambda *some, **how: islice(guesses_at_ink(*some, **how), 1))
    for count, sure, both in ((4, False, True), (5, False, False), (4, True, False)):
        some = [Digit((40 * k, 50, 30, 40), 2, 0.85, 5, 0.0, image) for k in range(count)]
        monkeypatch.setattr(Reader, "_read_ink", lambda _, ink, *more: (tried.append(ink.light) or Reading(some), 50.0, sure))  # noqa: B023
        tried.clear()
        reader._read_picture(clean[0], single=False)
        assert (len(set(tried)) == 2) is both


def test_pieces_of_rules_are_no_digits():
    page = np.zeros((200, 200), np.uint8)
    page[100:102] = page[:, 100:102] = 1
    page[20:50, 30:34] = 1  # a stroke of a pen
    page[90:130, 40:45] = 1  # one that crosses a line
    page[60:98, 150:154] = 1  # and one beside it
    ink = find.Ink(page, page, page, page, light=False, name="")
    *_, without, whole = variants(ink)
    assert without.rules is None
    on_line, corner, *written = (one_read(1, x, y, w, h) for x, y, w, h in (
        (110, 99, 30, 4), (95, 95, 30, 30), (30, 20, 4, 30), (40, 90, 5, 40), (145, 60, 25, 42)))  # fmt: skip
    assert off_rules([on_line, corner, *written], whole) == written
    assert off_rules([on_line], replace(whole, rules=None)) == [on_line]


@pytest.mark.parametrize(("surely", "kept"), [(3, 0), (2, 1)])
def test_pieces_of_rules_go_where_enough_reads_without_them(clean, reader, monkeypatch, surely, kept):
    digits, piece = [one_read(2, 40 * k, 50) for k in range(surely)], one_read(7, 200, 10, 30, 60)

    def read_ink(_, ink, known, _steep):
        reading = Reading([*digits, *([] if ink.rules is None else [piece])])
        return reading, reading.score(), False

    def without_and_with_rules(ink):
        rules = np.zeros_like(ink.mask)
        rules[10:70, 200:230] = 1
        return [ink, replace(ink, mask=ink.mask | rules, rules=rules)]

    monkeypatch.setattr(Reader, "_read_ink", read_ink)
    monkeypatch.setattr(steps, "variants", without_and_with_rules)
    best, _ = reader._read_picture(clean[0], single=False)
    assert len(best.digits) == surely + kept


@pytest.mark.parametrize("shadow", [129, 110])
def test_a_sheet_in_a_hand_s_shadow_is_found_on_a_coloured_table(shadow):
    checks = (np.indices((600, 800)) // 40).sum(0) % 2  # of a cloth, as bright as the paper in the shadow
    table = np.where(checks[..., None], [60, 90, 180], [30, 45, 90]).astype(np.uint8)
    table[150:450, 200:600] = (215, 213, 208)
    table[150:450, 300:450] = (shadow, shadow - 1, shadow - 4)
    np.testing.assert_allclose(find_sheet(table).box, (200, 150, 400, 300), atol=30)  # without its edge


def one_read(digit, x, y, w=20, h=30, confidence=1.0):
    return Digit((x, y, w, h), digit, confidence, 5, 0.0, np.zeros((28, 28), np.float32))


def test_what_a_table_is_taken_for_is_not_on_the_sheet():
    sheet = np.zeros((400, 400), np.uint8)
    sheet[100:300, 100:300] = 1
    on = [one_read(k, 110 + 30 * k, 150) for k in range(5)]
    edge = one_read(7, 295, 100)  # its box begins on the sheet, its middle is beside it
    assert written_on(sheet, [*on, edge]) == on
    grain = [one_read(1, 5 + 25 * k, 20) for k in range(9)] + [one_read(7, 300, 300)]
    assert written_on(sheet, [*grain, *on]) == on
    other_half = [one_read(k, 30 * k, 330) for k in range(4)]  # of a page of which the sheet is the light half
    assert written_on(sheet, [*on, *other_half]) == [*on, *other_half]
    assert written_on(sheet, [edge]) == [edge]
    assert written_on(sheet, grain[:1]) == grain[:1]
    beyond = one_read(3, 390, 390)
    assert written_on(sheet, [beyond]) == [beyond]
    next_in_row = one_read(6, 305, 155)  # in the shadow of which the sheet is the lit part
    assert written_on(sheet, [*on, next_in_row]) == [*on, next_in_row]
    for no_digit in (one_read(1, 305, 155), one_read(6, 305, 155, confidence=0.8), one_read(6, 305, 330)):
        assert written_on(sheet, [*on, no_digit]) == on
    many = [one_read(k % 10, 110 + 30 * (k % 5), 110 + 40 * (k // 5)) for k in range(20)]
    in_shadow = [one_read(k, 305 + 30 * k, 330) for k in (0, 2, 3)]
    assert written_on(sheet, [*many, *in_shadow]) == [*many, *in_shadow]
    assert written_on(sheet, [*many, *in_shadow, one_read(1, 335, 330)])[-1].box[0] == 335
    assert written_on(sheet, [*many, *in_shadow[1:], one_read(8, 305, 330, 30, 45)]) == many


def test_a_sheet_counts_where_the_table_alone_reads_surely(clean, reader, monkeypatch):
    table, _ = on_a_table(clean[0])
    alone = find_sheet(table).alone.shape

    x, y = find_sheet(table).box[:2]
    wood = [one_read(8, 1, 1)]

    def read(_, picture, single, **how):
        if picture.shape == alone:
            return Reading([one_read(k, 40 * k, 20, confidence=0.98) for k in range(3, 6)]), False
        return Reading(list(wood)), True

    monkeypatch.setattr(Reader, "_read_picture", read)
    assert reader.read(table).lines() == ["345"]
    wood += [one_read(k, x + 40 * k, y + 20) for k in range(4, 9)]  # now the whole picture reads better, all but the wood
    assert reader.read(table).lines() == ["45678"]


def test_where_the_sheet_is_all_the_table_is_not_looked_at(clean, reader, monkeypatch):
    table, _ = on_a_table(clean[0])
    alone = find_sheet(table).alone.shape
    asked = []

    def read(_, picture, single, **how):
        asked.append((picture.shape == alone, single))
        digit = 3 if picture.shape == alone else 7
        return Reading([] if single else [one_read(digit, 200, 100), one_read(digit, 300, 200)]), True

    monkeypatch.setattr(Reader, "_read_picture", read)
    assert reader.read(table).lines() == ["3", "3"]
    assert asked == [(True, False), (True, True)]
    monkeypatch.setattr(Sheet, "has_all", lambda *_: False)
    assert reader.read(table).lines() == ["7", "7"]  # on the whole picture nothing is cut off


def test_ones_alone_are_worth_little_for_grain_is_read_as_ones():
    def worth(*digits):
        return Reading([one_read(digit, 0, 0) for digit in digits]).worth()

    assert worth(*[1] * 16) == worth(1) == 0.25  # less than one other digit
    assert worth(7, 1, 1, 1) == worth(7, 1, 1, 1, 1, 1) == 1.75
    assert worth(7, 7, 8, 3, 1, 5, 0) == 3.5
    few = Reading([one_read(7, 0, 0, confidence=0.6), one_read(1, 0, 0)])
    assert few.worth() == pytest.approx((0.1 + 0.45) * (0.3 / 0.4) ** 4)
    assert Reading().worth() == 0
    strip = Reading([one_read(7, 40 * k, 0, confidence=0.74) for k in range(21)])  # squares in a lit strip of a dark page
    assert strip.worth() < 0.2 * Reading([one_read(3, 40 * k, 0) for k in range(13)]).worth()


def test_a_straight_one_beside_a_sure_digit_does_not_make_it_less_clear():
    six, one = one_read(6, 40, 0), one_read(1, 0, 0, confidence=0.66)
    assert Reading([six, one]).score() == pytest.approx(Reading([six]).score() + 30 * 0.16)
    assert Reading([six, one, one]).score() < Reading([six]).score()  # pieces of rules, maybe
    assert Reading([six, one_read(7, 0, 0, confidence=0.66)]).score() < Reading([six]).score()


@pytest.mark.parametrize("numbers", [(4, 5), (42, 43), (64, 65)])
def test_wide_strokes_of_a_few_digits_are_seen(digits, reader, numbers):
    page = np.zeros((280, 358), np.uint8)
    for k, i in enumerate(numbers):
        ink = (cv2.resize(digits.images[i], (110, 110), interpolation=cv2.INTER_CUBIC) > 110).astype(np.uint8)
        place = np.s_[100:210, 90 + 90 * k : 200 + 90 * k]
        page[place] = np.maximum(page[place], 255 * cv2.dilate(ink, np.ones((7, 7))))
    expected = "".join(str(digits.labels[i]) for i in numbers)
    assert reader.read(page[..., None].repeat(3, 2)).lines() == [expected]


def test_many_ones_in_no_row_are_pieces_of_rules():
    row = [one_read(digit, 30 * k, 400) for k, digit in enumerate((5, 1, 3, 1, 7))]
    rules = [one_read(1, 500, 50 * k) for k in range(11)]
    assert without_lonely_ones(row + rules) == row
    assert without_lonely_ones(row + rules[1:]) == row + rules[1:]  # a column of ones, maybe
    others = [one_read(4, 30 * k, 900) for k in range(22)]
    assert without_lonely_ones(others + rules) == others + rules  # few beside so many


def test_hundreds_of_pieces_read_worse_than_a_page_of_digits():
    page = Reading([one_read(3, 40 * k, 0, confidence=0.96) for k in range(28)])
    assert page.score() == pytest.approx(28 * 30 * 0.46)
    one_more = Reading([*page.digits, one_read(3, 40 * 28, 0, confidence=0.6)])
    assert one_more.score() > page.score()
    pieces = Reading([one_read(4, 40 * k, 0, 20, 25, confidence=0.62) for k in range(276)])
    assert pieces.score() == pytest.approx(276 * 25 * 0.12 * 0.3**4)
    assert Reading([one_read(4, 40 * k, 0, confidence=0.4) for k in range(9)]).score() == 0
    assert Reading().score() == 0


def test_a_doubtful_single_digit_gives_way_to_the_largest_sure_one_on_the_page(reader, monkeypatch):
    sure = [one_read(4, 0, 0, 10, 10), one_read(9, 40, 50, 80, 90, 0.95), one_read(0, 0, 0, 99, 99, 0.8)]

    def read(confidence):
        one = one_read(2, 0, 0, confidence=confidence)
        monkeypatch.setattr(
            Reader, "_read_picture", lambda _, picture, single, **how: (Reading([one] if single else list(sure)), False)
        )
        return reader.read(np.full((300, 300, 3), 200, np.uint8), single=True).lines()

    assert read(0.5) == ["9"]
    assert read(0.7) == ["2"]
    sure[:] = [one_read(4, 0, 0, 10, 10, 0.8)]
    assert read(0.5) == ["2"]


def test_a_reading_is_completed_by_other_guesses_at_the_ink():
    row = [one_read(3, 40 * k, 0) for k in (0, 1, 2, 5)] + [one_read(3, 40 * k, 100) for k in (0, 1)]
    missing, unsure = one_read(8, 120, 2, confidence=0.8), one_read(7, 160, 0, confidence=0.4)
    best = Reading([*row, unsure])

    def added(*digits, rest=row):
        made = completed(best, [Reading([*rest, *digits])])
        return [d for d in made.digits if d not in row]

    assert added() == [unsure]
    assert added(missing) == [unsure, missing]
    instead = one_read(4, 158, 1, 24, 30, confidence=0.9)
    assert added(missing, instead) == [missing, instead]
    halves = [one_read(4, 120, 0), one_read(2, 134, 0)]  # of a touching pair: they overlap
    assert added(*halves) == [unsure, *halves]
    below = one_read(9, 80, 100)
    assert added(below) == [unsure, below]
    assert added(one_read(8, 120, 2, confidence=0.7)) == [unsure]  # it is unsure itself
    assert added(one_read(8, 120, 50)) == [unsure]  # in no row
    assert added(one_read(8, 120, 0, 20, 60)) == [unsure]  # higher than the row
    assert added(one_read(8, 82, 0)) == [unsure]  # where a sure digit is
    assert added(missing, rest=[]) == [unsure]  # by a guess that read next to nothing
    assert best.digits == [*row, unsure]


@pytest.mark.parametrize("sure", [False, True])
def test_a_page_that_is_read_surely_is_not_completed(reader, monkeypatch, sure):
    gray = np.zeros((100, 100), np.float32)
    polarities = (False, False, True)
    inks = [find.Ink(gray, gray, gray, gray.astype(np.uint8), light, str(i)) for i, light in enumerate(polarities)]
    row = [one_read(3, 4 * k, 0, 3, 30, confidence=0.85) for k in range(4)]
    more = {"0": (), "1": (one_read(8, 20, 0, 3, 30, confidence=0.8),), "2": (one_read(9, 28, 0, 3, 30, confidence=0.8),)}

    def read_ink(_, ink, known, _steep):
        reading = Reading([replace(d) for d in (*row, *more[ink.name])])
        return reading, 9.0 if ink.name == "0" else 8.0, sure and ink.name == "1"

    monkeypatch.setattr(steps, "guesses_at_ink", lambda gray, single, light=None: iter(() if light else inks))
    monkeypatch.setattr(steps, "variants", lambda ink: [ink])
    monkeypatch.setattr(Reader, "_read_ink", read_ink)
    read = reader._read_picture(np.zeros((900, 900, 3), np.uint8), single=False)[0]
    assert [d.digit for d in read.digits] == [3, 3, 3, 3] + [8] * (not sure)  # of the same polarity alone


@pytest.mark.parametrize(("first", "digit"), [(0.35, 9), (0.95, 3)])
def test_ink_of_the_other_polarity_is_given_up_for_a_single_digit_only_where_the_first_is_sure(
    reader, monkeypatch, first, digit
):
    gray = np.zeros((100, 100), np.float32)
    inks = [find.Ink(gray, gray, gray, gray.astype(np.uint8), light, str(i)) for i, light in enumerate((False, True, True))]
    read = {"0": (3, first), "1": (7, 0.1), "2": (9, 0.96)}

    def read_single(_, ink, _steep):
        digit, confidence = read[ink.name]
        return Reading([one_read(digit, 0, 0, confidence=confidence)]), confidence, False

    monkeypatch.setattr(steps, "guesses_at_ink", lambda gray, single: iter(inks))
    monkeypatch.setattr(steps, "variants", lambda ink: [ink])
    monkeypatch.setattr(Reader, "_read_single", read_single)
    assert reader._read_picture(np.zeros((100, 100, 3), np.uint8), single=True)[0].digits[0].digit == digit


def test_a_shadow_is_no_table(digits, reader):
    page = make_page(*digits, list(range(20)), "clean", np.random.default_rng(2))
    image = page.image.copy()
    image[:, image.shape[1] // 2 :] //= 2
    assert find_sheet(image) is not None  # it looks like one
    assert reader.read(image).lines() == page.truth()["rows"]
    slope = np.linspace(255, 90, 600)[None, :, None].repeat(400, 0).repeat(3, 2).astype(np.uint8)
    assert find_sheet(slope) is None


def test_a_blot_of_the_other_colour_does_not_hide_the_digits(clean, reader):
    rgb, rows = clean
    readings = {True: (Reading([Digit((0, 0, 90, 90), 1, 0.99, 7, 0.0, rgb)]), 50.0, True)}  # one sure light 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(find, "_polarities", lambda gray, short: [True, False])
        real = reader._read_ink
        patch.setattr(Reader, "_read_ink", lambda _, ink, known, steep: readings.get(ink.light) or real(ink, known, steep))
        assert reader.read(rgb).lines() == rows


def test_a_page_of_mostly_unsure_readings_keeps_the_sure_ones(reader):
    def reading(unsure):
        sure = [0.5] * unsure + [0.97] * 9
        return Reading([Digit((30 * i, 0, 20, 30), 7, c, 1, 0.0, np.zeros((28, 28))) for i, c in enumerate(sure)])

    with pytest.MonkeyPatch.context() as patch:
        for unsure, kept in ((8, 17), (10, 9)):
            patch.setattr(Reader, "_read_picture", lambda _, picture, single, n=unsure, **how: (reading(n), False))
            assert len(reader.read(np.full((99, 700, 3), 200, np.uint8)).digits) == kept


def test_touching_digits_are_read_as_pairs(digits, reader):
    rng = np.random.default_rng(0)
    right = pairs = 0
    for k in range(2):
        page = make_page(*digits, list(range(30 * k, 30 * k + 30)), "touching", rng)
        counted = pages.count(page, reader.read(page.image))
        right, pairs = right + counted["pairs_right"], pairs + counted["pairs"]
    assert pairs > 15
    assert right >= 0.8 * pairs  # 0.6 where each is cut and the halves are read
    assert any(d.image.shape == (28, 40) for d in reader.read(page.image).digits)


@pytest.mark.parametrize("difficulty", ["light", "shadow", "rules", "slant", "rough", "dark", "small"])
def test_pages_of_every_kind(digits, reader, difficulty):
    page = make_page(*digits, list(range(100, 130)), difficulty, np.random.default_rng(8))
    lines = reader.read(page.image).lines()
    rows = page.truth()["rows"]
    assert len(lines) == len(rows)
    wrong = sum(a != b for row, line in zip(rows, lines, strict=True) for a, b in zip(row, line, strict=False))
    assert wrong + abs(sum(map(len, rows)) - sum(map(len, lines))) <= 3


def test_ink_fainter_than_the_squares_is_read(clean, reader):
    gray = clean[0].astype(np.float32)
    gray = np.median(gray) - 0.35 * (np.median(gray) - gray)
    for at in range(0, gray.shape[1], 30):
        gray[at : at + 2] = gray[:, at : at + 2] = 60
    assert reader.read(cv2.GaussianBlur(gray, (0, 0), 0.7).astype(np.uint8)).lines() == clean[1]


def test_digits_on_the_lines_of_a_frame_are_not_lost_with_it(clean, reader):
    boxes = np.array([digit.box for digit in reader.read(clean[0]).digits])
    left, top = boxes[:, :2].min(0) - 20
    right, bottom = (boxes[:, :2] + boxes[:, 2:]).max(0) + np.array([20, -6])
    page = cv2.rectangle(clean[0].copy(), (int(left), int(top)), (int(right), int(bottom)), (90, 90, 90), 3)
    assert reader.read(page).lines() == clean[1]


def test_what_was_read_surely_is_not_read_again(clean, reader, monkeypatch):
    ink = next(find.candidates(find.to_gray(size.fit(clean[0])[0])))
    seen: list[int] = []
    real = reader.nets.outputs
    monkeypatch.setattr(type(reader.nets), "outputs", lambda _, images: seen.append(len(images)) or real(images))
    known: list[Known] = []
    first, *_ = reader._read_ink(ink, known)
    assert 8 <= len(known) <= len(first.digits) == 12
    thicker = replace(ink, mask=cv2.dilate(ink.mask, np.ones((2, 2), np.uint8)))
    once = sum(seen)
    second, *_ = reader._read_ink(thicker, known)
    assert sum(seen) - once < 0.5 * once
    assert sorted(d.digit for d in second.digits) == sorted(d.digit for d in first.digits)
    unsure = Known(known[0].part, known[0].chosen, [replace(known[0].digits[0], confidence=0.89)])
    assert known[0].sure()
    assert not unsure.sure()
    x, y, w, h = known[0].part.box
    for box, same in (((x, y, w, h), True), ((x + w // 2, y, w, h), False), ((x, y, w, 2 * h), False)):
        assert known[0].is_same(find.Part(box, known[0].part.mask)) is same
    assert not known[0].is_same(find.Part((x, y, w, h), np.ones((h, w), np.uint8)))  # a blot over it


# --- the steps -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slope", [-0.25, -0.1, 0.0, 0.17, 0.3])
def test_rows_in_reading_order_on_turned_pages(slope):
    rng = np.random.default_rng(0)
    boxes, expected = [], []
    for row in range(4):
        expected.append([])
        for column in range(16 if row == 0 else 3):
            x, y = 60 * column + rng.integers(-8, 9), 90 * row + rng.integers(-9, 10) + slope * 60 * column
            expected[-1].append(len(boxes))
            boxes.append((int(x), int(y), int(rng.integers(8, 35)), int(rng.integers(38, 50))))
    mixed = rng.permutation(len(boxes))
    assert [[int(mixed[i]) for i in row] for row in order.rows([boxes[i] for i in mixed])] == expected


def test_a_row_that_bends_is_one_and_rows_side_by_side_are_two():
    wave = [(60 * i, round(25 * np.sin(i / 1.5)), 30, 40) for i in range(9)]
    below = [(x, y + 70, w, h) for x, y, w, h in wave]
    assert order.rows(wave) == [list(range(9))]
    assert order.rows(wave + below) == [list(range(9)), list(range(9, 18))]
    short, indented = [(50 * i, 0, 30, 40) for i in range(3)], [(150 + 50 * i, 44, 30, 40) for i in range(3)]
    assert order.rows(short + indented) == [[0, 1, 2], [3, 4, 5]]


def test_order_of_one_column_one_row_and_nothing():
    assert order.rows([]) == []
    assert order.rows([(10, 10 + 70 * i, 30, 40) for i in range(6)]) == [[i] for i in range(6)]
    assert order.rows([(10 + 50 * i, 10, 30, 40) for i in (2, 0, 1)]) == [[1, 2, 0]]


def test_rules_go_and_strokes_stay():
    mask = np.zeros((400, 600), np.uint8)
    cv2.circle(mask, (200, 200), 45, 1, 9)
    cv2.line(mask, (400, 150), (390, 240), 1, 9)
    strokes = mask.copy()
    assert without_rules(mask) is None
    for y in (90, 200, 310):
        cv2.line(mask, (0, y), (599, y + 25), 1, 3)
    bare = without_rules(mask)
    assert bare is not None
    rules = (mask > 0) & (strokes == 0)
    assert bare[rules].mean() < 0.02
    assert bare[strokes > 0].mean() > 0.99  # but for corners of a pixel
    assert not bare[mask == 0].any()
    assert len(find.parts(cv2.morphologyEx(bare, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)))) == 2


@pytest.mark.parametrize("seed", range(20))
def test_lines_that_leave_the_picture_go_as_far_as_it_reaches(seed):
    rng = np.random.default_rng(seed)
    border, height, width = 2 * rules.REACH, 60, 90
    for start, stop in rng.uniform(0, (width, height), (50, 2, 2)) + border:
        if np.hypot(*(stop - start)) < 40:
            continue
        line = np.zeros((height + 2 * border, width + 2 * border), np.uint8)
        ends = [
            tuple(np.round(16 * point).astype(int).tolist()) for point in (1.4 * start - 0.4 * stop, 1.4 * stop - 0.4 * start)
        ]
        cv2.line(line, *ends, 1, 3, shift=4)
        picture = np.s_[border:-border, border:-border]
        page = np.zeros_like(line)
        page[picture] = line[picture]
        result = page.copy()
        rules._erase(result, page, start, stop)
        assert result.sum() < 0.1 * page.sum()


def test_lines_below_and_beside_the_picture_are_not_looked_at_from_its_other_side():
    border = 2 * rules.REACH
    page = np.pad(np.ones((60, 90), np.uint8), border)
    for beyond in np.arange(0.5, border, 0.1):
        for start, stop in (((10, 60 + beyond), (80, 60 + beyond)), ((90 + beyond, 50), (90 + beyond, 10))):
            result = page.copy()
            rules._erase(result, page, np.array(start) + border, np.array(stop) + border)
            assert np.array_equal(result, page)


def test_dark_rules_are_painted_over_and_faint_strokes_stay():
    page = np.full((400, 600), 200, np.float32)
    cv2.circle(page, (200, 200), 45, 140, 9)
    assert painted_over(page, light=False) is None
    ruled = page.copy()
    for y in (90, 210, 330):
        cv2.line(ruled, (0, y), (599, y), 60, 3)
    for gray, light in ((ruled, False), (255 - ruled, True)):
        bare = painted_over(gray, light=light)
        bare = 255 - bare if light else bare
        assert bare[:, 300:].min() > 195  # nothing of the rules
        assert bare[page == 140].mean() < 150  # the stroke stays, where rules cross it too
        assert not bare[(page == 200) & (ruled == 200)].min() < 130


@pytest.mark.parametrize("framed", [False, True])
def test_rules_are_painted_over_but_not_a_part_of_frames(framed):
    gray = np.full((400, 600), 235, np.float32)
    for y in () if framed else (120, 240):
        cv2.line(gray, (0, y), (599, y), 60, 3)
    for x in range(60, 540, 80):
        cv2.line(gray, (x + 40, 150), (x + 40, 210), 90, 6)
        if framed:  # a form: its long lines are those of a frame
            cv2.rectangle(gray, (x, 120), (x + 80, 240), 60, 3)
    assert painted_over(gray, light=False) is not None
    names = [ink.name for ink in guesses_at_ink(gray, single=False)]
    assert any("painted over" in name for name in names) is not framed


def test_frames_go_and_what_is_in_them_stays():
    wanted = np.zeros((300, 500), np.uint8)
    cv2.circle(wanted, (80, 150), 30, 1, 7)
    cv2.circle(wanted, (80, 150), 9, 1, -1)  # a blot in a 0 makes no frame of it
    cv2.line(wanted, (400, 130), (395, 175), 1, 7)
    assert without_frames(wanted) is None
    mask = wanted.copy()
    for corner in ((30, 80), (130, 80), (230, 80), (330, 80)):  # the cells of a form
        cv2.rectangle(mask, corner, (corner[0] + 100, 220), 1, 3)
    np.testing.assert_array_equal(without_frames(mask), wanted)
    mask = wanted.copy()
    for x in range(25, 500, 95):  # squared paper, the 0 in a square, the 1 across the lines
        cv2.line(mask, (x, 20), (x, 299), 1, 2)
    for y in range(20, 300, 85):
        cv2.line(mask, (25, y), (499, y), 1, 2)
    assert without_frames(mask) is None
    mask = wanted.copy()
    cv2.ellipse(mask, (400, 150), (60, 50), 0, 0, 360, 1, 5)  # a ring about one of them
    cv2.rectangle(mask, (5, 5), (490, 290), 1, 3)  # and a frame about all
    np.testing.assert_array_equal(without_frames(mask), wanted)


def test_a_hard_shadow_is_not_ink():
    gray = np.full((300, 400), 210, np.float32)
    gray[:, 200:] *= 0.45
    dark = find.ink_strength(gray, 31, light=False)
    assert dark.max() < 0.02
    gray[140:150, 50:350] *= 0.4
    assert find.ink_strength(gray, 31, light=False)[145, 60:340].min() > 0.5


def test_chalk_is_as_strong_in_shadow_as_in_light():
    gray = np.full((300, 400), 40, np.float32)
    gray[140:150, 50:350] = 160
    gray[:, 200:] *= 0.3
    strength = find.ink_strength(gray, 31, light=True)[145, 60:340]
    assert strength[160:].min() > 0.5 * strength[:120].max() > 0.15


def test_noise_hides_ink_only_where_it_is():
    rng = np.random.default_rng(0)
    gray = np.full((600, 800), 200, np.float32)
    for x in range(50, 800, 100):
        gray[100:500, x : x + 8] *= 0.75
    wanted = gray < 180
    gray += rng.normal(0, np.where(np.arange(800) < 500, 1, 24), gray.shape).astype(np.float32)
    ink = find.guess(gray.clip(0, 255), 31, 1.0, light=False)
    assert ink.mask[:, :500][wanted[:, :500]].mean() > 0.95
    assert ink.mask[:, 500:][wanted[:, 500:]].mean() > 0.7
    assert ink.mask[cv2.dilate(wanted.astype(np.uint8), np.ones((9, 9))) == 0].mean() < 0.02


def test_shadows_as_wide_as_a_finger_hide_no_digit(digits, reader):
    page = make_page(*digits, list(range(12, 36)), "clean", np.random.default_rng(0))
    height, width = page.image.shape[:2]
    light = np.ones((height, width), np.float32)
    for y in (height // 4, height // 2, height * 3 // 4):
        cv2.line(light, (0, y), (width, y + height // 10), 0.5, 40)
    light = cv2.GaussianBlur(light, (0, 0), 4)[..., None]
    assert reader.read((page.image * light).astype(np.uint8)).lines() == page.truth()["rows"]


def test_seams_pass_between_leaning_strokes():
    ink = np.zeros((80, 60), np.float32)
    for x in (8, 30):
        cv2.line(ink, (x, 76), (x + 20, 4), 1.0, 7)
    cv2.line(ink, (18, 40), (42, 40), 1.0, 5)  # they touch here
    ways = seams.seams(ink)
    rows = np.arange(80)
    middle = 19 + (76 - rows) * 20 / 72
    assert min(np.abs(columns - middle).mean() for columns, _ in ways) < 4
    best = min(ways, key=lambda way: np.abs(way[0] - middle).mean())
    assert 0.2 < best[1] < 2.5


def one_above_another(digits, first):
    """Draw three rows of four digits; those of the first column touch the ones above them."""
    page, rows, bottom = np.zeros((420, 520), np.float32), [""] * 3, 30
    for i in range(12):
        row, column = divmod(i, 4)
        image, label = digits.images[first + i], digits.labels[first + i]
        inked = np.flatnonzero(image.max(1) > 128)
        ink = image[inked[0] : inked[-1] + 1].astype(np.float32)
        ink = cv2.resize(ink, (112, (100, 80)[column > 0]), interpolation=cv2.INTER_CUBIC).clip(0, 255)
        x = 20 + 120 * column
        if not column:
            top = bottom
            while row and not ((ink > 128) & (page[top : top + 100, x : x + 112] > 128)).any():
                top -= 1
            bottom = top + 100
        y = top + (100 - len(ink)) // 2
        page[y : y + len(ink), x : x + 112] = np.maximum(page[y : y + len(ink), x : x + 112], ink)
        rows[row] += str(label)
    return (235 - 0.8 * page).astype(np.uint8)[..., None].repeat(3, 2), rows


def test_digits_that_touch_those_above_them_are_cut_apart(digits, reader):
    pages = [one_above_another(digits, start) for start in range(0, 120, 12)]
    read = [reader.read(picture).lines() for picture, _ in pages]
    assert sum([len(line) for line in lines] == [4, 4, 4] for lines in read) >= 8
    lines = [(line, row) for lines, (_, rows) in zip(read, pages, strict=True) for line, row in zip(lines, rows, strict=False)]
    assert sum(line == row for line, row in lines) >= 22


def test_a_part_is_cut_between_rows_only_where_it_is_high_and_beside_a_row(digits):
    picture, _ = one_above_another(digits, 24)
    (tallest,) = [p for p in find.parts((picture[..., 0] < 128).astype(np.uint8)) if p.box[3] > 250]
    x, y, w, h = tallest.box
    contrast = 1 - picture[..., 0].astype(np.float32) / 255
    beside = [(x + w + 30, y + 5, 60, 80)]
    whole, *ways = stack.slices(tallest, contrast, 90.0, beside)
    assert whole.part is tallest
    assert (whole.first, whole.last) == (0, max(one.last for one in ways))
    for one in ways:
        left, top, wide, high = one.part.box
        assert (one.part.mask <= tallest.mask[top - y : top - y + high, left - x : left - x + wide]).all()
        assert one.in_row == in_line([one.part.box], beside, least=1)[0]
        assert one.cost >= split.CUT / 2 * ((one.first > 0) + (one.last < whole.last)) + stack.OFF * (not one.in_row)
    assert {one.in_row for one in ways} == {True, False}
    far = [(x, y + 1000, 60, 80)]
    assert not any(one.in_row for one in stack.slices(tallest, contrast, 90.0, far))
    assert stack.slices(tallest, contrast, h / 1.5, beside)
    assert stack.slices(tallest, contrast, h / 1.4, beside) == []

    def surely(digit):  # whatever it is
        return lambda parts: [np.log(np.full((1, 10), 1e-9) + (np.arange(10) == digit)) for _ in parts]

    unsure = [np.log(np.full((1, 10), 0.1))]
    rows = [(x + w + 30, y + 10 + 95 * k, 60, 80) for k in range(3)]
    for known, digit, pieces in ((rows, 2, True), (far, 2, False), (rows, 1, False)):  # ones alone are a line
        parts, log_probs = stack.apart([tallest], unsure, surely(digit), contrast, 90.0, known)
        assert (len(parts) > 1) is pieces
        assert len(log_probs) == len(parts)
        assert sum(part.area for part in parts) == tallest.area


def test_what_is_cut_may_stand_beside_digits_known_from_another_guess(digits, reader, monkeypatch):
    before, cut_apart = [], stack.apart
    monkeypatch.setattr(stack, "apart", lambda *args: before.append((len(args[0]), len(args[-1]))) or cut_apart(*args))
    picture, _ = one_above_another(digits, 468)
    reader.read(picture)
    assert before[0][1] == 0
    assert any(parts < 12 and known > 4 for parts, known in before[1:])


def test_a_stack_is_the_whole_part_or_nothing_of_it():
    part = find.Part((0, 0, 10, 100), np.ones((100, 10), np.uint8))

    def read(first, last, score, cost=0.0):
        return stack.Slice(part, first, last, cost, in_row=True), np.full((1, 10), score)

    whole, above, middle, below = read(0, 3, -2.0), read(0, 1, -0.5), read(1, 2, -0.1), read(2, 3, -0.5)
    assert stack.best_stack([whole, below, middle, above]) == [above, middle, below]
    assert stack.best_stack([whole, above, middle]) == [whole]
    assert stack.best_stack([read(0, 3, -1.0), above, middle, below])[0][0].last == 3
    assert stack.best_stack([whole, read(0, 2, -0.5, cost=0.9), above, middle, below]) == [above, middle, below]
    assert stack.best_stack([read(0, 3, 0.0, cost=np.inf), above, middle]) == []
    assert stack.best_stack([]) == []


def test_what_stands_above_one_another_is_no_digit_in_two_pieces():
    def part(y, height):
        return find.Part((10, y, 40, height), np.ones((height, 40), np.uint8))

    unsure = np.array([0.5, 0.5])
    assert link([part(0, 100), part(105, 100)], unsure, 100.0) == [[0], [1]]
    assert link([part(0, 60), part(65, 60)], unsure, 100.0) == [[0, 1]]


def test_parts_of_three_rows_are_kept_and_lines_as_high_are_not():
    row = [find.Part((10 + 60 * i, 10, 40, 50), np.ones((50, 40), np.uint8)) for i in range(20)]

    def kept(width, height, y=10):
        high = find.Part((1500, y, width, height), np.ones((height, width), np.uint8))
        return len(plausible([*row, high], (800, 2000), [50] * 3)[0]) > len(row)

    assert kept(40, 200)
    assert not kept(40, 240)
    assert not kept(15, 200)
    assert kept(15, 145)
    assert not kept(40, 200, y=0)
    assert kept(40, 145, y=0)


def test_a_digit_much_higher_than_the_others_stays_whole(digits, reader):
    whole = 0
    for i in np.flatnonzero(digits.labels == 8)[:20]:
        page = np.zeros((260, 700), np.float32)
        for k, (index, high) in enumerate([(3, 112), (4, 112), (i, 180), (5, 112), (6, 112)]):
            y, x = (260 - high) // 2, 10 + 125 * k + 50 * (k > 2)
            ink = cv2.resize(digits.images[index].astype(np.float32), (high, high), interpolation=cv2.INTER_CUBIC).clip(0, 255)
            page[y : y + high, x : x + high] = np.maximum(page[y : y + high, x : x + high], ink)
        whole += reader.read((235 - 0.8 * page).astype(np.uint8)[..., None].repeat(3, 2)).lines() == ["67889"]
    assert whole >= 18


def test_the_usual_height_is_that_of_what_reads_surely():
    def part(height):
        return find.Part((0, 0, 10, height), np.ones((height, 10), np.uint8))

    def read(digit, confidence):
        return np.log(np.full((1, 10), (1 - confidence) / 9) + (np.arange(10) == digit) * (confidence - (1 - confidence) / 9))

    sure = [(part(h), read(7, 0.99)) for h in (30, 32, 34)]
    others = [(part(99), read(7, 0.5)), (part(99), read(1, 0.99)), (part(90), read(1, 0.99)), (part(95), read(1, 0.99))]
    assert usual_height(*zip(*sure, *others, strict=True), 90.0, []) == 32
    assert usual_height(*zip(*sure[:2], *others, strict=True), 90.0, []) == 90
    assert usual_height(*zip(*sure[:2], *others, strict=True), 90.0, [40, 40, 40]) == 40


def test_a_blot_higher_than_the_known_digits_makes_them_no_specks():
    digits = [find.Part((50 + 40 * k, 300, 20, 30), np.ones((30, 20), np.uint8)) for k in range(10)]
    blot = find.Part((500, 100, 200, 300), np.ones((300, 200), np.uint8))
    assert plausible([*digits, blot], (800, 1000), [30] * 3) == (digits, 30.0)
    assert plausible([*digits, blot], (800, 1000), [30] * 2) == ([blot], 300.0)


def cluster_of(cuts):
    """Four pieces, 10 wide and 20 high, beside one another."""
    pieces = np.repeat(np.repeat([[1, 2, 3, 4]], 20, 0), 10, 1).astype(np.int32)
    return split.Cluster((0, 0, 40, 20), pieces, 4, cuts)


def give(found, likely, value=-0.01):
    """Let the net be sure of the runs in `likely`, {(first, last, pair): digits}, and of nothing else."""
    for h in found:
        log_probs = np.full((1 + h.pair, 10), -2.0, np.float32)
        for half, digit in enumerate(likely.get((h.first, h.last, h.pair), ())):
            log_probs[half, digit] = value
        h.read_as(log_probs)


def test_best_runs_join_what_is_broken_and_cut_what_touches():
    cluster = cluster_of([-1.0, 0.5, -1.0, -1.0])
    found = split.hypotheses(cluster, 20.0)
    assert {(h.first, h.last) for h in found} >= {(1, 1), (1, 2), (2, 2), (3, 4), (4, 4)}
    assert not any(h.pair for h in found)
    give(found, {(1, 2, False): [3], (3, 4, False): [5]})
    assert [(h.first, h.last) for h in split.best_runs(cluster, found, 400.0)[0]] == [(1, 2), (3, 4)]


def test_reading_only_what_may_be_among_the_best_runs_gives_the_best():
    rng = np.random.default_rng(0)
    fewer = 0
    for _ in range(300):
        count = int(rng.integers(1, 7))
        cuts = [*np.where(rng.random(count - 1) < 0.6, rng.uniform(0.2, 4, count - 1), -1.0).tolist(), -1.0]
        pieces = np.repeat(np.arange(1, count + 1), rng.integers(4, 12, count))[None].repeat(20, 0).astype(np.int32)
        cluster = split.Cluster((0, 0, *pieces.shape[::-1]), pieces, count, cuts)
        found = split.hypotheses(cluster, rng.uniform(18, 32), pairs=True)
        answers = []
        for one in found:
            logits = rng.normal(0, 1 + 9 * rng.random(), (1 + one.pair, 10))
            logits[:, 1] += 4 * rng.random()  # two ones may be one
            answers.append((logits - np.log(np.exp(logits).sum(1, keepdims=True))).astype(np.float32))
        runs, score = split.best_runs(cluster, found, 200.0)
        while unread := split.unread(runs, found):
            for one in unread:
                one.read_as(answers[[one is h for h in found].index(True)])
            runs, score = split.best_runs(cluster, found, 200.0)
        seen = sum(h.is_read for h in found)
        for one, log_probs in zip(found, answers, strict=True):
            one.read_as(log_probs)
        expected, best = split.best_runs(cluster, found, 200.0)
        assert score == pytest.approx(best, abs=1e-5)
        assert [(h.first, h.last, h.pair) for h in runs] == [(h.first, h.last, h.pair) for h in expected]
        fewer += seen < 0.8 * len(found)
    assert fewer > 100


def test_a_pair_that_is_not_read_yet_raises_no_doubt():
    cluster = split.Cluster((0, 0, 20, 20), np.ones((20, 20), np.int32), 1, [-1.0])
    one, pair = found = split.hypotheses(cluster, 20.0, pairs=True)
    one.read_as(np.log(np.r_[0.91, np.full(9, 0.01)])[None].astype(np.float32))
    pair.cost = 2.0
    runs, score = split.best_runs(cluster, found, 400.0)
    assert runs == [one]
    assert score == pytest.approx(np.log(0.91), abs=1e-5)
    assert split.unread(runs, found) == [pair]


def test_a_digit_that_reads_surely_is_not_cut(clean, reader, monkeypatch):
    picture, truth = clean
    seen, cuts = [], []
    log_probs, seams_of = Nets.log_probs, split.seams
    monkeypatch.setattr(Nets, "log_probs", lambda self, images: (seen.extend(images), log_probs(self, images))[1])
    monkeypatch.setattr(split, "seams", lambda *a, **k: (cuts.append(a), seams_of(*a, **k))[1])
    assert reader.read(picture).lines() == truth
    assert len(seen) < 8 * sum(map(len, truth))  # five views of what was chosen, each before that, some as a pair, too
    assert len(cuts) <= 1


def test_best_runs_take_a_pair_where_no_half_is_sure_enough():
    cluster = cluster_of([0.5, 0.5, 0.5, -1.0])
    found = split.hypotheses(cluster, 20.0, pairs=True)
    give(found, {(1, 4, True): [7, 4], (1, 1, False): [7], (2, 4, False): [4], (1, 2, False): [0], (3, 4, False): [6]}, -0.3)
    for h in found:
        if not h.pair:
            h.read_as(h.log_probs - 1.5)
    (pair,) = split.best_runs(cluster, found, 400.0)[0]
    assert (pair.first, pair.last, pair.pair) == (1, 4, True)


def test_a_pair_is_halved_where_its_digits_end_and_begin():
    mask = np.ones((20, 40), np.uint8)
    mask[:5, 30:] = 0  # a lower right half
    pair = split.Hypothesis((3, 5, 40, 20), mask, 2, 4, pair=True)
    halves = split.halve(pair, np.array([0.5, 0.25]))
    assert [h.box for h in halves] == [(3, 5, 20, 20), (13, 5, 30, 20)]  # they overlap
    assert [int(h.mask.sum()) for h in halves] == [20 * 20, 20 * 30 - 5 * 10]
    assert [(h.first, h.last) for h in halves] == [(2, 4), (2, 4)]
    low = split.halve(pair, np.array([0.8, 0.76]))[1]
    assert low.box == (3 + 30, 5 + 5, 10, 15)  # only as high as its ink
    assert [h.box for h in split.halve(pair, np.array([1.2, -0.3]))] == [pair.box] * 2
    for edges in ((-0.2, 1.3), (0.0, 1.0)):  # neither half is ever empty
        assert all(h.mask.any() for h in split.halve(pair, np.array(edges)))


@pytest.mark.parametrize(
    ("whole", "cut", "expected"),
    [
        (1, 0.5, [(1, 2)]),
        (4, 0.5, [(1, 1), (2, 2)]),  # it looks like something else
        (1, -1.0, [(1, 1), (2, 2)]),  # they do not touch
        (None, 0.5, [(1, 1), (2, 2)]),  # it looks like nothing
    ],
)
def test_two_ones_that_touch_are_one_with_a_long_upstroke(whole, cut, expected):
    cluster = split.Cluster((0, 0, 20, 20), np.repeat([[1, 2]], 20, 0).repeat(10, 1).astype(np.int32), 2, [cut, -1.0])
    found = split.hypotheses(cluster, 20.0)
    give(found, {(1, 1, False): [1], (2, 2, False): [1]})
    for h in found:
        if (h.first, h.last) == (1, 2):
            h.cost = 1.0
            h.read_as(np.where(np.arange(10) == (whole or 1), -0.6 if whole else -0.8, h.log_probs))
    assert [(h.first, h.last) for h in split.best_runs(cluster, found, 400.0)[0]] == expected
    cluster.cut = True
    found = split.hypotheses(cluster, 20.0, pairs=True)
    give(found, {(1, 2, True): [1, 1]})
    for h in found:
        if not h.pair:
            h.cost = 1.0
            digit = (whole or 1) if (h.first, h.last) == (1, 2) else 1
            h.read_as(np.where(np.arange(10) == digit, -0.6 if whole else -0.8, h.log_probs))
    assert [h.pair for h in split.best_runs(cluster, found, 400.0)[0]] == [whole != 1]


def test_a_1_with_a_long_upstroke_is_all_of_what_was_read_as_two_ones():
    cluster = cluster_of([0.5, 0.5, 0.5, -1.0])
    found = split.hypotheses(cluster, 20.0)
    give(found, {(first, last, False): [1] for first, last in ((2, 2), (3, 3), (1, 3))})
    runs = [next(h for h in found if (h.first, h.last) == (k, k)) for k in (2, 3)]
    assert [(h.first, h.last) for h in split._long_ones(runs, found, cluster.cuts)] == [(2, 2), (3, 3)]
    give(found, {(first, last, False): [1] for first, last in ((2, 2), (3, 3), (2, 3))})
    assert [(h.first, h.last) for h in split._long_ones(runs, found, cluster.cuts)] == [(2, 3)]


def test_a_pair_is_judged_as_one(digits, reader, monkeypatch):
    page = make_page(*digits, [0, 1], "touching", np.random.default_rng(1))
    assert page.digits[0].partner == 1
    linked = []
    monkeypatch.setattr(steps.judge, "link", lambda found, sure, unit: linked.append(max(sure)) or link(found, sure, unit))
    monkeypatch.setattr(steps.judge, "unlike", lambda chosen, ink, sure: np.array([0.0, 9.0], np.float32)[: len(chosen)])
    assert len(reader.read(page.image).digits) == 2  # the odd half, too
    assert linked[0] > 0.85  # no piece of something else


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((130, 104, 12, 30), True),
        ((44, 88, 12, 36), True),  # between two, and a little higher
        ((280, 100, 12, 30), False),  # too far from the last but one
        ((130, 125, 12, 30), False),  # below the row
        ((130, 92, 12, 46), False),  # too high for it
        ((130, 107, 12, 18), False),  # too low
        ((60, 100, 12, 30), False),  # one of the two itself
    ],
)
def test_a_digit_in_a_row_is_near_two_of_its_height_on_its_level(box, expected):
    others = [(20, 98, 20, 30), (60, 100, 12, 30)] if box[0] != 280 else [(20, 98, 20, 30), (150, 100, 20, 30)]
    assert in_line([box, (0, 300, 20, 30)], others).tolist() == [expected, False]
    assert not in_line([box], others[:1]).any()
    assert not in_line([box], []).any()
    assert in_line([], others).size == 0


def test_rows_that_fall_are_rows():
    falling = [(40 * k, 100 + 5 * k, 20, 30) for k in range(5)]
    assert in_line(falling, falling).all()


def test_what_stands_in_a_row_is_believed_though_it_is_odd(digits, reader, monkeypatch):
    assert accept(5, 0.5, 1.5, in_row=True)
    assert not accept(5, 0.5, 1.5, in_row=False)
    assert accept(1, 0.5, 3.0, in_row=True)
    assert accept(1, 0.5, 0.9, in_row=False)
    assert not accept(1, 0.99, 1.1, in_row=False)
    assert not accept(1, 0.99, 4.5, in_row=True)  # a line
    assert not accept(5, 0.99, 4.5, in_row=True)  # a stain
    assert accept(5, 0.99, 3.5, in_row=True)
    assert not accept(5, 0.99, 3.5, in_row=False)  # a corner of squares
    assert accept(5, 0.99, 2.5, in_row=False)
    assert not accept(5, 0.2, 0.0, in_row=True)
    order = [int(np.flatnonzero(digits.labels == label)[0]) for label in (0, 2, 1, 3)]
    page = make_page(*digits, order, "clean", np.random.default_rng(1))

    def narrowest_is_odd(chosen, ink, sure):
        return np.where(np.arange(len(chosen)) == np.argmin([h.box[2] for h in chosen]), 3.0, 0.0)

    monkeypatch.setattr(steps.judge, "unlike", narrowest_is_odd)
    assert reader.read(page.image).lines() == ["0213"]


def test_what_was_surely_read_without_the_rules_is_not_given_up_for_pieces_of_them():
    before = Reading([one_read(k, 40 * k, 100) for k in range(5)])
    shifted = [one_read(k, 40 * k + 5, 110, 26, 36) for k in range(5)]
    assert not loses(Reading(shifted), before)
    assert not loses(Reading(shifted[:3]), before)  # half of the four; ones do not count
    assert loses(Reading(shifted[:2]), before)
    assert loses(Reading([one_read(9 - k, 40 * k, 100) for k in range(5)]), before)
    assert loses(Reading([one_read(k, 40 * k, 130) for k in range(5)]), before)
    assert loses(Reading([one_read(k, 40 * k + 12, 100) for k in range(5)]), before)
    assert loses(Reading(), before)
    assert not loses(Reading(), Reading(before.digits[:3]))
    assert not loses(Reading(), Reading([one_read(k, 40 * k, 100, confidence=0.8) for k in range(5)]))
    assert loses(Reading(shifted[4:]), Reading(before.digits[2:4]), least=2)
    assert not loses(Reading(shifted[3:]), Reading(before.digits[2:4]), least=2)
    assert not loses(Reading(shifted[4:]), Reading(before.digits[2:3]), least=2)


def test_a_reading_extends_another_if_it_has_all_of_it_and_more_of_its_rows():
    before = Reading([one_read(7, 0, 100), one_read(1, 40, 100)])
    same = [one_read(1, 42, 98, 18, 32), one_read(7, 1, 101)]
    assert extends(Reading([*same, one_read(4, 80, 100)]), before)
    assert extends(Reading([*same, *(one_read(k, 40 * k, 200) for k in range(3))]), before)  # a row of their own
    assert not extends(Reading(same), before)
    assert not extends(Reading([*same, one_read(4, 80, 200)]), before)  # a spot
    assert not extends(Reading([*same, one_read(4, 80, 100, 8, 10)]), before)
    assert not extends(Reading([same[1], one_read(4, 40, 100), one_read(4, 80, 100)]), before)  # it reads one otherwise
    assert not extends(Reading([*same, one_read(4, 80, 100), one_read(4, 80, 200)]), before)


def test_pieces_of_squares_do_not_hide_the_digits(digits, reader):
    page = make_page(*digits, list(range(8)), "rules", np.random.default_rng(118))
    assert reader.read(page.image).lines() == page.truth()["rows"]


def leaning(page, by):
    """The page with what is written on it sheared: `by` pixels to the right a pixel up."""
    height, width = page.shape[:2]
    shear = np.array([[1, -by, by * height], [0, 1, 0]])
    return cv2.warpAffine(page, shear, (round(width + by * height), height), borderMode=cv2.BORDER_REPLICATE)


def test_a_leaning_hand_is_set_upright(digits, reader, monkeypatch):
    page = make_page(*digits, list(range(252, 264)), "clean", np.random.default_rng(21))
    picture = leaning(page.image, 0.6)
    assert reader.read(picture).lines() == page.truth()["rows"]
    shears, by_hand = [], steps.normalise
    monkeypatch.setattr(
        steps, "normalise", lambda ink, *, shear, **how: shears.append(shear) or by_hand(ink, shear=shear, **how)
    )
    reader.read(picture)
    assert max(shears) < -0.1  # -0.5 but for the views: also where it is decided what to cut and to join


@pytest.mark.parametrize(("by", "expected"), [(0.0, 0.0), (0.3, 0.0), (0.5, 0.37), (-0.3, -0.43), (0.9, 0.5), (-0.9, -0.5)])
def test_how_far_a_hand_leans(by, expected):
    bar = np.zeros((60, 140, 3), np.uint8)
    bar[:, 65:75] = 1
    mask = leaning(bar, by)[..., 0]
    parts = [find.Part((100 * k, 0, mask.shape[1], 60), mask) for k in range(5)]
    small = [find.Part((0, 0, 30, 30), np.eye(30, dtype=np.uint8))] * 9  # of another hand, or no digits
    assert lean(parts + small, 60.0) == pytest.approx(expected, abs=0.02)
    assert lean(parts[1:] + small, 60.0) == 0.0


def test_many_parts_that_read_as_nothing_are_grain():
    parts = [find.Part((20 * k, 0, 15, 20 if k < 16 else 50), np.ones((20, 15), np.uint8)) for k in range(20)]
    nothing = np.where(np.arange(20) < 16, 0.39, 0.99)
    assert is_grain([], parts, nothing, 20.0)
    assert not is_grain([], parts, nothing + 0.02, 20.0)
    assert not is_grain([], parts[1:], nothing[1:], 20.0)  # a few
    assert is_grain(parts[:15], parts, nothing, 20.0)
    assert not is_grain(parts[:16] + parts[:1], parts, nothing, 20.0)  # with more digits that were read before
    wide = [find.Part((0, 0, 33, 20), np.ones((20, 33), np.uint8))] * 40  # runs of digits that touch read as none, either
    assert not is_grain([], wide, np.full(40, 0.1), 20.0)
    assert is_grain(wide, parts, nothing, 20.0)


def test_what_is_left_out_as_grain_may_be_read_in_another_guess(clean, reader, monkeypatch):
    gray = find.to_gray(size.fit(clean[0])[0])
    guesses = list(guesses_at_ink(gray, single=False))[:2]
    known: list[Known] = []
    assert reader._read_ink(guesses[0], known)[2]
    del known[-2:]
    assert reader._read_ink(guesses[0], list(known))[2]
    monkeypatch.setattr(steps.judge, "is_grain", lambda *_: True)
    reading, _, sure = reader._read_ink(guesses[0], known)
    assert len(reading.digits) == 10
    assert not sure


def test_grain_is_not_taken_apart(reader, monkeypatch):
    page = np.full((700, 900, 3), 230, np.uint8)
    for place in range(24):  # scribbles, as high as digits
        corners = np.random.default_rng(place).uniform(0, 70, (9, 2))
        corners += np.array([60 + 140 * (place % 6), 60 + 160 * (place // 6)])
        cv2.polylines(page, [np.round(corners).astype(np.int32)], False, (40, 40, 40), 5, cv2.LINE_AA)
    assert not reader.read(page).digits
    monkeypatch.setattr(steps.split, "hypotheses", None)  # not needed
    ink = next(guesses_at_ink(find.to_gray(page), single=False))
    assert not reader._read_ink(ink, [])[0].digits


def test_the_other_polarity_is_tried_where_the_first_reads_as_nothing(clean, reader, monkeypatch):
    monkeypatch.setattr(find, "_polarities", lambda gray, short: [True])  # as where most of the page lies in shadow
    assert reader.read(clean[0]).lines() == clean[1]


@pytest.mark.parametrize("lean", [-0.5, 0.0, 0.5])
def test_either_digit_of_a_pair_has_its_own_box(reader, digits, lean):
    labels = digits.labels.tolist()
    for left, right in ((1, 0), (7, 1), (2, 4)):
        whose = np.zeros((2, 120, 300), np.uint8)  # as they are written: both lean to the left
        for mine, label, start in zip(whose, (left, right), (0, 1), strict=True):
            image = cv2.resize(digits.images[labels.index(label)], None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
            shear = np.array([[1, lean, 60.0], [0, 1, 4]])
            mine[...] = cv2.warpAffine(np.asarray(image > 127, np.uint8), shear, (300, 120))
            columns = np.flatnonzero(mine.any(0))
            mine[...] = np.roll(mine, -columns[0] + 20, 1)
            if start:  # slid to the left one until they touch
                meets = [k for k in range(200) if (np.roll(mine, k, 1) & whose[0]).any()]
                mine[...] = np.roll(mine, max(meets) - 1, 1)
        mask = whose[0] | whose[1]
        box = cv2.boundingRect(mask)
        x, y, w, h = box
        strength = mask.astype(np.float32)
        ink = find.Ink(strength, strength, 255 * (1 - strength), mask, light=False, name="drawn")
        pair = split.Hypothesis(box, mask[y : y + h, x : x + w], pair=True)
        found = reader._finish(ink, [pair], lean)
        assert [d.digit for d in found] == [left, right]
        for digit, mine in zip(found, whose, strict=True):
            assert pages.overlap(digit.box, cv2.boundingRect(mine)) > 0.6


def test_what_reads_as_a_pair_is_no_single_digit_however_sure():
    cluster = cluster_of([0.5, 0.5, 0.5, -1.0])
    found = split.hypotheses(cluster, 30.0, pairs=True)
    give(found, {(1, 4, False): [4], (1, 4, True): [1, 4]})
    for h in found:
        h.cost = 0.0 if h.pair else -0.5
    assert [h.pair for h in split.best_runs(cluster, found, 400.0)[0]] == [True]


def test_nothing_is_a_pair_where_no_part_is_too_wide_for_a_digit():
    cluster = cluster_of([-1.0] * 4)
    cluster.cut = False
    assert not any(h.pair for h in split.hypotheses(cluster, 20.0, pairs=True))


@pytest.mark.skipif(sys.platform == "win32", reason="files cannot be replaced while open there")
def test_pictures_are_written_whole_or_not_at_all(tmp_path, clean, monkeypatch):
    path = saved(tmp_path / "page.png", clean[0])
    out = tmp_path / "out"

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    assert read.main([str(path), "--out", str(out)]) == 1
    assert not [p for p in out.iterdir() if not p.name.startswith(".")]
