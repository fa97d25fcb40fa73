"""Formulas of scalars, taken down by running a Python function on symbols, once for each way through its branches.

A comparison that Python asks for its truth splits the way: both answers are followed, and what they lead to is joined
by `where`. Equal expressions are one object, so that what a formula and its derivative share is computed once.
"""

from __future__ import annotations

import builtins
import contextlib
import math
import sys
from collections.abc import Callable
from types import FunctionType, ModuleType, SimpleNamespace
from typing import Any, ClassVar
from weakref import WeakValueDictionary

import numpy as np

from fastnn.errors import ArgumentError

__all__ = ["FUNCTIONS", "TRUTHS", "Expression", "formula_of", "make", "number", "where"]

MOST_WAYS = 64
TRUTHS = frozenset({"lt", "le", "gt", "ge", "eq", "ne", "and", "or", "not"})
# By the names of math; how many arguments.
FUNCTIONS = {
    **dict.fromkeys(
        ("exp", "log", "log1p", "expm1", "sqrt", "sin", "cos", "tan", "sinh", "cosh", "tanh", "asin", "acos", "atan",
         "asinh", "acosh", "atanh", "erf", "erfc", "abs", "floor", "ceil", "trunc"), 1,
    ),
    **dict.fromkeys(("pow", "atan2", "hypot", "copysign", "fmod"), 2),
}  # fmt: skip
_NUMPY = {
    "absolute": "abs", "fabs": "abs", "arcsin": "asin", "arccos": "acos", "arctan": "atan", "arcsinh": "asinh",
    "arccosh": "acosh", "arctanh": "atanh", "arctan2": "atan2", "power": "pow", "float_power": "pow", "add": "add",
    "subtract": "sub", "multiply": "mul", "divide": "div", "negative": "neg", "less": "lt", "less_equal": "le",
    "greater": "gt", "greater_equal": "ge", "equal": "eq", "not_equal": "ne", "logical_and": "and",
    "logical_or": "or", "logical_not": "not", "bitwise_and": "and", "bitwise_or": "or", "invert": "not",
}  # fmt: skip


class Expression:
    """An operation on expressions; "input" and "number" have an index and a value in the place of arguments."""

    __slots__ = ("__weakref__", "args", "op")
    _known: ClassVar[WeakValueDictionary[tuple[Any, ...], Expression]] = WeakValueDictionary()
    __hash__ = object.__hash__

    op: str
    args: tuple[Any, ...]

    @classmethod
    def of(cls, op: str, *args: Any) -> Expression:
        key = (op, *(id(a) if isinstance(a, Expression) else a.hex() if isinstance(a, float) else a for a in args))
        found = cls._known.get(key)
        if found is None:
            found = cls._known[key] = cls.__new__(cls)
            found.op, found.args = op, args
        return found

    def __reduce__(self) -> Any:
        return Expression.of, (self.op, *self.args)

    def __bool__(self) -> bool:
        return _Ways.under_way().choose(self) if self.op in TRUTHS else _Ways.under_way().choose(make("ne", self, 0))

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        if method != "__call__" or options:
            raise ArgumentError(f"elementwise: np.{ufunc.__name__} of numbers takes no options")
        return _called(ufunc.__name__, *inputs)

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        return _called(function.__name__, *args, **options)

    def __float__(self) -> float:
        raise ArgumentError(
            "elementwise: expected arithmetic, comparisons and functions of math and NumPy, got something that asks "
            "for the number itself, which is not known when the formula is taken down"
        )

    __int__ = __index__ = __complex__ = __float__

    def __neg__(self) -> Any:
        return make("neg", self)

    def __pos__(self) -> Any:
        return self

    def __abs__(self) -> Any:
        return make("abs", self)

    def __invert__(self) -> Any:
        return make("not", self)

    def __floordiv__(self, other: Any) -> Any:
        return make("floor", make("div", self, other))

    def __mod__(self, other: Any) -> Any:
        return make("sub", self, make("mul", other, make("floor", make("div", self, other))))


def _reflected(op: str) -> Any:
    return lambda self, other: make(op, other, self)


