"""Read the digits on photographs: `python -m experiments.read photo.jpg another.png`.

Prints the rows of each file. Writes every picture with boxes, digits and confidences (NAME.read.png), the digits as
the net saw them (NAME.inputs.png), and read.json. The steps are in experiments/reader.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from experiments import mnist
from experiments.paper import make_page
from experiments.reader.draw import annotated, contact_sheet, save_png
from experiments.reader.load import UnreadableImageError, load
from experiments.reader.page import Reader
from experiments.reader.reading import Reading
from experiments.runs import run_main, write_json, writing_to
from models.load import WEIGHTS, load_lenet, load_pairs


def load_reader(weights: Path = WEIGHTS) -> Reader:
    """Make a reader; the weights are LeNet's, those of the net for touching pairs are always the repository's own.

    Raises
    ------
    TinygradError, FileNotFoundError : no such file, a damaged one, or weights of another net.
    """
    return Reader(load_lenet(weights), load_pairs())


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


def words(path: Path, reading: Reading) -> str:
    """Say what was read on a file, and what a person should look at."""
    if not reading.digits:
        return f"{path}: no digits found"
    unsure = [d for row in reading.rows for d in (reading.digits[i] for i in row) if d.unsure]
    lines = [f"{path}: {len(reading.digits)} digit{'s' if len(reading.digits) > 1 else ''}"]
    lines += [f"  {line}" for line in reading.lines()]
    lines += [
        f"  unsure: {d.digit} ({d.confidence:.0%}), or {d.second} ({d.second_confidence:.0%}), at x={d.box[0]} y={d.box[1]}"
        for d in unsure
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
        for path in files:
            stem, number = path.stem, 1
            while stem in taken:  # two files of one name from different folders, or of two kinds
                number += 1
                stem = f"{path.stem}-{number}"
            taken.add(stem)
            try:
                result, reading = read_file(reader, path, options.out, stem, single=options.single)
            except UnreadableImageError as error:
                failed += 1
                print(error, file=sys.stderr)
                continue
            results.append(result)
            print(json.dumps(result) if options.json else words(path, reading), flush=True)
        write_json(options.out / "read.json", results)
    print(f"Wrote {2 * len(results)} pictures (NAME.read.png, NAME.inputs.png) and read.json to {options.out}.", file=said)
    return 1 if failed else 0


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m experiments.read", description=__doc__.split("\n")[0])
    parser.add_argument("files", nargs="*", type=Path, help="images: photographs, scans, screen shots")
    parser.add_argument("--single", action="store_true", help="each file holds one digit")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line for each file, nothing else")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help=".safetensors, .npz or the origin's .mat")
    parser.add_argument("--out", type=Path, default=Path("runs/read"), help="folder for pictures and read.json")
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
