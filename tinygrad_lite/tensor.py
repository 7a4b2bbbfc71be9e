"""Tensor: an array that remembers how it was made.

The methods are the definitions; `tinygrad_lite.functional` has the same operations as functions, documented with their shapes.
This file is long because Python wants all methods and operators of a class in one place.
"""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from tinygrad_lite import _check, tape
from tinygrad_lite._elsewhere import missing
from tinygrad_lite._types import Array, Dims, Rule, Vjp
from tinygrad_lite.errors import DtypeError, OutOfBoundsError, ShapeError, TapeError, TinygradError
from tinygrad_lite.ops import activation, elementwise, matmul, reduction, shape, softmax
from tinygrad_lite.ops.elementwise import BOTH, LEFT, NEITHER, RIGHT
from tinygrad_lite.tape import Node, state


class Tensor:
    """An array with a gradient.

    Parameters
    ----------
    data : Python numbers (nested lists too), ndarray or Tensor
        Copied, so that changing it later does not change what was computed. Python numbers become float32,
        arrays keep their dtype.
    requires_grad : bool, default False
        Whether backward() shall leave the gradient by this tensor in `.grad`.
    dtype : NumPy dtype, optional
        Convert to this.

    Attributes
    ----------
    data : ndarray
        The values. Assign or write into it only outside of what is being differentiated.
    grad : ndarray or None
        After backward(): the derivative by this tensor, of its shape and dtype, summed over calls until zero_grad().
        Only leaves have one, that is tensors which were not computed from others.

    Raises
    ------
    DtypeError : the data are no numbers, or integers that want a gradient.

    Examples
    --------
    >>> x = Tensor([1.0, 2.0, 3.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad
    array([2., 4., 6.], dtype=float32)
    """

    __slots__ = ("__weakref__", "_frozen", "_node", "data")
    __hash__ = object.__hash__

    def __init__(self, data: "ArrayLike | Tensor", requires_grad: bool = False, dtype: DTypeLike | None = None) -> None:
        wanted = None if dtype is None else _check.dtype("Tensor", dtype)
        self.data: Array = np.array(_to_array(data, wanted or np.float32), dtype=wanted)
        self._node: Node | None = None
        self._frozen: tape.Leaf | None = None  # where its gradient went before; what was computed has no such attribute
        if type(requires_grad) is int:  # a size, from who knows torch.Tensor(2, 1)
            raise DtypeError(
                f"Tensor: takes data, and requires_grad must be True or False, got {requires_grad}; "
                "for a tensor of a certain size give an array, such as np.zeros((2, 1))."
            )
        if _check.flag("Tensor", "requires_grad", requires_grad):
            self.requires_grad = True
            self._lend(False)

    @property
    def requires_grad(self) -> bool:
        """Whether a gradient flows to or through this tensor. Can be set on leaves."""
        return self._node is not None

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if self._node is not None and not self.is_leaf:
            raise TapeError("requires_grad: can be changed on leaves only, and this tensor was computed; use detach().")
        value = _check.flag("Tensor", "requires_grad", value)
        if value and self.data.dtype.kind not in "fc":
            raise DtypeError(
                f"Tensor: only floating point tensors can require a gradient, got dtype={self.data.dtype}; "
                "convert the data to float32 first."
            )
        if value and self._node is None:
            self._node = getattr(self, "_frozen", None) or tape.Leaf()
            self._lend()  # to what was computed from it as a constant
        elif not value and self._node is not None:
            self._frozen, self._node = cast(tape.Leaf, self._node), None  # what was computed before still finds its leaf

    @property
    def is_leaf(self) -> bool:
        """Whether this tensor was made by hand and not computed from tensors that require a gradient."""
        return self._node is None or isinstance(self._node, tape.Leaf)

    @property
    def grad(self) -> Array | None:
        """Gradient of a leaf, of the shape and dtype of its data; None before backward().

        Of a complex leaf z the derivative dL/dz, which a complex step needs; PyTorch gives its conjugate.
        """
        node = self._node
        grad = node.grad if isinstance(node, tape.Leaf) else None
        if grad is not None and (grad.dtype != self.data.dtype or grad.shape != self.data.shape):
            node.grad = grad = self._fitted(grad)  # type: ignore[union-attr]
        return grad

    @grad.setter
    def grad(self, value: ArrayLike | None) -> None:
        if not isinstance(self._node, tape.Leaf):
            if value is None:
                return  # as it was
            raise TapeError("grad: only a leaf with requires_grad=True has a gradient to set.")
        gradient = None if value is None else _to_array(value, self.data.dtype).astype(self.data.dtype, copy=False)
        if gradient is not None and gradient.shape != self.data.shape:
            raise ShapeError(f"grad: must have the tensor's shape {self.data.shape}, got {gradient.shape}.")
        self._node.grad = gradient

    def _fitted(self, grad: Array) -> Array:
        """Give what came back as gradient in the dtype of the data: of a product with complex numbers the real part."""
        if grad.shape != self.shape:
            raise ShapeError(
                f"grad: a gradient of shape {grad.shape} came back for a tensor of shape {self.shape}; "
                "the vjp of a rule on the way must return gradients of the shapes of its inputs."
            )
        return (grad if self.data.dtype.kind == "c" else grad.real).astype(self.data.dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        """Size of each axis."""
        return self.data.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """NumPy dtype of the data."""
        return self.data.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self.data.ndim

    @property
    def size(self) -> int:
        """Number of elements."""
        return self.data.size

    @property
    def T(self) -> "Tensor":  # noqa: N802 - NumPy's and PyTorch's name
        """The tensor with its axes in reverse order."""
        return self.permute(*reversed(range(self.ndim)))

    # -- the tape ------------------------------------------------------------------------------------------------

    def backward(
        self, cotangent: "ArrayLike | Tensor | None" = None, inputs: "Sequence[Tensor] | Tensor | None" = None
    ) -> None:
        """Add the derivative of <cotangent, this tensor> to the `.grad` of every leaf that it was computed from.

        Frees the graph.

        Parameters
        ----------
        cotangent : array of this tensor's shape; may be left out where there is one element
        inputs : leaves, optional; only these get a gradient, and that of others stays as it is

        Raises
        ------
        TapeError : nothing was recorded (no leaf requires a gradient, or under no_grad), or the graph is freed already;
            a leaf was changed in place since it was used; one of the inputs is no leaf that requires a gradient.
        ShapeError : no cotangent for more than one element, or one of another shape.
        """
        if not state.recording:
            raise TapeError("backward: called under no_grad(), where nothing is recorded; leave the block first.")
        if self._node is None:
            raise TapeError(
                "backward: this tensor does not require a gradient: it was computed from no leaf with "
                "requires_grad=True, or under no_grad(), or was detached."
            )
        if cotangent is None:
            if self.data.size != 1:
                raise ShapeError(
                    f"backward: a tensor of {self.data.size} elements (shape={self.data.shape}) needs a cotangent of that "
                    "shape; reduce it to one number, for example with .sum() or .mean(), or pass one."
                )
            g = np.ones_like(self.data)
        else:
            g = np.asarray(_to_array(cotangent, self.data.dtype), self.data.dtype)  # a leaf copies what others hold
            if g.shape != self.data.shape:
                raise ShapeError(f"backward: cotangent must have shape {self.data.shape}, got {g.shape}.")
        only: set[Node] | None = None
        if inputs is not None:
            leaves = [inputs] if isinstance(inputs, Tensor) else _check.listed("backward", "inputs", inputs)
            only = {leaf._node for leaf in leaves if isinstance(leaf, Tensor) and isinstance(leaf._node, tape.Leaf)}
            if len(only) < len(leaves):
                raise TapeError("backward: inputs must be leaves that require a gradient, each named once.")
        tape.backward(self._node, g, only)

    def zero_grad(self) -> None:
        """Forget the gradient: `.grad` is None again."""
        for node in self._node, getattr(self, "_frozen", None):
            if isinstance(node, tape.Leaf):
                node.grad = None

    def detach(self) -> "Tensor":
        """Return the same data (not a copy) as a tensor without history, which keeps them when a leaf is changed in place."""
        self._lend()
        return _wrap(self.data)

    def numpy(self) -> Array:
        """Return the data as an ndarray that shares memory with the tensor, and that no gradient flows through."""
        return self.data

    def item(self) -> Any:
        """Return the only element as a Python number."""
        if self.data.size != 1:
            raise ShapeError(f"item: needs a tensor of one element, got shape={self.data.shape}; index it first.")
        return self.data.item()

    def tolist(self) -> Any:
        """Return the data as nested lists of Python numbers."""
        return self.data.tolist()

    def __repr__(self) -> str:
        name = type(self).__name__
        text = np.array2string(self.data, separator=", ", prefix=f"{name}(", threshold=100, edgeitems=3)
        notes = "" if self.dtype == np.float32 else f", dtype={self.dtype}"
        if self.size == 0 or self.size > 100:
            notes += f", shape={self.shape}"
        if self._node is not None:
            notes += ", requires_grad=True" if self.is_leaf else f", made by {self._node.rule_name}"
        return f"{name}({text}{notes})"

    # -- as Python and NumPy see it ------------------------------------------------------------------------------

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
        if self._node is not None and state.recording:
            self._refuse_if_recorded("np.asarray", self)
        return np.array(self.data, dtype=dtype, copy=copy)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        """Keep NumPy's functions on the tape where they have a rule; never drop a gradient without a word."""
        name = _UFUNCS.get(ufunc.__name__)
        if method == "__call__" and name is not None and not kwargs:
            if name in _COMPARISONS:
                return _compare(name, *inputs)
            operands = _operands(*inputs, floating=name == "__truediv__") if len(inputs) == 2 else inputs
            return getattr(operands[0], name)(*operands[1:])
        self._refuse_if_recorded(f"np.{ufunc.__name__}", (*inputs, *kwargs.values()))
        return getattr(ufunc, method)(*_without_tensors(inputs), **_without_tensors(kwargs))

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        self._refuse_if_recorded(f"np.{function.__name__}", (*args, *kwargs.values()))
        return function(*_without_tensors(args), **_without_tensors(kwargs))

    @staticmethod
    def _refuse_if_recorded(function: str, values: Any) -> None:
        if lost := [tensor.shape for tensor in _tensors_in(values) if tensor.requires_grad]:
            raise DtypeError(
                f"{function}: would lose the gradient of a tensor that requires one (shape={lost[0]}); use an operation "
                "of Tensor or tinygrad_lite.functional, or x.detach() or x.numpy() where no gradient is wanted."
            )

    if not TYPE_CHECKING:  # a type checker would take it for a promise

        def __getattr__(self, name: str) -> Any:
            """Say what stands here for a name of PyTorch's, or why a property failed."""
            if isinstance(vars(Tensor).get(name), property) and not isinstance(self.data, np.ndarray):
                what = type(self.data).__name__
                raise DtypeError(f"Tensor: .data must be an array, got {what}; assign np.array(...), or make a Tensor of it.")
            raise missing(self, name)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Copy and pickle leaves; a copy of a computed tensor would send its gradient to copies of the leaves."""
        if not self.is_leaf:
            raise TapeError("copy: only tensors that were not computed from others can be copied or pickled; use x.detach().")
        return super().__reduce_ex__(protocol)

    def __copy__(self) -> "Tensor":
        """Give a leaf of its own, with the same data (not a copy), and no gradient yet."""
        self.__reduce_ex__(4)  # refuses what was computed
        self._lend()
        result = _new(type(self))
        result.data, result._node, result._frozen = self.data, None, None
        result.requires_grad = self.requires_grad
        if hasattr(self, "__dict__"):  # of a class of somebody's own
            vars(result).update(vars(self))
        return result

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else str(self)

    def __len__(self) -> int:
        if not self.ndim:
            raise DtypeError("len: a tensor without axes has no length.")
        return len(self.data)

    def __iter__(self) -> Iterator["Tensor"]:
        if not self.ndim:
            raise DtypeError("iter: a tensor without axes has no elements to go through; use .item().")
        return (self[i] for i in range(len(self.data)))

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ShapeError(f"bool: a tensor of {self.size} elements is neither true nor false; use .data.any() or .all().")
        return bool(self.data)

    def __float__(self) -> float:
        return float(self._real("float"))

    def __int__(self) -> int:
        value = self._real("int")
        if value - value != 0:
            raise ShapeError(f"int: got {value}, which is no integer.")
        return int(value)

    def __index__(self) -> int:
        if self.data.dtype.kind not in "iu":
            raise DtypeError(f"Tensor: only integers can be an index or a count, got dtype={self.dtype}; convert with int().")
        return int(self.item())

    def _real(self, function: str) -> Any:
        if self.data.dtype.kind == "c":
            raise DtypeError(f"{function}: needs a real number, got dtype={self.dtype}; take .data.real first.")
        return self.item()

    def __getitem__(self, key: Any) -> "Tensor":
        """Index as NumPy does: in x[0, :, [1, 2]], a number apart from an array, the array's axis comes first;
        in PyTorch it stays in its place.
        """
        plain = tuple(_plain_index(part, self) for part in key) if isinstance(key, tuple) else _plain_index(key, self)
        try:
            return _apply(shape.index, self, key=plain)
        except ShapeError:
            raise
        except (IndexError, OverflowError) as error:
            raise OutOfBoundsError(f"index: {error} (shape={self.shape}).") from None
        except ValueError as error:
            raise ShapeError(f"index: {error} (shape={self.shape}).") from None

    def __setitem__(self, key: Any, value: Any) -> None:
        raise TapeError(
            "Tensor: elements cannot be assigned, for what was computed before may still need them; use F.where, F.cat or "
            "F.stack, or write into x.data outside of what is being differentiated."
        )

    # -- operators -----------------------------------------------------------------------------------------------

    def __add__(self, other: Any) -> "Tensor":
        return _binary(elementwise.add, self, other)

    def __radd__(self, other: Any) -> "Tensor":
        return _binary(elementwise.add, other, self)

    def __sub__(self, other: Any) -> "Tensor":
        return _binary(elementwise.sub, self, other)

    def __rsub__(self, other: Any) -> "Tensor":
        return _binary(elementwise.sub, other, self)

    def __mul__(self, other: Any) -> "Tensor":
        return _binary(elementwise.mul, self, other)

    def __rmul__(self, other: Any) -> "Tensor":
        return _binary(elementwise.mul, other, self)

    def __truediv__(self, other: Any) -> "Tensor":
        return _binary(elementwise.div, *_both_floating(self, other))

    def __rtruediv__(self, other: Any) -> "Tensor":
        return _binary(elementwise.div, *_both_floating(other, self))

    def __pow__(self, other: Any) -> "Tensor":
        return _binary(elementwise.pow, self, other)

    def __rpow__(self, other: Any) -> "Tensor":
        return _binary(elementwise.pow, other, self)

    def __matmul__(self, other: Any) -> "Tensor":
        return _binary(matmul.matmul, self, other)

    def __rmatmul__(self, other: Any) -> "Tensor":
        return _binary(matmul.matmul, other, self)

    # x += y changes x, wherever else it is known, as in PyTorch: for p in model.parameters(): p -= lr * p.grad
    # Of all but a leaf it is the array that is another one. What was computed from x keeps the old values, views too.

    def __iadd__(self, other: Any) -> "Tensor":
        return self._in_place(self + other)

    def __isub__(self, other: Any) -> "Tensor":
        return self._in_place(self - other)

    def __imul__(self, other: Any) -> "Tensor":
        return self._in_place(self * other)

    def __itruediv__(self, other: Any) -> "Tensor":
        return self._in_place(self / other)

    def __ipow__(self, other: Any) -> "Tensor":
        return self._in_place(self**other)

    def __iand__(self, other: Any) -> "Tensor":
        return self._in_place(self & other)

    def __ior__(self, other: Any) -> "Tensor":
        return self._in_place(self | other)

    def __ixor__(self, other: Any) -> "Tensor":
        return self._in_place(self ^ other)

    def _in_place(self, result: "Tensor") -> "Tensor":
        if not isinstance(result, Tensor):  # what the other operand made of it
            return result
        is_leaf = isinstance(self._node, tape.Leaf)
        if is_leaf and state.recording:
            raise TapeError(
                "in place: a leaf that requires a gradient can be changed under no_grad() only, as in an optimiser's step; "
                "for a new tensor write x = x + y."
            )
        if result.shape != self.shape:
            raise ShapeError(f"in place: the result has shape {result.shape}, the tensor {self.shape}; they must be the same.")
        if not np.can_cast(result.dtype, self.dtype, "same_kind"):
            raise DtypeError(f"in place: the result has dtype={result.dtype}, which does not go into {self.dtype}.")
        if is_leaf:
            _check.writable("in place", "the array of a tensor", self.data)
            self._will_change()
            np.copyto(self.data, result.data, casting="same_kind")
        else:
            if (frozen := getattr(self, "_frozen", None)) is not None:
                self._frozen = frozen.successor()
            result = result.to(self.dtype)
            self.data = result.data
            if state.recording:
                self._node = result._node
        return self

    def _will_change(self) -> None:
        """Say that the values of this leaf are about to be changed in place: what was computed from these cannot go back.

        What was computed from a constant, which no leaf on the tape stands for, keeps the old values.
        """
        if not self.is_leaf:  # computed in place from a constant, which it is again
            self._node = None
        leaf = cast("tape.Leaf | None", self._node or getattr(self, "_frozen", None))
        if self._node is None or (leaf is not None and leaf.lent):
            self.data = self.data.copy("K")
        if leaf is not None:
            self._frozen = fresh = leaf.successor()
            if self._node is not None:
                self._node = fresh

    def _lend(self, lent: bool = True) -> None:
        """Note that somebody who is not on the tape has this leaf's array now; or that nobody has."""
        if isinstance(self._node, tape.Leaf):
            self._node.lent = lent

    def __neg__(self) -> "Tensor":
        return _apply(elementwise.neg, self)

    def __eq__(self, other: object) -> "Tensor":  # type: ignore[override]
        return _compare("equal", self, other)

    def __ne__(self, other: object) -> "Tensor":  # type: ignore[override]
        return _compare("not_equal", self, other)

    def __lt__(self, other: Any) -> "Tensor":
        return _compare("less", self, other)

    def __le__(self, other: Any) -> "Tensor":
        return _compare("less_equal", self, other)

    def __gt__(self, other: Any) -> "Tensor":
        return _compare("greater", self, other)

    def __ge__(self, other: Any) -> "Tensor":
        return _compare("greater_equal", self, other)

    def __and__(self, other: Any) -> "Tensor":
        return _bits("bitwise_and", self, other)

    def __or__(self, other: Any) -> "Tensor":
        return _bits("bitwise_or", self, other)

    def __xor__(self, other: Any) -> "Tensor":
        return _bits("bitwise_xor", self, other)

    __rand__, __ror__, __rxor__ = __and__, __or__, __xor__

    def __invert__(self) -> "Tensor":
        return _bits("invert", self)

    # -- each element alone --------------------------------------------------------------------------------------

    def exp(self) -> "Tensor":
        """e^x."""
        return _apply(elementwise.exp, _floating(self))

    def log(self) -> "Tensor":
        """Natural logarithm."""
        return _apply(elementwise.log, _floating(self))

    def sin(self) -> "Tensor":
        """Sine of x in radians."""
        return _apply(elementwise.sin, _floating(self))

    def cos(self) -> "Tensor":
        """Cosine of x in radians."""
        return _apply(elementwise.cos, _floating(self))

    def sqrt(self) -> "Tensor":
        """Square root."""
        return _apply(elementwise.sqrt, _floating(self))

    def abs(self) -> "Tensor":
        """|x|; of complex numbers x or -x, whichever has a real part above 0: analytic, as the complex step wants it."""
        return self if self.data.dtype.kind == "b" else _apply(elementwise.abs, self)

    def __abs__(self) -> "Tensor":
        return self.abs()

    def sigmoid(self) -> "Tensor":
        """1 / (1 + e^-x)."""
        return _apply(activation.sigmoid, _floating(self))

    def tanh(self) -> "Tensor":
        """Hyperbolic tangent."""
        return _apply(activation.tanh, _floating(self))

    def relu(self) -> "Tensor":
        """max(x, 0)."""
        return self if self.data.dtype.kind == "b" else _apply_wanted(activation.relu, self)

    def clip(self, min: float | None = None, max: float | None = None) -> "Tensor":
        """X limited to [min, max]; see functional.clip."""
        bounds = [None if b is None else _check.number("clip", n, b) for n, b in (("min", min), ("max", max))]
        if all(b is None or isinstance(b, (int, np.integer)) for b in (min, max)):  # integers stay integers
            bounds = [None if b is None else int(b) for b in (min, max)]
            return _apply(elementwise.clip, self, min=bounds[0], max=bounds[1])
        return _apply(elementwise.clip, _floating(self), min=bounds[0], max=bounds[1])

    def maximum(self, other: Any) -> "Tensor":
        """Larger of x and other."""
        return _binary(elementwise.maximum, self, other)

    def minimum(self, other: Any) -> "Tensor":
        """Smaller of x and other."""
        return _binary(elementwise.minimum, self, other)

    # -- reductions; dim is an axis, several, or None for all ----------------------------------------------------

    def sum(self, dim: Dims = None, keepdim: bool = False) -> "Tensor":
        """Sum over `dim`."""
        return self._over(reduction.sum, dim, keepdim)

    def mean(self, dim: Dims = None, keepdim: bool = False) -> "Tensor":
        """Mean over `dim`."""
        return _floating(self)._over(reduction.mean, dim, keepdim)

    def var(self, dim: Dims = None, correction: int = 1, keepdim: bool = False) -> "Tensor":
        """Variance over `dim`: squared deviations from the mean, divided by (count - correction)."""
        return _floating(self)._over(reduction.var, dim, keepdim, correction=_check.integer("var", "correction", correction, 0))

    def std(self, dim: Dims = None, correction: int = 1, keepdim: bool = False) -> "Tensor":
        """Square root of the variance."""
        return _floating(self)._over(reduction.std, dim, keepdim, correction=_check.integer("std", "correction", correction, 0))

    def _over(self, rule: Rule, dim: Dims, keepdim: bool, **static: Any) -> "Tensor":
        name = rule.__name__
        axes = _check.axes(name, dim, self.data.ndim)
        return _apply(rule, self, axes=axes, keepdim=_check.flag(name, "keepdim", keepdim), **static)

    def norm(self, p: Any = 2, dim: Dims = None, keepdim: bool = False) -> "Tensor":
        """Euclidean norm over `dim`; `p` stands where PyTorch has it, and is 2 or "fro"."""
        if not isinstance(p, (int, float, str)) or p not in (2, "fro"):
            raise ShapeError(f"norm: only the Euclidean norm is there, p=2, got p={p!r:.80}; an axis goes by name, dim=0.")
        return _floating(self)._over(reduction.norm, dim, keepdim)

    def max(self, dim: Dims = None, keepdim: bool = False) -> "Tensor":
        """Largest element over `dim` (values only; see argmax)."""
        return self._over(reduction.max, dim, keepdim)

    def min(self, dim: Dims = None, keepdim: bool = False) -> "Tensor":
        """Smallest element over `dim` (values only)."""
        return self._over(reduction.min, dim, keepdim)

    def prod(self, dim: Dims = None, keepdim: bool = False) -> "Tensor":
        """Product over `dim`."""
        return self._over(reduction.prod, dim, keepdim)

    def argmax(self, dim: int | None = None, keepdim: bool = False) -> "Tensor":
        """Index of the first largest element along `dim`, or in the flattened tensor. Has no gradient."""
        axis = None if dim is None else _check.axis("argmax", "dim", dim, self.ndim)
        keepdims = _check.flag("argmax", "keepdim", keepdim)
        if (self.size if axis is None or not self.ndim else self.shape[axis]) == 0:
            raise ShapeError(f"argmax: of no elements is not defined, shape={self.shape}, dim={dim}.")
        if (
            self.size and self.data.dtype.kind in "fc" and np.isnan(self.data.max())
        ):  # NumPy would give the place of the first NaN
            raise ShapeError(
                f"argmax: {int(np.isnan(self.data).sum())} of {self.size} elements are NaN (shape={self.shape}), which is the "
                "largest of none; look for its cause."
            )
        return _wrap(np.asarray(np.argmax(self.data.real, axis=axis if self.ndim else None, keepdims=keepdims)))

    def logsumexp(self, dim: Dims, keepdim: bool = False) -> "Tensor":
        """log(sum(e^x)) over `dim`."""
        return _floating(self)._over(softmax.logsumexp, dim, keepdim)

    def softmax(self, dim: int) -> "Tensor":
        """e^x / sum(e^x) along `dim`."""
        return self._along(softmax.softmax, dim)

    def log_softmax(self, dim: int) -> "Tensor":
        """X - log(sum(e^x)) along `dim`."""
        return self._along(softmax.log_softmax, dim)

    def _along(self, rule: Rule, dim: int) -> "Tensor":
        if not self.ndim:
            return _apply(rule, _floating(self).reshape(1), axis=_check.axis(rule.__name__, "dim", dim, 0)).reshape(())
        return _apply(rule, _floating(self), axis=_check.axis(rule.__name__, "dim", dim, self.ndim))

    # -- moving elements -----------------------------------------------------------------------------------------

    def reshape(self, *shape_: Any) -> "Tensor":
        """Same elements, in C order, in another shape; one size may be -1."""
        wanted = _sizes("reshape", shape_)
        known = math.prod([s for s in wanted if s != -1])
        free = wanted.count(-1)
        if any(s < -1 for s in wanted) or free > 1 or (known != self.size if not free else not known or self.size % known):
            raise ShapeError(f"reshape: cannot put {self.size} elements (shape={self.shape}) into shape {wanted}.")
        return _apply(shape.reshape, self, shape=wanted)

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> "Tensor":
        """Join the axes from start_dim to end_dim into one."""
        if not (sizes := self.data.shape):
            return self.reshape(1)
        start = _check.axis("flatten", "start_dim", start_dim, len(sizes))
        end = _check.axis("flatten", "end_dim", end_dim, len(sizes))
        if start > end:
            raise ShapeError(f"flatten: start_dim={start_dim} must not come after end_dim={end_dim}.")
        return _apply(shape.reshape, self, shape=(*sizes[:start], math.prod(sizes[start : end + 1]), *sizes[end + 1 :]))

    def squeeze(self, dim: Dims = None) -> "Tensor":
        """Drop the axes of size 1 (those of them that are in `dim`)."""
        axes = _check.axes("squeeze", dim, self.ndim)
        kept = tuple(size for i, size in enumerate(self.shape) if size != 1 or i not in axes)
        return _apply(shape.reshape, self, shape=kept)

    def unsqueeze(self, dim: int) -> "Tensor":
        """Add an axis of size 1 at `dim`."""
        at = _check.axis("unsqueeze", "dim", dim, self.ndim + 1)
        return _apply(shape.reshape, self, shape=(*self.shape[:at], 1, *self.shape[at:]))

    def transpose(self, dim0: int, dim1: int) -> "Tensor":
        """Exchange two axes."""
        a, b = (_check.axis("transpose", n, d, self.ndim) for n, d in (("dim0", dim0), ("dim1", dim1)))
        dims = list(range(self.ndim))
        if dims:
            dims[a], dims[b] = b, a
        return _apply(shape.permute, self, dims=tuple(dims))

    def permute(self, *dims: Any) -> "Tensor":
        """Put the axes into the order `dims`."""
        wanted = dims[0] if len(dims) == 1 and isinstance(dims[0], (tuple, list)) else dims
        order = tuple(_check.axis("permute", "dims", d, self.ndim) for d in wanted)
        if sorted(order) != list(range(self.ndim)):
            raise ShapeError(f"permute: dims must name each of the {self.ndim} axes once, got {tuple(wanted)}.")
        return _apply(shape.permute, self, dims=order)

    def expand(self, *sizes: Any) -> "Tensor":
        """Repeat along new leading axes and axes of size 1, without a copy; -1 keeps a size."""
        wanted = _sizes("expand", sizes)
        new = len(wanted) - self.ndim  # number of new leading axes
        full = tuple(self.shape[i - new] if size == -1 and i >= new else size for i, size in enumerate(wanted))
        fits = new >= 0 and min(full, default=0) >= 0
        if not fits or any(old not in (1, size) for old, size in zip(self.shape, full[new:], strict=True)):
            raise ShapeError(f"expand: only axes of size 1 can be repeated, got shape={self.shape}, sizes={wanted}.")
        _check.fits_memory("expand", "the result", full, self.dtype)
        return _apply(shape.expand, self, shape=full)

    def to(self, dtype: DTypeLike) -> "Tensor":
        """Return the tensor in another dtype; gradients pass through between floating ones."""
        wanted = _check.dtype("to", dtype)
        if wanted == self.dtype:
            return self
        if wanted.kind in "fc" and self.dtype.kind in "fc":
            return _apply(elementwise.cast, self, dtype=wanted)
        return _wrap(self.data.astype(wanted))

    def float(self) -> "Tensor":
        """Return the tensor in float32."""
        return self.to(np.float32)

    def double(self) -> "Tensor":
        """Return the tensor in float64."""
        return self.to(np.float64)


_new, _ndarray = Tensor.__new__, np.ndarray  # looked up once, not at every operation
_NOT_IMPLEMENTED = cast(Tensor, NotImplemented)  # Python then asks the other operand, and words the error
_COMPARISONS = {"equal", "not_equal", "less", "less_equal", "greater", "greater_equal"}
_UFUNCS = {name: name for name in ("exp", "sqrt", "log", "sin", "cos", "tanh", "maximum", "minimum", *_COMPARISONS)} | {
    "absolute": "abs", "add": "__add__", "subtract": "__sub__", "multiply": "__mul__", "divide": "__truediv__",
    "power": "__pow__", "matmul": "__matmul__", "negative": "__neg__", "invert": "__invert__",
    "bitwise_and": "__and__", "bitwise_or": "__or__", "bitwise_xor": "__xor__",
}  # fmt: skip


def apply(rule: Rule, *tensors: Tensor, **static: Any) -> Tensor:
    """Compute a rule on tensors and record it: the way in for every operation, and for your own.

    Parameters
    ----------
    rule : function from arrays, and keyword-only static arguments, to (output, vjp)
        `vjp(cotangent)` gives a tuple with one gradient (or None) for each array, of its shape; the cotangent is an array of
        the shape of the output. Neither may write into what it is given.
    tensors : Tensor, ...
    static : the rule's keyword arguments

    Raises
    ------
    DtypeError : the rule gives something else than one array and a function.
    TapeError : in backward, where a gradient has another shape than its array.

    Examples
    --------
    >>> def cube(x):
    ...     return x**3, lambda g: (g * 3 * x**2,)
    >>> x = Tensor([2.0], requires_grad=True)
    >>> apply(cube, x).backward()
    >>> x.grad
    array([12.], dtype=float32)
    """
    try:
        out, vjp = rule(*[tensor.data for tensor in tensors], **static)
        if not callable(vjp):
            raise TypeError(f"the second that it gave is {type(vjp).__name__}, no function")
        parents = tuple([tensor._node for tensor in tensors])
    except Exception as error:
        _explain(error, rule, tensors)
        raise
    if isinstance(out, (tuple, list)):
        raise DtypeError(
            f"apply: the output of {_name(rule)} must be one array, got a {type(out).__name__} of {len(out)}; "
            "join them into one, or write a rule for each."
        )
    if np.asarray(out).dtype.kind not in "biufc":
        raise DtypeError(f"apply: the output of {_name(rule)} must be an array of numbers, got {out!r:.80}.")
    if not state.recording:
        _lend_views(out, tensors)
    return _recorded(out, _checked(vjp, rule, tensors), parents, any(parents))


def _checked(vjp: Vjp, rule: Rule, tensors: tuple[Tensor, ...]) -> Vjp:
    """Give a vjp whose cotangent is an array, never a NumPy scalar, and whose gradients have the shapes of their arrays."""
    wanted = [None if tensor._node is None else tensor.data.shape for tensor in tensors]

    def checked(g: Array) -> Any:
        gradients = vjp(np.asarray(g))
        gradients = gradients if isinstance(gradients, (tuple, list)) else (gradients,)
        arrays = tuple([None if gradient is None else np.asarray(gradient) for gradient in gradients])
        for i, (array, sizes) in enumerate(zip(arrays, wanted, strict=False)):  # the tape counts them
            if array is not None and sizes is not None and array.shape != sizes:
                raise TapeError(
                    f"backward: the vjp of {_name(rule)} gave a gradient of shape {array.shape} for argument {i}, "
                    f"expected the argument's shape {sizes}; sum over the axes that broadcasting added."
                )
        return arrays

    checked.__qualname__ = getattr(vjp, "__qualname__", f"{_name(rule)}.<locals>.vjp")  # by which the tape names the rule
    return checked


def _name(rule: Any) -> str:
    return str(getattr(rule, "__name__", f"{rule!r:.80}"))


def _apply(rule: Rule, *tensors: Tensor, **static: Any) -> Tensor:
    """Compute and record a rule of the library, whose gradients need no check."""
    try:
        out, vjp = rule(*[tensor.data for tensor in tensors], **static)
        parents = tuple([tensor._node for tensor in tensors])
    except Exception as error:
        _explain(error, rule, tensors)
        raise
    if not state.recording:
        _lend_views(out, tensors)
    return _recorded(out, vjp, parents, any(parents))


def _lend_views(out: Any, tensors: tuple[Tensor, ...]) -> None:
    """Note of leaves whose array, or a part of it, is the result of what is not recorded."""
    for tensor in tensors:
        if isinstance(tensor._node, tape.Leaf) and np.may_share_memory(out, tensor.data):
            tensor._lend()


def _recorded(out: Any, vjp: Vjp, parents: tuple[Node | None, ...], wanted: bool) -> Tensor:
    result = _new(Tensor)
    result.data = out if type(out) is _ndarray else np.asarray(out)
    if wanted and state.recording:
        result._node = node = _new(Node)  # its __init__ would be one call more
        node.parents, node.vjp = parents, vjp
    else:
        result._node = None
    return result


def _explain(error: Exception, rule: Any, tensors: tuple[Any, ...]) -> None:
    """Raise in words what went wrong outside of the rule itself: not a rule, not tensors, not enough memory."""
    name = _name(rule)
    if other := [type(t).__name__ for t in tensors if not isinstance(t, Tensor)]:
        raise DtypeError(f"apply: {name} needs Tensors, got {other[0]}; wrap it with as_tensor().") from None
    if isinstance(error, MemoryError):
        raise ShapeError(f"{name}: shapes {[t.shape for t in tensors]} need more memory than there is ({error}).") from None
    if (
        isinstance(error, TypeError)
        and not isinstance(error, TinygradError)
        and getattr(rule, "__module__", "").startswith("tinygrad_lite.ops")
    ):
        raise DtypeError(f"{name}: {error} Got dtypes {[str(t.dtype) for t in tensors]}; convert with .float().") from None
    if error.__traceback__ is not None and error.__traceback__.tb_next is None and not isinstance(error, TinygradError):
        raise DtypeError(
            f"apply: a rule takes {len(tensors)} arrays and gives (output, vjp), {name} does not: {error}."
        ) from error


def _apply_wanted(rule: Rule, *tensors: Tensor, **static: Any) -> Tensor:
    """Compute and record a rule that takes `needs`: which gradients will be wanted."""
    parents: tuple[Node | None, ...]
    if state.recording:
        parents = tuple([tensor._node for tensor in tensors])
        needs = tuple([node is not None for node in parents])
    else:
        parents, needs = (), (False,) * len(tensors)
    try:
        out, vjp = rule(*[tensor.data for tensor in tensors], needs=needs, **static)
    except Exception as error:
        _explain(error, rule, tensors)
        raise
    return _recorded(out, vjp, parents, True in needs)


def as_tensor(data: ArrayLike | Tensor) -> Tensor:
    """Return `data` as a Tensor that shares memory with it where it can; a Tensor is returned itself."""
    return data if isinstance(data, Tensor) else _wrap(_to_array(data))


def _wrap(array: Array) -> Tensor:
    tensor = _new(Tensor)
    tensor.data = array
    tensor._node = None
    return tensor


def _to_array(data: Any, numbers: DTypeLike = np.float32) -> Array:
    """Give data as an array of numbers: arrays as they are, Python's real numbers in the dtype `numbers`."""
    if isinstance(data, Tensor):
        return data.data
    if isinstance(data, (np.ndarray, np.generic)):
        array = np.asarray(data)
    else:
        try:
            array = np.asarray(data)
        except DtypeError:
            raise DtypeError("Tensor: a list of tensors would lose their gradients; join them with F.stack or F.cat.") from None
        except ValueError:
            raise ShapeError(
                f"Tensor: nested lists must all have the same lengths, got {data!r:.80}; pad the shorter ones."
            ) from None
        first = data
        while isinstance(first, (list, tuple)) and first:
            first = first[0]
        if not hasattr(first, "__array__") and array.dtype.kind in "iuf":  # arrays, and Tensors of others, keep theirs
            array = array.astype(numbers)
    if array.dtype.kind not in "biufc":
        raise DtypeError(f"Tensor: needs numbers, got {type(data).__name__} (dtype={array.dtype}).")
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))  # one dtype, one kind of kernel


