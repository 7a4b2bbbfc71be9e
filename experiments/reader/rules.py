"""Ruled lines, squares and frames taken off the ink, the strokes that cross them left whole; guesses with them and without."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice

import cv2
import numpy as np
from numpy.typing import NDArray

from experiments.reader.find import Floats, Ink, Mask, candidates
from experiments.reader.normalise import stroke_width

LONG = 0.3  # of a picture's shorter side: lines that may be rules
TEETH = 4  # of a comb at least, whose distances are equal
EVEN = 0.1  # of these, the part by which they differ at most
REACH = 14  # pixels to either side of a line that are looked at,
ACROSS = np.arange(-REACH, REACH + 0.1, 0.7, np.float32)  # which,
NEAR = np.flatnonzero(np.abs(ACROSS) <= 3)  # and where of these its ink is looked for, from the middle outwards
NEAR = NEAR[np.argsort(np.abs(ACROSS[NEAR]), kind="stable")].astype(np.int8)


def without_rules(mask: Mask) -> Mask | None:
    """Erase long straight lines.

    Parameters
    ----------
    mask : uint8, (h, w), of 0 and 1

    Returns
    -------
    uint8, (h, w), or None where there is no such line.

    Notes
    -----
    Lines are found by a probabilistic Hough transform, so they may run at any angle. Along each one the run of ink
    across it is measured: where that is as thick as the line mostly is there is nothing but line, and it goes; where
    it is thicker a stroke crosses, and it stays.
    """
    length = LONG * min(mask.shape)
    # Look only at what is long: on most pages that is nothing, and costs nothing.
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    long = np.hypot(stats[:, cv2.CC_STAT_WIDTH], stats[:, cv2.CC_STAT_HEIGHT]) >= 0.5 * length
    long[0] = False
    if not long.any():
        return None
    looked = long[labels].astype(np.uint8)
    scale = min(1.0, 800 / max(mask.shape))
    small = cv2.resize(looked * 255, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    thin = (small > 60).astype(np.uint8)
    wide = round(1.5 * REACH * scale) | 1  # wider than any line that _erase takes; a marker's strokes cost much time here
    thin -= cv2.morphologyEx(thin, cv2.MORPH_OPEN, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (wide, wide)))
    found = cv2.HoughLinesP(thin, 1, np.pi / 360, round(0.35 * length * scale), None, length * scale, 8)
    if found is None:
        return None
    border = 2 * REACH  # so that what is looked at lies in the picture
    looked, result = np.pad(looked, border), np.pad(mask, border)
    for x0, y0, x1, y1 in found.reshape(-1, 4) / scale + border:
        _erase(result, looked, np.array([x0, y0]), np.array([x1, y1]))
    result = np.ascontiguousarray(result[border:-border, border:-border])
    # Crumbs of the line beside the runs that went. An opening; MORPH_OPEN with an even kernel shifts the picture by a pixel.
    two = np.ones((2, 2), np.uint8)
    result = np.asarray(cv2.dilate(cv2.erode(result, two, anchor=(0, 0)), two, anchor=(1, 1)), np.uint8)
    return _without_teeth(result, mask & (1 - result))


def _without_teeth(mask: Mask, lines: Mask) -> Mask:
    """Erase the teeth of a form's combs, which would be read as ones.

    Four at least stand on one line, as thin as it is and upright on it, of one length and as far from each other: ones that
    somebody wrote on a line do not.
    """
    _, labels, sizes, _ = cv2.connectedComponentsWithStats(lines, connectivity=8)
    if len(sizes) < 2:
        return mask
    longest = labels == 1 + int(sizes[1:, cv2.CC_STAT_AREA].argmax())
    right, down = cv2.fitLine(np.argwhere(longest)[:, ::-1].astype(np.float32), cv2.DIST_L2, 0, 0.01, 0.01)[:2, 0]
    wide = 1.8 * stroke_width(lines) + 2
    _, labels, sizes, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    teeth = []  # place along the lines, and across them, length, number
    for i in np.unique(labels[(cv2.dilate(lines, np.ones((5, 5), np.uint8)) > 0) & (mask > 0)]):
        x, y, w, h, _ = sizes[i]
        if min(w, h) > 2 * wide:
            continue
        rows, columns = np.nonzero(labels[y : y + h, x : x + w] == i)
        along, across = (columns + x) * right + (rows + y) * down, (rows + y) * right - (columns + x) * down
        if np.ptp(along) < wide and np.ptp(across) > 2 * wide:
            teeth.append((float(along.mean()), float(across.mean()), float(np.ptp(across)), i))
    gone: list[int] = []
    for _, place, length, _ in teeth:
        comb = sorted(t for t in teeth if abs(t[1] - place) < 0.2 * length and abs(np.log2(t[2] / length)) < 0.2)
        gaps = np.diff([t[0] for t in comb])
        gaps /= max(1.0, float(np.median(gaps))) if len(gaps) else 1.0
        if len(comb) >= TEETH and (np.abs(gaps - np.maximum(1, np.round(gaps))) < EVEN).all():  # some may be hidden
            gone += [t[3] for t in comb]
    return np.asarray(mask * ~np.isin(labels, gone), np.uint8)


def painted_over(gray: Floats, *, light: bool) -> Floats | None:
    """Paint long thin lines over with what lies beside them, so that ink fainter than they are can be found.

    Parameters
    ----------
    gray : float32, (h, w), 0 to 255
    light : bool
        The lines are lighter than the page.

    Returns
    -------
    float32, (h, w), or None where there is no such line.
    """
    short = min(gray.shape)
    size = max(9, round(0.012 * short)) | 1
    smooth = cv2.GaussianBlur(gray, (0, 0), 1.0)
    thin = cv2.morphologyEx(smooth, cv2.MORPH_TOPHAT if light else cv2.MORPH_BLACKHAT, np.ones((size, size), np.uint8))
    near = cv2.dilate(thin, np.ones((3 * size, 3 * size), np.uint8))
    mask = (thin > np.maximum(0.5 * near, 3 * float(np.median(thin)))).astype(np.uint8)
    bare = without_rules(mask)
    if bare is None:
        return None
    hidden = cv2.dilate(mask & (1 - bare), np.ones((5, 5), np.uint8))  # with the lines' soft edges
    seen = 1 - hidden.astype(np.float32)
    beside = cv2.GaussianBlur(gray * seen, (0, 0), 3.0) / np.maximum(cv2.GaussianBlur(seen, (0, 0), 3.0), 1e-6)
    return np.where(hidden > 0, beside, gray).astype(np.float32)


def without_frames(mask: Mask) -> Mask | None:
    """Erase what is drawn around digits: frames, the cells of a form, a ring; None where there is no such thing.

    A frame has holes, and in a hole lies ink as high as a digit would be: a quarter of the hole's height, or, in a
    hole that takes up half of the picture, two pieces of a twenty-fifth. Neither is lower than four widths of its line,
    so that a speck in a 0 makes no frame of it, nor does a piece of the rule that runs through it. And half of its
    cells hold ink: squared paper, whose lines the digits cross, is no frame.
    """
    outlines, tree = cv2.findContours(mask, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
    frames = []
    for i, (_, _, first_hole, parent) in enumerate(tree[0] if outlines else ()):
        depth = 0  # 0: ink, 1: a hole in it, 2: ink in that hole, and so on
        while parent >= 0:
            depth, parent = depth + 1, tree[0][parent][3]
        if depth % 2 or first_hole < 0:
            continue
        holes = _siblings(tree[0], first_hole)
        area = cv2.contourArea(outlines[i]) - sum(cv2.contourArea(outlines[k]) for k in holes)
        pen = 2 * area / (cv2.arcLength(outlines[i], True) + sum(cv2.arcLength(outlines[k], True) for k in holes))
        heights = {hole: cv2.boundingRect(outlines[hole])[3] for hole in holes}
        cells = filled = 0
        for hole, height in heights.items():
            inside = np.array([cv2.boundingRect(outlines[k])[3] for k in _siblings(tree[0], tree[0][hole][2])])
            large = inside >= 4 * pen
            cells += height > 0.5 * max(heights.values())
            filled += (large & (inside > 0.25 * height)).any() or (
                height > 0.5 * mask.shape[0] and (large & (inside > 0.04 * height)).sum() > 1
            )
        if filled >= max(1, 0.5 * cells):
            frames.append(i)
    if not frames:
        return None
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    gone = [labels[outlines[i][0, 0, 1], outlines[i][0, 0, 0]] for i in frames]
    frame = np.isin(labels, gone)
    return mask * ~frame | _written_on(labels * frame, stats)


def _written_on(frames: NDArray[np.int32], sizes: NDArray[np.int32]) -> Mask:
    """Keep the digits that touch frames: what is, without straight lines, neither a line nor the frame.

    The frames are numbered from 1; sizes: of each number, as OpenCV gives them.
    """
    result = np.zeros(frames.shape, np.uint8)
    bare = without_rules((frames > 0).astype(np.uint8))
    if bare is None:
        return result
    count, labels, stats, _ = cv2.connectedComponentsWithStats(bare, connectivity=8)
    for i in range(1, count):
        x, y, w, h, _ = stats[i]
        here = np.s_[y : y + h, x : x + w]
        part = (labels[here] == i).astype(np.uint8)
        across = min(cv2.minAreaRect(np.argwhere(part).astype(np.float32))[1])
        _, _, width, height, _ = sizes[frames[here][part > 0][0]]
        if across > 1.5 * stroke_width(part) and (w < 0.8 * width or h < 0.8 * height):
            result[here] |= part
    return result


def _siblings(tree: np.ndarray, first: int) -> list[int]:
    """List a contour and those after it on the same level; none for -1."""
    found = []
    while first >= 0:
        found.append(first)
        first = int(tree[first][0])
    return found


def darkest(ink: Ink) -> Mask | None:
    """Keep the darker of two kinds of ink, such as a pen's and a faint printed grid's; None where there is but one."""
    inked = ink.mask > 0
    if not inked.any():
        return None
    values = np.round(ink.contrast[inked] * 255).astype(np.uint8)
    level, _ = cv2.threshold(values, 0, 255, cv2.THRESH_OTSU)
    dark = values > level
    share = float(dark.mean())
    if not 0.02 < share < 0.98:
        return None
    apart = share * (1 - share) * (float(values[dark].mean()) - float(values[~dark].mean())) ** 2
    if apart < 0.7 * float(values.var()):
        return None
    return (inked & (ink.contrast * 255 > level)).astype(np.uint8)


def _erase(result: Mask, mask: Mask, start: np.ndarray, stop: np.ndarray) -> None:
    """Erase one line from result, as measured on mask; both have a border of 2 REACH pixels around the picture."""
    length = float(np.hypot(*(stop - start)))
    along = (stop - start) / max(length, 1e-6)
    more = max(12, 0.6 * length)  # further on: the line may be broken by strokes and go on behind them
    centres = start - more * along + np.arange(0, int((length + 2 * more) / 0.7))[:, None] * 0.7 * along
    last = np.array(mask.shape[::-1]) - 1
    columns, rows = centres[((centres >= REACH) & (centres <= last - REACH)).all(1)].T.astype(np.float32)
    right, down = along.astype(np.float32)
    # Which pixel is seen, (offsets, steps): the steps innermost, where NumPy is quickest.
    places = np.rint(rows + right * ACROSS[:, None]).astype(np.intp) * mask.shape[1]
    places += np.rint(columns - down * ACROSS[:, None]).astype(np.intp)
    ink = mask.ravel().take(places) > 0
    # The run of ink that holds, or is nearest to, the line's middle.
    hit = ink[NEAR].any(0)
    if not hit.any():
        return
    seed = NEAR[ink[NEAR].argmax(0)]
    index = np.arange(len(ACROSS), dtype=np.int8)[:, None]
    page_before = np.where(ink | (index > seed), np.int8(-1), index).max(0)
    page_after = np.where(ink | (index < seed), np.int8(len(ACROSS)), index).min(0)
    thick = page_after - page_before - 1
    usual = float(np.percentile(thick[hit], 35))
    if usual > 0.3 * len(ACROSS):  # an area's edge, not a line
        return
    line = hit & (thick <= 1.5 * usual + 1.5)
    gone = line & (index >= page_before) & (index <= page_after)
    result.ravel()[places[gone]] = 0


def guesses_at_ink(
    gray: Floats, *, single: bool, light: bool | None = None, wanted: Callable[[bool], bool] = lambda light: True
) -> Iterator[Ink]:
    """Guess what is ink as `candidates` does; after the first guess without the rules, which may be stronger than the ink.

    Not where there are frames: they are no frames any more when a part of them is painted over.
    """
    guesses = candidates(gray, single=single, light=light, wanted=wanted)
    first = next(guesses, None)
    if first is None:
        return
    yield first
    may_be_ruled = wanted(first.light) and not single and without_frames(first.mask) is None
    bare = painted_over(gray, light=first.light) if may_be_ruled else None
    if bare is not None:
        some = candidates(bare, light=first.light, wanted=wanted)
        yield from (replace(ink, name=f"{ink.name}, rules painted over") for ink in islice(some, 2))
    yield from guesses


def variants(ink: Ink) -> Iterator[Ink]:
    """Yield the ink without rules, where there are any, before the ink as it is; frames are never wanted."""
    inside = without_frames(ink.mask)
    if inside is not None:
        ink = replace(ink, mask=inside, name=f"{ink.name}, frames removed")
    bare = without_rules(ink.mask)
    if bare is not None:
        strong = darkest(ink)
        if strong is not None:
            yield replace(ink, mask=strong, name=f"{ink.name}, the darkest")
        yield replace(ink, mask=bare, name=f"{ink.name}, rules removed")
        ink = replace(ink, rules=ink.mask & (1 - (bare if strong is None else bare & strong)))
    yield ink
