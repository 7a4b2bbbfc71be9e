"""The benchmark compares equal work, and says what it cannot do."""

import json
import sys
import threading

import numpy as np
import pytest
from matplotlib.colors import to_rgb

import tinygrad_lite.functional as F
from experiments import benchmark, contenders
from models.lenet import LeNet


def test_dry_run_writes_a_table_and_a_picture(tmp_path, capsys):
    tasks = ["step", "inference", "layer conv2", "node"]
    argv = ["--dry-run", "--tasks", *tasks, "--contenders", "tinygrad_lite", "--threads", "1", "--out", str(tmp_path)]
    assert benchmark.main(argv) == 0
    written = json.loads((tmp_path / "benchmark.json").read_text())
    assert list(written["results"]) == tasks
    assert written["results"]["step"]["1"]["tinygrad_lite"]["median"] > 0
    assert (tmp_path / "benchmark.png").stat().st_size > 1000
    assert "an operation" in capsys.readouterr().out


def test_no_title_is_cut_off():
    row = {"median": 1.0, "low": 0.9, "high": 1.1, "memory": 1}
    table = dict.fromkeys(contenders.CONTENDERS, row)
    figure = benchmark.draw({task: dict.fromkeys(sizes, table) for task, (_, sizes) in benchmark.TASKS.items()})
    figure.canvas.draw()
    titles = [axes.title for axes in figure.axes if axes.get_title()]
    benchmark.plt.close(figure)
    assert len(titles) > len(benchmark.TASKS)
    for title in titles:
        box = title.get_window_extent()
        assert 0 <= box.x0 < box.x1 <= figure.bbox.width, title.get_text()