def _binary(rule: Rule, a: Any, b: Any) -> Tensor:
    """Run a rule of two operands, of which one may be a number or an array, that can leave out a gradient nobody wants."""
    if not (isinstance(a, Tensor) and isinstance(b, Tensor) and a.data.dtype is b.data.dtype):
        if not (_is_operand(a) and _is_operand(b)):
            return _left_to_python(rule.__name__, a, b)
        a, b = _operands(a, b)
    first, second = a._node, b._node
    needs = (NEITHER if second is None else RIGHT) if first is None else LEFT if second is None else BOTH
    try:
        out, vjp = rule(a.data, b.data, needs=needs)
        result = _new(Tensor)  # as in `_recorded`: the way of most operations of a long chain is spared a call
        result.data = out if type(out) is _ndarray else np.asarray(out)
        if needs is not NEITHER and state.recording:
            result._node = node = _new(Node)
            node.parents, node.vjp = (first, second), vjp
        else:
            result._node = None
        return result
    except ShapeError:
        raise
    except (TypeError, MemoryError) as error:
        _explain(error, rule, (a, b))
        raise
    except ValueError as error:
        if "broadcast" not in str(error):  # negative powers of integers
            raise DtypeError(f"{rule.__name__}: {error} Got dtypes {a.dtype}, {b.dtype}; convert one with .float().") from None
        raise ShapeError(
            f"{rule.__name__}: shapes {a.shape} and {b.shape} do not broadcast together; "
            "sizes must be equal or 1, counted from the last axis."
        ) from None


