"""The same work in several frameworks, each in a process of its own that experiments.benchmark talks to.

    python -m experiments.contenders tinygrad_lite

reads lines of JSON, {"task": "step", "size": 100, "warm": 2, "repeats": 5}, and answers each with {"seconds": [...], "memory":
bytes}. A task is a method that prepares everything and gives a function that does the work once; a contender without the method
does not take part. All nets are LeNet, all numbers float32, all optimisers SGD with momentum 0.9.
This file is long because it holds six frameworks.
"""

import ctypes
import gc
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

Work = Callable[[], Any]
WIDTH = 10  # numbers in each tensor of the chains
BATCH = 100  # images in a step of an epoch
CONVOLUTIONS = {"conv1": (1, 28, 20), "conv2": (20, 12, 50)}  # channels in, pixels a side, channels out; kernel 5


def images_and_labels(size: int) -> tuple[Any, Any]:
    """Pixels (size, 1, 28, 28) in [0, 1) and classes; what they show does not matter here."""
    rng = np.random.default_rng(0)
    return rng.random((size, 1, 28, 28), dtype=np.float32), rng.integers(0, 10, size)


def weights() -> dict[str, Any]:
    """LeNet's eight arrays under PyTorch's names, for the frameworks that have no layers."""
    from models.lenet import LeNet

    return LeNet(np.random.default_rng(0)).state_dict()


