"""Draw a run's loss and accuracy over its steps."""

from array import array
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

from experiments.runs import read_metrics
from experiments.texts import as_drawn


def draw_curves(folder: Path, title: str) -> None:
    """Write curves.png: training loss, and running means of loss and accuracy, and the test set's as dots.

    Of more than 20,000 steps every second is drawn, of more than 40,000 every third, and so on; the means are over all.
    """
    steps, tests = _columns(folder)
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for axes, key, factor in ((left, "loss", 1.0), (right, "accuracy", 100.0)):
        y = factor * steps[key]
        some = slice(None, None, 1 + len(y) // 20_001)
        x = steps["step"][some]
        if key == "loss":  # the accuracies of single batches are a few steps apart, and hide the rest
            axes.plot(x, y[some], color="tab:blue", alpha=0.2, linewidth=0.6, label="training batches")
        axes.plot(x, _running_mean(y)[some], color="tab:blue", label="training batches, running mean")
        test_y = factor * tests[key]
        axes.plot(tests["step"], test_y, "o-", color="tab:orange", markersize=4, label=f"test, last {test_y[-1]:.4g}")
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
        axes.legend(loc="best")
    left.set_yscale("log")
    left.set_ylabel("loss (mean cross-entropy, log scale)")
    right.set_ylabel("accuracy (%)")
    right.set_ylim(90 if (tests["accuracy"] > 0.92).all() else 0, 100.3)
    figure.suptitle(as_drawn(title))
    figure.savefig(folder / "curves.png", dpi=120)
    plt.close(figure)


def _columns(folder: Path) -> tuple[dict[str, NDArray[np.float64]], dict[str, NDArray[np.float64]]]:
    """Step, loss and accuracy of the training batches, and of the test set: 24 bytes a step, where lines would be 900."""
    found = {kind: {name: array("d") for name in ("step", "loss", "accuracy")} for kind in ("", "test_")}
    for line in read_metrics(folder):
        kind = "" if "loss" in line else "test_"
        for name, column in found[kind].items():
            column.append(line["step" if name == "step" else kind + name])
    steps, tests = ({name: np.array(column) for name, column in columns.items()} for columns in found.values())
    return steps, tests


def _running_mean(y: NDArray[np.float64]) -> NDArray[np.float64]:
    width = max(1, len(y) // 50)
    sums = np.cumsum(np.insert(y, 0, 0.0))
    starts = np.maximum(np.arange(len(y)) - width + 1, 0)
    ends = np.arange(len(y)) + 1
    mean: NDArray[np.float64] = (sums[ends] - sums[starts]) / (ends - starts)
    return mean
