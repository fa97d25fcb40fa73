"""What every operator needs: inputs as tensors of a floating type, ints as pairs, dimensions counted from the front."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastnn.arrays import as_array
from fastnn.backends.sums import total
from fastnn.checks import is_number, is_whole
from fastnn.dtypes import get_default_dtype
from fastnn.errors import ArgumentError, DTypeError, ShapeError
from fastnn.tensors import Array, Tensor

Size = int | tuple[int, int]
Dim = int | Sequence[int] | None


def tensor_of(x: Any) -> Tensor:
    """`x` itself, or what NumPy takes as a tensor."""
    return x if isinstance(x, Tensor) else Tensor(np.asarray(x) if type(x) is int else x)  # Tensor(2) is two zeros


def number_as(op: str, value: Any, dtype: np.dtype[Any]) -> Any:
    """A number as an array of `dtype`, to be written into a tensor of that type; anything else as it is.

    Raises ArgumentError for a number that an integer type does not hold: NaN, infinity, 300 as uint8. Negative
    whole ones count from behind in uint8, as in PyTorch.

    >>> number_as("full", 2.7, np.dtype(np.int64)).item(), number_as("full", -1, np.dtype(np.uint8)).item()
    (2, 255)
    """
    if dtype.kind not in "iu" or not is_number(value):
        return value
    check_held(op, value, dtype)
    return np.asarray(int(value)).astype(dtype)


def check_held(op: str, values: Any, dtype: np.dtype[Any]) -> None:
    """Raises ArgumentError unless an integer type holds all of these numbers, with fractions cut off."""
    most, lowest = np.iinfo(dtype).max, np.iinfo(dtype).min
    found = np.ravel(values)
    cut = np.trunc(found) if found.dtype.kind == "f" else found
    least = -most if dtype.kind == "u" and cut.dtype.kind != "f" else lowest
    for value in (cut.min(), cut.max()) if cut.size else ():
        if not least <= value <= most:  # NaN neither
            raise ArgumentError(f"{op}: expected a number that {dtype} holds, got {np.asarray(value).item()}")


def floating(x: Any, dtype: np.dtype[Any] | None = None) -> Tensor:
    """`x` as a tensor of `dtype`, the type of the layer's weights.

    Without weights (`dtype` None) float64 stays float64, and integers become floats of the default type.
    """
    x = tensor_of(x)
    if dtype is None:
        return x if x.dtype.kind == "f" else x.astype(get_default_dtype())
    return x.astype(dtype)


def layer_input(op: str, x: Any, weight: Tensor) -> Tensor:
    """What a layer with weights computes on: `x` in the weight's type. DTypeError for raw images, not on scale."""
    if isinstance(x, Tensor) and isinstance(weight, Tensor) and x.dtype == weight.dtype != np.uint8:  # as a rule
        return x
    if getattr(x, "dtype", None) == np.uint8:
        raise DTypeError(
            f"{op}: expected float images, got uint8: put nn.Normalize first or divide by 255; numbers of a table "
            "are x.astype(np.float32)"
        )
    if not hasattr(weight, "dtype"):
        raise DTypeError(f"{op}: expected weight to be a tensor, got {type(weight).__name__}")
    return floating(x, weight.dtype)


def weight_of(op: str, name: str, weight: Any) -> Tensor:
    """A layer's weight or bias as a tensor, which it is as a rule; DTypeError for what is no array."""
    if isinstance(weight, (Tensor, np.ndarray)):
        return tensor_of(weight)
    raise DTypeError(f"{op}: expected {name} to be a tensor, got {type(weight).__name__}")


def pair(name: str, value: Size) -> tuple[int, int]:
    """An int stands for two; ArgumentError for anything but an int or two of them.

    >>> pair("stride", 2)
    (2, 2)
    """
    height, width = sizes(name, value, 2)
    return height, width


