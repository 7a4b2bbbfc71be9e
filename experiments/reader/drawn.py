"""Ink on a page of one shade, as on what is drawn with a mouse, scanned, or an image of MNIST: all that differs is ink."""

import cv2
import numpy as np
from numpy.typing import NDArray

from experiments.reader.find import Floats, Ink, Mask
from experiments.reader.judge import LOWEST

EVEN = 3.0  # shades of grey, within which most of such a page is
WIDE = 0.2  # of the picture's shorter side: a stroke is hardly ever wider
EDGE = 0.03  # of the picture's shorter side, from its border
FAR = 60.0  # shades of grey from the page to its ink, at least


def ink_of_two_shades(gray: Floats) -> Ink | None:
    """Guess that ink is all that differs from a page of one shade; None where there is no such page.

    Where there is one, no estimate of the page need be feared to take the inside of a wide stroke for page, or a hole for ink.

    Parameters
    ----------
    gray : float32, (h, w), 0 to 255
    """
    level, _ = cv2.threshold(gray[::2, ::2].clip(0, 255).astype(np.uint8), 0, 255, cv2.THRESH_OTSU)
    ring = max(2, round(0.02 * min(gray.shape)))
    border = np.concatenate([gray[:ring].ravel(), gray[-ring:].ravel(), gray[:, :ring].ravel(), gray[:, -ring:].ravel()])
    light = float(np.median(border)) <= level
    inked = gray > level if light else gray <= level
    if not 0.005 < inked.mean() < 0.6:
        return None
    page, ink = float(np.median(gray[~inked])), float(np.median(gray[inked]))
    strength = (gray - page) / (ink - page)
    close = cv2.dilate(inked.astype(np.uint8), np.ones((4 * ring + 1, 4 * ring + 1), np.uint8)) > 0  # and its soft edge
    away = np.abs(gray[~close] - page)
    plain = away.size and np.quantile(away, 0.8) < EVEN and (away > 0.2 * abs(ink - page)).mean() < 0.003
    if not plain or abs(ink - page) < FAR:
        return None
    if _is_shadow(inked, (gray - page) * np.sign(ink - page)):
        return None
    mask = _without_edges((strength > 0.5).astype(np.uint8))
    if _is_paper(mask):
        return None
    contrast = np.clip(np.abs(gray - page) / max(page, 255 - page), 1 / 255, 1).astype(np.float32)
    return Ink(np.clip(strength, 0, 1).astype(np.float32), contrast, gray, mask, light, "of two shades", all_ink=True)


def _is_shadow(inked: NDArray[np.bool_], away: Floats) -> bool:
    """Say whether far inside of the ink something lies that is further away from the page, in shades of grey: ink in shadow."""
    wide = round(WIDE * min(inked.shape))
    inside = away[cv2.erode(inked.astype(np.uint8), np.ones((wide, wide), np.uint8)) > 0]
    return inside.size > 0.01 * away.size and bool((inside > np.median(inside) + 2 * EVEN).mean() > 0.003)


def _without_edges(mask: Mask) -> Mask:
    """Leave out the ink that hardly reaches beyond the picture's very edge, as a line around it does."""
    edge = max(2, round(EDGE * min(mask.shape)))
    count, labels = cv2.connectedComponents(mask, connectivity=8)
    within = np.bincount(labels[edge:-edge, edge:-edge].ravel(), minlength=count)
    kept = within > 0.2 * np.bincount(labels.ravel(), minlength=count)
    kept[0] = False
    return np.asarray(kept[labels], np.uint8)


def _is_paper(mask: Mask) -> bool:
    """Say whether the ink is a sheet, or light on one, with something on it: a digit has no four corners, nor three holes."""
    outlines, tree = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    if not outlines:
        return False
    largest = max(range(len(outlines)), key=lambda i: cv2.contourArea(outlines[i]))
    outline, hull = outlines[largest], cv2.convexHull(outlines[largest])
    if cv2.contourArea(outline) < 0.95 * cv2.contourArea(hull):
        return False
    holes = [cv2.boundingRect(outlines[i])[3] for i in np.flatnonzero(tree[0, :, 3] == largest)]
    inside = cv2.drawContours(np.zeros_like(mask), [outline], 0, 1, cv2.FILLED) > 0
    corners = cv2.approxPolyDP(hull, 0.02 * cv2.arcLength(hull, True), True)
    return sum(high >= LOWEST for high in holes) > 2 or (len(corners) == 4 and float(mask[inside].mean()) < 0.998)
