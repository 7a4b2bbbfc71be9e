"""Batches: every sample once, repeatable, resumable."""

import json

import numpy as np
import pytest

from tinygrad_lite import ShapeError
from tinygrad_lite.data import Batches

IMAGES = np.arange(11 * 6, dtype=np.uint8).reshape(11, 2, 3)
LABELS = np.arange(11)


def batches(seed=0, **options):
    rng = None if seed is None else np.random.default_rng(seed)
    return Batches(IMAGES, LABELS, rng=rng, **{"batch_size": 4, **options})


def order(loader):
    return [labels.tolist() for _, labels in loader]


def test_each_pass_gives_every_sample_once_with_its_label():
    loader = batches()
    passes = []
    for _ in range(3):
        seen = []
        for images, labels in loader:
            np.testing.assert_array_equal(images, IMAGES[labels])
            assert images.dtype == np.uint8
            seen += labels.tolist()
        assert sorted(seen) == LABELS.tolist()
        passes.append(seen)
    assert passes[0] != passes[1] != passes[2] != sorted(passes[2])


def test_same_seed_same_order():
    assert [order(batches(3)), order(batches(3))] == [order(batches(3))] * 2
    assert order(batches(3)) != order(batches(4))


def test_in_order_without_a_generator():
    assert order(batches(None)) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]


@pytest.mark.parametrize(("size", "drop_last", "lengths"), [
    (4, False, [4, 4, 3]), (4, True, [4, 4]), (11, True, [11]), (50, False, [11]), (1, True, [1] * 11),
])  # fmt: skip
def test_lengths(size, drop_last, lengths):
    loader = batches(batch_size=size, drop_last=drop_last)
    assert [len(labels) for _, labels in loader] == lengths
    assert len(loader) == len(lengths)


def test_transform():
    loader = batches(None, transform=lambda images, labels: (images / np.float32(255), labels + 1))
    images, labels = next(iter(loader))
    assert (images.dtype, labels.tolist()) == (np.float32, [1, 2, 3, 4])


def test_batches_are_copies():
    loader = batches(0)
    images, _ = next(iter(loader))
    images[...] = 255
    assert IMAGES.max() == 65


@pytest.mark.parametrize("done", range(8))
@pytest.mark.parametrize("seed", [0, None])
def test_resuming_gives_what_an_unbroken_run_gives(done, seed):
    def stream(loader):
        while True:
            yield from (labels.tolist() for _, labels in loader)

    unbroken = stream(batches(seed))
    whole = [next(unbroken) for _ in range(done + 7)]

    first = batches(seed)
    begun = stream(first)
    for _ in range(done):
        next(begun)
    state = json.loads(json.dumps(first.state_dict()))
    second = batches(None if seed is None else 99)
    second.load_state_dict(state)
    resumed = stream(second)
    assert [next(resumed) for _ in range(7)] == whole[done:]


def test_resuming_after_a_whole_pass_begins_a_new_one():
    first, second = batches(0), batches(0)
    order(first)
    second.load_state_dict(first.state_dict())
    assert order(second) == order(first)
    assert second.epoch == 2


def test_a_pass_that_was_broken_off_is_not_resumed():
    loader = batches(None)
    for _ in loader:
        break
    assert order(loader) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]


def test_state_of_another_kind_is_refused():
    with pytest.raises(ShapeError, match="one of the two has a generator"):
        batches(0).load_state_dict(batches(None).state_dict())
    loader = batches(0)
    before = loader.state_dict()
    with pytest.raises(ShapeError, match="epoch must be at least 0, got epoch=-1"):
        loader.load_state_dict({**batches(1).state_dict(), "epoch": -1})
    assert loader.state_dict() == before


def test_two_passes_side_by_side_do_not_disturb_each_other():
    batches = Batches(np.arange(6), batch_size=2, rng=None)
    pairs = [(a.tolist(), b.tolist()) for (a,), (b,) in zip(batches, batches, strict=True)]
    assert pairs == [([0, 1],) * 2, ([2, 3],) * 2, ([4, 5],) * 2]
    assert len([1 for _ in batches for _ in batches]) == 9


@pytest.mark.parametrize("rng", [None, np.random.default_rng(0)])
def test_batches_are_no_views(rng):
    images = np.ones((6, 2))
    for (batch,) in Batches(images, batch_size=2, rng=rng):
        batch *= 10
    assert (images == 1).all()


@pytest.mark.parametrize("kind", [np.random.PCG64, np.random.MT19937, np.random.Philox, np.random.SFC64])
def test_the_state_of_every_kind_of_generator_is_fit_for_json(kind):
    def make(seed):
        return Batches(np.arange(10), batch_size=4, rng=np.random.Generator(kind(seed)))

    batches, again = make(0), make(1)
    next(iter(batches))
    again.load_state_dict(json.loads(json.dumps(batches.state_dict())))
    batches.load_state_dict(batches.state_dict())
    for _ in range(2):  # the rest of the pass, and the next one
        assert [b.tolist() for (b,) in again] == [b.tolist() for (b,) in batches]


def test_a_batch_whose_transform_failed_was_not_given_out():
    fails = [True]

    def transform(x):
        if x[0] == 2 and fails.pop():
            raise OSError("a photograph that cannot be read")
        return x.tolist()

    batches = Batches(np.arange(6), batch_size=2, rng=None, transform=transform)
    given = []
    with pytest.raises(OSError, match="photograph"):
        given.extend(iter(batches))
    resumed = Batches(np.arange(6), batch_size=2, rng=None, transform=lambda x: x.tolist())
    resumed.load_state_dict(batches.state_dict())
    assert [*resumed] == [[2, 3], [4, 5]]
