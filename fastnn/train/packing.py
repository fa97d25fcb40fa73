"""States of nested containers as JSON and arrays, which is what a checkpoint can hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastnn.arrays import is_masked
from fastnn.errors import ArgumentError

__all__ = ["pack", "unpack"]

# Numbers that safetensors has a type for.
KEPT = {"bool", *(f"{kind}{n}" for kind in ("int", "uint", "float") for n in (8, 16, 32, 64))} - {"float8"}


def pack(value: Any, arrays: dict[str, np.ndarray], name: str) -> Any:
    """The value as JSON can hold it; `unpack` gives it back.

    Numbers, text, None, arrays, and dicts, lists, tuples and sets of them, of any depth. Arrays go into `arrays`,
    under names that begin with `name`, and are named in what is returned. NumPy's numbers come back as Python's.

    Raises ArgumentError for anything else; the message says where it lies.

    >>> arrays = {}
    >>> packed = pack({3: (np.int64(1), np.zeros(2))}, arrays, "state")
    >>> packed, list(arrays)
    ({'pairs': [[3, {'tuple': [1, {'array': 'state.3.1'}]}]]}, ['state.3.1'])
    >>> unpack(packed, arrays)
    {3: (1, array([0., 0.]))}
    """
    try:
        return _pack(value, arrays, name)
    except RecursionError:
        raise ArgumentError(f"{name}: expected a state of some depth, got one that holds itself") from None


def _pack(value: Any, arrays: dict[str, np.ndarray], name: str) -> Any:
    if isinstance(value, np.ndarray):
        if value.dtype.name not in KEPT or is_masked(value):
            _refuse(value, name)
        name = name.encode(errors="backslashreplace").decode()
        while name in arrays:  # the keys 1 and "1" look alike
            name += "'"
        arrays[name] = value
        return {"array": name}
    if isinstance(value, Mapping):
        pairs = [(_key(key, name), key, entry) for key, entry in value.items()]
        return {"pairs": [[packed, _pack(entry, arrays, f"{name}.{key}")] for packed, key, entry in pairs]}
    if isinstance(value, (list, tuple)):
        packed = [_pack(entry, arrays, f"{name}.{index}") for index, entry in enumerate(value)]
        return packed if isinstance(value, list) else {"tuple": packed}
    if isinstance(value, (set, frozenset)):
        entries = sorted((_key(entry, name) for entry in value), key=repr)  # equal sets give equal files
        return {"frozenset" if isinstance(value, frozenset) else "set": entries}
    return _scalar(value, name)


def _key(value: Any, name: str) -> Any:
    """What can be a key of a dict or lie in a set: a scalar, or tuples of them."""
    if isinstance(value, tuple):
        return {"tuple": [_key(entry, name) for entry in value]}
    return _scalar(value, name)


def _scalar(value: Any, name: str) -> Any:
    if value is None or isinstance(value, (bool, np.bool_)):
        return value if value is None else bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else {"float": str(float(value))}
    if isinstance(value, str):
        return str.__str__(value)
    _refuse(value, name)


def _refuse(value: Any, name: str) -> Any:
    got = f"an array of {value.dtype}" if isinstance(value, np.ndarray) else f"an object of type {type(value).__name__}"
    hint = ": keep its .data" if isinstance(getattr(value, "data", None), np.ndarray) else ""
    raise ArgumentError(
        f"{name}: expected numbers, text, arrays of numbers, and dicts, lists, tuples and sets of them, which a "
        f"checkpoint can keep, got {got}{hint}"
    )


def unpack(value: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """What `pack` was given. Raises KeyError, TypeError or ValueError for what it never returned."""
    if isinstance(value, list):
        return [unpack(entry, arrays) for entry in value]
    if not isinstance(value, dict):
        return value
    if len(value) != 1:
        raise ValueError(f"expected what was packed, got {len(value)} keys")
    ((kind, content),) = value.items()
    if kind == "array":
        return arrays[content]
    if kind == "float":
        return float(content)
    if kind == "pairs":
        return {unpack(key, arrays): unpack(entry, arrays) for key, entry in content}
    containers = {"tuple": tuple, "set": set, "frozenset": frozenset}
    return containers[kind](unpack(entry, arrays) for entry in content)
