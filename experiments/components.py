"""See each layer at work, and check it: `python -m experiments.components`.

Two batches of digits go through the inner product, pooling, convolution and ReLU, the parts that the origin built first. Every
output is compared with plain loops, every gradient with numeric differentiation.
"""

import argparse
from collections.abc import Callable
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from experiments import mnist, naive
from experiments.outputs import Outputs, parser
from experiments.runs import run_main
from experiments.training import as_input
from tinygrad_lite import GradientError
from tinygrad_lite.ops import activation, conv, matmul, pool

Array = NDArray[np.floating]

EXAMPLE = (0, 0.5, 0.25, 0, 0, 0, -0.5, 0, 0)  # the origin's column for ReLU
FILTERS = {  # 5x5, each shown in the picture
    "upper edges": np.repeat([-1.0, -1.0, 0.0, 1.0, 1.0], 5).reshape(5, 5) / 10,
    "left edges": np.tile([-1.0, -1.0, 0.0, 1.0, 1.0], (5, 1)) / 10,
    "rising strokes": 0.36 * np.eye(5)[::-1] - 0.072,
}


class Layer(NamedTuple):
    """A rule with the arguments it gets here, and the loops that it must agree with."""

    rule: Callable[..., Any]
    reference: Callable[..., Array]
    weights: tuple[Array, ...] = ()
    static: dict[str, Any] = {}  # noqa: RUF012 (never written to)


def make_layers(train: mnist.Digits) -> dict[str, Layer]:
    """Give the four layers with weights that show something: ten mean digits, and three hand-made filters.

    The inner product with a class's mean image, less half its squared length, is largest for the nearest mean.
    """
    means = np.stack([train.images[train.labels == k].mean(axis=0).ravel() / 255 for k in range(10)])
    bias = -0.5 * (means**2).sum(axis=1)
    kernels = np.stack(list(FILTERS.values()))[:, None]
    return {
        "inner product": Layer(matmul.linear, naive.linear, (means, bias)),
        "pooling": Layer(pool.max_pool2d, naive.max_pool2d, static={"kernel_size": 2}),
        "convolution": Layer(conv.conv2d, naive.conv2d, (kernels, np.array([0.0, 0.0, -0.1]))),
        "ReLU": Layer(activation.relu, naive.relu),
    }


def inputs(images: Array, layers: dict[str, Layer]) -> dict[str, Array]:
    """Give each layer's input for images (n, 1, 28, 28): ReLU's is what the convolution gives."""
    convolution = layers["convolution"]
    weights = [w.astype(images.dtype) for w in convolution.weights]
    return {
        "inner product": images.reshape(len(images), -1),
        "pooling": images,
        "convolution": images,
        "ReLU": convolution.rule(images, *weights)[0],
    }


def check_output(name: str, layer: Layer, x: Array) -> tuple[Array, float]:
    """Compute a layer in single precision and compare it with the loops.

    Returns
    -------
    (output, largest difference)

    Raises
    ------
    GradientError : the difference is larger than rounding explains: 8 units in the last place of the sum of all terms'
        absolute values; pooling and ReLU round nothing and must agree exactly.
    """
    weights = [w.astype(np.float32) for w in layer.weights]
    output = layer.rule(x, *weights, **layer.static)[0]
    difference = np.abs(output - layer.reference(x, *weights, **layer.static))
    allowed: Any = 0.0
    if weights:
        allowed = 8 * np.finfo(np.float32).eps * layer.rule(np.abs(x), *[np.abs(w) for w in weights])[0]
    if not (difference <= allowed).all():
        raise GradientError(
            f"components: {name} differs from plain loops by {difference.max():.3g}, more than rounding explains."
        )
    return output, float(difference.max())


def check_gradients(name: str, layer: Layer, x: Array, rng: np.random.Generator, step: float = 1e-6) -> dict[str, float]:
    """Compare a layer's backward with central differences in double precision, for every number of every argument.

    Returns
    -------
    dict : for "x", "weight", "bias" the largest difference, as a part of the largest gradient

    Raises
    ------
    GradientError : a difference exceeds 1e-6.
    """
    arguments = [x.astype(np.float64), *layer.weights]
    output, vjp = layer.rule(*arguments, **layer.static)
    cotangent = rng.standard_normal(output.shape)
    differences = {}
    for which, (key, gradient) in enumerate(zip(("x", "weight", "bias"), vjp(cotangent), strict=False)):
        numeric = np.zeros_like(gradient)
        for place in np.ndindex(numeric.shape):
            sides = []
            for move in (step, -step):
                moved = [a.copy() for a in arguments]
                moved[which][place] += move
                sides.append((cotangent * (layer.rule(*moved, **layer.static)[0] - output)).sum())
            numeric[place] = (sides[0] - sides[1]) / (2 * step)
        differences[key] = float(np.abs(gradient - numeric).max() / np.abs(numeric).max())
        if not differences[key] < 1e-6:
            raise GradientError(
                f"components: the gradient of {name} by {key} differs from numeric differentiation by "
                f"{differences[key]:.3g} of its largest entry."
            )
    return differences


def smooth_point(name: str, x: Array, rng: np.random.Generator) -> Array:
    """Move an input off the places where there is no derivative: equal pixels for pooling, 0 for ReLU."""
    x = x.astype(np.float64)
    if name == "pooling":  # gaps of 4e-6 between equal pixels; all of them together stay below 1/255, a pixel's own step
        return x + 4e-6 * rng.permutation(784).reshape(28, 28)
    return x + np.copysign(1e-3, x) if name == "ReLU" else x


