"""Methods that write into a tensor and have no form that makes a new one: copies, constants, random numbers, and those
that change its shape."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnn.checks import flag, is_number, is_whole, number, whole
from fastnn.errors import ArgumentError, DTypeError, GraphError, ShapeError
from fastnn.habits import check_options
from fastnn.ops.arithmetic import operand
from fastnn.ops.common import number_as, tensor_of
from fastnn.ops.creation import sizes as size_of
from fastnn.ops.draws import RandintLike, RandLike, RandnLike, drawn
from fastnn.ops.in_place import recorded, written
from fastnn.ops.keys import SLOT
from fastnn.ops.picking import Put
from fastnn.ops.shaping import expand, squeeze, t, transpose, unsqueeze
from fastnn.tape import detach
from fastnn.tensors import Tensor
from fastnn.versions import clock, wrote
from fastnn.views import as_it_is, renew

__all__ = [
    "apply_", "copy_", "detach_", "exponential_", "fill_", "fill_diagonal_", "geometric_", "log_normal_", "normal_",
    "random_", "resize_", "resize_as_", "squeeze_", "t_", "transpose_", "uniform_", "unsqueeze_", "zero_",
]  # fmt: skip


def _writing(function: Any) -> Any:
    """The method that writes what `function` computes, with its docstring."""
    method = written(function.__name__, function)
    method.__doc__ = function.__doc__
    return method


# ---- numbers ---------------------------------------------------------------------------------------------------------


@_writing
def apply_(input: Tensor, callable: Any) -> Tensor:
    """Write callable(entry) in the place of each entry; slow, and off the tape."""
    if not hasattr(callable, "__call__"):  # noqa: B004  # which the argument hides
        raise ArgumentError(f"apply_: expected a function of one number, got {callable!r}")
    made = [callable(entry) for entry in input.detach().numpy().ravel().tolist()]
    return Tensor(np.asarray(made).astype(input.dtype).reshape(input.shape))


@_writing
def copy_(input: Tensor, src: Any, non_blocking: bool = False) -> Tensor:
    """Write the entries of `src`, which broadcasts, into the tensor, in its own type."""
    return expand(tensor_of(operand(src, input)).astype(input.dtype), input.shape)


@_writing
def fill_(input: Tensor, value: Any) -> Tensor:
    """Write one number into all entries."""
    return expand(_one("fill_", input, value), input.shape)


def _one(op: str, input: Tensor, value: Any) -> Tensor:
    """The number, truth value or tensor of no dimensions that is written, in the input's type."""
    if not is_number(value) and not isinstance(value, (bool, np.bool_)) and getattr(value, "ndim", True):
        raise ArgumentError(f"{op}: expected one number, got {value!r}")
    return tensor_of(operand(number_as(op, value, input.dtype), input)).astype(input.dtype)


@_writing
def zero_(input: Tensor) -> Tensor:
    """Write 0 into all entries."""
    return expand(Tensor(np.zeros((), input.dtype)), input.shape)


@_writing
def fill_diagonal_(input: Tensor, fill_value: Any, wrap: bool = False) -> Tensor:
    """Write one number into the diagonal of a matrix, or of a tensor of equal sizes."""
    if flag("fill_diagonal_", "wrap", wrap) or input.ndim < 2 or (input.ndim > 2 and len(set(input.shape)) > 1):
        raise ShapeError(f"fill_diagonal_: expected a matrix, or equal sizes, and wrap=False, got {input.shape}")
    value = _one("fill_diagonal_", input, fill_value)
    return Put.apply(input, value, *[np.arange(min(input.shape))] * input.ndim, key=(SLOT,) * input.ndim)


# ---- random numbers --------------------------------------------------------------------------------------------------


def _drawn(op: str, x: Tensor, function: Any, generator: Any) -> Tensor:
    if x.dtype.kind != "f":
        raise DTypeError(f"{op}: expected a tensor of float32 or float64, got {x.dtype}")
    return drawn(function, op, x.shape, generator, dtype=x.dtype)


@_writing
def uniform_(input: Tensor, from_: float = 0.0, to: float = 1.0, *, generator: Any = None) -> Tensor:
    """Write random numbers from [from, to), all equally likely."""
    low, high = number("uniform_", "from", from_), number("uniform_", "to", to)
    if low > high:
        raise ArgumentError(f"uniform_: expected from <= to, got {low} and {high}")
    return _drawn("uniform_", input, RandLike, generator) * (high - low) + low


@_writing
def normal_(input: Tensor, mean: float = 0.0, std: float = 1.0, *, generator: Any = None) -> Tensor:
    """Write normal random numbers of that mean and standard deviation."""
    std = number("normal_", "std", std, 0)
    return _drawn("normal_", input, RandnLike, generator) * std + number("normal_", "mean", mean)


