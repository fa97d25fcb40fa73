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
    from fastnn.plan.execute import Execution

__all__ = ["chain_is_supported", "native_stage"]


def native_stage(execution: Execution, stage: Stage) -> Any:
    """The stage's arguments, all its arrays bound; None for an operator that runs by itself."""
    if isinstance(stage, Region):
        return region_stage(execution, stage)
    if isinstance(stage, Chain):
        return _chain(execution, stage)
    if isinstance(stage, Dense):
        return _dense(execution, stage)
    if isinstance(stage, CrossEntropy):
        return _cross_entropy(execution, stage)
    return None


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


def _chain(execution: Execution, stage: Chain) -> Any:
    from fastnn._kernels import ChainStage

    given = execution.given(stage.output)
    native = ChainStage(
        stage.layers[0].conv.inputs[0].shape[0],
        [{**_geometry(layer), **_arrays(execution, layer)} for layer in stage.layers],
        training=execution.training,
        exact="winograd" in execution.options,
        dense="sparse" in execution.options,
        x=execution.buffer(stage.input),
        table=execution.table(stage.normalize),
        y=execution.buffer(stage.output),
        grad_y=given,
        grad_x=execution.target(stage.input),
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


def _arrays(execution: Execution, layer: ChainLayer) -> dict[str, Array | None]:
    weight, bias = layer.conv.inputs[1:]
    arrays = dict.fromkeys(_ARRAYS)
    arrays.update(
        weight=execution.leaf(weight),
        bias=execution.leaf(bias),
        grad_weight=execution.target(weight),
        grad_bias=execution.target(bias),
    )
    if layer.norm is not None:
        if layer.norm.function is norm.BatchNormTraining:
            _, gamma, beta = layer.norm.inputs
            running = layer.norm.attributes["running"]
            mean, var = (None, None) if running is None else (running.mean, running.var)
            if running is not None:
                execution.running.append(running)
        else:
            _, mean, var, gamma, beta = layer.norm.inputs
        arrays.update(
            gamma=execution.leaf(gamma),
            beta=execution.leaf(beta),
            grad_gamma=execution.target(gamma),
            grad_beta=execution.target(beta),
            running_mean=mean,
            running_var=var,
        )
    return arrays


def _dense(execution: Execution, stage: Dense) -> Any:
    from fastnn._kernels import DenseStage

    source, weight, bias = stage.linear.inputs
    at_once = execution.updated_at_once(weight, *([] if bias is None else [bias]))
    updates = execution.updates if at_once else None
    if updates is not None:
        execution.updated.update(id(v.tensor) for v in (weight, bias) if v is not None)
    return DenseStage(
        source.shape[0],
        execution.leaf(weight),
        execution.leaf(bias),
        relu=stage.relu is not None,
        x=execution.buffer(stage.input),
        table=execution.table(stage.normalize),
        channels=stage.normalize.inputs[0].shape[1] if stage.normalize else 1,
        y=execution.buffer(stage.output),
        grad_y=execution.given(stage.output),
        grad_x=execution.target(stage.input),
        grad_weight=None if at_once else execution.target(weight),
        grad_bias=None if at_once else execution.target(bias),
        numbers=None if updates is None else updates.numbers(weight.tensor),
        bias_numbers=None if updates is None or bias is None else updates.numbers(bias.tensor),
        weight_states=[] if updates is None else updates.states(weight.tensor),
        bias_states=[] if updates is None or bias is None else updates.states(bias.tensor),
        frozen=execution.frozen,
    )


def _cross_entropy(execution: Execution, stage: CrossEntropy) -> Any:
    from fastnn._kernels import CrossEntropyStage

    (op,) = stage.operators
    logits: Value = op.inputs[0]
    return CrossEntropyStage(
        execution.buffer(logits),
        execution.target(logits),
        label_smoothing=op.attributes["label_smoothing"],
        mean=op.attributes["reduction"] == "mean",
    )
