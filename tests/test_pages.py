"""Test pages: exact truth, repeatable, and a measure that sees mistakes."""

import errno
import json
import os
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("cv2", reason="OpenCV is not installed")

from experiments import mnist, pages
from experiments.paper import DIFFICULTIES, Digit, Page, make_page
from experiments.reader.load import load
from experiments.reader.reading import Digit as Read
from experiments.reader.reading import Reading
from experiments.runs import RunError, writing_to


@pytest.fixture(scope="module")
def digits():
    training, _ = mnist.load()
    return mnist.Digits(training.images[-500:], training.labels[-500:])


def reading_of(page, change=None):
    """A reading that is right in everything, but for what `change` does to its digits."""
    found = [Read(d.box, d.digit, 0.99, 0, 0.0, np.zeros((28, 28), np.float32)) for d in page.digits]
    reading = Reading(found, [list(row) for row in page.rows])
    if change:
        change(reading)
    return reading


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_truth_is_where_the_ink_is(digits, difficulty):
    rng = np.random.default_rng(3)
    page = make_page(*digits, list(range(24)), difficulty, rng)
    assert page.image.dtype == np.uint8
    height, width = page.image.shape[:2]
    written = [i for row in page.rows for i in row]
    assert written == list(range(len(page.digits)))
    assert len(page.digits) >= 22  # one that would leave the picture is left out
    gray = page.image.astype(float).mean(2)
    for digit in page.digits:
        x, y, w, h = digit.box
        assert 0 <= x < x + w <= width
        assert 0 <= y < y + h <= height
        wide, high = w // 2, h // 3
        inside = gray[y : y + h, x : x + w]
        page_near = np.median(gray[max(0, y - high) : y + h + high, max(0, x - wide) : x + w + wide])
        dark, light = page_near - np.percentile(inside, 3), np.percentile(inside, 97) - page_near
        # some mixed pages have light ink
        shown = {"dark": light, "mixed": max(dark, light)}.get(difficulty, dark)
        assert shown > (2 if difficulty in ("mixed", "rough") else 8)


@pytest.mark.parametrize(("difficulty", "evenly"), [("inks", False), ("clean", True)])
def test_a_second_pen_is_fainter(digits, difficulty, evenly):
    faintest = []
    for seed in range(8):
        page = make_page(*digits, list(range(30)), difficulty, np.random.default_rng(seed))
        gray = page.image.astype(float).mean(2)
        boxes = [[page.digits[i].box for i in row] for row in page.rows]
        dark = [np.mean([np.median(gray) - gray[y : y + h, x : x + w].min() for x, y, w, h in row]) for row in boxes]
        faintest.append(min(dark) / max(dark))
    assert (min(faintest) > 0.8) == evenly
    assert (np.median(faintest) > 0.8) == evenly
    assert min(faintest) > 0.2


def test_partners_are_mutual_and_touch(digits):
    page = make_page(*digits, list(range(40)), "touching", np.random.default_rng(0))
    paired = [(i, d.partner) for i, d in enumerate(page.digits) if d.partner is not None]
    assert len(paired) >= 8
    for i, j in paired:
        assert page.digits[j].partner == i
        a, b = sorted((page.digits[i].box, page.digits[j].box))
        assert b[0] <= a[0] + a[2] + 1  # the right one's box begins where the left one's ends, or before


def test_pages_are_repeatable_and_use_each_digit_once(digits):
    made = list(pages.make_pages(*digits, 60, 4, ("clean", "rules")))
    again = list(pages.make_pages(*digits, 60, 4, ("clean", "rules")))
    other = list(pages.make_pages(*digits, 60, 5, ("clean", "rules")))
    for one, two in zip(made, again, strict=True):
        np.testing.assert_array_equal(one.image, two.image)
        assert one.truth() == two.truth()
    assert [p.truth() for p in made] != [p.truth() for p in other]
    assert 55 <= sum(len(p.digits) for p in made) <= 60


def test_a_right_reading_counts_as_right(digits):
    page = make_page(*digits, list(range(30)), "touching", np.random.default_rng(1))
    counted = pages.count(page, reading_of(page))
    assert counted["matched"] == counted["right"] == counted["digits"] == counted["found"] == len(page.digits)
    assert counted["pairs_right"] == counted["pairs"] > 0
    assert counted["rows_right"] == counted["rows"] > 0


def test_each_kind_of_mistake_is_seen(digits):
    page = make_page(*digits, list(range(30)), "touching", np.random.default_rng(1))
    right = pages.count(page, reading_of(page))
    first = next(i for i, d in enumerate(page.digits) if d.partner is not None)

    def misread(reading):
        reading.digits[first].digit = (reading.digits[first].digit + 1) % 10

    def shift(reading):
        x, y, w, h = reading.digits[first].box
        reading.digits[first].box = (x + 3 * w, y + 3 * h, w, h)

    def swap(reading):
        reading.rows[0], reading.rows[1] = reading.rows[1], reading.rows[0]

    for change, changed in (
        (misread, {"right": -1, "pairs_right": -1, "rows_right": -1}),
        (shift, {"matched": -1, "right": -1, "pairs_right": -1}),
        (swap, {"rows_right": -1}),
    ):
        counted = pages.count(page, reading_of(page, change))
        assert {key: counted[key] - right[key] for key in right if counted[key] != right[key]} == changed


