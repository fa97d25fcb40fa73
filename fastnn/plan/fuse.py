"""The fuser: a graph of operators becomes a list of stages, each run by one kernel where there is one for it.

    Chain         [Normalize] (Conv2d [BatchNorm] [activation] [pooling])+ [Reshape], or pooling before activation
    Dense         [Normalize] [Reshape] Linear [BatchNorm, of a model that never changes] [activation]
    Region        convolutions with whatever lies between them, see regions.py
    Loss          the loss, from the plan's own target
    Rows          Dense+ [Loss]: a small network
    Single        any other operator, by its own kernels

What is fused into one stage is used by nothing else: a value that two operators need stays a value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastnn.ops import activations, conv, dense, loss, norms, pool, shaping
from fastnn.plan.order import in_order
from fastnn.plan.trace import Graph, Operator, Value

__all__ = [
    "FUSIONS", "LOSSES", "POOLINGS", "Chain", "ChainLayer", "Dense", "Loss", "Rows", "Single", "Stage",
    "activation_numbers", "fuse",
]  # fmt: skip

FUSIONS = (  # what compile's `disable` may name
    "region", "chain", "dense", "rows", "cross_entropy", "operators", "update", "winograd", "sparse",
)  # fmt: skip
POOLINGS = (None, pool.MaxPool2d, pool.AvgPool2d, pool.GlobalAvgPool2d)  # by their numbers in kernels/parts/kinds.h
_FLOAT32 = np.dtype(np.float32)
LOSSES = {  # their names among the kernels
    loss.CrossEntropy: "cross_entropy",
    loss.NLL: "nll",
    loss.BCE: "bce",
    loss.BCEWithLogits: "bce_with_logits",
    loss.MSE: "mse",
    loss.Huber: "huber",
    loss.SmoothL1: "smooth_l1",
}


@dataclass(eq=False)
class Stage:
    """Operators that run as one; `input` is the first one's first input."""

    operators: list[Operator]
    input: Any  # a Value, but for a Single, which may begin with something else, or nothing
    output: Value

    @property
    def inputs(self) -> list[Any]:
        return [self.input]

    @property
    def outputs(self) -> list[Value]:
        return [self.output]


class Single(Stage):
    """One operator, run by itself."""


class Loss(Stage):
    """A loss of the graph's own target, loss and gradient in one pass."""


@dataclass(eq=False)
class ChainLayer:
    """A convolution and what follows it. All but the convolution may be None."""

    conv: Operator
    norm: Operator | None = None
    activation: Operator | None = None
    pool: Operator | None = None
    pool_first: bool = False

    @property
    def operators(self) -> list[Operator]:
        last = (self.pool, self.activation) if self.pool_first else (self.activation, self.pool)
        return [op for op in (self.conv, self.norm, *last) if op is not None]

    def shorter(self) -> ChainLayer | None:
        """The layer without its last operator; None where only the convolution is left."""
        *rest, last = self.operators
        norm, activation, pool = (op if op in rest else None for op in (self.norm, self.activation, self.pool))
        return ChainLayer(self.conv, norm, activation, pool) if last is not self.conv else None


@dataclass(eq=False)
class Chain(Stage):
    layers: list[ChainLayer] = field(default_factory=list)
    normalize: Operator | None = None  # of uint8 images, by a table


@dataclass(eq=False)
class Dense(Stage):
    linear: Operator
    norm: Operator | None = None  # by running statistics, folded into the weights
    activation: Operator | None = None
    normalize: Operator | None = None


@dataclass(eq=False)
class Rows(Stage):
    layers: list[Dense]
    loss: Loss | None = None

    @property
    def outputs(self) -> list[Value]:
        return [self.layers[-1].output, *([] if self.loss is None else [self.output])]


def activation_numbers(op: Operator | None) -> dict[str, Any]:
    """Returns an activation's number among the kernels', 0 without one, and its parameter."""
    if op is None:
        return {"activation": 0, "parameter": 0.0}
    (parameter,) = op.attributes.values() or (0.0,)  # negative_slope or alpha
    return {"activation": activations.KINDS[op.function], "parameter": parameter}


def fuse(
    graph: Graph,
    disable: Container[str],
    supported: Callable[..., bool],
    regions: Iterable[Stage],
    small: Callable[[list[Dense]], bool],
    frozen: bool,
) -> list[Stage]:
    """Stages in an order in which they can run.

    `supported` says whether there is a kernel for a chain of layers, and whether a `fast` one, `small` whether dense
    layers are a small network, `frozen` whether the model never changes. Of `regions`, those that are a plain chain are
    run as one: it is faster.
    """
    fuser = _Fuser(graph, disable, supported, frozen)
    stages: list[Stage] = [region for region in regions if not fuser.is_chain(region)]
    fuser.claimed.update(id(op) for stage in stages for op in stage.operators)
    for op in graph.operators:
        if id(op) not in fuser.claimed:
            stages.append(fuser.stage_from(op))
            fuser.claimed.update(map(id, stages[-1].operators))
    stages = in_order(graph, stages)
    return stages if "rows" in disable else _with_small_networks(graph, stages, small)


