"""A walk over a formula: how it is written in other languages, operands first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .expressions import Expression

__all__ = ["folded"]


def folded(formula: Expression, visit: Callable[[Expression, list[Any]], Any]) -> Any:
    """What `visit` gives for the formula, from an expression and what it gave for its operands.

    It is called once for each expression, however often that occurs; inputs and numbers have no operands.

    >>> from fastnn.own.expressions import formula_of
    >>> square_plus = formula_of(lambda x: x * x + 1, 1)[0]
    >>> folded(square_plus, lambda x, operands: f"{x.op}({', '.join(operands)})")
    'add(mul(input(), input()), number())'
    """
    done: dict[Expression, Any] = {}

    def result(x: Expression) -> Any:
        if x not in done:
            done[x] = visit(x, [] if x.op in ("input", "number") else [result(operand) for operand in x.args])
        return done[x]

    return result(formula)
