"""Gradients lent to `.grad`: the plan's own arrays in the place of copies.

Copying a large gradient takes as long as many an operator. So `.grad` becomes the memory that the plan writes gradients
to, and before it writes there again, the plan looks whether anybody holds that memory: as a rule `.grad` was set to
None, as zero_grad() does. What still is a tensor's `.grad` is copied then. Where somebody else holds it, or a view of
it, the plan leaves it to them, and another plan is made.
"""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np

from fastnn.backends.checks import copied
from fastnn.plan.memory import memory_of
from fastnn.tensors import Array, Tensor

__all__ = ["Loans", "lendable"]

LEAST = 1 << 14  # bytes: below, copying is as quick


def lendable(gradients: list[tuple[Tensor, Array]], own: set[int], used: list[Array]) -> set[int]:
    """The ids of the tensors whose gradients may be lent: arrays that lie alone in memory of the plan's `own`
    (memory_of), and not in that of the values that are `used` between runs."""
    places = [memory_of(grad) for _, grad in gradients]
    taken = {memory_of(array) for array in used}
    return {
        id(p)
        for (p, grad), place in zip(gradients, places, strict=True)
        if grad.nbytes >= LEAST
        and grad.flags.carray
        and place in own
        and place not in taken
        and places.count(place) == 1
    }


class Loans:
    """What `.grad` of some tensors has of a plan's memory."""

    def __init__(self, lendable: set[int]) -> None:
        self._lendable = lendable
        self._out: list[tuple[Tensor, Any, Any]] = []  # each tensor, with weak references to the array and its loan

    def given(self, p: Tensor, grad: Array) -> Array:
        """The gradient as an array for `.grad`: lent, or a copy."""
        if id(p) not in self._lendable:
            return copied(grad)
        from fastnn._kernels import lent

        array: Array = lent(grad)
        self._out.append((p, weakref.ref(array), weakref.ref(array.base)))
        return array

    def are_back(self) -> bool:
        """Whether nobody holds what was lent; what tensors still have as `.grad` becomes a copy."""
        for p, array, loan in self._out:
            if loan() is not None and isinstance(p._grad, np.ndarray) and p._grad is array():
                p._grad = copied(p._grad)
        if any(loan() is not None for _, _, loan in self._out):
            return False
        self._out.clear()
        return True