def _with_small_networks(graph: Graph, stages: list[Stage], small: Callable[[list[Dense]], bool]) -> list[Stage]:
    """The same stages, but of dense layers one after the other as many as make a small network in one."""
    follows = {id(stage.input): stage for stage in stages if isinstance(stage, (Dense, Loss))}
    placed: dict[int, Stage | None] = {}  # instead of the stages with these ids
    for stage in stages:
        if not isinstance(stage, Dense) or id(stage) in placed:
            continue
        run, after = [stage], follows.get(id(stage.output))
        while isinstance(after, Dense) and _is_for_one(run[-1].output, graph):
            run.append(after)
            after = follows.get(id(after.output))
        placed.update((id(one), one) for one in run)
        loss_of = after if isinstance(after, Loss) and len(run[-1].output.consumers) == 1 else None
        while run:
            windows = (run[i : i + n] for n in range(len(run), 0, -1) for i in range(len(run) - n, -1, -1))
            layers = next(filter(small, windows), None)
            if layers is None:
                break
            ends = loss_of if layers[-1] is run[-1] else None
            parts: list[Stage] = [*layers, *([ends] if ends else [])]
            placed.update((id(part), None) for part in parts)
            operators = [op for part in parts for op in part.operators]
            placed[id(layers[0])] = Rows(operators, layers[0].input, parts[-1].output, layers, ends)
            run, loss_of = run[: run.index(layers[0])], None
    return [new for stage in stages if (new := placed.get(id(stage), stage)) is not None]


def _is_for_one(value: Value, graph: Graph) -> bool:
    """Whether one stage alone sees a value."""
    return len(value.consumers) == 1 and not graph.is_result(value) and value is not graph.loss


class _Fuser:
    def __init__(self, graph: Graph, disable: Container[str], supported: Callable[..., bool], frozen: bool) -> None:
        self.graph, self.disable, self.supported, self.frozen = graph, disable, supported, frozen
        self.claimed: set[int] = set()  # ids of operators that belong to a stage

    def is_chain(self, stage: Stage) -> bool:
        """Whether a chain does all that this stage does, and faster: in inference none with batch norm is, and none of
        sequences, images of one row.
        """
        chain = None if "chain" in self.disable else self._chain(stage.operators[0])
        if chain is None or (self.graph.loss is None and any(layer.norm for layer in chain.layers)):
            return False
        if len(chain.layers[0].conv.output.shape) == 3:
            return False
        all_of_it = {id(op) for op in stage.operators} <= {id(op) for op in chain.operators}
        return all_of_it and self.supported(chain.layers, fast=True)

    def stage_from(self, op: Operator) -> Stage:
        """The longest stage that begins with this operator."""
        if "chain" not in self.disable and (chain := self._chain(op)):
            return chain
        if "dense" not in self.disable and (layer := self._dense(op)):
            return layer
        if "cross_entropy" not in self.disable and self._is_loss(op):
            return Loss([op], op.inputs[0], op.output)
        return Single([op], op.inputs[0] if op.inputs else None, op.output)

    # ---- which stages there are ----

    def _chain(self, first: Operator) -> Chain | None:
        normalize = self._folded(first)
        op = self._next(first) if normalize else first
        layers: list[ChainLayer] = []
        while op is not None and _is_plain_conv(op):
            layer, op = self._layer(op)
            layers.append(layer)
        while layers and not (self.supported(layers) and all(map(_is_float32, layers))):
            last = layers.pop().shorter()
            if last is not None:
                layers.append(last)
        if not layers:
            return None
        operators = [op for layer in layers for op in layer.operators]
        flat = self._next(operators[-1])
        if flat is not None and flat.function is shaping.Reshape and flat.output is not self.graph.loss:
            operators.append(flat)
        if normalize:
            operators.insert(0, normalize)
        return Chain(operators, operators[0].inputs[0], operators[-1].output, layers, normalize)

    def _layer(self, op: Operator) -> tuple[ChainLayer, Operator | None]:
        """One layer of a chain, and the operator that follows it."""
        layer, after = ChainLayer(op), self._next(op)
        if after is not None and self._is_plain_norm(after):
            layer.norm, after = after, self._next(after)
        for _ in range(2):
            if after is not None and layer.activation is None and after.function in activations.KINDS:
                layer.activation, after = after, self._next(after)
            elif after is not None and layer.pool is None and after.function in POOLINGS:
                layer.pool, layer.pool_first, after = after, layer.activation is None, self._next(after)
        return layer, after

    def _is_plain_norm(self, op: Operator) -> bool:
        """Batch norm by the batch in training, by running statistics in inference; no average over all batches."""
        if self.graph.loss is None:
            return op.function is norms.BatchNorm
        return op.function is norms.BatchNormTraining and has_plain_statistics(op)

    def _dense(self, first: Operator) -> Dense | None:
        op: Operator | None = first
        operators: list[Operator] = []
        normalize = self._folded(first)
        if normalize:
            operators.append(first)
            op = self._next(first)
        if op is None:
            return None
        if operators or (op.inputs and op.inputs[0] is self.graph.x):
            while op is not None and op.function is shaping.Reshape and op.output.shape[:1] == op.inputs[0].shape[:1]:
                operators.append(op)
                op = self._next(op)
        if op is None or op.function is not dense.Linear or not parameters_are_float32(op):
            return None
        if not is_float32_value(op.inputs[0]) or not math.prod(op.output.shape) or not op.inputs[0].shape[1]:
            return None
        operators.append(op)
        after, normed = self._next(op), None
        if self.frozen and after is not None and after.function is norms.BatchNorm and parameters_are_float32(after):
            operators.append(after)
            after, normed = self._next(after), after
        activation = after if after is not None and after.function in activations.KINDS else None
        if activation is not None:
            operators.append(activation)
        return Dense(operators, operators[0].inputs[0], operators[-1].output, op, normed, activation, normalize)

    def _is_loss(self, op: Operator) -> bool:
        return (
            op.function in LOSSES
            and op.output is self.graph.loss
            and not op.output.consumers
            and op.inputs[1] is self.graph.y
            and self.graph.y is not None
            and self.graph.y.dtype in (np.int64, _FLOAT32)
            and is_float32_value(op.inputs[0])
            and op.attributes["reduction"] != "none"
            and math.prod(op.inputs[0].shape) > 0
        )

    # ---- how operators hang together ----

    def _next(self, op: Operator) -> Operator | None:
        """The operator that alone uses what this one makes, as its first input."""
        value = op.output
        if len(value.consumers) != 1 or self.graph.is_result(value) or value is self.graph.loss:
            return None
        after = value.consumers[0]
        return after if after.inputs[0] is value and id(after) not in self.claimed else None

    def _folded(self, op: Operator) -> Operator | None:
        """A Normalize of the plan's own uint8 images, which the next stage can read through a table."""
        folds = op.function is norms.Normalize and op.inputs[0] is self.graph.x and self.graph.x.dtype == np.uint8
        return op if folds and op.output.dtype == _FLOAT32 else None


