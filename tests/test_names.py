"""Names: what PyTorch's users type, and what a tensor says that it was made by."""

import importlib
import re

import pytest

import tinygrad_lite
import tinygrad_lite.functional as F
from tinygrad_lite import Tensor
from tinygrad_lite._elsewhere import HERE


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
    with pytest.raises(AttributeError, match=r"Tensor has no attribute 'nothing'$"):
        _ = x.nothing
    assert not hasattr(x * 2, "_frozen")


@pytest.mark.parametrize("where", [where for where in HERE if where != "Tensor"])
def test_pytorchs_names_in_modules_say_it_too(where):
    module = importlib.import_module(where)
    for name, hint in HERE[where].items():
        with pytest.raises(AttributeError, match=re.escape(f"{where} has no attribute {name!r}; use {hint}.")):
            getattr(module, name)
    with pytest.raises(AttributeError, match=rf"^{where} has no attribute 'nothing'$"):
        _ = module.nothing


@pytest.mark.parametrize(("where", "name"), [(where, name) for where in HERE for name in HERE[where]])
def test_what_stands_for_a_name_is_there(where, name):
    assert not hasattr(Tensor if where == "Tensor" else importlib.import_module(where), name)
    for owner, parts in re.findall(r"\b(tinygrad_lite|F|nn|optim|data|serialize)\.(\w+)", HERE[where][name]):
        assert hasattr({"F": F, "tinygrad_lite": tinygrad_lite}.get(owner) or getattr(tinygrad_lite, owner), parts)
    for method in re.findall(r"(?<![\w.)])\.(\w+)", HERE[where][name]):
        assert hasattr(Tensor([1.0]), method)


@pytest.mark.parametrize("call", [lambda x: x.norm(2, 1), lambda x: x.norm("fro", dim=1), lambda x: F.norm(x, p=2.0, dim=1)])
def test_norm_takes_p_where_pytorch_has_it(call):
    assert call(Tensor([[0.0, 0.0], [3.0, -4.0]])).tolist() == [0, 5]
