"""Make pages of digits with exact truth, or measure the reader on them: `python -m experiments.pages --evaluate`.

The pages are made of MNIST's test digits (`--split test`); whoever tunes the reader uses `--split kept-out`, the last
5,000 training digits, which the net has not been trained on either. With `--fonts` they are made of the digits of fonts.
"""

import argparse
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from experiments import mnist
from experiments.conditions import CONDITIONS
from experiments.fonts import digits_of
from experiments.paper import DIFFICULTIES, Page, make_page
from experiments.read import WEIGHTS, load_reader
from experiments.reader.draw import annotated, save_png
from experiments.reader.find import Box, common_area
from experiments.reader.load import MAX_PIXELS, load
from experiments.reader.page import Reader
from experiments.reader.reading import Reading
from experiments.runs import RunError, check_positive, environment, folder_name, run_main, write_json, writing_to
from experiments.train_reader import KEPT_OUT
from tinygrad_lite._files import whole_file

MOST = 60  # digits on a page
QUALITY = 92  # of the JPEG files of --megapixels
KINDS = (*DIFFICULTIES, *CONDITIONS)  # their places seed them: new ones go to the end
COUNTS = ("pages", "digits", "found", "matched", "right", "pairs", "pairs_right", "rows", "rows_right")


def make_pages(
    images: NDArray[np.uint8],
    labels: NDArray[np.integer[Any]],
    total: int,
    seed: int,
    difficulties: tuple[str, ...],
    *,
    on_page: tuple[int, int] = (1, MOST),
    empty: bool = False,
) -> Iterator[Page]:
    """Yield pages with `total` digits in all, each used once while they last, the same number for every difficulty of KINDS.

    on_page: at least and at most so many digits on each; the last of a difficulty has what is left. empty: the digits are then
    left out.
    """
    least, most = on_page
    queue = np.random.default_rng(seed).permutation(len(images)).tolist()
    for number, difficulty in enumerate(difficulties):
        share = total // len(difficulties) + (number < total % len(difficulties))
        rng = np.random.default_rng((seed, KINDS.index(difficulty)))
        condition = CONDITIONS.get(difficulty)
        while share > 0:
            count = min(share, int(rng.integers(least, most + 1)))
            share -= count
            while len(queue) < count:
                queue += rng.permutation(len(images)).tolist()
            order = [queue.pop() for _ in range(count)]
            page = make_page(images, labels, order, "clean" if condition else difficulty, rng, empty=empty)
            yield replace(condition(page, rng), difficulty=difficulty) if condition else page


