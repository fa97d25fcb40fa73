"""How each operator is written as nodes of ONNX: arithmetic, layers, reductions. What moves entries: places_out.py."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.interop.onnx.batch import Affine, Step
from fastnn.interop.onnx.writer import Inexpressible, Writer
from fastnn.ops import (
    activations,
    arithmetic,
    conv,
    dense,
    draws,
    elementwise,
    joining,
    lookup,
    norms,
    pool,
    recurrent,
    reductions,
    resizing,
    sample_norm,
    shaping,
)  # fmt: skip
from fastnn.plan.trace import Detach
from fastnn.tensors import Cast, Function, Round

__all__ = ["FORMS", "Form", "form", "is_random"]

Form = Callable[..., str]  # of the writer, the step, its inputs' names (numbers as they are), and its attributes
FORMS: dict[type[Function], Form] = {}


def form(*functions: type[Function]) -> Callable[[Form], Form]:
    """Decorator: these Functions are written so."""

    def enter(written: Form) -> Form:
        FORMS.update(dict.fromkeys(functions, written))
        return written

    return enter


def is_random(function: type[Function]) -> bool:
    """Whether it draws numbers, so that it is not computed beforehand."""
    return function.__module__ == draws.__name__ or function is activations.Dropout


# ---- entry by entry --------------------------------------------------------------------------------------------------


def _of_wide(to: Writer, op: Step, kind: str, *inputs: str, **attributes: Any) -> str:
    """The node; of narrow integers and booleans through int64, for runtimes compute in few types."""
    dtype = op.output.dtype
    if dtype.kind == "f" or dtype in (np.int32, np.int64):
        return str(to(kind, *inputs, **attributes))
    return to.cast(to(kind, *(to.cast(x, np.int64) for x in inputs), **attributes), dtype)


_SAME = {  # by the names of ONNX
    arithmetic.Add: "Add", arithmetic.Sub: "Sub", arithmetic.Mul: "Mul", arithmetic.Div: "Div", arithmetic.Pow: "Pow",
    arithmetic.Neg: "Neg", arithmetic.Abs: "Abs", arithmetic.Exp: "Exp", arithmetic.Log: "Log",
    arithmetic.Sqrt: "Sqrt", shaping.Deviation: "Sqrt", activations.ReLU: "Relu", activations.Sigmoid: "Sigmoid",
    activations.Tanh: "Tanh", activations.Hardswish: "HardSwish", activations.Softplus: "Softplus",
    activations.Mish: "Mish", dense.MatMul: "MatMul", dense.StackedMatMul: "MatMul", pool.GlobalAvgPool2d:
    "GlobalAveragePool", joining.Where: "Where",
}  # fmt: skip


@form(*_SAME)
def _same(to: Writer, op: Step, *inputs: str) -> str:
    kind = _SAME[op.function]
    return str(to(kind, *inputs)) if kind == "Where" else _of_wide(to, op, kind, *inputs)


@form(arithmetic.Clamp)
def _clamp(to: Writer, op: Step, x: str, *, min: float | None, max: float | None) -> str:
    bounds = ("" if bound is None else to.constant(bound, op.output.dtype) for bound in (min, max))
    return str(to("Clip", x, *bounds))


_COMPARED = {
    "equal": "Equal", "not_equal": "Equal", "less": "Less", "less_equal": "LessOrEqual", "greater": "Greater",
    "greater_equal": "GreaterOrEqual",
}  # fmt: skip


@form(arithmetic.Compare)
def _compare(to: Writer, op: Step, a: Any, b: Any, *, ufunc: np.ufunc) -> str:
    name = ufunc.__name__
    types = [getattr(x, "dtype", None) for x in op.inputs]
    common = np.result_type(*(x if kind is None else kind for x, kind in zip(op.inputs, types, strict=True)))
    if name.startswith("logical"):
        common = np.dtype(np.bool_)
    elif common == np.bool_ and name.startswith(("less", "greater")):
        common = np.dtype(np.int64)
    a, b = (
        to.constant(x, common) if kind is None else x if kind == common else to.cast(x, common)
        for x, kind in zip((a, b), types, strict=True)
    )
    if name in _COMPARED:
        y = to(_COMPARED[name], a, b)
        return str(to("Not", y) if name == "not_equal" else y)
    word = name.rpartition("_")[2].capitalize()
    return str(to(word if common == np.bool_ else f"Bitwise{word}", a, b))


@form(activations.LeakyReLU)
def _leaky_relu(to: Writer, op: Step, x: str, *, negative_slope: float) -> str:
    return str(to("LeakyRelu", x, alpha=negative_slope))


@form(activations.ELU)
def _elu(to: Writer, op: Step, x: str, *, alpha: float) -> str:
    return str(to("Elu", x, alpha=alpha))


@form(activations.GELU)
def _gelu(to: Writer, op: Step, x: str) -> str:
    one, half, root = (to.constant(number, op.output.dtype) for number in (1, 0.5, math.sqrt(2)))
    return str(to("Mul", to("Mul", x, to("Add", to("Erf", to("Div", x, root)), one)), half))


@form(activations.SiLU)
def _silu(to: Writer, op: Step, x: str) -> str:
    return str(to("Mul", x, to("Sigmoid", x)))


@form(activations.ReLU6)
def _relu6(to: Writer, op: Step, x: str) -> str:
    return str(to("Clip", x, *(to.constant(bound, op.output.dtype) for bound in (0, 6))))


@form(activations.Softmax, activations.LogSoftmax)
def _softmax(to: Writer, op: Step, x: str) -> str:
    return str(to(op.function.__name__, x, axis=-1))


@form(activations.Dropout)
def _dropout(to: Writer, op: Step, x: str, *, p: float) -> str:
    if p == 1:
        return str(to("Mul", x, to.constant(0, op.output.dtype)))
    return str(to("Dropout", x, to.constant(p, np.float32), to.constant(True)))


_KINDS = {  # ONNX's names of NumPy's functions
    "absolute": "Abs", "add": "Add", "arccos": "Acos", "arccosh": "Acosh", "arcsin": "Asin", "arcsinh": "Asinh",
    "arctan": "Atan", "arctanh": "Atanh", "ceil": "Ceil", "cos": "Cos", "cosh": "Cosh", "divide": "Div", "exp": "Exp",
    "floor": "Floor", "log": "Log", "maximum": "Max", "minimum": "Min", "multiply": "Mul", "negative": "Neg",
    "power": "Pow", "rint": "Round", "sin": "Sin", "sinh": "Sinh", "sqrt": "Sqrt", "subtract": "Sub", "tan": "Tan",
    "tanh": "Tanh",
}  # fmt: skip
_COMPOSED: dict[str, Callable[..., Any]] = {  # of those that ONNX does not have
    "exp2": lambda x: 2.0**x,
    "expm1": lambda x: 2 * np.sinh(x / 2) * np.exp(x / 2),  # exact for small x
    "log1p": lambda x: (abs(x) < 0.3).choose(2 * np.arctanh(x / (x + 2)), np.log(x + 1)),
    "log2": lambda x: np.log(x) * (1 / math.log(2)),
    "log10": lambda x: np.log(x) * (1 / math.log(10)),
    "trunc": lambda x: (x < 0).choose(np.ceil(x), np.floor(x)),
    "arctan2": lambda a, b: _angle(a, b),
    "remainder": lambda a, b: _rest(a, b),
}


def _angle(a: Any, b: Any) -> Any:
    """Of the point (b, a): the angle with the nearer axis, from where that axis is."""
    flat = abs(a) <= abs(b)
    turn = (a < 0).choose(-math.pi, math.pi)
    small = np.arctan((abs(b) > 0).choose(a / b, a)) + (b < 0).choose(turn, a * 0)
    return flat.choose(small, turn * 0.5 - np.arctan(b / a))


def _rest(a: Any, b: Any) -> Any:
    rest = np.fmod(a, b)
    return (rest * b < 0).choose(rest + b, rest)


class _Taken(np.lib.mixins.NDArrayOperatorsMixin):
    """An array of the graph that takes NumPy's functions down as nodes: what formulas of elementwise.py are given."""

    def __init__(self, to: Writer, op: Step, name: str) -> None:
        self.to, self.op, self.name = to, op, name

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **_: Any) -> Any:
        kind = ufunc.__name__
        if kind in _COMPOSED:
            return _COMPOSED[kind](*inputs)
        names = [x.name if isinstance(x, _Taken) else self.to.constant(x, self.op.output.dtype) for x in inputs]
        if kind == "fmod":
            return self._made("Mod", *names, fmod=1)
        if kind in _COMPARED:
            return _Taken(self.to, self.op, str(self.to(_COMPARED[kind], *names)))
        return self._made(_KINDS[kind], *names)

    def _made(self, kind: str, *names: str, **attributes: Any) -> _Taken:
        return _Taken(self.to, self.op, _of_wide(self.to, self.op, kind, *names, **attributes))

    def choose(self, a: Any, b: Any) -> _Taken:
        """a where self holds, b elsewhere."""
        names = [x.name if isinstance(x, _Taken) else self.to.constant(x, self.op.output.dtype) for x in (a, b)]
        return _Taken(self.to, self.op, str(self.to("Where", self.name, *names)))

    def erf(self) -> _Taken:
        return self._made("Erf", self.name)

    def sign(self) -> _Taken:
        return self._made("Sign", self.name)


