"""Entries that a mask picks, in a plan that cannot count them; and writes through views, which others then read.

What is right is the same model operator by operator. The masks, and how many entries they pick, differ between calls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn
from fastnn.errors import GraphError, ShapeError


class Net(nn.Module):
    def __init__(self, do: Callable[[Any, Any], Any]) -> None:
        super().__init__()
        self.linear, self.do = nn.Linear(4, 5), do

    def forward(self, x: Any) -> Any:
        return self.do(self.linear(x), x)


def written(h: Any, x: Any) -> Any:
    y = h * 1
    y[h > 0] = 0.5
    y[h < -0.3] *= -2
    return y * h


def rounded(h: Any, x: Any) -> Any:
    """Neighbouring places, also where a number is whole, as distributional Q-learning has them."""
    b = (h.detach() * 2).round() / 2
    low, high = b.floor().long(), b.ceil().long()
    low[(high > 0) * (low == high)] -= 1
    high[(low < 2) * (low == high)] += 1
    return h * (low + 2 * high).float()


def summed(h: Any, x: Any) -> Any:
    mask = x[:, 0] > 0
    entries = x.mean(1, keepdim=True).expand_as(h) > 0
    difference = h[mask] - 2 * (x.sum() * 0.1)
    return difference.square().mean() + (h[entries] ** 2).sum() + (0.5 - h[mask].abs() / 2).sum()


def rows(h: Any, x: Any) -> Any:
    mask, y = x[:, 0] > 0, h + 1
    y[mask] = h.mean(0)
    z = fnn.zeros_like(h)
    z[mask] = y[mask] * 3 - h[mask]
    return y * z


def through_a_view(h: Any, x: Any) -> Any:
    totals = fnn.ones(len(x), 5)
    totals.view(-1).index_add_(0, fnn.arange(5).flip(0), h.detach().view(-1)[:5])
    totals.view(-1)[1] = 2.0
    y = h.detach() * 1
    y.view(-1).mul_(2)
    y += 1
    return totals * y * h


def view_made_before(h: Any, x: Any) -> Any:
    totals = fnn.full((len(x), 5), 2.0)
    flat = totals.view(-1)
    totals[0] = h.detach()[0]
    totals[1] = h.detach()[1] * 2
    return totals * h + flat.reshape(h.shape) * h


CASES = [written, rounded, summed, rows, through_a_view, view_made_before]


@pytest.mark.parametrize("do", CASES, ids=[do.__name__ for do in CASES])
def test_values_and_gradients_are_those_of_eager(do: Callable[[Any, Any], Any]) -> None:
    fnn.manual_seed(0)
    model, rng = Net(do), np.random.default_rng(0)
    step, predict = fnn.compile(model, lambda outputs, y: (outputs * outputs).mean()), fnn.compile(model)
    for scale in (1, 1, 3, 0.2):
        x = (rng.standard_normal((6, 4)) * scale).astype(np.float32)
        model.zero_grad()
        got = step(x, np.zeros(1))
        gradients = [p.grad.copy() for p in model.parameters()]
        model.zero_grad()
        outputs = model(fnn.Tensor(x))
        loss = (outputs * outputs).mean()
        loss.backward()
        assert got == pytest.approx(loss.item(), rel=1e-5)
        for gradient, p in zip(gradients, model.parameters(), strict=True):
            np.testing.assert_allclose(gradient, p.grad, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(predict(x), outputs.detach().numpy(), rtol=1e-5, atol=1e-6)


def test_gradients_go_through_views_as_in_pytorch() -> None:
    """A view made before its memory is written to, and writes through a view."""
    torch = pytest.importorskip("torch")
    values = np.random.default_rng(0).standard_normal((3, 5))

    def function(package: Any, h: Any) -> Any:
        totals, y = package.full((3, 5), 2.0, dtype=package.float64), h * 1
        flat = totals.view(-1)
        totals[0], totals[1] = h[0], h[1] * 2
        y.view(-1).mul_(3)
        return ((totals + flat.reshape(3, 5) + y) * h).square().sum()

    class Twin(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.h = nn.Parameter(fnn.tensor(values))

        def forward(self, x: Any) -> Any:
            return function(fnn, self.h) + 0 * x.sum()

    model, theirs = Twin(), torch.tensor(values, requires_grad=True)
    loss = function(torch, theirs)
    loss.backward()
    assert fnn.compile(model, lambda outputs, y: outputs)(np.ones((1, 1)), np.ones(1)) == pytest.approx(loss.item())
    np.testing.assert_allclose(model.h.grad, theirs.grad.numpy(), rtol=1e-12)


@pytest.mark.parametrize(
    "do",
    [
        lambda h: h[h > 0],
        lambda h: h[h > 0].log().sum(),
        lambda h: h[h > 0] + h[h > 1],
        lambda h: h[h > 0] / h[h > 0],
        lambda h: h[h > 0] + h,
        lambda h: nn.functional.mse_loss(h[h > 0], h[h > 0]),
        lambda h: h[0, h[0] > 0],
        lambda h: len(h[h > 0]) * h,
        lambda h: h.index_put_((h > 0,), h[:, 0]),
    ],
)
def test_what_depends_on_their_number_is_refused(do: Callable[[Any], Any]) -> None:
    with pytest.raises(GraphError, match=r"cannot know how many entries a mask picks"):
        fnn.compile(Net(lambda h, x: do(h)))(np.ones((6, 4), np.float32))


def test_masks_have_to_fit() -> None:
    with pytest.raises(ShapeError, match=r"expected a mask of shape \(6,\), got \(5,\)"):
        fnn.compile(Net(lambda h, x: h[h[0] > 0].sum()))(np.ones((6, 4), np.float32))
