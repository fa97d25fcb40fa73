"""The checks that open every kernel, written once for the three backends: dtypes, shapes, options, `out=`.

Each function takes what its kernel was given, raises one clear error where that makes no sense, and returns the array
(or tuple of arrays) to write into: `out` where it was given, fresh uninitialised memory otherwise. `dtypes` is what the
backend computes in: FLOAT32 for native and jit, FLOATING for reference.

Only the batch may be empty in images: C, H and W are at least 1, as in PyTorch.
"""

from __future__ import annotations

import numpy as np

from fastnn.backends.checks import (
    FLOAT32,
    FLOATING,
    Array,
    DTypes,
    Outs,
    Pair,
    Shape,
    check_fraction,
    check_pair,
    check_shape,
    common_dtype,
    image_shape,
    in_place,
    kind_of,
    matrix_shape,
    output,
    outputs,
)
from fastnn.errors import ArgumentError, DTypeError, LabelError, ShapeError

__all__ = ["FLOAT32", "FLOATING", "Array", "Pair"]  # of checks, for the backends

_INT32 = np.dtype(np.int32)
_INT64 = np.dtype(np.int64)
_UINT32 = np.dtype(np.uint32)
_UINT64 = np.dtype(np.uint64)
_ALGORITHMS = ("auto", "direct", "im2col")


# ---- dense -----------------------------------------------------------------------------------------------------------


def matmul(a: Array, b: Array, transpose_a: bool, transpose_b: bool, out: Array | None, dtypes: DTypes) -> Array:
    dtype = common_dtype("matmul", dtypes, a, b)
    m, k = matrix_shape("matmul", "a", a, "(K, M)" if transpose_a else "(M, K)")
    if transpose_a:
        m, k = k, m
    rows, n = matrix_shape("matmul", "b", b, "(N, K)" if transpose_b else "(K, N)")
    if transpose_b:
        rows, n = n, rows
    if rows != k:
        flags = f" (transpose_a={bool(transpose_a)}, transpose_b={bool(transpose_b)})"
        raise ShapeError(f"matmul: expected a and b with the same K{flags}, got {a.shape} and {b.shape}")
    return output("matmul", (m, n), dtype, out)


def linear_forward(x: Array, weight: Array, bias: Array | None, out: Array | None, dtypes: DTypes) -> Array:
    dtype = common_dtype("linear", dtypes, x, weight, bias)
    o, i = matrix_shape("linear", "weight", weight, "(O, I)")
    n, features = matrix_shape("linear", "input", x, "(N, I)")
    if features != i:
        raise ShapeError(f"linear: expected input with {i} features (weight is {weight.shape}), got {x.shape}")
    if bias is not None:
        check_shape("linear", "bias", bias, (o,))
    return output("linear", (n, o), dtype, out)


def linear_backward_input(grad: Array, weight: Array, out: Array | None, dtypes: DTypes) -> Array:
    op = "linear_backward_input"
    dtype = common_dtype(op, dtypes, grad, weight)
    o, i = matrix_shape(op, "weight", weight, "(O, I)")
    n, features = matrix_shape(op, "grad", grad, "(N, O)")
    if features != o:
        raise ShapeError(f"{op}: expected grad with {o} features (weight is {weight.shape}), got {grad.shape}")
    return output(op, (n, i), dtype, out)


def linear_backward_weight(grad: Array, x: Array, out: Outs, dtypes: DTypes) -> tuple[Array, Array]:
    op = "linear_backward_weight"
    dtype = common_dtype(op, dtypes, grad, x)
    n, o = matrix_shape(op, "grad", grad, "(N, O)")
    rows, i = matrix_shape(op, "input", x, "(N, I)")
    if rows != n:
        raise ShapeError(f"{op}: expected grad and input with the same N, got {grad.shape} and {x.shape}")
    return outputs(op, ((o, i), (o,)), (dtype, dtype), out)


_MOST_PADDED = 1 << 31

# ---- convolution -----------------------------------------------------------------------------------------------------


