"""The digits of fonts, in the form of MNIST's: writing that no net here was trained with, for `experiments.pages --fonts`."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from experiments.mnist import Digits
from experiments.reader.normalise import normalise
from experiments.runs import RunError

HEIGHT = 200  # of the letters, pixels, before they are shrunk to 28x28


def digits_of(files: list[Path]) -> Digits:
    """Draw the ten digits of each font file, (10 fonts, 28, 28).

    Raises
    ------
    RunError : a file is missing or no font that FreeType reads, or the font has not ten digits that differ.
    """
    images = []
    for file in files:
        if not file.is_file():
            raise RunError(f"--fonts: {file} is not a file; `fc-list` names those of the fonts that are installed.")
        try:
            font = ImageFont.truetype(file, HEIGHT)
            drawn = [_drawn(str(digit), font) for digit in range(10)]
        except OSError as error:
            raise RunError(f"--fonts: {file} is no font that can be read: {error}.") from None
        small = [np.round(normalise(ink) * 255).astype(np.uint8) for ink in drawn]
        if len({image.tobytes() for image in small}) < 10:  # what a font lacks it draws as nothing, or as a box
            raise RunError(f"--fonts: {file} has not all ten digits.")
        images += small
    return Digits(np.array(images), np.tile(np.arange(10, dtype=np.uint8), len(files)))


def _drawn(text: str, font: ImageFont.FreeTypeFont) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Give the ink of a text, float32 (h, w) in [0, 1]."""
    left, top, right, bottom = font.getbbox(text)
    picture = Image.new("L", (max(1, round(right - left)), max(1, round(bottom - top))))
    ImageDraw.Draw(picture).text((-left, -top), text, fill=255, font=font)
    return np.asarray(picture, np.float32) / 255
