"""Orthogonal parametrizations beside PyTorch's: the same weights, gradients and states, by every map."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn, optim
from fastnn.errors import ArgumentError, ShapeError
from fastnn.nn.utils import parametrize
from fastnn.nn.utils.parametrizations import orthogonal

MAPS = ["matrix_exp", "cayley", "householder"]


def losses(package: Any, layer: Any, weight: np.ndarray, target: np.ndarray) -> list[float]:
    """Of steps towards a target, from the same value and the same base."""
    state = layer.state_dict()
    if "parametrizations.weight.0.base" in state:
        n = max(weight.shape)
        base = np.linalg.qr(np.arange(n * n).reshape(n, n) ** 1.5 % 7)[0]
        state["parametrizations.weight.0.base"] = package.tensor(base)
    original = np.tril(weight) if weight.shape[0] >= weight.shape[1] else np.triu(weight)
    rows = range(min(weight.shape))
    original[rows, rows] = -1
    state["parametrizations.weight.original"] = package.tensor(original)
    layer.load_state_dict(state)
    optimizer = package.optim.SGD(layer.parameters(), lr=0.1, momentum=0.5)
    found = []
    for _ in range(4):
        optimizer.zero_grad()
        loss = (layer.weight - package.tensor(target)).pow(2).sum()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found


@pytest.mark.parametrize("shape", [(3, 3), (4, 2), (2, 5)])
@pytest.mark.parametrize("by", MAPS)
def test_they_learn_as_pytorchs(by: str, shape: tuple[int, int]) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    weight, target = rng.normal(size=shape), rng.normal(size=shape)
    for options in ({}, {"use_trivialization": False}):
        mine = orthogonal(nn.Linear(*shape[::-1], bias=False).double(), "weight", by, **options)
        theirs = torch.nn.Linear(*shape[::-1], bias=False).double()
        theirs = torch.nn.utils.parametrizations.orthogonal(theirs, "weight", by, **options)
        assert list(mine.state_dict()) == list(theirs.state_dict())
        expected = losses(torch, theirs, weight, target)
        np.testing.assert_allclose(losses(fnn, mine, weight, target), expected, rtol=1e-9)
        assert expected[-1] < expected[0]


@pytest.mark.parametrize("shape", [(3, 3), (4, 2), (2, 5)])
@pytest.mark.parametrize("by", [None, *MAPS])
def test_they_start_from_the_weights_qr_factor_as_pytorchs(by: str | None, shape: tuple[int, int]) -> None:
    torch = pytest.importorskip("torch")
    weight = np.random.default_rng(1).normal(size=shape)
    values = []
    for package in (fnn, torch):
        layer = package.nn.Linear(*shape[::-1]).double()
        layer.load_state_dict({"weight": package.tensor(weight), "bias": layer.bias.detach()})
        package.nn.utils.parametrizations.orthogonal(layer, "weight", by)
        values.append(layer.weight.detach())
        layer.weight = package.tensor(2 * values[-1] if package is torch else 2 * values[-1].numpy())
        values.append(layer.weight.detach())
    for i in range(2):
        np.testing.assert_allclose(values[i], values[i + 2], atol=1e-12)
    np.testing.assert_allclose(values[1], values[0], atol=1e-12)


def test_steps_stay_orthonormal_and_it_can_be_taken_away() -> None:
    layer = orthogonal(nn.Linear(6, 4))
    optimizer = optim.Adam(layer.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        layer(fnn.ones(2, 6)).pow(2).sum().backward()
        optimizer.step()
    before = layer.weight.detach().numpy().copy()
    np.testing.assert_allclose(before @ before.T, np.eye(4), atol=1e-5)
    parametrize.remove_parametrizations(layer, "weight")
    np.testing.assert_array_equal(layer.weight.data, before)


def test_mistakes_are_said() -> None:
    with pytest.raises(ShapeError, match=r"expected matrices, got .* \(3,\)"):
        orthogonal(nn.Linear(2, 3), "bias")
    with pytest.raises(ArgumentError, match="no parameter 'weights'"):
        orthogonal(nn.Linear(2, 3), "weights")
    with pytest.raises(ArgumentError, match="orthogonal_map"):
        orthogonal(nn.Linear(2, 2), "weight", "polar")
    layer: Any = orthogonal(nn.Linear(2, 2), "weight", "cayley", use_trivialization=False)
    with pytest.raises(ArgumentError, match="use_trivialization"):
        layer.weight = fnn.eye(2)
