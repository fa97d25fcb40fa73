"""Arithmetic with broadcasting, in NumPy; the table at the end hangs it onto Tensor."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable
from typing import Any, cast

import numpy as np

from fastnn.arrays import as_array
from fastnn.backends import kernels
from fastnn.backends.checks import alike, empty, first_of, is_alike
from fastnn.checks import is_number, number
from fastnn.dtypes import get_default_dtype
from fastnn.errors import ArgumentError, DTypeError, FastnnError, ShapeError
from fastnn.ops.common import floating, sum_to, tensor_of
from fastnn.tensors import Array, Context, Function, Tensor

_LARGE = 1 << 16  # bytes, from which on backends keep memory
_UFUNCS = {operator.mul: np.multiply, operator.truediv: np.divide, operator.neg: np.negative}
_QUIET = {"ignore", "warn"}
_KERNELS = {np.add: "add", np.subtract: "sub", np.multiply: "mul", np.divide: "div", np.exp: "exp"}


def computed(ufunc: np.ufunc, *arrays: Array) -> Array:
    """ufunc(*arrays); what is large, by the threads of the backend's kernels, or in memory that was used before: new
    pages take as long as the operation."""
    for x in arrays:
        if x.nbytes >= _LARGE and x.flags.c_contiguous:
            dtype, shape = x.dtype, x.shape
            if ufunc in _KERNELS and dtype.kind == "f" and all(_is_like(y, x) for y in arrays) and _is_quiet():
                return cast(Array, kernels(dtype).function_forward(_KERNELS[ufunc], *arrays))
            fits = all(y.dtype == dtype and y.shape == shape[max(0, x.ndim - y.ndim) :] for y in arrays)
            y: Array = ufunc(*arrays, out=empty(shape, dtype)) if fits and dtype.kind == "f" else ufunc(*arrays)
            return y
    plain: Array = ufunc(*arrays)
    return plain


def _is_quiet() -> bool:
    """True unless NumPy is to raise errors (`np.errstate(all="raise")`): kernels raise none."""
    return _QUIET.issuperset(np.geterr().values())


def _is_like(x: Array, other: Array) -> bool:
    return x.dtype == other.dtype and x.shape == other.shape and x.flags.c_contiguous


def slope(operation: Callable[..., Any], grad: Any, *others: Any) -> Any:
    """operation(grad, *others); once where all entries of each are one number, as those of a sum's gradient are."""
    if type(grad) is np.ndarray and is_alike(grad) and all(x.size == 1 for x in others):
        return alike(np.asarray(operation(first_of(grad), *(x.reshape(()) for x in others))), grad.shape)
    if type(grad) is np.ndarray:
        return computed(_UFUNCS[operation], grad, *others)
    return operation(grad, *others)


class Add(Function):
    """a + b. Saves the shapes."""

    @staticmethod
    def forward(ctx: Context, a: Array, b: Array) -> Array:
        ctx.save_for_backward(a.shape, b.shape)
        return computed(np.add, a, b)

    @staticmethod
    def backward(ctx: Context, grad: Array) -> tuple[Array, Array]:
        a_shape, b_shape = ctx.saved_tensors
        return sum_to(grad, a_shape), sum_to(grad, b_shape)


class Sub(Function):
    """a - b. Saves the shapes."""

    @staticmethod
    def forward(ctx: Context, a: Array, b: Array) -> Array:
        ctx.save_for_backward(a.shape, b.shape)
        return computed(np.subtract, a, b)

    @staticmethod
    def backward(ctx: Context, grad: Array) -> tuple[Array, Array]:
        a_shape, b_shape = ctx.saved_tensors
        return sum_to(grad, a_shape), sum_to(slope(operator.neg, grad), b_shape)


