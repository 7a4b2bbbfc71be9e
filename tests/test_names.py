"""Names: what PyTorch's users type, and what a tensor says that it was made by."""

import copy
import importlib
import pickle
import re

import numpy as np
import pytest

import tinygrad_lite
import tinygrad_lite.functional as F
from tinygrad_lite import Tensor, nn, optim
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


LAYER = nn.Linear(2, 3, rng=np.random.default_rng(0))
OBJECTS = {"Tensor": Tensor([1.0]), "Module": LAYER, "Optimizer": optim.Adam(LAYER.parameters())}


def owner_of(where):
    return OBJECTS.get(where) or importlib.import_module(where)


@pytest.mark.parametrize("where", HERE)
def test_pytorchs_names_elsewhere_say_it_too(where):
    owner = owner_of(where)
    called = type(owner).__name__ if where in OBJECTS else where
    for name, hint in HERE[where].items():
        with pytest.raises(AttributeError, match=re.escape(f"{called} has no attribute {name!r}; use {hint}.")):
            getattr(owner, name)
    with pytest.raises(AttributeError, match=rf"^{called} has no attribute 'nothing'$"):
        _ = owner.nothing


def test_names_that_are_in_f_or_without_an_underscore_say_so():
    for owner, name, hint in [
        (tinygrad_lite, "cat", "functional.cat"),
        (tinygrad_lite, "softmax", "functional.softmax"),
        (OBJECTS["Tensor"], "gelu", "functional.gelu"),
        (nn.init, "xavier_uniform_", "nn.init.xavier_uniform, which gives a new array"),
        (OBJECTS["Tensor"], "relu_", ".relu(), which gives a new tensor"),
    ]:
        with pytest.raises(AttributeError, match=re.escape(f" has no attribute '{name}'; use {hint}.")):
            getattr(owner, name)
    for name in ("norm", "linear", "relu_"):  # an attribute of one's own, forgotten
        with pytest.raises(AttributeError, match=rf"has no attribute '{name}'$"):
            getattr(LAYER, name)
    for name in ("np", "_targets", "Sequence"):
        with pytest.raises(AttributeError, match=rf"has no attribute '{name}'$"):
            getattr(tinygrad_lite, name)


def test_modules_and_optimisers_that_lack_a_name_are_copied_and_tell_of_errors_within():
    class Around(nn.Module):
        @property
        def ratio(self):
            return self.layer.wieght

    model = Around()
    model.layer = LAYER
    for found in (copy.deepcopy(model), copy.copy(model)):
        assert found.layer.weight.tolist() == LAYER.weight.tolist()
    assert pickle.loads(pickle.dumps(LAYER)).weight.tolist() == LAYER.weight.tolist()
    assert not hasattr(pickle.loads(pickle.dumps(OBJECTS["Optimizer"])), "param_groups")
    with pytest.raises(AttributeError, match="Linear has no attribute 'wieght'"):
        _ = model.ratio


@pytest.mark.parametrize(("where", "name"), [(where, name) for where in HERE for name in HERE[where]])
def test_what_stands_for_a_name_is_there(where, name):
    assert not hasattr(owner_of(where), name)
    for owner, parts in re.findall(r"\b(tinygrad_lite|F|nn|optim|data|serialize)\.(\w+)", HERE[where][name]):
        assert hasattr({"F": F, "tinygrad_lite": tinygrad_lite}.get(owner) or getattr(tinygrad_lite, owner), parts)
    for method in re.findall(r"(?<![\w.)])\.(\w+)", HERE[where][name]):
        assert hasattr(OBJECTS.get(where, OBJECTS["Tensor"]), method)


@pytest.mark.parametrize("call", [lambda x: x.norm(2, 1), lambda x: x.norm("fro", dim=1), lambda x: F.norm(x, p=2.0, dim=1)])
def test_norm_takes_p_where_pytorch_has_it(call):
    assert call(Tensor([[0.0, 0.0], [3.0, -4.0]])).tolist() == [0, 5]
