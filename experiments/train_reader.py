"""Train the weights that read photographs; models/weights/README.md has the commands that made those here.

LeNet on distorted digits of MNIST's training set (`experiments.augment`), PairNet on touching ones (`experiments.touching`),
or InkNet on scraps of pages (`experiments.scraps`), made afresh for every round in processes of their own while the net
trains on the round before.
The last 5,000 training images are kept out: they judge the recipe, and the pages that the reader was tuned on are made of
them. The test set is read once, at the end.
"""

import argparse
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

import tinygrad_lite.functional as F
from experiments import mnist
from experiments.augment import Picker, examples
from experiments.outputs import Outputs
from experiments.reader.nets import evened
from experiments.recipes import weights_and_biases
from experiments.runs import RunError, check_positive, folder_name, run_main
from experiments.scraps import scraps
from experiments.touching import pair_examples
from experiments.training import as_input
from models.ink import InkNet
from models.lenet import LeNet
from models.pair import PairNet
from tinygrad_lite import Tensor, no_grad, optim
from tinygrad_lite.serialize import save

KEPT_OUT = 5_000
CHUNK = 2_000  # examples made by one call of a worker, each with a seed of its own
AVERAGE = 0.999  # of the weights, a step
EDGES = 10.0  # the weight of the squared error of a pair's inner edges beside the cross entropy
INK = 3.0  # the weight of a pixel of ink beside one of paper, of which there are many more
Examples = tuple[NDArray[Any], ...]  # the images, uint8, and what the net shall say of them
Net = LeNet | PairNet | InkNet
NETS: dict[str, tuple[Callable[[np.random.Generator, float], Net], Callable[..., Examples], str]] = {
    # --net -> a new net, its examples, and the name of its files
    "digits": (lambda rng, dropout: LeNet(rng, dropout=dropout), examples, "lenet"),
    "pairs": (lambda rng, dropout: PairNet(rng, dropout=dropout), pair_examples, "pairs"),
    "ink": (lambda rng, _: InkNet(rng), scraps, "ink"),
}


def net_input(images: NDArray[np.uint8]) -> Tensor:
    """Digits and pairs as in any training; scraps of pages (n, h, w, 3) -> (n, 3, h, w), evened out as the reader does."""
    return Tensor(np.stack([evened(image) for image in images])) if images.ndim == 4 else as_input(images)


_picker: Picker  # of a worker, made once by _start


def _start(images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
    global _picker
    cv2.setNumThreads(1)
    _picker = Picker(images, labels)


def _make(net: str, seed: tuple[int, int, int], count: int) -> Examples:
    return NETS[net][1](_picker, count, np.random.default_rng(seed))


def rounds(net: str, digits: mnist.Digits, seed: int, count: int, size: int, workers: int) -> Iterator[Examples]:
    """Yield `count` rounds of `size` fresh examples; the next is made while this one is used."""
    context = get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_start, initargs=tuple(digits)) as pool:

        def order(number: int) -> list[Any]:
            chunks = range(0, size, CHUNK)
            return [pool.submit(_make, net, (seed, number, start), min(CHUNK, size - start)) for start in chunks]

        waiting = order(0)
        for number in range(count):
            made = [job.result() for job in waiting]
            waiting = order(number + 1) if number + 1 < count else []
            yield tuple(np.concatenate(parts) for parts in zip(*made, strict=True))


def loss(net: Net, images: NDArray[np.uint8], targets: NDArray[np.float32], edges: NDArray[np.float32] | None = None) -> Tensor:
    """Return the mean cross entropy of examples, of pairs beside it how far their edges are off; of scraps that of a pixel."""
    out = net(net_input(images))
    if isinstance(net, InkNet):
        ink = targets[:, None] / np.float32(255)
        return F.mean((1 + (INK - 1) * ink) * (F.softplus(out) - ink * out))
    if edges is None:
        return -F.sum(F.log_softmax(out, dim=-1) * targets) / len(images)
    logits, places = out
    off = places - np.nan_to_num(edges)
    unlike = -F.sum(F.log_softmax(logits, dim=-1) * targets)
    return (unlike + EDGES * F.sum(off * off * ~np.isnan(edges))) / len(images)


