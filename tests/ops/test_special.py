"""fastnn.special: values, gradients and second derivatives beside PyTorch's in float64, at edges, too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn.absent import lists
from fastnn.errors import ArgumentError

RNG = np.random.default_rng(0)
INNER = RNG.uniform(0.05, 0.95, 20)
WIDE = np.concatenate([RNG.normal(size=20) * 3, [0.0, 1.0]])
ABOVE = RNG.uniform(1.2, 9, 20)
A, B = np.array([0.0, 0.0, 0.0, 2.0, 2.0, -1.5]), np.array([-1.0, np.nan, np.inf, 1e-12, 3.0, 0.5])

CASES: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(("digamma", "psi", "gammaln"), (ABOVE,)),
    **dict.fromkeys(("entr", "erfinv", "logit"), (INNER,)),
    **dict.fromkeys(("erf", "erfc", "exp2", "expit", "expm1", "i0", "ndtr"), (WIDE,)),
    "sinc": (INNER,),
    "log1p": (INNER,),
    "i1": (WIDE,),
    "multigammaln": (ABOVE, 3),
    "ndtri": (INNER,),
    "polygamma": (1, ABOVE),
    "xlogy": (WIDE[:20], ABOVE),
    "xlog1py": (WIDE[:20], ABOVE),
    "logsumexp": (WIDE.reshape(2, 11), 1),
    "softmax": (WIDE.reshape(2, 11), 1),
    "log_softmax": (WIDE.reshape(2, 11), 1),
}


@pytest.mark.parametrize("name", CASES)
def test_values_and_derivatives_are_pytorchs(name: str) -> None:
    torch = pytest.importorskip("torch")

    def derivatives(package: Any) -> list[Any]:
        given = [package.tensor(x, requires_grad=True) if isinstance(x, np.ndarray) else x for x in CASES[name]]
        y = getattr(package.special, name)(*given)
        inputs = [x for x in given if not isinstance(x, int)]
        first = package.autograd.grad((y * y).sum(), inputs, create_graph=True)
        second = package.autograd.grad(sum((g * g).sum() for g in first), inputs, allow_unused=True)
        return [y, *first, *(x for x in second if x is not None)]

    bounds = [1e-7 if name == "polygamma" else 1e-11, *([1e-7] * 6)]  # PyTorch's derivatives of digamma are no better
    for ours, theirs, bound in zip(derivatives(fnn), derivatives(torch), bounds, strict=False):
        np.testing.assert_allclose(ours.detach().numpy(), theirs.detach().numpy(), rtol=bound, atol=1e-11)


def test_edges_are_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    x = np.array([-np.inf, -1.0, -0.0, 0.0, 1.0, np.inf, np.nan])
    for name, args in (("entr", (x,)), ("ndtr", (x,)), ("round", (x,)), ("sinc", (x[1:5],)), ("xlog1py", (A, B))):
        ours = getattr(fnn.special, name)(*map(fnn.tensor, args))
        theirs = getattr(torch.special, name)(*map(torch.tensor, args))
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-14, err_msg=name)
    with pytest.raises(ArgumentError, match="p to be a positive integer"):
        fnn.special.multigammaln(ABOVE, 0)


def test_every_name_is_pytorchs_and_in_a_case() -> None:
    assert set(fnn.special.__all__) == {*CASES, "round"} <= lists()[1]["torch.special"]
