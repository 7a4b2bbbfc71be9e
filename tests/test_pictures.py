"""Picture files that are odd, in all that opens pictures: none runs a program, none ends a batch, none is shown otherwise."""

import base64
import io
import json
import os
import re
import sys

import numpy as np
import pytest

pytest.importorskip("cv2", reason="OpenCV is not installed")
Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
from PIL import EpsImagePlugin  # noqa: E402

from experiments import feature_maps, read, report  # noqa: E402
from experiments.reader.load import UnreadableImageError, holds_more, load  # noqa: E402
from experiments.reader.reading import Digit, Reading  # noqa: E402


def iptc_of(data):
    """An IPTC file with another file within it, which Pillow opens whatever it is."""
    fields = [(3, 60, b"\1\0"), (3, 20, b"\0\x28"), (3, 30, b"\0\x28"), (3, 120, b"\0\5"), (8, 10, data)]
    return b"".join(bytes([0x1C, record, number]) + len(text).to_bytes(2, "big") + text for record, number, text in fields)


def test_no_picture_runs_a_program(tmp_path, monkeypatch):
    ran = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *some, **how: ran.append(some) or Image.new("RGB", (40, 40)).im)
    buffer = io.BytesIO()
    Image.new("RGB", (40, 40)).save(buffer, "EPS")
    (tmp_path / "program.png").write_bytes(buffer.getvalue())
    (tmp_path / "wrapped.png").write_bytes(iptc_of(buffer.getvalue()))
    for path in tmp_path.iterdir():
        with Image.open(path) as image:
            image.load()
        assert ran.pop()  # with bare Pillow it does
        for opening in load, lambda path: feature_maps.read_image(path, None), lambda path: report.picture(path, ""):
            with pytest.raises(UnreadableImageError, match=r"none that Pillow knows"):
                opening(path)
        assert not ran


