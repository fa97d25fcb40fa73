"""Entries by their places: indexing by integers, slices, masks and arrays of indices, gathering and scattering."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from fastnn.arrays import as_array
from fastnn.checks import choice, entries, flag, is_number, is_whole
from fastnn.errors import ArgumentError, DTypeError, FastnnError, GraphError, ShapeError
from fastnn.ops.arithmetic import operand, scaled
from fastnn.ops.common import axis, number_as, tensor_of
from fastnn.ops.joining import cat, where
from fastnn.ops.keys import FROM_FRONT, SLOT, Key, Slot, filled
from fastnn.ops.masked import Masked, mask_in, refuse, written
from fastnn.ops.picking import Pick, PickRows, Put, Spread
from fastnn.ops.shaping import Index, expand
from fastnn.tape import tracer
from fastnn.tensors import Array, Tensor
from fastnn.versions import wrote

__all__ = [
    "argwhere", "gather", "index_add", "index_copy", "index_fill", "index_put", "index_select", "masked_fill",
    "masked_scatter", "masked_select", "nonzero", "scatter", "scatter_add", "scatter_reduce", "take", "take_along_dim",
]  # fmt: skip

_BASIC = (int, slice, type(None), type(...))


# ---- indexing --------------------------------------------------------------------------------------------------------


def _key(x: Tensor, key: Any) -> tuple[Key, list[Any]]:
    """The key as basic parts and slots, and what stands in the slots: arrays, and tensors that a plan will compute."""
    parts: list[Any] = []
    places: list[Any] = []
    for part in key if isinstance(key, tuple) else (key,):
        if isinstance(part, (Sequence, range)) and not isinstance(part, str):
            part = _listed(part)
        if isinstance(part, _BASIC) and not isinstance(part, bool):
            parts.append(part)
        elif isinstance(part, Tensor) and tracer() is not None:
            if part.dtype.kind == "b" or part.dtype == np.uint8:  # among other indices
                refuse()
            parts.append(SLOT)
            places.append(part)
        else:
            array = (
                part.data.astype(bool)
                if isinstance(part, Tensor) and part.dtype == np.uint8 and part.ndim  # PyTorch's old masks
                else as_array(part.data if isinstance(part, Tensor) else part)
            )
            array = array.astype(np.int64) if array.size == 0 and array.dtype.kind == "f" else array
            if array.dtype.kind == "b" and array.ndim:
                _check_mask(x, parts, places, array)
                parts += [SLOT] * array.ndim
                places += array.nonzero()
            elif array.ndim == 0 and array.dtype.kind in "iu":
                parts.append(operator.index(array[()]))
            elif array.dtype.kind in "biu":
                parts.append(SLOT)
                places.append(array)
            else:
                raise ShapeError(
                    f"index: expected integers, slices, None, ... or arrays of integers or booleans, got {part!r}"
                )
    return tuple(parts), places


def _listed(part: Any) -> Any:
    return as_array([each.data if isinstance(each, Tensor) and tracer() is None else each for each in part])


def _check_mask(x: Tensor, parts: list[Any], places: list[Any], mask: Array) -> None:
    """The mask's sizes must be those of the dimensions that it takes; ... before it is left to NumPy."""
    if ... in [part for part in parts if part is ...]:
        return
    first = len([part for part in parts if part is not None])
    if mask.shape != x.shape[first : first + mask.ndim]:
        raise ShapeError(
            f"index: expected a mask of shape {x.shape[first : first + mask.ndim]}, got {mask.shape} "
            f"(input is {x.shape})"
        )


def _alone(x: Tensor, parts: Key) -> Key:
    """The integers of a key, with slices in the place of its other parts."""
    return tuple(p if isinstance(p, int) or p is ... else slice(None) for p in parts if p is not None)


