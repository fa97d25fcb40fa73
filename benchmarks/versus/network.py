"""A network as data: layers, sums and concatenations, from which each library builds its own model.

Layers carry the names and the argument order that PyTorch and fastnn share. `fastnn_model.py`, `torch_model.py`,
`jax_model.py` and `onnx_model.py` each make a model of it; weights are named by the position of their node, "3.weight".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

Shape = tuple[int, ...]  # of one image or row, without the batch

JOINS = ("Add", "Cat")  # of results: their sum, or their channels one after the other
ACTIVATIONS = ("ReLU", "LeakyReLU", "ELU", "Sigmoid", "Tanh", "GELU", "SiLU")
WEIGHTED = ("Conv2d", "Linear")
LOSSES = ("CrossEntropyLoss", "MSELoss", "PolicyValueLoss")


@dataclass(frozen=True)
class Node:
    kind: str  # a layer of torch.nn and fastnn.nn, or one of JOINS
    inputs: tuple[int, ...]  # the results that it takes: 0 is the network's input, k + 1 the result of node k
    args: tuple[Any, ...] = ()
    options: tuple[tuple[str, Any], ...] = ()

    def build(self, library: Any) -> Any:
        """Returns the layer of this name in a module such as torch.nn."""
        return getattr(library, self.kind)(*self.args, **dict(self.options))

    def option(self, name: str, default: Any) -> Any:
        return dict(self.options).get(name, default)

    def pair(self, name: str, default: Any) -> tuple[int, int]:
        """Returns an option that is one number or two as two; `kernel_size` is the argument of that place."""
        if name == "kernel_size":
            return pair(self.args[2 if self.kind == "Conv2d" else 0])
        return pair(self.option(name, default))


@dataclass(frozen=True)
class Network:
    """Nodes in an order in which they can run; the last one's result is the network's."""

    shape: Shape
    nodes: tuple[Node, ...]
    images: str = ""  # which images of feed.py it takes; random numbers where it takes none
    loss: str = "CrossEntropyLoss"
    optimizer: tuple[str, tuple[tuple[str, Any], ...]] = ("Adam", (("lr", 1e-4),))

    @cached_property
    def shapes(self) -> tuple[Shape, ...]:
        """The shape of the input and of each node's result."""
        shapes = [self.shape]
        for node in self.nodes:
            shapes.append(_shape(node, [shapes[i] for i in node.inputs]))
        return tuple(shapes)

    @property
    def outputs(self) -> int:
        return self.shapes[-1][0]

    @property
    def is_chain(self) -> bool:
        """Whether each node reads the one before, as in a Sequential."""
        return all(node.inputs == (index,) for index, node in enumerate(self.nodes))

    @cached_property
    def finished(self) -> tuple[tuple[int, ...], ...]:
        """The results that nobody needs once a node has run, node by node."""
        last = {i: index for index, node in enumerate(self.nodes) for i in node.inputs}
        return tuple(tuple(i for i, end in last.items() if end == index) for index in range(len(self.nodes)))

    def has(self, *kinds: str) -> bool:
        return any(node.kind in kinds for node in self.nodes)

    def without_dropout(self) -> Network:
        """The same network with dropout of probability 0: what it computes does not depend on random numbers."""
        nodes = tuple(replace(node, args=(0.0,)) if node.kind == "Dropout" else node for node in self.nodes)
        return replace(self, nodes=nodes)

    @cached_property
    def step_flops(self) -> float:
        """Multiplications and additions in one image's training step, in convolutions and linear layers.

        Forward, gradient of the weights and, where there are weights before the layer, gradient of its input.
        """
        total, trained = 0.0, [False]
        for index, node in enumerate(self.nodes):
            before = any(trained[i] for i in node.inputs)
            trained.append(before or node.kind in WEIGHTED)
            total += 2.0 * self._products(index) * (3 if before else 2)
        return total

    def _products(self, index: int) -> int:
        node, output = self.nodes[index], self.shapes[index + 1]
        if node.kind == "Conv2d":
            window = node.pair("kernel_size", None)
            return math.prod(output) * node.args[0] // node.option("groups", 1) * window[0] * window[1]
        return math.prod(node.args[:2]) if node.kind == "Linear" else 0

    def as_json(self) -> dict[str, Any]:
        nodes = [[node.kind, node.inputs, node.args, dict(node.options)] for node in self.nodes]
        name, options = self.optimizer
        return {**vars_of(self), "nodes": nodes, "optimizer": [name, dict(options)]}

    @classmethod
    def from_json(cls, read: dict[str, Any]) -> Network:
        nodes = tuple(
            Node(kind, tuple(inputs), _tuples(args), tuple((name, _tuples(value)) for name, value in options.items()))
            for kind, inputs, args, options in read["nodes"]
        )
        name, options = read["optimizer"]
        optimizer = name, tuple((key, _tuples(value)) for key, value in options.items())
        return cls(tuple(read["shape"]), nodes, read["images"], read["loss"], optimizer)

    def __str__(self) -> str:
        """One line: the input's shape, then node by node; a sum or concatenation with what it goes back to."""
        words = []
        for index, node in enumerate(self.nodes):
            branch = f"[{index - node.inputs[0]} back] " if node.inputs[0] != index else ""
            words.append(branch + _word(node, index))
        return f"{by(self.shape)}: {' '.join(filter(None, words))}"


