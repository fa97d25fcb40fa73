"""Nested containers of tensors, numbers and text in one safetensors file: PyTorch's `save` and `load`, without pickle.

The arrays are the file's entries; how they hang together is written as JSON in its metadata. A state dict's file is an
ordinary safetensors file with the same names.
"""

from __future__ import annotations

import json
import math
import os
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastnn import weights
from fastnn.errors import ArgumentError, DataError, DTypeError
from fastnn.formats import parse_json
from fastnn.tensors import Tensor

__all__ = ["load", "save"]

FORMAT = "containers 1"
BEGINNING = json.dumps({"format": FORMAT}).removesuffix("}")
DEEPEST = 64  # levels of containers
_SEQUENCES: dict[str, Any] = {"list": list, "tuple": tuple}
_MAPPINGS: dict[str, Any] = {"dict": dict, "ordered": OrderedDict}
_WORDS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}  # which JSON does not have


def save(obj: Any, f: str | os.PathLike[str], *_: Any, **__: Any) -> None:
    """Writes `obj` to the file `f`, for `load`; whatever was there stays until the new file is complete.

    Args:
        obj: tensors, arrays, numbers, text, None and booleans, in dicts, OrderedDicts, lists and tuples of any depth up
            to 64: a state dict, an optimiser's, or ``{"model": ..., "optimizer": ..., "epoch": 3}``. An array that
            occurs twice is written once.
        f: the path; any ending will do. PyTorch's other arguments are taken and ignored.

    Raises ArgumentError for modules and other objects, DTypeError for arrays that safetensors has no type for.

    >>> import tempfile, fastnn as fnn
    >>> model = fnn.nn.Linear(3, 2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     fnn.save({"model": model.state_dict(), "epoch": 3}, f"{folder}/run.pt")
    ...     run = fnn.load(f"{folder}/run.pt")
    >>> run["epoch"], list(run["model"])
    (3, ['weight', 'bias'])
    """
    if not isinstance(f, (str, os.PathLike)):
        raise ArgumentError(f"save: expected a path, got {type(f).__name__}")
    writer = _Writer()
    described = writer.describe(obj, (), 0)
    weights.save(writer.arrays, f, note=json.dumps({"format": FORMAT, "value": described}, allow_nan=False))


def load(
    f: str | os.PathLike[str], map_location: Any = None, *_: Any, weights_only: bool | None = None, **__: Any
) -> Any:
    """Returns what `save` wrote to the file `f`; of another safetensors file the names with their arrays.

    Arrays come back as arrays, tensors as tensors that ask for no gradient. `map_location`, `weights_only` and
    PyTorch's other arguments are taken and ignored: there is one device, and nothing in a file is executed. Raises
    DataError for a file that is not there, or not whole, or not one of these.
    """
    arrays, note = weights.load_with_note(f)
    if note is None or not note.startswith(BEGINNING):  # a note of one's own
        return arrays
    try:
        return _Reader(arrays).value(parse_json(note)["value"], 0)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        expected = f"expected a file that fnn.save wrote, got {os.fspath(f)}"
        raise DataError(f"{expected}, whose description is wrong: {error}") from error


class _Writer:
    """Describes values as JSON; `arrays` are those met, by name."""

    def __init__(self) -> None:
        self.arrays: dict[str, Any] = {}
        self.names: dict[int, tuple[str, Any]] = {}  # by identity, with what keeps it alive

    def describe(self, value: Any, path: tuple[str, ...], depth: int) -> Any:
        if depth > DEEPEST:
            raise ArgumentError(f"save: expected at most {DEEPEST} levels of containers, got more: one within itself?")
        if isinstance(value, Tensor):
            return {"tensor": self._name(value.data, path)}
        if isinstance(value, np.ndarray):
            return {"array": self._name(value, path)}
        if isinstance(value, np.generic):
            value = value.item()
        if value is None or isinstance(value, (bool, int, str)):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else {"float": repr(value)}
        if isinstance(value, Mapping):
            kind = "ordered" if isinstance(value, OrderedDict) else "dict"
            pairs = [(_key(key), self.describe(entry, (*path, str(key)), depth + 1)) for key, entry in value.items()]
            return {kind: [list(pair) for pair in pairs]}
        if isinstance(value, (list, tuple)):
            kind = "tuple" if isinstance(value, tuple) else "list"
            return {kind: [self.describe(entry, (*path, str(i)), depth + 1) for i, entry in enumerate(value)]}
        got = type(value).__name__ + (f" at {'/'.join(path)}" if path else "")
        instead = ": save its .state_dict()" if hasattr(value, "state_dict") else ""
        raise ArgumentError(f"save: expected tensors, numbers, text and containers of them, got {got}{instead}")

    def _name(self, array: Any, path: tuple[str, ...]) -> str:
        known = self.names.get(id(array))
        if known is not None:
            return known[0]
        if array.dtype.kind not in "biuf":
            raise DTypeError(f"save: expected arrays of numbers, got {array.dtype} at {'/'.join(path)}")
        name = "/".join(path) or "value"
        while name in self.arrays:
            name += "'"
        self.arrays[name], self.names[id(array)] = np.asarray(array), (name, array)
        return name


def _key(key: Any) -> Any:
    if isinstance(key, np.generic):
        key = key.item()
    if (
        key is not None
        and not isinstance(key, (bool, int, str))
        and not (isinstance(key, float) and math.isfinite(key))
    ):
        raise ArgumentError(f"save: expected keys that are text or numbers, got {key!r}")
    return key


class _Reader:
    """Makes values of descriptions; each array is made once. ValueError, KeyError or TypeError for what is none."""

    def __init__(self, arrays: dict[str, Any]) -> None:
        self.arrays = arrays
        self.tensors: dict[str, Tensor] = {}

    def value(self, described: Any, depth: int) -> Any:
        if depth > DEEPEST:
            raise ValueError(f"it has more than {DEEPEST} levels")
        if not isinstance(described, dict):
            if isinstance(described, list):
                raise ValueError("a list stands where a value is expected")
            return described
        ((kind, content),) = described.items()
        if kind == "array":
            return self.arrays[content]
        if kind == "tensor":
            if content not in self.tensors:
                self.tensors[content] = Tensor(self.arrays[content])
            return self.tensors[content]
        if kind == "float":
            return _WORDS[content]
        if not isinstance(content, list):
            raise ValueError(f"a {kind} has no list of entries")
        if kind in _SEQUENCES:
            return _SEQUENCES[kind](self.value(entry, depth + 1) for entry in content)
        pairs = [(key, self.value(entry, depth + 1)) for key, entry in content]
        return _MAPPINGS[kind](pairs)
