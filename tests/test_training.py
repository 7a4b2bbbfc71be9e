"""One training: the batches that it is given, whatever thread prepares them. Resuming it is tested by kills, in test_faults."""

import dataclasses
import time

import numpy as np

from experiments import mnist, training
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