def index(x: Tensor, key: Any) -> Tensor:
    """x[key]: integers, slices, None, ..., lists, boolean and integer arrays or tensors, as in NumPy and PyTorch.

    An entry picked twice gets both gradients.
    """
    if (mask := mask_in(key)) is not None:
        return Masked(x, mask)  # type: ignore[return-value]  # as long as a plan is made
    parts, places = _key(x, key)
    try:
        if not places:
            return Index.apply(x, index=parts)
        if any(isinstance(part, int) for part in parts):  # PyTorch takes integers first, NumPy as arrays among others
            x, parts = Index.apply(x, index=_alone(x, parts)), tuple(p for p in parts if not isinstance(p, int))
        return Pick.apply(x, *places, key=parts)
    except (IndexError, OverflowError, TypeError, ValueError) as error:
        if isinstance(error, FastnnError):
            raise
        raise ShapeError(f"index: {error} (input is {x.shape})") from None


def _check_recordable(parts: Key) -> None:
    """GraphError for integers apart from arrays, whose result NumPy shapes in another way than PyTorch."""
    advanced = [i for i, part in enumerate(parts) if isinstance(part, (Slot, int))]
    kinds = {isinstance(parts[i], Slot) for i in advanced}
    if len(kinds) == 2 and advanced[-1] - advanced[0] >= len(advanced):
        raise GraphError(
            "x[...] = ...: on the tape, integers and arrays of indices apart from one another are not taken"
        )


def set_index(x: Tensor, key: Any, value: Any) -> None:
    """x[key] = value: into x's own data off the tape; on it, x goes on as what a new operator makes (in_place.py).

    Raises ShapeError for what does not fit, GraphError where a gradient would be wrong.
    """
    from fastnn.ops.in_place import recorded, taken_over, writable

    if (mask := mask_in(key)) is not None:
        taken_over("x[...] = ...", x, lambda old: written(old, mask, number_as("x[...] = ...", value, x.dtype)))
        return
    values = tensor_of(operand(number_as("x[...] = ...", value, x.dtype), x))
    parts, places = _key(x, key)
    if (view := values._view) and view[0] is x and view[1:3] == (Index, {"index": parts}):
        return  # x[0] += y: what Python hands back lies there already
    try:
        if recorded(x, values):
            _check_recordable(parts)
            taken_over("x[...] = ...", x, lambda old: Put.apply(old, values.astype(x.dtype), *places, key=parts))
        else:
            writable("x[...] = ...", x)
            target = x._data
            if places and any(isinstance(part, int) for part in parts):
                target, parts = target[_alone(x, parts)], tuple(p for p in parts if not isinstance(p, int))
            target[filled(parts, places)] = values._data
            wrote(x._data)
    except (IndexError, OverflowError, TypeError, ValueError) as error:
        if isinstance(error, FastnnError):
            raise
        raise ShapeError(f"x[...] = ...: {error} (x is {x.shape})") from None


# ---- along one dimension ---------------------------------------------------------------------------------------------


def _indices(op: str, index: Any) -> Tensor:
    """Integers as places; DTypeError for others."""
    found = tensor_of(index)
    if found.dtype.kind not in "iu":
        raise DTypeError(f"{op}: expected integers as index, got {found.dtype}: index.long()")
    return found


def _along(op: str, x: Tensor, dim: int, index: Any, slot: Slot = FROM_FRONT) -> tuple[Key, list[Any]]:
    """The key of x[i, j, index[i, j, k]] with the index at place dim, and its arrays."""
    found = _indices(op, index)
    dim = axis(op, dim, max(x.ndim, 1))
    if found.ndim == 0 and x.ndim == 1:  # a number counts as a vector of one
        found = found.reshape(1)
    if not x.ndim:
        raise ShapeError(f"{op}: expected a tensor of at least one dimension, got a number")
    if found.ndim != x.ndim:
        raise ShapeError(f"{op}: expected an index of {x.ndim} dimensions, as input has, got {found.shape}")
    if any(have > size for d, (have, size) in enumerate(zip(found.shape, x.shape, strict=True)) if d != dim):
        raise ShapeError(f"{op}: expected an index no larger than the input outside of {dim}, got {found.shape}")
    grid = np.ogrid[tuple(slice(size) for size in found.shape)]
    places: list[Any] = list(map(np.array, grid if isinstance(grid, (list, tuple)) else [grid]))
    for each in places:  # what marks a grid for plans
        each.flags.writeable = False
    places[dim] = found
    return tuple(slot if d == dim else SLOT for d in range(x.ndim)), places