def _is_operand(value: Any) -> bool:
    return isinstance(value, (Tensor, np.ndarray, np.generic, bool, int, float, complex))


def _left_to_python(name: str, a: Any, b: Any) -> Tensor:
    """Leave what is no operand here to its own class, but for tensors of others, of which Python would say "Tensor" twice."""
    other = type(a if isinstance(b, Tensor) else b)
    if other.__name__ == "Tensor":
        what = f"{other.__module__}.Tensor"
        raise DtypeError(f"{name}: needs Tensors of tinygrad_lite, arrays or numbers, got {what}; give its .numpy().")
    return _NOT_IMPLEMENTED


def _operands(a: Any, b: Any, floating: bool = False) -> tuple[Tensor, Tensor]:
    """Two operands as Tensors: numbers take the dtype of the Tensor beside them, integers that of the floats beside them.

    floating: whether numbers beside integers are to be float32, too.
    """
    if not isinstance(a, Tensor):
        a = _beside(a, b, floating)
    if not isinstance(b, Tensor):
        b = _beside(b, a, floating)
    kinds = a.data.dtype.kind, b.data.dtype.kind
    if kinds[0] in "fc" and kinds[1] in "biu":  # as in PyTorch: float32 beside int64 stays float32
        b = b.to(a.data.dtype)
    elif kinds[1] in "fc" and kinds[0] in "biu":
        a = a.to(b.data.dtype)
    return a, b


