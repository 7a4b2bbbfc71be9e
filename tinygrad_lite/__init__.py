"""A small autograd framework on NumPy whose gradients are fuzzed, not believed."""

from typing import TYPE_CHECKING

from tinygrad_lite import _memory, data, functional, nn, optim, serialize
from tinygrad_lite._elsewhere import attributes_of
from tinygrad_lite.errors import (
    DtypeError,
    FileFormatError,
    GradientError,
    OutOfBoundsError,
    ShapeError,
    TapeError,
    TinygradError,
    TrainingError,
)
from tinygrad_lite.tape import no_grad
from tinygrad_lite.tensor import Tensor, apply, as_tensor

_memory.keep_freed_memory()

__version__ = "0.1.0"

__all__ = [
    "DtypeError",
    "FileFormatError",
    "GradientError",
    "OutOfBoundsError",
    "ShapeError",
    "TapeError",
    "Tensor",
    "TinygradError",
    "TrainingError",
    "apply",
    "as_tensor",
    "data",
    "functional",
    "nn",
    "no_grad",
    "optim",
    "serialize",
]

if not TYPE_CHECKING:  # a type checker would take it for a promise
    __getattr__ = attributes_of(__name__)