def _direct(op: str) -> Any:
    return lambda self, other: make(op, self, other)


for _name, _op in {
    "add": "add",
    "sub": "sub",
    "mul": "mul",
    "truediv": "div",
    "pow": "pow",
    "and": "and",
    "or": "or",
}.items():
    setattr(Expression, f"__{_name}__", _direct(_op))
    setattr(Expression, f"__r{_name}__", _reflected(_op))
for _name in ("lt", "le", "gt", "ge", "eq", "ne"):
    setattr(Expression, f"__{_name}__", _direct(_name))

_VALUES: dict[str, Callable[..., Any]] = {
    "add": lambda a, b: a + b, "sub": lambda a, b: a - b, "mul": lambda a, b: a * b, "div": lambda a, b: a / b,
    "neg": lambda a: -a, "abs": builtins.abs,
}  # fmt: skip


def number(value: float) -> Expression:
    return Expression.of("number", float(value))


def where(condition: Any, a: Any, b: Any) -> Expression:
    return make("where", condition, a, b)


def _value(x: Expression) -> float | None:
    return x.args[0] if x.op == "number" else None


def make(op: str, *args: Any) -> Expression:
    """An operation on expressions and numbers, simplified where that changes no value."""
    given = [_operand(a) for a in args]
    if op in ("and", "or", "not"):
        return Expression.of(op, *(a if a.op in TRUTHS else make("ne", a, 0) for a in given))
    if op == "where":
        condition, a, b = given
        condition = condition if condition.op in TRUTHS else make("ne", condition, 0)
        a, b = _plain(a), _plain(b)
        return a if a is b else Expression.of("where", condition, a, b)
    given = [_plain(a) for a in given]
    values = [_value(a) for a in given]
    if None not in values and (op in _VALUES or op in FUNCTIONS):
        try:
            return number(_VALUES.get(op, getattr(math, op, None))(*values))  # type: ignore[misc]
        except (ArithmeticError, ValueError):
            pass  # infinite or not a number: the compiled formula says which
    simpler = _simpler(op, given, values)
    return Expression.of(op, *given) if simpler is None else simpler


def _simpler(op: str, args: list[Expression], values: list[float | None]) -> Expression | None:
    if op in ("mul", "add") and values[0] is not None:  # numbers stand behind
        args, values = args[::-1], values[::-1]
        return make(op, *args)
    one, zero = values[-1] == 1, values[-1] == 0 and math.copysign(1, values[-1] or 0.0) > 0
    if (op in ("mul", "div", "pow") and one) or (op == "sub" and zero) or (op == "add" and values[-1] == 0):
        return args[0]
    if op == "neg" and args[0].op == "neg":
        return args[0].args[0]
    if op == "pow" and values[1] is not None:
        return _power(args[0], values[1])
    if op == "log" and args[0].op == "add" and _value(args[0].args[1]) == 1 and args[0].args[0].op == "exp":
        return make("log1p", args[0].args[0])
    if op == "log1p" and args[0].op == "exp":  # which would overflow
        return Expression.of("softplus", args[0].args[0])
    if (
        op == "div"
        and values[0] == 1
        and args[1].op == "add"
        and _value(args[1].args[1]) == 1
        and args[1].args[0].op == "exp"
    ):
        return Expression.of("sigmoid", make("neg", args[1].args[0].args[0]))
    if op == "tanh" and args[0].op == "softplus":
        return Expression.of("tanh_softplus", args[0].args[0])
    return None


