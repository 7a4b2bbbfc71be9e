"""What experiments.train and experiments.read wrote, read back for a page; what is damaged or foreign is refused in words.

result.json has its place in experiments.runs, for trainings go on by it.
"""

import json
from pathlib import Path
from types import NoneType
from typing import Any

from experiments.recipes import RECIPES, Recipe
from experiments.runs import RunError, read_json
from tinygrad_lite import FileFormatError, TinygradError


def configuration(folder: Path) -> dict[str, Any]:
    """Read config.json; fields may be missing, as in runs of older versions, and have their default then.

    Raises
    ------
    RunError, FileFormatError : there is none, or it is not what experiments.train writes.
    """
    config = read_json(folder / "config.json")
    try:
        Recipe(**{"about": "", **{name: value for name, value in config.items() if name in vars(RECIPES["quick"])}})
        made = config.get("environment", {})
        for name, value, kinds in (
            ("recipe", config.get("recipe"), (str, NoneType)),
            ("data_dir", config.get("data_dir"), (str, NoneType)),
            ("validate", config.get("validate"), (int, NoneType)),
            ("environment", made, (dict,)),
            ("packages", made.get("packages", {}) if isinstance(made, dict) else {}, (dict,)),
        ):
            if not isinstance(value, kinds):
                wanted = " or ".join(kind.__name__ for kind in kinds)
                raise RunError(f"{name} must be {wanted}, got {value!r:.80}.")
    except TinygradError as error:
        raise FileFormatError(f"{folder / 'config.json'} is not what experiments.train writes: {error}") from None
    return config


def readings_in(path: Path) -> list[dict[str, Any]]:
    """Read read.json: a list of what was read on each file.

    Raises
    ------
    FileFormatError : it is not what experiments.read writes.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, list):
            raise TypeError(f"it must hold a list, found a {type(content).__name__}")
        for one in content:
            texts = isinstance(one["rows"], list) and all(isinstance(text, str) for text in (one["file"], *one["rows"]))
            if not texts or not isinstance(one["digits"], list):
                raise TypeError("file must be a text, rows a list of texts and digits a list")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise FileFormatError(f"{path} is not what experiments.read writes: {error!r}.") from None
    return content