def column(values: Any) -> str:
    """Write numbers as the origin's report does: 0, .5, .25."""
    return ", ".join(f"{value:g}".replace("0.", ".") for value in values)


def draw(digits: mnist.Digits, outputs: dict[str, Array], batch_size: int) -> Figure:
    """Draw for each digit its image and every layer's output in one row, batch under batch."""
    count = len(digits.labels)
    widths = [1, 0.12, 1.9, 0.12, 1, 0.12, 1, 1, 1, 0.12, 1, 1, 1]
    heights = [0.75] + [1.0] * count
    height = 1.25 * sum(heights) + 1.3  # inches
    figure = plt.figure(figsize=(13, height))
    grid = figure.add_gridspec(
        1 + count, len(widths), width_ratios=widths, height_ratios=heights, wspace=0.06, hspace=0.14,
        left=0.055, right=0.985, top=1 - 0.6 / height, bottom=0.7 / height,
    )  # fmt: skip
    limit = float(np.abs(outputs["convolution"]).max())
    low, high = outputs["inner product"].min(), outputs["inner product"].max()
    titles = {0: "input\n28x28", 2: "inner product with\nten mean digits"}
    titles |= {4: "max-pooling 2x2\n14x14", 7: "convolution with the filter above\n24x24", 11: "its ReLU\n24x24"}
    for at, title in titles.items():
        box = grid[0, at].get_position(figure)
        figure.text((box.x0 + box.x1) / 2, 1 - 0.5 / height, title, ha="center", va="bottom", fontsize=11)
    for i, (name, kernel) in enumerate(FILTERS.items()):
        axes = figure.add_subplot(grid[0, 6 + i])
        _signed(axes, kernel, float(np.abs(kernel).max()))
        axes.set_xlabel(name, fontsize=9, labelpad=2)
    for row in range(count):
        first = figure.add_subplot(grid[1 + row, 0])
        _gray(first, digits.images[row])
        first.set_ylabel(f"batch {row // batch_size + 1}\na {digits.labels[row]}", rotation=0, ha="right", va="center")
        scores = outputs["inner product"][row]
        axes = figure.add_subplot(grid[1 + row, 2])
        colours = ["tab:orange" if k == scores.argmax() else "tab:gray" for k in range(10)]
        axes.bar(range(10), scores, color=colours)
        axes.axhline(0, color="black", linewidth=0.6)
        axes.set_xlim(-0.6, 9.6)
        axes.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
        axes.set_xticks(range(10), [str(k) for k in range(10)] if row == count - 1 else [])
        axes.tick_params(axis="y", labelsize=8, pad=1)
        _gray(figure.add_subplot(grid[1 + row, 4]), outputs["pooling"][row, 0])
        for i in range(len(FILTERS)):
            _signed(figure.add_subplot(grid[1 + row, 6 + i]), outputs["convolution"][row, i], limit)
            image = _signed(figure.add_subplot(grid[1 + row, 10 + i]), outputs["ReLU"][row, i], limit)
    bar = figure.add_axes((0.66, 0.33 / height, 0.2, 0.12 / height))
    figure.colorbar(image, cax=bar, orientation="horizontal")
    bar.tick_params(labelsize=8, pad=1)
    figure.text(0.65, 0.39 / height, "convolution and ReLU:", ha="right", va="center", fontsize=9)
    return figure


def _gray(axes: Axes, image: Array) -> None:
    axes.imshow(image, cmap="gray_r")
    axes.set(xticks=[], yticks=[])


def _signed(axes: Axes, image: Array, limit: float) -> Any:
    axes.set(xticks=[], yticks=[])
    return axes.imshow(image, cmap="RdBu_r", vmin=-limit, vmax=limit)


def run(options: argparse.Namespace) -> None:
    """Run the checks, print them, and write the picture and the figures."""
    rng = np.random.default_rng(options.seed)
    train, test = mnist.load()
    batch_size = 1 if options.dry_run else 3
    chosen = rng.choice(len(test.labels), 2 * batch_size, replace=False)
    digits = mnist.Digits(test.images[chosen], test.labels[chosen])
    layers = make_layers(train)
    with Outputs(options.out, "components") as files:
        print(f"ReLU of the column {column(EXAMPLE)}: {column(activation.relu(np.array(EXAMPLE))[0])}")
        print("layer          output of a batch  off plain loops by  gradients off numeric differentiation by")
        figures: dict[str, Any] = {}
        batches: dict[str, list[Array]] = {name: [] for name in layers}
        for start in (0, batch_size):
            given = inputs(as_input(digits.images[start : start + batch_size]).numpy(), layers)
            for name, layer in layers.items():
                output, difference = check_output(name, layer, given[name])
                batches[name].append(output)
                gradients = check_gradients(name, layer, smooth_point(name, given[name][:1], rng), rng)
                figures.setdefault(name, []).append(
                    {"output": output.shape, "difference": difference, "gradient_differences": gradients}
                )
                listed = ", ".join(f"{key} {value:.1e}" for key, value in gradients.items())
                print(f"{name:14} {output.shape!s:18} {difference:<19.1e} {listed}")
        outputs = {name: np.concatenate(parts) for name, parts in batches.items()}
        files.figure("components.png", draw(digits, outputs, batch_size))
        files.json("components.json", {"seed": options.seed, "labels": digits.labels.tolist(), "layers": figures})


def main(argv: list[str] | None = None) -> int:
    """Command line; gives the exit code."""
    options = parser("components", "See each layer's inputs and outputs, and check them and their gradients.", weights=False)
    return run_main("components", run, options.parse_args(argv))


if __name__ == "__main__":
    raise SystemExit(main())