def evaluate(network: Network, x: Any, apply: Callable[[int, Node, list[Any]], Any]) -> Any:
    """Runs the network: `apply(index, node, inputs)` gives each node's result. Forgets results that are not needed."""
    results = {0: x}
    for index, (node, finished) in enumerate(zip(network.nodes, network.finished, strict=True)):
        results[index + 1] = apply(index, node, [results[i] for i in node.inputs])
        for i in finished:
            del results[i]
    return results[len(network.nodes)]


def forward_of(network: Network, cat: Callable[[Any, int], Any]) -> Callable[[Any, Any], Any]:
    """Returns forward(self, x) of a module whose layers are self.layer0, self.layer1, ...

    It is compiled from the lines that one would write by hand, so that no library has to look through anything else.
    """
    lines = ["def forward(self, x0):"]
    for index, (node, finished) in enumerate(zip(network.nodes, network.finished, strict=True)):
        inputs = [f"x{i}" for i in node.inputs]
        joined = {"Add": " + ".join(inputs), "Cat": f"cat(({', '.join(inputs)}), 1)"}
        lines.append(f"    x{index + 1} = {joined.get(node.kind, f'self.layer{index}({inputs[0]})')}")
        lines += [f"    del x{i}" for i in finished]
    space: dict[str, Any] = {"cat": cat}
    exec("\n".join([*lines, f"    return x{len(network.nodes)}"]), space)
    forward: Callable[[Any, Any], Any] = space["forward"]
    return forward


