"""Layers that exporters write as several operators, put together again: fused stages then take them."""

from __future__ import annotations

import math
from collections.abc import Callable

from fastnn.interop.onnx.file import Node
from fastnn.tensors import Array

__all__ = ["layers"]

DEEPEST = 4  # products within products


def layers(nodes: list[Node], arrays: dict[str, Array]) -> list[Node]:
    """The same graph with SiLU, Mish, hard swish, GELU and layer norm as one node each, where their last one was.

    What only those needed is left for the caller to remove.
    """
    graph = _Graph(nodes, arrays)
    return [next((found for match in _PATTERNS if (found := match(graph, node))), node) for node in nodes]


class _Graph:
    def __init__(self, nodes: list[Node], arrays: dict[str, Array]) -> None:
        self.maker = {name: node for node in nodes for name in node.outputs if name}
        self.arrays = arrays

    def number(self, name: str) -> float | None:
        """A constant of one entry."""
        array = self.arrays.get(name)
        return (
            float(array.reshape(-1)[0]) if array is not None and array.size == 1 and array.dtype.kind in "fi" else None
        )

    def made(self, name: str, operator: str) -> Node | None:
        """The node that makes a value, if it has this operator."""
        node = self.maker.get(name)
        return node if node is not None and node.operator == operator else None

    def factors(self, name: str, depth: int = 0) -> tuple[list[str], float]:
        """What a value is a product of: names, and the product of all numbers."""
        if (number := self.number(name)) is not None:
            return [], number
        node = self.maker.get(name)
        if node is None or depth > DEEPEST or node.operator not in ("Mul", "Div") or len(node.inputs) != 2:
            return [name], 1.0
        names, scale = self.factors(node.inputs[0], depth + 1)
        if node.operator == "Div":
            by = self.number(node.inputs[1])
            return (names, scale / by) if by else ([name], 1.0)
        more, other = self.factors(node.inputs[1], depth + 1)
        return names + more, scale * other

    def with_number(self, name: str, operator: str) -> tuple[str, float] | None:
        """The other input and the number of a node such as Add(x, 1)."""
        node = self.made(name, operator)
        if node is None or len(node.inputs) != 2:
            return None
        for x, c in (node.inputs, node.inputs[::-1]):
            if (number := self.number(c)) is not None:
                return x, number
        return None


def _gate(graph: _Graph, node: Node) -> Node | None:
    """x · g(x)."""
    if node.operator != "Mul" or len(node.inputs) != 2:
        return None
    names, scale = graph.factors(node.outputs[0])
    if len(names) != 2:
        return None
    for x, g in (names, names[::-1]):
        operator = _operator_of_gate(graph, x, g, scale)
        if operator:
            version = 20 if operator == "Gelu" else node.version
            return Node(operator, node.name, (x,), node.outputs, {}, version)
    return None


def _operator_of_gate(graph: _Graph, x: str, gate: str, scale: float) -> str:
    node = graph.maker.get(gate)
    if node is None or not node.inputs:
        return ""
    inner = node.inputs[0]
    if scale == 1 and node.operator == "Sigmoid" and inner == x:
        return "Swish"
    soft = graph.made(inner, "Softplus")
    if scale == 1 and node.operator == "Tanh" and soft is not None and soft.inputs[0] == x:
        return "Mish"
    if scale == 1 and node.operator == "HardSigmoid" and inner == x:
        alpha, beta = node.attributes.get("alpha", 0.2), node.attributes.get("beta", 0.5)
        return "HardSwish" if math.isclose(alpha, 1 / 6, rel_tol=1e-5) and beta == 0.5 else ""
    erf = graph.with_number(gate, "Add")  # (1 + erf(x / √2)) / 2
    if erf is not None and erf[1] == 1 and math.isclose(scale, 0.5) and (made := graph.made(erf[0], "Erf")):
        names, factor = graph.factors(made.inputs[0])
        return "Gelu" if names == [x] and math.isclose(factor, math.sqrt(0.5), rel_tol=1e-4) else ""
    return ""


def _layer_norm(graph: _Graph, node: Node) -> Node | None:
    """(x - mean) / sqrt(mean of its square + eps) · weight + bias along the last dimension."""
    if node.operator != "Add" or len(node.inputs) != 2:
        return None
    for scaled, bias in (node.inputs, node.inputs[::-1]):
        product = graph.made(scaled, "Mul")
        if product is None or len(product.inputs) != 2:
            continue
        for quotient, weight in (product.inputs, product.inputs[::-1]):
            found = _normalised(graph, quotient)
            vectors = [graph.arrays.get(name) for name in (weight, bias)]
            if found is not None and all(v is not None and v.ndim == 1 for v in vectors):
                attributes = {"axis": -1, "epsilon": found[1]}
                return Node("LayerNormalization", node.name, (found[0], weight, bias), node.outputs, attributes, 17)
    return None


def _normalised(graph: _Graph, name: str) -> tuple[str, float] | None:
    """x and eps of what is normalised along its last dimension, without weight and bias."""
    quotient = graph.made(name, "Div")
    root = None if quotient is None else graph.made(quotient.inputs[1], "Sqrt")
    shifted = None if root is None else graph.with_number(root.inputs[0], "Add")
    if quotient is None or shifted is None:
        return None
    centred, (variance, eps) = quotient.inputs[0], shifted
    square, less = _mean_of(graph, variance), graph.made(centred, "Sub")
    if square is None or less is None:
        return None
    power = graph.with_number(square, "Pow")
    twice = graph.made(square, "Mul")
    if power != (centred, 2.0) and (twice is None or set(twice.inputs) != {centred}):
        return None
    x = less.inputs[0]
    return (x, eps) if _mean_of(graph, less.inputs[1]) == x else None


def _mean_of(graph: _Graph, name: str) -> str | None:
    """What a value is the mean of, along the last dimension, which it keeps."""
    node = graph.made(name, "ReduceMean")
    if node is None or not node.attributes.get("keepdims", 1):
        return None
    axes = node.attributes.get("axes")
    if axes is None and len(node.inputs) > 1 and node.inputs[1] in graph.arrays:
        axes = graph.arrays[node.inputs[1]].tolist()
    return node.inputs[0] if axes == [-1] else None


_PATTERNS: tuple[Callable[[_Graph, Node], Node | None], ...] = (_gate, _layer_norm)
