"""Numbers that are not finite: which parameter, statistic, image or target holds them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from fastnn.errors import NonFiniteError

__all__ = ["cause", "check_model", "in_model", "in_training"]


def in_model(model: Any) -> str:
    """Which parameter or buffer of a model holds what is no finite number, in words; empty if none does.

    Buffers that users register may hold infinities, as masks do: of these only NaN counts.
    """
    return next(_bad_arrays(model), "")


def in_training(model: Any, optimizer: Any) -> str:
    """As `in_model`; also of the optimiser's state, whose sums of squares overflow before anything else does."""
    found = in_model(model)
    if found:
        return found
    for name, parameter in model.named_parameters():
        for key, value in getattr(optimizer, "state", {}).get(parameter, {}).items():
            where = _bad(value)
            if where:
                return f"the optimiser's {key} of {name} ({where})"
    return ""


def check_model(where: str, model: Any) -> None:
    """NonFiniteError if a model's parameters or buffers are not finite; `where` begins the sentence."""
    found = in_model(model)
    if found:
        raise NonFiniteError(f"{where}: expected a model of finite numbers, got other ones in {found}")


def cause(model: Any, images: np.ndarray, targets: np.ndarray, numbers: np.ndarray) -> str:
    """Where a loss or an output that is not finite comes from, in words.

    images (N, ...) and targets (N, ...) are a batch as the model was given it; numbers (N,) say which those are in the
    data.
    """
    for name, values in (("image", images), ("target", targets)):
        if values.dtype.kind == "f":
            rows = np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(axis=1))
            if len(rows):
                return f"{name} {numbers[rows[0]]} of the data is not finite ({_bad(values[rows[0]])})"
    found = in_model(model)
    if found:
        return f"{found} is not finite"
    return "the data and the model are finite, so the arithmetic overflowed"


def _bad_arrays(model: Any) -> Iterator[str]:
    for name, parameter in model.named_parameters():
        where = _bad(parameter.data)
        if where:
            yield f"the parameter {name} ({where})"
    for path, module in model.named_modules():
        own = type(module).__module__.startswith("fastnn.")
        for name, buffer in getattr(module, "named_buffers", lambda **_: ())(recurse=False):
            where = _bad(buffer)
            if where and (own or np.isnan(buffer).any()):
                yield f"the buffer {f'{path}.{name}' if path else name} ({where})"


def _bad(array: Any) -> str:
    """The first entry that is not finite, in words; empty if there is none, or where it is no array of such numbers."""
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
        return ""
    finite = np.isfinite(array)
    if finite.all():
        return ""
    index = tuple(int(i) for i in np.argwhere(~finite)[0])
    at = f" at {list(index)}" if index else ""
    return f"{array[index]}{at}, {np.count_nonzero(~finite)} of {array.size}"
