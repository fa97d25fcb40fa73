"""Tables by which fused stages read uint8 images."""

from __future__ import annotations

import numpy as np

from fastnn.plan.trace import Operator
from fastnn.tape import Context

__all__ = ["Table"]


class Table:
    """What Normalize makes of the 256 values of a byte, by the operator itself, for each channel."""

    def __init__(self, normalize: Operator) -> None:
        images, self.mean, self.std = normalize.inputs
        levels = np.arange(256, dtype=np.uint8)
        self._levels = np.repeat(levels[None, None], images.shape[1], axis=1)  # (1, C, 256)
        self._function = normalize.function
        self._made_of: tuple[bytes, bytes] | None = None
        self.array = np.empty(self._levels.shape[1:], np.float32)
        self.refresh()

    def refresh(self) -> None:
        """Follow mean and std, which are live arrays."""
        now = self.mean.tobytes(), self.std.tobytes()
        if now != self._made_of:
            ctx = Context(self.mean.dtype, (False, False, False), {})
            self.array[...] = self._function.forward(ctx, self._levels, self.mean, self.std)[0]
            self._made_of = now
