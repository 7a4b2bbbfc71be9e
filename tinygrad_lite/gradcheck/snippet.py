"""Code that shows a failure again, with `check_grad` alone."""

from typing import Any

import numpy as np

from tinygrad_lite.gradcheck.layout import array_code


def snippet(report: Any) -> str:
    """Code that makes the failure of a GradReport again."""
    settings, report = report.settings or (report.first or report).settings, report.first or report
    target = report.target
    lines = ["import numpy as np", "from tinygrad_lite.gradcheck import check_grad, lay_out"]

    def named(function: Any, otherwise: str) -> str:
        """Name of a function in the snippet, after a line that imports it, or that leaves it to the reader."""
        forward = function[0] if isinstance(function, tuple) else function
        module, name = getattr(forward, "__module__", None), getattr(forward, "__qualname__", "")
        simple = module and name.isidentifier() and not isinstance(function, tuple)
        lines.append(f"from {module} import {name}" if simple else f"{otherwise} = ...  # {name or type(forward).__name__}")
        return name if simple else otherwise

    parts = [named(target.fn, "fn"), *(_code(arg) for arg in target.args)]
    parts.append(f"cotangent={_code(list(report.v)) if len(report.v) > 1 else _code(report.v[0])}")
    options: dict[str, Any] = {"kwargs": dict(target.kwargs)} if target.kwargs else {}
    options |= {"seed": report.seed, **{k: v for k, v in settings.items() if v is not None}}
    parts += [f"{key}={named(value, key) if callable(value) else _code(value)}" for key, value in options.items()]
    return "\n".join([*lines, f"check_grad({', '.join(parts)})"])


def _code(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return array_code(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {_code(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        inner = ", ".join(_code(item) for item in value)
        return f"[{inner}]" if isinstance(value, list) else f"({inner}{',' if len(value) == 1 else ''})"
    if isinstance(value, np.random.Generator):
        return "np.random.default_rng(0)"
    return getattr(value, "__qualname__", None) or repr(value)
