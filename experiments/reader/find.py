"""Where the ink is: a picture to a few candidate masks of ink, and a mask to the parts that digits are made of.

No single rule finds the ink on every page, so a few are tried, and the reader keeps the one whose parts the net reads
best (`Reader.read`). What they share: the page is estimated by a grey closing, which follows a shadow's hard edge
where a blur or a median would smear it into a false stroke; the threshold lies half way up the strokes' own edges
(Kittler, Illingworth & Foeglein 1985), where Otsu's drifts when ink covers a hundredth of the page; and it follows the
local strength of the ink, so that faint pencil survives beside a marker.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Mask = NDArray[np.uint8]
Box = tuple[int, int, int, int]

PERHAPS, SURELY, ALL = 0.5, 0.7, 0.9  # what a net says of pixels of ink, of one at least of each part, of all ink


def common_area(a: Box, b: Box) -> int:
    """Return how many pixels two boxes share."""
    wide = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    high = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return max(0, wide) * max(0, high)


@dataclass(frozen=True)
class Ink:
    """One guess at what is ink: how strong it is, (h, w) in [0, 1], and where it is, (h, w) of 0 and 1."""

    strength: Floats  # evened out: about 1 in the middle of any stroke, faint or strong
    contrast: Floats  # as it is on the page, 0 to 1
    gray: Floats  # the picture, 0 to 255
    mask: Mask
    light: bool  # ink lighter than the page
    name: str
    rules: Mask | None = None  # what of the mask is long straight lines, where there are any
    all_ink: bool = False  # nothing of the mask is a shadow's edge or a table's


@dataclass
class Part:
    """Connected ink: its box (x, y, w, h) on the page and its mask, (h, w) of 0 and 1."""

    box: Box
    mask: Mask

    @property
    def area(self) -> int:
        """Pixels of ink."""
        return int(self.mask.sum())


def to_gray(picture: NDArray[np.uint8]) -> Floats:
    """Mix red, green and blue so that ink stands out most from the page around it, whatever the colours of both.

    The mix is the main direction in which pixels differ from their surroundings; a plain luminance loses yellow ink on
    white, or red on blue.
    """
    small = cv2.resize(picture, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    page = cv2.medianBlur(small, max(3, (min(min(small.shape[:2]) // 8, 40)) | 1))
    away = small.reshape(-1, 3).astype(np.float32) - page.reshape(-1, 3)
    size = np.abs(away).sum(1)
    away = away[size >= np.quantile(size, 0.97)]
    _, vectors = np.linalg.eigh(away.T @ away)
    weights = vectors[:, -1] * np.sign(vectors[:, -1].sum() or 1)
    luminance = np.array([0.299, 0.587, 0.114])
    weights = np.clip(weights, 0, None) / max(float(np.clip(weights, 0, None).sum()), 1e-6)
    weights = 0.7 * weights + 0.3 * luminance
    return np.asarray(cv2.transform(picture, weights[None].astype(np.float32)), np.float32)


def candidates(
    gray: Floats, *, single: bool = False, light: bool | None = None, wanted: Callable[[bool], bool] = lambda light: True
) -> Iterator[Ink]:
    """Guess what is ink in a few ways, the likeliest first.

    Parameters
    ----------
    gray : float32, (h, w), 0 to 255
    single : bool
        One digit fills most of the picture, so its strokes may be very wide.
    light : bool or None
        Whether the ink is lighter than the page; None: as the picture looks.
    wanted : function of a truth value
        Says whether the next guess may still be light, or dark, ink: each takes a while.
    """
    short = min(gray.shape)
    # (kernel of the page, share of the threshold), the best first. A wide kernel is for wide strokes.
    ways = [(0.12, 1.0), (0.4, 1.0), (0.7, 1.0), (0.12, 0.65)] if single else [
        (0.05, 1.0), (0.12, 1.0), (0.05, 0.65), (0.4, 1.0), (0.12, 0.65)]  # fmt: skip
    polarities = _polarities(gray, short) if light is None else [light]
    before: dict[bool, Mask] = {}
    for width, factor in ways:
        for light in polarities:
            ink = guess(gray, max(9, round(width * short)), factor, light=light) if wanted(light) else None
            if ink is None:
                continue
            if light in before and np.count_nonzero(ink.mask != before[light]) < 0.01 * np.count_nonzero(ink.mask):
                continue  # seen already
            before[light] = ink.mask
            yield ink


def guess(gray: Floats, width: int, factor: float, *, light: bool) -> Ink | None:
    """Guess what is ink in one way; None where nothing stands out.

    Parameters
    ----------
    gray : float32, (h, w), 0 to 255
    width : int
        Pixels: the kernel of the page, see ink_strength.
    factor : float
        Share of the usual threshold.
    light : bool
        The ink is lighter than the page.
    """
    smooth, noisy = cv2.GaussianBlur(gray, (0, 0), 1.0), np.ones(gray.shape, np.bool_)
    for blur in (1.0, 1.8, 3.0):  # more only where the noise asks for it
        if blur > 1:
            smooth = np.where(noisy, cv2.GaussianBlur(gray, (0, 0), blur), smooth)
        strength = ink_strength(smooth, width, light=light)
        levels = edge_and_noise(strength)
        if levels is None:
            return None
        noisy &= levels[1] >= 0.6 * levels[0]
        if not noisy.any():
            break
    evened, mask = threshold(strength, *levels, factor)
    name = f"{'light' if light else 'dark'} ink, page {width}, threshold {factor:g}, blur {blur:g}"
    return Ink(evened, strength, smooth, mask, light, name)


def from_net(gray: Floats, likely: Floats) -> Ink | None:
    """Guess that ink is what a net holds for it; None where that is nothing.

    Parameters
    ----------
    gray : float32, (h, w), 0 to 255
    likely : float32, (h, w), 0 to 1
        How likely each pixel is ink, of whatever polarity.
    """
    count, labels = cv2.connectedComponents((likely > PERHAPS).astype(np.uint8), connectivity=8)
    kept = np.zeros(count, np.uint8)
    kept[labels[likely > SURELY]] = 1
    mask = kept[labels]
    if not mask.any():
        return None
    smooth = cv2.GaussianBlur(gray, (0, 0), 1.0)
    size = max(9, round(0.05 * min(gray.shape)))
    light = float((smooth - cv2.blur(smooth, (size, size)))[mask > 0].mean()) > 0
    contrast = np.maximum(ink_strength(smooth, size, light=light), 1 / 255)  # of what it sees alone, too
    name = f"{'light' if light else 'dark'} ink, by the net"
    return Ink(np.clip(likely / ALL, 0, 1), contrast, smooth, mask, light, name)


def _polarities(gray: Floats, short: int) -> list[bool]:
    """Say whether the ink is lighter than the page: both, the likelier first, when the picture does not tell."""
    scale = min(1.0, 150 / short)
    small = cv2.resize(gray, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA).astype(np.uint8)
    wide = round(0.5 * min(small.shape)) | 1  # ink covers less than half of any such window
    page = cv2.medianBlur(cv2.copyMakeBorder(small, *(wide,) * 4, cv2.BORDER_REFLECT), wide)[wide:-wide, wide:-wide]
    away = np.log(small + 16.0) - np.log(page + 16.0)  # in shadow and in light alike
    light, dark = (float((np.clip(side, 0, None) ** 2).sum()) for side in (away, -away))
    first = light > dark
    return [first, not first] if max(dark, light) < 3 * min(dark, light) else [first]


def ink_strength(gray: Floats, width: int, *, light: bool) -> Floats:
    """Measure how far each pixel is from the page, as a share of the page's brightness there; the page is 0.

    Parameters
    ----------
    width : int
        Pixels; wider than any stroke, and as narrow as that allows.
    """
    scale = min(1.0, 40 / width)  # a wide closing needs few pixels
    small = cv2.resize(gray, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else gray
    size = max(3, round(width * scale)) | 1
    operation = cv2.MORPH_OPEN if light else cv2.MORPH_CLOSE
    page = cv2.morphologyEx(small, operation, np.ones((size, size), np.uint8), borderType=cv2.BORDER_REPLICATE)
    if scale < 1:
        page = cv2.resize(page, gray.shape[::-1], interpolation=cv2.INTER_LINEAR)
    if light:  # a shadow dims ink and page alike, so as a share of the page there; 16: for black has noise, too
        usual = float(np.median(page[::4, ::4]))
        away = (gray - page) * ((usual + 16) / max(255 - usual, 40)) / (page + 16)
    else:
        away = (page - gray) / np.maximum(page, 25)
    return np.asarray(np.clip(away, 0, 1), np.float32)


def edge_and_noise(strength: Floats) -> tuple[float, Floats] | None:
    """Measure how strong the edges of ink are half way up, and the strength that noise rarely reaches, (h, w).

    None where nothing stands out.
    """
    dx, dy = cv2.Sobel(strength, cv2.CV_32F, 1, 0), cv2.Sobel(strength, cv2.CV_32F, 0, 1)
    edges = dx * dx + dy * dy
    edges[edges < np.quantile(edges[::4, ::4], 0.9)] = 0  # the noise of the page has many weak edges
    total = float(edges.sum())
    if total <= 0:
        return None
    middle = float((strength * edges).sum()) / total
    seen = strength[::4, ::4]
    share = float((seen > middle).mean())
    if share > 0.4:
        page, full = seen[seen <= middle], seen[seen > middle]
        if share * (1 - share) * (full.mean() - page.mean()) ** 2 > 0.85 * seen.var():  # two levels: a digit fills the picture
            seen = np.where(seen > middle, np.median(page), seen)
    return middle, cv2.resize(_noise(seen, middle), strength.shape[::-1], interpolation=cv2.INTER_LINEAR)


def threshold(strength: Floats, middle: float, floor: Floats, factor: float = 1.0) -> tuple[Floats, Mask]:
    """Tell ink from page: the strength with ink near 1, and the mask. middle, floor: of edge_and_noise; factor: of guess."""
    level = np.maximum(factor * middle, floor)
    # Local strength: the strongest ink within about a digit, carried a little further than the stroke.
    scale = min(1.0, 200 / min(strength.shape))
    small = cv2.resize(strength, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    reach = max(3, round(0.06 * min(small.shape))) | 1
    near = cv2.dilate(small, np.ones((reach, reach), np.uint8))
    near = cv2.GaussianBlur(near, (0, 0), reach / 3)
    near = cv2.resize(near, strength.shape[::-1], interpolation=cv2.INTER_LINEAR)
    local = np.clip(0.5 * near * factor, np.maximum(0.5 * level, floor), 1.5 * level)
    mask = (strength > local).astype(np.uint8)
    return np.asarray(np.clip(strength / np.maximum(2 * local, 1e-3), 0, 1), np.float32), mask


def _noise(seen: Floats, middle: float) -> Floats:
    """Give the strength that the page's noise rarely reaches in each part of it, (h, w): where it is dark it is noisier.

    Where most of a small part is stronger than a stroke's edge (`middle`) it is ink: there the noise is as elsewhere.
    """
    reach = min(round(0.3 * min(seen.shape)), 120) | 1  # most of it is page, not ink
    fine = np.clip(seen * 1000, 0, 255).astype(np.uint8)  # above a quarter it is no noise

    def usual(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
        half = reach // 2
        around = cv2.copyMakeBorder(values, half, half, half, half, cv2.BORDER_REFLECT)
        return np.asarray(cv2.medianBlur(around, reach)[half : half + len(values), half : half + values.shape[1]], np.uint8)

    page = usual(fine)
    spread = usual(cv2.absdiff(fine, page))  # 4 of them: 2.7 standard deviations
    inked = page >= min(1000 * middle, 255)
    if 0 < inked.mean() < 0.1:
        page[inked], spread[inked] = np.median(page[~inked]), np.median(spread[~inked])
    return np.maximum((page.astype(np.float32) + 4 * spread) / 1000, 0.03)


def parts(mask: Mask) -> list[Part]:
    """List the connected parts of a mask, without what is too small to see."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    found = []
    for i in range(1, count):
        x, y, w, h, area = (int(n) for n in stats[i])
        if area >= 12 and max(w, h) >= 6:
            found.append(Part((x, y, w, h), (labels[y : y + h, x : x + w] == i).astype(np.uint8)))
    return found


