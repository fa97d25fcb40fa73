"""Differentiable operators: functions of tensors (or of anything NumPy takes), by family.

Each file holds Functions, which say what they save and which kernels they call, and the functions that users call:
PyTorch's `torch.nn.functional`, by the same names.
"""

from fastnn.ops import activations, arithmetic, shaping, ufuncs
from fastnn.ops.activations import (
    dropout,
    elu,
    gelu,
    leaky_relu,
    log_softmax,
    relu,
    sigmoid,
    silu,
    softmax,
    tanh,
)
from fastnn.ops.attention import scaled_dot_product_attention
from fastnn.ops.conv import conv2d
from fastnn.ops.dense import linear, matmul
from fastnn.ops.draws import bernoulli, rand_like, randn_like
from fastnn.ops.joining import cat, stack, where
from fastnn.ops.loss import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cross_entropy,
    mse_loss,
    nll_loss,
)
from fastnn.ops.norm import batch_norm, batch_norm_training, normalize
from fastnn.ops.pool import avg_pool2d, global_avg_pool2d, max_pool2d
from fastnn.ops.sample_norm import group_norm, layer_norm, rms_norm
from fastnn.ops.shaping import flatten
from fastnn.tensors import Tensor

__all__ = [
    "avg_pool2d",
    "batch_norm",
    "batch_norm_training",
    "bernoulli",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cat",
    "conv2d",
    "cross_entropy",
    "dropout",
    "elu",
    "flatten",
    "gelu",
    "global_avg_pool2d",
    "group_norm",
    "layer_norm",
    "leaky_relu",
    "linear",
    "log_softmax",
    "matmul",
    "max_pool2d",
    "mse_loss",
    "nll_loss",
    "normalize",
    "rand_like",
    "randn_like",
    "relu",
    "rms_norm",
    "scaled_dot_product_attention",
    "sigmoid",
    "silu",
    "softmax",
    "stack",
    "tanh",
    "where",
]

_METHODS = {
    **arithmetic.METHODS,
    **shaping.METHODS,
    "__array_ufunc__": ufuncs.array_ufunc,
    "__array_function__": ufuncs.array_function,
    "__matmul__": matmul,
    "__rmatmul__": lambda b, a: matmul(a, b),
    "matmul": matmul,
    "relu": activations.relu,
    "sigmoid": activations.sigmoid,
    "tanh": activations.tanh,
    "softmax": activations.softmax,
    "log_softmax": activations.log_softmax,
}
for _name, _method in _METHODS.items():
    setattr(Tensor, _name, _method)
