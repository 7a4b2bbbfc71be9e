"""PyTorch's names that are not here, and what there is for them, which whoever types one is told."""

import sys
from collections.abc import Callable
from typing import Any

SMOOTH_L1 = "F.mean(F.where(F.abs(d) < 1, d**2 / 2, F.abs(d) - 0.5)) with d = x - y"
RECURRENT = "a loop over the steps, with nn.Linear and F.tanh or F.sigmoid"
HERE = {
    "Tensor": {
        "view": ".reshape()", "clone": "Tensor(x) for a copy, 1 * x for one on the tape", "clamp": ".clip()",
        "numel": ".size", "dim": ".ndim", "t": ".T", "pow": "**", "mm": "@", "bmm": "@", "matmul": "@",
        "repeat": ".expand() or F.cat", "argmin": "x.numpy().argmin()", "long": ".to(np.int64)", "int": ".to(np.int32)",
        "half": ".to(np.float16)", "bool": ".to(bool)", "any": ".numpy().any()", "all": ".numpy().all()",
        "requires_grad_": "x.requires_grad = True", "grad_fn": "repr(x)", "cpu": "x itself: there is one device",
        "cuda": "x itself: there is one device", "device": "nothing: there is one device",
        "contiguous": "x itself: any memory order will do", "fill_": "x.data[...] =", "zero_": "x.data[...] = 0",
        "copy_": "x.data[...] =", "add_": "+=", "sub_": "-=", "mul_": "*=", "div_": "/=", "eq": "==", "ne": "!=", "lt": "<",
        "le": "<=", "gt": ">", "ge": ">=", "masked_fill": "F.where", "gather": "x[np.arange(n), indices] with n indices",
        "index_select": "x[indices]", "flip": "x[::-1]", "split": "slices, x[:k] and x[k:]",
        "chunk": "slices, x[:k] and x[k:]", "unbind": "a loop over x", "sort": ".numpy() and np.sort",
        "topk": ".numpy() and np.argsort", "amax": ".max()", "amin": ".min()", "square": "x**2", "dot": "@",
        "sign": "np.sign(x.data)", "tril": "F.where(np.tril(np.ones(x.shape[-2:], bool)), x, 0)",
        "triu": "F.where(np.triu(np.ones(x.shape[-2:], bool)), x, 0)", "cumsum": "x @ np.triu(np.ones((n, n), x.dtype))",
        "expand_as": ".expand(*other.shape)", "view_as": ".reshape(*other.shape)", "type": ".to(dtype)",
        "new_zeros": "Tensor(np.zeros(shape, x.dtype))", "new_ones": "Tensor(np.ones(shape, x.dtype))",
        "retain_grad": "a tensor made by hand: only these keep a gradient",
        "register_hook": "apply() with a rule whose vjp does it",
    },
    "Module": {
        "register_buffer": "buffers_ = (name,) in the class and self.name = array",
        "register_parameter": "self.name = nn.Parameter(data)", "add_module": "self.name = module",
        "register_module": "self.name = module", "children": ".named_children()",
        "named_modules": ".modules() or .named_children()", "buffers": ".named_buffers()", "apply": "a loop over .modules()",
        "float": ".to(np.float32)", "double": ".to(np.float64)", "half": ".to(np.float16)",
        "requires_grad_": "p.requires_grad = False for each of .parameters()", "type": ".to(dtype)",
        "append": "nn.Sequential(*layers, another)", "register_forward_hook": "a forward() that keeps what you want to see",
        "cpu": "the model itself: there is one device", "cuda": "the model itself: there is one device",
    },
    "Optimizer": {
        "param_groups": ".groups", "add_param_group": "a new optimiser with all groups",
    },
    "tinygrad_lite": {
        "from_numpy": "Tensor(array)", "zeros": "Tensor(np.zeros(shape, np.float32))",
        "ones": "Tensor(np.ones(shape, np.float32))", "arange": "Tensor(np.arange(n))",
        "randn": "Tensor(rng.standard_normal(shape, np.float32))", "rand": "Tensor(rng.random(shape, np.float32))",
        "manual_seed": "rng=np.random.default_rng(seed), which layers and loaders take", "save": "serialize.save",
        "load": "serialize.load", "device": "nothing: there is one device", "cuda": "nothing: there is one device",
        "inference_mode": "no_grad", "autograd": "Tensor.backward()", "float32": "np.float32", "float64": "np.float64",
        "int64": "np.int64", "long": "np.int64", "float": "np.float32", "utils": "data and optim",
        "zeros_like": "Tensor(np.zeros_like(x.data))", "ones_like": "Tensor(np.ones_like(x.data))",
        "randn_like": "Tensor(rng.standard_normal(x.shape), dtype=x.dtype)",
        "full": "Tensor(np.full(shape, value, np.float32))", "eye": "Tensor(np.eye(n, dtype=np.float32))",
        "linspace": "Tensor(np.linspace(start, end, n), dtype=np.float32)", "randint": "rng.integers(low, high, shape)",
        "randperm": "rng.permutation(n)", "einsum": "transpose, reshape and @", "set_grad_enabled": "no_grad",
        "enable_grad": "no_grad around less", "is_tensor": "isinstance(x, Tensor)", "float16": "np.float16",
        "int32": "np.int32", "bool": "bool", "gather": "x[np.arange(n), indices] with n indices",
    },
    "tinygrad_lite.nn": {
        "functional": "tinygrad_lite.functional", "utils": "optim.clip_grad_norm",
        "ModuleList": "a list: what is in it is found", "ModuleDict": "a dict: what is in it is found",
        "ParameterList": "a list: what is in it is found", "Softmax": "F.softmax", "LogSoftmax": "F.log_softmax",
        "NLLLoss": "F.nll_loss", "L1Loss": "F.mean(F.abs(x - y))", "BCEWithLogitsLoss": "F.mean(F.softplus(x) - x * y)",
        "Embedding": "rows of a Parameter, table[indices]", "BCELoss": "F.mean(F.softplus(z) - z * y) of scores z",
        "SmoothL1Loss": SMOOTH_L1, "HuberLoss": SMOOTH_L1,
        "KLDivLoss": "F.sum(y * (np.log(np.maximum(y, 1e-38)) - log_probs))",
        "AdaptiveAvgPool2d": "x.mean((2, 3), keepdim=True)", "Conv1d": "nn.Conv2d on images one pixel high",
        "PReLU": "F.relu(x) - a * F.relu(-x)", "GroupNorm": "F.layer_norm of x.reshape(n, groups, -1)", "RNN": RECURRENT,
        "LSTM": RECURRENT, "GRU": RECURRENT,
        "MultiheadAttention": "nn.Linear for q, k and v, and F.softmax(q @ k.transpose(-2, -1) * scale, -1) @ v",
        "Unflatten": "x.reshape() in forward()", "Upsample": "x[:, :, rows][..., columns] with repeated indices",
    },
    "tinygrad_lite.functional": {
        "one_hot": "np.eye(classes, dtype=np.float32)[labels]", "l1_loss": "F.mean(F.abs(x - y))", "clamp": "F.clip",
        "binary_cross_entropy_with_logits": "F.mean(F.softplus(x) - x * y)", "embedding": "table[indices]",
        "normalize": "x / F.norm(x, dim=1, keepdim=True).clip(1e-12)", "softmin": "F.softmax(-x, dim)",
        "binary_cross_entropy": "F.mean(F.softplus(z) - z * y) of scores z", "smooth_l1_loss": SMOOTH_L1,
        "huber_loss": SMOOTH_L1, "kl_div": "F.sum(y * (np.log(np.maximum(y, 1e-38)) - log_probs))",
        "adaptive_avg_pool2d": "x.mean((2, 3), keepdim=True)", "conv1d": "F.conv2d on images one pixel high",
        "group_norm": "F.layer_norm of x.reshape(n, groups, -1)",
        "scaled_dot_product_attention": "F.softmax(q @ k.transpose(-2, -1) * scale, -1) @ v",
        "interpolate": "x[:, :, rows][..., columns] with repeated indices", "einsum": "transpose, reshape and @",
    },
    "tinygrad_lite.optim": {
        "lr_scheduler": "optim.LRScheduler(optimizer, schedule)", "StepLR": "optim.LRScheduler with optim.step_decay",
        "CosineAnnealingLR": "optim.LRScheduler with optim.cosine", "OneCycleLR": "optim.LRScheduler with optim.one_cycle",
        "swa_utils": "optim.AveragedModel", "clip_grad_norm_": "optim.clip_grad_norm", "RMSprop": "optim.Adam",
        "Adagrad": "optim.Adam", "LambdaLR": "optim.LRScheduler with any function of the step",
        "ExponentialLR": "optim.LRScheduler with lambda step: gamma**step",
        "ReduceLROnPlateau": "optimizer.groups[0]['lr'] *= 0.1 when the loss stays",
        "clip_grad_value_": "np.clip on each p.grad",
    },
    "tinygrad_lite.data": {
        "DataLoader": "data.Batches", "TensorDataset": "data.Batches, which takes arrays",
        "Dataset": "arrays, in data.Batches", "random_split": "slices of rng.permutation(n)",
    },
}  # fmt: skip


