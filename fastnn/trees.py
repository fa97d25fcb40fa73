"""Nested tuples, lists and dicts of arrays, which models and losses of several arrays take and return."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from fastnn.errors import ShapeError

__all__ = ["ARRAY", "Nesting", "count_of", "flatten", "is_tree", "map_arrays", "take", "unflatten"]

ARRAY = "array"  # the structure of a single array
Nesting = Any  # ARRAY, or (type, keys of a dict or None, structures of the entries): hashable


def is_tree(value: Any) -> bool:
    """Returns whether `value` is a dict, or a tuple or list that holds an array or a tensor at any depth.

    Lists of numbers are arrays; tuples of arrays without dimensions are what models return.

    >>> is_tree([np.zeros(3), np.zeros(2)]), is_tree([[1.0, 2.0]]), is_tree(np.zeros(3))
    (True, False, False)
    >>> is_tree((np.zeros(()), np.zeros(()))), is_tree([np.zeros(()), np.zeros(())])
    (True, False)
    """
    if isinstance(value, dict):
        return True
    if isinstance(value, tuple) and any(type(entry) is np.ndarray for entry in value):
        return True
    return isinstance(value, (tuple, list)) and any(_is_array(entry) or is_tree(entry) for entry in value)


def _is_array(value: Any) -> bool:
    """Whether it is an array or a tensor; NumPy's scalars, which lists of numbers may hold, are none."""
    return getattr(value, "ndim", 0) > 0 or hasattr(value, "requires_grad")


def flatten(tree: Any) -> tuple[list[Any], Nesting]:
    """Returns the arrays of a tree in their order, and the structure that `unflatten` puts them back into.

    >>> arrays, structure = flatten({"a": np.zeros(1), "b": (np.zeros(2), [np.zeros(3)])})
    >>> [len(array) for array in arrays]
    [1, 2, 3]
    """
    if not is_tree(tree):
        return [tree], ARRAY
    leaves: list[Any] = []

    def walk(node: Any) -> Nesting:
        if not is_tree(node):
            leaves.append(node)
            return ARRAY
        if isinstance(node, dict):
            return dict, tuple(node), tuple([walk(entry) for entry in node.values()])
        return type(node), None, tuple([walk(entry) for entry in node])

    structure = walk(tree)
    return leaves, structure


def unflatten(structure: Nesting, leaves: Iterable[Any]) -> Any:
    """Returns the tree of that structure with these entries.

    >>> arrays, structure = flatten({"a": np.zeros(1), "b": (np.zeros(2), [np.zeros(3)])})
    >>> unflatten(structure, [1, 2, 3])
    {'a': 1, 'b': (2, [3])}
    """
    entries = iter(leaves)
    if structure == ARRAY:
        return next(entries)

    def build(node: Nesting) -> Any:
        if node == ARRAY:
            return next(entries)
        kind, keys, children = node
        built = [build(child) for child in children]
        if keys is not None:
            return dict(zip(keys, built, strict=True))
        return kind(*built) if hasattr(kind, "_fields") else kind(built)

    return build(structure)


def map_arrays(function: Callable[[Any], Any], tree: Any) -> Any:
    """Returns the tree with `function` applied to each of its arrays.

    >>> map_arrays(len, {"x": np.zeros(3), "y": [np.zeros(2)]})
    {'x': 3, 'y': [2]}
    """
    if not is_tree(tree):
        return function(tree)
    leaves, structure = flatten(tree)
    return unflatten(structure, [function(leaf) for leaf in leaves])


def take(tree: Any, indices: Any) -> Any:
    """Returns the samples at ``indices`` of each array (N, ...).

    >>> take({"x": np.arange(6).reshape(3, 2)}, np.array([2, 0]))
    {'x': array([[4, 5],
           [0, 1]])}
    """
    if type(indices) is slice and type(tree) is np.ndarray:
        return tree[indices]
    if type(tree) is not np.ndarray and is_tree(tree):
        return map_arrays(lambda array: take(array, indices), tree)
    if isinstance(indices, np.ndarray) and indices.dtype.kind == "i" and tree.flags.c_contiguous:
        return tree.take(indices, axis=0)  # the same, in a third of the time; of others it would copy the whole array
    return tree[indices]


def count_of(tree: Any) -> int:
    """Returns the number of samples."""
    if type(tree) is np.ndarray and tree.ndim:
        return len(tree)
    leaves, _ = flatten(tree)
    if not leaves or not np.ndim(leaves[0]):
        raise ShapeError("expected arrays (N, ...) of samples, got " + ("a number" if leaves else "none"))
    return len(leaves[0])
