"""Freed memory is kept, and cycles are seldom looked for: counted in page faults and collections, not in seconds."""

import os
import subprocess
import sys

import pytest

COUNT_FAULTS = """
import resource
import numpy as np
import tinygrad_lite
def big_arrays():
    for megabytes in (3, 11, 27):
        np.ones(megabytes << 18, np.float32)
big_arrays()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    big_arrays()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


COUNT_COLLECTIONS = """
import gc
from tinygrad_lite import Tensor
x = Tensor([1.0], requires_grad=True)
before = sum(s["collections"] for s in gc.get_stats())
for _ in range(20_000):
    x = x * 2
print(sum(s["collections"] for s in gc.get_stats()) - before)
"""


def count(what: str, keep: str) -> int:
    environment = {**os.environ, "TINYGRAD_LITE_KEEP_MEMORY": keep}
    run = subprocess.run([sys.executable, "-c", what], env=environment, capture_output=True, text=True, check=True)
    return int(run.stdout)


def test_a_deep_graph_is_seldom_searched_for_cycles():
    assert count(COUNT_COLLECTIONS, keep="1") < count(COUNT_COLLECTIONS, keep="0") / 3


@pytest.mark.skipif(sys.platform != "linux", reason="glibc only")
def test_arrays_of_a_warm_loop_cost_no_page_faults():
    kept, given_back = count(COUNT_FAULTS, keep="1"), count(COUNT_FAULTS, keep="0")
    if given_back < 1000:
        pytest.skip("this C library keeps memory by itself")
    assert kept < given_back / 100
