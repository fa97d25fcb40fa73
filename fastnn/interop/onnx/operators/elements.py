"""Arithmetic, comparisons and functions of single entries."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from fastnn.errors import DTypeError
from fastnn.interop.onnx.operators.registry import OPERATORS, Call, axis_of, known, op, reads, tensor
from fastnn.tensors import Tensor

_SAME = {  # ONNX's name -> fastnn's, of one input and no attribute
    "Abs": "abs", "Acos": "acos", "Acosh": "acosh", "Asin": "asin", "Asinh": "asinh", "Atan": "atan",
    "Atanh": "atanh", "Ceil": "ceil", "Cos": "cos", "Cosh": "cosh", "Erf": "erf", "Exp": "exp", "Floor": "floor",
    "HardSwish": "hardswish", "IsNaN": "isnan", "Log": "log", "Mish": "mish", "Neg": "neg", "Not": "logical_not",
    "Reciprocal": "reciprocal", "Relu": "relu", "Round": "round", "Sigmoid": "sigmoid", "Sign": "sign", "Sin": "sin",
    "Sinh": "sinh", "Softplus": "softplus", "Softsign": "softsign", "Sqrt": "sqrt", "Tan": "tan", "Tanh": "tanh",
}  # fmt: skip
_OF_TWO = {
    "Sub": "sub", "Equal": "eq", "Greater": "gt", "GreaterOrEqual": "ge", "Less": "lt", "LessOrEqual": "le",
    "And": "logical_and", "Or": "logical_or", "Xor": "logical_xor", "BitwiseAnd": "bitwise_and",
    "BitwiseOr": "bitwise_or", "BitwiseXor": "bitwise_xor",
}  # fmt: skip
_OF_MANY = {"Add": "add", "Mul": "mul", "Max": "maximum", "Min": "minimum", "Sum": "add", "Mean": "add"}


def _one(name: str, call: Call, x: Any) -> Tensor:
    x = tensor(x)
    y: Tensor = op(name)(x)
    return y if y.dtype == x.dtype or y.dtype.kind == "b" else y.astype(x.dtype)


def _two(name: str, call: Call, a: Any, b: Any) -> Tensor:
    return op(name)(*_aligned(call, a, b))


def _aligned(call: Call, a: Any, b: Any) -> tuple[Any, Any]:
    """Both, one of them a tensor; before version 7 an attribute may say where b's dimensions lie among those of a."""
    axis = call.get("axis")
    if call.version < 7 and call.get("broadcast", 0) and axis is not None:
        b = b.reshape((*b.shape, *[1] * (len(a.shape) - axis_of(axis, len(a.shape)) - len(b.shape))))
    return a if isinstance(a, Tensor) or isinstance(b, Tensor) else tensor(a), b


def _many(name: str, call: Call, *inputs: Any) -> Tensor:
    given = _aligned(call, *inputs) if len(inputs) == 2 else (tensor(inputs[0]), *inputs[1:])
    total: Any = functools.reduce(op(name), given)
    if call.operator == "Mean":
        total = total / len(inputs)
    return tensor(total)


OPERATORS.update({name: functools.partial(_one, own) for name, own in _SAME.items()})
OPERATORS.update({name: functools.partial(_two, own) for name, own in _OF_TWO.items()})
OPERATORS.update({name: functools.partial(_many, own) for name, own in _OF_MANY.items()})


@reads("Div")
def div(call: Call, a: Any, b: Any) -> Tensor:
    """a / b, of integers rounded towards zero."""
    a, b = _aligned(call, a, b)
    whole = tensor(a).dtype.kind in "iu" and tensor(b).dtype.kind in "iu"
    if not whole:
        return op("true_divide")(a, b)
    a, b = tensor(a), tensor(b)
    y: Tensor = op("floor_divide")(a.abs(), b.abs()) if a.dtype.kind == "i" else op("floor_divide")(a, b)
    return y * a.sign() * b.sign() if a.dtype.kind == "i" else y


@reads("Mod")
def mod(call: Call, a: Any, b: Any) -> Tensor:
    """The rest with the divisor's sign, with `fmod` the dividend's."""
    return op("fmod" if call.get("fmod", 0) else "remainder")(tensor(a), b)


@reads("Pow")
def pow(call: Call, a: Any, b: Any) -> Any:
    """a ** b in the type of a."""
    kind = a.dtype
    if kind.kind != "f":
        return (tensor(a).double() ** b).astype(kind)
    if not isinstance(b, Tensor) and b.size == 1:  # a number, for which powers have kernels of their own
        exponent = float(b.reshape(-1)[0])
        if exponent == 2:
            a = tensor(a)
            return a * a
    a, b = _aligned(call, a, b)
    return tensor(a**b).astype(kind)