def _beside(value: Any, other: Any, floating: bool) -> Tensor:
    """Give a number or an array that stands beside a Tensor in an operation as a Tensor."""
    if not isinstance(value, (bool, int, float, complex, np.generic)) or not isinstance(other, (Tensor, np.ndarray)):
        return as_tensor(value)
    dtype = other.dtype
    if dtype.kind == "b" and not isinstance(value, (bool, np.bool_)):
        dtype = np.dtype(np.int64)
    if dtype.kind in "iu" and (floating or not isinstance(value, (bool, int, np.integer, np.bool_))):
        dtype = np.dtype(np.float32)
    if dtype.kind != "c" and isinstance(value, (complex, np.complexfloating)):
        dtype = np.result_type(dtype, np.complex64)
    try:
        return _wrap(np.array(int(value) if isinstance(value, np.integer) else value, dtype))  # NumPy's would wrap around
    except OverflowError:
        bits = int(value).bit_length()
        what = str(value) if bits <= 64 else f"a number of {bits} bits"
        raise ShapeError(f"Tensor: {what} does not fit into dtype={dtype}; convert the tensor to a wider one.") from None


def _compare(name: str, a: Any, b: Any) -> Tensor:
    if not (_is_operand(a) and _is_operand(b)):
        return _NOT_IMPLEMENTED
    whole = (int, np.integer)
    number, other = (a, b) if isinstance(a, whole) else (b, a)
    if not (isinstance(number, whole) and other.dtype.kind in "iu"):  # NumPy compares integers with those that do not fit, too
        a, b = _operands(a, b)
    a, b = _without_tensors((a, b))
    if name not in ("equal", "not_equal"):  # complex numbers lie where their real part does, as a complex step wants it
        a, b = np.real(a), np.real(b)
    try:
        return _wrap(np.asarray(getattr(np, name)(a, b)))
    except ValueError:
        raise ShapeError(f"{name}: shapes {a.shape} and {b.shape} do not broadcast together.") from None


