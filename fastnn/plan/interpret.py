"""Operators that run in Python within a plan: a user's own, and those on other types than float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.errors import FastnnError, OutOfRangeError
from fastnn.plan.trace import Operator
from fastnn.tape import Context, checked, computing_dtype
from fastnn.tensors import Array

__all__ = ["Interpreted", "computed"]


def computed(op: Operator, arrays: list[Any]) -> tuple[Context, Any]:
    """What op gives for these inputs, and its context. Raises OutOfRangeError where NumPy says that an index is one."""
    context = Context(computing_dtype(arrays), op.needs, op.attributes)
    try:
        return context, op.function.forward(context, *arrays, **op.attributes)
    except IndexError as error:
        if isinstance(error, FastnnError) or not op.function.__module__.startswith("fastnn."):
            raise
        raise OutOfRangeError(f"{op.function.__name__.lower()}: {error}") from None


class Interpreted:
    """One operator, run as Function.apply runs it, from and to arrays of the plan."""

    def __init__(self, op: Operator, inputs: list[Callable[[], Any]], output: Array, *, keeps: bool) -> None:
        self._op, self._inputs, self._output, self._keeps = op, inputs, output, keeps
        self._context: Context | None = None

    def forward(self) -> None:
        context, output = computed(self._op, [value() for value in self._inputs])
        np.copyto(self._output, output)
        self._context = context if self._keeps else None

    def backward(self, grad: Array, parts: tuple[Array | None, ...]) -> None:
        """Write the inputs' gradients to `parts`; zeros where the operator gives none."""
        op, context, self._context = self._op, self._context, None
        assert context is not None
        results = checked(op.function, op.inputs, op.function.backward(context, grad))
        for part, result in zip(parts, results, strict=True):
            if part is not None:
                np.copyto(part, 0 if result is None else result, casting="unsafe")
