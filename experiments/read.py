"""Read the digits on photographs: `python -m experiments.read photo.jpg another.png`.

Prints the rows of each file. Writes every picture with boxes, digits and confidences (NAME.read.png), the digits as
the net saw them (NAME.inputs.png), and read.json. The steps are in experiments/reader.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any, TextIO

import cv2
import numpy as np

from experiments import mnist
from experiments.paper import make_page
from experiments.reader.draw import annotated, contact_sheet, save_png
from experiments.reader.load import UnreadableImageError, holds_more, load
from experiments.reader.page import Reader
from experiments.reader.reading import Reading
from experiments.runs import folder_name, run_main, write_json, writing_to
from models.load import WEIGHTS, load_ink, load_lenet, load_pairs

LONGEST = 150  # bytes of a picture's name before its ending


def load_reader(weights: Path = WEIGHTS) -> Reader:
    """Make a reader; the weights are LeNet's, those of the nets for touching pairs and for ink are always the repository's own.

    Raises
    ------
    TinygradError, FileNotFoundError : no such file, a damaged one, or weights of another net.
    """
    return Reader(load_lenet(weights), load_pairs(), load_ink())


def as_json(name: str, reading: Reading, scale: float) -> dict[str, Any]:
    """Put a reading in the form of --json; boxes in the file's own pixels, upright."""
    digits = []
    for index in (i for row in reading.rows for i in row):
        digit = reading.digits[index]
        digits.append(
            {
                "box": [round(n * scale) for n in digit.box],
                "digit": digit.digit,
                "confidence": round(digit.confidence, 4),
                "second": digit.second,
                "second_confidence": round(digit.second_confidence, 4),
            }
        )
    return {"file": name, "rows": reading.lines(), "digits": digits}


def read_file(reader: Reader, path: Path, out: Path, stem: str, *, single: bool) -> tuple[dict[str, Any], Reading]:
    """Read one file and write its two pictures; return the JSON form and the reading."""
    picture, scale = load(path)
    reading = reader.read(picture, single=single)
    save_png(out / f"{stem}.read.png", annotated(picture, reading))
    save_png(out / f"{stem}.inputs.png", contact_sheet(reading))
    return as_json(str(path), reading, scale), reading


def words(result: dict[str, Any], reading: Reading) -> str:
    """Say what was read on a file, and what a person should look at, in the file's own pixels."""
    if not reading.digits:
        return f"{result['file']}: no digits found"
    ordered = [reading.digits[i] for row in reading.rows for i in row]
    unsure = [(d, shown["box"]) for d, shown in zip(ordered, result["digits"], strict=True) if d.unsure]
    lines = [f"{result['file']}: {len(reading.digits)} digit{'s' if len(reading.digits) > 1 else ''}"]
    lines += [f"  {line}" for line in reading.lines()]
    lines += [
        f"  unsure: {d.digit} ({d.confidence:.0%}), or {d.second} ({d.second_confidence:.0%}), at x={x} y={y}"
        for d, (x, y, _, _) in unsure
    ]
    return "\n".join(lines)


def run(options: argparse.Namespace) -> int:
    """Read the files, one after the other; 1 when any could not be read."""
    cv2.setNumThreads(2)
    said = sys.stderr if options.json else sys.stdout
    results, failed = [], 0
    reader = load_reader(options.weights)
    with writing_to(options.out), tempfile.TemporaryDirectory() as folder:
        files = options.files
        if options.dry_run:
            files = [_sample(Path(folder), options.seed), *files]
        taken: set[str] = set()
        try:
            for path in files:
                stem, number = short(path.stem), 1
                while stem in taken:  # two files of one name from different folders, or of two kinds
                    number += 1
                    stem = f"{short(path.stem)}-{number}"
                taken.add(stem)
                try:
                    result, reading = read_file(reader, path, options.out, stem, single=options.single)
                except UnreadableImageError as error:
                    failed += 1
                    print(error, file=sys.stderr)
                    continue
                results.append(result)
                say(json.dumps(result) if options.json else words(result, reading))
                if holds_more(path):
                    print(f"{path}: only its first picture was read; save the others as files of their own.", file=sys.stderr)
        finally:
            if results:  # of what was read before a stop, too; where nothing was, an older one stays
                write_json(options.out / "read.json", results)
    if results:
        say(f"Wrote {2 * len(results)} pictures (NAME.read.png, NAME.inputs.png) and read.json to {options.out}.", said)
    return 1 if failed else 0


def short(stem: str) -> str:
    """Cut a name so that those of the pictures, which are longer, are none that the system refuses."""
    while len(os.fsencode(stem)) > LONGEST:
        stem = stem[:-1]
    return stem


def say(text: str, file: TextIO | None = None) -> None:
    """Print text with names of files in it, which may hold what this output cannot show."""
    file = file or sys.stdout
    encoding = file.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), file=file, flush=True)


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m experiments.read", description=__doc__.split("\n")[0])
    parser.add_argument("files", nargs="*", type=Path, help="images: photographs, scans, screen shots")
    parser.add_argument("--single", action="store_true", help="each file holds one digit")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line for each file, nothing else")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="other weights: .safetensors, .npz or the origin's .mat")
    parser.add_argument(
        "--out", type=folder_name, default=Path("runs/read"), help="for pictures, read.json (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the page that --dry-run makes; reading draws no lots")
    parser.add_argument("--dry-run", action="store_true", help="read a page made of a few MNIST training digits")
    options = parser.parse_args(argv)
    if not options.files and not options.dry_run:
        parser.error("give image files to read, or --dry-run")
    return run_main("read", run, options)


def _sample(folder: Path, seed: int) -> Path:
    """Make a page of twelve MNIST training digits."""
    digits, _ = mnist.load()
    rng = np.random.default_rng(seed)
    page = make_page(*digits, rng.integers(0, len(digits.images), 12).tolist(), "clean", rng)
    path = folder / "sample.png"
    save_png(path, page.image)
    return path


if __name__ == "__main__":
    sys.exit(main())
