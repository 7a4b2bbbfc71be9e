"""Every public name meets wrong types, ranks, sizes, dtypes, axes and layouts, NaN, infinity, empty and huge arguments.

The answer is a right result or an error of the library with what came in its words: no other error, no change of an argument,
no NaN from finite numbers without a warning, no memory out of proportion. Each name has a good call in the table; a case
replaces some of its arguments by hostile ones. HYPOTHESIS_PROFILE=deep draws more than 20,000 cases.

This file is long because it is a table: a call that is right for each public name.
"""

import inspect
import operator
import os
import re
import tracemalloc
import types
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tinygrad_lite
import tinygrad_lite.functional as F
from models import lenet, lenet_mat, load
from tinygrad_lite import Tensor, TinygradError, _check, data, fuzz, gradcheck, hessian, nn, no_grad, optim, serialize

CASES = settings.default.max_examples // 25  # a name, besides the good call: 1 in dev, 4 in ci, 200 in deep
LIMIT = 1 << 26  # bytes: what the machine is taken to have, so that a refusal comes early enough to be tested


# -- arguments ---------------------------------------------------------------------------------------------------------


class A(NamedTuple):
    """An array to be made: `kind` f for floats of the case's dtype, i for class indices, b for truth values."""

    shape: tuple[int, ...]
    kind: str = "f"
    contents: str = "normal"
    layout: str = "C"
    dtype: Any = None
    tensor: bool = True

    def build(self, plain: bool = False) -> Any:
        rng = np.random.default_rng(len(self.shape))
        if self.kind == "i":
            values = rng.integers(0, 3, self.shape)
        elif self.kind == "b":
            values = rng.random(self.shape) < 0.5
        else:
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                values = CONTENTS[self.contents](rng, self.shape).astype(self.dtype or np.float32)
        array = LAYOUTS[self.layout](np.array(values))
        if plain:  # the same numbers in the plainest of layouts
            array = np.array(array, array.dtype.newbyteorder("="), order="C")
        if not self.tensor:
            return array
        return Tensor(array) if array.dtype.kind not in "fc" else leaf(array)


def leaf(array):
    made = tinygrad_lite.as_tensor(array)  # Tensor() would make it contiguous
    made.requires_grad = True
    return made


CONTENTS = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "ties": lambda rng, shape: rng.integers(-1, 2, shape),
    "zeros": lambda rng, shape: np.zeros(shape),
    "huge": lambda rng, shape: rng.choice([1e4, -1e4, 3e38, -3e38, 1e300, -1e300], shape),
    "tiny": lambda rng, shape: rng.choice([1e-45, -1e-310, 1e-38, 0.0], shape),
    "nan": lambda rng, shape: rng.choice([np.nan, 1.0, -1.0], shape),
    "inf": lambda rng, shape: rng.choice([np.inf, -np.inf, 1.0, -0.0], shape),
}


def _readonly(a):
    a.flags.writeable = False
    return a


LAYOUTS = {
    "C": lambda a: a,
    "F": np.asfortranarray,
    "reversed": lambda a: np.flip(np.flip(a).copy()),
    "gaps": lambda a: np.repeat(a, 2, axis=-1)[..., ::2] if a.ndim else a,
    "expanded": lambda a: np.broadcast_to(a[:1], a.shape) if a.ndim and a.size else a,
    "read-only": _readonly,
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "misaligned": lambda a: np.frombuffer(b"\0" + a.tobytes(), np.uint8)[1:].view(a.dtype).reshape(a.shape),
}
SHAPES = [(), (0,), (1,), (3,), (2, 3), (3, 2), (0, 3), (3, 0), (4, 1), (2, 3, 4), (2, 3, 4, 5), (2, 0, 4, 5), (1, 3, 1, 1), (1,) * 8]  # fmt: skip
DTYPES = [np.float32, np.float64, np.float16, np.longdouble, np.complex64, np.int8, np.int64, np.uint64, np.bool_]


class Made:
    """Something that is made anew for each call, with a repr for the reports."""

    def __init__(self, text, make):
        self.text, self.build = text, make

    def __repr__(self):
        return self.text


