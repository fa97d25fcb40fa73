"""PyTorch's expression of each of fastnn's operators: what the Functions of fastnn.ops compute, by their names."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.interop.torch.values import torch
from fastnn.ops.keys import Slot
from fastnn.own.expressions import Expression
from fastnn.own.folding import folded
from fastnn.own.operator import Formula

__all__ = ["expressions", "of_lines"]

_LOWER = (
    "Acos Acosh Add Asin Asinh Atan Atan2 Atanh Ceil Cos Cosh Div Erf Exp Exp2 Expm1 Floor Fmod I0 Log Log10 "
    "Log1p Log2 MatMul Maximum Minimum Mul Neg Pow Reciprocal ReLU Remainder Rsqrt Sigmoid Sign Sin Sinh Sqrt Square "
    "Sub Tan Tanh Trunc Where"
)
# Functions of torch, and of its nn.functional, that take the same inputs and no attributes.
_SAME = {name: name.lower() for name in _LOWER.split()} | {
    "Abs": "abs", "Detach": "detach", "Deviation": "sqrt", "Rint": "round", "StackedMatMul": "matmul",
}  # fmt: skip
_SAME_IN_F = {name: name.lower() for name in ("GELU", "Hardswish", "Linear", "Mish", "ReLU6", "SiLU", "Softplus")}
_COMPARISONS = {
    "equal": "eq", "greater": "gt", "greater_equal": "ge", "less": "lt", "less_equal": "le", "not_equal": "ne",
}  # fmt: skip
_MIRRORED = str.maketrans("gl", "lg")  # of lt, le, gt, ge; eq and ne have neither letter
_SORTED = {"_argmedian": "median", "_argnanmedian": "nanmedian", "_argmode": "mode"}
_OF_PYTHON: dict[str, Callable[..., Any]] = {  # operations of a formula that Python has
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": operator.truediv, "neg": operator.neg,
    "lt": operator.lt, "le": operator.le, "gt": operator.gt, "ge": operator.ge, "eq": operator.eq, "ne": operator.ne,
    "and": operator.and_, "or": operator.or_, "not": operator.invert,
}  # fmt: skip


def _turned(part: slice) -> slice:
    """What x[part] for the step -1 gives the other way round: x[5:2:-1] holds x[3:6]."""
    first = None if part.stop is None else part.stop + 1
    last = None if part.start in (None, -1) else part.start + 1
    if part.stop == -1:
        raise LookupError("slices with a negative step that end before the last entry")
    return slice(first, last)


def of_lines(name: str, attributes: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The name and the attributes for (N, C, L) of a Function that takes images (N, C, H, W), too."""
    if name not in ("AvgPool2d", "Conv2d", "ConvTranspose2d", "GlobalAvgPool2d", "MaxPool2d"):
        return name, attributes
    along = {key: value[-1:] if isinstance(value, tuple) else value for key, value in attributes.items()}
    return name.replace("2d", "1d"), along


