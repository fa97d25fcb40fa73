"""`elementwise`: what formulas compute, against NumPy in float64, and their derivatives, eagerly and in plans."""

from __future__ import annotations

import copy
import math
import pickle
from math import log1p
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn
from fastnn.errors import ArgumentError, ShapeError

pytest.importorskip("numba")
X = np.concatenate([np.linspace(-6, 6, 61), [-200.0, 0.0, 200.0]])


def softplus(x: float) -> float:
    return log1p(math.exp(x))


@fnn.elementwise
def mish(x: float) -> float:
    """x tanh(softplus(x))"""
    return x * math.tanh(softplus(x))


@fnn.elementwise
def bend(x: float, low: float, width: float = 2.0) -> float:
    if x > width:
        return x - width / 2 + np.sin(x)
    return low * x if x < 0 else x**2 / (2 * width) + abs(low) * (x > 1)


def bend_in_numpy(x: Any, low: Any) -> Any:
    middle = x**2 / 4 + abs(low) * (x > 1)
    return np.where(x > 2, x - 1 + np.sin(x), np.where(x < 0, low * x, middle))


def test_mish_is_mish_far_out_too() -> None:
    x = fnn.Tensor(X.astype(np.float32), requires_grad=True)
    y = mish(x)
    y.sum().backward()
    share = np.tanh(np.logaddexp(0, X))
    np.testing.assert_allclose(y.data, X * share, rtol=2e-6, atol=1e-7)
    slope = share + X * (1 - share**2) / (1 + np.exp(-X.clip(-100)))
    np.testing.assert_allclose(x.grad, slope, rtol=2e-5, atol=2e-6)
    assert mish(fnn.Tensor(X)).dtype == np.float64
    np.testing.assert_allclose(mish(fnn.Tensor(X)).data, X * share, rtol=1e-13, atol=1e-300)
    assert mish.__doc__ == "x tanh(softplus(x))"


def test_branches_and_several_inputs_that_are_broadcast() -> None:
    x, low = X.reshape(1, 8, 8), np.array([[[0.1]], [[-0.5]]])
    x32, low32 = x.astype(np.float32), low.astype(np.float32)
    np.testing.assert_allclose(bend(x32, low32).data, bend_in_numpy(x32, low32), rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(
        bend(x32.transpose(0, 2, 1), 0.25).data, bend_in_numpy(x32.transpose(0, 2, 1), 0.25), rtol=2e-5
    )
    inner = np.array([[-3.0, -0.5, 0.4, 1.5, 1.7, 2.5]])
    assert fnn.gradcheck(bend, (inner, np.array([[0.3], [-0.7]])))
    assert bend(np.zeros((0, 3), np.float32), 1.0).shape == (0, 3)
    assert bend(fnn.Tensor(3.0), 1.0).shape == ()


def many(a: Any, b: Any) -> Any:
    """Functions of math and of NumPy, each where it is smooth for a in (0.1, 0.9), b in (1.1, 1.9)."""
    trigonometric = math.sin(a) * np.cos(b) + math.tan(a) + math.asin(a) * np.arccos(a) - np.arctan(b)
    hyperbolic = np.sinh(a) - math.cosh(b) + math.asinh(a) * math.acosh(b) + np.arctanh(a)
    powers = (
        a**b + b**-3 + a**7 + math.sqrt(b) + np.exp2(a) - math.log2(b) * np.log10(b) + math.log(a, 3) + math.expm1(b)
    )
    others = math.erf(a) * math.erfc(b) + math.hypot(a, b) + np.arctan2(a, b) + math.fmod(b, a) * 0 + np.logaddexp(a, b)
    chosen = np.maximum(a, b) * min(a, b) + np.clip(b, 1.0, 1.5) + np.where(a > 0.5, a, 2 * a) + math.copysign(a, -b)
    return trigonometric + hyperbolic + powers + others + chosen + 1 / (1 + np.exp(-a)) + np.floor(b) + b % a + b // a


def test_derivatives_of_all_that_has_one() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.uniform(0.1, 0.9, 12), rng.uniform(1.1, 1.9, 12)
    a, b = a[abs(a - 0.5) > 0.01], b[abs(a - 0.5) > 0.01]
    operator = fnn.elementwise(many)
    expected = [many(np.float64(p), np.float64(q)) for p, q in zip(a, b, strict=True)]
    np.testing.assert_allclose(operator(a, b).data, expected, rtol=1e-12)
    assert fnn.gradcheck(operator, (a, b))
    assert fnn.gradgradcheck(fnn.elementwise(lambda x, y: x**3 * y + math.exp(x) / y), (a[:3], b[:3]))


def test_a_derivative_that_is_given_is_taken() -> None:
    own = fnn.elementwise(derivative=lambda x, y: (10 * x, y - 3))(lambda x, y: math.floor(x) * y)
    x, y = fnn.Tensor([1.5, -2.0], requires_grad=True), fnn.Tensor([2.0, 4.0], requires_grad=True)
    own(x, y).sum().backward()
    assert x.grad.tolist() == [15, -20]
    assert y.grad.tolist() == [-1, 1]


def network() -> nn.Sequential:
    fnn.manual_seed(0)
    return nn.Sequential(
        nn.Linear(6, 16), mish, nn.Linear(16, 4), fnn.elementwise(lambda x: x * (x > 0)), nn.Linear(4, 3)
    )


def test_compiled_plans_call_it_without_python() -> None:
    pytest.importorskip("fastnn._kernels")
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(2000, 6)).astype(np.float32), rng.integers(0, 3, 2000)
    losses: list[list[float]] = []
    for step in (None, fnn.compile):
        model = network()
        optimizer = fnn.optim.SGD(model.parameters(), lr=0.1)
        loss = nn.CrossEntropyLoss()
        if step is not None:
            run = fnn.compile(model, loss, optimizer)
            losses.append([float(run(x, labels)) for _ in range(4)])
            assert "Python" not in str(run.describe())
            continue
        losses.append([])
        for _ in range(4):
            optimizer.zero_grad()
            value = loss(model(fnn.Tensor(x)), labels)
            value.backward()
            optimizer.step()
            losses[0].append(value.item())
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
    assert losses[0][3] < losses[0][0]
    predict = fnn.compile(model)
    np.testing.assert_allclose(predict(x), model(fnn.Tensor(x)).data, rtol=1e-5, atol=1e-6)
    three = nn.Conv2d(1, 2, 3)
    image = rng.normal(size=(2, 1, 5, 5)).astype(np.float32)
    joined = nn.Sequential(three, fnn.elementwise(lambda x: math.sin(x) * 2))
    np.testing.assert_allclose(
        fnn.compile(joined)(image), 2 * np.sin(three(fnn.Tensor(image)).data), rtol=1e-5, atol=1e-6
    )


