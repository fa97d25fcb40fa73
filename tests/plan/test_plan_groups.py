"""An optimiser's groups are read at every compiled step, wherever and however they were written in between."""

from __future__ import annotations

import numpy as np
import plan_networks as networks
import pytest

import fastnn as fnn
from fastnn import nn, optim

LOSS = nn.CrossEntropyLoss()


@pytest.mark.parametrize("how", ["set", "set in place", "other rates", "group replaced", "fewer parameters"])
def test_groups_that_change_between_steps(how: str) -> None:
    model, exact = networks.mlp(), networks.mlp().double()
    ours, twin = (optim.SGD(one.parameters(), lr=0.1, momentum=0.5) for one in (model, exact))
    step = fnn.compile(model, LOSS, ours)
    for seed in range(6):
        x, y = networks.batch_for(networks.mlp, 16, seed)
        for optimizer in (ours, twin):
            change(optimizer, how, seed)
        step(x, y)
        LOSS(exact(x), y).backward()
        twin.step()
        exact.zero_grad()
    for found, expected in zip(model.parameters(), exact.parameters(), strict=True):
        np.testing.assert_allclose(found.data, expected.data, rtol=1e-5, atol=1e-6)


def change(optimizer: optim.Optimizer, how: str, seed: int) -> None:
    (group,) = optimizer.param_groups
    if seed == 0 and how == "set in place":
        group["l2"] = np.array(0.0)
    elif how == "other rates":
        group["lr"] = 0.1 / (1 + seed)
    elif seed == 3 and how == "set":
        group["l2"] = 0.05
    elif seed == 3 and how == "set in place":
        group["l2"][...] = 0.05
    elif seed == 3 and how == "group replaced":
        optimizer.param_groups[0] = {**group, "lr": 0.02}
    elif seed == 3:
        group["params"].pop()
