"""A function for each entry of its arguments."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from fastnn import ops, random
from fastnn.checks import choice, is_whole, whole
from fastnn.errors import ArgumentError, ShapeError
from fastnn.ops.common import axis, tensor_of
from fastnn.tensors import Tensor
from fastnn.trees import flatten, is_tree, unflatten

__all__ = ["vmap"]


def vmap(
    func: Callable[..., Any],
    in_dims: Any = 0,
    out_dims: Any = 0,
    randomness: str = "error",
    *,
    chunk_size: int | None = None,
) -> Callable[..., Any]:
    """`func` for each entry along the dimension `in_dims` of its arguments, its results stacked along `out_dims`.

    `in_dims` is an integer for all arguments, or one for each, where None says: the same for all entries. Arguments and
    results may be dicts, tuples or lists; `in_dims` and `out_dims` then may be so, too, as far down as they differ.
    What is passed by name is the same for all entries. Gradients flow, and maps and derivatives nest: gradients of
    single samples are ``vmap(grad(loss), in_dims=(None, 0, 0))(parameters, x, y)``.

    **It is a loop in Python**: it saves writing, not time, and func runs as often as there are entries. An operator on
    the whole batch is faster wherever there is one. Random numbers are new for every entry ("different"; "error", the
    default, raises in PyTorch alone), or with `randomness` "same" those of the first; `chunk_size` changes nothing.

    Raises ArgumentError for dims that do not fit the arguments and for results that are no tensors, ShapeError for
    sizes that differ.

    >>> import fastnn as fnn
    >>> fnn.vmap(lambda x, y: (x * y).sum(), in_dims=(0, None))(fnn.Tensor([[1.0, 2.0], [3.0, 4.0]]), 10.0)
    Tensor([30., 70.])
    >>> slopes = fnn.vmap(fnn.func.grad(lambda w, x: (w * x).sum() ** 2), in_dims=(None, 0))
    >>> slopes(fnn.Tensor([1.0, 1.0]), fnn.Tensor([[1.0, 2.0], [0.0, 1.0]]))
    Tensor([[ 6., 12.],
            [ 0.,  2.]])
    """
    choice("vmap", "randomness", randomness, ("error", "different", "same"))
    if chunk_size is not None:
        whole("vmap", "chunk_size", chunk_size, 1)

    @functools.wraps(func)
    def mapped(*args: Any, **kwargs: Any) -> Any:
        dims = tuple(in_dims) if isinstance(in_dims, (tuple, list)) else (in_dims,) * len(args)
        if len(dims) != len(args):
            raise ArgumentError(f"vmap: expected in_dims for {len(args)} arguments, got {len(dims)}")
        trees = [flatten(arg) for arg in args]
        columns = [
            _column(leaf, dim)
            for arg, given, (found, _) in zip(args, dims, trees, strict=True)
            for leaf, dim in zip(found, _spread("in_dims", given, arg), strict=True)
        ]
        sizes = {x.shape[dim] for x, dim in columns if dim is not None}
        if not sizes:
            raise ArgumentError("vmap: expected in_dims with a dimension for at least one argument, got None for all")
        if len(sizes) != 1 or sizes == {0}:
            raise ShapeError(f"vmap: expected one size above 0 along the mapped dimensions, got {sorted(sizes)}")

        def result_of(i: int) -> Any:
            entries = iter([x if dim is None else x[(slice(None),) * dim + (i,)] for x, dim in columns])
            parts = [unflatten(structure, [next(entries) for _ in found]) for found, structure in trees]
            return func(*parts, **kwargs)

        before = random.get_state() if randomness == "same" else None
        results = []
        for i in range(sizes.pop()):
            if before is not None:
                random.set_state(before)
            results.append(result_of(i))
        return _stacked(results, out_dims)

    return mapped


def _column(x: Any, dim: Any) -> tuple[Any, int | None]:
    """A leaf and the dimension it is mapped along, counted from the front."""
    if dim is None:
        return x, None
    tensor = tensor_of(x)
    return tensor, axis("vmap: in_dims", dim, tensor.ndim)


def _spread(what: str, dims: Any, tree: Any) -> list[Any]:
    """Dimensions for each leaf of a tree, from one for all of it, or a tree of them that goes as far down or less."""
    if dims is None or is_whole(dims):
        return [dims] * len(flatten(tree)[0])
    if is_tree(tree) and isinstance(dims, dict) and isinstance(tree, dict) and dims.keys() == tree.keys():
        return [dim for key in tree for dim in _spread(what, dims[key], tree[key])]
    if is_tree(tree) and isinstance(dims, (tuple, list)) and isinstance(tree, (tuple, list)) and len(dims) == len(tree):
        return [dim for part, entry in zip(dims, tree, strict=True) for dim in _spread(what, part, entry)]
    raise ArgumentError(f"vmap: expected {what} as integers, None, or in the form of what they are for, got {dims!r}")


def _stacked(results: list[Any], out_dims: Any) -> Any:
    leaves, structure = flatten(results[0])
    for leaf in leaves:
        if not isinstance(leaf, Tensor):
            raise ArgumentError(f"vmap: expected a function that gives tensors, got {type(leaf).__name__}")
    dims = _spread("out_dims", out_dims, results[0])
    columns = zip(*(flatten(result)[0] for result in results), strict=True)
    stacked = [
        column[0] if dim is None else ops.stack(list(column), dim) for column, dim in zip(columns, dims, strict=True)
    ]
    return unflatten(structure, stacked)
