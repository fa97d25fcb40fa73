"""What NumPy's own functions do with tensors: arithmetic is fastnn's, the rest sees arrays, and never cuts the tape."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.arrays import without_numbers
from fastnn.ops import arithmetic, logic
from fastnn.ops.dense import matmul
from fastnn.ops.names import find
from fastnn.recording import state
from fastnn.tensors import Tensor, check_off_tape

# ndarray + Tensor comes here as np.add(array, tensor).
_OPERATORS: dict[np.ufunc, Any] = {
    np.add: arithmetic.add,
    np.subtract: arithmetic.sub,
    np.multiply: arithmetic.mul,
    np.true_divide: arithmetic.true_divide,
    np.power: arithmetic.pow,
    np.matmul: matmul,
    np.equal: logic.eq,
    np.not_equal: logic.ne,
    np.less: logic.lt,
    np.less_equal: logic.le,
    np.greater: logic.gt,
    np.greater_equal: logic.ge,
    np.bitwise_and: logic.bitwise_and,
    np.bitwise_or: logic.bitwise_or,
    np.bitwise_xor: logic.bitwise_xor,
    np.floor_divide: lambda a, b: find("floor_divide")(a, b),
    np.remainder: lambda a, b: find("remainder")(a, b),
}


def array_ufunc(_: Tensor, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
    """NumPy's hook for universal functions. Raises GraphError where the tape would be cut."""
    out = options.get("out")
    operator = _OPERATORS.get(ufunc) if method == "__call__" else None
    if operator is None and state.on_tape is not None and method == "__call__":
        operator = state.on_tape[ufunc]
    if operator is not None and (not options or (len(options) == 1 and out is not None and out[0] is inputs[0])):
        return operator(*inputs)  # array += tensor, too: the name then stands for a tensor
    if out is not None and any(isinstance(array, Tensor) for array in out):
        return NotImplemented
    for x in inputs:
        if isinstance(x, Tensor):
            check_off_tape(f"np.{ufunc.__name__}", x)
    return getattr(ufunc, method)(*(x.numpy() if isinstance(x, Tensor) else x for x in inputs), **options)


# Functions that ask for shape and type alone, of their first argument; and those that write into it.
_OF_SHAPE = {np.shape, np.ndim, np.size, np.zeros_like, np.ones_like, np.empty_like, np.full_like}
_WRITING = {np.copyto, np.put, np.place, np.putmask, np.fill_diagonal, np.put_along_axis}


def array_function(_: Tensor, function: Any, types: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """NumPy's hook for all other functions. Raises GraphError where the tape would be cut."""
    if state.on_tape is not None and (operator := state.on_tape[function]) is not None:
        return operator(*args, **options)
    name, first = f"{function.__module__}.{function.__name__}".replace("numpy.", "np.", 1), args[0] if args else None
    if isinstance(options.get("out"), Tensor) or (function in _WRITING and isinstance(first, Tensor)):
        return NotImplemented
    if function in _OF_SHAPE and isinstance(first, Tensor):
        args = without_numbers(first.shape, first.dtype), *args[1:]
    return function(*_seen(name, args), **_seen(name, options))


def _seen(name: str, value: Any) -> Any:
    """`value` with arrays in the place of tensors, in tuples, lists and dicts too."""
    if isinstance(value, Tensor):
        check_off_tape(name, value)
        return value.numpy()
    if isinstance(value, (tuple, list)):
        return type(value)(_seen(name, entry) for entry in value)
    if isinstance(value, dict):
        return {key: _seen(name, entry) for key, entry in value.items()}
    return value
