"""One training of LeNet: everything that changes from step to step, so that it can be saved and gone on with."""

import contextlib
import time
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

import tinygrad_lite.functional as F
from experiments.checkpoint import not_finite
from experiments.distort import Distorter
from experiments.mnist import Digits
from experiments.recipes import Recipe, make_model, make_optimizer
from models.lenet import LeNet
from tinygrad_lite import FileFormatError, Tensor, as_tensor, nn, no_grad, optim
from tinygrad_lite.data import Batches
from tinygrad_lite.optim import clip_grad_norm

Batch = tuple[NDArray[np.uint8], NDArray[np.uint8]]
Prepared = Generator[tuple[Batch, dict[str, Any]], None, None]  # with the state of the loader afterwards


class Training:
    """Model, optimiser, schedule, order of the data and generators. All randomness comes from `seed`.

    Attributes
    ----------
    step : int, steps done
    steps : int, steps to do
    per_epoch : int, steps that go once through the training set
    """

    def __init__(self, recipe: Recipe, seed: int, digits: Digits) -> None:
        self.recipe = recipe
        train_set = digits.take(recipe.train_size)
        asked = {name: value for name, value in vars(recipe).items() if name != "about"}
        self.asked = {"seed": seed, "images": len(train_set.labels), **asked}
        # The generator of the weights is dropout's afterwards.
        seeds = np.random.SeedSequence(seed).spawn(3)
        self.rng, order_rng = (np.random.default_rng(s) for s in seeds[:2])
        self.model = make_model(recipe, self.rng)
        self.average = optim.AveragedModel(self.model, recipe.average) if recipe.average else None
        size = len(train_set.labels)
        self.distorter = Distorter(recipe.distortion(), seeds[2], size) if recipe.distortion() else None
        self.loader = Batches(
            *train_set,
            np.arange(size),
            batch_size=min(recipe.batch_size, size),
            rng=None if recipe.order == "sequential" else order_rng,
            independent=recipe.order == "independent",
        )
        self.per_epoch = len(self.loader)
        self.steps = recipe.steps or recipe.epochs * self.per_epoch
        self.optimizer, self.scheduler = make_optimizer(recipe, self.model, self.steps)
        self.loaded = self.loader.state_dict()  # the loader when it had given the batch of this step, and not yet the next
        self.step = 0
        self.seconds = 0.0  # spent before the last resume
        self.begun = time.perf_counter()

    def batches(self) -> Iterator[Batch]:
        """Yield the batches of the steps that are left. Distorted ones are prepared in a thread, others are had at once."""
        prepared = _ahead(self._prepare()) if self.distorter else self._prepare()
        with contextlib.closing(prepared):
            while self.step < self.steps:
                batch, self.loaded = next(prepared)
                yield batch

    def _prepare(self) -> Prepared:
        while True:
            for images, labels, places in self.loader:
                if self.distorter:
                    images = self.distorter(images, places, self.loader.epoch)
                yield (images, labels), self.loader.state_dict()

    def forward(self, batch: Batch) -> tuple[Tensor, float]:
        """Give the loss of a batch, and the part of it that was read right."""
        images, labels = batch
        logits = self.model(as_input(images, self.recipe.pixel_scale))
        loss = F.cross_entropy(logits, labels, label_smoothing=self.recipe.label_smoothing)
        return loss, float((logits.numpy().argmax(axis=1) == labels).mean())

    def backward(self, loss: Tensor) -> str | None:
        """Compute the gradients, and clip them if the recipe says so; give the name of the first that is not finite."""
        self.optimizer.zero_grad()
        loss.backward()
        bad = not_finite((name, p.grad) for name, p in self.model.named_parameters())
        if bad is None and self.recipe.clip_norm is not None:
            clip_grad_norm(self.model.parameters(), self.recipe.clip_norm)
        return bad

    def update(self) -> None:
        """Go one step down the gradients."""
        self.optimizer.step()
        self.scheduler.step()
        if self.average:
            self.average.update_parameters(self.model)
        self.step += 1

    def result(self) -> LeNet:
        """Give the net to test and to keep: the average, where the recipe has one."""
        return self.average.module if self.average else self.model

    def elapsed(self) -> float:
        """Seconds of training, over all sittings."""
        return self.seconds + time.perf_counter() - self.begun

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Everything that the rest of the training depends on: arrays by name, and plain numbers fit for JSON.

        The arrays are the training's own and change with its next step: copies, of many megabytes each time, would cut the
        process's free memory into pieces.
        """
        arrays = {f"model/{name}": value for name, value in arrays_of(self.model).items()}
        plain: list[dict[str, Any]] = []
        for i, entries in enumerate(self.optimizer.state):
            arrays |= {f"optimizer/{i}/{k}": v for k, v in entries.items() if isinstance(v, np.ndarray)}
            plain.append({k: v for k, v in entries.items() if not isinstance(v, np.ndarray)})
        if self.average:
            arrays |= {f"average/{name}": value for name, value in arrays_of(self.average.module).items()}
        groups = [{k: v for k, v in group.items() if k != "params"} for group in self.optimizer.groups]
        return arrays, {
            "asked": self.asked,
            "step": self.step,
            "seconds": self.elapsed(),
            "optimizer": {"groups": groups, "state": plain},
            "scheduler": self.scheduler.state_dict(),
            "loader": self.loaded,
            "rng": self.rng.bit_generator.state,
        }

    def load_state(self, arrays: dict[str, NDArray[Any]], state: dict[str, Any]) -> None:
        """Go on where state() was taken, of the same recipe and data.

        Raises
        ------
        FileFormatError : it was taken of another recipe, or another seed.
        """
        asked = {name: value for name, value in state.get("asked", {}).items() if name in self.asked}
        if others := [name for name, value in asked.items() if value != self.asked[name]]:
            name = others[0]
            raise FileFormatError(
                f"--resume: config.json and data give {name}={self.asked[name]!r}, and the checkpoint is of "
                f"{name}={asked[name]!r}; put that back, for a resumed run is the run that was begun."
            )
        entries = [dict(entry) for entry in state["optimizer"]["state"]]
        for name, value in arrays.items():
            kind, _, rest = name.partition("/")
            if kind == "optimizer":
                i, _, key = rest.partition("/")
                entries[int(i)][key] = value
        self.model.load_state_dict(_below("model/", arrays))
        if self.average:
            self.average.load_state_dict({"module": _below("average/", arrays), "n_averaged": state["step"]})
        self.optimizer.load_state_dict({"groups": state["optimizer"]["groups"], "state": entries})
        self.scheduler.load_state_dict(state["scheduler"])
        self.loader.load_state_dict(state["loader"])
        self.loaded = state["loader"]
        self.rng.bit_generator.state = state["rng"]
        self.step = int(state["step"])
        self.seconds = float(state["seconds"])


def _ahead(items: Prepared) -> Prepared:
    """Give the items; a thread prepares the next one meanwhile."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items)
        while True:
            item = coming.result()
            coming = pool.submit(next, items)
            yield item


