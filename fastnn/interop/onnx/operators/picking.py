"""Entries by their places."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.errors import ShapeError
from fastnn.interop.onnx.operators.registry import Call, along, axis_of, bounded, known, op, reads, tensor
from fastnn.tensors import Array, Tensor


@reads("Gather")
def gather(call: Call, x: Any, places: Any) -> Any:
    """The entries of x along `axis` at these places."""
    axis = axis_of(call.get("axis", 0), len(x.shape))
    if isinstance(places, Tensor):
        x = tensor(x)
        places = places if places.dtype.kind in "iu" else places.long()
    return x[along(axis, places)]


@reads("GatherElements")
def gather_elements(call: Call, x: Any, places: Any) -> Any:
    """y[i, j] = x[i, places[i, j]] for axis 1."""
    x = tensor(x)
    axis = axis_of(call.get("axis", 0), x.ndim)
    return op("gather")(x, axis, _from_front(places, x.shape[axis]))


def _from_front(places: Any, size: int) -> Any:
    """Places counted from the front; known ones, as traced ones may not be looked at."""
    return np.where(places < 0, places + size, places) if isinstance(places, np.ndarray) else tensor(places) % size


def _key(places: Any, before: int, batch: tuple[int, ...]) -> tuple[Any, ...]:
    """The last dimension of places, as arrays of places for each dimension, behind the dimensions of the batch."""
    rest = places.ndim - 1 - before
    own = [np.arange(n).reshape(-1, *[1] * (before - 1 - d + rest)) for d, n in enumerate(batch)]
    return (*own, *(places[..., i] for i in range(places.shape[-1])))


@reads("GatherND")
def gather_nd(call: Call, x: Any, places: Any) -> Any:
    """Entries or slices of x at the places in the last dimension."""
    before = call.get("batch_dims", 0)
    if isinstance(places, Tensor):
        x = tensor(x)
    return x[_key(places, before, x.shape[:before])]


_REDUCED = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


@reads("ScatterElements", "Scatter")
def scatter_elements(call: Call, x: Any, places: Any, updates: Any) -> Any:
    """x with y[i, places[i, j]] = updates[i, j] for axis 1."""
    x, updates = tensor(x), tensor(updates)
    axis = axis_of(call.get("axis", 0), x.ndim)
    index = _from_front(places, x.shape[axis])
    kind = call.get("reduction", "none")
    if kind == "none":
        return op("scatter")(x, axis, index, updates)
    return op("scatter_reduce")(x, axis, index, updates, _REDUCED[kind])


@reads("ScatterND")
def scatter_nd(call: Call, x: Any, places: Any, updates: Any) -> Any:
    """x with entries or slices replaced at the places in the last dimension."""
    x, updates = tensor(x), tensor(updates)
    key, kind = _key(places, 0, ()), call.get("reduction", "none")
    if kind in ("none", "add"):
        return op("index_put")(x, key, updates, kind == "add")
    y = np.array(known(x))
    {"mul": np.multiply, "max": np.maximum, "min": np.minimum}[kind].at(y, tuple(map(known, key)), known(updates))
    return Tensor(y)


@reads("OneHot")
def one_hot(call: Call, places: Any, depth: Any, values: Any) -> Any:
    """`on` at the places, `off` elsewhere, along a new dimension."""
    places, count = tensor(places), int(known(depth).reshape(-1)[0])
    axis = axis_of(call.get("axis", -1), places.ndim + 1)
    bounded((*places.shape, count))
    rows = np.arange(count).reshape(-1, *[1] * (places.ndim - axis))
    kind = places.dtype if places.dtype.kind in "if" else np.dtype(np.int64)
    given = places.astype(kind).unsqueeze(axis)
    hit = (given == Tensor(rows.astype(kind))) | (given == Tensor((rows - count).astype(kind)))
    off, on = tensor(values)[0], tensor(values)[1]
    return op("where")(hit, on, off)


@reads("Compress")
def compress(call: Call, x: Any, condition: Any) -> Any:
    """The entries of x for which the condition holds, along `axis` or of all of x."""
    axis, where = call.get("axis"), np.flatnonzero(known(condition))
    x = tensor(x)
    if axis is None:
        return x.reshape(-1)[where]
    return x[along(axis_of(axis, x.ndim), where)]


@reads("NonZero")
def nonzero(call: Call, x: Any) -> Array:
    """The places of all entries that are not 0, one column each."""
    return np.stack(known(x).nonzero()).astype(np.int64)


@reads("Unique")
def unique(call: Call, x: Any) -> tuple[Array, ...]:
    """The different entries or slices, where they are first, which each one is, and how many of each there are."""
    values, first, inverse, counts = np.unique(known(x), True, True, True, axis=call.get("axis"))
    inverse = inverse.reshape(-1)
    if not call.get("sorted", 1):
        order = np.argsort(first)
        values = np.take(values, order, 0 if call.get("axis") is None else call.get("axis"))
        first, counts, inverse = first[order], counts[order], np.argsort(order)[inverse]
    return values, first, inverse, counts


@reads("TensorScatter")
def tensor_scatter(call: Call, past: Any, update: Any, first: Any = None) -> Any:
    """A cache with new entries from `first` on, of each sequence."""
    past, update = tensor(past), tensor(update)
    axis = axis_of(call.get("axis", -2), past.ndim)
    starts = np.zeros(past.shape[0], np.int64) if first is None else known(first)
    steps = starts[:, None] + np.arange(update.shape[axis])
    if call.get("mode", "linear") == "circular":
        steps = steps % past.shape[axis]
    elif steps.size and steps.max() >= past.shape[axis]:
        raise ShapeError(f"expected at most {past.shape[axis]} entries, got {int(steps.max()) + 1}")
    order = (0, axis, *(d for d in range(1, past.ndim) if d != axis))
    y = op("index_put")(past.permute(*order), (np.arange(past.shape[0])[:, None], steps), update.permute(*order))
    return y.permute(*np.argsort(order).tolist())
