"""gradgradcheck of everything that has a gradcheck: second derivatives of every operator, method and module."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from test_gradcheck_all import CASES, IMAGES, MEAN, ROWS, VARIANCE, VECTOR

import fastnn as fnn
from fastnn import nn, ops

# Without second derivatives, each with the reason.
NONE: dict[str, str] = {}


# With zeros among the differences, and numbers with which a formula that leaves them out, or has the inverse in their
# place, would give the same.
OTHERS: dict[str, Any] = {
    "batch_norm by a variance": lambda: (
        lambda x, w, b: ops.batch_norm(x, MEAN, 9 * VARIANCE, w, b, eps=0.5),
        (IMAGES, VECTOR, MEAN),
    ),
    "huber_loss, delta": lambda: (lambda x: ops.huber_loss(x, ROWS[::-1], delta=0.3), (ROWS,)),
    "smooth_l1_loss, beta": lambda: (lambda x: ops.smooth_l1_loss(x, ROWS[::-1], beta=0.3), (ROWS,)),
}


@pytest.mark.parametrize("name", OTHERS)
def test_second_derivatives_with_other_numbers(name: str) -> None:
    assert fnn.insight.gradgradcheck(*OTHERS[name]())


@pytest.mark.parametrize("name", [*CASES, *OTHERS])
def test_gradients_that_can_be_differentiated_are_the_kernels(name: str) -> None:
    """gradgradcheck differentiates what create_graph=True gives: a wrong factor there would be in both of its sides."""
    fnn.manual_seed(0)
    function, arrays = {**CASES, **OTHERS}[name]()
    if isinstance(function, nn.Module):
        function.double()
    inputs = [fnn.Tensor(np.array(a, np.float64), True) if np.asarray(a).dtype.kind == "f" else a for a in arrays]
    wanted = [x for x in inputs if isinstance(x, fnn.Tensor)]
    found = []
    for create_graph in (False, True):
        fnn.manual_seed(1)
        y = function(*inputs)
        weights = np.random.default_rng(0).uniform(0.5, 1.5, y.shape)
        found.append(fnn.autograd.grad(y, wanted, weights, create_graph=create_graph, allow_unused=True))
    for plain, differentiable in zip(*found, strict=True):
        assert (plain is None) == (differentiable is None)
        if plain is not None:
            np.testing.assert_allclose(differentiable.numpy(), plain.numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_every_second_derivative_is_right(name: str) -> None:
    fnn.manual_seed(0)
    if name in NONE:
        with pytest.raises(fnn.errors.GraphError, match="cannot be differentiated"):
            fnn.insight.gradgradcheck(*CASES[name]())
    else:
        assert fnn.insight.gradgradcheck(*CASES[name]())
