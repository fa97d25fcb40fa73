"""What layers are called with, brought into form."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.tensor import Tensor

_CODES = frozenset(np.typecodes["AllInteger"] + "?fd")  # NumPy's letters for the types that tensors have


def as_tensors(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Returns the arguments for forward: arrays that a Tensor can hold as tensors, everything else unchanged."""
    if len(args) == 1 and not kwargs and isinstance(args[0], Tensor):  # as a rule
        return args, kwargs
    if args and type(args[0]) is list and _holds_numbers(args[0]):
        args = (Tensor(args[0]), *args[1:])
    args = tuple([Tensor(value) if _fits(value) else value for value in args])
    for name, value in kwargs.items():
        if _fits(value):
            kwargs[name] = Tensor(value)
    return args, kwargs


def _fits(value: Any) -> bool:
    """Whether it is an array of a type that tensors have; others get to forward, where they may be meant."""
    return isinstance(value, np.ndarray) and value.dtype.char in _CODES


def _holds_numbers(value: Any) -> bool:
    """Whether it is a list of numbers, or a list of such lists, as far as its first entry tells."""
    found = value
    while isinstance(found, list) and found:
        found = found[0]
    return found is not value and isinstance(found, (int, float, np.number, np.bool_))
