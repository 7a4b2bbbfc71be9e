"""Functions of other frameworks as targets. Each is imported only when it is used: PyTorch, JAX, HIPS autograd."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tinygrad_lite.errors import DtypeError
from tinygrad_lite.gradcheck.layout import Array
from tinygrad_lite.gradcheck.target import BACKENDS, MODULES, Call, Pull


def torch_backend(call: Call, leaves: Sequence[Array]) -> tuple[list[Array], Pull]:
    """Call fn with tensors that share the arrays' strides, where these are not negative; None is a gradient of zeros."""
    import torch

    def tensor(array: Array) -> Any:
        plain = array if array.flags.writeable and min(array.strides, default=0) >= 0 else array.copy()
        return torch.from_numpy(np.asarray(plain))

    def array(result: Any) -> Array:
        return np.array(result.detach().resolve_conj().resolve_neg().numpy())

    inputs = [tensor(leaf).requires_grad_() for leaf in leaves]
    out = call(inputs, tensor)
    outs = list(out) if isinstance(out, (tuple, list)) else [out]

    def pull(cotangents: Sequence[Array]) -> list[Any]:
        wanted = [(o, tensor(np.asarray(g))) for o, g in zip(outs, cotangents, strict=True) if o.requires_grad]
        if not wanted:
            return [None] * len(leaves)
        roots, vs = zip(*wanted, strict=True)
        grads = torch.autograd.grad(roots, inputs, vs, allow_unused=True, retain_graph=True)
        return [None if g is None else array(g) for g in grads]

    return [array(o) for o in outs], pull


def torch_with_parameters(module: Any, values: Mapping[str, Any]) -> Any:
    """The module as a function with these parameters, and with copies of its buffers, of the parameters' dtype."""
    from torch.func import functional_call

    dtypes = {value.dtype for value in values.values()}
    buffers = {n: b.clone() for n, b in module.named_buffers()}
    buffers = {n: b.to(*dtypes) if b.is_floating_point() and len(dtypes) == 1 else b for n, b in buffers.items()}
    return lambda *args, **kwargs: functional_call(module, {**values, **buffers}, args, kwargs)


def jax_backend(call: Call, leaves: Sequence[Array]) -> tuple[list[Array], Pull]:
    """Call fn through jax.vjp. Float64 must be on in JAX, as a check in float32 would say little."""
    import jax

    if any(leaf.dtype == np.float64 for leaf in leaves) and not jax.config.jax_enable_x64:
        raise DtypeError("gradient check: JAX computes in float32 only; call jax.config.update('jax_enable_x64', True) first.")
    out, vjp = jax.vjp(lambda *inputs: call(inputs, jax.numpy.asarray), *map(jax.numpy.asarray, leaves))
    several = isinstance(out, (tuple, list))
    outs = [np.asarray(o) for o in (out if several else [out])]

    def pull(cotangents: Sequence[Array]) -> list[Any]:
        vs = [jax.numpy.asarray(v, o.dtype) for v, o in zip(cotangents, outs, strict=True)]
        return [np.array(g) for g in vjp(type(out)(vs) if several else vs[0])]

    return outs, pull


def autograd_backend(call: Call, leaves: Sequence[Array]) -> tuple[list[Array], Pull]:
    """Call fn, written with autograd.numpy, through autograd's make_vjp."""
    from autograd import builtins, make_vjp

    def boxed(inputs: Sequence[Any]) -> Any:
        out = call(inputs)
        return builtins.tuple(out) if isinstance(out, (tuple, list)) else out

    vjp, out = make_vjp(boxed)(list(leaves))
    several = isinstance(out, (tuple, list))
    return [np.asarray(o) for o in (out if several else [out])], lambda cotangents: [
        np.asarray(g) for g in vjp(tuple(cotangents) if several else cotangents[0])
    ]


MODULES["torch"] = torch_with_parameters
BACKENDS.update({"torch": torch_backend, "jax": jax_backend, "autograd": autograd_backend})