class Mul(Function):
    """a * b. Saves of each the shape, and itself where the other one's gradient needs it."""

    @staticmethod
    def forward(ctx: Context, a: Array, b: Array) -> Array:
        need_a, need_b = ctx.needs_input_grad
        ctx.save_for_backward(a if need_b else None, b if need_a else None, a.shape, b.shape)
        return computed(np.multiply, a, b)

    @staticmethod
    def backward(ctx: Context, grad: Array) -> tuple[Array | None, Array | None]:
        a, b, a_shape, b_shape = ctx.saved_tensors
        need_a, need_b = ctx.needs_input_grad
        return (
            sum_to(slope(operator.mul, grad, b), a_shape) if need_a else None,
            sum_to(slope(operator.mul, grad, a), b_shape) if need_b else None,
        )


class Div(Function):
    """a / b. Saves b, the shape of a, and a where b's gradient needs it."""

    @staticmethod
    def forward(ctx: Context, a: Array, b: Array) -> Array:
        ctx.save_for_backward(a if ctx.needs_input_grad[1] else None, b, a.shape)
        return computed(np.divide, a, b)

    @staticmethod
    def backward(ctx: Context, grad: Array) -> tuple[Array | None, Array | None]:
        a, b, a_shape = ctx.saved_tensors
        need_a, need_b = ctx.needs_input_grad
        grad_a = slope(operator.truediv, grad, b)
        return sum_to(grad_a, a_shape) if need_a else None, sum_to(-grad_a * a / b, b.shape) if need_b else None


class Pow(Function):
    """a ** b. Saves both, and the result where b's gradient needs it."""

    @staticmethod
    def forward(ctx: Context, a: Array, b: Array) -> Array:
        y = a**b
        ctx.save_for_backward(a, b, y if ctx.needs_input_grad[1] else None)
        return y

    @staticmethod
    def backward(ctx: Context, grad: Array) -> tuple[Array | None, Array | None]:
        a, b, y = ctx.saved_tensors
        need_a, need_b = ctx.needs_input_grad
        grad_a = grad_b = None
        if need_a:  # at b = 0 the slope is 0, also where a = 0
            slope = np.where(b == 0, 0, b * a ** np.where(b == 0, 1, b - 1)).astype(grad.dtype, copy=False)
            grad_a = sum_to(grad * slope, a.shape)
        if need_b:  # a = 0: 0 ** b does not change with b > 0
            grad_b = sum_to(grad * y * np.log(np.where(a == 0, 1, a)), b.shape)
        return grad_a, grad_b


class Neg(Function):
    """-x."""

    @staticmethod
    def forward(ctx: Context, x: Array) -> Array:
        return computed(np.negative, x)

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        return slope(operator.neg, grad)


class Abs(Function):
    """|x|. Saves x."""

    @staticmethod
    def forward(ctx: Context, x: Array) -> Array:
        ctx.save_for_backward(x)
        return computed(np.abs, x)

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        return grad * np.sign(*ctx.saved_tensors)


