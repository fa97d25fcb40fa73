"""How operators are lowered that stand in derivatives alone, where a model or a loss takes a gradient itself."""

from __future__ import annotations

from typing import Any

from fastnn.autograd import transposes
from fastnn.plan import layer_rules as layer_rules  # which enters its rules
from fastnn.plan.emit import Emitter
from fastnn.plan.kernel_rules import conv2d_numbers
from fastnn.plan.rules import basic_index, rule
from fastnn.plan.sequence_rules import RULES
from fastnn.plan.trace import Operator
from fastnn.tensors import Array

__all__ = ["RULES"]


@rule(transposes.ReLUInput)
def _relu_input(to: Emitter, op: Operator, grad: Array, y: Array) -> Any:
    y = to.contiguous(y)

    def masked(given: Array) -> Array:
        out = to.array(y.shape)
        to.call("relu_backward_input", out, to.contiguous(given), y, n=(y.size,))
        return out

    return masked(grad), lambda given: (masked(given), None)


@rule(transposes.Spread)
def _spread(to: Emitter, op: Operator, x: Array, *, shape: tuple[int, ...], index: Any) -> Any:
    parts = basic_index(index)
    y = to.zeros(shape)
    to.map("copy", x, out=y[parts])
    return y, lambda grad: (grad[parts],)


@rule(transposes.ConvolutionInput, transposes.ConvolutionWeight)
def _convolution(to: Emitter, op: Operator, grad: Array, other: Array, **attributes: Any) -> Any:
    """The product of a convolution that makes x, or weight, of the two others; its gradients are those two."""
    makes_x = op.function is transposes.ConvolutionInput
    grad, other, made = to.contiguous(grad), to.contiguous(other), to.array(op.output.shape)
    x, weight = (made, other) if makes_x else (other, made)
    n = conv2d_numbers(x.shape, weight.shape, grad.shape, **attributes)

    def product(name: str, x: Array, weight: Array, grad: Array) -> None:
        if name == "conv2d_backward_weight":
            to.call(name, weight, to.array(weight.shape[:1]), grad, x, n=n)
        else:
            out, first, second = (grad, x, weight) if name == "conv2d_forward" else (x, grad, weight)
            to.call(name, out, first, second, n=n)

    product("conv2d_backward_input" if makes_x else "conv2d_backward_weight", x, weight, grad)

    def backward(given: Array) -> tuple[Array | None, Array | None]:
        given = to.contiguous(given)  # of x or of weight: in its place among the three
        of_grad = to.array(grad.shape) if op.needs[0] else None
        of_other = to.array(other.shape) if op.needs[1] else None
        if of_grad is not None:
            product("conv2d_forward", *((given, other) if makes_x else (other, given)), of_grad)
        if of_other is not None and makes_x:
            product("conv2d_backward_weight", given, of_other, grad)
        elif of_other is not None:
            product("conv2d_backward_input", of_other, given, grad)
        return of_grad, of_other

    return made, backward
