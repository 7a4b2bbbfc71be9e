"""Right and wrong rules that the fuzzer was not tuned on, as somebody would write them who has not seen the fuzzer.

A rule stands once, right; a wrong version of it is a change to its text, as a slip of the pen would make it. The rules of
`first` were written and frozen before the fuzzer had ever seen them, and its findings on them have been mended since, if
there were any; those of `second` were run once, when the fuzzer was finished. docs/fuzzing.md has the results.
"""

import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_lite.fuzz.strategies import Strategy

Rule = Any


@dataclass(frozen=True)
class Unseen:
    """A right rule (or function of Tensors), its arguments, and how to make it wrong: texts and what to put for them."""

    rule: Rule
    inputs: Strategy[Any]
    slips: tuple[tuple[str, str], ...]

    @property
    def name(self) -> str:
        return str(self.rule.__name__)

    def wrong(self) -> list[tuple[str, Rule]]:
        """(what was changed, the wrong rule) for each slip."""
        text = textwrap.dedent(inspect.getsource(self.rule))
        text = text[text.index("def ") :]
        made = []
        for old, new in self.slips:
            if text.count(old) != 1:
                raise ValueError(f"{self.name}: {old!r} stands {text.count(old)} times in the rule, it must stand once")
            names = dict(self.rule.__globals__)
            exec(text.replace(old, new), names)
            made.append((f"{self.name}: {old} -> {new}", names[self.name]))
        return made


def table() -> tuple[list[Unseen], Callable[..., Callable[[Rule], Rule]]]:
    """Give an empty table and a decorator that puts a rule into it: `@case(inputs, (old, new), ...)`."""
    rows: list[Unseen] = []

    def case(inputs: Strategy[Any], *slips: tuple[str, str]) -> Callable[[Rule], Rule]:
        def add(rule: Rule) -> Rule:
            rows.append(Unseen(rule, inputs, slips))
            return rule

        return add

    return rows, case


def fit(g: Any, like: Any) -> Any:
    """Sum g over the axes along which `like` was repeated."""
    extra = g.ndim - like.ndim
    g = g.sum(axis=tuple(range(extra)))
    return g.sum(axis=tuple(i for i, n in enumerate(like.shape) if n == 1 and g.shape[i] != 1), keepdims=True)


def slope_is_right(case: Unseen, seed: int = 0) -> bool:
    """Compare with plain central differences at one arbitrary point: the rule's author checks his derivation, without the fuzzer."""
    from hypothesis import find

    args, kwargs = _split(find(case.inputs, lambda drawn: sum(a.size for a in _floats(_split(drawn)[0])) > 1))
    rng = np.random.default_rng(seed)
    floats = [i for i, a in enumerate(args) if isinstance(a, np.ndarray) and a.dtype.kind == "f"]
    moved = [a + 0.2 * rng.random(a.shape) if i in floats else a for i, a in enumerate(args)]
    out, vjp = case.rule(*moved, **kwargs)
    v = [rng.standard_normal(np.shape(o)) for o in out] if isinstance(out, tuple) else rng.standard_normal(np.shape(out))
    grads = vjp(v)
    grads = grads if isinstance(grads, (tuple, list)) else (grads,)
    u = [rng.standard_normal(a.shape) if i in floats else None for i, a in enumerate(moved)]

    def phi(t: float) -> float:
        y = case.rule(*[a if d is None else a + t * d for a, d in zip(moved, u, strict=True)], **kwargs)[0]
        return float(sum(np.sum(w * o) for w, o in zip(v, y, strict=True)) if isinstance(y, tuple) else np.sum(v * y))

    analytic = sum(float(np.sum(g * d)) for g, d in zip(grads, u, strict=False) if d is not None)
    return bool(np.isclose(analytic, (phi(1e-6) - phi(-1e-6)) / 2e-6, rtol=1e-5, atol=1e-7))


def _split(drawn: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(drawn, tuple):
        return drawn if len(drawn) == 2 and isinstance(drawn[1], dict) else (drawn, {})
    return (drawn,), {}


def _floats(args: Any) -> list[Any]:
    return [a for a in args if isinstance(a, np.ndarray) and a.dtype.kind == "f"]
