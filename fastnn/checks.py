"""What users give, checked: numbers, Python's and NumPy's alike, made Python's own; text, lists, functions, paths."""

from __future__ import annotations

import inspect
import math
import operator
import os
import sys
import warnings
from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from typing import Any, NoReturn

import numpy as np

from fastnn.errors import ArgumentError, FastnnError, OutOfRangeError, meant

__all__ = [
    "called", "choice", "entries", "flag", "is_number", "is_whole", "mapping", "number", "path", "place", "plain",
    "shown", "takes_one", "text", "whole",
]  # fmt: skip


def whole(
    where: str, name: str, value: Any, least: int | None = None, most: int | None = None, expected: str = ""
) -> int:
    """The value as Python's int.

    Args:
        where: the function or layer, for the message; empty for none.
        name: of the option.
        value: a whole number of any integer type of Python or NumPy.
        least, most: bounds, both allowed themselves.
        expected: what is expected, in words that name the option; left out, they are made of the bounds.

    Raises ArgumentError for any other number, for truth values, and for what is no number.

    >>> whole("fit", "epochs", np.int32(3), least=1)
    3
    >>> whole("fit", "epochs", 2.5, least=1)
    Traceback (most recent call last):
    fastnn.errors.ArgumentError: fit: expected epochs to be a positive integer, got 2.5
    """
    if is_whole(value, least, most):
        return operator.index(value)
    kind = "positive integer" if (least, most) == (1, None) else f"whole number{_bounds(least, most)}"
    nearly = isinstance(value, (float, np.floating)) and math.isfinite(value) and is_whole(int(value), least, most)
    hint = f", a float: write {int(value)}" if nearly and int(value) == value else ""
    _refuse(where, value, expected or f"{name} to be a {kind}", hint)


def warn(message: str) -> None:
    """Warns at the line outside of fastnn that led here, however many of fastnn's functions lie between."""
    level = 2
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "fastnn":
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)


def number(
    where: str,
    name: str,
    value: Any,
    least: float | None = None,
    most: float | None = None,
    *,
    above: float | None = None,
    below: float | None = None,
    finite: bool = True,
    expected: str = "",
) -> float:
    """The value as Python's int or float.

    Args:
        where, name, expected: as of `whole`.
        value: a real number of any type of Python or NumPy.
        least, most: bounds, both allowed themselves.
        above, below: bounds that are not allowed themselves.
        finite: whether infinity is refused; NaN always is.

    Raises ArgumentError for any other number, for truth values, and for what is no number.

    >>> number("Dropout", "p", np.float32(0.5), 0, 1)
    0.5
    >>> number("Dropout", "p", 1.5, 0, 1)
    Traceback (most recent call last):
    fastnn.errors.ArgumentError: Dropout: expected p from 0 to 1, got 1.5
    """
    found = _as_number(value)
    if found is not None:
        try:
            size = float(found)
        except OverflowError:  # an int beyond all floats
            size = math.inf
        if (
            not math.isnan(size)
            and (math.isfinite(size) or not finite)
            and (least is None or size >= least)
            and (most is None or size <= most)
            and (above is None or size > above)
            and (below is None or size < below)
        ):
            return found
    _refuse(where, value, expected or f"{name}{_bounds(least, most, above, below) or ' to be a finite number'}")


def entries(where: str, name: str, value: Any) -> list[Any]:
    """The entries of what can be iterated over. Raises ArgumentError for anything else.

    >>> entries("fit", "callbacks", (1, 2))
    [1, 2]
    >>> entries("fit", "callbacks", 3)
    Traceback (most recent call last):
    fastnn.errors.ArgumentError: fit: expected callbacks to be a list, got 3
    """
    if isinstance(value, Iterable) and not (isinstance(value, np.ndarray) and value.ndim == 0):
        return list(value)
    _refuse(where, value, f"{name} to be a list")


def called(where: str, name: str, value: Any) -> Any:
    """The value, a function or another object that can be called. Raises ArgumentError for anything else."""
    if callable(value):
        return value
    _refuse(where, value, f"{name} to be a function")


def text(where: str, name: str, value: Any) -> str:
    """The value, which is text. Raises ArgumentError for anything else."""
    if isinstance(value, str):
        return value
    _refuse(where, value, f"{name} to be text")


def choice(where: str, name: str, value: Any, words: Iterable[str]) -> str:
    """The value, which is one of these words. Raises ArgumentError for anything else.

    >>> choice("kaiming_normal_", "mode", "fan-in", ["fan_in", "fan_out"])
    Traceback (most recent call last):
    fastnn.errors.ArgumentError: kaiming_normal_: expected mode 'fan_in' or 'fan_out', got 'fan-in': \
did you mean 'fan_in'?
    """
    known = list(words)
    if isinstance(value, str) and value in known:
        return value
    *first, last = map(repr, known)
    hint = meant(value, known) if isinstance(value, str) else ""
    _refuse(where, value, f"{name} {', '.join(first)}{' or ' if first else ''}{last}", hint)


