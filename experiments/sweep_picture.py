"""Draw what a sweep found: the errors of its variants."""

import textwrap
from pathlib import Path
from typing import Any

from experiments.outputs import plt
from experiments.texts import as_drawn

WIDE = 34  # letters of a variant in a line


def draw(path: Path, rows: list[dict[str, Any]], published: dict[str, float], by_size: bool, where: str) -> None:
    """Draw the errors, each seed a dot, with mean and standard deviation: in rows, or over the size of the training set."""
    names = [textwrap.fill(as_drawn(row["variant"]).replace(",", ", "), WIDE) for row in rows]
    heights = [1.0 + 0.45 * name.count("\n") for name in names]  # of the rows, one line being 1
    height = (4.5 if by_size else 1.4 + 0.4 * sum(heights)) + 0.2 * (2 + len(published))  # a line of the legend each
    figure, axes = plt.subplots(figsize=(8, height), layout="constrained")
    means = [100 - row["test_accuracy"]["mean"] for row in rows]
    spreads = [row["test_accuracy"]["std"] or 0.0 for row in rows]
    several = any(row["test_accuracy"]["std"] is not None for row in rows)
    places = [row["train_size"] if by_size else -sum(heights[:i]) - heights[i] / 2 for i, row in enumerate(rows)]
    bar = {
        "fmt": "o-" if by_size else "o",
        "capsize": 4,
        "color": "tab:blue",
        "zorder": 3,
        "label": "mean and standard deviation" if several else "one seed",
    }
    if by_size:
        line = sorted(zip(places, means, spreads, strict=True))
        axes.errorbar([x for x, *_ in line], [y for _, y, _ in line], yerr=[spread for *_, spread in line], **bar)
        for k, (x, y, _) in enumerate(line):
            lower = places.count(x) > 1 and (k == 0 or line[k - 1][0] != x)  # of two of one size, whose labels would meet
            axes.annotate(f"{y:.2f}", (x, y), xytext=(6, -14 if lower else 6), textcoords="offset points")
    else:
        axes.errorbar(means, places, xerr=spreads, **bar)
    for i, (place, row) in enumerate(zip(places, rows, strict=True)):
        errors = [100 - value for value in row["test_accuracy"]["values"]]
        spots = ([place] * len(errors), errors) if by_size else (errors, [place] * len(errors))
        axes.plot(*spots, ".", color="tab:gray", markersize=5, label="one seed" if several and not i else None)
    for i, (name, error) in enumerate(published.items()):
        axis_line = axes.axhline if by_size else axes.axvline
        axis_line(error, color=f"C{i + 1}", linestyle="--", linewidth=1, label=f"{as_drawn(name)}: {error:g} %")
    if by_size:
        axes.set(xscale="log", yscale="log", xlabel="training images", ylabel=f"error (% of {where})")
        axes.margins(x=0.08)
        axes.set_xticks(places, [f"{place:,}" for place in places])
        axes.xaxis.set_minor_formatter("")
        axes.yaxis.set_major_formatter("{x:g}")
        low, high = axes.get_ylim()
        sparse = high > 10 * low  # not all nine of a decade then: they would lie on each other
        axes.yaxis.set_minor_formatter(lambda y, _: "" if sparse and f"{y:e}"[0] not in "25" else f"{y:g}")
    else:
        axes.set_yticks(places, names)
        axes.set_ylim(-sum(heights), 0)
        axes.set_xlabel(f"error (% of {where})")
    axes.grid(alpha=0.3, which="both")
    figure.legend(fontsize=8, loc="outside lower center")
    figure.suptitle("LeNet, 431,080 parameters: the last epoch", fontsize=11)
    figure.savefig(path)
    plt.close(figure)
