"""What moves, repeats or cuts up a tensor's entries: views, copies, and slices put together."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn.arrays import check_size
from fastnn.checks import choice, is_whole, shown, whole
from fastnn.errors import ArgumentError, ShapeError
from fastnn.ops.common import axes, axis, tensor_of
from fastnn.ops.joining import cat, stack, where
from fastnn.ops.keys import SLOT
from fastnn.ops.picking import Pick, Put, Spread
from fastnn.ops.places import index, index_select
from fastnn.ops.shaping import View, apart, expand, permute, reshape
from fastnn.tape import tracer
from fastnn.tensors import Array, Context, Tensor

__all__ = [
    "broadcast_tensors", "broadcast_to", "cartesian_prod", "chunk", "diag", "diag_embed", "diagonal", "expand_as",
    "flip", "fliplr", "flipud", "meshgrid", "movedim", "narrow", "ravel", "repeat", "repeat_interleave", "roll",
    "rot90", "select", "split", "split_with_sizes", "tensor_split", "tile", "tril", "tril_indices", "triu",
    "triu_indices", "unbind", "unflatten",
]  # fmt: skip

_MATRIX = (..., SLOT, SLOT)  # entries of matrices in the last two dimensions


def _sizes(op: str, given: tuple[Any, ...]) -> tuple[int, ...]:
    """Integers, given one by one or as one tuple or list."""
    values = given[0] if len(given) == 1 and not is_whole(given[0]) else given
    if not isinstance(values, (tuple, list)) or not all(map(is_whole, values)):
        raise ArgumentError(f"{op}: expected integers, got {', '.join(map(repr, given))}")
    return tuple(map(operator.index, values))


def _sliced(x: Tensor, dim: int, part: Any) -> Tensor:
    """x[:, ..., part] with the part at place dim."""
    return index(x, (*(slice(None),) * dim, part))


# ---- parts -----------------------------------------------------------------------------------------------------------


def split(tensor: Any, split_size_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Parts of that size along `dim`, views, of which the last may be smaller; or parts of the sizes in a list.

    >>> import fastnn as fnn
    >>> fnn.arange(5).split(2)
    (Tensor([0, 1], dtype=int64), Tensor([2, 3], dtype=int64), Tensor([4], dtype=int64))
    """
    x = tensor_of(tensor)
    dim = axis("split", dim, x.ndim)
    length = x.shape[dim]
    if is_whole(split_size_or_sections):
        size = whole("split", "split_size", split_size_or_sections, 0 if length == 0 else 1)
        sections = [min(size, length - start) for start in range(0, length, size)] if length else [0]
    else:
        sections = list(_sizes("split", (split_size_or_sections,)))
        if sum(sections) != length or min(sections, default=0) < 0:
            raise ShapeError(f"split: expected sizes that add up to {length}, got {sections} (input is {x.shape})")
    ends = np.cumsum(sections).tolist()
    return tuple(_sliced(x, dim, slice(end - size, end)) for size, end in zip(sections, ends, strict=True))


