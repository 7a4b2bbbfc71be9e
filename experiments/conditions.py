"""What befalls a photograph beside its page's own paper, pen and light: shadows of any form, glare, a shaken hand, few pixels.

Each condition takes a page as `experiments.paper.make_page` makes it, of the kind "clean", and a source of random numbers, and
gives the page as it is photographed then, the truth with it. No net is trained on them.
"""

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from experiments.paper import Page, stored
from experiments.reader.find import Box

Floats = NDArray[np.float32]
Condition = Callable[[Page, np.random.Generator], Page]
QUALITY = 90  # of the JPEG that the photograph is stored as


def shadowed(page: Page, rng: np.random.Generator) -> Page:
    """A shadow over half of the page, in a band, a corner or a blob: there 0.25 to 0.65 of the light is left."""
    height, width = page.image.shape[:2]
    short = min(height, width)
    u, v = _turned(height, width, rng)
    depth = {  # pixels into the shadow
        "half": u,
        "band": short * rng.uniform(0.08, 0.25) - abs(u),
        "corner": np.minimum(u, v) + 0.1 * short,
        "blob": short * rng.uniform(0.2, 0.4) - np.hypot(u, v * rng.uniform(0.5, 1)),
    }[rng.choice(["half", "band", "corner", "blob"])]
    softness, darkest = _log_uniform(rng, 1, 30), rng.uniform(0.25, 0.65)
    light = 1 - (1 - darkest) * _shade(depth / softness)
    return _taken(page, page.image * (rng.uniform(0.5, 1) * light)[..., None], rng)


def spotlit(page: Page, rng: np.random.Generator) -> Page:
    """Light on the written part alone, as a lamp or a window throws it: round, in a band, or down to below the last row."""
    corners = np.array([(x, y, x + w, y + h) for x, y, w, h in _boxes(page)])
    (left, top), (right, bottom) = corners[:, :2].min(axis=0), corners[:, 2:].max(axis=0)
    more = int(0.5 * max(right - left, bottom - top))  # of the same paper on all sides
    image = cv2.copyMakeBorder(_paper(page), more, more, more, more, cv2.BORDER_REFLECT)
    image[more:-more, more:-more] = page.image
    moved = [replace(d, box=(d.box[0] + more, d.box[1] + more, *d.box[2:])) for d in page.digits]
    high, wide = (bottom - top) / 2 + 10, (right - left) / 2 + 10
    y, x = np.mgrid[: image.shape[0], : image.shape[1]].astype(np.float32)
    x, y = x - (left + right) / 2 - more, y - (top + bottom) / 2 - more
    depth = {
        "round": (np.hypot(x / wide, y / high) - 1.45) * min(high, wide),
        "band": abs(y) - high,
        "half": y - high,
    }[rng.choice(["round", "band", "half"])]
    softness, darkest = _log_uniform(rng, 1, 20), rng.uniform(0.1, 0.5)
    light = 1 - (1 - darkest) * _shade(depth / softness)
    return _taken(replace(page, digits=moved), image * (rng.uniform(0.6, 1) * light)[..., None], rng)


def glaring(page: Page, rng: np.random.Generator) -> Page:
    """A lamp mirrored in glossy paper: up to 0.85 of the way to white in the middle of it."""
    height, width = page.image.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    away = np.hypot(x - width * rng.uniform(0.2, 0.8), y - height * rng.uniform(0.2, 0.8)) / min(height, width)
    glare = rng.uniform(0.5, 0.85) * np.exp(-((away / rng.uniform(0.1, 0.3)) ** 2))[..., None]
    dim = 0.7 * page.image
    return _taken(page, dim + (255 - dim) * glare, rng)


def shaken(page: Page, rng: np.random.Generator) -> Page:
    """A camera that moved while it looked, 4 to 14 % of a digit's height, in any direction."""
    long = max(2.0, _height(page) * rng.uniform(0.04, 0.14))
    side = 2 * int(long) + 3
    path = np.zeros((side, side), np.float32)
    turn = rng.uniform(0, np.pi)
    middle = np.array([side / 2, side / 2])
    away = long / 2 * np.array([np.cos(turn), np.sin(turn)])
    ends = [tuple(np.round((middle + way * away) * 16).astype(int).tolist()) for way in (-1, 1)]
    cv2.line(path, ends[0], ends[1], 1.0, 1, cv2.LINE_AA, shift=4)
    return _taken(page, cv2.filter2D(page.image.astype(np.float32), -1, path / path.sum()), rng)


def coarse(page: Page, rng: np.random.Generator) -> Page:
    """A picture so small that digits are 14 to 24 pixels high, as a messenger or an old camera leaves it."""
    factor = min(1.0, rng.uniform(14, 24) / _height(page))
    small = cv2.resize(page.image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    page = page.on(np.asarray(small, np.uint8))
    return _taken(page, page.image, rng)


CONDITIONS: dict[str, Condition] = {f.__name__: f for f in (shadowed, spotlit, glaring, shaken, coarse)}


def _boxes(page: Page) -> list[Box]:
    """Where digits are, or might be on an empty page."""
    height, width = page.image.shape[:2]
    return [digit.box for digit in page.digits] or [
        (width // 2, y, height // 8, height // 8) for y in (height // 4, height // 2)
    ]


def _height(page: Page) -> float:
    return float(np.median([h for _, _, _, h in _boxes(page)]))


def _paper(page: Page) -> NDArray[np.uint8]:
    """The picture without what is written on it."""
    small = cv2.resize(page.image, None, fx=0.1, fy=0.1, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(cv2.medianBlur(small, 15), page.image.shape[1::-1], interpolation=cv2.INTER_LINEAR), np.uint8)


def _turned(height: int, width: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Pixels from a place near the middle of the picture, along two directions at right angles."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    x, y, turn = x - width * rng.uniform(0.3, 0.7), y - height * rng.uniform(0.3, 0.7), rng.uniform(0, 2 * np.pi)
    return x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)


def _shade(depth: Floats) -> Floats:
    """How far in shadow a place is, 0 to 1, that lies so deep in it, in softnesses of its edge."""
    return np.asarray(1 / (1 + np.exp(np.clip(-depth, -30, 30))), np.float32)


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _taken(page: Page, image: NDArray[np.generic], rng: np.random.Generator) -> Page:
    """Give the page on this image with a camera's noise, stored as a JPEG would."""
    noisy = image + rng.normal(0, rng.uniform(0.5, 3), image.shape)
    return replace(page, image=stored(np.clip(noisy, 0, 255).astype(np.uint8), QUALITY))
