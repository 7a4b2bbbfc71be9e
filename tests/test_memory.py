"""Freed memory is kept, and cycles are seldom looked for: counted in page faults and collections, not in seconds. And steps of
training leave nothing behind.

TINYGRAD_LITE_FAULTS sets the length of the long training here too: from 200 on it is 20,000 steps.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

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


LONG = int(os.environ.get("TINYGRAD_LITE_FAULTS", "8")) >= 200
EARLY, STEPS = (200, 20_000) if LONG else (60, 180)

# A real training, epoch after epoch, with all that its steps do: batches, loss, gradients, clipping, update, log, checkpoints.
TRAIN = """
import gc, json, os, sys, threading, tracemalloc
from pathlib import Path
import numpy as np
from experiments import train, training
from experiments.mnist import Digits
folder, early, steps, kind = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
rng = np.random.default_rng(0)
digits = Digits(rng.integers(0, 256, (40, 28, 28), np.uint8), rng.integers(0, 10, 40).astype(np.uint8))
train.load_data = lambda *_: (digits, digits.take(4))
kept, found = [], {}
def target(descriptor):
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:  # the one that listed them
        return ".ttf"
def measure(step):
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    files = sum(".ttf" not in name for name in map(target, os.listdir("/proc/self/fd")))  # fonts are cached
    found[step] = {"rss": pages * os.sysconf("SC_PAGE_SIZE"), "python": tracemalloc.get_traced_memory()[0], "files": files,
                   "threads": threading.active_count(), "tensors": sum(type(o) is training.Tensor for o in gc.get_objects())}
update = training.Training.update
def counted(self):
    update(self)
    if kind == "leak":
        kept.append((np.ones(2000), len(kept) < 1000 and open(os.devnull)))  # no more files than a process may have
    if self.step in (early, steps):
        measure(self.step)
training.Training.update = counted
if kind != "rss":  # which counting Python's memory would change
    tracemalloc.start()
measure("before")
epochs = str(-(-steps // 20))
options = ["--epochs", epochs, "--clip-norm", "5", "--checkpoint-seconds", "0.2", "--out", str(folder)]
code = train.main(["--batch-size", "2", "--quiet", *options])
measure("after")
print(threading.enumerate())
print(json.dumps([code, *found.values()]))
"""


def long_training(folder: Path, kind: str) -> list[dict[str, int]]:
    """What there was before the training, early, at its last step, and after it."""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", TRAIN, str(folder), str(EARLY), str(STEPS), kind]
    run = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, cwd=Path(__file__).parent.parent
    )
    assert run.returncode == 0, run.stderr
    print(run.stdout)
    code, *measured = json.loads(run.stdout.splitlines()[-1])
    assert code == 0, run.stderr
    return measured


def left_behind(early: dict[str, int], late: dict[str, int]) -> list[str]:
    """What grew: memory by more than 1 %, anything else at all."""
    allowed = {"rss": 1.01, "python": 1.01}
    return [f"{name} {early[name]} -> {late[name]}" for name in early if late[name] > early[name] * allowed.get(name, 1)]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("kind", ["python", "rss"] if LONG else ["python"])
def test_training_leaves_nothing_behind(tmp_path, kind):
    before, early, late, after = long_training(tmp_path / "run", kind)
    if kind == "python":
        early["rss"] = late["rss"]
    assert left_behind(early, late) == []
    assert (after["files"], after["threads"], after["tensors"]) == (before["files"], before["threads"], before["tensors"])


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_what_is_left_behind_is_seen(tmp_path):
    _, early, late, _ = long_training(tmp_path / "run", "leak")
    grown = " ".join(left_behind(early, late))
    assert "python" in grown
    assert "files" in grown
