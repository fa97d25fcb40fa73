"""The compiled kernels (fastnn._kernels), float32: the default backend.

Each function checks its arguments through fastnn.backends.shapes, hands contiguous arrays to the kernel table and
returns what it wrote. Their contracts are the docstrings of fastnn.backends.reference.
"""

from __future__ import annotations

from fastnn import _kernels
from fastnn._kernels import get_num_threads, isa, isas, set_num_threads
from fastnn.backends.native.activations import (
    activation_backward_input,
    activation_forward,
    dropout_forward,
    elu_backward_input,
    elu_forward,
    gelu_backward_input,
    gelu_forward,
    leaky_relu_backward_input,
    leaky_relu_forward,
    log_softmax_backward_input,
    log_softmax_forward,
    relu_backward_input,
    relu_forward,
    sigmoid_backward_input,
    sigmoid_forward,
    silu_backward_input,
    silu_forward,
    softmax_backward_input,
    softmax_forward,
    tanh_backward_input,
    tanh_forward,
)
from fastnn.backends.native.conv import conv2d_backward_input, conv2d_backward_weight, conv2d_forward
from fastnn.backends.native.dense import linear_backward_input, linear_backward_weight, linear_forward, matmul
from fastnn.backends.native.entries import (  # noqa: F401 (not in the list of __all__: tests/backends/test_entries.py has their cases)
    cumsum,
    embedding_backward_weight,
    function_forward,
    pick_rows,
    prod_backward_input,
    prod_forward,
    spread_rows,
    stacked_matmul,
    topk,
)
from fastnn.backends.native.loss import bce_with_logits, huber, mse, smooth_l1, softmax_cross_entropy
from fastnn.backends.native.norm import (
    batch_norm_backward_input,
    batch_norm_backward_weight,
    batch_norm_forward,
    batch_norm_statistics,
)
from fastnn.backends.native.pool import (
    avg_pool2d_backward_input,
    avg_pool2d_forward,
    global_avg_pool2d_backward_input,
    global_avg_pool2d_forward,
    max_pool2d_backward_input,
    max_pool2d_forward,
)
from fastnn.backends.native.sequence import (  # noqa: F401 (not in the list of __all__: tests/nn/test_nn_sequences.py has their cases)
    group_norm_backward,
    group_norm_forward,
    recurrent_backward,
    recurrent_forward,
)
from fastnn.backends.native.update import (
    adagrad_update,
    adam_update,
    adamw_update,
    rmsprop_update,
    rprop_update,
    sgd_update,
)
from fastnn.errors import BackendError

__all__ = [
    "activation_backward_input",
    "activation_forward",
    "adagrad_update",
    "adam_update",
    "adamw_update",
    "avg_pool2d_backward_input",
    "avg_pool2d_forward",
    "batch_norm_backward_input",
    "batch_norm_backward_weight",
    "batch_norm_forward",
    "batch_norm_statistics",
    "bce_with_logits",
    "conv2d_backward_input",
    "conv2d_backward_weight",
    "conv2d_forward",
    "dropout_forward",
    "elu_backward_input",
    "elu_forward",
    "gelu_backward_input",
    "gelu_forward",
    "get_num_threads",
    "global_avg_pool2d_backward_input",
    "global_avg_pool2d_forward",
    "huber",
    "isa",
    "isas",
    "leaky_relu_backward_input",
    "leaky_relu_forward",
    "linear_backward_input",
    "linear_backward_weight",
    "linear_forward",
    "log_softmax_backward_input",
    "log_softmax_forward",
    "matmul",
    "max_pool2d_backward_input",
    "max_pool2d_forward",
    "mse",
    "relu_backward_input",
    "relu_forward",
    "rmsprop_update",
    "rprop_update",
    "set_isa",
    "set_num_threads",
    "sgd_update",
    "sigmoid_backward_input",
    "sigmoid_forward",
    "silu_backward_input",
    "silu_forward",
    "smooth_l1",
    "softmax_backward_input",
    "softmax_cross_entropy",
    "softmax_forward",
    "tanh_backward_input",
    "tanh_forward",
]


def set_isa(name: str | None = None) -> None:
    """Choose the instruction set that the kernels run on: one of isas(), or None for the best.

    Raises BackendError for one that this CPU or this build does not have.
    """
    if not _kernels.select_isa(name):
        raise BackendError(f"expected an instruction set of this machine, one of {', '.join(isas())}, got {name!r}")