def _within(op: str, call: Any, *args: Any, **attributes: Any) -> Any:
    """call(...), with NumPy's word for an index out of range, and for values that do not fit, as a ShapeError."""
    try:
        return call(*args, **attributes)
    except (IndexError, OverflowError, ValueError) as error:
        if isinstance(error, FastnnError):
            raise
        raise ShapeError(f"{op}: {error}") from None


def gather(input: Any, dim: int, index: Any, *, sparse_grad: bool = False) -> Tensor:
    """The entries along `dim` whose places `index` holds: y[i, j] = x[i, index[i, j]] for dim 1. Index and result have
    one shape, no larger than the input's in the other dimensions. An entry taken twice gets both gradients.

    Raises DTypeError for an index that is not of integers, ShapeError for one that does not fit, or is negative.

    >>> import fastnn as fnn
    >>> fnn.gather(fnn.tensor([[1.0, 2.0], [3.0, 4.0]]), 1, fnn.tensor([[1], [0]]))
    Tensor([[2.],
            [3.]])
    """
    return _gathered("gather", tensor_of(input), dim, _indices("gather", index), FROM_FRONT)


def _gathered(op: str, x: Tensor, dim: int, index: Tensor, slot: Slot) -> Tensor:
    if x.ndim == 0 or (x.ndim == 1 and index.ndim == 0):
        return _gathered(op, x.reshape(-1), dim, index.reshape(1), slot).reshape(())
    in_rows = slot is FROM_FRONT and tracer() is None and x.dtype.kind == "f" and x.numel() and index.numel()
    if in_rows and is_whole(dim) and dim in (-1, x.ndim - 1) and index.shape[:-1] == x.shape[:-1]:
        with suppress(IndexError):  # which is said below
            return PickRows.apply(x, index)
    return picked_along(op, x, dim, index, slot)


def picked_along(op: str, x: Tensor, dim: Any, index: Any, slot: Slot) -> Tensor:
    """By a key: an operator that has derivatives of any order, and kernels in plans."""
    key, places = _along(op, x, dim, index, slot)
    return _within(op, Pick.apply, x, *places, key=key)


def take_along_dim(input: Any, indices: Any, dim: int | None = None) -> Tensor:
    """As gather, but that the other dimensions broadcast, and that negative places count from behind; without `dim`, of
    the flattened input."""
    x, found = tensor_of(input), _indices("take_along_dim", indices)
    if dim is None:
        return _gathered("take_along_dim", x.reshape(-1), 0, found.reshape(-1), SLOT)
    dim = axis("take_along_dim", dim, x.ndim)
    shapes = [[1 if d == dim else size for d, size in enumerate(each.shape)] for each in (x, found)]
    if x.ndim != found.ndim:
        raise ShapeError(f"take_along_dim: expected indices of {x.ndim} dimensions, got {found.shape}")
    whole = list(_within("take_along_dim", np.broadcast_shapes, *map(tuple, shapes)))
    x_shape, i_shape = ((*whole[:dim], each.shape[dim], *whole[dim + 1 :]) for each in (x, found))
    return _gathered("take_along_dim", expand(x, x_shape), dim, expand(found, i_shape), SLOT)


def take(input: Any, index: Any) -> Tensor:
    """Entries of the flattened input, in the shape of `index`."""
    x, found = tensor_of(input), _indices("take", index)
    return _within("take", Pick.apply, x.reshape(-1), found, key=(SLOT,))


def index_select(input: Any, dim: int, index: Any) -> Tensor:
    """The slices along `dim` whose places `index`, a vector, holds."""
    x, found = tensor_of(input), _indices("index_select", index)
    if found.ndim > 1:
        raise ShapeError(f"index_select: expected a vector as index, got {found.shape}")
    key = (*(slice(None),) * axis("index_select", dim, x.ndim), FROM_FRONT)
    return _within("index_select", Pick.apply, x, found.reshape(-1), key=key)


