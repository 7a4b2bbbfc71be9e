"""PyTorch's names that are not here, and what there is for them, which whoever types one is told."""

import sys
from collections.abc import Callable
from typing import Any

HERE = {
    "Tensor": {
        "view": ".reshape()", "clone": "Tensor(x) for a copy, 1 * x for one on the tape", "clamp": ".clip()", "numel": ".size",
        "dim": ".ndim", "t": ".T", "pow": "**", "mm": "@", "bmm": "@", "matmul": "@", "repeat": ".expand() or F.cat",
        "argmin": "(-x).argmax()", "long": ".to(np.int64)", "int": ".to(np.int32)", "half": ".to(np.float16)",
        "bool": ".to(bool)", "any": ".numpy().any()", "all": ".numpy().all()", "requires_grad_": "x.requires_grad = True",
        "grad_fn": "repr(x)", "cpu": "x itself: there is one device", "cuda": "x itself: there is one device",
        "device": "nothing: there is one device", "contiguous": "x itself: any memory order will do",
        "fill_": "x.data[...] =", "zero_": "x.data[...] = 0", "copy_": "x.data[...] =", "add_": "+= under no_grad()",
        "eq": "==", "masked_fill": "F.where", "gather": "x[np.arange(len(x)), indices]", "split": "slices, x[:k] and x[k:]",
        "chunk": "slices, x[:k] and x[k:]", "sort": ".numpy() and np.sort", "topk": ".numpy() and np.argsort",
    },
    "Module": {
        "register_buffer": "buffers_ = (name,) in the class and self.name = array",
        "register_parameter": "self.name = nn.Parameter(data)", "add_module": "self.name = module",
        "register_module": "self.name = module", "children": ".named_children()",
        "named_modules": ".modules() or .named_children()", "buffers": ".named_buffers()", "apply": "a loop over .modules()",
        "float": ".to(np.float32)", "double": ".to(np.float64)", "half": ".to(np.float16)",
        "requires_grad_": "p.requires_grad = False for each of .parameters()", "type": ".to(dtype)",
        "cpu": "the model itself: there is one device", "cuda": "the model itself: there is one device",
    },
    "Optimizer": {"param_groups": ".groups", "add_param_group": "a new optimiser with all groups"},
    "tinygrad_lite": {
        "from_numpy": "Tensor(array)", "zeros": "Tensor(np.zeros(shape))",
        "ones": "Tensor(np.ones(shape))", "arange": "Tensor(np.arange(n))", "randn": "Tensor(rng.standard_normal(shape))",
        "rand": "Tensor(rng.random(shape))", "manual_seed": "rng=np.random.default_rng(seed), which layers and loaders take",
        "save": "serialize.save", "load": "serialize.load", "device": "nothing: there is one device",
        "cuda": "nothing: there is one device", "inference_mode": "no_grad", "autograd": "Tensor.backward()",
        "float32": "np.float32", "float64": "np.float64", "int64": "np.int64", "long": "np.int64", "float": "np.float32",
        "utils": "data and optim",
    },
    "tinygrad_lite.nn": {
        "functional": "tinygrad_lite.functional", "utils": "optim.clip_grad_norm",
        "ModuleList": "a list: what is in it is found", "ModuleDict": "a dict: what is in it is found",
        "ParameterList": "a list: what is in it is found", "Softmax": "F.softmax", "LogSoftmax": "F.log_softmax",
        "NLLLoss": "F.nll_loss",
        "L1Loss": "F.mean(F.abs(x - y))", "BCEWithLogitsLoss": "F.mean(F.softplus(x) - x * y)",
        "Embedding": "rows of a Parameter, table[indices]",
    },
    "tinygrad_lite.functional": {
        "one_hot": "np.eye(classes)[labels]", "l1_loss": "F.mean(F.abs(x - y))", "clamp": "F.clip",
        "binary_cross_entropy_with_logits": "F.mean(F.softplus(x) - x * y)", "embedding": "table[indices]",
        "normalize": "x / F.norm(x, dim=1, keepdim=True)", "softmin": "F.softmax(-x, dim)",
    },
    "tinygrad_lite.optim": {
        "lr_scheduler": "optim.LRScheduler(optimizer, schedule)", "StepLR": "optim.LRScheduler with optim.step_decay",
        "CosineAnnealingLR": "optim.LRScheduler with optim.cosine", "OneCycleLR": "optim.LRScheduler with optim.one_cycle",
        "swa_utils": "optim.AveragedModel", "clip_grad_norm_": "optim.clip_grad_norm",
    },
    "tinygrad_lite.data": {
        "DataLoader": "data.Batches", "TensorDataset": "data.Batches, which takes arrays", "Dataset": "arrays, in data.Batches",
    },
}  # fmt: skip


def missing(owner: Any, name: str, where: str = "Tensor") -> AttributeError:
    """Word the error of a name that `owner`, an object or a module, has not. Python adds which of its names is alike."""
    hint = f"; use {HERE[where][name]}." if name in HERE[where] else ""
    called = where if where in sys.modules else type(owner).__name__
    return AttributeError(f"{called} has no attribute {name!r}{hint}", name=name, obj=owner)


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
