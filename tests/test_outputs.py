"""What all experiments share: a folder that cannot be written to is said before the work, and words for what can be mended."""

import argparse
import contextlib
import errno
import importlib
import os
import signal
import subprocess
import sys
from collections import Counter

import pytest

pytest.importorskip("cv2")
pytest.importorskip("matplotlib")

import matplotlib.pyplot as plt
import numpy as np

from experiments import fuzz_gradients
from experiments.outputs import Outputs
from experiments.runs import RunError, check_positive, run_main
from tinygrad_lite import GradientError
from tinygrad_lite.gradcheck import check_grad

WRITERS = ("components", "confusion", "feature_maps", "fuzz_gradients", "pages", "read", "train", "train_reader")


@pytest.mark.parametrize("name", WRITERS)
def test_a_folder_that_cannot_be_written_to_is_said_before_the_work(name, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / ("long" * 100)):
        assert importlib.import_module(f"experiments.{name}").main(["--dry-run", "--out", str(out)]) == 1
        said, error = capsys.readouterr()
        assert f"{name}: --out: cannot write to {out} (" in error
        assert error.endswith("give another folder.\n")
        assert said == ""
    assert (tmp_path / "file").read_text() == "mine"


def test_a_full_disk_is_said_with_its_folder(tmp_path):
    with (
        pytest.raises(RunError, match=rf"--out: cannot write to {tmp_path} \(No space left on device\); give another folder"),
        Outputs(tmp_path, "name"),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # as a file's write() raises it, without a name
    assert not list(tmp_path.iterdir())


def test_a_notebook_s_backend_for_pictures_need_not_be_installed(tmp_path):
    command = [sys.executable, "-m", "experiments.feature_maps", "--dry-run", "--out", str(tmp_path)]
    there = {**os.environ, "MPLBACKEND": "module://matplotlib_inline.backend_inline"}  # for all a notebook starts
    assert subprocess.run(command, env=there, capture_output=True, text=True, check=False).stderr == ""
    assert (tmp_path / "feature_maps_1.png").is_file()


def outcome(capsys, run, **options):
    code = run_main("name", run, argparse.Namespace(seed=0, **options))
    return code, capsys.readouterr().err


def test_how_an_experiment_ends_is_its_exit_code(capsys):
    def fail(error):
        raise error

    assert outcome(capsys, lambda _: None) == (0, "")
    assert outcome(capsys, lambda _: 1) == (1, "")
    assert outcome(capsys, lambda _: fail(RunError("words"))) == (1, "name: words\n")
    assert outcome(capsys, lambda _: fail(FileNotFoundError("words"))) == (1, "name: words\n")
    assert outcome(capsys, lambda _: fail(KeyboardInterrupt())) == (130, "name: stopped.\n")
    for number in (signal.SIGTERM, signal.SIGHUP):
        before = signal.getsignal(number)
        assert outcome(capsys, lambda _, n=number: os.kill(os.getpid(), n)) == (128 + number, "name: stopped.\n")
        assert signal.getsignal(number) == before
    assert outcome(capsys, lambda o: check_positive(o, "a", "b_c", "d"), a=None, b_c=0, d=-1) == (
        1,
        "name: --b-c: must be at least 1, got 0.\n",
    )


def test_new_pictures_take_the_place_of_old_ones_when_they_are_whole(tmp_path):
    own = {"pair-own.png", "pair-2-mine.png", "my-pair-2.png"}
    for name in ("pair-1.png", "pair-2.png", "pair-12.png", *own):
        (tmp_path / name).write_text("old")
    (tmp_path / "pair-3.png").mkdir()

    def write(error=None):
        with Outputs(tmp_path, "name") as files:
            files.instead_of(r"pair-[1-9][0-9]*\.png")
            files.path("pair-1.png").write_text("new")
            if error:
                raise error

    with pytest.raises(RunError):
        write(RunError("words"))
    assert {path.read_text() for path in tmp_path.iterdir() if path.is_file()} == {"old"}
    write()
    assert (tmp_path / "pair-3.png").is_dir()
    assert {path.name: path.read_text() for path in tmp_path.iterdir() if path.is_file()} == {
        "pair-1.png": "new"
    } | dict.fromkeys(own, "old")


def test_a_bar_of_a_campaign_is_as_long_as_its_error(monkeypatch):
    excess = {"x": 0.0, "conv1.weight": 3e-9, "fc2.bias": 0.02}
    figure = fuzz_gradients.draw({name: Counter(smooth=3, kink=1) for name in excess}, excess)
    right = figure.axes[1]
    assert [patch.get_width() for patch in right.patches] == list(excess.values())
    assert right.get_xlim()[0] < 3e-9
    plt.close(figure)


def test_values_at_kinks_that_are_no_subgradients_are_counted(tmp_path, capsys, monkeypatch):
    real = fuzz_gradients.check_grad

    def noting(*arguments, **options):
        report = real(*arguments, **options)
        report.notes += ["at a kink, 0.143 is no subgradient"] * (options["wrt"] == ["x"])
        return report

    assert fuzz_gradients.main(["--dry-run", "--out", str(tmp_path)]) == 0
    assert "subgradient" not in capsys.readouterr().out
    monkeypatch.setattr(fuzz_gradients, "check_grad", noting)
    assert fuzz_gradients.main(["--dry-run", "--out", str(tmp_path)]) == 0
    assert "At 1 of the kinks the gradient is no subgradient" in capsys.readouterr().out


def test_a_subgradient_is_as_right_as_any(tmp_path):
    def largest(x):
        return np.maximum(x, 0).sum(0), lambda g: g * np.where(x == 0, [[0.3], [0.9]], x > 0)

    report = check_grad(largest, np.zeros((2, 3)), cotangent=np.array([1.0, -1.0, 1.0]))
    assert report.kinds["kink"]
    assert report.excess < 0.01


def test_a_campaign_draws_what_it_covered(tmp_path, capsys):
    assert fuzz_gradients.main(["--dry-run", "--out", str(tmp_path)]) == 0
    assert "conv1.weight" in capsys.readouterr().out
    assert (tmp_path / "coverage.png").stat().st_size > 5_000
    assert fuzz_gradients.main(["--dry-run", "--minutes", "0", "--out", str(tmp_path)]) == 1
    assert "--minutes: must be above 0, got 0.0" in capsys.readouterr().err


def test_a_campaign_that_finds_a_wrong_gradient_fails_and_leaves_nothing(tmp_path, capsys, monkeypatch):
    def wrong(*_, **__):
        raise GradientError("the gradient is wrong")

    monkeypatch.setattr(fuzz_gradients, "check_grad", wrong)
    assert fuzz_gradients.main(["--dry-run", "--out", str(tmp_path / "new")]) == 1
    assert "fuzz_gradients: the gradient is wrong" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_what_fails_takes_away_its_own_folders_and_nothing_of_others(tmp_path):
    def stopped(out, meanwhile):
        with contextlib.suppress(KeyboardInterrupt), Outputs(out, "name") as files:
            files.path("mine").write_text("half")
            meanwhile()
            raise KeyboardInterrupt

    runs = tmp_path / "runs"

    def training_finishes():
        (runs / "quick-seed0-1").mkdir()
        (runs / "quick-seed0-1" / "result.json").write_text("hours of work")

    stopped(runs / "name-1" / "below", training_finishes)
    assert [p.name for p in runs.rglob("*")] == ["quick-seed0-1", "result.json"]
    stopped(runs / "name-1", lambda: (runs / "name-1" / "theirs").write_text(""))
    assert [p.name for p in (runs / "name-1").iterdir()] == ["theirs"]
    stopped(tmp_path / "a" / "b", lambda: None)
    (tmp_path / "empty").mkdir()
    stopped(tmp_path / "empty", lambda: None)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "runs"]