@reads("BitShift")
def bit_shift(call: Call, a: Any, b: Any) -> Any:
    """Integers shifted, in the direction of the attribute; only of values that are known."""
    shift = np.left_shift if call.get("direction", "") == "LEFT" else np.right_shift
    return Tensor(shift(known(a), known(b)))


@reads("BitwiseNot")
def bitwise_not(call: Call, x: Any) -> Any:
    """All bits turned, by subtraction from the one that has them all."""
    x = tensor(x)
    return Tensor(np.array(np.iinfo(x.dtype).max if x.dtype.kind == "u" else -1, x.dtype)) - x


@reads("Clip")
def clip(call: Call, x: Any, low: Any = None, high: Any = None) -> Any:
    """x between two numbers, either of which may be absent."""
    low, high = (call.get(name) if value is None else value for name, value in (("min", low), ("max", high)))
    x = tensor(x)
    if isinstance(low, Tensor) or isinstance(high, Tensor):  # computed from the input: no numbers for a plan
        x = x if low is None else op("maximum")(x, tensor(low).reshape(()))
        return x if high is None else op("minimum")(x, tensor(high).reshape(()))
    numbers = [None if end is None else known(end).reshape(-1)[0].item() for end in (low, high)]
    if numbers == [0, 6] and x.dtype.kind == "f":
        return op("relu6")(x)
    if numbers[0] is not None and numbers[1] is not None and numbers[0] > numbers[1]:
        numbers[0] = numbers[1]
    return x.clamp(*numbers).astype(x.dtype) if numbers != [None, None] else x


DTYPES = {
    1: np.float32, 2: np.uint8, 3: np.int8, 4: np.uint16, 5: np.int16, 6: np.int32, 7: np.int64, 9: np.bool_,
    10: np.float32, 11: np.float64, 12: np.uint32, 13: np.uint64, 16: np.float32,
}  # fmt: skip  # TensorProto.DataType -> NumPy's; 16-bit floats are computed in float32


@reads("Cast")
def cast(call: Call, x: Any) -> Any:
    """x in another type."""
    to = call.get("to", 1)
    if to not in DTYPES:
        raise DTypeError(f"expected a cast to floats, integers or booleans, got ONNX's type {to}")
    return x.astype(DTYPES[to])


@reads("CastLike")
def cast_like(call: Call, x: Any, like: Any) -> Any:
    """x in the type of another tensor."""
    return tensor(x).astype(like.dtype)


@reads("Where")
def where(call: Call, condition: Any, a: Any, b: Any) -> Any:
    """a where the condition holds, b elsewhere."""
    return op("where")(condition, a, b)


@reads("IsInf")
def is_inf(call: Call, x: Any) -> Any:
    """Whether entries are infinite, of the signs that the attributes name."""
    x = tensor(x)
    up, down = call.get("detect_positive", 1), call.get("detect_negative", 1)
    if not (up and down):
        return x == (np.inf if up else -np.inf) if up or down else x != x
    return op("isinf")(x)


# ---- activations -----------------------------------------------------------------------------------------------------


@reads("LeakyRelu")
def leaky_relu(call: Call, x: Any) -> Any:
    """x, below zero alpha · x."""
    return op("leaky_relu")(x, call.get("alpha", 0.01))


@reads("PRelu")
def prelu(call: Call, x: Any, slope: Any) -> Any:
    """x, below zero slope · x, whose slope broadcasts."""
    x, slope = tensor(x), tensor(slope)
    if call.version < 7 and slope.ndim == 1 < x.ndim:
        slope = slope.reshape(-1, *[1] * (x.ndim - 2))
    channels = x.shape[1:2] + (1,) * (x.ndim - 2)
    if slope.numel() == 1 or (x.ndim > 1 and slope.shape[1 - x.ndim :] == channels and slope.numel() == x.shape[1]):
        return op("prelu")(x, slope.reshape(-1))
    return x.relu() - slope * (-x).relu()


@reads("Elu")
def elu(call: Call, x: Any) -> Any:
    """x, below zero alpha · (exp(x) - 1)."""
    return op("elu")(x, call.get("alpha", 1.0))


@reads("Celu")
def celu(call: Call, x: Any) -> Any:
    """x, below zero alpha · (exp(x / alpha) - 1)."""
    return op("celu")(x, call.get("alpha", 1.0))


@reads("Selu")
def selu(call: Call, x: Any) -> Any:
    """gamma times elu."""
    alpha, gamma = call.get("alpha", 1.6732632423543772), call.get("gamma", 1.0507009873554805)
    if (round(alpha, 5), round(gamma, 5)) == (1.67326, 1.0507):
        return op("selu")(x)
    return op("elu")(x, alpha) * gamma


