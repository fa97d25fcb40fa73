"""Comparisons and logic, entry by entry: booleans, off the tape."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnn.arrays import as_array
from fastnn.errors import DTypeError, ShapeError
from fastnn.ops.arithmetic import Compare, abs, sub
from fastnn.tensors import Tensor

__all__ = [
    "allclose", "bitwise_and", "bitwise_not", "bitwise_or", "bitwise_xor", "eq", "equal", "ge", "gt", "isclose",
    "isfinite", "isinf", "isnan", "isneginf", "isposinf", "le", "logical_and", "logical_not", "logical_or",
    "logical_xor", "lt", "ne", "signbit",
]  # fmt: skip


def _compared(a: Any, b: Any, ufunc: np.ufunc) -> Tensor:
    """The ufunc of two tensors, arrays or numbers that broadcast; of numbers as NumPy does."""
    try:
        return Compare.apply(a, b, ufunc=ufunc)
    except ValueError as error:
        if isinstance(error, ShapeError):
            raise
        raise ShapeError(
            f"{ufunc.__name__}: expected shapes that broadcast, got {np.shape(a)} and {np.shape(b)}"
        ) from None


def eq(input: Any, other: Any) -> Tensor:
    """input == other, entry by entry; booleans, off the tape."""
    return _compared(input, other, np.equal)


def ne(input: Any, other: Any) -> Tensor:
    """input != other, entry by entry; booleans, off the tape."""
    return _compared(input, other, np.not_equal)


def lt(input: Any, other: Any) -> Tensor:
    """input < other, entry by entry; booleans, off the tape."""
    return _compared(input, other, np.less)


def le(input: Any, other: Any) -> Tensor:
    """input <= other, entry by entry; booleans, off the tape."""
    return _compared(input, other, np.less_equal)


def gt(input: Any, other: Any) -> Tensor:
    """input > other, entry by entry; booleans, off the tape."""
    return _compared(input, other, np.greater)


def ge(input: Any, other: Any) -> Tensor:
    """input >= other, entry by entry; booleans, off the tape."""
    return _compared(input, other, np.greater_equal)


def logical_and(input: Any, other: Any) -> Tensor:
    """Whether both are not 0."""
    return _compared(input, other, np.logical_and)


def logical_or(input: Any, other: Any) -> Tensor:
    """Whether one at least is not 0."""
    return _compared(input, other, np.logical_or)


def logical_xor(input: Any, other: Any) -> Tensor:
    """Whether one alone is not 0."""
    return _compared(input, other, np.logical_xor)


def logical_not(input: Any) -> Tensor:
    """Whether it is 0."""
    return eq(input, 0)


def _bitwise(name: str, ufunc: np.ufunc, doc: str) -> Any:
    def operator(input: Any, other: Any) -> Tensor:
        for each in (input, other):
            dtype = each.dtype if hasattr(each, "dtype") else as_array(each).dtype
            if dtype.kind not in "biu":
                raise DTypeError(
                    f"{name}: expected booleans or integers, got {dtype}: compare first, (x > 0) & (y > 0)"
                )
        return _compared(input, other, ufunc)

    operator.__name__ = operator.__qualname__ = name
    operator.__doc__ = f"{doc} of booleans, or of the bits of integers."
    return operator


bitwise_and = _bitwise("bitwise_and", np.bitwise_and, "Both")
bitwise_or = _bitwise("bitwise_or", np.bitwise_or, "One or both")
bitwise_xor = _bitwise("bitwise_xor", np.bitwise_xor, "One alone")


def bitwise_not(input: Tensor) -> Tensor:
    """The opposite of booleans, or of the bits of integers."""
    return bitwise_xor(input, True if input.dtype == np.bool_ else -1)


def isnan(input: Any) -> Tensor:
    """Where it is not a number."""
    return ne(input, input)


def isinf(input: Any) -> Tensor:
    """Where it is infinite, of either sign."""
    return eq(abs(_constant(input)), math.inf)


def isfinite(input: Any) -> Tensor:
    """Where it is neither infinite nor NaN."""
    return lt(abs(_constant(input)), math.inf)


def isposinf(input: Any) -> Tensor:
    """Where it is infinite and positive."""
    return eq(input, math.inf)


def isneginf(input: Any) -> Tensor:
    """Where it is infinite and negative."""
    return eq(input, -math.inf)


def signbit(input: Any) -> Tensor:
    """Where it is negative, -0.0 among it."""
    x = _constant(input)
    return lt(x, 0) if x.dtype.kind != "f" else lt(x, 0) | (eq(x, 0) & lt(1 / x, 0))


def isclose(input: Any, other: Any, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False) -> Tensor:
    """Where |input - other| <= atol + rtol · |other|, or both are equal; with `equal_nan` NaN equals NaN."""
    a, b = _constant(input), _constant(other)
    close = le(abs(sub(a, b)), atol + rtol * abs(b)) & isfinite(b) | eq(a, b)
    return close | isnan(a) & isnan(b) if equal_nan else close


def allclose(input: Any, other: Any, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False) -> bool:
    """Whether all entries are close, as `isclose` says it.

    >>> import fastnn as fnn
    >>> fnn.allclose(fnn.tensor([1.0]), fnn.tensor([1.0 + 1e-7]))
    True
    """
    return bool(isclose(input, other, rtol, atol, equal_nan).data.all())


def equal(input: Any, other: Any) -> bool:
    """Whether both have one shape and the same entries."""
    a, b = _constant(input), _constant(other)
    return a.shape == b.shape and bool(eq(a, b).data.all())


def _constant(x: Any) -> Tensor:
    return x.detach() if isinstance(x, Tensor) else Tensor(x)


SPECIAL: dict[str, Any] = {
    "__eq__": eq,
    "__ne__": ne,
    "__lt__": lt,
    "__le__": le,
    "__gt__": gt,
    "__ge__": ge,
    "__and__": bitwise_and,
    "__rand__": lambda a, b: bitwise_and(b, a),
    "__or__": bitwise_or,
    "__ror__": lambda a, b: bitwise_or(b, a),
    "__xor__": bitwise_xor,
    "__rxor__": lambda a, b: bitwise_xor(b, a),
    "__invert__": bitwise_not,
}
