"""Freed memory is kept: counted in page faults, not in seconds."""

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


def page_faults(keep: str) -> int:
    environment = {**os.environ, "TINYGRAD_LITE_KEEP_MEMORY": keep}
    run = subprocess.run([sys.executable, "-c", COUNT_FAULTS], env=environment, capture_output=True, text=True, check=True)
    return int(run.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc only")
def test_arrays_of_a_warm_loop_cost_no_page_faults():
    kept, given_back = page_faults("1"), page_faults("0")
    if given_back < 1000:
        pytest.skip("this C library keeps memory by itself")
    assert kept < given_back / 100