def missing(owner: Any, name: str, where: str = "Tensor") -> AttributeError:
    """Word the error of a name that `owner`, an object or a module, has not. Python adds which of its names is alike."""
    known = HERE.get(where, {}).get(name) or _same_elsewhere(name, where)
    hint = f"; use {known}." if known else ""
    called = where if where in sys.modules else type(owner).__name__
    return AttributeError(f"{called} has no attribute {name!r}{hint}", name=name, obj=owner)


def _same_elsewhere(name: str, where: str) -> str | None:
    """Name what F has under this name, or its owner without the underscore that says "in place" in PyTorch."""
    if where in ("Module", "Optimizer"):  # an attribute that was forgotten
        return None
    plain = name.removesuffix("_")
    if where == "Tensor" and plain != name and hasattr(vars(sys.modules["tinygrad_lite.tensor"])["Tensor"], plain):
        return f".{plain}(), which gives a new tensor"
    for module, found in (("tinygrad_lite.functional", name), (where, plain)):
        value = vars(sys.modules.get(module)).get(found) if module in sys.modules else None
        if getattr(value, "__module__", None) == module and not found.startswith("_"):
            return f"{module.removeprefix('tinygrad_lite.')}.{found}" + ", which gives a new array" * (found != name)
    return None


def attributes_of_class(where: str) -> Callable[[Any, str], Any]:
    """Give the `__getattr__` of a class, which Python calls for what it has not found."""

    def attribute(self: Any, name: str) -> Any:
        if hasattr(type(self), name):  # a property that failed, by an error of its own
            return object.__getattribute__(self, name)
        raise missing(self, name, where)

    return attribute


def attributes_of(module: str) -> Callable[[str], Any]:
    """Give the `__getattr__` of a module."""

    def attribute(name: str) -> Any:
        raise missing(sys.modules[module], name, module)

    return attribute
