"""What the C file computes beforehand: values that do not depend on the input, and batch norms, folded into weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnn.ops import conv, dense, norms
from fastnn.plan.trace import Graph, Operator, Value
from fastnn.tape import Context, computing_dtype
from fastnn.tensors import Array

__all__ = ["Folded", "Weights", "constants", "fold", "run"]

WEIGHTED = (conv.Conv2d, dense.Linear)


@dataclass
class Weights:
    """Weight (O, ...) and bias (O,) of a layer; if quantized, the weight as int8 and each channel's scale (O,)."""

    weight: Array
    bias: Array | None
    quantized: tuple[Array, Array] | None = None


@dataclass
class Folded:
    """Weights by the number of their operator in the graph, and the numbers of the batch norms that are in them."""

    weights: dict[int, Weights]
    left_out: set[int]


def evaluate(op: Operator, arrays: list[Any]) -> Array:
    """The operator's own forward."""
    context = Context(computing_dtype(arrays), op.needs, op.attributes)
    return np.asarray(op.function.forward(context, *arrays, **op.attributes))


def constants(graph: Graph) -> dict[int, Array]:
    """The values, by id, that do not depend on the input: tensors that exist, and what is computed of them alone."""
    known = {id(v): np.ascontiguousarray(v.tensor._data) for v in graph.leaves if v.tensor is not None}
    for op in graph.operators:
        if all(id(v) in known for v in op.inputs if isinstance(v, Value)):
            known[id(op.output)] = evaluate(op, [known[id(v)] if isinstance(v, Value) else v for v in op.inputs])
    return known


def fold(graph: Graph, known: dict[int, Array]) -> Folded:
    """The weights of convolutions and dense layers, multiplied by the batch norm that follows."""
    folded = Folded({}, set())
    number = {id(op): i for i, op in enumerate(graph.operators)}
    for i, op in enumerate(graph.operators):
        _, *rest = op.inputs
        arrays: list[Any] = [known.get(id(v)) if isinstance(v, Value) else v for v in rest]
        if any(a is None and v is not None for a, v in zip(arrays, rest, strict=True)):
            continue
        if op.function in WEIGHTED:
            folded.weights[i] = Weights(*arrays)
        elif op.function is norms.BatchNorm:
            before = op.inputs[0].producer
            weights = folded.weights.get(number.get(id(before), -1))
            if weights is not None and len(before.output.consumers) == 1 and not graph.is_result(before.output):
                factor, shift = affine(*arrays, **op.attributes)
                bias = shift if weights.bias is None else weights.bias * factor + shift
                wide = factor.reshape(-1, *[1] * (weights.weight.ndim - 1))
                with np.errstate(over="ignore"):  # `export_c` refuses what is infinite then
                    weights.weight, weights.bias = (weights.weight * wide).astype(np.float32), bias.astype(np.float32)
                folded.left_out.add(i)
    return folded


def affine(mean: Array, var: Array, weight: Array | None, bias: Array | None, *, eps: float) -> tuple[Array, Array]:
    """A batch norm's factor and summand, (C,) in float64."""
    factor = (1.0 if weight is None else weight) / np.sqrt(var.astype(np.float64) + eps)
    return factor, (0.0 if bias is None else bias) - mean * factor


def run(
    graph: Graph, folded: Folded, x: Array, see: Callable[[int, Operator, Array, Array], None] | None = None
) -> Array:
    """The model's output with these weights; `see` is shown each weighted operator, its input and its output."""
    values = {**constants(graph), id(graph.x): x}
    for i, op in enumerate(graph.operators):
        if id(op.output) in values:
            continue
        arrays = [values[id(v)] if isinstance(v, Value) else v for v in op.inputs]
        if i in folded.left_out:
            values[id(op.output)] = arrays[0]
            continue
        if i in folded.weights:
            arrays = [arrays[0], folded.weights[i].weight, folded.weights[i].bias]
        values[id(op.output)] = evaluate(op, arrays)
        if see is not None and i in folded.weights:
            see(i, op, arrays[0], values[id(op.output)])
    return values[id(graph.results[0])]
