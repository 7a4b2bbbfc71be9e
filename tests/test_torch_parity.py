"""The same numbers as PyTorch: LeNet, every function with its options, optimisers. Skipped where torch is not installed.

This file is long because it goes through every function and its options.

We differ on purpose in these: max and min over an axis give values only; the slope of sigmoid keeps its digits in the upper
tail, where PyTorch's is s (1 - s); labels out of range and other mistakes raise before anything is computed; a 0-d NumPy array
is an array, and float64 beside float32 gives float64, where PyTorch lets 0-d tensors give way.

This file is long because it goes through all functions, one comparison each.
"""

import numpy as np
import pytest

import tinygrad_lite.functional as F
from models.lenet import LeNet
from tinygrad_lite import Tensor, nn, optim

torch = pytest.importorskip("torch", reason="PyTorch is not installed, so there is nothing to compare with")
TF = torch.nn.functional

SEEDS = range(4)


def compare(ours, theirs, *arrays, rtol=1e-10):
    """Forward value and all gradients of ours(*tensors) and theirs(*tensors), under a random cotangent."""
    mine = [Tensor(a, requires_grad=True) for a in arrays]
    other = [torch.tensor(a, requires_grad=True) for a in arrays]
    out, expected = ours(*mine), theirs(*other)
    assert out.shape == tuple(expected.shape)
    assert str(out.dtype) == str(expected.dtype).removeprefix("torch.")
    close(out.data, expected.detach().numpy(), rtol, "forward")
    cotangent = np.random.default_rng(9).normal(size=out.shape).astype(out.dtype)
    out.backward(cotangent)
    expected.backward(torch.tensor(cotangent))
    for i, (a, b) in enumerate(zip(mine, other, strict=True)):
        if b.grad is None:
            assert a.grad is None
        else:
            close(a.grad, b.grad.numpy(), rtol, f"gradient {i}")


