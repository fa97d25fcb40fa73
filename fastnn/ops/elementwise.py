"""What is computed entry by entry: each operator is its formula and that of its gradient, once for all who need them.

A formula is written in NumPy's terms and is never asked for anything else, so arrays go through it, tensors where
backward is differentiated, and compiled plans, which take its functions down as their kernels. A gradient's formula
names what it needs: `g` the output's gradient, `y` the output, `x` the input, or `a`, `b`, `c` where there are
several, of which only these are kept. Formulas: Abramowitz and Stegun, chapters 4 and 7; what PyTorch adds to them
(gradients of 0 at steps, halves where two are equal) is said in the row.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.backends.checks import alike, first_of, is_alike
from fastnn.checks import choice, is_number, number, whole
from fastnn.errors import ArgumentError
from fastnn.ops.arithmetic import (
    FLOATING,
    add,
    binary,
    clamp_numbers,
    common_type,
    mul,
    numbers_first,
    scaled,
    sub,
    true_divide,
)
from fastnn.ops.common import floating, sum_to, tensor_of
from fastnn.ops.joining import where
from fastnn.ops.logic import eq, isnan, logical_or, lt, ne
from fastnn.ops.names import of
from fastnn.tape import tracer
from fastnn.tensors import Array, Context, Function, Tensor

if not TYPE_CHECKING:
    __all__ = of("elementwise")

Formula = Callable[..., Any]
FORMULAS: dict[type[Function], Formula] = {}  # of the forward
GRADIENTS: dict[type[Function], tuple[Formula, ...]] = {}  # by each input


def _kept(formula: Formula) -> tuple[str, ...]:
    return formula.__code__.co_varnames[1 : formula.__code__.co_argcount]


def gradients_of(function: type[Function], needs: tuple[bool, ...], grad: Any, named: dict[str, Any]) -> list[Any]:
    """The gradients by the inputs, not yet summed to their shapes; `named` holds the inputs and y."""
    slopes = zip(GRADIENTS[function], needs, strict=True)
    return [slope(grad, *(named[n] for n in _kept(slope))) if needed else None for slope, needed in slopes]


def names_of(count: int) -> tuple[str, ...]:
    """What the formulas call the inputs, and the output."""
    return (*("x" if count == 1 else "abc"[:count]), "y")


def _operator(name: str, doc: str, forward: Formula, *slopes: Formula, kernel: str = "") -> type[Function]:
    """A Function of these formulas; of one that NumPy computes entry by entry, `kernel` names it to the backends."""
    names = names_of(len(slopes))

    class Elementwise(Function):
        @staticmethod
        def forward(ctx: Context, *inputs: Array) -> Array:
            y = ctx.kernels.function_forward(kernel, *inputs) if kernel else FORMULAS[Elementwise](*inputs)
            wanted = {n for slope, need in zip(slopes, ctx.needs_input_grad, strict=True) if need for n in _kept(slope)}
            kept = (value if n in wanted else None for n, value in zip(names, (*inputs, y), strict=True))
            ctx.save_for_backward(tuple(x.shape for x in inputs), *kept)
            return y

        @staticmethod
        def backward(ctx: Context, grad: Array) -> tuple[Any, ...]:
            shapes, *kept = ctx.saved_tensors
            found = gradients_of(Elementwise, ctx.needs_input_grad, grad, dict(zip(names, kept, strict=True)))
            return tuple(None if g is None else sum_to(g, shape) for g, shape in zip(found, shapes, strict=True))

    Elementwise.__name__ = Elementwise.__qualname__ = name
    Elementwise.__doc__ = doc
    FORMULAS[Elementwise], GRADIENTS[Elementwise] = forward, slopes
    return Elementwise


def _none(g: Any) -> Any:
    return np.zeros_like(g) if isinstance(g, np.ndarray) else g * 0


def _erf(x: Any) -> Any:
    if not isinstance(x, (np.ndarray, np.generic)):
        return x.erf()
    from fastnn.backends.reference.erf import erf

    return erf(np.asarray(x))


def _numeric(name: str) -> Formula:
    """What reference/special.py computes of arrays; of tensors, and of symbols in their place, the method."""

    def formula(x: Any) -> Any:
        if not isinstance(x, (np.ndarray, np.generic)):
            return getattr(x, name)() if hasattr(x, name) else globals()[name](x)
        from fastnn.backends.reference import special

        return getattr(special, name)(np.asarray(x))

    return formula


def _i1_slope(x: Any, y: Any) -> Any:
    """i0(x) - i1(x)/x, which is 1/2 at 0."""
    return _i0(x) - np.where(x == 0, 0.5, y / np.where(x == 0, 1.0, x))


def _sign(x: Any) -> Any:
    if not isinstance(x, np.ndarray):
        return x.sign()
    return x.copy() if x.dtype == np.bool_ else np.subtract(x > 0, x < 0, dtype=x.dtype.newbyteorder("="))


def _share(g: Any, a: Any, b: Any) -> Any:
    """What of a minimum's gradient comes to a: all where a < b, half where they are equal."""
    return g.share(a, b) if hasattr(g, "share") else np.where(a > b, 0, np.where(a == b, g / 2, g))