class TinygradLite:
    """The framework here, in its ordinary loop."""

    needs = ("numpy",)

    def model(self) -> Any:
        from models.lenet import LeNet

        return LeNet(np.random.default_rng(0))

    def step(self, size: int) -> Work:
        import tinygrad_lite.functional as F
        from tinygrad_lite import Tensor, optim

        images, labels = images_and_labels(size)
        x, model = Tensor(images), self.model()
        optimizer = optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

        def once() -> None:
            optimizer.zero_grad()
            F.cross_entropy(model(x), labels).backward()
            optimizer.step()

        return once

    def inference(self, size: int) -> Work:
        from tinygrad_lite import Tensor, no_grad

        x, model = Tensor(images_and_labels(size)[0]), self.model()
        model.eval()

        def once() -> None:
            with no_grad():
                model(x)

        return once

    def epoch(self, size: int) -> Work:
        import tinygrad_lite.functional as F
        from experiments.mnist import Digits
        from experiments.training import as_input, evaluate
        from tinygrad_lite import optim
        from tinygrad_lite.data import Batches

        images, labels = byte_images(size)
        model = self.model()
        optimizer = optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
        loader = Batches(images, labels, batch_size=BATCH, rng=np.random.default_rng(0))
        test = Digits(*(array[: size // 6] for array in (images, labels)))

        def once() -> None:
            for some, answers in loader:
                optimizer.zero_grad()
                F.cross_entropy(model(as_input(some)), answers).backward()
                optimizer.step()
            evaluate(model, test)

        return once

    def layer(self, name: str, size: int) -> Work:
        import tinygrad_lite.functional as F
        from tinygrad_lite import Tensor

        arrays = [batch_innermost(a) if i == 0 else a for i, a in enumerate(layer_arrays(name, size))]
        tensors = [Tensor(a, requires_grad=i > 0 or name != "conv1") for i, a in enumerate(arrays)]
        function = layer_function(F, name, word_numbers(size))
        cotangent = batch_innermost(np.ones(function(*tensors).shape, np.float32))

        def once() -> None:
            function(*tensors).backward(cotangent)
            for tensor in tensors:
                if tensor.requires_grad:
                    tensor.zero_grad()

        return once

    def node(self, size: int) -> Work:
        from tinygrad_lite import Tensor

        return chain(lambda: Tensor(np.ones(WIDTH, np.float32), requires_grad=True), Tensor(np.ones(WIDTH, np.float32)), size)

    deep = node


class Torch:
    """PyTorch with its default memory layout."""

    needs = ("torch",)
    channels_last = False

    def __init__(self) -> None:
        import torch

        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        self.torch = torch

    def model(self) -> Any:
        nn = self.torch.nn
        self.torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(1, 20, 5), nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(20, 50, 5), nn.MaxPool2d(2), nn.ReLU(),
            nn.Flatten(), nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10),
        )  # fmt: skip
        return model.to(memory_format=self.torch.channels_last) if self.channels_last else model

    def images(self, array: Any) -> Any:
        x = self.torch.from_numpy(array)
        return x.to(memory_format=self.torch.channels_last) if self.channels_last and x.ndim == 4 else x

    def step(self, size: int) -> Work:
        images, labels = images_and_labels(size)
        x, y, model = self.images(images), self.torch.from_numpy(labels), self.model()
        optimizer = self.torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
        cross_entropy = self.torch.nn.functional.cross_entropy

        def once() -> None:
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            optimizer.step()

        return once

    def inference(self, size: int) -> Work:
        x, model = self.images(images_and_labels(size)[0]), self.model()
        model.eval()

        def once() -> None:
            with self.torch.no_grad():
                model(x)

        return once

    def epoch(self, size: int) -> Work:
        torch = self.torch
        images, labels = (torch.from_numpy(a) for a in byte_images(size))
        model = self.model()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
        cross_entropy = torch.nn.functional.cross_entropy

        def as_input(some: Any) -> Any:
            x = some.unsqueeze(1).float() / 255
            return x.to(memory_format=torch.channels_last) if self.channels_last else x

        def once() -> None:
            for chosen in torch.randperm(size).split(BATCH):
                optimizer.zero_grad()
                cross_entropy(model(as_input(images[chosen])), labels[chosen]).backward()
                optimizer.step()
            with torch.no_grad():
                for some, answers in zip(images[: size // 6].split(500), labels[: size // 6].split(500), strict=True):
                    logits = model(as_input(some))
                    cross_entropy(logits, answers)
                    logits.argmax(1).eq(answers).sum()

        return once

    def layer(self, name: str, size: int) -> Work:
        F = self.torch.nn.functional
        arrays = layer_arrays(name, size)
        tensors = [self.images(a).requires_grad_(i > 0 or name != "conv1") for i, a in enumerate(arrays)]
        function = layer_function(F, name, self.torch.from_numpy(word_numbers(size)))
        cotangent = self.torch.ones_like(function(*tensors))

        def once() -> None:
            function(*tensors).backward(cotangent)
            for tensor in tensors:
                tensor.grad = None

        return once

    def node(self, size: int) -> Work:
        torch = self.torch
        return chain(lambda: torch.ones(WIDTH, requires_grad=True), torch.ones(WIDTH), size)

    deep = node


class TorchChannelsLast(Torch):
    """PyTorch with the layout that its convolutions like best."""

    channels_last = True
    node = deep = None  # nothing in them has channels


class Jax:
    """JAX, the whole step compiled."""

    needs = ("jax",)

    def net(self, p: Any, x: Any) -> Any:
        from jax import lax
        from jax import numpy as jnp

        for name in ("conv1", "conv2"):
            x = lax.conv(x, p[f"{name}.weight"], (1, 1), "VALID") + p[f"{name}.bias"][:, None, None]
            x = jnp.maximum(lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID"), 0)
        x = jnp.maximum(x.reshape(len(x), -1) @ p["fc1.weight"].T + p["fc1.bias"], 0)
        return x @ p["fc2.weight"].T + p["fc2.bias"]

    def step(self, size: int) -> Work:
        import jax
        from jax import numpy as jnp

        x, y = (jnp.asarray(a) for a in images_and_labels(size))
        state = {k: jnp.asarray(v) for k, v in weights().items()}, {k: jnp.zeros(v.shape) for k, v in weights().items()}

        def loss(p: Any) -> Any:
            return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(self.net(p, x)), y[:, None], 1))

        @jax.jit
        def update(p: Any, v: Any) -> Any:
            g = jax.grad(loss)(p)
            v = {k: 0.9 * v[k] + g[k] for k in v}
            return {k: p[k] - 0.01 * v[k] for k in p}, v

        def once() -> None:
            nonlocal state
            state = jax.block_until_ready(update(*state))

        return once

    def inference(self, size: int) -> Work:
        import jax
        from jax import numpy as jnp

        x, p = jnp.asarray(images_and_labels(size)[0]), {k: jnp.asarray(v) for k, v in weights().items()}
        net = jax.jit(self.net)
        return lambda: jax.block_until_ready(net(p, x))


class Tinygrad:
    """tinygrad on the CPU, the whole step captured by its JIT."""

    needs = ("tinygrad",)

    def __init__(self) -> None:
        os.environ["DEV"] = "CPU"

    def step(self, size: int) -> Work:
        from tinygrad import Context, Tensor, TinyJit, nn

        images, labels = images_and_labels(size)
        x, y = Tensor(images).realize(), Tensor(labels.astype(np.int32)).realize()
        p = {k: Tensor(v).realize() for k, v in weights().items()}
        optimizer = nn.optim.SGD(list(p.values()), lr=0.01, momentum=0.9)

        def net(x: Any) -> Any:
            for name in ("conv1", "conv2"):
                x = x.conv2d(p[f"{name}.weight"], p[f"{name}.bias"]).max_pool2d().relu()
            x = x.flatten(1).linear(p["fc1.weight"].T, p["fc1.bias"]).relu()
            return x.linear(p["fc2.weight"].T, p["fc2.bias"])

        @TinyJit
        def update() -> Any:
            optimizer.zero_grad()
            loss = net(x).sparse_categorical_crossentropy(y).backward()
            optimizer.step()
            return loss.realize()

        def once() -> None:
            with Context(TRAINING=1):
                update().item()

        return once


class MyGrad:
    """MyGrad, which is NumPy as well."""

    needs = ("mygrad",)

    def step(self, size: int) -> Work:
        import mygrad as mg
        from mygrad.nnet.layers import conv_nd, max_pool

        images, labels = images_and_labels(size)
        p = {k: mg.tensor(v) for k, v in weights().items()}
        velocity = {k: np.zeros_like(v) for k, v in weights().items()}

        def once() -> None:
            x = images
            for name in ("conv1", "conv2"):
                x = conv_nd(x, p[f"{name}.weight"], stride=1) + p[f"{name}.bias"].reshape(1, -1, 1, 1)
                x = mg.nnet.relu(max_pool(x, (2, 2), 2))
            x = mg.nnet.relu(mg.matmul(x.reshape(size, -1), p["fc1.weight"].T) + p["fc1.bias"])
            x = mg.matmul(x, p["fc2.weight"].T) + p["fc2.bias"]
            mg.nnet.softmax_crossentropy(x, labels).backward()
            for k, w in p.items():
                velocity[k] = 0.9 * velocity[k] + w.grad
                w.data -= np.float32(0.01) * velocity[k]

        return once

    def node(self, size: int) -> Work:
        import mygrad as mg

        return chain(lambda: mg.tensor(np.ones(WIDTH, np.float32)), mg.tensor(np.ones(WIDTH, np.float32), constant=True), size)


class Autograd:
    """HIPS autograd, which is NumPy as well; its convolution is not made for nets."""

    needs = ("autograd", "scipy")

    def step(self, size: int) -> Work:
        import autograd.numpy as anp
        from autograd import grad
        from autograd.scipy.signal import convolve

        images, labels = images_and_labels(size)
        state = weights()
        velocity = {k: np.zeros_like(v) for k, v in state.items()}

        def net(p: Any, x: Any) -> Any:
            for name in ("conv1", "conv2"):
                kernel = p[f"{name}.weight"][:, :, ::-1, ::-1]  # convolve turns kernels round
                x = convolve(x, kernel, axes=([2, 3], [2, 3]), dot_axes=([1], [1]), mode="valid")
                x = x + p[f"{name}.bias"][:, None, None]
                n, c, h, w = x.shape
                x = anp.maximum(anp.max(anp.max(x.reshape(n, c, h // 2, 2, w // 2, 2), axis=5), axis=3), 0)
            x = anp.maximum(anp.dot(x.reshape(len(x), -1), p["fc1.weight"].T) + p["fc1.bias"], 0)
            return anp.dot(x, p["fc2.weight"].T) + p["fc2.bias"]

        def loss(p: Any) -> Any:
            z = net(p, images)
            z = z - anp.max(z, axis=1, keepdims=True)
            return anp.mean(anp.log(anp.sum(anp.exp(z), axis=1)) - z[np.arange(size), labels])

        gradient = grad(loss)

        def once() -> None:
            g = gradient(state)
            for k in state:
                velocity[k] = 0.9 * velocity[k] + g[k]
                state[k] = state[k] - 0.01 * velocity[k]

        return once

    def node(self, size: int) -> Work:
        import autograd.numpy as anp
        from autograd import grad

        a = np.ones(WIDTH, np.float32)

        def f(x: Any) -> Any:
            for _ in range(size // 2):
                x = x * a + a
            return anp.sum(x)

        gradient = grad(f)
        return lambda: gradient(np.ones(WIDTH, np.float32))


class Products:
    """The matrix products of a LeNet step alone, each one NumPy call into memory that is there."""

    needs = ("numpy",)

    def step(self, size: int) -> Work:
        return self._products(size, backward=True)

    def inference(self, size: int) -> Work:
        return self._products(size, backward=False)

    def _products(self, size: int, backward: bool) -> Work:
        rng = np.random.default_rng(0)
        # (outputs, inputs, columns, whether the gradient of the input is wanted)
        sizes = [(20, 25, 576 * size, False), (50, 500, 64 * size, True), (500, 800, size, True), (10, 500, size, True)]
        calls = []
        for o, k, n, wants_input in sizes:
            W, X, G = (rng.random(shape, dtype=np.float32) for shape in ((o, k), (k, n), (o, n)))
            pairs = [(W, X)]
            if backward:
                pairs += [(X, G.T)] + [(W.T, G)] * wants_input  # X G' is quicker than G X'
            calls += [(a, b, np.empty((a.shape[0], b.shape[1]), np.float32)) for a, b in pairs]

        def once() -> None:
            for a, b, out in calls:
                np.dot(a, b, out=out)  # matmul is slow at a column by a row

        return once


class Steps:
    """The steps of this library's epoch alone, on one batch that is there: what loading and evaluation come on top of."""

    needs = ("numpy",)

    def epoch(self, size: int) -> Work:
        step = TinygradLite().step(BATCH)

        def once() -> None:
            for _ in range(-(-size // BATCH)):
                step()

        return once


CONTENDERS: dict[str, Any] = {
    "tinygrad_lite": TinygradLite,
    "PyTorch": Torch,
    "PyTorch channels_last": TorchChannelsLast,
    "JAX jit": Jax,
    "tinygrad": Tinygrad,
    "MyGrad": MyGrad,
    "HIPS autograd": Autograd,
    "matrix products alone": Products,
    "steps alone": Steps,
}


def byte_images(size: int) -> tuple[Any, Any]:
    """Images as they lie in a file, (size, 28, 28), and classes."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (size, 28, 28), dtype=np.uint8), rng.integers(0, 10, size)


def layer_arrays(name: str, size: int) -> list[Any]:
    """Arguments of a layer of LeNet, or of a function on `size` rows of as many numbers as conv1 makes of an image."""
    rng = np.random.default_rng(0)
    shapes: list[tuple[int, ...]]
    if name in CONVOLUTIONS:
        c_in, side, c_out = CONVOLUTIONS[name]
        shapes = [(size, c_in, side, side), (c_out, c_in, 5, 5), (c_out,)]
    elif name == "fc1":
        shapes = [(size, 800), (500, 800), (500,)]
    elif name in ("relu", "pool"):
        shapes = [(size, 20, 24, 24)]
    else:
        shapes = [(size, 11520), (11520,), (11520,)] if name == "layer_norm" else [(size, 11520)]
    return [rng.standard_normal(s, dtype=np.float32) for s in shapes]


def layer_function(F: Any, name: str, words: Any) -> Callable[..., Any]:
    """A layer or function by its name, from this library's `functional` or PyTorch's; `words` are the rows to pick."""
    return {
        "conv1": F.conv2d,
        "conv2": F.conv2d,
        "fc1": F.linear,
        "relu": F.relu,
        "pool": lambda x: F.max_pool2d(x, 2),
        "gelu": F.gelu,
        "sigmoid": F.sigmoid,
        "softmax": lambda x: F.softmax(x, -1),
        "cube": lambda x: x**3,
        "layer_norm": lambda x, weight, bias: F.layer_norm(x, weight.shape, weight, bias),
        "embedding": lambda x: x[words],
    }[name]


def word_numbers(size: int) -> Any:
    """100 of `size` rows, some of them several times."""
    return np.random.default_rng(0).integers(0, size, 100)


def batch_innermost(array: Any) -> Any:
    """The memory order in which a convolution of this library leaves its result."""
    return np.ascontiguousarray(array.transpose(2, 1, 3, 0)).transpose(3, 1, 0, 2) if array.ndim == 4 else array


def chain(leaf: Callable[[], Any], other: Any, length: int) -> Work:
    """`length` operations one after the other, and the way back."""

    def once() -> None:
        y = leaf()
        for _ in range(length // 2):
            y = y * other
            y = y + other
        y.sum().backward()

    return once


def available() -> list[str]:
    """Contenders whose packages are installed."""
    return [name for name, c in CONTENDERS.items() if all(importlib.util.find_spec(package) for package in c.needs)]


def prepare(contender: Any, task: str, size: int) -> Work | None:
    """The work of a task such as "step" or "layer conv1", or None if the contender does not offer it."""
    method, _, detail = task.partition(" ")
    make = getattr(contender, method, None)
    return None if make is None else make(detail, size) if detail else make(size)


def memory(which: str) -> int:
    """Bytes of this process, now (VmRSS) or at most since reset_peak (VmHWM); 0 where the system does not say."""
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            return next(1024 * int(line.split()[1]) for line in file if line.startswith(which))
    except (OSError, StopIteration):
        return 0


def reset_peak() -> None:
    """Let the peak of the memory start from what is in use now."""
    try:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write("5")
    except OSError:
        pass  # then the peak is that of the whole process


def give_back() -> None:
    """Hand freed memory to the system, so that what is measured next starts from what is in use."""
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)


def main() -> int:
    """Answer the tasks that come in on the standard input."""
    if len(sys.argv) != 2 or sys.argv[1] not in CONTENDERS:
        print(f"contenders: expected one name of {', '.join(CONTENDERS)}; experiments.benchmark gives it.", file=sys.stderr)
        return 2
    contender = CONTENDERS[sys.argv[1]]()
    known: tuple[str, int] | None = None
    work: Work | None = None
    peak = before = 0
    for line in sys.stdin:
        order = json.loads(line)
        task, size = order["task"], order["size"]
        if known != (task, size):
            work = None
            give_back()
            before = memory("VmRSS")
            reset_peak()
            work = prepare(contender, task, size)
            known, peak = (task, size), 0
        for _ in range(order["warm"] if work is not None else 0):
            work()
        peak = max(peak, memory("VmHWM") - before)
        seconds = []
        if work is not None:
            for _ in range(order["repeats"]):
                start = time.perf_counter()
                work()
                seconds.append(time.perf_counter() - start)
        print(json.dumps({"seconds": seconds, "memory": max(peak, 0)}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
