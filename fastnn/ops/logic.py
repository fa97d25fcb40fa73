"""Comparisons and logic, entry by entry: booleans, off the tape."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.arrays import as_array
from fastnn.checks import flag, number
from fastnn.errors import DTypeError, FastnnError, ShapeError
from fastnn.ops.arithmetic import Compare, abs, sub
from fastnn.ops.common import tensor_of
from fastnn.ops.names import of
from fastnn.tensors import Tensor

if not TYPE_CHECKING:
    __all__ = of("logic")


def _of_two(name: str, ufunc: np.ufunc, doc: str) -> Any:
    """The ufunc of two tensors, arrays or numbers that broadcast."""

    def operator(input: Any, other: Any) -> Tensor:
        for each in (input, other):
            if not isinstance(each, (Tensor, int, float)):
                tensor_of(each)  # it refuses what has no numbers
        try:
            return Compare.apply(input, other, ufunc=ufunc)
        except ShapeError:
            raise
        except (AttributeError, OverflowError, TypeError) as error:
            if isinstance(error, FastnnError):
                raise
            kinds = " and ".join(type(each).__name__ for each in (input, other))
            raise DTypeError(f"{name}: expected numbers, got {kinds} ({error})") from None
        except ValueError:
            got = f"{tensor_of(input).shape} and {tensor_of(other).shape}"
            raise ShapeError(f"{name}: expected shapes that broadcast, got {got}") from None

    operator.__name__ = operator.__qualname__ = name
    operator.__doc__ = f"{doc}, entry by entry; off the tape."
    return operator


eq = _of_two("eq", np.equal, "input == other")
ne = _of_two("ne", np.not_equal, "input != other")
lt = _of_two("lt", np.less, "input < other")
le = _of_two("le", np.less_equal, "input <= other")
gt = _of_two("gt", np.greater, "input > other")
ge = _of_two("ge", np.greater_equal, "input >= other")
logical_and = _of_two("logical_and", np.logical_and, "Whether both are not 0")
logical_or = _of_two("logical_or", np.logical_or, "Whether one at least is not 0")
logical_xor = _of_two("logical_xor", np.logical_xor, "Whether one alone is not 0")


def logical_not(input: Any) -> Tensor:
    """Whether it is 0."""
    return eq(input, 0)


def _bitwise(name: str, ufunc: np.ufunc, doc: str, kinds: str = "biu") -> Any:
    operator = _of_two(name, ufunc, f"{doc} of booleans, or of the bits of integers" if "b" in kinds else doc)

    @functools.wraps(operator)
    def checked(input: Any, other: Any) -> Tensor:
        for each in (input, other):
            dtype = each.dtype if isinstance(each, (Tensor, np.ndarray)) else as_array(each).dtype
            if dtype.kind not in kinds:
                what, hint = ("booleans or integers", ": write (x > 0) & (y > 0)") if "b" in kinds else ("integers", "")
                raise DTypeError(f"{name}: expected {what}, got {dtype}{hint}")
        return operator(input, other)

    return checked


bitwise_and = _bitwise("bitwise_and", np.bitwise_and, "Both")
bitwise_or = _bitwise("bitwise_or", np.bitwise_or, "One or both")
bitwise_xor = _bitwise("bitwise_xor", np.bitwise_xor, "One alone")

bitwise_left_shift = _bitwise("bitwise_left_shift", np.left_shift, "input · 2^other of integers", "iu")
bitwise_right_shift = _bitwise("bitwise_right_shift", np.right_shift, "⌊input / 2^other⌋ of integers", "iu")


def bitwise_not(input: Tensor) -> Tensor:
    """The opposite of booleans, or of the bits of integers."""
    input = tensor_of(input)
    if input.dtype.kind == "u":
        return bitwise_xor(input, np.iinfo(input.dtype).max)
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


def isreal(input: Any) -> Tensor:
    """True everywhere: there are no complex numbers."""
    return eq(input, input) | isnan(input)


def isin(elements: Any, test_elements: Any, *, assume_unique: bool = False, invert: bool = False) -> Tensor:
    """Which of the elements equal one of the test elements, or none with `invert`; each is compared with each.

    >>> import fastnn as fnn
    >>> fnn.isin(fnn.tensor([1, 2, 3]), fnn.tensor([3, 1]))
    Tensor([ True, False,  True], dtype=bool)
    """
    among = tensor_of(test_elements).reshape(-1)
    found = eq(tensor_of(elements).unsqueeze(-1), among).any(-1)
    return logical_not(found) if flag("isin", "invert", invert) else found


def isclose(input: Any, other: Any, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False) -> Tensor:
    """Where |input - other| <= atol + rtol · |other|, or both are equal; with `equal_nan` NaN equals NaN."""
    a, b = _constant(input), _constant(other)
    rtol, atol = number("isclose", "rtol", rtol, 0), number("isclose", "atol", atol, 0)
    close = le(abs(sub(a, b)), atol + rtol * abs(b)) & isfinite(b) | eq(a, b)
    return close | isnan(a) & isnan(b) if flag("isclose", "equal_nan", equal_nan) else close


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
    return tensor_of(x).detach()


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
    "__contains__": lambda x, value: bool((x == value).any()),  # Python's own would compare rows
    "__lshift__": bitwise_left_shift,
    "__rlshift__": lambda a, b: bitwise_left_shift(b, a),
    "__rshift__": bitwise_right_shift,
    "__rrshift__": lambda a, b: bitwise_right_shift(b, a),
}