@form(*elementwise.FORMULAS)
def _elementwise(to: Writer, op: Step, *inputs: str) -> str:
    return str(elementwise.FORMULAS[op.function](*(_Taken(to, op, name) for name in inputs)).name)


# ---- types -----------------------------------------------------------------------------------------------------------


@form(Cast, Round)
def _cast(to: Writer, op: Step, x: str, *, dtype: Any) -> str:
    return to.cast(x, dtype)


@form(Detach)
def _detach(to: Writer, op: Step, x: str) -> str:
    return x


# ---- layers ----------------------------------------------------------------------------------------------------------


def _window(op: Step, value: tuple[int, int]) -> tuple[int, ...]:
    """Of images both numbers, of sequences the second."""
    return tuple(value[4 - len(op.inputs[0].shape) :])


@form(conv.Conv2d, conv.ConvTranspose2d)
def _conv(to: Writer, op: Step, x: str, weight: str, bias: str | None, *, groups: int, **windows: Any) -> str:
    pads, strides, dilations, *more = (
        _window(op, windows[name]) for name in ("padding", "stride", "dilation", "output_padding") if name in windows
    )
    kind = "ConvTranspose" if more else "Conv"
    options: dict[str, Any] = {"output_padding": more[0]} if more else {}
    shape: dict[str, Any] = {
        "kernel_shape": op.inputs[1].shape[2:],
        "strides": strides,
        "pads": pads * 2,
        "dilations": dilations,
    }
    return str(to(kind, x, weight, bias or "", group=groups, **shape, **options))