def _values(op: str, x: Tensor, src: Any, shape: tuple[int, ...]) -> Tensor:
    """What is written: a number for all, or the first entries of a tensor; in x's type."""
    if is_number(src) or isinstance(src, (bool, np.bool_)):
        return Tensor(np.asarray(number_as(op, src, x.dtype), x.dtype))
    values = tensor_of(src)
    if values.ndim != len(shape) or any(size > have for size, have in zip(shape, values.shape, strict=False)):
        raise ShapeError(f"{op}: expected values of at least the index's shape {shape}, got {values.shape}")
    return values[tuple(slice(size) for size in shape)].astype(x.dtype)


def scatter(
    input: Any, dim: int, index: Any, src: Any = None, *, value: Any = None, reduce: str | None = None
) -> Tensor:
    """`input` with the values of `src`, a tensor or a number, at the places along `dim` that `index` holds:
    y[i, index[i, j]] = src[i, j] for dim 1. Of several for one place the last one stays. `reduce` "add" adds them,
    "multiply" multiplies (without a gradient into src).

    >>> import fastnn as fnn
    >>> fnn.zeros(2, 3).scatter(1, fnn.tensor([[2], [0]]), 1.0)
    Tensor([[0., 0., 1.],
            [1., 0., 0.]])
    """
    if (src is None) == (value is None):
        raise ArgumentError("scatter: expected src, or value")
    x, src = tensor_of(input), value if src is None else src
    if reduce is not None:
        kinds = {"add": "sum", "multiply": "prod"}
        choice("scatter", "reduce", reduce, kinds)
        return scatter_reduce(x, dim, index, expand(_values("scatter", x, src, ()), _indices("scatter", index).shape)
                              if is_number(src) else src, kinds[reduce])  # fmt: skip
    key, places = _along("scatter", x, dim, index)
    values = _values("scatter", x, src, places[axis("scatter", dim, x.ndim)].shape)
    return _within("scatter", Put.apply, x, values, *places, key=key)


def scatter_add(input: Any, dim: int, index: Any, src: Any) -> Tensor:
    """`input` with the values of `src` added at the places along `dim` that `index` holds; several for a place add up.

    >>> import fastnn as fnn
    >>> fnn.zeros(3).scatter_add(0, fnn.tensor([0, 2, 0]), fnn.tensor([1.0, 2.0, 3.0]))
    Tensor([4., 0., 2.])
    """
    x = tensor_of(input)
    key, places = _along("scatter_add", x, dim, index)
    values = _values("scatter_add", x, src, places[axis("scatter_add", dim, x.ndim)].shape)
    return x + _within("scatter_add", Spread.apply, values, *places, key=key, shape=x.shape)


