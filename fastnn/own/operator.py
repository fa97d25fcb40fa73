"""`elementwise`: a formula of scalars as an operator on tensors, with its derivatives."""

from __future__ import annotations

import ctypes
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from fastnn import locks
from fastnn.errors import ArgumentError, ShapeError
from fastnn.nn import Module
from fastnn.ops.common import floating, sum_to
from fastnn.tensors import Array, Context, Function, Tensor

from .code import compiled
from .derivatives import derivative as derivative_of
from .expressions import Expression, formula_of, make

__all__ = ["Elementwise", "Formula", "Own", "elementwise"]

MOST_INPUTS = 10  # with the gradient they are the operands of one stage
_lock = locks.lock()


class Formula:
    """An expression of some inputs, its derivatives by them, and its machine code for each type, made when wanted."""

    def __init__(
        self, name: str, expression: Expression, inputs: int, slopes: tuple[Expression, ...] | None = None
    ) -> None:
        self.name, self.expression, self.inputs, self._slopes = name, expression, inputs, slopes
        self._code: dict[np.dtype[Any], Any] = {}
        self._gradients: dict[int, Formula] = {}

    def __deepcopy__(self, memo: Any) -> Formula:
        return self  # copies of models share the code

    def __reduce__(self) -> Any:
        return Formula, (self.name, self.expression, self.inputs, self._slopes)

    def address(self, dtype: np.dtype[Any]) -> int:
        """Of the compiled function, which lives as long as this."""
        return int(self._compiled(dtype).address)

    def _compiled(self, dtype: np.dtype[Any]) -> Any:
        if dtype not in self._code:
            with _lock:
                if dtype not in self._code:
                    self._code[dtype] = compiled(self.expression, self.inputs, dtype)
        return self._code[dtype]

    def gradient(self, k: int) -> Formula:
        """Of the inputs and the output's gradient: the gradient of input k."""
        if k not in self._gradients:
            slope = derivative_of(self.expression, k) if self._slopes is None else self._slopes[k]
            times = make("mul", slope, Expression.of("input", self.inputs))
            self._gradients[k] = Formula(f"{self.name}, backward", times, self.inputs + 1)
        return self._gradients[k]

    def __call__(self, *arrays: Array) -> Array:
        """The formula of float arrays of one type, broadcast."""
        dtype, shape = arrays[0].dtype, np.broadcast_shapes(*(x.shape for x in arrays))
        y = np.empty(shape, dtype)
        if y.size:
            self._run(y, tuple(np.broadcast_to(x, shape) for x in arrays))
        return y

    def _run(self, y: Array, arrays: tuple[Array, ...]) -> None:
        code = self._compiled(y.dtype)
        if y.dtype == np.float64:
            arrays = tuple(map(np.ascontiguousarray, arrays))
        try:
            from fastnn._kernels import operate
        except ImportError:  # no extension: on one thread
            arrays = tuple(map(np.ascontiguousarray, arrays))
            inputs = (ctypes.c_void_p * len(arrays))(*(x.ctypes.data for x in arrays))
            function = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)(code.address)
            function(y.size, ctypes.addressof(inputs), y.ctypes.data)
            return
        if not y.ndim:
            y, arrays = y.reshape(1), tuple(x.reshape(1) for x in arrays)
        operate("own", (y, *arrays), (code.address,), shape=y.shape)


class Elementwise(Function):
    """Saves its inputs. Attribute: formula."""

    @staticmethod
    def forward(ctx: Context, *inputs: Array, formula: Formula) -> Array:
        ctx.save_for_backward(*inputs)
        return formula(*inputs)

    @staticmethod
    def backward(ctx: Context, grad: Any) -> Any:
        inputs, formula = ctx.saved_tensors, ctx.attributes["formula"]

        def gradient(k: int, x: Any) -> Any:
            of_x = formula.gradient(k)
            run = partial(Elementwise.apply, formula=of_x) if isinstance(grad, Tensor) else of_x
            return sum_to(run(*inputs, grad), x.shape)

        return tuple(gradient(k, x) if ctx.needs_input_grad[k] else None for k, x in enumerate(inputs))


