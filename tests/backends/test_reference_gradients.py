"""Backward of the reference against central differences of its forward, in float64, along random directions."""

from __future__ import annotations

import numpy as np
import pytest
from op_cases import GRADIENTS, KERNELS, arguments
from op_description import Arguments, Gradient, case_id

from fastnn.backends import reference

STEP = 1e-5

CASES = [
    pytest.param(gradient, case, id=f"{gradient.tested}-{gradient.argument}-{case_id(case)}")
    for gradient in GRADIENTS
    for case in KERNELS[gradient.kernel].cases
    if (argument := arguments(KERNELS[gradient.kernel], case)[gradient.argument]) is not None
    and 0 < argument.size < 5000
]


@pytest.mark.parametrize(("gradient", "case"), CASES)
def test_backward_is_the_derivative(gradient: Gradient, case: Arguments, rng: np.random.Generator) -> None:
    a = arguments(KERNELS[gradient.kernel], case, np.float64)
    x = a[gradient.argument]
    grad = np.asarray(rng.standard_normal(gradient.forward(reference, a).shape))
    analytic = gradient.backward(reference, a, grad)
    assert analytic.shape == x.shape
    for _ in range(3):
        direction = rng.standard_normal(x.shape)
        above = gradient.forward(reference, {**a, gradient.argument: np.asarray(x + STEP * direction)})
        below = gradient.forward(reference, {**a, gradient.argument: np.asarray(x - STEP * direction)})
        numeric = np.sum((above - below) * grad) / (2 * STEP)
        size = np.sqrt(np.sum((analytic * direction) ** 2)) + 1e-3
        np.testing.assert_allclose(numeric, np.sum(analytic * direction), rtol=0, atol=1e-7 * size)
