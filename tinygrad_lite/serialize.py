"""Weights and checkpoints to and from files: `.safetensors` (the default) and `.npz`. No pickle, so no file can run code.

A file is written aside and renamed when it is whole: whoever looks sees the old one or the new one.
"""

import difflib
import hashlib
import io
import json
import math
import os
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_lite import _check
from tinygrad_lite._files import whole_file
from tinygrad_lite._types import Array
from tinygrad_lite.errors import DtypeError, FileFormatError

SUFFIXES = (".safetensors", ".npz")
CHECKSUM = "sha256"  # in the metadata of .safetensors files and in the comment of .npz files
DTYPES = {  # the names of NumPy and of .safetensors
    "bool": "BOOL",
    "complex64": "C64",
    **{f"{kind}{bits}": f"{kind[0].upper()}{bits}" for kind in ("uint", "int", "float") for bits in (8, 16, 32, 64)},
}
NAMES = {written: name for name, written in DTYPES.items()}
LONGEST = 0xFFFF - len(".npy")  # bytes of a name in an .npz file
OURS = "tinygrad_lite"  # the entry of the metadata with the checksum, in JSON; in older files all of the metadata is in it
MOST_BITS = 10_000  # of an integer in a nested state: Python reads no number of more than 4,300 digits
TREE = "tinygrad_lite.tree"  # the entry with all of a nested state but its arrays, in JSON


def save(state: Mapping[str, Any], path: str | os.PathLike[str], metadata: Mapping[str, str] | None = None) -> None:
    """Write arrays by name, such as a module's state_dict(), or a checkpoint of several such states.

    Parameters
    ----------
    state : mapping from names to arrays of numbers; or, in .safetensors files, to mappings, lists and tuples of arrays, of
        Python's numbers, text and None, as in {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}
    path : file name ending in .safetensors or .npz
    metadata : mapping from str to str, optional; kept in .safetensors files only, where other programs find it too

    Raises
    ------
    FileFormatError : another ending, a name that the format or the library keeps for itself, a nested state for an .npz file,
        or two arrays of one name where the names around them are joined by dots.
    FileNotFoundError : there is no such folder.
    ShapeError : a value of lists that differ in length.
    DtypeError : a value that is no array of numbers, or not of a dtype that the format knows; a name that is no text.

    Notes
    -----
    Arrays go to the file one after the other, without a copy, if they are contiguous and of the machine's byte order.
    """
    target = _checked("save", path)
    for argument, given in (("state", state), ("metadata", {} if metadata is None else metadata)):
        if not isinstance(given, Mapping):
            hint = "; give its .state_dict()" if hasattr(given, "state_dict") else ""
            raise DtypeError(f"save: {argument} must be a mapping, got {type(given).__name__}{hint}.")
    kept = {name for name in (OURS, TREE) if name in (metadata or {})}
    if kept:
        raise FileFormatError(f"save: {min(kept)!r} is a reserved name in metadata, which the library uses; rename this entry.")
    if not all(_is_text(text) for entry in (metadata or {}).items() for text in entry):
        raise DtypeError(f"save: metadata must be from str to str, got {dict(metadata or {})!r:.80}.")
    try:
        if any(map(_is_nested, state.values())):
            if target.suffix != ".safetensors":
                raise FileFormatError(
                    f"save: a {target.suffix} file holds arrays by name alone; for a nested state use .safetensors."
                )
            state, tree = _cut(state)
            metadata = {**(metadata or {}), TREE: tree}
    except RecursionError:
        raise DtypeError("save: the state is nested too deeply, or holds itself.") from None
    arrays = {}
    for name, value in state.items():
        plain = value.numpy() if hasattr(value, "numpy") else value  # a Tensor, whose gradient is not wanted here
        array = _check.array("save", f"the value of {name!r:.80}", plain)
        if not _is_text(name) or array.dtype.kind not in "biufc":
            raise DtypeError(f"save: expected names with arrays of numbers, got {name!r:.80} with dtype {array.dtype}.")
        if name == "__metadata__" and target.suffix == ".safetensors":
            raise FileFormatError(f"save: {name!r} is a reserved name in .safetensors files; rename it or use .npz.")
        if target.suffix == ".npz" and ("\0" in name or len(name.encode()) > LONGEST):
            raise FileFormatError(f"save: {name!r:.80} is too long for .npz files, or has a zero in it; use .safetensors.")
        arrays[name] = array.astype(array.dtype.newbyteorder("="), copy=False)
    with whole_file(target) as file:
        if target.suffix == ".npz":
            with zipfile.ZipFile(file, "w") as archive:  # np.savez cannot write an array named "file"
                for name, array in arrays.items():
                    with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                        np.lib.format.write_array(entry, array, allow_pickle=False)
                archive.comment = f"{CHECKSUM} {_digest(arrays, {})}".encode()
        else:
            file.writelines(_safetensors_parts(arrays, metadata))