@pytest.mark.parametrize("size", [(4000, 1), (1, 4000), (12_000, 3), (3, 12_000)])
def test_long_thin_pictures_hold_no_digits(tmp_path, capsys, size):
    Image.new("L", size, 200).save(tmp_path / "thin.png")
    picture, scale = load(tmp_path / "thin.png")
    assert sorted(picture.shape) == [1, 3, 1600]
    assert scale == max(size) / 1600
    Image.new("L", (50, 50), 200).save(tmp_path / "next.png")
    files = [str(tmp_path / name) for name in ("thin.png", "next.png")]
    assert read.main([*files, "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.count("no digits found") == 2


def unsure(x, y):
    return Digit((x, y, 20, 30), 3, 0.5, 5, 0.3, np.zeros((28, 28), np.float32))


class Found:
    """A reader that finds the same unsure digits on every picture, and is stopped where that is asked for."""

    def __init__(self, stops_at=0):
        self.left = stops_at

    def read(self, picture, single):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return Reading([unsure(10, 40), unsure(60, 42)], [[0, 1]])


def reading_with(monkeypatch, reader):
    monkeypatch.setattr(read, "load_reader", lambda weights: reader)


def test_places_are_said_in_the_file_s_pixels(tmp_path, capsys, monkeypatch):
    reading_with(monkeypatch, Found())
    Image.new("L", (4000, 3000), 200).save(tmp_path / "large.png")
    assert read.main([str(tmp_path / "large.png"), "--out", str(tmp_path / "out")]) == 0
    assert re.findall(r"at x=(\d+) y=(\d+)", capsys.readouterr().out) == [("25", "100"), ("150", "105")]
    assert json.loads((tmp_path / "out" / "read.json").read_text())[0]["digits"][1]["box"][:2] == [150, 105]


def test_a_batch_goes_on_after_names_and_folders_that_the_system_refuses(tmp_path, capsys, monkeypatch):
    reading_with(monkeypatch, Found())
    Image.new("L", (90, 90)).save(tmp_path / "one.png")
    longest = tmp_path / ("ä" * 120 + "-1.png")  # the system takes 255 bytes
    for path in longest, tmp_path / ("ä" * 120 + "-2.png"):
        path.write_bytes((tmp_path / "one.png").read_bytes())
    refused = [tmp_path / ("x" * 300 + ".png"), tmp_path / "one.png" / "below.png"]
    files = [*refused, longest, longest.with_name("ä" * 120 + "-2.png"), tmp_path / "one.png"]
    assert read.main([*map(str, files), "--json", "--out", str(tmp_path / "out")]) == 1
    printed = capsys.readouterr()
    assert [json.loads(line)["file"] for line in printed.out.splitlines()] == [str(path) for path in files[2:]]
    assert re.search(r"x\.png cannot be read \(File name too long\); check the name", printed.err)
    assert re.search(r"below\.png does not exist", printed.err)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"read.json", "one.read.png", "ä" * 75 + ".read.png", "ä" * 75 + "-2.inputs.png"} <= names
    assert len(names) == 7


@pytest.mark.parametrize("what", ["stat", "open"])
def test_what_we_may_not_read_is_not_called_damaged(tmp_path, monkeypatch, what):
    """As the tests may run as root, who may read all, the refusal is the system's in name only."""
    path = tmp_path / "closed.png"
    Image.new("L", (9, 9)).save(path)
    real = getattr(type(path), what)

    def refused(self, *some, **how):
        if self == path:
            raise PermissionError(13, "Permission denied")
        return real(self, *some, **how)

    monkeypatch.setattr(type(path), what, refused)
    with pytest.raises(UnreadableImageError, match=r"closed\.png cannot be read \(Permission denied\)"):
        load(path)


def test_more_than_pillow_opens_is_too_large_and_not_damaged(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2_000_000)
    Image.new("1", (2100, 2000)).save(tmp_path / "huge.png")
    with pytest.raises(UnreadableImageError, match=r"at most 80 megapixels, .*huge\.png has more than 4; shrink it"):
        load(tmp_path / "huge.png")


def test_a_stopped_batch_keeps_what_it_has_read(tmp_path, capsys, monkeypatch):
    for name in "abc":
        Image.new("L", (90, 90)).save(tmp_path / f"{name}.png")
    files = [str(tmp_path / f"{name}.png") for name in "abc"]
    reading_with(monkeypatch, Found(stops_at=3))
    assert read.main([*files, "--out", str(tmp_path / "out")]) == 130
    kept = (tmp_path / "out" / "read.json").read_text()
    assert [one["file"] for one in json.loads(kept)] == files[:2]
    reading_with(monkeypatch, Found(stops_at=1))
    assert read.main([*files, "--out", str(tmp_path / "out")]) == 130
    assert (tmp_path / "out" / "read.json").read_text() == kept  # not taken away by a batch that read nothing
    assert "stopped" in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_names_that_the_output_cannot_show_end_nothing(tmp_path, monkeypatch, encoding):
    reading_with(monkeypatch, Found())
    Image.new("L", (90, 90)).save(tmp_path / "one.png")
    path = tmp_path / os.fsdecode(b"\xff\xc3\xa4.png")
    try:
        path.write_bytes((tmp_path / "one.png").read_bytes())
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    out = io.TextIOWrapper(io.BytesIO(), encoding, errors="strict")
    monkeypatch.setattr(sys, "stdout", out)
    assert read.main([str(path), "--out", str(tmp_path / "out")]) == 0
    assert rb"\udcff" in out.buffer.getvalue()
    assert json.loads((tmp_path / "out" / "read.json").read_text())[0]["file"] == str(path)


@pytest.mark.parametrize("name", ["pages.tiff", "film.gif", "film.webp", "film.png"])
def test_what_holds_more_than_one_picture_is_said(tmp_path, capsys, monkeypatch, name):
    reading_with(monkeypatch, Found())
    first, second = (Image.new("L", (90, 90), light) for light in (0, 200))
    first.save(tmp_path / name, save_all=True, append_images=[second])
    alone = tmp_path / f"alone-{name}"
    first.save(alone)
    first.save(tmp_path / "phone.jpg", "MPO", save_all=True, append_images=[second])
    assert (holds_more(tmp_path / name), holds_more(alone), holds_more(tmp_path / "phone.jpg")) == (True, False, False)
    assert read.main([str(tmp_path / name), str(alone), "--json", "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr()
    assert [json.loads(line)["file"] for line in printed.out.splitlines()] == [str(tmp_path / name), str(alone)]
    assert printed.err.count("only its first picture was read") == 1
    assert f"{tmp_path / name}: only its first picture" in printed.err


def test_a_small_picture_of_any_kind_gives_its_digit(tmp_path):
    digit = np.zeros((28, 28), np.uint8)
    digit[6:22, 12:16] = 255
    sixteen = digit.astype(np.uint16) * 4 + 20_000
    on_nothing = np.dstack([np.zeros((28, 28, 3), np.uint8), digit])
    for name, picture in (
        ("clear.png", Image.fromarray(on_nothing)),
        ("floats.tiff", Image.fromarray(digit.astype(np.float32) / 255)),
        ("sixteen.png", Image.fromarray(sixteen)),
    ):
        picture.save(tmp_path / name)
        np.testing.assert_array_equal(feature_maps.read_image(tmp_path / name, None)[0], digit, err_msg=name)


def shown(path):
    """The picture that a page carries."""
    kind, data = re.search(r"data:image/(\w+);base64,([^\"]*)", report.picture(path, "words")).groups()
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        assert image.format.lower() == kind
        assert image.getexif().get(0x0112, 1) == 1
        return np.asarray(image.convert("L"))


@pytest.mark.parametrize("size", [(90, 60), (3000, 2000)])
def test_the_report_shows_photographs_upright_and_in_their_shades(tmp_path, size):
    turned = Image.Exif()
    turned[0x0112] = 6  # what is left in the file is on top
    wide = Image.new("L", size, 255)
    wide.paste(0, (0, 0, size[0] // 3, size[1]))
    wide.save(tmp_path / "turned.jpg", exif=turned)
    wide.save(tmp_path / "upright.jpg")
    picture = shown(tmp_path / "turned.jpg")
    assert picture.shape[0] / picture.shape[1] == pytest.approx(1.5, rel=0.01)
    assert picture[: len(picture) // 4].max() < 50 < 200 < picture[-len(picture) // 2 :].min()
    assert shown(tmp_path / "upright.jpg")[:, :10].max() < 50
    gray = np.asarray(wide)
    Image.fromarray(np.dstack([np.zeros((*gray.shape, 3), np.uint8), 255 - gray])).save(tmp_path / "ink.tiff")
    Image.fromarray(gray.astype(np.uint16) * 100 + 9000).save(tmp_path / "sixteen.tiff")
    for name in ("ink.tiff", "sixteen.tiff"):
        picture = shown(tmp_path / name)
        third = picture.shape[1] // 3
        assert picture[:, : third - 9].max() < 50 < 200 < picture[:, third + 9 :].min(), name


def test_what_was_read_before_stays_where_nothing_can_be_read(tmp_path, capsys, monkeypatch):
    Image.new("L", (90, 90)).save(tmp_path / "a.png")
    reading_with(monkeypatch, Found())
    assert read.main([str(tmp_path / "a.png"), "--out", str(tmp_path / "out")]) == 0
    kept = (tmp_path / "out" / "read.json").read_text()
    capsys.readouterr()
    assert read.main([str(tmp_path / "b.png"), str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert f"{tmp_path} is a folder; give its files, {tmp_path}/*." in printed.err
    assert (tmp_path / "out" / "read.json").read_text() == kept