def arrays_of(model: nn.Module) -> dict[str, NDArray[Any]]:
    """Give what state_dict() gives, but the model's own arrays, not copies."""
    return {**{name: p.data for name, p in model.named_parameters()}, **dict(model.named_buffers())}


def _below(prefix: str, arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}


def as_input(images: NDArray[np.uint8], pixel_scale: float = 255.0) -> Tensor:
    """Bytes (n, 28, 28) -> float32 (n, 1, 28, 28), divided by `pixel_scale`; batch axis innermost, as conv2d wants it."""
    scaled = np.multiply(images.transpose(1, 2, 0), np.float32(1 / pixel_scale), order="C")
    return as_tensor(scaled.transpose(2, 0, 1)[:, None])


def evaluate(model: nn.Module, digits: Digits, pixel_scale: float = 255.0) -> tuple[float, NDArray[np.bool_]]:
    """Give the mean loss over all digits, and for each whether it was read right."""
    was_training = model.training
    model.eval()
    losses, correct = [], []
    with no_grad():
        for images, labels in Batches(*digits, batch_size=100, rng=None):
            logits = model(as_input(images, pixel_scale))
            losses.append(F.cross_entropy(logits, labels, reduction="none").numpy())
            correct.append(logits.numpy().argmax(axis=1) == labels)
    model.train(was_training)
    return float(np.concatenate(losses).mean(dtype=np.float64)), np.concatenate(correct)
