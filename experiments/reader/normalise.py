"""From the ink of one digit, of any size, to a 28x28 image made the way MNIST's were."""

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]

SIZE = 28  # an image's side, pixels
FIT = 20  # MNIST: the digit's longer side
FINE = 4  # working pixels to a pixel of the result: strokes are measured and mended before shrinking
THIN, THICK = 1.9, 3.9  # stroke widths kept, pixels at FIT: about the 15th and 94th percentile of MNIST's training images


def stroke_width(mask: NDArray[np.uint8]) -> float:
    """Estimate the mean stroke width of a mask, in pixels.

    Across a stroke of width t the distance to the background rises from 1 to t/2 and falls again: its mean is t/4 + 1/2.
    """
    mask = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT)  # beyond its edges is background
    distance = cv2.distanceTransform(mask, cv2.DIST_L2, 3)
    return max(1.0, 4.0 * cv2.mean(distance, mask)[0] - 2.0)


def crop(ink: Image, level: float = 0.25) -> Image:
    """Cut an image to the box of what is at least `level` times as dark as its darkest point."""
    seen = (ink > level * float(ink.max(initial=0.0))).astype(np.uint8)
    x, y, w, h = cv2.boundingRect(seen)
    return ink[y : y + h, x : x + w] if w and h else ink[:1, :1]


def normalise(
    ink: Image,
    *,
    thickness: float = 0.0,
    shear: float = 0.0,
    shift: tuple[float, float] = (0.0, 0.0),
    wide: int = SIZE,
) -> Image:
    """Make a 28x28 image of one digit as MNIST's were: longer side 20, centre of mass in the middle, background 0.

    Parameters
    ----------
    ink : float32, (h, w), in [0, 1]
        How much ink there is, 1 in the middle of a stroke, exactly 0 on the page.
    thickness : float
        Pixels at the result's scale to add to the strokes (negative: to take away), beside what brings them into
        MNIST's range.
    shear : float
        Pixels to the right for each pixel up.
    shift : (float, float)
        Pixels (down, right) away from the middle.
    wide : int
        The result's width, pixels; the ink is fitted to 20 x (wide - 8). A pair of digits wants more than 28.

    Returns
    -------
    float32, (28, wide), in [0, 1]; all 0 where there is no ink.

    Notes
    -----
    Strokes are widened or thinned at four times the final size, then blurred and shrunk in one step: shrinking a thin
    stroke first would lose it. Source: the MNIST page (fit to 20x20 keeping the aspect, centre of mass at the middle).
    """
    ink = crop(ink)
    if ink.size < 2 or ink.max() <= 0:
        return np.zeros((SIZE, wide), np.float32)
    fit = np.array([FIT, FIT + wide - SIZE])
    scale = FINE * float((fit / ink.shape).min())
    h, w = (max(1, round(n * scale)) for n in ink.shape)
    # Pad, so that strokes can grow and shear without being cut off.
    fine = cv2.resize(ink, (w, h), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    pad = FIT
    fine = cv2.copyMakeBorder(np.clip(fine, 0, 1), pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=0)
    if shear:
        middle = fine.shape[0] / 2
        lean = np.array([[1, -shear, shear * middle], [0, 1, 0]])
        fine = cv2.warpAffine(fine, lean, fine.shape[::-1], flags=cv2.INTER_LINEAR)
    width = stroke_width((fine > 0.5 * fine.max()).astype(np.uint8)) / FINE
    change = round((float(np.clip(width, THIN, THICK)) + thickness - width) * FINE)
    if abs(change) >= 2:  # a disc of diameter d adds or takes away d - 1
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (min(abs(change), pad) + 1,) * 2)
        fine = cv2.dilate(fine, disc) if change > 0 else _erode(fine, disc)
    fine = crop(fine)
    scale = float((fit / fine.shape).min())
    fine = cv2.copyMakeBorder(fine, pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=0)
    fine = cv2.GaussianBlur(fine, (0, 0), 0.35 / scale)  # no finer than the result's pixels can hold
    moments = cv2.moments(fine)
    row, col = moments["m01"] / moments["m00"], moments["m10"] / moments["m00"]
    middle_row, middle_col = SIZE / 2 + shift[0], wide / 2 + shift[1]
    place = np.array([[scale, 0, middle_col - scale * col], [0, scale, middle_row - scale * row]])
    result = cv2.warpAffine(fine, place, (wide, SIZE), flags=cv2.INTER_LINEAR)
    result[result < 0.02] = 0
    return np.clip(result / max(0.5, float(result.max())), 0, 1).astype(np.float32)


def _erode(fine: Image, disc: NDArray[np.uint8]) -> Image:
    """Thin the strokes, but never away: what vanishes at once keeps its middle."""
    thin = cv2.erode(fine, disc)
    kept = cv2.dilate(thin, disc)
    lost = np.where(fine - kept > 0.5, fine, 0)
    return np.maximum(thin, lost).astype(np.float32)