def _endless():
    inside = []
    inside.append(inside)
    return inside


RNG = Made("rng", lambda plain=False: np.random.default_rng(7))
NUMBERS = [0, 1, 2, 3, -1, -2, 7, 0.5, -0.5, 1.5, 1e-300, 1e300, float("nan"), float("inf"), -float("inf"), True, False, 1j]
SIZES = [1000, 10**5, 2**31, 10**9, 10**12, 2**63, 10**30, -(2**63), 10**400]
OTHERS = [
    None, "words", "", b"bytes", "none", "sum", (), [], {}, set(), (1,), (0, 1), (1, 2), (0, 0), (-1, 1), [1, [2, 3]], (1, 2, 3), range(3), ("a", "b"),
    (10**5, 1), (1, 10**12), (10**12, 10**12), (10**5,) * 4, slice(None), slice(None, None, -1), Ellipsis, object, np.float64, np.int32, "float16", "O", "U3",
    np.float32(np.nan), np.int64(2), np.uint8(3), np.float64(0.1), np.bool_(True), np.datetime64("2020-01-01"), np.array("a"), np.array([None]), np.array([]),
    np.array([0.5]), np.array([1, 0]), np.array(2), np.array([True, False]), np.ma.masked_array([1.0, 2.0], [True, False]), np.zeros(2, "i4,f4"), [None], ["1"],
    [np.ones(2), np.ones(3)], [Ellipsis], {"a": 1}, {1: np.ones(2)}, {"a": object()}, {"a": None}, len, print, lambda x: x, lambda x: None, [lambda: 0], iter(()),
    Made("lists in itself", lambda plain=False: _endless()), Made("generator", lambda plain=False: (i for i in (1, 0))), Made("leaf", lambda plain=False: leaf(np.ones(2))),
    Made("[leaf]", lambda plain=False: [leaf(np.ones(2, np.float32))]), Made("rng", RNG.build), Tensor(1.0), Tensor([0.0, 1.0]), [Tensor(1.0), Tensor([1.0])], nn.ReLU(),
    Path("/nowhere/weights.npz"), "nowhere.safetensors", "weights.pt", "/", "\0.npz", Exception("thrown"),
]  # fmt: skip
JUNK = st.one_of(st.sampled_from(NUMBERS), st.sampled_from(SIZES), st.sampled_from(OTHERS))
FUNCTIONS = (
    "fn",
    "function",
    "rule",
    "schedule",
    "transform",
    "reference",
    "backend",
    "cotangent",
    "layers",
)  # the errors of a user's function are his own
DATA = JUNK.filter(lambda value: not callable(value))


def hostile_array(spec):
    return st.builds(
        A,
        st.sampled_from([spec.shape, spec.shape, *SHAPES]),
        st.sampled_from([spec.kind, spec.kind, "f", "i"]),
        st.sampled_from(list(CONTENTS)),
        st.sampled_from(list(LAYOUTS)),
        st.sampled_from([spec.dtype, spec.dtype, *DTYPES]),
        st.booleans(),
    )


@st.composite
def hostile(draw, good):
    """Arguments of a call that is right but for the values of one or two, or of none."""
    dtype = draw(st.sampled_from([np.float32, np.float32, *DTYPES[:5]]))
    contents = draw(st.sampled_from(["normal", *CONTENTS]))
    chosen = draw(st.lists(st.sampled_from(sorted(good)), max_size=2, unique=True)) if good else []

    def of_case(value):
        if isinstance(value, A):
            return value._replace(dtype=dtype, contents=contents)
        return [of_case(v) for v in value] if isinstance(value, list) else value

    arguments = {name: of_case(value) for name, value in good.items()}
    for name in chosen:
        value = good[name]
        if isinstance(value, A) and draw(st.integers(0, 3)):
            arguments[name] = draw(hostile_array(arguments[name]))
        elif isinstance(value, list) and value and draw(st.booleans()):
            arguments[name][draw(st.integers(0, len(value) - 1))] = draw(
                hostile_array(A((2,))) | (DATA if name in FUNCTIONS else JUNK)
            )
        else:
            arguments[name] = draw(DATA if name in FUNCTIONS else JUNK)
    return arguments