def conv2d_output_size(
    op: str, size: Pair, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair = (1, 1)
) -> Pair:
    """(OH, OW) of a convolution or pooling: floor((H + 2*padding - dilation*(kernel - 1) - 1) / stride) + 1.

    >>> conv2d_output_size("conv2d", (28, 28), (5, 5), (1, 1), (2, 2))
    (28, 28)
    """
    kh, kw = check_pair(op, "kernel_size", kernel_size, 1)
    sh, sw = check_pair(op, "stride", stride, 1)
    ph, pw = check_pair(op, "padding", padding, 0)
    dh, dw = check_pair(op, "dilation", dilation, 1)
    h, w = size
    oh = (h + 2 * ph - dh * (kh - 1) - 1) // sh + 1
    ow = (w + 2 * pw - dw * (kw - 1) - 1) // sw + 1
    if oh < 1 or ow < 1:
        raise ShapeError(
            f"{op}: expected a kernel that fits into the padded image, got kernel {(kh, kw)} with dilation {(dh, dw)}"
            f" on an image {(h, w)} with padding {(ph, pw)}"
        )
    if (h + 2 * ph) * (w + 2 * pw) > max(_MOST_PADDED, 4 * h * w):  # kernels count the bytes of all channels in 64 bits
        raise ShapeError(f"{op}: expected padded planes of at most 2**31 values, got {(h + 2 * ph, w + 2 * pw)}")
    return oh, ow


def _conv2d_weight(op: str, weight: Array, groups: int, algorithm: str) -> Shape:
    shape = weight.shape
    if len(shape) != 4 or 0 in shape:
        raise ShapeError(f"{op}: expected weight of shape (O, C/groups, kh, kw), none of them 0, got {shape}")
    _conv2d_options(op, shape[0], groups, algorithm)
    return shape


def _conv2d_options(op: str, channels: int, groups: int, algorithm: str) -> None:
    if groups < 1 or channels % groups:
        raise ArgumentError(f"{op}: expected groups to divide the {channels} output channels, got {groups!r}")
    if algorithm not in _ALGORITHMS:
        raise ArgumentError(f"{op}: expected algorithm to be one of {', '.join(_ALGORITHMS)}, got {algorithm!r}")


def conv2d_forward(
    x: Array, weight: Array, bias: Array | None, stride: Pair, padding: Pair, dilation: Pair, groups: int,
    algorithm: str, out: Array | None, dtypes: DTypes,
) -> Array:  # fmt: skip
    dtype = common_dtype("conv2d", dtypes, x, weight, bias)
    o, cg, kh, kw = _conv2d_weight("conv2d", weight, groups, algorithm)
    n, c, h, w = image_shape("conv2d", "input", x)
    if c != cg * groups:
        raise ShapeError(
            f"conv2d: expected input with {cg * groups} channels (weight is {weight.shape}, groups={groups}),"
            f" got {x.shape}"
        )
    if bias is not None:
        check_shape("conv2d", "bias", bias, (o,))
    oh, ow = conv2d_output_size("conv2d", (h, w), (kh, kw), stride, padding, dilation)
    return output("conv2d", (n, o, oh, ow), dtype, out)


def conv2d_backward_input(
    grad: Array, weight: Array, input_size: Pair, stride: Pair, padding: Pair, dilation: Pair, groups: int,
    algorithm: str, out: Array | None, dtypes: DTypes,
) -> Array:  # fmt: skip
    op = "conv2d_backward_input"
    dtype = common_dtype(op, dtypes, grad, weight)
    o, cg, kh, kw = _conv2d_weight(op, weight, groups, algorithm)
    n = image_shape(op, "grad", grad)[0]
    size = check_pair(op, "input_size", input_size, 1)
    oh, ow = conv2d_output_size(op, size, (kh, kw), stride, padding, dilation)
    check_shape(op, "grad", grad, (n, o, oh, ow), f" (weight is {weight.shape}, input is {size})")
    return output(op, (n, cg * groups, *size), dtype, out)


