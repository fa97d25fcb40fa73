"""gradgradcheck of everything that has a gradcheck: second derivatives of every operator, method and module."""

from __future__ import annotations

from typing import Any

import pytest
from test_gradcheck_all import CASES, IMAGES, MEAN, ROWS, VARIANCE, VECTOR

import fastnn as fnn
from fastnn import ops

# Without second derivatives, each with the reason.
NONE: dict[str, str] = {}


# With zeros among the differences, and numbers with which a formula that leaves them out, or has the inverse in their place, would give the same.
OTHERS: dict[str, Any] = {
    "batch_norm by a variance": lambda: (lambda x, w, b: ops.batch_norm(x, MEAN, 9 * VARIANCE, w, b, eps=0.5), (IMAGES, VECTOR, MEAN)),
    "huber_loss, delta": lambda: (lambda x: ops.huber_loss(x, ROWS[::-1], delta=0.3), (ROWS,)),
    "smooth_l1_loss, beta": lambda: (lambda x: ops.smooth_l1_loss(x, ROWS[::-1], beta=0.3), (ROWS,)),
}


@pytest.mark.parametrize("name", OTHERS)
def test_second_derivatives_with_other_numbers(name: str) -> None:
    assert fnn.insight.gradgradcheck(*OTHERS[name]())


@pytest.mark.parametrize("name", CASES)
def test_every_second_derivative_is_right(name: str) -> None:
    fnn.manual_seed(0)
    if name in NONE:
        with pytest.raises(fnn.errors.GraphError, match="cannot be differentiated"):
            fnn.insight.gradgradcheck(*CASES[name]())
    else:
        assert fnn.insight.gradgradcheck(*CASES[name]())
