"""The kernel interface in NumPy, float32 or float64: the specification, the float64 path and the naive baseline.

Every function here has a namesake with the same signature in backends.native and backends.jit, and its docstring is the
contract for all three. Common to all of them: arguments are NumPy arrays with any strides, read-only or not, of one
floating dtype; what is returned is new and C-contiguous, or what `out=` gave, and `out=` has to be C-contiguous and of
the exact shape and dtype; it is always overwritten, never added to. NaN propagates. An empty batch gives an empty
result and zero parameter gradients.
"""

from fastnn.backends.reference.activations import (
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
from fastnn.backends.reference.conv import conv2d_backward_input, conv2d_backward_weight, conv2d_forward
from fastnn.backends.reference.dense import linear_backward_input, linear_backward_weight, linear_forward, matmul
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
from fastnn.backends.reference.kinds import activation_backward_input, activation_forward
from fastnn.backends.reference.loss import bce_with_logits, huber, mse, smooth_l1, softmax_cross_entropy
from fastnn.backends.reference.norm import (
    batch_norm_backward_input,
    batch_norm_backward_weight,
    batch_norm_forward,
    batch_norm_statistics,
)
from fastnn.backends.reference.pool import (
    avg_pool2d_backward_input,
    avg_pool2d_forward,
    global_avg_pool2d_backward_input,
    global_avg_pool2d_forward,
    max_pool2d_backward_input,
    max_pool2d_forward,
)
from fastnn.backends.reference.sequence import (  # noqa: F401 (not in the list of __all__: tests/nn/test_nn_sequences.py has their cases)
    group_norm_backward,
    group_norm_forward,
    recurrent_backward,
    recurrent_forward,
)
from fastnn.backends.reference.update import (
    adagrad_update,
    adam_update,
    adamw_update,
    rmsprop_update,
    rprop_update,
    sgd_update,
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