_i0, _i1 = map(_numeric, ("i0", "i1"))
_LN2, _LN10, _ERF = math.log(2), math.log(10), 2 / math.sqrt(math.pi)


def _of_one(
    name: str, doc: str, formula: Formula, slope: Formula, whole_stay: bool | None = None, kernel: bool = False
) -> Any:
    """The Function and the operator of one tensor. `whole_stay`: integers are what they are already (True), or the
    formula is of any numbers (False); else they become float32."""
    function = _operator(name.capitalize(), doc, formula, slope, kernel=name if kernel else "")

    def operator(input: Any) -> Tensor:
        x = tensor_of(input)
        if whole_stay and x.dtype.kind != "f":
            return x
        return function.apply(floating(x) if whole_stay is None else x)

    return function, _named(operator, name, doc)


def _of_two(name: str, doc: str, formula: Formula, *slopes: Formula) -> Any:
    """The Function and the operator of two tensors that broadcast."""
    function = _operator(name.capitalize(), doc, formula, *slopes)

    def operator(input: Any, other: Any) -> Tensor:
        if name in ("fmod", "remainder"):
            _check_divisor(name, input, other)
        return binary(function, input, other)

    return function, _named(operator, name, doc)


def _check_divisor(op: str, input: Any, other: Any) -> None:
    """ArgumentError for a whole number by 0: there is no NaN or infinity to say it."""
    if tracer() is not None or not all(tensor_of(x).dtype.kind in "iu" for x in (input, other)):
        return
    if not tensor_of(other)._data.all():
        raise ArgumentError(f"{op}: expected divisors of whole numbers other than 0, got 0")


def _named(operator: Any, name: str, doc: str) -> Any:
    operator.__name__ = operator.__qualname__ = name
    operator.__doc__ = doc
    return operator


# ---- of one tensor ---------------------------------------------------------------------------------------------------

