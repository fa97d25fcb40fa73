"""The derivative of a formula by one of its inputs, operation by operation."""

from __future__ import annotations

import math
from collections.abc import Callable

from fastnn.errors import ArgumentError

from .expressions import Expression, make, number, where

__all__ = ["derivative"]

_ZERO, _ONE = number(0), number(1)
Slope = Callable[..., Expression]


def _square(x: Expression) -> Expression:
    return make("mul", x, x)


def _over_root(x: Expression) -> Expression:
    return make("div", 1, make("sqrt", x))


def _sign(x: Expression) -> Expression:
    return where(make("gt", x, 0), 1, where(make("lt", x, 0), -1, x))


def _raised(a: Expression, b: Expression) -> Expression:
    """a ** b by a; 0 where b is."""
    return where(make("eq", b, 0), 0, make("mul", b, make("pow", a, make("sub", b, 1))))


# Of a function's value y and its arguments, by each argument.
_SLOPES: dict[str, tuple[Slope, ...]] = {
    "add": (lambda y, a, b: _ONE, lambda y, a, b: _ONE),
    "sub": (lambda y, a, b: _ONE, lambda y, a, b: number(-1)),
    "mul": (lambda y, a, b: b, lambda y, a, b: a),
    "div": (lambda y, a, b: make("div", 1, b), lambda y, a, b: make("neg", make("div", y, b))),
    "neg": (lambda y, x: number(-1),),
    "abs": (lambda y, x: _sign(x),),
    "exp": (lambda y, x: y,),
    "log": (lambda y, x: make("div", 1, x),),
    "log1p": (lambda y, x: make("div", 1, make("add", x, 1)),),
    "expm1": (lambda y, x: make("exp", x),),
    "sqrt": (lambda y, x: make("div", 0.5, y),),
    "sin": (lambda y, x: make("cos", x),),
    "cos": (lambda y, x: make("neg", make("sin", x)),),
    "tan": (lambda y, x: make("add", _square(y), 1),),
    "sinh": (lambda y, x: make("cosh", x),),
    "cosh": (lambda y, x: make("sinh", x),),
    "tanh": (lambda y, x: make("sub", 1, _square(y)),),
    "asin": (lambda y, x: _over_root(make("sub", 1, _square(x))),),
    "acos": (lambda y, x: make("neg", _over_root(make("sub", 1, _square(x)))),),
    "atan": (lambda y, x: make("div", 1, make("add", _square(x), 1)),),
    "asinh": (lambda y, x: _over_root(make("add", _square(x), 1)),),
    "acosh": (lambda y, x: _over_root(make("sub", _square(x), 1)),),
    "atanh": (lambda y, x: make("div", 1, make("sub", 1, _square(x))),),
    "erf": (lambda y, x: make("mul", make("exp", make("neg", _square(x))), 2 / math.sqrt(math.pi)),),
    "erfc": (lambda y, x: make("mul", make("exp", make("neg", _square(x))), -2 / math.sqrt(math.pi)),),
    "floor": (lambda y, x: _ZERO,),
    "ceil": (lambda y, x: _ZERO,),
    "trunc": (lambda y, x: _ZERO,),
    "pow": (lambda y, a, b: _raised(a, b), lambda y, a, b: where(make("eq", a, 0), 0, make("mul", y, make("log", a)))),
    "atan2": (
        lambda y, a, b: make("div", b, make("add", _square(a), _square(b))),
        lambda y, a, b: make("neg", make("div", a, make("add", _square(a), _square(b)))),
    ),
    "hypot": (lambda y, a, b: make("div", a, y), lambda y, a, b: make("div", b, y)),
    "copysign": (lambda y, a, b: make("mul", make("copysign", 1, a), make("copysign", 1, b)), lambda y, a, b: _ZERO),
    "fmod": (lambda y, a, b: _ONE, lambda y, a, b: make("neg", make("trunc", make("div", a, b)))),
    "softplus": (lambda y, x: Expression.of("sigmoid", x),),
    "sigmoid": (lambda y, x: make("mul", y, make("sub", 1, y)),),
    "tanh_softplus": (lambda y, x: make("mul", make("sub", 1, _square(y)), Expression.of("sigmoid", x)),),
}


def derivative(formula: Expression, by: int) -> Expression:
    """The formula's derivative by the input of that number. ArgumentError for what has none."""
    return _derived(formula, Expression.of("input", by), {})


def _derived(y: Expression, by: Expression, known: dict[Expression, Expression]) -> Expression:
    if y is by:
        return _ONE
    if y.op in ("input", "number"):
        return _ZERO
    if y not in known:
        known[y] = _chain(y, by, known)
    return known[y]


def _chain(y: Expression, by: Expression, known: dict[Expression, Expression]) -> Expression:
    if y.op == "where":
        condition, a, b = y.args
        return where(condition, _derived(a, by, known), _derived(b, by, known))
    if y.op not in _SLOPES:
        raise ArgumentError(f"elementwise: {y.op} has no derivative here: give derivative=")
    total = _ZERO
    for argument, slope in zip(y.args, _SLOPES[y.op], strict=True):
        inner = _derived(argument, by, known)
        outer = _ZERO if inner is _ZERO else slope(y, *y.args)
        if inner is not _ZERO and outer is not _ZERO:
            total = make("add", total, make("mul", outer, inner)) if total is not _ZERO else make("mul", outer, inner)
    return total