def _bits(name: str, *operands: Any) -> Tensor:
    """Truth values or integers bit by bit: masks joined, or the other way round."""
    if not all(map(_is_operand, operands)):
        return _NOT_IMPLEMENTED
    arrays = _without_tensors(_operands(*operands) if len(operands) == 2 else operands)
    try:
        return _wrap(np.asarray(getattr(np, name)(*arrays)))
    except TypeError:
        dtypes = [str(np.asarray(operand).dtype) for operand in _without_tensors(operands)]
        raise DtypeError(f"{name}: needs truth values or integers, got {dtypes}; compare first, as in (x > 0).") from None
    except ValueError:
        shapes = " and ".join(str(np.shape(array)) for array in arrays)
        raise ShapeError(f"{name}: shapes {shapes} do not broadcast together.") from None


def _floating(tensor: Tensor) -> Tensor:
    """Integers and truth values become float32, as in PyTorch, and not NumPy's float64."""
    return tensor if tensor.data.dtype.kind in "fc" else tensor.to(np.float32)


def _both_floating(a: Any, b: Any) -> tuple[Any, Any]:
    """Two operands, as float32 where both are integers: one beside a float takes the float's dtype, which may be wider."""
    if not (_is_operand(a) and _is_operand(b)):
        return a, b
    a, b = _operands(a, b, floating=True)
    return _floating(a), _floating(b)


