"""A formula as machine code: straight lines of Python, compiled by Numba into a loop over contiguous entries.

In float32 the functions that matter are polynomials without branches, so that LLVM makes vectors of the whole loop;
others, and all in float64, are the C library's.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from fastnn.errors import ArgumentError, needs

from .expressions import Expression, make, where

__all__ = ["compiled"]

_INFIX = {
    "add": "+", "sub": "-", "mul": "*", "div": "/", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==",
    "ne": "!=", "and": "&", "or": "|",
}  # fmt: skip
_MOST = 40.0  # exp of more than this is no different from infinity where 1 is added to it


def _exp_of(x: Expression) -> Expression:
    return make("exp", where(make("gt", x, _MOST), _MOST, x))


def _sigmoid(x: Expression) -> Expression:
    return make("div", _exp_of(x), make("add", _exp_of(x), 1))


def _softplus(x: Expression) -> Expression:
    return where(make("gt", x, _MOST), x, Expression.of("log1p", _exp_of(x)))


def _tanh_softplus(x: Expression) -> Expression:
    w = make("mul", _exp_of(x), make("add", _exp_of(x), 2))
    return make("div", w, make("add", w, 2))


_MADE_OF = {"sigmoid": _sigmoid, "softplus": _softplus, "tanh_softplus": _tanh_softplus}


def compiled(formula: Expression, inputs: int, dtype: np.dtype[Any]) -> Any:
    """Numba's cfunc: void(int64 count, T **inputs, T *y). Its `address` holds as long as it does."""
    numba = _numba()
    lines: list[str] = []
    names, done = _functions(dtype), dict[Expression, str]()

    def name_of(x: Expression) -> str:
        if x not in done:
            args = (_MADE_OF[x.op](*x.args),) if x.op in _MADE_OF else () if x.op in ("input", "number") else x.args
            done[x] = said(x, [name_of(a) for a in args])
        return done[x]

    def said(x: Expression, args: list[str]) -> str:
        if x.op in _MADE_OF:
            return args[0]
        if x.op == "number":
            name = f"c{len(names)}"
            names[name] = dtype.type(x.args[0])
            return name
        name = f"t{len(lines)}"
        if x.op == "input":
            text = f"x{x.args[0]}[i]"
        elif x.op in _INFIX:
            text = f"{args[0]} {_INFIX[x.op]} {args[1]}"
        elif x.op == "where":
            text = f"{args[1]} if {args[0]} else {args[2]}"
        elif x.op in ("neg", "not"):
            text = f"{'-' if x.op == 'neg' else 'not '}{args[0]}"
        else:
            text = f"{x.op}({', '.join(args)})"
        lines.append(f"{name} = {text}")
        return name

    result = name_of(formula)
    used = [f"x{k} = inputs[{k}]" for k in range(inputs)]
    body = "\n        ".join([*lines, f"y[i] = {result}"])
    source = f"def own(count, inputs, y):\n    {'; '.join(used)}\n    for i in range(count):\n        {body}\n"
    exec(source, names)
    T = numba.from_dtype(dtype)
    pointer = numba.types.CPointer
    signature = numba.void(numba.int64, pointer(pointer(T)), pointer(T))
    try:
        return numba.cfunc(signature, error_model="numpy", fastmath={"contract"})(names["own"])
    except numba.core.errors.NumbaError as error:
        raise ArgumentError(f"elementwise: Numba cannot compile this formula ({error})") from error


def _numba() -> Any:
    with needs("Numba", "jit"):
        import numba
    return numba


def _functions(dtype: np.dtype[Any]) -> dict[str, Any]:
    """What the lines may call, by name."""
    import math

    plain = {name: getattr(math, name) for name in vars(math) if not name.startswith("_")}
    plain |= {"abs": abs, "floor": np.floor, "ceil": np.ceil, "trunc": np.trunc, "fmod": np.fmod}
    return plain | (_in_vectors() if dtype == np.float32 else {})


