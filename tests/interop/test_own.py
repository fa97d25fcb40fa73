"""Operators of `fnn.elementwise` as ONNX, as C and in PyTorch: they answer as the same formulas in float64."""

from __future__ import annotations

import ctypes
import math
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import special

import fastnn as fnn
from fastnn import nn
from fastnn.interop import export_c
from fastnn.interop.onnx.forms import own
from fastnn.own.derivatives import _SLOPES
from fastnn.own.expressions import FUNCTIONS, TRUTHS

pytest.importorskip("numba")

ENTRIES = np.array([-200, -30, -3.5, -1, -0.75, -1e-4, 0.0, 1e-4, 0.3, 0.75, 1, 2.5, 30, 85], np.float32)


def kinks(x: float, y: float) -> Any:
    if x > y and x > 0:
        return math.exp(-x) - y
    return abs(x) // 2 if not (y < -1) else x % 3


def many(a, b, c, d, e, f, g, h, i, j):  # type: ignore[no-untyped-def]
    return a - b + 2 * c - 3 * d + 4 * e - 5 * f + 6 * g - 7 * h + 8 * i - 9 * j


# A formula, the same of NumPy's arrays in float64, and where both are finite.
CASES: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "mish": (lambda x: x * math.tanh(math.log1p(math.exp(x))), lambda x: x * np.tanh(np.logaddexp(0, x))),
    "softplus": (lambda x: math.log(1 + math.exp(x)), lambda x: np.logaddexp(0, x)),
    "sigmoid": (lambda x: 1 / (1 + math.exp(-x)), special.expit),
    "branches": (kinks, np.vectorize(kinks, [float])),
    "power": (lambda x: abs(x) ** 1.5 + x**3 + (x * x + 1) ** -0.5,
              lambda x: abs(x) ** 1.5 + x**3 + 1 / np.sqrt(x * x + 1)),
    "circles": (lambda x: math.sin(x) + math.cos(x) * math.atan(x) + math.tan(x / 100),
                lambda x: np.sin(x) + np.cos(x) * np.arctan(x) + np.tan(x / 100)),
    "arcs": (lambda x: math.asin(x / 201) + math.acos(x / 201) ** 2 + math.atanh(x / 201),
             lambda x: np.arcsin(x / 201) + np.arccos(x / 201) ** 2 + np.arctanh(x / 201)),
    "hyperbolas": (lambda x: math.sinh(x / 50) + math.cosh(x / 50) + math.asinh(x) + math.acosh(abs(x) + 1),
                   lambda x: np.sinh(x / 50) + np.cosh(x / 50) + np.arcsinh(x) + np.arccosh(abs(x) + 1)),
    "errors": (lambda x: math.erf(x) + math.erfc(x / 2), lambda x: special.erf(x) + special.erfc(x / 2)),
    "expm1": (lambda x: math.expm1(min(x, 3)), lambda x: np.expm1(np.minimum(x, 3))),
    "whole": (lambda x: math.floor(x) + 2 * math.ceil(x) + 3 * math.trunc(x) + math.fmod(x, 0.7),
              lambda x: np.floor(x) + 2 * np.ceil(x) + 3 * np.trunc(x) + np.fmod(x, np.float32(0.7))),
    "angle": (lambda x, y: math.atan2(x, y) + math.hypot(x, y) / 100 + math.copysign(0.5, x) * math.copysign(x, y),
              lambda x, y: np.arctan2(x, y) + np.hypot(x, y) / 100 + np.copysign(0.5, x) * np.copysign(x, y)),
    "logic": (lambda x, y: np.where(np.logical_or(x > y, np.isnan(x)), np.sign(x), np.logical_not(x >= 0) + 2.0),
              lambda x, y: np.where(x > y, np.sign(x), (x < 0) + 2.0)),
    "beyond float32": (lambda x: 1.0 if x < 1e300 else x, np.ones_like),
    "a number": (lambda x, y: 3.0, lambda x, y: np.full(np.broadcast_shapes(x.shape, y.shape), 3.0)),
    "one of two": (lambda x, y: 2.0 * x, lambda x, y: 2 * x + 0 * y),
}  # fmt: skip


