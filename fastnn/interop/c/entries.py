"""What is computed entry by entry: numbers as C has them, and formulas of `fnn.elementwise` as lines of C."""

from __future__ import annotations

import math
import re

import numpy as np

from fastnn.interop.c.kernels import FORMULAS
from fastnn.own.expressions import TRUTHS, Expression
from fastnn.own.folding import folded

__all__ = ["INPUTS", "formula_of", "literal"]

INPUTS = "abcdefghuv"  # letters for as many inputs as a formula may have; i to n, r and s are loops' indices

_NAMES = {
    "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal", "eq": "equal", "ne": "not_equal",
}  # fmt: skip
_OWN = {
    "and": "a && b", "or": "a || b", "not": "!a", "where": "a ? b : c", "hypot": "hypotf(a, b)",
    "copysign": "copysignf(a, b)", "erfc": "erfcf(a)", "tanh_softplus": f"tanhf({FORMULAS['softplus']})",
}  # fmt: skip


def formula_of(expression: Expression) -> tuple[str, list[int]]:
    """Declarations and an expression, divided by "; ", and the numbers of the inputs that its letters stand for.

    >>> from fastnn.own import expressions
    >>> formula_of(expressions.formula_of(lambda x, y: y if x > 0 else 2.0 * x, 2)[0])
    ('const int t0 = a > 0.0f; const float t1 = a * 2.0f; const float t2 = t0 ? b : t1; t2', [0, 1])
    """
    lines: list[str] = []
    used: list[int] = []

    def visit(x: Expression, operands: list[str]) -> str:
        if x.op == "input":
            used.append(x.args[0])
            return INPUTS[len(used) - 1]
        if x.op == "number":
            with np.errstate(over="ignore"):
                return literal(float(np.float32(x.args[0])))
        given = dict(zip("abc", operands, strict=False))
        text = _OWN.get(x.op) or FORMULAS[_NAMES.get(x.op, x.op)]
        lines.append(
            f"const {'int' if x.op in TRUTHS else 'float'} t{len(lines)} = "
            + re.sub(r"\b[abc]\b", lambda found: given[found[0]], text)
        )
        return f"t{len(lines) - 1}"

    result = folded(expression, visit)
    return "; ".join([*lines, result]), used


def literal(value: float) -> str:
    """A float as C has it.

    >>> literal(0.5), literal(-3.0), literal(float("-inf"))
    ('0.5f', '(-3.0f)', '-INFINITY')
    """
    if not math.isfinite(value):
        return "NAN" if math.isnan(value) else "INFINITY" if value > 0 else "-INFINITY"
    text = f"{value:.9g}"
    return text + ("f" if "." in text or "e" in text else ".0f") if value >= 0 else f"(-{literal(-value)})"
