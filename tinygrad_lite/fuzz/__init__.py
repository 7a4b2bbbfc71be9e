"""Gradient fuzzing: generate arguments that break gradients, check, shrink, explain. Needs Hypothesis (extra "fuzz")."""

from tinygrad_lite.fuzz.properties import Draw, fuzz_grad, grad_property
from tinygrad_lite.fuzz.report import FuzzReport, replay
from tinygrad_lite.fuzz.specs import OpSpec, grad_tests
from tinygrad_lite.fuzz.strategies import broadcast, conv, indexed, matmul, pooled, reduced, tensors
from tinygrad_lite.gradcheck import GradReport, check_grad, directional, lay_out

__all__ = [
    "Draw",
    "FuzzReport",
    "GradReport",
    "OpSpec",
    "broadcast",
    "check_grad",
    "conv",
    "directional",
    "fuzz_grad",
    "grad_property",
    "grad_tests",
    "indexed",
    "lay_out",
    "matmul",
    "pooled",
    "reduced",
    "replay",
    "tensors",
]
