"""What moves entries without changing them: reshape, transpose, indexing; and the Functions of reductions.py."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from fastnn.arrays import Size
from fastnn.backends.checks import alike
from fastnn.backends.sums import total
from fastnn.checks import is_whole
from fastnn.errors import ArgumentError, DTypeError, GraphError, ShapeError
from fastnn.ops.arithmetic import Sqrt
from fastnn.ops.common import Dim, axes, axis, sum_to, tensor_of
from fastnn.recording import recording, state
from fastnn.tape import Node
from fastnn.tensors import Array, Context, Function, Tensor
from fastnn.versions import owner, recorded
from fastnn.views import renew


class Sum(Function):
    """x summed over the dimensions `dim` (all if None). Saves the shape. Attributes: dim, keepdim."""

    @staticmethod
    def forward(ctx: Context, x: Array, *, dim: tuple[int, ...] | None, keepdim: bool) -> Array:
        ctx.save_for_backward(x.shape)
        return total(x, dim, keepdim)

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        (shape,) = ctx.saved_tensors
        dim, keepdim = ctx.attributes["dim"], ctx.attributes["keepdim"]
        if type(grad) is np.ndarray and grad.flags.c_contiguous:
            return _stretched(grad, shape, range(len(shape)) if dim is None else dim, keepdim)
        if dim is not None and not keepdim:
            grad = np.expand_dims(grad, dim)
        return np.broadcast_to(grad, shape)


def _stretched(x: Array, shape: tuple[int, ...], dims: Iterable[int], keepdim: bool) -> Array:
    """A contiguous array repeated along some dimensions of a shape, which it has with size 1 (`keepdim`), or has not:
    np.broadcast_to, in a third of the time. Nobody may write to it."""
    if x.size == 1:
        return alike(x, shape)
    summed, steps = {d % len(shape) for d in dims}, iter(x.strides)
    strides = []
    for d in range(len(shape)):
        step = 0 if d in summed and not keepdim else next(steps)
        strides.append(0 if d in summed else step)
    array: Array = np.ndarray(shape, x.dtype, x, 0, strides)
    array.flags.writeable = False
    return array


class Deviation(Sqrt):
    """The square root of a variance, whose slope where all values are equal is taken as 0, as in PyTorch."""

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        (y,) = ctx.saved_tensors
        return np.divide(grad, 2 * y, out=np.zeros_like(y), where=y != 0)


class Extremum(Function):
    """The entry that `pick` (np.argmax, np.argmin) finds along dim: of equal ones the first, which takes the gradient.
    Saves where.

    Attributes: dim, keepdim, pick.
    """

    @staticmethod
    def forward(ctx: Context, x: Array, *, dim: int, keepdim: bool, pick: Any) -> Array:
        where = pick(x, axis=dim, keepdims=True)
        ctx.save_for_backward(x.shape, where)
        y = np.take_along_axis(x, where, dim)
        return y if keepdim else y.squeeze(dim)

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        shape, where = ctx.saved_tensors
        dim = ctx.attributes["dim"]
        grad_x = np.zeros(shape, grad.dtype)
        np.put_along_axis(grad_x, where, grad if ctx.attributes["keepdim"] else np.expand_dims(grad, dim), dim)
        return grad_x


class Place(Function):
    """The index of the entry that `pick` finds along dim, or in the flattened array (None); int64.

    Attributes: dim, keepdim, pick.
    """

    differentiable = False

    @staticmethod
    def forward(ctx: Context, x: Array, *, dim: int | None, keepdim: bool, pick: Any) -> Array:
        return pick(x, axis=dim, keepdims=keepdim)


class View(Function):
    """An operator of one tensor, whose output lies in the memory of that: what is written to one is in the other."""

    @staticmethod
    def put_back(*tensors: Any, **attributes: Any) -> Tensor:
        """Of x and a part, x with the part where its view with these attributes lies.

        GraphError where several entries of the view lie in one place.
        """
        raise GraphError("a tensor with entries that lie in one place (expand, unfold) is not written: use x.clone()")

    @classmethod
    def apply(cls, *inputs: Any, **attributes: Any) -> Tensor:
        (x,) = inputs
        if state.tracer is not None or not isinstance(x, Tensor):
            return super().apply(x, **attributes)
        if recorded:
            renew(x)
        array, needed = x._data, state.recording and x._requires_grad
        ctx = Context(array.dtype, (needed,), attributes)
        output = Tensor.__new__(Tensor)
        output._data = data = cls.forward(ctx, array, **attributes)
        output._grad = output._view = None
        output._requires_grad = needed
        output.node = Node(cls, inputs, attributes, ctx) if needed else None
        base = data.base
        if base is not None and (base is array or base is array.base or owner(base) is owner(array)):  # no copy
            output._view = x, cls, attributes, x.node
            if x._view is None:
                x._view = ()
        return output


class Reshape(View):
    """The same entries in the same order. Saves the old shape. Attribute: shape."""

    @staticmethod
    def forward(ctx: Context, x: Array, *, shape: tuple[int, ...]) -> Array:
        ctx.save_for_backward(x.shape)
        return x.reshape(shape)

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        (shape,) = ctx.saved_tensors
        return grad.reshape(shape)

    @staticmethod
    def put_back(x: Tensor, part: Tensor, *, shape: tuple[int, ...]) -> Tensor:
        return Reshape.apply(part, shape=x.shape)


class Permute(View):
    """The dimensions in another order. Attribute: dims."""

    @staticmethod
    def forward(ctx: Context, x: Array, *, dims: tuple[int, ...]) -> Array:
        return x.transpose(dims)

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        return grad.transpose(np.argsort(ctx.attributes["dims"]))

    @staticmethod
    def put_back(x: Tensor, part: Tensor, *, dims: tuple[int, ...]) -> Tensor:
        return Permute.apply(part, dims=tuple(np.argsort(dims).tolist()))


class Expand(View):
    """x stretched to a shape, a view. Saves the old shape. Attribute: shape."""

    @staticmethod
    def forward(ctx: Context, x: Array, *, shape: tuple[int, ...]) -> Array:
        ctx.save_for_backward(x.shape)
        return np.broadcast_to(x, shape)

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        return sum_to(grad, *ctx.saved_tensors)


class Index(View):
    """x[index]. Saves the shape. Attribute: index."""

    @staticmethod
    def forward(ctx: Context, x: Array, *, index: Any) -> Array:
        ctx.save_for_backward(x.shape)
        y = x[index]
        if isinstance(y, np.ndarray):
            return y
        key = (*_tuple(index), ...)  # one entry, too, as a view
        return x[key]

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        (shape,) = ctx.saved_tensors
        index = ctx.attributes["index"]
        if all(isinstance(i, (int, np.integer, slice, type(None), type(...))) for i in _tuple(index)):
            grad_x = np.zeros(shape, grad.dtype)
            grad_x[index] = grad
            return grad_x
        # An entry picked twice gets both gradients; one picked a million times would lose digits in single precision.
        sums = np.zeros(shape)
        np.add.at(sums, index, grad.astype(np.float64))
        return sums.astype(grad.dtype)

    @staticmethod
    def put_back(x: Tensor, part: Tensor, *, index: Any) -> Tensor:
        from fastnn.ops.picking import Put  # which picks by Index

        return Put.apply(x, part, key=_tuple(index))


def apart(y: Tensor, given: Any = None, order: Literal["K", "C"] = "K") -> Tensor:
    """A result with numbers of its own, in the same order or row by row ("C"), where it is what was given, or was made
    as a view: no write is in both."""
    if y is not given and not y._view:
        return y
    if state.tracer is not None:
        return state.tracer.apart(y)
    if y is given:
        y = Reshape.apply(y, shape=y.shape)
    y._data, y._view = y._data.copy(order), None
    return y


def _tuple(index: Any) -> tuple[Any, ...]:
    return index if isinstance(index, tuple) else (index,)


def reshape(input: Tensor, *shape: Any, **named: Any) -> Tensor:
    """The same entries in another shape; one -1 stands for what is left. A view where NumPy can give one."""
    x, wanted = tensor_of(input), _ints("reshape", shape, named, "shape", "size")
    known = math.prod(s for s in wanted if s != -1)
    fits = x.numel() % known == 0 if known and wanted.count(-1) == 1 else -1 not in wanted and known == x.numel()
    if not fits or any(s < -1 for s in wanted):
        raise ShapeError(f"reshape: expected a shape for {x.numel()} entries (input is {x.shape}), got {wanted}")
    return Reshape.apply(x, shape=wanted)


def flatten(input: Any, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Dimensions start_dim to end_dim made one."""
    x = tensor_of(input)
    if x.ndim == 0:
        return x.reshape(1)
    first, last = axis("flatten", start_dim, x.ndim), axis("flatten", end_dim, x.ndim)
    if first > last:
        raise ShapeError(f"flatten: expected start_dim <= end_dim, got {start_dim} and {end_dim} for shape {x.shape}")
    return Reshape.apply(x, shape=(*x.shape[:first], math.prod(x.shape[first : last + 1]), *x.shape[last + 1 :]))


