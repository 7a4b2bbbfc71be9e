"""What the experiments that look at a net have in common: their options, and files that appear all at once or not at all."""

import argparse
import contextlib
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from experiments.runs import RunError, environment, folder_name, free_folder, write_json, writing_to
from models.load import WEIGHTS

# One look for all pictures; numbers and labels readable when the picture is 1000 pixels wide.
plt.rcParams.update({"font.size": 10, "axes.titlesize": 11, "figure.dpi": 110, "savefig.facecolor": "white"})


class Outputs:
    """A folder's new files, written aside and moved there together when all of them are whole.

    Parameters
    ----------
    out : folder, made if needed, whose files of the same names are replaced; None for a new one under `runs/`
    name : for the folder under `runs/`

    Raises
    ------
    RunError : the folder cannot be written to.
    """

    def __init__(self, out: str | Path | None, name: str) -> None:
        self.folder = Path(out) if out is not None else free_folder(Path("runs"), name)
        self.names: list[str] = []
        self._old: list[str] = []
        self._made = next((p for p in [*self.folder.parents[::-1], self.folder] if not os.path.exists(p)), None)
        with writing_to(self.folder):
            self._aside = Path(tempfile.mkdtemp(prefix=".part-", dir=self.folder))

    def path(self, name: str) -> Path:
        """Give the place where file `name` is to be written now. Raises RunError where a folder has this name."""
        if (self.folder / name).is_dir():
            raise RunError(
                f"--out: {self.folder / name} is a folder, where a file is to go; move it away or give another --out."
            )
        self.names.append(name)
        return self._aside / name

    def instead_of(self, pattern: str) -> None:
        """Have files whose whole name matches go when the new ones come, unless they are among these: of more pairs, say."""
        self._old.append(pattern)

    def written(self, name: str) -> Path:
        """Give the place where file `name` lies now."""
        return self._aside / name

    def figure(self, name: str, figure: Figure) -> None:
        """Write a picture and close it."""
        figure.savefig(self.path(name))
        plt.close(figure)

    def json(self, name: str, content: dict[str, Any]) -> None:
        """Write figures, with versions, machine and command."""
        write_json(self.path(name), {**content, "environment": environment()})

    def __enter__(self) -> "Outputs":
        return self

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, *__: object) -> None:
        try:
            if isinstance(error, OSError) and error.filename is None:  # a full disk
                with writing_to(self.folder):
                    raise error
            if error is None:
                for name in self.names:
                    os.replace(self._aside / name, self.folder / name)
                for path in list(self.folder.iterdir()):
                    if (
                        path.is_file()
                        and path.name not in self.names
                        and any(re.fullmatch(pattern, path.name) for pattern in self._old)
                    ):
                        path.unlink()
                print(f"Written to {self.folder}: {', '.join(self.names)}")
        finally:
            shutil.rmtree(self._aside)
            if self._made is not None:  # leave no trace of what failed, and all that others have put there meanwhile
                with contextlib.suppress(OSError):  # the first folder that holds something
                    for folder in (self.folder, *self.folder.parents[: len(self.folder.parts) - len(self._made.parts)]):
                        folder.rmdir()


def parser(name: str, description: str, weights: bool = True) -> argparse.ArgumentParser:
    """Give a parser with the options that every such experiment has."""
    result = argparse.ArgumentParser(prog=f"python -m experiments.{name}", description=description)
    if weights:
        result.add_argument(
            "--weights",
            default=WEIGHTS,
            metavar="FILE",
            help="trained weights: .safetensors, .npz or the origin's .mat (default: the repository's own)",
        )
    result.add_argument(
        "--out", type=folder_name, metavar="FOLDER", help="folder for the files (default: a new one under runs/)"
    )
    result.add_argument("--seed", type=int, default=0, help="the one seed of all randomness (default: 0)")
    result.add_argument("--dry-run", action="store_true", help="a few digits only: seconds, to see that everything works")
    return result