def conv2d_backward_weight(
    grad: Array, x: Array, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair, groups: int,
    algorithm: str, out: Outs, dtypes: DTypes,
) -> tuple[Array, Array]:  # fmt: skip
    op = "conv2d_backward_weight"
    dtype = common_dtype(op, dtypes, grad, x)
    n, c, h, w = image_shape(op, "input", x)
    o = image_shape(op, "grad", grad)[1]
    _conv2d_options(op, o, groups, algorithm)
    if c % groups:
        raise ArgumentError(f"{op}: expected groups to divide the {c} input channels, got {groups!r}")
    oh, ow = conv2d_output_size(op, (h, w), kernel_size, stride, padding, dilation)
    check_shape(op, "grad", grad, (n, o, oh, ow), f" (input is {x.shape}, kernel {tuple(kernel_size)})")
    return outputs(op, ((o, c // groups, *kernel_size), (o,)), (dtype, dtype), out)


# ---- pooling ---------------------------------------------------------------------------------------------------------


def _pool_size(op: str, size: Pair, kernel_size: Pair, stride: Pair, padding: Pair) -> Pair:
    oh, ow = conv2d_output_size(op, size, kernel_size, stride, padding)
    if padding[0] > kernel_size[0] // 2 or padding[1] > kernel_size[1] // 2:
        raise ArgumentError(f"{op}: expected padding of at most half of kernel {kernel_size}, got {padding}")
    return oh, ow


def _check_positions(op: str, h: int, w: int) -> None:
    """Positions in a plane are kept as int32."""
    if h * w > 1 << 31:
        raise ShapeError(f"{op}: expected planes of at most 2**31 pixels, got {(h, w)}")


def max_pool2d_forward(
    x: Array, kernel_size: Pair, stride: Pair, padding: Pair,
    out: Outs, dtypes: DTypes,
) -> tuple[Array, Array]:  # fmt: skip
    dtype = common_dtype("max_pool2d", dtypes, x)
    n, c, h, w = image_shape("max_pool2d", "input", x)
    _check_positions("max_pool2d", h, w)
    oh, ow = _pool_size("max_pool2d", (h, w), kernel_size, stride, padding)
    shape = (n, c, oh, ow)
    return outputs("max_pool2d", (shape, shape), (dtype, _INT32), out)


def max_pool2d_backward_input(grad: Array, argmax: Array, input_size: Pair, out: Array | None, dtypes: DTypes) -> Array:
    op = "max_pool2d_backward_input"
    dtype = common_dtype(op, dtypes, grad)
    if not isinstance(argmax, np.ndarray) or argmax.dtype != _INT32:
        raise DTypeError(f"{op}: expected argmax to be an int32 array, got {kind_of(argmax)}")
    n, c, _, _ = image_shape(op, "grad", grad)
    check_shape(op, "argmax", argmax, grad.shape, " (as grad)")
    h, w = check_pair(op, "input_size", input_size, 1)
    _check_positions(op, h, w)
    # Seen as unsigned, a negative position is a huge one.
    if argmax.size and np.maximum.reduce(argmax.view(_UINT32), axis=None) >= h * w:
        raise ArgumentError(f"{op}: expected argmax in 0 .. {h * w - 1} (input is {(h, w)}), got others")
    return output(op, (n, c, h, w), dtype, out)


def avg_pool2d_forward(
    x: Array, kernel_size: Pair, stride: Pair, padding: Pair, out: Array | None, dtypes: DTypes
) -> Array:
    dtype = common_dtype("avg_pool2d", dtypes, x)
    n, c, h, w = image_shape("avg_pool2d", "input", x)
    oh, ow = _pool_size("avg_pool2d", (h, w), kernel_size, stride, padding)
    return output("avg_pool2d", (n, c, oh, ow), dtype, out)


def avg_pool2d_backward_input(
    grad: Array, input_size: Pair, kernel_size: Pair, stride: Pair, padding: Pair, out: Array | None, dtypes: DTypes
) -> Array:
    op = "avg_pool2d_backward_input"
    dtype = common_dtype(op, dtypes, grad)
    n, c, _, _ = image_shape(op, "grad", grad)
    size = check_pair(op, "input_size", input_size, 1)
    oh, ow = _pool_size(op, size, kernel_size, stride, padding)
    check_shape(op, "grad", grad, (n, c, oh, ow), f" (input is {size})")
    return output(op, (n, c, *size), dtype, out)


def global_avg_pool2d_forward(x: Array, out: Array | None, dtypes: DTypes) -> Array:
    dtype = common_dtype("global_avg_pool2d", dtypes, x)
    n, c, _, _ = image_shape("global_avg_pool2d", "input", x)
    return output("global_avg_pool2d", (n, c, 1, 1), dtype, out)


def global_avg_pool2d_backward_input(grad: Array, input_size: Pair, out: Array | None, dtypes: DTypes) -> Array:
    op = "global_avg_pool2d_backward_input"
    dtype = common_dtype(op, dtypes, grad)
    n, c, _, _ = image_shape(op, "grad", grad)
    check_shape(op, "grad", grad, (n, c, 1, 1))
    return output(op, (n, c, *check_pair(op, "input_size", input_size, 1)), dtype, out)


# ---- activations -----------------------------------------------------------------------------------------------------


def elementwise(op: str, first: Array, second: Array | None, out: Array | None, dtypes: DTypes) -> Array:
    """One array, or two of the same shape; op is the kernel's name without `_forward`."""
    dtype = common_dtype(op, dtypes, first, second)
    shape = first.shape
    if second is not None and second.shape != shape:
        raise ShapeError(f"{op}: expected two arrays of the same shape, got {shape} and {second.shape}")
    return output(op, shape, dtype, out)


def softmax(op: str, first: Array, second: Array | None, out: Array | None, dtypes: DTypes) -> Array:
    """As elementwise, for matrices (N, C) with at least one class."""
    result = elementwise(op, first, second, out, dtypes)
    if first.ndim != 2 or not first.shape[1]:
        raise ShapeError(f"{op}: expected an array of shape (N, C) with C at least 1, got {first.shape}")
    return result


def dropout_forward(x: Array, p: float, seed: int, stream: int, out: Array | None, dtypes: DTypes) -> Array:
    dtype = common_dtype("dropout", dtypes, x)
    check_fraction("dropout", "p", p)
    if not (0 <= seed < 1 << 64 and 0 <= stream < 1 << 64):
        raise ArgumentError(f"dropout: expected seed and stream in 0 .. 2**64 - 1, got {seed!r} and {stream!r}")
    return output("dropout", x.shape, dtype, out)


# ---- batch norm ------------------------------------------------------------------------------------------------------


def _channels(op: str, name: str, array: Array) -> int:
    shape = array.shape
    if len(shape) not in (2, 3, 4) or 0 in shape[1:]:
        raise ShapeError(
            f"{op}: expected {name} of shape (N, C), (N, C, L) or (N, C, H, W), only N may be 0, got {shape}"
        )
    return shape[1]


def batch_norm_statistics(x: Array, out: Outs, dtypes: DTypes) -> tuple[Array, Array]:
    dtype = common_dtype("batch_norm_statistics", dtypes, x)
    c = _channels("batch_norm_statistics", "input", x)
    if not x.shape[0]:
        raise ShapeError(f"batch_norm_statistics: expected at least one value per channel, got input {x.shape}")
    return outputs("batch_norm_statistics", ((c,), (c,)), (dtype, dtype), out)


def batch_norm_forward(
    x: Array, mean: Array, var: Array, weight: Array | None, bias: Array | None, out: Array | None, dtypes: DTypes
) -> Array:
    dtype = common_dtype("batch_norm", dtypes, x, mean, var, weight, bias)
    c = _channels("batch_norm", "input", x)
    for name, array in (("mean", mean), ("var", var), ("weight", weight), ("bias", bias)):
        if array is not None:
            check_shape("batch_norm", name, array, (c,), " (one value per channel)")
    return output("batch_norm", x.shape, dtype, out)


def batch_norm_backward_weight(
    grad: Array, x: Array, mean: Array, var: Array, out: Outs, dtypes: DTypes
) -> tuple[Array, Array]:
    op = "batch_norm_backward_weight"
    dtype = common_dtype(op, dtypes, grad, x, mean, var)
    c = _channels(op, "input", x)
    check_shape(op, "grad", grad, x.shape, " (as input)")
    check_shape(op, "mean", mean, (c,), " (one value per channel)")
    check_shape(op, "var", var, (c,), " (one value per channel)")
    return outputs(op, ((c,), (c,)), (dtype, dtype), out)


def batch_norm_backward_input(
    grad: Array, x: Array, mean: Array, var: Array, weight: Array | None, grad_weight: Array | None,
    grad_bias: Array | None, out: Array | None, dtypes: DTypes,
) -> Array:  # fmt: skip
    op = "batch_norm_backward_input"
    dtype = common_dtype(op, dtypes, grad, x, mean, var, weight, grad_weight, grad_bias)
    c = _channels(op, "input", x)
    check_shape(op, "grad", grad, x.shape, " (as input)")
    if (grad_weight is None) != (grad_bias is None):
        raise ArgumentError(f"{op}: expected both grad_weight and grad_bias (batch statistics) or neither, got one")
    for name, array in (("mean", mean), ("var", var), ("weight", weight),
                        ("grad_weight", grad_weight), ("grad_bias", grad_bias)):  # fmt: skip
        if array is not None:
            check_shape(op, name, array, (c,), " (one value per channel)")
    return output(op, x.shape, dtype, out)


# ---- losses ----------------------------------------------------------------------------------------------------------


def softmax_cross_entropy(
    logits: Array, target: Array, label_smoothing: float,
    out: Outs, dtypes: DTypes,
) -> tuple[Array, Array]:  # fmt: skip
    op = "softmax_cross_entropy"
    dtype = common_dtype(op, dtypes, logits)
    n, c = matrix_shape(op, "logits", logits, "(N, C)")
    if not c:
        raise ShapeError(f"{op}: expected at least one class, got logits {logits.shape}")
    check_fraction(op, "label_smoothing", label_smoothing)
    if not isinstance(target, np.ndarray) or (target.dtype != _INT64 and target.dtype != dtype):
        raise DTypeError(f"{op}: expected int64 labels or {dtype} class probabilities as target, got {kind_of(target)}")
    if target.dtype == dtype:
        check_shape(op, "target", target, (n, c), " (as logits)")
    else:
        check_shape(op, "target", target, (n,), f" (logits are {logits.shape})")
        # Seen as unsigned, a negative label is a huge one: one pass finds both kinds of bad label.
        if n and np.maximum.reduce(target.view(_UINT64)) >= c:
            bad = int(np.flatnonzero((target < 0) | (target >= c))[0])
            raise LabelError(f"{op}: expected labels in 0 .. {c - 1}, got {target[bad]} at position {bad}")
    return outputs(op, ((n,), (n, c)), (dtype, dtype), out)


def elementwise_loss(op: str, prediction: Array, target: Array, out: Outs, dtypes: DTypes) -> tuple[Array, Array]:
    dtype = common_dtype(op, dtypes, prediction, target)
    shape = prediction.shape
    if target.shape != shape:
        raise ShapeError(f"{op}: expected target of shape {shape} (as prediction), got {target.shape}")
    return outputs(op, (shape, shape), (dtype, dtype), out)


# ---- optimiser updates -----------------------------------------------------------------------------------------------


def update(op: str, dtypes: DTypes, param: Array, grad: Array, *state: Array | None) -> None:
    """grad is read, with any strides; param and state are written in place: contiguous, aligned, writable."""
    if in_place(param, grad, *[array for array in state if array is not None]) and param.dtype in dtypes:
        return
    common_dtype(op, dtypes, param, grad, *state)
    shape = param.shape
    check_shape(op, "grad", grad, shape, " (as param)")
    for array in (param, *state):
        if array is not None:
            check_shape(op, "state", array, shape, " (as param)")
            if not array.flags.carray:
                raise ShapeError(f"{op}: expected param and state to be C-contiguous, aligned and writable")


def sgd_update(param: Array, grad: Array, velocity: Array | None, momentum: float, dtypes: DTypes) -> None:
    update("sgd_update", dtypes, param, grad, velocity)
    if (velocity is None) != (momentum == 0.0):
        raise ArgumentError(
            "sgd_update: expected velocity to be None if and only if momentum is 0, got momentum="
            f"{momentum!r} and velocity {'None' if velocity is None else velocity.shape}"
        )


def adagrad_update(param: Array, grad: Array, sum: Array, step: int, dtypes: DTypes) -> None:
    update("adagrad_update", dtypes, param, grad, sum)
    _step_from_one("adagrad_update", step)


def rmsprop_update(
    param: Array, grad: Array, square_avg: Array, momentum_buffer: Array | None, grad_avg: Array | None,
    momentum: float, dtypes: DTypes,
) -> None:  # fmt: skip
    update("rmsprop_update", dtypes, param, grad, square_avg, momentum_buffer, grad_avg)
    if (momentum_buffer is None) != (momentum == 0.0):
        raise ArgumentError(
            "rmsprop_update: expected momentum_buffer to be None if and only if momentum is 0, got momentum="
            f"{momentum!r} and momentum_buffer {'None' if momentum_buffer is None else momentum_buffer.shape}"
        )


def adam_update(
    op: str, param: Array, grad: Array, exp_avg: Array, exp_avg_sq: Array, step: int, dtypes: DTypes
) -> None:
    """Of adam_update and adamw_update."""
    update(op, dtypes, param, grad, exp_avg, exp_avg_sq)
    _step_from_one(op, step)


def _step_from_one(op: str, step: int) -> None:
    if step < 1:
        raise ArgumentError(f"{op}: expected step to count from 1, got {step!r}")
