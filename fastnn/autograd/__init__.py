"""PyTorch's torch.autograd: gradients of chosen tensors, derivatives of any order, operators of one's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastnn.autograd import functional
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


def Variable(data: Any, requires_grad: bool = False) -> Tensor:
    """A tensor, as older PyTorch programs name it."""
    asked = flag("Variable", "requires_grad", requires_grad)
    return data if isinstance(data, Tensor) and not asked else Tensor(data, asked)


def __getattr__(name: str) -> Any:
    if name in ("gradcheck", "gradgradcheck"):  # they know models, which stand above
        from fastnn.insight import gradients

        return getattr(gradients, name)
    raise no_such_name("fastnn.autograd", name)
