"""Kernels as differentiable operators, NumPy's functions as fastnn's, and the backward of operators that need formulas.

Three ways to one end, shortest first. A kernel that an operator's backward calls stands in `Kernels`, by its name, as
an expression of tensors. An operator whose forward keeps other numbers than its inputs and output is *composed*: said
again by operators that have derivatives, whose gradient is then its own. What is left has a formula.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn import backends, ops
from fastnn.autograd.second import Given, formula, operator_named
from fastnn.autograd.transposes import (
    AveragePoolInput,
    ConvolutionInput,
    ConvolutionWeight,
    MaxPoolInput,
    NormalCdf,
    Pick,
    ReLUInput,
    Spread,
)
from fastnn.backends.reference import kinds
from fastnn.errors import GraphError
from fastnn.hooks import key_of
from fastnn.ops import (
    activations,
    arithmetic,
    attention,
    conv,
    dense,
    elementwise,
    joining,
    keys,
    lookup,
    loss,
    loss_sequences,
    nonlinear,
    norms,
    picking,
    pool,
    products,
    recurrent,
    reductions,
    sample_norm,
    shaping,
    sorting,
)
from fastnn.ops.common import low, sum_to, tall, tall_shape, tensor_of
from fastnn.ops.places import picked_along
from fastnn.recording import tracer
from fastnn.tensors import Array, Function, Tensor

__all__ = ["NUMPY", "Kernels"]


# ---- kernels ---------------------------------------------------------------------------------------------------------


def _positive(x: Tensor) -> Tensor:
    return x.detach() > 0


def _elu_slope(grad: Tensor, x: Tensor, alpha: float = 1.0) -> Tensor:
    return ops.where(_positive(x), grad, grad * x.clamp(max=0).exp() * alpha)  # no overflow in what is not taken


def _slope_by_kind(grad: Tensor, x: Tensor, kind: int) -> Tensor:
    """By the formula of the reference, which NumPy's functions make."""
    if kind == activations.Softplus.kind:
        return grad * ops.where(x.detach() > 20, 1.0, ops.sigmoid(x))
    slope: Any = kinds.FORMULAS[kind][2]
    return grad * slope(x)


def _silu_slope(grad: Tensor, x: Tensor) -> Tensor:
    s = ops.sigmoid(x)
    return grad * s * (1 + x * (1 - s))


def _dropped(x: Tensor, p: float, seed: int, stream: int) -> Tensor:
    _need_values("what was dropped")
    return x * backends.kernels(x.dtype).dropout_forward(np.ones(x.shape, x.dtype), p, seed, stream)


def _need_values(what: str) -> None:
    if tracer() is not None:
        raise GraphError(f"compile: {what} is not known while a plan is made: use the model uncompiled")


def _values(what: str, x: Any) -> Array:
    """The numbers of an input, which only a run knows."""
    if not isinstance(x, Tensor):
        return x
    _need_values(what)
    return x.detach().numpy()


def _matmul(a: Tensor, b: Tensor, transpose_a: bool = False, transpose_b: bool = False) -> Tensor:
    return ops.matmul(a.t() if transpose_a else a, b.t() if transpose_b else b)


