"""A fuzzing campaign on the whole of LeNet: each parameter's gradient, and the image's, through all layers at once.

    python -m experiments.fuzz_gradients --minutes 5
    python -m experiments.fuzz_gradients --dry-run

Writes a picture of what was covered: for each parameter the directions that were smooth, at a kink or undecided, and how
far the largest error stayed below the allowed one.
"""

import argparse
import time
from collections import Counter

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from experiments.outputs import Outputs, parser
from experiments.runs import RunError, run_main
from models.lenet import LeNet
from tinygrad_lite.gradcheck import Target, check_grad


def run(options: argparse.Namespace) -> None:
    """Check one model and pair of images after the other; print what was covered and draw it.

    Raises
    ------
    GradientError : a gradient is wrong.
    """
    if not options.minutes > 0:
        raise RunError(f"--minutes: must be above 0, got {options.minutes}.")
    with Outputs(options.out, "fuzz_gradients") as files:
        end = time.monotonic() + 60 * options.minutes
        kinds: dict[str, Counter[str]] = {}
        excess: dict[str, float] = {}
        cases = noted = 0
        while not cases or (not options.dry_run and time.monotonic() < end):
            seed = options.seed + cases
            rng = np.random.default_rng(seed)
            model = LeNet(rng=rng)
            image = (rng.random((2, 1, 28, 28)) * rng.choice((0.0, 1.0), (2, 1, 28, 28))).astype(np.float32)
            if cases % 2:  # a background, as a digit has: ties in every pooling window there
                image[:, :, :6], image[:, :, 22:], image[..., :6], image[..., 22:] = 0.0, 0.0, 0.0, 0.0
            probes = 1 if options.dry_run else 2
            for name in Target(model, (image,)).names:
                report = check_grad(model, image, wrt=[name], probes=probes, seed=seed, full=False, properties=["value"])
                kinds.setdefault(name, Counter()).update(report.kinds)
                excess[name] = max(excess.get(name, 0.0), report.excess)
                noted += len(report.notes)
            cases += 1
        print(f"{'argument':16} {'smooth':>7} {'kink':>6} {'undecided':>9} {'largest error / allowed':>24}")
        for name, count in kinds.items():
            undecided = sum(count.values()) - count["smooth"] - count["kink"]
            print(f"{name:16} {count['smooth']:7} {count['kink']:6} {undecided:9} {excess[name]:24.2g}")
        print(f"{cases} model{'s' if cases > 1 else ''}, a pair of images each, from seed {options.seed}: no wrong gradient")
        if noted:
            print(f"At {noted} of the kinks the gradient is no subgradient, which a composition need not give.")
        files.figure("coverage.png", draw(kinds, excess))


def draw(kinds: dict[str, Counter[str]], excess: dict[str, float]) -> Figure:
    """Draw what was covered, one row for each argument."""
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
    right.barh(names, [excess[name] for name in names], color="gray")
    right.axvline(1, color="black", linestyle="--")
    right.set_xscale("log")
    right.set_xlim(left=10 ** np.floor(np.log10(min([1e-6, *(size for size in excess.values() if size)]))))
    right.set_xlabel("largest error / allowed error (fails beyond the line)")
    return fig


def main(argv: list[str] | None = None) -> int:
    """Command line; 1 if a gradient is wrong."""
    options = parser("fuzz_gradients", __doc__.split("\n")[0], weights=False)
    options.add_argument("--minutes", type=float, default=5.0, help="default %(default)s")
    return run_main("fuzz_gradients", run, options.parse_args(argv))


if __name__ == "__main__":
    raise SystemExit(main())
