"""Training examples for the net that finds ink (`models/ink.py`): scraps of photographed pages, and where the ink is.

Every scrap is written with digits of MNIST's training set or of templates, on paper of any colour, ruled, stained, on a
table, in light and shadow, and photographed. What is no digit's stroke is no ink: rules, stains, edges, grain.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from experiments.augment import Ink, Picker, touch

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

SIDE = 128  # pixels of a scrap
HIGH = 80  # pixels that a digit is high as a Picker draws it
HEIGHTS = (16.0, 130.0)  # of the digits on a scrap, pixels
GLYPHS = 0.5  # digits drawn for each scrap; they are used again, each time of another size and slant
_Y, _X = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32) - np.float32(SIDE / 2)  # from the middle


def scraps(pick: Picker, count: int, rng: np.random.Generator) -> tuple[Bytes, Bytes]:
    """Make training examples.

    Returns
    -------
    (uint8 (count, SIDE, SIDE, 3), uint8 (count, SIDE, SIDE))
        Pictures, RGB, and how much of each pixel is ink, 255 being all of it.
    """
    glyphs = [pick(rng)[0] for _ in range(max(20, round(GLYPHS * count)))]
    pictures, truths = np.zeros((count, SIDE, SIDE, 3), np.uint8), np.zeros((count, SIDE, SIDE), np.uint8)
    for picture, truth in zip(pictures, truths, strict=True):
        ink = written(glyphs, rng)
        picture[...], visible = photographed(ink, rng)
        truth[...] = np.round(visible * 255)
    return pictures, truths


def written(glyphs: list[Ink], rng: np.random.Generator) -> Floats:
    """Write rows of digits, of one hand: how much of each pixel is ink, (SIDE, SIDE) in [0, 1]."""
    ink = np.zeros((SIDE, SIDE), np.float32)
    if rng.random() < 0.06:  # an empty one
        return ink
    high = float(np.exp(rng.uniform(*np.log(HEIGHTS))))
    turn, lean = rng.normal(0, 0.08), rng.normal(0, 0.2)
    turned = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    leading, gap, touching = rng.uniform(1.2, 2.4), rng.uniform(0.08, 0.8), rng.random() < 0.35
    across, down = rng.uniform(-1, 1, 2) * high
    for row in np.arange(-SIDE, SIDE, high * leading):
        x = -SIDE + rng.uniform(0, high)
        while x < SIDE:
            glyph = glyphs[rng.integers(len(glyphs))]
            if touching and rng.random() < 0.5:
                glyph, _ = touch(glyph, glyphs[rng.integers(len(glyphs))], rng)
            scale = high / HIGH * np.exp(rng.normal(0, 0.08))
            at = turned @ (x + across, row + down + rng.normal(0, 0.05) * high) + SIDE / 2
            if (np.abs(at - SIDE / 2) < SIDE / 2 + 0.9 * high).all():
                place = turned @ np.array([[1, -lean], [0, 1]]) * scale
                place = np.column_stack([place, at - place @ np.array(glyph.shape[::-1]) / 2])
                smooth = cv2.GaussianBlur(glyph, (0, 0), 0.4 / scale) if scale < 0.6 else glyph
                np.maximum(ink, cv2.warpAffine(smooth, place, (SIDE, SIDE), flags=cv2.INTER_LINEAR), out=ink)
            inked = np.flatnonzero(glyph.max(0) > 0.5)
            x += (np.ptp(inked) * scale if inked.size else high) + high * gap * rng.uniform(0.3, 1)
            x += rng.uniform(0.5, 3) * high * (rng.random() < 0.12)  # a wider gap here and there
    return np.clip(ink, 0, 1)


def photographed(ink: Floats, rng: np.random.Generator) -> tuple[Bytes, Floats]:
    """Put ink on paper and take a picture, uint8 (SIDE, SIDE, 3), RGB; say which of the ink is on it, (SIDE, SIDE)."""
    paper, pen = _colours(rng)
    sheet = np.broadcast_to(paper, (SIDE, SIDE, 3)).copy()
    for cells in (6, 24, 64):
        sheet *= 1 + rng.uniform(0, 0.035) * _uneven(cells, rng)[..., None]
    for chance in (0.55, 0.06):
        if rng.random() < chance:
            _rule(sheet, paper, rng)
    if rng.random() < 0.35:
        for _ in range(int(rng.integers(1, 12))):  # specks
            colour = pen if rng.random() < 0.6 else paper * rng.uniform(0.3, 1.1)
            cv2.circle(sheet, rng.integers(0, SIDE, 2).tolist(), int(rng.integers(1, 4)), colour.tolist(), -1, cv2.LINE_AA)
    tone = np.clip(0.8 + 0.25 * _uneven(int(rng.integers(4, 24)), rng), 0.25, 1) if rng.random() < 0.3 else 1
    sheet += (pen - sheet) * (ink * tone)[..., None]  # some pens come and go
    visible = ink * (1 - _on_a_table(sheet, rng)) if rng.random() < 0.14 else ink
    sheet *= _light(rng)[..., None]
    return _taken(sheet, rng), visible


def _colours(rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Choose paper and pen, RGB in [0, 1]: dark on light mostly, faint to strong."""
    dark, contrast = rng.random() < 0.22, np.exp(rng.uniform(np.log(0.12), np.log(0.95)))
    grey = rng.uniform(0.03, 0.4) if dark else rng.uniform(0.45, 1)
    paper = np.clip(grey * (1 + rng.normal(0, rng.choice([0.02, 0.05, 0.15]), 3)), 0.02, 1).astype(np.float32)
    tint = rng.uniform(0, 1, 3) if rng.random() < 0.5 else np.full(3, rng.uniform(0, 0.4))
    pen = paper + (1 - paper) * contrast * (1 - 0.5 * tint) if dark else paper * (1 - contrast * (1 - 0.6 * tint))
    return paper, pen.astype(np.float32)


