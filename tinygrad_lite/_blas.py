"""OpenBLAS, to which NumPy leaves matrix products: how many threads it uses, and the sizes of product that it is quickest at.

OpenBLAS first copies both factors of a product into an order of its own. With AVX-512 it has kernels for small products beside
that, which read the factors where they lie. So a product with one short side, as all of LeNet's have, is quicker in pieces
that OpenBLAS calls small. Without these kernels pieces are slower, and nothing is cut.

Source: OpenBLAS 0.3.31, kernel/x86_64/sgemm_small_kernel_permit_skylakex.c and the kernels beside it.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tinygrad_lite._types import Array

SMALL = 1_000_000  # multiply-adds, up to which OpenBLAS calls a product small,
DOTS = 1_200  # and elements of its result, where it is made of dot products: rows of one factor times rows of the other
SUMMANDS = 96  # of a dot product, below which pieces do not pay
VECTOR, UNROLLED = 16, 6  # columns and rows that the kernels take at a time
FAR = 8192  # bytes from row to row, above which a narrow piece of many rows is slow to read
WITH_SMALL_KERNELS = ("SkylakeX", "Cooperlake", "SapphireRapids")


@functools.cache
def _linked() -> tuple[ctypes.CDLL, str] | None:
    """The library that NumPy is linked to, and how OpenBLAS's functions are called in it; None under another BLAS."""
    try:
        library = ctypes.CDLL(sys.modules["numpy._core._multiarray_umath"].__file__)  # and the libraries it is linked to
    except (KeyError, OSError, TypeError):
        return None
    for name in ("scipy_openblas_{}64_", "openblas_{}64_", "openblas_{}"):
        if hasattr(library, name.format("set_num_threads")):
            return library, name
    return None


class ThreadSetting(NamedTuple):
    """The functions that give and set the number of OpenBLAS's threads, for the whole process."""

    get: Callable[[], int]
    set: Callable[[int], None]


@functools.cache
def thread_setting() -> ThreadSetting | None:
    """The number of OpenBLAS's threads, to be had and set; None under another BLAS."""
    if (linked := _linked()) is None:
        return None
    library, name = linked
    return ThreadSetting(*[getattr(library, name.format(f"{verb}_num_threads")) for verb in ("get", "set")])


@functools.cache
def has_small_kernels() -> bool:
    """Whether OpenBLAS has kernels for small products on this machine; OPENBLAS_CORETYPE has a say in it."""
    if (linked := _linked()) is None:
        return False
    library, name = linked
    core = getattr(library, name.format("get_corename"))
    core.restype = ctypes.c_char_p
    return core().decode() in WITH_SMALL_KERNELS


def product(a: Array, b: Array, out: Array) -> None:
    """np.matmul(a, b, out=out) of factors (..., n, k) and (..., k, m), in pieces where these are quicker."""
    if a.size * b.shape[-1] <= DOTS * SUMMANDS or not has_small_kernels():
        np.matmul(a, b, out=out)
        return
    n, (k, m) = a.shape[-2], b.shape[-2:]
    dots = b.strides[-1] != b.itemsize and not a.strides[-2] == a.itemsize != a.strides[-1]
    rows, columns = _piece(n, k, m, b.dtype if a.dtype == b.dtype == out.dtype else None, dots, b.strides[-2])
    if columns < m:
        pieces, rest = m // columns, m - m % columns
        cut = b[..., :rest].reshape(*b.shape[:-1], pieces, columns), out[..., :rest].reshape(*out.shape[:-1], pieces, columns)
        np.matmul(a[..., None, :, :], cut[0].swapaxes(-2, -3), out=cut[1].swapaxes(-2, -3))
        if rest < m:
            np.matmul(a, b[..., rest:], out=out[..., rest:])
    elif rows < n:
        pieces, rest = n // rows, n - n % rows
        top = a[..., :rest, :].reshape(*a.shape[:-2], pieces, rows, k)
        np.matmul(top, b[..., None, :, :], out=out[..., :rest, :].reshape(*out.shape[:-2], pieces, rows, m))
        if rest < n:
            np.matmul(a[..., rest:, :], b, out=out[..., rest:, :])
    else:
        np.matmul(a, b, out=out)


@functools.lru_cache(1024)
def _piece(n: int, k: int, m: int, dtype: np.dtype[Any] | None, dots: bool, step: int) -> tuple[int, int]:
    """Rows and columns of a piece of the result n x m. `dots`: of dot products; `step`: bytes from row to row of b."""
    if dtype is None or dtype.kind != "f" or min(n, m) == 1:
        return n, m
    elements = SMALL // k  # of a piece
    if dots:
        elements = min(elements, DOTS) if k >= SUMMANDS else n * m
    if n * m <= elements:
        return n, m
    columns = elements // n // VECTOR * VECTOR
    if columns and not dots and step > FAR and columns * dtype.itemsize * 8 < FAR and k > VECTOR:
        return n, m
    if columns:  # so many that they divide m, if possible
        return n, next((width for width in range(columns, 0, -VECTOR) if m % width == 0), columns)
    return elements // m // UNROLLED * UNROLLED or n, m