def upper(values: Floats) -> float:
    """Return the value that a quarter of the values exceed (np.percentile interpolates, and takes ten times as long)."""
    k = 3 * len(values) // 4
    return float(np.partition(values, k)[k])


def cut_out(ink: Ink, box: Box, mask: Mask) -> Floats:
    """Return the ink under a mask, (h + 2, w + 2), with its soft edge, evenly strong: 1 in the strokes."""
    x, y, w, h = box
    strength = np.zeros((h + 2, w + 2), np.float32)
    top, left = max(0, y - 1), max(0, x - 1)
    seen = ink.strength[top : y + h + 1, left : x + w + 1]
    strength[top - y + 1 : top - y + 1 + seen.shape[0], left - x + 1 : left - x + 1 + seen.shape[1]] = seen
    inside, written = (cv2.copyMakeBorder(m, 1, 1, 1, 1, cv2.BORDER_CONSTANT) for m in (mask, ink.mask[y : y + h, x : x + w]))
    level = max(0.1, upper(strength[inside > 0]))
    # The soft edge is the stroke's own, not the neighbour's across a cut.
    soft = cv2.dilate(inside, np.ones((3, 3), np.uint8))
    other = written * (1 - inside)
    return np.asarray(np.clip(strength / level, 0, 1) * soft * (1 - other), np.float32)
