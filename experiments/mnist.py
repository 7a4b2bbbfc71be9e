"""MNIST, and data sets in the same files: IDX, raw or gzipped, read strictly.

IDX: a big-endian magic number (2051 for images, 2049 for labels), the count, for images rows and columns, then bytes.
Fashion-MNIST (Xiao, Rasul & Vollgraf 2017, MIT licence) comes in the same four files: github.com/zalandoresearch/fashion-mnist
has them under data/fashion, Debian in /usr/share/datasets/fashion-mnist (package dataset-fashion-mnist).

Source of the format: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits".
"""

import gzip
import hashlib
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinygrad_lite import FileFormatError

DATA_DIR = Path(__file__).parent / "data" / "mnist"
SHA256 = {  # of the raw bytes
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
MAX_BYTES = 1 << 30  # no file of such a data set comes near; a gzip bomb stops here


class Digits(NamedTuple):
    """Images with their labels."""

    images: NDArray[np.uint8]  # (n, rows, columns), 0 is background
    labels: NDArray[np.uint8]  # (n,), 0 to 9

    def take(self, count: int | None) -> "Digits":
        """Give the first `count`, or all."""
        return Digits(self.images[:count], self.labels[:count])


def load(data_dir: str | Path | None = None) -> tuple[Digits, Digits]:
    """Read the training and the test set.

    Parameters
    ----------
    data_dir : folder with the four files, each raw or with ".gz"; None for the MNIST of this repository, whose
        SHA-256 are checked

    Returns
    -------
    (Digits, Digits) : 60,000 and 10,000 of them for MNIST

    Raises
    ------
    FileNotFoundError : a file is missing.
    FileFormatError : one is truncated, swapped, damaged or of another format.
    """
    folder = DATA_DIR if data_dir is None else Path(data_dir)
    sets = []
    for part in ("train", "t10k"):
        image_file, label_file = f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte"
        images = read_idx(folder, image_file, check_sha256=data_dir is None)
        labels = read_idx(folder, label_file, check_sha256=data_dir is None)
        if len(images) != len(labels):
            raise FileFormatError(
                f"mnist: {image_file} holds {len(images)} images but {label_file} {len(labels)} labels; "
                f"are the files in {folder} of one data set?"
            )
        if images.shape[1:] != (28, 28):
            raise FileFormatError(
                f"mnist: {image_file} must hold images of 28x28 pixels, got {images.shape[1]}x{images.shape[2]}."
            )
        if labels.size == 0 or labels.max() > 9:
            found = "none" if labels.size == 0 else f"a {labels.max()}"
            raise FileFormatError(f"mnist: {label_file} must hold labels 0 to 9, found {found}.")
        sets.append(Digits(images, labels))
    return sets[0], sets[1]


def read_idx(folder: Path, name: str, check_sha256: bool = False) -> NDArray[np.uint8]:
    """Read one IDX file of bytes, raw or gzipped: images (n, rows, columns) or labels (n,), as its name says."""
    raw = _raw_bytes(folder, name)
    if check_sha256 and hashlib.sha256(raw).hexdigest() != SHA256[name]:
        raise FileFormatError(f"mnist: {folder / name} is damaged: its SHA-256 is not MNIST's; fetch it again.")
    magic, axes = (2051, 3) if "images" in name else (2049, 1)
    head = 4 + 4 * axes
    if len(raw) < head:
        raise FileFormatError(f"mnist: {name} is truncated: expected a head of {head} bytes, got {len(raw)}.")
    found, *sizes = struct.unpack(f">{1 + axes}I", raw[:head])
    if found != magic:
        kind = {2051: "images", 2049: "labels"}.get(found, "no IDX file of bytes")
        raise FileFormatError(f"mnist: {name} must start with the magic number {magic}, got {found} ({kind}).")
    expected = head + int(np.prod(sizes, dtype=object))
    if len(raw) != expected:
        raise FileFormatError(
            f"mnist: {name} announces {' x '.join(map(str, sizes))} bytes, {expected} with its head, but has {len(raw)}."
        )
    return np.frombuffer(raw, np.uint8, offset=head).reshape(sizes)


def _raw_bytes(folder: Path, name: str) -> bytes:
    plain, packed = folder / name, folder / f"{name}.gz"
    if plain.is_file():
        if plain.stat().st_size > MAX_BYTES:
            raise FileFormatError(f"mnist: {plain} is larger than {MAX_BYTES} bytes, so it is no such data set.")
        return plain.read_bytes()
    if not packed.is_file():
        raise FileNotFoundError(
            f"mnist: expected {name} or {name}.gz in {folder}, found neither; put the files there, or name "
            "their folder with --data-dir."
        )
    try:
        with gzip.open(packed) as file:
            raw = file.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise FileFormatError(f"mnist: {packed} is not a whole gzip file: {error}.") from None
    if len(raw) > MAX_BYTES:
        raise FileFormatError(f"mnist: {packed} unpacks to more than {MAX_BYTES} bytes, so it is no such data set.")
    return raw
