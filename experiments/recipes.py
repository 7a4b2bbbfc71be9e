"""Recipes: everything that decides how LeNet is trained, each in one place."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args, get_type_hints

import numpy as np

from experiments.distort import Distortion
from experiments.runs import RunError
from models.lenet import LeNet
from tinygrad_lite import nn, optim

BOUNDS = {  # of every number; those of the distortions are in distort.Distortion
    "epochs": (1, math.inf),
    "steps": (1, math.inf),
    "batch_size": (1, math.inf),
    "train_size": (1, math.inf),
    "test_size": (1, math.inf),
    "lr": (0, math.inf),
    "momentum": (0, 1),
    "weight_decay": (0, math.inf),
    "bias_lr_factor": (0, math.inf),
    "label_smoothing": (0, 1),
    "clip_norm": (1e-9, math.inf),
    "dropout": (0, 1),
    "average": (0, 1),
    "pixel_scale": (1e-3, math.inf),
}


@dataclass(frozen=True)
class Recipe:
    """How a net is trained. Pixels are divided by `pixel_scale`; `steps` overrules `epochs`."""

    about: str
    epochs: int = 1
    steps: int | None = None
    batch_size: int = 100
    train_size: int | None = None
    test_size: int | None = None  # part of the test set that the recipe's own figure is about
    order: Literal["shuffled", "sequential", "independent"] = "shuffled"
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 0.0
    bias_lr_factor: float = 1.0
    decay_biases: bool = False
    schedule: Literal["constant", "inv", "one_cycle"] = "constant"
    label_smoothing: float = 0.0
    clip_norm: float | None = None  # largest joint norm of the gradients
    dropout: float = 0.0
    average: float = 0.0  # decay of the weights' moving average, which is then what is tested and written; 0 for none
    rotation: float = 0.0  # this and the next five: see distort.Distortion
    scale: float = 0.0
    shear: float = 0.0
    shift: float = 0.0
    elastic: float = 0.0
    thickness: float = 0.0
    relu_after_conv: bool = True
    caffe_init: bool = False
    pixel_scale: float = 255.0

    def __post_init__(self) -> None:
        """Refuse values of another kind, or out of range: RunError names the first."""
        for name, hint in get_type_hints(Recipe).items():
            kinds, value = get_args(hint) or (hint,), getattr(self, name)
            if float in kinds:
                kinds = (*kinds, int)
            words = [kind for kind in kinds if isinstance(kind, str)]
            if value not in words if words else not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
                raise RunError(f"recipe: {name} must be {hint}, got {value!r:.80}.")
            if name in BOUNDS and value is not None:
                low, high = BOUNDS[name]
                if not (low <= value <= high and value < math.inf):
                    span = f"of at least {low}" if high == math.inf else f"from {low} to {high}"
                    raise RunError(f"recipe: {name} must be a number {span}, got {value}.")
        self.distortion()

    def metadata(self) -> dict[str, str]:
        """Give what a weight file must say beside the weights: models.load asks for it."""
        return {"relu_after_conv": str(self.relu_after_conv), "pixel_scale": str(self.pixel_scale)}

    def distortion(self) -> Distortion:
        """Give how the training images are distorted."""
        return Distortion(*(getattr(self, field.name) for field in fields(Distortion)))


FIELDS = [field.name for field in fields(Recipe) if field.name != "about"]
RECIPES = {
    "quick": Recipe(
        about="all 60,000 images in three epochs",
        epochs=3,
        batch_size=50,
        optimizer="adamw",
        lr=3e-3,
        weight_decay=0.05,
        schedule="one_cycle",
        dropout=0.3,
    ),
    "origin": Recipe(
        about="the origin's protocol: 3,000 images, 2,000 iterations of batches drawn anew, 500 test images",
        steps=2000,
        train_size=3000,
        test_size=500,
        order="independent",
        weight_decay=5e-4,
        bias_lr_factor=2.0,
        schedule="inv",
        caffe_init=True,
    ),
    "best": Recipe(
        about="all 60,000 images, distorted anew each time",
        epochs=24,
        batch_size=50,
        optimizer="adamw",
        lr=3e-3,
        weight_decay=0.05,
        schedule="one_cycle",
        dropout=0.5,
        average=0.999,
        rotation=8,
        scale=0.08,
        shift=2,
        elastic=0.7,
        thickness=0.5,
    ),
    "small": Recipe(
        about="the origin's 3,000 images, distorted anew each time",
        epochs=200,
        batch_size=50,
        train_size=3000,
        optimizer="adamw",
        lr=3e-3,
        weight_decay=0.05,
        schedule="one_cycle",
        dropout=0.5,
        average=0.999,
        rotation=12,
        scale=0.15,
        shear=0.15,
        shift=2,
        elastic=1.0,
        thickness=0.5,
    ),
    "single": Recipe(
        about="all 60,000 images, once",
        batch_size=25,
        optimizer="adamw",
        lr=3e-3,
        weight_decay=0.05,
        schedule="one_cycle",
        pixel_scale=60.0,
    ),
    "caffe": Recipe(
        about="Caffe's examples/mnist: 10,000 iterations of 64, no ReLU after the convolutions",
        steps=10_000,
        batch_size=64,
        order="sequential",
        weight_decay=5e-4,
        bias_lr_factor=2.0,
        decay_biases=True,
        schedule="inv",
        relu_after_conv=False,
        caffe_init=True,
        pixel_scale=256.0,
    ),
}


def shortened(recipe: Recipe) -> Recipe:
    """Give a recipe with no more than 300 images and two epochs, or twelve steps: seconds."""
    steps = min(recipe.steps, 12) if recipe.steps else None
    return replace(recipe, train_size=min(recipe.train_size or 300, 300), epochs=min(recipe.epochs, 2), steps=steps)


def setting(text: str) -> tuple[str, Any]:
    """FIELD=VALUE -> the field and a value of its type."""
    name, _, value = text.partition("=")
    hints = get_type_hints(Recipe)
    kinds = get_args(hints.get(name)) or (hints.get(name),)
    try:
        if name not in FIELDS:
            raise ValueError
        if kinds == (bool,):
            return name, {"True": True, "False": False}[value]
        if value == "None" and type(None) in kinds:
            return name, None
        if value in kinds:
            return name, value
        return name, (int if int in kinds else float)(value)
    except (ValueError, KeyError):
        known = [getattr(kind, "__name__", repr(kind)).replace("NoneType", "None") for kind in kinds]
        what = f"{name} takes {' or '.join(known)}" if name in FIELDS else f"the fields are {', '.join(FIELDS)}"
        raise RunError(f"recipe: expected FIELD=VALUE, such as dropout=0.5, got {text!r}; {what}.") from None


def changed(config: Mapping[str, Any]) -> dict[str, Any]:
    """Give the fields of a run's configuration that are not as its recipe has them, with their values."""
    own = vars(RECIPES[config["recipe"]]) if config.get("recipe") in RECIPES else {}
    return {name: config[name] for name in own if name != "about" and config.get(name, own[name]) != own[name]}


