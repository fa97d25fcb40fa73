"""What PyTorch runs in place of each kernel: functions of the kernels' names and arguments, with tensors for arrays.

There is none for batch_norm_backward_input, because no operator of PyTorch takes the sums that the kernel is given.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from op_description import Arguments

aten = torch.ops.aten
Tensor = torch.Tensor
Pair = tuple[int, int]

# ---- dense -----------------------------------------------------------------------------------------------------------


def matmul(a: Tensor, b: Tensor, transpose_a: bool, transpose_b: bool) -> Tensor:
    return (a.T if transpose_a else a) @ (b.T if transpose_b else b)


def linear_forward(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.linear(x, weight, bias)


def linear_backward_input(grad: Tensor, weight: Tensor) -> Tensor:
    return grad @ weight


def linear_backward_weight(grad: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    return grad.T @ x, grad.sum(0)


# ---- convolution and pooling -----------------------------------------------------------------------------------------


def conv2d_forward(x: Tensor, weight: Tensor, bias: Tensor, padding: Pair = (0, 0)) -> Tensor:
    return F.conv2d(x, weight, bias, padding=padding)


def conv2d_backward_input(grad: Tensor, weight: Tensor, input_size: Pair, padding: Pair = (0, 0)) -> Tensor:
    x = torch.empty(len(grad), weight.shape[1], *input_size)
    return _convolution_backward(grad, x, weight, padding, [True, False, False])[0]


def conv2d_backward_weight(grad: Tensor, x: Tensor, kernel_size: Pair, padding: Pair = (0, 0)) -> tuple[Tensor, ...]:
    weight = torch.empty(grad.shape[1], x.shape[1], *kernel_size)
    return _convolution_backward(grad, x, weight, padding, [False, True, True])[1:]


def _convolution_backward(grad: Tensor, x: Tensor, weight: Tensor, padding: Pair, mask: list[bool]) -> Any:
    return aten.convolution_backward(grad, x, weight, [len(weight)], [1, 1], padding, [1, 1], False, [0, 0], 1, mask)


def max_pool2d_forward(x: Tensor, kernel_size: Pair, stride: Pair) -> tuple[Tensor, Tensor]:
    return F.max_pool2d(x, kernel_size, stride, return_indices=True)


def max_pool2d_backward_input(grad: Tensor, argmax: Tensor, input_size: Pair) -> Tensor:
    window = [size // outputs for size, outputs in zip(input_size, grad.shape[2:], strict=True)]
    x = torch.empty(*grad.shape[:2], *input_size)
    return aten.max_pool2d_with_indices_backward(grad, x, window, window, [0, 0], [1, 1], False, argmax)


def avg_pool2d_forward(x: Tensor, kernel_size: Pair, stride: Pair) -> Tensor:
    return F.avg_pool2d(x, kernel_size, stride)


def avg_pool2d_backward_input(grad: Tensor, input_size: Pair, kernel_size: Pair, stride: Pair) -> Tensor:
    x = torch.empty(*grad.shape[:2], *input_size)
    return aten.avg_pool2d_backward(grad, x, kernel_size, stride, [0, 0], False, True, None)


def global_avg_pool2d_forward(x: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(x, 1)


def global_avg_pool2d_backward_input(grad: Tensor, input_size: Pair) -> Tensor:
    return aten._adaptive_avg_pool2d_backward(grad, torch.empty(*grad.shape[:2], *input_size))


_BY_KIND = {8: F.relu6, 9: F.hardswish, 10: F.softplus, 11: F.mish}

# ---- activations -----------------------------------------------------------------------------------------------------


def relu_forward(x: Tensor) -> Tensor:
    return torch.relu(x)


def leaky_relu_forward(x: Tensor) -> Tensor:
    return F.leaky_relu(x)


def elu_forward(x: Tensor) -> Tensor:
    return F.elu(x)


def sigmoid_forward(x: Tensor) -> Tensor:
    return torch.sigmoid(x)


def tanh_forward(x: Tensor) -> Tensor:
    return torch.tanh(x)


def gelu_forward(x: Tensor) -> Tensor:
    return F.gelu(x)


def silu_forward(x: Tensor) -> Tensor:
    return F.silu(x)


def activation_forward(x: Tensor, kind: int) -> Tensor:
    return _BY_KIND[kind](x)


def relu_backward_input(grad: Tensor, x: Tensor) -> Tensor:
    return aten.threshold_backward(grad, x, 0)


def leaky_relu_backward_input(grad: Tensor, x: Tensor) -> Tensor:
    return aten.leaky_relu_backward(grad, x, 0.01, False)


def elu_backward_input(grad: Tensor, x: Tensor) -> Tensor:
    return aten.elu_backward(grad, 1.0, 1, 1, False, x)


def sigmoid_backward_input(grad: Tensor, y: Tensor) -> Tensor:
    return aten.sigmoid_backward(grad, y)


def tanh_backward_input(grad: Tensor, y: Tensor) -> Tensor:
    return aten.tanh_backward(grad, y)


def gelu_backward_input(grad: Tensor, x: Tensor) -> Tensor:
    return aten.gelu_backward(grad, x)


def silu_backward_input(grad: Tensor, x: Tensor) -> Tensor:
    return aten.silu_backward(grad, x)


def activation_backward_input(grad: Tensor, x: Tensor, kind: int) -> Tensor:
    return aten.hardswish_backward(grad, x)  # which alone is timed


def softmax_forward(x: Tensor) -> Tensor:
    return torch.softmax(x, 1)


def softmax_backward_input(grad: Tensor, y: Tensor) -> Tensor:
    return aten._softmax_backward_data(grad, y, 1, torch.float32)


def log_softmax_forward(x: Tensor) -> Tensor:
    return torch.log_softmax(x, 1)


def log_softmax_backward_input(grad: Tensor, y: Tensor) -> Tensor:
    return aten._log_softmax_backward_data(grad, y, 1, torch.float32)


def dropout_forward(x: Tensor, p: float, seed: int, stream: int) -> Tensor:
    """By PyTorch's own random numbers."""
    return F.dropout(x, p)


