"""Where gradients go while a plan runs backward.

A value's gradient is the sum of what the stages that use it contribute. A native stage writes its part into an array of
its own, fixed when the plan is built; an operator that runs by itself brings a new array in each step.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np

from fastnn.plan.memory import Arena
from fastnn.plan.trace import Value
from fastnn.tensor import Array

__all__ = ["Gradients"]


class Gradients:
    """The contributions to each value's gradient, and their sum; `reads` names a value once for each."""

    def __init__(self, arena: Arena, reads: Iterable[Value]) -> None:
        self.arena = arena
        self._contributions = Counter(map(id, reads))
        self._fixed: dict[int, list[Array]] = {}
        self._brought: dict[int, Array] = {}

    def target(self, value: Value) -> Array:
        """A new array for one native stage's part; the stage overwrites it in every step."""
        array = self.arena.array(value.shape)
        self._fixed.setdefault(id(value), []).append(array)
        return array

    def add(self, value: Value, part: Array) -> None:
        """An operator's part, in this step."""
        before = self._brought.get(id(value))
        self._brought[id(value)] = part if before is None else before + part

    def forget(self) -> None:
        """Drop what a step that failed on its way back has left."""
        self._brought.clear()

    def settled(self, value: Value) -> Array | None:
        """The array that holds the whole gradient in every step, because one native stage alone uses the value."""
        fixed = self._fixed.get(id(value), [])
        return fixed[0] if len(fixed) == self._contributions[id(value)] == 1 else None

    def total(self, value: Value) -> Array | None:
        """The gradient in this step; None where no path led back to the value."""
        parts = list(self._fixed.get(id(value), []))
        brought = self._brought.pop(id(value), None)
        if brought is not None:
            parts.append(brought)
        return sum(parts[1:], parts[0]) if parts else None

    def copy_total(self, value: Value, to: Array) -> None:
        """Write the gradient of this step into `to`; zeros where no path led back."""
        total = self.total(value)
        np.copyto(to, 0 if total is None else total)