def test_a_folder_in_a_file_s_place_is_said_and_nothing_is_replaced(tmp_path):
    (tmp_path / "b.json").mkdir()
    (tmp_path / "a.json").write_text("old")

    def write(*names, meanwhile=None):
        with Outputs(tmp_path, "name") as files:
            for name in names:
                files.json(name, {})
            if meanwhile is not None:
                meanwhile.mkdir()

    with pytest.raises(RunError, match=r"--out: .*b\.json is a folder, where a file is to go"):
        write("a.json", "b.json")
    assert (tmp_path / "a.json").read_text() == "old"
    with pytest.raises(OSError, match="late"):
        write("late", meanwhile=tmp_path / "late")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "b.json", "late"]


@pytest.mark.parametrize("name", [*WRITERS, "report", "sweep"])
def test_a_folder_without_a_name_is_refused(tmp_path, monkeypatch, capsys, name):
    """An unset variable of the shell gives none, and that would be the folder where one stands."""
    monkeypatch.chdir(tmp_path)
    needed = {"report": ["run"], "sweep": ["best"]}.get(name, [])
    with pytest.raises(SystemExit):
        importlib.import_module(f"experiments.{name}").main([*needed, "--dry-run", "--out", ""])
    assert "argument --out: must name a folder, got ''" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_trained_weights_are_never_replaced(tmp_path, capsys):
    train_reader = importlib.import_module("experiments.train_reader")
    (tmp_path / "lenet.safetensors").write_bytes(b"of a night")
    assert train_reader.main(["--dry-run", "--out", str(tmp_path)]) == 1
    assert f"--out: {tmp_path} holds lenet.safetensors already; move it away or" in capsys.readouterr().err
    assert (tmp_path / "lenet.safetensors").read_bytes() == b"of a night"
