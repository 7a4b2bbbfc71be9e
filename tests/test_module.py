"""Modules: what they find inside, their state, modes, copies."""

import copy
import pickle

import numpy as np
import pytest

from models.lenet import LeNet
from tinygrad_lite import DtypeError, ShapeError, Tensor, nn, optim


def rng(seed=0):
    return np.random.default_rng(seed)


class Net(nn.Module):
    """Parameters and modules in every place where they may stand."""

    def __init__(self):
        self.first = nn.Linear(2, 3, rng=rng())
        self.scale = nn.Parameter(np.ones(3, np.float32))
        self.blocks = [nn.Linear(3, 3, rng=rng()), nn.Sequential(nn.BatchNorm1d(3), nn.ReLU())]
        self.extra = (nn.Parameter(np.zeros(1, np.float32)),)
        self.tied = self.first
        self.not_learned = Tensor([1.0])
        self.name = "no parameter"

    def forward(self, x):
        x = self.first(x) * self.scale
        for block in self.blocks:
            x = block(x)
        return x + self.extra[0]


NAMES = [
    *["scale", "extra.0", "first.weight", "first.bias", "blocks.0.weight", "blocks.0.bias"],
    *["blocks.1.0.weight", "blocks.1.0.bias"],
]


# -- what is inside ----------------------------------------------------------------------------------------------------


def test_parameters_are_found_once_and_in_order():
    net = Net()
    assert [name for name, _ in net.named_parameters()] == NAMES
    assert [id(p) for p in net.parameters()] == [id(p) for _, p in net.named_parameters()]
    assert net.parameter_count() == 3 + 1 + 9 + 12 + 6
    assert [name for name, _ in net.named_buffers()] == ["blocks.1.0.running_mean", "blocks.1.0.running_var"]


@pytest.mark.parametrize("value", [np.ones((2, 3), np.float32), Tensor(np.ones((2, 3), np.float32)), 1.0])
def test_a_parameter_is_not_lost_by_an_assignment(value):
    layer = nn.Linear(3, 2)
    with pytest.raises(
        DtypeError, match=rf"Linear: weight is a parameter, which a {type(value).__name__} cannot be; write into"
    ):
        layer.weight = value
    model = nn.Sequential()
    model.first = layer
    with pytest.raises(DtypeError, match=rf"Sequential: first is a Module, which a {type(value).__name__} cannot be"):
        model.first = value
    layer.weight, layer.bias = nn.Parameter(np.zeros((2, 3))), None
    layer.extra = value
    assert [name for name, _ in layer.named_parameters()] == ["weight"]
    assert layer.weight.dtype == np.float64


def test_modules_and_parameters_in_containers_of_every_kind_are_found():
    net = nn.Module()
    net.heads = {"a": nn.ReLU(), "b": [nn.Linear(2, 1), {"scale": nn.Parameter(2.0)}], 3: 0.5}
    net.grid = ((nn.Dropout(0.1),), ())
    net.heads["b"].append(net.heads)  # a container in itself is gone through once
    assert [name for name, _ in net.named_parameters()] == ["heads.b.1.scale", "heads.b.0.weight", "heads.b.0.bias"]
    assert [name for name, _ in net.named_children()] == ["heads.a", "heads.b.0", "grid.0.0"]
    net.eval().load_state_dict({**net.state_dict(), "heads.b.1.scale": 3.0})
    assert net.heads["b"][1]["scale"].item() == 3.0
    assert not net.grid[0][0].training


def test_a_module_may_know_the_one_around_it():
    net = Net()
    net.blocks[0].net = net
    net.blocks[1][0].others = [net]
    assert [name for name, _ in net.named_parameters()] == NAMES
    assert sorted(net.state_dict()) == sorted(Net().state_dict())
    assert len([*net.modules()]) == len([*Net().modules()]) == 6
    assert not net.eval().blocks[1][0].training


def test_repr_shows_the_tree_and_the_counts():
    assert repr(LeNet(rng())).splitlines() == [
        "LeNet(  # 431,080 parameters",
        "  (conv1): Conv2d(1, 20, kernel_size=(5, 5))  # 520 parameters",
        "  (conv2): Conv2d(20, 50, kernel_size=(5, 5))  # 25,050 parameters",
        "  (fc1): Linear(800, 500)  # 400,500 parameters",
        "  (fc2): Linear(500, 10)  # 5,010 parameters",
        "  (dropout): Dropout(p=0.0)",
        ")",
    ]


def test_modes_reach_everything_inside():
    net = Net()
    assert net.eval() is net
    assert [m.training for m in net.modules()] == [False] * len(list(net.modules()))
    net.train()
    assert all(m.training for m in net.modules())


def test_a_module_without_forward_says_so():
    with pytest.raises(NotImplementedError, match=r"Empty must define forward\(\)"):
        type("Empty", (nn.Module,), {})()(1)


# -- state -------------------------------------------------------------------------------------------------------------


def test_state_comes_back_and_gives_the_same_results():
    x = rng(1).normal(size=(8, 2)).astype(np.float32)
    net, other = Net(), Net()
    net(x)  # moves the running mean
    for p in net.parameters():
        p.data += rng(2).normal(size=p.shape).astype(np.float32)
    kept = [p.data for p in other.parameters()]
    other.load_state_dict(net.state_dict())
    np.testing.assert_array_equal(other.eval()(x).data, net.eval()(x).data)
    assert all(p.data is array for p, array in zip(other.parameters(), kept, strict=True))  # in place, for optimisers