class Exp(Function):
    """exp(x). Saves the output."""

    @staticmethod
    def forward(ctx: Context, x: Array) -> Array:
        y = computed(np.exp, x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        (y,) = ctx.saved_tensors
        return slope(operator.mul, grad, y)


class Log(Function):
    """The natural logarithm. Saves x."""

    @staticmethod
    def forward(ctx: Context, x: Array) -> Array:
        ctx.save_for_backward(x)
        return computed(np.log, x)

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        (x,) = ctx.saved_tensors
        return slope(operator.truediv, grad, x)


class Sqrt(Function):
    """The square root. Saves the output."""

    @staticmethod
    def forward(ctx: Context, x: Array) -> Array:
        y = computed(np.sqrt, x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        (y,) = ctx.saved_tensors
        return grad / (2 * y)


class Clamp(Function):
    """min where x is below it, max where x is above it; the gradient passes in between. Attributes: min, max."""

    @staticmethod
    def forward(ctx: Context, x: Array, *, min: float | None, max: float | None) -> Array:
        ctx.save_for_backward(x)
        return np.clip(x, min, max)

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        (x,) = ctx.saved_tensors
        low, high = ctx.attributes["min"], ctx.attributes["max"]
        outside = (x < (-np.inf if low is None else low)) | (x > (np.inf if high is None else high))
        return np.where(outside, 0, grad)


# ---- the operators as Tensor's methods -------------------------------------------------------------------------------


def operand(value: Any, other: Tensor) -> Any:
    """A number or array that meets the tensor `other` takes its type: 2.0 never makes float64 of float32."""
    if isinstance(value, Tensor):
        return value
    array = as_array(value)
    if array.dtype.kind not in "fiub":
        raise DTypeError(f"arithmetic: expected numbers, got {type(value).__name__} of type {array.dtype}")
    if other.dtype.kind == "f" or (isinstance(value, (int, np.integer)) and other.dtype.kind in "iu"):
        return array.astype(other.dtype, copy=False)
    return array.astype(get_default_dtype()) if array.dtype.kind == "f" else array


def common_type(values: Iterable[Any]) -> list[Tensor]:
    """All as tensors of one type: numbers and arrays take that of the first tensor among them."""
    values = list(values)
    first = next((value for value in values if isinstance(value, Tensor)), None)
    tensors = [tensor_of(value if first is None else operand(value, first)) for value in values]
    dtypes = {tensor.dtype for tensor in tensors}
    if len(dtypes) == 1:
        return tensors
    dtype = np.result_type(*({dtype for dtype in dtypes if dtype.kind == "f"} or dtypes))
    return [tensor.astype(dtype) for tensor in tensors]


FLOATING: set[type[Function]] = {Div}  # whose results of whole numbers are none


def _common(a: Tensor, b: Tensor) -> np.dtype[Any]:
    """The type of a result: a tensor without dimensions does not widen another of its kind, as in PyTorch."""
    kinds = a.dtype.kind + b.dtype.kind
    if (a.ndim == 0) != (b.ndim == 0) and kinds.count("f") != 1 and "b" not in kinds:
        return b.dtype if a.ndim == 0 else a.dtype
    return np.result_type(*({x.dtype for x in (a, b) if x.dtype.kind == "f"} or {a.dtype, b.dtype}))


def binary(function: type[Function], a: Any, b: Any) -> Tensor:
    """Bring a and b to one type and apply the operator."""
    if not isinstance(a, Tensor) and not isinstance(b, Tensor):
        a = tensor_of(a)
    if isinstance(a, Tensor):
        b = operand(b, a)
    else:
        a = operand(a, b)
    if a.dtype != b.dtype:
        dtype = _common(a, b)
        a, b = a.astype(dtype), b.astype(dtype)
    if function in FLOATING and a.dtype.kind != "f":
        a, b = a.astype(get_default_dtype()), b.astype(get_default_dtype())
    try:
        return function.apply(a, b)
    except FastnnError:
        raise
    except ValueError:
        raise ShapeError(
            f"{function.__name__.lower()}: expected shapes that broadcast, got {a.shape} and {b.shape}"
        ) from None


def add(input: Any, other: Any, tensor: Any = None, *, alpha: float = 1) -> Tensor:
    """input + alpha · other; in PyTorch's older order, add(input, alpha, other)."""
    if tensor is not None:
        other, alpha = tensor, other
    return binary(Add, input, scaled("add", "alpha", other, alpha))


def sub(input: Any, other: Any, tensor: Any = None, *, alpha: float = 1) -> Tensor:
    """input - alpha · other; in PyTorch's older order, sub(input, alpha, other)."""
    if tensor is not None:
        other, alpha = tensor, other
    return binary(Sub, input, scaled("sub", "alpha", other, alpha))


def numbers_first(*names: str) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """For a function of three tensors that are scaled by these numbers: it takes PyTorch's older order, too, where the
    numbers stand before what they scale, ``x.addcmul_(1 - beta, grad, grad)`` and ``x.addmm_(1, -2, a, b)``."""

    def taking(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        @functools.wraps(function)
        def called(*args: Any, **options: Any) -> Tensor:
            if len(args) > 3:
                factors = [each for each in args if is_number(each)]
                tensors = [each for each in args if not is_number(each)]
                if len(tensors) == 3 and len(factors) <= len(names):
                    args, options = tuple(tensors), options | dict(zip(names, factors, strict=False))
            return function(*args, **options)

        return called

    return taking


def scaled(op: str, name: str, other: Any, factor: Any) -> Any:
    """factor · other; ArgumentError for a factor that is not one number."""
    if type(factor) is int and factor == 1:  # as a rule
        return other
    if not (isinstance(factor, Tensor) and factor.numel() == 1):
        factor = number(op, name, factor, finite=False)
    return mul(other, factor)


def mul(input: Any, other: Any) -> Tensor:
    """input * other."""
    return binary(Mul, input, other)


def true_divide(input: Any, other: Any) -> Tensor:
    """input / other, never rounded to integers."""
    return binary(Div, input, other)


def pow(input: Any, exponent: Any) -> Tensor:
    """input ** exponent; of whole numbers a whole one, where ArgumentError is raised for a negative exponent."""
    base = input.dtype if isinstance(input, Tensor) else np.asarray(input).dtype
    if base.kind != "f":
        powers = exponent._data if isinstance(exponent, Tensor) else np.asarray(exponent)
        if powers.dtype.kind == "i" and (powers < 0).any():
            raise ArgumentError(
                f"pow: expected exponents of at least 0 for whole numbers, which 1 / x is none of, got {powers.min()}: "
                "write x.float() ** exponent"
            )
    return binary(Pow, input, exponent)


def neg(input: Any) -> Tensor:
    """-x."""
    x = tensor_of(input)
    if x.dtype == np.bool_:
        raise DTypeError("neg: expected numbers, got booleans: the opposite of them is ~x")
    return Neg.apply(x)


def abs(input: Any) -> Tensor:
    """|x|; the slope at 0 is 0."""
    return Abs.apply(tensor_of(input))


def exp(input: Any) -> Tensor:
    """exp(x)."""
    return Exp.apply(floating(input))


def log(input: Any) -> Tensor:
    """The natural logarithm."""
    return Log.apply(floating(input))


def sqrt(input: Any) -> Tensor:
    """The square root."""
    return Sqrt.apply(floating(input))


def clamp_numbers(input: Tensor, min: float | None, max: float | None) -> Tensor:
    """x between two numbers; None where there is no bound."""
    low, high = (None if bound is None else number("clamp", "bound", bound, finite=False) for bound in (min, max))
    if input.dtype.kind in "iu" and any(isinstance(bound, float) for bound in (low, high)):
        input = input.astype(get_default_dtype())
    if input.dtype.kind in "iu":
        fits = np.iinfo(input.dtype)
        for bound in (low, high):
            if isinstance(bound, int) and not fits.min <= bound <= fits.max:
                raise ArgumentError(
                    f"clamp: expected bounds from {fits.min} to {fits.max} for {fits.dtype}, got {bound}"
                )
    return Clamp.apply(input, min=low, max=high)


class Compare(Function):
    """ufunc(a, b), booleans. Attribute: ufunc."""

    differentiable = False

    @staticmethod
    def forward(ctx: Context, a: Array, b: Any, *, ufunc: np.ufunc) -> Array:
        return ufunc(a, b)


SPECIAL: dict[str, Any] = {
    "__pos__": lambda x: x,
    "__add__": add,
    "__radd__": lambda a, b: add(b, a),
    "__sub__": sub,
    "__rsub__": lambda a, b: sub(b, a),
    "__mul__": mul,
    "__rmul__": lambda a, b: mul(b, a),
    "__truediv__": true_divide,
    "__rtruediv__": lambda a, b: true_divide(b, a),
    "__pow__": pow,
    "__rpow__": lambda a, b: pow(b, a),
    "__neg__": neg,
    "__abs__": abs,
}
