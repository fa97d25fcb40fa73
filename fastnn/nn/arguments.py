"""What layers are called with, brought into form."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.tensors import Tensor
from fastnn.trees import flatten, is_tree, map_arrays

if TYPE_CHECKING:
    from fastnn.nn.module import Module

_CODES = frozenset(np.typecodes["AllInteger"] + "?fd")  # NumPy's letters for the types that tensors have


def as_tensors(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Returns the arguments for forward: arrays that a Tensor can hold as tensors, everything else unchanged."""
    if len(args) == 1 and not kwargs and isinstance(args[0], Tensor):  # as a rule
        return args, kwargs
    if args and type(args[0]) is list and _holds_numbers(args[0]):
        args = (Tensor(args[0]), *args[1:])
    args = tuple([_as_tensor(value) for value in args])
    for name, value in kwargs.items():
        kwargs[name] = _as_tensor(value)
    return args, kwargs


def _as_tensor(value: Any) -> Any:
    if _fits(value):
        return Tensor(value)
    if type(value) in (tuple, list, dict) and any(map(_fits, flatten(value)[0])):
        return map_arrays(lambda entry: Tensor(entry) if _fits(entry) else entry, value)
    return value


def spread(model: Module, x: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Returns the arguments of ``model(...)`` for the input `x` of a data set.

    A tuple is spread over the parameters of `forward`, a dict over those of these names. Both are a single argument
    where `forward` has one parameter alone, or none of these names; so is everything else.
    """
    if not isinstance(x, (tuple, dict)) or not is_tree(x):
        return (x,), {}
    if isinstance(x, tuple):
        several = len(positional_parameters(model)) > 1 and not hasattr(x, "_fields")
        return (x, {}) if several else ((x,), {})
    named = [p.name for p in _parameters(model) if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]
    several = len(named) > 1 and all(name in named for name in x)
    return ((), dict(x)) if several else ((x,), {})


def positional_parameters(model: Module) -> list[str]:
    """Returns the names of those that `forward` takes by position; ``*args`` counts as two."""
    names: list[str] = []
    for p in _parameters(model):
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD):
            names.append(p.name)
        elif p.kind is p.VAR_POSITIONAL:
            names += [p.name, p.name]
    return names


def _parameters(model: Module) -> list[inspect.Parameter]:
    return list(inspect.signature(model.forward).parameters.values())


def _fits(value: Any) -> bool:
    """Whether it is an array of a type that tensors have; others get to forward, where they may be meant."""
    return isinstance(value, np.ndarray) and value.dtype.char in _CODES


def _holds_numbers(value: Any) -> bool:
    """Whether it is a list of numbers, or a list of such lists, as far as its first entry tells."""
    found = value
    while isinstance(found, list) and found:
        found = found[0]
    return found is not value and isinstance(found, (int, float, np.number, np.bool_))
