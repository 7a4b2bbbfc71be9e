"""Names of files and folders as text that can be drawn and printed, whatever is in them."""

import io
import sys


def as_drawn(text: str) -> str:
    """Give a text as Matplotlib draws it letter by letter: dollar signs begin no formula, and what no font has is a box."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    font, letters = get_font(findfont(FontProperties())), text.encode(errors="backslashreplace").decode()
    drawn = [letter if letter.isspace() or font.get_char_index(ord(letter)) else "\N{WHITE SQUARE}" for letter in letters]
    return "".join(drawn).replace("$", r"\$")


def print_any() -> None:
    """Have print() write what is no UTF-8, as a file's name may not be, with backslashes."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
