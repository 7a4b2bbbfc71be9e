"""One training: the batches that it is given, whatever thread prepares them. Resuming it is tested by kills, in test_faults."""

import dataclasses
import time
import tracemalloc

import numpy as np

from experiments import mnist, training
from experiments.checkpoint import load_checkpoint, save_checkpoint
from experiments.recipes import RECIPES


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
