"""LeNet's weights in the origin's MATLAB file, `lenet.mat`: read and written.

`params` is a 1x9 cell array of structs {w, b}, one a layer; those of layers that learn nothing (2, 3, 5, 6 and 8) are empty.
MATLAB counts the first index fastest and its images are transposed, so its h is our column: what is h fastest, then w, then
channel there is (channel, row, column) in C order here, and a transposed `w` only needs another shape. The last `w` has nine
rows: the logit of the digit 9 is always 0 there.

`python -m models.lenet_mat FROM TO` converts between .mat and .safetensors or .npz. What FROM was trained on pixels divided by
goes into the first kernels; a net without ReLU after the convolutions goes to .safetensors only.
"""

import argparse
import math
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import scipy.sparse

from models.lenet import LeNet
from models.load import read_state
from tinygrad_lite import FileFormatError, ShapeError, TinygradError, _check, serialize
from tinygrad_lite._files import whole_file
from tinygrad_lite._types import Array

CELLS = {1: "conv1", 4: "conv2", 7: "fc1", 9: "fc2"}  # the cell of each layer that learns, counted from 1
MAX_BYTES = 1 << 28  # sixty times such a file


def load(path: str | os.PathLike[str]) -> dict[str, Array]:
    """Read a weight file that MATLAB or SciPy wrote.

    Parameters
    ----------
    path : file with `params` as described above; a last layer with all ten rows, biases as rows or columns, single precision,
        sparse matrices, a last w the other way round, a 9x1 cell array or a 1x9 struct array will do too

    Returns
    -------
    dict of str to array : LeNet's state_dict, float64 (float32 where the file has single precision)

    Raises
    ------
    FileNotFoundError : there is no such file.
    FileFormatError : it is no whole MAT file, or its `params` are those of another net; the message says what differs.
    """
    source = _check.path("lenet_mat", path)
    if not source.is_file():
        raise FileNotFoundError(f"lenet_mat: there is no file {source}.")
    layers = _layers(source)
    shapes = _shapes()
    state: dict[str, Array] = {}
    differences = []
    for cell, layer in enumerate(layers, 1):
        name = CELLS.get(cell)
        struct = _unwrapped(layer)
        arrays = {
            key: _array(struct[key].item()) for key in ("w", "b") if key in (struct.dtype.names or ()) and struct.size == 1
        }
        if name is None:
            differences += [
                f"cell {cell}: {key} must be empty, got shape {value.shape}" for key, value in arrays.items() if value.size
            ]
            continue
        if len(arrays) < 2:
            found = ", ".join(struct.dtype.names) if struct.dtype.names else f"{struct.dtype} of shape {struct.shape}"
            differences.append(f"cell {cell} ({name}): must be a struct with the fields w and b, got {found}")
            continue
        shape = shapes[f"{name}.weight"]
        c_out = shape[0]
        if name == "fc2":
            allowed, outputs = [(c_out - 1, *shape[1:]), shape], arrays["w"].shape[0]
        else:
            allowed, outputs = [(int(np.prod(shape[1:])), c_out)], c_out
        w, b = arrays["w"], arrays["b"]
        if name == "fc2" and w.shape[::-1] in allowed:  # the other way round
            w, outputs = w.T, w.shape[1]
        if w.shape not in allowed:
            differences.append(f"cell {cell} ({name}): w must be {' or '.join(map(str, allowed))}, got {w.shape}")
        elif b.size != outputs or max(b.shape) != b.size:
            differences.append(f"cell {cell} ({name}): b must hold {outputs} numbers in a row or a column, got {b.shape}")
        elif w.dtype.kind not in "iuf" or b.dtype.kind not in "iuf":
            differences.append(f"cell {cell} ({name}): w and b must hold real numbers, got {w.dtype} and {b.dtype}")
        else:
            # MATLAB stores doubles that all happen to be whole numbers, such as zero biases, as integers.
            w, b = (x if x.dtype.kind == "f" else x.astype(np.float64) for x in (w, b.reshape(-1)))
            if name != "fc2":
                w = w.T
            missing = c_out - len(b)  # 1 where the last logit is left out
            state[f"{name}.weight"] = np.ascontiguousarray(np.pad(w, ((0, missing), (0, 0)))).reshape(shape)
            state[f"{name}.bias"] = np.pad(b, (0, missing))
    if differences:
        raise FileFormatError(f"lenet_mat: the params in {source} are not of this LeNet: {'; '.join(differences)}.")
    return state