class Own(Module):
    """An operator made by `elementwise`: called on tensors, arrays and numbers, which are broadcast."""

    def __init__(self, function: Callable[..., Any], derivative: Callable[..., Any] | None) -> None:
        super().__init__()
        count, name = _count(function), function.__name__
        results = formula_of(function, count)
        if len(results) != 1:
            raise ArgumentError(f"elementwise: expected {name} to return one number, got {len(results)}")
        if derivative is not None:
            _expect_inputs(derivative, count, name)
        slopes = None if derivative is None else formula_of(derivative, count)
        if slopes is not None and len(slopes) != count:
            raise ArgumentError(
                f"elementwise: expected derivative to return {count} numbers for {name}, got {len(slopes)}"
            )
        self.formula = Formula(name, results[0], count, slopes)
        self._names = [*inspect.signature(function).parameters][:count]
        self.__name__, self.__doc__ = name, function.__doc__

    def forward(self, *inputs: Any, **named: Any) -> Tensor:
        inputs = (*inputs, *(named.pop(name) for name in self._names[len(inputs) :] if name in named))
        if named:
            raise ArgumentError(
                f"{self.__name__}: expected inputs named {', '.join(self._names)}, got {', '.join(named)}: arguments "
                "with defaults keep them"
            )
        if len(inputs) != self.formula.inputs:
            raise ArgumentError(f"{self.__name__}: expected {self.formula.inputs} inputs, got {len(inputs)}")
        tensors = [x for x in inputs if isinstance(x, Tensor)]
        floats = {x.dtype for x in tensors if x.dtype.kind == "f"}
        dtype = np.result_type(*floats) if floats else None
        given = [floating(x, dtype) for x in inputs]
        dtype = np.result_type(*(x.dtype for x in given))
        given = [x.astype(dtype) for x in given]
        try:
            np.broadcast_shapes(*(x.shape for x in given))
        except ValueError:
            shapes = ", ".join(str(tuple(x.shape)) for x in given)
            raise ShapeError(f"{self.__name__}: expected inputs of shapes that broadcast, got {shapes}") from None
        return Elementwise.apply(*given, formula=self.formula)

    def __repr__(self) -> str:
        return f"elementwise({self.__name__})"


def _count(function: Callable[..., Any]) -> int:
    if not inspect.isfunction(function):
        raise ArgumentError(f"elementwise: expected a Python function, got {type(function).__name__}")
    parameters = inspect.signature(function).parameters.values()
    needed = [p for p in parameters if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    others = [p for p in parameters if p.default is p.empty and p not in needed]
    if others or not 1 <= len(needed) <= MOST_INPUTS:
        raise ArgumentError(
            f"elementwise: expected a function of 1 to {MOST_INPUTS} numbers, got {function.__name__}"
            f"{inspect.signature(function)}"
        )
    return len(needed)


def _expect_inputs(derivative: Any, count: int, name: str) -> None:
    try:
        inspect.signature(derivative).bind(*range(count))
    except ValueError:  # a function written in C may not say
        pass
    except TypeError as error:
        raise ArgumentError(
            f"elementwise: expected a derivative of the {count} inputs of {name}, got one with {error}"
        ) from None


def elementwise(function: Callable[..., Any] | None = None, *, derivative: Callable[..., Any] | None = None) -> Any:
    """Decorator: a function of numbers becomes an operator on tensors, entry by entry, compiled by Numba.

    The function may use arithmetic, comparisons, conditional expressions and branches, functions of ``math`` and of
    NumPy that take numbers, and Python functions made of these. It is called when it is decorated, with symbols for the
    numbers; where it asks for a comparison's truth, both ways are followed, and both are computed for every entry. So a
    loop must not depend on the numbers. Other arguments, with defaults, keep them.

    Args:
        function: takes 1 to 10 numbers and returns one.
        derivative: takes the same and returns the derivative by each: one number for one input, else a tuple. None: it
            is found from the operations of the function (0 for floor, ceil and trunc).

    Returns:
        An operator on tensors, arrays and numbers of shapes that broadcast; float32 and float64 are computed in their
        own type. It has derivatives of any order, stands in ``nn.Sequential``, and compiled plans call its machine code
        without going back to Python. The first call with a type takes a second or so, for compiling.

    Raises:
        ArgumentError: something that is no such function; another function of math or NumPy.
        MissingExtraError: Numba is not installed; at the first call. ShapeError: shapes that do not broadcast.

    >>> import math, fastnn as fnn
    >>> @fnn.elementwise
    ... def squash(x, low):
    ...     return x / (1 + x) if x > 0 else low * math.tanh(x)
    >>> x = fnn.Tensor([1.0, 3.0, 0.0], requires_grad=True)
    >>> y = squash(x, 0.5)
    >>> y.sum().backward()
    >>> y.data, x.grad
    (array([0.5 , 0.75, 0.  ], dtype=float32), array([0.25  , 0.0625, 0.5   ], dtype=float32))
    """
    if function is None:
        return partial(elementwise, derivative=derivative)
    return Own(function, derivative)