class Kernels:
    """The kernels of fastnn.backends, by their names, on tensors."""

    matmul = staticmethod(_matmul)
    linear_forward = staticmethod(ops.linear)
    linear_backward_input = staticmethod(lambda grad, weight: grad @ weight)
    linear_backward_weight = staticmethod(lambda grad, x: (grad.t() @ x, grad.sum(0)))
    conv2d_forward = staticmethod(conv.Conv2d.apply)
    conv2d_backward_input = staticmethod(
        lambda grad, weight, image_size, **options: ConvolutionInput.apply(
            grad, weight, image_size=image_size, **options
        )
    )
    conv2d_backward_weight = staticmethod(
        lambda grad, x, kernel_size, **options: (
            ConvolutionWeight.apply(grad, x, kernel_size=kernel_size, **options), grad.sum((0, 2, 3))
        )
    )  # fmt: skip
    avg_pool2d_forward = staticmethod(pool.AvgPool2d.apply)
    avg_pool2d_backward_input = staticmethod(
        lambda grad, input_size, **options: AveragePoolInput.apply(grad, input_size=input_size, **options)
    )
    global_avg_pool2d_backward_input = staticmethod(
        lambda grad, size: _broadcast_to(grad / (size[0] * size[1]), (*grad.shape[:2], *size))
    )
    max_pool2d_backward_input = staticmethod(
        lambda grad, argmax, input_size: MaxPoolInput.apply(grad, argmax=argmax, input_size=input_size)
    )
    activation_backward_input = staticmethod(_slope_by_kind)
    relu_backward_input = staticmethod(lambda grad, y: ReLUInput.apply(grad, y.detach()))
    leaky_relu_backward_input = staticmethod(lambda grad, x, slope: ops.where(_positive(x), grad, grad * slope))
    elu_backward_input = staticmethod(_elu_slope)
    sigmoid_backward_input = staticmethod(lambda grad, y: grad * y * (1 - y))
    tanh_backward_input = staticmethod(lambda grad, y: grad * (1 - y * y))
    silu_backward_input = staticmethod(_silu_slope)
    gelu_backward_input = staticmethod(
        lambda grad, x: grad * (NormalCdf.apply(x) + x * (-0.5 * x * x).exp() * (1 / math.sqrt(2 * math.pi)))
    )
    softmax_backward_input = staticmethod(lambda grad, y: y * (grad - (grad * y).sum(1, keepdim=True)))
    log_softmax_backward_input = staticmethod(lambda grad, y: grad - y.exp() * grad.sum(1, keepdim=True))
    dropout_forward = staticmethod(_dropped)


# ---- NumPy's functions -----------------------------------------------------------------------------------------------


def _broadcast_to(x: Any, shape: tuple[int, ...]) -> Tensor:
    return x if x.shape == tuple(shape) else x + np.broadcast_to(np.zeros((), x.dtype), shape)


def _expand_dims(x: Tensor, axis: Any) -> Tensor:
    places = axis if isinstance(axis, tuple) else (axis,)
    ndim = x.ndim + len(places)
    sizes, new = iter(x.shape), {place % ndim for place in places}
    return x.reshape(tuple(1 if d in new else next(sizes) for d in range(ndim)))


def _split(x: Tensor, ends: Any, axis: int = 0) -> list[Tensor]:
    starts, stops = [0, *map(int, ends)], [*map(int, ends), x.shape[axis]]
    return [x[(slice(None),) * axis + (slice(a, b),)] for a, b in zip(starts, stops, strict=True)]