def outputs(net: Net, images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    """Return what a net gives for images in evaluation: the logits, and of pairs beside them the inner edges."""
    net.eval()
    found = []
    with no_grad():
        for i in range(0, len(images), 500):
            out = net(net_input(images[i : i + 500]))
            found.append([one.numpy() for one in (out if isinstance(out, tuple) else (out,))])
    net.train()
    return [np.concatenate(parts) for parts in zip(*found, strict=True)]


def accuracy(logits: NDArray[np.float32], labels: NDArray[np.integer[Any]]) -> float:
    """Return the share of images read right, of pairs both digits; labels are (n,), of pairs (n, 2)."""
    same = logits.argmax(-1) == labels
    return float(same.reshape(len(same), -1).all(1).mean())


def overlap(logits: NDArray[np.float32], ink: NDArray[np.uint8]) -> float:
    """Return how much of what is ink, or is taken for it, is both: logits (n, 1, h, w), ink (n, h, w) from 0 to 255."""
    taken, there = logits[:, 0] > 0, ink > 127
    return float((taken & there).sum() / max(1, (taken | there).sum()))


@np.errstate(over="ignore", invalid="ignore")  # a loss that is not finite is noticed
def train(options: argparse.Namespace, training: mnist.Digits, kept_out: mnist.Digits) -> tuple[Net, list[dict[str, float]]]:
    """Train by the recipe; return the net with averaged weights, and figures for every round."""
    weights, order = (np.random.default_rng(s) for s in np.random.SeedSequence(options.seed).spawn(2))
    new, make, _ = NETS[options.net]
    net = new(weights, options.dropout)
    steps_a_pass = options.size // options.batch_size
    steps = options.rounds * options.passes * steps_a_pass
    of_weights, biases = weights_and_biases(net)
    groups = [{"params": of_weights}, {"params": biases, "weight_decay": 0.0}]
    optimizer = optim.AdamW(groups, lr=options.lr, weight_decay=options.weight_decay)
    schedule = optim.LRScheduler(optimizer, optim.one_cycle(steps, warmup=0.15))
    average = optim.AveragedModel(net, AVERAGE)
    averaged = average.module
    # How well digits are read that were worn in the same way, but that no training example is made of.
    judges = np.random.default_rng((options.seed, 10**6))
    pick = Picker(*kept_out, drawn=0.0)
    no_junk = {"digits": {"junk": 0, "plain": 0}, "pairs": {"junk": 0}}.get(options.net, {})
    worn = make(pick, options.check, judges, **no_junk)
    figures = []
    begun = time.perf_counter()
    made = rounds(options.net, training, options.seed, options.rounds, options.size, options.workers)
    for number, fresh in enumerate(made, 1):
        total = 0.0
        for _ in range(options.passes):
            shuffled = order.permutation(options.size)
            for i in range(steps_a_pass):
                batch = shuffled[i * options.batch_size : (i + 1) * options.batch_size]
                error = loss(net, *(array[batch] for array in fresh))
                if not math.isfinite(error.item()):
                    raise RunError(
                        f"the loss is {error.item()} in round {number}; nothing is written; lower --lr={options.lr:g}."
                    )
                optimizer.zero_grad()
                error.backward()
                optimizer.step()
                schedule.step()
                total += error.item()
                average.update_parameters(net)
        logits, *places = outputs(averaged, worn[0])
        row = {"round": number, "loss": total / (options.passes * steps_a_pass)}
        if options.net == "ink":
            row["kept_out_overlap"] = overlap(logits, worn[1])
        else:
            row["kept_out_worn"] = accuracy(logits, worn[1].argmax(-1))
        row["seconds"] = time.perf_counter() - begun
        if places:
            row["edges_off"] = float(np.nanmean(np.abs(places[0] - worn[2])))
        elif options.net == "digits":
            row["kept_out"] = accuracy(outputs(averaged, kept_out.images)[0], kept_out.labels)
        figures.append({name: round(value, 4) for name, value in row.items()})
        print(", ".join(f"{name} {value:g}" for name, value in figures[-1].items()), flush=True)
    return averaged, figures


def run(options: argparse.Namespace) -> None:
    """Train; write weights and figures."""
    if options.dry_run:
        size, check = (64, 16) if options.net == "ink" else (1_000, 200)
        options.rounds, options.size, options.check, options.workers = 2, size, check, 1
        options.batch_size = min(options.batch_size, size)
    check_positive(options, "rounds", "size", "passes", "batch_size", "check", "workers")
    if options.size < options.batch_size:
        raise RunError(f"--size: must be at least --batch-size, {options.batch_size}, got {options.size}.")
    weights = f"{NETS[options.net][2]}.safetensors"
    if options.out is not None and os.path.exists(options.out / weights):  # hours of work, the reader's own perhaps
        raise RunError(f"--out: {options.out} holds {weights} already; move it away or give another folder.")
    digits, test = mnist.load()
    kept = len(digits.images) - KEPT_OUT
    training = mnist.Digits(digits.images[:kept], digits.labels[:kept])
    kept_out = mnist.Digits(digits.images[kept:], digits.labels[kept:])
    with Outputs(options.out, "train_reader") as files:
        net, figures = train(options, training, kept_out)
        settings = {name: value for name, value in vars(options).items() if name not in ("out", "workers", "dry_run")}
        result: dict[str, Any] = {"settings": settings, "rounds": figures}
        if options.net == "digits":
            result["test_accuracy"] = accuracy(outputs(net, test.images)[0], test.labels)
            print(f"{result['test_accuracy']:.2%} of the {len(test.images):,} test digits read right.")
        metadata = {"recipe": "experiments.train_reader", **{name: str(value) for name, value in settings.items()}}
        save(net.state_dict(), files.path(weights), metadata)
        files.json(weights.replace(".safetensors", ".json"), result)


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.train_reader",
        description=__doc__.split("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--net", choices=NETS, default="digits", help="LeNet, the net for touching pairs, or that for ink")
    parser.add_argument("--out", type=folder_name, help="folder for the files; None: a new one under runs/")
    parser.add_argument("--seed", type=int, default=0, help="the one seed of all randomness")
    parser.add_argument("--rounds", type=int, default=14, help="rounds of fresh examples")
    parser.add_argument("--size", type=int, default=100_000, help="examples a round")
    parser.add_argument("--passes", type=int, default=3, help="times each round is gone through")
    parser.add_argument("--batch-size", type=int, default=128, help="examples a step")
    parser.add_argument("--lr", type=float, default=3e-3, help="highest learning rate")
    parser.add_argument("--weight-decay", type=float, default=0.02, help="of AdamW")
    parser.add_argument("--dropout", type=float, default=0.3, help="before the last layer; the net for ink has none")
    parser.add_argument("--check", type=int, default=4_000, help="worn digits to judge by")
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 1), help="processes making examples")
    parser.add_argument("--dry-run", action="store_true", help="two small rounds: seconds")
    return run_main("train_reader", run, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