Acos, acos = _of_one(
    "acos", "The angle from 0 to π with that cosine.", lambda x: np.arccos(x), lambda g, x: -g / np.sqrt(1 - x * x)
)
Acosh, acosh = _of_one("acosh", "The inverse of cosh.", lambda x: np.arccosh(x), lambda g, x: g / np.sqrt(x * x - 1))
Asin, asin = _of_one("asin", "The angle with that sine.", lambda x: np.arcsin(x), lambda g, x: g / np.sqrt(1 - x * x))
Asinh, asinh = _of_one("asinh", "The inverse of sinh.", lambda x: np.arcsinh(x), lambda g, x: g / np.sqrt(x * x + 1))
Atan, atan = _of_one(
    "atan", "The angle with that tangent.", lambda x: np.arctan(x), lambda g, x: g / (x * x + 1), kernel=True
)
Atanh, atanh = _of_one("atanh", "The inverse of tanh.", lambda x: np.arctanh(x), lambda g, x: g / (1 - x * x))
Cos, cos = _of_one("cos", "The cosine.", lambda x: np.cos(x), lambda g, x: -g * np.sin(x))
Cosh, cosh = _of_one("cosh", "The hyperbolic cosine.", lambda x: np.cosh(x), lambda g, x: g * np.sinh(x))
Erf, erf = _of_one(
    "erf",
    "2/√π times the integral of exp(-t²) from 0 to x.",
    _erf,
    lambda g, x: g * (np.exp(-(x * x)) * _ERF),
    kernel=True,
)
Exp2, exp2 = _of_one("exp2", "2 to the power of x.", lambda x: np.exp2(x), lambda g, y: g * (y * _LN2), kernel=True)
Expm1, expm1 = _of_one(
    "expm1", "exp(x) - 1, exact for small x.", lambda x: np.expm1(x), lambda g, y: g * (y + 1), kernel=True
)
I0, i0 = _of_one("i0", "The modified Bessel function of the first kind, of order 0.", _i0, lambda g, x: g * _i1(x))
I1, i1 = _of_one(
    "i1",
    "The modified Bessel function of the first kind, of order 1.",
    _i1,
    lambda g, x, y: g * _i1_slope(x, y),
)
Log10, log10 = _of_one("log10", "The logarithm to base 10.", lambda x: np.log10(x), lambda g, x: g / (x * _LN10))
Log1p, log1p = _of_one(
    "log1p", "log(1 + x), exact for small x.", lambda x: np.log1p(x), lambda g, x: g / (x + 1), kernel=True
)
Log2, log2 = _of_one("log2", "The logarithm to base 2.", lambda x: np.log2(x), lambda g, x: g / (x * _LN2))
Reciprocal, reciprocal = _of_one("reciprocal", "1 / x.", lambda x: 1 / x, lambda g, y: -g * (y * y))
Rsqrt, rsqrt = _of_one("rsqrt", "1 / √x.", lambda x: 1 / np.sqrt(x), lambda g, y: g * (y * y * y * -0.5))
Sin, sin = _of_one("sin", "The sine.", lambda x: np.sin(x), lambda g, x: g * np.cos(x))
Sinh, sinh = _of_one("sinh", "The hyperbolic sine.", lambda x: np.sinh(x), lambda g, x: g * np.cosh(x))
Tan, tan = _of_one("tan", "The tangent.", lambda x: np.tan(x), lambda g, y: g * (y * y + 1), kernel=True)
Ceil, ceil = _of_one(
    "ceil", "The smallest whole number that is not below x; its gradient is 0.", lambda x: np.ceil(x), _none, True
)
Floor, floor = _of_one(
    "floor", "The largest whole number that is not above x; its gradient is 0.", lambda x: np.floor(x), _none, True
)
Rint, rint = _of_one(
    "rint", "The nearest whole number, of two the even one; its gradient is 0.", lambda x: np.rint(x), _none, True
)
Sign, sign = _of_one(
    "sign", "1, 0 or -1, as x is positive, 0 (or NaN) or negative; its gradient is 0.", _sign, _none, False
)
Square, square = _of_one("square", "x · x.", lambda x: x * x, lambda g, x: g * (x * 2), False)
Trunc, trunc = _of_one(
    "trunc", "x without what is behind the point; its gradient is 0.", lambda x: np.trunc(x), _none, True
)

# ---- of two tensors --------------------------------------------------------------------------------------------------


def _square(a: Any, b: Any) -> Any:
    """a² + b² to divide by: 1 where it is 0, and the gradient 0, as PyTorch's."""
    square = a * a + b * b
    return square + np.equal(square, 0)


