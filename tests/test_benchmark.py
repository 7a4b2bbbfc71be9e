"""The benchmark compares equal work, and says what it cannot do."""

import json
import sys

import numpy as np
import pytest

from experiments import benchmark, contenders


def test_dry_run_writes_a_table_and_a_picture(tmp_path, capsys):
    tasks = ["step", "inference", "layer conv2", "node"]
    argv = ["--dry-run", "--tasks", *tasks, "--contenders", "tinygrad_lite", "--threads", "1", "--out", str(tmp_path)]
    assert benchmark.main(argv) == 0
    written = json.loads((tmp_path / "benchmark.json").read_text())
    assert list(written["results"]) == tasks
    assert written["results"]["step"]["1"]["tinygrad_lite"]["median"] > 0
    assert (tmp_path / "benchmark.png").stat().st_size > 1000
    assert "an operation" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--contenders", "Theano"], "Theano not installed or not known; here are tinygrad_lite"),
        (["--threads", "0"], "must be at least 1, got 0"),
        (["--sizes", "0"], "--sizes: must be at least 1, got 0"),
    ],
)
def test_nonsense_is_refused(argv, message, tmp_path, capsys):
    assert benchmark.main([*argv, "--out", str(tmp_path / "new")]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_contender_that_fails_is_named(tmp_path, capsys, monkeypatch):
    broken = "import sys; sys.stdin.readline(); sys.exit('out of paper')"
    monkeypatch.setattr(benchmark.subprocess, "Popen", popen_of(broken))
    argv = ["--tasks", "step", "--contenders", "tinygrad_lite", "--out", str(tmp_path / "new")]
    assert benchmark.main(argv) == 1
    assert "tinygrad_lite failed at step 1: out of paper" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def popen_of(code):
    real = benchmark.subprocess.Popen
    return lambda args, **options: real([sys.executable, "-c", code], **options)


def test_slow_work_gets_fewer_turns():
    class Runner:
        turns = 0

        def __call__(self, task, size, warm, repeats):
            self.turns += 1
            return {"seconds": [benchmark.ENOUGH / 3] * repeats, "memory": 0}

    class Absent:
        def __call__(self, *_):
            return {"seconds": [], "memory": 0}

    slow = Runner()
    table = benchmark.measure({"slow": slow, "absent": Absent()}, "step", 1, turns=10)
    assert slow.turns == 1 + 3
    assert list(table) == ["slow"]
    assert table["slow"]["runs"] == 3


def test_all_nets_have_the_same_weights_and_see_the_same_images():
    images, labels = contenders.images_and_labels(3)
    again, _ = contenders.images_and_labels(3)
    np.testing.assert_array_equal(images, again)
    assert images.shape == (3, 1, 28, 28)
    assert images.dtype == np.float32
    assert labels.shape == (3,)
    assert sum(array.size for array in contenders.weights().values()) == 431_080


def test_the_products_alone_are_those_of_a_step():
    sizes = []
    real = np.matmul

    def seen(a, b, out):
        sizes.append(2 * a.shape[0] * a.shape[1] * b.shape[1])
        return real(a, b, out=out)

    work = contenders.Products().step(2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contenders.np, "matmul", seen)
        work()
    # Two products for conv1, whose input needs no gradient, and three for each of the other layers.
    per_image = 2 * (2 * 20 * 25 * 576 + 3 * 50 * 500 * 64 + 3 * 500 * 800 + 3 * 10 * 500)
    assert sum(sizes) == 2 * per_image
