"""Groups of batches that make one update: the rest of an epoch, interrupted groups, batches of several shapes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn, optim
from fastnn.errors import NonFiniteError
from fastnn.tensors import Tensor

INPUTS, OUTPUTS, SIZE = 5, 2, 4
RNG = np.random.default_rng(0)
X, T = RNG.standard_normal((40, INPUTS)).astype(np.float32), RNG.standard_normal((40, OUTPUTS)).astype(np.float32)
START = RNG.standard_normal((OUTPUTS, INPUTS)).astype(np.float32)


def gradient(w: np.ndarray, k: int) -> np.ndarray:
    """Of the mean squared error on batch k, in float64."""
    x, t = (a[k * SIZE : (k + 1) * SIZE].astype(np.float64) for a in (X, T))
    return 2 / t.size * (x @ w.T - t).T @ x


def by_hand(batches: int, accumulate: int, epochs: int, rates: Any = None, clip_norm: float = math.inf) -> np.ndarray:
    w, made = START.astype(np.float64), 0
    for _ in range(epochs):
        for first in range(0, batches, accumulate):
            group = range(first, min(first + accumulate, batches))
            mean = sum(gradient(w, k) for k in group) / len(group)
            made += len(group)
            rate = 0.1 if rates is None else rates[made - 1]
            w = w - rate * mean * min(1, clip_norm / float(np.linalg.norm(mean)))
    return w


def compiled(**options: Any) -> tuple[nn.Linear, Any]:
    model = nn.Linear(INPUTS, OUTPUTS, bias=False)
    model.weight.data[...] = START
    return model, fnn.compile(model, nn.MSELoss(), optim.SGD(model.parameters(), lr=0.1), **options)


def batch(k: int) -> tuple[np.ndarray, np.ndarray]:
    return X[k * SIZE : (k + 1) * SIZE], T[k * SIZE : (k + 1) * SIZE]


@pytest.mark.parametrize(("batches", "accumulate"), [(3, 2), (7, 3), (2, 5), (6, 3), (5, 1)])
@pytest.mark.parametrize("options", [{}, {"clip_norm": 0.3}, {"disable": ("update", "dense")}], ids=str)
def test_the_rest_of_an_epoch_makes_an_update_of_its_own(
    batches: int, accumulate: int, options: dict[str, Any]
) -> None:
    model, step = compiled(accumulate=accumulate, **options)
    for _ in range(3):
        step.run_epoch(X[: batches * SIZE], T[: batches * SIZE], None, SIZE, progress=False)
    clip_norm = options.get("clip_norm", math.inf)
    np.testing.assert_allclose(
        model.weight.data, by_hand(batches, accumulate, 3, clip_norm=clip_norm), rtol=1e-4, atol=1e-5
    )


def test_the_rest_is_updated_at_the_rate_of_its_last_batch() -> None:
    rates = [0.3 * 0.8**t for t in range(6)]
    model, step = compiled(accumulate=2)
    step.optimizer.param_groups[0]["lr"] = 0.3
    schedule = optim.lr_scheduler.ExponentialLR(step.optimizer, 0.8)
    for _ in range(2):
        step.run_epoch(X[: 3 * SIZE], T[: 3 * SIZE], None, SIZE, schedule, progress=False)
    np.testing.assert_allclose(model.weight.data, by_hand(3, 2, 2, rates), rtol=1e-4, atol=1e-5)


def test_a_loop_of_ones_own_flushes() -> None:
    model, step = compiled(accumulate=2)
    for _ in range(2):
        for k in range(3):
            step(*batch(k))
        assert step.flush()
        assert not step.flush()
    np.testing.assert_allclose(model.weight.data, by_hand(3, 2, 2), rtol=1e-4, atol=1e-5)
    assert not compiled()[1].flush()  # there never is anything left


def test_without_an_optimiser_the_rest_is_added_to_grad() -> None:
    model = nn.Linear(INPUTS, OUTPUTS, bias=False)
    model.weight.data[...] = START
    step = fnn.compile(model, nn.MSELoss(), accumulate=3)
    for k in range(2):
        step(*batch(k))
    assert model.weight.grad is None
    step.flush()
    expected = (gradient(START.astype(np.float64), 0) + gradient(START.astype(np.float64), 1)) / 2
    np.testing.assert_allclose(model.weight.grad, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, ValueError])
def test_an_epoch_that_is_cut_off_leaves_no_half_group(stop: type[BaseException]) -> None:
    class Stops:
        steps = 0

        def step(self) -> None:
            self.steps += 1
            if self.steps == 3:
                raise stop

    model, step = compiled(accumulate=2)
    with pytest.raises(stop):
        step.run_epoch(X[: 4 * SIZE], T[: 4 * SIZE], None, SIZE, Stops(), progress=False)
    np.testing.assert_allclose(model.weight.data, by_hand(2, 2, 1), rtol=1e-4, atol=1e-5)
    model.weight.data[...] = START
    step.run_epoch(X[: 3 * SIZE], T[: 3 * SIZE], None, SIZE, progress=False)
    np.testing.assert_allclose(model.weight.data, by_hand(3, 2, 1), rtol=1e-4, atol=1e-5)


def test_a_batch_that_fails_is_no_part_of_its_group() -> None:
    model, step = compiled(accumulate=2)
    step(*batch(0))
    with pytest.raises(NonFiniteError):
        step(np.full((SIZE, INPUTS), np.inf, np.float32), batch(1)[1])
    step(*batch(1))
    np.testing.assert_allclose(model.weight.data, by_hand(2, 2, 1), rtol=1e-4, atol=1e-5)


class ByShape(nn.Module):
    """A branch for batches of two images alone: other batches do not reach its parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.always = nn.Parameter(np.ones(3, np.float32))
        self.pairs = nn.Parameter(np.full(3, 2.0, np.float32))

    def forward(self, x: Tensor) -> Tensor:
        y = x * self.always
        return y + x * self.pairs if x.shape[0] == 2 else y


