"""How further operators of layers are lowered: transposed convolution, activations by kind, padding, embedding."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.ops import activations, conv, lookup, padding, resizing
from fastnn.ops.common import tall_shape
from fastnn.plan.emit import Emitter
from fastnn.plan.kernel_rules import RULES, conv2d_numbers
from fastnn.plan.rules import rule
from fastnn.plan.trace import Operator
from fastnn.tensors import Array

__all__ = ["RULES"]


@rule(conv.ConvTranspose2d)
def _conv_transpose2d(
    to: Emitter, op: Operator, x: Array, weight: Array, bias: Array | None, *, output_padding: Any, **attributes: Any
) -> Any:
    """The kernels of a convolution of y that gives x."""
    x, weight = to.contiguous(x), to.contiguous(weight)
    y = to.array(op.output.shape)
    n = conv2d_numbers(tall_shape(y.shape), tall_shape(weight.shape), tall_shape(x.shape), **attributes)
    to.call("conv2d_backward_input", y, x, weight, n=n)
    if bias is not None:
        to.map("add", y, bias.reshape(-1, *(1,) * (y.ndim - 2)), out=y)

    def backward(grad: Array) -> tuple[Array | None, ...]:
        grad, grad_x, grad_weight = to.contiguous(grad), None, None
        if op.needs[0]:
            grad_x = to.array(x.shape)
            to.call("conv2d_forward", grad_x, grad, weight, n=n)
        if op.needs[1]:
            grad_weight = to.array(weight.shape)
            to.call("conv2d_backward_weight", grad_weight, to.array((len(weight),)), x, grad, n=n)
        return grad_x, grad_weight, to.sum(grad, (0, *range(2, grad.ndim))) if op.needs[2] else None

    return y, backward


@rule(activations.ReLU6, activations.Hardswish, activations.Softplus, activations.Mish)
def _activation_by_kind(to: Emitter, op: Operator, x: Array) -> Any:
    n = (x.size, activations.KINDS[op.function])
    x, y = to.contiguous(x), to.array(x.shape)
    to.call("activation_forward", y, x, n=n)

    def backward(grad: Array) -> tuple[Array]:
        grad_x, given = to.array(x.shape), to.one_or_contiguous(grad)
        to.call("activation_backward_input", grad_x, given, x, n=(*n, int(given.size < x.size)))
        return (grad_x,)

    return y, backward


@rule(padding.Pad)
def _pad(to: Emitter, op: Operator, x: Array, *, before: Any, after: Any, value: float) -> Any:
    y = to.array(op.output.shape)
    inside = padding.inside(y.shape, before, after)
    to.map("copy", np.broadcast_to(np.float32(value), y.shape), out=y)
    to.map("copy", x, out=y[inside])
    return y, lambda grad: (grad[inside],)


@rule(lookup.Embedding, any_type=(1,))
def _embedding(to: Emitter, op: Operator, weight: Array, index: Array, *, padding_idx: int) -> Any:
    weight, index = to.contiguous(weight), to.contiguous(index)
    y, n = to.array(op.output.shape), (index.size, weight.shape[1], len(weight))
    to.call("take_rows", y, weight, index, n=n)

    def backward(grad: Array) -> tuple[Array | None, None]:
        grad_weight = to.array(weight.shape)
        to.call("take_rows_backward", grad_weight, to.contiguous(grad), index, n=(*n, padding_idx))
        return grad_weight, None

    return y, backward


@rule(resizing.Repeat)
def _repeat(to: Emitter, op: Operator, x: Array, *, repeats: tuple[int, ...]) -> Any:
    y, (first, *others) = to.array(op.output.shape), resizing.copies(repeats)
    for places in (first, *others):
        to.map("copy", x, out=y[places])

    def backward(grad: Array) -> tuple[Array]:
        grad_x = to.map("copy", grad[first])
        for places in others:
            to.map("add", grad_x, grad[places], out=grad_x)
        return (grad_x,)

    return y, backward
