"""Damage done on purpose: kills, full disks, damaged files. Nothing is lost, and nothing wrong is taken for right.

TINYGRAD_LITE_FAULTS sets the number of kills (default 8; 200 and more for a night) and, five times as many, of damaged files.
"""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments import mnist, train
from experiments.checkpoint import NAME, PREVIOUS, SCHEMA, load_checkpoint, save_checkpoint
from tinygrad_lite import FileFormatError, serialize

FAULTS = int(os.environ.get("TINYGRAD_LITE_FAULTS", "8"))
TRAINING = ["--recipe", "best", "--batch-size", "20", "--epochs", "3", "--quiet"]  # 30 steps of 20 distorted images

# Everything is imported once, in a process without threads; its children are forked, killed and replaced.
KILLER = """
import os, random, signal, sys, time
from pathlib import Path
from experiments import train
out, kills, arguments = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
def start(argv):
    child = os.fork()
    if child == 0:
        os._exit(train.main(argv))
    return child
def command(folder):
    seconds = random.choice(["0", "0.02", "30"])
    if not (folder / "config.json").exists():
        return [*arguments, "--out", str(folder), "--checkpoint-seconds", seconds]
    return ["--resume", str(folder), "--quiet", "--checkpoint-seconds", seconds]
begun = time.perf_counter()
assert os.waitpid(start([*arguments, "--out", str(out / "unbroken"), "--checkpoint-seconds", "0"]), 0)[1] == 0
whole = time.perf_counter() - begun
expected = (out / "unbroken" / "model.safetensors").read_bytes()
random.seed(1)
done = runs = 0
while done < kills:
    folder = out / f"killed-{runs}"
    runs += 1
    while not (folder / "result.json").exists():
        child = start(command(folder))
        time.sleep(random.uniform(0, whole))
        os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        if os.WIFSIGNALED(status):
            done += 1
        elif os.WEXITSTATUS(status) != 0:
            sys.exit(f"resuming failed after {done} kills")
    if (folder / "model.safetensors").read_bytes() != expected:
        sys.exit(f"other weights after {done} kills")
    steps = [line for line in (folder / "metrics.jsonl").read_text().splitlines() if '"loss"' in line]
    if len(steps) != 30:
        sys.exit(f"{len(steps)} lines of steps in metrics.jsonl")
print(done, "kills in", runs, "runs")
"""


def test_killed_at_random_moments_and_resumed_equals_the_unbroken_run(tmp_path, few_digits):
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", KILLER, str(tmp_path), str(FAULTS), *TRAINING, "--data-dir", few_digits]
    run = subprocess.run(
        command, env=environment, capture_output=True, text=True, cwd=Path(__file__).parent.parent, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert int(run.stdout.split()[0]) >= FAULTS


@pytest.mark.parametrize("limit", [2_000, 100_000, 3_000_000])
def test_full_disk_stops_with_a_word_and_resume_goes_on(tmp_path, few_digits, limit, capsys):
    whole, starved = tmp_path / "whole", tmp_path / "starved"
    assert train.main([*TRAINING, "--data-dir", few_digits, "--out", str(whole)]) == 0
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))  # no file may grow beyond this
    try:
        code = train.main([*TRAINING, "--data-dir", few_digits, "--out", str(starved), "--checkpoint-seconds", "0"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert code == 1
    assert "cannot write" in capsys.readouterr().err
    assert not list(starved.glob("*.part"))
    assert train.main(["--resume", str(starved), "--quiet"]) == 0
    assert (starved / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def damage(content: bytes, rng: np.random.Generator) -> bytes:
    """Cut off the end, flip bits, or overwrite a run of bytes."""
    kind = rng.integers(3)
    if kind == 0:
        return content[: rng.integers(len(content))]
    changed = bytearray(content)
    if kind == 1:
        for _ in range(rng.integers(1, 4)):
            changed[rng.integers(len(changed))] ^= 1 << int(rng.integers(8))
    else:
        at = int(rng.integers(len(changed)))
        changed[at : at + 16] = rng.bytes(len(changed[at : at + 16]))
    return bytes(changed)


def equal(found, expected):
    return found.keys() == expected.keys() and all(
        found[k].dtype == v.dtype and found[k].shape == v.shape and np.array_equal(found[k], v) for k, v in expected.items()
    )


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_damaged_weight_files_are_refused_or_read_right(tmp_path, suffix):
    rng = np.random.default_rng(0)
    state = {"conv.weight": rng.normal(size=(4, 3)).astype(np.float32), "bias": rng.normal(size=5), "steps": np.array(7)}
    path = tmp_path / f"weights{suffix}"
    serialize.save(state, path, {"recipe": "quick"})
    content, refused = path.read_bytes(), 0
    for _ in range(FAULTS * 40):  # small files: many places for little time
        path.write_bytes(damage(content, rng))
        try:
            found = serialize.load(path)
        except FileFormatError as error:
            refused += str(path) in str(error)
        else:
            assert equal(found, state)
    assert refused > FAULTS * 30


def test_damaged_checkpoints_are_refused_and_the_one_before_is_used(tmp_path):
    rng = np.random.default_rng(0)
    older, newer = {"w": rng.normal(size=(4, 3))}, {"w": rng.normal(size=(4, 3))}
    save_checkpoint(tmp_path, older, {"step": 1})
    save_checkpoint(tmp_path, newer, {"step": 2})
    content = (tmp_path / NAME).read_bytes()
    for _ in range(FAULTS * 20):
        (tmp_path / NAME).write_bytes(damage(content, rng))
        arrays, state = load_checkpoint(tmp_path)
        assert equal(arrays, {1: older, 2: newer}[state["step"]])
    (tmp_path / NAME).write_bytes(content[:-1])
    (tmp_path / PREVIOUS).write_bytes(content[:100])
    with pytest.raises(FileFormatError, match=r"no checkpoint in .* is whole: .*checkpoint\.safetensors.*checkpoint\.previous"):
        load_checkpoint(tmp_path)


def test_checkpoint_of_the_future_is_refused(tmp_path):
    metadata = {"schema": str(SCHEMA + 1), "state": "{}"}
    serialize.save({"w": np.zeros(2)}, tmp_path / NAME, metadata)
    with pytest.raises(FileFormatError, match=f"has schema {SCHEMA + 1}, the last known is {SCHEMA}"):
        load_checkpoint(tmp_path)


def test_damaged_data_files_are_refused_or_read_right(tmp_path):
    rng = np.random.default_rng(0)
    name = "t10k-labels-idx1-ubyte"
    content = (mnist.DATA_DIR / f"{name}.gz").read_bytes()
    right = mnist.read_idx(mnist.DATA_DIR, name)
    for _ in range(FAULTS * 5):
        (tmp_path / f"{name}.gz").write_bytes(damage(content, rng))
        try:
            found = mnist.read_idx(tmp_path, name)
        except FileFormatError:
            continue
        assert np.array_equal(found, right)


def test_torn_last_line_of_the_metrics_is_mended(tmp_path, few_digits):
    run = tmp_path / "run"
    assert train.main([*TRAINING, "--data-dir", few_digits, "--out", str(run)]) == 0
    complete = (run / "metrics.jsonl").read_text()
    (run / "result.json").unlink()
    (run / "metrics.jsonl").write_text(complete[:-20])
    assert train.main(["--resume", str(run), "--quiet"]) == 0
    assert steps_without_time((run / "metrics.jsonl").read_text()) == steps_without_time(complete)


def steps_without_time(text):
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in text.splitlines()]
