"""Train many nets side by side, and compare them: `python -m experiments.sweep best small single`.

A variant is a recipe, or a recipe with other values of its fields: `best:elastic=0,average=0`. Every run is a process of its
own with one BLAS thread, and has a folder of its own. Stopped at any time, by Ctrl-C or harder, the same command with the same
--out goes on: finished runs are read, the others resumed.
"""

import argparse
import dataclasses
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from experiments import train
from experiments.recipes import Recipe, changed, check_sizes
from experiments.runs import RunError, check_positive, environment, folder_name, free_folder, read_json, read_result, write_json
from experiments.signals import Stop, StoppedError
from experiments.sweep_picture import draw
from experiments.texts import print_any
from tinygrad_lite import TinygradError

DEFAULTS = {field.name: field.default for field in dataclasses.fields(Recipe)}
ONE_THREAD = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")


class Job:
    """One run: a variant with a seed, and its folder."""

    def __init__(self, variant: str, seed: int, options: argparse.Namespace) -> None:
        recipe, _, changes = variant.partition(":")
        self.variant, self.seed = variant, seed
        self.folder = Path(options.out) / variant.replace(":", ",") / f"seed-{seed}"
        self.arguments = ["--recipe", recipe, "--seed", str(seed), "--out", str(self.folder), "--quiet"]
        for change in changes.split(",") if changes else ():
            self.arguments += ["--set", change]
        for name in ("data_dir", "validate"):
            if getattr(options, name) is not None:
                self.arguments += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
        if options.dry_run:
            self.arguments.append("--dry-run")
        self.config = train.configuration(train.make_parser().parse_args(self.arguments))
        if self.begun():
            found = read_json(self.folder / "config.json")  # an older run's may lack fields, which have their default then
            other = [name for name, value in self.config.items() if found.get(name, DEFAULTS.get(name)) != value]
            if other:
                raise RunError(f"--out: {self.folder} holds another run (its {', '.join(other)}); give another folder.")

    def begun(self) -> bool:
        """Whether there is something to go on with."""
        return os.path.exists(self.folder / "config.json")

    def result(self) -> dict[str, Any] | None:
        """Give what came out, None if the run is not finished."""
        return read_result(self.folder)

    def start(self) -> subprocess.Popen[str]:
        """Begin, or go on."""
        arguments = ["--resume", str(self.folder), "--quiet"] if self.begun() else self.arguments
        command = [sys.executable, "-m", "experiments.train", *arguments]
        one_thread = {**os.environ, **dict.fromkeys(ONE_THREAD, "1")}
        return subprocess.Popen(command, env=one_thread, stderr=subprocess.PIPE, text=True)


def run_all(jobs: list[Job], side_by_side: int, stop: Stop) -> list[str]:
    """Run what is not finished, some at a time; say which runs failed, and why.

    Raises
    ------
    StoppedError : Ctrl-C or SIGTERM; the runs wrote their checkpoints.
    """
    waiting = [job for job in jobs if job.result() is None]
    done = len(jobs) - len(waiting)
    running: dict[Job, subprocess.Popen[str]] = {}
    failed = []
    try:
        while running or (waiting and not stop.signal):
            while waiting and len(running) < side_by_side and not stop.signal:
                job = waiting.pop(0)
                running[job] = job.start()
            time.sleep(0.1)
            for job, process in list(running.items()):
                if stop.signal:
                    process.terminate()
                if process.poll() is None:
                    continue
                del running[job]
                words = process.communicate()[1].strip().rpartition("\n")[2]  # warnings, if any, stand before
                result = job.result()
                if result is not None:
                    done += 1
                    took = f"{result['test_accuracy']:.2%} in {result['seconds']:.0f} s"
                    print(f"{job.variant}, seed {job.seed}: {took}; {done} of {len(jobs)} done", flush=True)
                elif not stop.signal:
                    words = words or f"ended with exit code {process.returncode}; the same command with this --out goes on."
                    failed.append(f"{job.variant}, seed {job.seed}: {words}")
    finally:
        for process in running.values():
            process.kill()
    if stop.signal:
        raise StoppedError("stopped; the same command with this --out goes on")
    return failed


def summary(variant: str, results: list[dict[str, Any]]) -> dict[str, Any]:
    """Give per cent read right, seed by seed, with mean and standard deviation, and the mean time.

    "part_accuracy" is there where the recipe speaks of a part of the test set.
    """
    row: dict[str, Any] = {"variant": variant, "train_size": results[0]["train_size"]}
    for key in ("test_accuracy", "part_accuracy"):
        if key in results[0]:
            values = np.array([100 * result[key] for result in results])
            spread = float(values.std(ddof=1)) if len(values) > 1 else None  # one seed alone has none
            row[key] = {"mean": float(values.mean()), "std": spread, "values": values.tolist()}
    return row | {"seconds": float(np.mean([result["seconds"] for result in results]))}