def squeeze(input: Tensor, dim: Dim = None) -> Tensor:
    """Without the dimensions of size 1; with `dim`, without that one, or those, where the size is 1."""
    input = tensor_of(input)
    dims = range(input.ndim) if dim is None else axes("squeeze", dim, input.ndim) or ()
    return reshape(input, tuple(size for d, size in enumerate(input.shape) if size != 1 or d not in dims))


def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """A new dimension of size 1 at place `dim`, counted in the result."""
    input = tensor_of(input)
    dim = axis("unsqueeze", dim, input.ndim + 1)
    return reshape(input, (*input.shape[:dim], 1, *input.shape[dim:]))


def t(input: Tensor) -> Tensor:
    """A matrix transposed."""
    input = tensor_of(input)
    if input.ndim > 2:
        raise ShapeError(f"t: expected a vector or a matrix, got {input.shape}: use .transpose(dim0, dim1)")
    return permute(input, *reversed(range(input.ndim)))


def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """Two dimensions exchanged."""
    input = tensor_of(input)
    dims = list(range(input.ndim))
    dim0, dim1 = axis("transpose", dim0, input.ndim), axis("transpose", dim1, input.ndim)
    dims[dim0], dims[dim1] = dim1, dim0
    return Permute.apply(input, dims=tuple(dims))


