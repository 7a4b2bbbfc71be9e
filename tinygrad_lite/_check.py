"""Checks of arguments: the one place that words an argument's error.

Every message has the form *function: what was expected, what came; what to do*.
"""

import functools
import math
import operator
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_lite._types import Array, Dims
from tinygrad_lite.errors import DtypeError, FileFormatError, OutOfBoundsError, ShapeError

LARGEST = 2**63 - 1  # what NumPy takes for a size


def integer(function: str, name: str, value: Any, minimum: int | None = None) -> int:
    """Return `value` as an int, or raise DtypeError (no integer) or ShapeError (below `minimum`)."""
    if type(value) is int:
        result = value
    else:
        try:
            result = operator.index(value)
        except TypeError:
            raise DtypeError(f"{function}: {name} must be an integer, got {value!r:.80} ({type(value).__name__}).") from None
        if isinstance(value, (bool, np.bool_)):
            raise DtypeError(f"{function}: {name} must be an integer, got the truth value {value!r}.")
    if not -LARGEST <= result <= LARGEST:
        raise ShapeError(f"{function}: {name} must fit into 64 bits, got a number of {result.bit_length()} bits.")
    if minimum is not None and result < minimum:
        raise ShapeError(f"{function}: {name} must be at least {minimum}, got {name}={result}.")
    return result


