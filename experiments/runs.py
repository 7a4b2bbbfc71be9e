"""A run's folder: what was asked for, with which versions, and what came out, line by line."""

import argparse
import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

try:
    import fcntl
except ImportError:  # not a system with such locks
    fcntl = None  # type: ignore[assignment]

from experiments.signals import ending_as_ctrl_c
from experiments.texts import print_any
from tinygrad_lite import FileFormatError, TinygradError
from tinygrad_lite._blas import thread_setting
from tinygrad_lite._files import whole_file

ROOT = Path(__file__).parent.parent


class RunError(TinygradError, ValueError):
    """What was asked of an experiment cannot be done."""


class Run:
    """A folder with `config.json` and `metrics.jsonl`, this process's own until close().

    With `step` an older run is gone on with: lines of later steps, and one torn by a kill, go out of metrics.jsonl.
    """

    def __init__(self, folder: Path, step: int | None = None) -> None:
        self.folder = folder
        self._lock = lock(folder)
        try:
            if step is not None:
                kept = (json.dumps(line) + "\n" for line in read_metrics(folder) if line["step"] <= step)
                write_lines(folder / "metrics.jsonl", kept)
            self._metrics = open(folder / "metrics.jsonl", "w" if step is None else "a", encoding="utf-8")  # noqa: SIM115
        except BaseException:
            os.close(self._lock)
            raise

    @classmethod
    def create(cls, out: str | Path | None, name: str, config: dict[str, Any]) -> "Run":
        """Make a new folder.

        Parameters
        ----------
        out : folder to make, or None for a new one under `runs/`
        name : for the folder under `runs/`
        config : options, written to config.json with versions, machine and commit

        Raises
        ------
        RunError : the folder holds a run already, or cannot be written to.
        """
        folder = Path(out) if out is not None else free_folder(Path("runs"), name)
        cls.refuse_existing(folder)
        with writing_to(folder):
            run = cls(folder)
            try:
                run.write_json("config.json", {**config, "environment": environment()})
            except OSError:
                run.close()
                (folder / "metrics.jsonl").unlink(missing_ok=True)
                raise
        return run

    @staticmethod
    def refuse_existing(folder: Path | None) -> None:
        """Raise RunError if the folder holds a run; not if it is closed to us, where Path.exists would raise another error."""
        if folder is not None and os.path.exists(folder / "config.json"):
            raise RunError(f"--out: {folder} holds a run already; give another folder or move that one away.")

    def log(self, **values: Any) -> None:
        """Add a line to metrics.jsonl, at once."""
        self._metrics.write(json.dumps(values) + "\n")
        self._metrics.flush()

    def write_json(self, name: str, content: Any) -> None:
        """Write a JSON file aside and rename it when it is whole."""
        write_json(self.folder / name, content)

    def close(self) -> None:
        """Close metrics.jsonl, and let others train in the folder."""
        self._metrics.close()
        os.close(self._lock)

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def lock(folder: Path) -> int:
    """Keep a folder for this process until the descriptor is closed; a kill closes it too.

    Raises
    ------
    RunError : another process trains in the folder.
    """
    descriptor = os.open(folder if fcntl else os.devnull, os.O_RDONLY)
    try:
        if fcntl:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise RunError(f"--out: another process is training in {folder}; wait for it, or give another folder.") from None
    return descriptor


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file aside and rename it when it is whole."""
    write_lines(path, [json.dumps(content, indent=2) + "\n"])


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write a text file aside and rename it when it is whole."""
    with whole_file(path) as file:
        file.writelines(line.encode() for line in lines)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object that write_json wrote."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise RunError(f"there is no {path}; is {path.parent} the folder of a run?") from None
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{path} is damaged: {error}.") from None
    if not isinstance(content, dict):
        raise FileFormatError(f"{path} must hold a JSON object, found a {type(content).__name__}.")
    return content


def read_result(folder: Path) -> dict[str, Any] | None:
    """Read what came out of a run; None if it is not finished.

    Raises
    ------
    FileFormatError : result.json is not what a finished training writes.
    """
    path = folder / "result.json"
    if not os.path.exists(path):
        return None
    names = ("step", "test_accuracy", "train_size", "seconds")
    try:
        result = read_json(path)
        if missing := [name for name in names if not isinstance(result.get(name), (int, float))]:
            raise FileFormatError(f"{path} is not of a finished run: expected numbers, found none for {', '.join(missing)}.")
    except FileFormatError as error:
        raise FileFormatError(f"{error} Move it away; --resume {folder} goes on from the last checkpoint then.") from None
    return result