@reads("HardSigmoid")
def hard_sigmoid(call: Call, x: Any) -> Any:
    """alpha · x + beta between 0 and 1."""
    alpha, beta = call.get("alpha", 0.2), call.get("beta", 0.5)
    if round(alpha, 5) == 0.16667 and beta == 0.5:
        return op("hardsigmoid")(x)
    return (tensor(x) * alpha + beta).clamp(0, 1)


@reads("ThresholdedRelu")
def thresholded_relu(call: Call, x: Any) -> Any:
    """x above alpha, else 0."""
    return op("threshold")(x, call.get("alpha", 1.0), 0.0)


@reads("Shrink")
def shrink(call: Call, x: Any) -> Tensor:
    """x moved towards zero by bias, 0 between -lambd and lambd."""
    bias, limit = call.get("bias", 0.0), call.get("lambd", 0.5)
    x = tensor(x)
    kind = x.dtype
    x = x if kind.kind == "f" else x.float()
    pick = op("where")
    return pick(x < -limit, x + bias, pick(x > limit, x - bias, x * 0)).astype(kind)


@reads("Gelu")
def gelu(call: Call, x: Any) -> Any:
    """x · Φ(x), or its approximation by tanh."""
    return op("gelu")(x, call.get("approximate", "none"))


@reads("Swish")
def swish(call: Call, x: Any) -> Any:
    """x · sigmoid(alpha · x)."""
    alpha, x = call.get("alpha", 1.0), tensor(x)
    return op("silu")(x) if alpha == 1 else x * (x * alpha).sigmoid()


@reads("SwiGLU")
def swiglu(call: Call, x: Any, gate: Any) -> Any:
    """swish(x) · gate."""
    return swish(call, x) * gate


@reads("Softmax", "LogSoftmax", "Hardmax")
def softmax(call: Call, x: Any) -> Any:
    """Along one dimension; before version 13 over all dimensions from `axis` on, as one."""
    x = tensor(x)
    old = call.version < 13
    axis = call.get("axis", 1 if old else -1)
    shape = x.shape
    if old:
        axis = axis % max(x.ndim, 1)
        if axis != x.ndim - 1:
            x = x.reshape(int(np.prod(shape[:axis])), -1)
        axis = -1
    if call.operator == "Hardmax":
        places = x.argmax(axis, keepdim=True)
        count = Tensor(np.arange(x.shape[axis]).reshape(-1, *[1] * (x.ndim - 1 - axis % x.ndim)))
        y = (places == count).astype(x.dtype)
    else:
        y = op("softmax" if call.operator == "Softmax" else "log_softmax")(x, axis)
    return y if y.shape == shape else y.reshape(shape)


@reads("Dropout")
def dropout(call: Call, x: Any, ratio: Any = None, training: Any = None) -> Any:
    """Some entries 0 in training mode; x itself otherwise."""
    share = call.get("ratio", 0.5) if ratio is None else known(ratio).reshape(-1)[0].item()
    x = tensor(x)
    y = op("dropout")(x, share, True) if call.training and share else x
    return (y, Tensor(np.ones(x.shape, bool))) if call.outputs > 1 else y


@reads("Identity")
def identity(call: Call, x: Any) -> Any:
    """x itself."""
    return x


# ---- whole numbers for floats ----------------------------------------------------------------------------------------


def _by_axis(call: Call, x: Tensor, value: Any) -> Any:
    """A scale or zero point that belongs to the entries along `axis`, or to blocks of them."""
    if value is None or value.ndim == 0 or value.shape == (1,):
        return value
    axis = call.get("axis", 1) % max(x.ndim, 1)
    if value.ndim == 1:
        return value.reshape(-1, *[1] * (x.ndim - 1 - axis))
    size = x.shape[axis]
    return np.repeat(known(value), size // value.shape[axis], axis)


@reads("DequantizeLinear")
def dequantize(call: Call, x: Any, scale: Any, zero: Any = None) -> Any:
    """(x - zero) · scale."""
    x = tensor(x)
    y = x.astype(scale.dtype)
    if zero is not None:
        y = y - tensor(_by_axis(call, x, zero)).astype(scale.dtype)
    return y * _by_axis(call, x, scale)


@reads("QuantizeLinear")
def quantize(call: Call, x: Any, scale: Any, zero: Any = None) -> Any:
    """x / scale + zero, rounded and kept within the type of zero."""
    x = tensor(x)
    kind = np.dtype(np.uint8) if zero is None else zero.dtype
    if kind.kind not in "iu" or call.get("output_dtype", 0) not in (0, 2, 3, 4, 5, 6):
        raise call.refuse("types other than integers")
    kind = np.dtype(DTYPES[call.get("output_dtype", 0)]) if call.get("output_dtype", 0) else kind
    limits = np.iinfo(kind)
    y = (x / _by_axis(call, x, scale)).round()
    if zero is not None:
        y = y + tensor(_by_axis(call, x, zero)).astype(x.dtype)
    return y.clamp(limits.min, limits.max).astype(kind)
