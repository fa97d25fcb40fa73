"""Checks of the numbers that layers are made with."""

from __future__ import annotations

import operator

from fastnn.errors import ArgumentError


def positive(layer: str, name: str, value: int) -> int:
    """`value` as an int of at least 1, else ArgumentError."""
    try:
        number = operator.index(value)
    except TypeError:
        number = 0
    if number < 1:
        raise ArgumentError(f"{layer}: expected {name} to be a positive integer, got {value!r}")
    return number