def build(value, plain=False):
    if isinstance(value, (A, Made)):
        return value.build(plain)
    return [build(v, plain) for v in value] if type(value) is list else value


# -- the table: a good call for each public name ---------------------------------------------------------------------------

IMAGES = A((2, 3, 4, 5))
GOOD: dict[str, Any] = {  # by the parameter's name
    "x": IMAGES, "other": IMAGES, "data": IMAGES, "condition": IMAGES._replace(kind="b"), "tensors": [IMAGES, IMAGES], "dim": 1, "keepdim": True, "correction": 1,
    "shape": (6, 20), "start_dim": 1, "end_dim": -1, "dim0": 0, "dim1": 2, "dims": (3, 1, 0, 2), "sizes": (2, 3, 4, 5), "pad": (1, 2), "value": 0.5,
    "kernel_size": 2, "stride": 2, "padding": 1, "dilation": 1, "groups": 1, "p": 0.5, "training": True, "rng": RNG, "eps": 1e-5, "momentum": 0.1,
    "logits": A((4, 3)), "log_probs": A((4, 3)), "reduction": "mean", "label_smoothing": 0.1, "negative_slope": 0.01, "alpha": 1.0, "approximate": "tanh",
    "beta": 1.0, "min": -0.5, "max": 0.5, "count_include_pad": False, "dtype": np.float64, "requires_grad": True, "bias": True, "affine": True,
    "elementwise_affine": True, "in_features": 5, "out_features": 2, "in_channels": 3, "out_channels": 2, "num_features": 3, "normalized_shape": 5, "bound": 0.1,
    "std": 0.1, "gain": 1.0, "mode": True, "params": [A((2, 3)), A((4,))], "lr": 0.1, "weight_decay": 0.01, "nesterov": True, "betas": (0.9, 0.99), "gamma": 0.5,
    "power": 0.75, "step_size": 2, "total": 10, "final": 0.1, "warmup": 0.3, "start": 0.1, "step": 3, "max_norm": 1.0, "fn": F.sigmoid, "v": A((2, 3)),
}  # fmt: skip
TABLE: dict[str, tuple[Any, dict[str, Any]]] = {}


def add(name, call, /, *functions, **good):
    """Put a call into the table; its parameters are those of the functions, unless given."""
    for function in functions:
        for parameter in inspect.signature(function).parameters.values():
            if parameter.name not in good and parameter.name != "self" and parameter.kind not in (2, 4):
                assert parameter.name in GOOD, f"{name}: parameter {parameter.name} needs a good value in GOOD"
                good[parameter.name] = GOOD[parameter.name]
    TABLE[name] = (call, good)


def public(owner):
    """Names that a module or a class gives to its users."""
    if isinstance(owner, types.ModuleType):
        own = getattr(owner, "__all__", None)
        return own or [n for n, v in vars(owner).items() if n[0] != "_" and getattr(v, "__module__", "") == owner.__name__]
    return [n for n, v in vars(owner).items() if n[0] != "_" and (callable(v) or isinstance(v, (property, staticmethod)))]


OVERRIDES: dict[str, dict[str, Any]] = {
    "matmul": {"other": A((2, 3, 5, 2))},
    "linear": {"weight": A((2, 5)), "bias": A((2,))},
    "conv2d": {"weight": A((6, 3, 3, 2)), "bias": A((6,))},
    "layer_norm": {"weight": A((5,)), "bias": A((5,))},
    "batch_norm": {n: A((3,), tensor=n in ("weight", "bias")) for n in ("weight", "bias", "running_mean", "running_var")},
    "nll_loss": {"targets": A((4,), "i")},
    "cross_entropy": {"targets": A((4,), "i")},
    "mse_loss": {"targets": IMAGES},
    "norm": {"p": 2},
}
for name in public(F):
    if inspect.isfunction(getattr(F, name)):
        add(f"F.{name}", getattr(F, name), getattr(F, name), **OVERRIDES.get(name, {}))


def method(owner, name):
    return lambda x, **arguments: getattr(tinygrad_lite.as_tensor(x), name)(**arguments)


