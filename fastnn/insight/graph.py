"""The computational graph of a tensor: every operator with its value and its gradient, as text and as SVG."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastnn.errors import ArgumentError, GraphError, ShapeError
from fastnn.files import write_atomically
from fastnn.nn import Module
from fastnn.tape import Array, Node, computed, gradients
from fastnn.tensors import Tensor

__all__ = ["Graph", "GraphNode", "graph", "operator_name"]

SYMBOLS = {
    "Add": "+", "Sub": "−", "Mul": "×", "Div": "÷", "Pow": "**", "MatMul": "@",
}  # fmt: skip
PREFIX = {"operator": "t", "parameter": "p", "constant": "c"}  # of what has no name
SHOWN_WHOLE = 4  # entries of an array whose numbers are shown; of larger ones the shape is


@dataclass(frozen=True, eq=False)
class GraphNode:
    """One value of the graph.

    Attributes:
        name: as given; as the model calls a parameter; a constant with one entry by its number; others in their order
            t1, t2, ... (computed), p1, ... (parameters), c1, ... (constants).
        operator: what computed it: "+", "exp", "conv2d", ...; empty for a leaf.
        inputs: the nodes that it was computed from, in the operator's order.
        value: the array itself.
        gradient: of the graph's output with respect to it, of the same shape; None where none arrives.
        group: the layer in whose forward it was computed, or whose parameter it is ("0", "block.conv"); empty outside.
        kind: "operator", "parameter" (a leaf that asks for a gradient) or "constant".
    """

    name: str
    operator: str
    inputs: tuple[GraphNode, ...]
    value: Array
    gradient: Array | None
    group: str
    kind: str

    def __repr__(self) -> str:
        return f"GraphNode({self.name}: {self.operator or self.kind}, value {shown(self.value)})"


class Graph:
    """What `fnn.graph` gives: `nodes` in the order of computation, inputs first; print it, `save` it, look at `svg()`.

    A node is found by its name: ``g["w1"].gradient``. In a notebook it shows itself.
    """

    def __init__(self, nodes: list[GraphNode], titles: dict[str, str]) -> None:
        self.nodes = nodes
        self.titles = titles  # of the groups

    def __getitem__(self, name: str) -> GraphNode:
        for node in self.nodes:
            if node.name == name:
                return node
        raise ArgumentError(f"graph: expected one of {', '.join(n.name for n in self.nodes)}, got {name!r}")

    def __len__(self) -> int:
        return len(self.nodes)

    def __repr__(self) -> str:
        rows = [("", "operator", "of", "value", "gradient")]
        headings: dict[int, str] = {}
        group = ""
        for node in self.nodes:
            if node.kind == "constant" and node.name == _plain(node.value):
                continue  # it is named in the rows of those that use it
            if node.group != group and self.titles:
                headings[len(rows)] = self.titles.get(node.group, "")
            group = node.group
            inputs = ", ".join(i.name for i in node.inputs)
            gradient = "" if node.gradient is None else shown(node.gradient, gradient=True)
            rows.append((node.name, node.operator or node.kind, inputs, shown(node.value), gradient))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = []
        for i, row in enumerate(rows):
            if i in headings:
                lines += ["", headings[i]]
            cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
            lines.append("  ".join(cells).rstrip())
        return "\n".join(lines)

    def svg(self) -> str:
        """The graph as one SVG: computed from top to bottom; operators with value (blue) and gradient (orange)."""
        from fastnn.insight.drawing import draw

        return draw(self)

    _repr_svg_ = svg  # what notebooks ask for

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the SVG (``.svg``) or the text (``.txt``)."""
        suffix = Path(path).suffix
        if suffix not in (".svg", ".txt"):
            raise ArgumentError(f"graph: expected a file name that ends in .svg or .txt, got {os.fspath(path)!r}")
        write_atomically(path, (self.svg() if suffix == ".svg" else repr(self) + "\n").encode())


