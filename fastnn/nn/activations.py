"""Activations, as layers without parameters: any shape in, the same shape out.

`inplace` is taken for PyTorch's sake: it says nothing about the result, and nothing is written in place.
"""

from __future__ import annotations

from typing import Any

from fastnn import ops
from fastnn.checks import number, whole
from fastnn.habits import check_options
from fastnn.nn.module import Module
from fastnn.tensor import Tensor


class Identity(Module):
    """Its input; arguments are taken, as by PyTorch's, and say nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, x: Any) -> Any:
        return x


class ReLU(Module):
    """max(x, 0)."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()

    def forward(self, x: Any) -> Tensor:
        return ops.relu(x)


class LeakyReLU(Module):
    """x where x > 0, negative_slope·x elsewhere."""

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        super().__init__()
        self.negative_slope = number("LeakyReLU", "negative_slope", negative_slope)

    def forward(self, x: Any) -> Tensor:
        return ops.leaky_relu(x, self.negative_slope)

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}"


class ELU(Module):
    """x where x > 0, alpha·(exp(x) - 1) elsewhere (Clevert et al. 2016)."""

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        self.alpha = number("ELU", "alpha", alpha)

    def forward(self, x: Any) -> Tensor:
        return ops.elu(x, self.alpha)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}"


class Sigmoid(Module):
    """1 / (1 + exp(-x))."""

    def forward(self, x: Any) -> Tensor:
        return ops.sigmoid(x)


class Tanh(Module):
    """The hyperbolic tangent."""

    def forward(self, x: Any) -> Tensor:
        return ops.tanh(x)


class GELU(Module):
    """x·Φ(x) with the exact Φ (Hendrycks and Gimpel 2016)."""

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        check_options("GELU", approximate=approximate)

    def forward(self, x: Any) -> Tensor:
        return ops.gelu(x)


class SiLU(Module):
    """x·sigmoid(x)."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()

    def forward(self, x: Any) -> Tensor:
        return ops.silu(x)


class Softmax(Module):
    """exp(x) / sum(exp(x)) along dim. Before CrossEntropyLoss there must be none: that loss takes logits.

    >>> from fastnn import nn
    >>> nn.Softmax(dim=1)([[0.0, 0.0]])
    Tensor([[0.5, 0.5]])
    """

    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.dim = whole("Softmax", "dim", dim)

    def forward(self, x: Any) -> Tensor:
        return ops.softmax(x, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class LogSoftmax(Module):
    """log(softmax(x)) along dim; NLLLoss goes with it."""

    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.dim = whole("LogSoftmax", "dim", dim)

    def forward(self, x: Any) -> Tensor:
        return ops.log_softmax(x, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"
