"""Activations, as layers without parameters: any shape in, the same shape out.

With `inplace` the input itself goes on as the result, for whoever else uses it, too. It saves no memory.
"""

from __future__ import annotations

from typing import Any

from fastnn import ops
from fastnn.checks import choice, flag, number, whole
from fastnn.habits import check_options
from fastnn.init import constant_
from fastnn.nn.applied import Applied
from fastnn.nn.members import new_parameter
from fastnn.nn.module import Module
from fastnn.tensors import Tensor


class Identity(Module):
    """Its input; arguments are taken, as by PyTorch's, and say nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, x: Any) -> Any:
        return x


class _Plain(Applied):
    """One without options, but for PyTorch's `inplace`."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = flag(type(self).__name__, "inplace", inplace)


class ReLU(_Plain):
    """max(x, 0)."""

    function = "relu"

    def forward(self, x: Any) -> Tensor:  # itself: the commonest of all, and a microsecond shorter so
        return ops.relu(x, self.inplace)


class LeakyReLU(Applied):
    """x where x > 0, negative_slope·x elsewhere."""

    function, options = "leaky_relu", ("negative_slope",)

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        super().__init__()
        self.negative_slope = number("LeakyReLU", "negative_slope", negative_slope)
        self.inplace = flag("LeakyReLU", "inplace", inplace)


class RReLU(Module):
    """x where x > 0, elsewhere x times a random slope in training, their mean otherwise (Xu et al. 2015)."""

    def __init__(self, lower: float = 1 / 8, upper: float = 1 / 3, inplace: bool = False) -> None:
        super().__init__()
        self.lower, self.upper = number("RReLU", "lower", lower), number("RReLU", "upper", upper)
        self.inplace = flag("RReLU", "inplace", inplace)

    def forward(self, input: Any) -> Tensor:
        return ops.rrelu(input, self.lower, self.upper, self.training, self.inplace)

    def extra_repr(self) -> str:
        return f"lower={self.lower}, upper={self.upper}" + ", inplace=True" * self.inplace


class ELU(Applied):
    """x where x > 0, alpha·(exp(x) - 1) elsewhere (Clevert et al. 2016)."""

    function, options = "elu", ("alpha",)

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        self.alpha = number("ELU", "alpha", alpha)
        self.inplace = flag("ELU", "inplace", inplace)


class Sigmoid(Module):
    """1 / (1 + exp(-x))."""

    def forward(self, x: Any) -> Tensor:
        return ops.sigmoid(x)


class Tanh(Module):
    """The hyperbolic tangent."""

    def forward(self, x: Any) -> Tensor:
        return ops.tanh(x)


class GELU(Module):
    """x·Φ(x) with the exact Φ, or with `approximate` "tanh" near it (Hendrycks and Gimpel 2016)."""

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        self.approximate = choice("GELU", "approximate", approximate, ("none", "tanh"))

    def forward(self, x: Any) -> Tensor:
        return ops.gelu(x, self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class SiLU(_Plain):
    """x·sigmoid(x)."""

    function = "silu"


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


# ---- activations of other operators ----------------------------------------------------------------------------------


class _WithDim(Applied):
    """One along a dimension."""

    options = ("dim",)

    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.dim = whole(type(self).__name__, "dim", dim)


class ReLU6(_Plain):
    """min(max(x, 0), 6)."""

    function = "relu6"


class Hardswish(_Plain):
    """x·min(max(x + 3, 0), 6)/6 (Howard et al. 2019)."""

    function = "hardswish"


class Hardsigmoid(_Plain):
    """min(max(x + 3, 0), 6)/6."""

    function = "hardsigmoid"


class Mish(_Plain):
    """x·tanh(softplus(x)) (Misra 2019)."""

    function = "mish"


class SELU(_Plain):
    """1.0507·elu(x, 1.6733), which keeps mean 0 and variance 1 (Klambauer et al. 2017)."""

    function = "selu"


class Softsign(Applied):
    """x/(1 + |x|)."""

    function = "softsign"


class LogSigmoid(Applied):
    """log(sigmoid(x))."""

    function = "logsigmoid"


class Tanhshrink(Applied):
    """x - tanh(x)."""

    function = "tanhshrink"


class Softmax2d(Module):
    """Softmax over the channels of (N, C, H, W) or (C, H, W)."""

    def forward(self, input: Any) -> Tensor:
        return ops.softmax(input, -3)


class Softmin(_WithDim):
    """softmax(-x) along dim."""

    function = "softmin"


class GLU(_WithDim):
    """a·sigmoid(b), where a and b are the halves along dim (Dauphin et al. 2017)."""

    function = "glu"


class Softplus(Applied):
    """log(1 + exp(beta·x))/beta, and x itself where beta·x > threshold."""

    function, options = "softplus", ("beta", "threshold")

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__()
        self.beta, self.threshold = number("Softplus", "beta", beta), number("Softplus", "threshold", threshold)


class Hardtanh(Applied):
    """x between min_val and max_val."""

    function, options = "hardtanh", ("min_val", "max_val")

    def __init__(
        self,
        min_val: float = -1.0,
        max_val: float = 1.0,
        inplace: bool = False,
        min_value: float | None = None,
        max_value: float | None = None,
    ) -> None:
        super().__init__()
        low, high = min_val if min_value is None else min_value, max_val if max_value is None else max_value
        self.min_val = number("Hardtanh", "min_val", low)
        self.max_val = number("Hardtanh", "max_val", high, self.min_val)
        self.inplace = flag("Hardtanh", "inplace", inplace)


class CELU(Applied):
    """max(x, 0) + min(alpha·(exp(x/alpha) - 1), 0) (Barron 2017)."""

    function, options = "celu", ("alpha",)

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        self.alpha = number("CELU", "alpha", alpha)
        self.inplace = flag("CELU", "inplace", inplace)


class Softshrink(Applied):
    """x drawn towards 0 by lambd, and 0 where it would pass it."""

    function, options = "softshrink", ("lambd",)

    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__()
        self.lambd = number("Softshrink", "lambd", lambd, 0)

    def extra_repr(self) -> str:
        return str(self.lambd)


class Hardshrink(Applied):
    """x, and 0 where |x| ≤ lambd."""

    function, options = "hardshrink", ("lambd",)

    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__()
        self.lambd = number("Hardshrink", "lambd", lambd)

    def extra_repr(self) -> str:
        return str(self.lambd)


class Threshold(Applied):
    """x where it is above threshold, value elsewhere."""

    function, options = "threshold", ("threshold", "value")

    def __init__(self, threshold: float, value: float, inplace: bool = False) -> None:
        super().__init__()
        self.threshold = number("Threshold", "threshold", threshold)
        self.value = number("Threshold", "value", value)
        self.inplace = flag("Threshold", "inplace", inplace)


class PReLU(Module):
    """x where x > 0, weight·x elsewhere, with a weight that is learned, (1,) or (C,); it starts as `init` (He et al.
    2015).
    """

    def __init__(self, num_parameters: int = 1, init: float = 0.25, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        check_options("PReLU", device=device, dtype=dtype)
        self.num_parameters = whole("PReLU", "num_parameters", num_parameters, 1)
        self.init = number("PReLU", "init", init)
        self.weight = new_parameter(self, (self.num_parameters,), self.init)

    def reset_parameters(self) -> None:
        """All weights as they started."""
        constant_(self.weight, self.init)

    def forward(self, input: Any) -> Tensor:
        return ops.prelu(input, self.weight)

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}"