def test_one_found_box_is_no_two_digits():
    boxes = [(10, 10, 20, 20), (12, 10, 20, 20)]
    page = Page(np.zeros((40, 40, 3), np.uint8), "clean", [[0, 1]], [Digit(b, 1) for b in boxes])
    found = Reading([Read(boxes[0], 1, 1.0, 0, 0.0, np.zeros((28, 28), np.float32))], [[0]])
    counted = pages.count(page, found)
    assert (counted["found"], counted["matched"], counted["right"]) == (1, 1, 1)


def test_overlap_is_intersection_over_union():
    assert pages.overlap((0, 0, 4, 4), (0, 0, 4, 4)) == 1
    assert pages.overlap((0, 0, 4, 4), (2, 0, 4, 4)) == pytest.approx(8 / 24)
    assert pages.overlap((0, 0, 4, 4), (4, 4, 2, 2)) == 0


def test_command_makes_pages_and_measures_them(tmp_path, capsys):
    assert pages.main(["--dry-run", "--difficulty", "clean", "slant", "--out", str(tmp_path / "made")]) == 0
    truth = json.loads((tmp_path / "made" / "truth.json").read_text())
    assert [set(t) for t in truth] == [{"file", "difficulty", "rows", "digits"}] * len(truth)
    assert all((tmp_path / "made" / t["file"]).stat().st_size > 1000 for t in truth)
    arguments = ["--evaluate", "--split", "kept-out", "--digits", "40", "--difficulty", "clean", "dark", "--seed", "2"]
    assert pages.main([*arguments, "--out", str(tmp_path / "read")]) == 0
    figures = json.loads((tmp_path / "read" / "pages.json").read_text())["result"]
    assert set(figures) == {"clean", "dark", "all"}
    assert figures["all"]["precision"] >= 0.95
    assert figures["all"]["recall"] >= 0.95
    assert figures["all"]["digits_right"] >= 0.95
    counts = figures["all"]["counts"]
    assert counts["rows"] > 1
    assert figures["all"]["rows_right"] == round(counts["rows_right"] / counts["rows"], 4)  # a share beside a count
    assert "whole rows" in capsys.readouterr().out


def test_a_page_on_a_larger_picture_has_its_truth_there(digits):
    page = next(pages.make_pages(*digits, 6, 3, ("touching",), on_page=(6, 6)))
    height, width = page.image.shape[:2]
    larger = page.on(np.zeros((3 * height, 2 * width, 3), np.uint8))
    assert [d.box for d in larger.digits] == [(2 * x, 3 * y, 2 * w, 3 * h) for x, y, w, h in (d.box for d in page.digits)]
    assert [(d.digit, d.partner) for d in larger.digits] == [(d.digit, d.partner) for d in page.digits]
    assert (larger.rows, larger.difficulty) == (page.rows, page.difficulty)


def test_pages_have_as_many_digits_as_asked_for(digits):
    counts = [len(page.digits) for page in pages.make_pages(*digits, 100, 1, ("clean", "dark"), on_page=(7, 9))]
    assert sum(counts) == 100
    assert set(counts) >= {7, 8, 9}
    assert sum(not 7 <= n <= 9 for n in counts) <= 2  # what was left for the last page of either kind


@pytest.mark.parametrize("megapixels", [1, 2.5, 3, 4])
def test_photographs_are_no_larger_than_asked_for(digits, tmp_path, megapixels):
    for page in pages.make_pages(*digits, 6, 0, ("clean",), on_page=(1, 2)):
        height, width = pages.photographed(page, megapixels, tmp_path / "page.jpg").image.shape[:2]
        assert megapixels * 0.99e6 < height * width <= megapixels * 1e6


