"""Whatever has a gradient, called in one way: differentiable arrays in; outputs and a pull-back of cotangents out."""

import copy
import inspect
import itertools
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from tinygrad_lite.errors import DtypeError, GradientError
from tinygrad_lite.gradcheck.layout import Array
from tinygrad_lite.gradcheck.nested import flattened, is_nest, places, rebuilt

Pull = Callable[[Sequence[Array]], list[Any]]
Call = Callable[..., Any]  # call(leaves, convert): fn with these differentiable arguments; convert is for the others
Backend = Callable[[Call, Sequence[Array]], tuple[list[Array], Pull]]


_without_warnings = ContextVar("_without_warnings", default=False)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence NumPy, PyTorch and functions about infinities and means of nothing, as fuzzing asks for them on purpose."""
    with np.errstate(all="ignore"):
        if _without_warnings.get():  # Python takes its time over filters, and a check calls a function thousands of times
            yield
            return
        token = _without_warnings.set(True)
        try:
            with warnings.catch_warnings():
                for category in (RuntimeWarning, UserWarning):
                    warnings.simplefilter("ignore", category)
                yield
        finally:
            _without_warnings.reset(token)


@dataclass
class Target:
    """A function at the arguments of one example.

    Attributes
    ----------
    fn : a rule (arrays -> (output, vjp)), a pair (forward, backward), a function of Tensors, a Module, or a function
        of another framework. backward(g, *args, **kwargs) is called like forward, with the cotangent first.
    args, kwargs : arguments. Float arrays in args, also inside lists, tuples and dicts, are differentiable; everything else
        (integer and boolean arrays, numbers, kwargs) is given as it is. Random generators and kwargs are copied for every
        call, so that each starts from the same state.
    backend : how fn is called; see `detect`.
    surrogate : function of the same arguments, from arrays to an array, whose gradient fn's is meant to be
        For rules that are no gradient of their own output on purpose, as round with the gradient of the identity.
    """

    fn: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    backend: str | Backend | None = None
    surrogate: Callable[..., Any] | None = None

    def __post_init__(self) -> None:
        if not any(isinstance(leaf, np.ndarray) for leaf in flattened(self.args)):
            self.args = tuple(np.asarray(a) if isinstance(a, float) else a for a in self.args)
        if self.backend is None:
            self.backend = detect(self.fn, self.args, self.kwargs)

    @property
    def measured(self) -> "Target":
        """What the gradient is compared with: the function itself, or its surrogate."""
        return self if self.surrogate is None else Target(self.surrogate, self.args, self.kwargs, _array)

    @property
    def name(self) -> str:
        fn = self.fn[0] if isinstance(self.fn, tuple) else self.fn
        return path_of(fn) or type(fn).__name__

    @cached_property
    def leaves(self) -> list[Array]:
        """The differentiable arrays: those among the arguments and, for a Module, its parameters, in the arguments' dtype."""
        found = [leaf for leaf in flattened(self.args) if _is_float(leaf)]
        dtype = np.result_type(*found) if found else None  # a new Module has float32, a check wants float64
        return found + [parameter.astype(dtype or parameter.dtype) for parameter in self.parameters.values()]

    @property
    def is_module(self) -> bool:
        """Whether fn has parameters of its own: a Module, of this library or of PyTorch."""
        return self.backend in MODULES and hasattr(self.fn, "named_parameters")

    @cached_property
    def parameters(self) -> dict[str, Array]:
        """The parameters of a Module by name."""
        return {name: np.asarray(p.data) for name, p in self.fn.named_parameters()} if self.is_module else {}

    @cached_property
    def names(self) -> list[str]:
        """Names of the leaves, as the function's signature has them."""
        try:
            every = parameters_of(self.fn)
            parameters = list(itertools.takewhile(lambda p: p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD), every))
        except (TypeError, ValueError):
            parameters = []
        names = []
        for i, arg in enumerate(self.args):
            named = i < len(parameters)
            base = parameters[i].name if named else f"args[{i}]"
            names += [base + place for place, leaf in zip(places(arg), flattened(arg), strict=True) if _is_float(leaf)]
        return [*names, *self.parameters]

    def run(self, leaves: Sequence[Array]) -> tuple[list[Array], Pull]:
        """Outputs at the leaves, and the function from cotangents (one per output) to gradients (one per leaf)."""
        backend = BACKENDS[self.backend] if isinstance(self.backend, str) else self.backend
        assert backend is not None
        with quiet():  # NumPy makes numbers of sums of 0-d arrays, and no rule need know of that
            outs, pull = backend(self._call_module if self.is_module else self._call, [np.asarray(a) for a in leaves])

        def aligned(cotangents: Sequence[Array]) -> list[Any]:
            with quiet():
                return self._align(pull([np.asarray(v) for v in cotangents]))

        return outs, aligned

    def _align(self, grads: list[Any]) -> list[Any]:
        """One gradient per leaf, from a rule that may also return one (None, say) for each integer or static argument."""
        inner = flattened(grads)
        for found in (inner, grads) if any(map(is_nest, grads)) else (grads,):
            for takers in (self.leaves, [a for a in flattened(self.args) if isinstance(a, np.ndarray)], flattened(self.args)):
                if len(found) == len(takers):
                    wanted = [len(takers) == len(self.leaves) or _is_float(taker) for taker in takers]
                    return [g for g, want in zip(found, wanted, strict=True) if want]
        raise GradientError(
            f"{self.name}: vjp returned {len(grads)} gradient(s) for {len(self.leaves)} float array(s); "
            "return a tuple with one gradient for each array argument, in order."
        )

    @cached_property
    def _frozen(self) -> bool:
        """Whether no call can change the keyword arguments."""
        return all(map(_is_constant, self.kwargs.values()))

    def _call(self, leaves: Sequence[Any], convert: Callable[[Array], Any] = lambda array: array) -> Any:
        rest = iter(leaves)

        def passed(value: Any) -> Any:
            if isinstance(value, np.ndarray):
                return convert(value)
            return copy.deepcopy(value) if isinstance(value, (np.random.Generator, np.random.RandomState)) else value

        args = rebuilt(self.args, lambda leaf: next(rest) if _is_float(leaf) else passed(leaf))
        kwargs = dict(self.kwargs) if self._frozen else rebuilt(copy.deepcopy(dict(self.kwargs)), passed)
        if isinstance(self.fn, tuple):
            forward, backward = self.fn
            return forward(*args, **kwargs), lambda g: backward(g, *args, **kwargs)
        return self.fn(*args, **kwargs)

    def _call_module(self, leaves: Sequence[Any], convert: Callable[[Array], Any] = lambda array: array) -> Any:
        count = len(leaves) - len(self.parameters)
        values = dict(zip(self.parameters, leaves[count:], strict=True))
        assert isinstance(self.backend, str)
        module = MODULES[self.backend](self.fn, values)
        return Target(module, self.args, self.kwargs, "tensor")._call(leaves[:count], convert)


