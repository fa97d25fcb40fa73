"""Arguments that make no sense: one clear error, the same from every backend."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from targets import Target

from fastnn.errors import ArgumentError, FastnnError, LabelError, ShapeError


def f(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


X, W, B = f(2, 3, 5, 6), f(4, 3, 3, 3), f(4)  # a convolution to (2, 4, 3, 4)
I32 = np.zeros((2, 3, 2, 3), np.int32)

# kernel, arguments, keywords, error, what it says after the operator's name
BAD: list[tuple[str, tuple[Any, ...], dict[str, Any], type[FastnnError], str]] = [
    ("matmul", (f(2, 3), f(4, 5)), {}, ShapeError,
     "matmul: expected a and b with the same K (transpose_a=False, transpose_b=False), got (2, 3) and (4, 5)"),
    ("matmul", (f(2, 3), f(3, 5)), {"transpose_a": True}, ShapeError,
     "matmul: expected a and b with the same K (transpose_a=True, transpose_b=False), got (2, 3) and (3, 5)"),
    ("matmul", (f(3), f(3, 5)), {}, ShapeError, "matmul: expected a of shape (M, K), got (3,)"),
    ("matmul", (f(2, 3), f(1, 3, 5)), {}, ShapeError, "matmul: expected b of shape (K, N), got (1, 3, 5)"),
    ("linear_forward", (f(2, 3), f(5, 4), None), {}, ShapeError,
     "linear: expected input with 4 features (weight is (5, 4)), got (2, 3)"),
    ("linear_forward", (f(2, 4), f(5, 4), f(4)), {}, ShapeError, "linear: expected bias of shape (5,), got (4,)"),
    ("linear_forward", (f(2, 1, 4), f(5, 4), None), {}, ShapeError,
     "linear: expected input of shape (N, I), got (2, 1, 4)"),
    ("linear_backward_input", (f(2, 4), f(5, 4)), {}, ShapeError,
     "linear_backward_input: expected grad with 5 features (weight is (5, 4)), got (2, 4)"),
    ("linear_backward_weight", (f(2, 5), f(3, 4)), {}, ShapeError,
     "linear_backward_weight: expected grad and input with the same N, got (2, 5) and (3, 4)"),
    ("conv2d_forward", (f(8, 1, 28, 28), f(16, 3, 5, 5), None), {}, ShapeError,
     "conv2d: expected input with 3 channels (weight is (16, 3, 5, 5), groups=1), got (8, 1, 28, 28)"),
    ("conv2d_forward", (X, f(4, 2, 3, 3), None), {"groups": 2}, ShapeError,
     "conv2d: expected input with 4 channels (weight is (4, 2, 3, 3), groups=2), got (2, 3, 5, 6)"),
    ("conv2d_forward", (X, W, B), {"groups": 3}, ArgumentError,
     "conv2d: expected groups to divide the 4 output channels, got 3"),
    ("conv2d_forward", (X, W, B), {"groups": 0}, ArgumentError,
     "conv2d: expected groups to divide the 4 output channels, got 0"),
    ("conv2d_forward", (X, W, f(3)), {}, ShapeError, "conv2d: expected bias of shape (4,), got (3,)"),
    ("conv2d_forward", (X[0], W, B), {}, ShapeError,
     "conv2d: expected input of shape (N, C, H, W) with C, H, W at least 1, got (3, 5, 6)"),
    ("conv2d_forward", (X, W[0], B), {}, ShapeError,
     "conv2d: expected weight of shape (O, C/groups, kh, kw), none of them 0, got (3, 3, 3)"),
    ("conv2d_forward", (X, f(4, 3, 6, 3), B), {}, ShapeError,
     "conv2d: expected a kernel that fits into the padded image, got kernel (6, 3) with dilation (1, 1)"
     " on an image (5, 6) with padding (0, 0)"),
    ("conv2d_forward", (X, W, B), {"dilation": (1, 3)}, ShapeError,
     "conv2d: expected a kernel that fits into the padded image, got kernel (3, 3) with dilation (1, 3)"
     " on an image (5, 6) with padding (0, 0)"),
    ("max_pool2d_backward_input", (f(2, 3, 2, 3), I32 + 30, (5, 6)), {}, ArgumentError,
     "max_pool2d_backward_input: expected argmax in 0 .. 29 (input is (5, 6)), got others"),
    ("max_pool2d_backward_input", (f(2, 3, 2, 3), I32 - 1, (5, 6)), {}, ArgumentError,
     "max_pool2d_backward_input: expected argmax in 0 .. 29 (input is (5, 6)), got others"),
    ("conv2d_forward", (X, W, B), {"stride": (0, 1)}, ArgumentError,
     "conv2d: expected stride of at least 1, got (0, 1)"),
    ("conv2d_forward", (X, W, B), {"padding": (-1, 0)}, ArgumentError,
     "conv2d: expected padding of at least 0, got (-1, 0)"),
    ("conv2d_forward", (X, W, B), {"dilation": (0, 0)}, ArgumentError,
     "conv2d: expected dilation of at least 1, got (0, 0)"),
    ("conv2d_forward", (X, W, B), {"stride": 2}, ArgumentError, "conv2d: expected stride to be two integers, got 2"),
    ("conv2d_forward", (X, W, B), {"padding": (1.5, 0)}, ArgumentError,
     "conv2d: expected padding to be two integers, got (1.5, 0)"),
    ("conv2d_forward", (X, W, B), {"algorithm": "winograd"}, ArgumentError,
     "conv2d: expected algorithm to be one of auto, direct, im2col, got 'winograd'"),
    ("conv2d_backward_input", (f(2, 4, 3, 3), W, (5, 6)), {}, ShapeError,
     "conv2d_backward_input: expected grad of shape (2, 4, 3, 4) (weight is (4, 3, 3, 3), input is (5, 6)),"
     " got (2, 4, 3, 3)"),
    ("conv2d_backward_input", (f(2, 4, 3, 4), W, (5, 0)), {}, ArgumentError,
     "conv2d_backward_input: expected input_size of at least 1, got (5, 0)"),
    ("conv2d_backward_weight", (f(1, 4, 3, 4), X, (3, 3)), {}, ShapeError,
     "conv2d_backward_weight: expected grad of shape (2, 4, 3, 4) (input is (2, 3, 5, 6), kernel (3, 3)),"
     " got (1, 4, 3, 4)"),
    ("conv2d_backward_weight", (f(2, 4, 3, 4), X, (3, 3)), {"groups": 2}, ArgumentError,
     "conv2d_backward_weight: expected groups to divide the 3 input channels, got 2"),
    ("max_pool2d_forward", (X, (2, 2), (2, 2), (2, 0)), {}, ArgumentError,
     "max_pool2d: expected padding of at most half of kernel (2, 2), got (2, 0)"),
    ("max_pool2d_forward", (X, (6, 2), (2, 2)), {}, ShapeError,
     "max_pool2d: expected a kernel that fits into the padded image, got kernel (6, 2) with dilation (1, 1)"
     " on an image (5, 6) with padding (0, 0)"),
    ("max_pool2d_backward_input", (f(2, 3, 2, 2), I32, (5, 6)), {}, ShapeError,
     "max_pool2d_backward_input: expected argmax of shape (2, 3, 2, 2) (as grad), got (2, 3, 2, 3)"),
    ("avg_pool2d_forward", (f(0, 0, 4, 4), (2, 2), (2, 2)), {}, ShapeError,
     "avg_pool2d: expected input of shape (N, C, H, W) with C, H, W at least 1, got (0, 0, 4, 4)"),
    ("avg_pool2d_backward_input", (f(2, 3, 2, 2), (5, 6), (2, 2), (2, 2)), {}, ShapeError,
     "avg_pool2d_backward_input: expected grad of shape (2, 3, 2, 3) (input is (5, 6)), got (2, 3, 2, 2)"),
    ("global_avg_pool2d_forward", (f(2, 3),), {}, ShapeError,
     "global_avg_pool2d: expected input of shape (N, C, H, W) with C, H, W at least 1, got (2, 3)"),
    ("global_avg_pool2d_backward_input", (f(2, 3, 1, 2), (5, 6)), {}, ShapeError,
     "global_avg_pool2d_backward_input: expected grad of shape (2, 3, 1, 1), got (2, 3, 1, 2)"),
    ("relu_backward_input", (f(2, 3), f(3, 2)), {}, ShapeError,
     "relu_backward_input: expected two arrays of the same shape, got (2, 3) and (3, 2)"),
    ("softmax_forward", (f(3),), {}, ShapeError,
     "softmax: expected an array of shape (N, C) with C at least 1, got (3,)"),
    ("log_softmax_forward", (f(3, 0),), {}, ShapeError,
     "log_softmax: expected an array of shape (N, C) with C at least 1, got (3, 0)"),
    ("dropout_forward", (f(3), 1.5, 0, 0), {}, ArgumentError, "dropout: expected p between 0 and 1, got 1.5"),
    ("dropout_forward", (f(3), 0.5, -1, 0), {}, ArgumentError,
     "dropout: expected seed and stream in 0 .. 2**64 - 1, got -1 and 0"),
    ("dropout_forward", (f(3), 0.5, 0, 2**64), {}, ArgumentError,
     f"dropout: expected seed and stream in 0 .. 2**64 - 1, got 0 and {2**64}"),
    ("batch_norm_statistics", (f(0, 3),), {}, ShapeError,
     "batch_norm_statistics: expected at least one value per channel, got input (0, 3)"),
    ("batch_norm_statistics", (f(2),), {}, ShapeError,
     "batch_norm_statistics: expected input of shape (N, C), (N, C, L) or (N, C, H, W), only N may be 0, got (2,)"),
    ("batch_norm_forward", (X, f(3), f(3), B, None), {}, ShapeError,
     "batch_norm: expected weight of shape (3,) (one value per channel), got (4,)"),
    ("batch_norm_backward_weight", (f(2, 3), f(2, 4), f(4), f(4)), {}, ShapeError,
     "batch_norm_backward_weight: expected grad of shape (2, 4) (as input), got (2, 3)"),
    ("batch_norm_backward_input", (X, X, f(3), f(3), None, f(3), None), {}, ArgumentError,
     "batch_norm_backward_input: expected both grad_weight and grad_bias (batch statistics) or neither, got one"),
    ("softmax_cross_entropy", (f(2, 3), np.array([0, 3])), {}, LabelError,
     "softmax_cross_entropy: expected labels in 0 .. 2, got 3 at position 1"),
    ("softmax_cross_entropy", (f(2, 3), np.array([-1, 0])), {}, LabelError,
     "softmax_cross_entropy: expected labels in 0 .. 2, got -1 at position 0"),
    ("softmax_cross_entropy", (f(2, 3), np.array([0, 1, 2])), {}, ShapeError,
     "softmax_cross_entropy: expected target of shape (2,) (logits are (2, 3)), got (3,)"),
    ("softmax_cross_entropy", (f(2, 3), f(3, 2)), {}, ShapeError,
     "softmax_cross_entropy: expected target of shape (2, 3) (as logits), got (3, 2)"),
    ("softmax_cross_entropy", (f(2, 3), np.array([0, 1])), {"label_smoothing": 1.1}, ArgumentError,
     "softmax_cross_entropy: expected label_smoothing between 0 and 1, got 1.1"),
    ("mse", (f(2, 3), f(2)), {}, ShapeError, "mse: expected target of shape (2, 3) (as prediction), got (2,)"),
    ("bce_with_logits", (f(2, 3), f(2, 1)), {}, ShapeError,
     "bce_with_logits: expected target of shape (2, 3) (as prediction), got (2, 1)"),
    ("sgd_update", (f(3), f(3), None), {"lr": 0.1, "momentum": 0.9}, ArgumentError,
     "sgd_update: expected velocity to be None if and only if momentum is 0, got momentum=0.9 and velocity None"),
    ("sgd_update", (f(3), f(3), f(3)), {"lr": 0.1}, ArgumentError,
     "sgd_update: expected velocity to be None if and only if momentum is 0, got momentum=0.0 and velocity (3,)"),
    ("sgd_update", (f(3), f(4), None), {"lr": 0.1}, ShapeError,
     "sgd_update: expected grad of shape (3,) (as param), got (4,)"),
    ("rprop_update", (f(3), f(3), f(3), f(2)), {}, ShapeError,
     "rprop_update: expected state of shape (3,) (as param), got (2,)"),
    ("adagrad_update", (f(3), f(3), f(3)), {"step": 0, "lr": 0.1}, ArgumentError,
     "adagrad_update: expected step to count from 1, got 0"),
    ("rmsprop_update", (f(3), f(3), f(3), None, None), {"lr": 0.1, "momentum": 0.9}, ArgumentError,
     "rmsprop_update: expected momentum_buffer to be None if and only if momentum is 0, got momentum=0.9 and "
     "momentum_buffer None"),
    ("rmsprop_update", (f(3), f(3), f(3), f(3), None), {"lr": 0.1}, ArgumentError,
     "rmsprop_update: expected momentum_buffer to be None if and only if momentum is 0, got momentum=0.0 and "
     "momentum_buffer (3,)"),
    ("adam_update", (f(3), f(3), f(3), f(2)), {"step": 1, "lr": 0.1}, ShapeError,
     "adam_update: expected state of shape (3,) (as param), got (2,)"),
    ("adamw_update", (f(3), f(3), f(3), f(3)), {"step": 0, "lr": 0.1}, ArgumentError,
     "adamw_update: expected step to count from 1, got 0"),
]  # fmt: skip


@pytest.mark.parametrize(("kernel", "args", "keywords", "error", "message"), BAD)
def test_one_clear_error(
    target: Target, kernel: str, args: tuple[Any, ...], keywords: dict[str, Any], error: type[FastnnError], message: str
) -> None:
    with pytest.raises(FastnnError) as caught:
        getattr(target.kernels, kernel)(*args, **keywords)
    assert type(caught.value) is error
    assert str(caught.value) == message


IN_PLACE: list[Callable[[ModuleType], None]] = [
    lambda k: k.conv2d_forward(X, W, B, (1, 1), (0, 0), (1, 1), 1, out=f(2, 4, 3, 5)),
    lambda k: k.relu_forward(X, out=f(2, 3, 5, 5)),
]


@pytest.mark.parametrize("call", IN_PLACE)
def test_wrong_out_names_both_shapes(target: Target, call: Callable[[ModuleType], None]) -> None:
    with pytest.raises(ShapeError, match=r"expected out of shape \(2, [34], [35], [46]\), got \(2, [34], [35], 5\)"):
        call(target.kernels)


def test_labels_may_have_any_strides(target: Target) -> None:
    labels = np.array([2, 99, 0, -5])[::2]
    loss, _ = target.kernels.softmax_cross_entropy(f(2, 3), labels)
    np.testing.assert_allclose(loss, np.log(3), rtol=1e-6)