def named(network: Network, weights: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the weights by the names that they have in such a module, or in a Sequential."""
    return dict(weights) if network.is_chain else {f"layer{name}": value for name, value in weights.items()}


class Builder:
    """Writes a network down layer by layer: input sizes follow from the shapes. Methods return the builder itself."""

    def __init__(self, shape: Shape) -> None:
        self.nodes: list[Node] = []
        self.shapes = [shape]
        self.last = 0  # the result that the next layer takes

    @property
    def shape(self) -> Shape:
        return self.shapes[self.last]

    def go(self, result: int) -> Builder:
        """The next layer takes this result."""
        self.last = result
        return self

    def layer(self, kind: str, *args: Any, **options: Any) -> Builder:
        return self._add(Node(kind, (self.last,), args, tuple(options.items())))

    def conv(self, channels: int, kernel_size: Any, **options: Any) -> Builder:
        return self.layer("Conv2d", self.shape[0], channels, kernel_size, **options)

    def linear(self, features: int, **options: Any) -> Builder:
        return self.layer("Linear", self.shape[0], features, **options)

    def norm(self) -> Builder:
        return self.layer("BatchNorm2d" if len(self.shape) == 3 else "BatchNorm1d", self.shape[0])

    def conv_norm(self, channels: int, kernel_size: Any, **options: Any) -> Builder:
        return self.conv(channels, kernel_size, bias=False, **options).norm()

    def plus(self, other: int) -> Builder:
        return self._add(Node("Add", (self.last, other)))

    def cat(self, other: int) -> Builder:
        return self._add(Node("Cat", (self.last, other)))

    def build(self, **fields: Any) -> Network:
        return Network(self.shapes[0], tuple(self.nodes), **fields)

    def _add(self, node: Node) -> Builder:
        self.shapes.append(_shape(node, [self.shapes[i] for i in node.inputs]))
        self.nodes.append(node)
        return self.go(len(self.nodes))


# ---- helpers ---------------------------------------------------------------------------------------------------------


def pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def by(sizes: Iterable[int]) -> str:
    return "×".join(map(str, sizes))


def vars_of(network: Network) -> dict[str, Any]:
    """The fields that are numbers or text."""
    return {"shape": network.shape, "images": network.images, "loss": network.loss}


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _shape(node: Node, given: list[Shape]) -> Shape:
    shape = given[0]
    if node.kind == "Conv2d":
        return (node.args[1], *_windows(node, shape, stride=1, dilation=node.pair("dilation", 1)))
    if node.kind in ("MaxPool2d", "AvgPool2d"):
        return (shape[0], *_windows(node, shape, stride=node.args[0], dilation=(1, 1)))
    if node.kind == "AdaptiveAvgPool2d":
        return shape[0], 1, 1
    if node.kind == "Linear":
        return (node.args[1],)
    if node.kind == "Flatten":
        return (math.prod(shape),)
    if node.kind == "Cat":
        return (sum(each[0] for each in given), *shape[1:])
    return shape


def _windows(node: Node, shape: Shape, stride: Any, dilation: tuple[int, int]) -> list[int]:
    sizes = zip(
        shape[1:], node.pair("kernel_size", None), node.pair("stride", stride), node.pair("padding", 0), dilation,
        strict=True,
    )  # fmt: skip
    return [(size + 2 * p - d * (k - 1) - 1) // s + 1 for size, k, s, p, d in sizes]


def _word(node: Node, index: int) -> str:
    """A node in few letters: conv32 3×3/2, dw 3×3, fc10, max2×2, +[4 back]."""
    if node.kind == "Conv2d":
        depthwise = node.option("groups", 1) == node.args[0] > 1
        name = "dw" if depthwise else f"conv{node.args[1]}"
        stride, dilation = node.pair("stride", 1), node.pair("dilation", 1)
        steps = f"/{stride[0]}" if stride != (1, 1) else ""
        wide = f" dilated {dilation[0]}" if dilation != (1, 1) else ""
        grouped = f" groups {node.option('groups', 1)}" if node.option("groups", 1) > 1 and not depthwise else ""
        return f"{name} {by(node.pair('kernel_size', None))}{steps}{wide}{grouped}"
    if node.kind == "Linear":
        return f"fc{node.args[1]}"
    if node.kind in ("MaxPool2d", "AvgPool2d"):
        window, stride = node.pair("kernel_size", None), node.pair("stride", node.args[0])
        steps = f"/{stride[0]}" if stride != window else ""
        return f"{node.kind[:3].lower()}{by(window)}{steps}"
    if node.kind in JOINS:
        sign = "+" if node.kind == "Add" else "cat "
        return f"{sign}[{index + 1 - node.inputs[1]} back]"
    names = {"BatchNorm2d": "norm", "BatchNorm1d": "norm", "AdaptiveAvgPool2d": "mean", "Flatten": ""}
    return f"dropout {node.args[0]:g}" if node.kind == "Dropout" else names.get(node.kind, node.kind)