@form(pool.MaxPool2d, pool.AvgPool2d)
def _pool(to: Writer, op: Step, x: str, *, kernel_size: Any, stride: Any, padding: Any, **options: Any) -> str:
    kind = "MaxPool" if op.function is pool.MaxPool2d else "AveragePool"
    shape: dict[str, Any] = {
        "kernel_shape": _window(op, kernel_size),
        "strides": _window(op, stride),
        "pads": _window(op, padding) * 2,
    }
    return str(to(kind, x, **shape, **{name: int(value) for name, value in options.items()}))


@form(dense.Linear)
def _linear(to: Writer, op: Step, x: str, weight: str, bias: str | None) -> str:
    return str(to("Gemm", x, weight, bias or "", transB=1))


@form(lookup.Embedding)
def _embedding(to: Writer, op: Step, weight: str, index: str, *, padding_idx: int) -> str:
    return str(to("Gather", weight, index, axis=0))


@form(norms.Normalize)
def _normalize(to: Writer, op: Step, x: str, *_: str) -> str:
    _, *statistics = op.inputs
    if op.inputs[0].dtype != op.output.dtype:
        x = to.cast(x, op.output.dtype)
    if op.inputs[0].dtype.kind in "iu":
        x = to("Div", x, to.constant(255, op.output.dtype))
    mean, std = (_for_channels(to, op, statistic) for statistic in statistics)
    return str(to("Div", to("Sub", x, mean), std))


def _for_channels(to: Writer, op: Step, values: Any) -> str:
    """(C,) as (C, 1, ...), which broadcasts to (N, C, ...)."""
    shape = (-1, *(1,) * (len(op.output.shape) - 2))
    return to.derived(values, "channels", lambda a: a.reshape(shape)) or to.reshaped(to.name_of(values), shape)


@form(norms.BatchNorm)
def _batch_norm(
    to: Writer, op: Step, x: str, mean: str, var: str, weight: str | None, bias: str | None, *, eps: float
) -> str:
    _, dtype = sizes = op.inputs[1].shape, op.inputs[1].dtype
    weight, bias = (
        to.constant(np.full(sizes[0], number, dtype)) if given is None else given
        for given, number in ((weight, 1), (bias, 0))
    )
    return str(to("BatchNormalization", x, weight, bias, mean, var, epsilon=eps))