def test_photographs_are_as_large_as_asked_for_and_read_as_well(tmp_path, capsys, monkeypatch):
    command = ["--split", "kept-out", "--digits", "8", "--on-page", "8", "8", "--difficulty", "clean", "--out", str(tmp_path)]
    assert pages.main([*command, "--megapixels", "3"]) == 0
    (truth,) = json.loads((tmp_path / "truth.json").read_text())
    assert truth["file"] == "clean-0.jpg"
    picture, scale = load(tmp_path / truth["file"])
    assert picture.shape[0] * picture.shape[1] * scale**2 == pytest.approx(3e6, rel=0.01)
    loaded = []
    monkeypatch.setattr(pages, "load", lambda path: loaded.append(path.name) or load(path))
    assert pages.main([*command, "--megapixels", "3", "--evaluate"]) == 0
    assert loaded == ["page.jpg"]
    measured = json.loads((tmp_path / "pages.json").read_text())
    assert measured["result"]["all"]["digits_right"] == 1
    assert measured["result"]["all"]["counts"]["matched"] == 8  # the boxes are those of the picture that was read
    seconds = measured["seconds"]["clean-0"]
    assert f"A page took {seconds:.2f} seconds, the median; clean-0 took most, {seconds:.2f}." in capsys.readouterr().out
    assert pages.main(command) == 0
    assert {p.name for p in tmp_path.glob("clean-*")} == {"clean-0.png"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--on-page", "0", "3"], "--on-page: must be two numbers, at least 1 and no less than that, got 0 3."),
        (["--on-page", "4", "3"], "--on-page: must be two numbers, at least 1 and no less than that, got 4 3."),
        (["--megapixels", "0.5"], "--megapixels: must be at least 1, got 0.5."),
        (["--megapixels", "500"], "--megapixels: must be at most 80, which is what the reader takes."),
        (["--megapixels", "nan"], "--megapixels: must be at least 1, got nan."),
    ],
)
def test_pages_that_cannot_be_are_refused(options, said, tmp_path, capsys):
    assert pages.main([*options, "--out", str(tmp_path / "out")]) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_pictures_of_an_earlier_run_go_and_the_users_own_stay(tmp_path, capsys):
    kept = ["mine.png", "clean-1-crop.png", "clean-01.png", "wrong/mine.png", "wrong/clean-7.png.txt"]
    (tmp_path / "wrong").mkdir()
    for name in [*kept, "clean-7.png", "wrong/clean-7.png", "wrong/rough-12.png"]:
        (tmp_path / name).write_text(name)
    command = ["--dry-run", "--difficulty", "clean", "--out", str(tmp_path)]
    assert pages.main([*command, "--evaluate"]) == 0
    assert "Wrote pages.json, and the 0 of 1 pages with a mistake" in capsys.readouterr().out
    assert sorted(p.name for p in (tmp_path / "wrong").iterdir()) == ["clean-7.png.txt", "mine.png"]
    assert (tmp_path / "clean-7.png").exists()  # reading writes no pages, so those that lie there are as they were
    assert pages.main(command) == 0
    listed = {page["file"] for page in json.loads((tmp_path / "truth.json").read_text())}
    assert {p.name for p in tmp_path.glob("clean-*.png")} == listed | {"clean-1-crop.png", "clean-01.png"}
    assert all((tmp_path / name).read_text() == name for name in kept)


def test_weights_that_are_not_there_are_named_and_the_last_run_stays(tmp_path, capsys):
    (tmp_path / "wrong").mkdir()
    (tmp_path / "wrong" / "clean-0.png").write_text("the last run's")
    assert pages.main(["--dry-run", "--evaluate", "--weights", "nothere.safetensors", "--out", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "there is no such file (nothere.safetensors); give --weights FILE" in said
    assert "--out" not in said
    assert (tmp_path / "wrong" / "clean-0.png").read_text() == "the last run's"


def test_only_errors_of_the_folder_are_blamed_on_it(tmp_path):
    def fail(error):
        with writing_to(tmp_path / "out"):
            raise error

    full, inside = OSError(errno.ENOSPC, "No space left"), PermissionError(errno.EACCES, "Denied", str(tmp_path / "out" / "a"))
    for error in (full, inside):
        with pytest.raises(RunError, match=rf"--out: cannot write to .*out \({error.strerror}\); give another folder"):
            fail(error)
    for error in (PermissionError(errno.EACCES, "Denied", str(tmp_path / "other")), FileNotFoundError("no such weights")):
        with pytest.raises(type(error)) as seen:
            fail(error)
        assert seen.value is error


@pytest.mark.skipif(sys.platform == "win32", reason="pipes differ there")
def test_a_closed_pipe_stops_no_experiment(tmp_path):
    inlet, outlet = os.pipe()
    os.close(inlet)
    command = [sys.executable, "-m", "experiments.pages", "--dry-run", "--out", str(tmp_path)]
    run = subprocess.run(command, stdout=outlet, stderr=subprocess.PIPE, text=True, check=False)
    os.close(outlet)
    assert (run.returncode, run.stderr) == (0, "")
    assert json.loads((tmp_path / "truth.json").read_text())


def test_empty_pages_are_the_same_sheets_with_nothing_on_them(digits, tmp_path, capsys):
    kinds = ("clean", "touching")
    for full, empty in zip(
        pages.make_pages(*digits, 40, 3, kinds), pages.make_pages(*digits, 40, 3, kinds, empty=True), strict=True
    ):
        assert empty.digits == empty.rows == []
        written = np.zeros(full.image.shape[:2], bool)
        for x, y, w, h in (digit.box for digit in full.digits):
            written[max(0, y - 9) : y + h + 9, max(0, x - 9) : x + w + 9] = True
        apart = np.abs(full.image.astype(int) - empty.image).max(axis=2)
        assert np.percentile(apart[~written], 99) < 12 < apart[written].max()  # but for what JPEG does beside the ink
    assert pages.main(["--evaluate", "--empty", "--dry-run", "--difficulty", "clean", "dark", "--out", str(tmp_path)]) == 0
    assert "the 0 of 2 pages with a mistake" in capsys.readouterr().out
