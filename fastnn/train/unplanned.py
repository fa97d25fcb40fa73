"""Warning that a model runs operator by operator because it cannot be compiled."""

from __future__ import annotations

import warnings
import weakref
from typing import Any

from fastnn.errors import GraphError
from fastnn.plan.trace import Unsteady

__all__ = ["tell_without_plan"]

_told: dict[int, weakref.ref[Any]] = {}  # models that evaluations have been warned of


def tell_without_plan(where: str, model: Any, error: GraphError, steps: int = 0) -> None:
    """Warn that `where` runs this model without a plan: each training says it once, evaluations once for each model."""
    known = _told.get(id(model))
    if where != "fit" and known is not None and known() is model:
        return
    key = id(model)
    _told[key] = weakref.ref(model, lambda _: _told.pop(key, None))
    late = f", which was found out after {steps} compiled steps" if steps else ""
    reason = error.reason or error.message.removeprefix("compile: ")
    advice = f". For compiled steps, {error.advice}" if isinstance(error, Unsteady) else ""
    warnings.warn(
        f"{where}: this model runs operator by operator, not compiled: {reason}{late}{advice}; "
        "compile=False is the same without this warning",
        UserWarning,
        stacklevel=2,
    )