def _uneven(cells: int, rng: np.random.Generator) -> Floats:
    """Draw smooth random hills, (SIDE, SIDE), of mean 0 and about unit height."""
    hills = rng.standard_normal((cells, cells)).astype(np.float32)
    return np.asarray(cv2.resize(hills, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC), np.float32)


def _rule(sheet: Floats, paper: Floats, rng: np.random.Generator) -> None:
    """Print lines, squares, dots, a margin or a frame on the sheet, fainter or stronger than any ink."""
    strength = np.exp(rng.uniform(np.log(0.06), np.log(0.7)))
    tints = np.array([[1, 0.75, 0.35], [0.3, 0.8, 1], [1, 1, 1]])  # blue, red, black
    tint = tints[rng.choice(3, p=[0.45, 0.15, 0.4])]
    lighter = paper.mean() < 0.4 or rng.random() < 0.05
    colour = paper + (1 - paper) * strength * tint if lighter else paper * (1 - strength * tint)
    kind = rng.choice(["lines", "squares", "margin", "dots", "frame"], p=[0.42, 0.34, 0.09, 0.06, 0.09])
    angle, thick = rng.normal(0, 0.07), int(rng.choice([1, 1, 2, 2, 3, 4, 6]))
    step = float(np.exp(rng.uniform(np.log(7), np.log(120))))
    layer = np.zeros((SIDE, SIDE), np.uint8)

    def line(turn: float, at: float) -> None:
        along, across = np.array([np.cos(turn), np.sin(turn)]), np.array([-np.sin(turn), np.cos(turn)])
        ends = [np.round(16 * (SIDE / 2 + across * at + side * along)).astype(int).tolist() for side in (-2 * SIDE, 2 * SIDE)]
        cv2.line(layer, *ends, 255, thick, cv2.LINE_AA, shift=4)

    ways = {"lines": 1, "margin": 1}.get(kind, 2)
    start = rng.choice(2) * np.pi / 2 if kind == "margin" else 0.0
    places = [np.arange(-SIDE + rng.uniform(0, step), SIDE, step) for _ in range(2)]
    if kind in ("margin", "frame"):
        places = [rng.uniform(-SIDE / 2, SIDE / 2, ways) for _ in range(2)]
    if kind == "dots":
        cos, sin = np.cos(angle), np.sin(angle)
        for x, y in np.stack(np.meshgrid(*places), -1).reshape(-1, 2):
            at = np.round(16 * (SIDE / 2 + np.array([cos * x - sin * y, sin * x + cos * y]))).astype(int)
            cv2.circle(layer, at.tolist(), 8 * thick, 255, -1, cv2.LINE_AA, shift=4)
    else:
        for way in range(ways):
            for place in places[way]:
                line(angle + start + way * np.pi / 2, place)
    cover = layer.astype(np.float32) / 255
    if rng.random() < 0.3:
        cover *= np.clip(0.8 + 0.2 * _uneven(12, rng), 0, 1)
    sheet += (colour.astype(np.float32) - sheet) * cover[..., None]


