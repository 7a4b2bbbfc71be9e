"""What the convolutions make of a digit: `python -m experiments.feature_maps`, of a test digit or of `--image FILE`."""

import argparse
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from experiments import mnist
from experiments.outputs import Outputs, parser
from experiments.runs import RunError, run_main
from experiments.texts import as_drawn
from experiments.training import as_input
from models.lenet import LeNet
from models.load import load_ink, load_lenet, load_pairs
from tinygrad_lite import no_grad

Floats = NDArray[np.floating]
GAP = 1  # pixels between the maps of a mosaic


def read_image(path: Path, model: LeNet) -> tuple[NDArray[np.uint8], str]:
    """Bring an image file to what the net sees, (28, 28) with light ink on black, and say what was done."""
    from experiments.reader.load import load  # needs OpenCV, which test digits do not

    picture = load(path)[0]
    name = path.name.encode(errors="backslashreplace").decode()  # what is no UTF-8 can be neither drawn nor printed
    if picture.shape[:2] != (28, 28):
        return _read_photograph(picture, path, model), f"{name}, as the reader normalised it"
    pixels = np.asarray(Image.fromarray(picture).convert("L"))
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    return (255 - pixels, f"{name}, inverted") if np.median(border) > 127 else (pixels, name)


def _read_photograph(picture: NDArray[np.uint8], path: Path, model: LeNet) -> NDArray[np.uint8]:
    """Find the one digit on a larger picture, as experiments.read --single does."""
    from experiments.reader.page import Reader

    found = Reader(model, load_pairs(), load_ink()).read(picture, single=True).digits
    if not found:
        raise RunError(f"--image: found no digit on {path}; give a picture of one digit.")
    return np.round(255 * found[0].image).astype(np.uint8)


def maps(model: LeNet, image: NDArray[np.uint8]) -> dict[str, Floats]:
    """Give every layer's output for one image (28, 28): maps (c, h, w), and "probs" (10,)."""
    with no_grad():
        steps = model.activations(as_input(image[None]))
        result: dict[str, Floats] = {name: step.numpy()[0] for name, step in steps.items()}
        result["probs"] = steps["fc2"].double().softmax(1).numpy()[0]
    return result