SPLAT = {"reshape": (6, 20), "permute": (3, 1, 0, 2), "expand": (2, 3, 4, 5)}
for name in public(Tensor):
    x = A((1,)) if name == "item" else IMAGES
    if isinstance(vars(Tensor)[name], property):
        add(f"Tensor.{name}", lambda x, name=name: getattr(tinygrad_lite.as_tensor(x), name), x=x)
    elif name in SPLAT:
        add(
            f"Tensor.{name}",
            lambda x, sizes, name=name: getattr(tinygrad_lite.as_tensor(x), name)(*sizes),
            x=IMAGES,
            sizes=list(SPLAT[name]),
        )
    elif name != "backward":
        add(f"Tensor.{name}", method(Tensor, name), vars(Tensor)[name], x=x, **OVERRIDES.get(name, {}))
for name in ("add", "sub", "mul", "truediv", "pow", "matmul", "eq", "ne", "lt", "le", "gt", "ge"):
    add(
        f"Tensor.__{name}__",
        lambda x, other, name=name: getattr(operator, name)(tinygrad_lite.as_tensor(x), other),
        x=A((3, 3)),
        other=A((3, 3)),
    )
for name in ("and_", "or_", "xor"):
    add(
        f"Tensor.__{name}__",
        lambda x, other, name=name: getattr(operator, name)(tinygrad_lite.as_tensor(x), other),
        x=A((3, 3), "b"),
        other=A((3, 3), "b"),
    )
add("Tensor.__invert__", lambda x: ~tinygrad_lite.as_tensor(x), x=A((3, 3), "b"))
for function in (abs, operator.neg, len, bool, float, int, list, repr):
    add(f"Tensor.__{function.__name__}__", lambda x, function=function: function(tinygrad_lite.as_tensor(x)), x=A((1,)))
for function in (np.exp, np.square, np.sum, np.asarray):
    add(f"np.{function.__name__}", lambda x, function=function: function(tinygrad_lite.as_tensor(x)), x=A((3,)))
for function in (np.maximum, np.add, np.matmul):
    add(
        f"np.{function.__name__}",
        lambda x, other, function=function: function(other, tinygrad_lite.as_tensor(x)),
        x=A((3,)),
        other=A((3,), tensor=False),
    )
for name, key in (
    ("place", 1),
    ("places", (0, slice(1, 3))),
    ("list", [1, 0]),
    ("mask", A((2, 3, 4, 5), "b")),
    ("array", A((2,), "i")),
):
    add(f"Tensor[{name}]", lambda x, key: tinygrad_lite.as_tensor(x)[key], x=IMAGES, key=key)
add("Tensor", lambda **a: Tensor(**a), Tensor)
add("Tensor.grad", lambda x, value: setattr(leaf(build(IMAGES).data), "grad", value), x=IMAGES, value=IMAGES)
add("Tensor.requires_grad", lambda x, value: setattr(tinygrad_lite.as_tensor(x), "requires_grad", value), x=IMAGES, value=False)
add("Tensor.backward", lambda x, cotangent: (tinygrad_lite.as_tensor(x) * 2).backward(cotangent), x=IMAGES, cotangent=IMAGES)
add("as_tensor", tinygrad_lite.as_tensor, data=IMAGES)
add("apply", lambda rule, x, static: tinygrad_lite.apply(rule, x, **static), rule=F.elementwise.exp, x=IMAGES, static={})
add("no_grad", lambda function: no_grad()(function)(), function=lambda: 0)

LAYERS: dict[str, dict[str, Any]] = {"BatchNorm1d": {"x": A((4, 3))}, "MSELoss": {"targets": IMAGES}, "CrossEntropyLoss": {"targets": A((4,), "i")}}  # fmt: skip
for name in nn.__all__:
    layer = getattr(nn, name)
    if name in ("Module", "Parameter", "Sequential", "init"):
        continue

    def through(layer=layer, **arguments):
        inputs = [arguments.pop(n) for n in inspect.signature(layer.forward).parameters if n in arguments]
        return layer(**arguments)(*inputs)

    add(f"nn.{name}", through, layer, layer.forward, **LAYERS.get(name, {}))
