"""Elementwise functions, comparisons and logic: values and gradients as PyTorch's in float64, edge values, too."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn.errors import ArgumentError, DTypeError, ShapeError

RNG = np.random.default_rng(3)
ROWS, OTHER = RNG.normal(size=(4, 6)), RNG.normal(size=(4, 6))
UNIT, POSITIVE = RNG.uniform(0.01, 0.99, (4, 6)), RNG.uniform(0.1, 5, (4, 6))
HALVES = np.array([-2.5, -1.5, -0.5, -0.0, 0.0, 0.5, 1.5, 2.5])
EDGES = np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e-300, -1e300, 0.5])
ANY = ("asinh", "atan", "ceil", "cos", "cosh", "erf", "erfc", "exp", "exp2", "expm1", "floor", "frac", "round", "sign",
       "sin", "sinh", "square", "tan", "trunc", "abs", "neg", "sigmoid", "tanh", "relu", "nan_to_num")  # fmt: skip
OF_UNIT = ("acos", "asin", "atanh", "logit", "log10", "log1p", "log2", "log", "sqrt", "reciprocal", "rsqrt")

# Functions of the package, fastnn or PyTorch, and what they are computed on.
CALLS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    **{name: (lambda t, x, name=name: getattr(t, name)(x), (ROWS,)) for name in ANY},
    **{name: (lambda t, x, name=name: getattr(t, name)(x), (UNIT,)) for name in OF_UNIT},
    "acosh": (lambda t, x: t.acosh(x), (POSITIVE + 1,)),
    "add, alpha": (lambda t, x, y: t.add(x, y, alpha=0.5), (ROWS, OTHER[0])),
    "sub, alpha": (lambda t, x, y: x.sub(y, alpha=2), (ROWS, OTHER[:, :1])),
    "addcdiv": (lambda t, x, y, z: t.addcdiv(x, y, z, value=0.5), (ROWS, OTHER[0], POSITIVE)),
    "addcmul": (lambda t, x, y, z: t.addcmul(x, y, z, value=0.5), (ROWS[:1], OTHER, POSITIVE)),
    "atan2": (lambda t, x, y: t.atan2(x, y), (ROWS, OTHER[0])),
    "clamp": (lambda t, x: t.clamp(x, -0.5, 0.5) + x.clamp(max=0.1) + x.clip(min=0), (ROWS,)),
    "clamp, at the bounds": (lambda t, x: t.clamp(x, -0.5, 0.5), (HALVES,)),
    "clamp, tensors": (lambda t, x, y, z: t.clamp(x, y, z), (ROWS, OTHER[0] - 1, OTHER[0] + 0.3)),
    "clamp, one tensor": (lambda t, x, y: x.clamp(min=y) + t.clamp(x, max=y), (HALVES, HALVES)),
    "clamp_min": (lambda t, x: t.clamp_min(x, 0.2) + x.clamp_max(0.1), (ROWS,)),
    "div, floor": (lambda t, x, y: t.div(x, y, rounding_mode="floor") + x * 0 + y * 0, (ROWS * 9, OTHER)),
    "div, trunc": (lambda t, x, y: t.div(x, y, rounding_mode="trunc") + x * 0 + y * 0, (ROWS * 9, OTHER)),
    "div, tenths": (lambda t, x: x * 0 + t.div(x, 0.1, rounding_mode="floor") + x.detach() // 0.1, (HALVES,)),
    "fmod": (lambda t, x, y: t.fmod(x, y), (ROWS * 9, OTHER)),
    "fmod, number": (lambda t, x: x.fmod(-1.5), (ROWS * 9,)),
    "lerp": (lambda t, x, y, z: t.lerp(x, y, z), (ROWS, OTHER, UNIT)),
    "lerp, number": (lambda t, x, y: x.lerp(y, 0.3), (ROWS, OTHER)),
    "logit, eps": (lambda t, x: t.logit(x, 0.3), (UNIT,)),
    "maximum": (lambda t, x, y: t.maximum(x, y), (ROWS, OTHER[0])),
    "logaddexp": (lambda t, x, y: t.logaddexp(x * 300, y * 300) + x.logaddexp(y), (ROWS, OTHER[0])),
    "maximum, equal": (lambda t, x, y: t.maximum(x, y), (HALVES, np.abs(HALVES))),
    "minimum": (lambda t, x, y: t.minimum(x, y), (ROWS, OTHER[:, :1])),
    "minimum, equal": (lambda t, x, y: x.minimum(y), (HALVES, np.abs(HALVES))),
    "pow": (lambda t, x, y: t.pow(x, y), (POSITIVE, OTHER)),
    "remainder": (lambda t, x, y: t.remainder(x, y) + x % y, (ROWS * 9, OTHER)),
    "remainder, number": (lambda t, x: x.remainder(-1.5) + x % 0.7, (ROWS * 9,)),
    "round, decimals": (lambda t, x: t.round(x, decimals=1) + x * 0, (ROWS,)),
    "round, halves": (lambda t, x: x.round(), (HALVES,)),
    "sign, zero": (lambda t, x: x.sign() + t.abs(x), (HALVES,)),
    "transposed": (lambda t, x: t.sin(x.t()) * x.t().square(), (ROWS,)),
    "sliced": (lambda t, x: x[::2, 1:].cos() + x[1::2, :-1].erf(), (ROWS,)),
    "empty": (lambda t, x: x.sin(), (np.zeros((0, 3)),)),
    "a number": (lambda t, x: x.sin() * x.maximum(x * 2), (np.array(0.3),)),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_values_and_gradients_are_pytorchs(name: str) -> None:
    torch = pytest.importorskip("torch")
    call, arrays = CALLS[name]
    mine = [fnn.Tensor(x.copy(), requires_grad=True) for x in arrays]
    theirs = [torch.tensor(x, requires_grad=True) for x in arrays]
    found, expected = call(fnn, *mine), call(torch, *theirs)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found.data, expected.detach().numpy(), rtol=1e-10, atol=1e-12)
    weights = RNG.normal(size=found.shape)
    found.backward(weights)
    expected.backward(torch.tensor(weights))
    for x, y in zip(mine, theirs, strict=True):
        assert x.grad is not None
        np.testing.assert_allclose(x.grad, y.grad.numpy(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", [*ANY, *OF_UNIT])
def test_edge_values_are_pytorchs(name: str) -> None:
    torch = pytest.importorskip("torch")
    with np.errstate(all="ignore"):
        found = getattr(fnn, name)(EDGES).data
    np.testing.assert_allclose(found, getattr(torch, name)(torch.tensor(EDGES)).numpy(), rtol=1e-12, atol=1e-300)


def test_edges_of_two() -> None:
    torch = pytest.importorskip("torch")
    a, b = (np.ascontiguousarray(x) for x in np.broadcast_arrays(EDGES, EDGES[:, None]))
    for name in ("maximum", "minimum", "atan2", "eq", "ne", "lt", "le", "gt", "ge", "isclose", "logical_and",
                 "logical_or", "logical_xor"):  # fmt: skip
        with np.errstate(all="ignore"):
            found = getattr(fnn, name)(fnn.Tensor(a), b).data
        expected = getattr(torch, name)(torch.tensor(a), torch.tensor(b)).numpy()
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected, err_msg=name)


# By hand: what is called, and what it gives.
KNOWN: list[tuple[Callable[[], Any], Any]] = [
    (lambda: fnn.sin([0.0, math.pi / 6]), [0, 0.5]),
    (lambda: fnn.tensor([0.0, 1.0]).erf(), [0, 0.8427008]),
    (lambda: fnn.tensor([4.0]).rsqrt(), [0.5]),
    (lambda: fnn.round(fnn.tensor([0.5, 1.5, -2.5])), [0, 2, -2]),
    (lambda: fnn.round(fnn.tensor([1.25, -0.04]), decimals=1), [1.2, 0]),
    (lambda: fnn.trunc(fnn.tensor([-1.5, 1.5])), [-1, 1]),
    (lambda: fnn.remainder(fnn.tensor([-3.0, 3.0]), 2), [1, 1]),
    (lambda: fnn.fmod(fnn.tensor([-3.0, 3.0]), 2), [-1, 1]),
    (lambda: fnn.tensor([7, -7]) // 2, [3, -4]),
    (lambda: fnn.tensor([7, -7]) % 3, [1, 2]),
    (lambda: fnn.div(fnn.tensor([7, -7]), 2, rounding_mode="trunc"), [3, -3]),
    (lambda: 7 // fnn.tensor([2.0]), [3]),
    (lambda: 7 % fnn.tensor([4]), [3]),
    (lambda: fnn.sign(fnn.tensor([-2.0, 0.0, math.nan])), [-1, 0, 0]),
    (lambda: fnn.tensor([3]).square(), [9]),
    (lambda: fnn.clamp(fnn.tensor([1, 5]), 2, 4), [2, 4]),
    (lambda: fnn.clamp(fnn.tensor([1.0, 5.0]), fnn.tensor([2.0, 0.0]), fnn.tensor([3.0, 3.0])), [2, 3]),
    (lambda: fnn.lerp(fnn.tensor([0.0]), fnn.tensor([4.0]), 0.25), [1]),
    (lambda: fnn.maximum(fnn.tensor([1.0, math.nan]), 2.0), [2, math.nan]),
    (lambda: fnn.nan_to_num(fnn.tensor([math.nan, math.inf, 1.0]), 7.0, posinf=8.0), [7, 8, 1]),
    (lambda: fnn.isnan(fnn.tensor([1.0, math.nan])), [False, True]),
    (lambda: fnn.isinf(fnn.tensor([1.0, -math.inf, math.nan])), [False, True, False]),
    (lambda: fnn.isfinite(fnn.tensor([1.0, -math.inf, math.nan])), [True, False, False]),
    (lambda: fnn.isfinite(fnn.tensor([1])), [True]),
    (lambda: (fnn.tensor([1, 2]) > 1) & fnn.tensor([True, True]), [False, True]),
    (lambda: (fnn.tensor([1, 2]) > 1) | (fnn.tensor([1, 2]) < 2), [True, True]),
    (lambda: ~fnn.tensor([True, False]), [False, True]),
    (lambda: fnn.tensor([True, False]) ^ True, [False, True]),
    (lambda: fnn.tensor([6]) & 3, [2]),
    (lambda: ~fnn.tensor([5]), [-6]),
    (lambda: fnn.logical_not(fnn.tensor([0.0, 2.0])), [True, False]),
    (lambda: fnn.logical_and(fnn.tensor([1, 0]), fnn.tensor([2.0, 1.0])), [True, False]),
    (lambda: fnn.isclose(fnn.tensor([1.0, math.inf, math.nan]), fnn.tensor([1.000001, math.inf, math.nan])),
     [True, True, False]),
    (lambda: fnn.isclose(fnn.tensor([math.nan]), fnn.tensor([math.nan]), equal_nan=True), [True]),
]  # fmt: skip


@pytest.mark.parametrize("place", range(len(KNOWN)))
def test_known_values(place: int) -> None:
    call, expected = KNOWN[place]
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(call().data, expected, rtol=1e-6, atol=1e-7)


def test_whole_numbers_stay_whole_where_pytorchs_do() -> None:
    x = fnn.tensor([3, -4])
    for name in ("floor", "ceil", "trunc", "round", "sign", "square", "abs", "neg"):
        assert getattr(fnn, name)(x).dtype == np.int64, name
    for name in ("sin", "exp", "sqrt", "erf", "reciprocal"):
        with np.errstate(all="ignore"):
            assert getattr(fnn, name)(x).dtype == np.float32, name
    assert (x // 2).dtype == (x % 2).dtype == fnn.maximum(x, 0).dtype == np.int64
    assert fnn.atan2(x, 2).dtype == np.float32


def test_equal_and_allclose_are_truth_values() -> None:
    a, b = fnn.tensor([1.0, 2.0], requires_grad=True), fnn.tensor([1.0, 2.0])
    assert fnn.equal(a, b) is True
    assert fnn.equal(a, b[:1]) is a.equal(b + 1) is False
    assert fnn.allclose(a, b + 1e-9) is True
    assert a.allclose(b + 1e-3) is False


def test_in_place_forms() -> None:
    x = fnn.tensor([0.5, -1.5])
    assert x.sin_() is x
    x.abs_().sqrt_().round_(decimals=1).clamp_max_(0.8)
    np.testing.assert_allclose(x.tolist(), [0.7, 0.8], rtol=1e-6)
    with pytest.raises(DTypeError, match="erf_: the result does not fit"):
        fnn.tensor([1]).erf_()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: fnn.maximum(fnn.ones(2), fnn.ones(3)), ShapeError, r"maximum: expected shapes that broadcast"),
        (lambda: fnn.ones(2) < fnn.ones(3), ShapeError, r"lt: expected shapes that broadcast"),
        (lambda: fnn.ones(2) & True, DTypeError, "bitwise_and: expected booleans or integers, got float32"),
        (lambda: fnn.div(fnn.ones(2), 2, rounding_mode="up"), ArgumentError, "rounding_mode 'trunc' or 'floor'"),
        (lambda: fnn.clamp(fnn.ones(2)), ArgumentError, "expected min or max or both"),
        (lambda: fnn.sin("text"), DTypeError, "Tensor: expected float32"),
        (lambda: fnn.round(fnn.ones(2), decimals=0.5), ArgumentError, "decimals to be a whole number"),
    ],
)
def test_what_is_refused(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_only_what_the_gradient_needs_is_kept() -> None:
    """What is written in place after forward is noticed where backward reads it, and there alone."""
    x = fnn.tensor([0.5], requires_grad=True)
    y, z = x.expm1(), x.sin()
    with fnn.no_grad():
        x += 1
    y.sum().backward()
    assert x.grad.tolist() == pytest.approx([math.exp(0.5)])
    with pytest.raises(fnn.errors.GraphError, match="modified in place"):
        z.sum().backward()