def mosaic(tiles: Floats, columns: int) -> Floats:
    """Lay maps (count, h, w) out in rows of `columns`, with gaps of NaN between them."""
    count, h, w = tiles.shape
    rows = -(-count // columns)
    sheet = np.full((rows * (h + GAP) - GAP, columns * (w + GAP) - GAP), np.nan)
    for i, tile in enumerate(tiles):
        top, left = i // columns * (h + GAP), i % columns * (w + GAP)
        sheet[top : top + h, left : left + w] = tile
    return sheet


def draw_layer(number: int, model: LeNet, found: dict[str, Floats], image: NDArray[np.uint8], title: str) -> Figure:
    """Draw the input, a convolution's filters, its maps and their ReLU. Maps and ReLU share one signed colour scale."""
    kernels = (model.conv1, model.conv2)[number - 1].weight.data
    before, after = found[f"conv{number}"], found[f"relu{number}"]
    name_after = f"ReLU of conv{number}" if model.relu_after_conv else f"conv{number} again, as this net has no ReLU here"
    limit, kernel_limit = float(np.abs(before).max()), float(np.abs(kernels).max())
    count, c_in = kernels.shape[:2]
    # 50 filters of 20 kernels each: one column a filter, one row an input map.
    filters = kernels[:, 0] if c_in == 1 else kernels.transpose(1, 0, 2, 3).reshape(-1, *kernels.shape[2:])
    figure = plt.figure(figsize=(14, (8.6, 9.4)[number - 1]), layout="constrained")
    heights, columns = (([1, 1, 1], 10), ([2.3, 1, 1], 17))[number - 1]
    grid = figure.add_gridspec(3, 2, width_ratios=[1, 5.2], height_ratios=heights)
    axes = figure.add_subplot(grid[0, 0])
    axes.imshow(image, cmap="gray_r", vmin=0, vmax=255)
    axes.set_title("input", fontsize=11)
    axes.set(xticks=[], yticks=[])
    bars = figure.add_subplot(grid[1, 0])
    best = int(found["probs"].argmax())
    bars.barh(range(10), found["probs"], color=["tab:orange" if k == best else "0.6" for k in range(10)])
    bars.set(yticks=range(10), xlim=(0, 1), ylim=(9.6, -0.6))
    bars.set_title("probabilities", fontsize=11)

    top = figure.add_subplot(grid[0, 1])
    if c_in == 1:
        text = f"{count} filters, {kernels.shape[2]}x{kernels.shape[3]}"
        image_of_filters = _sheet(top, filters, 10, kernel_limit, text)
    else:
        text = (
            f"{count} filters, one a column; each has a {kernels.shape[2]}x{kernels.shape[3]} kernel for each of {c_in} inputs"
        )
        image_of_filters = _sheet(top, filters, count, kernel_limit, text, numbers=False)
        step = kernels.shape[2] + GAP
        top.set_xticks([step * k + 2 for k in range(4, count, 5)], [str(k + 1) for k in range(4, count, 5)])
        top.set_yticks([step * k + 2 for k in range(4, c_in, 5)], [str(k + 1) for k in range(4, c_in, 5)])
    figure.colorbar(image_of_filters, ax=top, shrink=0.8, aspect=14, pad=0.01)
    for row, (maps_, text) in enumerate(((before, f"conv{number}"), (after, name_after)), 1):
        axes = figure.add_subplot(grid[row, 1])
        silent = int((maps_ == 0).all(axis=(1, 2)).sum())
        note = f"{text}: {count} maps, {maps_.shape[1]}x{maps_.shape[2]}, one colour scale for both"
        drawn = _sheet(axes, maps_, columns, limit, note + (f"; {silent} of them all 0" if row == 2 and silent else ""))
        figure.colorbar(drawn, ax=axes, shrink=0.8, aspect=14, pad=0.01)
    figure.suptitle(as_drawn(title), fontsize=13)
    return figure


def _sheet(axes: Axes, tiles: Floats, columns: int, limit: float, title: str, numbers: bool = True) -> Any:
    cmap = plt.get_cmap("RdBu_r").with_extremes(bad="0.7")
    drawn = axes.imshow(mosaic(tiles, columns), cmap=cmap, vmin=-limit, vmax=limit, interpolation="nearest")
    axes.set_title(title, fontsize=11)
    axes.set(xticks=[], yticks=[])
    axes.set_frame_on(False)
    h, w = tiles.shape[1:]
    if numbers:
        for i in range(len(tiles)):
            place = (i % columns * (w + GAP) - 0.2, i // columns * (h + GAP) - 0.4)
            axes.text(*place, str(i + 1), fontsize=7, color="0.25", va="top", ha="left")
    return drawn


def write(files: Outputs, model: LeNet, image: NDArray[np.uint8], name: str) -> dict[str, Any]:
    """Write feature_maps_1.png, feature_maps_2.png and feature_maps.json for one image (28, 28)."""
    with np.errstate(over="ignore", invalid="ignore"):  # it is said below
        found = maps(model, image)
    for step, values in found.items():
        if not np.isfinite(values).all():
            raise RunError(
                f"{step} of this net holds NaN or infinity, so there is nothing to draw; its weights are finite, "
                f"and as large as {max(float(np.abs(p.data).max()) for p in model.parameters()):.3g}."
            )
    order = np.argsort(-found["probs"], kind="stable")
    answer = f"read as {order[0]} ({found['probs'][order[0]]:.1%}), second guess {order[1]} ({found['probs'][order[1]]:.1%})"
    layers = {}
    for number in (1, 2):
        files.figure(f"feature_maps_{number}.png", draw_layer(number, model, found, image, f"{name}: {answer}"))
        before, after = found[f"conv{number}"], found[f"relu{number}"]
        layers[f"conv{number}"] = {
            "shape": before.shape,
            "colour_scale": [-float(np.abs(before).max()), float(np.abs(before).max())],
            "minimum": before.min(axis=(1, 2)).tolist(),
            "maximum": before.max(axis=(1, 2)).tolist(),
            "share_above_0": (after > 0).mean(axis=(1, 2)).tolist(),
        }
    figures = {"input": name, "probabilities": found["probs"].tolist(), "layers": layers}
    files.json("feature_maps.json", figures)
    return {**figures, "answer": answer}


def run(options: argparse.Namespace) -> None:
    """Load, draw and write."""
    model = load_lenet(options.weights)
    if options.image is not None:
        image, name = read_image(Path(options.image), model)
    else:
        test = mnist.load()[1]
        index = options.index
        if index is None:
            index = int(np.random.default_rng(options.seed).integers(len(test.labels)))
        if not 0 <= index < len(test.labels):
            raise RunError(f"--index: must be between 0 and {len(test.labels) - 1}, got {index}.")
        image, name = test.images[index], f"test digit {index}, a {test.labels[index]}"
    with Outputs(options.out, "feature_maps") as files:
        print(f"{name}: {write(files, model, image, name)['answer']}")


def main(argv: list[str] | None = None) -> int:
    """Command line; gives the exit code."""
    options = parser("feature_maps", "Draw an input beside the filters and the maps of both convolutions and their ReLUs.")
    source = options.add_mutually_exclusive_group()
    source.add_argument("--index", type=int, metavar="N", help="which test digit, from 0 (default: drawn with --seed)")
    source.add_argument("--image", metavar="FILE", help="an image file with one digit, instead of a test digit")
    return run_main("feature_maps", run, options.parse_args(argv))


if __name__ == "__main__":
    raise SystemExit(main())
