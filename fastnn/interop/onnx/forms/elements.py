"""Forms of what is computed entry by entry, of types and of random numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.interop.onnx.batch import Step
from fastnn.interop.onnx.forms.registry import form, of_wide
from fastnn.interop.onnx.writer import Inexpressible, Writer
from fastnn.ops import activations, arithmetic, dense, draws, elementwise, joining, pool, shaping
from fastnn.plan.trace import Detach
from fastnn.tensors import Cast, Round

__all__ = ["Taken"]

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
    return str(to(kind, *inputs)) if kind == "Where" else of_wide(to, op, kind, *inputs)


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
    "floor": "Floor", "log": "Log", "logical_and": "And", "logical_not": "Not", "logical_or": "Or", "maximum": "Max",
    "minimum": "Min", "multiply": "Mul", "negative": "Neg",
    "power": "Pow", "rint": "Round", "sin": "Sin", "sinh": "Sinh", "sqrt": "Sqrt", "subtract": "Sub", "tan": "Tan",
    "tanh": "Tanh",
}  # fmt: skip
_COMPOSED: dict[str, Callable[..., Any]] = {  # of those that ONNX does not have
    "exp2": lambda x: 2.0**x,
    "expm1": lambda x: _less_one(x),
    "log1p": lambda x: (abs(x) < 0.3).choose(2 * np.arctanh(x / (x + 2)), np.log(x + 1)),
    "log2": lambda x: np.log(x) * (1 / math.log(2)),
    "log10": lambda x: np.log(x) * (1 / math.log(10)),
    "trunc": lambda x: (x < 0).choose(np.ceil(x), np.floor(x)),
    "arctan2": lambda a, b: _angle(a, b),
    "remainder": lambda a, b: _rest(a, b),
}


def _less_one(x: Any) -> Any:
    """exp(x) - 1, exact for small x, and -1 where sinh would overflow."""
    half = np.maximum(x, -80) / 2
    return 2 * np.sinh(half) * np.exp(half)


def _angle(a: Any, b: Any) -> Any:
    """Of the point (b, a): the angle with the nearer axis, from where that axis is."""
    flat = abs(a) <= abs(b)
    turn = (a < 0).choose(-math.pi, math.pi)
    small = np.arctan((abs(b) > 0).choose(a / b, a)) + (b < 0).choose(turn, a * 0)
    return flat.choose(small, turn * 0.5 - np.arctan(b / a))


def _rest(a: Any, b: Any) -> Any:
    rest = np.fmod(a, b)
    return (rest * b < 0).choose(rest + b, rest)


class Taken(np.lib.mixins.NDArrayOperatorsMixin):
    """An array of the graph that takes NumPy's functions down as nodes: what formulas of elementwise.py are given."""

    def __init__(self, to: Writer, op: Step, name: str) -> None:
        self.to, self.op, self.name = to, op, name

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **_: Any) -> Any:
        kind = ufunc.__name__
        if kind in _COMPOSED:
            return _COMPOSED[kind](*inputs)
        names = [x.name if isinstance(x, Taken) else self.to.constant(x, self.op.output.dtype) for x in inputs]
        if kind == "fmod":
            return self._made("Mod", *names, fmod=1)
        if kind in _COMPARED:
            return Taken(self.to, self.op, str(self.to(_COMPARED[kind], *names)))
        return self._made(_KINDS[kind], *names)

    def _made(self, kind: str, *names: str, **attributes: Any) -> Taken:
        return Taken(self.to, self.op, of_wide(self.to, self.op, kind, *names, **attributes))

    def choose(self, a: Any, b: Any) -> Taken:
        """a where self holds, b elsewhere."""
        names = [x.name if isinstance(x, Taken) else self.to.constant(x, self.op.output.dtype) for x in (a, b)]
        return Taken(self.to, self.op, str(self.to("Where", self.name, *names)))

    def called(self, kind: str) -> Taken:
        """What the operator of ONNX of that name makes of it."""
        return self._made(kind, self.name)

    def erf(self) -> Taken:
        return self.called("Erf")

    def sign(self) -> Taken:
        return self.called("Sign")

    def i0(self) -> Taken:
        raise Inexpressible("ONNX has no such function")

    i1 = i0


@form(*elementwise.FORMULAS)
def _elementwise(to: Writer, op: Step, *inputs: str) -> str:
    return str(elementwise.FORMULAS[op.function](*(Taken(to, op, name) for name in inputs)).name)


# ---- types -----------------------------------------------------------------------------------------------------------


@form(Cast, Round)
def _cast(to: Writer, op: Step, x: str, *, dtype: Any) -> str:
    return to.cast(x, dtype)


@form(Detach)
def _detach(to: Writer, op: Step, x: str) -> str:
    return x


# ---- random numbers --------------------------------------------------------------------------------------------------


@form(draws.RandnLike, draws.RandLike)
def _drawn(to: Writer, op: Step, x: str, *, dtype: Any) -> str:
    kind = "RandomNormalLike" if op.function is draws.RandnLike else "RandomUniformLike"
    return str(to(kind, x, dtype=to.type_of(dtype)))


@form(draws.Bernoulli)
def _bernoulli(to: Writer, op: Step, x: str) -> str:
    return str(to("Bernoulli", x))
