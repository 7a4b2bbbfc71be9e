"""Damage done on purpose: kills, full disks, damaged files. Nothing is lost, and nothing wrong is taken for right.

TINYGRAD_LITE_FAULTS sets the number of kills (default 8; 200 and more for a night), and 105 times as many of damaged files.

This file is long because the kinds of damage stand together.
"""

import json
import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments import mnist, train, training
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
    if sorted(os.listdir(folder)) != sorted(os.listdir(out / "unbroken")):  # killed when all but the tidying was done
        os.waitpid(start(["--resume", str(folder), "--quiet"]), 0)
    if sorted(os.listdir(folder)) != sorted(os.listdir(out / "unbroken")):
        sys.exit(f"left behind after {done} kills: {os.listdir(folder)}")
    steps = [line for line in (folder / "metrics.jsonl").read_text().splitlines() if '"loss"' in line]
    if len(steps) != 30:
        sys.exit(f"{len(steps)} lines of steps in metrics.jsonl")
print(done, "kills in", runs, "runs")
"""


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, few_digits):
    """Final weights of the training that nobody disturbs, as bytes."""
    out = tmp_path_factory.mktemp("unbroken")
    assert train.main([*TRAINING, "--data-dir", few_digits, "--out", str(out)]) == 0
    return (out / "model.safetensors").read_bytes()


def test_killed_at_random_moments_and_resumed_equals_the_unbroken_run(tmp_path, few_digits):
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", KILLER, str(tmp_path), str(FAULTS), *TRAINING, "--data-dir", few_digits]
    run = subprocess.run(
        command, env=environment, capture_output=True, text=True, cwd=Path(__file__).parent.parent, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert int(run.stdout.split()[0]) >= FAULTS


@pytest.mark.parametrize("limit", [2_200, 100_000, 3_000_000])
def test_full_disk_stops_with_a_word_and_resume_goes_on(tmp_path, few_digits, unbroken, limit, capsys):
    starved = tmp_path / "starved"
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
    assert (starved / "model.safetensors").read_bytes() == unbroken


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 8 MB: room for one checkpoint of 7 MB and not for a second beside it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk], capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small disk")
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize("room", [0, 7_000_000])
def test_really_full_disk_stops_with_a_word_and_resume_goes_on(small_disk, few_digits, unbroken, room, capsys):
    starved = small_disk / "starved"
    free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
    (small_disk / "others").write_bytes(bytes(max(0, free - room)))
    assert train.main([*TRAINING, "--data-dir", few_digits, "--out", str(starved), "--checkpoint-seconds", "0"]) == 1
    assert "cannot write" in capsys.readouterr().err
    assert not list(starved.glob(".*.part"))
    (small_disk / "others").unlink()
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    again = ["--resume", str(starved), "--quiet"]
    if not (starved / "config.json").exists():  # nothing was begun: the folder is free
        again = [*TRAINING, "--data-dir", few_digits, "--out", str(starved)]
    assert train.main(again) == 0
    assert (starved / "model.safetensors").read_bytes() == unbroken


def test_two_trainings_do_not_share_a_folder(tmp_path, few_digits, capsys, monkeypatch):
    out = tmp_path / "run"
    answers = []

    def evaluate_and_intrude(*arguments):
        if not answers:  # while the first one trains
            answers.append(train.main([*TRAINING, "--data-dir", few_digits, "--out", str(out)]))
            answers.append(train.main(["--resume", str(out), "--quiet"]))
        return evaluate(*arguments)

    evaluate = train.evaluate
    monkeypatch.setattr(train, "evaluate", evaluate_and_intrude)
    assert train.main([*TRAINING, "--data-dir", few_digits, "--out", str(out)]) == 0
    assert answers == [1, 1]
    words = capsys.readouterr().err
    assert f"{out} holds a run already" in words
    assert f"another process is training in {out}" in words
    assert len([line for line in (out / "metrics.jsonl").read_text().splitlines() if '"loss"' in line]) == 30


def test_sigterm_while_evaluating_saves_and_resumes(tmp_path, few_digits, unbroken, capsys, monkeypatch):
    stopped = tmp_path / "stopped"
    evaluate = train.evaluate

    def evaluate_and_stop(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        return evaluate(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(train, "evaluate", evaluate_and_stop)
        assert train.main([*TRAINING, "--data-dir", few_digits, "--out", str(stopped)]) == 143
    assert f"stopped after step 10; go on with --resume {stopped}" in capsys.readouterr().err
    assert train.main(["--resume", str(stopped), "--quiet"]) == 0
    assert (stopped / "model.safetensors").read_bytes() == unbroken


def test_resume_of_another_recipe_than_the_checkpoints_is_refused(tmp_path, few_digits, unbroken, capsys, monkeypatch):
    run = tmp_path / "run"
    evaluate = train.evaluate
    with monkeypatch.context() as patch:
        patch.setattr(train, "evaluate", lambda *a: (os.kill(os.getpid(), signal.SIGTERM), evaluate(*a))[1])
        assert train.main([*TRAINING, "--data-dir", few_digits, "--out", str(run)]) == 143
    right = (run / "config.json").read_text()
    capsys.readouterr()
    for name, value, shown in (("lr", 0.03, "lr=0.03"), ("seed", 1, "seed=1"), ("validate", 20, "images=180")):
        (run / "config.json").write_text(json.dumps({**json.loads(right), name: value}))
        assert train.main(["--resume", str(run), "--quiet"]) == 1
        assert (
            f"--resume: config.json and data give {shown}, and the checkpoint is of {shown.split('=')[0]}="
            in capsys.readouterr().err
        )
    (run / "config.json").write_text(right)
    assert train.main(["--resume", str(run), "--quiet"]) == 0
    assert (run / "model.safetensors").read_bytes() == unbroken


def test_clip_norm_is_kept_by_resume_and_its_gradients_are_short(tmp_path, few_digits, monkeypatch):
    whole, stopped, other = tmp_path / "whole", tmp_path / "stopped", tmp_path / "other"
    clipped = [*TRAINING, "--data-dir", few_digits, "--clip-norm", "0.5", "--recipe", "origin"]
    norms = []
    update = training.Training.update

    def measured(self):
        norms.append(np.sqrt(sum(float((p.grad**2).sum()) for p in self.model.parameters())))
        if self.step == 7 and "stopped" in str(folder):
            os.kill(os.getpid(), signal.SIGINT)
        update(self)

    monkeypatch.setattr(training.Training, "update", measured)
    for folder in (whole, stopped):
        assert train.main([*clipped, "--out", str(folder)]) == (0 if folder == whole else 130)
    assert 0.49 < max(norms) < 0.5 * (1 + 1e-4)
    assert json.loads((stopped / "config.json").read_text())["clip_norm"] == 0.5
    assert load_checkpoint(stopped)[1]["step"] == 8  # Ctrl-C finished the step and saved
    assert train.main(["--resume", str(stopped), "--quiet"]) == 0
    assert (stopped / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    folder = other
    assert train.main([*TRAINING, "--data-dir", few_digits, "--recipe", "origin", "--out", str(other)]) == 0
    assert max(norms) > 0.6
    assert (other / "model.safetensors").read_bytes() != (whole / "model.safetensors").read_bytes()


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


def test_damaged_checkpoints_are_refused_and_the_one_before_is_used(tmp_path, capsys):
    rng = np.random.default_rng(0)
    older, newer = {"w": rng.normal(size=(4, 3))}, {"w": rng.normal(size=(4, 3))}
    save_checkpoint(tmp_path, older, {"step": 1})
    save_checkpoint(tmp_path, newer, {"step": 2})
    content = (tmp_path / NAME).read_bytes()
    for _ in range(FAULTS * 20):
        (tmp_path / NAME).write_bytes(damage(content, rng))
        arrays, state = load_checkpoint(tmp_path)
        assert equal(arrays, {1: older, 2: newer}[state["step"]])
        assert ("The checkpoint before it, of step 1, is used" in capsys.readouterr().err) == (state["step"] == 1)
    (tmp_path / NAME).write_bytes(content[:-1])
    (tmp_path / PREVIOUS).write_bytes(content[:100])
    with pytest.raises(FileFormatError, match=r"no checkpoint in .* is whole: .*checkpoint\.safetensors.*checkpoint\.previous"):
        load_checkpoint(tmp_path)


def test_checkpoint_of_the_future_is_refused(tmp_path):
    metadata = {"schema": str(SCHEMA + 1), "state": "{}"}
    serialize.save({"w": np.zeros(2)}, tmp_path / PREVIOUS, {**metadata, "schema": str(SCHEMA)})  # is not gone back to
    serialize.save({"w": np.zeros(2)}, tmp_path / NAME, metadata)
    with pytest.raises(FileFormatError, match=f"has schema {SCHEMA + 1}, the last known is {SCHEMA}"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (None, r"there is no .*config\.json; is .* the folder of a run\?"),
        ("[]", "must hold a JSON object, found a list"),
        ('{"recipe": "quick"', r"config\.json is damaged"),
        ('{"recipe": 3}', "are not of this program: TypeError"),
        ('{"about": "", "data_dir": null, "validate": null}', "are not of this program: KeyError.'seed'"),
        ('{"about": "", "data_dir": null, "validate": null, "seed": "x"}', "are not of this program: TypeError"),
        ('{"about": "", "data_dir": null, "validate": null, "seed": -1}', "are not of this program: ValueError"),
        ('{"about": "", "test_size": "x"}', "recipe: test_size must be int . None, got 'x'"),
        ('{"about": "", "momentum": true}', "recipe: momentum must be .*float.*, got True"),
        ('{"about": "", "schedule": "cosine"}', "recipe: schedule must be .*one_cycle.*, got 'cosine'"),
        ('{"about": "", "pixel_scale": 0}', "recipe: pixel_scale must be a number of at least 0.001, got 0"),
    ],
)
def test_resume_of_what_is_no_run(tmp_path, capsys, config, words):
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    before = sorted(tmp_path.iterdir())
    assert train.main(["--resume", str(tmp_path)]) == 1
    assert re.search(f"train: .*{words}", capsys.readouterr().err)
    assert sorted(tmp_path.iterdir()) == before


def test_resume_of_a_finished_run_says_so_and_tidies_up_after_a_kill(tmp_path, capsys):
    for name in (NAME, PREVIOUS, f".new-{NAME}.1234.part"):
        (tmp_path / name).write_text("{}")
    (tmp_path / "result.json").write_text('{"step": 12, "test_accuracy": 0.9, "train_size": 300, "seconds": 3.5}')
    assert train.main(["--resume", str(tmp_path)]) == 1
    assert "is finished" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["result.json"]


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ("", r"result\.json is damaged: .*"),
        ('{"step": 12, "test_acc', r"result\.json is damaged: .*"),
        ("[]", r"result\.json must hold a JSON object, found a list\."),
        ("{}", r"is not of a finished run: expected numbers, found none for step, test_accuracy, train_size, seconds\."),
        ('{"step": 2, "test_accuracy": null, "train_size": 3, "seconds": 1}', r"found none for test_accuracy\."),
    ],
)
def test_a_result_that_says_of_no_finished_run_costs_no_checkpoint(tmp_path, capsys, result, words):
    (tmp_path / "result.json").write_text(result)
    for name in (NAME, PREVIOUS):
        (tmp_path / name).write_text("a checkpoint")
    assert train.main(["--resume", str(tmp_path)]) == 1
    advice = rf" Move it away; --resume {tmp_path} goes on from the last checkpoint then\."
    assert re.search(f"train: .*{words}{advice}", capsys.readouterr().err)
    assert sorted(os.listdir(tmp_path)) == sorted([NAME, PREVIOUS, "result.json"])


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
