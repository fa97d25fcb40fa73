"""Normalisation of each sample by itself: layer, group and RMS norm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastnn import init
from fastnn.checks import flag, number, whole
from fastnn.errors import ArgumentError
from fastnn.habits import check_options
from fastnn.nn.members import new_parameter
from fastnn.nn.module import Module, Parameter
from fastnn.ops import sample_norm as ops
from fastnn.tensors import Tensor

__all__ = ["GroupNorm", "LayerNorm", "RMSNorm"]


class _Affine(Module):
    weight: Parameter | None
    bias: Parameter | None

    def _make(self, shape: tuple[int, ...], weight: bool, bias: bool) -> None:
        self.weight = new_parameter(self, shape, 1) if weight else None
        self.bias = new_parameter(self, shape, 0) if bias else None

    def reset_parameters(self) -> None:
        """Weight 1, bias 0."""
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)


def _shape(owner: str, shape: int | Sequence[int]) -> tuple[int, ...]:
    sizes = tuple(shape) if isinstance(shape, Sequence) else (shape,)
    return tuple(whole(owner, "normalized_shape", size, 1) for size in sizes)


class LayerNorm(_Affine):
    """(x - mean) / sqrt(var + eps) * weight + bias over the last dimensions, which are `normalized_shape`.

    weight and bias have that shape, and start as ones and zeros; elementwise_affine=False goes without.

    >>> import numpy as np
    >>> from fastnn import nn
    >>> nn.LayerNorm(64)(np.zeros((2, 5, 64), np.float32)).shape
    (2, 5, 64)
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        check_options("LayerNorm", device=device, dtype=dtype)
        self.normalized_shape = _shape("LayerNorm", normalized_shape)
        self.eps, self.elementwise_affine = number("LayerNorm", "eps", eps, 0), elementwise_affine
        affine = flag("LayerNorm", "elementwise_affine", elementwise_affine)
        self._make(self.normalized_shape, affine, affine and flag("LayerNorm", "bias", bias))

    def forward(self, x: Any) -> Tensor:
        return ops.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class RMSNorm(_Affine):
    """x / sqrt(mean(x²) + eps) * weight over the last dimensions; eps None is the type's own.

    >>> import numpy as np
    >>> from fastnn import nn
    >>> nn.RMSNorm(2, eps=0.0)(np.array([[1.0, 7.0]], np.float32))
    Tensor([[0.2, 1.4]], from=GroupNorm)
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        check_options("RMSNorm", device=device, dtype=dtype)
        self.normalized_shape = _shape("RMSNorm", normalized_shape)
        self.eps = None if eps is None else number("RMSNorm", "eps", eps, 0)
        self.elementwise_affine = elementwise_affine
        self._make(self.normalized_shape, elementwise_affine, False)

    def forward(self, x: Any) -> Tensor:
        return ops.rms_norm(x, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class GroupNorm(_Affine):
    """(x - mean) / sqrt(var + eps) * weight + bias over each of num_groups groups of the channels of each sample.

    Input (N, num_channels, ...); weight and bias (num_channels,). Raises ArgumentError unless the groups divide the
    channels.
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        check_options("GroupNorm", device=device, dtype=dtype)
        self.num_groups = whole("GroupNorm", "num_groups", num_groups, 1)
        self.num_channels = whole("GroupNorm", "num_channels", num_channels, 1)
        if self.num_channels % self.num_groups:
            raise ArgumentError(f"GroupNorm: expected num_groups to divide {num_channels} channels, got {num_groups}")
        self.eps, self.affine = number("GroupNorm", "eps", eps, 0), affine
        affine = flag("GroupNorm", "affine", affine)
        self._make((self.num_channels,), affine, affine and flag("GroupNorm", "bias", bias))

    def forward(self, x: Any) -> Tensor:
        return ops.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}"


class LocalResponseNorm(Module):
    """x / (k + alpha · m)^beta, m the mean of x² over `size` neighbouring channels. See `fnn.ops.local_response_norm`.

    >>> import numpy as np
    >>> from fastnn import nn
    >>> nn.LocalResponseNorm(5)(np.ones((2, 8, 4, 4), np.float32)).shape
    (2, 8, 4, 4)
    """

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        super().__init__()
        self.size = whole("LocalResponseNorm", "size", size, 1)
        self.alpha, self.beta, self.k = alpha, beta, k

    def forward(self, input: Any) -> Tensor:
        return ops.local_response_norm(input, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self) -> str:
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"
