"""A network as PyTorch builds it: the model, the loss and the optimiser, the fastest form of each."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import torch
from torch.nn import functional

from .network import JOINS, Network, forward_of, named

Tensor = torch.Tensor
FUSED = ("SGD", "Adam", "AdamW", "Adagrad")


def build(network: Network, weights: Mapping[str, np.ndarray]) -> torch.nn.Module:
    model = _model(network)
    model.load_state_dict({name: torch.from_numpy(value) for name, value in named(network, weights).items()})
    return model


def loss_of(network: Network) -> Callable[[Tensor, Tensor], Tensor]:
    return policy_value_loss if network.loss == "PolicyValueLoss" else getattr(torch.nn, network.loss)()


def optimizer_of(network: Network, model: torch.nn.Module) -> torch.optim.Optimizer:
    name, options = network.optimizer
    fast = {"fused": True} if name in FUSED else {"foreach": True}
    optimizer: torch.optim.Optimizer = getattr(torch.optim, name)(model.parameters(), **dict(options), **fast)
    return optimizer


def policy_value_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    policy = functional.cross_entropy(outputs[:, :-1], targets[:, :-1])
    return policy + functional.mse_loss(outputs[:, -1:], targets[:, -1:])


def _model(network: Network) -> torch.nn.Module:
    """A Sequential where that will do, else a module with its own forward."""
    if network.is_chain:
        return torch.nn.Sequential(*(node.build(torch.nn) for node in network.nodes))
    model: torch.nn.Module = type(
        "Graph", (torch.nn.Module,), {"forward": forward_of(network, torch.cat), "__module__": __name__}
    )()
    for index, node in enumerate(network.nodes):
        if node.kind not in JOINS:
            model.add_module(f"layer{index}", node.build(torch.nn))
    return model


# ---- uint8 images ----------------------------------------------------------------------------------------------------


def normalise(mean: Iterable[float], std: Iterable[float], sample: Tensor, fixed: bool) -> torch.nn.Module:
    """Its fastest form on the sample; the first one for torch.compile, which makes one loop of it."""
    scale = 1 / (255 * torch.tensor(list(std))).reshape(1, -1, 1, 1)
    shift = -torch.tensor(list(mean)).reshape(1, -1, 1, 1) * 255 * scale
    if fixed:
        return Normalise(lambda x: x.float() * scale + shift)
    ways: list[Callable[[Tensor], Tensor]] = [lambda x: x.float().mul_(scale).add_(shift)]
    if scale.numel() == 1:
        factor, table = scale.item(), (torch.arange(256) * scale.item() + shift).reshape(-1)
        ways.append(lambda x: torch.add(shift, x, alpha=factor))
        ways.append(lambda x: torch.nn.functional.embedding(x.int(), table[:, None])[..., 0])
    return Normalise(min(ways, key=lambda way: _median_time(way, sample)))


class Normalise(torch.nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def _median_time(function: Callable[[Tensor], Tensor], x: Tensor) -> float:
    times = []
    for _ in range(20):
        started = time.perf_counter()
        function(x)
        times.append(time.perf_counter() - started)
    return statistics.median(times)
