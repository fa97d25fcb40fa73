"""Conversion of user input to NumPy arrays."""

from __future__ import annotations

import math
import mmap
import sys
from collections.abc import Sequence
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from fastnn.errors import DTypeError, FastnnError, ShapeError

__all__ = [
    "LINE", "PAGE", "Size", "aligned", "aligned_copy", "as_array", "beyond", "check_size", "is_masked", "live",
    "numbers", "without_numbers", "without_subclass", "writable", "zeros_of_sizes",
]  # fmt: skip

LINE = 64  # bytes of a cache line
PAGE = 4096  # bytes after which addresses meet in one set of a first-level cache
_ZERO = bytes(16)  # of any type's one entry
_numbers = count()  # of the arrays that fill pages


class Size(tuple[int, ...]):
    """A shape: a tuple that knows how many entries it stands for."""

    __slots__ = ()

    def numel(self) -> int:
        """The product of the sizes."""
        return math.prod(self)

    def __getitem__(self, index: Any) -> Any:
        found = super().__getitem__(index)
        return Size(found) if isinstance(index, slice) else found


def aligned(shape: Sequence[int], dtype: DTypeLike) -> np.ndarray[Any, Any]:
    """As ``np.empty(shape, dtype)``, but beginning at a cache line: a vector that lies across two of them takes as long
    to read as two vectors, and NumPy's large arrays begin 16 bytes after one.

    Arrays of a page or more each start some lines further into theirs than the one before: those that are used
    together, at one place each, should not meet in one set of the first-level cache.
    """
    sizes, dtype = tuple(map(int, shape)), np.dtype(dtype)
    size = math.prod(sizes) * dtype.itemsize
    if dtype.kind not in "fiub" or not dtype.isnative or not 0 <= size <= sys.maxsize:
        return np.empty(sizes, dtype)  # objects begin as None; sizes that no array can have are NumPy's error
    try:
        from fastnn._kernels import aligned as in_memory_of_its_own
    except ImportError:  # where no kernel reads it
        return np.empty(sizes, dtype)
    unit, offset = (PAGE, next(_numbers) * 5 * LINE % PAGE) if size >= PAGE else (LINE, 0)
    array: np.ndarray[Any, Any] = in_memory_of_its_own(sizes, dtype, size, unit, offset)
    return array


def aligned_copy(array: np.ndarray[Any, Any], dtype: DTypeLike) -> np.ndarray[Any, Any]:
    """As ``array.astype(dtype)`` in row-major order, beginning at a cache line."""
    copy = aligned(array.shape, dtype)
    copy[...] = array
    return copy