def load(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read what save() wrote, or the arrays that any other program wrote in these formats; bfloat16 becomes float32.

    Raises
    ------
    FileNotFoundError : there is no such file.
    FileFormatError : it is damaged, truncated, not of the kind that its name says, or of a dtype that NumPy has not.
    """
    return load_with_metadata(path)[0]


def load_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """Read the metadata of a .safetensors file; empty if it has none."""
    return load_with_metadata(path)[1]


def load_with_metadata(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Read state and metadata together; there are none in .npz files. Raises what load() raises."""
    source = _checked("load", path)
    if not source.is_file():
        raise FileNotFoundError(f"load: there is no file {source}.")
    try:
        arrays, metadata = (_read_npz(source), {}) if source.suffix == ".npz" else _read_safetensors(source)
        return _grown(arrays, metadata.pop(TREE, None)), metadata
    except FileFormatError:
        raise
    except Exception as error:  # a stranger's bytes make zipfile, NumPy and their parsers raise nearly all that there is
        raise FileFormatError(f"load: {source} is not a whole {source.suffix} file: {error}.") from None


def _is_nested(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(map(_is_nested, value))
    return value is None or isinstance(value, (Mapping, str))


def _cut(state: Mapping[str, Any]) -> tuple[dict[str, Array], str]:
    """Give the arrays of a nested state under their full names, and the rest of it as JSON."""
    arrays: dict[str, Any] = {}

    def rest(value: Any, name: str) -> Any:
        if isinstance(value, Mapping):
            if odd := [key for key in value if not _is_text(key)]:
                raise DtypeError(f"save: names must be text, got {odd[0]!r:.80} in {name or 'the state'}.")
            return {"dict": {key: rest(entry, f"{name}.{key}" if name else key) for key, entry in value.items()}}
        if isinstance(value, (list, tuple)):
            kind = "tuple" if isinstance(value, tuple) else "list"
            return {kind: [rest(entry, f"{name}.{i}") for i, entry in enumerate(value)]}
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, int) and value.bit_length() > MOST_BITS:
            raise DtypeError(f"save: {name} has {value.bit_length()} bits, and an integer may have {MOST_BITS} here.")
        if value is None or isinstance(value, (bool, int, float)) or _is_text(value):
            return value
        if name in arrays:
            raise FileFormatError(f"save: there are two arrays of the name {name!r:.80}; rename one.")
        arrays[name] = value
        return {"array": name}

    return arrays, json.dumps(rest(state, ""))


def _grown(arrays: dict[str, Array], tree: str | None) -> dict[str, Any]:
    """Undo `_cut`; arrays alone are the state themselves."""
    if tree is None:
        return arrays

    def whole(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        ((kind, content),) = value.items()
        if kind == "array":
            return arrays.pop(content)
        if kind == "dict":
            return {key: whole(entry) for key, entry in content.items()}
        return {"list": list, "tuple": tuple}[kind](map(whole, content))

    state = whole(json.loads(tree))
    if not isinstance(state, dict) or arrays:
        raise ValueError("its arrays are not those that its tree names")
    return state


def _read_npz(path: Path) -> dict[str, Array]:
    content = path.read_bytes()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = archive.infolist()
        # Zeros pack 1,000 to 1, so a high ratio alone makes no bomb: it must also take a good part of the memory.
        if sum(entry.file_size for entry in entries) > max(_check.memory_limit() // 4, 200 * len(content)):
            raise ValueError(f"its {len(content)} bytes would unpack to more than 200 times as many, and a quarter of memory")
        arrays = {entry.filename.removesuffix(".npy"): _read_array(archive, entry) for entry in entries}
        if len(arrays) < len(entries):
            raise ValueError("it holds two arrays of one name")
        comment = archive.comment.decode("latin-1")
        ours = comment.startswith(CHECKSUM) or _is_nearly(CHECKSUM, comment[: len(CHECKSUM)], comment)
        if ours and comment != f"{CHECKSUM} {_digest(arrays, {})}":
            raise ValueError("its checksum differs, so it is damaged")
        return arrays


def _read_array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Array:
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others may ask for gigabytes themselves
        raise ValueError(f"{entry.filename} is packed as NumPy packs no file")
    with archive.open(entry) as file:  # the shape is compared with the entry's length before memory is asked for
        version = np.lib.format.read_magic(file)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = header(file)
        if dtype.kind not in "biufc":
            raise ValueError(f"{entry.filename} holds no numbers, but dtype {dtype}")
        if math.prod(shape) * dtype.itemsize > entry.file_size:
            raise ValueError(f"{entry.filename} announces shape {shape}, more than its {entry.file_size} bytes")
    with archive.open(entry) as file:
        array: Array = np.lib.format.read_array(file, allow_pickle=False)
        if file.read():  # to the end, where the checksum is compared
            raise ValueError(f"{entry.filename} goes on after its array")
    return array


def _read_safetensors(path: Path) -> tuple[dict[str, Array], dict[str, str]]:
    import safetensors  # when a file is read, not before

    content = path.read_bytes()
    parse: Callable[[bytes], list[tuple[str, dict[str, Any]]]] = safetensors.deserialize
    arrays = {name: _from_bytes(path, name, **entry) for name, entry in parse(content)}  # it checks names, sizes and places
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    metadata: dict[str, str] = header.get("__metadata__") or {}
    if OURS not in metadata:
        if any(_is_nearly(OURS, name, text) for name, text in metadata.items()):
            raise ValueError("the name of its checksum is damaged")
        return arrays, metadata  # another program's file, which has no checksum
    ours = json.loads(metadata.pop(OURS))
    texts = isinstance(ours, dict) and all(isinstance(text, str) for text in ours.values())
    if not texts or ours.pop(CHECKSUM, None) != _digest(arrays, metadata := {**metadata, **ours}):
        raise ValueError("its checksum differs, so it is damaged")
    return arrays, metadata


def _from_bytes(path: Path, name: str, dtype: str, shape: list[int], data: bytes) -> Array:
    if dtype == "BF16":  # the upper halves of float32
        halves = np.frombuffer(data, "<u2").astype(np.uint32)
        return (halves << 16).view(np.float32).reshape(shape)
    if dtype not in NAMES:
        raise FileFormatError(
            f"load: {path} holds {name!r:.80} with dtype {dtype}, which NumPy has not; "
            "let the program that wrote it convert this array to float32."
        )
    array = np.frombuffer(data, np.dtype(NAMES[dtype]).newbyteorder("<")).reshape(shape)
    return array.astype(NAMES[dtype], copy=False).view(NAMES[dtype])  # NumPy's own dtype object, which rules are quickest at


def _is_nearly(ours: str, name: str, text: str) -> bool:
    """Whether it is our entry but for damage to its name or its 64 digits, which must not switch the check off.

    Neither is a sign alone: other programs keep checksums too, under names of their own.
    """
    digits = re.findall("[0-9a-f]", text[-66:])  # JSON ends in "} after them
    return len(digits) > 48 and difflib.SequenceMatcher(None, name, ours).ratio() > 0.6


def _digest(arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(sorted(metadata.items())).encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(json.dumps([name, array.dtype.str, array.shape]).encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _is_text(value: object) -> bool:
    """Whether it is a string that can be written: one may hold half of a surrogate pair."""
    return isinstance(value, str) and value.encode(errors="replace") == value.encode(errors="surrogatepass")


def _checked(function: str, path: str | os.PathLike[str]) -> Path:
    result = _check.path(function, path)
    if result.suffix not in SUFFIXES:
        raise FileFormatError(f"{function}: a weight file must end in {' or '.join(SUFFIXES)}, got {result.name!r}.")
    return result


def _safetensors_parts(arrays: Mapping[str, Array], metadata: Mapping[str, str] | None) -> Iterator[bytes | memoryview]:
    """The length of the header, the header, and the arrays: wider numbers first, so that each has its alignment."""
    given = dict(metadata or {})
    entries = {**given, OURS: json.dumps({CHECKSUM: _digest(arrays, given)})}
    header: dict[str, Any] = {"__metadata__": dict(sorted(entries.items()))}  # the same entries, the same file
    order = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))
    end = 0
    for name in order:
        array = arrays[name]
        if array.dtype.name not in DTYPES:
            raise DtypeError(f"save: .safetensors files cannot hold {name!r} with dtype {array.dtype}; use .npz.")
        begin, end = end, end + array.nbytes
        header[name] = {"dtype": DTYPES[array.dtype.name], "shape": array.shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for name in order:
        yield np.asarray(arrays[name], arrays[name].dtype.newbyteorder("<"), order="C").data