def split_with_sizes(input: Any, split_sizes: Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
    """Parts of these sizes along `dim`."""
    return split(input, _sizes("split_with_sizes", (split_sizes,)), dim)


def chunk(input: Any, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """At most so many parts of one size along `dim`, views; the last may be smaller.

    >>> import fastnn as fnn
    >>> [part.shape for part in fnn.zeros(5, 2).chunk(3)]
    [(2, 2), (2, 2), (1, 2)]
    """
    x = tensor_of(input)
    chunks = whole("chunk", "chunks", chunks, 1, 1 << 16)
    length = x.shape[axis("chunk", dim, x.ndim)]
    return split(x, -(-length // chunks), dim) if length else split(x, [0] * chunks, dim)


def tensor_split(input: Any, indices_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """So many parts along `dim`, the first ones larger by 1 where it does not divide; or parts between indices."""
    x = tensor_of(input)
    dim = axis("tensor_split", dim, x.ndim)
    length = x.shape[dim]
    if is_whole(indices_or_sections):
        count = whole("tensor_split", "sections", indices_or_sections, 1, 1 << 16)
        ends = np.cumsum([length // count + (i < length % count) for i in range(count)]).tolist()[:-1]
    else:
        ends = list(_sizes("tensor_split", (indices_or_sections,)))
    return tuple(_sliced(x, dim, slice(a, b)) for a, b in zip([0, *ends], [*ends, None], strict=True))


def unbind(input: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """The slices along `dim`, without that dimension."""
    x = tensor_of(input)
    dim = axis("unbind", dim, x.ndim)
    return tuple(_sliced(x, dim, i) for i in range(x.shape[dim]))


def select(input: Any, dim: int, index: int) -> Tensor:
    """The slice with that index along `dim`, without that dimension."""
    x = tensor_of(input)
    return _sliced(x, axis("select", dim, x.ndim), whole("select", "index", index))


def narrow(input: Any, dim: int, start: Any, length: int) -> Tensor:
    """`length` entries along `dim` from `start` on."""
    x = tensor_of(input)
    dim = axis("narrow", dim, x.ndim)
    size = x.shape[dim]
    start = whole("narrow", "start", start.item() if isinstance(start, Tensor) else start)
    start, length = start + (size if start < 0 else 0), whole("narrow", "length", length, 0)
    if not 0 <= start <= start + length <= size:
        raise ShapeError(f"narrow: expected start and length within {size}, got {start} and {length}")
    return _sliced(x, dim, slice(start, start + length))


# ---- repeated --------------------------------------------------------------------------------------------------------


def expand_as(input: Any, other: Tensor) -> Tensor:
    """`input` stretched to the shape of `other`."""
    return expand(input, tensor_of(other).shape)


def broadcast_to(input: Any, size: Any) -> Tensor:
    """`input` stretched to that shape."""
    return expand(input, size)


def broadcast_tensors(*tensors: Any) -> tuple[Tensor, ...]:
    """All stretched to their common shape. Raises ShapeError where there is none."""
    given = list(map(tensor_of, tensors))
    try:
        shape = np.broadcast_shapes(*(x.shape for x in given))
    except ValueError:
        got = ", ".join(str(x.shape) for x in given)
        raise ShapeError(f"broadcast_tensors: expected shapes that broadcast, got {got}") from None
    return tuple(expand(x, shape) for x in given)


def repeat(input: Any, *sizes: Any, repeats: Any = ()) -> Tensor:
    """A copy in which each dimension comes so many times, new ones before it.

    >>> import fastnn as fnn
    >>> fnn.tensor([1.0, 2.0]).repeat(2, 2)
    Tensor([[1., 2., 1., 2.],
            [1., 2., 1., 2.]])
    """
    x, times = tensor_of(input), _sizes("repeat", sizes or (repeats,))
    if len(times) < x.ndim or min(times, default=0) < 0:
        raise ShapeError(f"repeat: expected a number of times for each of {x.ndim} dimensions, got {times}")
    shape = (1,) * (len(times) - x.ndim) + x.shape
    x = reshape(x, *[size for each in shape for size in (1, each)]) if shape else x
    x = expand(x, *[size for pair in zip(times, shape, strict=True) for size in pair]) if shape else x
    return apart(reshape(x, tuple(n * size for n, size in zip(times, shape, strict=True))), order="C")


def tile(input: Any, *dims: Any) -> Tensor:
    """As repeat; fewer numbers stand for the last dimensions."""
    x, times = tensor_of(input), _sizes("tile", dims)
    return repeat(x, (1,) * (x.ndim - len(times)) + times)


def repeat_interleave(input: Any, repeats: Any, dim: int | None = None, *, output_size: int | None = None) -> Tensor:
    """Each entry along `dim` (of the flattened input if None) so many times in a row; `repeats` is one number, or one
    for each entry.

    >>> import fastnn as fnn
    >>> fnn.tensor([1, 2]).repeat_interleave(2)
    Tensor([1, 1, 2, 2], dtype=int64)
    """
    x = tensor_of(input)
    x, dim = (reshape(x, -1), 0) if dim is None else (x, axis("repeat_interleave", dim, x.ndim))
    if is_whole(repeats):
        times = whole("repeat_interleave", "repeats", repeats, 0)
        before, size, after = x.shape[:dim], x.shape[dim], x.shape[dim + 1 :]
        wide = expand(reshape(x, *before, size, 1, *after), *before, size, times, *after)
        return apart(reshape(wide, *before, size * times, *after))
    counts = tensor_of(repeats).detach().numpy()
    if counts.ndim != 1 or len(counts) not in (1, x.shape[dim]):
        raise ShapeError(f"repeat_interleave: expected {x.shape[dim]} numbers of repeats, got shape {counts.shape}")
    if counts.dtype.kind not in "iu" or counts.min(initial=0) < 0:
        raise ArgumentError(f"repeat_interleave: expected whole numbers of at least 0, got {shown(repeats)}")
    return index_select(x, dim, np.repeat(np.arange(x.shape[dim]), counts))


# ---- moved -----------------------------------------------------------------------------------------------------------


def flip(input: Any, dims: Any = (), *more: int) -> Tensor:
    """The order of the entries along these dimensions reversed; a copy."""
    x = tensor_of(input)
    turned = [axis("flip", d, max(x.ndim, 1)) for d in _sizes("flip", (dims, *more))]
    if len(set(turned)) < len(turned):
        raise ShapeError(f"flip: expected every dimension once, got {turned}")
    return apart(index(x, tuple(slice(None, None, -1 if d in turned else None) for d in range(x.ndim))))


def fliplr(input: Any) -> Tensor:
    """The second dimension reversed."""
    return flip(input, 1)


def flipud(input: Any) -> Tensor:
    """The first dimension reversed."""
    return flip(input, 0)


def _two(op: str, dims: Any) -> tuple[int, ...]:
    found = _sizes(op, (dims,))
    if len(found) != 2:
        raise ArgumentError(f"{op}: expected two dimensions, got {dims!r}")
    return found


def rot90(input: Any, k: int = 1, dims: Sequence[int] = (0, 1)) -> Tensor:
    """Turned by 90 degrees, k times, from the first of two dimensions towards the second."""
    x = tensor_of(input)
    a, b = (axis("rot90", d, x.ndim) for d in _two("rot90", dims))
    turns = whole("rot90", "k", k) % 4
    if turns == 2:
        return flip(x, a, b)
    if turns == 0:
        return apart(x, x)
    return flip(x, b).transpose(a, b) if turns == 1 else flip(x.transpose(a, b), b)


def roll(input: Any, shifts: Any, dims: Any = None) -> Tensor:
    """Entries moved by `shifts` along `dims`, those that leave at one end coming in at the other; of the flattened
    tensor without dims."""
    x = tensor_of(input)
    if dims is None or (isinstance(dims, (tuple, list)) and not dims):
        return reshape(roll(reshape(x, -1), shifts, 0), x.shape)
    steps, places = _sizes("roll", (shifts,)), _sizes("roll", (dims,))
    if len(steps) != len(places):
        raise ShapeError(f"roll: expected a shift for each dimension, got {steps} and {places}")
    for step, dim in zip(steps, places, strict=True):
        dim = axis("roll", dim, x.ndim)
        if x.shape[dim] and (step := step % x.shape[dim]):
            x = cat([_sliced(x, dim, slice(-step, None)), _sliced(x, dim, slice(None, -step))], dim)
    return apart(x, input)


def movedim(input: Any, source: Any, destination: Any) -> Tensor:
    """Dimensions moved to other places, the others in their order."""
    x = tensor_of(input)
    a, b = axes("movedim", source, x.ndim) or (), axes("movedim", destination, x.ndim) or ()
    if len(a) != len(b):
        raise ShapeError(f"movedim: expected as many places as dimensions, got {source} and {destination}")
    order = [d for d in range(x.ndim) if d not in a]
    for place, dim in sorted(zip(b, a, strict=True)):
        order.insert(place, dim)
    return permute(x, *order) if order else x


def ravel(input: Any) -> Tensor:
    """All entries in one dimension."""
    return reshape(tensor_of(input), -1)


def unflatten(input: Any, dim: int, sizes: Sequence[int]) -> Tensor:
    """One dimension made several; one size may be -1."""
    x, found = tensor_of(input), _sizes("unflatten", (sizes,))
    dim = axis("unflatten", dim, x.ndim)
    known = math.prod(size for size in found if size != -1)
    if found.count(-1) == 1 and known and x.shape[dim] % known == 0:
        found = tuple(x.shape[dim] // known if size == -1 else size for size in found)
    if math.prod(found) != x.shape[dim] or min(found, default=0) < 0:
        raise ShapeError(f"unflatten: expected sizes for {x.shape[dim]} entries, got {found}")
    return reshape(x, *x.shape[:dim], *found, *x.shape[dim + 1 :])


# ---- triangles and diagonals -----------------------------------------------------------------------------------------


def tril(input: Any, diagonal: int = 0) -> Tensor:
    """The lower triangle of matrices (..., M, N): entries above that diagonal are 0."""
    return _triangle("tril", input, diagonal, lower=True)


def triu(input: Any, diagonal: int = 0) -> Tensor:
    """The upper triangle of matrices (..., M, N): entries below that diagonal are 0."""
    return _triangle("triu", input, diagonal, lower=False)


def _triangle(op: str, input: Any, diagonal: int, *, lower: bool) -> Tensor:
    x = tensor_of(input)
    if x.ndim < 2:
        raise ShapeError(f"{op}: expected matrices, got {x.shape}")
    kept = np.tri(
        x.shape[-2], x.shape[-1], k=whole(op, "diagonal", diagonal, -(2**62), 2**62) - (not lower), dtype=bool
    )
    return where(kept if lower else ~kept, x, Tensor(np.zeros((), x.dtype)))


def tril_indices(row: int, col: int, offset: int = 0, **options: Any) -> Tensor:
    """The places of the lower triangle, (2, count) int64."""
    return _triangle_places("tril_indices", np.tril, row, col, offset)


def triu_indices(row: int, col: int, offset: int = 0, **options: Any) -> Tensor:
    """The places of the upper triangle, (2, count) int64."""
    return _triangle_places("triu_indices", np.triu, row, col, offset)


def _triangle_places(op: str, triangle: Any, row: int, col: int, offset: int) -> Tensor:
    shape = whole(op, "row", row, 0), whole(op, "col", col, 0)
    check_size(op, shape)
    offset = whole(op, "offset", offset, -(2**62), 2**62)
    return Tensor(np.stack(np.nonzero(triangle(np.ones(shape, bool), offset))))


def _on_diagonal(rows: int, columns: int, offset: int) -> tuple[Any, Any]:
    """Rows and columns of the entries of a diagonal, `offset` columns to the right of the main one."""
    count = max(0, min(rows, columns - offset) if offset >= 0 else min(rows + offset, columns))
    return np.arange(count) + max(0, -offset), np.arange(count) + max(0, offset)


def diagonal(input: Any, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """The diagonals of the matrices that two dimensions span, in a new last dimension; a view."""
    x = tensor_of(input)
    a, b = axis("diagonal", dim1, x.ndim), axis("diagonal", dim2, x.ndim)
    if a == b:
        raise ShapeError(f"diagonal: expected two dimensions, got {dim1} twice")
    x = movedim(x, (a, b), (-2, -1))
    offset = whole("diagonal", "offset", offset, -(2**62), 2**62)
    return Diagonal.apply(x, offset=offset)


class Diagonal(View):
    """The diagonals of the matrices in the last two dimensions, which are Picked in a plan. Saves the shape.

    Attribute: offset.
    """

    @staticmethod
    def forward(ctx: Context, x: Array, *, offset: int) -> Array:
        ctx.save_for_backward(x.shape)
        y = x.diagonal(max(-x.shape[-2], min(offset, x.shape[-1])), -2, -1)
        y.flags.writeable = x.flags.writeable
        return y

    @staticmethod
    def backward(ctx: Context, grad: Any) -> Any:
        (shape,) = ctx.saved_tensors
        places = _on_diagonal(shape[-2], shape[-1], ctx.attributes["offset"])
        if isinstance(grad, Tensor):
            return Spread.apply(grad, *places, key=_MATRIX, shape=shape)
        key, grad_x = (..., *places), np.zeros(shape, grad.dtype)
        grad_x[key] = grad
        return grad_x

    @staticmethod
    def put_back(x: Tensor, part: Tensor, *, offset: int) -> Tensor:
        return Put.apply(x, part, *_on_diagonal(x.shape[-2], x.shape[-1], offset), key=_MATRIX)

    @classmethod
    def apply(cls, *inputs: Any, **attributes: Any) -> Tensor:
        (x,) = inputs
        if (recorder := tracer()) is None:
            return super().apply(x, **attributes)
        y = Pick.apply(x, *_on_diagonal(x.shape[-2], x.shape[-1], attributes["offset"]), key=_MATRIX)
        recorder.seen_in(y, x, cls, attributes)
        return y


def diag_embed(input: Any, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """Matrices that hold the last dimension in a diagonal, and 0 elsewhere, in the dimensions dim1 and dim2."""
    x = tensor_of(input)
    if not x.ndim:
        raise ShapeError("diag_embed: expected at least one dimension, got a number")
    offset = whole("diag_embed", "offset", offset, -(2**62), 2**62)
    size = x.shape[-1] + abs(offset)
    check_size("diag_embed", (*x.shape[:-1], size, size))
    zeros = Tensor(np.zeros((*x.shape[:-1], size, size), x.dtype))
    return movedim(
        Put.apply(zeros, x, *_on_diagonal(size, size, offset), key=(..., SLOT, SLOT)), (-2, -1), (dim1, dim2)
    )


def diag(input: Any, diagonal: int = 0) -> Tensor:
    """A matrix's diagonal, or the square matrix with a vector in its diagonal."""
    x = tensor_of(input)
    if x.ndim not in (1, 2):
        raise ShapeError(f"diag: expected a vector or a matrix, got {x.shape}")
    return diag_embed(x, diagonal) if x.ndim == 1 else apart(globals()["diagonal"](x, diagonal))


# ---- grids -----------------------------------------------------------------------------------------------------------


def meshgrid(*tensors: Any, indexing: str | None = None) -> tuple[Tensor, ...]:
    """Vectors stretched to the grid that they span, one dimension each; `indexing` "xy" exchanges the first two."""
    given = [
        tensor_of(x) for x in (tensors[0] if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)) else tensors)
    ]
    if indexing is not None:
        choice("meshgrid", "indexing", indexing, ("ij", "xy"))
    if any(x.ndim > 1 for x in given):
        raise ShapeError(f"meshgrid: expected vectors, got {', '.join(str(x.shape) for x in given)}")
    order = list(range(len(given)))
    if indexing == "xy" and len(given) > 1:
        order[:2] = 1, 0
    shape = [1] * len(given)
    for x, d in zip(given, order, strict=True):
        shape[d] = x.numel()
    return tuple(
        expand(reshape(x, *(x.numel() if d == at else 1 for at in range(len(given)))), *shape)
        for x, d in zip(given, order, strict=True)
    )


def cartesian_prod(*tensors: Any) -> Tensor:
    """All combinations of the entries of vectors, (count, vectors)."""
    if len(tensors) == 1:
        return tensor_of(tensors[0])
    return reshape(stack(meshgrid(*tensors), -1), -1, len(tensors))