Atan2, atan2 = _of_two(
    "atan2",
    "The angle of the point (b, a), from -π to π; its gradient is 0 at the origin, where there is none.",
    lambda a, b: np.arctan2(a, b),
    lambda g, a, b: g * b / _square(a, b),
    lambda g, a, b: -g * a / _square(a, b),
)
FLOATING.add(Atan2)
Fmod, fmod = _of_two(
    "fmod",
    "The rest of a / b, with the sign of a.",
    lambda a, b: np.fmod(a, b),
    lambda g: g,
    lambda g, a, b: -g * np.trunc(a / b),
)
Maximum, maximum = _of_two(
    "maximum",
    "The larger of two entries; NaN stays. Of equal ones each gets half of the gradient.",
    lambda a, b: np.maximum(a, b),
    lambda g, a, b: _share(g, b, a),
    lambda g, a, b: _share(g, a, b),
)
Minimum, minimum = _of_two(
    "minimum",
    "The smaller of two entries; NaN stays. Of equal ones each gets half of the gradient.",
    lambda a, b: np.minimum(a, b),
    lambda g, a, b: _share(g, a, b),
    lambda g, a, b: _share(g, b, a),
)
Remainder, remainder = _of_two(
    "remainder",
    "The rest of a / b, with the sign of b.",
    lambda a, b: np.remainder(a, b),
    lambda g: g,
    lambda g, a, b: -g * np.floor(a / b),
)


def clamp(input: Any, min: Any = None, max: Any = None) -> Tensor:
    """x between min and max, numbers or tensors; None where there is no bound. At a bound x takes the gradient.

    >>> import fastnn as fnn
    >>> fnn.tensor([-2.0, 0.5, 2.0]).clamp(-1, fnn.tensor([1.0, 0.0, 1.0]))
    Tensor([-1.,  0.,  1.])
    """
    x = tensor_of(input)
    if min is None and max is None:
        raise ArgumentError("clamp: expected min or max or both")
    tensors = [isinstance(bound, Tensor) for bound in (min, max)]
    if not any(tensors):
        return clamp_numbers(x, min, max)
    if min is not None:  # NaN as a bound is the result, as it is as an entry
        x = where(logical_or(lt(x, min), ne(min, min)), min, x) if tensors[0] else clamp_numbers(x, min, None)
    if max is not None:
        x = where(logical_or(lt(max, x), ne(max, max)), max, x) if tensors[1] else clamp_numbers(x, None, max)
    return x


def clamp_min(input: Any, min: Any) -> Tensor:
    """x, and `min` where it is below; a number or a tensor."""
    return clamp(input, min)


def clamp_max(input: Any, max: Any) -> Tensor:
    """x, and `max` where it is above; a number or a tensor."""
    return clamp(input, None, max)


def div(input: Any, other: Any, *, rounding_mode: str | None = None) -> Tensor:
    """input / other in floating point; rounded with `rounding_mode` "trunc" towards 0, "floor" down, off the tape.

    >>> import fastnn as fnn
    >>> fnn.div(fnn.tensor([7, -7]), 2), fnn.div(fnn.tensor([7, -7]), 2, rounding_mode="floor")
    (Tensor([ 3.5, -3.5]), Tensor([ 3, -4], dtype=int64))
    """
    if rounding_mode is None:
        return true_divide(input, other)
    choice("div", "rounding_mode", rounding_mode, ("trunc", "floor"))
    input, other = (x.detach() if isinstance(x, Tensor) else x for x in (input, other))
    if tracer() is None and all(tensor_of(x).dtype.kind in "iu" for x in (input, other)):
        _check_divisor("floor_divide", input, other)
        a, b = common_type((input, other))
        return _whole_quotient(a, b, rounding_mode == "trunc")
    with np.errstate(divide="ignore", invalid="ignore"):
        rest = (fmod if rounding_mode == "trunc" else remainder)(input, other)
        if rest.dtype.kind != "f":  # in the wider type, whose 53 bits hold what float32's 24 do not
            exact = sub(input, rest).astype(np.float64)
            return true_divide(exact, tensor_of(other).astype(np.float64)).astype(rest.dtype)
        quotient = true_divide(sub(input, rest), other)
        if is_number(other) and other:
            return rint(quotient)
        return where(eq(other, 0), true_divide(input, other), rint(quotient))  # infinite where only the divisor is 0


