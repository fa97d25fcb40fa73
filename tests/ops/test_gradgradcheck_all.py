"""gradgradcheck of everything that has a gradcheck: second derivatives of every operator, method and module."""

from __future__ import annotations

import pytest
from test_gradcheck_all import CASES

import fastnn as fnn

# Without second derivatives, each with the reason.
NONE: dict[str, str] = {}


@pytest.mark.parametrize("name", CASES)
def test_every_second_derivative_is_right(name: str) -> None:
    fnn.manual_seed(0)
    if name in NONE:
        with pytest.raises(fnn.errors.GraphError, match="cannot be differentiated"):
            fnn.insight.gradgradcheck(*CASES[name]())
    else:
        assert fnn.insight.gradgradcheck(*CASES[name]())
