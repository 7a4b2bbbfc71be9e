"""How strong is the gradient fuzzer? Every figure of docs/fuzzing.md, one subcommand each.

This file is long because every figure has its measurement here, and they share little.

python -m experiments.fuzz_strength curve        share of the catalogue caught at 10, 30, 100, 300 examples, 5 seeds
python -m experiments.fuzz_strength generated    wrong rules made from the project's own ops, at 100 examples
python -m experiments.fuzz_strength unseen_first    rules that were not used for tuning: false alarms, wrong versions caught
python -m experiments.fuzz_strength unseen_second   the same on another set, and unseen_third on a third
python -m experiments.fuzz_strength oracle       does the error estimate hold where the derivative is known?
python -m experiments.fuzz_strength sensitivity  smallest relative error of a gradient that is found, median over ops
python -m experiments.fuzz_strength shrink       elements in the shrunk failures of the catalogue
python -m experiments.fuzz_strength torch        check_grad beside torch.autograd.gradcheck on a convolution
python -m experiments.fuzz_strength all          all that need no other library: hours

Writes the figures as fuzz_strength.json, and those of `curve` as a picture, too.
"""

import argparse
import functools
import importlib
import itertools
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from experiments.outputs import Outputs
from experiments.outputs import parser as with_outputs
from experiments.runs import RunError, check_positive, run_main
from experiments.unseen import Unseen
from tinygrad_lite.fuzz import OpSpec, fuzz_grad
from tinygrad_lite.fuzz.mutants import CATALOGUE
from tinygrad_lite.fuzz.project import SPECS
from tinygrad_lite.gradcheck import check_grad, directional

Rule = Any
Row = TypeVar("Row")
Figures = dict[str, Any]  # as they go to JSON

COUNTS = (10, 30, 100, 300)  # examples


@dataclass(frozen=True)
class Work:
    """How much a part does: how many seeds, from which on, and whether of every table the first few rows only."""

    seed: int
    seeds: int
    dry_run: bool

    def some(self, table: Sequence[Row]) -> Sequence[Row]:
        return table[:3] if self.dry_run else table

    def each_seed(self) -> range:
        return range(self.seed, self.seed + self.seeds)


def curve(work: Work) -> Figures:
    """Print the share of the catalogue that is caught, by examples and seed, and what caught it."""
    catalogue = work.some(CATALOGUE)
    needed: dict[int, list[float | None]] = {}  # None for never
    missed: dict[int, list[str]] = {}
    killers: Counter[str] = Counter()
    for seed in work.each_seed():
        reports = [m.fuzz(max_examples=max(COUNTS), seed=seed, shrink=False) for m in catalogue]
        needed[seed] = [r.examples_to_failure for r in reports]
        killers.update(r.failure.worst.name for r in reports if r.failure is not None)
        missed[seed] = [m.name for m, r in zip(catalogue, reports, strict=True) if r]
        print(f"seed {seed}: missed {missed[seed]}", flush=True)
    print(f"{len(catalogue)} wrong rules")
    print("examples  " + "  ".join(f"seed {seed}" for seed in needed))
    first = np.array([[n or math.inf for n in of_seed] for of_seed in needed.values()])
    caught = {count: np.mean(first <= count, axis=1).tolist() for count in COUNTS}
    for count, shares in caught.items():
        print(f"{count:8}  " + "  ".join(f"{share:6.1%}" for share in shares))
    print(f"median examples to failure {np.median(first):.0f}; caught by {dict(killers.most_common())}")
    return {"wrong_rules": [m.name for m in catalogue], "examples_to_failure": needed, "caught": caught, "missed": missed,
            "caught_by": killers}  # fmt: skip


def draw_curve(figures: Figures) -> Figure:
    """Draw the share of the catalogue that is caught after so many examples, a line for each seed."""
    fig, ax = plt.subplots(figsize=(6.5, 4), layout="constrained")
    for seed, needed in figures["examples_to_failure"].items():
        found = sorted(n for n in needed if n is not None)
        share = 100 * np.arange(len(found) + 1) / len(needed)
        ax.step([1, *found, max(COUNTS)], [*share, share[-1]], where="post", label=f"seed {seed}")
    ax.set_xscale("log")
    ax.set_xticks([1, *COUNTS], [str(n) for n in (1, *COUNTS)])
    ax.set_ylim(0, 103)
    ax.set_xlabel("examples")
    ax.set_ylabel(f"of {len(figures['wrong_rules'])} wrong rules caught, %")
    ax.grid(alpha=0.3)
    ax.legend(loc="lower right")
    return fig


