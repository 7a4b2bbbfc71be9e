"""A row or column cut out of a page: page put back around it, for what lines, strokes and shadows are measured by."""

import cv2
import numpy as np
from numpy.typing import NDArray

from experiments.reader.find import Box

LONG = 1.9  # times its shorter side: more than a phone's or a screen's picture
USUAL = 4 / 3  # of a page


def with_page(picture: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Give a long, narrow picture as much page along its long sides as a usual one has; say where it lies in that, (x, y).

    All that follows takes the picture's shorter side for a page's: on a row alone the strokes of digits would be as long as
    ruled lines, and wider than the page is looked at. The page beside each column (of a row) is the median around it.
    """
    height, width = picture.shape[:2]
    if height > LONG * width:
        page, (y, x) = with_page(picture.transpose(1, 0, 2))
        return np.ascontiguousarray(page.transpose(1, 0, 2)), (x, y)
    if width <= LONG * height:
        return picture, (0, 0)
    around = height // 2 * 2 + 1
    columns = np.median(picture, axis=0).astype(np.uint8)  # (w, 3)
    columns = np.pad(columns, ((around // 2, around // 2), (0, 0)), mode="edge")
    page = np.median(np.lib.stride_tricks.sliding_window_view(columns, around, axis=0), axis=-1)
    page = cv2.blur(page.astype(np.float32)[None], (around, 1))  # (1, w, 3)
    result = np.repeat(np.round(page).astype(np.uint8), round(width / USUAL), axis=0)
    above = (len(result) - height) // 2
    result[above : above + height] = picture
    return result, (0, above)


def on_picture(box: Box, corner: tuple[int, int], shape: tuple[int, int]) -> Box:
    """Give the part of a box on the page that is on the picture, which lies there at `corner`: one pixel each way at least."""
    (x, y, w, h), (left, above), (height, width) = box, corner, shape
    first, top = min(max(0, x - left), width - 1), min(max(0, y - above), height - 1)
    return first, top, max(1, min(x - left + w, width) - first), max(1, min(y - above + h, height) - top)
