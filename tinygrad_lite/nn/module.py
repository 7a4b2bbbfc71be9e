"""Module: something with parameters that is called on tensors, built from other modules."""

import re
import reprlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from tinygrad_lite import _check
from tinygrad_lite._elsewhere import attributes_of_class
from tinygrad_lite._types import Array
from tinygrad_lite.errors import DtypeError, ShapeError
from tinygrad_lite.tensor import Tensor, _to_array

if TYPE_CHECKING:
    from tinygrad_lite.nn.profile import Profile


class Parameter(Tensor):
    """A Tensor that a Module learns: it requires a gradient, and parameters() finds it.

    Parameters
    ----------
    data : as for Tensor
    """

    __slots__ = ()

    def __init__(self, data: ArrayLike | Tensor, requires_grad: bool = True, dtype: DTypeLike | None = None) -> None:
        super().__init__(data, requires_grad=requires_grad, dtype=dtype)


class Module:
    """Base of layers and models. Assign parameters and modules to attributes, and write `forward`.

    Those in lists, tuples and dicts are found too. Arrays that are state but are not learned (a running mean) are named in
    `buffers_`: they are saved with the parameters, but for one that is None. They may be Tensors, too.

    Raises
    ------
    DtypeError : on assignment, if what is no Parameter would take the place of one, or what is no Module that of one; None may.

    Examples
    --------
    >>> from tinygrad_lite import nn
    >>> class Twice(nn.Module):
    ...     def __init__(self):
    ...         self.factor = nn.Parameter(2.0)
    ...     def forward(self, x):
    ...         return x * self.factor
    >>> Twice()(Tensor([1.0, 2.0]))
    Tensor([2., 4.], made by mul)
    """

    training: bool = True
    buffers_: tuple[str, ...] = ()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the result. Written by the subclass, called as `module(x)`."""
        raise NotImplementedError(f"{type(self).__name__} must define forward().")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.forward(*args, **kwargs)

    if not TYPE_CHECKING:  # a type checker would take it for a promise
        __getattr__ = attributes_of_class("Module")

    def __setattr__(self, name: str, value: Any) -> None:
        before = vars(self).get(name)
        if isinstance(before, Parameter) and not isinstance(value, Parameter) and value is not None:
            raise DtypeError(
                f"{type(self).__name__}: {name} is a parameter, which a {type(value).__name__} cannot be; "
                f"write into {name}.data[...], or assign nn.Parameter(...)."
            )
        if isinstance(before, Module) and not isinstance(value, Module) and value is not None:
            raise DtypeError(f"{type(self).__name__}: {name} is a Module, which a {type(value).__name__} cannot be.")
        object.__setattr__(self, name, value)

    # -- what is inside ------------------------------------------------------------------------------------------

    def named_children(self) -> Iterator[tuple[str, "Module"]]:
        """Modules directly inside, in the order in which they were assigned."""
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value
            elif isinstance(value, (list, tuple, dict)):
                yield from ((full, entry) for full, entry in _inside(name, value) if isinstance(entry, Module))

    def modules(self) -> Iterator["Module"]:
        """Yield this module and all inside it, each once."""
        seen: set[int] = set()
        waiting: list[Module] = [self]
        while waiting:
            module = waiting.pop()
            if id(module) not in seen:
                seen.add(id(module))
                yield module
                waiting += [child for _, child in module.named_children()][::-1]

    def _named(self, prefix: str = "", outer: tuple["Module", ...] = ()) -> Iterator[tuple[str, Parameter | Array, "Module"]]:
        """Every parameter and buffer under its full name, with the module that owns it; shared ones each time.

        outer: the modules around this one, which it may know too.
        """
        children: list[tuple[str, Module]] = []
        for name, value in vars(self).items():
            if isinstance(value, Parameter):
                yield prefix + name, value, self
            elif name in self.buffers_ and value is not None:
                yield prefix + name, self._buffer(name, value), self
            elif isinstance(value, Module):
                children.append((name, value))
            elif isinstance(value, (list, tuple, dict)):
                for full, entry in _inside(name, value):
                    if isinstance(entry, Parameter):
                        yield prefix + full, entry, self
                    else:
                        children.append((full, entry))
        outer = (*outer, self)
        for name, child in children:
            if not any(child is one for one in outer):
                yield from child._named(f"{prefix}{name}.", outer)

    def _buffer(self, name: str, value: Any) -> Array:
        array = value.data if isinstance(value, Tensor) else value
        if not isinstance(array, np.ndarray):
            what = f"{type(self).__name__}: the buffer {name}"
            raise DtypeError(f"{what} must be an array or a Tensor, got {type(value).__name__}; make it with np.array().")
        return array

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Every parameter with its full name, such as "conv1.weight"; a shared one once."""
        seen: set[int] = set()
        for name, value, _ in self._named():
            if isinstance(value, Parameter) and id(value) not in seen:
                seen.add(id(value))
                yield name, value

    def parameters(self) -> Iterator[Parameter]:
        """Every parameter, once."""
        return (parameter for _, parameter in self.named_parameters())

    def named_buffers(self) -> Iterator[tuple[str, Array]]:
        """Every array that is state but is not learned, with its full name."""
        return ((name, value) for name, value, _ in self._named() if not isinstance(value, Parameter))

    def parameter_count(self) -> int:
        """Count the numbers in all parameters."""
        return sum(parameter.size for parameter in self.parameters())

    # -- state ---------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Array]:
        """Copies of all parameters and buffers by full name."""
        return {name: np.array(value) for name, value in self._state().items()}

    def _state(self) -> dict[str, Array]:
        """Arrays of all parameters and buffers by full name, which must be one for each."""
        found: dict[str, Array] = {}
        for name, value, _ in self._named():
            if name in found:
                raise ShapeError(f"{type(self).__name__}: two parameters or buffers have the name {name}; rename one of them.")
            found[name] = _values(value)
        return found

    def load_state_dict(self, state: Mapping[str, ArrayLike]) -> None:
        """Take over all parameters and buffers; names and shapes must agree exactly, or nothing changes.

        PyTorch's count of a batch norm's batches is left aside: nothing here depends on it.

        Raises
        ------
        ShapeError : names are missing or unknown, or shapes differ; the message lists the first of them.
        DtypeError : a value does not hold numbers of the parameter's kind.
        """
        own = self._state()
        _check.entries("load_state_dict", state, ())
        if inner := [name for name, value in state.items() if isinstance(value, Mapping)]:
            raise DtypeError(
                f"load_state_dict: {inner[0]!r} is a mapping itself; give the part of the state that is the model's."
            )
        given = {name: _to_array(value, np.float64) for name, value in state.items()}
        kind = type(self).__name__
        differences = [f"{name} is missing" for name in own if name not in given]
        differences += [
            f"{name} is unknown" for name in given if re.sub(r"\bnum_batches_tracked$", "running_mean", str(name)) not in own
        ]
        differences += [
            f"{name} has shape {given[name].shape}, expected {value.shape}"
            for name, value in own.items()
            if name in given and given[name].shape != value.shape
        ]
        if differences:
            more = f" and {len(differences) - 5} more" if len(differences) > 5 else ""
            raise ShapeError(f"load_state_dict: these weights are not of this {kind}: {'; '.join(differences[:5])}{more}.")
        for name, value in own.items():
            if not np.can_cast(given[name].dtype, value.dtype, casting="same_kind"):
                raise DtypeError(f"load_state_dict: {name} has dtype {given[name].dtype}, expected {value.dtype}.")
            _check.writable("load_state_dict", f"the array of {name}", value)
        buffers = [vars(module).get(name) for module in self.modules() for name in module.buffers_]
        for tensor in (*self.parameters(), *buffers):
            if isinstance(tensor, Tensor):
                tensor._will_change()
        for name, value in self._state().items():
            np.copyto(value, given[name], casting="same_kind")

    def train(self, mode: bool = True) -> Self:
        """Set training mode (dropout drops, batch norm uses the batch) here and inside."""
        for module in self.modules():
            module.training = _check.flag("train", "mode", mode)
        return self

    def eval(self) -> Self:
        """Set evaluation mode here and inside."""
        return self.train(False)

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for parameter in self.parameters():
            parameter.zero_grad()

    def to(self, dtype: DTypeLike) -> Self:
        """Convert all floating parameters and buffers, and forget the gradients. Make optimisers afterwards."""
        wanted = _check.dtype("to", dtype)
        if wanted.kind not in "fc":
            raise DtypeError(f"to: parameters must stay floating point, got dtype={wanted}; use np.float32 or np.float64.")
        for name, value, owner in list(self._named()):
            if isinstance(value, Parameter):
                value.zero_grad()
                if value.dtype.kind in "fc":
                    value.data = value.data.astype(dtype)
            elif value.dtype.kind == "f":
                attribute = name.rsplit(".", 1)[-1]
                if isinstance(tensor := getattr(owner, attribute), Tensor):
                    tensor.data = value.astype(dtype)
                else:
                    setattr(owner, attribute, value.astype(dtype))
        return self

    def profile(self, *inputs: Any, steps: int = 20) -> "Profile":
        """Run forward and backward `steps` times and give a table of where the time went: see tinygrad_lite.nn.profile."""
        from tinygrad_lite.nn.profile import profile

        return profile(self, *inputs, steps=steps)

    # -- words ---------------------------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """Arguments to show in the repr."""
        return ""

    @reprlib.recursive_repr("...")  # a module may know the one around it
    def __repr__(self) -> str:
        count = self.parameter_count()
        note = f"  # {count:,} parameters" if count else ""
        children = [f"  ({name}): {child!r}".replace("\n", "\n  ") for name, child in self.named_children()]
        if not children:
            return f"{type(self).__name__}({self.extra_repr()}){note}"
        return "\n".join([f"{type(self).__name__}({self.extra_repr()}{note}", *children, ")"])


def _inside(name: str, container: Any, outer: tuple[Any, ...] = ()) -> Iterator[tuple[str, "Module | Parameter"]]:
    """Yield the modules and parameters in a list, tuple or dict, and in those within it, as ("blocks.0", value)."""
    if any(container is one for one in outer):
        return
    for key, value in container.items() if isinstance(container, dict) else enumerate(container):
        if isinstance(value, (Module, Parameter)):
            yield f"{name}.{key}", value
        elif isinstance(value, (list, tuple, dict)):
            yield from _inside(f"{name}.{key}", value, (*outer, container))


def _values(value: Parameter | Array) -> Array:
    return value.data if isinstance(value, Parameter) else value