def _power(x: Expression, exponent: float) -> Expression | None:
    """By products where it is a small whole number, or by a root."""
    if exponent == 0.5:
        return None
    if exponent != int(exponent) if math.isfinite(exponent) else True:
        return None
    count = int(exponent)
    if count == 0:
        return number(1)
    if abs(count) > 16:
        return None
    if count < 0:
        return make("div", 1, make("pow", x, -count))
    half = make("pow", x, count // 2) if count > 1 else None
    square = x if half is None else make("mul", half, half)
    return make("mul", square, x) if half is not None and count % 2 else square


def _operand(x: Any) -> Expression:
    if isinstance(x, Expression):
        return x
    if isinstance(x, np.ndarray) and x.ndim == 0:
        x = x.item()
    if isinstance(x, (bool, int, float, np.number, np.bool_)):
        return number(float(x))
    raise ArgumentError(f"elementwise: expected numbers in a formula, got {type(x).__name__}")


def _plain(x: Expression) -> Expression:
    """A truth as the number 0 or 1."""
    return Expression.of("where", x, number(1), number(0)) if x.op in TRUTHS else x


def _called(name: str, *args: Any, **options: Any) -> Any:
    """A function of NumPy or math, by its name, on expressions and numbers."""
    op = _NUMPY.get(name, name)
    compound = _COMPOUND.get(op)
    if compound is not None:
        return compound(*args, **options)
    if (FUNCTIONS.get(op) == len(args) or op in _NUMPY.values()) and not options:
        return make(op, *args)
    known = ", ".join(sorted({*FUNCTIONS, *_COMPOUND}))
    raise ArgumentError(f"elementwise: expected one of the functions {known}, got {name} of {len(args)} arguments")


def _log(x: Any, base: Any = None) -> Any:
    return make("log", x) if base is None else make("div", make("log", x), make("log", base))


def _clip(x: Any, a_min: Any = None, a_max: Any = None, **bounds: Any) -> Any:
    low, high = bounds.get("min", a_min), bounds.get("max", a_max)
    x = x if low is None else where(make("lt", x, low), low, x)
    return x if high is None else where(make("gt", x, high), high, x)


def _logaddexp(a: Any, b: Any) -> Any:
    for first, second in ((a, b), (b, a)):
        if not isinstance(first, Expression) and first == 0:
            return make("log1p", make("exp", second))
    return make(
        "add", _COMPOUND["maximum"](a, b), make("log1p", make("exp", make("neg", make("abs", make("sub", a, b)))))
    )


_COMPOUND: dict[str, Callable[..., Any]] = {
    "log": _log,
    "log2": lambda x: make("mul", make("log", x), 1 / math.log(2)),
    "log10": lambda x: make("mul", make("log", x), 1 / math.log(10)),
    "exp2": lambda x: make("exp", make("mul", x, math.log(2))),
    "square": lambda x: make("mul", x, x),
    "reciprocal": lambda x: make("div", 1, x),
    "positive": lambda x: x,
    "sign": lambda x: where(make("gt", x, 0), 1, where(make("lt", x, 0), -1, x)),
    "maximum": lambda a, b: where(make("or", make("gt", a, b), make("ne", a, a)), a, b),  # NaN stays
    "minimum": lambda a, b: where(make("or", make("lt", a, b), make("ne", a, a)), a, b),
    "fmax": lambda a, b: where(make("or", make("gt", a, b), make("ne", b, b)), a, b),
    "fmin": lambda a, b: where(make("or", make("lt", a, b), make("ne", b, b)), a, b),
    "heaviside": lambda x, half: where(make("gt", x, 0), 1, where(make("lt", x, 0), 0, half)),
    "isnan": lambda x: make("ne", x, x),
    "isfinite": lambda x: make("lt", make("abs", x), math.inf),
    "isinf": lambda x: make("eq", make("abs", x), math.inf),
    "degrees": lambda x: make("mul", x, 180 / math.pi),
    "radians": lambda x: make("mul", x, math.pi / 180),
    "logaddexp": _logaddexp,
    "clip": _clip,
    "where": where,
}


# ---- from a function -------------------------------------------------------------------------------------------------


class _Ways:
    """The ways through a function's branches: at each question the answers that were decided, then yes."""

    _now: ClassVar[list[_Ways]] = []

    def __init__(self) -> None:
        self.decided: list[bool] = []
        self.asked: list[Expression] = []

    @classmethod
    def under_way(cls) -> _Ways:
        if not cls._now:
            raise ArgumentError("elementwise: a formula's truth is known only where the formula is taken down")
        return cls._now[-1]

    def choose(self, question: Expression) -> bool:
        for earlier, answer in zip(self.asked, self.decided, strict=False):
            if earlier is question:
                return answer
        self.asked.append(question)
        if len(self.asked) > MOST_WAYS:
            raise ArgumentError(
                "elementwise: expected a formula whose branches come to an end, got one that asks again and again: a "
                "loop cannot wait for numbers"
            )
        if len(self.asked) > len(self.decided):
            self.decided.append(True)
        return self.decided[len(self.asked) - 1]

    def follow(self, function: Callable[..., Any], inputs: tuple[Expression, ...]) -> Any:
        """The results of all ways, joined."""
        self.count = 0
        _Ways._now.append(self)
        try:
            return self._rest(function, inputs, ())
        finally:
            _Ways._now.pop()

    def _rest(self, function: Callable[..., Any], inputs: tuple[Expression, ...], decided: tuple[bool, ...]) -> Any:
        self.decided, self.asked, self.count = list(decided), [], self.count + 1
        if self.count > MOST_WAYS:
            raise ArgumentError(
                f"elementwise: expected a formula of at most {MOST_WAYS} ways through its branches, got more"
            )
        result, asked = _result(function(*inputs)), self.asked
        for at in range(len(asked) - 1, len(decided) - 1, -1):  # the other answer to each question, the last first
            other = self._rest(function, inputs, (*decided, *[True] * (at - len(decided)), False))
            if len(other) != len(result):
                raise ArgumentError("elementwise: expected as many numbers on every way through the branches")
            result = tuple(where(asked[at], a, b) for a, b in zip(result, other, strict=True))
        return result


def _result(result: Any) -> tuple[Expression, ...]:
    results = result if isinstance(result, (tuple, list)) else (result,)
    return tuple(_plain(_operand(one)) for one in results)


def formula_of(function: Callable[..., Any], count: int) -> tuple[Expression, ...]:
    """What a function of `count` numbers computes; one expression for each number that it returns."""
    inputs = tuple(Expression.of("input", k) for k in range(count))
    found: tuple[Expression, ...] = _Ways().follow(_of_symbols(function, {}), inputs)
    return found


_MATH = {getattr(math, name): name for name in dir(math) if callable(getattr(math, name))}


def _either(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """math's function, which takes expressions, too."""
    return lambda *args: _called(name, *args) if any(isinstance(a, Expression) for a in args) else function(*args)


_SYMBOLIC = {function: _either(name, function) for function, name in _MATH.items()}
_SHIM = SimpleNamespace(
    **{k: v for k, v in vars(math).items() if not callable(v)}, **{name: _SYMBOLIC[f] for f, name in _MATH.items()}
)


def _of_symbols(value: Any, done: dict[int, Any]) -> Any:
    """The function with math's functions, wherever it and the Python functions that it calls name them, replaced."""
    if isinstance(value, ModuleType):
        return _SHIM if value is math else value
    if not isinstance(value, FunctionType):
        try:
            return _SYMBOLIC.get(value, value)
        except TypeError:  # no hash
            return value
    theirs = value.__globals__ is vars(sys.modules.get(value.__module__, math))
    if (theirs and value.__module__.partition(".")[0] in ("numpy", "fastnn")) or id(value) in done:
        return done.get(id(value), value)
    names = dict(value.__globals__)
    cells = None if value.__closure__ is None else tuple(map(_copy_of, value.__closure__))
    copy = FunctionType(value.__code__, names, value.__name__, value.__defaults__, cells)
    copy.__kwdefaults__ = value.__kwdefaults__
    done[id(value)] = copy
    for name in value.__code__.co_names:
        if name in names:
            names[name] = _of_symbols(names[name], done)
    for cell in cells or ():
        if hasattr(cell, "cell_contents"):
            cell.cell_contents = _of_symbols(cell.cell_contents, done)
    return copy


def _copy_of(cell: Any) -> Any:
    copy = type(cell)()
    with contextlib.suppress(ValueError):  # it is empty so far
        copy.cell_contents = cell.cell_contents
    return copy
