"""Dropout."""

from __future__ import annotations

from typing import Any

from fastnn import ops
from fastnn.checks import flag, number
from fastnn.nn.module import Module
from fastnn.tensors import Tensor


class Dropout(Module):
    """In training each entry is zero with probability p, the others are divided by 1 - p; in eval mode nothing is done.

    Srivastava et al. 2014. The numbers come from `fnn.manual_seed`; every call takes new ones.
    With `inplace` the input itself goes on as the result.

    >>> from fastnn import nn
    >>> nn.Dropout(0.5).eval()([1.0, 2.0])
    Tensor([1., 2.])
    """

    inplace = False  # of models in older files

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        self.p, self.inplace = number("Dropout", "p", p, 0, 1), flag("Dropout", "inplace", inplace)

    def forward(self, x: Any) -> Tensor:
        return ops.dropout(x, self.p, self.training, self.inplace)

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"


_DropoutNd = Dropout  # PyTorch's name of the base of all of them


class _DropoutOf(Dropout):
    function: str  # of fastnn.ops

    def forward(self, x: Any) -> Tensor:
        result: Tensor = getattr(ops, self.function)(x, self.p, self.training, self.inplace)
        return result


class Dropout1d(_DropoutOf):
    """In training each channel of (N, C, L) is zero with probability p, the others are divided by 1 - p."""

    function = "dropout1d"


class Dropout2d(_DropoutOf):
    """In training each channel of (N, C, H, W) is zero with probability p, the others are divided by 1 - p."""

    function = "dropout2d"


class Dropout3d(_DropoutOf):
    """In training each channel of (N, C, D, H, W) is zero with probability p, the others are divided by 1 - p."""

    function = "dropout3d"


class AlphaDropout(_DropoutOf):
    """Dropout that keeps mean 0 and variance 1 behind SELU (Klambauer et al. 2017)."""

    function = "alpha_dropout"
