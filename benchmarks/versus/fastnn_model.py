"""A network as fastnn builds it: the model, the loss and the optimiser."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fastnn import nn, ops, optim

from .network import JOINS, Network, Node, evaluate

Statistics = tuple[list[float], list[float]]


def build(
    network: Network, weights: Mapping[str, np.ndarray] | None = None, statistics: Statistics | None = None
) -> nn.Module:
    """Returns the model with these weights; where images are uint8, with statistics by which they are normalised."""
    model = _chain(network) if network.is_chain else Graph(network)
    model.load_state_dict({**model.state_dict(), **(weights or {})})
    return model if statistics is None else nn.Sequential(nn.Normalize(*statistics), model)


def loss_of(network: Network) -> Callable[[Any, Any], Any]:
    return policy_value_loss if network.loss == "PolicyValueLoss" else getattr(nn, network.loss)()


def optimizer_of(network: Network, model: nn.Module) -> optim.Optimizer:
    name, options = network.optimizer
    optimizer: optim.Optimizer = getattr(optim, name)(model.parameters(), **dict(options))
    return optimizer


def policy_value_loss(outputs: Any, targets: Any) -> Any:
    """AlphaZero's: cross-entropy of all columns but the last with probabilities, squared error of the last one."""
    return ops.cross_entropy(outputs[:, :-1], targets[:, :-1]) + ops.mse_loss(outputs[:, -1:], targets[:, -1:])


class Graph(nn.Module):
    """Layers with sums and concatenations between them."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        for index, node in enumerate(network.nodes):
            if node.kind not in JOINS:
                self.add_module(str(index), node.build(nn))

    def forward(self, x: Any) -> Any:
        return evaluate(self.network, x, self._run)

    def _run(self, index: int, node: Node, inputs: list[Any]) -> Any:
        if node.kind == "Add":
            return inputs[0] + inputs[1]
        if node.kind == "Cat":
            return ops.cat(inputs, 1)
        return getattr(self, str(index))(inputs[0])


def _chain(network: Network) -> nn.Sequential:
    return nn.Sequential(*(node.build(nn) for node in network.nodes))
