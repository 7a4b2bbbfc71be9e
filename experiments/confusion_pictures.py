"""The pictures of the confusion experiment: matrix, calibration, and the digits of a pair."""

import textwrap
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from experiments.pairs import Classes, Seen

SHOWN = 8  # digits of a pair that are drawn


def draw_matrix(matrix: NDArray[np.int_]) -> Figure:
    """Draw counts and row per cent. The diagonal and the errors have a colour scale each: one would hide the errors."""
    figure, panels = plt.subplots(1, 2, figsize=(13.5, 7.6), layout="constrained")
    rows = matrix.sum(axis=1, keepdims=True)
    per_cent = 100 * matrix / np.maximum(rows, 1)
    for axes, values, title in ((panels[0], matrix, "counts"), (panels[1], per_cent, "per cent of the row")):
        off = np.where(np.eye(10, dtype=bool), np.nan, values.astype(float))
        on = np.where(np.eye(10, dtype=bool), values.astype(float), np.nan)
        axes.imshow(np.sqrt(off), cmap="Oranges", vmin=0, vmax=1.3 * max(np.sqrt(np.nanmax(off)), 0.1))
        axes.imshow(on, cmap="Blues", vmin=2 * np.nanmin(on) - 1.5 * np.nanmax(on) - 1, vmax=1.5 * np.nanmax(on) + 1)
        for i, j in np.ndindex(10, 10):
            value = float(values[i, j])
            text = "·" if value == 0 else _number(value, title)
            weight, colour = ("bold", "black") if i == j else ("normal", "0.65" if value == 0 else "black")
            axes.text(j, i, text, ha="center", va="center", fontsize=10, weight=weight, color=colour)
        axes.set_xticks(range(10))
        axes.set_yticks(range(10))
        axes.set_xlabel("read as")
        axes.set_ylabel("is a")
        axes.set_title(title)
        axes.set_xticks(np.arange(-0.5, 10), minor=True)
        axes.set_yticks(np.arange(-0.5, 10), minor=True)
        axes.grid(which="minor", color="white", linewidth=1.5)
        axes.tick_params(which="both", length=0)
    errors = int(matrix.sum() - np.trace(matrix))
    figure.suptitle(
        f"{errors:,} of {int(matrix.sum()):,} digits read wrongly  (blue: right; orange: wrong; each its own scale)"
    )
    return figure


def _number(value: float, title: str) -> str:
    if title == "counts":
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 1 else f"{value:.2f}".removeprefix("0")


def draw_calibration(found: dict[str, Any]) -> Figure:
    """Draw accuracy by class with intervals, and accuracy over confidence above the number of digits."""
    figure = plt.figure(figsize=(13, 5.2), layout="constrained")
    grid = figure.add_gridspec(2, 2, height_ratios=[3, 1])
    axes = figure.add_subplot(grid[:, 0])
    present = [one for one in found["by_class"] if one["count"]]
    overall = found["overall"]
    for one in present:
        axes.plot([100 * one["low"], 100 * one["high"]], [one["digit"]] * 2, color="tab:blue", linewidth=2)
        axes.plot(100 * one["accuracy"], one["digit"], "o", color="tab:blue", markersize=8)
        axes.annotate(
            f"{100 * one['accuracy']:.1f}", (100 * one["accuracy"], one["digit"]), xytext=(0, 7), textcoords="offset points",
            ha="center", fontsize=9, bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5}, zorder=3,
        )  # fmt: skip
    axes.axvline(100 * overall["accuracy"], color="black", linewidth=1, linestyle="--")
    axes.set_yticks(range(10))
    axes.set_ylim(9.5, -0.7)
    axes.set_xlabel(f"right, %  (95 % Wilson intervals; dashed: all digits, {100 * overall['accuracy']:.2f})")
    axes.set_ylabel("digit")
    axes.set_title("accuracy by class")
    axes.grid(axis="x", alpha=0.3)

    calibration = found["reliability"]
    bins = calibration["bins"]
    axes = figure.add_subplot(grid[0, 1])
    axes.plot([0, 1], [0, 1], color="black", linewidth=1, linestyle="--", label="confidence = accuracy")
    x, y = [one["confidence"] for one in bins], [one["accuracy"] for one in bins]
    axes.vlines(x, [one["low"] for one in bins], [one["high"] for one in bins], color="tab:orange", linewidth=1.5)
    axes.plot(x, y, "o-", color="tab:orange", label="the net, with 95 % intervals")
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.03, 1.03), xticklabels=[])
    axes.set_ylabel("right")
    axes.set_title(f"reliability: expected calibration error {calibration['expected_calibration_error']:.2%}")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    below = figure.add_subplot(grid[1, 1])
    width = bins[0]["to"] - bins[0]["from"]
    below.bar([one["from"] for one in bins], [one["count"] for one in bins], width=0.92 * width, align="edge", color="0.6")
    for one in bins:
        below.annotate(
            f"{one['count']:,}", (one["from"] + width / 2, one["count"]), xytext=(0, 2), textcoords="offset points",
            ha="center", fontsize=8,
        )  # fmt: skip
    below.set(xlim=(-0.02, 1.02), yscale="log", ylim=(0.7, 12 * max(one["count"] for one in bins)))
    below.set_xlabel("confidence (probability of the first guess)")
    below.set_ylabel("digits")
    return figure


