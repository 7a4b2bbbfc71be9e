"""One self-contained HTML page about a run: `python -m experiments.report runs/quick-seed0-1`."""

import argparse
import base64
import io
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image

from experiments import confusion, feature_maps, mnist
from experiments.outputs import Outputs
from experiments.reader.load import LONG_SIDE, load, opened
from experiments.recipes import changed
from experiments.runs import RunError, environment, folder_name, read_result, run_main
from experiments.train import load_data
from experiments.written import configuration, readings_in
from models.load import load_lenet

WIDEST = LONG_SIDE  # pixels of an embedded photograph's longer side
IMAGES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"}

STYLE = """
:root { color-scheme: light; --ink: #1c2430; --soft: #5b6675; --line: #dfe4ea; --accent: #1f6fb2; }
* { box-sizing: border-box; }
body { margin: 0; background: #f5f7f9; color: var(--ink); font: 16px/1.55 system-ui, "DejaVu Sans", sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 20px 16px 60px; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 12px 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 0 0 8px; }
h3 { font-size: 1rem; margin: 22px 0 6px; }
p { margin: 6px 0 10px; max-width: 80ch; }
.soft { color: var(--soft); }
section { background: white; border: 1px solid var(--line); border-radius: 10px; padding: 18px; margin-top: 18px; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 10px; margin-top: 16px; }
.fact { background: white; border: 1px solid var(--line); border-radius: 10px; padding: 12px 14px; }
.fact b { display: block; font-size: 1.5rem; line-height: 1.2; color: var(--accent); }
.fact span { font-size: .85rem; color: var(--soft); }
.wide { overflow-x: auto; -webkit-overflow-scrolling: touch; }
.wide img { display: block; width: 100%; min-width: 900px; }
.photo img { display: block; max-width: 100%; height: auto; margin: 6px 0; border: 1px solid var(--line); border-radius: 6px; }
table { border-collapse: collapse; font-size: .92rem; }
th, td { text-align: left; padding: 4px 14px 4px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
code { font-size: .9em; overflow-wrap: anywhere; }
pre { background: #f5f7f9; border-radius: 6px; padding: 10px 12px; margin: 6px 0; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; }
.swipe { display: none; }
@media (max-width: 960px) { .swipe { display: block; font-size: .85rem; color: var(--soft); margin: 0 0 4px; } }
"""


def picture(path: Path, words: str) -> str:
    """Give an <img> that carries its file; large ones, turned ones and what browsers do not show become JPEG.

    Raises
    ------
    UnreadableImageError : the file is no whole image.
    """
    with opened(path) as image:
        kind = (image.format or "").lower()
        upright = image.getexif().get(ExifTags.Base.Orientation, 1) == 1  # not all browsers turn all kinds
        as_it_is = upright and max(image.size) <= WIDEST and kind in ("png", "jpeg", "gif", "webp")
        if as_it_is:
            image.load()  # to see that it is whole
    if as_it_is:
        data = path.read_bytes()
    else:
        buffer = io.BytesIO()
        Image.fromarray(load(path)[0]).save(buffer, "JPEG", quality=88)
        kind, data = "jpeg", buffer.getvalue()
    return f'<img alt="{escape(words)}" src="data:image/{kind};base64,{base64.b64encode(data).decode()}">'


def wide(path: Path, words: str) -> str:
    """Give a picture that keeps its text readable: where the page is narrow it is moved sideways."""
    return f'<p class="swipe">Swipe the picture sideways.</p><div class="wide">{picture(path, words)}</div>'


def table(rows: list[tuple[Any, ...]], head: tuple[str, ...] = ()) -> str:
    """Give a table; below a head, numbers stand to the right."""
    cells = "".join(f"<th>{escape(name)}</th>" for name in head)
    lines = [f"<tr>{cells}</tr>"] if head else []
    for row in rows:
        kinds = [' class="number"' if head and (isinstance(cell, int) or str(cell).endswith("%")) else "" for cell in row]
        lines.append("<tr>" + "".join(f"<td{k}>{escape(_text(c))}</td>" for k, c in zip(kinds, row, strict=True)) + "</tr>")
    return f"<div class='wide'><table>{''.join(lines)}</table></div>"


