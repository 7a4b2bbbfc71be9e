"""Pages of digits with exact truth: digits of MNIST laid on paper and photographed, every step seeded.

What `experiments.pages` measures the reader on. Nothing here is used in training.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from experiments.augment import bend, touch

Floats = NDArray[np.float32]
DIFFICULTIES = ("clean", "light", "shadow", "rules", "slant", "touching", "rough", "dark", "small", "inks", "mixed")
GLYPH = 80.0  # height of a MNIST digit as `bend` draws it, pixels


@dataclass
class Digit:
    """One digit of a page: its box (x, y, w, h) in pixels, its value, and its touching partner's index, if any."""

    box: tuple[int, int, int, int]
    digit: int
    partner: int | None = None


@dataclass
class Page:
    """A picture, (h, w, 3) uint8 RGB, and what is written on it: rows from the top, each from the left."""

    image: NDArray[np.uint8]
    difficulty: str
    rows: list[list[int]] = field(default_factory=list)  # indices into digits
    digits: list[Digit] = field(default_factory=list)

    def truth(self) -> dict[str, Any]:
        """Return what is written, as JSON takes it, in the form of `experiments.read --json`."""
        return {
            "difficulty": self.difficulty,
            "rows": ["".join(str(self.digits[i].digit) for i in row) for row in self.rows],
            "digits": [{"box": list(d.box), "digit": d.digit, "partner": d.partner} for d in self.digits],
        }

    def on(self, image: NDArray[np.uint8]) -> "Page":
        """Return the same page on a larger or smaller picture of it."""
        height, width = (new / old for new, old in zip(image.shape[:2], self.image.shape[:2], strict=True))
        scale = np.array([width, height, width, height])
        boxes = [tuple(np.round(d.box * scale).astype(int).tolist()) for d in self.digits]
        return replace(self, image=image, digits=[replace(d, box=box) for d, box in zip(self.digits, boxes, strict=True)])


