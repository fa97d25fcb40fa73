"""Fused stages as fastnn._kernels takes them: arrays, sizes and flags."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.ops import norms
from fastnn.ops.common import tall_shape
from fastnn.plan.fuse import LOSSES, POOLINGS, Chain, ChainLayer, Dense, Loss, Rows, Stage, activation_numbers
from fastnn.plan.region_stage import region_stage
from fastnn.plan.regions import Region
from fastnn.plan.trace import Operator
from fastnn.tensors import Array

if TYPE_CHECKING:
    from fastnn.plan.lower import Lowering

__all__ = ["chain_is_supported", "is_small_network", "native_stage"]


def native_stage(plan: Lowering, stage: Stage) -> Any:
    """A fused stage's arguments, all its arrays bound."""
    if isinstance(stage, Region):
        return region_stage(plan, stage)
    if isinstance(stage, Chain):
        return _chain(plan, stage)
    if isinstance(stage, Dense):
        native = _dense(plan, stage)
        native.reserve()
        return native
    if isinstance(stage, Loss):
        return _loss(plan, stage)
    assert isinstance(stage, Rows)
    return _rows(plan, stage)


def chain_is_supported(layers: list[ChainLayer], training: bool, fast: bool = False) -> bool:
    """Whether a kernel runs a chain of these layers; with `fast`, whether it is also no slower than a region."""
    from fastnn._kernels import MOST_CHAIN_LAYERS, ChainStage

    if len(layers) > MOST_CHAIN_LAYERS:
        return False
    described = [{**_geometry(layer), **dict.fromkeys(_ARRAYS)} for layer in layers]
    n = layers[0].conv.inputs[0].shape[0]
    stage = ChainStage(
        n, described, training=training, exact=False, dense=False, x=None, table=None, y=None, grad_y=None, grad_x=None
    )
    return stage.supported() and (stage.fast() or not fast)


_NO_WINDOW = {"kernel_size": (1, 1), "stride": (1, 1), "padding": (0, 0)}
_ARRAYS = (
    "weight", "bias", "grad_weight", "grad_bias",
    "gamma", "beta", "grad_gamma", "grad_beta", "running_mean", "running_var",
)  # fmt: skip


def _chain(plan: Lowering, stage: Chain) -> Any:
    from fastnn._kernels import ChainStage

    given = plan.given(stage.output)
    native = ChainStage(
        stage.layers[0].conv.inputs[0].shape[0],
        [{**_geometry(layer), **_arrays(plan, layer)} for layer in stage.layers],
        training=plan.training,
        exact="winograd" in plan.options,
        dense="sparse" in plan.options,
        x=plan.source(stage.input),
        table=plan.table(stage.normalize),
        y=plan.value(stage.output),
        grad_y=given,
        grad_x=plan.target_of(stage.input, stage.operators[0]),
    )
    native.reserve()
    return native


def _geometry(layer: ChainLayer) -> dict[str, Any]:
    conv, pooling = layer.conv, layer.pool
    window = {} if pooling is None else pooling.attributes
    geometry: dict[str, Any] = {
        "input": tall_shape(conv.inputs[0].shape)[1:],
        "kernel": (conv.output.shape[1], *tall_shape(conv.inputs[1].shape)[2:]),
        "padding": conv.attributes["padding"],
        **activation_numbers(layer.activation),
        "pool_kind": 0 if pooling is None else POOLINGS.index(pooling.function),
        "pool_first": layer.pool_first,
        "window": [n for name in ("kernel_size", "stride", "padding") for n in window.get(name, _NO_WINDOW[name])],
        "counts_padding": window.get("count_include_pad", False),
        "norm": layer.norm is not None,
    }
    if layer.norm is not None:
        running = layer.norm.attributes.get("running")
        geometry.update(eps=layer.norm.attributes["eps"], momentum=0.0 if running is None else running.momentum)
    return geometry


