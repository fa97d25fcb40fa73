"""Types of numbers as values, `fnn.float32`, `fnn.long`: NumPy's own, so that both sides take and compare them."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.errors import DTypeError

__all__ = ["OF_TENSORS", "TYPES", "dtype_of", "get_default_dtype", "numeric", "set_default_dtype"]

TYPES: dict[str, np.dtype[Any]] = {
    name: np.dtype(name) for name in ("bool", "float32", "float64", "int8", "int16", "int32", "int64", "uint8")
}
TYPES |= {
    "double": TYPES["float64"],
    "float": TYPES["float32"],
    "int": TYPES["int32"],
    "long": TYPES["int64"],
    "short": TYPES["int16"],
}
# Tensor types by their old names: fnn.LongTensor([1]), x.type(fnn.FloatTensor).
OF_TENSORS = {
    "BoolTensor": TYPES["bool"],
    "ByteTensor": TYPES["uint8"],
    "DoubleTensor": TYPES["float64"],
    "FloatTensor": TYPES["float32"],
    "IntTensor": TYPES["int32"],
    "LongTensor": TYPES["int64"],
}
_default = np.dtype(np.float32)


def dtype_of(where: str, dtype: Any) -> np.dtype[Any] | None:
    """`dtype` as NumPy's; None stays. DTypeError for what tensors cannot hold: float16, complex numbers, text.

    >>> import fastnn as fnn
    >>> dtype_of("zeros", fnn.float64), dtype_of("zeros", "int64"), dtype_of("zeros", None)
    (dtype('float64'), dtype('int64'), None)
    """
    return None if dtype is None else numeric(where, dtype)


def numeric(where: str, dtype: Any) -> np.dtype[Any]:
    """`dtype` as NumPy's. DTypeError for what tensors cannot hold, or is no type."""
    try:
        wanted = np.dtype(dtype)
    except (SyntaxError, TypeError, ValueError):
        raise DTypeError(f"{where}: expected a type such as fnn.float32, got {dtype!r}") from None
    if wanted.kind not in "fiub" or (wanted.kind == "f" and wanted.itemsize not in (4, 8)):
        raise DTypeError(f"{where}: expected float32, float64, an integer type or bool, got {wanted}")
    return wanted


def get_default_dtype() -> np.dtype[Any]:
    """The type of new tensors of floats, and of layers' parameters: float32 unless set_default_dtype has changed it."""
    return _default


def set_default_dtype(d: Any) -> None:
    """Make new tensors of floats, and parameters, float32 or float64; for the process. DTypeError for others.

    >>> import fastnn as fnn
    >>> fnn.set_default_dtype(fnn.float64)
    >>> fnn.zeros(2).dtype, fnn.nn.Linear(1, 1).weight.dtype
    (dtype('float64'), dtype('float64'))
    >>> fnn.set_default_dtype(fnn.float32)
    """
    global _default
    wanted = dtype_of("set_default_dtype", d)
    if wanted is None or wanted.kind != "f":
        raise DTypeError(f"set_default_dtype: expected fnn.float32 or fnn.float64, got {d!r}")
    _default = wanted