def _sizes(function: str, sizes: tuple[Any, ...]) -> tuple[int, ...]:
    """Sizes given one by one or as one tuple."""
    given = sizes[0] if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)) else sizes
    return tuple(_check.integer(function, "size", size) for size in given)


def _kept(given: Any, array: Array, *tensors: Tensor) -> Array:
    """Give a copy of an array that a rule keeps, if it is the caller's: what he does with his own reaches no gradient."""
    recorded = state.recording and any(tensor._node is not None for tensor in tensors)
    return array.copy() if recorded and not isinstance(given, Tensor) else array


def _plain_index(part: Any, tensor: Tensor) -> Any:
    if type(part) is slice:
        return _check.ends("index", part)
    plain = part.data if isinstance(part, Tensor) else _check.array("index", "a list", part) if isinstance(part, list) else part
    if isinstance(plain, np.ndarray) and plain.dtype.kind not in "biu" and plain.size:
        raise DtypeError(f"index: must be integers or truth values, got dtype={plain.dtype}.")
    if not isinstance(plain, np.ndarray):
        return plain
    return _kept(part, plain, tensor) if plain.size or plain.dtype.kind != "f" else plain.astype(np.intp)


def _tensors_in(values: Any) -> list[Tensor]:
    if isinstance(values, Tensor):
        return [values]
    return [t for value in values for t in _tensors_in(value)] if isinstance(values, (tuple, list)) else []


def _without_tensors(values: Any) -> Any:
    if isinstance(values, Tensor):
        return values.data
    if isinstance(values, (tuple, list)):
        return type(values)(_without_tensors(value) for value in values)
    if isinstance(values, dict):
        return {key: _without_tensors(value) for key, value in values.items()}
    return values
