"""How operators are lowered: for each Function of fastnn.ops the kernels of its forward, and of its backward.

A rule takes the emitter, the operator, and its inputs (arrays of the plan in the place of values); it adds the steps of
forward, and returns the output and a function that does the same for backward: from the output's gradient to those of
the inputs. It reads like the Function itself. Rules of the operators that have kernels of their own: kernel_rules.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.arrays import without_numbers
from fastnn.ops import arithmetic, draws, elementwise, gamma, inverse_erf, joining, norms, reductions, shaping
from fastnn.own.operator import Elementwise, Formula
from fastnn.plan.emit import ZERO, Emitter, Unlowered
from fastnn.plan.hooked import GradientHook, Seed
from fastnn.plan.trace import Detach, Operator
from fastnn.tensors import Array, Cast, Context, Function, Round

__all__ = ["OF_ANY_TYPE", "RULES", "Backward", "Rule", "around", "rule"]

Backward = Callable[[Array], tuple[Array | None, ...]]
Rule = Callable[..., tuple[Array, Backward | None]]

RULES: dict[type[Function], Rule] = {}
OF_ANY_TYPE: dict[type[Function], tuple[int, ...]] = {}  # inputs that may be of other types than float32


def rule(*functions: type[Function], any_type: tuple[int, ...] = ()) -> Callable[[Rule], Rule]:
    """Decorator: these Functions are lowered so. Inputs at `any_type` need not be float32; the rule checks them."""

    def enter(lowered: Rule) -> Rule:
        RULES.update(dict.fromkeys(functions, lowered))
        OF_ANY_TYPE.update(dict.fromkeys(functions, any_type))
        return lowered

    return enter


# ---- arithmetic ------------------------------------------------------------------------------------------------------


@rule(arithmetic.Add)
def _add(to: Emitter, op: Operator, a: Array, b: Array) -> Any:
    return to.map("add", a, b), lambda grad: (
        to.sum_to(grad, a.shape) if op.needs[0] else None,
        to.sum_to(grad, b.shape) if op.needs[1] else None,
    )


@rule(arithmetic.Sub)
def _sub(to: Emitter, op: Operator, a: Array, b: Array) -> Any:
    return to.map("sub", a, b), lambda grad: (
        to.sum_to(grad, a.shape) if op.needs[0] else None,
        to.slope("neg", to.sum_to(grad, b.shape)) if op.needs[1] else None,
    )


@rule(arithmetic.Mul)
def _mul(to: Emitter, op: Operator, a: Array, b: Array) -> Any:
    return to.map("mul", a, b), lambda grad: (
        to.sum_to(to.slope("mul", grad, b), a.shape) if op.needs[0] else None,
        to.sum_to(to.slope("mul", grad, a), b.shape) if op.needs[1] else None,
    )


@rule(arithmetic.Div)
def _div(to: Emitter, op: Operator, a: Array, b: Array) -> Any:
    return to.map("div", a, b), lambda grad: (
        to.sum_to(to.slope("div", grad, b), a.shape) if op.needs[0] else None,
        to.sum_to(to.map("div_backward_b", grad, a, b), b.shape) if op.needs[1] else None,
    )


@rule(arithmetic.Pow)
def _pow(to: Emitter, op: Operator, a: Array, b: Array) -> Any:
    y = to.map("pow", a, b)
    return y, lambda grad: (
        to.sum_to(to.map("pow_backward_a", grad, a, b), a.shape) if op.needs[0] else None,
        to.sum_to(to.map("pow_backward_b", grad, y, a), b.shape) if op.needs[1] else None,
    )


@rule(arithmetic.Neg)
def _neg(to: Emitter, op: Operator, x: Array) -> Any:
    return to.map("neg", x), lambda grad: (to.map("neg", grad),)


@rule(arithmetic.Abs)
def _abs(to: Emitter, op: Operator, x: Array) -> Any:
    return to.map("abs", x), lambda grad: (to.map("abs_backward", grad, x),)


@rule(arithmetic.Exp)
def _exp(to: Emitter, op: Operator, x: Array) -> Any:
    y = to.map("exp", x)
    return y, lambda grad: (to.map("mul", grad, y),)


@rule(arithmetic.Log)
def _log(to: Emitter, op: Operator, x: Array) -> Any:
    return to.map("log", x), lambda grad: (to.map("div", grad, x),)


@rule(arithmetic.Sqrt, shaping.Deviation)
def _sqrt(to: Emitter, op: Operator, x: Array) -> Any:
    y = to.map("sqrt", x)
    slope = "sqrt_backward" if op.function is arithmetic.Sqrt else "deviation_backward"
    return y, lambda grad: (to.map(slope, grad, y),)


@rule(arithmetic.Clamp)
def _clamp(to: Emitter, op: Operator, x: Array, *, min: float | None, max: float | None) -> Any:
    bounds = (-np.inf if min is None else min, np.inf if max is None else max)
    return to.map("clamp", x, p=bounds), lambda grad: (to.map("clamp_backward", grad, x, p=bounds),)


_OF_TRUTH = {"logical_and": "mul", "bitwise_and": "mul", "logical_xor": "not_equal", "bitwise_xor": "not_equal"}


def _compared(side: Any) -> Array:
    """One side of a comparison, which may be a number."""
    if isinstance(side, np.ndarray):
        return side
    if not isinstance(side, (bool, int, float)):
        raise Unlowered(f"compared with {type(side).__name__}")
    return np.asarray(side, np.bool_ if isinstance(side, bool) else np.float32)


@rule(arithmetic.Compare, any_type=(0, 1))
def _compare(to: Emitter, op: Operator, a: Any, b: Any, *, ufunc: np.ufunc) -> Any:
    a, b = _compared(a), _compared(b)
    name = ufunc.__name__
    if a.dtype == b.dtype == np.bool_ and name in ("logical_or", "bitwise_or"):
        return to.map("where", a, np.ones((), np.float32), b, dtype=np.bool_), None
    if a.dtype == np.bool_ and (b.dtype == np.bool_ or not b.ndim) and name in ("equal", "not_equal", *_OF_TRUTH):
        return to.map(_OF_TRUTH.get(name, name), a, b, dtype=np.bool_), None
    if a.dtype != np.float32 or b.dtype != np.float32 or name.startswith("logical"):
        raise Unlowered("it compares other numbers than float32")
    return to.map(name, a, b, dtype=np.bool_), None


@rule(joining.Where, any_type=(0,))
def _where(to: Emitter, op: Operator, condition: Array, a: Array, b: Array) -> Any:
    return to.map("where", condition, a, b), lambda grad: (
        None,
        to.sum_to(to.map("where", condition, grad, ZERO), a.shape) if op.needs[1] else None,
        to.sum_to(to.map("where", condition, ZERO, grad), b.shape) if op.needs[2] else None,
    )


@rule(norms.Normalize, any_type=(0,))
def _normalize(to: Emitter, op: Operator, x: Array, mean: Array, std: Array) -> Any:
    if x.dtype.kind == "i":
        raise Unlowered(f"pixels of type {x.dtype}")
    channels = (1, -1) + (1,) * (x.ndim - 2)
    mean, std = mean.reshape(channels), std.reshape(channels)
    y = to.map("normalize", x, mean, std, p=(255.0 if x.dtype == np.uint8 else 1.0,))
    return y, lambda grad: (to.map("div", grad, std), None, None)


_KINDS = {  # NumPy's names that are not the maps'
    "absolute": "abs", "arccos": "acos", "arccosh": "acosh", "arcsin": "asin", "arcsinh": "asinh", "arctan": "atan",
    "arctan2": "atan2", "arctanh": "atanh", "divide": "div", "multiply": "mul", "negative": "neg", "power": "pow",
    "rint": "round", "subtract": "sub",
}  # fmt: skip


class _Taken(np.lib.mixins.NDArrayOperatorsMixin):
    """An array of the plan's that takes NumPy's functions down as maps: what formulas of elementwise.py are given."""

    def __init__(self, to: Emitter, array: Array) -> None:
        self.to, self.array = to, array

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **_: Any) -> _Taken:
        return self._map(_KINDS.get(ufunc.__name__, ufunc.__name__), *inputs)

    def _map(self, kind: str, *inputs: Any) -> _Taken:
        arrays = [x.array if isinstance(x, _Taken) else np.asarray(x, np.float32) for x in inputs]
        return _Taken(self.to, self.to.map(kind, *arrays))

    def __bool__(self) -> bool:  # asked by np.where, which would take an object for True
        raise Unlowered("a formula decides by values")

    def erf(self) -> _Taken:
        return self._map("erf", self)

    def sign(self) -> _Taken:
        return self._map("sign", self)

    def i0(self) -> _Taken:
        raise Unlowered("NumPy computes it")

    i1 = i0

    def share(self, a: _Taken, b: _Taken) -> _Taken:
        return self._map("share", self, a, b)


@rule(*elementwise.FORMULAS)
def _elementwise(to: Emitter, op: Operator, *arrays: Array) -> Any:
    inputs = [_Taken(to, array) for array in arrays]
    y = elementwise.FORMULAS[op.function](*inputs)
    named = dict(zip(elementwise.names_of(len(arrays)), (*inputs, y), strict=True))

    def backward(grad: Array) -> tuple[Array | None, ...]:
        found = elementwise.gradients_of(op.function, op.needs, _Taken(to, grad), named)
        return tuple(None if g is None else to.sum_to(g.array, x.shape) for g, x in zip(found, arrays, strict=True))

    return y.array, backward


# ---- types -----------------------------------------------------------------------------------------------------------


@rule(Cast, any_type=(0,))
def _cast(to: Emitter, op: Operator, x: Array, *, dtype: np.dtype[Any]) -> Any:
    if dtype != np.float32 and x.dtype != np.float32:
        raise Unlowered(f"from {x.dtype} to {dtype}")
    return to.map("copy", x, dtype=dtype), lambda grad: (to.map("copy", grad, dtype=x.dtype),)


@rule(Round)
def _round(to: Emitter, op: Operator, x: Array, *, dtype: np.dtype[Any]) -> Any:
    if x.dtype != np.float32 or dtype not in (np.bool_, np.int32, np.int64):
        raise Unlowered(f"from {x.dtype} to {dtype}")
    return to.map("not_equal", x, ZERO, dtype=dtype) if dtype == np.bool_ else to.map("copy", x, dtype=dtype), None


@rule(Detach, any_type=(0,))
def _detach(to: Emitter, op: Operator, x: Array) -> Any:
    return x, None


@rule(GradientHook, any_type=(0,))
def _gradient_hook(to: Emitter, op: Operator, x: Array, *, hooks: Any) -> Any:
    def backward(grad: Array) -> tuple[Array]:
        return (to.waited_for(grad, lambda: hooks),)

    return x, backward


@rule(Seed)
def _seed(to: Emitter, op: Operator, *arrays: Array) -> Any:
    starts = arrays[len(arrays) // 2 :]
    return ZERO, lambda grad: (*(to.map("copy", start) for start in starts), *[None] * len(starts))


# ---- sums, extrema ---------------------------------------------------------------------------------------------------


@rule(shaping.Sum)
def _sum(to: Emitter, op: Operator, x: Array, *, dim: tuple[int, ...] | None, keepdim: bool) -> Any:
    axes = tuple(range(x.ndim)) if dim is None else tuple(d % x.ndim for d in dim)
    single = tuple(1 if d in axes else size for d, size in enumerate(x.shape))

    def backward(grad: Array) -> tuple[Array]:
        grad = to.reshape(grad, single)
        return (grad if single == x.shape else np.broadcast_to(grad, x.shape),)  # which nobody may write to

    y = to.sum(x, axes)
    return (to.reshape(y, single) if keepdim else y), backward


@rule(shaping.Extremum, shaping.Place)
def _extremum(to: Emitter, op: Operator, x: Array, *, dim: int | None, keepdim: bool, pick: Any) -> Any:
    if pick not in (np.argmax, np.argmin):
        raise Unlowered("it sorts")
    whole = to.contiguous(x)
    outer, size, inner = (1, x.size, 1) if dim is None else around(x.shape, dim)
    n = (outer, size, inner, int(pick is np.argmin))
    where = to.array((outer, inner), np.int64)
    if op.function is shaping.Place:
        to.call("extremum", None, where, whole, n=n)
        return where.reshape(op.output.shape), None
    y = to.array((outer, inner))
    to.call("extremum", y, where, whole, n=n)

    def backward(grad: Array) -> tuple[Array]:
        grad_x = to.array(x.shape)
        to.call("extremum_backward", grad_x, to.contiguous(grad), where, n=n)
        return (grad_x,)

    return y.reshape(op.output.shape), backward


@rule(reductions.Peak)
def _peak(to: Emitter, op: Operator, x: Array, *, dim: tuple[int, ...] | None, keepdim: bool, largest: bool) -> Any:
    axes = tuple(range(x.ndim)) if dim is None else dim
    kept = tuple(d for d in range(x.ndim) if d not in axes)
    single = tuple(1 if d in axes else size for d, size in enumerate(x.shape))
    outer = int(np.prod([x.shape[d] for d in kept], dtype=int))
    whole = to.contiguous(x.transpose(*kept, *axes))
    y, where = to.array((outer, 1)), to.array((outer, 1), np.int64)
    to.call("extremum", y, where, whole, n=(outer, x.size // outer, 1, int(not largest)))
    y = y.reshape(single)

    def backward(grad: Array) -> tuple[Array]:
        same = to.map("equal", x, y)
        return (to.map("mul", same, to.map("div", to.reshape(grad, single), to.sum_to(same, single))),)

    return y.reshape(op.output.shape), backward


@rule(reductions.Middle)
def _middle(to: Emitter, op: Operator, x: Array, *, pick: Any) -> Any:
    raise Unlowered("it sorts")


@rule(reductions.Prod)
def _prod(to: Emitter, op: Operator, x: Array, *, dim: int) -> Any:
    x, y, n = to.contiguous(x), to.array(op.output.shape), around(x.shape, dim)
    to.call("prod", y, x, n=n)

    def backward(grad: Array) -> tuple[Array]:
        grad_x = to.array(x.shape)
        to.call("prod_backward", grad_x, to.contiguous(grad), x, y, n=n)
        return (grad_x,)

    return y, backward


@rule(reductions.Truth, any_type=(0,))
def _truth(to: Emitter, op: Operator, x: Array, *, dim: tuple[int, ...] | None, keepdim: bool, every: bool) -> Any:
    counted = to.map("equal" if every else "not_equal", x, ZERO)
    total = to.sum(counted, tuple(range(x.ndim)) if dim is None else dim)
    y = to.map("equal" if every else "not_equal", total, ZERO, dtype=np.bool_)
    return y.reshape(op.output.shape), None


def around(shape: tuple[int, ...], dim: int) -> tuple[int, int, int]:
    """Sizes before, at and after a dimension."""
    return int(np.prod(shape[:dim], dtype=int)), shape[dim], int(np.prod(shape[dim + 1 :], dtype=int))


# ---- what moves entries ----------------------------------------------------------------------------------------------


@rule(shaping.Reshape, any_type=(0,))
def _reshape(to: Emitter, op: Operator, x: Array, *, shape: tuple[int, ...]) -> Any:
    return to.reshape(x, op.output.shape), lambda grad: (to.reshape(grad, x.shape),)


@rule(shaping.Permute, any_type=(0,))
def _permute(to: Emitter, op: Operator, x: Array, *, dims: tuple[int, ...]) -> Any:
    return x.transpose(dims), lambda grad: (grad.transpose(np.argsort(dims)),)


def basic_index(index: Any) -> tuple[Any, ...]:
    """Integers and slices, by which NumPy gives a view, also where one entry is picked."""
    parts = index if isinstance(index, tuple) else (index,)
    if not all(isinstance(i, (int, np.integer, slice, type(None), type(...))) for i in parts):
        raise Unlowered("an index that is an array")
    return parts if ... in parts else (*parts, ...)


@rule(shaping.Index, any_type=(0,))
def _index(to: Emitter, op: Operator, x: Array, *, index: Any) -> Any:
    parts = basic_index(index)

    def backward(grad: Array) -> tuple[Array]:
        grad_x = to.zeros(x.shape, x.dtype)
        to.map("copy", grad, out=grad_x[parts])
        return (grad_x,)

    return x[parts], backward


@rule(joining.Cat)
def _cat(to: Emitter, op: Operator, *arrays: Array, dim: int) -> Any:
    y = to.array(op.output.shape)
    ends = np.cumsum([x.shape[dim] for x in arrays])
    places = [(slice(None),) * dim + (slice(end - x.shape[dim], end),) for x, end in zip(arrays, ends, strict=True)]
    for x, place in zip(arrays, places, strict=True):
        if x.size:
            to.map("copy", x, out=y[place])
    return y, lambda grad: tuple(
        grad[place] if needed else None for place, needed in zip(places, op.needs, strict=True)
    )


# ---- random numbers --------------------------------------------------------------------------------------------------


@rule(draws.RandnLike, draws.RandLike, draws.RandintLike, draws.Permutation, any_type=(0,))
def _drawn(to: Emitter, op: Operator, x: Array, *, dtype: np.dtype[Any], **attributes: Any) -> Any:
    return _draw(to, op.function, x.shape, dtype, **attributes), None


def _draw(
    to: Emitter, function: type[Function], shape: tuple[int, ...], dtype: np.dtype[Any], **attributes: Any
) -> Array:
    """Drawn by the operator itself before the program runs: the numbers depend on the shape alone."""
    y, like = to.arena.array(shape, dtype), without_numbers(shape, dtype)
    ctx = Context(dtype, (False,), {})

    def draw() -> None:
        y[...] = function.forward(ctx, like, dtype=dtype, **attributes)

    to.early(draw)
    return y


@rule(draws.Bernoulli)
def _bernoulli(to: Emitter, op: Operator, x: Array) -> Any:
    x = to.contiguous(x)
    to.call("within", x, n=(x.size, 0))
    return to.map("less", _draw(to, draws.RandLike, x.shape, x.dtype), x), None


@rule(draws.Multinomial)
def _multinomial(to: Emitter, op: Operator, x: Array, **_: Any) -> Any:
    raise Unlowered("it draws indices")


@rule(draws.Binomial, draws.Poisson, draws.VonMises, gamma.StandardDirichlet, gamma.StandardGamma)
def _drawn_by_numpy(to: Emitter, op: Operator, *_: Array) -> Any:
    raise Unlowered("NumPy draws it")


@rule(gamma.LGamma, gamma.PolyGamma, inverse_erf.ErfInv)
def _computed_by_numpy(to: Emitter, op: Operator, x: Array, **_: Any) -> Any:
    raise Unlowered("NumPy computes it")


# ---- formulas of a user's --------------------------------------------------------------------------------------------


@rule(Elementwise)
def _own(to: Emitter, op: Operator, *inputs: Array, formula: Formula) -> Any:
    def computed(formula: Formula, *arrays: Array) -> Array:  # the operator keeps its code alive
        return to.map("own", *arrays, n=(formula.address(inputs[0].dtype),))

    def backward(grad: Array) -> tuple[Array | None, ...]:
        return tuple(
            to.sum_to(computed(formula.gradient(k), *inputs, grad), x.shape) if op.needs[k] else None
            for k, x in enumerate(inputs)
        )

    return computed(formula, *inputs), backward
