"""One training: its batches, whatever thread prepares them, its checkpoints and its metrics. Kills are in test_faults."""

import dataclasses
import errno
import json
import os
import sys
import time
import tracemalloc

import numpy as np
import pytest

from experiments import curves, mnist, runs, train, training
from experiments.checkpoint import load_checkpoint, save_checkpoint
from experiments.progress import Progress
from experiments.recipes import RECIPES
from tinygrad_lite import FileFormatError


def test_batches_do_not_depend_on_when_they_are_prepared():
    digits = mnist.load()[0].take(100)
    recipe = dataclasses.replace(RECIPES["small"], epochs=2, batch_size=30)
    prepared = training.Training(recipe, 0, digits)
    found = []
    for batch in prepared.batches():
        time.sleep(0.02)  # the thread gets ahead
        found.append((*batch, prepared.loaded["position"]))
        prepared.step += 1
    assert [position for *_, position in found] == [1, 2, 3, 4] * 2  # the place that a checkpoint keeps, not the thread's
    by_hand = training.Training(recipe, 0, digits)
    for epoch in (1, 2):
        for images, labels, places in by_hand.loader:
            image, label, _ = found.pop(0)
            assert np.array_equal(label, labels)
            assert np.array_equal(image, by_hand.distorter(digits.images[places], places, epoch))
            assert not np.array_equal(image, images)


def test_a_checkpoint_holds_all_and_copies_no_array(tmp_path):
    run = training.Training(dataclasses.replace(RECIPES["small"], batch_size=30), 0, mnist.load()[0].take(100))
    for batch, _ in zip(run.batches(), range(2), strict=False):
        run.backward(run.forward(batch)[0])
        run.update()
    save_checkpoint(tmp_path, *run.state())
    tracemalloc.start()
    try:
        save_checkpoint(tmp_path, *run.state())
        assert tracemalloc.get_traced_memory()[1] < run.model.fc1.weight.data.nbytes / 10
    finally:
        tracemalloc.stop()
    arrays, _ = load_checkpoint(tmp_path)
    expected = {f"model/{name}": array for name, array in run.model.state_dict().items()}
    expected |= {f"average/{name}": array for name, array in run.average.module.state_dict().items()}
    for i, state in enumerate(run.optimizer.state_dict()["state"]):
        expected |= {f"optimizer/{i}/{name}": value for name, value in state.items() if isinstance(value, np.ndarray)}
    assert set(arrays) == set(expected)
    assert all(np.array_equal(arrays[name], value) for name, value in expected.items())


def step_line(step):
    return json.dumps({"step": step, "loss": 0.5, "accuracy": 0.25, "lr": 0.1}) + "\n"


def test_metrics_of_a_long_run_are_gone_through_line_by_line(tmp_path):
    text = "".join(map(step_line, range(1, 6001)))
    test_line = json.dumps({"step": 5000, "test_loss": 0.25, "test_accuracy": 0.75}) + "\n"
    (tmp_path / "metrics.jsonl").write_text(text + test_line + step_line(4000)[:-1])
    tracemalloc.start()
    try:
        runs.Run(tmp_path, 5000).close()  # what comes after step 5,000 goes out
        steps, tests = curves._columns(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < len(text)
    finally:
        tracemalloc.stop()
    assert steps["step"].tolist() == [*range(1, 5001)]
    assert set(steps["loss"].tolist()) == {0.5}
    assert {name: column.tolist() for name, column in tests.items()} == {"step": [5000], "loss": [0.25], "accuracy": [0.75]}


@pytest.mark.parametrize(
    "line",
    ["5", "null", "[1, 2]", '{"step": 2}', step_line('"2"').strip(), '{"step": 2, "lpss": 1, "accuracy": 1}', "[" * 10**5],
)
def test_a_damaged_line_of_the_metrics_is_named_and_nothing_is_changed(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    path.write_text(before := f"{step_line(1)}{line}\n{step_line(3)}")
    with pytest.raises(FileFormatError, match=r"metrics.jsonl is damaged in line 2; without that line it can be read again"):
        runs.Run(tmp_path, 3)
    assert path.read_text() == before
    runs.Run(tmp_path).close()  # and the folder is not locked any more


def finished(capsys, out, *arguments):
    assert train.main([*arguments, "--out", str(out)]) == 0
    return json.loads((out / "result.json").read_text()), capsys.readouterr().out


def test_a_part_of_the_test_set_is_spoken_of_where_there_is_more(tmp_path, few_digits, capsys):
    few = ["--data-dir", few_digits, "--recipe", "origin", "--set", "steps=3", "--set", "train_size=100"]
    result, said = finished(capsys, tmp_path / "all", *few)
    assert "part_accuracy" not in result
    assert "of the first" not in said
    result, said = finished(capsys, tmp_path / "part", *few, "--set", "test_size=30")
    assert "part_accuracy" in result
    assert "of the first 30 of them" in said


def test_images_a_second_are_those_that_there_are(tmp_path, few_digits, capsys, monkeypatch):
    sizes = []
    real = train.Progress
    monkeypatch.setattr(
        train, "Progress", lambda done, steps, size, quiet: sizes.append(size) or real(done, steps, size, quiet)
    )
    few = ["--data-dir", few_digits, "--epochs", "2"]
    finished(capsys, tmp_path / "a", *few, "--batch-size", "5000", "--train-size", "100")
    finished(capsys, tmp_path / "b", *few, "--batch-size", "20")
    assert sizes == [100, 20]


def test_there_need_be_no_terminal(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)  # as with 2>&-
    with Progress(0, 2, 5, quiet=False) as progress:
        assert not progress.terminal
        progress.step(1.0, 0.5)


def test_going_on_with_another_number_of_threads_is_said(tmp_path, few_digits, capsys):
    out = tmp_path / "run"
    finished(capsys, out, "--data-dir", few_digits, "--epochs", "1", "--quiet")
    (out / "result.json").unlink()
    config = json.loads((out / "config.json").read_text())
    threads = config["environment"]["blas_threads"]
    if threads is None:
        pytest.skip("NumPy is linked to another BLAS than OpenBLAS")

    def said_with(number):
        config["environment"]["blas_threads"] = number
        (out / "config.json").write_text(json.dumps(config))
        assert train.main(["--resume", str(out), "--quiet"]) == 0
        (out / "result.json").unlink()
        return capsys.readouterr().err

    assert said_with(threads) == said_with(None) == ""
    assert f"begun with {threads + 1} BLAS threads and gone on with {threads}: last bits will be others" in said_with(
        threads + 1
    )


def test_the_seconds_of_a_run_that_is_gone_on_with_are_checked_too(tmp_path, capsys):
    with pytest.raises(SystemExit):
        train.main(["--resume", str(tmp_path), "--checkpoint-seconds", "nan"])
    assert "--checkpoint-seconds: must be a number of at least 0, got nan" in capsys.readouterr().err


def test_a_run_that_cannot_be_begun_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(runs, "write_json", full)
    with pytest.raises(runs.RunError, match="cannot write to"):
        runs.Run.create(tmp_path / "out", "name", {})
    assert not list((tmp_path / "out").iterdir())
