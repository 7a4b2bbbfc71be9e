"""Names: what PyTorch's users type, and what a tensor says that it was made by."""

import pytest

import tinygrad_lite.functional as F
from tinygrad_lite import Tensor
from tinygrad_lite.tensor import _ELSEWHERE


@pytest.mark.parametrize("name", ["max", "min", "maximum", "minimum", "relu", "norm", "logsumexp"])
def test_the_repr_names_the_operation(name):
    x = Tensor([1.0, 2.0], requires_grad=True)
    y = getattr(x, name)(*[0] * (name in {"maximum", "minimum", "logsumexp"}))
    assert f"made by {name})" in repr(y)


def test_pytorchs_names_say_what_stands_for_them_here():
    x = Tensor([1.0, 2.0])
    for name, hint in (
        ("view", r"\.reshape\(\)"),
        ("numel", r"\.size"),
        ("clone", "Tensor"),
        ("clamp", r"\.clip"),
        ("cpu", "x itself"),
    ):
        with pytest.raises(AttributeError, match=rf"Tensor has no attribute '{name}'; use {hint}"):
            getattr(x, name)
    with pytest.raises(AttributeError, match=r"Tensor has no attribute 'nothing'\.$"):
        _ = x.nothing
    assert not any(hasattr(Tensor, name) for name in _ELSEWHERE)
    assert not hasattr(x * 2, "_frozen")


@pytest.mark.parametrize("call", [lambda x: x.norm(2, 1), lambda x: x.norm("fro", dim=1), lambda x: F.norm(x, p=2.0, dim=1)])
def test_norm_takes_p_where_pytorch_has_it(call):
    assert call(Tensor([[0.0, 0.0], [3.0, -4.0]])).tolist() == [0, 5]