def _text(cell: Any) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    return f"{cell:,}" if isinstance(cell, int) else f"{cell:g}" if isinstance(cell, float) else str(cell)


def section(title: str, *parts: str) -> str:
    """Give a section with its heading."""
    return f"<section><h2>{escape(title)}</h2>{''.join(parts)}</section>"


def paragraph(text: str, kind: str = "") -> str:
    """Give a paragraph of plain text."""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def photographs(paths: list[Path]) -> str:
    """Give the photographs' section: files as they are; of a folder that experiments.read wrote its pictures and its rows."""
    parts = []
    for path in paths:
        if path.is_dir():
            readings = path / "read.json"
            if readings.is_file():
                rows = [
                    (Path(one["file"]).name, "\n".join(one["rows"]) or "no digits", len(one["digits"]))
                    for one in readings_in(readings)
                ]
                parts.append(table(rows, ("file", "read as", "digits")))
            files = [file for file in path.iterdir() if file.suffix.lower() in IMAGES]
            files.sort(
                key=lambda file: (file.name.removesuffix(".inputs.png").removesuffix(".read.png"), ".inputs" in file.name)
            )
            if not files and not readings.is_file():
                raise RunError(f"--photos: {path} holds neither read.json nor images.")
        elif path.exists():
            files = [path]
        else:
            raise RunError(f"--photos: there is no {path}.")
        parts += [f"<h3>{escape(file.name)}</h3><div class='photo'>{picture(file, file.name)}</div>" for file in files]
    return section("Photographs", *parts)


def page(folder: Path, files: Outputs, options: argparse.Namespace) -> str:
    """Analyse the run in `folder`, write the pictures, and give the page."""
    config, weights = configuration(folder), folder / "model.safetensors"
    result = read_result(folder)
    trained = result and [(f"{result['step']:,}", "steps of training"), (f"{result['seconds']:,.0f} s", "training time")]
    if not weights.exists():
        why = (
            "was it taken away?"
            if trained
            else f"the run has not finished, and `python -m experiments.train --resume {folder}` goes on with it."
        )
        raise RunError(f"there is no {weights}; {why}")
    model = load_lenet(weights)
    photos = [photographs([Path(p) for p in options.photos])] if options.photos else []  # first: their files may be damaged
    train, test = load_data(config.get("data_dir"), config.get("validate"))
    used = train.take(config.get("train_size"))
    index = int(np.random.default_rng(options.seed).integers(len(test.labels)))
    shown, name = (
        test.images[index],
        f"{'held-out' if config.get('validate') else 'test'} digit {index}, a {test.labels[index]}",
    )
    if options.dry_run:
        chosen = np.random.default_rng(options.seed).permutation(len(test.labels))[:200]
        used, test = used.take(500), mnist.Digits(test.images[chosen], test.labels[chosen])
    maps = feature_maps.write(files, model, shown, name)  # first: it refuses weights so large that nothing is finite
    found = confusion.write(files, model, used, test, with_reasons=False)

    overall, calibration = found["overall"], found["reliability"]
    what = "held-out training digits" if config.get("validate") else "test digits"
    facts = [
        (f"{overall['accuracy']:.2%}", f"of {overall['count']:,} {what} right"),
        (f"{overall['low']:.2%} - {overall['high']:.2%}", "95 % interval (Wilson)"),
        (f"{calibration['expected_calibration_error']:.2%}", "expected calibration error"),
        (f"{model.parameter_count():,}", "parameters"),
    ]
    facts += trained or []
    recipe = config.get("recipe", "unknown")
    title = f"LeNet, recipe {recipe}, seed {config.get('seed')}"
    about = str(config.get("about", ""))
    if changes := changed(config):
        about += f" (changed: {', '.join(f'{name} = {value}' for name, value in changes.items())})"
    note = "" if trained else "This run has not finished: it has no result.json."
    if options.dry_run:
        note += " A dry run: figures of a few digits only, to see that everything works."
    curves = folder / "curves.png"
    parts = [
        f"<h1>{escape(title)}</h1>",
        paragraph(f"{about}. {note}".strip(". "), "soft"),
        "<div class='facts'>"
        + "".join(f"<div class='fact'><b>{escape(a)}</b><span>{escape(b)}</span></div>" for a, b in facts),
        "</div>",
        section(
            "Learning curves",
            wide(curves, "loss and accuracy over the steps") if curves.exists() else paragraph("This run has no curves.png."),
        ),
        section(
            "Which digits are confused",
            paragraph(f"{overall['count'] - overall['right']:,} of {overall['count']:,} {what} were read wrongly."),
            wide(files.written("confusion.png"), "confusion matrix in counts and in per cent of each row"),
            *[_pair(i, pair, files) for i, pair in enumerate(found["pairs"], 1)],
        ),
        section(
            "How sure, and how right",
            wide(files.written("calibration.png"), "accuracy by class, and accuracy over confidence"),
            table(
                [
                    (one["digit"], one["count"], one["right"], *(f"{one[key]:.2%}" for key in ("accuracy", "low", "high")))
                    for one in found["by_class"]
                    if one["count"]
                ],
                ("digit", "images", "right", "accuracy", "from", "to (95 %)"),
            ),
        ),
        section(
            "What the convolutions see",
            paragraph(f"{name}: {maps['answer']}."),
            wide(files.written("feature_maps_1.png"), "filters and maps of the first convolution and its ReLU"),
            wide(files.written("feature_maps_2.png"), "filters and maps of the second convolution and its ReLU"),
        ),
    ]
    parts += photos
    settings = [(k, v) for k, v in config.items() if k not in ("environment", "about", "recipe", "seed")]
    parts += [
        section("Recipe", table([(key.replace("_", " "), value) for key, value in settings])),
        section(
            "Versions and commands",
            *_made_by("Trained by", config.get("environment", {})),
            *_made_by("This page by", environment()),
        ),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body><main>\n"
        + "\n".join(parts)
        + "\n</main></body></html>\n"
    )