def _whole_quotient(a: Tensor, b: Tensor, towards_zero: bool) -> Tensor:
    """The quotient of integers, exact: floats would lose digits."""
    quotient = np.floor_divide(a._data, b._data)
    if towards_zero:
        quotient += (quotient < 0) & (quotient * b._data != a._data)
    return Tensor(quotient)


def floor_divide(input: Any, other: Any) -> Tensor:
    """input / other, rounded down, off the tape."""
    return div(input, other, rounding_mode="floor")


def round(input: Any, *, decimals: int = 0) -> Tensor:
    """The nearest number with so many decimals, of two the even one; its gradient is 0."""
    if not whole("round", "decimals", decimals, -300, 300):
        return rint(input)
    return div(rint(mul(input, 10.0**decimals)), 10.0**decimals)


def frac(input: Any) -> Tensor:
    """What is behind the point, with the sign of x."""
    x = floating(input)
    return sub(x, trunc(x))


def erfc(input: Any) -> Tensor:
    """1 - erf(x)."""
    return 1 - erf(input)


def logit(input: Any, eps: float | None = None) -> Tensor:
    """log(x / (1 - x)), x first brought between eps and 1 - eps."""
    x = floating(input)
    if eps is not None:
        eps = number("logit", "eps", eps, 0, 1)
        x = clamp(x, eps, 1 - eps)
    return (x / (1 - x)).log()


class Lerp(Function):
    """a + weight · (b - a) of arrays of one shape and type. Attribute: weight, a number. In plans it is composed
    of other operators."""

    @staticmethod
    def forward(ctx: Context, a: Array, b: Array, *, weight: float) -> Array:
        y: Array = b - a
        y *= weight
        y += a
        return y

    @staticmethod
    def backward(ctx: Context, grad: Array) -> tuple[Array, Array]:
        weight = grad.dtype.type(ctx.attributes["weight"])
        if is_alike(grad):
            one = first_of(grad)
            return alike(np.asarray(one - one * weight), grad.shape), alike(np.asarray(one * weight), grad.shape)
        part = grad * weight
        return grad - part, part


def composed_lerp(input: Any, end: Any, *, weight: Any) -> Tensor:
    """The same by operators that broadcast, have derivatives of any order, and kernels in plans."""
    start = floating(input)
    return add(start, mul(sub(end, start), weight))


def lerp(input: Any, end: Any, weight: Any) -> Tensor:
    """input + weight · (end - input)."""
    tensors = isinstance(input, Tensor) and isinstance(end, Tensor) and tracer() is None and type(weight) is float
    if tensors and input.shape == end.shape and input.ndim and input.dtype == end.dtype and input.dtype.kind == "f":
        return Lerp.apply(input, end, weight=weight)
    return composed_lerp(input, end, weight=weight)


@numbers_first("value")
def addcmul(input: Any, tensor1: Any, tensor2: Any, *, value: float = 1) -> Tensor:
    """input + value · tensor1 · tensor2."""
    return add(input, scaled("addcmul", "value", mul(tensor1, tensor2), value))


@numbers_first("value")
def addcdiv(input: Any, tensor1: Any, tensor2: Any, *, value: float = 1) -> Tensor:
    """input + value · tensor1 / tensor2."""
    return add(input, scaled("addcdiv", "value", true_divide(tensor1, tensor2), value))


def nan_to_num(input: Any, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None) -> Tensor:
    """NaN as `nan`, infinities as `posinf` and `neginf` (the largest numbers of the type); no gradient passes there."""
    x = floating(input)
    largest = float(np.finfo(x.dtype).max)
    x = where(isnan(x), nan, x)
    x = where(eq(x, math.inf), largest if posinf is None else posinf, x)
    return where(eq(x, -math.inf), -largest if neginf is None else neginf, x)


def logaddexp(input: Any, other: Any) -> Tensor:
    """log(exp(input) + exp(other)), without overflow."""
    a, b = tensor_of(input), tensor_of(other)
    high = where(a > b, a, b).detach()
    high = where(abs(high) == np.inf, 0, high)
    return ((a - high).exp() + (b - high).exp()).log() + high