def shared_copy(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A copy in row-major order, in memory that processes forked from this one write to as it does."""
    if is_shared(array):
        return array
    memory = mmap.mmap(-1, max(array.nbytes, 1))
    copy = np.frombuffer(memory, array.dtype, array.size).reshape(array.shape)
    copy[...] = array
    return copy


def is_shared(array: Any) -> bool:
    """Whether an array's memory is a `shared_copy`'s."""
    while isinstance(array, np.ndarray):
        array = array.base
    return isinstance(array, memoryview) and isinstance(array.obj, mmap.mmap)


def as_array(data: Any) -> np.ndarray[Any, Any]:
    """Returns ``np.asarray(data)``: an ndarray itself, anything else converted, copied only where necessary.

    Raises:
        DTypeError: a masked array, or a list with one, with masked entries: ``np.asarray`` would drop the mask
            and compute with the values behind it. Also an object whose own ``__array__`` fails.
        ShapeError: lists of unequal lengths.

    >>> as_array([[1, 2]]).shape
    (1, 2)
    >>> as_array(np.ma.masked_equal([1.0, -9.0], -9.0))
    Traceback (most recent call last):
    fastnn.errors.DTypeError: expected an array without masked entries, got 1 masked of 2: fill them (.filled(value)) \
or leave them out
    """
    if type(data) is np.ndarray:
        return data
    _refuse_masks(data)
    try:
        return np.asarray(data)
    except FastnnError:  # a tensor's own
        raise
    except ValueError as error:  # lists of unequal lengths
        sizes = _lengths(data)
        why = f", got some of {' and of '.join(map(str, sizes[:3]))}: cut or pad them" if sizes else f" ({error})"
        raise ShapeError(f"expected an array or lists of equal lengths{why}") from None
    except Exception as error:  # a user's __array__ may raise anything
        if str(getattr(data, "dtype", "")) == "torch.bfloat16":  # which NumPy does not have
            return np.asarray(data.float())
        raise DTypeError(
            f"expected an array of numbers, got an object of type {type(data).__name__} ({error})"
        ) from error


def _lengths(data: Any) -> list[int]:
    """The different lengths of the lists in a list, at the first depth at which there are some."""
    while isinstance(data, (list, tuple)) and data:
        if any(isinstance(entry, str) or not hasattr(entry, "__len__") for entry in data):
            return []
        sizes = list(dict.fromkeys(map(len, data)))
        if len(sizes) > 1:
            return sizes
        data = [part for entry in data for part in entry]
    return []


def numbers(where: str, data: Any) -> np.ndarray[Any, Any]:
    """Returns the array of `data`, a tensor's own included, in its own precision. DTypeError for what are no numbers.

    >>> numbers("Normal", [0.1, 0.2]).dtype
    dtype('float64')
    """
    own = hasattr(data, "_data") and not isinstance(data, np.ndarray)  # a masked array has one, too, without its mask
    array = data._data if own else as_array(data)
    if array.dtype.kind not in "fiub":
        raise DTypeError(f"{where}: expected numbers, got {type(data).__name__} of type {array.dtype}")
    return array


def check_size(where: str, shape: tuple[int, ...]) -> None:
    """Raises ShapeError for a shape that no array can have, whatever the memory: NumPy's limits, of 64-bit numbers.

    >>> check_size("zeros", (2**62, 2))
    Traceback (most recent call last):
    fastnn.errors.ShapeError: zeros: expected fewer than 2**60 entries and at most 32 dimensions, got \
(4611686018427387904, 2)
    """
    if len(shape) < 4 and (not shape or max(shape) < 2**20):  # as a rule: there is nothing to multiply
        return
    if math.prod([size or 1 for size in shape]) >= 2**60 or len(shape) > 32:
        raise ShapeError(f"{where}: expected fewer than 2**60 entries and at most 32 dimensions, got {tuple(shape)}")


def without_subclass(x: Any) -> Any:
    """Returns `as_array(x)` of an array of a subclass, which may have a mask or another meaning; all else as it is."""
    return as_array(x) if isinstance(x, np.ndarray) and type(x) is not np.ndarray else x


def is_masked(array: Any) -> bool:
    """Whether `array` is one of NumPy's masked arrays.

    >>> is_masked(np.ma.array([1.0])), is_masked(np.ones(1))
    (True, False)
    """
    masked = sys.modules.get("numpy.ma")  # np.ma would import it, which takes as long as to make a plan
    return masked is not None and isinstance(array, masked.MaskedArray)


def without_numbers(shape: tuple[int, ...], dtype: Any) -> np.ndarray[Any, Any]:
    """Returns a read-only array of that shape and type that takes no memory: all of its entries are one zero."""
    return np.ndarray(shape, dtype, _ZERO, strides=(0,) * len(shape))


def _refuse_masks(data: Any) -> None:
    masked = sys.modules.get("numpy.ma")
    if masked is None:  # then no masked array can exist
        return
    if isinstance(data, (list, tuple)):
        if any(issubclass(kind, (list, tuple, np.ndarray)) for kind in set(map(type, data))):
            for entry in data:
                _refuse_masks(entry)
    elif isinstance(data, masked.MaskedArray) and masked.is_masked(data):
        count = int(np.count_nonzero(masked.getmaskarray(data)))
        raise DTypeError(
            f"expected an array without masked entries, got {count} masked of {data.size}: fill them "
            "(.filled(value)) or leave them out"
        )


def live(parameter: Any) -> tuple[Any, Any]:
    """Returns the arrays behind `.data` and `.grad` of a tensor, or of anything that has both; None for no gradient."""
    if hasattr(parameter, "_data"):
        return parameter._data, parameter._grad
    return parameter.data, parameter.grad


def zeros_of_sizes(dtype: np.dtype[Any], *sizes: Any) -> tuple[np.ndarray[Any, Any], bool]:
    """Zeros in the shape of one integer and more, or of one Size; and whether a bool after it asks for a gradient.

    >>> zeros_of_sizes(np.dtype(np.float32), 1, 2)[0]
    array([[0., 0.]], dtype=float32)
    """
    asked = len(sizes) == 2 and isinstance(sizes[1], (bool, np.bool_))
    shape = sizes[:1] if asked else sizes
    if isinstance(shape[0], Size):
        (shape,) = shape
    if not all(isinstance(size, int) and not isinstance(size, bool) and size >= 0 for size in shape):
        raise ShapeError(f"Tensor: expected sizes as integers of at least 0, got {sizes}")
    check_size("Tensor", shape)
    return np.zeros(shape, dtype), asked and bool(sizes[1])


def beyond(given: np.ndarray, dtype: np.dtype[Any]) -> Any:
    """The first of the numbers that this type cannot hold; of fractions an integer type keeps the whole part."""
    if given.dtype == dtype:
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        cast = given.astype(dtype)
    changed = cast != np.trunc(given) if dtype.kind in "iu" else np.isinf(cast) & ~np.isinf(given)
    return given[changed].flat[0] if changed.any() else None


def writable(grad: np.ndarray) -> np.ndarray:
    """For people's code, which may write into it: a gradient of one number is not laid out until somebody needs it."""
    return grad if grad.flags.writeable else grad.copy()
