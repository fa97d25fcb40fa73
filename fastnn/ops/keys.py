"""What stands in brackets: keys with slots for arrays of indices, and sums at the places that they name."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn.backends.checks import Array

__all__ = ["FROM_FRONT", "SLOT", "Key", "Slot", "added", "filled", "flat", "spread"]


class Slot:
    """In a key, the place of the next array of indices; whether negative ones count from behind."""

    def __init__(self, from_behind: bool) -> None:
        self.from_behind = from_behind

    def __repr__(self) -> str:
        return "SLOT" if self.from_behind else "FROM_FRONT"


SLOT, FROM_FRONT = Slot(True), Slot(False)
Key = tuple[Any, ...]


def filled(key: Key, places: Sequence[Any]) -> Key:
    """The key with arrays of indices in its slots. Raises IndexError for negative ones that count from the front."""
    rest = iter(places)
    found = tuple(next(rest) if isinstance(part, Slot) else part for part in key)
    if FROM_FRONT in key:
        for part, place in zip(key, found, strict=True):
            if part is FROM_FRONT and place.size and place.min() < 0:
                raise IndexError(f"expected an index of at least 0, got {place.min()}")
    return found


def flat(shape: tuple[int, ...], key: Key, places: Sequence[Array]) -> Array | None:
    """The places in the flattened array of what a key of nothing but slots picks, as gather's does; None for other keys
    and for places that are negative or out of range, which are NumPy's affair."""
    alone = len(key) == len(shape) and all(isinstance(part, Slot) for part in key)
    if not alone or not all(place.size and place.dtype.kind != "b" for place in places):  # x[True] is x[None]
        return None
    if any(place.min() < 0 or place.max() >= size for place, size in zip(places, shape, strict=True)):
        return None
    found = np.zeros((), np.int64)
    for place, size in zip(places, shape, strict=True):
        found = found * size + place.astype(np.int64, copy=False)
    return found


def spread(values: Array, *places: Array, key: Key, shape: tuple[int, ...]) -> Array:
    """Zeros of a shape, with values added at key: sums in double precision, since a place may come a million times."""
    found = np.arange(math.prod(shape)).reshape(shape)[filled(key, places)]
    return added(np.broadcast_to(values, found.shape), found, shape)


def added(values: Array, found: Array, shape: tuple[int, ...]) -> Array:
    sums = np.bincount(found.ravel(), values.ravel(), minlength=math.prod(shape))
    return sums.reshape(shape).astype(values.dtype, copy=False)
