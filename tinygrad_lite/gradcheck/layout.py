"""The same numbers in another memory layout: Fortran order, reversed, strided, read-only, expanded."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinygrad_lite import _check
from tinygrad_lite.errors import ShapeError

Array = NDArray[Any]
LAYOUTS = ("C", "F", "reversed", "strided", "readonly")


def lay_out(array: Array, layout: str) -> Array:
    """Copy of array with equal values and the layout asked for.

    "C" and "F" are the two contiguous orders, "reversed" has negative strides, "strided" skips every other number in
    memory, "readonly" cannot be written. "expanded" repeats the first number with stride 0, so it changes values.

    Examples
    --------
    >>> lay_out(np.arange(3.0), "reversed").strides
    (-8,)
    """
    array = _check.array("lay_out", "array", array)
    if not isinstance(layout, str) or layout not in (*LAYOUTS, "expanded"):
        raise ShapeError(f"lay_out: layout must be one of {', '.join(LAYOUTS)} or expanded, got {layout!r:.80}.")
    if layout == "F":
        return np.array(array, order="F")
    if layout == "expanded" and array.size:
        return np.broadcast_to(np.array(array).reshape(-1)[:1].reshape((1,) * array.ndim), array.shape)
    copy = np.array(array, order="C")
    if layout == "reversed" and array.ndim:
        everywhere = (slice(None, None, -1),) * array.ndim
        return copy[everywhere].copy()[everywhere]
    if layout == "strided" and array.ndim:
        wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
        wide[..., ::2] = copy
        return wide[..., ::2]
    if layout == "readonly":
        copy.setflags(write=False)
    return copy


def layout_of(array: Array) -> str:
    """Name of an array's layout, one that `lay_out` can make again."""
    if array.size > 1 and 0 in array.strides and np.all(array == array.reshape(-1)[0]):
        return "expanded"
    if not array.flags.c_contiguous:
        if array.flags.f_contiguous:
            return "F"
        return "reversed" if min(array.strides, default=0) < 0 else "strided"
    return "C" if array.flags.writeable else "readonly"


def array_code(array: Array) -> str:
    """Python expression that makes the array again, bit for bit and in its layout."""
    values = repr(array.tolist()).replace("nan", "np.nan").replace("inf", "np.inf")
    plain = array.size and (array.dtype in (np.float64, np.int64, np.bool_) or array.dtype.kind in "US")
    dtype = "" if plain else f", dtype={array.dtype.str!r}" if array.dtype.kind in "US" else f", dtype=np.{array.dtype.name}"
    shape = "" if array.size or array.shape == (0,) else f".reshape{array.shape}"
    code, layout = f"np.array({values}{dtype}){shape}", layout_of(array)
    return code if layout == "C" else f'lay_out({code}, "{layout}")'