def path_of(fn: Any) -> str:
    """Qualified name of a function; that of a class method says which class has it, though another may have defined it."""
    owner = getattr(fn, "__self__", None)
    return f"{owner.__qualname__}.{fn.__name__}" if isinstance(owner, type) else getattr(fn, "__qualname__", "")


def parameters_of(fn: Any) -> list[inspect.Parameter]:
    """Parameters of the forward pass: of a pair's, an object's, or that behind apply of a torch.autograd.Function."""
    owner = getattr(fn, "__self__", None)
    setup = getattr(owner, "setup_context", None)
    of_torch = isinstance(owner, type) and setup is not None
    forward = fn[0] if isinstance(fn, tuple) else getattr(owner if of_torch else fn, "forward", fn)
    parameters = list(inspect.signature(forward).parameters.values())
    ctx = of_torch and setup.__module__.startswith("torch.")  # comes first, unless the Function has its own setup_context
    return parameters[1:] if ctx else parameters


def detect(fn: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """Name of the backend for fn, known by what fn is or by what it returns."""
    if isinstance(fn, tuple):
        return "rule"
    home = {base.__module__.partition(".")[0] for base in type(getattr(fn, "__self__", fn)).__mro__}
    if "torch" in home:
        return "torch"
    if hasattr(fn, "named_parameters"):
        return "module"
    try:
        with quiet():
            result = Target(fn, args, kwargs, "rule")._call([leaf.copy() for leaf in flattened(args) if _is_float(leaf)])
    except Exception as error:
        return _detect_by_trying(fn, args, kwargs, error)
    if isinstance(result, tuple) and len(result) == 2 and callable(result[1]):
        return "rule"
    first = result[0] if isinstance(result, (tuple, list)) and result else result
    for module, name in (("tinygrad_lite", "tensor"), ("jaxlib", "jax"), ("jax", "jax"), ("torch", "torch")):
        if type(first).__module__.partition(".")[0] == module:
            return name
    raise DtypeError(
        f"gradient check: {getattr(fn, '__qualname__', fn)} must return (output, vjp) or Tensors, but returned "
        f"{type(result).__name__}; give a rule, a pair (forward, backward), or backend='tensor' for a function of Tensors "
        "that arrays can be given too, 'torch' for one of PyTorch, 'autograd' for one of HIPS autograd."
    )


def _detect_by_trying(fn: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], error: Exception) -> str:
    """Fn refused arrays: perhaps it takes the tensors of a framework."""
    for name in ("tensor", "torch") if "torch" in sys.modules else ("tensor",):
        target = Target(fn, args, kwargs, name)
        try:
            target.run(target.leaves)
        except Exception:  # the first error is the one that tells what is wrong
            continue
        return name
    raise error


