"""Regions: convolutions and what lies between them, as small graphs of nodes that run as one stage.

    input    a value from outside, or the plan's own bytes through a table
    conv     one convolution
    join     pool(activation(sum of sources)), where a source may pass through a convolution's bias and a batch norm
    concat   channels of several values

kernels/plan/region/region.h has the kernels' view of the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from fastnn.ops import activations, arithmetic, conv, joining, norms, pool, shaping
from fastnn.plan.fuse import Stage, has_plain_statistics, is_float32_value, is_large_product, parameters_are_float32
from fastnn.plan.trace import Graph, Operator, Value

__all__ = ["POOLS", "Node", "Region", "find_regions"]

POOLS = {pool.MaxPool2d: "max", pool.AvgPool2d: "average", pool.GlobalAvgPool2d: "global"}


@dataclass(eq=False)
class Node:
    """One node of a region; `value` is the operators' name for what it computes or, for an input, for what it reads."""

    kind: str
    value: Value
    sources: list[int] = field(default_factory=list)  # numbers of earlier nodes
    operator: Operator | None = None  # a convolution, or the Normalize of an input of bytes
    norms: list[Operator | None] = field(default_factory=list)  # of a join, one a source
    activation: Operator | None = None
    pool: Operator | None = None
    outside: Value | None = None  # an input's array; of an output what others read: the value or a view


@dataclass(eq=False)
class Region(Stage):
    nodes: list[Node] = field(default_factory=list)

    @property
    def inputs(self) -> list[Any]:
        return list({id(n.outside): n.outside for n in self.nodes if n.kind == "input"}.values())

    @property
    def outputs(self) -> list[Value]:
        return [node.outside for node in self.nodes if node.kind != "input" and node.outside is not None]


