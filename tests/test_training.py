"""One training: its batches, whatever thread prepares them, its checkpoints and its metrics. Kills are in test_faults."""

import dataclasses
import json
import time
import tracemalloc

import numpy as np
import pytest

from experiments import curves, mnist, runs, training
from experiments.checkpoint import load_checkpoint, save_checkpoint
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