add("nn.Parameter", lambda **a: nn.Parameter(**a), nn.Parameter)
add("nn.Sequential", lambda layers, x, place: (nn.Sequential(*layers)(x), nn.Sequential(*layers)[place]), layers=[nn.ReLU(), F.tanh], x=IMAGES, place=1)  # fmt: skip
for name in nn.init.__dict__:
    function = getattr(nn.init, name)
    if inspect.isfunction(function) and function.__module__ == nn.init.__name__ and name[0] != "_":
        add(f"nn.init.{name}", function, function, shape=(3, 4))


def net(kind=nn.BatchNorm2d):
    return nn.Sequential(nn.Linear(5, 2, rng=np.random.default_rng(0)), kind(3))


for name in public(nn.Module):
    function = getattr(nn.Module, name)
    good = {
        "forward": {},
        "profile": {},
        "load_state_dict": {"state": Made("state", lambda plain=False: net().state_dict())},
    }.get(name)
    call = (
        (lambda **a: tuple(net().named_children())) if name == "forward" else lambda name=name, **a: getattr(net(), name)(**a)
    )
    add(f"nn.Module.{name}", call, *([] if good is not None else [function]), **(good or {}))
add("nn.Module.profile", lambda x: net().profile(x, steps=1), x=IMAGES)
add("nn.Module.load_state_dict one", lambda name, value: net().load_state_dict({**net().state_dict(), name: value}), name="0.weight", value=A((2, 5)))  # fmt: skip


def one_step(optimizer, params, options):
    made = optimizer(params, **options)
    for group in made.groups:
        for p in group["params"]:
            p.grad = np.ones(p.shape)
    made.step()
    made.load_state_dict(made.state_dict())
    optim.LRScheduler(made, optim.cosine(10)).step()
    made.zero_grad()


PARAMS = Made("params", lambda plain=False: [leaf(np.ones((2, 3), np.float32)), leaf(np.ones(4, np.float32))])
for optimizer in (optim.SGD, optim.Adam, optim.AdamW):
    add(
        f"optim.{optimizer.__name__}",
        lambda params, optimizer=optimizer, **o: one_step(optimizer, params, o),
        optimizer,
        params=PARAMS,
    )
    add(
        f"optim.{optimizer.__name__} groups",
        lambda params, optimizer=optimizer, **o: one_step(optimizer, [{"params": params, **o}], {"lr": 0.1}),
        optimizer,
        params=PARAMS,
    )
for schedule in (optim.constant, optim.inv, optim.step_decay, optim.cosine, optim.one_cycle):
    add(f"optim.{schedule.__name__}", lambda schedule=schedule, **o: [schedule(**o)(step) for step in range(12)], schedule)


def adam(state=None, key=None):
    made = optim.Adam(PARAMS.build())
    made.groups[0]["params"][0].grad = np.ones((2, 3))
    made.step()
    given = made.state_dict()
    return made.load_state_dict(state if key is None else {**given, key: state})


def schedule(state=None, key=None):
    made = optim.LRScheduler(optim.SGD(PARAMS.build(), lr=0.1), optim.constant())
    made.step()
    return made.load_state_dict(state if key is None else {**made.state_dict(), key: state})


def batches(state, key=None):
    made = data.Batches(np.arange(5), batch_size=2, rng=RNG.build())
    next(iter(made))
    made.load_state_dict(state if key is None else {**made.state_dict(), key: state})
    return len(list(made))