def flag(where: str, name: str, value: Any) -> bool:
    """Whether the value counts as true. Raises ArgumentError for what is neither: an array, or text ("False").

    >>> flag("sum", "keepdim", 1)
    True
    """
    try:
        if not isinstance(value, (str, bytes)):
            return bool(value)
    except (TypeError, ValueError):  # an array of several entries
        pass
    _refuse(where, value, f"{name} to be True or False")


def place(where: str, index: Any, length: int) -> int:
    """An index into so many entries, counted from the front. ArgumentError for no integer, OutOfRangeError beyond.

    >>> place("Sequential", -1, 3)
    2
    >>> place("Sequential", 3, 3)
    Traceback (most recent call last):
    fastnn.errors.OutOfRangeError: Sequential: expected an index from -3 to 2, got 3
    """
    found = whole(where, "index", index)
    if not -length <= found < length:
        raise OutOfRangeError(f"{where}: expected an index from {-length} to {length - 1}, got {found}")
    return found % length


def mapping(where: str, name: str, value: Any) -> Mapping[Any, Any]:
    """The value, which holds entries by name, as a dict does. Raises ArgumentError for anything else."""
    if isinstance(value, Mapping):
        return value
    _refuse(where, value, f"{name} to be a dict")


def path(where: str, value: Any) -> str:
    """The name of a file or folder as text. Raises ArgumentError for what is none.

    >>> path("load", None)
    Traceback (most recent call last):
    fastnn.errors.ArgumentError: load: expected the name of a file or folder, got None
    """
    if isinstance(value, (str, bytes, os.PathLike)):
        return os.fsdecode(value)
    _refuse(where, value, "the name of a file or folder")


def is_whole(value: Any, least: int | None = None, most: int | None = None) -> bool:
    """Whether it is one whole number within the bounds, of Python's types or NumPy's, and no truth value.

    >>> [is_whole(value, least=0) for value in (1, np.uint8(1), np.array(2), -1, 1.0, True, np.bool_(True), "1")]
    [True, True, True, False, False, False, False, False]
    """
    try:
        found = None if isinstance(value, bool) else operator.index(value)
    except (TypeError, FastnnError):  # the latter of tensors with several entries, or without values yet
        found = None
    return found is not None and (least is None or found >= least) and (most is None or found <= most)


def is_number(value: Any) -> bool:
    """Whether it is one real number, of Python's types or NumPy's, and no truth value.

    >>> [is_number(value) for value in (1, np.float32(0.5), np.array(2), True, np.bool_(True), "1", None, [1])]
    [True, True, True, False, False, False, False, False]
    """
    return _as_number(value) is not None


def plain(value: Any) -> Any:
    """The value with Python's own numbers, lists and text in place of NumPy's; tuples stay tuples.

    >>> import numpy as np
    >>> plain({"n": np.int64(3), "p": (np.float32(0.5), np.bool_(True))})
    {'n': 3, 'p': (0.5, True)}
    """
    if isinstance(value, Mapping):
        return {plain(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [plain(entry) for entry in value]
    if isinstance(value, tuple):
        return tuple(plain(entry) for entry in value)
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.floating):
        return float(value)
    return value.item() if isinstance(value, np.generic) else value


def shown(value: Any) -> str:
    """What came, for a message: arrays and tensors by their shape, what takes many words by its type.

    >>> shown(0.5), shown(np.ones((2, 3)))
    ('0.5', 'an ndarray of shape (2, 3)')
    """
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple) and shape:
        kind = type(value).__name__
        return f"{'an' if kind[0] in 'aeiouAEIOU' or kind == 'ndarray' else 'a'} {kind} of shape {shape}"
    words = repr(value)
    return words if len(words) <= 200 and "\n" not in words else f"an object of type {type(value).__name__}"


def _as_number(value: Any) -> int | float | None:
    """A number as Python's; None for anything else."""
    if type(value) is float or type(value) is int:  # nearly always; abstract types are slow to ask
        return value
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, bool) or not isinstance(value, Real):  # NumPy's truth values are not
        return None
    return int(value) if isinstance(value, Integral) else float(value)


def _bounds(
    least: float | None, most: float | None = None, above: float | None = None, below: float | None = None
) -> str:
    """In words, such as " of at least 1", " from 0 to 1", " between 0 and 1"."""
    if least is not None and most is not None:
        return f" from {least} to {most}"
    if above is not None and below is not None:
        return f" between {above} and {below}"
    words = (("of at least", least), ("above", above), ("of at most", most), ("below", below))
    return " and".join(f" {word} {bound}" for word, bound in words if bound is not None)


def _refuse(where: str, value: Any, expected: str, hint: str = "") -> NoReturn:
    raise ArgumentError(f"{where}{': ' if where else ''}expected {expected}, got {shown(value)}{hint}")


def takes_one(where: str, forward: Any, instead: str = "") -> None:
    """ArgumentError for a model's forward that needs more than one input, of which `instead` says what to do."""
    try:
        inspect.signature(forward).bind(None)
    except TypeError:
        raise ArgumentError(
            f"{where}: expected a model that takes one array, got forward{inspect.signature(forward)}{instead}"
        ) from None
