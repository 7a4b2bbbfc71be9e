"""Draw a run's loss and accuracy over its steps."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

from experiments.runs import read_metrics


def draw_curves(folder: Path, title: str) -> Path:
    """Write curves.png: training loss, and running means of loss and accuracy, and the test set's as dots."""
    lines = read_metrics(folder)
    steps = [line for line in lines if "loss" in line]
    tests = [line for line in lines if "test_loss" in line]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for axes, key, factor in ((left, "loss", 1.0), (right, "accuracy", 100.0)):
        x = np.array([line["step"] for line in steps])
        y = factor * np.array([line[key] for line in steps])
        if key == "loss":  # the accuracies of single batches are a few steps apart, and hide the rest
            axes.plot(x, y, color="tab:blue", alpha=0.2, linewidth=0.6, label="training batches")
        axes.plot(x, _running_mean(y), color="tab:blue", label="training batches, running mean")
        test_x = [line["step"] for line in tests]
        test_y = [factor * line[f"test_{key}"] for line in tests]
        axes.plot(test_x, test_y, "o-", color="tab:orange", markersize=4, label=f"test set, last {test_y[-1]:.4g}")
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
        axes.legend(loc="best")
    left.set_yscale("log")
    left.set_ylabel("loss (mean cross-entropy, log scale)")
    right.set_ylabel("accuracy (%)")
    right.set_ylim(90 if all(line["test_accuracy"] > 0.92 for line in tests) else 0, 100.3)
    figure.suptitle(title)
    path = folder / "curves.png"
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path


def _running_mean(y: NDArray[np.float64]) -> NDArray[np.float64]:
    width = max(1, len(y) // 50)
    sums = np.cumsum(np.insert(y, 0, 0.0))
    starts = np.maximum(np.arange(len(y)) - width + 1, 0)
    ends = np.arange(len(y)) + 1
    mean: NDArray[np.float64] = (sums[ends] - sums[starts]) / (ends - starts)
    return mean