def test_models_with_it_can_be_copied() -> None:
    model = network()
    twin = copy.deepcopy(model)
    assert (twin(X[:6].astype(np.float32)[None]).data == model(X[:6].astype(np.float32)[None]).data).all()
    again = pickle.loads(pickle.dumps(mish))
    assert (again(X).data == mish(X).data).all()


def halved(x: float) -> float:
    while x > 1:
        x /= 2
    return x


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: fnn.elementwise(lambda *x: x[0]), "expected a function of 1 to 10 numbers"),
        (lambda: fnn.elementwise(np.exp), "expected a Python function, got ufunc"),
        (lambda: fnn.elementwise(lambda x: math.gamma(x)), "expected one of the functions .*, got gamma"),
        (lambda: fnn.elementwise(lambda x: "a"), "expected numbers in a formula, got str"),
        (lambda: fnn.elementwise(lambda x: (x, x)), "to return one number, got 2"),
        (lambda: fnn.elementwise(lambda x: float(x)), "asks for the number itself"),
        (lambda: fnn.elementwise(halved), "come to an end"),
        (lambda: fnn.elementwise(lambda x: x, derivative=lambda x: (1, 1)), "derivative to return 1 numbers"),
        (
            lambda: fnn.elementwise(lambda x, y: x * y, derivative=lambda x: 1),
            "derivative of the 2 inputs .* positional",
        ),
        (lambda: mish(1.0, 2.0), "mish: expected 1 inputs, got 2"),
        (lambda: bend(1.0, lo=0.5), "bend: expected inputs named x, low, got lo: arguments with defaults keep them"),
    ],
)
def test_what_is_no_formula_is_said(make: Any, said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        make()


def test_inputs_by_name_and_functions_of_c() -> None:
    np.testing.assert_array_equal(bend(low=2.0, x=X).data, bend(X, 2.0).data)
    wave = fnn.elementwise(lambda x: math.sin(x), derivative=math.cos)
    x = fnn.tensor(X, requires_grad=True)
    wave(x).sum().backward()
    np.testing.assert_allclose(x.grad, np.cos(X), rtol=1e-5, atol=1e-6)


def test_shapes_that_do_not_fit() -> None:
    with pytest.raises(ShapeError, match=r"bend: expected inputs of shapes that broadcast, got \(2,\), \(3,\)"):
        bend(np.ones(2), np.ones(3))
