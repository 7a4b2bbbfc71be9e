"""Sweeps: what the table says is what the runs gave, and a sweep that was stopped goes on as if it had not been."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments import sweep, sweep_picture
from experiments.sweep import main, summary, table

ROOT = Path(__file__).parent.parent
VARIANTS = ["best:batch_size=20,epochs=2", "small:batch_size=20,epochs=2,elastic=0"]


def weights(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(Path(folder).rglob("model.safetensors"))}


@pytest.fixture(scope="module")
def swept(tmp_path_factory, few_digits):
    """A finished sweep of two variants and two seeds."""
    out = tmp_path_factory.mktemp("sweep") / "whole"
    assert main([*VARIANTS, "--seeds", "2", "--jobs", "2", "--data-dir", few_digits, "--out", str(out)]) == 0
    return out


def test_rows_are_what_the_runs_gave(swept):
    rows = json.loads((swept / "sweep.json").read_text())["rows"]
    assert [row["variant"] for row in rows] == VARIANTS
    for row in rows:
        folders = [swept / row["variant"].replace(":", ",") / f"seed-{seed}" for seed in (0, 1)]
        values = [100 * json.loads((f / "result.json").read_text())["test_accuracy"] for f in folders]
        assert row["test_accuracy"]["values"] == pytest.approx(values)
        assert row["test_accuracy"]["mean"] == pytest.approx(sum(values) / 2)
        assert row["test_accuracy"]["std"] == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
        assert row["train_size"] == 200
    assert (swept / "sweep.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    config = json.loads((swept / VARIANTS[1].replace(":", ",") / "seed-1" / "config.json").read_text())
    assert (config["recipe"], config["seed"], config["elastic"], config["rotation"] > 0) == ("small", 1, 0.0, True)


@pytest.mark.parametrize(("by_size", "changes"), [
    (False, ""), (True, ""), (False, "epochs=40,rotation=0,scale=0,shear=0,shift=0,elastic=0,thickness=0,average=0,dropout=0,"),
])  # fmt: skip
def test_nothing_on_the_picture_hides_anything(tmp_path, monkeypatch, by_size, changes):
    figures = []
    monkeypatch.setattr(sweep_picture.plt, "close", figures.append)
    results = [
        [{"train_size": size, "test_accuracy": 1 - e / size**0.5, "seconds": 1.0} for e in (3, 4, 5)] for size in (400, 60_000)
    ]
    names = [f"best:{changes}train_size={found[0]['train_size']}" for found in results]
    rows = [summary(name, found) for name, found in zip(names, results, strict=True)][: 2 if by_size or changes else 1]
    sweep.draw(tmp_path / "sweep.png", rows, {"a long name of a net": 19.0, "Caffe": 16.0}, by_size, "the test images")
    (axes,) = figures[0].axes
    low, high = axes.get_ylim()
    ticks = [*axes.yaxis.get_major_ticks(), *axes.yaxis.get_minor_ticks()]
    boxes = [tick.label1.get_window_extent() for tick in ticks if low <= tick.get_loc() <= high and tick.label1.get_text()]
    assert len(boxes) == (4 if by_size else len(rows))
    assert axes.get_window_extent().width > 0.4 * figures[0].bbox.width
    boxes += [part.get_window_extent() for part in (axes, axes.xaxis.label, *figures[0].legends, figures[0]._suptitle)]
    assert not any(box.overlaps(other) for i, box in enumerate(boxes) for other in boxes[:i])
    assert all(figures[0].bbox.containsx(x) for box in boxes for x in (box.x0, box.x1))
    assert all(figures[0].bbox.containsy(y) for box in boxes for y in (box.y0, box.y1))
    assert figures[0].legends  # beside the axes, not on them


@pytest.mark.parametrize("sizes", [(400, 60_000, 3000), (3000, 3000, 400)])
def test_over_the_size_the_line_goes_from_small_to_large_and_no_label_lies_on_another(tmp_path, monkeypatch, sizes):
    figures = []
    monkeypatch.setattr(sweep_picture.plt, "close", figures.append)
    same = [[{"train_size": n, "test_accuracy": (0.9, 0.901, 0.2)[k], "seconds": 1.0}] * 2 for k, n in enumerate(sizes)]
    rows = [summary(f"best:train_size={n},epochs={k}", found) for k, (n, found) in enumerate(zip(sizes, same, strict=True))]
    sweep.draw(tmp_path / "sweep.png", rows, {}, True, "the test images")
    (axes,) = figures[0].axes
    assert axes.lines[0].get_xdata().tolist() == sorted(sizes)
    boxes = [label.get_window_extent() for label in axes.texts]
    assert len(boxes) == 3
    assert not any(box.overlaps(other) for i, box in enumerate(boxes) for other in boxes[:i])
    texts = [text.get_text() for text in figures[0].legends[0].get_texts()]
    assert sorted(texts) == ["mean and standard deviation", "one seed"]  # two that are equal are two


def test_stopped_and_gone_on_with_equals_the_unbroken_sweep(swept, tmp_path, few_digits, capsys):
    arguments = [VARIANTS[0], "--seeds", "2", "--jobs", "1", "--data-dir", few_digits, "--out", str(tmp_path)]
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments.sweep", *arguments], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    while not list(tmp_path.rglob("metrics.jsonl")):  # until a run has begun
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert "sweep: stopped; the same command with this --out goes on" in process.communicate()[1]
    assert process.returncode == 143
    assert len(weights(tmp_path)) < 2
    capsys.readouterr()
    assert main(arguments) == 0
    assert "2 of 2 done" in capsys.readouterr().out
    found, expected = weights(tmp_path), weights(swept)
    assert len(found) == 2
    assert found.items() <= expected.items()


def test_finished_runs_are_read_and_not_run_again(swept, few_digits, monkeypatch, capsys):
    monkeypatch.setattr(sweep.Job, "start", lambda *_: pytest.fail("a run was started"))
    arguments = [*VARIANTS, "--seeds", "2", "--data-dir", few_digits, "--out", str(swept)]
    assert main([*arguments, "--by-size", "--published", "a net = of old=3.5"]) == 0
    assert "done" not in capsys.readouterr().out
    assert main([*arguments[:-4], "--validate", "20", *arguments[-4:]]) == 1
    assert "seed-0 holds another run (its validate); give another folder" in capsys.readouterr().err


def test_a_run_of_an_older_version_is_gone_on_with(swept, few_digits, tmp_path):
    folder = tmp_path / "old" / VARIANTS[0].replace(":", ",") / "seed-0"
    shutil.copytree(swept / VARIANTS[0].replace(":", ",") / "seed-0", folder)
    config = json.loads((folder / "config.json").read_text())
    del config["label_smoothing"]  # a field that this version knows, with its default
    (folder / "config.json").write_text(json.dumps(config))
    arguments = [VARIANTS[0], "--seeds", "1", "--data-dir", few_digits, "--out", str(tmp_path / "old")]
    assert main(arguments) == 0
    del config["batch_size"]  # whose value in the run was another than the default
    (folder / "config.json").write_text(json.dumps(config))
    assert main(arguments) == 1


def test_a_run_that_the_system_kills_is_named_with_its_exit_code(tmp_path, few_digits, monkeypatch, capsys):
    start = sweep.Job.start

    def killed(job):
        process = start(job)
        process.kill()
        return process

    monkeypatch.setattr(sweep.Job, "start", killed)
    assert main(["origin:test_size=None", "--seeds", "1", "--data-dir", few_digits, "--out", str(tmp_path / "out")]) == 1
    assert "seed 0: ended with exit code -9; the same command with this --out goes on" in capsys.readouterr().err


def test_a_failed_run_is_named_and_the_others_finish_and_are_summed_up(tmp_path, few_digits, capsys):
    variants = ["origin:lr=1e25,steps=20,test_size=None", "origin:steps=2,test_size=None"]
    assert main([*variants, "--seeds", "1", "--jobs", "2", "--data-dir", few_digits, "--out", str(tmp_path)]) == 1
    seen = capsys.readouterr()
    assert f"sweep: 1 of 2 runs failed. {variants[0]}, seed 0: " in seen.err
    assert re.search(r"train: the loss is (nan|inf) at step \d+ with learning rate", seen.err)
    assert f"{variants[1]}, seed 0: " in seen.out
    written = json.loads((tmp_path / "sweep.json").read_text())
    assert [row["variant"] for row in written["rows"]] == variants[1:]
    assert [words.startswith(f"{variants[0]}, seed 0: train: the loss is ") for words in written["failed"]] == [True]
    assert re.search(rf"Tested on the test images:\nvariant .*\n{variants[1]} +200 ", seen.out)
    assert (tmp_path / "sweep.png").exists()


def test_seeds_that_failed_leave_the_others_of_their_variant(tmp_path, few_digits, monkeypatch, capsys):
    failing, start = {0, 1}, sweep.Job.start

    def start_or_fail(job):
        job.arguments += ["--lr", "-1"] if job.seed in failing else []
        return start(job)

    monkeypatch.setattr(sweep.Job, "start", start_or_fail)
    variant, out = "origin:steps=2,test_size=None", tmp_path / "out"
    arguments = [variant, "--seeds", "2", "--jobs", "1", "--data-dir", few_digits, "--out", str(out)]

    def values():
        (row,) = json.loads((out / "sweep.json").read_text())["rows"]
        return row["test_accuracy"]["values"]

    assert main(arguments) == 1
    assert f"sweep: 2 of 2 runs failed. {variant}, seed 0: train: recipe: lr " in capsys.readouterr().err
    assert not out.exists()
    failing.remove(1)
    assert main(arguments) == 1
    assert f"sweep: 1 of 2 runs failed. {variant}, seed 0: train: recipe: lr " in capsys.readouterr().err
    assert len(values()) == 1
    failing.clear()
    assert main(arguments) == 0
    assert len(values()) == 2


def test_part_of_the_test_set_has_a_line_of_its_own():
    results = [
        {"test_accuracy": a, "part_accuracy": p, "train_size": 3000, "seconds": 9.0} for a, p in ((0.5, 0.25), (0.7, 0.5))
    ]
    text = table([summary("origin", results)])
    assert "60.00 +- 14.14" in text
    assert "the first of them alone" in text
    assert "37.50 +- 17.68" in text
    alone = summary("origin", results[:1])
    assert (alone["test_accuracy"]["std"], "+-" in table([alone])) == (None, False)  # one seed has no deviation


@pytest.mark.parametrize(("arguments", "words"), [
    (["fast"], "recipe: there is no recipe 'fast'"),
    (["best:elastic"], "recipe: expected FIELD=VALUE"),
    (["quick", "best:train_size=60001"], "recipe: train_size is 60,001, but there are only 60,000 training images."),
    (["best:test_size=5", "best:test_size=10001"], "recipe: test_size is 10,001, but there are only 10,000 test images."),
    (["best", "--seeds", "0"], "--seeds: must be at least 1, got 0."),
    (["best", "--published", "Caffe"], "--published: expected NAME=ERROR, an error in per cent, got 'Caffe'."),
    (["best", "--published", "Caffe=nan"], "--published: expected NAME=ERROR, an error in per cent, got 'Caffe=nan'."),
    (["best", "--published", "Caffe=-1"], "--published: expected NAME=ERROR, an error in per cent, got 'Caffe=-1'."),
    (["best", "--validate", "60000"], "--validate: must be between 1 and 59999, got 60000."),
    (["best", "--data-dir", "nowhere"], "found neither"),
])  # fmt: skip
def test_refused_before_anything_is_written(tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert main([*arguments, "--jobs", "1"]) == 1
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