def operators() -> dict[str, Callable[[Rule], Rule]]:
    """Ways to make a rule's backward wrong without knowing the rule. Each gives grads from (rule's outputs, vjp, args, g)."""

    def after(change: Callable[..., Any]) -> Callable[[Rule], Rule]:
        def mutate(rule: Rule) -> Rule:
            def wrong(*args: Any, **kwargs: Any) -> Any:
                out, vjp = rule(*args, **kwargs)
                return out, lambda g: change(vjp, g, args)

            return wrong

        return mutate

    def each(function: Callable[..., Any]) -> Callable[..., Any]:
        def change(vjp: Any, g: Any, args: Any) -> Any:
            return tuple(None if p is None else function(p, a) for p, a in zip(vjp(g), args, strict=False))

        return change

    def first(function: Callable[..., Any]) -> Callable[..., Any]:
        def change(vjp: Any, g: Any, args: Any) -> Any:
            head, *tail = vjp(g)
            return (function(head, args[0]), *tail)

        return change

    def one_entry(p: Any, _: Any) -> Any:
        p = p.copy()
        if p.size:
            p[(-1,) * p.ndim] *= 1.01
        return p

    made = {f"scaled by 1 + 1e-{k}": after(each(lambda p, _, k=k: p * p.dtype.type(1 + 10.0**-k))) for k in (1, 2, 3, 4, 5)}
    made |= {
        "sign": after(each(lambda p, _: -p)),
        "first argument's sign": after(first(lambda p, _: -p)),
        "doubled": after(each(lambda p, _: 2 * p)),
        "zero": after(each(lambda p, _: 0 * p)),
        "mean subtracted": after(each(lambda p, _: p - p.mean() if p.size else p)),
        "last entry off by 1 %": after(each(one_entry)),
        "reversed": after(each(lambda p, _: np.array(p[::-1]) if p.ndim else 2 * p)),
        "transposed": after(each(lambda p, _: np.array(p.T).reshape(p.shape) if p.ndim > 1 and min(p.shape) > 1 else 2 * p)),
        "first axis not summed": after(each(lambda p, _: np.array(np.broadcast_to(p, (2, *p.shape))))),
        "summed away": after(each(lambda p, _: p.sum())),
        "cotangent ignored": after(lambda vjp, g, _: vjp(np.ones_like(g))),
        "absolute cotangent": after(lambda vjp, g, _: vjp(np.abs(g))),
        "cotangent read in memory order": after(lambda vjp, g, _: vjp(np.ravel(g, "K").reshape(g.shape) * (1 if g.ndim > 1 else 2))),
        "cotangent written into": after(lambda vjp, g, _: (vjp(np.array(g)), np.multiply(g, 2, out=g))[0]),
        "input added": after(first(lambda p, a: p + np.asarray(a, p.dtype) * p.dtype.type(1e-3))),
        "NaN at exact zeros": after(first(lambda p, a: np.where(np.asarray(a) == 0, np.nan, p).astype(p.dtype))),
        "mask shifted by 1e-3": after(first(lambda p, a: p * (np.abs(a) > 1e-3))),
        "wider dtype": after(each(lambda p, _: p.astype(np.longdouble))),
        "in float16": after(each(lambda p, _: p.astype(np.float16).astype(p.dtype))),
        "shared buffer": after(each(lambda p, a: a if p.shape == a.shape else 2 * p)),
    }  # fmt: skip
    return made


def _rules(work: Work) -> Sequence[OpSpec]:
    """The project's own rules, without the functions that are made of them."""
    return work.some([spec for spec in SPECS if not spec.name.startswith("functional")])


def generated(work: Work) -> Figures:
    """Fuzz wrong rules made from the project's rules; one is left out where it is the rule itself (equivalent)."""
    total, caught, equal, missed = 0, 0, [], []
    for spec in _rules(work):
        for name, mutate in work.some(list(operators().items())):
            wrong = mutate(spec.fn)
            report = replace(spec, fn=wrong).fuzz(max_examples=100, seed=work.seed, shrink=False, raise_error=False)
            total += 1
            if not report:
                caught += 1
            elif _equivalent(spec, wrong):
                equal.append(f"{spec.name} / {name}")
            else:
                missed.append(f"{spec.name} / {name}")
    different = total - len(equal)
    print(f"generated wrong rules: {total}, of which the same function as the right one: {len(equal)}")
    print(f"caught at 100 examples: {caught} of {different} = {caught / different:.1%}")
    print("missed:\n  " + "\n  ".join(missed) + "\nequivalent:\n  " + "\n  ".join(equal))
    return {"wrong_rules": different, "caught": caught, "missed": missed, "equivalent": equal}


