"""Second derivatives as a target: the gradient of a function as a rule, whose own gradient is the Hessian by complex step."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_lite.errors import DtypeError, GradientError
from tinygrad_lite.gradcheck.check import COMPLEX_STEP, Arrays, as_gradient
from tinygrad_lite.gradcheck.layout import Array
from tinygrad_lite.gradcheck.target import Target


def second_order(target: Target, v: Arrays) -> Target:
    """Give the gradient of <v, target> as a function of the same arrays. Its vjp is the Hessian, which is symmetric, times w.

    Raises
    ------
    GradientError : target is a function of another framework.
    """
    if target.backend not in ("rule", "tensor", "module"):
        raise GradientError(f"order=2 is for rules, functions of Tensors and Modules, not for backend={target.backend!r}.")

    def at(leaves: Sequence[Array]) -> list[Any]:
        outs, pull = target.run(leaves)
        return pull([w.astype(np.result_type(w, o)) for w, o in zip(v, outs, strict=True)])

    def gradient(*leaves: Array) -> Any:
        def vjp(w: Any) -> tuple[Array, ...]:
            ws = [np.asarray(part, np.float64) for part in (w if isinstance(w, (tuple, list)) else [w])]
            step = COMPLEX_STEP / (max(float(np.abs(part).max(initial=0)) for part in ws) or 1.0)
            moved = at([leaf + 1j * step * part for leaf, part in zip(leaves, ws, strict=True)])
            if any(g is not None and not np.iscomplexobj(g) for g in moved):
                raise DtypeError(
                    f"{target.name} drops the imaginary part of complex input in its backward pass (a cast, float(), .real): "
                    "write it with operations that take complex arrays, or leave order=2 out."
                )
            return tuple(
                np.zeros(leaf.shape) if g is None else np.asarray(g.imag / step) for g, leaf in zip(moved, leaves, strict=True)
            )

        return tuple(as_gradient(g, leaf) for g, leaf in zip(at(leaves), leaves, strict=True)), vjp

    made = Target(gradient, tuple(np.array(leaf, np.float64) for leaf in target.leaves), backend="rule")
    gradient.__qualname__ = f"gradient of {target.name}"
    made.names = target.names
    return made
