"""How operators with kernels of their own are lowered: activations, products, convolution, pooling, norms, losses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnn import random
from fastnn.ops import activations, conv, dense, loss, norms, pool
from fastnn.ops.common import tall_shape
from fastnn.plan.emit import Emitter, Unlowered
from fastnn.plan.fuse import LOSSES
from fastnn.plan.place_rules import RULES
from fastnn.plan.rules import rule
from fastnn.plan.trace import Operator
from fastnn.tensors import Array, Function

__all__ = ["RULES", "conv2d_numbers", "product"]


# ---- activations -----------------------------------------------------------------------------------------------------

# The kernels' name, the attribute that is their parameter, and whether backward sees the output rather than the input.
_ACTIVATIONS: dict[type[Function], tuple[str, str | None, bool]] = {
    activations.ReLU: ("relu", None, True),
    activations.LeakyReLU: ("leaky_relu", "negative_slope", False),
    activations.ELU: ("elu", "alpha", False),
    activations.Sigmoid: ("sigmoid", None, True),
    activations.Tanh: ("tanh", None, True),
    activations.GELU: ("gelu", None, False),
    activations.SiLU: ("silu", None, False),
}


@rule(*_ACTIVATIONS)
def _activation(to: Emitter, op: Operator, x: Array, **attributes: float) -> Any:
    name, parameter, by_output = _ACTIVATIONS[op.function]
    p = () if parameter is None else (attributes[parameter],)
    x = to.contiguous(x)
    y = to.array(x.shape)
    to.call(f"{name}_forward", y, x, n=(x.size,), p=p)

    def backward(grad: Array) -> tuple[Array]:
        grad_x = to.array(x.shape)
        seen, given = y if by_output else x, to.one_or_contiguous(grad)
        to.call(f"{name}_backward_input", grad_x, given, seen, n=(x.size, int(given.size < x.size)), p=p)
        return (grad_x,)

    return y, backward


@rule(activations.Softmax, activations.LogSoftmax)
def _softmax(to: Emitter, op: Operator, x: Array) -> Any:
    name = "softmax" if op.function is activations.Softmax else "log_softmax"
    x = to.contiguous(x)
    y = to.array(x.shape)
    to.call(f"{name}_forward", y, x, n=x.shape)

    def backward(grad: Array) -> tuple[Array]:
        grad_x = to.array(x.shape)
        to.call(f"{name}_backward_input", grad_x, to.contiguous(grad), y, n=x.shape)
        return (grad_x,)

    return y, backward


@rule(activations.Dropout)
def _dropout(to: Emitter, op: Operator, x: Array, *, p: float) -> Any:
    """The numbers of the stream are drawn before each run, in the operators' order."""
    stream = np.zeros(2, np.uint64)

    def draw() -> None:
        stream[:] = random.next_stream()

    def dropped(a: Array) -> Array:
        a = to.contiguous(a)
        y = to.array(a.shape)
        to.call("dropout", y, a, stream.view(np.int64), n=(a.size,), p=(p,))
        return y

    to.early(draw)
    return dropped(x), lambda grad: (dropped(grad),)


# ---- products --------------------------------------------------------------------------------------------------------