add("optim.Optimizer", adam, state={"groups": [], "state": []})
add("optim.Optimizer entry", adam, state=[], key="state")
add("optim.LRScheduler", lambda optimizer, schedule: optim.LRScheduler(optimizer, schedule).step(), optimizer=Made("SGD", lambda plain=False: optim.SGD(PARAMS.build(), lr=0.1)), schedule=optim.cosine(3))  # fmt: skip
add("optim.LRScheduler.load_state_dict", schedule, state={})
add("optim.LRScheduler.load_state_dict entry", schedule, state=3, key="steps")
add("optim.AveragedModel", lambda model, **o: optim.AveragedModel(model, **o).state_dict()["n_averaged"], model=Made("net", lambda plain=False: net()), decay=0.9)  # fmt: skip
add("optim.AveragedModel.load_state_dict", lambda **state: optim.AveragedModel(net()).load_state_dict(state), n_averaged=3, module=Made("state", lambda plain=False: net().state_dict()))  # fmt: skip
add("optim.clip_grad_norm", lambda params, **o: optim.clip_grad_norm(params, **o), optim.clip_grad_norm, params=PARAMS)
add(
    "data.Batches",
    lambda arrays, **o: [len(list(b)) for b in data.Batches(*arrays, **o)],
    arrays=[A((5, 2), tensor=False), A((5,), "i", tensor=False)], batch_size=2, rng=RNG, drop_last=True, independent=True, transform=lambda a, b: (a, b),
)  # fmt: skip
add("data.Batches.load_state_dict", batches, state={})
add("data.Batches.load_state_dict entry", batches, state=1, key="position")


def two_ways(state, path, metadata):
    serialize.save(state, path, metadata)
    return serialize.load(path), serialize.load_metadata(path), serialize.load_with_metadata(path)


SOME = Made("state", lambda plain=False: {"a": np.ones(3, np.float32), "b": np.array(2)})
add("serialize.save", two_ways, state=SOME, path="w.safetensors", metadata={"a": "b"})
add("serialize.save npz", two_ways, state=SOME, path="w.npz", metadata=None)
add("serialize.save one", lambda name, value, **o: two_ways({name: value}, **o), name="a", value=A((2, 3), tensor=False), path="w.npz", metadata=None)  # fmt: skip
for name in ("load", "load_metadata", "load_with_metadata"):
    add(f"serialize.{name}", getattr(serialize, name), path=load.WEIGHTS)
add("hessian.hvp", hessian.hvp, fn=lambda x: (x * x).sum(), x=A((2, 3)), v=A((2, 3), tensor=False))
add("hessian.hessian", hessian.hessian, fn=lambda x: (x * x).sum(), x=A((2,)))
CHECK = {"wrt": None, "cotangent": None, "kinks": None, "full": False, "seed": 0, "properties": "shape", "reference": None, "backend": None, "complex_step": False}  # fmt: skip
add("gradcheck.check_grad", lambda fn, inputs, **o: bool(gradcheck.check_grad(fn, *([inputs] if isinstance(inputs, (str, bytes)) else inputs), probes=2, raise_error=False, **o)), fn=F.sigmoid, inputs=[A((2,), tensor=False)], **CHECK)  # fmt: skip
add("gradcheck.lay_out", gradcheck.lay_out, array=A((2, 3), tensor=False), layout="F")
add("fuzz.fuzz_grad", lambda fn, **o: bool(fuzz.fuzz_grad(fn, fuzz.tensors((2,)), max_examples=1, raise_error=False, **o)), fn=F.sigmoid, seed=0, kinks=None, properties="shape", wrt=None, backend=None)  # fmt: skip
add("models.LeNet", lambda x, **o: lenet.LeNet(**o)(x), rng=RNG, relu_after_conv=True, dropout=0.5, x=A((1, 1, 28, 28)))
add("models.load_lenet", load.load_lenet, path=load.WEIGHTS)
add("models.read_state", load.read_state, path=load.WEIGHTS)
add("models.load_ink", load.load_ink, path=load.INK_WEIGHTS)
add("models.load_pairs", load.load_pairs, path=load.PAIR_WEIGHTS)
add("models.lenet_mat.load", lenet_mat.load, path=Path("/nowhere/net.mat"))
add(
    "models.lenet_mat.save",
    lenet_mat.save,
    state=SOME,
    path="net.mat",
)


# -- the judge ---------------------------------------------------------------------------------------------------------