def sizes(name: str, value: Any, count: int) -> tuple[int, ...]:
    """An int, which stands for `count` of them, or so many ints; ArgumentError for anything else."""
    if type(value) is int:
        return (value,) * count
    if type(value) is tuple and len(value) == count and set(map(type, value)) == {int}:  # a layer's own
        return value
    many = isinstance(value, (Sequence, np.ndarray)) and not isinstance(value, str) and getattr(value, "ndim", 1) != 0
    all_of_them: Any = value if many else (value,) * count
    try:
        if len(all_of_them) == count and not any(isinstance(each, bool) for each in all_of_them):
            return tuple(map(operator.index, all_of_them))
    except TypeError:
        pass
    words = "an int or two ints" if count == 2 else "an int" if count == 1 else f"an int or {count} ints"
    raise ArgumentError(f"{name}: expected {words}, got {value!r}")


def window(name: str, value: Any, dims: int, beside: int = 1) -> tuple[int, int]:
    """`value` as a pair (height, width); with `dims` 1 it goes along the length, and `beside` is for the height.

    >>> window("padding", 2, 1, 0)
    (0, 2)
    """
    height, width = sizes(name, value, 2) if dims == 2 else (beside, *sizes(name, value, 1))
    return height, width


def tall(x: Array) -> Array:
    """(N, C, L) as images of height 1, which the kernels take; images as they are."""
    return x[:, :, None] if x.ndim == 3 else x


def tall_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of `tall` of an array of that shape."""
    return (*shape[:2], 1, *shape[2:]) if len(shape) == 3 else shape


def low(images: Array, like: Array) -> Array:
    """What was made of images of height 1 in the form of `like`, (N, C, L) or (N, C, H, W)."""
    return images[:, :, 0] if like.ndim == 3 else images


def unbatched(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function(op, dims, input, ...)` of a batch, also of one sample: (C, L) or (C, H, W), and so its result."""

    @functools.wraps(function)
    def either(op: str, dims: int, input: Any, *options: Any) -> Any:
        if (input.ndim if isinstance(input, (Tensor, np.ndarray)) else np.ndim(input)) != dims + 1:
            return function(op, dims, input, *options)
        found = function(op, dims, tensor_of(input)[None], *options)
        return tuple(each[0] for each in found) if isinstance(found, tuple) else found[0]

    return either


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


def loss_target(op: str, target: Any, what: str = "target") -> Tensor:
    """A loss's target, or its weights, as a tensor."""
    if isinstance(target, Tensor):
        return target
    array = as_array(target)
    if array.dtype.kind not in "fiub":
        raise DTypeError(f"{op}: expected numbers as {what}, got {array.dtype}")
    return Tensor(array)


def affine(x: Tensor, weight: Tensor | None, bias: Tensor | None, shape: tuple[int, ...]) -> Tensor:
    """x * weight + bias, each reshaped to `shape`, or None."""
    x = x if weight is None else x * weight.reshape(shape)
    return x if bias is None else x + bias.reshape(shape)


def sum_to(grad: Any, shape: tuple[int, ...]) -> Any:
    """The transpose of broadcasting: sum over the dimensions along which `shape` was stretched."""
    if grad.shape == shape:
        return grad
    added = grad.ndim - len(shape)
    stretched = tuple(added + d for d, size in enumerate(shape) if size == 1 and grad.shape[added + d] != 1)
    if isinstance(grad, Tensor):  # where backward is differentiated
        return grad.sum((*range(added), *stretched)).reshape(shape)
    again, first = _once(grad, (*range(added), *stretched))
    sums = total(first, (*range(added), *stretched)).reshape(shape)
    return sums if again == 1 else np.asarray(sums * grad.dtype.type(again))


def _once(x: Array, dims: tuple[int, ...]) -> tuple[int, Array]:
    """How many times x has the same entries along dims, as its strides say, and x with them once."""
    alike = {d for d in dims if not x.strides[d] and x.shape[d] > 1}
    if not alike:
        return 1, x
    first = x[tuple(slice(1) if d in alike else slice(None) for d in range(x.ndim))]
    return math.prod(x.shape[d] for d in alike), first