def table(rows: list[dict[str, Any]]) -> str:
    """Give the rows as text."""
    width = max(len(row["variant"]) for row in rows)
    lines = [f"{'variant':{width}}  images  per cent read right  seconds a run  seed by seed"]
    for row in rows:
        for key in ("test_accuracy", "part_accuracy"):
            if key in row:
                figures, name = row[key], row["variant"] if key == "test_accuracy" else "  the first of them alone"
                values = " ".join(f"{value:.2f}" for value in figures["values"])
                mean = f"{figures['mean']:.2f}" + (f" +- {figures['std']:.2f}" if figures["std"] is not None else "")
                lines.append(f"{name:{width}}  {row['train_size']:6}  {mean:>19}  {row['seconds']:13.0f}  {values}")
    return "\n".join(lines)


def sweep(options: argparse.Namespace, stop: Stop) -> None:
    """Train what is missing; write table, picture and figures.

    Raises
    ------
    RunError : runs failed; what the others gave was written.
    """
    check_positive(options, "seeds", "jobs")
    published = dict(_published(text) for text in options.published)
    options.out = options.out or str(free_folder(Path("runs"), "sweep"))
    variants = list(dict.fromkeys(options.variants))
    seeds = range(options.seed, options.seed + options.seeds)
    # Seed by seed, so that a sweep that is stopped has something of every variant.
    jobs = [Job(variant, seed, options) for seed in seeds for variant in variants]
    data = train.load_data(options.data_dir, options.validate)
    for job in jobs:
        check_sizes(changed(job.config), *[len(digits.labels) for digits in data])
    print(f"{len(jobs)} runs, {options.jobs} side by side, in {options.out}", flush=True)
    failed = run_all(jobs, options.jobs, stop)
    results = {(job.variant, job.seed): job.result() for job in jobs}
    of_variant = {variant: [r for seed in seeds if (r := results[variant, seed])] for variant in variants}
    rows = [summary(variant, found) for variant, found in of_variant.items() if found]
    words = f"{len(failed)} of {len(jobs)} runs failed. {' '.join(failed)}"
    if not rows:
        raise RunError(words)
    where = f"the last {options.validate:,} training images" if options.validate else "the test images"
    print(f"Tested on {where}:\n{table(rows)}")
    draw(Path(options.out) / "sweep.png", rows, published, options.by_size, where)
    content = {"tested_on": where, "rows": rows, "failed": failed, "environment": environment()}
    write_json(Path(options.out) / "sweep.json", content)
    print(f"Written to {options.out}: sweep.json, sweep.png, and a folder for every run")
    if failed:  # only now: what the others gave is not lost by it
        raise RunError(words)


def _published(text: str) -> tuple[str, float]:
    name, _, error = text.rpartition("=")
    try:
        if not 0 <= float(error) <= 100:
            raise ValueError
        return name, float(error)
    except ValueError:
        raise RunError(f"--published: expected NAME=ERROR, an error in per cent, got {text!r}.") from None


def main(argv: list[str] | None = None) -> int:
    """Command line; gives the exit code: 0, 1 after an error, 130 or 143 after Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.sweep",
        description="Train variants of recipes with several seeds, side by side; write a table and a picture of their errors.",
        epilog="Recipes, and the fields that they have: python -m experiments.train --help",
    )
    parser.add_argument("variants", nargs="+", metavar="RECIPE[:FIELD=VALUE,...]", help="what to train: best, best:elastic=0")
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="seeds for each (default: 5)")
    parser.add_argument("--seed", type=int, default=0, help="the first seed (default: 0)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), metavar="N", help="runs side by side (default: the cores)")
    parser.add_argument("--validate", type=int, metavar="N", help="test on the last N training images, which are left out")
    parser.add_argument("--data-dir", help="folder with the four IDX files of another data set (default: MNIST, included)")
    parser.add_argument("--out", type=folder_name, help="folder to write, or to go on with (default: a new one under runs/)")
    parser.add_argument(
        "--published",
        action="append",
        default=[],
        metavar="NAME=ERROR",
        help="draw a line at this error in per cent, repeatable",
    )
    parser.add_argument("--by-size", action="store_true", help="draw the errors over the size of the training set")
    parser.add_argument("--dry-run", action="store_true", help="300 images, two epochs a run: to see that everything works")
    options = parser.parse_args(argv)
    print_any()
    stop = Stop()
    try:
        sweep(options, stop)
    except (TinygradError, OSError) as error:
        print(f"sweep: {error}", file=sys.stderr)
        return 128 + stop.signal if isinstance(error, StoppedError) else 1
    except KeyboardInterrupt:
        print("sweep: stopped at once; the same command with this --out goes on.", file=sys.stderr)
        return 130
    finally:
        stop.forget()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
