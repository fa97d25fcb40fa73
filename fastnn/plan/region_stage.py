"""Regions as fastnn._kernels takes them, their arrays bound; and in words."""

from __future__ import annotations

import os
from collections.abc import Container
from typing import TYPE_CHECKING, Any

from fastnn.ops import norms
from fastnn.ops.common import tall_shape
from fastnn.plan.fuse import activation_numbers
from fastnn.plan.regions import POOLS, Node, Region, find_regions
from fastnn.plan.trace import Graph, Operator

if TYPE_CHECKING:
    from fastnn.plan.lower import Lowering

__all__ = ["region_lines", "region_stage", "supported_regions"]


def supported_regions(graph: Graph, training: bool, frozen: bool, options: Container[str]) -> list[Region]:
    """The regions of a graph that an engine runs; with FASTNN_REGION=naive, for tests, plain loops run them all."""
    from fastnn._kernels import MOST_REGION_NODES, MOST_REGION_SOURCES

    def supported(region: Region) -> bool:
        nodes = [{**_ABSENT, **_geometry(region, node)} for node in region.nodes]
        return bool(_stage(region, nodes, training, frozen, options).supported())

    return list(find_regions(graph, supported, MOST_REGION_NODES, MOST_REGION_SOURCES))


def region_stage(plan: Lowering, region: Region) -> Any:
    """The stage's arguments, all its arrays bound."""
    nodes = [{**_ABSENT, **_geometry(region, node), **_arrays(plan, region, node)} for node in region.nodes]
    native = _stage(region, nodes, plan.training, plan.frozen, plan.options)
    native.reserve()
    return native


def _stage(region: Region, nodes: list[dict[str, Any]], training: bool, frozen: bool, options: Container[str]) -> Any:
    from fastnn._kernels import RegionStage

    return RegionStage(
        region.nodes[0].value.shape[0],
        nodes,
        training=training,
        exact="winograd" in options,
        dense="sparse" in options,
        frozen=frozen,
        naive=os.environ.get("FASTNN_REGION") == "naive",
    )


_ABSENT = dict.fromkeys(("x", "table", "grad_x", "weight", "bias", "grad_weight", "grad_bias", "y", "grad_y"))


def _geometry(region: Region, node: Node) -> dict[str, Any]:
    """All of a node but its arrays."""
    found: dict[str, Any] = {"kind": node.kind, "sources": node.sources}
    if node.kind == "input":
        found["shape"] = tall_shape(node.value.shape)[1:]
    elif node.kind == "conv":
        assert node.operator is not None
        out, _, kh, kw = tall_shape(node.operator.inputs[1].shape)
        found.update(node.operator.attributes, kernel=(out, kh, kw))
    elif node.kind == "join":
        found.update(
            norms=[None if op is None else _norm(op) for op in node.norms],
            **activation_numbers(node.activation),
            pool=None if node.pool is None else {"kind": POOLS[node.pool.function], **node.pool.attributes},
        )
    return found


_NORM_ARRAYS = ("gamma", "beta", "running_mean", "running_var", "grad_gamma", "grad_beta")


def _norm(op: Operator) -> dict[str, Any]:
    running = op.attributes.get("running")
    numbers = {"eps": op.attributes["eps"], "momentum": 0.0 if running is None else running.momentum}
    return {**numbers, **dict.fromkeys(_NORM_ARRAYS)}


def _arrays(plan: Lowering, region: Region, node: Node) -> dict[str, Any]:
    if node.kind == "input":
        assert node.outside is not None
        inside = {id(op) for op in region.operators}
        users = [op for op in node.value.consumers if id(op) in inside and id(op.output) in plan.reached]
        return {
            "x": plan.source(node.outside),
            "table": plan.table(node.operator),
            "grad_x": plan.target_of(node.outside, users[0]) if users else None,
        }
    found: dict[str, Any] = {}
    if node.outside is not None:
        found.update(y=plan.value(node.outside), grad_y=plan.given(node.outside))
    if node.operator is not None:
        found.update(_parameters(plan, node.operator, "weight", "bias"))
    if node.kind == "join":
        found["norms"] = [None if op is None else _norm_arrays(plan, op) for op in node.norms]
    return found


def _norm_arrays(plan: Lowering, op: Operator) -> dict[str, Any]:
    found = {**_norm(op), **_parameters(plan, op, "gamma", "beta")}
    if op.function is norms.BatchNorm:
        found["running_mean"], found["running_var"] = op.inputs[1:3]
    elif (running := op.attributes["running"]) is not None:
        found["running_mean"], found["running_var"] = running.mean, running.var
        plan.running.append(running)
    return found


def _parameters(plan: Lowering, op: Operator, *names: str) -> dict[str, Any]:
    """The last two inputs of an operator, and where their gradients go."""
    found: dict[str, Any] = {}
    for name, value in zip(names, op.inputs[-2:], strict=True):
        found[name] = plan.leaf(value)
        found["grad_" + name] = plan.target_of(value, op)
    return found


# ---- in words --------------------------------------------------------------------------------------------------------


def region_lines(region: Region) -> list[str]:
    """A line for each node but convolutions and inputs; what it reads is named where it is not the line before it."""
    lines: list[str] = []
    numbers: dict[int, str] = {}
    for k, node in enumerate(region.nodes):
        if node.kind == "input":
            numbers[k] = "input" if node.operator is None else "Normalize"
        elif node.kind != "conv":
            lines.append(f"[{len(lines) + 1}] {_words(region, node, numbers, len(lines))}")
            numbers[k] = f"[{len(lines)}]"
    return lines


def _words(region: Region, node: Node, numbers: dict[int, str], before: int) -> str:
    if node.kind == "concat":
        return "concatenation of " + ", ".join(numbers[source] for source in node.sources)
    terms = []
    for source, normed in zip(node.sources, node.norms, strict=True):
        one = region.nodes[source]
        words = _convolution(one, numbers, before) if one.kind == "conv" else numbers[source]
        terms.append(words + ", BatchNorm" * (normed is not None))
    parts = [" + ".join(terms)]
    parts += [op.function.__name__ for op in (node.activation,) if op is not None]
    parts += [_pooling(op) for op in (node.pool,) if op is not None]
    return ", ".join(parts)


def _convolution(node: Node, numbers: dict[int, str], before: int) -> str:
    op = node.operator
    assert op is not None
    out, _, kh, kw = tall_shape(op.inputs[1].shape)
    groups, stride, dilation = (op.attributes[name] for name in ("groups", "stride", "dilation"))
    words = f"Conv2d {op.inputs[0].shape[1]}→{out} {kh}×{kw}"
    words += f" stride {stride[0]}×{stride[1]}" * (stride != (1, 1))
    words += f" dilation {dilation[0]}×{dilation[1]}" * (dilation != (1, 1)) + f" groups {groups}" * (groups > 1)
    of = numbers[node.sources[0]]
    if of == "Normalize":
        return f"Normalize, {words}"
    return words if of in (f"[{before}]", "input") else f"{words} of {of}"


def _pooling(op: Operator) -> str:
    if "kernel_size" not in op.attributes:
        return op.function.__name__
    (kh, kw), stride = op.attributes["kernel_size"], op.attributes["stride"]
    return f"{op.function.__name__} {kh}×{kw}" + f" stride {stride[0]}×{stride[1]}" * (stride != (kh, kw))
