"""What is done to a graph before it runs: what its arrays are, names for them, constants, dense layers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np

from fastnn.errors import DataError
from fastnn.interop.onnx.file import Contents, Node
from fastnn.interop.onnx.operators import OPERATORS
from fastnn.interop.onnx.run import Failure, run_node
from fastnn.nn import Module
from fastnn.tensors import Array

__all__ = [
    "DENSE",
    "check",
    "dense_layers",
    "fold",
    "layers_of_training",
    "learned",
    "needed",
    "python_names",
    "statistics",
    "with_weights",
]

# The inputs of operators that a training learns where the file holds them. Those of Sub and Div, which usually scale
# the input, are not among them, nor are single numbers.
_WEIGHTS = {
    "Conv": (1, 2), "ConvTranspose": (1, 2), "Gemm": (0, 1, 2), "MatMul": (0, 1), "Add": (0, 1), "Mul": (0, 1),
    "Sum": (0, 1), "PRelu": (1,), "BatchNormalization": (1, 2), "InstanceNormalization": (1, 2),
    "LayerNormalization": (1, 2), "GroupNormalization": (1, 2), "RMSNormalization": (1,), "RNN": (1, 2, 3, 5),
    "GRU": (1, 2, 3, 5), "LSTM": (1, 2, 3, 5, 6, 7), "Gather": (0,), "Einsum": (0, 1, 2), "Concat": range(64),
    "Expand": (0,), "ai.onnx.ml.LinearClassifier": (1, 2), "ai.onnx.ml.LinearRegressor": (1, 2),
}  # fmt: skip
# Operators through which a weight comes to its layer: what they make is learned as what they are made of.
_PASSING = {
    "Identity": (0,), "Transpose": (0,), "Reshape": (0,), "Squeeze": (0,), "Unsqueeze": (0,), "Flatten": (0,),
    "Cast": (0,), "Slice": (0,), "Split": (0,), "Expand": (0,), "Tile": (0,), "Concat": range(64), "Mul": (0, 1),
    "Add": (0, 1), "Sub": (0, 1), "Div": (0, 1), "Sqrt": (0,), "ReduceL2": (0,), "ReduceSum": (0,), "Pow": (0,),
}  # fmt: skip
DENSE = "Gemm"
_PRODUCTS = ("MatMul", "Gemm", "Conv", "ConvTranspose")
_TAKEN = ("inputs", "outputs")  # attributes of the model itself; its others begin with an underscore
_NOT_FOLDED = ("Random", "Bernoulli", "Dropout", "If")  # beginnings of names
MOST_FOLDED = 1 << 13  # entries of the inputs of a node that is computed beforehand
MOST_KEPT = 1 << 24  # entries of all that is


def subgraphs(node: Node) -> Iterable[Any]:
    """The branches of a node."""
    return [each for each in node.attributes.values() if isinstance(each, list) and each and type(each[0]) is list]


def reads_of(node: Node) -> set[str]:
    """All names that a node reads, those of its branches too."""
    names = set(node.inputs)
    for nodes, _, outputs in subgraphs(node):
        names.update(outputs, *(reads_of(inner) for inner in nodes))
    return names - {""}


def needed(nodes: list[Node], outputs: Iterable[str]) -> list[Node]:
    """The nodes that the outputs depend on."""
    wanted, kept = set(outputs), []
    for node in reversed(nodes):
        if wanted.intersection(node.outputs):
            kept.append(node)
            wanted |= reads_of(node)
    return kept[::-1]


def layers_of_training(nodes: list[Node], outputs: Iterable[str]) -> list[Node]:
    """The nodes, where a batch norm of a file for training is a layer as any other: by its model's mode.

    Such a file names the running statistics as they are afterwards, for whoever runs it to keep; a layer keeps them
    itself. One whose file makes use of them stays.
    """
    used = set(outputs).union(*map(reads_of, nodes))
    return [
        node._replace(outputs=node.outputs[:1])
        if node.operator == "BatchNormalization" and not used.intersection(node.outputs[1:])
        else node
        for node in nodes
    ]


def check(nodes: Iterable[Node]) -> None:
    """DataError that names all operators which fastnn does not have."""
    found: dict[str, str] = {}

    def look(some: Iterable[Node]) -> None:
        for node in some:
            if node.operator not in OPERATORS and node.operator != "If":
                found.setdefault(node.operator, node.name)
            for branch in subgraphs(node):
                look(branch[0])

    look(nodes)
    if found:
        listed = ", ".join(f"{operator} (node {name!r})" for operator, name in found.items())
        raise DataError(f"fastnn has no operator for {listed}")


def with_weights(nodes: list[Node], arrays: dict[str, Array]) -> list[Node]:
    """The nodes, where those of linear models have their coefficients as inputs instead of attributes."""
    found = []
    for node in nodes:
        if node.operator in ("ai.onnx.ml.LinearClassifier", "ai.onnx.ml.LinearRegressor"):
            attributes = dict(node.attributes)
            weights = np.asarray(attributes.pop("coefficients", []), np.float32)
            bias = np.asarray(attributes.pop("intercepts", None) or [], np.float32)
            labels = attributes.get("classlabels_ints") or attributes.get("classlabels_strings") or []
            rows = bias.size or attributes.get("targets", 0) or len(labels) or 1
            if not weights.size or weights.size % rows:
                raise DataError(f"{node.operator} {node.name!r} has {weights.size} coefficients for {rows} outputs")
            names = [f"{node.name or 'linear'}.{part}" for part in ("coefficients", "intercepts")][
                : 1 + bool(bias.size)
            ]
            arrays.update(zip(names, (weights.reshape(rows, -1), bias), strict=False))
            node = node._replace(inputs=(node.inputs[0], *names), attributes=attributes)
        found.append(node)
    return found


def learned(contents: Contents) -> set[str]:
    """The names of the arrays that a training learns: floats at the places of weights, but no masks, no single factors,
    and none that fill a shape.

    A single number that is added is one only behind a product, as the bias of a layer with one output.
    """
    depends = {name for name, _, _ in contents.inputs}
    maker: dict[str, str] = {}
    for node in contents.nodes:
        maker.update(dict.fromkeys(node.outputs, node.operator))
        if depends & reads_of(node):
            depends.update(node.outputs)

    def single(node: Node, name: str) -> bool:
        if node.operator not in ("Add", "Mul", "Sum", "Expand") or name not in contents.arrays:
            return False
        if contents.arrays[name].size > 1:
            return False
        return node.operator in ("Mul", "Expand") or not any(maker.get(other) in _PRODUCTS for other in node.inputs)

    wanted: set[str] = set()
    for node in reversed(contents.nodes):
        places: Iterable[int] = ()
        if depends.intersection(node.outputs):
            places = _WEIGHTS.get(node.operator, ())
        elif wanted.intersection(node.outputs):
            places = _PASSING.get(node.operator, ())
        at = [node.inputs[i] for i in places if i < len(node.inputs)]
        wanted.update(name for name in at if not single(node, name))
    return {name for name in wanted & set(contents.arrays) if _is_weight(contents.arrays[name])}


def _is_weight(array: Array) -> bool:
    """Whether it is an array of floats and no mask, whose entries are infinite or as good as that."""
    if array.dtype.kind != "f" or not array.ndim or not array.size:
        return False
    return bool(np.isfinite(array).all()) and float(np.abs(array).max()) < 1e30


def statistics(nodes: Iterable[Node]) -> set[str]:
    """The names of running means and variances."""
    return {name for node in nodes if node.operator == "BatchNormalization" for name in node.inputs[3:5]}


def fold(nodes: list[Node], arrays: dict[str, Array], kept: set[str]) -> list[Node]:
    """The nodes that remain when what follows from constants alone has become constant; `kept` are not such."""
    rest, entries = [], 0
    for node in nodes:
        given = [arrays.get(name) if name else None for name in node.inputs]
        whole = all(not name or (name in arrays and name not in kept) for name in node.inputs)
        few = sum(each.size for each in given if each is not None) <= MOST_FOLDED and entries <= MOST_KEPT
        if (
            not whole
            or not few
            or node.operator.startswith(("Random", "Bernoulli", "Dropout"))
            or node.operator == "If"
        ):
            rest.append(node)
            continue
        try:
            made = run_node(node, given)
        except Failure as error:
            raise DataError(error.args[0]) from error
        for name, value in zip(node.outputs, made, strict=False):
            arrays[name] = np.asarray(value)
            entries += arrays[name].size
    return rest


def dense_layers(nodes: list[Node], arrays: dict[str, Array], weights: set[str], outputs: set[str]) -> list[Node]:
    """Products with a weight, and the bias added behind, as one Gemm whose weight is (out, in), as fastnn's is."""
    uses = Counter(name for node in nodes for name in reads_of(node))
    reader = {name: node for node in nodes for name in node.inputs}
    made: list[Node] = []
    gone: set[str] = set()  # by their first output
    for node in nodes:
        if node.outputs and node.outputs[0] in gone:
            continue
        x, w, *c = (*node.inputs, "", "")[:3]
        if not _is_product(node) or w not in weights or x in weights or uses[w] != 1 or arrays[w].ndim != 2:
            made.append(node)
            continue
        arrays[w] = np.ascontiguousarray(arrays[w].T)
        bias, out = c[0], node.outputs[0]
        after = reader.get(out)
        if not bias and after is not None and after.operator == "Add" and uses[out] == 1 and out not in outputs:
            (other,) = [name for name in after.inputs if name != out] or [""]
            rows = arrays[w].shape[0]
            if other in weights and (
                arrays[other].shape == (rows,) or (arrays[other].shape == (1, rows) and uses[other] == 1)
            ):
                arrays[other], bias = arrays[other].reshape(rows), other
                gone.add(after.outputs[0])
                out = after.outputs[0]
        inputs = (x, w, bias) if bias else (x, w)
        made.append(Node(DENSE, node.name, inputs, (out,), {"transB": 1}, node.version))
    return made


def _is_product(node: Node) -> bool:
    if node.operator == "MatMul":
        return len(node.inputs) == 2
    plain = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0}
    return node.operator == "Gemm" and all(node.attributes.get(name, value) == value for name, value in plain.items())


# ---- names -----------------------------------------------------------------------------------------------------------


def python_names(names: Iterable[str]) -> dict[str, str]:
    """Names of attributes, dotted where the file's are: "/layer1/conv.weight" is layer1.conv.weight."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        parts = [re.sub(r"\W", "_", part).lstrip("_") or "value" for part in re.split(r"[./:]+", name) if part] or [
            "value"
        ]
        parts = [f"{part}_" if hasattr(Module, part) or part in _TAKEN else part for part in parts]
        for path in (".".join(parts), "_".join(parts), *(f"{'_'.join(parts)}_{k}" for k in range(len(taken) + 1))):
            above = {path[:i] for i, letter in enumerate(path) if letter == "."}
            if path not in taken and not above & taken and not any(each.startswith(path + ".") for each in taken):
                break
        taken.add(path)
        found[name] = path
    return found
