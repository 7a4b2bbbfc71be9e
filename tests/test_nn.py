"""Modules: what they find inside, their state, modes, layers, initial values."""

import copy
import pickle

import numpy as np
import pytest

import tinygrad_lite.functional as F
from models.lenet import LeNet
from tinygrad_lite import DtypeError, ShapeError, Tensor, nn, optim
from tinygrad_lite.nn import init


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


def test_state_is_a_copy():
    net = Net()
    state = net.state_dict()
    for value in state.values():
        value += 1
    for name, p in net.named_parameters():
        assert not np.array_equal(p.data, state[name])


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


def test_conversion_to_float64():
    net = Net().to(np.float64)
    assert {v.dtype for v in net.state_dict().values()} == {np.dtype(np.float64)}
    y = net(np.ones((4, 2)))
    y.sum().backward()
    assert y.dtype == np.float64
    assert {p.grad.dtype for p in net.parameters()} == {np.dtype(np.float64)}


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


# -- layers ------------------------------------------------------------------------------------------------------------


def test_layers_are_the_functions():
    x = Tensor(rng().normal(size=(2, 4, 7, 6)).astype(np.float32))
    conv = nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2, rng=rng())
    for layer, result in [
        (conv, F.conv2d(x, conv.weight, conv.bias, (2, 1), (1, 0), (1, 2), 2)),
        (nn.MaxPool2d(3, 2, 1, 2), F.max_pool2d(x, 3, 2, 1, 2)),
        (nn.AvgPool2d(3, 2, 1, False), F.avg_pool2d(x, 3, 2, 1, False)),
        (nn.Flatten(), F.flatten(x, 1)), (nn.Flatten(2, 3), F.flatten(x, 2, 3)), (nn.Identity(), x),
        (nn.ReLU(), F.relu(x)), (nn.LeakyReLU(0.2), F.leaky_relu(x, 0.2)), (nn.ELU(0.5), F.elu(x, 0.5)),
        (nn.GELU("tanh"), F.gelu(x, "tanh")), (nn.GELU(), F.gelu(x)), (nn.SiLU(), F.silu(x)), (nn.Sigmoid(), F.sigmoid(x)),
        (nn.Tanh(), F.tanh(x)), (nn.Softplus(2.0), F.softplus(x, 2.0)),
        (nn.LayerNorm((7, 6), eps=0.1), F.layer_norm(x, (7, 6), eps=0.1)),
        (nn.Sequential(nn.ReLU(), F.tanh, nn.Flatten()), F.flatten(F.tanh(F.relu(x)), 1)),
    ]:  # fmt: skip
        np.testing.assert_array_equal(layer(x).data, result.data, err_msg=repr(layer))


def test_losses_are_the_functions():
    x, targets = rng().normal(size=(3, 4)), np.array([0, 3, 1])
    assert nn.CrossEntropyLoss("sum", 0.1)(x, targets).item() == F.cross_entropy(x, targets, "sum", 0.1).item()
    assert nn.MSELoss("sum")(x, x + 2.0).item() == pytest.approx(48.0)


