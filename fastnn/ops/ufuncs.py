"""What NumPy's own functions do with tensors: arithmetic is fastnn's, the rest sees arrays, and never cuts the tape."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.ops import arithmetic
from fastnn.ops.dense import matmul
from fastnn.tensor import Tensor, check_off_tape

# ndarray + Tensor comes here as np.add(array, tensor).
_OPERATORS: dict[np.ufunc, Any] = {
    np.add: arithmetic.add,
    np.subtract: arithmetic.sub,
    np.multiply: arithmetic.mul,
    np.true_divide: arithmetic.div,
    np.power: arithmetic.pow,
    np.matmul: matmul,
    **{
        ufunc: arithmetic.compared(ufunc)
        for ufunc in (np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal)
    },
}


def array_ufunc(_: Tensor, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
    """NumPy's hook for universal functions. Raises GraphError where the tape would be cut."""
    out = options.get("out")
    operator = _OPERATORS.get(ufunc) if method == "__call__" else None
    if operator is not None and (not options or (len(options) == 1 and out is not None and out[0] is inputs[0])):
        return operator(*inputs)  # array += tensor, too: the name then stands for a tensor
    if out is not None and any(isinstance(array, Tensor) for array in out):
        return NotImplemented
    for x in inputs:
        if isinstance(x, Tensor):
            check_off_tape(f"np.{ufunc.__name__}", x)
    return getattr(ufunc, method)(*(x.data if isinstance(x, Tensor) else x for x in inputs), **options)