SAYS_WHAT_CAME = re.compile(r"\d|is unknown|shape=|got |found |'|without axes|does not require a gradient")
FILES = ("serialize.", "models.")  # may give the system's own errors, which name the file
IN_PLACE = ("F.batch_norm", "optim.")  # change what they are given
REFUSES = {
    "models.lenet_mat.save",
    "models.lenet_mat.load",
    "np.asarray",
    "np.square",
    "np.sum",
    "optim.Optimizer",
    "optim.Optimizer entry",
    "optim.LRScheduler.load_state_dict",
    "data.Batches.load_state_dict",
}
counted = {"cases": 0, "refused": 0}


def arrays_in(value):
    """Every array and floating number in a result or an argument."""
    if isinstance(value, Tensor):
        yield value.data
    elif isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, (list, tuple)) and not (value and value[0] is value):
        for entry in value:
            yield from arrays_in(entry)
    elif isinstance(value, dict):
        yield from arrays_in([v for _, v in sorted(value.items(), key=str)])
    elif isinstance(value, (float, complex, np.inexact)):
        yield np.asarray(value)


def any_number(predicate, arrays):
    return any(predicate(a).any() for a in arrays if a.dtype.kind in "fc")


def ask(name, call, arguments):
    """Call, go backward, and give the arrays that came out; none after a good refusal. Other exceptions come through."""
    try:
        result = call(**arguments)
        found = list(arrays_in(result))
        if isinstance(result, Tensor) and result.requires_grad and not result.is_leaf:
            result.backward(np.ones(result.shape))
            found += [
                v.grad
                for v in arguments.values()
                if isinstance(v, Tensor) and v.requires_grad and v.is_leaf and v.grad is not None
            ]
        return found
    except TinygradError as error:
        assert SAYS_WHAT_CAME.search(str(error)), f"{name}: the message does not say what came: {error}"
    except OSError as error:
        if not name.startswith(FILES):
            raise
        assert str(error)
    except TypeError as error:  # Python's own, of the call itself or of an operator
        trace = error.__traceback__
        while trace.tb_next is not None:
            trace = trace.tb_next
        own = "positional argument" in str(error)  # of a user's function, that it does not take so many inputs
        if trace.tb_frame.f_code.co_filename != __file__ and not own:
            raise
    counted["refused"] += 1
    return []


def judge(name, call, arguments):
    counted["cases"] += 1
    given = {k: build(v) for k, v in arguments.items()}
    before = [a.copy() for a in arrays_in(given)]
    tracemalloc.start()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        found = ask(name, call, given)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    sizes = sum(a.nbytes for a in [*before, *found])
    room = (
        4 * LIMIT if "nn." in name or "2d" in name or "models." in name else 1 << 23
    )  # layers hold weights, and borders may be as wide as memory
    assert peak < 60 * sizes + room, f"{name}: {peak} bytes of memory for {sizes} bytes in and out"
    if (
        name != "Tensor.__pow__"
        and not any(issubclass(w.category, RuntimeWarning) for w in warned)
        and not any_number(lambda a: ~np.isfinite(a), before)
    ):
        assert not any_number(np.isnan, found), f"{name}: NaN from finite numbers without a word"
    if not name.startswith(IN_PLACE):
        for was, now in zip(before, arrays_in(given), strict=True):
            assert (was.dtype, was.shape, was.tobytes()) == (now.dtype, now.shape, now.tobytes()), (
                f"{name}: changed an argument"
            )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = ask(name, call, {k: build(v, plain=True) for k, v in arguments.items()})
        known = arguments.get("rng", RNG) is not None  # else no run is like another
        for a, b in zip(found, plain, strict=bool(found and plain)):
            assert a.shape == b.shape, f"{name}: another shape for another layout"
            if known and a.dtype.kind in "fc" and np.isfinite(a).all() and np.isfinite(b).all() and a.size:
                allowed = 1000 * float(np.finfo(a.dtype).eps) * np.abs(b).max() + float(np.finfo(a.dtype).tiny)
                assert np.abs(a - b).max() <= allowed, f"{name}: another result for another layout"


@pytest.fixture(autouse=True)
def small_machine(monkeypatch, tmp_path):
    """A machine with little memory, whose use is counted, and a folder for what is written."""
    monkeypatch.setattr(_check, "memory_limit", lambda: LIMIT)
    monkeypatch.chdir(tmp_path)
    yield
    tracemalloc.stop()