def close(found, expected, rtol, what=""):
    """Relative to the largest entry, for sums of mixed signs lose the digits of their small results."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=rtol * max(np.abs(expected).max(initial=0), 1e-30), err_msg=what)


# -- LeNet -------------------------------------------------------------------------------------------------------------


class TorchLeNet(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(1, 20, 5)
        self.conv2 = torch.nn.Conv2d(20, 50, 5)
        self.fc1 = torch.nn.Linear(800, 500)
        self.fc2 = torch.nn.Linear(500, 10)

    def forward(self, x):
        x = TF.max_pool2d(TF.relu(self.conv1(x)), 2)
        x = TF.max_pool2d(TF.relu(self.conv2(x)), 2)
        return self.fc2(TF.relu(self.fc1(x.flatten(1))))


def both_lenets(dtype):
    ours = LeNet(np.random.default_rng(0)).to(dtype)
    theirs = TorchLeNet().to(getattr(torch, np.dtype(dtype).name))
    theirs.load_state_dict({name: torch.tensor(value) for name, value in ours.state_dict().items()})
    rng = np.random.default_rng(1)
    images = rng.random((16, 1, 28, 28)).astype(dtype)
    return ours, theirs, images, rng.integers(0, 10, 16)


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float32, 1e-5), (np.float64, 1e-10)])
def test_lenet_forward_and_all_gradients(dtype, rtol):
    ours, theirs, images, labels = both_lenets(dtype)
    x, other_x = Tensor(images, requires_grad=True), torch.tensor(images, requires_grad=True)
    logits, other_logits = ours(x), theirs(other_x)
    close(logits.data, other_logits.detach().numpy(), rtol, "logits")
    loss, other_loss = F.cross_entropy(logits, labels), TF.cross_entropy(other_logits, torch.tensor(labels))
    close(loss.data, other_loss.detach().numpy(), rtol, "loss")
    loss.backward()
    other_loss.backward()
    close(x.grad, other_x.grad.numpy(), rtol, "images")
    names = []
    for (name, parameter), (other_name, other) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert name == other_name
        close(parameter.grad, other.grad.numpy(), rtol, name)
        names.append(name)
    assert len(names) == 8


def test_lenet_20_sgd_steps_stay_together():
    # In float64: in float32 one unit on the other side of its kink, by the last digit, moves the nets apart by 1e-2.
    ours, theirs, images, labels = both_lenets(np.float64)
    options = {"lr": 0.05, "momentum": 0.9, "weight_decay": 5e-3}
    first = ours.state_dict()
    optimizer, other_optimizer = optim.SGD(ours.parameters(), **options), torch.optim.SGD(theirs.parameters(), **options)
    for _ in range(20):
        optimizer.zero_grad()
        other_optimizer.zero_grad()
        loss = F.cross_entropy(ours(images), labels)
        other_loss = TF.cross_entropy(theirs(torch.tensor(images)), torch.tensor(labels))
        close(loss.data, other_loss.detach().numpy(), 1e-12, "loss")
        loss.backward()
        other_loss.backward()
        optimizer.step()
        other_optimizer.step()
    for (name, parameter), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        close(parameter.data, other.detach().numpy(), 1e-12, name)
        assert np.abs(parameter.data - first[name]).max() > 1e-3  # they did move


# -- functions ---------------------------------------------------------------------------------------------------------


def pair(rng, low, high):
    return tuple(int(n) for n in rng.integers(low, high + 1, 2))


@pytest.mark.parametrize("seed", range(12))
def test_conv2d(seed):
    rng = np.random.default_rng(seed)
    stride, padding, dilation, kernel, out = (pair(rng, *b) for b in ((1, 3), (0, 2), (1, 3), (1, 4), (1, 4)))
    groups = int(rng.integers(1, 4))
    c_in, c_out = groups * int(rng.integers(1, 3)), groups * int(rng.integers(1, 3))
    spare = [int(rng.integers(0, s)) for s in stride]  # pixels past the last full window
    h, w = (
        max(1, d * (k - 1) + 1 + s * (o - 1) + e - 2 * p)
        for d, k, s, o, e, p in zip(dilation, kernel, stride, out, spare, padding, strict=True)
    )
    padding = tuple(
        max(p, -(-(d * (k - 1) + 1 - size) // 2)) for p, d, k, size in zip(padding, dilation, kernel, (h, w), strict=True)
    )
    x = rng.normal(size=(int(rng.integers(1, 4)), c_in, h, w))
    weight, bias = rng.normal(size=(c_out, c_in // groups, *kernel)), rng.normal(size=c_out)
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    compare(lambda *t: F.conv2d(*t, **options), lambda *t: TF.conv2d(*t, **options), x, weight, bias)
    compare(lambda *t: F.conv2d(*t, **options), lambda *t: TF.conv2d(*t, **options), x, weight)


@pytest.mark.parametrize("seed", range(8))
def test_pooling(seed):
    rng = np.random.default_rng(seed)
    kernel, stride, dilation = pair(rng, 1, 4), pair(rng, 1, 4), pair(rng, 1, 2)
    padding = tuple(int(rng.integers(0, k // 2 + 1)) for k in kernel)
    size = [d * (k - 1) + int(rng.integers(1, 8)) for d, k in zip(dilation, kernel, strict=True)]
    x = rng.normal(size=(2, 3, *size))
    x = np.round(x)  # many ties: the first of them must win in both
    options = {"stride": stride, "padding": padding}
    compare(
        lambda t: F.max_pool2d(t, kernel, dilation=dilation, **options),
        lambda t: TF.max_pool2d(t, kernel, dilation=dilation, **options), x,
    )  # fmt: skip
    for count in (True, False):
        compare(
            lambda t, count=count: F.avg_pool2d(t, kernel, count_include_pad=count, **options),
            lambda t, count=count: TF.avg_pool2d(t, kernel, count_include_pad=count, **options), x,
        )  # fmt: skip
    compare(lambda t: F.max_pool2d(t, kernel), lambda t: TF.max_pool2d(t, kernel), x)


@pytest.mark.parametrize("shape", [(5, 4), (3, 4, 2, 5)])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_cross_entropy_and_nll(shape, reduction, smoothing):
    rng = np.random.default_rng(0)
    logits = 5 * rng.normal(size=shape)
    labels = rng.integers(0, 4, (shape[0], *shape[2:]))
    options = {"reduction": reduction}
    compare(
        lambda t: F.cross_entropy(t, labels, label_smoothing=smoothing, **options),
        lambda t: TF.cross_entropy(t, torch.tensor(labels), label_smoothing=smoothing, **options), logits,
    )  # fmt: skip
    compare(lambda t: F.nll_loss(t, labels, **options), lambda t: TF.nll_loss(t, torch.tensor(labels), **options), logits)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_mse_loss(reduction):
    a, b = np.random.default_rng(0).normal(size=(2, 3, 4))
    compare(lambda x, y: F.mse_loss(x, y, reduction), lambda x, y: TF.mse_loss(x, y, reduction=reduction), a, b)


SPECIAL = [-30.0, -1.0, 0.0, 0.5, 1.0, 30.0]


@pytest.mark.parametrize(("ours", "theirs"), [
    (F.sin, torch.sin), (F.cos, torch.cos),
    (F.sigmoid, torch.sigmoid), (F.tanh, torch.tanh), (F.relu, TF.relu), (F.abs, torch.abs), (F.silu, TF.silu),
    (F.leaky_relu, TF.leaky_relu), (lambda x: F.leaky_relu(x, 0.3), lambda x: TF.leaky_relu(x, 0.3)),
    (F.elu, TF.elu), (lambda x: F.elu(x, 0.7), lambda x: TF.elu(x, 0.7)), (F.gelu, TF.gelu),
    (lambda x: F.gelu(x, "tanh"), lambda x: TF.gelu(x, approximate="tanh")),
    (F.softplus, lambda x: TF.softplus(x, threshold=1e9)),
    (lambda x: F.softplus(x, 2.5), lambda x: TF.softplus(x, 2.5, 1e9)),
    (lambda x: F.clip(x, -1.0, 0.5), lambda x: torch.clip(x, -1.0, 0.5)),
    (lambda x: F.clip(x, min=0), lambda x: torch.clip(x, min=0)),
    (lambda x: x**2, lambda x: x**2), (lambda x: x**3.0, lambda x: x**3.0),
    (lambda x: -x + 1 - x / 3, lambda x: -x + 1 - x / 3),
])  # fmt: skip
def test_element_by_element(ours, theirs):
    drawn = 3 * np.random.default_rng(0).normal(size=20)
    compare(ours, theirs, drawn, rtol=1e-12)
    for value in [v for v in SPECIAL if v < 30 or ours is not F.sigmoid]:  # alone: each has its own scale
        compare(ours, theirs, np.array([value]), rtol=1e-11)


@pytest.mark.parametrize("name", ["exp", "log", "sqrt"])
def test_positive_element_by_element(name):
    x = np.random.default_rng(0).uniform(0.1, 5, (3, 4))
    compare(getattr(F, name), getattr(torch, name), x, rtol=1e-14)


@pytest.mark.parametrize("shapes", [((3, 4), (3, 4)), ((3, 1), (2, 1, 4)), ((), (2, 3)), ((4,), (3, 4))])
def test_two_operands(shapes):
    rng = np.random.default_rng(0)
    a, b = (rng.uniform(0.5, 2, s) for s in shapes)
    condition = rng.random(np.broadcast_shapes(*shapes)) < 0.5
    for f in (lambda x, y: x + y, lambda x, y: x - y, lambda x, y: x * y, lambda x, y: x / y, lambda x, y: x**y):
        compare(f, f, a, b, rtol=1e-13)
    compare(F.maximum, torch.maximum, np.round(a), np.round(b))  # with ties, which share in halves
    compare(F.minimum, torch.minimum, np.round(a), np.round(b))
    compare(lambda x, y: F.where(condition, x, y), lambda x, y: torch.where(torch.tensor(condition), x, y), a, b)


@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("dim", [None, 0, -1, (0, 2), (2, 1, 0)])
def test_reductions(dim, keepdim):
    x = np.random.default_rng(0).normal(size=(3, 4, 5))
    x[1, 2, 3] = 0.0  # for prod
    options = {"dim": dim, "keepdim": keepdim}
    for name in ("sum", "mean", "var", "std", "logsumexp"):
        given = {**options, "dim": (0, 1, 2)} if name == "logsumexp" and dim is None else options
        compare(lambda t, n=name, o=given: getattr(F, n)(t, **o), lambda t, n=name, o=given: getattr(torch, n)(t, **o), x)
    compare(lambda t: F.var(t, correction=0, **options), lambda t: torch.var(t, correction=0, **options), x)
    compare(lambda t: F.norm(t, **options), lambda t: torch.linalg.vector_norm(t, **options), x)
    whole = (0, 1, 2) if dim is None else dim
    compare(lambda t: F.max(t, **options), lambda t: torch.amax(t, whole, keepdim), x)
    compare(lambda t: F.min(t, **options), lambda t: torch.amin(t, whole, keepdim), x)
    if isinstance(dim, int):
        compare(lambda t: F.prod(t, **options), lambda t: torch.prod(t, **options), x)
        compare(lambda t: F.max(t, **options), lambda t: torch.max(t, **options).values, np.round(x))  # ties: the first wins
        np.testing.assert_array_equal(F.argmax(x, dim, keepdim).data, torch.argmax(torch.tensor(x), dim, keepdim).numpy())
        compare(lambda t: F.softmax(t, dim), lambda t: torch.softmax(t, dim), 100 * x)
        compare(lambda t: F.log_softmax(t, dim), lambda t: torch.log_softmax(t, dim), 100 * x)


def test_max_gives_values_only_and_sigmoid_keeps_the_digits_of_its_tail():
    """Two of the differences that the first lines of this file name."""
    x = np.ones((2, 3))
    assert F.max(x, dim=1).shape == (2,)
    assert len(torch.max(torch.tensor(x), dim=1)) == 2
    mine, other = Tensor([30.0], True, np.float64), torch.tensor([30.0], dtype=torch.float64, requires_grad=True)
    mine.sigmoid().backward()
    torch.sigmoid(other).backward()
    exact = np.exp(-30.0) / (1 + np.exp(-30.0)) ** 2
    assert mine.grad.item() == pytest.approx(exact, rel=1e-14, abs=0)
    assert other.grad.item() != pytest.approx(exact, rel=1e-6, abs=0)


def test_slope_of_std_on_constant_rows():
    compare(lambda t: F.std(t, dim=1), lambda t: torch.std(t, dim=1), np.full((2, 7), 0.1))


def test_moving_elements():
    x = np.random.default_rng(0).normal(size=(2, 3, 4))
    rows, other_rows = np.array([[0, -1], [1, 1]]), torch.tensor([[0, -1], [1, 1]])
    mask = np.random.default_rng(1).random((2, 3)) < 0.5
    for f in (
        lambda t: t.reshape(4, -1), lambda t: t.reshape((2, 12)), lambda t: t.flatten(1), lambda t: t.flatten(0, 1),
        lambda t: t.unsqueeze(-2).squeeze(2), lambda t: t.unsqueeze(0).squeeze(), lambda t: t.transpose(0, -1),
        lambda t: t.permute(2, 0, 1), lambda t: t[:, :1].expand(-1, 3, -1), lambda t: t.expand(5, -1, 3, 4),
        lambda t: t[1], lambda t: t[..., -2], lambda t: t[:, 1:, ::2], lambda t: t[0, None, 1], lambda t: t[-1, -1, -1],
        lambda t: t.sum(dim=0) @ t[0].transpose(0, 1),
    ):  # fmt: skip
        compare(f, f, x)
    for ours, theirs in [
        (lambda t: t[rows], lambda t: t[other_rows]), (lambda t: t[mask], lambda t: t[torch.tensor(mask)]),
        (lambda t: t[:, [2, 0, 2]], lambda t: t[:, [2, 0, 2]]),
        (lambda t: t[rows, :, rows], lambda t: t[other_rows, :, other_rows]),
        (lambda t: F.pad(t, (1, 2)), lambda t: TF.pad(t, (1, 2))),
        (lambda t: F.pad(t, (-1, 2, 0, 1, 3, -1), 1.5), lambda t: TF.pad(t, (-1, 2, 0, 1, 3, -1), value=1.5)),
        (lambda t: F.cat([t, t[:1]]), lambda t: torch.cat([t, t[:1]])),
        (lambda t: F.cat([t, t[..., :1]], -1), lambda t: torch.cat([t, t[..., :1]], -1)),
        (lambda t: F.stack([t, 2 * t], -1), lambda t: torch.stack([t, 2 * t], -1)),
    ]:  # fmt: skip
        compare(ours, theirs, x)


@pytest.mark.parametrize(
    ("a", "b"), [((3,), (3,)), ((3,), (3, 2)), ((2, 3), (3,)), ((2, 3), (3, 4)), ((5, 1, 2, 3), (4, 3, 2)), ((3,), (4, 3, 2))]
)
def test_matmul(a, b):
    rng = np.random.default_rng(0)
    compare(F.matmul, torch.matmul, rng.normal(size=a), rng.normal(size=b))


@pytest.mark.parametrize("shape", [(3,), (2, 3), (4, 2, 3)])
def test_linear(shape):
    rng = np.random.default_rng(0)
    compare(F.linear, TF.linear, rng.normal(size=shape), rng.normal(size=(5, 3)), rng.normal(size=5))


@pytest.mark.parametrize("shape", [(6, 3), (4, 3, 5), (2, 3, 4, 5)])
def test_batch_norm(shape):
    rng = np.random.default_rng(0)
    x, weight, bias = 3 + 2 * rng.normal(size=shape), rng.normal(size=3), rng.normal(size=3)
    for training in (True, False):
        mine = rng.normal(size=3), rng.uniform(0.5, 2, 3)
        other = tuple(torch.tensor(r) for r in mine)
        compare(
            lambda *t, s=mine, on=training: F.batch_norm(t[0], *s, *t[1:], training=on, momentum=0.3, eps=1e-3),
            lambda *t, s=other, on=training: TF.batch_norm(t[0], *s, *t[1:], training=on, momentum=0.3, eps=1e-3),
            x, weight, bias,
        )  # fmt: skip
        for a, b in zip(mine, other, strict=True):
            close(a, b.numpy(), 1e-14, f"running, training={training}")


def test_layer_norm():
    rng = np.random.default_rng(0)
    x = 3 + rng.normal(size=(2, 3, 4))
    compare(lambda *t: F.layer_norm(t[0], (3, 4), *t[1:]), lambda *t: TF.layer_norm(t[0], (3, 4), *t[1:]), x, x[0], x[1])
    compare(lambda t: F.layer_norm(t, 4, eps=0.1), lambda t: TF.layer_norm(t, (4,), eps=0.1), x)


def test_constant_rows_are_exact_in_both():
    for value, n in ((123456.7, 7), (0.1, 777), (1000.1, 10)):
        x = np.full((2, n), value, np.float32)
        np.testing.assert_array_equal(F.std(x, dim=1).data, torch.tensor(x).std(dim=1).numpy())
        np.testing.assert_array_equal(F.layer_norm(x, n).data, TF.layer_norm(torch.tensor(x), (n,)).numpy())


# -- dtypes ------------------------------------------------------------------------------------------------------------

DTYPES = ["bool", "uint8", "int32", "int64", "float32", "float64"]


@pytest.mark.parametrize("a", DTYPES)
@pytest.mark.parametrize("b", [*DTYPES, 2, 2.5])
def test_dtypes_of_mixed_operations(a, b):
    x, other_x = (f([1, 1]) for f in (lambda v: Tensor(np.array(v, a)), lambda v: torch.tensor(v, dtype=getattr(torch, a))))
    if isinstance(b, str):
        y, other_y = Tensor(np.array([1, 1], b)), torch.tensor([1, 1], dtype=getattr(torch, b))
    else:
        y = other_y = b
    for name, f in [
        ("+", lambda p, q: p + q), ("*", lambda p, q: p * q), ("/", lambda p, q: p / q), ("reversed *", lambda p, q: q * p),
        ("<", lambda p, q: p < q), ("sum", lambda p, q: (p * q).sum()), ("mean", lambda p, q: (p / q).mean()),
    ]:  # fmt: skip
        assert str(f(x, y).dtype) == str(f(other_x, other_y).dtype).removeprefix("torch."), name
    condition = np.array([True, False])
    assert str(F.where(condition, x, y).dtype) == str(torch.where(torch.tensor(condition), other_x, other_y).dtype)[6:]
    if isinstance(b, str):
        assert str(F.cat([x, y]).dtype) == str(torch.cat([other_x, other_y]).dtype)[6:]


@pytest.mark.parametrize("dtypes", [(np.float32, np.float64), (np.float64, np.float32)])
def test_products_refuse_what_pytorch_refuses(dtypes):
    a, b = (np.ones((1, 1, 2, 2), d) for d in dtypes)
    p, q = torch.tensor(a), torch.tensor(b)
    for ours, theirs in [
        (lambda: Tensor(a) @ Tensor(b), lambda: p @ q),
        (lambda: F.linear(a, b[0, 0]), lambda: TF.linear(p, q[0, 0])),
        (lambda: F.conv2d(a, b), lambda: TF.conv2d(p, q)),
        (lambda: F.layer_norm(a, 2, b[0, 0, 0]), lambda: TF.layer_norm(p, (2,), q[0, 0, 0])),
    ]:  # fmt: skip
        with pytest.raises(RuntimeError, match=r"dtype|type"):
            theirs()
        with pytest.raises(TypeError, match=r"same dtype, got .*float(32|64), .*float(64|32)"):
            ours()


# -- optimisers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "options"), [
    ("SGD", {"lr": 0.1}), ("SGD", {"lr": 0.05, "momentum": 0.9}), ("SGD", {"lr": 0.1, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.1, "nesterov": True}),
    ("Adam", {}), ("Adam", {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.2}),
    ("AdamW", {}), ("AdamW", {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.2}),
])  # fmt: skip
def test_optimisers_over_20_steps(name, options):
    rng = np.random.default_rng(0)
    values = [rng.normal(size=(3, 4)), rng.normal(size=()), rng.normal(size=5)]
    mine, other = ([f(v) for v in values] for f in (nn.Parameter, lambda v: torch.nn.Parameter(torch.tensor(v))))

    def groups(params):
        return [{"params": params[:1]}, {"params": params[1:], "lr": 0.02, "weight_decay": 0.0}]

    optimizer = getattr(optim, name)(groups(mine), **{"lr": 1e-3, **options})
    other_optimizer = getattr(torch.optim, name)(groups(other), **{"lr": 1e-3, **options})
    for step in range(20):
        for i, (a, b) in enumerate(zip(mine, other, strict=True)):
            g = None if i == 2 and step % 3 == 0 else rng.normal(size=a.shape)  # one has no gradient now and then
            a.grad, b.grad = g, None if g is None else torch.tensor(g)
        optimizer.step()
        other_optimizer.step()
    for a, b, value in zip(mine, other, values, strict=True):
        close(a.data, b.detach().numpy(), 1e-12)
        assert np.abs(a.data - value).max() > 1e-3


def test_clipping_of_gradients():
    rng = np.random.default_rng(0)
    for limit in (0.5, 1e3):
        mine, other = nn.Parameter(np.ones((3, 4))), torch.nn.Parameter(torch.ones(3, 4).double())
        g = rng.normal(size=(3, 4))
        mine.grad, other.grad = g.copy(), torch.tensor(g)
        norm = optim.clip_grad_norm([mine], limit)
        assert norm == pytest.approx(torch.nn.utils.clip_grad_norm_([other], limit).item(), rel=1e-12)
        close(mine.grad, other.grad.numpy(), 1e-5)  # PyTorch divides by norm + 1e-6


@pytest.mark.parametrize("total", [10, 37])
def test_schedules(total):
    def rates(schedule, step=optim.LRScheduler):
        optimizer = optim.SGD([nn.Parameter(np.ones(1))], lr=0.3)
        scheduler = step(optimizer, schedule)
        found = []
        for _ in range(total):
            found.append(optimizer.groups[0]["lr"])
            scheduler.step()
        return found

    def other_rates(make):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.3)
        scheduler = make(optimizer)
        found = []
        for _ in range(total):
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        return found

    S = torch.optim.lr_scheduler
    np.testing.assert_allclose(
        rates(optim.cosine(total)), other_rates(lambda o: S.CosineAnnealingLR(o, total)), rtol=1e-9, atol=1e-15
    )
    np.testing.assert_allclose(rates(optim.step_decay(4, 0.5)), other_rates(lambda o: S.StepLR(o, 4, 0.5)), rtol=1e-12)
    inverse = other_rates(lambda o: S.LambdaLR(o, lambda step: (1 + 0.01 * step) ** -0.75))
    np.testing.assert_allclose(rates(optim.inv(0.01, 0.75)), inverse, rtol=1e-12)
