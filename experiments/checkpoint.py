"""Checkpoints that survive a kill at any moment: written aside, synced, renamed, and the one before kept."""

import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinygrad_lite import FileFormatError
from tinygrad_lite.serialize import load_with_metadata, save

SCHEMA = 1  # raise it when what a checkpoint holds changes
NAME, PREVIOUS = "checkpoint.safetensors", "checkpoint.previous.safetensors"


class NewerError(FileFormatError):
    """A checkpoint of a later version of this program: going back to the one before it would lose it."""


Arrays = dict[str, NDArray[Any]]


def save_checkpoint(folder: Path, arrays: Arrays, state: dict[str, Any]) -> None:
    """Write arrays, and plain numbers in `state`, as the folder's newest checkpoint; the one before stays beside it."""
    metadata = {"schema": str(SCHEMA), "state": json.dumps(state)}
    new = folder / f"new-{NAME}"
    save(arrays, new, metadata)
    # At every moment one of the two names holds a whole file.
    if (folder / NAME).exists():
        os.replace(folder / NAME, folder / PREVIOUS)
    os.replace(new, folder / NAME)
    _sync(folder)


def load_checkpoint(folder: Path) -> tuple[Arrays, dict[str, Any]] | None:
    """Read the newest whole checkpoint of a folder, and say so if one is damaged; None if the run had come to none.

    Raises
    ------
    FileFormatError : none of those that are there is whole, or one is of a newer version of this program.
    """
    problems = []
    for path in (folder / NAME, folder / PREVIOUS):
        if path.exists():
            try:
                found = read_checkpoint(path)
                if problems:
                    print(f"{problems[0]} The checkpoint before it, of step {found[1].get('step')}, is used.", file=sys.stderr)
                return found
            except NewerError:
                raise
            except FileFormatError as error:
                problems.append(str(error))
    if problems:
        raise FileFormatError(f"resume: no checkpoint in {folder} is whole: {' '.join(problems)}")
    return None


def read_checkpoint(path: Path) -> tuple[Arrays, dict[str, Any]]:
    """Read and check one file."""
    arrays, metadata = load_with_metadata(path)
    schema = metadata.get("schema", "")
    if not schema.isdecimal() or "state" not in metadata:
        raise FileFormatError(f"resume: {path} is a weight file, not a checkpoint.")
    if int(schema) > SCHEMA:
        raise NewerError(f"resume: {path} has schema {schema}, the last known is {SCHEMA}; use the version that wrote it.")
    if (broken := not_finite(arrays.items())) is not None:
        raise FileFormatError(f"resume: {path} holds NaN or infinity in {broken}.")
    return arrays, json.loads(metadata["state"])


def not_finite(arrays: Iterable[tuple[str, NDArray[Any] | None]]) -> str | None:
    """Give the name of the first array with NaN or infinity in it; a finite sum tells quickly that there is none."""
    with np.errstate(all="ignore"):
        return next(
            (name for name, a in arrays if a is not None and not np.isfinite(a.sum()) and not np.isfinite(a).all()), None
        )


def remove_checkpoints(folder: Path) -> None:
    """Remove what a finished run needs no more, and what kills in the middle of a write have left."""
    for path in (folder / NAME, folder / PREVIOUS, folder / f"new-{NAME}", *folder.glob(".*.part")):
        path.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    """Make the renames last through a power cut, where the system lets a folder be synced."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)
