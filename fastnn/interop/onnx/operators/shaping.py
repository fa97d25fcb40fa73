"""Shapes, parts and copies of tensors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnn.errors import ArgumentError, ShapeError
from fastnn.interop.onnx.operators.elements import DTYPES
from fastnn.interop.onnx.operators.registry import (
    Call,
    along,
    axes_of,
    axis_of,
    bounded,
    ints,
    known,
    op,
    reads,
    tensor,
)
from fastnn.tensors import Array


@reads("Shape")
def shape(call: Call, x: Any) -> Array:
    """x's shape, or a part of it."""
    return np.array(x.shape[slice(call.get("start", 0), call.get("end"))], np.int64)


@reads("Size")
def size(call: Call, x: Any) -> Array:
    """How many entries x has."""
    return np.array(math.prod(x.shape), np.int64)


@reads("Reshape")
def reshape(call: Call, x: Any, wanted: Any = None) -> Any:
    """x in another shape: 0 keeps a size (unless `allowzero`), -1 stands for the rest."""
    sizes = call.get("shape", []) if wanted is None else ints(wanted)
    if not call.get("allowzero", 0):
        if any(each == 0 and i >= len(x.shape) for i, each in enumerate(sizes)):
            raise ShapeError(f"expected as many dimensions as zeros keep, got {sizes} for {x.shape}")
        before = call.written or x.shape
        sizes = [before[i] if each == 0 else each for i, each in enumerate(sizes)]
    if call.batch is not None:
        sizes = (
            _rebatched(sizes, call.batch[0], call.written, x.shape)
            if call.written
            else _for_batch(call, sizes, x.shape)
        )
    if isinstance(x, np.ndarray):
        return x.reshape(sizes)
    return x if tuple(sizes) == x.shape else x.reshape(tuple(sizes))


def _for_batch(call: Call, sizes: list[int], shape: tuple[int, ...]) -> list[int]:
    """Sizes that begin with the batch that the file was written for, with the one that came."""
    if call.batch is None or not sizes or not shape:
        return sizes
    written, came = call.batch
    return [came, *sizes[1:]] if sizes[0] == written and shape[0] == came else sizes


