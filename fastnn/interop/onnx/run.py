"""A node run on values: arrays, which do not depend on the model's input, and tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn.errors import FastnnError, ShapeError
from fastnn.interop.onnx.operators import OPERATORS, Call
from fastnn.recording import traced_by
from fastnn.tensors import Tensor

__all__ = ["Failure", "run_node"]


class Failure(ShapeError):
    """A node that cannot be run on what it is given."""


def run_node(
    node: Sequence[Any],
    inputs: list[Any],
    *,
    training: bool = False,
    batch: tuple[int, int] | None = None,
    written: tuple[int, ...] | None = None,
) -> tuple[Any, ...]:
    """The node's outputs; arrays if all inputs are. Raises FastnnError, with the node's operator and name before it."""
    operator, name, _, outputs, attributes, version = node
    call = Call(operator, attributes, version, training, _count(outputs), batch, written)
    try:
        if any(isinstance(each, Tensor) for each in inputs) or operator not in OPERATORS:
            made = OPERATORS[operator](call, *inputs)
        else:
            with traced_by(None, recording=False):
                made = OPERATORS[operator](call, *inputs)
            made = tuple(map(_array, made)) if isinstance(made, tuple) else _array(made)
    except FastnnError as error:
        error.layers.insert(0, f"{operator} {name!r}")
        raise
    except (ValueError, TypeError, LookupError, ArithmeticError, MemoryError, AttributeError, RecursionError) as error:
        found = ", ".join(_described(each) for each in inputs)
        raise Failure(f"{operator} {name!r} cannot be run on {found}: {error}") from error
    return made if isinstance(made, tuple) else (made,)


def _count(outputs: Sequence[str]) -> int:
    return max((i for i, name in enumerate(outputs, 1) if name), default=1)


def _array(value: Any) -> Any:
    return value.detach().numpy() if isinstance(value, Tensor) else value


def _described(value: Any) -> str:
    return "nothing" if value is None else f"{value.dtype} {tuple(np.shape(value))}"
