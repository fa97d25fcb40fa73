"""Numbers that are not finite: which parameter, statistic, sample or target holds them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from fastnn import random
from fastnn.errors import NonFiniteError
from fastnn.nn import Module
from fastnn.nn.arguments import spread
from fastnn.plan.memory import Buffers
from fastnn.tape import no_grad
from fastnn.trees import flatten, map_arrays

__all__ = ["Watched", "cause", "check_model"]


class Watched:
    """What a training changes: parameters, buffers, and the optimiser's state, whose sums of squares overflow first.

    every_step: whether it is looked at after every step, not only after an epoch.
    """

    def __init__(self, model: Any, optimizer: Any, every_step: bool = False) -> None:
        self.every_step = every_step
        self._model, self._state = model, getattr(optimizer, "state", {})
        self._parameters: list[Any] = []
        self._buffers: list[np.ndarray] = []
        self._seen = -1  # Module.changes when these were looked up

    def found(self) -> str:
        """Which of it is not finite, in words; empty if all is."""
        if self._seen != Module.changes:
            self._seen = Module.changes
            self._parameters = list(self._model.parameters())
            self._buffers = list(self._model.buffers()) if isinstance(self._model, Module) else []
        with np.errstate(all="ignore"):
            # A fraction of the time that a look at each entry takes. Where the squares overflow, that decides.
            if all(math.isfinite(np.vdot(array, array)) for array in self._arrays()):
                return ""
        return in_model(self._model) or self._in_state()

    def _arrays(self) -> Iterator[np.ndarray]:
        for parameter in self._parameters:
            yield parameter.numpy()
            yield from filter(_is_array, self._state.get(parameter, {}).values())
        yield from self._buffers

    def _in_state(self) -> str:
        for name, parameter in self._model.named_parameters():
            for key, value in self._state.get(parameter, {}).items():
                where = _bad(value)
                if where:
                    return f"the optimiser's {key} of {name} ({where})"
        return ""


def in_model(model: Any) -> str:
    """Which parameter or buffer of a model holds what is no finite number, in words; empty if none does.

    Buffers that users register may hold infinities, as masks do: of these only NaN counts.
    """
    return next(_bad_arrays(model), "")


def check_model(where: str, model: Any) -> None:
    """NonFiniteError if a model's parameters or buffers are not finite; `where` begins the sentence."""
    found = in_model(model)
    if found:
        raise NonFiniteError(f"{where}: expected a model of finite numbers, got other ones in {found}")


def cause(model: Any, images: Any, targets: Any, numbers: np.ndarray) -> str:
    """Where a loss or an output that is not finite comes from, in words.

    images (N, ...) and targets (N, ...) are a batch as the model was given it; numbers (N,) say which those are in the
    data.
    """
    for name, values in [("sample", x) for x in flatten(images)[0]] + [("target", y) for y in flatten(targets)[0]]:
        if values.dtype.kind == "f":
            rows = np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(axis=1))
            if len(rows):
                return f"{name} {numbers[rows[0]]} of the data is not finite ({_bad(values[rows[0]])})"
    found = in_model(model)
    if found:
        return f"{found} is not finite"
    return f"the data and the model are finite, so the arithmetic overflowed, first in {_first_overflow(model, images)}"


def _first_overflow(model: Any, images: Any) -> str:
    """The first layer with outputs that are not finite, in words. Statistics and random numbers stay as they are."""
    found: list[str] = []

    def look(module: Any, inputs: Any, outputs: Any) -> None:
        if not found and any(_bad(array) for array in _arrays_in(outputs)):
            found.append(named(model, module))

    if not isinstance(model, Module):
        return "the model or the loss"
    buffers, state = Buffers(model), random.get_state()
    buffers.keep()
    handles = [module.register_forward_hook(look) for module in model.modules()]
    try:
        args, kwargs = spread(model, map_arrays(np.copy, images))
        with np.errstate(all="ignore"), no_grad():
            model(*args, **kwargs)
    finally:
        for handle in handles:
            handle.remove()
        buffers.put_back()
        random.set_state(state)
    return found[0] if found else "the loss"


def named(model: Any, module: Any) -> str:
    """A module by its place in the model, in words."""
    name = next((name for name, other in model.named_modules() if other is module), "")
    return f"the layer {name} ({type(module).__name__})" if name else type(module).__name__


def _arrays_in(outputs: Any) -> list[Any]:
    return [np.asarray(getattr(leaf, "_data", leaf)) for leaf in flatten(outputs)[0]]


def bad_gradient(model: Any) -> str:
    """Which parameter has a gradient that is not finite, in words: the one that backward comes to first; or empty."""
    for name, parameter in reversed(list(model.named_parameters())):
        where = "" if parameter.grad is None else _bad(parameter.grad.numpy())
        if where:
            return f"the gradient of {name} ({where})"
    return ""


def _bad_arrays(model: Any) -> Iterator[str]:
    for name, parameter in model.named_parameters():
        where = _bad(parameter.numpy())
        if where:
            yield f"the parameter {name} ({where})"
    for path, module in model.named_modules():
        # A bare Module, and those that hold a program of another library's, have its user's buffers.
        own = type(module).__module__.startswith("fastnn.nn.") and type(module) is not Module
        for name, buffer in getattr(module, "named_buffers", lambda **_: ())(recurse=False):
            where = _bad(buffer)
            if where and (own or np.isnan(buffer).any()):
                yield f"the buffer {f'{path}.{name}' if path else name} ({where})"


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray)


def _bad(array: Any) -> str:
    """The first entry that is not finite, in words; empty if there is none, or where it is no array of such numbers."""
    if not _is_array(array) or array.dtype.kind != "f":
        return ""
    finite = np.isfinite(array)
    if finite.all():
        return ""
    index = tuple(map(int, np.argwhere(~finite)[0]))
    at = f" at {list(index)}" if index else ""
    return f"{array[index]}{at}, {np.count_nonzero(~finite)} of {array.size}"
