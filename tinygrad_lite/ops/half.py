"""float16 is for keeping numbers, not for adding them up: rules that do compute in float32, as PyTorch's do."""

import functools
from typing import Any

import numpy as np

from tinygrad_lite._types import Array, Rule, RuleResult

HALF = np.dtype(np.float16)


def in_single(rule: Rule) -> Rule:
    """Make a rule compute in float32 where its arrays are float16, and give results and gradients in float16."""

    @functools.wraps(rule)
    def widened(*arrays: Array, **static: Any) -> RuleResult:
        if arrays[0].dtype != HALF or any(a.dtype != HALF for a in arrays):  # a mixture is the rule's to refuse
            return rule(*arrays, **static)
        out, vjp = rule(*[a.astype(np.float32) for a in arrays], **static)

        def narrow(array: Array | None) -> Array | None:
            with np.errstate(over="ignore"):  # beyond 65504 there is only infinity
                return None if array is None else array.astype(HALF)

        def narrow_vjp(g: Array) -> Any:
            return tuple(map(narrow, vjp(g.astype(np.float32))))

        narrow_vjp.__qualname__ = vjp.__qualname__  # by which the tape names the rule
        return narrow(out), narrow_vjp  # type: ignore[return-value]

    return widened