def test_pytorchs_count_of_batches_is_left_aside():
    net = Net()
    state = {**net.state_dict(), "blocks.1.0.num_batches_tracked": np.array(7)}
    net.load_state_dict(state)
    with pytest.raises(ShapeError, match=r"blocks\.0\.num_batches_tracked is unknown"):  # that one is no batch norm
        net.load_state_dict({**state, "blocks.0.num_batches_tracked": np.array(7)})


def test_state_is_a_copy():
    net = Net()
    state = net.state_dict()
    for value in state.values():
        value += 1
    for name, p in net.named_parameters():
        assert not np.array_equal(p.data, state[name])


@pytest.mark.parametrize("name", ["scale", "blocks.1.0.running_var"])
def test_a_state_is_not_written_into_what_cannot_be_written(name):
    net = Net()
    before, arrays = net.state_dict(), net._state()
    arrays[name].flags.writeable = False
    with pytest.raises(DtypeError, match=rf"load_state_dict: the array of {name} \(shape=\(3,\)\) cannot be written; make it"):
        net.load_state_dict({name: value + 1 for name, value in before.items()})
    for name, value in arrays.items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize(("change", "error", "words"), [
    (lambda s: s.pop("scale"), ShapeError, "not of this Net: scale is missing"),
    (lambda s: s.update(more=np.ones(1)), ShapeError, "more is unknown"),
    (lambda s: s.update(scale=np.ones(4)), ShapeError, r"scale has shape \(4,\), expected \(3,\)"),
    (lambda s: s.update(scale=np.ones((3, 1))), ShapeError, r"scale has shape \(3, 1\), expected \(3,\)"),
    (lambda s: s.update(scale=np.ones(3, complex)), DtypeError, "scale has dtype complex128, expected float32"),
    (lambda s: [s.pop(n) for n in NAMES], ShapeError, "blocks.0.weight is missing and 3 more"),
])  # fmt: skip
def test_state_that_does_not_fit_changes_nothing(change, error, words):
    net = Net()
    before = net.state_dict()
    state = {name: value + 1 for name, value in before.items()}
    change(state)
    with pytest.raises(error, match=words):
        net.load_state_dict(state)
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_lists_of_a_state_keep_their_digits():
    layer = nn.Linear(1, 1).to(np.float64)
    layer.load_state_dict({"weight": [[0.1]], "bias": [0.3]})
    assert (layer.weight.item(), layer.bias.item()) == (0.1, 0.3)


def test_conversion_to_float64():
    net = Net().to(np.float64)
    assert {v.dtype for v in net.state_dict().values()} == {np.dtype(np.float64)}
    y = net(np.ones((4, 2)))
    y.sum().backward()
    assert y.dtype == np.float64
    assert {p.grad.dtype for p in net.parameters()} == {np.dtype(np.float64)}


def test_conversion_forgets_gradients_and_leaves_integers():
    net = nn.Module()
    net.scale, net.places = nn.Parameter([1.0]), nn.Parameter(np.array([2, 0]), requires_grad=False)
    (net.scale * 2.0).sum().backward()
    net.to(np.float64)
    assert (net.scale.dtype, net.scale.grad, net.places.dtype) == (np.float64, None, np.int64)


def test_copies_and_pickles_are_independent():
    net = Net()
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert other.tied is other.first
        other(np.ones((4, 2), np.float32)).sum().backward()
        other.scale.data += 1
        assert (net.scale.grad, net.scale.data.tolist()) == (None, [1.0] * 3)


def test_zero_grad():
    net = Net()
    net(np.ones((4, 2), np.float32)).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())


class Masked(nn.Module):
    buffers_ = ("mask",)

    def __init__(self, mask):
        self.weight, self.mask = nn.Parameter([1.0, 2.0]), mask

    def forward(self, x):
        return x * self.weight * self.mask


def test_buffers_may_be_tensors():
    model, other = Masked(Tensor([1.0, 0.0])), Masked(Tensor([0.0, 0.0]))
    other.load_state_dict(model.state_dict())
    assert (type(other.mask), other.mask.tolist()) == (Tensor, [1, 0])
    average = optim.AveragedModel(model)
    model.mask.data[...] = [0, 1]
    average.update_parameters(model)
    assert average.module.mask.tolist() == [0, 1]
    assert (type(model.to(np.float64).mask), model.mask.dtype) == (Tensor, np.float64)


@pytest.mark.parametrize("value", [3, [1.0, 2.0], "a", np.float32(1)])
def test_a_buffer_that_is_no_array_is_said(value):
    with pytest.raises(DtypeError, match=rf"Masked: the buffer mask must be an array or a Tensor, got {type(value).__name__}"):
        Masked(value).state_dict()


def test_two_parameters_of_one_name_are_refused():
    class Keyed(nn.Module):
        def __init__(self):
            self.layers = {1: nn.Linear(1, 1), "1": nn.Linear(1, 1)}

    with pytest.raises(ShapeError, match=r"Keyed: two parameters or buffers have the name layers\.1\.weight; rename"):
        Keyed().state_dict()


def test_a_module_that_knows_the_one_around_it_can_be_shown_and_timed():
    class Inner(nn.Module):
        def __init__(self, outer):
            self.outer, self.layer = outer, nn.Linear(2, 2)

        def forward(self, x):
            return self.layer(x)

    class Outer(nn.Module):
        def __init__(self):
            self.inner = Inner(self)

        def forward(self, x):
            return self.inner(x)

    net = Outer()
    assert "(outer): ..." in repr(net)
    assert [row.layer for row in net.profile(np.ones((1, 2), np.float32), steps=1).rows] == ["inner.layer"]
