"""Forms of operators that move entries: reshaping, indexing, writing at places, sorting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastnn.interop.onnx.batch import Affine, Size, Step
from fastnn.interop.onnx.forms.registry import form
from fastnn.interop.onnx.writer import FIRST, LAST, Inexpressible, Writer
from fastnn.ops import joining, padding, picking, shaping, sorting
from fastnn.ops.keys import Slot

__all__: list[str] = []

Shape = tuple[Size, ...]


@form(shaping.Reshape)
def _reshape(to: Writer, op: Step, x: str, *, shape: Any) -> str:
    before, after = op.inputs[0].shape, op.output.shape
    if before == after:
        return x
    if len(after) == 2 and len(before) > 2 and before[0] == after[0]:
        return str(to("Flatten", x, axis=1))
    if sum(isinstance(size, Affine) for size in after) > 1:  # 0 keeps a size
        kept = [0 if size == own else size for size, own in zip(after, before, strict=False)]
        return str(to("Reshape", x, to.sizes((*kept, *after[len(kept) :]))))
    return to.reshaped(x, after)


@form(shaping.Permute)
def _permute(to: Writer, op: Step, x: str, *, dims: tuple[int, ...]) -> str:
    return str(to("Transpose", x, perm=dims))


@form(shaping.Expand)
def _expand(to: Writer, op: Step, x: str, *, shape: Any) -> str:
    return to.expanded(x, op.inputs[0].shape, op.output.shape)


@form(joining.Cat)
def _cat(to: Writer, op: Step, *inputs: str, dim: int) -> str:
    return str(to("Concat", *inputs, axis=dim))


@form(padding.Pad)
def _pad(to: Writer, op: Step, x: str, *, before: Any, after: Any, value: float) -> str:
    return str(to("Pad", x, to.sizes((*before, *after)), to.constant(value, op.output.dtype)))


# ---- by places -------------------------------------------------------------------------------------------------------


def _whole(key: Any, ndim: int) -> list[Any]:
    """The key's parts, one for each dimension, and None for each new one."""
    parts = list(key) if isinstance(key, tuple) else [key]
    rest = [slice(None)] * (ndim - sum(part is not None and part is not ... for part in parts))
    if not any(part is ... for part in parts):
        return parts + rest
    at = next(i for i, part in enumerate(parts) if part is ...)
    return [*parts[:at], *rest, *parts[at + 1 :]]


def _sliced(to: Writer, x: str, parts: Sequence[Any]) -> str:
    """x by the slices among the parts."""
    found = [(d, part) for d, part in enumerate(parts) if isinstance(part, slice) and part != slice(None)]
    if not found:
        return x
    starts, ends, steps = [], [], []
    for _, part in found:
        step = 1 if part.step is None else part.step
        starts.append((0 if step > 0 else LAST) if part.start is None else part.start)
        ends.append((LAST if step > 0 else FIRST) if part.stop is None else part.stop)
        steps.append(step)
    axes = to.constant(np.array([d for d, _ in found], np.int64))
    return str(to("Slice", x, to.sizes(starts), to.sizes(ends), axes, to.sizes(steps)))


def _index(to: Writer, x: str, shape: Shape, key: Any) -> str:
    """x[key] of integers, slices, None and ...."""
    parts = _whole(key, len(shape))
    own = [part for part in parts if part is not None]
    x = _sliced(to, x, own)
    for d in reversed(range(len(own))):
        if not isinstance(own[d], slice):
            x = to("Gather", x, to.constant(own[d], np.int64), axis=d)
    left = [part for part in parts if part is None or isinstance(part, slice)]
    new = [d for d, part in enumerate(left) if part is None]
    return str(to("Unsqueeze", x, to.constant(np.array(new, np.int64))) if new else x)


@form(shaping.Index)
def _basic(to: Writer, op: Step, x: str, *, index: Any) -> str:
    return _index(to, x, op.inputs[0].shape, index)


Places = list[tuple[str, Shape]]  # arrays of indices, and their shapes


def _picked(to: Writer, x: str, shape: Shape, key: Any, given: Places) -> str:
    """x[key] with arrays of indices in the slots."""
    if not given:
        return _index(to, x, shape, key)
    parts = _whole(key, len(shape))
    new = [d for d, part in enumerate(parts) if part is None]
    if new:
        x = to("Unsqueeze", x, to.constant(np.array(new, np.int64)))
        parts = [slice(None) if part is None else part for part in parts]
    x = _sliced(to, x, parts)
    where = [d for d, part in enumerate(parts) if not isinstance(part, slice)]
    rest = iter(given)
    found = [next(rest) if isinstance(parts[d], Slot) else (to.constant(parts[d], np.int64), ()) for d in where]
    if len(where) == 1:
        return str(to("Gather", x, found[0][0], axis=where[0]))
    wide = _broadcast([each for _, each in found])
    vectors = []
    for name, own in found:
        name = name if own == wide else to.expanded(name, own, wide)
        vectors.append(to("Unsqueeze", name, to.constant(np.array([-1]))))
    others = [d for d in range(len(parts)) if d not in where]
    x = x if where == list(range(len(where))) else to("Transpose", x, perm=where + others)
    y = to("GatherND", x, to("Concat", *vectors, axis=-1))
    before = where[0] if where == list(range(where[0], where[-1] + 1)) else 0  # the dimensions that stay in front
    if not before:
        return str(y)
    first = len(wide)
    order = [*range(first, first + before), *range(first), *range(first + before, first + len(others))]
    return str(to("Transpose", y, perm=order))


