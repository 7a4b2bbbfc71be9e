"""Second derivatives by a complex step through the backward pass: exact to rounding, with no step size to choose.

With g the gradient, Im g(x + i h v) / h is H v for any tiny h, as rules run on complex numbers: nothing is subtracted,
so nothing cancels. Source: Squire & Trapp, SIAM Review 40 (1998).
"""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tinygrad_lite._types import Array
from tinygrad_lite.errors import DtypeError, ShapeError
from tinygrad_lite.tensor import Tensor, _to_array, as_tensor

STEP = 1e-100  # its square vanishes beside any number, and it is itself far from the smallest


def hvp(fn: Callable[[Tensor], Tensor], x: ArrayLike | Tensor, v: ArrayLike) -> Array:
    """Hessian of fn at x times v.

    Parameters
    ----------
    fn : function of one Tensor that gives a Tensor with one element
    x : array of any shape, floating
    v : array of the shape of x

    Returns
    -------
    ndarray, float64, of the shape of x

    Raises
    ------
    ShapeError : fn(x) has more than one element, or v does not have the shape of x.
    DtypeError : something in fn does not run on complex numbers, or drops their imaginary part.

    Notes
    -----
    At a kink (relu at 0) it is the slope of what the rules give there as gradient, whatever the sign of v; but of equal pixels
    max_pool2d chooses by v, and nothing is `==` a number there. NaN where fn is not finite.

    Examples
    --------
    >>> hvp(lambda x: (x**3).sum(), np.array([1.0, 2.0]), np.array([1.0, 1.0]))
    array([ 6., 12.])
    """
    point, direction = (_real(value) for value in (x, v))
    if direction.shape != point.shape:
        raise ShapeError(f"hvp: v must have the shape of x, got v.shape={direction.shape}, x.shape={point.shape}.")
    largest = float(np.abs(direction).max(initial=0))
    if not largest:
        return np.zeros(point.shape)
    leaf = Tensor(point + 1j * STEP * (direction / largest), requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error", np.exceptions.ComplexWarning)
        found = _second(fn, leaf) / STEP * largest
    with np.errstate(all="ignore"):  # complex numbers have a root of -1
        defined = np.isfinite(as_tensor(fn(Tensor(point))).data).all()
    return found if defined else np.full(point.shape, np.nan)


def _real(value: ArrayLike | Tensor) -> Array:
    array = _to_array(value, np.float64)
    if array.dtype.kind == "c":
        raise DtypeError(f"hvp: x and v must be real, got {array.dtype}; give real and imaginary part as two inputs.")
    return array.astype(np.float64, copy=False)


def _second(fn: Callable[[Tensor], Tensor], leaf: Tensor) -> Array:
    """Imaginary part of the gradient of fn at a complex leaf."""
    try:
        out = fn(leaf)
        if not isinstance(out, Tensor):
            raise DtypeError(f"hvp: fn must give a Tensor, got {type(out).__name__}; use operations of Tensors all the way.")
        if out.data.size != 1:
            raise ShapeError(f"hvp: fn must give one number, got shape {out.shape}; sum it, or weigh its elements.")
        if out.data.dtype.kind != "c":
            raise DtypeError(
                f"hvp: fn gave {out.data.dtype} for complex input: an operation in it drops the imaginary part "
                "(a cast, a comparison, .data); use operations of Tensors all the way."
            )
        out.backward(np.ones(out.shape, out.data.dtype), inputs=[leaf])  # not that of parameters which fn may hold
    except np.exceptions.ComplexWarning as error:
        raise DtypeError(f"hvp: a part of fn drops the imaginary part ({error}); leave out the cast there.") from None
    except TypeError as error:
        if isinstance(error, DtypeError) and str(error).startswith("hvp"):
            raise
        hint = "; what fn holds must be float64, a model too: model.to(np.float64)" if "float32" in str(error) else ""
        raise DtypeError(f"hvp: an operation in fn does not run on complex numbers ({error}){hint}.") from error
    grad: Any = leaf.grad
    if grad is None:
        return np.zeros(leaf.shape)
    if grad.dtype.kind != "c":
        raise DtypeError(f"hvp: the gradient came back as {grad.dtype}: a rule in fn drops the imaginary part.")
    return np.asarray(grad.imag)


def hessian(fn: Callable[[Tensor], Tensor], x: ArrayLike | Tensor) -> Array:
    """Hessian of fn at x, one `hvp` for each element of x.

    Parameters
    ----------
    fn : function of one Tensor that gives a Tensor with one element
    x : array of any shape, floating

    Returns
    -------
    ndarray, float64, shape (*x.shape, *x.shape)

    Raises
    ------
    ShapeError, DtypeError : as for `hvp`

    Examples
    --------
    >>> hessian(lambda x: x[0] ** 2 * x[1], np.array([1.0, 3.0]))
    array([[6., 2.],
           [2., 0.]])
    """
    point = _real(x)
    columns = [hvp(fn, point, unit.reshape(point.shape)) for unit in np.eye(point.size)]
    return np.array(columns).reshape(point.shape * 2)