def read_metrics(folder: Path) -> Iterator[dict[str, Any]]:
    """Give the lines of metrics.jsonl, one at a time, for there may be millions; one that a kill has torn is left out.

    Raises
    ------
    FileFormatError : there is no such file, or a line in it is none that a training writes.
    """
    path = folder / "metrics.jsonl"
    if not path.is_file():
        raise FileFormatError(f"there is no {path}, which every run has; was it taken away?")
    with open(path, encoding="utf-8", errors="replace", newline="\n") as file:
        for number, text in enumerate(file, 1):
            if not text.endswith("\n"):
                return
            try:
                line = json.loads(text)
            except (ValueError, RecursionError):
                line = None
            if not _is_metric(line):
                raise FileFormatError(f"{path} is damaged in line {number}; without that line it can be read again.")
            yield line


def _is_metric(line: Any) -> bool:
    def has(*names: str) -> bool:
        return all(isinstance(line.get(name), (int, float)) for name in names)

    return isinstance(line, dict) and (has("step", "loss", "accuracy") or has("step", "test_loss", "test_accuracy"))


def environment() -> dict[str, Any]:
    """Versions, machine and commit: what else a result depends on."""
    packages = {}
    for package in ("tinygrad-lite", "numpy", "scipy", "opencv-python-headless"):
        try:
            packages[package] = version(package)
        except PackageNotFoundError:
            continue
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    program = ["-m", spec.name] if spec is not None else sys.argv[:1]  # as it was typed, without the machine's folders
    return {
        "command": " ".join([Path(sys.executable).name, *program, *sys.argv[1:]]),
        "python": platform.python_version(),
        "packages": packages,
        "blas": f"{blas.get('name')} {blas.get('version')}",
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "blas_threads": blas_threads(),
        "commit": _commit(),
    }


def blas_threads() -> int | None:
    """How many threads a matrix product has, on which its last bits depend; None where that is not known."""
    openblas = thread_setting()
    return openblas.get() if openblas else None


def _commit() -> str | None:
    try:
        describe = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40"]
        commit = subprocess.run(describe, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit.stdout.strip()


@contextlib.contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Make a folder, if needed, to write to.

    Raises
    ------
    RunError : it cannot be made, or what is done in this context cannot write there; errors of other files stay as they are.
    """
    made = False
    try:
        folder.mkdir(parents=True, exist_ok=True)
        made = True
        yield
    except OSError as error:
        if made and not _is_of(folder, error):
            raise
        raise RunError(f"--out: cannot write to {folder} ({error.strerror}); give another folder.") from None


def folder_name(text: str) -> Path:
    """Type of an option that names a folder; an unset variable of the shell names none."""
    if not text:
        raise argparse.ArgumentTypeError("must name a folder, got ''")
    return Path(text)


def _is_of(folder: Path, error: OSError) -> bool:
    """Whether the system refused to write in the folder; it names no file where the disk is full."""
    if error.strerror is None:  # words of this program's own
        return False
    names = [os.path.abspath(os.fsdecode(n)) for n in (error.filename, error.filename2) if isinstance(n, (str, bytes))]
    return not names or any(Path(name).is_relative_to(os.path.abspath(folder)) for name in names)


def free_folder(base: Path, name: str) -> Path:
    """Give the first of NAME-1, NAME-2, ... that does not exist yet in a folder."""
    number = 1
    while os.path.exists(base / f"{name}-{number}"):
        number += 1
    return base / f"{name}-{number}"


def check_positive(options: argparse.Namespace, *names: str) -> None:
    """Raise RunError for the first of these options that is given and below 1."""
    for name in names:
        value = getattr(options, name)
        if value is not None and not value >= 1:  # nor nan
            raise RunError(f"--{name.replace('_', '-')}: must be at least 1, got {value}.")


def run_main(name: str, run: Callable[[argparse.Namespace], int | None], options: argparse.Namespace) -> int:
    """Run an experiment; give the exit code, and words for what the user can mend. SIGTERM stops it as Ctrl-C does."""
    print_any()
    try:
        if options.seed < 0:
            raise RunError(f"--seed: must be at least 0, got {options.seed}.")
        with ending_as_ctrl_c():
            return run(options) or 0
    except (TinygradError, OSError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stopped:
        print(f"{name}: stopped.", file=sys.stderr)
        return 128 + next(iter(stopped.args), signal.SIGINT)
