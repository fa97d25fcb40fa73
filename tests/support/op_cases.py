"""One description per kernel of the interface: what drives its tests, its gradient check and its benchmark.

A Kernel says how to make arguments for a case (a plain dict of sizes and options), which cases to test, which to time,
and what it costs. A Gradient says of which function a backward kernel is the derivative. Sizes come from the tiles:
micro-kernels of 6x8, 6x16 and 12x32, vectors of 4, 8 and 16 floats, blocks of K of 256.

Arguments are float32 (labels int64, argmax int32), by the parameter names of the kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

from op_cases_images import CONVOLUTION, DENSE, NORM, POOLING
from op_cases_vectors import ACTIVATIONS, LOSSES, UPDATES
from op_description import Arguments, Array, Case, Gradient, Kernel, arguments, as_dtype, bytes_moved, case_id

__all__ = ["GRADIENTS", "KERNELS", "Case", "Gradient", "Kernel", "arguments", "as_dtype", "bytes_moved", "case_id"]

KERNELS = {kernel.name: kernel for kernel in
           (*DENSE, *CONVOLUTION, *POOLING, *ACTIVATIONS, *NORM, *LOSSES, *UPDATES)}  # fmt: skip


def _options(a: Arguments, *names: str) -> Arguments:
    return {name: a[name] for name in names if name in a}


_CONV = ("stride", "padding", "dilation", "groups")
_POOL = ("kernel_size", "stride", "padding", "count_include_pad")


def _forward(kernel: str) -> Callable[[ModuleType, Arguments], Array]:
    return lambda k, a: getattr(k, kernel)(**a)


def _loss(kernel: str) -> Callable[[ModuleType, Arguments], Array]:
    return lambda k, a: getattr(k, kernel)(**a)[0]


def _activation(name: str, kept: str, *options: str) -> Gradient:
    """kept: whether backward takes the input ("x") or the output ("y")."""
    forward = _forward(f"{name}_forward")

    def backward(k: ModuleType, a: Arguments, grad: Array) -> Array:
        return getattr(k, f"{name}_backward_input")(
            grad, a["x"] if kept == "x" else forward(k, a), **_options(a, *options)
        )

    return Gradient(f"{name}_forward", "x", forward, f"{name}_backward_input", backward)


def _elementwise_loss(name: str, argument: str) -> Gradient:
    """The kernel's gradient has been multiplied by its scale, which the loss has not."""
    return Gradient(name, argument, _loss(name), name, lambda k, a, grad: grad * getattr(k, name)(**a)[1] / a["scale"])


def _train_norm(k: ModuleType, a: Arguments) -> Array:
    """With the statistics of x itself, whatever mean and var are given."""
    mean, var = k.batch_norm_statistics(a["x"])
    return k.batch_norm_forward(**{**a, "mean": mean, "var": var})


def _train_norm_backward(k: ModuleType, a: Arguments, grad: Array) -> Array:
    x, weight, eps = a["x"], a["weight"], a["eps"]
    mean, var = k.batch_norm_statistics(x)
    sums = k.batch_norm_backward_weight(grad, x, mean, var, eps)
    return k.batch_norm_backward_input(grad, x, mean, var, weight, *sums, eps)


def _cross_entropy_backward(k: ModuleType, a: Arguments, grad: Array) -> Array:
    return grad[:, None] * k.softmax_cross_entropy(**{**a, "scale": 0.5})[1] / 0.5


def _conv_backward_weight(k: ModuleType, a: Arguments, grad: Array) -> tuple[Array, Array]:
    return k.conv2d_backward_weight(grad, a["x"], a["weight"].shape[2:], **_options(a, *_CONV))


def _norm_parameter(output: int) -> Callable[[ModuleType, Arguments, Array], Array]:
    return lambda k, a, grad: k.batch_norm_backward_weight(grad, a["x"], a["mean"], a["var"], a["eps"])[output]


GRADIENTS = [
    Gradient("linear_forward", "x", _forward("linear_forward"), "linear_backward_input",
             lambda k, a, grad: k.linear_backward_input(grad, a["weight"])),
    Gradient("linear_forward", "weight", _forward("linear_forward"), "linear_backward_weight",
             lambda k, a, grad: k.linear_backward_weight(grad, a["x"])[0]),
    Gradient("linear_forward", "bias", _forward("linear_forward"), "linear_backward_weight",
             lambda k, a, grad: k.linear_backward_weight(grad, a["x"])[1]),
    Gradient("conv2d_forward", "x", _forward("conv2d_forward"), "conv2d_backward_input",
             lambda k, a, grad: k.conv2d_backward_input(grad, a["weight"], a["x"].shape[2:], **_options(a, *_CONV))),
    Gradient("conv2d_forward", "weight", _forward("conv2d_forward"), "conv2d_backward_weight",
             lambda k, a, grad: _conv_backward_weight(k, a, grad)[0]),
    Gradient("conv2d_forward", "bias", _forward("conv2d_forward"), "conv2d_backward_weight",
             lambda k, a, grad: _conv_backward_weight(k, a, grad)[1]),
    Gradient("max_pool2d_forward", "x", _loss("max_pool2d_forward"), "max_pool2d_backward_input",
             lambda k, a, grad: k.max_pool2d_backward_input(grad, k.max_pool2d_forward(**a)[1], a["x"].shape[2:])),
    Gradient("avg_pool2d_forward", "x", _forward("avg_pool2d_forward"), "avg_pool2d_backward_input",
             lambda k, a, grad: k.avg_pool2d_backward_input(grad, a["x"].shape[2:], **_options(a, *_POOL))),
    Gradient("global_avg_pool2d_forward", "x", _forward("global_avg_pool2d_forward"),
             "global_avg_pool2d_backward_input",
             lambda k, a, grad: k.global_avg_pool2d_backward_input(grad, a["x"].shape[2:])),
    _activation("relu", "x"),
    _activation("leaky_relu", "x", "negative_slope"),
    _activation("elu", "x", "alpha"),
    _activation("sigmoid", "y"),
    _activation("tanh", "y"),
    _activation("gelu", "x"),
    _activation("silu", "x"),
    _activation("activation", "x", "kind"),
    _activation("softmax", "y"),
    _activation("log_softmax", "y"),
    Gradient("dropout_forward", "x", _forward("dropout_forward"), "dropout_forward",
             lambda k, a, grad: k.dropout_forward(**{**a, "x": grad})),
    Gradient("batch_norm_forward", "x", _train_norm, "batch_norm_backward_input", _train_norm_backward),
    Gradient("batch_norm_forward", "x", _forward("batch_norm_forward"), "batch_norm_backward_input",
             lambda k, a, grad: k.batch_norm_backward_input(
                 grad, a["x"], a["mean"], a["var"], a["weight"], None, None, a["eps"])),
    Gradient("batch_norm_forward", "weight", _forward("batch_norm_forward"), "batch_norm_backward_weight",
             _norm_parameter(0)),
    Gradient("batch_norm_forward", "bias", _forward("batch_norm_forward"), "batch_norm_backward_weight",
             _norm_parameter(1)),
    Gradient("softmax_cross_entropy", "logits", _loss("softmax_cross_entropy"), "softmax_cross_entropy",
             _cross_entropy_backward),
    _elementwise_loss("bce_with_logits", "logits"),
    _elementwise_loss("mse", "prediction"),
    _elementwise_loss("huber", "prediction"),
    _elementwise_loss("smooth_l1", "prediction"),
]  # fmt: skip
