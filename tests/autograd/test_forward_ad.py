"""Forward mode: tangents are PyTorch's, stay on the tape where parameters are behind them, and end with their level."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn
from fastnn.autograd import forward_ad
from fastnn.errors import DTypeError, FastnnError, GraphError, ShapeError

RNG = np.random.default_rng(3)
X, ALONG, PLAIN = (RNG.normal(size=(3, 4)) for _ in range(3))


@pytest.mark.parametrize(
    "call",
    [
        lambda P, x, y: x * x + y**2,
        lambda P, x, y: P.nn.functional.log_softmax(x @ y.t(), -1),
        lambda P, x, y: x.exp().sum(),
        lambda P, x, y: P.cat([x.detach() * x, y]).reshape(-1),
    ],
)
def test_tangents_are_pytorchs(call: Callable[..., Any]) -> None:
    torch = pytest.importorskip("torch")
    from torch.autograd import forward_ad as theirs

    found = []
    for package, module in ((fnn, forward_ad), (torch, theirs)):
        x, along, plain = (package.tensor(array) for array in (X, ALONG, PLAIN))
        with module.dual_level():
            dual = module.make_dual(x, along)
            assert module.unpack_dual(dual).tangent is along
            assert module.unpack_dual(plain * 2).tangent is None
            y = call(package, dual, plain)
            primal, tangent = module.unpack_dual(y)
            assert not primal.requires_grad
            found.append((primal, tangent))
        assert module.unpack_dual(y).tangent is None
    for mine, other in zip(*found, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-12)


def test_gradients_of_a_tangent_reach_parameters_as_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    from torch.autograd import forward_ad as theirs

    weight, grads = RNG.normal(size=(2, 4)), []
    for package, module in ((fnn, forward_ad), (torch, theirs)):
        w = package.tensor(weight, requires_grad=True)
        with module.dual_level():
            tangent = module.unpack_dual((module.make_dual(package.tensor(X), package.tensor(ALONG)) @ w.t()).tanh())[1]
            (tangent**2).sum().backward()
        grads.append(np.asarray(w.grad))
    np.testing.assert_allclose(*grads, rtol=1e-12)


def test_parameters_of_a_module_may_be_dual() -> None:
    layer = nn.Linear(4, 2).double()
    with forward_ad.dual_level():
        for name, p in list(layer.named_parameters()):
            delattr(layer, name)
            setattr(layer, name, forward_ad.make_dual(p.detach(), fnn.ones_like(p)))
        tangent = forward_ad.unpack_dual(layer(fnn.tensor(X))).tangent
    np.testing.assert_allclose(tangent, np.repeat(X.sum(1, keepdims=True) + 1, 2, 1), rtol=1e-12)


@pytest.mark.parametrize(
    ("kind", "call"),
    [
        (GraphError, lambda x: forward_ad.make_dual(x, x)),
        (GraphError, lambda x: forward_ad.exit_dual_level()),
        (GraphError, lambda x: within(forward_ad.enter_dual_level)),
        (ShapeError, lambda x: within(lambda: forward_ad.make_dual(x, x[0]))),
        (DTypeError, lambda x: within(lambda: forward_ad.make_dual(x, x.float()))),
    ],
)
def test_bad_input(kind: type[FastnnError], call: Callable[[Any], Any]) -> None:
    with pytest.raises(kind, match="_dual"):
        call(fnn.tensor(X))
    with forward_ad.dual_level():  # the level of a failed call is over
        pass


def within(call: Callable[[], Any]) -> None:
    with forward_ad.dual_level():
        call()