def _rebatched(sizes: list[int], own: int, written: tuple[int, ...], shape: tuple[int, ...]) -> list[int]:
    """Sizes for an input of shape `written`, at the file's own batch, for one of another batch.

    The batch is in the dimension in which the two shapes differ, alone or with others. Entries keep their order, so in
    the result it is behind as many as before: a dimension of its own, or with what follows; but features, which are
    last, and a dimension that stays as it is, do not take it: then it is with what is before.
    """
    place = next((d for d, (old, new) in enumerate(zip(written, shape, strict=True)) if old != new), None)
    if place is None or not written[place] or shape[place] % written[place]:
        return sizes
    before, ratio = math.prod(written[:place]), shape[place] // written[place]
    rest = math.prod(n for n in sizes if n > 0)
    full = [math.prod(written) // rest if n == -1 and rest else n for n in sizes]
    ends = np.cumprod([1, *full]).tolist()  # how many entries there are before each dimension
    parts = [d for d in range(len(full)) if before <= ends[d] and ends[d + 1] <= before * written[place]]
    at = [d for d in range(len(full)) if ends[d] == before]
    if parts:  # what the dimension is cut into
        d = next((d for d in parts if full[d] == own), parts[0])
    elif at and at[0] and (at[0] == len(full) - 1 or written[place + 1 : place + 2] == (full[at[0]],)):
        d = at[0] - 1
    elif at:
        d = at[0]
    else:
        return sizes
    return sizes if sizes[d] == -1 else [*sizes[:d], sizes[d] * ratio, *sizes[d + 1 :]]


@reads("Flatten")
def flatten(call: Call, x: Any) -> Any:
    """A matrix: the dimensions before `axis` are its rows."""
    x = tensor(x)
    axis = call.get("axis", 1)
    axis += x.ndim if axis < 0 else 0
    if not 0 <= axis <= x.ndim:
        raise ShapeError(f"expected axis from {-x.ndim} to {x.ndim}, got {axis}")
    if axis == 1 and x.ndim > 1:
        return x if x.ndim == 2 else x.flatten(1)
    rows = math.prod(x.shape[:axis])
    return x.reshape(rows, math.prod(x.shape[axis:]))


@reads("Transpose")
def transpose(call: Call, x: Any) -> Any:
    """Dimensions in another order, reversed unless `perm` says otherwise."""
    x = tensor(x)
    order = call.get("perm") or list(range(x.ndim))[::-1]
    return x if order == list(range(x.ndim)) else x.permute(*order)


@reads("Squeeze")
def squeeze(call: Call, x: Any, axes: Any = None) -> Any:
    """Without dimensions of size 1."""
    found = axes_of(call, axes)
    if found is None:
        found = [d for d, size in enumerate(x.shape) if size == 1]
    gone = {axis_of(each, len(x.shape)) for each in found}
    if any(x.shape[d] != 1 for d in gone):
        raise ShapeError(f"expected size 1 in the dimensions {sorted(gone)}, got shape {x.shape}")
    return x.reshape(tuple(size for d, size in enumerate(x.shape) if d not in gone))


@reads("Unsqueeze")
def unsqueeze(call: Call, x: Any, axes: Any = None) -> Any:
    """With more dimensions of size 1, which stand at `axes` afterwards."""
    found = axes_of(call, axes) or []
    count = len(x.shape) + len(found)
    places = {axis_of(each, count) for each in found}
    if len(places) != len(found):
        raise ShapeError(f"expected every axis once, got {found}")
    rest = iter(x.shape)
    return x.reshape(tuple(1 if d in places else next(rest) for d in range(count)))


@reads("Concat")
def concat(call: Call, *inputs: Any) -> Any:
    """Tensors one after the other along `axis`."""
    if all(isinstance(x, np.ndarray) for x in inputs):
        return np.concatenate(inputs, call.get("axis", 1))
    if len(inputs) == 1:
        return inputs[0]
    axis, tensors = call.get("axis", 1), [tensor(x) for x in inputs]
    if call.batch is not None and axis % max(tensors[0].ndim, 1):  # what a file has for its own batch, for this one
        own, came = call.batch
        wide = [x.shape[0] == own == 1 and any(y.shape[0] == came for y in tensors) for x in tensors]
        tensors = [x.expand(came, *x.shape[1:]) if w else x for x, w in zip(tensors, wide, strict=True)]
    return op("cat")(tensors, axis)


@reads("Split")
def split(call: Call, x: Any, sizes: Any = None) -> tuple[Any, ...]:
    """Parts along `axis`, of the sizes given, or as even as can be."""
    x = tensor(x)
    axis = axis_of(call.get("axis", 0), x.ndim)
    parts = call.get("split") if sizes is None else ints(sizes)
    total, count = x.shape[axis], call.get("num_outputs", 0) or call.outputs
    if parts is None:
        step = -(-total // count)
        parts = [max(0, min(step, total - i * step)) for i in range(count)]
    if sum(parts) != total or min(parts) < 0:
        raise ShapeError(f"expected parts that make {total} entries, got {parts}")
    ends = np.cumsum(parts).tolist()
    return tuple(x[along(axis, slice(end - part, end))] for end, part in zip(ends, parts, strict=True))


@reads("Slice")
def slice_of(call: Call, x: Any, starts: Any = None, ends: Any = None, axes: Any = None, steps: Any = None) -> Any:
    """Every step-th entry from start to end along some dimensions."""
    firsts = call.get("starts", []) if starts is None else ints(starts)
    lasts = call.get("ends", []) if ends is None else ints(ends)
    where = axes_of(call, axes)
    where = list(range(len(firsts))) if where is None else where
    by = [1] * len(firsts) if steps is None else ints(steps)
    if not len(firsts) == len(lasts) == len(where) == len(by) or 0 in by:
        raise ShapeError(f"expected as many ends, axes and steps as starts, got {firsts}, {lasts}, {where} and {by}")
    key = [slice(None)] * len(x.shape)
    for first, last, axis, step in zip(firsts, lasts, where, by, strict=True):
        axis = axis_of(axis, len(x.shape))
        size = x.shape[axis]
        first, last = (each + size if each < 0 else each for each in (first, last))
        low, high = (0, size) if step > 0 else (-1, size - 1)
        first, last = min(max(first, max(low, 0)), high), min(max(last, low), high)
        key[axis] = slice(first, None if last < 0 else last, step)
    if all(part in (slice(None), slice(0, n, 1)) for part, n in zip(key, x.shape, strict=True)):
        return x
    return x[tuple(key)]


@reads("Expand")
def expand(call: Call, x: Any, wanted: Any) -> Any:
    """x repeated along dimensions of size 1."""
    x = tensor(x)
    sizes = _for_batch(call, ints(wanted), (call.batch[1],) if call.batch else ())
    shape = bounded(np.broadcast_shapes(x.shape, tuple(sizes)))
    return x if shape == x.shape else x.expand(*shape)


@reads("Tile")
def tile(call: Call, x: Any, repeats: Any) -> Any:
    """x repeated along all dimensions."""
    x, counts = tensor(x), ints(repeats)
    bounded(n * size for n, size in zip(counts, x.shape, strict=True))
    return x.tile(tuple(counts)) if any(n != 1 for n in counts) else x


@reads("ConstantOfShape")
def constant_of_shape(call: Call, sizes: Any) -> Array:
    """One number everywhere, zero unless `value` says another."""
    value = call.attributes.get("value", np.zeros(1, np.float32))
    return np.full(bounded(_for_batch(call, ints(sizes), (call.batch[1],) if call.batch else ())), value.reshape(-1)[0])


@reads("Range")
def range_of(call: Call, start: Any, limit: Any, delta: Any) -> Any:
    """Numbers from start to before limit."""
    first, last, step = (known(each).reshape(-1)[0] for each in (start, limit, delta))
    count = max(math.ceil((last.item() - first.item()) / step.item()), 0)
    bounded((count,))
    return (first + np.arange(count) * step).astype(first.dtype)


@reads("EyeLike")
def eye_like(call: Call, x: Any) -> Array:
    """Ones on a diagonal of a matrix of x's shape."""
    kind = DTYPES.get(call.get("dtype", 0), x.dtype)
    rows, columns = bounded(x.shape)
    return np.eye(rows, columns, k=call.get("k", 0), dtype=kind)


@reads("Pad")
def pad(call: Call, x: Any, pads: Any = None, value: Any = None, axes: Any = None) -> Any:
    """More entries, or fewer, before and after those of x."""
    x = tensor(x)
    counts = (call.get("pads") or call.get("paddings", [])) if pads is None else ints(pads)
    where = list(range(x.ndim)) if axes is None else [axis_of(each, x.ndim) for each in ints(axes)]
    if len(counts) != 2 * len(where):
        raise ShapeError(f"expected {2 * len(where)} pads, got {counts}")
    pairs = [(0, 0)] * x.ndim
    for i, axis in enumerate(where):
        pairs[axis] = counts[i], counts[i + len(where)]
    bounded(max(0, size + before + after) for size, (before, after) in zip(x.shape, pairs, strict=True))
    mode = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}.get(
        call.get("mode", "constant")
    )
    if mode is None:
        raise ArgumentError(f"expected mode constant, reflect, edge or wrap, got {call.get('mode')!r}")
    if not any(map(any, pairs)):
        return x
    fill = call.get("value", 0.0) if value is None else known(value).reshape(-1)[0].item()
    flat = [n for pair in reversed(pairs) for n in pair]
    return op("pad")(x, flat, mode, fill if mode == "constant" else None)


@reads("Trilu")
def trilu(call: Call, x: Any, k: Any = None) -> Any:
    """The upper or lower triangle of matrices."""
    diagonal = 0 if k is None else ints(k)[0]
    return op("triu" if call.get("upper", 1) else "tril")(tensor(x), diagonal)


@reads("ReverseSequence")
def reverse_sequence(call: Call, x: Any, lengths: Any) -> Any:
    """The first entries of each sequence in reverse."""
    time, batch = call.get("time_axis", 0), call.get("batch_axis", 1)
    x, counts = tensor(x), known(lengths)
    steps = np.arange(x.shape[time])[:, None]
    places = np.where(steps < counts, counts - 1 - steps, steps)
    rest = tuple(range(2, x.ndim))
    y = x.permute(time, batch, *rest)[places, np.arange(x.shape[batch])]
    return y.permute(*np.argsort((time, batch, *rest)).tolist())


@reads("CenterCropPad")
def center_crop_pad(call: Call, x: Any, wanted: Any) -> Any:
    """The middle of x, with zeros around it, of the sizes given."""
    x, sizes = tensor(x), ints(wanted)
    pads = [0] * (2 * x.ndim)
    for axis, size in zip(axes_of(call) or range(x.ndim), sizes, strict=True):
        axis = axis_of(axis, x.ndim)
        more = size - x.shape[axis]
        before = more // 2 if more > 0 else -((-more) // 2)
        pads[2 * (x.ndim - 1 - axis) : 2 * (x.ndim - axis)] = before, more - before
    bounded(sizes)
    return op("pad")(x, pads)
