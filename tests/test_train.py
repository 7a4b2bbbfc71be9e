"""The main job as a user types it: what it writes, that it repeats itself, and how it fails."""

import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments import mnist, training
from experiments.recipes import RECIPES, make_model, make_optimizer
from experiments.runs import read_metrics
from experiments.train import main
from models.lenet import PARAMETERS, LeNet
from tinygrad_lite import serialize

ROOT = Path(__file__).parent.parent
SMALL = ["--dry-run", "--train-size", "60", "--batch-size", "20", "--quiet"]
FILES = {"config.json", "metrics.jsonl", "result.json", "model.safetensors", "curves.png"}


@pytest.fixture(autouse=True)
def few_test_images(monkeypatch):
    """200 test images instead of 10,000: seconds instead of a minute over all tests of this file."""
    load = mnist.load

    def load_few(data_dir=None):
        train, test = load(data_dir)
        return train, test.take(200)

    monkeypatch.setattr(mnist, "load", load_few)


def typed(*arguments, cwd=ROOT):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "default"}
    command = [sys.executable, "-m", "experiments.train", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


# -- a run -------------------------------------------------------------------------------------------------------------


def test_dry_run_as_a_user_types_it(tmp_path):
    run = typed("--dry-run", "--epochs", "1", cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, "")
    folder = tmp_path / "runs" / "quick-seed0-1"
    assert {p.name for p in folder.iterdir()} == FILES
    assert "accuracy" in run.stdout
    assert "images/s" in run.stdout  # plain lines, for the output is no terminal
    assert "\r" not in run.stdout
    assert f"Written to {folder.relative_to(tmp_path)}" in run.stdout

    config = json.loads((folder / "config.json").read_text())
    assert (config["recipe"], config["seed"], config["epochs"], config["train_size"]) == ("quick", 0, 1, 300)
    assert config["environment"]["packages"]["numpy"] == np.__version__
    assert config["environment"]["command"].endswith("-m experiments.train --dry-run --epochs 1")

    steps = [line for line in read_metrics(folder) if "loss" in line]
    tests = [line for line in read_metrics(folder) if "test_loss" in line]
    assert [line["step"] for line in steps] == list(range(1, 7))
    assert len(tests) == 1
    result = json.loads((folder / "result.json").read_text())
    assert result["test_accuracy"] == tests[0]["test_accuracy"]
    assert 0.2 < result["test_accuracy"] < 1  # of 10,000 images after 6 steps; guessing gives 0.1
    assert steps[-1]["loss"] < steps[0]["loss"]
    assert (folder / "curves.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"

    weights = serialize.load(folder / "model.safetensors")
    assert sum(w.size for w in weights.values()) == PARAMETERS == 431_080
    assert serialize.load_metadata(folder / "model.safetensors") == {"relu_after_conv": "True", "pixel_scale": "255.0"}


def test_the_written_weights_have_the_written_accuracy(tmp_path):
    assert main([*SMALL, "--out", str(tmp_path)]) == 0
    model = LeNet(np.random.default_rng(5))
    model.load_state_dict(serialize.load(tmp_path / "model.safetensors"))
    model.eval()
    _, test = mnist.load()
    guesses = model((test.images / np.float32(255))[:, None]).data.argmax(axis=1)
    assert json.loads((tmp_path / "result.json").read_text())["test_accuracy"] == (guesses == test.labels).mean()


@pytest.mark.parametrize("recipe", ["quick", "origin", "caffe", "best"])  # the others have other numbers only
def test_same_seed_same_bits_other_seed_other_bits(tmp_path, recipe):
    def run(name, seed):
        assert main([*SMALL, "--recipe", recipe, "--seed", str(seed), "--out", str(tmp_path / name)]) == 0
        lines = [{k: v for k, v in line.items() if k != "seconds"} for line in read_metrics(tmp_path / name)]
        return lines, serialize.load(tmp_path / name / "model.safetensors")

    (lines, weights), (again, weights_again), (other, other_weights) = run("a", 3), run("b", 3), run("c", 4)
    assert lines == again
    assert lines != other
    for name, value in weights.items():
        assert value.tobytes() == weights_again[name].tobytes(), name
        assert value.tobytes() != other_weights[name].tobytes(), name


def test_quiet_says_nothing(tmp_path, capsys):
    assert main([*SMALL, "--out", str(tmp_path)]) == 0
    assert capsys.readouterr() == ("", "")


def test_validate_leaves_the_test_set_alone(tmp_path, monkeypatch):
    train, test = mnist.load()
    monkeypatch.setattr(mnist, "load", lambda data_dir=None: (train, mnist.Digits(test.images[:0], test.labels[:0])))
    assert main([*SMALL, "--validate", "100", "--out", str(tmp_path)]) == 0
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["test_accuracy"] * 100 == pytest.approx(round(result["test_accuracy"] * 100))


def test_set_changes_any_field_of_the_recipe(tmp_path):
    changes = {"dropout": 0.25, "steps": 3, "relu_after_conv": False, "order": "sequential", "train_size": 40}
    settings = [part for name, value in changes.items() for part in ("--set", f"{name}={value}")]
    assert main(["--recipe", "small", "--batch-size", "20", "--quiet", *settings, "--out", str(tmp_path)]) == 0
    config = json.loads((tmp_path / "config.json").read_text())
    assert {name: config[name] for name in changes} == changes
    assert json.loads((tmp_path / "result.json").read_text())["step"] == 3


# -- recipes -----------------------------------------------------------------------------------------------------------


def test_origin_recipe_is_the_origins_protocol():
    recipe = RECIPES["origin"]
    assert (recipe.train_size, recipe.batch_size, recipe.steps, recipe.test_size) == (3000, 100, 2000, 500)
    model = make_model(recipe, np.random.default_rng(0))
    optimizer, scheduler = make_optimizer(recipe, model, recipe.steps)
    weights, biases = optimizer.groups
    assert {p.ndim for p in weights["params"]} == {2, 4}
    assert [p.ndim for p in biases["params"]] == [1] * 4
    assert (weights["lr"], biases["lr"]) == (0.01, 0.02)
    assert (weights["weight_decay"], biases["weight_decay"]) == (5e-4, 0.0)
    assert weights["momentum"] == biases["momentum"] == 0.9
    for _ in range(recipe.steps):
        scheduler.step()
    assert weights["lr"] == pytest.approx(0.01 * (1 + 1e-4 * 2000) ** -0.75, rel=1e-12)
    assert biases["lr"] == pytest.approx(2 * weights["lr"], rel=1e-12)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert not parameter.data.any()
        else:  # uniform with variance 1 / fan_in
            bound = np.sqrt(3 / np.prod(parameter.shape[1:]))
            assert 0.95 * bound < np.abs(parameter.data).max() <= bound * (1 + 1e-6)


def test_caffe_recipe_is_caffes():
    recipe = RECIPES["caffe"]
    assert (recipe.steps, recipe.batch_size, recipe.train_size) == (10_000, 64, None)
    assert (recipe.order, recipe.relu_after_conv, recipe.pixel_scale) == ("sequential", False, 256.0)
    assert recipe.decay_biases


# -- failures ----------------------------------------------------------------------------------------------------------


def test_nan_stops_with_step_rate_and_parameter_and_keeps_good_weights(tmp_path):
    run = typed(
        "--recipe", "origin", "--lr", "1e25", "--train-size", "200", "--epochs", "2", "--quiet", "--out", tmp_path / "run"
    )
    assert run.returncode == 1
    assert "Warning" not in run.stderr  # of the overflows on the way
    lines = list(read_metrics(tmp_path / "run"))
    assert all(np.isfinite(value) for line in lines for value in line.values())
    step = len(lines) + 1
    cause = r"(the first parameter that is not finite is \w+\.\w+|all parameters are finite)"
    assert re.search(rf"train: the loss is (nan|inf) at step {step} with learning rate [\de.+]+; {cause}\. ", run.stderr)
    assert f"last good weights are in {tmp_path / 'run' / 'model.safetensors'}; try a smaller --lr" in run.stderr
    weights = serialize.load(tmp_path / "run" / "model.safetensors")
    assert all(np.isfinite(w).all() for w in weights.values())
    assert not (tmp_path / "run" / "result.json").exists()


@pytest.fixture
def breaking(monkeypatch):
    """Make the update of a chosen step put a NaN into a chosen parameter."""

    def break_at(step, name):
        make = training.make_optimizer

        def make_breaking(recipe, model, steps):
            optimizer, scheduler = make(recipe, model, steps)
            right, done = optimizer.step, [0]

            def step_and_break():
                right()
                done[0] += 1
                if done[0] == step:
                    dict(model.named_parameters())[name].data.flat[3] = np.nan

            monkeypatch.setattr(optimizer, "step", step_and_break)
            return optimizer, scheduler

        monkeypatch.setattr(training, "make_optimizer", make_breaking)

    return break_at


def test_nan_names_the_parameter_and_the_step_after(tmp_path, capsys, breaking):
    breaking(2, "conv2.weight")
    assert main([*SMALL, "--recipe", "origin", "--out", str(tmp_path)]) == 1
    words = capsys.readouterr().err
    assert "train: the loss is nan at step 3 with learning rate 0.0099985" in words
    assert "the first parameter that is not finite is conv2.weight" in words
    kept = serialize.load(tmp_path / "model.safetensors")
    assert all(np.isfinite(w).all() for w in kept.values())
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2]


def test_nan_in_the_very_last_step_is_seen_too(tmp_path, capsys, breaking):
    breaking(3, "fc2.bias")
    assert main([*SMALL, "--epochs", "1", "--out", str(tmp_path)]) == 1
    words = capsys.readouterr().err
    assert "the test loss is nan at step 3 " in words
    assert "not finite is fc2.bias" in words
    assert all(np.isfinite(w).all() for w in serialize.load(tmp_path / "model.safetensors").values())
    assert "NaN" not in (tmp_path / "metrics.jsonl").read_text()
    assert not (tmp_path / "result.json").exists()


@pytest.mark.parametrize(("arguments", "words"), [
    (["--recipe", "fast"], "recipe: there is no recipe 'fast'; choose one of quick, origin, best, small, single, caffe."),
    (["--lr", "-1"], "recipe: lr must be a number of at least 0, got -1.0."),
    (["--lr", "nan"], "recipe: lr must be a number of at least 0, got nan."),
    (["--epochs", "0"], "recipe: epochs must be a number of at least 1, got 0."),
    (["--batch-size", "0"], "recipe: batch_size must be a number of at least 1, got 0."),
    (["--train-size", "-5"], "recipe: train_size must be a number of at least 1, got -5."),
    (["--seed", "-1"], "--seed: must be at least 0, got -1."),
    (["--set", "epochs=0"], "recipe: epochs must be a number of at least 1, got 0."),
    (["--set", "pixel_scale=0"], "recipe: pixel_scale must be a number of at least 0.001, got 0.0."),
    (["--set", "scale=2"], "distortion: scale must be a number from 0 to 1, got 2.0."),
    (["--set", "speed=2"], "recipe: expected FIELD=VALUE, such as dropout=0.5, got 'speed=2'; the fields are epochs, "),
    (["--set", "epochs=2.5"], "recipe: expected FIELD=VALUE, such as dropout=0.5, got 'epochs=2.5'; epochs takes int."),
    (["--set", "schedule=zig"], "recipe: expected FIELD=VALUE, such as dropout=0.5, got 'schedule=zig'; schedule takes 'c"),
    (["--set", "test_size=20000"], "recipe: test_size is 20,000, but there are only 200 test images."),
    (["--clip-norm", "0"], "recipe: clip_norm must be a number of at least 1e-09, got 0.0."),
    (["--validate", "60000"], "--validate: must be between 1 and 59999, got 60000."),
    (["--data-dir", "nowhere"], "mnist: expected train-images-idx3-ubyte or train-images-idx3-ubyte.gz in nowhere"),
])  # fmt: skip
def test_refused_before_anything_is_written(tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    for out in ([], ["--out", "run"]):
        assert main(["--dry-run", *arguments, *out]) == 1
        assert f"train: {words}" in capsys.readouterr().err
        assert list(tmp_path.iterdir()) == []


def test_unwritable_out(tmp_path, capsys):
    (tmp_path / "file").write_text("kept")
    for out, reason in ((tmp_path / "file", "File exists"), (tmp_path / "file" / "run", "Not a directory")):
        assert main([*SMALL, "--out", str(out)]) == 1
        assert f"train: --out: cannot write to {out} ({reason}); give another folder." in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "kept"
    assert len(list(tmp_path.iterdir())) == 1


def test_what_cannot_be_read_is_not_said_to_be_unwritable(tmp_path, capsys, monkeypatch):
    def closed(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(mnist, "load", closed)
    assert main([*SMALL, "--data-dir", "closed", "--out", str(tmp_path / "run")]) == 1
    assert capsys.readouterr().err == "train: [Errno 13] Permission denied: 'closed'\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_out_without_permission(tmp_path, capsys):
    tmp_path.chmod(0o500)
    for out in (tmp_path, tmp_path / "run"):
        assert main([*SMALL, "--out", str(out)]) == 1
        assert f"train: --out: cannot write to {out} (" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_not_overwritten(tmp_path, capsys):
    assert main([*SMALL, "--out", str(tmp_path)]) == 0
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    assert main([*SMALL, "--seed", "1", "--out", str(tmp_path)]) == 1
    assert f"--out: {tmp_path} holds a run already; give another folder" in capsys.readouterr().err
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


@pytest.mark.parametrize(("damage", "words"), [
    (lambda f: f.unlink(), "found neither"),
    (lambda f: f.write_bytes(f.read_bytes()[:5000]), "is not a whole gzip file"),
    (lambda f: f.write_bytes((f.parent / "t10k-labels-idx1-ubyte.gz").read_bytes()), "magic number 2051, got 2049 (labels)"),
])  # fmt: skip
def test_damaged_data(tmp_path, capsys, damage, words):
    data = tmp_path / "data"
    data.mkdir()
    for file in mnist.DATA_DIR.glob("*.gz"):
        (data / file.name).write_bytes(file.read_bytes())
    damage(data / "train-images-idx3-ubyte.gz")
    assert main([*SMALL, "--data-dir", str(data), "--out", str(tmp_path / "run")]) == 1
    assert words in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