@functools.cache
def _in_vectors() -> dict[str, Any]:
    """Functions of float32 without branches, within 2 ulp or so; infinities, NaN and subnormal numbers as in C."""
    numba = _numba()
    inner = numba.njit(error_model="numpy", fastmath={"contract"})
    F, J = np.float32, np.int32
    log2e, magic, magic_bits = F(1.44269504), F(12582912.0), J(0x4B400000)
    ln2_high, ln2_low = F(0.693359375), F(-2.12194440e-4)
    zero, half, one, two, inf = F(0), F(0.5), F(1), F(2), F(np.inf)
    e6, e5, e4, e3, e2 = map(F, (1.3814389e-3, 8.3688172e-3, 4.1668396e-2, 1.6666520e-1, 4.9999994e-1))
    l4, l3, l2, l1 = map(F, (2.8024465e-1, 2.7999139e-1, 4.0021700e-1, 6.6666412e-1))
    t4, t3, t2, t1 = map(F, (1.64375745e-2, -5.26718101e-2, 0.133207250, -0.333329466))
    most, least, small_most, tiny, lift = F(89), F(-104), F(0.55), F(1.17549435e-38), F(8388608)
    root_bits, bias, shift, lifted = J(0x3F3504F3), J(127), J(23), F(-23)

    @inner
    def power_of_2(n):  # type: ignore[no-untyped-def]
        return J((n + bias) << shift).view(F)

    @inner
    def expm1_reduced(r):  # type: ignore[no-untyped-def]
        q = (((r * e6 + e5) * r + e4) * r + e3) * r + e2
        return r + r * r * q

    @inner
    def exp(x):  # type: ignore[no-untyped-def]
        u = most if x > most else x
        u = least if u < least else u
        t = F(u * log2e + magic)
        whole = t - magic
        n = J(t.view(J) - magic_bits)
        first = J(n >> J(1))
        p = one + expm1_reduced((u - whole * ln2_high) - whole * ln2_low)
        return p * power_of_2(first) * power_of_2(J(n - first))

    @inner
    def expm1(x):  # type: ignore[no-untyped-def]
        u = F(80) if x > F(80) else x
        u = F(-30) if u < F(-30) else u
        t = F(u * log2e + magic)
        whole = t - magic
        scale = power_of_2(J(t.view(J) - magic_bits))
        y = expm1_reduced((u - whole * ln2_high) - whole * ln2_low) * scale + (scale - one)
        return exp(x) if x > F(80) else x if abs(x) < tiny else y

    @inner
    def log(x):  # type: ignore[no-untyped-def]
        low = x < tiny
        v = F(x * lift if low else x)
        bits = v.view(J)
        n = J((bits - root_bits) >> shift)
        whole = F(n)
        m = J(bits - (n << shift)).view(F)
        f = m - one
        s = f / (two + f)
        z = s * s
        h = half * f * f
        q = ((z * l4 + l3) * z + l2) * z + l1
        whole = whole + (lifted if low else zero)
        y = whole * ln2_high + ((f - (h - s * (h + z * q))) + whole * ln2_low)
        y = x if x == inf else y
        y = -inf if x == zero else y
        return x - x + F(np.nan) if x < zero else y + (x - x if x != x else zero)

    @inner
    def log1p(x):  # type: ignore[no-untyped-def]
        u = one + x
        y = log(u) + (x - (u - one)) / u
        y = x if u == one else y
        return u if u == inf else -inf if u == zero else y

    @inner
    def tanh(x):  # type: ignore[no-untyped-def]
        a = abs(x)
        b = F(10) if a > F(10) else a
        z = b * b
        q = ((z * t4 + t3) * z + t2) * z + t1
        y = b + b * z * q if b < small_most else one - two / (exp(two * b) + one)
        return -y if x < zero else y

    return {"exp": exp, "expm1": expm1, "log": log, "log1p": log1p, "tanh": tanh}
