"""Gradient checks at one point, with NumPy alone: `check_grad`, and the oracle behind it, `directional`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tinygrad_lite import _check
from tinygrad_lite.errors import DtypeError, GradientError, ShapeError
from tinygrad_lite.gradcheck import adapters  # noqa: F401 - makes its backends known
from tinygrad_lite.gradcheck.check import Arrays, Point, direction
from tinygrad_lite.gradcheck.layout import Array, lay_out
from tinygrad_lite.gradcheck.oracle import Slope, directional
from tinygrad_lite.gradcheck.properties import PROPERTIES, Example
from tinygrad_lite.gradcheck.report import MAX_ENTRIES, Failure, GradientFailure, GradReport
from tinygrad_lite.gradcheck.second import second_order
from tinygrad_lite.gradcheck.target import BACKENDS, Backend, Target, quiet

__all__ = ["GradReport", "GradientFailure", "Slope", "Target", "check_grad", "directional", "examine", "lay_out"]

KINKS = ("strict", "subgradient", "report", "skip")
USUAL = ("all", "rule", "tensor", "module", "torch", "jax")  # properties and backends that need not be named
Probe = tuple[str, int]  # kind and seed of a direction


def check_grad(
    fn: Any,
    *inputs: Any,
    kwargs: Mapping[str, Any] | None = None,
    wrt: Sequence[int | str] | None = None,
    cotangent: Any = None,
    kinks: str | None = None,
    probes: int = 8,
    full: bool | None = None,
    seed: int = 0,
    properties: str | Sequence[str] = "all",
    reference: Callable[..., Any] | None = None,
    backend: str | Backend | None = None,
    complex_step: bool = False,
    surrogate: Callable[..., Any] | None = None,
    order: int = 1,
    raise_error: bool = True,
) -> GradReport:
    """Check the gradient of fn at one point.

    Parameters
    ----------
    fn : a rule (arrays -> (output, vjp)), a pair (forward, backward), a function of Tensors, or a Module
        backward(g, *inputs, **kwargs) gives the gradients for the cotangent g.
    *inputs : arguments of fn. Float arrays are differentiable; integer arrays and everything else are passed on.
    kwargs : keyword arguments of fn, not differentiated
    wrt : indices or names of the differentiable arguments to check; all by default
    cotangent : array of the output's shape (a list of them for several outputs); random by default, never all ones
    kinks : "strict" (or "subgradient"), "report" or "skip"
        What to do at a kink where the gradient is not between the derivatives nearby: fail, note it, or not look.
        By default strict for rules, and report for functions of Tensors and Modules, whose parts may each be right.
    probes : int
        Random directions; each costs about 17 evaluations of fn.
    full : bool
        Whether every entry of the gradient is also checked alone; by default for inputs of up to 64 entries.
    seed : int, of the directions and the cotangent
    properties : "all", or names
        Out of value, shape, untouched, alias, deterministic, forward, linear, zero, layout, precision, needs.
    reference : function of the same arguments that gives the right output (for the property forward)
    backend : "rule", "tensor", "module", "torch", "jax", "autograd"; found out by default
    complex_step : bool
        Ask for a second opinion that is exact to rounding, and sees errors of 1e-11, where fn is analytic and takes complex
        numbers: the slope as Im f(x + ih u) / h. Where it is not valid, the numeric slope decides alone.
    surrogate : function of the same arguments, from arrays to an array
        Whose gradient fn's is meant to be, where it is on purpose not that of fn: the identity for a straight-through round.
    order : 1, or 2 to check the second derivatives too
        These are taken by complex step through the backward pass, as `hessian.hvp` does, and compared with the slope of the
        gradient. For rules, functions of Tensors and Modules.
    raise_error : whether a wrong gradient raises

    Returns
    -------
    GradReport, true if the gradient is right; false also where nothing could be decided: str(report) says why.

    Raises
    ------
    GradientError : the gradient is wrong; the message says where, by how much, and how to see it again.

    Examples
    --------
    >>> def cube(x):
    ...     return x**3, lambda g: 3 * g * x**2
    >>> bool(check_grad(cube, np.array([1.0, -2.0])))
    True
    """
    refuse_unknown("check_grad", fn, kinks, properties, wrt, backend, reference, seed, surrogate)
    if kwargs is not None:
        _check.entries("check_grad", kwargs, ())
    target = Target(fn, inputs, dict(kwargs or {}), backend, surrogate)
    if not target.leaves:
        got = [str(a.dtype) if isinstance(a, np.ndarray) else type(a).__name__ for a in inputs]
        raise DtypeError(
            f"check_grad: nothing to differentiate, no argument of {target.name} is a float array (got {got}); "
            "use astype(np.float64), and of a Tensor its .data."
        )
    probes = _check.integer("check_grad", "probes", probes, 0)
    kinds = [("gauss", "signs", "gauss", "ones")[k % 4] for k in range(probes)]
    report = examine(
        target,
        [(kind, seed + k) for k, kind in enumerate(kinds)],
        wrt=wrt,
        cotangent=cotangent,
        kinks=kinks,
        seed=seed,
        properties=properties,
        reference=reference,
        full=full,
        complex_step=complex_step,
        order=order,
    )
    if raise_error:
        report.raise_if_wrong()
    return report


def refuse_unknown(
    function: str, fn: Any, kinks: Any, properties: Any, wrt: Any, backend: Any, reference: Any, seed: Any, surrogate: Any
) -> None:
    """Refuse what cannot be checked, and options that no check knows."""
    for f in fn if isinstance(fn, tuple) and len(fn) == 2 else (fn,):
        if hasattr(f, "forward") and not callable(f):
            raise DtypeError(
                f"{function}: a {type(f).__name__} cannot be called; give "
                "(layer.forward, lambda g, x: (layer.forward(x), layer.backward(g))[1])."
            )
        if isinstance(f, type) and hasattr(f, "forward"):
            what = f"{f.__name__}.apply" if hasattr(f, "setup_context") else f"an object of it, {f.__name__}(...)"
            raise DtypeError(f"{function}: fn is the class {f.__name__}; give {what}.")
        _check.function_of(function, "fn", f)
    for name, value, known in (("kinks", kinks, KINKS), ("backend", backend, BACKENDS)):
        if value is not None and not (value in known if isinstance(value, str) else name == "backend" and callable(value)):
            raise ShapeError(f"{function}: {name} must be one of {', '.join(known)}, got {value!r:.80}.")
    names = ("value", *PROPERTIES)
    chosen = [properties] if isinstance(properties, str) else _check.listed(function, "properties", properties)
    for name in chosen:
        if not isinstance(name, str) or name not in ("all", *names):
            raise ShapeError(f"{function}: properties must be 'all' or some of {', '.join(names)}, got {name!r:.80}.")
    wanted = [] if wrt is None else _check.listed(function, "wrt", wrt)
    for name, given in (("properties", chosen), ("wrt", None if wrt is None else wanted)):
        if given is not None and not given:
            raise ShapeError(f"{function}: {name} must name something to check, got {given!r}.")
    for item in wanted:
        if not isinstance(item, str):
            _check.integer(function, "wrt", item, 0)
    if seed is not None:
        _check.integer(function, "seed", seed, 0)
    for name, f in (("reference", reference), ("surrogate", surrogate)):
        if f is not None:
            _check.function_of(function, name, f)


def examine(target: Target, probes: Sequence[Probe], *, order: int = 1, **options: Any) -> GradReport:
    """Everything that is checked of a target at one point; never raises for a wrong gradient. See `check_grad`."""
    if order not in (1, 2):
        raise ShapeError(f"check_grad: order must be 1 or 2, got {order!r}.")
    kept = {name: options.get(name) for name in ("wrt", "kinks", "reference", "complex_step", "properties")}
    kept |= {"surrogate": target.surrogate, "order": order if order > 1 else None, "backend": target.backend}
    with quiet():
        report = _examine(target, probes, **options)
        report.settings = {k: v for k, v in kept.items() if not (v in USUAL if isinstance(v, str) else v is None or v is False)}
        if order == 1 or not report or report.outside:
            return report
        again = _examine(second_order(target, report.v), probes, wrt=report.wrt, kinks="report", properties=["value"])
        report.kinds += again.kinds
        again.first = report
        return report if again else again


def _examine(
    target: Target,
    probes: Sequence[Probe],
    *,
    cotangent: Any = None,
    wrt: Sequence[int | str] | None = None,
    kinks: str | None = None,
    seed: int = 0,
    properties: str | Sequence[str] = "all",
    reference: Callable[..., Any] | None = None,
    full: bool | None = None,
    complex_step: bool = False,
) -> GradReport:
    chosen = list(PROPERTIES) if properties == "all" else [properties] if isinstance(properties, str) else list(properties)
    kinks = kinks or ("strict" if target.backend == "rule" else "report")
    leaves = _indices(target, wrt)
    point = Point(target, leaves)
    v = _cotangents(point, cotangent, seed)
    report = GradReport(target, v, seed, leaves, outside=not point.finite)
    example = None
    try:
        example = Example(target, leaves, point, v, seed, reference)
        for name in chosen:
            if name in PROPERTIES and (point.finite or name in ("shape", "untouched", "alias", "forward")):
                report.failures += [Failure(name, message, leaf) for message, leaf in PROPERTIES[name](example)]
        somewhere = any(w.size for w in v) and any(point.leaves[i].size for i in leaves)
        report.asked = somewhere and (properties == "all" or "value" in chosen)
        if point.finite and report.asked:
            _values(report, example, probes, kinks, full, complex_step)
    except GradientError as error:
        report.failures.append(Failure("shape", str(error)))
    except Exception as error:
        if not point.finite:  # outside of its domain a rule may refuse
            return report
        message = f"{type(error).__name__} in the backward pass: {error}"
        if isinstance(error, ValueError) and "read-only" in message:
            report.failures.append(Failure("untouched", f"writes into an argument or the cotangent ({error})"))
        else:
            report.failures.append(Failure("error", message))
    finally:
        if example is not None:
            example.restore()
    return report


def _values(
    report: GradReport, example: Example, probes: Sequence[Probe], kinks: str, full: bool | None, complex_step: bool
) -> None:
    """Compare the gradient with the oracle along the probes, at entries that are not finite, and entry by entry."""
    point, wrt = example.point, list(example.wrt)
    v = [np.array(w, np.float64) for w in example.v]
    shapes = [point.leaves[i].shape for i in wrt]
    total = sum(int(np.prod(shape)) for shape in shapes)
    double = all(leaf.dtype == np.float64 for leaf in example.target.leaves)
    grads = example.grads if double else point.gradients(v)
    flat = np.concatenate([g.reshape(-1) for g in grads])
    wanted = [direction(kind, s, shapes) for kind, s in probes]
    wanted += [direction("onehot", int(k), shapes) for k in np.flatnonzero(~np.isfinite(flat))[:4]]
    if full or (full is None and total <= MAX_ENTRIES):
        wanted += [direction("onehot", k, shapes) for k in range(total)]
    for u in wanted:
        verdict = point.compare(u, v, grads)
        if complex_step and not verdict.wrong:
            verdict = point.second_opinion(u, v, grads, verdict)
        if verdict.wrong and not np.isfinite(verdict.analytic):
            # A cotangent of 0 hides an infinite slope (of sqrt at 0) from the function, but not 0 * inf from the rule.
            everywhere = direction("gauss", report.seed, [w.shape for w in v])
            slope = point.slope(u, everywhere, grads)
            if not slope.decided:
                verdict = replace(verdict, kind=slope.kind, excess=np.nan)
        report.kinds[verdict.kind] += 1
        if not verdict.wrong:
            report.excess = max(report.excess, verdict.excess)
        if not verdict.wrong or (verdict.kind == "kink" and kinks == "skip"):
            continue
        leaf = next((i for i, part in zip(wrt, u, strict=True) if part.any()), None)
        if kinks == "report" and np.isfinite(verdict.analytic) and (verdict.kind == "kink" or _isolated(point, u, v)):
            report.notes.append(
                f"at a kink, {verdict.analytic!r} is no subgradient (slopes {verdict.slope.left!r}, {verdict.slope.right!r})"
            )
            continue
        report.excess = max(report.excess, verdict.excess if verdict.excess < np.inf else 1e300)
        if np.isfinite(verdict.analytic):
            report.failures.append(Failure("value", "the gradient is not the slope of the function", leaf, verdict, u))
        elif all(failure.name != "shape" for failure in report.failures):  # which makes it NaN here
            report.failures.append(Failure("finite", "the gradient is not finite, the slope is", leaf, verdict, u))


def _isolated(point: Point, u: Arrays, v: Arrays) -> bool:
    """Whether the gradient is right at random points nearby: then it is wrong at a kink that this direction misses."""
    rng, here = np.random.default_rng(0), list(point.leaves)
    outs = point.outs
    try:
        for _ in range(3):
            for i in point.wrt:
                point.leaves[i] = here[i] + 1e-4 * point.scale(u) * rng.standard_normal(here[i].shape)
            point.outs = point.forward(0.0, u)
            if not point.compare(u, v, point.gradients(v)).excess <= 1:
                return False
    finally:
        point.leaves, point.outs = here, outs
    return True


def _indices(target: Target, wrt: Sequence[int | str] | None) -> list[int]:
    if wrt is None:
        return list(range(len(target.leaves)))
    names = target.names
    for item in wrt:
        if item not in names and item not in range(len(names)):
            raise ShapeError(f"check_grad: wrt={item!r} is none of the differentiable arguments {names}")
    return [names.index(item) if isinstance(item, str) else item for item in wrt]


def _cotangents(point: Point, cotangent: Any, seed: int) -> list[Array]:
    if cotangent is None:
        return direction("cotangent", seed, [out.shape for out in point.outs])
    if callable(cotangent):
        return list(cotangent([out.shape for out in point.outs]))
    v = [np.asarray(w) for w in (cotangent if isinstance(cotangent, (list, tuple)) else [cotangent])]
    if [w.shape for w in v] != [out.shape for out in point.outs]:
        raise ShapeError(
            f"check_grad: cotangent has shape {[w.shape for w in v]}, the output {[o.shape for o in point.outs]}; "
            "give one array of the output's shape for each output."
        )
    return v