def make_page(
    images: NDArray[np.uint8],
    labels: NDArray[np.integer[Any]],
    order: list[int],
    difficulty: str,
    rng: np.random.Generator,
    *,
    empty: bool = False,
) -> Page:
    """Lay the digits `order` (indices into images) on one page.

    Parameters
    ----------
    images : uint8, (n, 28, 28)
    labels : integers, (n,)
    order : list of int
        What is written, in reading order; rows are broken at random.
    difficulty : str
        One of DIFFICULTIES; "mixed" has a bit of everything.
    empty : bool
        Leave all digits out again: the same sheet in the same light, with nothing written on it.

    Returns
    -------
    Page
    """
    has = {name: difficulty == name or (difficulty == "mixed" and rng.random() < 0.5) for name in DIFFICULTIES}
    size = float(rng.uniform(20, 32) if difficulty == "small" else rng.uniform(34, 110))
    per_row = int(rng.integers(4, 11))
    gap = rng.uniform(0.25, 0.9)  # between digits, in digit heights
    leading = rng.uniform(1.5, 2.2)  # between rows
    pen = float(rng.uniform(-0.6, 1.2))
    columns = min(per_row, len(order))
    lines = -(-len(order) // per_row)
    margin = rng.uniform(0.7, 2.5) * size
    width = int(columns * size * (0.85 + gap) + 2 * margin)
    height = int(lines * size * leading + 2 * margin)
    if rng.random() < 0.4:  # a large sheet with little on it
        width, height = int(width * rng.uniform(1, 2)), int(height * rng.uniform(1, 2))
    width, height = max(width, int(6 * size)), max(height, int(4 * size))
    ground = _ground(width, height, tilt=0.14 if has["slant"] else 0.025, rng=rng)
    # The ink layers, 0..1, and the truth. A second pen or pencil writes some of the rows.
    inks = np.zeros((1 + has["inks"], height, width), np.float32)
    page = Page(np.zeros((0, 0, 3), np.uint8), difficulty)
    top = (height - (lines - 1) * size * leading) / 2
    hand = rng.normal(0, 0.12 + 0.15 * has["slant"])  # the writer's own lean
    queue = list(order)
    for line in range(lines):
        ink = inks[int(rng.integers(2)) if has["inks"] else 0]
        row: list[int] = []
        x = margin + rng.uniform(0, 0.5) * size
        y = top + line * size * leading
        touching = False
        previous: Floats | None = None
        last_x = last_scale = 0.0  # of previous
        for index in queue[:per_row]:
            glyph = bend(images[index].astype(np.float32) / 255, rng, strength=0.25, width=pen + rng.normal(0, 0.1))
            if has["rough"]:
                glyph = _worn(glyph, rng)
            scale = size / GLYPH * float(np.exp(rng.normal(0, 0.07)))
            if touching and previous is not None:
                scale = last_scale
                x = last_x + touch(previous, glyph, rng, overlap=rng.uniform(0, 4))[1] * scale
            box = _lay(ink, glyph, scale, (x, y + rng.normal(0, 0.04) * size * (not touching)), hand, ground)
            if box is None:
                continue
            columns_inked = np.flatnonzero(glyph.max(0) > 0.5)
            row.append(len(page.digits))
            page.digits.append(Digit(box, int(labels[index]), len(page.digits) - 1 if touching else None))
            if touching:
                page.digits[-2].partner = len(page.digits) - 1
            last_x, last_scale, previous = x, scale, glyph
            span = (columns_inked[-1] - columns_inked[0]) * scale
            can_touch = (has["touching"] and rng.random() < 0.7) and not touching
            touching = can_touch
            x += span + gap * size * float(np.exp(rng.normal(0, 0.15)))
        queue = queue[per_row:]
        page.rows.append(row)
    if empty:
        inks[:], page.rows, page.digits = 0, [], []
    page.image = _photograph(inks, ground, size, has, rng)
    return page


def _ground(width: int, height: int, *, tilt: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the 3x3 homography from the sheet to the picture: a camera held a little askew, and a turned sheet."""
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    middle = corners.mean(0)
    turn = rng.uniform(-tilt, tilt)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    seen = (corners - middle) @ rotation.T
    seen *= min(1.0, 0.98 / max(np.abs(seen / middle).max(), 1e-6))  # still inside the picture
    askew = seen + middle + rng.uniform(-0.25, 0.25, (4, 2)) * tilt * np.array([width, height])
    return np.asarray(cv2.getPerspectiveTransform(corners, askew.astype(np.float32)), np.float64)


def _lay(
    ink: Floats, glyph: Floats, scale: float, at: tuple[float, float], lean: float, ground: NDArray[np.float64]
) -> tuple[int, int, int, int] | None:
    """Put one glyph on the ink layer, its left edge at x and its middle at y of the sheet; return its box."""
    columns = np.flatnonzero(glyph.max(0) > 0.5)
    if not columns.size:
        return None
    middle = glyph.shape[0] / 2
    # glyph -> sheet: scaled, leaned about its middle; sheet -> picture: the homography, straight enough over one digit
    left = at[0] + (lean * middle - columns[0]) * scale
    sheet = np.array([[scale, -lean * scale, left], [0, scale, at[1] - middle * scale], [0, 0, 1]])
    both = ground @ sheet
    points = np.array([[0, 0], [glyph.shape[1], 0], [0, glyph.shape[0]]], np.float32)
    moved = cv2.perspectiveTransform(points[None], both)[0]
    affine = cv2.getAffineTransform(points, moved)
    low = np.floor(moved.min(0)).astype(int) - 40
    affine[:, 2] -= low
    extent = np.ceil(moved.max(0)).astype(int) - low + 80
    source = cv2.GaussianBlur(glyph, (0, 0), 0.4 / scale) if scale < 1 else glyph
    patch = cv2.warpAffine(source, affine, tuple(int(n) for n in extent), flags=cv2.INTER_LINEAR)
    seen = (patch > 0.35).astype(np.uint8)
    x, y, w, h = cv2.boundingRect(seen)
    x0, y0 = x + low[0], y + low[1]
    if not w or x0 < 1 or y0 < 1 or x0 + w >= ink.shape[1] - 1 or y0 + h >= ink.shape[0] - 1:
        return None
    top, left = max(0, -low[1]), max(0, -low[0])
    part = ink[max(0, low[1]) : low[1] + extent[1], max(0, low[0]) : low[0] + extent[0]]
    np.maximum(part, patch[top : top + part.shape[0], left : left + part.shape[1]], out=part)
    return int(x0), int(y0), int(w), int(h)


def _worn(glyph: Floats, rng: np.random.Generator) -> Floats:
    """Let the pen come and go along the stroke, as pencils do."""
    cells = int(rng.integers(6, 20))
    tone = rng.uniform(rng.uniform(0.35, 0.8), 1, (cells, cells)).astype(np.float32)
    tone = cv2.resize(tone, glyph.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(glyph * tone, np.float32)


def _photograph(
    inks: Floats, ground: NDArray[np.float64], size: float, has: dict[str, bool], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Colour the paper and the ink, draw rules and specks, light it, blur it, and store it as a JPEG would.

    inks, (pens, h, w): the second pen is fainter than the first, down to a third.
    """
    height, width = inks.shape[1:]
    dark = has["dark"]
    grey = rng.uniform(0.05, 0.3) if dark else rng.uniform(0.7, 0.97)
    paper = np.clip(grey + rng.normal(0, 0.03 if rng.random() < 0.7 else 0.12, 3), 0.02, 1).astype(np.float32)
    contrast = rng.uniform(0.3, 0.5) if has["rough"] else rng.uniform(0.5, 0.95)
    colour = _pen(paper, contrast, dark, rng)
    colours = [colour] + [_pen(paper, contrast * rng.uniform(1 / 3, 1), dark, rng) for _ in inks[1:]]
    sheet = np.broadcast_to(paper, (height, width, 3)).copy()
    coarse = rng.normal(0, 1, (max(2, height // 24), max(2, width // 24))).astype(np.float32)
    sheet *= 1 + rng.uniform(0, 0.02) * cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)[..., None]
    if has["rules"]:
        _rule(sheet, ground, size, paper, rng)
    for _ in range(int(rng.integers(0, 10 if has["rough"] or has["touching"] else 3))):  # specks
        spot = (int(rng.integers(width)), int(rng.integers(height)))
        cv2.circle(sheet, spot, max(1, round(size * rng.uniform(0.01, 0.035))), colour.tolist(), -1, cv2.LINE_AA)
    for colour, ink in zip(colours, inks, strict=True):
        sheet += (colour - sheet) * ink[..., None]
    if has["shadow"] and rng.random() < 0.3:  # the sheet lies on a table, and the table is in the picture
        _table(sheet, inks.max(axis=0), rng)
    sheet *= _light(width, height, has, rng)[..., None]
    image = cv2.GaussianBlur(sheet, (0, 0), max(0.3, size * rng.uniform(0.004, 0.02)))
    noise = rng.uniform(0.01, 0.045) if has["rough"] else rng.uniform(0.0, 0.02)
    grain = rng.standard_normal((height, width, 3)).astype(np.float32)
    image = image + noise * (0.6 * grain + 0.8 * grain[..., :1])
    picture = np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)
    quality = int(rng.integers(35, 70) if has["rough"] else rng.integers(70, 97))
    return stored(picture, quality)


def stored(picture: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """Return a picture, (h, w, 3) RGB, as it comes back from a JPEG of this quality, 1 to 100."""
    _, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1], np.uint8)


def _pen(paper: Floats, contrast: float, dark: bool, rng: np.random.Generator) -> Floats:
    """Give a colour, (3,), that stands out so far from the paper: chalk's on a dark one."""
    if dark:
        return np.asarray(paper + (1 - paper) * np.float32(contrast), np.float32)
    hues = np.array([[0.1, 0.1, 0.1], [0.1, 0.15, 0.55], [0.6, 0.1, 0.1], [0.25, 0.25, 0.27]], np.float32)
    return np.asarray(paper * (1 - np.float32(contrast) * (1 - hues[rng.integers(len(hues))])), np.float32)


def _rule(sheet: Floats, ground: NDArray[np.float64], size: float, paper: Floats, rng: np.random.Generator) -> None:
    """Rule the sheet: lines, squares, a margin, or a frame."""
    height, width = sheet.shape[:2]
    strength = rng.uniform(0.12, 0.5)
    blue = paper * (1 - np.float32(strength) * np.array([1.0, 0.75, 0.35], np.float32))
    grey = paper * np.float32(1 - strength)
    colour = (blue if rng.random() < 0.6 else grey).tolist()
    thick = max(1, round(size * rng.uniform(0.015, 0.04)))
    step = size * rng.uniform(0.45, 1.6)
    kind = rng.choice(["lines", "squares", "frame"], p=[0.5, 0.35, 0.15])
    lines = []
    if kind == "frame":
        inset = 0.25 * size
        a, b, c, d = (inset, inset), (width - inset, inset), (width - inset, height - inset), (inset, height - inset)
        lines = [(a, b), (b, c), (c, d), (d, a)]
    else:
        lines = [((-width, y), (2 * width, y)) for y in np.arange(rng.uniform(0, step), height, step)]
        if kind == "squares":
            lines += [((x, -height), (x, 2 * height)) for x in np.arange(rng.uniform(0, step), width, step)]
        elif rng.random() < 0.5:
            x = rng.uniform(0.02, 0.08) * width
            lines.append(((x, -height), (x, 2 * height)))
    for line in lines:
        ends = cv2.perspectiveTransform(np.array([line], np.float32), ground)[0]
        a, b = (np.round(np.clip(end, -20_000, 20_000) * 16).astype(int).tolist() for end in ends)
        cv2.line(sheet, a, b, colour, thick, cv2.LINE_AA, shift=4)


def _table(sheet: Floats, ink: Floats, rng: np.random.Generator) -> None:
    """Cover a strip along one side of the picture, clear of the ink, with the table's colour."""
    rows, columns = np.flatnonzero(ink.max(1) > 0.1), np.flatnonzero(ink.max(0) > 0.1)
    colour = rng.uniform(0.1, 0.6, 3).astype(np.float32)
    if not rows.size:
        return
    height, width = ink.shape
    if rng.random() < 0.5:
        edge = int(rng.uniform(0.2, 0.7) * rows[0])
        corners = [(0, 0), (width, 0), (width, int(edge * rng.uniform(0.7, 1))), (0, edge)]
    else:
        edge = int(rng.uniform(0.2, 0.7) * columns[0])
        corners = [(0, 0), (edge, 0), (int(edge * rng.uniform(0.7, 1)), height), (0, height)]
    cv2.fillPoly(sheet, [np.array(corners, np.int32)], colour.tolist(), cv2.LINE_AA)


def _light(width: int, height: int, has: dict[str, bool], rng: np.random.Generator) -> Floats:
    """Return the brightness over the picture: a gradient, a corner that falls off, the shadow of a hand or phone."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    x, y = x / width - 0.5, y / height - 0.5
    angle, strong = rng.uniform(0, 2 * np.pi), has["light"] or has["shadow"]
    fall = rng.uniform(0.3, 0.75) if strong else rng.uniform(0, 0.25)
    light = 1 - fall * np.clip(0.5 + x * np.cos(angle) + y * np.sin(angle), 0, 1)
    if strong and rng.random() < 0.5:
        light -= rng.uniform(0, 0.5) * (x**2 + y**2)
    if has["shadow"]:
        shade = np.zeros((height, width), np.float32)
        for _ in range(int(rng.integers(1, 3))):
            angle, offset = rng.uniform(0, 2 * np.pi), rng.uniform(-0.3, 0.3)
            edge = x * np.cos(angle) + y * np.sin(angle) - offset + rng.uniform(0, 0.06) * np.sin(x * rng.uniform(3, 12))
            softness = np.exp(rng.uniform(np.log(0.001), np.log(0.08)))
            shade = np.maximum(shade, 1 / (1 + np.exp(np.clip(-edge / softness, -30, 30))))
        light *= 1 - rng.uniform(0.3, 0.65) * shade
    return np.asarray(np.clip(light, 0.08, 1), np.float32)
