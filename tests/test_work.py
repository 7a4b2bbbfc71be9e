"""How much a training step does: big arrays are counted, not seconds, so that this holds on every machine.

A line that asks for more than a megabyte in a warm LeNet step is in the table below or should not be there. What is not in it:
patches that are kept, a gradient for the input image, copies into another memory order.
"""

import linecache
import sys
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import tinygrad_lite
import tinygrad_lite.functional as F
from models.lenet import LeNet
from tinygrad_lite import Tensor, no_grad, optim
from tinygrad_lite import _threads as threads
from tinygrad_lite.ops import pool
from tinygrad_lite.ops.conv import conv2d

LIBRARY = str(Path(tinygrad_lite.__file__).parent)
BIG = 1 << 20  # bytes
ALLOWED = {  # function: line -> how often in a step of LeNet with a batch of 100, and why
    "_products: out = np.empty": 2,  # the result of each convolution
    "patches: slabs = np.ascont": 4,  # kw times conv2's image, forward and again backward, in parts; conv1's are smaller
    "to_image: g_slabs =": 2,  # and that of the gradient; none for the input image
    "_image_gradient: g_X = np.zeros": 1,
    "relu: out = np.empty_like": 1,  # of the first, after pooling; the others are smaller
    "relu.vjp: g_x = np.empty_like": 1,
    "max_pool2d: out = np.empty_like": 1,  # of the first pool; the others are smaller
    "_largest: best = np.maximum": 1,  # of the first pool, row by row; the second pool's are smaller
    "max_pool2d.vjp: g_X = np.empty_like": 2,
    "backward: rows_back(columns_back": 1,
    "_max_along.backward: part = wins": 2,
    "matmul: out = np.empty": 1,  # the gradient of fc1's weights
    "SGD._update: scratch": 1,
}


def big_lines(work) -> Counter[str]:
    """Lines of the library during which more than a megabyte was newly in use, however short, and how often."""
    found: Counter[str] = Counter()
    line: tuple[str, str, int] | None = None
    base = 0

    def account():
        nonlocal base
        current, peak = tracemalloc.get_traced_memory()
        if line is not None and peak - base > BIG:
            file, function, number = line
            found[f"{function}: {linecache.getline(file, number).strip()}"] += 1
        tracemalloc.reset_peak()
        base = current

    def place(frame):
        code = frame.f_code
        return (code.co_filename, code.co_qualname.replace(".<locals>", ""), frame.f_lineno)

    def trace(frame, event, _):
        nonlocal line
        if not frame.f_code.co_filename.startswith(LIBRARY):
            return None
        account()
        line = place(frame.f_back) if event == "return" and frame.f_back is not None else place(frame)
        return trace

    tracemalloc.start()
    before = sys.gettrace()
    try:
        sys.settrace(trace)
        work()
    finally:
        sys.settrace(before)
        tracemalloc.stop()
    return found


@pytest.fixture
def one_core(monkeypatch):
    """All work in one part, in the thread that is looked at."""
    monkeypatch.setattr(threads._Cores, "count", lambda self: 1)


@pytest.fixture
def step():
    rng = np.random.default_rng(0)
    images = rng.random((1, 28, 28, 100), np.float32).transpose(3, 0, 1, 2)  # as experiments.training prepares them
    x, labels, model = Tensor(images), rng.integers(0, 10, 100), LeNet(rng)
    optimizer = optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    def work():
        optimizer.zero_grad()
        F.cross_entropy(model(x), labels).backward()
        optimizer.step()

    work()
    return work


def test_a_step_asks_for_no_big_array_but_these(one_core, step):
    found = big_lines(step)
    named = {name: sum(n for line, n in found.items() if name in line) for name in ALLOWED}
    assert [line for line in found if not any(name in line for name in ALLOWED)] == []
    assert named == ALLOWED


def test_inference_asks_for_less(one_core):
    rng = np.random.default_rng(0)
    x, model = Tensor(rng.random((100, 1, 28, 28), np.float32)), LeNet(rng)

    def work():
        with no_grad():
            model(x)

    work()
    assert sum(big_lines(work).values()) < sum(ALLOWED.values()) / 2


def test_inference_makes_no_masks_for_a_way_back(monkeypatch):
    compared = []
    largest, x = pool._largest, np.ones((2, 3, 4, 4), np.float32)

    def spy(x, places, out=None, beats=None):
        compared.extend(["pool"] * (beats is not None))
        return largest(x, places, out, beats)

    monkeypatch.setattr(pool, "_largest", spy)
    monkeypatch.setattr(np, "not_equal", lambda *_, **__: compared.append("relu"))
    leaf = Tensor(x, requires_grad=True)
    with no_grad():
        F.max_pool2d(F.relu(leaf), 2)
        F.max_pool2d(leaf, 2)
    F.max_pool2d(F.relu(x), 2)  # of no leaf at all
    assert compared == []
    F.max_pool2d(F.relu(leaf), 2)
    assert compared == ["relu", "pool", "pool"]


@pytest.mark.parametrize(("order", "copies"), [("as a convolution leaves it", 0), ("C", 1)])
def test_a_convolution_copies_its_image_only_out_of_another_order(one_core, order, copies):
    rng = np.random.default_rng(0)
    x = rng.random((64, 8, 32, 32), np.float32)
    if order != "C":
        x = np.ascontiguousarray(x.transpose(2, 1, 3, 0)).transpose(3, 1, 0, 2)
    weight = rng.random((4, 8, 3, 3), np.float32)
    found = big_lines(lambda: conv2d(x, weight))
    assert sum(n for line, n in found.items() if "X = np.ascontiguousarray" in line) == copies
    assert sum(n for line, n in found.items() if "slabs = np.ascont" in line) >= 1
