"""ONNX files as trainable modules."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import numpy as np

from fastnn.arrays import aligned_copy
from fastnn.checks import entries
from fastnn.errors import ArgumentError, DataError, FastnnError, ShapeError
from fastnn.interop.onnx import patterns, prepare
from fastnn.interop.onnx.file import Contents, read
from fastnn.interop.onnx.operators import OPERATORS
from fastnn.interop.onnx.operators.registry import bounded, known
from fastnn.interop.onnx.run import run_node
from fastnn.nn import Module, Parameter
from fastnn.ops.common import layer_input, tensor_of
from fastnn.recording import traced_by
from fastnn.tensors import Tensor

__all__ = ["OnnxModel", "load"]


def load(path: str | os.PathLike[str], *, outputs: str | Iterable[str] | None = None) -> OnnxModel:
    """Returns the model in the ONNX file `path` as a module that computes with fastnn's operators, and can be trained.

    Args:
        path: the file; data that it keeps in files of their own must lie in its folder.
        outputs: the names of the values to return, in this order: outputs of the graph, or any value within it, such as
            the logits before a softmax or the features before the last layer. All outputs by default, except text.

    The weights of layers are parameters under the file's names ("conv1.weight", from PyTorch the same as there), dense
    layers' as (out, in); running statistics are buffers, everything else is constant. The model is in eval mode, so
    that it computes what the file says, dropout and batch norms too; `fit` trains it as any other, and steps of your
    own want ``model.train()`` before. What depends on shapes alone is computed when they are known, so any batch size
    will do, also where the file was written for one of them.

    Raises DataError for a file that is not there, is not a whole model, or has operators that fastnn has not, which it
    names with their nodes; ArgumentError for outputs that the graph does not have; MissingExtraError without the
    package onnx.

    >>> import tempfile
    >>> import numpy as np, onnx, fastnn as fnn
    >>> from onnx import TensorProto as T, helper as h
    >>> weight = onnx.numpy_helper.from_array(np.ones((3, 2), np.float32), "fc.weight")
    >>> graph = h.make_graph(
    ...     [h.make_node("MatMul", ["x", "fc.weight"], ["h"]), h.make_node("Relu", ["h"], ["y"])], "net",
    ...     [h.make_tensor_value_info("x", T.FLOAT, ["N", 3])], [h.make_tensor_value_info("y", T.FLOAT, ["N", 2])],
    ...     [weight])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     onnx.save(h.make_model(graph), f"{folder}/net.onnx")
    ...     model = fnn.onnx.load(f"{folder}/net.onnx")
    >>> model([[1.0, 2.0, 3.0]])
    Tensor([[6., 6.]], from=ReLU)
    >>> [name for name, _ in model.named_parameters()]
    ['fc.weight']
    """
    contents = read(path, OPERATORS)
    wanted = (
        [outputs] if isinstance(outputs, str) else None if outputs is None else entries("onnx.load", "outputs", outputs)
    )
    try:
        return OnnxModel(contents, wanted).eval()
    except ArgumentError:
        raise
    except (FastnnError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        raise DataError(f"{os.fspath(path)}: {error}") from error


class OnnxModel(Module):
    """A graph of ONNX's operators that runs on fastnn's; made by `fnn.onnx.load`.

    It is called with arrays or tensors for the graph's inputs, in order or by name, and returns a tensor, or a tuple
    for several outputs. `inputs` and `outputs` are their names.
    """

    def __init__(self, contents: Contents, outputs: list[str] | None = None) -> None:
        super().__init__()
        if not isinstance(contents, Contents):
            raise ArgumentError(f"OnnxModel: expected what a file holds, got {type(contents).__name__}: use onnx.load")
        made = {name for node in contents.nodes for name in node.outputs} | {name for name, _, _ in contents.inputs}
        if outputs is None:
            outputs = [name for name in contents.outputs if name not in contents.text_outputs]
            if not outputs:
                raise DataError("it has no outputs but text, which tensors do not hold")
        unknown = [name for name in outputs if name not in made and name not in contents.arrays]
        if unknown or not outputs:
            raise ArgumentError(f"onnx.load: expected names of values, such as {contents.outputs}, got {outputs}")
        self.inputs = [name for name, _, _ in contents.inputs]
        self.outputs = outputs
        self._shapes = [shape for _, shape, _ in contents.inputs]
        self._kinds = [kind for _, _, kind in contents.inputs]
        contents.nodes = prepare.needed(contents.nodes, outputs)
        prepare.check(contents.nodes)
        contents.nodes = prepare.layers_of_training(contents.nodes, outputs)
        arrays = contents.arrays
        contents.nodes = prepare.with_weights(contents.nodes, arrays)
        weights = prepare.learned(contents)
        statistics = prepare.statistics(contents.nodes) & set(arrays)
        nodes = prepare.fold(contents.nodes, arrays, weights | statistics)
        nodes = prepare.needed(patterns.layers(nodes, arrays), outputs)
        nodes = prepare.dense_layers(nodes, arrays, weights, set(outputs))
        used = set(outputs).union(*map(prepare.reads_of, nodes))
        self._nodes = [tuple(node) for node in nodes]
        kept = [name for name in arrays if name in used and (name in weights or name in statistics)]
        self._places = prepare.python_names(kept)
        for name, place in self._places.items():
            owner, attribute = self._owner(place, make=True)
            if name in weights:
                setattr(owner, attribute, Parameter(Tensor(aligned_copy(arrays[name], arrays[name].dtype))))
            else:
                owner.register_buffer(attribute, arrays[name])
        self._written: dict[str, list[int]] | None = None  # at the file's own batch, when another is run
        self._constants = {name: arrays[name] for name in arrays if name in used and name not in self._places}

    def _owner(self, place: str, make: bool = False) -> tuple[Module, str]:
        """The module that holds what is at this place, and its name there."""
        module: Module = self
        *path, attribute = place.split(".")
        for part in path:
            if make and part not in vars(module):
                module.add_module(part, Module())
            module = getattr(module, part)
        return module, attribute

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """The graph's outputs for its inputs; see the class."""
        given = self._given(inputs, named)
        batch = self._batch(given)
        if batch is not None and self._written is None:
            self._written = self._as_written()
        values = {**self._held(), **given}
        try:
            self._run(self._nodes, values, batch=batch, training=bool(self.training))
        except FastnnError as error:
            error.message += self._unlike(given)
            raise
        found = [values[name] for name in self.outputs]
        results = [tensor_of(each) for each in found]
        return results[0] if len(results) == 1 else tuple(results)

    def _held(self) -> dict[str, Any]:
        """Parameters, buffers and constants by the file's names."""
        values: dict[str, Any] = dict(self._constants)
        for name, place in self._places.items():
            owner, attribute = self._owner(place)
            values[name] = getattr(owner, attribute)
        return values

    def _run(
        self,
        nodes: Iterable[Any],
        values: dict[str, Any],
        batch: tuple[int, int] | None = None,
        training: bool = False,
        seen: dict[str, list[int]] | None = None,
    ) -> None:
        """Put what the nodes make into `values`; `seen` takes the shapes that Reshape is given."""
        for node in nodes:
            operator, _, inputs, outputs, attributes, _ = node
            if operator == "If":
                condition = bool(known(values[inputs[0]]).reshape(-1)[0])
                inner, constants, names = attributes["then_branch" if condition else "else_branch"]
                local = {**values, **constants}
                self._run(inner, local, batch, training, seen)
                made = tuple(local[name] for name in names)
            else:
                given: list[Any] = [values[name] if name else None for name in inputs]
                if seen is not None and operator == "Reshape":
                    seen[outputs[0]] = list(np.shape(given[0]))
                written = self._written.get(outputs[0]) if self._written and batch and operator == "Reshape" else None
                made = run_node(
                    node, given, training=training, batch=batch, written=None if written is None else tuple(written)
                )
            for name, value in zip(outputs, made, strict=False):
                values[name] = value

    def _as_written(self) -> dict[str, list[int]]:
        """The shapes that Reshape is given at the file's own batch, from a run on zeros; none if that fails."""
        seen: dict[str, list[int]] = {}
        values = self._held()
        try:
            with traced_by(None, recording=False):
                for name, shape, kind in zip(self.inputs, self._shapes, self._kinds, strict=True):
                    sizes = [0 if size is None else size for size in shape or [0]]
                    if 0 in sizes:
                        return {}
                    values[name] = Tensor(np.zeros(bounded(sizes), np.float32 if kind == "float" else np.int64))
                self._run(self._nodes, values, seen=seen)
        except FastnnError:
            return {}
        return seen

    def _given(self, inputs: tuple[Any, ...], named: dict[str, Any]) -> dict[str, Tensor]:
        """The inputs by name, as tensors of the types that the graph takes."""
        given = {**dict(zip(self.inputs, inputs, strict=False)), **named}
        if len(inputs) + len(named) != len(self.inputs) or set(given) != set(self.inputs):
            got = f"{len(inputs)} and {sorted(named)}" if named else f"{len(inputs)}"
            raise ArgumentError(f"expected the inputs {self.inputs}, got {got}")
        own = next((p for p in self.parameters() if p.dtype.kind == "f"), None)
        for name, shape, kind in zip(self.inputs, self._shapes, self._kinds, strict=True):
            x = given[name] if isinstance(given[name], Tensor) else Tensor(given[name])
            if shape is not None and x.ndim != len(shape):
                raise ShapeError(f"expected {name} of shape {_shown(shape)}, got {x.shape}")
            if kind == "float" and own is not None:
                x = layer_input(name, x, own)
            given[name] = x
        return given

    def _batch(self, given: dict[str, Tensor]) -> tuple[int, int] | None:
        """The batch that the file was written for and the present one, where both are numbers that differ."""
        for name, shape in zip(self.inputs, self._shapes, strict=True):
            if shape and shape[0] is not None and given[name].shape[0] != shape[0]:
                return shape[0], given[name].shape[0]
        return None

    def _unlike(self, given: dict[str, Tensor]) -> str:
        """What to add to an error where an input has other sizes, behind the batch, than the file was written for."""
        for name, shape in zip(self.inputs, self._shapes, strict=True):
            sizes = list(zip((shape or [])[1:], given[name].shape[1:], strict=False))
            if any(own not in (None, size) for own, size in sizes):
                return f": the file was written for {name} of shape {_shown(shape)}, got {given[name].shape}"
        return ""

    def __repr__(self) -> str:
        shapes = [f"{name} {_shown(shape)}" for name, shape in zip(self.inputs, self._shapes, strict=True)]
        return f"OnnxModel({', '.join(shapes)} -> {', '.join(self.outputs)}, {len(self._nodes)} operators)"


def _shown(shape: list[int | None] | None) -> str:
    return "of any shape" if shape is None else f"({', '.join('?' if n is None else str(n) for n in shape)})"
