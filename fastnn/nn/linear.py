"""The linear layer."""

from __future__ import annotations

import math
from typing import Any

from fastnn import init, ops
from fastnn.checks import flag, whole
from fastnn.habits import check_options
from fastnn.nn.members import new_parameter
from fastnn.nn.module import Module, Parameter
from fastnn.tensors import Tensor


class Linear(Module):
    """y = x Wᵀ + b: input (N, in_features), output (N, out_features); more dimensions before the last are kept.

    weight (out_features, in_features) and bias (out_features,) start uniform on ±1/sqrt(in_features), as in PyTorch.

    >>> import numpy as np
    >>> from fastnn import nn
    >>> nn.Linear(784, 10)(np.zeros((32, 784), np.float32)).shape
    (32, 10)
    """

    bias: Parameter | None

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        check_options("Linear", device=device, dtype=dtype)
        self.in_features = whole("Linear", "in_features", in_features, 1)
        self.out_features = whole("Linear", "out_features", out_features, 1)
        self.weight = new_parameter(self, (self.out_features, self.in_features))
        self.bias = new_parameter(self, (self.out_features,)) if flag(type(self).__name__, "bias", bias) else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Fresh random weights."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.in_features)
            init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Any) -> Tensor:
        return ops.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
