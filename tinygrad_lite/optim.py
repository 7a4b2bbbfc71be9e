"""Optimisers and learning-rate schedules, in order of increasing complexity.

An optimiser takes parameters, or groups of them with options of their own: `SGD([{"params": biases, "lr": 0.02,
"weight_decay": 0.0}, {"params": weights}], lr=0.01)`.

This file is long because optimisers and schedules stand together, from the simplest to the most involved.
"""

import copy
import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tinygrad_lite import _check
from tinygrad_lite import _threads as threads
from tinygrad_lite._elsewhere import attributes_of, attributes_of_class
from tinygrad_lite._types import Array
from tinygrad_lite.errors import DtypeError, ShapeError, TinygradError
from tinygrad_lite.tensor import Tensor

Params = Iterable[Tensor] | Iterable[Mapping[str, Any]]


class Optimizer:
    """Base: parameter groups, their options, and the state that each parameter has.

    Attributes
    ----------
    groups : list of dict, each with "params" and its own value of every option (lr and so on; may be changed at any time)
    """

    takes_complex = True  # whether parameters may be complex
    keeps: tuple[str, ...] = ()  # names in the state of a parameter after its first step; () leaves them unchecked

    def __init__(self, params: Params, **defaults: Any) -> None:
        name, seen = type(self).__name__, set()
        entries: list[Any] = [params] if isinstance(params, Tensor) else _check.listed(name, "params", params)
        groups = bool(entries) and isinstance(entries[0], Mapping)
        if groups and (other := [type(e).__name__ for e in entries if not isinstance(e, Mapping)]):
            raise DtypeError(f"{name}: params must be all groups or all Tensors, got groups and {other[0]}.")
        given = [dict(e) for e in entries] if groups else [{"params": entries}]
        self.groups: list[dict[str, Any]] = []
        for entry in given:
            unknown = set(entry) - set(defaults) - {"params"}
            if unknown or "params" not in entry:
                raise ShapeError(
                    f"{name}: a group has 'params' and options of {sorted(defaults)}, got {sorted(map(str, entry))}."
                )
            tensors = entry["params"]
            tensors = [tensors] if isinstance(tensors, Tensor) else _check.listed(name, "params", tensors)
            for p in tensors:
                if not isinstance(p, Tensor) or not p.is_leaf:
                    what = "one computed from others" if isinstance(p, Tensor) else type(p).__name__
                    raise DtypeError(f"{name}: params must be leaf Tensors that require a gradient, got {what}.")
                _check.writable(name, "a parameter", p.data)
                if p.dtype.kind == "c" and not self.takes_complex:
                    raise DtypeError(f"{name}: parameters must be real, got {p.dtype} (shape={p.shape}); make it two.")
                if id(p) in seen:
                    raise ShapeError(f"{name}: a parameter (shape={p.shape}) is given twice; name each one once.")
                seen.add(id(p))
            self.groups.append({**defaults, **entry, "params": tensors})
        if not seen:
            raise ShapeError(f"{name}: got no parameters to optimise.")
        if not any(p.requires_grad for group in self.groups for p in group["params"]):  # some may be frozen
            raise DtypeError(f"{name}: params must be leaf Tensors that require a gradient, got none that does.")
        for group in self.groups:
            self._check_options(name, group)
        self.state: list[dict[str, Any]] = [{} for group in self.groups for _ in group["params"]]

    def _check_options(self, function: str, group: dict[str, Any]) -> None:
        """Refuse values of options that no step can be done with."""
        for option in ("lr", "momentum", "weight_decay", "eps"):
            if option in group:
                group[option] = _check.number(function, option, group[option], 0)

    def step(self) -> None:
        """Move every parameter that has a gradient, in place. What was computed from it before cannot go backward any more."""
        if sum(len(group["params"]) for group in self.groups) != len(self.state):
            raise ShapeError(f"{type(self).__name__}: parameters were added or removed; make a new optimiser of them.")
        states, moving = iter(self.state), []
        for group in self.groups:
            for p in group["params"]:
                grad, state = p.grad, next(states)
                if grad is not None:
                    self._check_parameter(p, state)  # all of them before one moves
                    moving.append((p, grad, group, state))
        for p, grad, group, state in moving:
            p._will_change()
            self._update(p.data, grad.conj() if grad.dtype.kind == "c" else grad, group, state)  # uphill is conj(dL/dz)

    def _check_parameter(self, p: Tensor, state: Mapping[str, Any]) -> None:
        """Refuse one whose array was replaced by another with which no step can be done."""
        _check.writable(type(self).__name__, "a parameter", p.data)
        for kept in self.keeps:
            if kept in state and kept != "step" and state[kept].shape != p.data.shape:
                raise ShapeError(
                    f"{type(self).__name__}: a parameter has shape {p.shape} now, but had {state[kept].shape} in the steps "
                    "before; make a new optimiser after replacing its .data."
                )

    def _update(self, data: Array, grad: Array, group: Mapping[str, Any], state: dict[str, Any]) -> None:
        raise NotImplementedError

    if not TYPE_CHECKING:  # a type checker would take it for a promise
        __getattr__ = attributes_of_class("Optimizer")

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for group in self.groups:
            for p in group["params"]:
                p.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        """Options of every group and copies of the state of every parameter, in order."""
        options = [{k: v for k, v in group.items() if k != "params"} for group in self.groups]
        state = [{k: v.copy() if isinstance(v, np.ndarray) else v for k, v in s.items()} for s in self.state]
        return {"groups": options, "state": state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what state_dict() gave for the same parameters, or change nothing."""
        _check.entries("load_state_dict", state, ("groups", "state"))
        groups, states = (_check.listed("load_state_dict", name, state[name]) for name in ("groups", "state"))
        for entry in (*groups, *states):
            _check.entries("load_state_dict", entry, ())
        params = [p for group in self.groups for p in group["params"]]
        if len(groups) != len(self.groups) or len(states) != len(params):
            raise ShapeError(
                f"load_state_dict: expected {len(self.groups)} groups with {len(params)} parameters, "
                f"got {len(groups)} with {len(states)}."
            )
        options = []
        for own, given in zip(self.groups, groups, strict=True):
            if unknown := [name for name in given if name not in own or name == "params"]:
                raise ShapeError(f"load_state_dict: {type(self).__name__} has no option {unknown[0]!r:.80}.")
            options.append({**own, **given})
            self._check_options("load_state_dict", options[-1])
        for i, (p, s) in enumerate(zip(params, states, strict=True)):
            if s and self.keeps and set(s) != set(self.keeps):
                raise ShapeError(f"load_state_dict: parameter {i} needs the state {[*self.keeps]}, got {list(s)!r:.80}.")
            for k, v in s.items():
                if k == "step" and k in self.keeps:
                    _check.integer("load_state_dict", k, v, 0)
                elif k in self.keeps and not (
                    isinstance(v, np.ndarray) and v.shape == p.shape and v.dtype.kind == p.dtype.kind
                ):
                    wanted = "complex numbers" if p.dtype.kind == "c" else "floats"
                    got = f"shape {v.shape} and dtype {v.dtype}" if isinstance(v, np.ndarray) else type(v).__name__
                    raise ShapeError(f"load_state_dict: {k} of parameter {i} must be {wanted} of shape {p.shape}, got {got}.")
        for group, chosen in zip(self.groups, options, strict=True):
            group.update(chosen)
        self.state = [{k: v.copy() if isinstance(v, np.ndarray) else v for k, v in s.items()} for s in states]


class SGD(Optimizer):
    """Stochastic gradient descent with momentum.

    Parameters
    ----------
    params : Tensors or groups
    lr : float >= 0
    momentum : float >= 0, default 0
    weight_decay : float >= 0, default 0; times the parameter, added to its gradient
    nesterov : bool, default False; look ahead along the momentum

    Notes
    -----
    v = momentum v + g; p -= lr v, or with Nesterov p -= lr (g + momentum v). Source: Sutskever et al. 2013, in PyTorch's form.
    """

    keeps = ("velocity",)

    def __init__(
        self, params: Params, lr: float, momentum: float = 0.0, weight_decay: float = 0.0, nesterov: bool = False
    ) -> None:
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov)

    def _check_options(self, function: str, group: dict[str, Any]) -> None:
        super()._check_options(function, group)
        group["nesterov"] = _check.flag(function, "nesterov", group["nesterov"])
        if group["nesterov"] and not group["momentum"]:
            raise ShapeError(f"{function}: nesterov needs momentum > 0.")

    def _update(self, data: Array, grad: Array, group: Mapping[str, Any], state: dict[str, Any]) -> None:
        scratch = np.empty_like(data)
        if group["weight_decay"]:
            np.multiply(data, group["weight_decay"], out=scratch)
            grad = np.add(grad, scratch, out=scratch)
        if group["momentum"]:
            if "velocity" not in state:
                state["velocity"] = np.zeros_like(data)
            velocity = state["velocity"]
            velocity *= group["momentum"]
            velocity += grad
            grad = grad + group["momentum"] * velocity if group["nesterov"] else velocity
        data -= np.multiply(grad, group["lr"], out=scratch)


class Adam(Optimizer):
    """Adam: steps of a size of their own for each element.

    Parameters
    ----------
    params : real Tensors or groups
    lr : float >= 0, default 1e-3
    betas : (float, float) in [0, 1), decay of the mean gradient and of the mean squared gradient
    eps : float, keeps the divisor off 0
    weight_decay : float >= 0; times the parameter, added to its gradient

    Notes
    -----
    Source: Kingma & Ba 2015, algorithm 1.
    """

    decoupled = False
    takes_complex = False  # the square of a complex gradient is no measure of its size
    keeps = ("step", "mean", "square")

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def _check_options(self, function: str, group: dict[str, Any]) -> None:
        super()._check_options(function, group)
        betas = group["betas"]
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            raise DtypeError(f"{function}: betas must be two numbers in [0, 1), got {betas!r:.80}.")
        if max(_check.number(function, "betas", beta, 0, 1) for beta in betas) == 1:
            raise ShapeError(f"{function}: betas must be two numbers in [0, 1), got {betas!r}.")
        group["betas"] = tuple(betas)  # no list that somebody may change, or that groups share

    def _update(self, data: Array, grad: Array, group: Mapping[str, Any], state: dict[str, Any]) -> None:
        (beta1, beta2), lr, decay = group["betas"], group["lr"], group["weight_decay"]
        wide = np.result_type(data, np.float32)  # the squares of float16 do not fit into it
        if not state:
            state.update(step=0, mean=np.zeros_like(data, wide), square=np.zeros_like(data, wide))
        state["step"] += 1
        # p -= lr m_hat / (sqrt(s_hat) + eps); the corrections of the first steps' bias to 0, c1 and c2, are in rate and eps
        c1, c2 = 1 - beta1 ** state["step"], math.sqrt(1 - beta2 ** state["step"])
        rate, eps = lr * c2 / c1, group["eps"] * c2

        def some(data: Array, grad: Array, mean: Array, square: Array) -> None:
            scratch, grad = np.empty_like(data, wide), grad.astype(wide, copy=False)
            if decay and self.decoupled:
                data *= 1 - lr * decay
            elif decay:
                grad = grad + decay * data
            mean += np.multiply(np.subtract(grad, mean, out=scratch), 1 - beta1, out=scratch)
            square *= beta2
            np.multiply(grad, grad, out=scratch)
            square += np.multiply(scratch, 1 - beta2, out=scratch)
            np.sqrt(square, out=scratch)
            scratch += eps
            np.divide(mean, scratch, out=scratch)
            scratch *= rate
            data -= scratch

        threads.each(some, data, grad, state["mean"], state["square"])


class AdamW(Adam):
    """Adam whose weight decay shrinks the parameter itself and not its gradient. Source: Loshchilov & Hutter 2019.

    Parameters
    ----------
    params, lr, betas, eps : as for Adam
    weight_decay : float >= 0, default 0.01; each step multiplies the parameter by 1 - lr * weight_decay
    """

    decoupled = True

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay)


class AveragedModel:
    """A copy of a model whose parameters are a moving average of the model's, with less noise than its last ones.

    Buffers (the running values of BatchNorm, say) are the model's last ones.

    Parameters
    ----------
    model : Module
    decay : float in [0, 1], default 0.999; the weight of the average so far, so that it reaches 1 / (1 - decay) steps back.
        In step t it is t / (t + 10) if that is less, so that the initial parameters are soon forgotten.

    Attributes
    ----------
    module : Module, the copy
    n_averaged : int, updates done

    Raises
    ------
    DtypeError : the model is no Module.
    ShapeError : the parameters of a model, or of a state, are not those of the copy.

    Notes
    -----
    Source: Polyak & Juditsky 1992; the names are those of PyTorch's swa_utils.
    """

    def __init__(self, model: Any, decay: float = 0.999) -> None:
        self._refuse_no_module("AveragedModel", model)
        self.decay = _check.number("AveragedModel", "decay", decay, 0, 1)
        self.module, self.n_averaged = copy.deepcopy(model), 0

    @staticmethod
    def _refuse_no_module(function: str, model: Any) -> None:
        if not callable(getattr(model, "named_parameters", None)) or isinstance(model, type):
            raise DtypeError(f"{function}: model must be a Module, got {model!r:.80}.")

    def update_parameters(self, model: Any) -> None:
        """Move the average towards the model's parameters. Call it after each optimiser step."""
        self._refuse_no_module("update_parameters", model)
        wanted, given = ([p.shape for p in m.parameters()] for m in (self.module, model))
        if wanted != given:
            raise ShapeError(f"update_parameters: expected a model with parameters of shapes {wanted}, got {given}.")
        self.n_averaged += 1
        decay = min(self.decay, self.n_averaged / (self.n_averaged + 10))
        for mean, p in zip(self.module.parameters(), model.parameters(), strict=True):
            mean._will_change()
            mean.data += (1 - decay) * (p.data - mean.data)
        buffers = dict(model.named_buffers())  # fewer, where running values were taken away
        for name, kept in self.module.named_buffers():
            if name in buffers:
                kept[...] = buffers[name]

    def state_dict(self) -> dict[str, Any]:
        """Updates done and the average."""
        return {"n_averaged": self.n_averaged, "module": self.module.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where state_dict() was taken."""
        _check.entries("load_state_dict", state, ("n_averaged", "module"))
        count = _check.integer("load_state_dict", "n_averaged", state["n_averaged"], 0)
        self.module.load_state_dict(state["module"])
        self.n_averaged = count


# -- schedules: functions from the number of steps done to a factor on the learning rate ------------------------------------

Schedule = Callable[[int], float]


class LRScheduler:
    """Set every group's learning rate to its first one times schedule(steps done). Call step() after each optimiser step.

    Examples
    --------
    >>> p = Tensor([1.0], requires_grad=True)
    >>> optimizer = SGD([p], lr=0.1)
    >>> scheduler = LRScheduler(optimizer, step_decay(2, gamma=0.5))
    >>> for _ in range(4):
    ...     scheduler.step()
    >>> optimizer.groups[0]["lr"]
    0.025
    """

    def __init__(self, optimizer: Optimizer, schedule: Schedule) -> None:
        if not isinstance(optimizer, Optimizer):
            raise DtypeError(f"LRScheduler: optimizer must be an Optimizer, got {type(optimizer).__name__}.")
        self.optimizer, self.schedule, self.steps = optimizer, _check.function_of("LRScheduler", "schedule", schedule), 0
        self.first = [group["lr"] for group in optimizer.groups]
        self._set()

    def step(self) -> None:
        """Count one step and set the learning rates for the next."""
        self.steps += 1
        self._set()

    def _set(self) -> None:
        if len(self.first) != len(self.optimizer.groups):
            raise ShapeError("LRScheduler: groups were added to the optimiser or removed; make a new scheduler.")
        for group, lr in zip(self.optimizer.groups, self.first, strict=True):
            factor = _check.number("LRScheduler", "what the schedule gives", self.schedule(self.steps), 0)
            group["lr"] = lr * factor

    def state_dict(self) -> dict[str, Any]:
        """Steps done and first learning rates."""
        return {"steps": self.steps, "first": list(self.first)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where state_dict() was taken."""
        _check.entries("load_state_dict", state, ("steps", "first"))
        first = [
            _check.number("load_state_dict", "first", lr, 0) for lr in _check.listed("load_state_dict", "first", state["first"])
        ]
        if len(first) != len(self.first):
            raise ShapeError(f"load_state_dict: expected {len(self.first)} groups, got {len(first)}.")
        self.steps, self.first = _check.integer("load_state_dict", "steps", state["steps"], 0), first
        self._set()


def constant() -> Schedule:
    """Leave the learning rate as it is."""
    return lambda step: 1.0


def inv(gamma: float = 1e-4, power: float = 0.75) -> Schedule:
    """(1 + gamma step)^-power, Caffe's policy "inv"."""
    slope, exponent = _check.number("inv", "gamma", gamma, 0), _check.number("inv", "power", power, 0)
    return lambda step: (1 + slope * step) ** -exponent


def step_decay(step_size: int, gamma: float = 0.1) -> Schedule:
    """Multiply by gamma every `step_size` steps."""
    size = _check.integer("step_decay", "step_size", step_size, 1)
    factor = _check.number("step_decay", "gamma", gamma, 0, 1)
    return lambda step: factor ** (step // size)


def cosine(total: int, final: float = 0.0) -> Schedule:
    """From 1 to `final` along half a cosine, in `total` steps. Source: Loshchilov & Hutter 2017."""
    length = _check.integer("cosine", "total", total, 1)
    last = _check.number("cosine", "final", final, 0)
    return lambda step: last + (1 - last) * 0.5 * (1 + math.cos(math.pi * min(step / length, 1.0)))


def one_cycle(total: int, warmup: float = 0.3, start: float = 0.04, final: float = 0.0) -> Schedule:
    """From `start` up to 1 in the first `warmup` part of `total` steps, then down to `final`, both along half a cosine.

    The part may end between two steps. With `warmup=1` it stays at 1 afterwards. PyTorch's OneCycleLR(total_steps=total + 1)
    ends at the same step, and has its peak 1 - warmup steps earlier.

    Source: Smith & Topin 2018.
    """
    length = _check.integer("one_cycle", "total", total, 1)
    rise = _check.number("one_cycle", "warmup", warmup, 0, 1) * length
    first = _check.number("one_cycle", "start", start, 0)
    last = _check.number("one_cycle", "final", final, 0)

    def schedule(step: int) -> float:
        if step < rise:
            return first + (1 - first) * 0.5 * (1 - math.cos(math.pi * step / rise))
        fallen = min((step - rise) / (length - rise), 1.0) if rise < length else 0.0
        return last + (1 - last) * 0.5 * (1 + math.cos(math.pi * fallen))

    return schedule


def _norm(grad: Array) -> float:
    """Euclidean norm; of float16 in float32, for squares of 300 do not fit, and scaled where others do not."""
    flat = np.ravel(grad)
    flat = flat.astype(np.float32) if flat.dtype == np.float16 else flat
    with np.errstate(over="ignore", under="ignore"):
        norm = float(np.linalg.norm(flat))
    if 1e-15 < norm < 1e15:
        return norm
    largest = float(np.abs(flat).max(initial=0))
    if not 0 < largest < math.inf:
        return norm
    return largest * float(np.linalg.norm(flat.astype(np.result_type(flat, np.float64)) / largest))


def clip_grad_norm(params: Iterable[Tensor], max_norm: float) -> float:
    """Scale all gradients down together so that their joint Euclidean norm is at most `max_norm`; give the norm before.

    Raises
    ------
    TinygradError : the norm is not finite; the gradients are left as they are.
    ShapeError, DtypeError : max_norm is below 0, or no number; params are no Tensors.
    """
    limit = _check.number("clip_grad_norm", "max_norm", max_norm, 0)
    tensors = [params] if isinstance(params, Tensor) else _check.listed("clip_grad_norm", "params", params)
    if other := [type(p).__name__ for p in tensors if not isinstance(p, Tensor)]:
        raise DtypeError(f"clip_grad_norm: params must be Tensors, got {other[0]}.")
    with_grad = [p for p in tensors if p.grad is not None]
    norm = math.hypot(*(_norm(p.grad) for p in with_grad))  # type: ignore[arg-type]
    if not math.isfinite(norm):
        raise TinygradError(f"clip_grad_norm: the gradients' norm is {norm}; lower the learning rate or look for the cause.")
    if norm > limit:
        for p in with_grad:
            p.grad = p.grad * (limit / norm)  # type: ignore[operator]  # a new array: the user may hold the old one
    return norm


if not TYPE_CHECKING:  # a type checker would take it for a promise
    __getattr__ = attributes_of(__name__)
