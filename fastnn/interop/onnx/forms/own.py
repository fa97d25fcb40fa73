"""Forms of operators that `fnn.elementwise` made: their formulas as nodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.interop.onnx.batch import Step
from fastnn.interop.onnx.forms.elements import Taken
from fastnn.interop.onnx.forms.registry import form
from fastnn.interop.onnx.writer import Writer
from fastnn.own.expressions import Expression
from fastnn.own.folding import folded
from fastnn.own.operator import Elementwise, Formula

__all__: list[str] = []


def _hypot(a: Any, b: Any) -> Any:
    """By the ratio of the legs, whose squares might overflow; that of equal ones is 1, of zeros and infinities, too."""
    longer, shorter = np.maximum(abs(a), abs(b)), np.minimum(abs(a), abs(b))
    ratio = np.equal(longer, shorter).choose(1, shorter / longer)
    return longer * np.sqrt(ratio * ratio + 1)


def _copysign(a: Any, b: Any) -> Any:
    """The sign of zero is that of its reciprocal."""
    negative = np.equal(b, 0).choose(1 / b, b) < 0
    return negative.choose(-abs(a), abs(a))


_NODES: dict[str, Callable[..., Any]] = {  # by the names of Expression
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "neg": np.negative, "abs": np.absolute,
    "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal, "eq": np.equal,
    "ne": lambda a, b: np.logical_not(np.equal(a, b)), "and": np.logical_and, "or": np.logical_or,
    "not": np.logical_not, "where": lambda condition, a, b: condition.choose(a, b),
    "exp": np.exp, "log": np.log, "log1p": np.log1p, "expm1": np.expm1, "sqrt": np.sqrt, "sin": np.sin, "cos": np.cos,
    "tan": np.tan, "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh, "asin": np.arcsin, "acos": np.arccos,
    "atan": np.arctan, "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh, "floor": np.floor,
    "ceil": np.ceil, "trunc": np.trunc, "pow": np.power, "atan2": np.arctan2, "fmod": np.fmod, "hypot": _hypot,
    "copysign": _copysign, "erf": lambda x: x.called("Erf"), "erfc": lambda x: 1 - x.called("Erf"),
    "sigmoid": lambda x: x.called("Sigmoid"), "softplus": lambda x: x.called("Softplus"),
    "tanh_softplus": lambda x: np.tanh(x.called("Softplus")),
}  # fmt: skip


@form(Elementwise)
def _own(to: Writer, op: Step, *inputs: str, formula: Formula) -> str:
    used = set()

    def visit(x: Expression, operands: list[Taken]) -> Taken:
        if x.op == "input":
            used.add(x.args[0])
            return Taken(to, op, inputs[x.args[0]])
        if x.op == "number":
            with np.errstate(over="ignore"):
                return Taken(to, op, to.constant(x.args[0], op.output.dtype))
        taken: Taken = _NODES[x.op](*operands)
        return taken

    name = folded(formula.expression, visit).name
    return name if len(used) == len(inputs) else to.expanded(name, (), op.output.shape)
