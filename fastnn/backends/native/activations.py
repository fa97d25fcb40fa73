"""Activations, softmax and dropout on the compiled kernels (kernels/ops/elementwise.h, softmax.h, base/random.h)."""

from __future__ import annotations

from fastnn import _kernels
from fastnn._kernels import contiguous, one_or_contiguous
from fastnn.backends import shapes
from fastnn.backends.reference.kinds import name_of
from fastnn.backends.shapes import FLOAT32, Array


def relu_forward(x: Array, *, out: Array | None = None) -> Array:
    y = shapes.elementwise("relu", x, None, out, FLOAT32)
    _kernels.relu_forward(contiguous(x), y)
    return y


def relu_backward_input(grad: Array, x: Array, *, out: Array | None = None) -> Array:
    grad_x = shapes.elementwise("relu_backward_input", grad, x, out, FLOAT32)
    _kernels.relu_backward_input(one_or_contiguous(grad), contiguous(x), grad_x)
    return grad_x


def leaky_relu_forward(x: Array, negative_slope: float = 0.01, *, out: Array | None = None) -> Array:
    y = shapes.elementwise("leaky_relu", x, None, out, FLOAT32)
    _kernels.leaky_relu_forward(contiguous(x), negative_slope, y)
    return y


def leaky_relu_backward_input(
    grad: Array, x: Array, negative_slope: float = 0.01, *, out: Array | None = None
) -> Array:
    grad_x = shapes.elementwise("leaky_relu_backward_input", grad, x, out, FLOAT32)
    _kernels.leaky_relu_backward_input(one_or_contiguous(grad), contiguous(x), negative_slope, grad_x)
    return grad_x


def elu_forward(x: Array, alpha: float = 1.0, *, out: Array | None = None) -> Array:
    y = shapes.elementwise("elu", x, None, out, FLOAT32)
    _kernels.elu_forward(contiguous(x), alpha, y)
    return y


def elu_backward_input(grad: Array, x: Array, alpha: float = 1.0, *, out: Array | None = None) -> Array:
    grad_x = shapes.elementwise("elu_backward_input", grad, x, out, FLOAT32)
    _kernels.elu_backward_input(one_or_contiguous(grad), contiguous(x), alpha, grad_x)
    return grad_x


def sigmoid_forward(x: Array, *, out: Array | None = None) -> Array:
    y = shapes.elementwise("sigmoid", x, None, out, FLOAT32)
    _kernels.sigmoid_forward(contiguous(x), y)
    return y


def sigmoid_backward_input(grad: Array, y: Array, *, out: Array | None = None) -> Array:
    grad_x = shapes.elementwise("sigmoid_backward_input", grad, y, out, FLOAT32)
    _kernels.sigmoid_backward_input(one_or_contiguous(grad), contiguous(y), grad_x)
    return grad_x


def tanh_forward(x: Array, *, out: Array | None = None) -> Array:
    y = shapes.elementwise("tanh", x, None, out, FLOAT32)
    _kernels.tanh_forward(contiguous(x), y)
    return y


def tanh_backward_input(grad: Array, y: Array, *, out: Array | None = None) -> Array:
    grad_x = shapes.elementwise("tanh_backward_input", grad, y, out, FLOAT32)
    _kernels.tanh_backward_input(one_or_contiguous(grad), contiguous(y), grad_x)
    return grad_x


def gelu_forward(x: Array, *, out: Array | None = None) -> Array:
    y = shapes.elementwise("gelu", x, None, out, FLOAT32)
    _kernels.gelu_forward(contiguous(x), y)
    return y


def gelu_backward_input(grad: Array, x: Array, *, out: Array | None = None) -> Array:
    grad_x = shapes.elementwise("gelu_backward_input", grad, x, out, FLOAT32)
    _kernels.gelu_backward_input(one_or_contiguous(grad), contiguous(x), grad_x)
    return grad_x


def silu_forward(x: Array, *, out: Array | None = None) -> Array:
    y = shapes.elementwise("silu", x, None, out, FLOAT32)
    _kernels.silu_forward(contiguous(x), y)
    return y


def silu_backward_input(grad: Array, x: Array, *, out: Array | None = None) -> Array:
    grad_x = shapes.elementwise("silu_backward_input", grad, x, out, FLOAT32)
    _kernels.silu_backward_input(one_or_contiguous(grad), contiguous(x), grad_x)
    return grad_x


def activation_forward(x: Array, kind: int, *, out: Array | None = None) -> Array:
    y = shapes.elementwise(name_of(kind), x, None, out, FLOAT32)
    _kernels.activation_forward(contiguous(x), kind, 0.0, y)
    return y


def activation_backward_input(grad: Array, x: Array, kind: int, *, out: Array | None = None) -> Array:
    grad_x = shapes.elementwise(f"{name_of(kind)}_backward_input", grad, x, out, FLOAT32)
    _kernels.activation_backward_input(one_or_contiguous(grad), contiguous(x), kind, 0.0, grad_x)
    return grad_x


def softmax_forward(x: Array, *, out: Array | None = None) -> Array:
    y = shapes.softmax("softmax", x, None, out, FLOAT32)
    _kernels.softmax_forward(contiguous(x), y)
    return y


def softmax_backward_input(grad: Array, y: Array, *, out: Array | None = None) -> Array:
    grad_x = shapes.softmax("softmax_backward_input", grad, y, out, FLOAT32)
    _kernels.softmax_backward_input(contiguous(grad), contiguous(y), grad_x)
    return grad_x


def log_softmax_forward(x: Array, *, out: Array | None = None) -> Array:
    y = shapes.softmax("log_softmax", x, None, out, FLOAT32)
    _kernels.log_softmax_forward(contiguous(x), y)
    return y


def log_softmax_backward_input(grad: Array, y: Array, *, out: Array | None = None) -> Array:
    grad_x = shapes.softmax("log_softmax_backward_input", grad, y, out, FLOAT32)
    _kernels.log_softmax_backward_input(contiguous(grad), contiguous(y), grad_x)
    return grad_x


def dropout_forward(x: Array, p: float, seed: int, stream: int, *, out: Array | None = None) -> Array:
    y = shapes.dropout_forward(x, p, seed, stream, out, FLOAT32)
    _kernels.dropout_forward(contiguous(x), p, seed, stream, y)
    return y
