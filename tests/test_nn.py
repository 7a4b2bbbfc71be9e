"""Layers: the functions they stand for, what they learn and drop, initial values."""

import numpy as np
import pytest

import tinygrad_lite.functional as F
from models.lenet import LeNet
from tinygrad_lite import ShapeError, Tensor, nn, optim
from tinygrad_lite.nn import init


def rng(seed=0):
    return np.random.default_rng(seed)


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


def test_pooling_makes_floats_of_integers_as_all_that_divides_does():
    x = np.arange(16, dtype=np.uint8).reshape(1, 1, 4, 4)
    largest, mean = F.max_pool2d(x, 2, padding=1), F.avg_pool2d(x, 2)
    assert largest.dtype == mean.dtype == np.float32
    assert largest.data[0, 0].tolist() == [[0, 2, 3], [8, 10, 11], [12, 14, 15]]
    assert mean.data[0, 0].tolist() == [[2.5, 4.5], [10.5, 12.5]]


def test_dropout_gives_one_dtype_in_training_and_evaluation():
    layer, x = nn.Dropout(0.5, rng=rng()), np.arange(4)
    assert layer(x).dtype == layer.eval()(x).dtype == np.float32


@pytest.mark.parametrize(("layer", "fan_in"), [
    (lambda: nn.Linear(4, 4000, rng=rng()), 4), (lambda: nn.Conv2d(6, 4000, (2, 3), groups=2, rng=rng()), 18),
])  # fmt: skip
def test_weights_and_biases_lie_within_one_by_the_root_of_the_fan_in(layer, fan_in):
    for parameter in layer().parameters():
        assert 0.99 < np.abs(parameter.data).max() * fan_in**0.5 <= 1


def test_layers_without_bias():
    assert nn.Linear(2, 3, bias=False).bias is None
    assert "bias=False" in repr(nn.Conv2d(1, 2, 3, bias=False))
    assert [n for n, _ in nn.Linear(2, 3, bias=False).named_parameters()] == ["weight"]
    assert list(nn.LayerNorm(3, elementwise_affine=False).parameters()) == []


@pytest.mark.parametrize(("layer", "words"), [
    (nn.MaxPool2d(3, padding=1), "MaxPool2d(kernel_size=(3, 3), stride=(3, 3), padding=(1, 1))"),
    (nn.AvgPool2d(2, count_include_pad=False), "AvgPool2d(kernel_size=(2, 2), stride=(2, 2), count_include_pad=False)"),
    (nn.ELU(2.0), "ELU(alpha=2.0)"), (nn.ELU(), "ELU()"), (nn.GELU("tanh"), "GELU(approximate='tanh')"),
    (nn.Softplus(3.0), "Softplus(beta=3.0)"), (nn.Flatten(0), "Flatten(start_dim=0)"),
    (nn.BatchNorm2d(3, momentum=0.2, affine=False), "BatchNorm2d(3, momentum=0.2, affine=False)"),
    (nn.BatchNorm1d(3, 1e-3, affine=False), "BatchNorm1d(3, eps=0.001, affine=False)"),
    (nn.LayerNorm(3, 1e-3, elementwise_affine=False), "LayerNorm((3,), eps=0.001, elementwise_affine=False)"),
    (nn.MSELoss("sum"), "MSELoss(reduction='sum')"),
    (nn.CrossEntropyLoss(label_smoothing=0.1), "CrossEntropyLoss(label_smoothing=0.1)"),
])  # fmt: skip
def test_a_printed_layer_shows_what_was_chosen(layer, words):
    assert repr(layer) == words


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


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_without_running_values_uses_the_batch_always_and_has_no_state_of_them(training):
    model = nn.Sequential(nn.BatchNorm1d(2), nn.BatchNorm1d(2)).train(training)
    model[0].running_mean = model[0].running_var = None
    x = np.random.default_rng(0).standard_normal((5, 2)).astype(np.float32)
    np.testing.assert_allclose(model[0](x).data, (x - x.mean(0)) / x.std(0), rtol=1e-3, atol=1e-4)
    assert [*model.state_dict()] == ["0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var"]
    model.load_state_dict(model.state_dict())
    optim.AveragedModel(model).update_parameters(model)
    assert model.to(np.float64)[1].running_mean.dtype == np.float64
    model[1].running_var = None
    with pytest.raises(ShapeError, match="running_mean and running_var go together, got no running_var"):
        model[1](x.astype(np.float64))


def test_a_slice_of_a_sequential_is_one_of_the_same_layers():
    model = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 1))
    head, last = model[:-1], model[-1]
    x = np.ones((4, 3), np.float32)
    assert isinstance(head, nn.Sequential)
    assert [*head] == [model[0], model[1]]
    np.testing.assert_array_equal(last(head(x)).data, model(x).data)
