"""The table of forms, and what several of them share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.interop.onnx.batch import Step
from fastnn.interop.onnx.writer import Writer
from fastnn.ops import activations, draws
from fastnn.tensors import Function

__all__ = ["FORMS", "Form", "form", "is_random", "of_wide"]

Form = Callable[..., str]  # of the writer, the step, its inputs' names (numbers as they are), and its attributes
FORMS: dict[type[Function], Form] = {}


def form(*functions: type[Function]) -> Callable[[Form], Form]:
    """Decorator: these Functions are written so."""

    def enter(written: Form) -> Form:
        FORMS.update(dict.fromkeys(functions, written))
        return written

    return enter


def is_random(function: type[Function]) -> bool:
    """Whether it draws numbers, so that it is not computed beforehand."""
    return function.__module__ == draws.__name__ or function is activations.Dropout


def of_wide(to: Writer, op: Step, kind: str, *inputs: str, **attributes: Any) -> str:
    """The node; of narrow integers and booleans through int64, since runtimes compute in few types."""
    dtype = op.output.dtype
    if dtype.kind == "f" or dtype in (np.int32, np.int64):
        return str(to(kind, *inputs, **attributes))
    return to.cast(to(kind, *(to.cast(x, np.int64) for x in inputs), **attributes), dtype)
