"""What the checks in shapes.py are made of: types, dtypes, `out=`, pairs of integers."""

from __future__ import annotations

from operator import index
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from fastnn.errors import ArgumentError, DTypeError, ShapeError

try:
    from fastnn._kernels import (
        dtype_of_all,
        empty,  # large arrays lie in memory that was used before: no page faults
        in_place,
    )
except ImportError:  # installed without the extension
    from numpy import empty

    def in_place(*arrays: Any) -> bool:  # neither of the two knows: the full checks find out
        return False

    def dtype_of_all(arrays: Any) -> Any:
        return None


if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[Any]
else:  # numpy.typing is slow to import
    Array = np.ndarray
Pair: TypeAlias = tuple[int, int]
Shape: TypeAlias = tuple[int, ...]
DTypes: TypeAlias = tuple[np.dtype[Any], ...]
Outs: TypeAlias = tuple[Array | None, Array | None] | None

FLOAT32: DTypes = (np.dtype(np.float32),)
FLOATING: DTypes = (np.dtype(np.float32), np.dtype(np.float64))


def copied(x: Array) -> Array:
    """x.copy(), in memory that was used before where it is large."""
    copy = empty(x.shape, x.dtype)
    copy[...] = x
    return copy


def is_alike(x: Array) -> bool:
    """Whether the strides of x say that its entries, of which there are several, are one number: a broadcast one."""
    return x.size > 1 and not any(x.strides)


def first_of(x: Array) -> Array:
    """The first entry of x, as a view ()."""
    return x[(0,) * x.ndim + (...,)]


def alike(number: Array, shape: Shape) -> Array:
    """np.broadcast_to of one number, in a third of the time. Nobody may write to it."""
    array: Array = np.ndarray(shape, number.dtype, number, 0, (0,) * len(shape))
    array.flags.writeable = False
    return array


def kind_of(value: object) -> str:
    return str(value.dtype) if isinstance(value, np.ndarray) else f"a {type(value).__name__} (not an array)"


def common_dtype(op: str, dtypes: DTypes, *arrays: Array | None) -> np.dtype[Any]:
    """The one floating dtype of all arrays; absent ones (None) are skipped, the first is always there."""
    found: np.dtype[Any] | None = dtype_of_all(arrays)
    if found is not None and found in dtypes:
        return found
    if isinstance(first := arrays[0], np.ndarray):
        dtype = first.dtype
        if dtype in dtypes:
            for array in arrays:
                if array is not None and not (isinstance(array, np.ndarray) and array.dtype == dtype):
                    break
            else:
                return dtype
    expected = " or all ".join(str(dtype) for dtype in dtypes)
    got = ", ".join(kind_of(array) for array in arrays if array is not None)
    raise DTypeError(f"{op}: expected NumPy arrays, all {expected}, got {got}")


def output(op: str, shape: Shape, dtype: np.dtype[Any], out: Array | None) -> Array:
    if out is None:
        try:
            return empty(shape, dtype)
        except ValueError:  # more bytes than an address can count
            raise ShapeError(f"{op}: expected a result that an array can hold, got one of shape {shape}") from None
    if not isinstance(out, np.ndarray) or out.dtype != dtype:
        raise DTypeError(f"{op}: expected out to be a {dtype} array, got {kind_of(out)}")
    if out.shape != shape:
        raise ShapeError(f"{op}: expected out of shape {shape}, got {out.shape}")
    if not out.flags.carray:
        raise ShapeError(f"{op}: expected out to be C-contiguous, aligned and writable, got one that is not")
    return out


def outputs(op: str, shapes: tuple[Shape, Shape], dtypes: DTypes, out: Outs) -> tuple[Array, Array]:
    if out is None:
        return empty(shapes[0], dtypes[0]), empty(shapes[1], dtypes[1])
    if not isinstance(out, tuple) or len(out) != 2:
        raise ShapeError(f"{op}: expected out to be a tuple of two arrays or None, got {type(out).__name__}")
    return output(op, shapes[0], dtypes[0], out[0]), output(op, shapes[1], dtypes[1], out[1])


def check_shape(op: str, name: str, array: Array, expected: Shape, because: str = "") -> None:
    if array.shape != expected:
        raise ShapeError(f"{op}: expected {name} of shape {expected}{because}, got {array.shape}")


def image_shape(op: str, name: str, array: Array) -> Shape:
    shape = array.shape
    if len(shape) != 4 or not (shape[1] and shape[2] and shape[3]):
        raise ShapeError(f"{op}: expected {name} of shape (N, C, H, W) with C, H, W at least 1, got {shape}")
    return shape


def matrix_shape(op: str, name: str, array: Array, layout: str) -> Shape:
    shape = array.shape
    if len(shape) != 2:
        raise ShapeError(f"{op}: expected {name} of shape {layout}, got {shape}")
    return shape


def check_pair(op: str, name: str, value: Pair, least: int) -> Pair:
    try:
        h, w = value
        if not type(h) is type(w) is int:
            h, w = index(h), index(w)
    except (TypeError, ValueError):
        raise ArgumentError(f"{op}: expected {name} to be two integers, got {value!r}") from None
    if h < least or w < least:
        raise ArgumentError(f"{op}: expected {name} of at least {least}, got {value!r}")
    if h >= 1 << 63 or w >= 1 << 63:
        raise ArgumentError(f"{op}: expected {name} of less than 2**63, got {value!r}")
    return h, w


def check_fraction(op: str, name: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise ArgumentError(f"{op}: expected {name} between 0 and 1, got {value!r}")
