"""fnn._foreach_*: one operator on each tensor of a list, as optimisers of one's own call PyTorch's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn.errors import ArgumentError

RNG = np.random.default_rng(0)
ARRAYS = [[RNG.uniform(0.5, 2, shape) for shape in ((3,), (2, 2), ())] for _ in range(3)]


def program(package: Any) -> list[Any]:
    """An update of Adan's kind, and all forms of the arguments."""
    p, g, v = ([package.tensor(array) for array in arrays] for arrays in ARRAYS)
    found = [
        *package._foreach_sub(p, g), *package._foreach_add(p, g, alpha=0.5), *package._foreach_mul(p, [1.0, 2.0, 3.0]),
        *package._foreach_norm(p), *package._foreach_addcdiv(p, g, v, value=-0.1),
        *package._foreach_addcmul(p, g, v, [0.1, 0.2, 0.3]), *package._foreach_lerp(p, g, 0.25),
        *package._foreach_neg(p),
    ]  # fmt: skip
    package._foreach_mul_(v, 0.9)
    package._foreach_addcmul_(v, g, g, value=0.1)
    steps = package._foreach_sqrt(v)
    package._foreach_div_(steps, 2.0)
    package._foreach_add_(steps, 1e-8)
    package._foreach_addcdiv_(p, g, steps, -0.01)
    package._foreach_zero_(g)
    return [*found, *p, *g, *v]


def test_lists_are_updated_as_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    for mine, theirs in zip(program(fnn), program(torch), strict=True):
        np.testing.assert_allclose(mine.numpy(), theirs.numpy(), rtol=1e-12)


def test_by_hand_and_what_is_refused() -> None:
    x = [fnn.ones(2), fnn.zeros(1)]
    fnn._foreach_add_(x, [fnn.ones(2), 3.0], alpha=2)
    assert [each.tolist() for each in x] == [[3, 3], [6]]
    with pytest.raises(ArgumentError, match="_foreach_mul: expected lists of 2 entries, got one of 1"):
        fnn._foreach_mul(x, [2.0])
    with pytest.raises(AttributeError, match="_foreach_nothing"):
        fnn.__getattr__("_foreach_nothing")
