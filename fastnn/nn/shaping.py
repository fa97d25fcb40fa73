"""Layers that change the shape alone."""

from __future__ import annotations

from typing import Any

from fastnn import ops
from fastnn.checks import entries, whole
from fastnn.nn.module import Module
from fastnn.ops.common import tensor_of
from fastnn.tensors import Tensor


class Flatten(Module):
    """(N, C, H, W) -> (N, C·H·W): dimensions start_dim to end_dim made one.

    >>> import numpy as np
    >>> from fastnn import nn
    >>> nn.Flatten()(np.zeros((8, 64, 12, 12), np.float32)).shape
    (8, 9216)
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim = whole("Flatten", "start_dim", start_dim)
        self.end_dim = whole("Flatten", "end_dim", end_dim)

    def forward(self, x: Any) -> Tensor:
        return ops.flatten(x, self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """Dimension `dim` cut into `unflattened_size`: Unflatten(1, (1, 28, 28)) makes images of rows of 784."""

    def __init__(self, dim: int, unflattened_size: tuple[int, ...]) -> None:
        super().__init__()
        self.dim = whole("Unflatten", "dim", dim)
        sizes = entries("Unflatten", "unflattened_size", unflattened_size)
        self.unflattened_size = tuple(whole("Unflatten", "unflattened_size", size) for size in sizes)

    def forward(self, x: Any) -> Tensor:
        x = tensor_of(x)
        dim = ops.common.axis("unflatten", self.dim, x.ndim)
        return x.reshape(x.shape[:dim] + self.unflattened_size + x.shape[dim + 1 :])

    def extra_repr(self) -> str:
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"
