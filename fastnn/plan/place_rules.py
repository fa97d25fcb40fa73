"""How operators on places are lowered: views, picks, writes, running sums."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from fastnn.ops import loss_sequences, picking, shaping, sorting
from fastnn.ops.keys import FROM_FRONT, Key, Slot, filled
from fastnn.plan.emit import ZERO, Emitter, Unlowered
from fastnn.plan.rules import RULES, around, rule
from fastnn.plan.trace import Operator
from fastnn.tensors import Array

__all__ = ["RULES"]


@rule(shaping.Expand, any_type=(0,))
def _expand(to: Emitter, op: Operator, x: Array, *, shape: tuple[int, ...]) -> Any:
    if op.needs[0] and x.dtype != np.float32:
        raise Unlowered(f"numbers of type {x.dtype}")
    return np.broadcast_to(x, shape), lambda grad: (to.sum_to(grad, x.shape),)


@rule(sorting.CumSum)
def _cumsum(to: Emitter, op: Operator, x: Array, *, dim: int) -> Any:
    def sums(a: Array, reverse: int) -> Array:
        y = to.array(a.shape)
        to.call("cumsum", y, to.contiguous(a), n=(*around(a.shape, dim), reverse))
        return y

    return sums(x, 0), lambda grad: (sums(grad, 1),)


@rule(sorting.OneHot, any_type=(0,))
def _one_hot(to: Emitter, op: Operator, labels: Array, *, classes: int) -> Any:
    """A label out of range is found by picking at its place."""
    if labels.dtype != np.int64:
        raise Unlowered(f"labels of type {labels.dtype}")
    _moved(to, "pick", to.array(labels.shape), to.zeros((classes,)), (FROM_FRONT,), (labels,))
    same = to.map("equal", labels[..., None], np.arange(classes), dtype=np.int64)
    return same, None


@rule(sorting.Order, any_type=(0,))
def _order(to: Emitter, op: Operator, x: Array, *, dim: int, descending: bool, count: int) -> Any:
    if x.dtype != np.float32 or not sorting.few_of_last(x, dim, count):
        raise Unlowered("NumPy sorts")
    places, size = to.array(op.output.shape, np.int64), x.shape[dim]
    to.call("topk", places, to.contiguous(x), n=(x.size // size, size, count, int(not descending)))
    return places, None


@rule(sorting.CumProd, sorting.LogCumSumExp, any_type=(0,))
def _by_numpy(to: Emitter, op: Operator, x: Array, **_: Any) -> Any:
    raise Unlowered("NumPy multiplies and adds")


@rule(loss_sequences.CTC, any_type=(0, 1, 2, 3))
def _paths(to: Emitter, op: Operator, *_: Array, **__: Any) -> Any:
    raise Unlowered("NumPy adds up paths")


# Places of any type are a rule's own affair: arrays at any position.
_ANY = tuple(range(10))


@rule(picking.Pick, any_type=_ANY[1:])
def _pick(to: Emitter, op: Operator, x: Array, *given: Array, key: Key) -> Any:
    x, y = to.contiguous(x), to.array(op.output.shape)
    _moved(to, "pick", y, x, key, given)

    def backward(grad: Array) -> tuple[Array | None, ...]:
        return _spread_to(to, x.shape, grad, key, given), *[None] * len(given)

    return y, backward


@rule(picking.Spread, any_type=_ANY[1:])
def _spread(to: Emitter, op: Operator, values: Array, *given: Array, key: Key, shape: tuple[int, ...]) -> Any:
    def backward(grad: Array) -> tuple[Array | None, ...]:
        picked = to.array(values.shape)
        _moved(to, "pick", picked, to.contiguous(grad), key, given)
        return picked, *[None] * len(given)

    return _spread_to(to, shape, values, key, given), backward


@rule(picking.Put, any_type=_ANY[2:])
def _put(to: Emitter, op: Operator, x: Array, values: Array, *given: Array, key: Key) -> Any:
    def written(source: Array, numbers: Array) -> Array:
        y = to.array(source.shape)
        to.map("copy", source, out=y)
        if given:
            shape = _picked_shape(y, key, given)
            _moved(to, "put", np.broadcast_to(numbers, shape), y, key, given)
        elif (part := y[_whole(key)]).size:
            to.map("copy", np.broadcast_to(numbers, part.shape), out=part)
        return y

    def backward(grad: Array) -> tuple[Array | None, ...]:
        grad_values = None
        if op.needs[1]:
            if given:
                grad_values = to.array(_picked_shape(grad, key, given))
                _moved(to, "pick", grad_values, to.contiguous(grad), key, given)
            else:
                grad_values = grad[_whole(key)]
            if values.ndim > grad_values.ndim:
                raise Unlowered("values with more dimensions than what they are written to")
            grad_values = to.sum_to(grad_values, values.shape)
        return written(grad, ZERO) if op.needs[0] else None, grad_values, *[None] * len(given)

    if values.ndim > len(op.output.shape):
        raise Unlowered("values with more dimensions than what they are written to")
    return written(x, values), backward


def _whole(key: Key) -> Key:
    """The key as one that gives a view also where one entry is picked."""
    return key if any(part is ... for part in key) else (*key, ...)


def _picked_shape(x: Array, key: Key, given: tuple[Array, ...]) -> tuple[int, ...]:
    zeros = [np.broadcast_to(np.zeros((), np.int64), place.shape) for place in given]
    return np.broadcast_to(np.zeros(()), x.shape)[filled(key, zeros)].shape


def _spread_to(to: Emitter, shape: tuple[int, ...], values: Array, key: Key, given: tuple[Array, ...]) -> Array:
    """Sums in double precision where a place may come many times: where grids run, each time another one is meant."""
    times = math.prod(np.broadcast_shapes(*(place.shape for place in given)))
    times //= math.prod(place.size for place in given if _is_grid(place)) or 1
    sums = to.zeros(shape, np.float32 if times <= _FEW else np.float64)
    _moved(to, "spread", np.broadcast_to(values, _picked_shape(sums, key, given)), sums, key, given)
    return sums if times <= _FEW else to.map("copy", sums)


_FEW = 64  # terms that single precision adds without much loss: the kernels' SUM_RUN


def _is_grid(place: Array) -> bool:
    return not place.flags.writeable and place.base is None


def _moved(to: Emitter, kind: str, values: Array, whole: Array, key: Key, given: tuple[Array, ...]) -> None:
    """The kernel that moves `values` from or to places of `whole`, a contiguous array.

    Where indices stand, a view takes the first entry and is stretched to the shape of the indices; how far each index
    moves from there is told to the kernel. Grids, which gather makes of the other dimensions, are such views, too.
    """
    parts = _spelled(key, whole.ndim)
    advanced = [i for i, part in enumerate(parts) if isinstance(part, (Slot, int))]
    adjacent = advanced[-1] - advanced[0] + 1 == len(advanced)
    first = (*(0 if isinstance(part, Slot) else part for part in parts), ...)
    view = whole[first]
    lead = advanced[0] if adjacent else 0
    shape = np.broadcast_shapes(*(place.shape for place in given))
    strides, indices, sizes, steps, behind_by = [0] * len(shape), [], [], [], []
    taken = [part for part in parts if part is not None]
    dims = [d for d, part in enumerate(taken) if isinstance(part, Slot)]
    slots = [part for part in taken if isinstance(part, Slot)]
    for dim, slot, place in zip(dims, slots, given, strict=True):
        if _is_grid(place):  # 0, 1, 2, ... along one dimension
            along = len(shape) - place.ndim + int(np.argmax(place.shape))
            strides[along] += whole.strides[dim] if place.size > 1 else 0
        elif place.dtype != np.int64 or not place.flags.aligned:
            raise Unlowered(f"an index of type {place.dtype}")
        else:
            indices.append(place)
            sizes.append(whole.shape[dim])
            steps.append(whole.strides[dim])
            behind_by.append(whole.shape[dim] * slot.from_behind)
    if len(indices) > 2:
        raise Unlowered(f"an index of {len(indices)} arrays")
    full = (*view.shape[:lead], *shape, *view.shape[lead:])
    moved = as_strided(view, full, (*view.strides[:lead], *strides, *view.strides[lead:]))
    behind = (1,) * (view.ndim - lead)
    arrays = [np.broadcast_to(place.reshape(place.shape + behind), full) for place in indices]
    values = np.broadcast_to(values, full)
    ends = [values, moved, *arrays] if kind == "pick" else [moved, values, *arrays]
    if not full:
        ends, full = [x.reshape(1) for x in ends], (1,)
    numbers = tuple(n for pair in (sizes, steps, behind_by) for n in (*pair, 0)[:2])
    to.call(kind, *ends, *[None] * (4 - len(ends)), whole, n=numbers, shape=full)


def _spelled(key: Key, ndim: int) -> list[Any]:
    """The key with slices in the place of ... and behind its end."""
    rest = [slice(None)] * (ndim - sum(part is not None and part is not ... for part in key))
    for at, part in enumerate(key):
        if part is ...:
            return [*key[:at], *rest, *key[at + 1 :]]
    return [*key, *rest]
