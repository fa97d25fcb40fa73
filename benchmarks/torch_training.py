"""PyTorch's twin of a model of the recipes, and its training step: eager, with the fused optimiser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from fastnn import nn


class Normalize(torch.nn.Module):
    def __init__(self, mean: Any, std: Any) -> None:
        super().__init__()
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float32).reshape(1, -1, 1, 1))
        self.register_buffer("std", torch.as_tensor(std, dtype=torch.float32).reshape(1, -1, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x.float() / 255 - self.mean) / self.std


def twin(model: nn.Sequential) -> torch.nn.Sequential:
    """The same layers with the same weights, as they are now."""
    layers = torch.nn.Sequential(*map(_twin_of_layer, model))
    with torch.no_grad():
        for own, other in zip(model.parameters(), layers.parameters(), strict=True):
            other.copy_(torch.from_numpy(own.data.copy()))
    return layers


def _twin_of_layer(layer: Any) -> torch.nn.Module:
    if isinstance(layer, nn.Normalize):
        return Normalize(layer.mean, layer.std)
    if isinstance(layer, nn.Conv2d):
        return torch.nn.Conv2d(
            layer.in_channels, layer.out_channels, layer.kernel_size, padding=layer.padding, bias=layer.bias is not None
        )
    if isinstance(layer, nn.BatchNorm2d):
        return torch.nn.BatchNorm2d(layer.num_features)
    if isinstance(layer, nn.Linear):
        return torch.nn.Linear(layer.in_features, layer.out_features)
    if isinstance(layer, nn.MaxPool2d):
        return torch.nn.MaxPool2d(layer.kernel_size)
    return getattr(torch.nn, type(layer).__name__)()


def training_step(
    model: nn.Sequential, settings: dict[str, Any], channels_last: bool
) -> Callable[[np.ndarray, np.ndarray], float]:
    """A function of images and labels that updates the twin and returns the loss."""
    layers, loss_fn = twin(model), torch.nn.CrossEntropyLoss()
    if channels_last:
        layers = layers.to(memory_format=torch.channels_last)
    optimiser = torch.optim.SGD(layers.parameters(), **settings, fused=True)

    def step(images: np.ndarray, labels: np.ndarray) -> float:
        x = torch.from_numpy(images)
        loss = loss_fn(
            layers(x.to(memory_format=torch.channels_last) if channels_last else x), torch.from_numpy(labels)
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return loss.item()

    return step