def scatter_reduce(input: Any, dim: int, index: Any, src: Any, reduce: str, *, include_self: bool = True) -> Tensor:
    """scatter_add for `reduce` "sum"; "mean" divides by the number of terms; "amax" and "amin" share the
    gradient among all that are the largest or smallest."""
    x, src = tensor_of(input), tensor_of(src)
    key, places = _along("scatter_reduce", x, dim, index)
    shape = places[axis("scatter_reduce", dim, x.ndim)].shape
    values = _values("scatter_reduce", x, src, shape)
    choice("scatter_reduce", "reduce", reduce, ("sum", "mean", "prod", "amax", "amin"))
    include_self = flag("scatter_reduce", "include_self", include_self)
    if reduce in ("sum", "mean"):
        ones = Tensor(np.broadcast_to(np.ones((), x.dtype), shape))
        count = _within("scatter_reduce", Spread.apply, ones, *places, key=key, shape=x.shape)
        kept = x if include_self else where(count > 0, 0, x)
        sums = kept + _within("scatter_reduce", Spread.apply, values, *places, key=key, shape=x.shape)
        if reduce == "sum":
            return sums
        return sums / (count + 1 if include_self else where(count > 0, count, 1))
    if reduce == "prod" and (x.requires_grad or values.requires_grad):
        return _product(x, _within("scatter_reduce", filled, key, [*map(as_array, places)]), values, include_self)
    ufuncs = {"prod": (np.multiply, 1), "amax": (np.maximum, -np.inf), "amin": (np.minimum, np.inf)}
    ufunc, neutral = ufuncs[reduce]
    found, added = x.detach(), values.detach()
    y, full = np.array(as_array(found)), _within("scatter_reduce", filled, key, [*map(as_array, places)])
    if not include_self:
        y[full] = neutral
    ufunc.at(y, full, as_array(added))
    if not (x.requires_grad or values.requires_grad):
        return Tensor(y)
    kept, chosen = Tensor(y == as_array(found)), Tensor(y[full] == as_array(added))
    if not include_self:
        kept.data[full] = False
    shared = [_within("scatter_reduce", Spread.apply, each, *places, key=key, shape=x.shape)
              for each in (where(chosen, values, 0), chosen.astype(x.dtype))]  # fmt: skip
    return (where(kept, x, 0) + shared[0]) / (kept + shared[1])


def _product(x: Tensor, full: Any, values: Tensor, include_self: bool) -> Tensor:
    """scatter_reduce's "prod" on the tape: the factors of each entry in a row, which a product along it multiplies."""
    flat = np.broadcast_to(np.ravel_multi_index(full, x.shape), values.shape).reshape(-1)
    order = np.argsort(flat, kind="stable")
    count = np.bincount(flat, minlength=x.numel())
    slot = np.empty_like(flat)  # of each value among those for its entry
    slot[order] = np.arange(flat.size) - (np.cumsum(count) - count)[flat[order]]
    width = int(count.max(initial=0))
    places = Tensor(flat * width + slot)
    ones = np.ones(x.numel() * width, x.dtype)
    ones[places.data] = 0
    factors = scatter_add(Tensor(ones), 0, places, values.reshape(-1)).reshape(*x.shape, width)
    kept = x if include_self else where(Tensor(count.reshape(x.shape) > 0), 1, x)
    return cat([kept.unsqueeze(-1), factors], -1).prod(-1)


def _rows(op: str, x: Tensor, dim: int, index: Any, source: Tensor | None, slot: Slot) -> tuple[Key, Tensor]:
    """The key of the slices along `dim`, and their places."""
    found = _indices(op, index).reshape(-1)
    dim = axis(op, dim, x.ndim)
    shape = (*x.shape[:dim], found.numel(), *x.shape[dim + 1 :])
    if source is not None and source.shape != shape:
        raise ShapeError(f"{op}: expected a source of shape {shape}, got {source.shape}")
    return (*(slice(None),) * dim, slot), found


def index_add(input: Any, dim: int, index: Any, source: Any, *, alpha: float = 1) -> Tensor:
    """`input` with alpha times the slices of `source` added to those along `dim` whose places `index` holds."""
    x, source = tensor_of(input), tensor_of(source)
    key, found = _rows("index_add", x, dim, index, source, FROM_FRONT)
    source = scaled("index_add", "alpha", source.astype(x.dtype), alpha)
    return x + _within("index_add", Spread.apply, source, found, key=key, shape=x.shape)


def index_copy(input: Any, dim: int, index: Any, source: Any) -> Tensor:
    """`input` with the slices of `source` in the place of those along `dim` whose places `index` holds."""
    x, source = tensor_of(input), tensor_of(source)
    key, found = _rows("index_copy", x, dim, index, source, FROM_FRONT)
    return _within("index_copy", Put.apply, x, source.astype(x.dtype), found, key=key)


def index_fill(input: Any, dim: int, index: Any, value: Any) -> Tensor:
    """`input` with `value` in the slices along `dim` whose places `index` holds."""
    x = tensor_of(input)
    key, found = _rows("index_fill", x, dim, index, None, SLOT)
    values = tensor_of(operand(number_as("index_fill", value, x.dtype), x)).astype(x.dtype)
    return _within("index_fill", Put.apply, x, values, found, key=key)