def total(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs * targets).sum()


class OwnSGD(optim.Optimizer):
    """An optimiser that no kernel knows."""

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, {"lr": lr})

    def _update(self, param: np.ndarray, grad: np.ndarray, state: dict[str, Any], group: dict[str, Any]) -> None:
        param -= np.float32(group["lr"]) * grad


@pytest.mark.parametrize("make", [optim.SGD, OwnSGD])
@pytest.mark.parametrize("order", [(2, 4), (4, 2), (2, 2), (4, 2, 2, 4)])
def test_a_group_of_several_shapes_updates_all_parameters_that_it_reached(make: Any, order: tuple[int, ...]) -> None:
    """The gradients of sum(x · p) are sums of x."""
    model = ByShape()
    step = fnn.compile(model, total, make(model.parameters(), lr=0.5), accumulate=2)
    always, pairs = np.ones(3), np.full(3, 2.0)
    for first in range(0, len(order), 2):
        slopes = []
        for n in order[first : first + 2]:
            x = RNG.integers(-3, 4, (n, 3)).astype(np.float32)
            step(x, np.ones((n, 3), np.float32))
            slopes.append((n, x.sum(0, dtype=np.float64)))
        always = always - 0.5 * sum(s for _, s in slopes) / 2
        pairs = pairs - 0.5 * sum((s for n, s in slopes if n == 2), np.zeros(3)) / 2
    np.testing.assert_allclose(model.always.data, always, rtol=1e-6)
    np.testing.assert_allclose(model.pairs.data, pairs, rtol=1e-6)


def test_adams_state_is_that_of_torch_where_groups_change_their_shape() -> None:
    """The kernels and the optimiser's own step take turns, and count the same steps."""
    torch = pytest.importorskip("torch")
    model = ByShape()
    opt = optim.Adam(model.parameters(), lr=0.1)
    step = fnn.compile(model, total, opt, accumulate=2)
    twins = [torch.nn.Parameter(torch.tensor(p.data.copy())) for p in model.parameters()]
    other = torch.optim.Adam(twins, lr=0.1)
    for group in ((2, 2), (2, 4), (4, 2), (2, 2), (4, 4), (2, 2)):
        other.zero_grad()
        for n in group:
            x = RNG.standard_normal((n, 3)).astype(np.float32)
            step(x, np.ones((n, 3), np.float32))
            y = torch.tensor(x) * twins[0]
            ((y + torch.tensor(x) * twins[1] if n == 2 else y).sum() / 2).backward()
        other.step()
        for p, twin in zip(model.parameters(), twins, strict=True):
            np.testing.assert_allclose(p.data, twin.detach().numpy(), rtol=1e-5)
            made = other.state[twin]["step"].item()
            assert opt.state[p]["step"] == made


def test_the_rest_of_a_group_is_dropped_where_its_norm_is_not_finite() -> None:
    model, step = compiled(accumulate=3, clip_norm=1.0)
    model.weight.data[...] = 0
    huge = np.full((SIZE, INPUTS), 3e38, np.float32), np.full((SIZE, OUTPUTS), 10.0, np.float32)
    step(*huge)  # the loss is 100, the gradient infinite
    with np.errstate(over="ignore"), pytest.raises(NonFiniteError, match="nothing was updated"):
        step.flush()
    assert (model.weight.data == 0).all()
    assert not step.flush()
