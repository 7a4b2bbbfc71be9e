"""A fuzzing campaign on the whole of LeNet: each parameter's gradient, and the image's, through all layers at once.

    python -m experiments.fuzz_gradients --minutes 5
    python -m experiments.fuzz_gradients --dry-run

Writes a picture of what was covered: for each parameter the directions that were smooth, at a kink or undecided, and how
far the largest error stayed below the allowed one.
"""

import argparse
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models.lenet import LeNet
from tinygrad_lite.errors import GradientError
from tinygrad_lite.gradcheck import Target, check_grad


def main(argv: Sequence[str] | None = None) -> int:
    """Run the campaign; 1 if a gradient is wrong."""
    parser = argparse.ArgumentParser("python -m experiments.fuzz_gradients", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="default %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default %(default)s")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/fuzz_gradients"), help="folder for the picture, default %(default)s"
    )
    parser.add_argument("--dry-run", action="store_true", help="one image, one direction for each parameter, no picture")
    args = parser.parse_args(argv)
    end = time.monotonic() + 60 * args.minutes
    kinds: dict[str, Counter[str]] = {}
    excess: dict[str, float] = {}
    cases = 0
    while not cases or (not args.dry_run and time.monotonic() < end):
        rng = np.random.default_rng(args.seed + cases)
        model = LeNet(rng=rng)
        image = (rng.random((2, 1, 28, 28)) * rng.choice((0.0, 1.0), (2, 1, 28, 28))).astype(np.float32)
        if cases % 2:  # a background, as a digit has: ties in every pooling window there
            image[:, :, :6], image[:, :, 22:], image[..., :6], image[..., 22:] = 0.0, 0.0, 0.0, 0.0
        for name in Target(model, (image,)).names:
            try:
                report = check_grad(model, image, wrt=[name], probes=1 if args.dry_run else 2,
                                    seed=args.seed + cases, full=False,
                                    properties=["value"])  # fmt: skip
            except GradientError as error:
                print(error)
                return 1
            kinds.setdefault(name, Counter()).update(report.kinds)
            excess[name] = max(excess.get(name, 0.0), report.excess)
        cases += 1
    print(f"{'argument':16} {'smooth':>7} {'kink':>6} {'undecided':>9} {'largest error / allowed':>24}")
    for name, count in kinds.items():
        undecided = sum(count.values()) - count["smooth"] - count["kink"]
        print(f"{name:16} {count['smooth']:7} {count['kink']:6} {undecided:9} {excess[name]:24.2g}")
    print(f"{cases} models and pairs of images, seed {args.seed}: no wrong gradient")
    if not args.dry_run:
        args.out.mkdir(parents=True, exist_ok=True)
        print(f"picture: {draw(kinds, excess, args.out / 'coverage.png')}")
    return 0


def draw(kinds: dict[str, Counter[str]], excess: dict[str, float], path: Path) -> Path:
    """Draw what was covered, one row for each argument."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = list(kinds)
    fig, (left, right) = plt.subplots(1, 2, figsize=(9, 0.4 * len(names) + 1.5), sharey=True, layout="constrained")
    start = np.zeros(len(names))
    groups = {"smooth": ("smooth",), "kink": ("kink",), "undecided": ("jump", "edge", "unresolved")}
    for label, parts in groups.items():
        width = np.array([sum(kinds[name][part] for part in parts) for name in names], float)
        left.barh(names, width, left=start, label=label)
        start += width
    left.set_xlabel("directions checked, by what the function does there")
    left.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False)
    left.invert_yaxis()
    right.barh(names, [max(excess[name], 1e-6) for name in names], color="gray")
    right.axvline(1, color="black", linestyle="--")
    right.set_xscale("log")
    right.set_xlabel("largest error / allowed error (fails beyond the line)")
    fig.savefig(path, dpi=120)
    plt.close(fig)
    return path


if __name__ == "__main__":
    raise SystemExit(main())
