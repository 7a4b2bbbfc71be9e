"""Weights to and from files: `.safetensors` (the default) and `.npz`. No pickle, so no file can run code.

A file is written aside and renamed when it is whole: whoever looks sees the old one or the new one.
"""

import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_lite._types import Array
from tinygrad_lite.errors import DtypeError, FileFormatError

SUFFIXES = (".safetensors", ".npz")


def save(state: Mapping[str, Array], path: str | os.PathLike[str], metadata: Mapping[str, str] | None = None) -> None:
    """Write arrays by name, such as a module's state_dict().

    Parameters
    ----------
    state : mapping from names to arrays of numbers
    path : file name ending in .safetensors or .npz
    metadata : mapping from str to str, optional; kept in .safetensors files only

    Raises
    ------
    FileFormatError : another ending, or a name that the format keeps for itself.
    DtypeError : a value that is no array of numbers, or not of a dtype that the format knows; a name that is no string.
    """
    target = _checked(path)
    arrays = {}
    for name, value in state.items():
        array = np.asarray(value)
        if not isinstance(name, str) or array.dtype.kind not in "biufc":
            raise DtypeError(f"save: expected names with arrays of numbers, got {name!r} with dtype {array.dtype}.")
        if name == "__metadata__" and target.suffix == ".safetensors":
            raise FileFormatError(f"save: {name!r} is a reserved name in .safetensors files; rename it or use .npz.")
        arrays[name] = np.ascontiguousarray(array).reshape(array.shape)
    aside = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with open(aside, "wb") as file:
            if target.suffix == ".npz":
                with zipfile.ZipFile(file, "w") as archive:  # np.savez cannot write an array named "file"
                    for name, array in arrays.items():
                        with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                            np.lib.format.write_array(entry, array, allow_pickle=False)
            else:
                file.write(_safetensors_bytes(arrays, metadata))
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, target)
    finally:
        aside.unlink(missing_ok=True)


def load(path: str | os.PathLike[str]) -> dict[str, Array]:
    """Read the arrays that save() wrote, or that any other program wrote in these formats.

    Raises
    ------
    FileNotFoundError : there is no such file.
    FileFormatError : it is damaged, truncated, or not of the kind that its name says.
    """
    source = _checked(path)
    if not source.is_file():
        raise FileNotFoundError(f"load: there is no file {source}.")
    try:
        if source.suffix == ".npz":
            with zipfile.ZipFile(source) as archive:
                return {name.removesuffix(".npy"): _read_array(archive, name) for name in archive.namelist()}
        return dict(_safetensors().load(source.read_bytes()))
    except (*_DAMAGE, _safetensors().SafetensorError) as error:
        raise FileFormatError(f"load: {source} is not a whole {source.suffix} file: {error}.") from None


def load_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """Read the metadata of a .safetensors file; empty if it has none."""
    source = _checked(path)
    load(source)  # all checks of the format
    with open(source, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header: dict[str, Any] = json.loads(file.read(length))
    return dict(header.get("__metadata__", {}))


# What zipfile, zlib, NumPy and the file system say of a damaged file.
_DAMAGE = (ValueError, KeyError, EOFError, OSError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error)


def _read_array(archive: zipfile.ZipFile, name: str) -> Array:
    with archive.open(name) as entry:
        array: Array = np.lib.format.read_array(entry, allow_pickle=False)
        if entry.read():  # to the end, where the checksum is compared
            raise ValueError(f"{name} goes on after its array")
    return array


def _checked(path: str | os.PathLike[str]) -> Path:
    result = Path(path)
    if result.suffix not in SUFFIXES:
        raise FileFormatError(f"a weight file must end in {' or '.join(SUFFIXES)}, got {result.name!r}.")
    return result


def _safetensors_bytes(arrays: dict[str, Array], metadata: Mapping[str, str] | None) -> bytes:
    try:
        content: bytes = _safetensors().save(arrays, dict(metadata) if metadata else None)
    except _safetensors().SafetensorError as error:
        raise DtypeError(f"save: .safetensors files cannot hold one of these arrays ({error}); use .npz.") from None
    return content


def _safetensors() -> Any:
    """Import the library when a file is read or written, not before."""
    import safetensors
    import safetensors.numpy

    class Format:
        save = staticmethod(safetensors.numpy.save)
        load = staticmethod(safetensors.numpy.load)
        SafetensorError = safetensors.SafetensorError

    return Format
