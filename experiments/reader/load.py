"""An image file, of whatever kind, as an upright RGB picture of a size worth looking at; or words about why not."""

import contextlib
import importlib
import stat
import warnings
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from tinygrad_lite.errors import FileFormatError

LONG_SIDE = 1600  # pixels kept of a photograph: digits on a full page are still 30 pixels high
MAX_PIXELS = 80_000_000  # decoded whole, this takes a quarter of a gigabyte
VIDEO = {".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".3gp", ".mpg", ".mpeg", ".wmv"}
BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"II*\0", b"MM\0*", b"DDS ")  # of pictures that Pillow knows
MANY = ("TIFF", "GIF", "WEBP", "PNG")  # not MPO, phones' JPEGs: their further pictures are of the same scene


class UnreadableImageError(FileFormatError):
    """A file that is no picture the reader can take; the message says why and what to do."""


def load(path: Path) -> tuple[NDArray[np.uint8], float]:
    """Load a picture as a person would see it.

    Parameters
    ----------
    path : Path
        JPEG, PNG, WebP, BMP, TIFF, GIF (the first page or frame): whatever Pillow reads, PostScript aside; HEIC, which iPhones
        write, where pillow-heif is installed. Rotated as EXIF says; transparent pixels become whichever of white and black
        the ink stands out from; 16 bits a pixel are stretched to 8.

    Returns
    -------
    (uint8 (h, w, 3), float)
        RGB, its longer side LONG_SIDE at most, and how many of the file's pixels one of its pixels is wide.

    Raises
    ------
    UnreadableImageError : missing, empty, not an image, truncated, too large, a video, or closed to us.
    """
    with opened(path) as file:
        width, height = file.size
        # A JPEG can be decoded at 1/2, 1/4 or 1/8 of its size, not smaller than asked for, which saves most of the time.
        file.draft(None, (max(1, width * LONG_SIDE // max(file.size)), max(1, height * LONG_SIDE // max(file.size))))
        file.load()
        ImageOps.exif_transpose(file, in_place=True)
        pixels = _rgb(file)
    long_side = max(pixels.shape[:2])
    if long_side > LONG_SIDE:
        down, across = (max(LONG_SIDE / long_side, 1 / side) for side in pixels.shape[:2])  # to one pixel at least
        pixels = np.asarray(cv2.resize(pixels, None, fx=across, fy=down, interpolation=cv2.INTER_AREA), np.uint8)
    return np.ascontiguousarray(pixels), max(width, height) / max(pixels.shape[:2])


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """Open a picture to decode it in this context: the one way to do so, in which no file has a program run.

    Raises
    ------
    UnreadableImageError : see load(); of damage that is met in the context, too.
    """
    _check_file(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own warning about size: the check below is stricter
            with _open(path) as file:
                width, height = file.size
                if width * height > MAX_PIXELS:
                    raise _too_large(path, f"{width * height / 1e6:.0f} ({width}x{height})")
                yield file
    except UnreadableImageError:
        raise
    except Image.DecompressionBombError:  # twice Pillow's own limit: it does not say how wide and high
        raise _too_large(path, f"more than {2 * (Image.MAX_IMAGE_PIXELS or 0) // 1_000_000}") from None
    except UnidentifiedImageError:
        with path.open("rb") as begun:
            head = begun.read(16)
        if head.startswith(BEGINNINGS):  # some of Pillow's versions give up damaged ones so early
            raise _damaged(path, "its beginning is all that is a picture") from None
        raise UnreadableImageError(
            f"load: expected an image, {path} is none that Pillow knows{_guess(head)}; save it as PNG or JPEG."
        ) from None
    except Exception as error:  # Pillow's decoders meet damage with errors of every kind
        raise _damaged(path, str(error).strip()) from None


def _damaged(path: Path, why: str) -> UnreadableImageError:
    return UnreadableImageError(f"load: {path} is damaged or incomplete ({why}); copy or export it again.")


def holds_more(path: Path) -> bool:
    """Whether a file that load() takes holds more pictures than the first: pages of a TIFF, frames of an animation."""
    try:
        with opened(path) as file:
            if file.format in MANY:
                file.seek(1)
                return True
    except UnreadableImageError:  # there is no second, or none that can be read
        pass
    return False


def _check_file(path: Path) -> None:
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):  # no name can hold the character 0
        raise UnreadableImageError(f"load: expected an image file, {path} does not exist; check the name.") from None
    except OSError as error:
        raise _closed(path, error) from None
    if not stat.S_ISREG(found.st_mode):
        what = f"is a folder; give its files, {path}/*" if stat.S_ISDIR(found.st_mode) else "is none; check the name"
        raise UnreadableImageError(f"load: expected an image file, {path} {what}.")
    if found.st_size == 0:
        raise UnreadableImageError(f"load: expected an image file, {path} has 0 bytes; copy or export it again.")
    if path.suffix.lower() in VIDEO:
        raise UnreadableImageError(f"load: expected an image, {path} is a video; save one of its frames as PNG or JPEG.")
    try:
        path.open("rb").close()
    except OSError as error:
        raise _closed(path, error) from None


def _closed(path: Path, error: OSError) -> UnreadableImageError:
    return UnreadableImageError(f"load: {path} cannot be read ({error.strerror}); check the name and who may read it.")


def _too_large(path: Path, megapixels: str) -> UnreadableImageError:
    return UnreadableImageError(
        f"load: expected at most {MAX_PIXELS // 1_000_000} megapixels, {path} has {megapixels}; shrink it first."
    )


def _open(path: Path) -> Image.Image:
    """Open a file of any kind but EPS: those are programs, which Pillow has Ghostscript run. IPTC may hold any other file."""
    for find_decoders in (Image.preinit, Image.init, _heif):  # the usual ones first: all of them take 0.1 s to import
        find_decoders()
        with contextlib.suppress(UnidentifiedImageError):
            return Image.open(path, formats=[name for name in Image.ID if name not in ("EPS", "IPTC")])
    raise UnidentifiedImageError


def _heif() -> None:
    """Have Pillow read HEIC, where the package for it is installed. It is large, and its wheels are under the GPL."""
    with contextlib.suppress(ImportError):
        importlib.import_module("pillow_heif").register_heif_opener()


def _rgb(picture: Image.Image) -> NDArray[np.uint8]:
    """Bring any mode to RGB of 8 bits."""
    if picture.mode.startswith("I") or picture.mode == "F":  # 16 or 32 bits, gray
        values = np.asarray(picture, np.float64)
        values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
        low, high = float(values.min()), float(values.max())
        gray = (values - low) / max(high - low, 1e-9) * 255
        return np.repeat(np.round(gray).astype(np.uint8)[..., None], 3, axis=2)
    if "A" in picture.getbands() or "transparency" in picture.info:
        rgba = np.asarray(picture.convert("RGBA"), np.float32)
        alpha = rgba[..., 3:] / 255
        if alpha.min() < 1:
            # Drawn on nothing: dark ink wants a white page and light ink a black one.
            shown = float((rgba[..., :3] * alpha).sum() / max(3 * float(alpha.sum()), 1e-6))
            page = 255.0 if shown < 128 else 0.0
            return np.asarray(np.round(rgba[..., :3] * alpha + page * (1 - alpha)), np.uint8)
        return np.asarray(rgba[..., :3], np.uint8)
    return np.asarray(picture if picture.mode == "RGB" else picture.convert("RGB"), np.uint8)


def _guess(head: bytes) -> str:
    """Say what a file that is no image seems to be, by its first 16 bytes."""
    if head[4:8] == b"ftyp":
        heif = head[8:11] in (b"hei", b"hev", b"mif", b"msf")
        return " (it looks like HEIC: `pip install pillow-heif` for these)" if heif else " (it looks like a video)"
    kinds = {
        b"%PDF": "a PDF",
        b"%!PS": "PostScript",
        b"PK\x03\x04": "a ZIP or office file",
        b"RIFF": "a sound or a video",
        b"\x1aE\xdf\xa3": "a video",
    }
    return next((f" (it looks like {name})" for magic, name in kinds.items() if head.startswith(magic)), "")