def _on_a_table(sheet: Floats, rng: np.random.Generator) -> Floats:
    """Let the sheet end somewhere, and show the table; return where that is, (SIDE, SIDE)."""
    turn, off = rng.uniform(0, 2 * np.pi), rng.uniform(-60, 60)
    beyond = np.clip((_X * np.cos(turn) + _Y * np.sin(turn) - off) / rng.uniform(0.5, 2) + 0.5, 0, 1)
    colour = np.clip(rng.uniform(0.05, 0.9) * (1 + rng.normal(0, 0.3, 3)), 0, 1).astype(np.float32)
    table = np.broadcast_to(colour, sheet.shape).copy()
    if rng.random() < 0.5:  # of wood
        grain = rng.standard_normal((int(rng.integers(8, 64)), int(rng.integers(2, 6)))).astype(np.float32)
        grain = cv2.resize(grain, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
        turned = cv2.getRotationMatrix2D((SIDE / 2, SIDE / 2), rng.uniform(0, 360), 1.5)
        grain = cv2.warpAffine(grain, turned, (SIDE, SIDE), borderMode=cv2.BORDER_REFLECT)
        table *= 1 + rng.uniform(0, 0.25) * grain[..., None]
    sheet += (table - sheet) * beyond[..., None]
    return np.asarray(beyond, np.float32)


def _light(rng: np.random.Generator) -> Floats:
    """Draw the brightness over the scrap, (SIDE, SIDE): it falls off to one side, and shadows have hard or soft edges."""
    x, y = _X / SIDE, _Y / SIDE
    angle = rng.uniform(0, 2 * np.pi)
    light = 1 - rng.uniform(0, 0.4) * np.clip(0.5 + x * np.cos(angle) + y * np.sin(angle), 0, 1)
    light *= rng.uniform(0.25, 1) if rng.random() < 0.5 else 1
    for _ in range(rng.choice(3, p=[0.5, 0.38, 0.12])):
        angle, bend = rng.uniform(0, 2 * np.pi), rng.uniform(-0.6, 0.6)
        across = x * np.cos(angle) + y * np.sin(angle) - rng.uniform(-0.45, 0.45)
        across += bend * (x * np.sin(angle) - y * np.cos(angle)) ** 2
        soft = np.exp(rng.uniform(np.log(0.004), np.log(0.3)))
        light *= 1 - rng.uniform(0.15, 0.75) / (1 + np.exp(-np.clip(across / soft, -30, 30)))
    return np.asarray(light, np.float32)


def _taken(sheet: Floats, rng: np.random.Generator) -> Bytes:
    """Take the picture: blur, noise, JPEG; some were small and are enlarged."""
    image = cv2.GaussianBlur(sheet, (0, 0), float(np.exp(rng.uniform(np.log(0.3), np.log(1.6)))))
    noise = rng.uniform(0, rng.choice([0.015, 0.05]))
    grain = rng.standard_normal((SIDE, SIDE, 3)).astype(np.float32)
    image += noise * (rng.uniform(0.2, 0.8) * grain + rng.uniform(0.4, 1) * grain[..., :1])
    picture = np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)
    if rng.random() < 0.7:
        _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(30, 96))])
        picture = cv2.imdecode(data, cv2.IMREAD_COLOR)
    if rng.random() < 0.25:
        small = (round(SIDE * rng.uniform(0.4, 0.95)),) * 2
        picture = cv2.resize(picture, small, interpolation=cv2.INTER_AREA)
        picture = cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    return np.asarray(picture, np.uint8)