def permute(input: Tensor, *dims: Any, **named: Any) -> Tensor:
    """The dimensions in the given order."""
    input = tensor_of(input)
    order = tuple(axis("permute", d, input.ndim) for d in _ints("permute", dims, named, "dims"))
    if sorted(order) != list(range(input.ndim)):
        raise ShapeError(f"permute: expected an order of {input.ndim} dimensions, got {order}")
    return Permute.apply(input, dims=order)


def _ints(op: str, given: tuple[Any, ...], named: dict[str, Any] | None = None, *names: str) -> tuple[int, ...]:
    """Integers, given one by one, as one tuple, or as one by one of PyTorch's names for it."""
    if named:
        if given or len(named) > 1 or not set(named) <= set(names):
            raise TypeError(f"{op}() got an unexpected keyword argument {next(iter(named))!r}")
        given = tuple(named.values())
    values = given[0] if len(given) == 1 and not is_whole(given[0]) else given
    if not np.iterable(values) or not all(map(is_whole, values)):
        raise ArgumentError(f"{op}: expected integers, got {', '.join(map(repr, given))}")
    return tuple(map(operator.index, values))


def expand(input: Any, *sizes: Any, **named: Any) -> Tensor:
    """A view in which dimensions of size 1 are stretched, and new ones put before; -1 leaves a size as it is. The
    gradient is summed over what was stretched.

    >>> import fastnn as fnn
    >>> fnn.tensor([[1.0], [2.0]]).expand(-1, 3)
    Tensor([[1., 1., 1.],
            [2., 2., 2.]])
    """
    x = tensor_of(input)
    wanted = _ints("expand", sizes, named, "size")
    added = len(wanted) - x.ndim
    shape = tuple(x.shape[d - added] if size == -1 and d >= added else size for d, size in enumerate(wanted))
    stretched = zip(shape[max(added, 0) :], x.shape, strict=False)
    if added < 0 or -1 in shape or any(have not in (1, size) for size, have in stretched):
        raise ShapeError(f"expand: expected sizes to which {x.shape} can be stretched, got {wanted}")
    if shape == x.shape and (recording() or not x.requires_grad):  # under no_grad the result has no gradient
        return x
    try:
        return Expand.apply(x, shape=shape)
    except ValueError as error:
        raise ShapeError(f"expand: no tensor can have the shape {shape} ({error})") from None