def test_batch_norm_learns_running_values_and_uses_them():
    layer = nn.BatchNorm2d(2, momentum=0.25)
    x = rng().normal([3.0, -1.0], [2.0, 0.5], size=(50, 4, 5, 2)).astype(np.float32).transpose(0, 3, 1, 2)
    y = layer(x).data
    np.testing.assert_allclose(y.mean(axis=(0, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(y.var(axis=(0, 2, 3)), 1, rtol=1e-3)
    np.testing.assert_allclose(layer.running_mean, 0.25 * x.mean(axis=(0, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(layer.running_var, 0.75 + 0.25 * x.var(axis=(0, 2, 3), ddof=1), rtol=1e-5)
    for _ in range(60):
        layer(x)
    moved = layer.running_mean.copy()
    np.testing.assert_allclose(layer.eval()(x).data, y, atol=2e-3)
    np.testing.assert_array_equal(layer.running_mean, moved)


def test_dropout_keeps_the_mean_and_is_off_in_evaluation():
    layer = nn.Dropout(0.25, rng=rng())
    x = np.ones((200, 200), np.float32)
    y = layer(x).data
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.75)}
    assert (y == 0).mean() == pytest.approx(0.25, abs=5 * np.sqrt(0.25 * 0.75 / y.size))
    assert not np.array_equal(y, layer(x).data)
    np.testing.assert_array_equal(nn.Dropout(0.25, rng=rng())(x).data, y)
    np.testing.assert_array_equal(layer.eval()(x).data, x)
    assert not nn.Dropout(1.0, rng=rng())(x).data.any()


def test_dropout_drops_the_same_in_both_directions():
    x = Tensor(np.full((5, 6), 2.0), requires_grad=True)
    y = F.dropout(x, 0.5, rng=rng())
    y.sum().backward()
    np.testing.assert_array_equal(y.data, x.grad * 2)


def test_layers_without_bias():
    assert nn.Linear(2, 3, bias=False).bias is None
    assert "bias=False" in repr(nn.Conv2d(1, 2, 3, bias=False))
    assert [n for n, _ in nn.Linear(2, 3, bias=False).named_parameters()] == ["weight"]
    assert list(nn.LayerNorm(3, elementwise_affine=False).parameters()) == []


def test_sequential_has_a_length_and_places():
    layers = [nn.Linear(2, 3), nn.ReLU()]
    model = nn.Sequential(*layers)
    assert (len(model), list(model), model[-1]) == (2, layers, layers[1])


# -- initial values ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("make", "std", "uniform"), [
    (init.kaiming_uniform, np.sqrt(2 / 450), True), (init.kaiming_normal, np.sqrt(2 / 450), False),
    (init.xavier_uniform, np.sqrt(2 / (450 + 720)), True), (init.caffe_xavier, np.sqrt(1 / 450), True),
    (init.torch_default, np.sqrt(1 / 450 / 3), True),
])  # fmt: skip
def test_initial_values_have_their_spread(make, std, uniform):
    values = make((80, 50, 3, 3), rng())  # fan_in 450, fan_out 720
    assert values.dtype == np.float32
    assert values.std() == pytest.approx(std, rel=0.02)
    assert abs(values.mean()) < 5 * std / np.sqrt(values.size)
    if uniform:
        assert std * np.sqrt(3) * 0.999 < np.abs(values).max() <= std * np.sqrt(3) * 1.000001
    else:
        assert np.abs(values).max() > 3.5 * std
    np.testing.assert_array_equal(values, make((80, 50, 3, 3), rng()))


def test_one_generator_makes_a_model_repeatable():
    a, b, c = (LeNet(rng(seed)).state_dict() for seed in (0, 0, 1))
    assert all(np.array_equal(a[n], b[n]) and not np.array_equal(a[n], c[n]) for n in a)


def test_a_model_as_in_pytorch_learns():
    model = nn.Sequential(nn.Linear(2, 16, rng=rng()), nn.Tanh(), nn.Linear(16, 2, rng=rng(1)))
    x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
    targets = np.array([0, 1, 1, 0])
    optimizer = optim.Adam(model.parameters(), lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        F.cross_entropy(model(x), targets).backward()
        optimizer.step()
    assert model(x).data.argmax(axis=1).tolist() == targets.tolist()


def test_the_filters_lie_in_memory_as_the_convolution_reads_them_whatever_happens():
    def in_order(array):
        return array.transpose(0, 2, 1, 3).flags.c_contiguous and not array.flags.c_contiguous

    layer = nn.Conv2d(3, 4, (2, 5), rng=rng())
    assert in_order(layer.weight.data)
    layer.load_state_dict({name: np.array(value, order="C") for name, value in layer.state_dict().items()})
    for optimizer in (optim.SGD(layer.parameters(), lr=0.1, momentum=0.9), optim.AdamW(layer.parameters(), lr=0.1)):
        layer(np.ones((2, 3, 6, 7), np.float32)).sum().backward()
        assert in_order(layer.weight.grad)
        optimizer.step()
    assert in_order(layer.weight.data)
    assert in_order(layer.to(np.float64).weight.data)


def test_the_average_has_the_models_buffers():
    model = nn.Sequential(nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 1))
    average = optim.AveragedModel(model)
    model(np.full((4, 2, 2, 2), 5, np.float32) + np.random.default_rng(0).random((4, 2, 2, 2), np.float32))
    average.update_parameters(model)
    kept, seen = (dict(m.named_buffers()) for m in (average.module, model))
    assert seen["0.running_mean"].min() > 0.5
    for name, buffer in seen.items():
        np.testing.assert_array_equal(kept[name], buffer)
        assert not np.shares_memory(kept[name], buffer)