def _equivalent(spec: OpSpec, wrong: Rule) -> bool:
    """Whether the changed rule gave, but for rounding, what the right one gave on 500 drawn arguments.

    Such are those that take a mean off the gradient of a function that stays the same when a constant is added to all of x
    (softmax, a variance): there the gradient sums to 0, and its mean is 0.
    """
    from hypothesis import HealthCheck, Phase, given, settings

    assert spec.inputs is not None
    same = True

    @settings(max_examples=500, database=None, derandomize=True, phases=[Phase.generate], deadline=None,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(spec.inputs)
    def compare(arguments: Any) -> None:
        nonlocal same
        args, kwargs = arguments if isinstance(arguments[1], dict) else (arguments, {})
        with np.errstate(all="ignore"):
            out, right = spec.fn(*args, **kwargs)
            g = np.random.default_rng(0).standard_normal(out.shape).astype(out.dtype)
            pairs = zip(right(g.copy()), wrong(*args, **kwargs)[1](g.copy()), strict=True)
            same &= all(
                a is b or (np.shape(a) == np.shape(b) and a.dtype == b.dtype and np.allclose(
                    a, b, rtol=0, atol=64 * np.finfo(a.dtype).eps * max(np.abs(a).max(initial=0), np.abs(g).max(initial=0)),
                    equal_nan=True))
                for a, b in pairs
            )  # fmt: skip

    compare()
    return same


def unseen(work: Work, rows: Sequence[Unseen]) -> Figures:
    """Print false alarms on right rules that were not used for tuning, and the share of their wrong versions that is caught."""
    table = work.some(rows)
    alarms, lowest, kinds, cases, examples = [], (2.0, ""), Counter[str](), 0, 0
    for case, seed in itertools.product(table, [1000 + seed for seed in work.each_seed()]):
        report = fuzz_grad(case.rule, case.inputs, max_examples=100, seed=seed, raise_error=False)
        alarms += [] if report else [f"{case.name}, seed {seed}:\n{report}"]
        kinds, examples = kinds + report.kinds, examples + report.examples
        cases += report.examples - report.outside
        lowest = min(lowest, (report.decided, case.name))
    decided = kinds["smooth"] + kinds["kink"]
    print(f"{len(table)} right rules, {work.seeds} seeds: {examples} examples, {cases} of them with a finite output; "
          f"{decided} of {kinds.total()} directions decided = {decided / kinds.total():.2%}, lowest {lowest[1]} {lowest[0]:.1%}")  # fmt: skip
    print(f"false alarms: {len(alarms)}\n" + "\n".join(alarms))
    slips = [slip for case in table for slip in ((name, wrong, case.inputs) for name, wrong in case.wrong())]
    missed = [name for name, wrong, inputs in slips
              if fuzz_grad(wrong, inputs, max_examples=100, seed=1000 + work.seed, shrink=False, raise_error=False)]  # fmt: skip
    print(f"{len(slips)} wrong versions: {1 - len(missed) / len(slips):.1%} caught at 100 examples; missed: {missed}")
    return {"right_rules": len(table), "examples": examples, "finite": cases, "directions": kinds, "alarms": alarms,
            "wrong_versions": len(slips), "missed": missed}  # fmt: skip


KNOWN: dict[str, tuple[Callable[[float], float], Callable[[float], float]]] = {
    "exp": (math.exp, math.exp), "sin 50x": (lambda x: math.sin(50 * x), lambda x: 50 * math.cos(50 * x)),
    "tanh": (math.tanh, lambda x: 1 / math.cosh(x) ** 2), "cube": (lambda x: x**3, lambda x: 3 * x * x),
    "log": (lambda x: math.log(x) if x > 0 else math.nan, lambda x: 1 / x), "inverse": (lambda x: 1 / x, lambda x: -1 / x**2),
    "sqrt": (lambda x: math.sqrt(x) if x > 0 else math.nan, lambda x: 0.5 / math.sqrt(x)),
    "erf": (math.erf, lambda x: 2 / math.sqrt(math.pi) * math.exp(-x * x)),
    "exp + 1e6": (lambda x: math.exp(x) + 1e6, math.exp), "arctan 100x": (lambda x: math.atan(100 * x), lambda x: 100 / (1 + 1e4 * x * x)),
    "relu": (lambda x: max(x, 0.0), lambda x: float(x > 0)), "|x - 0.3|": (lambda x: abs(x - 0.3), lambda x: math.copysign(1, x - 0.3)),
    "x^2 + 1e-6 relu": (lambda x: x * x + 1e-6 * max(x, 0), lambda x: 2 * x + 1e-6 * (x > 0)),
    "soft shrink": (lambda x: math.copysign(max(abs(x) - 1e-3, 0), x), lambda x: float(abs(x) > 1e-3)),
    "x log x": (lambda x: x * math.log(x) if x > 0 else math.nan, lambda x: 1 + math.log(x)),
}  # fmt: skip


def _shifted(function: Callable[[float], float], x: float, t: float) -> float:
    return function(x + t)


def oracle(work: Work) -> Figures:
    """Print how often the reported error covers the true one."""
    rng, total, outside = np.random.default_rng(work.seed), 0, 0
    relative, count = [], 400 * work.seeds
    known = work.some(list(KNOWN.values()))
    for function, derivative in known:
        for x in map(float, np.concatenate([rng.uniform(0.01, 4, count), 10 ** rng.uniform(-5, 2, count)])):
            slope = directional(
                functools.partial(_shifted, function, x), scale=min(max(x, 1e-3), 1), magnitude=abs(function(x))
            )
            if slope.kind == "smooth":
                exact = derivative(x)
                total += 1
                outside += abs(slope.value - exact) > slope.error
                relative.append(slope.error / max(abs(exact), 1e-300))
    print(f"functions {len(known)}, points {total}: error estimate holds in {1 - outside / total:.3%} ({outside} outside); "
          f"median estimate {np.median(relative):.1e} of the slope")  # fmt: skip
    return {"functions": len(known), "points": total, "outside": outside, "median_estimate": float(np.median(relative))}


def sensitivity(work: Work) -> Figures:
    """Print the smallest relative error of all gradients of a rule that is found at 100 examples."""
    smallest = {}
    for spec in _rules(work):
        smallest[spec.name] = math.inf
        for k in (3, 4, 5, 6, 7, 8):

            def wrong(*args: Any, k: int = k, spec: OpSpec = spec, **kwargs: Any) -> Any:
                out, vjp = spec.fn(*args, **kwargs)
                return out, lambda g: tuple(None if p is None else p * p.dtype.type(1 + 10.0**-k) for p in vjp(g))

            if replace(spec, fn=wrong).fuzz(max_examples=100, seed=work.seed, shrink=False, raise_error=False):
                break
            smallest[spec.name] = 10.0**-k
    values = np.array(list(smallest.values()))
    print(f"smallest relative error found, {len(values)} ops: median {np.median(values):.0e}, largest {values.max():.0e} "
          f"({max(smallest, key=smallest.__getitem__)})")  # fmt: skip
    return {"smallest": smallest, "median": float(np.median(values))}


def shrink(work: Work) -> Figures:
    """Print the sizes of the shrunk failures of the catalogue."""
    sizes, one_hot = [], []
    for mutant in work.some(CATALOGUE):
        for seed in work.each_seed():
            report = mutant.fuzz(max_examples=max(COUNTS), seed=seed)
            if report.failure is not None:
                sizes.append(sum(leaf.size for leaf in report.failure.target.leaves))
                one_hot.append(sum(np.count_nonzero(v) for v in report.failure.v) == 1)
    print(f"{len(sizes)} failures: median {np.median(sizes):.0f} elements, 90 % have at most {np.percentile(sizes, 90):.0f}; "
          f"one entry in the cotangent in {np.mean(one_hot):.0%}")  # fmt: skip
    return {"failures": len(sizes), "sizes": sizes, "median": float(np.median(sizes)), "one_entry": float(np.mean(one_hot))}


def torch(work: Work) -> Figures:
    """Print time and power of one check of a convolution, beside torch's own (PyTorch must be installed)."""
    try:
        import torch as library
    except ImportError:
        raise RunError("torch: PyTorch is not installed here; pip install torch.") from None

    from tinygrad_lite.ops.conv import conv2d

    rng = np.random.default_rng(work.seed)
    x, w = rng.standard_normal((4, 8, 12, 12)), rng.standard_normal((16, 8, 3, 3))
    start = time.perf_counter()
    check_grad(conv2d, x, w)
    ours = time.perf_counter() - start
    inputs = [library.from_numpy(a).requires_grad_() for a in (x, w)]
    start = time.perf_counter()
    library.autograd.gradcheck(library.nn.functional.conv2d, inputs)
    theirs = time.perf_counter() - start
    start = time.perf_counter()
    library.autograd.gradcheck(library.nn.functional.conv2d, inputs, fast_mode=True)
    fast = time.perf_counter() - start

    class Off(library.autograd.Function):  # type: ignore[misc]
        @staticmethod
        def forward(ctx: Any, x: Any, w: Any, where: int) -> Any:
            ctx.save_for_backward(x, w)
            ctx.where = where
            return library.nn.functional.conv2d(x, w)

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            x, w = ctx.saved_tensors
            g_x = library.nn.grad.conv2d_input(x.shape, w, g)
            g_x.view(-1)[ctx.where] *= 1.001
            return g_x, library.nn.grad.conv2d_weight(x, w.shape, g), None

    seen, seen_fast = 0, 0
    trials = 2 if work.dry_run else 20 * work.seeds
    for trial in range(work.seed, work.seed + trials):
        where = int(rng.integers(x.size))

        def wrong(x: Any, w: Any, where: int = where) -> Any:
            out, vjp = conv2d(x, w)

            def off(g: Any) -> Any:
                g_x, g_w = vjp(g)
                g_x = np.array(g_x, order="C")
                g_x.reshape(-1)[where] *= 1.001
                return g_x, g_w

            return out, off

        seen += not check_grad(wrong, x, w, seed=trial, raise_error=False, properties=["value"])
        library.manual_seed(trial)
        seen_fast += not library.autograd.gradcheck(
            lambda a, b, where=where: Off.apply(a, b, where), inputs, fast_mode=True, raise_exception=False
        )
    print(f"convolution (4, 8, 12, 12) by (16, 8, 3, 3), {library.get_num_threads()} threads in torch")
    print(f"check_grad {ours:.2f} s; gradcheck {theirs:.1f} s ({theirs / ours:.0f} times as long), fast mode {fast:.2f} s")
    print(f"0.1 % off in one entry: check_grad sees {seen} of {trials}, torch's fast mode {seen_fast} of {trials}")
    return {"check_grad_s": ours, "gradcheck_s": theirs, "fast_mode_s": fast, "trials": trials,
            "check_grad_sees": seen, "fast_mode_sees": seen_fast}  # fmt: skip


def unseen_first(work: Work) -> Figures:
    """Run `unseen` on the first set."""
    return unseen(work, importlib.import_module("experiments.unseen.first").FIRST)


def unseen_second(work: Work) -> Figures:
    """Run `unseen` on the second set."""
    return unseen(work, importlib.import_module("experiments.unseen.second").SECOND)


def unseen_third(work: Work) -> Figures:
    """Run `unseen` on the third set."""
    return unseen(work, importlib.import_module("experiments.unseen.third").THIRD)


PARTS = (curve, generated, unseen_first, unseen_second, unseen_third, oracle, sensitivity, shrink, torch)


def run(options: argparse.Namespace) -> None:
    """Run one part, or all that need no other library."""
    check_positive(options, "seeds")
    work = Work(options.seed, 1 if options.dry_run else options.seeds, options.dry_run)
    with Outputs(options.out, "fuzz_strength") as files:
        figures = {}
        for part in PARTS:
            name = part.__name__
            if options.part == name or (options.part == "all" and part is not torch):
                print(f"-- {name}", flush=True)
                figures[name] = part(work)
        if "curve" in figures:
            files.figure("curve.png", draw_curve(figures["curve"]))
        files.json("fuzz_strength.json", figures)


def main(argv: list[str] | None = None) -> int:
    """Command line; gives the exit code."""
    parser = with_outputs("fuzz_strength", __doc__, weights=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("part", choices=[*(part.__name__ for part in PARTS), "all"])
    parser.add_argument("--seeds", type=int, default=5, help="how many, --seed and those after it (default: %(default)s)")
    return run_main("fuzz_strength", run, parser.parse_args(argv))


if __name__ == "__main__":
    raise SystemExit(main())
