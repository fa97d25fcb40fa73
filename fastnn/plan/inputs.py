"""What a plan is called with: arrays, and the structure in which the model or the loss takes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastnn.arrays import as_array
from fastnn.errors import ShapeError
from fastnn.nn import Module, Sequential
from fastnn.nn.arguments import spread
from fastnn.tensors import Array, Tensor
from fastnn.trees import ARRAY, Nesting, flatten, is_tree, map_arrays, unflatten

__all__ = ["Inputs", "argument", "arguments", "arrays_of", "target"]

_TAKEN = {np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.uint8), np.dtype(np.int64)}


class Inputs:
    """Arrays, and the structures of the positional and the named arguments that they make up."""

    __slots__ = ("arrays", "named", "positional")

    def __init__(self, arrays: list[Array], positional: tuple[Nesting, ...], named: tuple[Any, ...] = ()) -> None:
        self.arrays, self.positional, self.named = arrays, positional, named

    @property
    def key(self) -> tuple[Any, ...]:
        """What a plan is made for: structures, shapes and types."""
        return (self.positional, self.named, *[(array.shape, array.dtype) for array in self.arrays])

    def call(self, function: Callable[..., Any], leading: Sequence[Any], entries: Sequence[Any]) -> Any:
        """Returns ``function(*leading, ...)`` with these entries in the place of the arrays."""
        left = iter(entries)
        args = [unflatten(structure, left) for structure in self.positional]
        kwargs = {name: unflatten(structure, left) for name, structure in self.named}
        return function(*leading, *args, **kwargs)

    def part(self, span: slice) -> Inputs:
        """Returns these samples of each array."""
        return Inputs([array[span] for array in self.arrays], self.positional, self.named)


def arguments(model: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Inputs:
    """Returns the arguments of ``model(*args, **kwargs)`` as arrays. Raises ShapeError unless the first is a batch."""
    arrays: list[Array] = []
    trees = _takes_trees(model)

    def taken(value: Any) -> Nesting:
        if not (trees and is_tree(value)):
            arrays.append(_array(value))
            return ARRAY
        leaves, structure = flatten(value)
        arrays.extend(map(_array, leaves))
        return structure

    positional = tuple([taken(value) for value in args])
    named = tuple([(name, taken(value)) for name, value in kwargs.items()])
    if not arrays or arrays[0].ndim == 0:
        raise ShapeError(f"compile: expected a batch (N, ...), got {arrays[0].shape if arrays else 'nothing'}")
    return Inputs(arrays, positional, named)


def argument(model: Module, x: Any) -> Inputs:
    """Returns the arguments that the input `x` of a data set makes up."""
    if type(x) is np.ndarray and x.ndim:
        return Inputs([_array(x)], (ARRAY,))
    return arguments(model, *(spread(model, x) if _takes_trees(model) else ((x,), {})))


def target(loss: Callable[..., Any], y: Any) -> Inputs:
    """Returns the loss's second argument as arrays; integers become int64."""
    if type(y) is np.ndarray or not (_takes_trees(loss) and is_tree(y)):
        array = _integers(_array(y))
        if array.ndim == 0:
            raise ShapeError(f"compile: expected a batch (N, ...), got {array.shape}")
        return Inputs([array], (ARRAY,))
    leaves, structure = flatten(y)
    return Inputs([_integers(_array(leaf)) for leaf in leaves], (structure,))


def arrays_of(function: Callable[..., Any], tree: Any) -> Any:
    """Returns what `function` is given of a data set, its entries turned into arrays."""
    return map_arrays(as_array, tree) if _takes_trees(function) and is_tree(tree) else as_array(tree)


def _takes_trees(function: Callable[..., Any]) -> bool:
    """Whether it is a user's own code: fastnn's layers and losses take lists of arrays as one array."""
    while isinstance(function, Sequential) and len(function):
        function = function[0]
    forward_of = type(function).forward.__module__ if isinstance(function, Module) else None  # None where code was made
    return not (forward_of or "").startswith("fastnn.")


def _array(x: Any) -> Array:
    if type(x) is np.ndarray and x.dtype in _TAKEN:
        array = x
    else:
        array = x.numpy() if isinstance(x, Tensor) else Tensor(x).numpy()
    flags = array.flags
    return array if flags.c_contiguous and flags.aligned else array.copy()


def _integers(array: Array) -> Array:
    return array.astype(np.int64, copy=False) if array.dtype.kind in "iu" else array
