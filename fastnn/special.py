"""PyTorch's torch.special: functions of fastnn's own by the names of this place."""

from __future__ import annotations

from typing import Any

from fastnn import ops
from fastnn.habits import no_such_name
from fastnn.tensors import Tensor

# PyTorch's name here, and that of the operator.
_SAME = "digamma erf erfc erfinv exp2 expm1 i0 log1p log_softmax logit logsumexp round sinc softmax xlogy"
_OPERATORS = {
    **dict(zip(_SAME.split(), _SAME.split(), strict=True)),
    "expit": "sigmoid",
    "gammaln": "lgamma",
    "psi": "digamma",
}

__all__ = sorted([*_OPERATORS, "ndtr"])


def ndtr(input: Tensor) -> Tensor:
    """The standard normal distribution's function, Φ(x) = erfc(-x/√2) / 2.

    >>> import fastnn as fnn
    >>> fnn.special.ndtr(fnn.zeros(1)).item()
    0.5
    """
    return 0.5 * ops.erfc(-input / 2**0.5)


def __getattr__(name: str) -> Any:
    if name in _OPERATORS:
        return getattr(ops, _OPERATORS[name])
    raise no_such_name("fastnn.special", name)
