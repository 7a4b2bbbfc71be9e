"""Every op and layer of the project, fuzzed; and none is missing from the table."""

import inspect
import sys

import pytest

import tinygrad_lite.functional as F
from tinygrad_lite import nn, ops
from tinygrad_lite.fuzz import grad_tests
from tinygrad_lite.fuzz.project import LAYERS, SPECS

TestOps = grad_tests(SPECS)
TestLayers = grad_tests(LAYERS)

# Not differentiable, or parts of another rule's file that are no rules
NO_GRADIENT = {"functional.argmax"}
NO_LAYER = {"Module", "Parameter", "init"}


def rules():
    modules = [m for name, m in sys.modules.items() if name.startswith(ops.__name__ + ".")]
    for module in modules:
        for name, function in vars(module).items():
            own = inspect.isfunction(function) and function.__module__ == module.__name__ and not name.startswith("_")
            if own and inspect.signature(function).return_annotation in ("RuleResult", F.elementwise.RuleResult):
                yield f"{module.__name__.rpartition('.')[2]}.{name}"


def missing(wanted, table):
    covered = {spec.name.partition(" ")[0] for spec in table}
    return sorted(name for name in wanted if name not in covered)


def test_every_rule_is_in_the_table():
    found = list(rules())
    assert len(found) > 40
    assert missing(found, SPECS) == []
    assert missing([*found, "elementwise.forgotten"], SPECS) == ["elementwise.forgotten"]


def test_every_function_is_in_the_table():
    rule_names = {spec.name.partition(" ")[0].rpartition(".")[2] for spec in SPECS}
    functions = [
        f"functional.{name}"
        for name, function in vars(F).items()
        if inspect.isfunction(function) and function.__module__ == F.__name__ and not name.startswith("_")
        if name not in rule_names
    ]
    assert set(missing(functions, SPECS)) <= NO_GRADIENT


def test_every_layer_is_in_the_table():
    assert missing([f"nn.{name}" for name in nn.__all__ if name not in NO_LAYER], LAYERS) == []


def test_names_are_unique():
    names = [spec.name for spec in [*SPECS, *LAYERS]]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", ["elementwise.mul", "conv.conv2d", "reduction.std", "nn.Linear"])
def test_a_wrong_gradient_in_the_table_is_found(name):
    """The table's own inputs find a gradient that is off by one part in 100,000."""
    from dataclasses import replace

    spec = next(spec for spec in [*SPECS, *LAYERS] if spec.name == name)
    if name.startswith("nn"):

        class Off(type(spec.fn)):
            def forward(self, x):
                from tinygrad_lite import apply

                return apply(lambda y: (y * 1, lambda g: (g * (1 + 1e-5),)), super().forward(x))

        wrong = Off(3, 2)
    else:

        def wrong(*args, **kwargs):
            out, vjp = spec.fn(*args, **kwargs)
            return out, lambda g: tuple(None if p is None else p * p.dtype.type(1 + 1e-5) for p in vjp(g))

    report = replace(spec, fn=wrong).fuzz(max_examples=100, seed=1, raise_error=False)
    assert not report
    assert report.failure.worst.name in ("value", "finite", "shape")