def find_regions(
    graph: Graph, supported: Callable[[Region], bool], most_nodes: int, most_sources: int
) -> Iterator[Region]:
    """The largest regions of a graph; `supported` says whether an engine runs one.

    Where one would have too many nodes there are several, one behind the other.
    """
    for operators in _grow([op for op in graph.operators if _fits(op, graph)]):
        while any(op.function is conv.Conv2d for op in operators):
            count = len(operators)
            region = _region(graph, operators, most_sources)
            while len(region.nodes) > most_nodes:
                count = max(1, min(count - 1, count * most_nodes // len(region.nodes)))
                region = _region(graph, operators[:count], most_sources)
            if any(node.kind == "conv" for node in region.nodes) and supported(region):
                yield region
            operators = operators[count:]


# ---- which operators belong together ---------------------------------------------------------------------------------


def _fits(op: Operator, graph: Graph) -> bool:
    """Whether a region can hold the operator."""
    function = op.function
    images = op.inputs if function in (arithmetic.Add, joining.Cat) else op.inputs[:1]
    if not images or not all(map(_is_image, (*images, op.output))):
        return False
    wanted = [isinstance(v, Value) and v.requires_grad for v in op.inputs]
    if graph.loss is not None and tuple(wanted) != op.needs:
        return False  # forward keeps it off the tape: no gradient flows, though its inputs have one
    if function is conv.Conv2d:
        return parameters_are_float32(op) and not is_large_product(op)
    if function is norms.BatchNorm:
        return graph.loss is None and parameters_are_float32(op)
    if function is norms.BatchNormTraining:
        return graph.loss is not None and has_plain_statistics(op) and parameters_are_float32(op)
    if function is arithmetic.Add:
        return bool(op.inputs[0].shape == op.inputs[1].shape)
    if function is joining.Cat:
        return bool(op.attributes["dim"] == 1)
    return function in POOLS or function in activations.KINDS


def _is_image(x: Any) -> bool:
    return is_float32_value(x) and len(x.shape) in (3, 4) and math.prod(x.shape) > 0  # or of height 1, without it


def _grow(operators: list[Operator]) -> list[list[Operator]]:
    """Connected groups of operators, as large as can be without depending on themselves by way of what is outside."""
    groups: dict[int, list[Operator]] = {}  # by the id of each operator in it
    for op in operators:
        before = _before(op)
        near = {id(group): group for one in before if (group := groups.get(id(one))) is not None}
        if len(near) == 1 and all(id(one) in groups for one in before):
            (joined,) = near.values()  # most of all operators: what they read is made there
            joined.append(op)
            groups[id(op)] = joined
            continue
        joined = [op]
        for group in near.values():
            if not _depends_on_itself([*group, *joined], groups):
                joined = [*group, *joined]
        for one in joined:
            groups[id(one)] = joined
    place = {id(op): k for k, op in enumerate(operators)}
    each = {id(group): group for group in groups.values()}
    return [sorted(group, key=lambda op: place[id(op)]) for group in each.values()]


def _before(op: Operator) -> list[Operator]:
    """The operators that made its inputs."""
    return [v.producer for v in op.inputs if isinstance(v, Value) and v.producer is not None]


def _depends_on_itself(members: list[Operator], groups: dict[int, list[Operator]]) -> bool:
    """Whether a path leaves these operators and comes back, where each other group is passed through as a whole."""
    inside = {id(op) for op in members}
    seen: set[int] = set()
    todo = [one for op in members for one in _before(op) if id(one) not in inside]
    while todo:
        op = todo.pop()
        if id(op) in inside:
            return True
        if id(op) not in seen:
            group = groups.get(id(op), [op])
            seen.update(map(id, group))
            todo += [before for one in group for before in _before(one) if id(before) not in seen]
    return False


# ---- nodes -----------------------------------------------------------------------------------------------------------


def _region(graph: Graph, operators: list[Operator], most_sources: int) -> Region:
    """The operators as a region, whose nodes let running statistics follow in the operators' order."""
    region = _Lowering(graph, operators, most_sources).region()
    return region if _follows_in_order(region) else _Lowering(graph, operators, most_sources, apart=True).region()


def _follows_in_order(region: Region) -> bool:
    place = {id(op): k for k, op in enumerate(region.operators)}
    last: dict[int, int] = {}
    for op in (op for node in region.nodes for op in node.norms if op is not None):
        running = op.attributes.get("running")
        if running is not None and place[id(op)] < last.get(id(running.mean), -1):
            return False
        last[id(getattr(running, "mean", None))] = place[id(op)]
    return True


class _Term(NamedTuple):
    """One source of a join before it is a node: a convolution by itself, or any value."""

    value: Value
    conv: Operator | None = None
    norm: Operator | None = None


class _Lowering:
    """Makes nodes of operators; with `apart`, each batch norm is the end of a node of its own."""

    def __init__(self, graph: Graph, operators: list[Operator], most_sources: int, apart: bool = False) -> None:
        self.graph, self.operators, self.most_sources, self.apart = graph, list(operators), most_sources, apart
        self._members = list(operators)
        self._inside = {id(op) for op in operators}
        self._nodes: list[Node] = []
        self._numbers: dict[int, int] = {}  # of the nodes that stand for a value, by the value's id

    def region(self) -> Region:
        """The operators as a region."""
        for op in self._members:
            for value in op.inputs if op.function is joining.Cat else op.inputs[: op.function is conv.Conv2d]:
                self._number(value)
            if self._alone(op.output) is None:
                self._number(op.output)
        for number in self._numbers.values():
            node = self._nodes[number]
            if node.kind != "input" and self._is_read_outside(node.value):
                node.outside = self._view(node.value)
        region = Region(self.operators, self._nodes[0].outside, self.graph.results[0], self._nodes)
        region.output = region.outputs[0]
        return region

    def _alone(self, value: Value) -> Operator | None:
        """What makes the value, where it is in here and so is all that uses it: one operator, once."""
        op = value.producer
        if op is None or id(op) not in self._inside or self._is_read_outside(value) or len(value.consumers) != 1:
            return None
        return None if self.apart and op.function is norms.BatchNormTraining else op

    def _is_read_outside(self, value: Value) -> bool:
        return self.graph.is_result(value) or any(id(op) not in self._inside for op in value.consumers)

    def _view(self, value: Value) -> Value:
        """What other stages read of an output: where only a Reshape does, what it makes."""
        outside = [op for op in value.consumers if id(op) not in self._inside]
        if self.graph.is_result(value) or len(outside) != 1 or outside[0].function is not shaping.Reshape:
            return value
        self.operators.append(outside[0])
        return outside[0].output

    def _number(self, value: Value) -> int:
        """The node that stands for a value, which is made if there is none."""
        if id(value) not in self._numbers:
            op = value.producer
            if op is None or id(op) not in self._inside:
                node = self._input(value)
            elif op.function is joining.Cat:
                node = self._concat(value, [self._number(v) for v in op.inputs])
            else:
                node = self._join(value, op)
            self._numbers[id(value)] = self._append(node)
        return self._numbers[id(value)]

    def _append(self, node: Node) -> int:
        self._nodes.append(node)
        return len(self._nodes) - 1

    def _input(self, value: Value) -> Node:
        op, x = value.producer, self.graph.x
        if op is None or op.inputs[0] is not x or self._is_read_outside(value):
            return Node("input", value, outside=value)
        if op.function is norms.Normalize and x.dtype == np.uint8:
            self.operators.insert(0, op)
            return Node("input", value, operator=op, outside=x)
        if op.function is shaping.Reshape and x.dtype == np.float32:
            self.operators.insert(0, op)
            return Node("input", value, outside=x)
        return Node("input", value, outside=value)

    def _concat(self, value: Value, sources: list[int]) -> Node:
        while len(sources) > self.most_sources:
            sources = [self._append(Node("concat", value, sources[: self.most_sources])), *sources[self.most_sources :]]
        return Node("concat", value, sources)

    def _join(self, value: Value, op: Operator | None) -> Node:
        node = Node("join", value)
        of = value
        if op is not None and _commutes_with_maximum(op):  # an activation behind max-pooling does the same before it
            before = self._alone(op.inputs[0])
            if before is not None and before.function is pool.MaxPool2d:
                node.activation, node.pool, of = op, before, before.inputs[0]
                op = self._alone(of)
        if node.pool is None and op is not None and op.function in POOLS:
            node.pool, of = op, op.inputs[0]
            op = self._alone(of)
        if node.activation is None and op is not None and op.function in activations.KINDS:
            node.activation, of = op, op.inputs[0]
            op = self._alone(of)
        for term in self._terms(of, op):
            source = Node("conv", term.value, [self._number(term.conv.inputs[0])], term.conv) if term.conv else None
            node.sources.append(self._number(term.value) if source is None else self._append(source))
            node.norms.append(term.norm)
        return node

    def _terms(self, value: Value, op: Operator | None) -> list[_Term]:
        """What a value is the sum of, as far as one join can take it; `op` makes it, None for another node's."""
        if op is None:
            return [_Term(value)]
        if op.function is arithmetic.Add:
            both = [self._terms(v, self._alone(v)) for v in op.inputs]
            for k in (0, 1) if len(both[0]) >= len(both[1]) else (1, 0):
                if len(both[0]) + len(both[1]) > self.most_sources:
                    both[k] = [_Term(op.inputs[k])]
            return both[0] + both[1]
        if op.function in (norms.BatchNorm, norms.BatchNormTraining):
            before = self._alone(op.inputs[0])
            is_conv = before is not None and before.function is conv.Conv2d
            return [_Term(op.inputs[0], before if is_conv else None, op)]
        return [_Term(value, op if op.function is conv.Conv2d else None)]


def _commutes_with_maximum(op: Operator) -> bool:
    """Whether it is an activation that never falls."""
    if op.function in (activations.LeakyReLU, activations.ELU):
        return all(parameter > 0 for parameter in op.attributes.values())
    return op.function in (
        activations.ReLU, activations.ReLU6, activations.Sigmoid, activations.Softplus, activations.Tanh
    )  # fmt: skip
