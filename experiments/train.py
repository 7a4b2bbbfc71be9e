"""Train LeNet on MNIST: `python -m experiments.train` (see --help for recipes and options)."""

import argparse
import contextlib
import dataclasses
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from experiments import mnist
from experiments.checkpoint import NAME, load_checkpoint, not_finite, remove_checkpoints, save_checkpoint
from experiments.curves import draw_curves
from experiments.progress import Progress
from experiments.recipes import FIELDS, RECIPES, Recipe, changed, check_sizes, setting, shortened
from experiments.runs import Run, RunError, blas_threads, folder_name, read_json, read_result
from experiments.signals import Stop, StoppedError
from experiments.texts import print_any
from experiments.training import Training, arrays_of, evaluate
from tinygrad_lite import FileFormatError, TinygradError, TrainingError
from tinygrad_lite.serialize import save

KEEP_EVERY = 100  # steps between copies of weights that gave a finite loss


def main(argv: list[str] | None = None) -> int:
    """Command line; gives the exit code: 0, 1 after an error, 130 or 143 after Ctrl-C or SIGTERM."""
    options = make_parser().parse_args(argv)
    print_any()
    stop = Stop()
    try:
        if options.resume is not None:
            resume(Path(options.resume), stop, options.quiet, options.checkpoint_seconds)
        else:
            train(options, stop)
    except StoppedError as error:
        print(f"train: {error}", file=sys.stderr)
        return 128 + stop.signal
    except (TinygradError, OSError) as error:
        print(f"train: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("train: stopped at once; --resume goes on from the last checkpoint.", file=sys.stderr)
        return 130
    finally:
        stop.forget()
    return 0


@contextlib.contextmanager
def writing() -> Iterator[None]:
    """Say what is left where something cannot be written in this context."""
    try:
        yield
    except OSError as error:
        raise RunError(f"cannot write ({error}); what was whole before is kept, and --resume goes on with it.") from None


def train(options: argparse.Namespace, stop: Stop) -> None:
    """Train one net."""
    config = configuration(options)
    data = load_data(options.data_dir, options.validate)
    check_sizes(changed(config), *[len(digits.labels) for digits in data])
    training = Training(_recipe_in(config), options.seed, data[0])
    with writing(), Run.create(options.out, f"{options.recipe}-seed{options.seed}", config) as run:
        finish(run, training, data[1], stop, options.quiet, options.checkpoint_seconds)


def configuration(options: argparse.Namespace) -> dict[str, Any]:
    """Give all that a run follows from, fit for JSON."""
    return {
        "recipe": options.recipe,
        "seed": options.seed,
        "data_dir": options.data_dir and str(Path(options.data_dir).resolve()),
        "validate": options.validate,
        **dataclasses.asdict(recipe_from(options)),
    }


def _recipe_in(config: dict[str, Any]) -> Recipe:
    names = {field.name for field in dataclasses.fields(Recipe)}
    return Recipe(**{name: value for name, value in config.items() if name in names})


def resume(folder: Path, stop: Stop, quiet: bool, checkpoint_seconds: float) -> None:
    """Go on with a run that was stopped: with as many BLAS threads it is, bit for bit, the run that it would have been."""
    if read_result(folder) is not None:
        remove_checkpoints(folder)  # a kill may have come before
        raise RunError(f"--resume: {folder} is finished; its figures are in result.json.")
    config = read_json(folder / "config.json")
    checkpoint = load_checkpoint(folder)
    try:
        recipe = _recipe_in(config)
        data = load_data(config["data_dir"], config["validate"])
        threads = config.get("environment", {}).get("blas_threads")
        training = Training(recipe, config["seed"], data[0])
        if checkpoint is not None:  # else it was stopped before its first, and starts anew
            training.load_state(*checkpoint)
    except FileFormatError:
        raise
    except (KeyError, TypeError, AttributeError, IndexError, ValueError, ArithmeticError) as error:
        raise FileFormatError(f"--resume: config.json or checkpoint in {folder} are not of this program: {error!r}.") from error
    if threads != (now := blas_threads()) and None not in (threads, now):
        words = f"begun with {threads} BLAS threads and gone on with {now}: last bits will be others; set OPENBLAS_NUM_THREADS."
        print(f"train: {words}", file=sys.stderr)
    with writing(), Run(folder, training.step) as run:
        finish(run, training, data[1], stop, quiet, checkpoint_seconds)


@np.errstate(over="ignore", invalid="ignore")  # what is not finite is noticed, and said in words
def finish(run: Run, training: Training, test_set: mnist.Digits, stop: Stop, quiet: bool, checkpoint_seconds: float) -> None:
    """Train to the end and write what came out.

    result.json has "test_accuracy" and "test_loss" on the whole test set after the last step, and where the recipe speaks of
    a part of the test set "part_accuracy" on that part.

    Raises
    ------
    TrainingError : the loss, a gradient or a weight is not finite; the last good weights are in the run's model.safetensors,
        and no checkpoint holds others.
    StoppedError : Ctrl-C or SIGTERM; the step was finished and a checkpoint written.
    """
    recipe, model = training.recipe, training.result()
    good = model.state_dict()
    # After every epoch, but not much more than ten times: the origin's epochs have thirty steps.
    evaluate_every = training.per_epoch * max(1, round(training.steps / training.per_epoch / 10))
    figures: dict[str, Any] = {}
    saved, saved_step = time.monotonic(), training.step

    def fail(what: str, value: object) -> NoReturn:
        save(good, run.folder / "model.safetensors", recipe.metadata())
        raise TrainingError(_diagnosis(what, value, training, lr, run.folder, saved_step))

    # Functions, so that nothing of theirs stays: it would lie in the middle of the memory that the steps need in one piece.
    def test() -> dict[str, Any]:
        test_loss, correct = evaluate(model, test_set, recipe.pixel_scale)
        if not math.isfinite(test_loss):  # the last step of all can be the one that breaks the weights
            fail("test loss", test_loss)
        found = {"step": training.step, "test_loss": test_loss, "test_accuracy": float(correct.mean())}
        if (recipe.test_size or len(correct)) < len(correct):
            found["part_accuracy"] = float(correct[: recipe.test_size].mean())
        run.log(**found, seconds=round(training.elapsed(), 3))
        epoch = training.step / training.per_epoch
        progress.say(f"epoch {epoch:.4g}: test loss {test_loss:.4f}, accuracy {correct.mean():.2%}")
        return found

    def keep(last: bool) -> None:
        arrays, numbers = training.state()
        broken = not_finite(arrays.items())
        if broken is not None:  # this update broke it: the file before is the last good one
            fail(f"state {broken}", "not finite")
        if not last:
            save_checkpoint(run.folder, arrays, numbers)

    batch_size = min(recipe.batch_size, len(training.loader.arrays[0]))
    with Progress(training.step, training.steps, batch_size, quiet) as progress:
        for batch in training.batches():
            lr = training.optimizer.groups[0]["lr"]
            loss, accuracy = training.forward(batch)
            value = loss.item()
            if not math.isfinite(value):
                fail("loss", value)
            if training.step % KEEP_EVERY == 0:
                for name, array in arrays_of(model).items():
                    good[name][...] = array
            if (bad := training.backward(loss)) is not None:
                fail(f"gradient of {bad}", "not finite")
            training.update()
            run.log(step=training.step, loss=value, accuracy=accuracy, lr=lr)
            progress.step(value, accuracy)
            last = training.step == training.steps
            if evaluate_now := last or training.step % evaluate_every == 0:
                figures = test()
            if evaluate_now or stop.signal or time.monotonic() - saved > checkpoint_seconds:
                keep(last)
                saved, saved_step = time.monotonic(), training.step
            if stop.signal and not last:
                raise StoppedError(f"stopped after step {training.step}; go on with --resume {run.folder}")
    final = {**figures, "train_size": len(training.loader.arrays[0]), "seconds": round(training.elapsed(), 3)}
    save(model.state_dict(), run.folder / "model.safetensors", recipe.metadata())
    draw_curves(run.folder, f"LeNet, {run.folder.name}")
    run.write_json("result.json", final)
    remove_checkpoints(run.folder)
    if not quiet:
        print(_words(recipe, final, len(test_set.labels)))
        print(f"Written to {run.folder}: config.json, metrics.jsonl, result.json, model.safetensors, curves.png")


def load_data(data_dir: str | None, validate: int | None) -> tuple[mnist.Digits, mnist.Digits]:
    """Give the set to train on and the one to test on; with `validate` both from the training set."""
    data = mnist.load(data_dir)
    return data if validate is None else hold_out(data[0], validate)


def hold_out(digits: mnist.Digits, count: int) -> tuple[mnist.Digits, mnist.Digits]:
    """Split off the last `count` training images: choices are made on them, and the test set is left alone."""
    if not 0 < count < len(digits.labels):
        raise RunError(f"--validate: must be between 1 and {len(digits.labels) - 1}, got {count}.")
    return digits.take(-count), mnist.Digits(digits.images[-count:], digits.labels[-count:])


def _diagnosis(what: str, value: object, training: Training, lr: float, folder: Path, saved_step: int) -> str:
    bad = not_finite((name, p.data) for name, p in training.model.named_parameters())
    step = training.step + (what == "loss" or what.startswith("gradient"))  # these are looked at before the update
    checkpoint = f"The last good checkpoint is {folder / NAME} of step {saved_step}" if saved_step else "No checkpoint was due"
    culprit = f"the first parameter that is not finite is {bad}" if bad else "all parameters are finite"
    return (
        f"the {what} is {value} at step {step} with learning rate {lr:g}; {culprit}. {checkpoint}. "
        f"The last good weights are in {folder / 'model.safetensors'}; try a smaller --lr or --clip-norm 1."
    )


def _words(recipe: Recipe, final: dict[str, Any], tested: int) -> str:
    text = f"Test accuracy {final['test_accuracy']:.2%} of the {tested:,} images tested on"
    if "part_accuracy" in final:
        text += f", {final['part_accuracy']:.2%} of the first {recipe.test_size} of them"
    return f"{text}, loss {final['test_loss']:.4f}, after {final['step']} steps in {final['seconds']:.0f} s"


def recipe_from(options: argparse.Namespace) -> Recipe:
    """Give the recipe with the command line's changes."""
    if options.recipe not in RECIPES:
        raise RunError(f"recipe: there is no recipe {options.recipe!r}; choose one of {', '.join(RECIPES)}.")
    names = ("epochs", "batch_size", "lr", "clip_norm", "train_size")
    changes: dict[str, Any] = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    changes |= dict(setting(text) for text in options.set)
    if "epochs" in changes:
        changes.setdefault("steps", None)  # else the recipe's own would overrule them
    recipe = dataclasses.replace(RECIPES[options.recipe], **changes)
    if options.seed < 0:
        raise RunError(f"--seed: must be at least 0, got {options.seed}.")
    return shortened(recipe) if options.dry_run else recipe


def _seconds(text: str) -> float:
    if not 0 <= float(text) < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number of at least 0, got {text}")
    return float(text)


def make_parser() -> argparse.ArgumentParser:
    """Give the command line's options."""
    recipes = "\n".join(f"  {name:8} {recipe.about}" for name, recipe in RECIPES.items())
    parser = argparse.ArgumentParser(
        prog="python -m experiments.train",
        description="Train LeNet (431,080 parameters) on MNIST and write a folder with weights, figures and curves.",
        epilog=f"recipes:\n{recipes}\n\nfields of a recipe, for --set: {', '.join(FIELDS)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--recipe", default="quick", help="how to train, see below (default: quick)")
    parser.add_argument("--epochs", type=int, help="passes through the training set, instead of the recipe's")
    parser.add_argument("--batch-size", type=int, help="images a step, instead of the recipe's")
    parser.add_argument("--lr", type=float, help="learning rate, instead of the recipe's")
    parser.add_argument("--clip-norm", type=float, metavar="NORM", help="scale gradients down to this joint norm at most")
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="another value of any field of the recipe, repeatable"
    )
    parser.add_argument("--seed", type=int, default=0, help="the one seed of all randomness (default: 0)")
    parser.add_argument("--train-size", type=int, metavar="N", help="use the first N training images")
    parser.add_argument("--validate", type=int, metavar="N", help="test on the last N training images, which are left out")
    parser.add_argument("--data-dir", help="folder with the four IDX files of another data set (default: MNIST, included)")
    parser.add_argument("--out", type=folder_name, help="folder to write (default: a new one under runs/)")
    parser.add_argument("--resume", metavar="RUN", help="go on with the run in this folder; other options are its own")
    parser.add_argument("--checkpoint-seconds", type=_seconds, default=30.0, metavar="S", help="save so often (default: 30)")
    parser.add_argument("--dry-run", action="store_true", help="300 images, two epochs: seconds, to see that everything works")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
