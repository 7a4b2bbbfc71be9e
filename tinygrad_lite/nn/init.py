"""Initial values of weights. Each takes a shape and a generator and gives an array (float32 unless told).

`fan_in` is the number of inputs that one output is a sum over: in_features, or c_in / groups * kh * kw.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import DTypeLike

from tinygrad_lite import _check
from tinygrad_lite._elsewhere import attributes_of
from tinygrad_lite._types import Array
from tinygrad_lite.errors import DtypeError, ShapeError

LARGEST = 1e38  # a bound or deviation that float32 can hold


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """Give (fan_in, fan_out) of a weight (out, in, ...)."""
    shape = _check.integers("fans", "shape", shape, 0)
    if len(shape) < 2:
        raise ShapeError(f"fans: a weight needs at least two axes, (out, in, ...), got shape {shape}.")
    field = math.prod(shape[2:])
    return shape[1] * field, shape[0] * field


def uniform(shape: tuple[int, ...], bound: float, rng: np.random.Generator, dtype: DTypeLike = np.float32) -> Array:
    """Evenly from [-bound, bound)."""
    limit = _check.number("uniform", "bound", bound, 0, LARGEST)
    return _drawn("uniform", shape, dtype, lambda sizes: _check.generator("uniform", rng).uniform(-limit, limit, sizes))


def normal(shape: tuple[int, ...], std: float, rng: np.random.Generator, dtype: DTypeLike = np.float32) -> Array:
    """From the normal distribution with mean 0."""
    width = _check.number("normal", "std", std, 0, LARGEST)
    return _drawn("normal", shape, dtype, lambda sizes: _check.generator("normal", rng).normal(0.0, width, sizes))


def kaiming_uniform(
    shape: tuple[int, ...], rng: np.random.Generator, gain: float = math.sqrt(2.0), dtype: DTypeLike = np.float32
) -> Array:
    """Uniform with standard deviation gain / sqrt(fan_in); gain sqrt(2) is meant for ReLU. Source: He et al. 2015, eq. 10."""
    return uniform(shape, _gain(gain) * math.sqrt(3 / max(fans(shape)[0], 1)), rng, dtype)


def kaiming_normal(
    shape: tuple[int, ...], rng: np.random.Generator, gain: float = math.sqrt(2.0), dtype: DTypeLike = np.float32
) -> Array:
    """Normal with standard deviation gain / sqrt(fan_in); gain sqrt(2) is meant for ReLU. Source: He et al. 2015, eq. 10."""
    return normal(shape, _gain(gain) / math.sqrt(max(fans(shape)[0], 1)), rng, dtype)


def xavier_uniform(shape: tuple[int, ...], rng: np.random.Generator, dtype: DTypeLike = np.float32) -> Array:
    """Uniform with variance 2 / (fan_in + fan_out). Source: Glorot & Bengio 2010, eq. 16."""
    return uniform(shape, math.sqrt(6 / max(sum(fans(shape)), 1)), rng, dtype)


def caffe_xavier(shape: tuple[int, ...], rng: np.random.Generator, dtype: DTypeLike = np.float32) -> Array:
    """Uniform with variance 1 / fan_in: what Caffe calls "xavier". Source: Caffe's filler.hpp, XavierFiller."""
    return uniform(shape, math.sqrt(3 / max(fans(shape)[0], 1)), rng, dtype)


def torch_default(shape: tuple[int, ...], rng: np.random.Generator, dtype: DTypeLike = np.float32) -> Array:
    """Uniform within 1 / sqrt(fan_in), what PyTorch gives to Linear and Conv2d. Source: LeCun et al. 1998b, section 4.6."""
    return uniform(shape, 1 / math.sqrt(max(fans(shape)[0], 1)), rng, dtype)


def _gain(gain: float) -> float:
    return _check.number("init", "gain", gain, 0, LARGEST)


def _drawn(function: str, shape: tuple[int, ...], dtype: DTypeLike, draw: Callable[[tuple[int, ...]], Array]) -> Array:
    sizes = _check.integers(function, "shape", shape, 0)
    _check.fits_memory(function, "an array", sizes, np.float64)
    if len(sizes) > 64 or (wanted := _check.dtype(function, dtype)).kind not in "fc":
        raise DtypeError(f"{function}: makes floating arrays of at most 64 axes, got {len(sizes)} axes and dtype={dtype}.")
    return draw(sizes).astype(wanted)


if not TYPE_CHECKING:  # a type checker would take it for a promise
    __getattr__ = attributes_of(__name__)
