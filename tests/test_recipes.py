"""A recipe's values: what is out of range is refused before a run's folder is made, by --set as by options of their own."""

from dataclasses import fields

import pytest

from experiments import sweep, train
from experiments.distort import Distortion
from experiments.recipes import BOUNDS, Recipe


def recipe(*arguments):
    return train.recipe_from(train.make_parser().parse_args(arguments))


@pytest.mark.parametrize(("value", "words"), [
    ("dropout=1.5", "recipe: dropout must be a number from 0 to 1, got 1.5."),
    ("average=2", "recipe: average must be a number from 0 to 1, got 2.0."),
    ("label_smoothing=3", "recipe: label_smoothing must be a number from 0 to 1, got 3.0."),
    ("momentum=-1", "recipe: momentum must be a number from 0 to 1, got -1.0."),
    ("momentum=nan", "recipe: momentum must be a number from 0 to 1, got nan."),
    ("weight_decay=-1", "recipe: weight_decay must be a number of at least 0, got -1.0."),
    ("bias_lr_factor=-1", "recipe: bias_lr_factor must be a number of at least 0, got -1.0."),
    ("bias_lr_factor=inf", "recipe: bias_lr_factor must be a number of at least 0, got inf."),
    ("elastic=nan", "distortion: elastic must be a number from 0 to inf, got nan."),
])  # fmt: skip
def test_values_out_of_range_leave_no_run_behind(tmp_path, capsys, value, words):
    for name in ("quick", "origin"):  # AdamW has no momentum, and SGD has
        out = tmp_path / name
        assert train.main(["--dry-run", "--quiet", "--recipe", name, "--set", value, "--out", str(out)]) == 1
        assert capsys.readouterr().err == f"train: {words}\n"
        assert not out.exists()


def test_every_number_has_bounds_and_may_be_as_they_are():
    numbers = {field.name for field in fields(Recipe) if "int" in str(field.type) or "float" in str(field.type)}
    assert numbers == set(BOUNDS) | {field.name for field in fields(Distortion)}
    for name, bounds in BOUNDS.items():
        for bound in bounds:
            if bound < float("inf"):
                assert getattr(recipe("--set", f"{name}={bound}"), name) == bound


@pytest.mark.parametrize(("arguments", "expected"), [
    (["--set", "epochs=1"], (1, None)),
    (["--epochs", "1"], (1, None)),
    (["--set", "epochs=1", "--set", "steps=7"], (1, 7)),
    (["--epochs", "3", "--set", "steps=7"], (3, 7)),
    (["--set", "steps=7"], (1, 7)),
    ([], (1, 2000)),
    (["--set", "epochs=3", "--dry-run"], (2, None)),
    (["--set", "steps=7", "--dry-run"], (1, 7)),
    (["--dry-run"], (1, 12)),
])  # fmt: skip
def test_epochs_that_are_asked_for_overrule_the_recipes_own_steps(arguments, expected):
    found = recipe("--recipe", "origin", *arguments)
    assert (found.epochs, found.steps) == expected


@pytest.mark.parametrize("asked", [["--epochs", "9", "--train-size", "60000"], ["--set", "steps=5000"], ["--recipe", "best"]])
def test_dry_run_stays_small_whatever_else_is_asked_for(asked):
    found = recipe("--dry-run", *asked)
    per_epoch = -(-found.train_size // found.batch_size)
    assert (found.steps or found.epochs * per_epoch) * found.batch_size <= 600


def test_more_epochs_than_64_bits_can_count(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert train.main(["--epochs", "1" + 23 * "0"]) == 1
    assert "one_cycle: total must fit into 64 bits, got a number of 8" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("count", [-1, 0, 60_000])
@pytest.mark.parametrize("command", [["train"], ["sweep", "best", "--jobs", "1"]])
def test_as_many_held_out_images_as_there_cannot_be_are_refused(tmp_path, capsys, count, command):
    name, *arguments = command
    program = {"train": train.main, "sweep": sweep.main}[name]
    assert program([*arguments, "--dry-run", "--validate", str(count), "--out", str(tmp_path / "new")]) == 1
    assert f"{name}: --validate: must be between 1 and 59999, got {count}." in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