view = reshape  # a view where NumPy can give one


def _windows(x: Tensor, dimension: int, size: int, step: int) -> Tensor:
    """Windows of `size` entries along `dimension`, every `step`; the entries of each in a new last dimension."""
    dim = axis("unfold", dimension, x.ndim)
    if not (is_whole(size) and is_whole(step)):
        raise ArgumentError(f"unfold: expected size and step as integers, got {size!r} and {step!r}")
    if not 0 < size <= x.shape[dim] or step < 1:
        raise ShapeError(f"unfold: expected windows of 1 to {x.shape[dim]} entries and steps from 1, got {size, step}")
    return Windows.apply(x, dim=dim, size=int(size), step=int(step))


class Windows(View):
    """Windows of `size` entries along `dim`, every `step`, in a new last dimension; Picked in a plan. Saves the shape.

    Attributes: dim, size, step.
    """

    @staticmethod
    def forward(ctx: Context, x: Array, *, dim: int, size: int, step: int) -> Array:
        ctx.save_for_backward(x.shape)
        return sliding_window_view(x, size, dim)[(slice(None),) * dim + (slice(None, None, step),)]

    @staticmethod
    def backward(ctx: Context, grad: Any) -> Any:
        (shape,), (dim, size, step) = ctx.saved_tensors, ctx.attributes.values()
        count, zeros = grad.shape[dim], np.zeros(shape, grad.dtype)
        grad_x: Any = Tensor(zeros) if isinstance(grad, Tensor) else zeros
        for i in range(size):
            key = (slice(None),) * dim + (slice(i, i + step * (count - 1) + 1, step),)
            grad_x[key] += grad[..., i]
        return grad_x

    @classmethod
    def apply(cls, *inputs: Any, **attributes: Any) -> Tensor:
        (x,), (dim, size, step) = inputs, attributes.values()
        if (recorder := state.tracer) is None:
            return super().apply(x, **attributes)
        places = np.arange(0, x.shape[dim] - size + 1, step)[:, None] + np.arange(size)
        y = x.transpose(dim, -1)[..., places].transpose(dim, -2) if dim < x.ndim - 1 else x[..., places]
        recorder.seen_in(y, x, cls, attributes)
        return y


def _length(x: Tensor) -> int:
    try:
        return len(x._data)
    except TypeError:  # which DTypeError is, too
        raise DTypeError("len: expected a tensor of at least one dimension, got a number") from None


def _size(x: Tensor, dim: int | None = None) -> Any:
    """The shape, or one entry of it."""
    try:
        return Size(x.shape) if dim is None else x.shape[dim]
    except (IndexError, OverflowError, TypeError):
        raise ArgumentError(f"size: expected a dimension from {-x.ndim} to {x.ndim - 1}, got {dim!r}") from None


SPECIAL: dict[str, Any] = {
    "is_cpu": property(lambda x: True),
    "itemsize": property(lambda x: x._data.itemsize),
    "nbytes": property(lambda x: x._data.nbytes),
    "__len__": _length,
    "size": _size,
    "T": property(lambda x: permute(x, *reversed(range(x.ndim)))),
    "unfold": _windows,
    "mT": property(lambda x: transpose(x, -2, -1)),
}