def check_sizes(changes: Mapping[str, Any], trained: int, tested: int) -> None:
    """Raise RunError where more images are asked for than there are to train or to test on; a recipe's own may be more."""
    for name, count, what in (("train_size", trained, "training"), ("test_size", tested, "test")):
        if (changes.get(name) or 0) > count:
            raise RunError(f"recipe: {name} is {changes[name]:,}, but there are only {count:,} {what} images.")


def make_model(recipe: Recipe, rng: np.random.Generator) -> LeNet:
    """Give LeNet with the recipe's initial weights."""
    model = LeNet(rng, relu_after_conv=recipe.relu_after_conv, dropout=recipe.dropout)
    if recipe.caffe_init:  # the origin's too: uniform with variance 1 / fan_in, biases 0
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.data[...] = 0
            else:
                parameter.data[...] = nn.init.caffe_xavier(parameter.shape, rng)
    return model


def weights_and_biases(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Give the parameters in two lists, for biases are not decayed."""
    named = list(model.named_parameters())
    return [p for name, p in named if not name.endswith("bias")], [p for name, p in named if name.endswith("bias")]


def make_optimizer(recipe: Recipe, model: nn.Module, steps: int) -> tuple[optim.Optimizer, optim.LRScheduler]:
    """Give the optimiser, with weights and biases in groups of their own, and its schedule over `steps`."""
    weights, biases = weights_and_biases(model)
    of_biases = {"lr": recipe.lr * recipe.bias_lr_factor, "weight_decay": recipe.weight_decay if recipe.decay_biases else 0.0}
    groups: list[dict[str, Any]] = [{"params": weights}, {"params": biases, **of_biases}]
    optimizer: optim.Optimizer
    if recipe.optimizer == "adamw":
        optimizer = optim.AdamW(groups, lr=recipe.lr, weight_decay=recipe.weight_decay)
    else:
        optimizer = optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay)
    schedules = {
        "constant": optim.constant(),
        "inv": optim.inv(gamma=1e-4, power=0.75),
        "one_cycle": optim.one_cycle(steps),
    }
    return optimizer, optim.LRScheduler(optimizer, schedules[recipe.schedule])