def _standardised(to: Writer, dtype: Any, x: str, axes: tuple[int, ...], eps: float, centred: bool) -> str:
    """(x - mean) / sqrt(var + eps) over these dimensions, or x / sqrt(mean(x²) + eps)."""
    over = to.constant(np.array(axes, np.int64))
    x = to("Sub", x, to("ReduceMean", x, over)) if centred else x
    var = to("ReduceMean", to("Mul", x, x), over)
    return str(to("Div", x, to("Sqrt", to("Add", var, to.constant(eps, dtype)))))


@form(norms.BatchNormTraining)
def _batch_norm_training(
    to: Writer, op: Step, x: str, weight: str | None, bias: str | None, *, eps: float, running: Any
) -> str:
    ndim = len(op.output.shape)
    y = _standardised(to, op.output.dtype, x, (0, *range(2, ndim)), eps, True)
    return _scaled(to, op, y, weight, bias)


def _scaled(to: Writer, op: Step, y: str, weight: str | None, bias: str | None) -> str:
    """y (N, C, ...) by the channels' factors, and their summands; inputs 1 and 2 of the step."""
    y = y if weight is None else to("Mul", y, _for_channels(to, op, op.inputs[1]))
    return str(y if bias is None else to("Add", y, _for_channels(to, op, op.inputs[2])))


