"""How fast: the same work by this library and by others, side by side.

    python -m experiments.benchmark                          # all tasks, all frameworks that are installed
    python -m experiments.benchmark --tasks step inference --sizes 1 100 --contenders tinygrad_lite PyTorch

Each contender runs in a process of its own with the same number of threads; they take turns. Every median is over all turns;
every ratio is the median of the ratios turn by turn, for what disturbs the machine for a while meets all of one turn and falls
out of it. Times do not carry over from one machine to another: look at the ratios.
Memory is the largest resident size while preparing and doing the work, above that before. An OPENBLAS_CORETYPE in the
environment holds OpenBLAS to kernels for that processor, but not PyTorch, which has ATEN_CPU_CAPABILITY and DNNL_MAX_CPU_ISA.
Gradient checks are timed against PyTorch's by `python -m experiments.fuzz_strength torch`.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from experiments.contenders import CONTENDERS, available
from experiments.outputs import Outputs, parser
from experiments.runs import RunError, check_positive, run_main

SIZES = (1, 10, 32, 100, 256, 1000)
CHAIN = 1000
DEPTHS = (100, 1000, 10_000, 100_000)
LAYERS = ("conv1", "relu", "pool", "conv2", "fc1", "gelu", "sigmoid", "softmax", "layer_norm", "cube", "embedding")
TITLE = 36  # letters of a title that fit over one of the pictures
TASKS = {  # name -> (what is done, sizes)
    "step": ("training step of LeNet, batch of", SIZES),
    "inference": ("LeNet forward, batch of", SIZES),
    **{f"layer {name}": (f"{name} forward and backward, batch of", (100,)) for name in LAYERS},
    "node": ("chain of 10-element multiplications and additions, forward and backward, of", (CHAIN,)),
    "deep": ("the same, as deep as", DEPTHS),
    "epoch": ("epoch with loading and evaluation, images", (60_000,)),
}
ENOUGH = 10.0  # seconds for one contender and one piece of work; what is slower gets fewer turns
TURN = 0.2  # seconds of work in one turn: what is quick would else be measured in a few milliseconds, good or bad ones,
WARM = 4  # and the part of it (1 / WARM) that is done before, as caches and the processor's clock wake up
REST = 0.1  # seconds before a turn, for OpenBLAS's and OpenMP's threads of the one before keep spinning for a while
RIVAL = "PyTorch"  # all ratios are to it
LAST = 10_000  # bytes of what a process said last, in which its reason for ending is looked for
HOLDS = ("OPENBLAS_CORETYPE", "ATEN_CPU_CAPABILITY", "DNNL_MAX_CPU_ISA")  # environment variables that hold kernels back


class Runner:
    """One contender's process; one that ends at its work is named in `failures`, and another takes its place."""

    def __init__(self, name: str, threads: int) -> None:
        self.name = name
        self.failures: list[str] = []
        count = str(threads)
        self.environment = os.environ | {"OPENBLAS_NUM_THREADS": count, "OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count}
        self.environment["XLA_FLAGS"] = f"--xla_cpu_multi_thread_eigen={'true' if threads > 1 else 'false'}"
        self.start()

    def start(self) -> None:
        self.said = tempfile.TemporaryFile()  # a pipe that nobody empties would stop a process that warns much  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "-m", "experiments.contenders", self.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.said,
            text=True,
            env=self.environment,
        )

    def __call__(self, task: str, size: int, warm: int, repeats: int) -> dict[str, Any]:
        """Have the work done, and give its seconds and memory; no seconds where it failed or is not offered."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps({"task": task, "size": size, "warm": warm, "repeats": repeats}) + "\n")
            self.process.stdin.flush()
            answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        except (BrokenPipeError, json.JSONDecodeError):
            self.failures.append(f"{self.name} failed at {task} {size}: {self.end() or 'its process ended'}")
            self.start()
            return {"seconds": [], "memory": 0}
        return answer

    def end(self) -> str:
        """End the process; give the last line that it wrote as an error."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):  # an order that the process did not live to read
                pipe.close()
        with self.said as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LAST))
            return " ".join(file.read().decode(errors="replace").strip().splitlines()[-1:])


