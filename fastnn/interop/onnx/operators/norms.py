"""Normalisations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnn.errors import ShapeError
from fastnn.interop.onnx.operators.registry import Call, axes_of, axis_of, op, reads, tensor
from fastnn.tensors import Tensor


def _optional(x: Any) -> Tensor | None:
    return None if x is None else tensor(x)


def _channels(x: Tensor, vector: Any) -> Tensor:
    """A vector along the second dimension of x."""
    return tensor(vector).reshape(-1, *[1] * (x.ndim - 2))


@reads("BatchNormalization")
def batch_norm(call: Call, x: Any, weight: Any, bias: Any, mean: Any, var: Any) -> Any:
    """By running statistics; in training by those of the batch, which the running ones follow."""
    x, eps, momentum = tensor(x), call.get("epsilon", 1e-5), call.get("momentum", 0.9)
    if call.get("training_mode", 0) and call.outputs > 1:
        return _with_statistics(x, weight, bias, mean, var, eps, momentum)
    weight, bias = tensor(weight), tensor(bias)
    flat = x.reshape(*x.shape[:2], -1) if x.ndim > 4 else x
    y = op("batch_norm")(flat, mean, var, weight, bias, call.training, 1 - momentum, eps)
    return y if flat is x else y.reshape(x.shape)


def _with_statistics(x: Tensor, weight: Any, bias: Any, mean: Any, var: Any, eps: float, momentum: float) -> Any:
    """By the batch's statistics, with the running ones as they are afterwards."""
    dims = tuple(d for d in range(x.ndim) if d != 1)
    own_mean = x.mean(dims)
    centred = x - _channels(x, own_mean)
    own_var = (centred * centred).mean(dims)
    y = centred / (_channels(x, own_var) + eps).sqrt() * _channels(x, weight) + _channels(x, bias)
    return y, tensor(mean) * momentum + own_mean * (1 - momentum), tensor(var) * momentum + own_var * (1 - momentum)


@reads("LayerNormalization")
def layer_norm(call: Call, x: Any, weight: Any, bias: Any = None) -> Any:
    """Over all dimensions from `axis` on."""
    x, eps = tensor(x), call.get("epsilon", 1e-5)
    axis = axis_of(call.get("axis", -1), x.ndim)
    shape = x.shape[axis:]
    fits = all(each is None or each.shape == shape for each in (weight, bias))
    if fits:
        y = op("layer_norm")(x, shape, tensor(weight), _optional(bias), eps)
    else:
        y = op("layer_norm")(x, shape, None, None, eps) * tensor(weight)
        y = y if bias is None else y + tensor(bias)
    if call.outputs == 1:
        return y
    dims = tuple(range(axis, x.ndim))
    mean = x.mean(dims, True)
    return y, mean, 1 / (((x - mean) ** 2).mean(dims, True) + eps).sqrt()


@reads("RMSNormalization")
def rms_norm(call: Call, x: Any, weight: Any) -> Any:
    """x by the root of its mean square over all dimensions from `axis` on."""
    x, eps = tensor(x), call.get("epsilon", 1e-5)
    shape = x.shape[axis_of(call.get("axis", -1), x.ndim) :]
    if weight.shape == shape:
        return op("rms_norm")(x, shape, tensor(weight), eps)
    return op("rms_norm")(x, shape, None, eps) * tensor(weight)


@reads("InstanceNormalization")
def instance_norm(call: Call, x: Any, weight: Any, bias: Any) -> Any:
    """Each channel of each sample by itself."""
    x = tensor(x)
    if x.ndim < 3:
        raise ShapeError(f"expected input of shape (N, C, ...), got {x.shape}")
    return op("group_norm")(x, x.shape[1], tensor(weight), tensor(bias), call.get("epsilon", 1e-5))


@reads("GroupNormalization")
def group_norm(call: Call, x: Any, weight: Any, bias: Any) -> Any:
    """Groups of channels of each sample; before version 21 weight and bias were those of groups."""
    x, groups = tensor(x), call.get("num_groups", 1)
    weight, bias = tensor(weight), tensor(bias)
    if weight.shape == (groups,) and groups != x.shape[1]:
        each = x.shape[1] // groups
        weight, bias = (v.unsqueeze(1).expand(groups, each).reshape(-1) for v in (weight, bias))
    return op("group_norm")(x, groups, weight, bias, call.get("epsilon", 1e-5))


@reads("MeanVarianceNormalization")
def mean_variance(call: Call, x: Any) -> Any:
    """x without its mean, by its standard deviation, over `axes`."""
    x = tensor(x)
    dims = tuple(axis_of(each, x.ndim) for each in axes_of(call) or [0, 2, 3])
    centred = x - x.mean(dims, True)
    return centred / ((centred * centred).mean(dims, True).sqrt() + 1e-9)


@reads("LpNormalization")
def lp_norm(call: Call, x: Any) -> Any:
    """x by its 1- or 2-norm along `axis`, 0 where that is 0."""
    x, p = tensor(x), call.get("p", 2)
    axis = axis_of(call.get("axis", -1), x.ndim)
    norm = x.abs().sum(axis, True) if p == 1 else (x * x).sum(axis, True).sqrt()
    return x / op("where")(norm == 0, np.ones((), x.dtype), norm)


@reads("LRN")
def local_response(call: Call, x: Any) -> Any:
    """x / (bias + alpha / size · sum of squares of near channels) ** beta."""
    x, size = tensor(x), call.get("size", 1)
    alpha, beta, bias = call.get("alpha", 1e-4), call.get("beta", 0.75), call.get("bias", 1.0)
    if size < 1 or x.ndim < 2:
        raise ShapeError(f"expected size of at least 1 and input (N, C, ...), got {size} and {x.shape}")
    before = (size - 1) // 2
    rows = x.reshape(x.shape[0], 1, x.shape[1], math.prod(x.shape[2:]))
    around = op("pad")(rows * rows, (0, 0, before, size - 1 - before))
    means = op("avg_pool2d")(around, (size, 1), (1, 1))
    return x / (means * alpha + bias).reshape(x.shape) ** beta