def _arrays(plan: Lowering, layer: ChainLayer) -> dict[str, Array | None]:
    weight, bias = layer.conv.inputs[1:]
    arrays = dict.fromkeys(_ARRAYS)
    arrays.update(
        weight=plan.leaf(weight),
        bias=plan.leaf(bias),
        grad_weight=plan.target_of(weight, layer.conv),
        grad_bias=plan.target_of(bias, layer.conv),
    )
    if layer.norm is not None:
        if layer.norm.function is norms.BatchNormTraining:
            _, gamma, beta = layer.norm.inputs
            running = layer.norm.attributes["running"]
            mean, var = (None, None) if running is None else (running.mean, running.var)
            if running is not None:
                plan.running.append(running)
        else:
            _, mean, var, gamma, beta = layer.norm.inputs
        arrays.update(
            gamma=plan.leaf(gamma),
            beta=plan.leaf(beta),
            grad_gamma=plan.target_of(gamma, layer.norm),
            grad_beta=plan.target_of(beta, layer.norm),
            running_mean=mean,
            running_var=var,
        )
    return arrays


def is_small_network(layers: list[Dense], training: bool, frozen: bool) -> bool:
    """Whether one stage for all these layers is the way for them."""
    from fastnn._kernels import rows_support

    shapes, n = [layer.linear.inputs[1].shape for layer in layers], layers[0].linear.inputs[0].shape[0]
    return not any(layer.normalize for layer in layers) and rows_support(shapes, n, training=training, frozen=frozen)


def _rows(plan: Lowering, stage: Rows) -> Any:
    from fastnn._kernels import RowsStage

    last = len(stage.layers) - 1
    layers = [_dense(plan, layer, i == 0, i == last, stage.loss is None) for i, layer in enumerate(stage.layers)]
    native = RowsStage(layers, None if stage.loss is None else _loss(plan, stage.loss, within=True))
    native.reserve()
    return native


def _dense(plan: Lowering, stage: Dense, first: bool = True, last: bool = True, ends: bool = True) -> Any:
    """Arguments of a layer; of a small network only the first one reads, the last one writes, and it ends there or in a
    loss."""
    from fastnn._kernels import DenseStage

    source, weight, bias = stage.linear.inputs
    at_once = plan.updated_at_once(weight, *([] if bias is None else [bias]))
    updates = plan.updates if at_once else None
    if updates is not None:
        plan.updated.update(id(v.tensor) for v in (weight, bias) if v is not None)
    return DenseStage(
        source.shape[0],
        *(plan.leaf(weight), plan.leaf(bias)) if stage.norm is None else _folded(stage.linear, stage.norm),
        **activation_numbers(stage.activation),
        x=plan.source(stage.input) if first else None,
        table=plan.table(stage.normalize),
        channels=stage.normalize.inputs[0].shape[1] if stage.normalize else 1,
        y=plan.value(stage.output) if last else None,
        grad_y=plan.given(stage.output) if last and ends else None,
        grad_x=plan.target_of(stage.input, stage.operators[0]) if first else None,
        grad_weight=None if at_once else plan.target_of(weight, stage.linear),
        grad_bias=None if at_once else plan.target_of(bias, stage.linear),
        numbers=None if updates is None else updates.numbers(weight.tensor),
        bias_numbers=None if updates is None or bias is None else updates.numbers(bias.tensor),
        weight_states=[] if updates is None else updates.states(weight.tensor),
        bias_states=[] if updates is None or bias is None else updates.states(bias.tensor),
        frozen=plan.frozen,
    )


def _folded(linear: Operator, norm: Operator) -> tuple[Array, Array]:
    """Weight and bias of a linear layer with the batch norm behind it."""
    weight, bias, gamma, beta = (
        None if v is None else v.tensor._data.astype(np.float64) for v in (*linear.inputs[1:], *norm.inputs[3:])
    )
    mean, var = norm.inputs[1:3]
    factor = (1 if gamma is None else gamma) / np.sqrt(var.astype(np.float64) + norm.attributes["eps"])
    shift = (0 if bias is None else bias) - mean
    weight, bias = weight * factor[:, None], shift * factor + (0 if beta is None else beta)
    return weight.astype(np.float32), bias.astype(np.float32)


def _loss(plan: Lowering, stage: Loss, within: bool = False) -> Any:
    from fastnn._kernels import LossStage

    (op,) = stage.operators
    x, target = op.inputs
    kind = LOSSES[op.function]
    if kind == "cross_entropy" and target.dtype != np.int64:
        kind = "soft_cross_entropy"
    n = x.shape[0]
    return LossStage(
        kind,
        n,
        math.prod(x.shape[1:]),
        None if within else plan.value(x),
        None if within else plan.target_of(x, op),
        parameter=next((v for name, v in op.attributes.items() if name != "reduction"), 0.0),
        mean=op.attributes["reduction"] == "mean",
    )
