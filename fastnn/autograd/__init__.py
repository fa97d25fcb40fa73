"""PyTorch's torch.autograd: gradients of chosen tensors, derivatives of any order, operators of one's own."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from fastnn.autograd import forward_ad, functional
from fastnn.autograd.anomaly import detect_anomaly, is_anomaly_enabled, set_detect_anomaly
from fastnn.autograd.engine import backward, grad
from fastnn.autograd.function import Function
from fastnn.checks import flag
from fastnn.habits import no_such_name
from fastnn.recording import enable_grad, inference_mode, no_grad, set_grad_enabled
from fastnn.tensors import Tensor

if TYPE_CHECKING:
    from fastnn.insight.gradients import gradcheck, gradgradcheck

__all__ = [
    "Function",
    "Variable",
    "backward",
    "detect_anomaly",
    "enable_grad",
    "forward_ad",
    "functional",
    "grad",
    "gradcheck",
    "gradgradcheck",
    "inference_mode",
    "is_anomaly_enabled",
    "no_grad",
    "set_detect_anomaly",
    "set_grad_enabled",
]


class _OldTensor(type):
    def __call__(cls, data: Any, requires_grad: bool = False, volatile: bool = False) -> Tensor:
        asked = flag("Variable", "requires_grad", requires_grad)
        return data if isinstance(data, Tensor) and not asked else Tensor(data, asked)

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, Tensor)


class Variable(metaclass=_OldTensor):
    """A tensor, as older PyTorch programs name it: ``Variable(data, requires_grad=False)``; every tensor is one.

    >>> import fastnn as fnn
    >>> x = fnn.autograd.Variable(fnn.ones(2))
    >>> x, isinstance(x, fnn.autograd.Variable)
    (Tensor([1., 1.]), True)
    """


# Where PyTorch has it: ``from fastnn.autograd.variable import Variable``.
variable = sys.modules[f"{__name__}.variable"] = sys.modules[__name__]


def __getattr__(name: str) -> Any:
    if name in ("gradcheck", "gradgradcheck"):  # they know models, which stand above
        from fastnn.insight import gradients

        return getattr(gradients, name)
    raise no_such_name("fastnn.autograd", name)