def product(to: Emitter, a: Array, b: Array, bias: Array | None = None, out: Array | None = None) -> Array:
    """a (..., M, K) @ b (..., K, N) + bias (N,), the dimensions before broadcast; written to `out`, if given."""
    stack = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a, b = (np.broadcast_to(x, stack + x.shape[-2:]) for x in (a, b))
    m, k, n = *a.shape[-2:], b.shape[-1]
    y = to.array((*stack, m, n)) if out is None else out
    strides = [stride // 4 for x in (a, b) for stride in x.strides[-2:]]
    bias = None if bias is None else to.contiguous(bias)
    to.call("matmul", y, a, b, *([] if bias is None else [bias]), n=(m, n, k, *strides), shape=stack)
    return y


@rule(dense.MatMul, dense.StackedMatMul)
def _matmul(to: Emitter, op: Operator, a: Array, b: Array) -> Any:
    return product(to, a, b), lambda grad: (
        to.sum_to(product(to, grad, b.swapaxes(-1, -2)), a.shape) if op.needs[0] else None,
        to.sum_to(product(to, a.swapaxes(-1, -2), grad), b.shape) if op.needs[1] else None,
    )


@rule(dense.Linear)
def _linear(to: Emitter, op: Operator, x: Array, weight: Array, bias: Array | None) -> Any:
    return product(to, x, weight.T, bias), lambda grad: (
        product(to, grad, weight) if op.needs[0] else None,
        product(to, grad.T, x) if op.needs[1] else None,
        to.sum(grad, (0,)) if op.needs[2] else None,
    )


# ---- convolution, pooling --------------------------------------------------------------------------------------------


def _strides(stride: tuple[int, int], outputs: tuple[int, ...]) -> tuple[int, ...]:
    """Along a dimension with one output no second step is taken: however long it is, it must not size a buffer."""
    return tuple(1 if size == 1 else step for step, size in zip(stride, outputs, strict=True))


def conv2d_numbers(
    x: tuple[int, ...], weight: tuple[int, ...], y: tuple[int, ...], *, groups: int, **pairs: tuple[int, int]
) -> tuple[int, ...]:
    """What the kernels of a convolution take, from the shapes of images."""
    o, _, *kernel = weight
    return (*x, o, *kernel, *y[2:], *_strides(pairs["stride"], y[2:]), *pairs["padding"], *pairs["dilation"], groups)


@rule(conv.Conv2d)
def _conv2d(to: Emitter, op: Operator, x: Array, weight: Array, bias: Array | None, **attributes: Any) -> Any:
    x, weight = to.contiguous(x), to.contiguous(weight)
    y = to.array(op.output.shape)
    n = conv2d_numbers(tall_shape(x.shape), tall_shape(weight.shape), tall_shape(y.shape), **attributes)
    to.call("conv2d_forward", y, x, weight, *([] if bias is None else [to.contiguous(bias)]), n=n)

    def backward(grad: Array) -> tuple[Array | None, ...]:
        grad, grad_x, grad_weight, grad_bias = to.contiguous(grad), None, None, None
        if op.needs[0]:
            grad_x = to.array(x.shape)
            to.call("conv2d_backward_input", grad_x, grad, weight, n=n)
        if any(op.needs[1:]):
            grad_weight, grad_bias = to.array(weight.shape), to.array((len(weight),))
            to.call("conv2d_backward_weight", grad_weight, grad_bias, grad, x, n=n)
        return grad_x, grad_weight, grad_bias

    return y, backward


@rule(pool.MaxPool2d, pool.AvgPool2d)
def _pool2d(
    to: Emitter,
    op: Operator,
    x: Array,
    *,
    kernel_size: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    count_include_pad: bool = True,
) -> Any:
    x = to.contiguous(x)
    y = to.array(op.output.shape)
    largest = op.function is pool.MaxPool2d
    name, where = ("max_pool2d", [to.array(y.shape, np.int32)]) if largest else ("avg_pool2d", [])
    (_, _, *before), (*planes, oh, ow) = tall_shape(x.shape), tall_shape(y.shape)
    n = (
        math.prod(planes), *before, *kernel_size, oh, ow, *_strides(stride, (oh, ow)), *padding, int(count_include_pad)
    )  # fmt: skip
    to.call(f"{name}_forward", y, *where, x, n=n)

    def backward(grad: Array) -> tuple[Array]:
        grad_x = to.array(x.shape)
        to.call(f"{name}_backward_input", grad_x, to.contiguous(grad), *where, n=n)
        return (grad_x,)

    return y, backward


@rule(pool.GlobalAvgPool2d)
def _global_avg_pool2d(to: Emitter, op: Operator, x: Array) -> Any:
    x = to.contiguous(x)
    y, n = to.array(op.output.shape), (x.shape[0] * x.shape[1], math.prod(x.shape[2:]))
    to.call("global_avg_pool2d_forward", y, x, n=n)

    def backward(grad: Array) -> tuple[Array]:
        grad_x = to.array(x.shape)
        to.call("global_avg_pool2d_backward_input", grad_x, to.contiguous(grad), n=n)
        return (grad_x,)

    return y, backward


# ---- batch norm ------------------------------------------------------------------------------------------------------


@rule(norms.BatchNormTraining)
def _batch_norm_training(
    to: Emitter,
    op: Operator,
    x: Array,
    weight: Array | None,
    bias: Array | None,
    *,
    eps: float,
    running: norms.Running | None,
) -> Any:
    if running is not None:
        _check_running(running)
    sizes, p = _sizes(x), (eps,)
    x, weight, bias = to.contiguous(x), *(None if a is None else to.contiguous(a) for a in (weight, bias))
    mean, var, y = to.array(x.shape[1:2]), to.array(x.shape[1:2]), to.array(x.shape)
    to.call("batch_norm_statistics", mean, var, x, n=sizes)
    if running is not None:
        images, count = x.shape[1] // running.mean.size, x.size // x.shape[1]
        momentum = to.momentum(running)
        for own, batch, scale in ((running.mean, mean, 1.0), (running.var, var, count / (count - 1))):
            total = to.sum(batch.reshape(images, -1), (0,))  # of the one, or of each image's
            to.map("follow", own, total, momentum, out=own, p=(scale / images,))
    to.call("batch_norm_forward", y, x, mean, var, weight, bias, n=sizes, p=p)

    def backward(grad: Array) -> tuple[Array | None, ...]:
        grad, grad_x = to.contiguous(grad), None
        sums = to.array(mean.shape), to.array(mean.shape)
        to.call("batch_norm_backward_weight", *sums, grad, x, mean, var, n=sizes, p=p)
        if op.needs[0]:
            grad_x = to.array(x.shape)
            to.call("batch_norm_backward_input", grad_x, grad, x, mean, var, weight, *sums, n=sizes, p=p)
        return grad_x, *sums

    return y, backward


@rule(norms.BatchNorm)
def _batch_norm(
    to: Emitter,
    op: Operator,
    x: Array,
    mean: Array,
    var: Array,
    weight: Array | None,
    bias: Array | None,
    *,
    eps: float,
) -> Any:
    sizes, p = _sizes(x), (eps,)
    x, mean, var = map(to.contiguous, (x, mean, var))
    weight, bias = (None if a is None else to.contiguous(a) for a in (weight, bias))
    y = to.array(x.shape)
    to.call("batch_norm_forward", y, x, mean, var, weight, bias, n=sizes, p=p)

    def backward(grad: Array) -> tuple[Array | None, ...]:
        grad, grad_x = to.contiguous(grad), None
        sums: tuple[Array | None, Array | None] = (None, None)
        if op.needs[3] or op.needs[4]:
            sums = to.array(mean.shape), to.array(mean.shape)
            to.call("batch_norm_backward_weight", *sums, grad, x, mean, var, n=sizes, p=p)
        if op.needs[0]:
            grad_x = to.array(x.shape)
            to.call("batch_norm_backward_input", grad_x, grad, x, mean, var, weight, None, None, n=sizes, p=p)
        return grad_x, None, None, *sums

    return y, backward


def _sizes(x: Array) -> tuple[int, int, int]:
    """N, C, and the pixels of a plane."""
    if x.ndim not in (2, 3, 4):
        raise Unlowered(f"batch norm of {x.ndim} dimensions")
    return x.shape[0], x.shape[1], int(np.prod(x.shape[2:], dtype=int))


def _check_running(running: norms.Running) -> None:
    for array in (running.mean, running.var):
        if array.dtype != np.float32 or not array.flags.carray:
            raise Unlowered("running statistics that kernels cannot write in place")


# ---- losses ----------------------------------------------------------------------------------------------------------


def _reduced(to: Emitter, op: Operator, losses: Array, saved: Array | None) -> Any:
    """Losses as the reduction wants them; backward by the saved gradient, each entry's times its loss's."""
    reduction = op.attributes["reduction"]
    y = losses
    if reduction != "none":
        y = to.sum(losses, tuple(range(losses.ndim))) if losses.size > 1 else to.reshape(losses, ())
    if reduction == "mean" and losses.size > 1:
        y = to.map("div", y, np.float32(losses.size).reshape(()))

    def backward(grad: Array) -> tuple[Array | None, None]:
        assert saved is not None
        if grad is to.one:
            return saved, None
        return to.map("mul", saved, to.reshape(grad, grad.shape + (1,) * (saved.ndim - grad.ndim))), None

    return y, backward


def _scale(op: Operator, count: int) -> float:
    return 1.0 / count if op.attributes["reduction"] == "mean" else 1.0


@rule(loss.CrossEntropy, any_type=(1,))
def _cross_entropy(to: Emitter, op: Operator, logits: Array, target: Array, *, label_smoothing: float, **_: Any) -> Any:
    logits, target = to.contiguous(logits), to.contiguous(target)
    soft = target.dtype == np.float32
    losses, saved = to.array(logits.shape[:1]), to.array(logits.shape)
    p = (label_smoothing, _scale(op, len(logits)))
    to.call("softmax_cross_entropy", losses, saved, logits, target, n=(*logits.shape, int(soft)), p=p)
    return _reduced(to, op, losses, saved)


@rule(loss.MSE, loss.BCEWithLogits, loss.Huber, loss.SmoothL1)
def _elementwise_loss(to: Emitter, op: Operator, x: Array, target: Array, *, reduction: str, **parameter: float) -> Any:
    x, target = to.contiguous(x), to.contiguous(target)
    losses, saved = to.array(x.shape), to.array(x.shape)
    p = (_scale(op, x.size), *parameter.values())
    to.call(LOSSES[op.function], losses, saved, x, target, n=(x.size,), p=p)
    return _reduced(to, op, losses, saved)


@rule(loss.BCE)
def _bce(to: Emitter, op: Operator, x: Array, target: Array, **_: Any) -> Any:
    x = to.contiguous(x)
    to.call("within", x, n=(x.size, 1))
    y, _ = _reduced(to, op, to.map("bce", x, target), None)
    p = (_scale(op, x.size),)
    return y, lambda grad: (to.map("bce_backward", grad, x, target, p=p), None)


@rule(loss.NLL, any_type=(1,))
def _nll(to: Emitter, op: Operator, x: Array, target: Array, **_: Any) -> Any:
    if target.dtype != np.int64:
        raise Unlowered(f"labels of type {target.dtype}")
    x, target = to.contiguous(x), to.contiguous(target)
    losses = to.array(target.shape)
    to.call("nll", losses, x, target, n=x.shape)
    y, _ = _reduced(to, op, losses, None)

    def backward(grad: Array) -> tuple[Array, None]:
        grad_x = to.array(x.shape)
        to.call("nll_backward", grad_x, to.contiguous(grad), target, n=(*x.shape, grad.size), p=(_scale(op, len(x)),))
        return grad_x, None

    return y, backward