def _pair(number: int, pair: dict[str, Any], files: Outputs) -> str:
    a, b = pair["pair"]
    words = "".join(paragraph(text) for text in pair["reason"].split("\n"))
    return f"<h3>{a} and {b}</h3>{words}" + wide(files.written(f"pair-{number}.png"), f"digits {a} and {b} that were confused")


def _made_by(title: str, made: dict[str, Any]) -> list[str]:
    packages = [(name, version) for name, version in made.get("packages", {}).items()]
    rows = [("commit", made.get("commit")), ("Python", made.get("python")), *packages]
    rows += [("BLAS", made.get("blas")), ("machine", made.get("machine"))]
    return [f"<h3>{title}</h3><pre>{escape(str(made.get('command')))}</pre>", table(rows)]


def run(options: argparse.Namespace) -> None:
    """Write the page and its pictures."""
    folder = Path(options.run)
    configuration(folder)  # before anything is made
    with Outputs(options.out if options.out is not None else folder, "report") as files:
        html = page(folder, files, options)
        # Names of files may hold what is no UTF-8, and JSON too.
        files.path("report.html").write_text(html, encoding="utf-8", errors="backslashreplace")


def main(argv: list[str] | None = None) -> int:
    """Command line; gives the exit code."""
    options = argparse.ArgumentParser(
        prog="python -m experiments.report",
        description="Write one self-contained HTML page about a run: curves, confusion, feature maps, photographs, versions.",
    )
    options.add_argument("run", help="the folder that experiments.train wrote")
    options.add_argument(
        "--photos", nargs="+", metavar="PATH", help="folders that experiments.read wrote, or image files, to show on the page"
    )
    options.add_argument(
        "--out", type=folder_name, metavar="FOLDER", help="folder for report.html and its pictures (default: the run's own)"
    )
    options.add_argument("--seed", type=int, default=0, help="draws the digit whose feature maps are shown (default: 0)")
    options.add_argument("--dry-run", action="store_true", help="figures of a few digits only: seconds")
    return run_main("report", run, options.parse_args(argv))


if __name__ == "__main__":
    raise SystemExit(main())