@form(sample_norm.GroupNorm)
def _group_norm(
    to: Writer,
    op: Step,
    x: str,
    weight: str | None,
    bias: str | None,
    *,
    sizes: tuple[Any, ...],
    groups: int,
    eps: float,
    centred: bool,
) -> str:
    shape, dtype = op.output.shape, op.output.dtype
    if groups > 1 or sizes[2] != 1:
        rows = to.reshaped(x, (sizes[0], groups, sizes[1] // groups * sizes[2]))
        ones, zeros = (to.constant(np.full(groups, number, dtype)) for number in (1, 0))
        y = to.reshaped(to("InstanceNormalization", rows, ones, zeros, epsilon=eps), shape)
        return _scaled(to, op, y, weight, bias)
    first = next(d for d in reversed(range(len(shape))) if _count(shape[d:]) == sizes[1])
    last = shape[first:]
    given = []
    for values in op.inputs[1:]:
        if values is not None:
            name = to.name_of(values)
            wide = to.derived(values, "rows", lambda a: a.reshape(last)) if len(last) > 1 else name
            given.append(wide or to.reshaped(name, last))
    if centred:
        given = given or [to.constant(np.ones(last, dtype))]
        return str(to("LayerNormalization", x, *given, axis=first - len(shape), epsilon=eps))
    y = _standardised(to, dtype, x, tuple(range(first - len(shape), 0)), eps, False)
    return str(to("Mul", y, given[0]) if given else y)


def _count(shape: tuple[Any, ...]) -> int:
    return -1 if any(isinstance(size, Affine) for size in shape) else math.prod(shape)


_ORDER = {recurrent.GRU: (1, 0, 2), recurrent.LSTM: (0, 3, 1, 2)}  # of ONNX's gates among fastnn's


@form(recurrent.Recurrent)
def _recurrent(to: Writer, op: Step, x: str, *rest: str | None, mode: int, reverse: bool) -> str:
    _, w_ih, w_hh, b_ih, b_hh, _, _ = op.inputs
    size = w_hh.shape[1]
    order = _ORDER.get(mode, (0,))
    rows = np.concatenate([np.arange(size) + gate * size for gate in order])

    def gates(*parts: Any) -> str:
        """(1, G·H, ...) in ONNX's order of gates."""
        made = [
            to.derived(part, "gates", lambda a: a[rows][None])
            or to("Unsqueeze", to("Gather", to.name_of(part), to.constant(rows)), to.constant(np.array([0])))
            for part in parts
        ]
        return made[0] if len(made) == 1 else str(to("Concat", *made, axis=1))

    biases = "" if b_ih is None else gates(b_ih, b_hh)
    states = ["" if state is None else to("Unsqueeze", state, to.constant(np.array([0]))) for state in rest[-2:]]
    options: dict[str, Any] = {"hidden_size": size, "direction": "reverse" if reverse else "forward"}
    if mode == recurrent.GRU:
        options["linear_before_reset"] = 1
    elif mode != recurrent.LSTM:
        options["activations"] = ["Tanh" if mode == recurrent.TANH else "Relu"]
    kind = {recurrent.GRU: "GRU", recurrent.LSTM: "LSTM"}.get(mode, "RNN")
    lstm = kind == "LSTM"
    made = to(kind, x, gates(w_ih), gates(w_hh), biases, "", *states[: 1 + lstm], outputs=1 + 2 * lstm, **options)
    y = to("Squeeze", made[0] if lstm else made, to.constant(np.array([1])))
    return str(to("Concat", y, made[2], axis=0) if lstm else y)


@form(resizing.Repeat)
def _repeat(to: Writer, op: Step, x: str, *, repeats: tuple[int, ...]) -> str:
    options: dict[str, Any] = {
        "mode": "nearest",
        "coordinate_transformation_mode": "asymmetric",
        "nearest_mode": "floor",
    }
    return str(to("Resize", x, "", to.constant(np.array(repeats, np.float32)), **options))


# ---- reductions ------------------------------------------------------------------------------------------------------


def _over(to: Writer, dims: tuple[int, ...] | None) -> list[str]:
    return [] if dims is None else [to.constant(np.array(dims, np.int64))]


@form(shaping.Sum)
def _sum(to: Writer, op: Step, x: str, *, dim: tuple[int, ...] | None, keepdim: bool) -> str:
    x = x if op.inputs[0].dtype == op.output.dtype else to.cast(x, op.output.dtype)
    return str(to("ReduceSum", x, *_over(to, dim), keepdims=int(keepdim)))


@form(reductions.Prod)
def _prod(to: Writer, op: Step, x: str, *, dim: int) -> str:
    x = x if op.inputs[0].dtype == op.output.dtype else to.cast(x, op.output.dtype)
    return str(to("ReduceProd", x, *_over(to, (dim,)), keepdims=0))


@form(reductions.Peak)
def _peak(to: Writer, op: Step, x: str, *, dim: tuple[int, ...] | None, keepdim: bool, largest: bool) -> str:
    return str(to("ReduceMax" if largest else "ReduceMin", x, *_over(to, dim), keepdims=int(keepdim)))


@form(reductions.Truth)
def _truth(to: Writer, op: Step, x: str, *, dim: tuple[int, ...] | None, keepdim: bool, every: bool) -> str:
    counted = to.cast(to.cast(x, np.bool_), np.int32)
    return to.cast(to("ReduceMin" if every else "ReduceMax", counted, *_over(to, dim), keepdims=int(keepdim)), np.bool_)


@form(shaping.Extremum, shaping.Place)
def _extremum(to: Writer, op: Step, x: str, *, dim: int | None, keepdim: bool, pick: Any) -> str:
    values = op.function is shaping.Extremum
    if pick in (np.argmax, np.argmin):
        if values:
            kind = "ReduceMax" if pick is np.argmax else "ReduceMin"
            return _of_wide(to, op, kind, x, *_over(to, (dim or 0,)), keepdims=int(keepdim))
        if op.inputs[0].dtype.kind == "b":
            x = to.cast(x, np.int32)
        kind = "ArgMax" if pick is np.argmax else "ArgMin"
        if dim is not None:
            return str(to(kind, x, axis=dim, keepdims=int(keepdim)))
        found = to(kind, to.reshaped(x, (-1,)), axis=0, keepdims=0)
        return to.reshaped(found, op.output.shape) if keepdim else str(found)
    if pick is not reductions._argmedian or dim is None:
        raise Inexpressible(f"it picks by {pick.__name__}")
    size = op.inputs[0].shape[dim]
    if isinstance(size, Affine):
        raise Inexpressible("the middle one depends on the number of samples")
    middle = (size - 1) // 2
    found = to("TopK", x, to.constant(np.array([middle + 1])), axis=dim, largest=0, outputs=2)[0 if values else 1]
    at = np.array([middle]) if keepdim else np.array(middle)
    return str(to("Gather", found, to.constant(at), axis=dim))


# ---- random numbers --------------------------------------------------------------------------------------------------


@form(draws.RandnLike, draws.RandLike)
def _drawn(to: Writer, op: Step, x: str, *, dtype: Any) -> str:
    kind = "RandomNormalLike" if op.function is draws.RandnLike else "RandomUniformLike"
    return str(to(kind, x, dtype=to.type_of(dtype)))


@form(draws.Bernoulli)
def _bernoulli(to: Writer, op: Step, x: str) -> str:
    return str(to("Bernoulli", x))
