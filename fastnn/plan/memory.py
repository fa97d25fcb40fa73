"""The arrays of a plan: one for each value and gradient that a native stage reads or writes."""

from __future__ import annotations

import numpy as np

from fastnn.tensor import Array

__all__ = ["Arena"]

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
