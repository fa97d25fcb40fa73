"""Matrix product and the fully connected layer."""

from __future__ import annotations

import numpy as np  # noqa: F401  (of the doctests)

from fastnn.backends import shapes
from fastnn.backends.shapes import FLOATING, Array
from fastnn.backends.sums import product, total


def matmul(
    a: Array, b: Array, *, transpose_a: bool = False, transpose_b: bool = False, out: Array | None = None
) -> Array:
    """The product of two matrices, either of them transposed on request.

    a is (M, K), or (K, M) with transpose_a; b is (K, N), or (N, K) with transpose_b. Returns (M, N), zeros if K is 0.
    `out` is overwritten and must not overlap a or b.

    >>> a = np.array([[1.0, 2.0], [3.0, 4.0]])
    >>> matmul(a, np.array([[1.0, 10.0]]), transpose_b=True)
    array([[21.],
           [43.]])

    Raises ShapeError where the shapes do not fit, DTypeError where the dtypes are not one floating type.
    """
    out = shapes.matmul(a, b, transpose_a, transpose_b, out, FLOATING)
    product(a.T if transpose_a else a, b.T if transpose_b else b, out)
    return out


def linear_forward(x: Array, weight: Array, bias: Array | None, *, out: Array | None = None) -> Array:
    """y = x weight^T + bias.

    x is (N, I), weight (O, I), bias (O,) or None. Returns y (N, O).
    `out` is overwritten and must not overlap an input.

    >>> linear_forward(np.array([[1.0, 2.0]]), np.array([[3.0, 4.0]]), np.array([0.5]))
    array([[11.5]])
    """
    out = shapes.linear_forward(x, weight, bias, out, FLOATING)
    product(x, weight.T, out)
    if bias is not None:
        out += bias
    return out


def linear_backward_input(grad: Array, weight: Array, *, out: Array | None = None) -> Array:
    """Gradient of the loss with respect to the input of a linear layer: grad weight.

    grad is (N, O), weight (O, I). Returns (N, I). `out` is overwritten and must not overlap an input.
    """
    out = shapes.linear_backward_input(grad, weight, out, FLOATING)
    product(grad, weight, out)
    return out


def linear_backward_weight(
    grad: Array, x: Array, *, out: tuple[Array | None, Array | None] | None = None
) -> tuple[Array, Array]:
    """Gradients with respect to the parameters of a linear layer: grad^T x, and grad summed over the batch.

    grad is (N, O), x (N, I). Returns (grad_weight (O, I), grad_bias (O,)), zeros for an empty batch.
    Both of `out` are overwritten, not added to, and must not overlap an input.
    """
    grad_weight, grad_bias = shapes.linear_backward_weight(grad, x, out, FLOATING)
    product(grad.T, x, grad_weight)
    grad_bias[...] = total(grad, 0)
    return grad_weight, grad_bias
