"""Fused stages as fastnn._kernels takes them: arrays, sizes and flags."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastnn.ops import norm, pool
from fastnn.plan.fuse import Chain, ChainLayer, CrossEntropy, Dense, Stage
from fastnn.plan.region_stage import region_stage
from fastnn.plan.regions import Region
from fastnn.plan.trace import Value
from fastnn.tensor import Array

if TYPE_CHECKING:
    from fastnn.plan.lower import Lowering

__all__ = ["chain_is_supported", "native_stage"]


def native_stage(plan: Lowering, stage: Stage) -> Any:
    """A fused stage's arguments, all its arrays bound."""
    if isinstance(stage, Region):
        return region_stage(plan, stage)
    if isinstance(stage, Chain):
        return _chain(plan, stage)
    if isinstance(stage, Dense):
        return _dense(plan, stage)
    assert isinstance(stage, CrossEntropy)
    return _cross_entropy(plan, stage)


def chain_is_supported(layers: list[ChainLayer], training: bool) -> bool:
    """Whether there is a kernel for a chain of these layers."""
    from fastnn._kernels import MOST_CHAIN_LAYERS, ChainStage

    if len(layers) > MOST_CHAIN_LAYERS:
        return False
    described = [{**_geometry(layer), **dict.fromkeys(_ARRAYS)} for layer in layers]
    n = layers[0].conv.inputs[0].shape[0]
    return ChainStage(
        n, described, training=training, exact=False, dense=False, x=None, table=None, y=None, grad_y=None, grad_x=None
    ).supported()


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
    average = pooling is not None and pooling.function is pool.GlobalAvgPool2d
    geometry: dict[str, Any] = {
        "input": conv.inputs[0].shape[1:],
        "kernel": (conv.output.shape[1], *conv.inputs[1].shape[2:]),
        "padding": conv.attributes["padding"],
        "relu": layer.relu is not None,
        "global_average": average,
        "pool": 1 if pooling is None or average else pooling.attributes["kernel_size"][0],
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
        if layer.norm.function is norm.BatchNormTraining:
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


def _dense(plan: Lowering, stage: Dense) -> Any:
    from fastnn._kernels import DenseStage

    source, weight, bias = stage.linear.inputs
    at_once = plan.updated_at_once(weight, *([] if bias is None else [bias]))
    updates = plan.updates if at_once else None
    if updates is not None:
        plan.updated.update(id(v.tensor) for v in (weight, bias) if v is not None)
    return DenseStage(
        source.shape[0],
        plan.leaf(weight),
        plan.leaf(bias),
        relu=stage.relu is not None,
        x=plan.source(stage.input),
        table=plan.table(stage.normalize),
        channels=stage.normalize.inputs[0].shape[1] if stage.normalize else 1,
        y=plan.value(stage.output),
        grad_y=plan.given(stage.output),
        grad_x=plan.target_of(stage.input, stage.operators[0]),
        grad_weight=None if at_once else plan.target_of(weight, stage.linear),
        grad_bias=None if at_once else plan.target_of(bias, stage.linear),
        numbers=None if updates is None else updates.numbers(weight.tensor),
        bias_numbers=None if updates is None or bias is None else updates.numbers(bias.tensor),
        weight_states=[] if updates is None else updates.states(weight.tensor),
        bias_states=[] if updates is None or bias is None else updates.states(bias.tensor),
        frozen=plan.frozen,
    )


def _cross_entropy(plan: Lowering, stage: CrossEntropy) -> Any:
    from fastnn._kernels import CrossEntropyStage

    (op,) = stage.operators
    logits: Value = op.inputs[0]
    return CrossEntropyStage(
        plan.value(logits),
        plan.target_of(logits, op),
        label_smoothing=op.attributes["label_smoothing"],
        mean=op.attributes["reduction"] == "mean",
    )
