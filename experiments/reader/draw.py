"""The reader's work shown: the picture with what was read on it, and the digits as the net saw them."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from experiments.reader.reading import Reading
from tinygrad_lite._files import whole_file

Picture = NDArray[np.uint8]
LABEL = 40  # pixels of height that a label above a box may need
SURE, UNSURE = (0, 140, 0), (220, 60, 0)  # RGB


def annotated(picture: Picture, reading: Reading) -> Picture:
    """Draw boxes, digits and confidences on a copy, (h, w, 3); what is unsure is orange with its second guess.

    It has white margins above and below where digits lie near the border.
    """
    grow = max(1.0, 900 / max(picture.shape[:2]))
    drawn = np.ascontiguousarray(cv2.resize(picture, None, fx=grow, fy=grow, interpolation=cv2.INTER_CUBIC))
    # Room for the labels of digits near the border, which would hide what they are of.
    boxes = [d.box for d in reading.digits]
    above = max([0] + [LABEL - round(y * grow) for _, y, _, _ in boxes])
    below = max([0] + [LABEL + round((y + h) * grow) - len(drawn) for _, y, _, h in boxes])
    drawn = cv2.copyMakeBorder(drawn, above, below, 0, 0, cv2.BORDER_CONSTANT, value=(255, 255, 255))
    taken: list[tuple[int, int, int]] = []  # left, right and line of the labels above the boxes
    for digit in reading.digits:
        x, y, w, h = (round(n * grow) for n in digit.box)
        y += above
        colour = UNSURE if digit.unsure else SURE
        pad = max(2, h // 20)
        cv2.rectangle(drawn, (x - pad, y - pad), (x + w + pad, y + h + pad), colour, max(1, h // 50))
        words = f"{digit.digit} {digit.confidence:.0%}" + (f" or {digit.second}?" if digit.unsure else "")
        size = float(np.clip(h / 130, 0.35, 1.1))
        left, line = x - pad, y - 2 * pad
        right = left + round(20 * size * len(words))
        if any(left < b and a < right and abs(line - at) < 30 * size for a, b, at in taken):  # of a digit that it touches
            line = y + h + 2 * pad + round(24 * size)
        else:
            taken.append((left, right, line))
        _write(drawn, words, (left, line), size, colour)
    if not reading.digits:
        _write(drawn, "no digits found", (10, 40), 1.0, UNSURE)
    return np.asarray(drawn, np.uint8)


def contact_sheet(reading: Reading, zoom: int = 3, columns: int = 12) -> Picture:
    """Lay out the inputs as the net saw them, in reading order, each with its two best guesses below.

    Both digits of a touching pair show the 28x40 picture of the pair.
    """
    side = 28 * zoom
    order = [i for row in reading.rows for i in row]
    tiles = []
    for i in order:
        digit = reading.digits[i]
        tile = np.full((side + 30, side + 6, 3), 255, np.uint8)
        high, wide = (round(n * side / max(digit.image.shape)) for n in digit.image.shape)
        shown = cv2.resize(np.round(digit.image * 255).astype(np.uint8), (wide, high), interpolation=cv2.INTER_NEAREST)
        top = 3 + side - high
        tile[top : top + high, 3 : 3 + wide] = shown[..., None]
        colour = UNSURE if digit.unsure else SURE
        _write(tile, f"{digit.digit}  {digit.confidence:.0%}", (4, side + 14), 0.38, colour)
        _write(tile, f"{digit.second}  {digit.second_confidence:.0%}", (4, side + 27), 0.33, (120, 120, 120))
        tiles.append(tile)
    if not tiles:
        sheet = np.full((60, 260, 3), 255, np.uint8)
        _write(sheet, "no digits found", (10, 36), 0.7, UNSURE)
        return sheet
    columns = min(columns, len(tiles))
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % columns)
    return np.vstack([np.hstack(tiles[i : i + columns]) for i in range(0, len(tiles), columns)])


def save_png(path: Path, picture: Picture) -> None:
    """Write a picture, (h, w, 3) RGB, aside and rename it when it is whole."""
    data = cv2.imencode(".png", picture[..., ::-1])[1].tobytes()
    with whole_file(path) as file:
        file.write(data)


def _write(picture: Picture, words: str, at: tuple[int, int], size: float, colour: tuple[int, int, int]) -> None:
    """Write words on a white label inside the picture."""
    font = cv2.FONT_HERSHEY_SIMPLEX
    (width, height), below = cv2.getTextSize(words, font, size, 1)
    x = int(np.clip(at[0], 0, max(0, picture.shape[1] - width)))
    y = int(np.clip(at[1], height + 2, max(height + 2, picture.shape[0] - below)))
    cv2.rectangle(picture, (x, y - height - 1), (x + width, y + below // 2), (255, 255, 255), -1)
    cv2.putText(picture, words, (x, y), font, size, colour, 1, cv2.LINE_AA)