def draw_pair(pair: dict[str, Any], seen: Seen, classes: Classes, with_reason: bool = True) -> Figure:
    """Draw what the classes look like, the digits read wrongly with their nearest training images, and the reason in words."""
    a, b = pair["pair"]
    directions, examples = pair["directions"], pair["examples"][:SHOWN]
    reason = "\n".join(textwrap.fill(paragraph, 170) for paragraph in pair["reason"].split("\n"))
    lines = reason.count("\n") + 1 if with_reason else 0
    height = 7.0 + 0.19 * lines  # inches
    figure = plt.figure(figsize=(14, height))
    counts = "; ".join(f"{one['true']} read as {one['guess']}: {one['count']} of {one['of']:,}" for one in directions)
    title = f"{a} and {b}   ({counts}"
    title += f"; the first {SHOWN} are shown)" if len(pair["examples"]) > SHOWN else ")"
    figure.text(0.012, 1 - 0.15 / height, title, fontsize=14, weight="bold", va="top")
    if with_reason:
        figure.text(0.012, 0.12 / height, reason, fontsize=10, va="bottom")

    bottom, top = (0.35 + 0.19 * lines) / height, 1 - 0.85 / height
    left = figure.add_gridspec(3, 2, left=0.012, right=0.225, bottom=bottom, top=top, wspace=0.08, hspace=0.32)
    for i, k in enumerate((a, b)):
        _image(figure.add_subplot(left[0, i]), classes.means[k], f"mean {k}\n{classes.counts[k]:,} training images")
    way = classes.means[b] - classes.means[a]
    _signed(figure.add_subplot(left[1, 0]), way, f"mean {b} - mean {a}\n(red more, blue less)")
    _signed(figure.add_subplot(left[1, 1]), -way, f"mean {a} - mean {b}\n(red more, blue less)")
    guesses = seen.probs.argmax(axis=1)
    for one in directions:
        wrong = (seen.digits.labels == one["true"]) & (guesses == one["guess"])
        axes = figure.add_subplot(left[2, 0 if one["true"] == a else 1])
        change = seen.digits.images[wrong].mean(axis=0) / 255 - classes.means[one["true"]]
        _signed(axes, change, f"{one['true']}s read as {one['guess']}\n- mean {one['true']}")
        for stroke in one["strokes"]:  # the places that the words speak of
            corner = (stroke["column"] - 2.5, stroke["row"] - 2.5)
            axes.add_patch(Rectangle(corner, 5, 5, fill=False, edgecolor="black", linewidth=1.3))

    right = figure.add_gridspec(3, SHOWN, left=0.35, right=0.992, bottom=bottom, top=top, wspace=0.1, hspace=0.32)
    train = classes.train.digits.images
    rows = (
        "the digit,\nand the net's\ntwo best guesses",
        "nearest training\nimage of\nwhat it is",
        "nearest training\nimage of what it\nwas read as",
    )
    for row, text in enumerate(rows):
        box = right[row, 0].get_position(figure)
        figure.text(0.342, (box.y0 + box.y1) / 2, text, ha="right", va="center", fontsize=10)
    for i, one in enumerate(examples):
        own, other = one["nearest_true"], one["nearest_guess"]
        near = own["distance"] < other["distance"]
        caption = (
            f"is a {one['true']}\n{one['guess']}: {one['confidence']:.0%},  {one['second']}: {one['second_confidence']:.0%}"
        )
        _image(figure.add_subplot(right[0, i]), seen.digits.images[one["index"]], caption)
        for row, digit, found, bold in ((1, one["true"], own, near), (2, one["guess"], other, not near)):
            caption = f"a {digit}\ndistance {found['distance']:.1f}"
            _image(figure.add_subplot(right[row, i]), train[found["index"]], caption, bold)
    return figure


def _image(axes: Axes, image: NDArray[Any], title: str, bold: bool = False) -> None:
    axes.imshow(image, cmap="gray_r")
    axes.set_title(title, fontsize=9, weight="bold" if bold else "normal")
    axes.set(xticks=[], yticks=[])


def _signed(axes: Axes, image: NDArray[Any], title: str) -> None:
    axes.imshow(image, cmap="RdBu_r", vmin=-1, vmax=1)
    axes.set_title(title, fontsize=9)
    axes.set(xticks=[], yticks=[])