def index_put(input: Any, indices: tuple[Any, ...], values: Any, accumulate: bool = False) -> Tensor:
    """`input` with input[indices] = values, or += with `accumulate`, which adds up what comes to one place."""
    x = tensor_of(input)
    parts, places = _key(x, tuple(entries("index_put", "indices", indices)))
    values = tensor_of(operand(number_as("index_put", values, x.dtype), x)).astype(x.dtype)
    if not flag("index_put", "accumulate", accumulate):
        return _within("index_put", Put.apply, x, values, *places, key=parts)
    shape = _within("index_put", lambda: np.broadcast_to(np.zeros(()), x.shape)[filled(parts, places)].shape)
    return x + _within("index_put", Spread.apply, expand(values, shape), *places, key=parts, shape=x.shape)


# ---- by masks --------------------------------------------------------------------------------------------------------


def _mask(op: str, mask: Any) -> Tensor:
    found = tensor_of(mask)
    if found.dtype != np.bool_:
        raise DTypeError(f"{op}: expected a mask of booleans, such as x > 0, got {found.dtype}")
    return found


def masked_fill(input: Any, mask: Any, value: Any) -> Tensor:
    """`value`, a number or a tensor with one entry, where `mask` holds, else `input`. The mask broadcasts to input.

    >>> import fastnn as fnn
    >>> fnn.tensor([1.0, 2.0]).masked_fill(fnn.tensor([True, False]), 0)
    Tensor([0., 2.])
    """
    x, mask = tensor_of(input), _mask("masked_fill", mask)
    value = value.reshape(()) if isinstance(value, Tensor) and value.numel() == 1 else value
    value = tensor_of(operand(number_as("masked_fill", value, x.dtype), x))
    if value.ndim:
        raise ShapeError(f"masked_fill: expected one value, got shape {value.shape}: fnn.where takes tensors")
    return where(mask, value.astype(x.dtype), x)


def masked_select(input: Any, mask: Any) -> Tensor:
    """The entries where `mask` holds, one after the other; both broadcast."""
    x, mask = tensor_of(input), _mask("masked_select", mask)
    try:
        shape = np.broadcast_shapes(x.shape, mask.shape)
    except ValueError:
        raise ShapeError(f"masked_select: expected a mask that broadcasts with {x.shape}, got {mask.shape}") from None
    return index(expand(x, shape), expand(mask, shape))


def masked_scatter(input: Any, mask: Any, source: Any) -> Tensor:
    """`input` with the entries of `source`, one after the other, where `mask` holds."""
    x, mask = tensor_of(input), expand(_mask("masked_scatter", mask), tensor_of(input).shape)
    parts, places = _key(x, mask)
    source = tensor_of(source).astype(x.dtype).reshape(-1)
    count = len(places[0]) if places else 0
    if source.numel() < count:
        raise ShapeError(f"masked_scatter: expected a source of at least {count} entries, got {source.numel()}")
    return Put.apply(x, source[:count], *places, key=parts)


def nonzero(input: Any, *, as_tuple: bool = False) -> Any:
    """The places of the entries that are not 0: (count, ndim) int64, or with `as_tuple` a vector for each dimension."""
    x = tensor_of(input)
    places = np.nonzero(np.atleast_1d(x.detach().data))
    if flag("nonzero", "as_tuple", as_tuple):
        return tuple(map(Tensor, places))
    return Tensor(np.stack(places, 1) if x.ndim else np.zeros((len(places[0]), 0), np.int64))


def argwhere(input: Any) -> Tensor:
    """The places of the entries that are not 0: (count, ndim) int64."""
    return nonzero(input)


SPECIAL: dict[str, Any] = {
    "where": lambda x, condition, other: where(condition, x, other),
    "__getitem__": index,
    "__setitem__": set_index,
    "__index__": lambda x: operator.index(x.item()),
    "__iter__": lambda x: (index(x, i) for i in range(len(x))),
}
