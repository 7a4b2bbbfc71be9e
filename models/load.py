"""Trained weights from a file into LeNet: the one place where experiments get them."""

import os
from pathlib import Path
from typing import TypeVar

import numpy as np

from models.ink import InkNet
from models.lenet import LeNet
from models.pair import PairNet
from tinygrad_lite import DtypeError, FileFormatError, ShapeError, _check, serialize
from tinygrad_lite._types import Array

WEIGHTS = Path(__file__).parent / "weights" / "lenet.safetensors"
PAIR_WEIGHTS = WEIGHTS.with_name("pairs.safetensors")
INK_WEIGHTS = WEIGHTS.with_name("ink.safetensors")
_Net = TypeVar("_Net", PairNet, InkNet)


def load_lenet(path: str | os.PathLike[str] = WEIGHTS) -> LeNet:
    """Read trained weights, in evaluation mode, for pixels / 255.

    Parameters
    ----------
    path : file ending in .safetensors, .npz or .mat (see models/lenet_mat.py), default the weights of this repository

    Returns
    -------
    LeNet, float32

    Raises
    ------
    FileNotFoundError : there is no such file.
    FileFormatError : damaged, of another kind, or the weights of another net; the message says which names and shapes differ.

    Notes
    -----
    A .safetensors file may say in its metadata that its net has no ReLU after the convolutions ("relu_after_conv": "False")
    or that it was trained on pixels divided by another number ("pixel_scale"), which then goes into the first kernels.
    """
    source = _check.path("load_lenet", path)
    if not source.is_file():
        there_is_none = "it is a folder" if source.is_dir() else "there is no such file"
        what = "the repository's own weights are not there" if source == WEIGHTS else there_is_none
        raise FileNotFoundError(
            f"load_lenet: {what} ({source}); give --weights FILE, such as the model.safetensors that "
            "`python -m experiments.train` writes."
        )
    state, metadata = read_state(source)
    model = LeNet(np.random.default_rng(0), relu_after_conv=metadata.get("relu_after_conv") != "False")
    try:
        with np.errstate(over="ignore"):  # float64 beyond float32 becomes infinity, which is refused below
            model.load_state_dict(state)
    except (ShapeError, DtypeError) as error:
        raise FileFormatError(f"load_lenet: {source} does not fit: {error}") from None
    for name, parameter in model.named_parameters():
        if not np.isfinite(parameter.data).all():
            raise FileFormatError(
                f"load_lenet: {source}: {name} holds NaN or infinity, or more than float32 can; was its training broken off?"
            )
    return model.eval()


def read_state(path: str | os.PathLike[str]) -> tuple[dict[str, Array], dict[str, str]]:
    """Read LeNet's weights for pixels / 255, and the metadata but for "pixel_scale", which is in the weights then.

    Raises
    ------
    FileFormatError : damaged, of another kind, or with metadata that LeNet does not understand.
    """
    source, metadata = _check.path("load_lenet", path), dict[str, str]()
    if source.suffix.lower() == ".mat":
        from models import lenet_mat  # needs SciPy, which the other formats do not

        state = lenet_mat.load(source)
    elif source.suffix in serialize.SUFFIXES:
        state, metadata = serialize.load_with_metadata(source)
    else:
        raise FileFormatError(
            f"load_lenet: a weight file must end in .safetensors, .npz or .mat, got {source.name!r}; "
            "files with pickles in them (.pt, .pkl) could run code and are not read."
        )
    if (relu := metadata.get("relu_after_conv", "True")) not in ("True", "False"):
        raise FileFormatError(
            f"load_lenet: relu_after_conv in the metadata of {source} must be True or False, got {relu!r:.80}."
        )
    try:
        scale = _check.number("load_lenet", "pixel_scale", float(metadata.pop("pixel_scale", 255)), 1e-3, 1e6)
    except ValueError as error:
        raise FileFormatError(
            f"load_lenet: {source} was trained on pixels divided by what is no such number: {error}"
        ) from None
    first = state.get("conv1.weight")
    if scale != 255 and first is not None and first.dtype.kind == "f":  # others are refused where they go into a net
        wide = first.astype(np.result_type(first, np.float32))  # half precision could overflow
        with np.errstate(over="ignore"):
            state["conv1.weight"] = wide * (255 / scale)  # w (x / scale) = (255 / scale) w (x / 255)
    return state, metadata


def load_pairs(path: str | os.PathLike[str] = PAIR_WEIGHTS) -> PairNet:
    """Read the weights of the net for touching pairs, in evaluation mode, for pixels / 255.

    Raises
    ------
    FileNotFoundError, FileFormatError : no such file; a damaged one, or another net's.
    """
    return _filled("load_pairs", PairNet(np.random.default_rng(0)), path)


def load_ink(path: str | os.PathLike[str] = INK_WEIGHTS) -> InkNet:
    """Read the weights of the net that finds ink, in evaluation mode.

    Raises
    ------
    FileNotFoundError, FileFormatError : no such file; a damaged one, or another net's.
    """
    return _filled("load_ink", InkNet(np.random.default_rng(0)), path)


def _filled(function: str, net: _Net, path: str | os.PathLike[str]) -> _Net:
    state = serialize.load(path)
    try:
        net.load_state_dict(state)
    except (ShapeError, DtypeError) as error:
        raise FileFormatError(f"{function}: {path} does not fit: {error}") from None
    return net.eval()
