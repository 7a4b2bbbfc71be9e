"""Command line: fuzz a function's gradient, or every op and layer of the project. `--help` tells the rest."""

import argparse
import contextlib
import importlib
import json
import math
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tinygrad_lite.errors import ShapeError, TinygradError
from tinygrad_lite.fuzz import strategies
from tinygrad_lite.fuzz.properties import fuzz_grad
from tinygrad_lite.fuzz.report import FuzzReport, replay
from tinygrad_lite.fuzz.specs import OpSpec
from tinygrad_lite.gradcheck.target import BACKENDS

EPILOG = """examples:
  python -m tinygrad_lite.fuzz                                  every op and layer of tinygrad_lite
  python -m tinygrad_lite.fuzz mypackage.layers:gelu            one function, its inputs inferred
  python -m tinygrad_lite.fuzz mypackage.layers:pool --inputs pooled --minutes 5
  python -m tinygrad_lite.fuzz --selftest                       is the fuzzer alive? it must catch every wrong rule
exit status: 0 all right, 1 a wrong gradient (or one that --selftest missed), 2 wrong usage, or an error on the way"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the result is the exit status."""
    parser = argparse.ArgumentParser(
        "python -m tinygrad_lite.fuzz", description="Fuzz gradients.", epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("target", nargs="?", help="module:function, or part of the name of an op; default: all of the project")
    parser.add_argument("--inputs", help="strategy of tinygrad_lite.fuzz (broadcast, conv, ...) or module:name of one")
    parser.add_argument("--backend", choices=list(BACKENDS), help="what your function is written with; found out by default")
    parser.add_argument("--max-examples", type=_whole(1), help="examples for each op (default 100; 300 for --selftest)")
    parser.add_argument("--minutes", type=_minutes, help="fuzz for so long, going round with new seeds")
    parser.add_argument("--seed", type=_whole(0), default=0, help="default %(default)s")
    parser.add_argument("--json", action="store_true", help="print the results as JSON lines")
    parser.add_argument("--replay", metavar="FILE", help="run the snippet of a report again, saved in a file")
    parser.add_argument("--list", action="store_true", help="list the ops and layers, or with --selftest the wrong rules")
    parser.add_argument("--selftest", action="store_true", help="fuzz the catalogue of wrong rules, which must all be caught")
    args = parser.parse_args(argv)
    try:
        status = _replay(Path(args.replay)) if args.replay else _fuzz(args)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # whoever reads has enough, as `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that nothing fails at the end either
        return 141  # as shells have it
    except (Exception, SystemExit) as error:  # code of somebody else runs in there; what it raises is no wrong gradient
        parser.error(_words(error))


def _fuzz(args: argparse.Namespace) -> int:
    jobs = _jobs(args)
    if args.list:
        print("\n".join(f"{name:28} {note}" for name, _, note in jobs))
        return 0
    count = args.max_examples or (300 if args.selftest else 100)
    found = list(_run(jobs, count, args.seed, args.minutes, quiet=args.json, shrink=not args.selftest))
    wrong = [name for name, report in found if bool(report) == args.selftest]
    if args.json:
        for name, report in found:
            print(json.dumps({"name": name, **_row(report), "message": str(report) if not report else ""}))
    else:
        _print_table(found)
        for name, report in found:
            if name in wrong and not args.selftest:
                print(f"\n{report}")
            elif report.inferred:
                print(f"\n{name}: inputs inferred: {report.inferred}")
        if args.selftest:
            print(f"\n{len(found) - len(wrong)} of {len(found)} wrong rules caught; missed: {', '.join(wrong) or 'none'}")
        else:
            print(f"\n{len(found) - len(wrong)} of {len(found)} right; wrong: {', '.join(wrong) or 'none'} (seed {args.seed})")
    return 1 if wrong else 0


def _whole(minimum: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.strip().lstrip("+").isdecimal() or int(text) < minimum:
            raise argparse.ArgumentTypeError(f"must be a whole number of at least {minimum}, got {text!r}")
        return int(text)

    return number


def _minutes(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < float(text) < math.inf:
            return float(text)
    raise argparse.ArgumentTypeError(f"must be a number above 0, got {text!r}")


def _words(error: BaseException) -> str:
    """What was raised, with which arguments, and where, if that is code of somebody else."""
    if isinstance(error, TinygradError):
        return str(error)
    lines = [f"{type(error).__name__}: {error}"]
    lines += [note for note in getattr(error, "__notes__", ()) if note.startswith("called with")]  # the others are Hypothesis's
    place = traceback.extract_tb(error.__traceback__)[-1]
    ours = place.filename.startswith(("<", str(Path(__file__).parents[1])))
    return "\n".join([*lines, *([] if ours else [f"raised in {place.filename}, line {place.lineno}"])])


def _jobs(args: argparse.Namespace) -> list[tuple[str, Any, str]]:
    """(name, function of fuzz_grad's options, note) of everything that is to be fuzzed."""
    for name, value in (("--inputs", args.inputs), ("--backend", args.backend)):
        if value is not None and (args.selftest or ":" not in (args.target or "")):
            raise ShapeError(f"{name} is for a function of your own, module:function; the ops of the project have theirs")
    if args.selftest:
        from tinygrad_lite.fuzz.mutants import CATALOGUE

        chosen = [(m.name, m.fuzz, m.source) for m in CATALOGUE if not args.target or args.target in m.name]
        if not chosen:
            raise ShapeError(f"no wrong rule has {args.target!r} in its name; --selftest --list shows them")
        return chosen
    if args.target and ":" in args.target:
        fn, inputs = _load(args.target), None if args.inputs is None else _strategy(args.inputs)
        if isinstance(fn, OpSpec):
            return [(fn.name, fn.fuzz, "")]
        fn = getattr(fn, "fn", fn)  # of a test made by grad_property
        return [(args.target, lambda **options: fuzz_grad(fn, inputs, backend=args.backend, **options), "")]
    from tinygrad_lite.fuzz.project import LAYERS, SPECS

    specs = [spec for spec in [*SPECS, *LAYERS] if not args.target or args.target in spec.name]
    if not specs:
        raise ShapeError(f"no op or layer has {args.target!r} in its name; --list shows them, module:function names your own")
    return [(spec.name, spec.fuzz, "") for spec in specs]


def _load(path: str) -> Any:
    module, _, name = path.partition(":")
    if "/" in module or module.endswith(".py"):
        imported = ".".join(Path(module).with_suffix("").parts).strip("./")
        raise ShapeError(f"{path}: give the module as it is imported, such as {imported}:{name}, not its file")
    sys.path.insert(0, "")
    value = importlib.import_module(module)
    for part in name.split("."):
        value = getattr(value, part)
    return value


def _strategy(name: str) -> Any:
    made = _load(name) if ":" in name else getattr(strategies, name, None)
    made = made() if callable(made) and not isinstance(made, strategies.Strategy) else made
    if not isinstance(made, strategies.Strategy):
        raise ShapeError(f"--inputs {name}: no such strategy in tinygrad_lite.fuzz; use broadcast, conv, ... or module:name")
    return made


def _run(
    jobs: list[tuple[str, Any, str]], count: int, seed: int, minutes: float | None, *, quiet: bool, shrink: bool
) -> Iterator[tuple[str, FuzzReport]]:
    """Fuzz all jobs; with minutes again and again, each with the sum of its rounds, until the time is over."""
    end = time.monotonic() + 60 * minutes if minutes else None
    reports: dict[str, FuzzReport] = {}
    rounds = 0
    while True:
        for name, fuzz, _ in _with_bar(jobs, quiet):
            known = reports.get(name)
            if known is None or known:  # what is wrong need not be found twice
                report = fuzz(max_examples=count, seed=seed + rounds, shrink=shrink, raise_error=False)
                reports[name] = report if known is None else _sum(known, report)
            if end and time.monotonic() > end:
                break
        rounds += 1
        if not end or time.monotonic() > end or not any(reports.values()):
            yield from reports.items()
            return


def _sum(old: FuzzReport, new: FuzzReport) -> FuzzReport:
    new.examples += old.examples
    new.seconds += old.seconds
    new.kinds += old.kinds
    new.excess = max(old.excess, new.excess)
    return new


def _with_bar(jobs: list[tuple[str, Any, str]], quiet: bool) -> Iterable[tuple[str, Any, str]]:
    """Go through the jobs with a progress bar, if a person is looking."""
    shown = not quiet and sys.stderr.isatty()
    for i, job in enumerate(jobs):
        if shown:
            done = 30 * i // len(jobs)
            print(f"\r[{'#' * done}{'.' * (30 - done)}] {i}/{len(jobs)} {job[0]:32.32}", end="", file=sys.stderr, flush=True)
        yield job
    if shown:
        print("\r" + " " * 80 + "\r", end="", file=sys.stderr)


def _row(report: FuzzReport) -> dict[str, Any]:
    return {
        "right": bool(report), "examples": report.examples, "kinds": dict(report.kinds),
        "decided": round(report.decided, 4) if report.kinds else None,
        "worst excess": report.largest if not report else report.excess,
        "seconds": round(report.seconds, 2), "seed": report.seed,
        "property": None if report.failure is None else report.failure.worst.name,
        "examples to failure": report.examples_to_failure,
    }  # fmt: skip


def _print_table(found: list[tuple[str, FuzzReport]]) -> None:
    print(f"{'op':28} {'':5} {'examples':>8} {'decided':>8} {'worst excess':>12} {'seconds':>8}  kinds")
    for name, report in found:
        row = _row(report)
        kinds = ", ".join(f"{count} {kind}" for kind, count in report.kinds.most_common())
        verdict = "right" if report else "WRONG"
        print(f"{name:28.28} {verdict:5} {row['examples']:8} {report.decided:8.1%} {row['worst excess']:12.2g} "
              f"{row['seconds']:8.1f}  {kinds if report else row['property']}")  # fmt: skip


def _replay(path: Path) -> int:
    """Run the snippet of a report, saved in a file."""
    report = replay(path)
    print(f"{path}: nothing fails in it; the gradient is right now, if it checks one" if report is None else report)
    return int(report is not None)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)  # as shells have it: 0 would say that all is right
