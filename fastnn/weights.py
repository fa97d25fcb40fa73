"""Weights in and out: safetensors files, written so that an interrupted save loses nothing."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fastnn.arrays import as_array
from fastnn.errors import ArgumentError, DataError, DTypeError

__all__ = ["load", "load_with_note", "save", "write_atomically"]

# The one metadata key: the library writes several in random order, and equal weights would give unequal files.
NOTE = "fastnn"


def save(model: Any, path: str | os.PathLike[str], *, note: str | None = None) -> None:
    """Write a model's state, or any mapping from names to arrays, as a safetensors file.

    Equal names, arrays and notes give equal bytes. The file appears whole or not at all: whatever was at `path` stays
    until the new file is complete.

    Args:
        model: something with ``state_dict()``, or a mapping from names to arrays of any strides.
        path: the file to write; its folder must exist.
        note: a text to keep in the file, under the one metadata key ``"fastnn"``.

    Raises:
        DTypeError: an entry that safetensors has no type for (complex numbers of double precision, objects, text).
        ArgumentError: `model` is neither. OSError: the file cannot be written.

    >>> import tempfile, fastnn as fnn
    >>> model, other = fnn.nn.Linear(3, 2), fnn.nn.Linear(3, 2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     fnn.weights.save(model, f"{folder}/linear.safetensors")
    ...     _ = other.load_state_dict(fnn.weights.load(f"{folder}/linear.safetensors"))
    >>> bool((model.weight.data == other.weight.data).all())
    True
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save as to_bytes

    state = model.state_dict() if hasattr(model, "state_dict") else model
    if not isinstance(state, Mapping):
        raise ArgumentError(f"expected a model or a mapping from names to arrays, got {type(state).__name__}")
    # safetensors reads the memory behind an array and heeds no strides.
    off_tape = {name: array.detach() if hasattr(array, "detach") else array for name, array in state.items()}
    arrays = {name: np.asarray(as_array(array), order="C") for name, array in off_tape.items()}
    try:
        content = to_bytes(arrays, metadata=None if note is None else {NOTE: note})
    except (SafetensorError, ValueError) as error:
        types = ", ".join(sorted({str(array.dtype) for array in arrays.values()}))
        raise DTypeError(f"expected arrays of numbers to save, got {types} ({error})") from error
    write_atomically(path, content)


def load(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Names and arrays of a safetensors file, for ``model.load_state_dict(...)``; the arrays are writable.

    Raises:
        DataError: there is no such file, or it is not a whole safetensors file, or holds numbers that NumPy does not
            have.
    """
    return load_with_note(path)[0]


def load_with_note(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], str | None]:
    """``(arrays, note)``: like `load`, and the note that the file was saved with (None without one)."""
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "is not there"
        raise DataError(f"expected a safetensors file, got {path}, which {found}")
    try:
        with safe_open(path, framework="numpy") as file:
            # Copies, because what the library gives may lie in the mapped file.
            arrays = {name: np.array(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
            note = (file.metadata() or {}).get(NOTE)
    except (SafetensorError, KeyError, TypeError, AttributeError, OSError) as error:
        reason = getattr(error, "strerror", None) or error  # without Python's "[Errno 13]"
        raise DataError(f"expected a whole safetensors file of NumPy's types, got {path} ({reason})") from error
    return arrays, note


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Put `content` into the file `path`: what was there stays until the new content lies whole on the disk.

    A symbolic link stays a link; a pipe or a device is written to directly.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        with open(target, "wb") as stream:
            stream.write(content)
        return
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            if not target.parent.is_dir():
                raise FileNotFoundError(f"cannot write {os.fspath(path)}: there is no folder {target.parent}") from None
            error.filename, error.filename2 = os.fspath(path), None  # not the temporary file's name
        raise