def _is_plain_conv(op: Operator) -> bool:
    plain = {"stride": (1, 1), "dilation": (1, 1), "groups": 1}
    return (
        op.function is conv.Conv2d
        and all(op.attributes[name] == value for name, value in plain.items())
        and is_float32_value(op.inputs[0])
        and parameters_are_float32(op)
        and math.prod(op.output.shape) > 0
        and not is_large_product(op)
    )


def is_large_product(op: Operator) -> bool:
    """Whether it is a convolution of whole images with many weights: one matrix product, by a kernel of its own."""
    x, weight = op.inputs[0].shape, op.inputs[1].shape
    whole = weight[1:] == x[1:] and not any(op.attributes["padding"])
    return bool(whole and x[0] >= 8 and math.prod(weight) >= 1 << 16)


def is_float32_value(x: Any) -> bool:
    """Whether it is made in each step, as float32: not a parameter, nor a constant."""
    return isinstance(x, Value) and x.tensor is None and x.dtype == _FLOAT32


def _is_float32(layer: ChainLayer) -> bool:
    return layer.norm is None or parameters_are_float32(layer.norm)


def parameters_are_float32(op: Operator) -> bool:
    """Whether all but its first input are float32 tensors that exist, or absent, and a kernel can read them in place.

    The statistics of a batch norm are arrays.
    """
    given = [v.tensor._data if isinstance(v, Value) and v.tensor is not None else v for v in op.inputs[1:]]
    arrays = op.inputs[1:3] if op.function is norms.BatchNorm else ()
    return all(
        array is None or (readable(array) and (isinstance(v, Value) or any(v is one for one in arrays)))
        for v, array in zip(op.inputs[1:], given, strict=True)
    )


def has_plain_statistics(op: Operator) -> bool:
    """Whether running statistics, if there are any, are the channels' own and follow each batch alike, in place."""
    running = op.attributes["running"]
    if running is None:
        return True
    arrays = running.mean, running.var
    return running.momentum is not None and all(readable(a) and a.shape == op.inputs[0].shape[1:2] for a in arrays)


def readable(array: Any) -> bool:
    return isinstance(array, np.ndarray) and array.dtype == _FLOAT32 and array.flags.carray
