"""Right and wrong rules that the fuzzer was not tuned on, as somebody would write them who has not seen the fuzzer.

A rule stands once, right; a wrong version of it is a change to its text, as a slip of the pen would make it. Each set was
written and frozen before the fuzzer had seen it. What `first` and `second` showed of its faults has been mended since; `third`
came after that. docs/fuzzing.md has what each showed when it was new, and what it shows now.
"""

import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

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