def expressions() -> dict[str, Callable[..., Any]]:
    """By the name of a Function, what gives its output from its inputs (tensors) and its attributes."""
    library = torch()
    functional = library.nn.functional

    def type_of(dtype: Any) -> Any:
        return getattr(library, np.dtype(dtype).name)

    def group_norm(x: Any, w: Any, b: Any, *, sizes: Any, groups: int, eps: float, centred: bool) -> Any:
        flat = x.reshape(sizes)
        if centred:
            return functional.group_norm(flat, groups, w, b, eps).reshape_as(x)
        grouped = x.reshape((sizes[0], groups, -1))
        flat = (grouped * library.rsqrt(grouped.square().mean(-1, keepdim=True) + eps)).reshape(sizes)
        for operation, given in ((library.mul, w), (library.add, b)):
            flat = flat if given is None else operation(flat, given.reshape((1, -1, 1)))
        return flat.reshape_as(x)

    def reduced(x: Any, dim: Any, keepdim: bool, function: Any) -> Any:
        return function(x) if dim is None and not keepdim else function(x, dim=dim, keepdim=keepdim)

    def place(x: Any, *, dim: Any, keepdim: bool, pick: Any) -> Any:
        if pick in (np.argmax, np.argmin):
            return (library.argmax if pick is np.argmax else library.argmin)(x, dim=dim, keepdim=keepdim)
        return getattr(library, _SORTED[pick.__name__])(x, dim, keepdim).indices

    def extremum(x: Any, *, dim: int, keepdim: bool, pick: Any) -> Any:
        where = place(x, dim=dim, keepdim=True, pick=pick)
        found = library.gather(x, dim, where)
        return found if keepdim else found.squeeze(dim)

    def compare(a: Any, b: Any, *, ufunc: Any) -> Any:
        name = _COMPARISONS.get(ufunc.__name__, ufunc.__name__)
        if isinstance(a, (bool, int, float)):  # PyTorch takes a number on the right alone
            a, b, name = b, a, name.translate(_MIRRORED) if len(name) == 2 else name
        return getattr(library, name)(a, b)

    def truth(x: Any, *, dim: Any, keepdim: bool, every: bool) -> Any:
        return reduced(x, dim, keepdim, library.all if every else library.any)

    def pad(x: Any, *, before: Any, after: Any, value: float) -> Any:
        widths = [width for pair in zip(reversed(before), reversed(after), strict=True) for width in pair]
        return functional.pad(x, widths, value=value)

    def key_of(key: Any, places: Any) -> Any:
        rest = iter(places)
        return tuple(next(rest) if isinstance(part, Slot) else part for part in key)

    def pick(x: Any, *places: Any, key: Any) -> Any:
        return x[key_of(key, places)]

    def put(x: Any, values: Any, *places: Any, key: Any) -> Any:
        found = library.arange(x.numel()).reshape(x.shape)[key_of(key, places)]
        flat = library.scatter(x.reshape(-1), 0, found.reshape(-1), values.expand_as(found).reshape(-1))
        return flat.reshape(x.shape)

    def convolved(name: str) -> Callable[..., Any]:
        def run(x: Any, w: Any, b: Any, *, stride: Any, padding: Any, dilation: Any, groups: int) -> Any:
            return getattr(functional, name)(x, w, b, stride, padding, dilation, groups)

        return run

    def transposed(name: str) -> Callable[..., Any]:
        def run(x: Any, w: Any, b: Any, *, stride: Any, padding: Any, output_padding: Any, **others: Any) -> Any:
            function = getattr(functional, name)
            return function(x, w, b, stride, padding, output_padding, others["groups"], others["dilation"])

        return run

    def pooled(name: str) -> Callable[..., Any]:
        def run(x: Any, *, kernel_size: Any, stride: Any, padding: Any, **others: Any) -> Any:
            return getattr(functional, name)(x, kernel_size, stride, padding, **others)

        return run

    def repeat(x: Any, *, repeats: Any) -> Any:
        for dim, count in enumerate(repeats):
            x = x if count == 1 else library.repeat_interleave(x, count, dim)
        return x

    def index(x: Any, *, index: Any) -> Any:
        parts = index if isinstance(index, tuple) else (index,)
        backwards = [part for part in parts if isinstance(part, slice) and (part.step or 1) < 0]
        if not backwards:
            return x[index]
        if not all(isinstance(part, slice) for part in parts) or any(part.step != -1 for part in backwards):
            raise LookupError("slices with a negative step among others")
        forwards = tuple(_turned(part) if part in backwards else part for part in parts)
        return x[forwards].flip([i for i, part in enumerate(parts) if part in backwards])

    def own(*inputs: Any, formula: Formula) -> Any:
        """A formula of fnn.elementwise."""
        inputs = library.broadcast_tensors(*inputs)

        def visit(x: Expression, operands: list[Any]) -> Any:
            if x.op == "input":
                return inputs[x.args[0]]
            if x.op == "number":  # in float32 it may be infinite
                return library.full_like(inputs[0], x.args[0], dtype=library.float64).type_as(inputs[0])
            if x.op in _OF_PYTHON:
                return _OF_PYTHON[x.op](*operands)
            if x.op.endswith("softplus"):
                smooth = functional.softplus(*operands)
                return smooth if x.op == "softplus" else library.tanh(smooth)
            return getattr(library, x.op)(*operands)

        return folded(formula.expression, visit)

    return {
        **{name: getattr(library, theirs) for name, theirs in _SAME.items()},
        **{name: getattr(functional, theirs) for name, theirs in _SAME_IN_F.items()},
        **{f"Conv{d}d": convolved(f"conv{d}d") for d in (1, 2)},
        **{f"ConvTranspose{d}d": transposed(f"conv_transpose{d}d") for d in (1, 2)},
        **{f"MaxPool{d}d": pooled(f"max_pool{d}d") for d in (1, 2)},
        **{f"AvgPool{d}d": pooled(f"avg_pool{d}d") for d in (1, 2)},
        "BatchNorm": lambda x, mean, var, w, b, *, eps: functional.batch_norm(x, mean, var, w, b, eps=eps),
        "BatchNormTraining": lambda x, w, b, *, eps, running: functional.batch_norm(
            x, None, None, w, b, training=True, eps=eps
        ),
        "Bernoulli": library.bernoulli,
        "Cast": lambda x, *, dtype: x.to(type_of(dtype)),
        "Cat": lambda *parts, dim: library.cat(parts, dim),
        "Clamp": lambda x, *, min, max: library.clamp(x, min, max),
        "Compare": compare,
        "CumProd": lambda x, *, dim: library.cumprod(x, dim),
        "CumSum": lambda x, *, dim: library.cumsum(x, dim),
        "Dropout": lambda x, *, p: functional.dropout(x, p),
        "Elementwise": own,
        "ELU": lambda x, *, alpha: functional.elu(x, alpha),
        "Embedding": lambda w, index, *, padding_idx: functional.embedding(
            index, w, None if padding_idx < 0 else padding_idx
        ),
        "Expand": lambda x, *, shape: x.expand(shape),
        "Extremum": extremum,
        "GlobalAvgPool1d": lambda x: x.mean((2,), keepdim=True),
        "GlobalAvgPool2d": lambda x: x.mean((2, 3), keepdim=True),
        "GroupNorm": group_norm,
        "Index": index,
        "LeakyReLU": lambda x, *, negative_slope: functional.leaky_relu(x, negative_slope),
        "LogCumSumExp": lambda x, *, dim: library.logcumsumexp(x, dim),
        "LogSoftmax": lambda x: functional.log_softmax(x, -1),
        "Middle": lambda x, *, pick: getattr(library, _SORTED[pick.__name__])(x),
        "OneHot": lambda labels, *, classes: functional.one_hot(labels, classes),
        "Order": lambda x, *, dim, descending, count: library.argsort(
            x, dim=dim, descending=descending, stable=True
        ).narrow(dim, 0, count),
        "Pad": pad,
        "Peak": lambda x, *, dim, keepdim, largest: reduced(
            x, dim, keepdim, library.amax if largest else library.amin
        ),
        "Permute": lambda x, *, dims: x.permute(dims),
        "Pick": pick,
        "Place": place,
        "Prod": lambda x, *, dim: library.prod(x, dim),
        "Put": put,
        "RandLike": lambda x, *, dtype: library.rand_like(x, dtype=type_of(dtype)),
        "RandnLike": lambda x, *, dtype: library.randn_like(x, dtype=type_of(dtype)),
        "Repeat": repeat,
        "Reshape": lambda x, *, shape: x.reshape(shape),
        "Round": lambda x, *, dtype: x.to(type_of(dtype)),
        "Softmax": lambda x: functional.softmax(x, -1),
        "Sum": lambda x, *, dim, keepdim: reduced(x, dim, keepdim, library.sum),
        "Truth": truth,
    }  # fmt: skip