def number(function: str, name: str, value: Any, low: float = -np.inf, high: float = np.inf) -> float:
    """Return `value` as a float in [low, high], or raise DtypeError (no number) or ShapeError (out of range, NaN)."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise DtypeError(f"{function}: {name} must be a number, got {value!r:.80} ({type(value).__name__}).")
    try:
        result = float(value)
    except OverflowError:
        result = np.inf if value > 0 else -np.inf
        low, high = max(low, -np.finfo(float).max), min(high, np.finfo(float).max)
    if not low <= result <= high:
        raise ShapeError(f"{function}: {name} must lie in [{low:g}, {high:g}], got {name}={value!r:.40}.")
    return result


def positive(function: str, name: str, value: Any) -> float:
    """Return `value` as a float above 0, or raise as `number` does."""
    result = number(function, name, value)
    if not result > 0:
        raise ShapeError(f"{function}: {name} must be positive, got {name}={result}.")
    return result


def flag(function: str, name: str, value: Any) -> bool:
    """Return `value` as a truth value, or raise DtypeError."""
    if value is True or value is False:
        return bool(value)
    if isinstance(value, (np.bool_, int, np.integer)) and value in (0, 1):
        return bool(value)
    raise DtypeError(f"{function}: {name} must be True or False, got {value!r:.80} ({type(value).__name__}).")


def one_of(function: str, name: str, value: Any, allowed: tuple[str, ...]) -> str:
    """Return `value` if it is one of the words, or raise ShapeError."""
    if isinstance(value, str) and value in allowed:
        return value
    words = ", ".join(map(repr, allowed[:-1])) + f" or {allowed[-1]!r}"
    raise ShapeError(f"{function}: {name} must be {words}, got {value!r:.80}.")


def reduction(function: str, value: Any) -> str:
    """Return `value` if it is one of the ways to make one number of a loss of each, or raise ShapeError."""
    return one_of(function, "reduction", value, ("mean", "sum", "none"))


def approximate(function: str, value: Any) -> str:
    """Return `value` if it is one of the formulas for GELU, or raise ShapeError."""
    return one_of(function, "approximate", value, ("none", "tanh"))


def generator(function: str, rng: Any) -> np.random.Generator:
    """Return `rng`, or raise DtypeError where it is not a source of random numbers."""
    if not isinstance(rng, np.random.Generator):
        raise DtypeError(
            f"{function}: rng must be a numpy.random.Generator, got {rng!r:.80} ({type(rng).__name__}); "
            "pass np.random.default_rng(seed)."
        )
    return rng


def dtype(function: str, value: Any) -> np.dtype[Any]:
    """Return `value` as the dtype of numbers that it names, or raise DtypeError."""
    try:
        result: np.dtype[Any] = np.dtype(value)
    except (TypeError, ValueError, RecursionError):
        result = np.dtype(object)
    if value is None or result.kind not in "biufc":
        hint = "; there is one device" if str(value).split(":")[0] in ("cpu", "cuda", "mps") else ""
        raise DtypeError(f"{function}: dtype must be a dtype of numbers, such as np.float32, got {value!r:.80}{hint}.")
    return result


def integers(function: str, name: str, values: Any, minimum: int | None = None) -> tuple[int, ...]:
    """Return a sequence of integers as a tuple, or raise as `integer` does."""
    if not isinstance(values, (tuple, list)):
        raise DtypeError(f"{function}: {name} must be a tuple of integers, got {values!r:.80} ({type(values).__name__}).")
    return tuple([integer(function, name, value, minimum) for value in values])


def entries(function: str, state: Any, names: Iterable[str]) -> None:
    """Refuse what is no mapping, or has not all the names."""
    if not isinstance(state, Mapping):
        hint = "; give its .state_dict()" if hasattr(state, "state_dict") else ""
        raise DtypeError(f"{function}: needs a mapping, such as state_dict() gives, got {type(state).__name__}{hint}.")
    if missing := [name for name in names if name not in state]:
        raise ShapeError(f"{function}: {missing[0]!r} is missing; got the names {list(state)[:5]!r:.200}.")


def function_of(function: str, name: str, value: Any) -> Callable[..., Any]:
    """Return `value` if it can be called, or raise DtypeError."""
    if not callable(value):
        raise DtypeError(f"{function}: {name} must be a function, got {value!r:.80} ({type(value).__name__}).")
    return value  # type: ignore[no-any-return]


def listed(function: str, name: str, values: Any) -> list[Any]:
    """Return what can be gone through as a list, or raise DtypeError."""
    try:
        return list(values)
    except TypeError:
        hint = "; give its .parameters()" if hasattr(values, "parameters") else ""
        raise DtypeError(f"{function}: {name} must be a list or an iterator, got {type(values).__name__}{hint}.") from None


def array(function: str, name: str, value: Any) -> Array:
    """Return `value` as an array, or raise ShapeError where its lists differ in length."""
    try:
        return np.asarray(value)
    except ValueError as error:
        raise ShapeError(f"{function}: {name} must be an array, got {value!r:.80} ({error}).") from None


def path(function: str, value: Any) -> Path:
    """Return `value` as a Path, or raise DtypeError (no path) or FileFormatError (no file can have this name)."""
    try:
        result = Path(value)
    except TypeError:
        raise DtypeError(f"{function}: a file needs a path, got {value!r:.80} ({type(value).__name__}).") from None
    if "\0" in str(result):
        raise FileFormatError(f"{function}: a file name cannot hold the character 0, got {str(result)!r:.80}.")
    return result


def pair(function: str, name: str, value: Any, minimum: int) -> tuple[int, int]:
    """Return (vertical, horizontal) from an int or from a pair of ints."""
    if type(value) is int and minimum <= value <= LARGEST:  # as nearly always
        return value, value
    if isinstance(value, (tuple, list)):
        if len(value) != 2:
            raise ShapeError(
                f"{function}: {name} must be an int or (vertical, horizontal), got {value!r} with {len(value)} entries."
            )
        down, right = value
        if type(down) is type(right) is int and minimum <= down <= LARGEST and minimum <= right <= LARGEST:
            return down, right
        return integer(function, name, down, minimum), integer(function, name, right, minimum)
    both = integer(function, name, value, minimum)
    return both, both


def ends(function: str, part: slice) -> slice:
    """Return a slice, or raise DtypeError where it is not of integers."""
    for end in (part.start, part.stop, part.step):
        if end is not None and type(end) is not int:
            try:
                operator.index(end)
            except TypeError:
                what = f"{end!r:.80} ({type(end).__name__})"
                raise DtypeError(f"{function}: a slice needs integers, got {what}; round with int().") from None
    return part


def axis(function: str, name: str, value: Any, ndim: int) -> int:
    """Return one axis counted from the front; negative ones count from the end."""
    if type(value) is int and -ndim <= value < ndim:  # as nearly always
        return value % ndim
    result = integer(function, name, value)
    limit = max(ndim, 1)  # as in PyTorch, a 0-d array takes the axes 0 and -1
    if not -limit <= result < limit:
        raise OutOfBoundsError(f"{function}: {name}={result} is out of range for {ndim} axes; use {-limit} to {limit - 1}.")
    return result % limit


def axes(function: str, dim: Dims, ndim: int) -> tuple[int, ...]:
    """Return the axes to reduce over, counted from the front; None means all of them."""
    if dim is None:
        return tuple(range(ndim))
    found = tuple(axis(function, "dim", d, ndim) for d in (dim if isinstance(dim, (tuple, list)) else (dim,)))
    if len(set(found)) != len(found):
        raise ShapeError(f"{function}: dim={dim!r} names an axis twice; name each axis once.")
    return found if ndim else ()


def rank(function: str, name: str, shape: tuple[int, ...], allowed: tuple[int, ...], layout: str) -> None:
    """Refuse the shape of an array whose number of axes is not one of `allowed`."""
    if len(shape) not in allowed:
        wanted = " or ".join(f"{n}-D" for n in allowed)
        raise ShapeError(
            f"{function}: {name} must be {wanted}, {layout}, but {name}.shape={shape} has {len(shape)} axes; "
            f"reshape or index {name} first."
        )


def same_dtype(function: str, names: str, *arrays: Array | None) -> np.dtype[Any]:
    """Return the dtype of all, and refuse a mixture of precisions: a silent promotion would double memory and time.

    Complex beside real of the same precision passes, and is complex: that is a complex step. `names`: with spaces between.
    """
    dtypes = [x.dtype for x in arrays if x is not None]
    if dtypes.count(dtypes[0]) == len(dtypes):
        return dtypes[0]
    given = {name: x.real.dtype for name, x in zip(names.split(), arrays, strict=True) if x is not None}
    if len(set(given.values())) > 1:
        listed = ", ".join(f"{name}.dtype={dtype}" for name, dtype in given.items())
        raise DtypeError(
            f"{function}: all arrays must have the same dtype, got {listed}; convert one with .to(dtype), or .astype(dtype)."
        )
    return np.result_type(*dtypes)


def writable(function: str, what: str, x: Array) -> None:
    """Refuse an array that is to be changed in place and cannot be."""
    if not x.flags.writeable:
        raise DtypeError(f"{function}: {what} (shape={x.shape}) cannot be written; make it of a copy, Tensor(data).")


def not_empty(function: str, name: str, x: Array, what: str, axes: tuple[int, ...] | None = None) -> None:
    """Refuse an array without elements, or without any along `axes`, where the result would not be defined."""
    if 0 in (x.shape if axes is None else [x.shape[axis] for axis in axes]):
        raise ShapeError(f"{function}: {what} of no elements is not defined, {name}.shape={x.shape}; give at least one.")


def class_indices(function: str, targets: Array, classes: int, shape: tuple[int, ...]) -> Array:
    """Return `targets` as integer class indices of the expected shape, each in [0, classes)."""
    if targets.dtype.kind not in "iu":
        raise DtypeError(
            f"{function}: targets must be integer class indices, got targets.dtype={targets.dtype}; "
            "convert them, an array with .astype(np.int64), a Tensor with .to(np.int64); "
            "of probabilities p the loss is -(p * F.log_softmax(logits, 1)).sum(1).mean()."
        )
    if targets.shape != shape:
        raise ShapeError(
            f"{function}: targets must have shape {shape} (the logits without their class axis), "
            f"got targets.shape={targets.shape}."
        )
    if targets.size and not (targets.min() >= 0 and targets.max() < classes):
        wrong = targets.max() if targets.max() >= classes else targets.min()
        raise ShapeError(f"{function}: targets must lie in 0 to {classes - 1} for {classes} classes, got {wrong}.")
    return targets.astype(np.intp, copy=False)


@functools.cache
def memory_limit() -> int:
    """Bytes of memory that this machine has; without end where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return 1 << 62


def fits_memory(function: str, what: str, shape: Iterable[int], dtype: Any = np.float32) -> None:
    """Refuse sizes that the machine's memory cannot hold, before it is asked for."""
    sizes = tuple(shape)
    wanted = math.prod(sizes) * np.dtype(dtype).itemsize
    if wanted > memory_limit():
        raise ShapeError(
            f"{function}: {what} of shape {sizes} would need {wanted >> 20:,} MiB, and this machine has "
            f"{memory_limit() >> 20:,}; use smaller sizes."
        )
