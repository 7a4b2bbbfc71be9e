"""Which digits a net confuses, and why: `python -m experiments.confusion`."""

import argparse
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments import confusion_pictures, mnist
from experiments.outputs import Outputs, parser
from experiments.pairs import Classes, Seen, confused_pairs, explain, look
from experiments.runs import RunError, check_positive, run_main
from models.lenet import LeNet
from models.load import load_lenet

BINS = 15  # of confidence, equally wide: Guo et al. 2017, "On calibration of modern neural networks"


def wilson(right: int, count: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """Give the interval in which a rate lies with 95 % confidence, `right` of `count` having been seen.

    Notes
    -----
    Source: Wilson 1927. Unlike the normal approximation it is right near 0 and 1, where these rates are.
    """
    if count == 0:
        return 0.0, 1.0
    rate = right / count
    middle = (rate + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * np.sqrt(rate * (1 - rate) / count + (z / (2 * count)) ** 2)
    # At 0 and 1 the ends are 0 and 1 exactly; rounding must not say otherwise.
    return (0.0 if right == 0 else float(middle - half)), (1.0 if right == count else float(middle + half))


def confusion_matrix(labels: NDArray[np.integer], guesses: NDArray[np.integer]) -> NDArray[np.int_]:
    """Count digits by what they are (rows) and what they were read as (columns), (10, 10)."""
    matrix = np.zeros((10, 10), np.int_)
    np.add.at(matrix, (labels, guesses), 1)
    return matrix


def rate(right: int, count: int) -> dict[str, Any]:
    """Give a share of digits with its interval."""
    low, high = wilson(right, count)
    return {"right": right, "count": count, "accuracy": right / count if count else None, "low": low, "high": high}


def reliability(confidence: NDArray[np.floating], right: NDArray[np.bool_]) -> dict[str, Any]:
    """Compare confidence with accuracy, in BINS bins of confidence, each (low, high].

    Returns
    -------
    dict : "bins", those with digits in them, and "expected_calibration_error", the mean over all digits of the distance
        between their bin's accuracy and mean confidence
    """
    which = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    bins, error = [], 0.0
    for k in range(BINS):
        inside = which == k
        if inside.any():
            count, mean = int(inside.sum()), float(confidence[inside].mean())
            bins.append({"from": k / BINS, "to": (k + 1) / BINS, "confidence": mean, **rate(int(right[inside].sum()), count)})
            error += count * abs(bins[-1]["accuracy"] - mean)
    return {"bins": bins, "expected_calibration_error": error / len(confidence), "mean_confidence": float(confidence.mean())}


def analyse(seen: Seen, classes: Classes, pairs: int) -> dict[str, Any]:
    """Give all figures, for confusion.json."""
    labels, guesses = seen.digits.labels, seen.probs.argmax(axis=1)
    matrix = confusion_matrix(labels, guesses)
    right = labels == guesses
    return {
        "overall": rate(int(right.sum()), len(labels)),
        "matrix": matrix.tolist(),
        "by_class": [{"digit": k, **rate(int(matrix[k, k]), int(matrix[k].sum()))} for k in range(10)],
        "reliability": reliability(seen.probs.max(axis=1), right),
        "pairs": [explain(a, b, seen, classes) for a, b in confused_pairs(matrix, pairs)],
    }


def write(
    files: Outputs, model: LeNet, train: mnist.Digits, test: mnist.Digits, pairs: int = 2, with_reasons: bool = True
) -> dict[str, Any]:
    """Analyse a net and write confusion.json, confusion.png, calibration.png and pair-1.png, pair-2.png, ...

    The reasons are in confusion.json in any case, and below the pairs' pictures where `with_reasons`.
    """
    missing = sorted(set(range(10)) - set(train.labels.tolist()))
    if missing:
        raise RunError(f"needs training images of every digit, but has none of {missing}; use more of them.")
    seen, classes = look(model, test), Classes(look(model, train))
    found = analyse(seen, classes, pairs)
    files.json("confusion.json", found)
    files.figure("confusion.png", confusion_pictures.draw_matrix(np.array(found["matrix"])))
    files.figure("calibration.png", confusion_pictures.draw_calibration(found))
    files.instead_of(r"pair-[1-9][0-9]*\.png")
    for i, pair in enumerate(found["pairs"], 1):
        files.figure(f"pair-{i}.png", confusion_pictures.draw_pair(pair, seen, classes, with_reasons))
    return found


def words(found: dict[str, Any]) -> str:
    """Give the figures in a few lines."""
    overall, calibration = found["overall"], found["reliability"]
    interval = f"95 % interval {overall['low']:.2%} to {overall['high']:.2%}"
    error = f"expected calibration error {calibration['expected_calibration_error']:.2%} ({BINS} bins)"
    lines = [
        f"{overall['right']:,} of {overall['count']:,} right: {overall['accuracy']:.2%} ({interval})",
        f"mean confidence {calibration['mean_confidence']:.2%}, {error}",
    ]
    for pair in found["pairs"]:
        counts = [f"{one['true']} read as {one['guess']}: {one['count']} of {one['of']:,}" for one in pair["directions"]]
        lines += ["", f"{pair['pair'][0]} and {pair['pair'][1]} ({'; '.join(counts)})", pair["reason"]]
    if not found["pairs"]:
        lines.append("No digit was read wrongly, so there is no pair to explain.")
    return "\n".join(lines)


def run(options: argparse.Namespace) -> None:
    """Load, analyse, print and write."""
    check_positive(options, "pairs", "train_size")
    model = load_lenet(options.weights)
    train, test = mnist.load(options.data_dir)
    if (options.train_size or 0) > len(train.labels):
        raise RunError(f"--train-size: there are {len(train.labels):,} training images, got {options.train_size}.")
    train = train.take(options.train_size)
    if options.dry_run:
        chosen = np.random.default_rng(options.seed).permutation(len(test.labels))[:200]
        train, test = train.take(500), mnist.Digits(test.images[chosen], test.labels[chosen])
    with Outputs(options.out, "confusion") as files:
        print(words(write(files, model, train, test, options.pairs)))


def main(argv: list[str] | None = None) -> int:
    """Command line; gives the exit code."""
    options = parser("confusion", "Draw LeNet's confusion matrix on the test digits, and look for reasons in the data.")
    options.add_argument("--pairs", type=int, default=2, metavar="N", help="explain the N most confused pairs (default: 2)")
    options.add_argument("--train-size", type=int, metavar="N", help="the net learned from the first N training images only")
    options.add_argument("--data-dir", help="folder with the four IDX files of another data set (default: MNIST, included)")
    return run_main("confusion", run, options.parse_args(argv))


if __name__ == "__main__":
    raise SystemExit(main())
