"""Gradients of several batches that make one update together."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from fastnn.tensors import Array, Tensor

__all__ = ["Accumulation"]


class Accumulation:
    """The sums of gradients over a group of batches; `size` batches make a group, `count` are in the present one.

    A sum belongs to a parameter, whichever shape of input brings its gradients. Its array stays the same from group to
    group, so that kernels can be given its address.
    """

    def __init__(self, size: int) -> None:
        self.size, self.count = size, 0
        self._sums: dict[Tensor, Array] = {}
        self._members: dict[Tensor, None] = {}  # the parameters that have a gradient in this group

    def sum_of(self, p: Tensor, grad: Array) -> Array:
        """The array that gradients such as `grad` of this parameter are added to."""
        known = self._sums.get(p)
        if known is None or known.shape != grad.shape or known.dtype != grad.dtype:
            self._sums[p] = np.zeros_like(grad)
            if known is not None and known.shape == grad.shape:  # the model was made double since, or single
                self._sums[p][...] = known
        return self._sums[p]

    def add(self, gradients: Iterable[tuple[Tensor, Array]]) -> bool:
        """Add those of one batch; whether the group is complete. What fails or is interrupted here drops the group."""
        try:
            for p, grad in gradients:
                total = self.sum_of(p, grad)
                if p not in self._members:
                    total[...] = 0
                    self._members[p] = None
                total += grad
        except BaseException:
            self.drop()
            raise
        self.count += 1
        return self.count == self.size

    def take(self) -> tuple[list[tuple[Tensor, Array]], int]:
        """The group's sums, and how many batches they are of; the next batch begins a new group."""
        taken = [(p, self._sums[p]) for p in self._members], self.count
        self.drop()
        return taken

    def drop(self) -> None:
        """Forget the batches of the present group."""
        self._members.clear()
        self.count = 0