def measure(runners: dict[str, Runner], task: str, size: int, turns: int) -> dict[str, dict[str, float]]:
    """Median seconds, ratio to the rival, quartiles of both, and bytes, by contender; who does not offer it, or fails, is out.

    Without the rival the ratio is to the first contender; there is none where no turn gave the times of both.
    """
    plan: dict[str, tuple[int, int]] = {}  # turns, and repeats in each
    seconds: dict[str, list[list[float]]] = {}  # of each turn
    memory: dict[str, int] = {}
    for name, runner in runners.items():
        answer = runner(task, size, 2, 1)
        if answer["seconds"]:
            took = answer["seconds"][0]
            plan[name] = max(1, min(turns, int(ENOUGH / took))), max(1, int(TURN / took))
            seconds[name], memory[name] = [], answer["memory"]
    for turn in range(turns):
        for name, (times, repeats) in plan.items():
            if turn < times:
                time.sleep(REST)
                seconds[name].append(runners[name](task, size, -(-repeats // WARM), repeats)["seconds"])
    table: dict[str, dict[str, float]] = {}
    rivals = seconds.get(RIVAL) or next(iter(seconds.values()), [])
    for name, by_turn in seconds.items():
        values = [value for one_turn in by_turn for value in one_turn]
        if not values:
            continue
        low, median, high = np.quantile(values, (0.25, 0.5, 0.75))
        table[name] = {"median": median, "low": low, "high": high, "runs": len(values), "memory": memory[name]}
        both = [np.median(own) / np.median(other) for own, other in zip(by_turn, rivals, strict=False) if own and other]
        if both:
            quartiles = map(float, np.quantile(both, (0.25, 0.5, 0.75)))
            table[name] |= dict(zip(("ratio_low", "ratio", "ratio_high"), quartiles, strict=True))
    return table


def show(task: str, size: int, table: dict[str, dict[str, float]]) -> None:
    """Print one table."""
    print(f"\n{TASKS[task][0]} {size:,}")
    print(f"  {'':24}{'median':>12}{'quartiles':>22}{'ratio':>9}{'quartiles':>14}{'memory':>12}")
    for name, row in table.items():
        spread = f"{1e3 * row['low']:.3f} - {1e3 * row['high']:.3f}"
        ratio = f"{'none':>9}{'':14}"
        if "ratio" in row:
            ratio = f"{row['ratio']:9.2f}{row['ratio_low']:7.2f} - {row['ratio_high']:.2f}"
        print(f"  {name:24}{1e3 * row['median']:9.3f} ms{spread:>22}{ratio}{row['memory'] / 2**20:8.1f} MiB")
    if task in ("node", "deep"):
        for name, row in table.items():
            print(f"  {name:24}{1e6 * row['median'] / size:9.2f} us and {row['memory'] / size:7.0f} bytes an operation")


def draw(results: dict[str, dict[int, dict[str, dict[str, float]]]]) -> Figure:
    """Bars of the step at the middle size, and time against size for every task with several sizes."""
    curves = [task for task, by_size in results.items() if len(by_size) > 1]
    bars = [task for task in results if task not in curves or task == "step"]
    colours = {name: f"C{i}" for i, name in enumerate(CONTENDERS)}
    columns = min(3, len(curves) + len(bars))
    rows = -(-(len(curves) + len(bars)) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(4.6 * columns, 3.4 * rows), squeeze=False, layout="constrained")
    free = iter(axes.flat)
    for task in bars:
        ax, (size, table) = next(free), sorted(results[task].items())[len(results[task]) // 2]
        names = sorted(table, key=lambda name: table[name]["median"], reverse=True)
        times = [1e3 * table[name]["median"] for name in names]
        ax.barh(names, times, color=[colours[name] for name in names])
        ax.bar_label(ax.containers[0], fmt=lambda value: f"{value:.3g}" if value < 1000 else f"{value:,.0f}", padding=3)
        ax.set(title=textwrap.fill(f"{TASKS[task][0]} {size:,}", TITLE), xlabel="milliseconds (logarithmic)", xscale="log")
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.set_xlim(min(times) / 3, max(times) * 4)
    for task in curves:
        ax, by_size = next(free), results[task]
        for name in CONTENDERS:
            points = [(size, table[name]) for size, table in sorted(by_size.items()) if name in table]
            if points:
                sizes = [size for size, _ in points]
                ax.plot(sizes, [1e3 * row["median"] for _, row in points], "o-", color=colours[name], label=name, markersize=3)
                low, high = ([1e3 * row[q] for _, row in points] for q in ("low", "high"))
                ax.fill_between(sizes, low, high, color=colours[name], alpha=0.2)
        title, _, of = TASKS[task][0].rpartition(", ")
        ax.set(
            title=textwrap.fill(title, TITLE),
            xlabel=of.removesuffix(" of") or "size",
            ylabel="milliseconds",
            xscale="log",
            yscale="log",
        )
        ax.legend(fontsize=8)
    for ax in free:
        ax.axis("off")
    return figure


def run(options: argparse.Namespace) -> None:
    """Measure, print and write.

    Raises
    ------
    RunError : nothing could be measured, or contenders failed; what the others gave, and these before, was written then.
    """
    here = available()
    unknown = [name for name in options.contenders or [] if name not in here]
    if unknown:
        raise RunError(f"--contenders: {', '.join(unknown)} not installed or not known; here are {', '.join(here)}.")
    check_positive(options, "threads", "turns")
    if options.sizes and min(options.sizes) < 1:
        raise RunError(f"--sizes: must be at least 1, got {min(options.sizes)}.")
    names = [name for name in here if not options.contenders or name in options.contenders]
    tasks = {task: options.sizes or TASKS[task][1] for task in options.tasks or TASKS}
    if options.dry_run:
        tasks, options.turns = {task: [min(sizes[0], 600)] for task, sizes in tasks.items()}, 1
    results: dict[str, dict[int, dict[str, dict[str, float]]]] = {}
    runners: dict[str, Runner] = {}
    held = {name: value for name in HOLDS if (value := os.environ.get(name))}
    print(f"{options.threads} threads each: {', '.join(names)}" + "".join(f"; {k}={v}" for k, v in held.items()))
    with Outputs(options.out, "benchmark") as outputs:
        try:
            runners = {name: Runner(name, options.threads) for name in names}
            for task, sizes in tasks.items():
                for size in sizes:
                    table = measure(runners, task, size, options.turns)
                    if table:
                        results.setdefault(task, {})[size] = table
                        show(task, size, table)
        finally:
            for runner in runners.values():
                runner.end()
        failed = [words for runner in runners.values() for words in runner.failures]
        if not results:
            nobody = f"--tasks: none of {', '.join(names)} offers {', '.join(tasks)}; give other --tasks or --contenders."
            raise RunError("; ".join(failed) or nobody)
        settings = {"threads": options.threads, "held": held, "turns": options.turns}
        outputs.json("benchmark.json", {**settings, "results": results, "failed": failed})
        outputs.figure("benchmark.png", draw(results))
    if failed:
        raise RunError(f"the rest was measured, but {'; '.join(failed)}")


def main(argv: Sequence[str] | None = None) -> int:
    """Compare; 1 if it could not be done."""
    options = parser("benchmark", "the same work by this library and by others, side by side", weights=False)
    options.add_argument("--tasks", nargs="+", choices=TASKS, metavar="TASK", help=f"of {', '.join(TASKS)} (default: all)")
    options.add_argument("--sizes", nargs="+", type=int, metavar="N", help="instead of each task's own")
    options.add_argument("--contenders", nargs="+", metavar="NAME", help=f"of {', '.join(CONTENDERS)} (default: all here)")
    options.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of each contender (default: all cores)")
    options.add_argument("--turns", type=int, default=10, help="how often each contender's turn comes (default: 10)")
    return run_main("benchmark", run, options.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