def _sum(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    return x.sum(axis, keepdims)


def _sign(x: Tensor) -> Tensor:
    x = x.detach()
    return (x > 0).astype(x.dtype) - (x < 0).astype(x.dtype)


# Functions whose operator has another name; others are looked up by their own.
_ALIASES = {"absolute": "abs", "negative": "neg", "arctan": "atan", "arcsin": "asin", "arccos": "acos"}


class _NumPy(dict[Any, Any]):
    """By NumPy function the operator; None where fastnn has none."""

    def __missing__(self, function: Any) -> Any:
        name = function.__name__
        found = operator_named(_ALIASES.get(name, name)) if isinstance(function, np.ufunc) else None
        self[function] = found
        return found


NUMPY = _NumPy(
    {
        np.where: ops.where,
        np.broadcast_to: _broadcast_to,
        np.expand_dims: _expand_dims,
        np.split: _split,
        np.sum: _sum,
        np.mean: lambda x, axis=None, keepdims=False: x.mean(axis, keepdims),
        np.sign: _sign,
        np.square: lambda x: x * x,
        np.reciprocal: lambda x: 1 / x,
        np.transpose: lambda x, axes=None: x.T if axes is None else x.permute(*map(int, axes)),
        np.swapaxes: lambda x, a, b: x.transpose(a, b),
        np.clip: lambda x, low, high: x.clamp(low, high),
    }
)


# ---- composed operators ----------------------------------------------------------------------------------------------


def composed(*functions: type[Function]) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """Decorator: what these Functions compute, said by operators that have derivatives."""

    def enter(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def backward(op: Given, grad: Tensor) -> tuple[Tensor | None, ...]:
            from fastnn.autograd.engine import flow

            # Other names for the inputs: each gets its own gradient, and that alone, even where two are one tensor.
            inputs = [
                shaping.Reshape.apply(x, shape=x.shape) if needed else x
                for x, needed in zip(op.inputs, op.needs, strict=True)
            ]
            output = forward(*inputs, **op.attributes)
            wanted = [x for x, needed in zip(inputs, op.needs, strict=True) if needed]
            found = flow([(output, grad)], wanted, graph=True, keep=True, partial=True)
            return tuple(found.get(key_of(x)) if needed else None for x, needed in zip(inputs, op.needs, strict=True))

        formula(*functions)(backward)
        return forward

    return enter


def _reduced(losses: Tensor, reduction: str) -> Tensor:
    return losses if reduction == "none" else losses.sum() if reduction == "sum" else losses.mean()


@composed(loss.MSE)
def _mse(x: Tensor, target: Any, *, reduction: str) -> Tensor:
    return _reduced((x - target) * (x - target), reduction)


@composed(loss.Huber)
def _huber(x: Tensor, target: Any, *, delta: float, reduction: str) -> Tensor:
    away = x - target  # squared itself: where it is 0, the slope of its absolute value has no slope
    d = away.abs()
    return _reduced(ops.where(d < delta, away * away * 0.5, (d - 0.5 * delta) * delta), reduction)


@composed(loss.SmoothL1)
def _smooth_l1(x: Tensor, target: Any, *, beta: float, reduction: str) -> Tensor:
    away = x - target
    d = away.abs()
    return _reduced(ops.where(d < beta, away * away * (0.5 / beta if beta else 0.0), d - 0.5 * beta), reduction)


@composed(loss.BCEWithLogits)
def _bce_with_logits(z: Tensor, target: Any, *, reduction: str) -> Tensor:
    """max(z, 0) - z·t + log(1 + exp(-|z|)), the last two by log_softmax of (0, z), which is smooth."""
    pairs = ops.stack([z * 0, z], -1)
    logs = ops.log_softmax(pairs, -1)
    return _reduced(-(logs[..., 1] * target + logs[..., 0] * (1 - target)), reduction)


@composed(loss.CrossEntropy)
def _cross_entropy(z: Tensor, target: Any, *, label_smoothing: float, reduction: str) -> Tensor:
    logs, classes = ops.log_softmax(z, 1), z.shape[1]
    q = target
    if target.dtype.kind in "iu":
        q = np.zeros(z.shape, z.dtype)
        q[np.arange(len(q)), target.numpy()] = 1
    return _reduced(-(logs * (q * (1 - label_smoothing) + label_smoothing / classes)).sum(1), reduction)


@composed(loss.NLL)
def _nll(x: Tensor, target: Any, *, reduction: str) -> Tensor:
    return _reduced(-x[np.arange(x.shape[0]), target], reduction)


@composed(loss_sequences.CTC)
def _ctc(x: Tensor, *given: Any, blank: int, zero_infinity: bool) -> Tensor:
    """All paths, step by step; -1e30 stands for what is impossible."""
    targets, lengths, counts = (np.asarray(getattr(each, "_data", each)) for each in given)
    states, leaps = loss_sequences.states_of(targets, lengths, counts, x.shape, blank)
    rows, places = np.arange(len(states)), np.arange(states.shape[1])
    emitted, impossible = x[:, rows[:, None], states], -1e30
    paths = [emitted[0] + np.where(places < 2, 0, impossible)]
    for step in emitted[1:]:
        stay, one, two = (ops.pad(paths[-1], (by, 0), value=impossible)[:, : len(places)] for by in range(3))
        paths.append(ops.stack([stay, one, two + np.where(leaps, 0, impossible)]).logsumexp(0) + step)
    is_end = (places == 2 * counts[:, None]) | (places == 2 * counts[:, None] - 1)
    losses = -(ops.stack(paths)[lengths - 1, rows] + np.where(is_end, 0, impossible)).logsumexp(1)
    return ops.where(losses > -impossible / 2, 0.0 if zero_infinity else np.inf, losses)


def _up_to_each(x: Tensor, dim: int, others: float) -> Tensor:
    """The entries up to each along dim, in a new last dimension, with `others` in the place of those behind."""
    rows = x.transpose(dim, -1).unsqueeze(-2)
    return ops.where(np.tri(x.shape[dim], dtype=bool), rows, others)


@composed(reductions.Prod)
def _prod(x: Tensor, *, dim: int) -> Tensor:
    """In pairs: the gradient of a product with zeros needs no case of its own."""
    left = x.transpose(0, dim)
    while (count := left.shape[0]) > 1:
        pairs = left[: count // 2] * left[count // 2 : count // 2 * 2]
        left = ops.cat([pairs, left[count // 2 * 2 :]]) if count % 2 else pairs
    return left.transpose(0, dim).squeeze(dim) if left.shape[0] else left.sum(0) + 1


@composed(sorting.CumProd)
def _cumprod(x: Tensor, *, dim: int) -> Tensor:
    return _up_to_each(x, dim, 1.0).prod(-1).transpose(dim, -1)


@composed(sorting.LogCumSumExp)
def _logcumsumexp(x: Tensor, *, dim: int) -> Tensor:
    return _up_to_each(x, dim, -np.inf).logsumexp(-1).transpose(dim, -1)


composed(products.Norm)(products.composed_norm)
composed(products.LogSumExp)(products.composed_logsumexp)
composed(elementwise.Lerp)(elementwise.composed_lerp)
composed(picking.PickRows)(lambda x, index: picked_along("gather", x, -1, index, keys.FROM_FRONT))
composed(nonlinear.SELU)(nonlinear.composed_selu)
composed(attention.Attention)(attention.composed_attention)


def _channels(x: Any, ndim: int) -> Any:
    return x.reshape((1, -1) + (1,) * (ndim - 2))


@composed(norms.BatchNorm)
def _batch_norm(x: Tensor, mean: Any, var: Any, weight: Any, bias: Any, *, eps: float) -> Tensor:
    scale = _channels(1 / np.sqrt(np.asarray(var) + eps), x.ndim)
    y = (x - _channels(np.asarray(mean), x.ndim)) * scale
    y = y if weight is None else y * _channels(weight, x.ndim)
    return y if bias is None else y + _channels(bias, x.ndim)


@composed(norms.BatchNormTraining)
def _batch_norm_training(x: Tensor, weight: Any, bias: Any, *, eps: float, running: Any) -> Tensor:
    others = (0, *range(2, x.ndim))
    away = x - x.mean(others, True)
    y = away / ((away * away).mean(others, True) + eps).sqrt()
    y = y if weight is None else y * _channels(weight, x.ndim)
    return y if bias is None else y + _channels(bias, x.ndim)


@composed(sample_norm.GroupNorm)
def _group_norm(
    x: Tensor, weight: Any, bias: Any, *, sizes: tuple[int, ...], groups: int, eps: float, centred: bool
) -> Tensor:
    rows = x.reshape(sizes[0], groups, -1)
    away = rows - rows.mean(2, True) if centred else rows
    y = (away / ((away * away).mean(2, True) + eps).sqrt()).reshape(sizes)
    y = y if weight is None else y * weight.reshape(-1, 1)
    return (y if bias is None else y + bias.reshape(-1, 1)).reshape(x.shape)


@composed(recurrent.Recurrent)
def _recurrent(
    x: Tensor, w_ih: Any, w_hh: Any, b_ih: Any, b_hh: Any, h0: Any, c0: Any, *, mode: int, reverse: bool
) -> Tensor:
    """The formulas of backends/reference/sequence.py, time by time."""
    times, batch, size = x.shape[0], x.shape[1], w_hh.shape[1]
    zeros = Tensor(np.zeros((batch, size), x.dtype))
    h, c = (zeros if state is None else state for state in (h0, c0))
    states: list[Any] = [None] * times
    for t in reversed(range(times)) if reverse else range(times):
        given, kept = x[t] @ w_ih.t(), h @ w_hh.t()
        given, kept = (given, kept) if b_ih is None else (given + b_ih, kept + b_hh)
        parts = [(given[:, k : k + size], kept[:, k : k + size]) for k in range(0, given.shape[1], size)]
        if mode == recurrent.GRU:
            r, z = (ops.sigmoid(a + b) for a, b in parts[:2])
            n = ops.tanh(parts[2][0] + r * parts[2][1])
            h = n + z * (h - n)
        elif mode == recurrent.LSTM:
            i, f, o = (ops.sigmoid(parts[k][0] + parts[k][1]) for k in (0, 1, 3))
            c = f * c + i * ops.tanh(parts[2][0] + parts[2][1])
            h = o * ops.tanh(c)
        else:
            h = (ops.tanh if mode == recurrent.TANH else ops.relu)(parts[0][0] + parts[0][1])
        states[t] = h
    return ops.stack([*states, c] if mode == recurrent.LSTM else states)


# ---- formulas --------------------------------------------------------------------------------------------------------


@formula(dense.StackedMatMul)
def _stacked(op: Given, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
    a, b = op.inputs
    return (
        sum_to(grad @ b.transpose(-1, -2), a.shape) if op.needs[0] else None,
        sum_to(a.transpose(-1, -2) @ grad, b.shape) if op.needs[1] else None,
    )


@formula(loss.BCE)
def _bce(op: Given, grad: Tensor) -> tuple[Tensor, None]:
    p, target = op.inputs
    scale = 1 / p.numel() if op.attributes["reduction"] == "mean" else 1.0
    return (p - target) / ((1 - p) * p).clamp(min=1e-12) * (grad * scale), None


@formula(arithmetic.Pow)
def _pow(op: Given, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
    a, b = op.inputs
    grad_a = grad_b = None
    if op.needs[0] and isinstance(b, np.ndarray) and b.all():
        grad_a = sum_to(grad * (b * a ** (b - 1)), a.shape)
    elif op.needs[0]:  # at b = 0 the slope is 0, also where a = 0
        b = tensor_of(b)
        none = b.detach() == 0
        grad_a = sum_to(grad * ops.where(none, 0.0, b * a ** ops.where(none, 1.0, b - 1)), a.shape)
    if op.needs[1]:  # a = 0: 0 ** b does not change with b > 0
        a = tensor_of(a)
        grad_b = sum_to(grad * op.output * ops.where(a.detach() == 0, 1.0, a).log(), b.shape)
    return grad_a, grad_b


@formula(arithmetic.Clamp)
def _clamp(op: Given, grad: Tensor) -> Tensor:
    x, (low, high) = op.inputs[0].detach(), (op.attributes["min"], op.attributes["max"])
    grad = grad if low is None else ops.where(x < low, 0.0, grad)
    return grad if high is None else ops.where(x > high, 0.0, grad)


@formula(shaping.Deviation)
def _deviation(op: Given, grad: Tensor) -> Tensor:
    none = op.output.detach() == 0
    return ops.where(none, 0.0, grad / (2 * ops.where(none, 1.0, op.output)))


@formula(shaping.Extremum)
def _extremum(op: Given, grad: Tensor) -> Tensor:
    _need_values("where the extremum is")
    (shape, where), dim = op.saved, op.attributes["dim"]
    if dim is None:
        return Spread.apply(grad, shape=shape, index=np.unravel_index(where, shape))
    index = list(np.ogrid[tuple(slice(size) for size in where.shape)])
    index[dim] = where
    return Spread.apply(grad.reshape(where.shape), shape=shape, index=tuple(index))


@formula(shaping.Index)
def _index(op: Given, grad: Tensor) -> Tensor:
    return Spread.apply(grad, shape=op.inputs[0].shape, index=op.attributes["index"])


@formula(lookup.Embedding)
def _embedding(op: Given, grad: Tensor) -> tuple[Tensor, None]:
    weight, index = op.inputs
    found = Spread.apply(grad, shape=weight.shape, index=_values("the index of an embedding", index))
    kept = np.ones((len(weight), 1), weight.dtype)
    if op.attributes["padding_idx"] >= 0:
        kept[op.attributes["padding_idx"]] = 0
    return found * kept, None


@formula(conv.ConvTranspose2d)
def _conv_transpose2d(op: Given, grad: Any) -> tuple[Any, ...]:
    x, weight, _ = op.inputs
    options = {name: value for name, value in op.attributes.items() if name != "output_padding"}
    kernels: Any = Kernels
    size, images = tall_shape(weight.shape)[2:], tall(grad)
    return (
        low(kernels.conv2d_forward(images, tall(weight), None, **options), x) if op.needs[0] else None,
        low(kernels.conv2d_backward_weight(tall(x), images, size, **options)[0], x) if op.needs[1] else None,
        images.sum((0, 2, 3)) if op.needs[2] else None,
    )


@formula(MaxPoolInput)
def _max_pool_input(op: Given, grad: Tensor) -> Tensor:
    return Pick.apply(grad, argmax=op.attributes["argmax"])


@formula(shaping.Permute)
def _permute(op: Given, grad: Tensor) -> Tensor:
    return grad.permute(*map(int, np.argsort(op.attributes["dims"])))


@formula(joining.Cat)
def _cat(op: Given, grad: Tensor) -> tuple[Tensor, ...]:
    ends = np.cumsum([x.shape[op.attributes["dim"]] for x in op.inputs])[:-1]
    return tuple(_split(grad, ends, op.attributes["dim"]))