@_writing
def log_normal_(input: Tensor, mean: float = 1.0, std: float = 2.0, *, generator: Any = None) -> Tensor:
    """Write exp of normal random numbers of that mean and standard deviation."""
    return (_drawn("log_normal_", input, RandnLike, generator) * number("log_normal_", "std", std, 0) + mean).exp()


@_writing
def exponential_(input: Tensor, lambd: float = 1.0, *, generator: Any = None) -> Tensor:
    """Write exponential random numbers of that rate, whose mean is 1 / lambd."""
    rate = number("exponential_", "lambd", lambd, above=0)
    return -(1 - _drawn("exponential_", input, RandLike, generator)).log() / rate


@_writing
def geometric_(input: Tensor, p: float, *, generator: Any = None) -> Tensor:
    """Write after how many trials of probability p the first succeeds, from 1 on."""
    p = number("geometric_", "p", p, above=0, below=1)
    u = drawn(RandLike, "geometric_", input.shape, generator, dtype=np.dtype(np.float64))
    return Tensor(np.maximum(np.ceil(np.log1p(-u.data) / math.log1p(-p)), 1)).astype(input.dtype)


@_writing
def random_(input: Tensor, from_: int = 0, to: int | None = None, *, generator: Any = None) -> Tensor:
    """Write random whole numbers from `from` to `to` - 1; one number alone is `to`; without any, all that the type
    holds, of floats those that it holds exactly."""
    if to is None:
        exact = 2 ** (24 if input.dtype.itemsize == 4 else 53)
        most = exact if input.dtype.kind == "f" else np.iinfo(input.dtype).max if input.dtype.kind in "iu" else 2
        from_, to = 0, int(most) if is_whole(from_, 0, 0) else from_
    from_ = whole("random_", "from", from_, -(2**63), 2**63 - 1)
    to = whole("random_", "to", to, -(2**63), 2**63)
    if from_ >= to:
        raise ArgumentError(f"random_: expected from < to, got {from_} and {to}")
    return drawn(RandintLike, "random_", input.shape, generator, low=from_, high=to, dtype=input.dtype)


# ---- shape -----------------------------------------------------------------------------------------------------------


def _seen_otherwise(name: str, function: Any) -> Any:
    """The method that gives the tensor another shape; its entries stay where they are."""

    def method(input: Tensor, *args: Any, **options: Any) -> Tensor:
        if recorded(input):
            raise GraphError(f"{name}: a tensor on the tape keeps its shape: x.{name[:-1]}(...) makes a view of it")
        before = as_it_is(input, input._data)
        before._view = input._view
        seen = function(before, *args, **options)
        input._data, input._view, input._grad = seen._data, seen._view, None
        return input

    method.__name__ = method.__qualname__ = name
    method.__doc__ = f"`{name[:-1]}` in place: the tensor itself has another shape; off the tape alone."
    return method


squeeze_ = _seen_otherwise("squeeze_", squeeze)
t_ = _seen_otherwise("t_", t)
transpose_ = _seen_otherwise("transpose_", transpose)
unsqueeze_ = _seen_otherwise("unsqueeze_", unsqueeze)


def resize_(input: Tensor, *sizes: Any, memory_format: Any = None) -> Tensor:
    """Give the tensor itself a shape of any number of entries: those it has stay, in their order, new ones are 0.

    In less memory than it has it keeps what is left of it, otherwise it gets new one, which views of it do not share.

    >>> import fastnn as fnn
    >>> fnn.arange(3).resize_(2, 2)
    Tensor([[0, 1],
            [2, 0]], dtype=int64)
    """
    check_options("resize_", memory_format=memory_format)
    shape = size_of("resize_", sizes)
    if recorded(input) or input.requires_grad:
        raise GraphError("resize_: a tensor on the tape keeps its size: make another one, by fnn.zeros or F.pad")
    count, flat = math.prod(shape), input._data.reshape(-1)
    if count > flat.size:
        flat = np.concatenate([flat, np.zeros(count - flat.size, flat.dtype)])
    input._data, input._view, input._grad = flat[:count].reshape(shape), None, None
    wrote(input._data)
    return input


def resize_as_(input: Tensor, the_template: Any, *, memory_format: Any = None) -> Tensor:
    """`resize_` to the shape of another tensor."""
    return resize_(input, tensor_of(the_template).shape, memory_format=memory_format)


def detach_(input: Tensor) -> Tensor:
    """Take the tensor itself off the tape. What was computed from it before keeps its gradient."""
    renew(input)
    if input.node is not None:
        before = as_it_is(input, input._data)
        detach(input, next(clock), before)
    input.node = input._view = None
    input._requires_grad = False
    return input