def photographed(page: Page, megapixels: float, path: Path) -> Page:
    """Write a page as a large JPEG file, as phones do, and return it in that size."""
    height, width = page.image.shape[:2]
    factor = (megapixels * 1e6 / (height * width)) ** 0.5
    size = max(1, int(width * factor)), max(1, int(height * factor))  # no larger, for the reader takes no more than MAX_PIXELS
    page = page.on(np.asarray(cv2.resize(page.image, size, interpolation=cv2.INTER_CUBIC), np.uint8))
    with whole_file(path) as file:
        file.write(cv2.imencode(".jpg", page.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes())
    return page


def overlap(a: Box, b: Box) -> float:
    """Return the area shared by two boxes over the area of both (IoU)."""
    both = common_area(a, b)
    return both / max(1, a[2] * a[3] + b[2] * b[3] - both)


def match(page: Page, reading: Reading, least: float = 0.5) -> dict[int, int]:
    """Pair what is written with what was found, best overlap first: index of the one to index of the other."""
    shares = [
        (overlap(written.box, found.box), i, j)
        for i, written in enumerate(page.digits)
        for j, found in enumerate(reading.digits)
    ]
    pairs: dict[int, int] = {}
    for share, i, j in sorted(shares, reverse=True):
        if share < least:
            break
        if i not in pairs and j not in pairs.values():
            pairs[i] = j
    return pairs


def count(page: Page, reading: Reading) -> dict[str, int]:
    """Count what was found and read right on a page. A digit is right when its box is found and its value is."""
    pairs = match(page, reading)
    right = {i for i, j in pairs.items() if page.digits[i].digit == reading.digits[j].digit}
    touching = [(i, d.partner) for i, d in enumerate(page.digits) if d.partner is not None and i < d.partner]
    rows = page.truth()["rows"]
    # In order: a row counts when it is read as a whole, and after the rows that came before it.
    lines, rows_right = reading.lines(), 0
    for row in rows:
        if row in lines:
            rows_right += 1
            lines = lines[lines.index(row) + 1 :]
    values = (1, len(page.digits), len(reading.digits), len(pairs), len(right), len(touching),
              sum(i in right and j in right for i, j in touching), len(rows), rows_right)  # fmt: skip
    return dict(zip(COUNTS, values, strict=True))


def figures(counts: dict[str, int]) -> dict[str, float | None]:
    """Turn counts into shares; None where there was nothing to count."""

    def share(part: str, whole: str) -> float | None:
        return round(counts[part] / counts[whole], 4) if counts[whole] else None

    return {
        "precision": share("matched", "found"),
        "recall": share("matched", "digits"),
        "digits_right": share("right", "digits"),
        "digits_right_on_right_boxes": share("right", "matched"),
        "pairs_right": share("pairs_right", "pairs"),
        "rows_right": share("rows_right", "rows"),
    }


def evaluate(
    reader: Reader, pages: Iterator[Page], wrong: Path, megapixels: float | None = None
) -> tuple[dict[str, dict[str, int]], dict[str, float]]:
    """Read pages, as photographs of so many megapixels if that is given.

    Returns
    -------
    Counts by difficulty and "all", and the seconds that each page took, decoding a photograph included. Pages with a mistake
    are drawn into the folder `wrong`.
    """
    table: dict[str, dict[str, int]] = {}
    seconds = {}
    with tempfile.TemporaryDirectory() as folder:
        photograph = Path(folder) / "page.jpg"
        for number, page in enumerate(pages):
            if megapixels is not None:
                photographed(page, megapixels, photograph)
            start = time.perf_counter()
            seen = page if megapixels is None else page.on(load(photograph)[0])
            reading = reader.read(seen.image)
            seconds[f"{page.difficulty}-{number}"] = time.perf_counter() - start
            counted = count(seen, reading)
            for name in (page.difficulty, "all"):
                row = table.setdefault(name, dict.fromkeys(COUNTS, 0))
                for key, value in counted.items():
                    row[key] += value
            if counted["right"] < counted["digits"] or counted["found"] > counted["matched"]:
                save_png(wrong / f"{page.difficulty}-{number}.png", annotated(seen.image, reading))
    if "all" in table:
        table["all"] = table.pop("all")  # last
    return table, seconds


def table_of(table: dict[str, dict[str, int]]) -> str:
    """Lay the figures out for reading."""
    lines = [f"{'':10} {'digits':>6} {'precision':>9} {'recall':>7} {'right':>7} {'pairs':>13} {'whole rows':>13}"]
    for name, counts in table.items():
        shares = {key: f"{value:.1%}" if value is not None else "-" for key, value in figures(counts).items()}
        pairs = f"{counts['pairs_right']}/{counts['pairs']} {shares['pairs_right']}" if counts["pairs"] else "-"
        rows = f"{counts['rows_right']}/{counts['rows']} {shares['rows_right']}"
        lines.append(
            f"{name:10} {counts['digits']:6} {shares['precision']:>9} {shares['recall']:>7} "
            f"{shares['digits_right']:>7} {pairs:>13} {rows:>13}"
        )
    return "\n".join(lines)


def run(options: argparse.Namespace) -> None:
    """Make the pages; write them, or read them and write how well."""
    check_positive(options, "digits", "megapixels")
    least, most = options.on_page
    if not 1 <= least <= most:
        raise RunError(f"--on-page: must be two numbers, at least 1 and no less than that, got {least} {most}.")
    if options.megapixels is not None and options.megapixels > MAX_PIXELS / 1e6:
        raise RunError(f"--megapixels: must be at most {MAX_PIXELS / 1e6:g}, which is what the reader takes.")
    if options.dry_run:
        options.digits = 4 * len(options.difficulty)
    cv2.setNumThreads(2)
    if options.fonts:
        digits = digits_of(options.fonts)
    else:
        training, test = mnist.load()
        digits = test if options.split == "test" else mnist.Digits(*(a[-KEPT_OUT:] for a in training))
    pages = make_pages(
        *digits, options.digits, options.seed, tuple(options.difficulty), on_page=(least, most), empty=options.empty
    )
    reader = load_reader(options.weights) if options.evaluate else None  # before anything of an earlier run goes
    with writing_to(options.out):
        if reader is not None:
            _evaluate(options, reader, pages)
            return
        truth = []
        for number, page in enumerate(pages):
            name = f"{page.difficulty}-{number}.{'png' if options.megapixels is None else 'jpg'}"
            if options.megapixels is None:
                save_png(options.out / name, page.image)
            else:
                page = photographed(page, options.megapixels, options.out / name)
            truth.append({"file": name, **page.truth()})
        write_json(options.out / "truth.json", truth)
        for old in pictures(options.out) - {options.out / entry["file"] for entry in truth}:
            old.unlink()  # a page of an earlier run, whose truth is gone
    print(f"Wrote {len(truth)} pages and truth.json to {options.out}.")


def pictures(folder: Path) -> set[Path]:
    """Give the files of a folder that have names as the pages have them; all others are the user's."""
    own = re.compile(rf"({'|'.join(KINDS)})-(0|[1-9][0-9]*)\.(png|jpg)")
    return {path for path in folder.iterdir() if own.fullmatch(path.name)}


def _evaluate(options: argparse.Namespace, reader: Reader, pages: Iterator[Page]) -> None:
    wrong = options.out / "wrong"
    wrong.mkdir(exist_ok=True)
    for old in pictures(wrong):
        old.unlink()
    table, seconds = evaluate(reader, pages, wrong, options.megapixels)
    slowest = max(seconds, key=seconds.__getitem__)
    print(table_of(table))
    print(f"A page took {np.median([*seconds.values()]):.2f} seconds, the median; {slowest} took most, {seconds[slowest]:.2f}.")
    settings = vars(options) | {name: str(getattr(options, name)) for name in ("weights", "out")}
    settings["fonts"] = [file.name for file in options.fonts]
    result = {name: {**figures(counts), "counts": counts} for name, counts in table.items()}
    write_json(
        options.out / "pages.json", {"settings": settings, "result": result, "seconds": seconds, "environment": environment()}
    )
    print(
        f"Wrote pages.json, and the {len(pictures(wrong))} of {len(seconds)} pages with a mistake in wrong/, to {options.out}."
    )


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.pages",
        description=__doc__.split("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--evaluate", action="store_true", help="read the pages and print how well")
    parser.add_argument("--digits", type=int, default=1_000, help="in all")
    parser.add_argument(
        "--difficulty", choices=KINDS, nargs="+", default=list(DIFFICULTIES), metavar="KIND",
        help=f"kinds of pages: {', '.join(KINDS)}; the last {len(CONDITIONS)} only where they are named"
    )  # fmt: skip
    parser.add_argument(
        "--on-page", type=int, nargs=2, default=(1, MOST), metavar=("LEAST", "MOST"), help="digits on each page"
    )
    parser.add_argument("--empty", action="store_true", help="leave the digits out: whatever is read then is a mistake")
    parser.add_argument("--megapixels", type=float, help="write and read the pages as JPEG files enlarged to that")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--split", choices=("test", "kept-out"), default="test", help="which digits of MNIST")
    source.add_argument(
        "--fonts", type=Path, nargs="+", default=[], metavar="FILE", help="the digits of these instead, .ttf or .otf"
    )
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="of LeNet")
    parser.add_argument("--out", type=folder_name, default=Path("runs/pages"), help="for pages.json and pages with mistakes")
    parser.add_argument("--seed", type=int, default=0, help="of the pages")
    parser.add_argument("--dry-run", action="store_true", help="four digits of each difficulty: seconds")
    return run_main("pages", run, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