@pytest.mark.parametrize("name", TABLE)
def test_hostile_arguments(name):
    call, good = TABLE[name]
    refused = counted["refused"]
    judge(name, call, good)
    assert counted["refused"] == refused or name in REFUSES

    @settings(max_examples=CASES, suppress_health_check=list(HealthCheck))
    @given(hostile(good))
    def cases(arguments):
        judge(name, call, arguments)

    cases()


def test_enough_cases():
    if "PYTEST_XDIST_WORKER" in os.environ or CASES < 100 or counted["cases"] < len(TABLE):
        pytest.skip("counted in the deep profile, all tests in one process")
    print(counted)
    assert counted["cases"] >= 20_000


# -- nothing is left out -----------------------------------------------------------------------------------------------

NOT_CALLED = {  # names without arguments of their own, and those that other entries go through
    "apply", "as_tensor", "data", "functional", "nn", "no_grad", "optim", "serialize", "init", "Module", "Optimizer", "Schedule", "Transform", "Params", "Rng",
    "Data", "SUFFIXES", "CHECKSUM", "OURS", "STEP", "PARAMETERS", "WEIGHTS", "CELLS", "main", "Tensor", "PROPERTIES",
    # of the gradient checker and the fuzzer: what they give back, and strategies, which Hypothesis checks when they are drawn from
    "GradReport", "GradientFailure", "Slope", "Target", "directional", "examine", "Draw", "FuzzReport", "OpSpec", "broadcast", "conv", "grad_property",
    "grad_tests", "indexed", "matmul", "pooled", "reduced", "tensors", "refuse_unknown", "KINKS", "Probe",
    "replay",  # runs a file, whatever is in it
}  # fmt: skip


def names_of_users():
    """Every public name of the library and the models, as the table writes it."""
    for module, prefix in (
        (tinygrad_lite, ""), (F, "F."), (nn, "nn."), (nn.init, "nn.init."), (optim, "optim."), (data, "data."), (serialize, "serialize."),
        (hessian, "hessian."), (gradcheck, "gradcheck."), (fuzz, "fuzz."), (lenet, "models."), (load, "models."), (lenet_mat, "models.lenet_mat."),
    ):  # fmt: skip
        for name in public(module):
            value = getattr(module, name)
            if not (isinstance(value, type) and issubclass(value, Exception)) and (
                prefix != "fuzz." or name not in public(gradcheck)
            ):
                yield prefix + name
    for owner, prefix in ((Tensor, "Tensor."), (nn.Module, "nn.Module.")):
        yield from (prefix + name for name in public(owner))


def missing(names):
    return [name for name in names if name not in TABLE and name.rpartition(".")[2] not in NOT_CALLED]


def test_every_public_name_is_in_the_table(monkeypatch):
    found = list(names_of_users())
    assert len(found) > 150
    assert missing(found) == []
    monkeypatch.setattr(F, "forgotten", types.FunctionType((lambda x: x).__code__, {"__name__": F.__name__}), raising=False)
    monkeypatch.setattr(Tensor, "overlooked", lambda self: self, raising=False)
    assert missing(names_of_users()) == ["F.forgotten", "Tensor.overlooked"]


# -- NaN stays visible -------------------------------------------------------------------------------------------------

NO_NAN = {"F.where", "nn.Sequential"}  # may choose the other; gives a layer too


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    "name", [n for n in TABLE if re.match(r"F\.|nn\.[A-Z]\w+\d?d?$", n) and n not in NO_NAN and IN_PLACE[0] != n]
)
def test_nan_stays_nan_or_is_refused(name):
    call, good = TABLE[name]
    nan = {k: A(v.shape, v.kind, "nan") if isinstance(v, A) else v for k, v in good.items()}
    first = next((k for k, v in nan.items() if isinstance(v, A) and v.kind == "f"), None)
    if first is None:
        pytest.skip("takes no floats")
    arguments = {k: build(v) for k, v in nan.items()}
    arguments[first].data[...] = np.nan
    try:
        result = call(**arguments)
    except TinygradError as error:
        assert "NaN" in str(error)
    else:
        assert np.isnan(result.data).any()
