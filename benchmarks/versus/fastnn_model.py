"""A network as fastnn builds it: the model, the loss and the optimiser."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fastnn import nn, ops, optim

from .network import JOINS, Network, forward_of, named

Statistics = tuple[list[float], list[float]]


def build(
    network: Network, weights: Mapping[str, np.ndarray] | None = None, statistics: Statistics | None = None
) -> nn.Module:
    """Returns the model with these weights; where images are uint8, with statistics by which they are normalised."""
    model = _model(network)
    model.load_state_dict({**model.state_dict(), **named(network, weights or {})})
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


def _model(network: Network) -> nn.Module:
    """A Sequential where that will do, else a module with its own forward."""
    if network.is_chain:
        return nn.Sequential(*(node.build(nn) for node in network.nodes))
    model: nn.Module = type("Graph", (nn.Module,), {"forward": forward_of(network, ops.cat), "__module__": __name__})()
    for index, node in enumerate(network.nodes):
        if node.kind not in JOINS:
            model.add_module(f"layer{index}", node.build(nn))
    return model