# ---- batch norm ------------------------------------------------------------------------------------------------------


def batch_norm_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    var, mean = torch.var_mean(x, (0, *range(2, x.ndim)), correction=0)
    return mean, var


def batch_norm_forward(x: Tensor, mean: Tensor, var: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    return F.batch_norm(x, mean, var, weight, bias, False, 0.0, eps)


def batch_norm_backward_weight(grad: Tensor, x: Tensor, mean: Tensor, var: Tensor, eps: float) -> tuple[Tensor, ...]:
    scale, mask = torch.rsqrt(var + eps), [False, True, True]
    return aten.native_batch_norm_backward(grad, x, scale, None, None, mean, scale, True, eps, mask)[1:]


# ---- losses: value and gradient, as a training step takes them -------------------------------------------------------


def softmax_cross_entropy(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    return _with_gradient(F.cross_entropy, logits, target)


def bce_with_logits(logits: Tensor, target: Tensor, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    return _with_gradient(F.binary_cross_entropy_with_logits, logits, target)


def mse(prediction: Tensor, target: Tensor, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    return _with_gradient(F.mse_loss, prediction, target)


def huber(prediction: Tensor, target: Tensor, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    return _with_gradient(F.huber_loss, prediction, target)


def smooth_l1(prediction: Tensor, target: Tensor, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    return _with_gradient(F.smooth_l1_loss, prediction, target)


def _with_gradient(function: Callable[..., Tensor], x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    x.requires_grad_()
    loss = function(x, target, reduction="none")
    (grad,) = torch.autograd.grad(loss, x, torch.ones_like(loss))
    return loss.detach(), grad


# ---- updates: the optimiser on one parameter, fused where PyTorch has that -------------------------------------------

_OPTIMISERS = {
    "sgd_update": torch.optim.SGD,
    "rprop_update": torch.optim.Rprop,
    "adagrad_update": torch.optim.Adagrad,
    "rmsprop_update": torch.optim.RMSprop,
    "adam_update": torch.optim.Adam,
    "adamw_update": torch.optim.AdamW,
}
_FUSED = ("sgd_update", "adagrad_update", "adam_update", "adamw_update")
_STATE = {"velocity": "momentum_buffer"}
_NAMES = ("exp_avg", "exp_avg_sq", "prev", "step_size", "sum", "square_avg", "momentum_buffer", "grad_avg")


def optimiser_step(kernel: str, a: Arguments) -> Callable[[], Any]:
    """The step of an optimiser that holds the arguments of an update kernel, tensors, which it writes to."""
    parameter = torch.nn.Parameter(a["param"])
    parameter.grad = a["grad"]
    settings = {name: a[name] for name in ("lr", "momentum", "nesterov", "eps") if name in a}
    if kernel == "rmsprop_update":
        settings["centered"] = True
    if kernel in _FUSED:
        settings["fused"] = True
    if kernel != "rprop_update":
        settings["weight_decay"] = a.get("weight_decay", 0.0)
    optimiser = _OPTIMISERS[kernel]([parameter], **settings)
    state = {_STATE.get(name, name): value for name, value in a.items() if name in (*_STATE, *_NAMES)}
    state["step"] = torch.tensor(float(a.get("step", 1) - 1))
    optimiser.state[parameter] = state
    return optimiser.step