def _is_constant(value: Any) -> bool:
    return all(map(_is_constant, value)) if type(value) is tuple else isinstance(value, (bool, int, float, str, type(None)))


def _is_float(leaf: Any) -> bool:
    return isinstance(leaf, np.ndarray) and leaf.dtype.kind == "f"


def _rule(call: Call, leaves: Sequence[Array]) -> tuple[list[Array], Pull]:
    out, vjp = call(leaves)
    outs = list(out) if isinstance(out, (tuple, list)) else [out]

    def pull(cotangents: Sequence[Array]) -> list[Any]:
        if not isinstance(out, (tuple, list)):
            grads = vjp(cotangents[0])
        elif _takes(vjp, len(outs)):
            grads = vjp(*cotangents)
        else:
            grads = vjp(tuple(cotangents))
        return list(grads) if isinstance(grads, (tuple, list)) else [grads]

    return [np.asarray(o) for o in outs], pull


def _takes(vjp: Callable[..., Any], count: int) -> bool:
    """Whether vjp has a parameter for each of several cotangents, not one for all."""
    try:
        kinds = [p.kind for p in inspect.signature(vjp).parameters.values() if p.default is p.empty]
    except (TypeError, ValueError):
        return False
    return count > 1 and (len(kinds) == count or inspect.Parameter.VAR_POSITIONAL in kinds)


def _tensor(call: Call, leaves: Sequence[Array]) -> tuple[list[Array], Pull]:
    from tinygrad_lite.tensor import Tensor

    tensors = [Tensor(leaf, requires_grad=True) for leaf in leaves]
    out = call(tensors)
    outs = list(out) if isinstance(out, (tuple, list)) else [out]
    for one in outs:
        if not isinstance(one, Tensor):
            raise DtypeError(
                f"gradient check: a function of Tensors must return one, or a tuple of them, got {type(one).__name__}."
            )

    def pull(cotangents: Sequence[Array]) -> list[Any]:
        wanted = [(o, g) for o, g in zip(outs, cotangents, strict=True) if o.requires_grad]
        if len(wanted) == 1:
            wanted[0][0].backward(wanted[0][1], inputs=tensors)
        elif wanted:
            sum((o * Tensor(g)).sum() for o, g in wanted).backward(inputs=tensors)
        return [t.grad for t in tensors]

    return [o.data for o in outs], pull


def _array(call: Call, leaves: Sequence[Array]) -> tuple[list[Array], Pull]:
    out = call(leaves)
    return [np.asarray(o) for o in (out if isinstance(out, (tuple, list)) else [out])], lambda _: [None] * len(leaves)


def _with_parameters(module: Any, values: Mapping[str, Any]) -> Any:
    """A copy of the module, whose statistics and generators stay as they were, with these Tensors for its parameters."""
    module = copy.deepcopy(module)
    for name, parameter in module.named_parameters():
        parameter.data, parameter._node = values[name].data, values[name]._node  # to which the gradient goes
    return module


BACKENDS: dict[str, Backend] = {"rule": _rule, "tensor": _tensor, "module": _tensor}
# Of those that have Modules: (module, its parameters) -> what to call.
MODULES: dict[str, Callable[[Any, Mapping[str, Any]], Any]] = {"module": _with_parameters}
