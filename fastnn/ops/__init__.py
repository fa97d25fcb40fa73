"""Differentiable operators: functions of tensors (or of anything NumPy takes), by family.

Each file holds Functions, which say what they save and which kernels they call, and the functions that users call:
PyTorch's `torch.nn.functional`, by the same names.
"""

from fastnn.ops import activations, arithmetic, shaping, ufuncs
from fastnn.ops.activations import (
    dropout,
    elu,
    gelu,
    hardswish,
    leaky_relu,
    log_softmax,
    mish,
    relu,
    relu6,
    sigmoid,
    silu,
    softmax,
    softplus,
    tanh,
)
from fastnn.ops.conv import conv1d, conv2d, conv_transpose1d, conv_transpose2d
from fastnn.ops.dense import linear, matmul
from fastnn.ops.draws import bernoulli, rand_like, randn_like
from fastnn.ops.joining import cat, stack, where
from fastnn.ops.lookup import embedding, embedding_bag
from fastnn.ops.loss import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cross_entropy,
    mse_loss,
    nll_loss,
)
from fastnn.ops.nonlinear import (
    alpha_dropout,
    celu,
    dropout1d,
    dropout2d,
    dropout3d,
    glu,
    hardshrink,
    hardsigmoid,
    hardtanh,
    logsigmoid,
    prelu,
    rrelu,
    selu,
    softmin,
    softshrink,
    softsign,
    tanhshrink,
    threshold,
)
from fastnn.ops.norm import batch_norm, batch_norm_training, instance_norm, normalize
from fastnn.ops.padding import pad
from fastnn.ops.pool import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_max_pool1d,
    adaptive_max_pool2d,
    avg_pool1d,
    avg_pool2d,
    global_avg_pool2d,
    max_pool1d,
    max_pool2d,
)
from fastnn.ops.resizing import (
    channel_shuffle,
    fold,
    interpolate,
    pixel_shuffle,
    pixel_unshuffle,
    unfold,
    upsample,
)
from fastnn.ops.shaping import flatten
from fastnn.ops.similarity import bilinear, cosine_similarity, pairwise_distance
from fastnn.tensors import Tensor

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "alpha_dropout",
    "avg_pool1d",
    "avg_pool2d",
    "batch_norm",
    "batch_norm_training",
    "bernoulli",
    "bilinear",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cat",
    "celu",
    "channel_shuffle",
    "conv1d",
    "conv2d",
    "conv_transpose1d",
    "conv_transpose2d",
    "cosine_similarity",
    "cross_entropy",
    "dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "elu",
    "embedding",
    "embedding_bag",
    "flatten",
    "fold",
    "gelu",
    "global_avg_pool2d",
    "glu",
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "instance_norm",
    "interpolate",
    "leaky_relu",
    "linear",
    "log_softmax",
    "logsigmoid",
    "matmul",
    "max_pool1d",
    "max_pool2d",
    "mish",
    "mse_loss",
    "nll_loss",
    "normalize",
    "pad",
    "pairwise_distance",
    "pixel_shuffle",
    "pixel_unshuffle",
    "prelu",
    "rand_like",
    "randn_like",
    "relu",
    "relu6",
    "rrelu",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softmin",
    "softplus",
    "softshrink",
    "softsign",
    "stack",
    "tanh",
    "tanhshrink",
    "threshold",
    "unfold",
    "upsample",
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
