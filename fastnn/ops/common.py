"""What every operator needs: inputs as tensors of a floating type, ints as pairs, dimensions counted from the front."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn.arrays import as_array
from fastnn.backends.sums import total
from fastnn.checks import is_whole
from fastnn.errors import ArgumentError, DTypeError, ShapeError
from fastnn.tape import recording
from fastnn.tensors import Array, Tensor

Size = int | tuple[int, int]
Dim = int | Sequence[int] | None


def tensor_of(x: Any) -> Tensor:
    """`x` itself, or what NumPy takes as a tensor."""
    return x if isinstance(x, Tensor) else Tensor(x)


def floating(x: Any, dtype: np.dtype[Any] | None = None) -> Tensor:
    """`x` as a tensor of `dtype`, the type of the layer's weights.

    Without weights (`dtype` None) float64 stays float64, and integers become float32.
    """
    if not isinstance(x, Tensor):
        x = Tensor(x)
    if dtype is None:
        return x if x.dtype.kind == "f" else x.float()
    return x.astype(dtype)


def layer_input(op: str, x: Any, weight: Tensor) -> Tensor:
    """What a layer with weights computes on: `x` in the weight's type. DTypeError for raw images, not on scale."""
    if getattr(x, "dtype", None) == np.uint8:
        raise DTypeError(
            f"{op}: expected float images, got uint8: put nn.Normalize first or divide by 255; numbers of a table "
            "are x.astype(np.float32)"
        )
    return floating(x, weight.dtype)


def pair(name: str, value: Size) -> tuple[int, int]:
    """An int stands for two; ArgumentError for anything but an int or two of them.

    >>> pair("stride", 2)
    (2, 2)
    """
    both: Any = value if isinstance(value, (Sequence, np.ndarray)) and np.ndim(value) else (value, value)
    try:
        if len(both) == 2 and not any(isinstance(each, bool) for each in both):
            return operator.index(both[0]), operator.index(both[1])
    except TypeError:
        pass
    raise ArgumentError(f"{name}: expected an int or two ints, got {value!r}")


def axis(op: str, dim: int, ndim: int) -> int:
    """`dim` counted from the front; ArgumentError for what is no integer, ShapeError for one out of range."""
    if not is_whole(dim):
        raise ArgumentError(f"{op}: expected a dimension as an integer, got {dim!r}")
    if not -ndim <= dim < ndim:
        raise ShapeError(f"{op}: expected a dimension from {-ndim} to {ndim - 1}, got {dim}")
    return int(dim) % ndim


def axes(op: str, dim: Dim, ndim: int) -> tuple[int, ...] | None:
    """One dimension or several, counted from the front; None stands for all, as PyTorch's empty tuple does."""
    if dim is None or (isinstance(dim, (tuple, list)) and not dim):
        return None
    found = tuple(axis(op, d, max(ndim, 1)) for d in (dim if isinstance(dim, (tuple, list)) else (dim,)))
    if ndim == 0:  # a number has one entry along what is its only dimension
        return None
    if len(set(found)) < len(found):
        raise ShapeError(f"{op}: expected every dimension once, got {dim}")
    return found


def constant(op: str, prediction: Any, target: Any) -> Tensor:
    """A loss's target; gradients do not flow into it."""
    if isinstance(target, Tensor):
        if target.requires_grad and recording():
            if getattr(prediction, "requires_grad", False):
                raise ArgumentError(
                    f"{op}: no gradient flows into the target, though it needs one, as the input does: write the loss "
                    "with operators on tensors, such as ((a - b) ** 2).mean(), or pass target.detach() for a constant"
                )
            raise ArgumentError(
                f"{op}: no gradient flows into the target, and the input needs none: the order is (input, target), so "
                "exchange them (target.detach() would cut off the only gradient)"
            )
        return target
    array = as_array(target)
    if array.dtype.kind not in "fiub":
        raise DTypeError(f"{op}: expected numbers as target, got {array.dtype}")
    return Tensor(array)


def sum_to(grad: Array, shape: tuple[int, ...]) -> Array:
    """The transpose of broadcasting: sum over the dimensions along which `shape` was stretched."""
    if grad.shape == shape:
        return grad
    added = grad.ndim - len(shape)
    stretched = tuple(added + d for d, size in enumerate(shape) if size == 1 and grad.shape[added + d] != 1)
    return total(grad, (*range(added), *stretched)).reshape(shape)
