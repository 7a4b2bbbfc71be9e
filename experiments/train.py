"""Train LeNet on MNIST: `python -m experiments.train` (see --help for recipes and options)."""

import argparse
import dataclasses
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

import tinygrad_lite.functional as F
from experiments import mnist
from experiments.curves import draw_curves
from experiments.recipes import RECIPES, Recipe, make_model, make_optimizer
from experiments.runs import Run, RunError
from tinygrad_lite import Tensor, TinygradError, TrainingError, nn, no_grad
from tinygrad_lite.data import Batches
from tinygrad_lite.serialize import save

KEEP_EVERY = 100  # steps between copies of weights that gave a finite loss


def main(argv: list[str] | None = None) -> int:
    """Command line; gives the exit code."""
    options = _parser().parse_args(argv)
    try:
        recipe = _recipe(options)
        data = mnist.load(options.data_dir)
        if options.validate:
            data = hold_out(data[0], options.validate)
        results = []
        for seed in range(options.seed, options.seed + options.seeds):
            folder = None if options.out is None else Path(options.out)
            if folder is not None and options.seeds > 1:
                folder = folder / f"seed-{seed}"
            results.append(run(recipe, options.recipe, seed, data, folder, options.quiet))
        if options.seeds > 1:
            _print_summary(options.recipe, recipe, results)
    except (TinygradError, FileNotFoundError) as error:
        print(f"train: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("train: stopped; what was written before is kept.", file=sys.stderr)
        return 130
    return 0


def run(
    recipe: Recipe,
    name: str,
    seed: int,
    data: tuple[mnist.Digits, mnist.Digits],
    out: Path | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Train one net and write its folder; gives the final figures."""
    config = {"recipe": name, "seed": seed, **dataclasses.asdict(recipe)}
    with Run(out, f"{name}-seed{seed}", config) as folder:
        model, final = train(recipe, seed, data, folder, quiet)
        save(model.state_dict(), folder.folder / "model.safetensors", metadata={"recipe": name, "seed": str(seed)})
        folder.write_json("result.json", final)
        draw_curves(folder.folder, f"LeNet, recipe {name}, seed {seed}")
        if not quiet:
            print(_words(recipe, final))
            print(f"Written to {folder.folder}: config.json, metrics.jsonl, result.json, model.safetensors, curves.png")
    return final


def train(
    recipe: Recipe, seed: int, data: tuple[mnist.Digits, mnist.Digits], run: Run, quiet: bool = False
) -> tuple[nn.Module, dict[str, Any]]:
    """Train LeNet by a recipe. All randomness comes from `seed`.

    Returns
    -------
    (model, figures) : figures of the last step: "test_accuracy" and "test_loss" on the whole test set, and where the recipe
        speaks of a part of it "part_accuracy" on that part.

    Raises
    ------
    TrainingError : the loss is not finite; the last good weights are in the run's model.safetensors.
    """
    train_set, test_set = data[0].take(recipe.train_size), data[1]
    weights_rng, order_rng = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(2))
    model = make_model(recipe, weights_rng)
    per_epoch = -(-len(train_set.labels) // recipe.batch_size)
    steps = recipe.steps or recipe.epochs * per_epoch
    optimizer, scheduler = make_optimizer(recipe, model, steps)
    good = model.state_dict()

    begun = time.perf_counter()
    figures: dict[str, Any] = {}
    with Progress(steps, recipe.batch_size, quiet) as progress:
        for step, (images, labels) in enumerate(batches(recipe, train_set, order_rng, steps), 1):
            lr = optimizer.groups[0]["lr"]
            optimizer.zero_grad()
            logits = model(as_input(images, recipe.pixel_scale))
            loss = F.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
            value = loss.item()
            if not math.isfinite(value):
                save(good, run.folder / "model.safetensors")
                raise TrainingError(_diagnosis(step, value, lr, model, run.folder))
            if step % KEEP_EVERY == 1:
                good = model.state_dict()
            loss.backward()
            optimizer.step()
            scheduler.step()
            accuracy = float((logits.numpy().argmax(axis=1) == labels).mean())
            run.log(step=step, loss=value, accuracy=accuracy, lr=lr)
            progress.step(value, accuracy)
            if step % per_epoch == 0 or step == steps:
                test_loss, correct = evaluate(model, test_set, recipe.pixel_scale)
                figures = {"step": step, "test_loss": test_loss, "test_accuracy": float(correct.mean())}
                if recipe.test_size:
                    figures["part_accuracy"] = float(correct[: recipe.test_size].mean())
                run.log(**figures, seconds=round(time.perf_counter() - begun, 3))
                progress.say(f"epoch {step / per_epoch:.3g}: test loss {test_loss:.4f}, accuracy {correct.mean():.2%}")
    return model, {**figures, "seconds": round(time.perf_counter() - begun, 3)}


def batches(
    recipe: Recipe, digits: mnist.Digits, rng: np.random.Generator, steps: int
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Yield `steps` batches in the recipe's order."""
    if recipe.order == "independent":  # as the origin draws them: each batch anew from the whole set
        for _ in range(steps):
            chosen = rng.choice(len(digits.labels), min(recipe.batch_size, len(digits.labels)), replace=False)
            yield digits.images[chosen], digits.labels[chosen]
        return
    loader = Batches(*digits, batch_size=recipe.batch_size, rng=rng if recipe.order == "shuffled" else None)
    done = 0
    while True:
        for batch in loader:
            if done == steps:
                return
            done += 1
            yield batch


def as_input(images: NDArray[np.uint8], pixel_scale: float = 255.0) -> Tensor:
    """Bytes (n, 28, 28) -> float32 (n, 1, 28, 28), divided by `pixel_scale`; batch axis innermost, as conv2d wants it."""
    scaled = np.multiply(images.transpose(1, 2, 0), np.float32(1 / pixel_scale), order="C")
    return Tensor(scaled.transpose(2, 0, 1)[:, None])


def evaluate(model: nn.Module, digits: mnist.Digits, pixel_scale: float = 255.0) -> tuple[float, NDArray[np.bool_]]:
    """Give the mean loss over all digits, and for each whether it was read right."""
    was_training = model.training
    model.eval()
    losses, correct = [], []
    with no_grad():
        for images, labels in Batches(*digits, batch_size=500, rng=None):
            logits = model(as_input(images, pixel_scale))
            losses.append(F.cross_entropy(logits, labels, reduction="none").numpy())
            correct.append(logits.numpy().argmax(axis=1) == labels)
    model.train(was_training)
    return float(np.concatenate(losses).mean(dtype=np.float64)), np.concatenate(correct)


class Progress:
    """A bar with loss, accuracy, images per second and time left; plain lines where the output is no terminal."""

    def __init__(self, steps: int, batch_size: int, quiet: bool) -> None:
        self.steps, self.batch_size, self.quiet = steps, batch_size, quiet
        self.terminal = sys.stderr.isatty() and not quiet
        self.bar = tqdm(
            total=steps * batch_size, disable=not self.terminal, unit=" images", unit_scale=True, leave=False, mininterval=0.2
        )
        self.begun, self.done, self.loss, self.accuracy = time.perf_counter(), 0, math.nan, 0.0

    def step(self, loss: float, accuracy: float) -> None:
        """Count one step; loss and accuracy are shown as running means."""
        self.done += 1
        mix = max(0.02, 1 / self.done)
        self.loss = loss if self.done == 1 else self.loss + mix * (loss - self.loss)
        self.accuracy += mix * (accuracy - self.accuracy)
        if self.terminal:
            self.bar.set_postfix_str(f"loss {self.loss:.4f}, accuracy {self.accuracy:.2%}", refresh=False)
            self.bar.update(self.batch_size)
        elif not self.quiet and (self.done % max(1, self.steps // 10) == 0):
            seconds = time.perf_counter() - self.begun
            left = seconds / self.done * (self.steps - self.done)
            print(
                f"step {self.done:6d} of {self.steps}  loss {self.loss:.4f}  accuracy {self.accuracy:7.2%}  "
                f"{self.done * self.batch_size / seconds:,.0f} images/s  {left:.0f} s left",
                flush=True,
            )

    def say(self, line: str) -> None:
        """Print a line that stays."""
        if not self.quiet:
            self.bar.write(line) if self.terminal else print(line, flush=True)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()


def hold_out(digits: mnist.Digits, count: int) -> tuple[mnist.Digits, mnist.Digits]:
    """Split off the last `count` training images: choices are made on them, and the test set is left alone."""
    if not 0 < count < len(digits.labels):
        raise RunError(f"--validate: must be between 1 and {len(digits.labels) - 1}, got {count}.")
    return digits.take(-count), mnist.Digits(digits.images[-count:], digits.labels[-count:])


def _diagnosis(step: int, loss: float, lr: float, model: nn.Module, folder: Path) -> str:
    bad = next((name for name, p in model.named_parameters() if not np.isfinite(p.data).all()), None)
    culprit = f"the first parameter that is not finite is {bad}" if bad else "all parameters are finite"
    return (
        f"the loss is {loss} at step {step} with learning rate {lr:g}; {culprit}. "
        f"The last good weights are in {folder / 'model.safetensors'}; try a smaller --lr."
    )


def _words(recipe: Recipe, final: dict[str, Any]) -> str:
    text = f"Test accuracy {final['test_accuracy']:.2%} of all test images"
    if "part_accuracy" in final:
        text += f", {final['part_accuracy']:.2%} of the first {recipe.test_size}"
    return f"{text}, loss {final['test_loss']:.4f}, after {final['step']} steps in {final['seconds']:.0f} s"


def _print_summary(name: str, recipe: Recipe, results: list[dict[str, Any]]) -> None:
    for key, what in (("test_accuracy", "all test images"), ("part_accuracy", f"the first {recipe.test_size} test images")):
        if key in results[0]:
            values = 100 * np.array([r[key] for r in results])
            print(
                f"{name}: {values.mean():.2f} +- {values.std(ddof=1):.2f} % of {what} "
                f"(mean and standard deviation of {len(values)} seeds: {', '.join(f'{v:.2f}' for v in values)})"
            )


def _recipe(options: argparse.Namespace) -> Recipe:
    """Give the recipe with the command line's changes."""
    if options.recipe not in RECIPES:
        raise RunError(f"--recipe: there is no recipe {options.recipe!r}; choose one of {', '.join(RECIPES)}.")
    recipe = RECIPES[options.recipe]
    for name, low in (("epochs", 1), ("batch_size", 1), ("train_size", 1), ("lr", 0), ("seeds", 1), ("seed", 0)):
        value = getattr(options, name)
        if value is not None and not (low <= value < math.inf):
            raise RunError(f"--{name.replace('_', '-')}: must be a number of at least {low}, got {value}.")
    changes: dict[str, Any] = {
        name: getattr(options, name) for name in ("batch_size", "lr", "train_size") if getattr(options, name) is not None
    }
    if options.epochs is not None:
        changes.update(epochs=options.epochs, steps=None)
    if options.dry_run:
        changes = {"train_size": 300, "batch_size": 50, "epochs": 2, "steps": None, **changes}
    return dataclasses.replace(recipe, **changes)


def _parser() -> argparse.ArgumentParser:
    recipes = "\n".join(f"  {name:8} {recipe.about}" for name, recipe in RECIPES.items())
    parser = argparse.ArgumentParser(
        prog="python -m experiments.train",
        description="Train LeNet (431,080 parameters) on MNIST and write a folder with weights, figures and curves.",
        epilog=f"recipes:\n{recipes}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--recipe", default="quick", help="how to train, see below (default: quick)")
    parser.add_argument("--epochs", type=int, help="passes through the training set, instead of the recipe's")
    parser.add_argument("--batch-size", type=int, help="images a step, instead of the recipe's")
    parser.add_argument("--lr", type=float, help="learning rate, instead of the recipe's")
    parser.add_argument("--seed", type=int, default=0, help="the one seed of all randomness (default: 0)")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="train N nets, seeds counting up, and print the mean")
    parser.add_argument("--train-size", type=int, metavar="N", help="use the first N training images")
    parser.add_argument("--validate", type=int, metavar="N", help="test on the last N training images, which are left out")
    parser.add_argument("--data-dir", help="folder with the four IDX files of another data set (default: MNIST, included)")
    parser.add_argument("--out", help="folder to write (default: a new one under runs/)")
    parser.add_argument("--dry-run", action="store_true", help="300 images, two epochs: seconds, to see that everything works")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