def _broadcast(shapes: Sequence[Shape]) -> Shape:
    ndim = max(map(len, shapes))
    columns = zip(*((1,) * (ndim - len(shape)) + tuple(shape) for shape in shapes), strict=True)
    return tuple(next((size for size in column if size != 1), 1) for column in columns)


def _places_of(to: Writer, op: Step, names: Sequence[str], first: int) -> Places:
    found = []
    for name, symbol in zip(names, op.inputs[first:], strict=True):
        found.append((name if symbol.dtype == np.int64 else to.cast(name, np.int64), symbol.shape))
    return found


@form(picking.Pick)
def _pick(to: Writer, op: Step, x: str, *names: str, key: Any) -> str:
    return _picked(to, x, op.inputs[0].shape, key, _places_of(to, op, names, 1))


def _written(
    to: Writer, x: str, values: str, before: Shape, shape: Shape, key: Any, given: Places, **options: Any
) -> str:
    """x with values, which are `before`, at x[key]: by the numbers that its entries have in the flattened array."""
    found = _picked(to, to.places(shape), shape, key, given)
    values = to("Expand", to.reshaped(values, before), to("Shape", found))
    flat = (to.reshaped(each, (-1,)) for each in (x, found, values))
    return to.reshaped(to("ScatterElements", *flat, axis=0, **options), shape)


@form(picking.Put)
def _put(to: Writer, op: Step, x: str, values: str, *names: str, key: Any) -> str:
    shape, before = op.inputs[0].shape, op.inputs[1].shape
    while before and before[0] == 1:  # leading ones that what they are written to may not have
        before = before[1:]
    return _written(to, x, values, before, shape, key, _places_of(to, op, names, 2))


@form(picking.Spread)
def _spread(to: Writer, op: Step, values: str, *names: str, key: Any, shape: Shape) -> str:
    zeros = to("Expand", to.constant(0, op.output.dtype), to.sizes(shape))
    given = _places_of(to, op, names, 1)
    return _written(to, zeros, values, op.inputs[0].shape, shape, key, given, reduction="add")


# ---- order and running sums ------------------------------------------------------------------------------------------


@form(sorting.Order)
def _order(to: Writer, op: Step, x: str, *, dim: int, descending: bool, count: Size) -> str:
    if op.inputs[0].dtype not in (np.float32, np.float64, np.int32, np.int64):
        x = to.cast(x, np.int64)
    return str(to("TopK", x, to.sizes([count]), axis=dim, largest=int(descending), outputs=2)[1])


@form(sorting.CumSum)
def _cumsum(to: Writer, op: Step, x: str, *, dim: int) -> str:
    x = x if op.inputs[0].dtype == op.output.dtype else to.cast(x, op.output.dtype)
    return str(to("CumSum", x, to.constant(np.int64(dim))))


@form(sorting.CumProd)
def _cumprod(to: Writer, op: Step, x: str, *, dim: int) -> str:
    return _doubling(to, op, x, dim, 1, lambda a, b: to("Mul", a, b))


@form(sorting.LogCumSumExp)
def _logcumsumexp(to: Writer, op: Step, x: str, *, dim: int) -> str:
    def added(a: str, b: str) -> str:
        """log(exp(a) + exp(b)), where b may be -infinity."""
        high = to("Max", a, b)
        terms = (to("Exp", to("Sub", each, high)) for each in (a, b))
        return str(to("Add", to("Log", to("Add", *terms)), high))

    return _doubling(to, op, x, dim, -np.inf, added)


def _doubling(to: Writer, op: Step, x: str, dim: int, neutral: float, join: Callable[[str, str], str]) -> str:
    """Each entry joined with all before it: with its neighbour, then with what is two before, four, and so on."""
    shape = op.output.shape
    size = shape[dim]
    if isinstance(size, Affine):
        raise Inexpressible("its length depends on the number of samples")
    value, step = to.constant(neutral, op.output.dtype), 1
    while step < size:
        before = [step if d == dim else 0 for d in range(len(shape))]
        after = [-each for each in before]
        x = join(x, to("Pad", x, to.sizes((*before, *after)), value))
        step *= 2
    return x


@form(sorting.OneHot)
def _one_hot(to: Writer, op: Step, labels: str, *, classes: int) -> str:
    column = to("Unsqueeze", labels, to.constant(np.array([-1])))
    numbers = to.constant(np.arange(classes, dtype=op.inputs[0].dtype))
    return to.cast(to("Equal", column, numbers), op.output.dtype)