class Called(nn.Module):
    """The operator of x (N, 14), and of its rows in another order where it takes two."""

    def __init__(self, name: str) -> None:
        super().__init__()
        formula, self.expected = CASES[name]
        self.own = fnn.elementwise(formula)
        self.count = self.own.formula.inputs

    def operands(self, x: Any) -> list[Any]:
        return [x, x[:, 3:4]][: self.count] if self.count < 3 else [x * k for k in range(1, self.count + 1)]

    def forward(self, x: Any) -> Any:
        return self.own(*self.operands(x))


class Many(nn.Module):
    """Ten inputs, of which some are constants."""

    def __init__(self) -> None:
        super().__init__()
        self.own, self.weight = fnn.elementwise(many), nn.Parameter(np.arange(14, dtype=np.float32))

    def forward(self, x: Any) -> Any:
        return self.own(x, self.weight, x[:, :1], 0.5, x * 2, x, self.weight.flip(0), x[:, 2:3], x + 1, x)

    def expected(self, x: Any) -> Any:
        w = np.arange(14.0)
        return many(x, w, x[:, :1], 0.5, x * 2, x, w[::-1], x[:, 2:3], x + 1, x)  # type: ignore[no-untyped-call]

    def operands(self, x: Any) -> list[Any]:
        return [x]


def in_onnx_runtime(model: nn.Module, x: np.ndarray, folder: Path) -> np.ndarray:
    runtime = pytest.importorskip("onnxruntime")
    fnn.onnx.export(model, folder / "model.onnx", x.shape[1:])
    session = runtime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run(None, {"input": x})[0]
    return found


def in_c(model: nn.Module, x: np.ndarray, folder: Path) -> np.ndarray:
    if shutil.which("gcc") is None:
        pytest.skip("no gcc")
    exported = export_c(model, folder / "model.c", x.shape[1:])
    strict = ["-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror", "-O1", "-shared", "-fPIC"]
    subprocess.run(["gcc", *strict, "-o", folder / "model.so", folder / "model.c", "-lm"], check=True)
    predict = ctypes.CDLL(str(folder / "model.so")).predict
    y = np.full((len(x), *exported.outputs), np.nan, np.float32)
    for sample, out in zip(x, y, strict=True):
        predict(sample.ctypes.data_as(ctypes.c_void_p), out.ctypes.data_as(ctypes.c_void_p))
    return y


def in_torch(model: nn.Module, x: np.ndarray, folder: Path) -> np.ndarray:
    torch = pytest.importorskip("torch")
    found: np.ndarray = fnn.to_torch(model, x.shape[1:])(torch.from_numpy(x)).detach().numpy()
    return found


@pytest.mark.parametrize("run", [in_onnx_runtime, in_c, in_torch])
@pytest.mark.parametrize("name", [*CASES, "ten inputs"])
def test_it_answers_as_the_formula_in_float64(name: str, run: Callable[..., Any], tmp_path: Path) -> None:
    model: Any = Many() if name == "ten inputs" else Called(name)
    x = np.stack([ENTRIES, ENTRIES[::-1], np.roll(ENTRIES, 4)]).copy()
    with np.errstate(all="ignore"):
        operands = model.operands(x.astype(np.float64)) if isinstance(model, Called) else [x.astype(np.float64)]
        expected = model.expected(*operands)
    found = run(model, x, tmp_path)
    assert found.shape == expected.shape
    bound = 1e-5 * max(1.0, float(np.abs(expected[np.isfinite(expected)]).max()))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=min(bound, 1e-4))


def test_every_operation_has_a_form() -> None:
    """Of a formula: what has a derivative, what is a truth, and the functions of math."""
    assert {*_SLOPES, *TRUTHS, *FUNCTIONS, "where"} == set(own._NODES)
