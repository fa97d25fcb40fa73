"""Twins, one trained with a plan and one without, that are compared after each step in what they keep."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn, optim

SIZES = (5, 5, 3, 5, 3)
MSE = nn.MSELoss()


class Net(nn.Module):
    """Two dense layers, and what forward does with them."""

    def __init__(self, do: Callable[[Any, Any], Any] | None = None) -> None:
        super().__init__()
        self.a, self.b, self.do = nn.Linear(6, 6), nn.Linear(6, 6), do
        self.state: Any = None
        self.dict: dict[str, Any] = {}
        self.list: list[Any] = []
        self.slots: list[Any] = [None, None]
        self.register_buffer("average", fnn.zeros(6))

    def forward(self, x: Any) -> Any:
        return self.b(self.a(x).tanh()) if self.do is None else self.do(self, x)


def batches() -> list[tuple[Any, Any]]:
    rng = np.random.default_rng(0)

    def rows(n: int) -> Any:
        return rng.standard_normal((n, 6)).astype(np.float32)

    return [(rows(n), rows(n)) for n in SIZES]


def numbers(kept: Iterable[Any]) -> list[np.ndarray]:
    return [np.asarray(t.detach() if isinstance(t, fnn.Tensor) else t) for t in kept]


def compare(
    make: Callable[[], Any],
    loss_of: Callable[[Any], Any],
    kept: Callable[[Any], Iterable[Any]],
    before: Callable[[Any, int], object] = lambda model, i: None,
    disable: Iterable[str] = (),
) -> Any:
    """Train twins, one with a plan: after each step losses, what is kept, and at the end parameters are the same."""
    fnn.manual_seed(0)
    model = make()
    fnn.manual_seed(0)
    twin = make()
    of_model, of_twin = (optim.SGD(m.parameters(), lr=0.1) for m in (model, twin))
    step, loss_fn = fnn.compile(model, loss_of(model), of_model, disable=disable), loss_of(twin)
    earlier: list[Any] = []
    for i, (x, y) in enumerate(batches()):
        before(model, i)
        before(twin, i)
        got = step(x, y)
        loss = loss_fn(twin(fnn.Tensor(x)), fnn.Tensor(y))
        of_twin.zero_grad()
        loss.backward()
        of_twin.step()
        assert got == pytest.approx(loss.item(), rel=1e-5)
        now = [*kept(model)]
        expected = numbers(kept(twin))
        assert len(now) == len(expected)
        assert all(type(t) is fnn.Tensor and not t.requires_grad for t in now)
        for a, b in zip(numbers(now), expected, strict=True):
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
        for t, copied in earlier:  # a tensor that somebody has taken stays what it is
            np.testing.assert_array_equal(t.numpy(), copied)
        earlier = [(t, t.numpy().copy()) for t in now]
    for (name, p), q in zip(model.named_parameters(), twin.parameters(), strict=True):
        np.testing.assert_allclose(p.data, q.data, rtol=1e-4, atol=1e-6, err_msg=name)
    return step


def plain(m: Any) -> Any:
    return MSE