def graph(
    output: Tensor, model: Module | None = None, *, names: Mapping[str, Tensor] | None = None, gradient: Any = None
) -> Graph:
    """The graph that `output` was computed by, node by node, with values and gradients. `.grad` stays as it is.

    Args:
        output: a tensor on the tape; call graph before backward(), which frees the tape.
        model: gives parameters their names, and groups the operators by layer.
        names: what to call tensors, inner ones too.
        gradient: of the output, same shape; 1 if absent for one entry, and for more no gradients are shown without.

    Raises GraphError where nothing is recorded (no parameters, under no_grad, freed); ShapeError for a gradient of
    another shape; ArgumentError for names of what is no tensor.

    >>> import fastnn as fnn
    >>> w1, w0 = fnn.Tensor(-2.0, requires_grad=True), fnn.Tensor(1.0, requires_grad=True)
    >>> x = fnn.Tensor(0.5)
    >>> fnn.graph(1 + (w1 * x + w0).exp(), names={"w1": w1, "w0": w0, "x": x})
        operator   of      value  gradient
    w1  parameter          -2     0.5
    x   constant           0.5
    t1  ×          w1, x   -1     1
    w0  parameter          1      1
    t2  +          t1, w0  0      1
    t3  exp        t2      1      1
    t4  +          1, t3   2      1
    """
    if not isinstance(output, Tensor) or output.node is None:
        got = "one that no operator computed" if isinstance(output, Tensor) else type(output).__name__
        raise GraphError(f"graph: expected a tensor on the tape (not under no_grad, from parameters), got {got}")
    called = _names(names, model)
    modules = {} if model is None else {id(module): name for name, module in model.named_modules()}
    tape = computed(output)
    of_nodes, of_leaves = _gradients(output, gradient)
    made: dict[int, GraphNode] = {}  # by id of tensor or array: they live as long as the tape does
    titles: dict[str, str] = {}
    counts = {"operator": 0, "parameter": 0, "constant": 0}

    def add(x: Any, kind: str, group: str, operator: str = "", inputs: tuple[Any, ...] = ()) -> None:
        value = x.numpy() if isinstance(x, Tensor) else x
        name = called.get(id(x)) or (_plain(value) if kind == "constant" and value.size == 1 else "")
        if not name:
            counts[kind] += 1
            name = f"{PREFIX[kind]}{counts[kind]}"
        found = of_leaves.get(id(x)) if kind != "operator" else of_nodes.get(x.node.number)
        made[id(x)] = GraphNode(name, operator, tuple(made[id(i)] for i in inputs), value, found, group, kind)

    for tensor, node in tape:
        group = ""
        if model is not None and node.module is not None:
            group = modules.get(id(node.module), type(node.module).__name__) or type(model).__name__
            leaf = next(node.module.children(), None) is None
            title = repr(node.module) if leaf else type(node.module).__name__
            titles[group] = f"{group}  {title}" if modules.get(id(node.module)) else title
        inputs = tuple(x for x in node.inputs if isinstance(x, (Tensor, np.ndarray)))
        for x in inputs:
            if id(x) not in made:
                add(x, "parameter" if isinstance(x, Tensor) and x.requires_grad else "constant", group)
        add(tensor, "operator", group, operator_name(node), inputs)
    return Graph(list(made.values()), titles)


def operator_name(node: Node) -> str:
    """What users call an operator by: "+", "max_pool2d", "leaky_relu"."""
    function = node.function.__name__
    return SYMBOLS.get(function) or re.sub("(?<=[a-z])(?=[A-Z][a-z])", "_", function).lower()


def shown(array: Array, gradient: bool = False) -> str:
    """An array in a few characters: its numbers if they are few; else its shape, and of a gradient its norm."""
    if array.size <= SHOWN_WHOLE:
        return _plain(array)
    return f"norm {np.linalg.norm(array.astype(np.float64)):.3g}" if gradient else str(array.shape)


def _plain(array: Array) -> str:
    if array.size == 1:
        return f"{array.item():.5g}"
    return str([f"{entry:.3g}" for entry in array.ravel().tolist()]).replace("'", "")


def _names(names: Mapping[str, Tensor] | None, model: Module | None) -> dict[int, str]:
    called = {} if model is None else {id(p): name for name, p in model.named_parameters()}
    for name, tensor in (names or {}).items():
        if not isinstance(tensor, Tensor):
            raise ArgumentError(f"graph: expected a tensor as {name!r}, got {type(tensor).__name__}")
        called[id(tensor)] = name
    return called


def _gradients(output: Tensor, gradient: Any) -> tuple[dict[int, Array], dict[int, Array]]:
    assert output.node is not None
    if gradient is None and output.numel() != 1:
        return {}, {}
    gradient = gradient.numpy() if isinstance(gradient, Tensor) else gradient
    start = np.ones(output.shape, output.dtype) if gradient is None else np.asarray(gradient, output.dtype)
    if start.shape != output.shape:
        raise ShapeError(f"graph: expected a gradient of shape {output.shape}, got {start.shape}")
    return gradients(output.node, start)
