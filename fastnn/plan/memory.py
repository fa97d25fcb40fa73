"""The arrays of a plan: one for each value and gradient that a native stage reads or writes; and copies of others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from fastnn.nn import Module
from fastnn.tensor import Array

__all__ = ["Arena", "Buffers", "Kept"]

_LINE = 64  # bytes of a cache line
_PAGE = 4096


class Arena:
    """Arrays that are made once and live as long as the plan; none begins where another one's page does."""

    def __init__(self) -> None:
        self.bytes = 0
        self._count = 0

    def array(self, shape: tuple[int, ...]) -> Array:
        """float32, aligned to a cache line, its content undefined.

        Each starts some lines further into its page than the one before: arrays that are used together, at one place
        each, should not meet in one set of the first-level cache.
        """
        size = int(np.prod(shape)) * 4
        self.bytes += size
        offset = self._count * 5 * _LINE % _PAGE
        self._count += 1
        block = np.empty(size + _PAGE + offset, np.uint8)
        start = -block.ctypes.data % _PAGE + offset if size >= _PAGE else -block.ctypes.data % _LINE
        return block[start : start + size].view(np.float32).reshape(shape)


class Kept:
    """Copies of small arrays that a step writes to before it is known whether it succeeds."""

    def __init__(self, arrays: Iterable[Array]) -> None:
        self._pairs = [(array, array.copy()) for array in arrays]

    def keep(self) -> None:
        """Copy the arrays as they are now."""
        for array, copy in self._pairs:
            copy[...] = array

    def put_back(self) -> None:
        """Make the arrays again what they were at the last `keep`."""
        for array, copy in self._pairs:
            array[...] = copy


class Buffers:
    """A model's buffers, kept before a forward pass that may fail after it has written to them, or set others."""

    def __init__(self, model: Any) -> None:
        self._modules = list(model.modules()) if isinstance(model, Module) else []
        self._places: list[tuple[Module, str, Array]] = []
        self._kept = Kept(())
        self._seen = -1  # Module.changes when the buffers were looked up: that takes longer than to copy them

    def keep(self) -> None:
        """Copy them as they are now."""
        if self._seen == Module.changes:
            self._kept.keep()
            return
        held = [(module, name, getattr(module, name)) for module in self._modules for name in module._buffers]
        self._places = [place for place in held if place[2] is not None]
        self._kept = Kept(array for _, _, array in self._places)
        self._seen = Module.changes

    def put_back(self) -> None:
        """Make them again what they were at the last `keep`."""
        self._kept.put_back()
        for module, name, array in self._places:
            if getattr(module, name) is not array:
                setattr(module, name, array)