def test_the_spread_has_the_colour_of_its_line():
    row = {"median": 1.0, "low": 0.9, "high": 1.1, "memory": 1}
    table = dict.fromkeys(list(contenders.CONTENDERS)[1::2], row)  # not all are installed
    figure = benchmark.draw({"step": {1: table, 100: table}})
    curves = [axes for axes in figure.axes if axes.collections]
    benchmark.plt.close(figure)
    assert curves
    for axes in curves:
        for line, band in zip(axes.lines, axes.collections, strict=True):
            assert to_rgb(line.get_color()) == tuple(band.get_facecolor()[0][:3])


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--contenders", "Theano"], "Theano not installed or not known; here are tinygrad_lite"),
        (["--threads", "0"], "--threads: must be at least 1, got 0."),
        (["--threads", "1", "--turns", "0"], "--turns: must be at least 1, got 0."),
        (["--sizes", "0"], "--sizes: must be at least 1, got 0"),
    ],
)
def test_nonsense_is_refused(argv, message, tmp_path, capsys):
    assert benchmark.main([*argv, "--dry-run", "--tasks", "node", "--out", str(tmp_path / "new")]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_contender_that_fails_is_named(tmp_path, capsys, monkeypatch):
    broken = "import sys; sys.stdin.readline(); sys.exit('out of paper')"
    monkeypatch.setattr(benchmark.subprocess, "Popen", popen_of(broken))
    argv = ["--tasks", "step", "--contenders", "tinygrad_lite", "--out", str(tmp_path / "new")]
    assert benchmark.main(argv) == 1
    assert "tinygrad_lite failed at step 1: out of paper" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


# Answers like a contender, but first does with size and turn what the test says.
CONTENDER = """
import json, sys
for turn, line in enumerate(sys.stdin, 1):
    order = json.loads(line)
    {first}
    print(json.dumps({{"seconds": [0.01] * order["repeats"], "memory": 1}}), flush=True)
"""


@pytest.mark.parametrize(("first", "runs"), [
    ("if order['size'] == 100: sys.exit('out of paper')", 0),
    ("if order['size'] == 100 and turn == 5: sys.exit('out of paper')", 20),  # of two turns, one was lost
])  # fmt: skip
def test_what_was_measured_before_and_after_a_failure_is_kept(tmp_path, capsys, monkeypatch, first, runs):
    monkeypatch.setattr(benchmark.subprocess, "Popen", popen_of(CONTENDER.format(first=first)))
    monkeypatch.setattr(benchmark, "REST", 0)
    sizes = ["--sizes", "1", "100", "200"]
    argv = ["--tasks", "step", *sizes, "--contenders", "tinygrad_lite", "--turns", "2", "--out", str(tmp_path)]
    assert benchmark.main(argv) == 1
    words = "tinygrad_lite failed at step 100: out of paper"
    assert f"benchmark: the rest was measured, but {words}\n" in capsys.readouterr().err
    written = json.loads((tmp_path / "benchmark.json").read_text())
    assert written["failed"] == [words]
    found = {size: table["tinygrad_lite"]["runs"] for size, table in written["results"]["step"].items()}
    assert found == {"1": 40, "200": 40} | ({"100": runs} if runs else {})
    assert (tmp_path / "benchmark.png").stat().st_size > 1000


def test_a_contender_that_warns_much_does_not_hang(monkeypatch):
    monkeypatch.setattr(benchmark.subprocess, "Popen", popen_of(CONTENDER.format(first="print('w' * 2**20, file=sys.stderr)")))
    runner = benchmark.Runner("tinygrad_lite", 1)
    timer = threading.Timer(20, runner.process.kill)
    timer.start()
    try:
        assert runner("step", 1, 1, 3)["seconds"] == [0.01] * 3
    finally:
        timer.cancel()
        runner.end()


def test_tasks_that_no_contender_offers_are_refused(tmp_path, capsys):
    argv = ["--dry-run", "--tasks", "deep", "node", "--contenders", "matrix products alone", "--out", str(tmp_path / "new")]
    assert benchmark.main(argv) == 1
    words = "benchmark: --tasks: none of matrix products alone offers deep, node; give other --tasks or --contenders.\n"
    assert capsys.readouterr().err == words
    assert not (tmp_path / "new").exists()


def popen_of(code):
    real = benchmark.subprocess.Popen
    return lambda args, **options: real([sys.executable, "-c", code], **options)


class Runner:
    """One that takes a time of its own in each turn, or offers nothing."""

    def __init__(self, *times):
        self.times, self.turns = times, 0

    def __call__(self, task, size, warm, repeats):
        self.turns += 1
        seconds = [self.times[(self.turns - 2) % len(self.times)]] * repeats if self.times else []
        return {"seconds": seconds, "memory": self.turns}


def test_slow_work_gets_fewer_turns():
    slow = Runner(benchmark.ENOUGH / 3)
    table = benchmark.measure({"slow": slow, "absent": Runner()}, "step", 1, turns=10)
    assert slow.turns == 1 + 3
    assert list(table) == ["slow"]
    assert table["slow"]["runs"] == 3


def test_a_turn_of_quick_work_lasts_as_long_as_others_and_begins_warm():
    orders = []

    class Quick(Runner):
        def __call__(self, task, size, warm, repeats):
            orders.append((warm, repeats))
            return super().__call__(task, size, warm, repeats)

    benchmark.measure({"quick": Quick(benchmark.TURN / 1000)}, "step", 1, turns=2)
    assert orders[1:] == [(250, 1000)] * 2


def test_median_and_quartiles_are_over_all_turns(monkeypatch):
    monkeypatch.setattr(benchmark, "REST", 0)
    row = benchmark.measure({"one": Runner(9.0, 1.0, 2.0, 3.0, 1.5)}, "step", 1, turns=5)["one"]
    assert row.items() >= {"low": 1.5, "median": 2.0, "high": 3.0, "runs": 5, "memory": 1}.items()


def test_ratios_are_taken_turn_by_turn(monkeypatch):
    """What slows all contenders down in some turns is not seen in the ratio: 5 / 4 were that of the medians."""
    monkeypatch.setattr(benchmark, "REST", 0)
    runners = {"half": Runner(0.5, 0.5, 5.0, 5.0, 8.0), benchmark.RIVAL: Runner(1.0, 1.0, 10.0, 10.0, 4.0)}
    monkeypatch.setattr(benchmark, "ENOUGH", 100)
    table = benchmark.measure(runners, "step", 1, turns=5)
    assert [table["half"][key] for key in ("ratio_low", "ratio", "ratio_high")] == [0.5, 0.5, 0.5]
    assert table[benchmark.RIVAL]["ratio"] == 1


def test_a_turn_that_one_of_two_lost_gives_no_ratio(monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "REST", 0)

    class Lost(Runner):
        def __call__(self, task, size, warm, repeats):
            answer = super().__call__(task, size, warm, repeats)
            return answer | {"seconds": []} if self.turns == 2 else answer

    rival = {benchmark.RIVAL: Lost(1.0, 2.0)}
    assert benchmark.measure({"one": Runner(3.0, 3.0)} | rival, "step", 1, turns=2)["one"]["ratio"] == 1.5
    table = benchmark.measure({"one": Runner(3.0)} | {benchmark.RIVAL: Lost(1.0)}, "step", 1, turns=1)
    assert "ratio" not in table["one"]
    benchmark.show("step", 1, table)
    assert "none" in capsys.readouterr().out


def test_all_nets_have_the_same_weights_and_see_the_same_images():
    images, labels = contenders.images_and_labels(3)
    again, _ = contenders.images_and_labels(3)
    np.testing.assert_array_equal(images, again)
    assert images.shape == (3, 1, 28, 28)
    assert images.dtype == np.float32
    assert labels.shape == (3,)
    assert sum(array.size for array in contenders.weights().values()) == 431_080


@pytest.mark.parametrize("name", ["tinygrad_lite", "PyTorch", "PyTorch channels_last"])
def test_a_step_is_a_whole_step(name, monkeypatch):
    if name not in contenders.available():
        pytest.skip(f"{name} is not installed")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    contender = contenders.CONTENDERS[name]()
    model, start = contender.model(), contenders.weights()
    for p, array in zip(model.parameters(), start.values(), strict=True):
        p.data[...] = array if name == "tinygrad_lite" else contender.torch.from_numpy(array)
    monkeypatch.setattr(contender, "model", lambda: model)
    work = contender.step(3)
    work()
    work()

    images, labels = contenders.images_and_labels(3)
    expected, velocity = LeNet(np.random.default_rng(0)), dict.fromkeys(start, 0.0)
    for _ in range(2):
        F.cross_entropy(expected(images), labels).backward()
        for key, p in expected.named_parameters():
            velocity[key] = 0.9 * velocity[key] + p.grad
            p.data -= 0.01 * velocity[key]
            p.zero_grad()
    for (key, p), q in zip(expected.named_parameters(), model.parameters(), strict=True):
        change = np.linalg.norm(p.data - start[key])
        assert np.linalg.norm(p.data - np.asarray(q.data)) < 1e-3 * change, key


@pytest.mark.parametrize("name", benchmark.LAYERS)
def test_contenders_layers_give_the_same(name, monkeypatch):
    if "PyTorch" not in contenders.available():
        pytest.skip("PyTorch is not installed")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    results = []
    for contender in (contenders.TinygradLite, contenders.Torch, contenders.TorchChannelsLast):
        work = contender().layer(name, 3)
        inside = dict(zip(work.__code__.co_freevars, (cell.cell_contents for cell in work.__closure__), strict=True))
        results.append(inside["function"](*inside["tensors"]))
    ours, *theirs = [np.asarray(y.data) for y in results]
    for other in theirs:
        np.testing.assert_allclose(other, ours, rtol=1e-5, atol=1e-6 * np.abs(ours).max())


def test_the_products_alone_are_those_of_a_step():
    sizes = []
    real = np.dot

    def seen(a, b, out):
        sizes.append(2 * a.shape[0] * a.shape[1] * b.shape[1])
        return real(a, b, out=out)

    work = contenders.Products().step(2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contenders.np, "dot", seen)
        work()
    # Two products for conv1, whose input needs no gradient, and three for each of the other layers.
    per_image = 2 * (2 * 20 * 25 * 576 + 3 * 50 * 500 * 64 + 3 * 500 * 800 + 3 * 10 * 500)
    assert sum(sizes) == 2 * per_image
