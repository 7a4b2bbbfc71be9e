"""Code that shows a failure again, with `check_grad` alone."""

import builtins
import sys
from collections.abc import Set
from operator import attrgetter
from typing import Any

import numpy as np

from tinygrad_lite.gradcheck.layout import array_code
from tinygrad_lite.gradcheck.nested import flattened
from tinygrad_lite.gradcheck.target import path_of

PLAIN = (bool, int, complex, str, bytes, slice, range, type(None), type(...))  # types whose repr is code


def snippet(report: Any) -> str:
    """Code that makes the failure of a GradReport again."""
    settings, report = report.settings or (report.first or report).settings, report.first or report
    target = report.target
    arrays = [id(leaf) for leaf in flattened(target.args) if isinstance(leaf, np.ndarray)]
    code = _Code(again={one for one in arrays if arrays.count(one) > 1})
    parts = [code.of(target.fn, "fn"), *(code.of(arg, f"arg{i}") for i, arg in enumerate(target.args))]
    parts.append(f"cotangent={code.of(list(report.v) if len(report.v) > 1 else report.v[0], 'cotangent')}")
    options: dict[str, Any] = {"kwargs": dict(target.kwargs)} if target.kwargs else {}
    options |= {"seed": report.seed, **settings}
    parts += [f"{key}={code.of(value, key)}" for key, value in options.items()]
    return "\n".join([*code.lines, f"check_grad({', '.join(parts)})"])


class _Code:
    """Expressions for values, after the lines that they need: imports, states, and what is left to the reader."""

    def __init__(self, again: Set[int]) -> None:
        self.again, self.named = again, dict[int, str]()  # ids of arrays that come twice, and what they are called
        self.lines = ["import numpy as np", "from tinygrad_lite.gradcheck import check_grad, lay_out"]
        self.taken = {"np", "check_grad", "lay_out"}

    def of(self, value: Any, name: str) -> str:
        """Expression for a value; what is no expression gets this name, or one like it."""
        if id(value) in self.again:
            if id(value) not in self.named:
                self.named[id(value)] = self.free(name)
                self.lines.append(f"{self.named[id(value)]} = {array_code(value)}")
            return self.named[id(value)]
        if isinstance(value, np.ndarray):
            return array_code(value)
        if isinstance(value, dict):
            return "{" + ", ".join(f"{key!r}: {self.of(item, str(key))}" for key, item in value.items()) + "}"
        if isinstance(value, (list, tuple)):
            inner = ", ".join(self.of(item, f"{name}{i}") for i, item in enumerate(value))
            return f"[{inner}]" if isinstance(value, list) else f"({inner}{',' if len(value) == 1 else ''})"
        if isinstance(value, (float, np.floating)):
            return repr(value).replace("nan", "np.nan").replace("inf", "np.inf")
        if isinstance(value, (np.dtype, np.generic)):
            return repr(value) if repr(value).startswith("np.") else f"np.{value!r}"
        if isinstance(value, np.random.Generator):
            return self.generator(value, name)
        return repr(value) if type(value) in PLAIN else self.imported(value, name)

    def generator(self, rng: np.random.Generator, name: str) -> str:
        """Name of a generator that is made on a line before, in the state that it has now."""
        free, bits = self.free(name), rng.bit_generator
        self.lines.append(f"{free} = np.random.Generator(np.random.{type(bits).__name__}())")
        self.lines.append(f"{free}.bit_generator.state = {self.of(dict(bits.state), free)}")
        return free

    def imported(self, value: Any, name: str) -> str:
        """Path of a function or class, after the import that it needs; where it cannot be imported, the reader is told so."""
        owner = getattr(value, "__self__", None)
        module, name_there = getattr(owner if isinstance(owner, type) else value, "__module__", None), path_of(value)
        if module == "builtins" and _is_at(builtins, name_there, value):
            return str(name_there)
        if module == "numpy" and _is_at(np, name_there, value):
            return f"np.{name_there}"
        home = sys.modules.get(str(module))
        held = [key for key, item in vars(home or object).items() if item is value]  # lambdas and objects, under any name
        for path in (name_there, f"{name_there}.fn", *held):  # a test that `grad_property` made has its function's name
            if module != "__main__" and _is_at(home, path, value):
                head, dot, rest = path.partition(".")
                free = self.free(head)
                self.lines.append(f"from {module} import {head}" + (f" as {free}" if free != head else ""))
                return free + dot + rest
        free = self.free(name)
        what = name_there or f"a {type(value).__name__}"
        where = " of the script that ran" if module == "__main__" else ""
        self.lines.append(f"{free} = ...  # {what}{where}: put it here")
        return free

    def free(self, name: str) -> str:
        """A name that nothing else has: this, or with an underscore."""
        while not name.isidentifier() or name in self.taken:
            name = f"{name}_" if name.isidentifier() else "value"
        self.taken.add(name)
        return name


def _is_at(module: Any, path: str, value: Any) -> bool:
    """Whether a module has this very value under its path."""
    try:
        return bool(path) and attrgetter(path)(module) == value
    except (AttributeError, ValueError):
        return False
