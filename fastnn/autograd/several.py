"""Several outputs of one Function: they lie side by side in the one array that an operator of the tape gives.

So neither the tape nor a plan need know of them: each output is a piece of that array, cut out by an operator whose
gradient puts it back. Behind the numbers stands a mark for each output, whose gradient says that one came through it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastnn import ops
from fastnn.errors import ArgumentError, ShapeError
from fastnn.recording import tracer
from fastnn.tensors import Array, Context, Function, Tensor

__all__ = ["Layout", "one_array"]

_EXACT = 2**53  # float64 holds the whole numbers up to here


class _Cut(Function):
    """x[start : start + size] in a shape and a type. Attributes: these, the length of x, and the place of the mark."""

    @staticmethod
    def forward(ctx: Context, x: Array, *, start: int, shape: tuple[int, ...], dtype: Any, **_: int) -> Array:
        return x[start : start + math.prod(shape)].reshape(shape).astype(dtype)  # a copy: outputs share no memory

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        start, length, mark = (ctx.attributes[name] for name in ("start", "length", "mark"))
        size = math.prod(grad.shape)
        before, behind = np.zeros(start, grad.dtype), np.zeros(length - start - size, grad.dtype)
        behind[mark - start - size] = 1
        join: Any = ops.cat if isinstance(grad, Tensor) else np.concatenate
        result: Array = join([before, grad.reshape((size,)), behind])
        return result


@dataclass(frozen=True)
class _Piece:
    """An output: where it lies, and whether a gradient flows through it."""

    start: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    length: int
    mark: int
    differentiable: bool

    def of(self, x: Tensor) -> Tensor:
        y = _Cut.apply(
            x, start=self.start, shape=self.shape, dtype=self.dtype, length=self.length, mark=self.mark
        )  # fmt: skip
        return y if self.differentiable else y.detach()

    def gradient(self, ctx: Context, grad: Tensor) -> Tensor | None:
        """Its part of the gradient; None, or zeros, if there is none."""
        known = tracer() is None
        if not ctx.materialize_grads and not (self.differentiable and (not known or grad._data[self.mark])):
            return None
        if not self.differentiable:
            return Tensor(np.zeros(self.shape, self.dtype))
        return grad[self.start : self.start + math.prod(self.shape)].reshape(self.shape).astype(self.dtype)


@dataclass
class Layout:
    """The form of forward's result: one tensor (`pieces` is None), or a tuple of pieces and Nones.

    `leaves` are the inputs that are leaves with a gradient, for forward to take.
    """

    pieces: tuple[_Piece | None, ...] | None = None
    differentiable: bool = True
    known: bool = False
    leaves: list[Tensor | None] = field(default_factory=list, compare=False)

    def outputs(self, x: Tensor) -> Any:
        """What apply() gives."""
        if self.pieces is None:
            return x if self.differentiable else x.detach()
        return tuple(None if piece is None else piece.of(x) for piece in self.pieces)

    def gradients(self, ctx: Context, grad: Tensor) -> list[Tensor | None]:
        """What backward is given."""
        if self.pieces is None:
            return [grad]
        return [None if piece is None else piece.gradient(ctx, grad) for piece in self.pieces]

    def settle(self, name: str, pieces: tuple[_Piece | None, ...] | None, differentiable: bool) -> None:
        """Keep what forward has returned; ShapeError where that is not what it returned while a plan was made."""
        if self.known and pieces != self.pieces:
            raise ShapeError(f"{name}: expected forward to return as many tensors in every run, of the same shapes")
        self.pieces, self.differentiable, self.known = pieces, differentiable, True


def one_array(name: str, ctx: Context, returned: Any, layout: Layout) -> Array:
    """The array in which lies what forward has returned, and `layout` and `ctx` filled in.

    Raises ArgumentError for whole numbers beyond 2**53 among several outputs.
    """
    marked = set(map(id, ctx.non_differentiable))
    if not isinstance(returned, (tuple, list)):
        layout.settle(name, None, not marked)
        return _array(returned)
    arrays = [None if y is None else _array(y) for y in returned]
    given = [x for x in arrays if x is not None]
    length = sum(x.size for x in given) + len(arrays)
    floats = all(x.dtype.kind == "f" for x in given)
    packed = np.zeros(length, np.result_type(*given) if floats and given else np.float64)
    pieces: list[_Piece | None] = []
    start = 0
    for i, (y, x) in enumerate(zip(returned, arrays, strict=True)):
        if x is None:
            pieces.append(None)
            continue
        if x.dtype.kind in "iu" and ((x > _EXACT) | (x < -_EXACT)).any():
            raise ArgumentError(f"{name}: expected whole numbers up to 2**53 among several outputs, got larger ones")
        flows = x.dtype.kind == "f" and id(y) not in marked
        pieces.append(_Piece(start, x.shape, x.dtype, length, length - len(arrays) + i, flows))
        packed[start : start + x.size] = x.reshape(-1)
        start += x.size
    layout.settle(name, tuple(pieces), True)
    ctx.views = tuple((x, p.of) for x, p in zip(arrays, pieces, strict=True) if x is not None and p)
    return packed


def _array(y: Any) -> Array:
    return y._data if isinstance(y, Tensor) else np.asarray(y)
