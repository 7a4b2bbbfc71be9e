"""A run's folder: what was asked for, with which versions, and what came out, line by line."""

import json
import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_lite import TinygradError

ROOT = Path(__file__).parent.parent


class RunError(TinygradError, ValueError):
    """What was asked of an experiment cannot be done."""


class Run:
    """A new folder with `config.json` and `metrics.jsonl`.

    Parameters
    ----------
    out : folder to make, or None for a new one under `runs/`
    name : for the folder under `runs/`
    config : options, written to config.json with versions, machine and commit

    Raises
    ------
    RunError : the folder holds a run already, or cannot be written to; nothing was written then.
    """

    def __init__(self, out: str | Path | None, name: str, config: dict[str, Any]) -> None:
        self.folder = Path(out) if out is not None else _free_folder(Path("runs"), name)
        if (self.folder / "config.json").exists():
            raise RunError(f"--out: {self.folder} holds a run already; give another folder or move that one away.")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not os.access(self.folder, os.W_OK):
                raise PermissionError(13, "permission denied")
            self._metrics = open(self.folder / "metrics.jsonl", "w", encoding="utf-8")  # noqa: SIM115 (open while the run is)
        except OSError as error:
            raise RunError(f"--out: cannot write to {self.folder} ({error.strerror}); give another folder.") from None
        self.write_json("config.json", {**config, "environment": environment()})

    def log(self, **values: Any) -> None:
        """Add a line to metrics.jsonl, at once."""
        self._metrics.write(json.dumps(values) + "\n")
        self._metrics.flush()

    def write_json(self, name: str, content: Any) -> Path:
        """Write a JSON file aside and rename it when it is whole."""
        return write_json(self.folder / name, content)

    def close(self) -> None:
        """Close metrics.jsonl."""
        self._metrics.close()

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def write_json(path: Path, content: Any) -> Path:
    """Write a JSON file aside and rename it when it is whole."""
    aside = path.with_name(f".{path.name}.part")
    aside.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    os.replace(aside, path)
    return path


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Read the lines of metrics.jsonl."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def environment() -> dict[str, Any]:
    """Versions, machine and commit: what else a result depends on."""
    packages = {}
    for package in ("tinygrad-lite", "numpy", "scipy", "opencv-python-headless"):
        try:
            packages[package] = version(package)
        except PackageNotFoundError:
            continue
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return {
        "command": " ".join([Path(sys.executable).name, *sys.argv]),
        "python": platform.python_version(),
        "packages": packages,
        "blas": f"{blas.get('name')} {blas.get('version')}",
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "commit": _commit(),
    }


def _commit() -> str | None:
    try:
        describe = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40"]
        commit = subprocess.run(describe, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit.stdout.strip()


def _free_folder(base: Path, name: str) -> Path:
    number = 1
    while (base / f"{name}-{number}").exists():
        number += 1
    return base / f"{name}-{number}"
