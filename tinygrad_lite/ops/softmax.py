"""Rules for log-sum-exp, softmax and the losses on log-probabilities. Safe for logits of any finite size."""

from __future__ import annotations  # those of a vjp would be evaluated at every call

import numpy as np

from tinygrad_lite import _check
from tinygrad_lite._threads import mapped
from tinygrad_lite._types import Array, RuleResult
from tinygrad_lite.errors import ShapeError
from tinygrad_lite.ops.half import in_single


def _shifted_exp(x: Array, axes: tuple[int, ...]) -> tuple[Array, Array]:
    """Give e^(x - m) and m, the largest element over `axes` (0 where that is infinite)."""
    m = np.asarray(x.real.max(axis=axes, keepdims=True, initial=-np.inf))
    m[~np.isfinite(m)] = 0
    shifted = np.asarray(x - m)
    return np.exp(shifted, out=shifted), m


@in_single
def logsumexp(x: Array, *, axes: tuple[int, ...], keepdim: bool = False) -> RuleResult:
    """Rule for log(sum(e^x)) over `axes`; -inf over elements that are all -inf."""
    powers, m = _shifted_exp(x, axes)
    total = powers.sum(axis=axes, keepdims=True)
    with np.errstate(divide="ignore"):
        out = np.log(total) + m

    def vjp(g: Array) -> tuple[Array, ...]:  # d/dx = softmax(x)
        return (g.reshape(total.shape) * (powers / np.where(total == 0, 1, total)),)

    return out if keepdim else out.squeeze(axes), vjp


@in_single
def softmax(x: Array, *, axis: int) -> RuleResult:
    """Rule for e^x / sum(e^x) along one axis."""

    def value(x: Array) -> Array:
        powers, _ = _shifted_exp(x, (axis,))
        powers /= powers.sum(axis=axis, keepdims=True)
        return powers

    def back(g: Array, out: Array) -> Array:  # dy = y (dx - sum(y dx))
        return np.asarray(out * (g - (g * out).sum(axis=axis, keepdims=True)))

    out = mapped(value, x, whole=axis)
    return out, lambda g: (mapped(back, g, out, whole=axis),)


@in_single
def log_softmax(x: Array, *, axis: int) -> RuleResult:
    """Rule for x - log(sum(e^x)) along one axis."""

    def value(x: Array) -> Array:
        powers, m = _shifted_exp(x, (axis,))
        with np.errstate(divide="ignore"):  # of no classes the total is 0
            log_total = np.log(powers.sum(axis=axis, keepdims=True))
        out = np.subtract(x, m, out=powers)  # first: at logits of 1e6 this difference is exact, m + log(total) is not
        out -= log_total
        return out

    def back(g: Array, out: Array) -> Array:  # dy = dx - sum(softmax dx), transposed
        return np.asarray(g - np.exp(out) * g.sum(axis=axis, keepdims=True))

    out = mapped(value, x, whole=axis)
    return out, lambda g: (mapped(back, g, out, whole=axis),)


@in_single
def nll_loss(
    log_probs: Array, *, targets: Array, reduction: str = "mean", label_smoothing: float = 0.0, name: str = "nll_loss"
) -> RuleResult:
    """Rule for minus the log-probability of the target class. log_probs (n, c, ...), targets (n, ...); name is for errors."""
    _check_scores(name, log_probs)
    _check.reduction(name, reduction)
    smoothing = _check.number(name, "label_smoothing", label_smoothing, 0, 1)
    classes = log_probs.shape[1]
    spread = smoothing / max(1, classes)
    targets = _check.class_indices(name, targets, classes, log_probs.shape[:1] + log_probs.shape[2:])
    # One row a sample and place: (n, ..., c). Of each the number at its target.
    rows, place = log_probs.transpose(0, *range(2, log_probs.ndim), 1), (np.arange(targets.size), targets.reshape(-1))
    losses = -(1 - smoothing) * rows.reshape(targets.size, classes)[place].reshape(targets.shape)
    if smoothing:
        losses = losses - spread * log_probs.sum(axis=1)
    if reduction == "mean":
        _check.not_empty(name, "log_probs", losses, "the mean loss")
    share = 1 / losses.size if reduction == "mean" else 1.0
    out = losses if reduction == "none" else np.asarray(losses.sum() * share)

    def vjp(g: Array) -> tuple[Array, ...]:  # each loss has slope -(1 - s) at its target and -s / c at every class
        each = np.asarray(g * -share).reshape(-1)  # one for all, or one for each row
        g_rows = np.zeros((targets.size, classes), each.dtype)
        g_rows[place] = each * (1 - smoothing)
        if smoothing:
            g_rows += each[:, None] * spread
        return (g_rows.reshape(rows.shape).transpose(0, rows.ndim - 1, *range(1, rows.ndim - 1)),)

    return out, vjp


def cross_entropy(logits: Array, *, targets: Array, reduction: str = "mean", label_smoothing: float = 0.0) -> RuleResult:
    """Rule for nll_loss of log_softmax. logits (n, c, ...), targets (n, ...)."""
    _check_scores("cross_entropy", logits)
    log_probs, to_logits = log_softmax(logits, axis=1)
    out, to_log_probs = nll_loss(
        log_probs, targets=targets, reduction=reduction, label_smoothing=label_smoothing, name="cross_entropy"
    )
    return out, lambda g: to_logits(*to_log_probs(g))  # type: ignore[arg-type]


def _check_scores(function: str, x: Array) -> None:
    if x.ndim < 2:
        raise ShapeError(
            f"{function}: scores must be (n, c) or (n, c, ...), got shape {x.shape}; use x.reshape(1, -1) for one sample."
        )