def save(state: Mapping[str, Array], path: str | os.PathLike[str]) -> None:
    """Write LeNet's state_dict for the origin's programs, in double precision.

    The last layer's tenth row and bias are subtracted from all ten and left out. Softmax stays as it is.

    Raises
    ------
    ShapeError : the names or shapes are not LeNet's; nothing was written then.
    FileFormatError : the name does not end in .mat.
    """
    target = _check.path("lenet_mat", path)
    if target.suffix.lower() != ".mat":
        raise FileFormatError(f"lenet_mat: the name must end in .mat, got {target.name!r}.")
    _check.entries("lenet_mat", state, ())
    _refuse_others(state)
    nothing = {"w": np.zeros((0, 0)), "b": np.zeros((0, 0))}
    params = np.empty((1, max(CELLS)), object)
    for cell in range(1, params.size + 1):
        name = CELLS.get(cell)
        if name is None:
            params[0, cell - 1] = nothing
            continue
        weight, bias = (np.asarray(state[f"{name}.{kind}"], np.float64) for kind in ("weight", "bias"))
        if name == "fc2":
            w, b = weight[:-1] - weight[-1], (bias[:-1] - bias[-1])[:, None]
        else:
            w, b = weight.reshape(len(weight), -1).T, bias[None]
        params[0, cell - 1] = {"w": w, "b": b}
    with whole_file(target) as file:
        scipy.io.savemat(file, {"params": params}, do_compression=True)


def _layers(source: Path) -> list[Any]:
    """The nine entries of `params`."""
    if source.stat().st_size > MAX_BYTES:
        raise FileFormatError(f"lenet_mat: {source} is larger than {MAX_BYTES} bytes, so it is no weight file of LeNet.")
    try:
        names = [name for name, *_ in scipy.io.whosmat(source)]
        content = scipy.io.loadmat(source, variable_names=["params"])
    except NotImplementedError:
        raise FileFormatError(
            f"lenet_mat: {source} is a MAT file of version 7.3 (HDF5); save it in MATLAB with save(..., '-v7')."
        ) from None
    except Exception as error:  # SciPy's parser meets damage with errors of every kind
        raise FileFormatError(
            f"lenet_mat: {source} is not a whole MAT file: {str(error).rstrip('.')}; copy it again, or save it anew."
        ) from None
    if "params" not in content:
        found = ", ".join(names) or "none"
        raise FileFormatError(f"lenet_mat: {source} must have a variable `params`, a cell array of layers, got {found}.")
    params = np.asarray(content["params"])
    of_structs = params.dtype == object or params.dtype.names is not None
    if not of_structs or params.size != max(CELLS) or max(params.shape) != params.size:
        raise FileFormatError(
            f"lenet_mat: params in {source} must be a cell array of {max(CELLS)} structs, "
            f"got shape {params.shape} of dtype {params.dtype}."
        )
    return list(params.reshape(-1))


def _unwrapped(layer: Any) -> Array:
    """The struct in a cell, which may lie in cells of its own, as SciPy writes what it has read."""
    struct = np.asarray(layer)
    while struct.dtype == object and struct.size == 1 and isinstance(inner := struct.item(), np.ndarray):
        struct = inner
    return struct


def _array(value: Any) -> Array:
    if scipy.sparse.issparse(value):
        if 8 * math.prod(value.shape) > MAX_BYTES:  # a few bytes can announce any shape
            raise FileFormatError(f"lenet_mat: a sparse array of shape {value.shape} is no weight of LeNet.")
        value = value.toarray()
    return np.atleast_1d(np.asarray(value))


def _shapes() -> dict[str, tuple[int, ...]]:
    return {name: value.shape for name, value in LeNet(np.random.default_rng(0)).state_dict().items()}


def _refuse_others(state: Mapping[str, Array]) -> None:
    """Raise ShapeError if the names or shapes are not LeNet's."""
    shapes, given = _shapes(), {name: np.shape(value) for name, value in state.items()}
    if given != shapes:
        differ = sorted({name for name, _ in given.items() ^ shapes.items()})
        listed = ", ".join(f"{name} {given.get(name, 'missing')}, expected {shapes.get(name, 'none')}" for name in differ)
        raise ShapeError(f"lenet_mat: these weights are not of this LeNet: {listed}.")


def main(argv: list[str] | None = None) -> int:
    """Command line; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m models.lenet_mat", description="Convert LeNet's weights to or from .mat.")
    parser.add_argument("source", help="a file ending in .mat, .safetensors or .npz")
    parser.add_argument("target", help="the file to write, ending in one of these")
    options = parser.parse_args(argv)
    try:
        source, target = Path(options.source), Path(options.target)
        state, metadata = read_state(source)
        _refuse_others(state)
        if broken := [name for name, values in state.items() if not np.isfinite(values).all()]:
            raise FileFormatError(f"{source}: {broken[0]} holds NaN or infinity, which no program can use.")
        if target.suffix.lower() != ".mat" and target.suffix not in serialize.SUFFIXES:
            raise FileFormatError(f"the name must end in .mat, {' or '.join(serialize.SUFFIXES)}, got {target.name!r}.")
        if target.suffix != ".safetensors" and metadata.get("relu_after_conv") == "False":
            raise FileFormatError(
                f"{source} is a net without ReLU after the convolutions, which only .safetensors files can say, got "
                f"{target.name!r}; read there it would be another net."
            )
        if target.suffix.lower() == ".mat":
            save(state, target)
        else:
            serialize.save(state, target, metadata)
    except (TinygradError, OSError) as error:
        print(f"lenet_mat: {str(error).removeprefix('lenet_mat: ')}", file=sys.stderr)
        return 1
    print(f"Written: {target}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
