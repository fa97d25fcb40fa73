"""The kernel interface in Numba, float32: for machines where the extension cannot be built, and beside operators that
users write in Numba. The docstrings of backends.reference are the contract.

A kernel is compiled when first called, which takes seconds, and kept on disk. Sums are cut by the data alone: results
are the same bits for every number of threads.
"""

import numba

from fastnn.backends.jit import compile
from fastnn.backends.jit.activations import (
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
from fastnn.backends.jit.conv import conv2d_backward_input, conv2d_backward_weight, conv2d_forward
from fastnn.backends.jit.dense import linear_backward_input, linear_backward_weight, linear_forward, matmul
from fastnn.backends.jit.loss import bce_with_logits, huber, mse, smooth_l1, softmax_cross_entropy
from fastnn.backends.jit.norm import (
    batch_norm_backward_input,
    batch_norm_backward_weight,
    batch_norm_forward,
    batch_norm_statistics,
)
from fastnn.backends.jit.pool import (
    avg_pool2d_backward_input,
    avg_pool2d_forward,
    global_avg_pool2d_backward_input,
    global_avg_pool2d_forward,
    max_pool2d_backward_input,
    max_pool2d_forward,
)
from fastnn.backends.jit.update import (
    adagrad_update,
    adam_update,
    adamw_update,
    rmsprop_update,
    rprop_update,
    sgd_update,
)
from fastnn.backends.reference.entries import (  # noqa: F401 (not in the list of __all__: tests/backends/test_entries.py has their cases)
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
from fastnn.backends.reference.sequence import (  # noqa: F401 (not in the list of __all__: tests/nn/test_nn_sequences.py has their cases)
    group_norm_backward,
    group_norm_forward,
    recurrent_backward,
    recurrent_forward,
)

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


def set_num_threads(count: int) -> None:
    """Use this many threads, or as many as Numba has, if that is fewer (NUMBA_NUM_THREADS, else the CPUs)."""
    compile.threads = min(count, numba.config.NUMBA_NUM_THREADS)


def get_num_threads() -> int:
    """Threads in use, which may be fewer than set_num_threads was asked for."""
    return compile.threads
