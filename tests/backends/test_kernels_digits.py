"""Digits of elementary functions: a sample of all floats, tiny and infinite ones included, against float64."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from targets import Target

from fastnn.backends import reference

SAMPLE = np.arange(0, 1 << 32, 4093, dtype=np.uint64).astype(np.uint32).view(np.float32)  # 2^20 of them
SPECIAL = [
    0,
    -0.0,
    1e-45,
    -1e-45,
    1e-38,
    -1e-38,
    88.7,
    -87.4,
    -88.8,
    -103.9,
    -104,
    3.4e38,
    -3.4e38,
    np.inf,
    -np.inf,
    np.nan,
]


def gelu(x: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 * x * np.array([math.erfc(t) for t in (-x / math.sqrt(2)).tolist()]))


FUNCTIONS: dict[str, tuple[float, Callable[[np.ndarray], np.ndarray]]] = {  # units in the last place at most
    "tanh": (2, np.tanh),
    "sigmoid": (2, reference.sigmoid_forward),
    "elu": (2, reference.elu_forward),  # exp(x) - 1
    "silu": (3, reference.silu_forward),
    "gelu": (4, gelu),
}


def units(found: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Differences in units of the last place of float32, 0 where both are the same infinity or NaN."""
    same = (found == exact) | (np.isnan(found) & np.isnan(exact))
    return np.where(same, 0, np.abs(found - exact) / np.spacing(np.abs(exact).astype(np.float32)).astype(np.float64))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_last_digits(target: Target, name: str) -> None:
    if target.backend != "native":
        pytest.skip("the other backends' functions are NumPy's and the C library's")
    most, function = FUNCTIONS[name]
    x = np.concatenate([SAMPLE, np.array(SPECIAL, np.float32), np.linspace(-12, 12, 1 << 18, dtype=np.float32)])
    x = np.where(np.abs(x) > 1e38, np.copysign(3.4e38, x), x).astype(np.float32) if name == "gelu" else x
    exact = function(x.astype(np.float64))
    found = getattr(target.kernels, f"{name}_forward")(x).astype(np.float64)
    error = units(found, exact)
    worst = int(np.nanargmax(np.where(np.isnan(error), np.inf, error)))
    assert error[worst] <= most, f"{error[worst]:.2f} units at {x[worst]!r}"
    zero = exact == 0
    np.testing.assert_array_equal(np.signbit(found[zero]), np.signbit(exact[zero]))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_is_not_finite(target: Target, name: str) -> None:
    """-infinity times nothing is not a number."""
    low = {"tanh": -1.0, "sigmoid": 0.0, "elu": -1.0, "silu": np.nan, "gelu": np.nan}[name]
    high = {"tanh": 1.0, "sigmoid": 1.0}.get(name, np.inf)
    with np.errstate(all="ignore"):
        found = getattr(target.kernels, f"{name}_forward")(np.array([-np.inf, np.inf, np.nan, -np.nan], np.float32))
    np.testing.assert_array_equal(found, [low, high, np.nan, np.nan])
