"""Weights in and out: safetensors files, written so that an interrupted save loses nothing."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from fastnn import checks, files
from fastnn.arrays import as_array
from fastnn.errors import ArgumentError, DataError, DTypeError, StateError
from fastnn.files import write_atomically

__all__ = ["load", "load_note", "load_with_note", "save", "write_atomically"]

# The one metadata key: the library writes several in random order, and equal weights would give unequal files.
NOTE = "fastnn"
MOST_HEADER = 32 << 20  # bytes of names, shapes and note: more than any network has
MOST_ENTRIES = 150_000  # of the header, each in braces


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
    write_atomically(path, content_of(model, note))


def content_of(model: Any, note: str | None = None) -> bytes:
    """The bytes of the file that `save` writes; raises what it raises."""
    from safetensors import SafetensorError
    from safetensors.numpy import save as to_bytes

    if note is not None:
        checks.text("weights.save", "note", note)
    state = model.state_dict() if hasattr(model, "state_dict") else model
    if not isinstance(state, Mapping):
        raise ArgumentError(f"expected a model or a mapping from names to arrays, got {type(state).__name__}")
    # safetensors reads the memory of an array and ignores its strides.
    off_tape = {name: array.detach() if hasattr(array, "detach") else array for name, array in state.items()}
    arrays = {name: np.asarray(as_array(array), order="C") for name, array in off_tape.items()}
    try:
        content: bytes = to_bytes(arrays, metadata=None if note is None else {NOTE: note})
    except (SafetensorError, ValueError) as error:
        types = ", ".join(sorted({str(array.dtype) for array in arrays.values()}))
        raise DTypeError(f"expected arrays of numbers to save, got {types} ({error})") from error
    return content


def load(path: str | os.PathLike[str], *, like: Mapping[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
    """Names and arrays of a safetensors file, for ``model.load_state_dict(...)``; the arrays are writable.

    Args:
        path: the file.
        like: names and arrays; a file with others, or others' shapes, is refused before an array of it is read.

    Raises:
        DataError: there is no such file, or it is not a whole safetensors file, or holds numbers that NumPy does not
            have. StateError: its names or shapes are not those of `like`.
    """
    if like is not None:
        with _opened(path) as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        if shapes != {name: np.shape(array) for name, array in checks.mapping("weights.load", "like", like).items()}:
            raise StateError(f"expected {len(like)} arrays of other names or shapes than in {os.fspath(path)}")
    return load_with_note(path)[0]


def load_with_note(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], str | None]:
    """``(arrays, note)``: like `load`, and the note that the file was saved with (None without one)."""
    with _opened(path) as file:
        # Copies, because what the library gives may lie in the mapped file.
        arrays = {name: np.array(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
        return arrays, (file.metadata() or {}).get(NOTE)


def load_note(path: str | os.PathLike[str]) -> str | None:
    """The note alone; raises DataError as `load` does."""
    with _opened(path) as file:
        return (file.metadata() or {}).get(NOTE)


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[Any]:
    """A file as the library reads it, after a look at what it is; whatever is wrong with it is a DataError."""
    from safetensors import SafetensorError, safe_open

    checks.path("weights.load", path)
    try:
        with files.open_regular(path) as stream:
            size = int.from_bytes(stream.read(8), "little")
            if size > MOST_HEADER:
                raise ValueError(f"it begins with a header of {size:,} bytes")
            if stream.read(size).count(b"{") > MOST_ENTRIES:
                raise ValueError(f"its header has more than {MOST_ENTRIES:,} entries")
        with safe_open(path, framework="numpy") as file:
            yield file
    except FileNotFoundError as error:
        raise DataError(f"expected a safetensors file, got {os.fspath(path)}, which is not there") from error
    except IsADirectoryError as error:
        raise DataError(
            f"expected a safetensors file, got {os.fspath(path)}, which is a folder: that of a run is for fnn.load_run"
        ) from error
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, OverflowError, OSError) as error:
        reason = getattr(error, "strerror", None) or error  # without Python's "[Errno 13]"
        expected = "expected a whole safetensors file of NumPy's types"
        raise DataError(f"{expected}, got {os.fspath(path)} ({reason})") from error
