"""`export`: a model as an ONNX file."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fastnn import files
from fastnn.arrays import without_numbers
from fastnn.checks import takes_one, whole
from fastnn.config import version
from fastnn.data.about import about
from fastnn.dtypes import dtype_of
from fastnn.errors import ArgumentError, FastnnError, GraphError, needs
from fastnn.interop.onnx.batch import COUNTS, Fixed, Merged, Size, Symbol, merge
from fastnn.interop.onnx.forms import FORMS, is_random
from fastnn.interop.onnx.writer import Inexpressible, Writer, identity
from fastnn.nn import Module
from fastnn.nn.modes import mode
from fastnn.nn.module import expect_module
from fastnn.plan.inputs import Inputs, arguments
from fastnn.plan.steady import undone
from fastnn.plan.trace import Graph, trace
from fastnn.tensors import no_grad
from fastnn.trees import ARRAY

__all__ = ["Exported", "export"]

OPSET = 18
IR = 8  # the file format that this opset came with


@dataclass(frozen=True, repr=False)
class Exported:
    """What `export` wrote; its repr is the text.

    Attributes:
        path: the file.
        inputs, outputs: shapes by name; "N" stands for the number of samples.
        nodes: how many operators of ONNX there are.
        parameters: how many numbers the initializers hold.
        opset: the version of ONNX's operators.
    """

    path: str
    inputs: dict[str, tuple[int | str, ...]]
    outputs: dict[str, tuple[int | str, ...]]
    nodes: int
    parameters: int
    opset: int

    def to_dict(self) -> dict[str, Any]:
        """The attributes, for JSON."""
        return asdict(self)

    def __repr__(self) -> str:
        def said(shapes: dict[str, tuple[int | str, ...]]) -> str:
            return ", ".join(f"{name} ({', '.join(map(str, shape))})" for name, shape in shapes.items())

        return (
            f"{self.path}: {said(self.inputs)} -> {said(self.outputs)}; {self.nodes} nodes, "
            f"{self.parameters:,} numbers, opset {self.opset}"
        )


def export(
    model: Module,
    path: str | os.PathLike[str],
    shape: Sequence[int] | None = None,
    *,
    inputs: Any = None,
    dtype: Any = np.float32,
    batch: int | None = None,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
) -> Exported:
    """Writes a model to `path` as an ONNX file (opset 18), for as many samples N at a time as one likes.

    The model is written as in eval mode, and may be any module that `fnn.compile` can trace. Parameters and buffers are
    initializers by their names in the state dict. What the model knows of its training stands in the file's metadata:
    "classes" and "columns" (JSON lists of names), "outputs" ("classes", "logits", "probabilities" or "values"), and
    "preparation", how a picture becomes an input. `onnx.checker` has passed what is written.

    Args:
        model: takes and returns arrays, or tuples, lists and dicts of them; each array becomes an input or output.
        path: the file; whatever was there stays until the new one is complete.
        shape: of one sample, where the model takes one array (N, *shape); not needed for a model that knows what it was
            trained on.
        inputs: instead, arguments as examples: a tuple with an array for each argument of forward. Their first
            dimension is N in all that are as long as the first array there.
        dtype: of the input of that `shape`; uint8 for images as bytes, where the model begins with nn.Normalize.
        batch: the number of samples, where it is to stay that one.
        input_names, output_names: "input" and "output" by default, with numbers where there are several.

    Returns:
        Exported: shapes and sizes.

    Raises:
        GraphError: an operator without a form in ONNX, by name; a model that does something else for another number of
            samples, unless `batch` is given; a model that needs the values of its input.
        ArgumentError: no shape and no inputs, or names that do not fit. ShapeError: a shape that the model does not
            take. MissingExtraError: onnx is not installed. OSError: the file cannot be written.

    >>> import tempfile, fastnn as fnn
    >>> model = fnn.nn.Sequential(fnn.nn.Linear(4, 8), fnn.nn.ReLU(), fnn.nn.Linear(8, 3))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     exported = fnn.onnx.export(model, f"{folder}/model.onnx", (4,))
    >>> exported.inputs, exported.outputs, exported.nodes
    ({'input': ('N', 4)}, {'output': ('N', 3)}, 3)
    """
    model = expect_module("onnx.export", model)
    with needs("onnx", "onnx"):
        from onnx import checker
    batch = None if batch is None else whole("onnx.export", "batch", batch, 1)
    examples = _examples(model, shape, inputs, dtype)
    try:
        with mode(model, training=False), no_grad():
            merged = _merged(model, examples, batch)
            proto = _written(model, merged, examples, input_names, output_names)
    except Fixed as reason:
        raise GraphError(
            f"onnx.export: the number of samples cannot be left open: {reason}; export for one number, batch=1"
        ) from None
    checker.check_model(proto, full_check=True)
    files.write_atomically(path, proto.SerializeToString())
    graph = proto.graph
    numbers = sum(int(np.prod(each.dims, dtype=np.int64)) for each in graph.initializer)
    taken, given = ({value.name: _read(value) for value in values} for values in (graph.input, graph.output))
    return Exported(os.fspath(path), taken, given, len(graph.node), numbers, OPSET)


def _examples(model: Module, shape: Sequence[int] | None, inputs: Any, dtype: Any) -> Inputs:
    """Arrays like those that the model takes; of the first the first dimension is N."""
    if inputs is not None:
        if shape is not None:
            raise ArgumentError("onnx.export: expected shape or inputs, got both")
        return arguments(model, inputs if isinstance(inputs, tuple) else (inputs,), {})
    known = about(model)
    takes_one("onnx.export", model.forward, ": give inputs=, a tuple of examples")
    given = known.shape if shape is None and known is not None else shape
    if given is None:
        raise ArgumentError(
            "onnx.export: expected the shape of one sample, onnx.export(model, path, (1, 28, 28)), or inputs=, got none"
        )
    if not isinstance(given, Sequence) or not all(isinstance(n, (int, np.integer)) and n > 0 for n in given):
        raise ArgumentError(f"onnx.export: expected shape to be positive whole numbers, got {given!r}")
    kind = dtype_of("onnx.export", dtype)
    return Inputs(
        [without_numbers((COUNTS[0], *map(int, given)), np.dtype(np.float32) if kind is None else kind)], (ARRAY,)
    )


def _merged(model: Module, examples: Inputs, batch: int | None) -> Merged:
    """The graph for so many samples, or for any number."""
    length = examples.arrays[0].shape[0]

    def traced(count: int) -> Graph:
        shapes = ((count, *a.shape[1:]) if a.shape[:1] == (length,) else a.shape for a in examples.arrays)
        arrays = [without_numbers(shape, a.dtype) for shape, a in zip(shapes, examples.arrays, strict=True)]
        with undone(model):
            return trace(model, None, Inputs(arrays, examples.positional, examples.named))

    try:
        first = traced(batch or length)
    except GraphError as error:
        said = error.message.removeprefix("compile: ")
        raise GraphError(f"onnx.export: the model cannot be traced: {said}") from None
    if batch is not None:
        return merge([first], [batch], is_random)
    graphs = []
    for count in COUNTS:
        try:
            graphs.append(first if count == length else traced(count))
        except FastnnError as error:
            raise Fixed(f"for {count} samples, {error}") from None
    return merge(graphs, COUNTS, is_random)


def _written(
    model: Module, merged: Merged, examples: Inputs, inputs: Sequence[str] | None, outputs: Sequence[str] | None
) -> Any:
    from onnx import helper

    state = {identity(array): name for name, array in reversed(model.state_dict().items())}
    to = Writer(state)
    paths = {id(module): path for path, module in model.named_modules()}
    given = [to.unique(name) for name in _names("input", inputs, len(merged.inputs))]
    results = [to.unique(name) for name in _names("output", outputs, len(merged.results))]
    for symbol, name in zip(merged.inputs, given, strict=True):
        to.bind(symbol, name)
    to.count = given[0]
    for step in merged.steps:
        to.scope = paths.get(id(step.module), "")
        names = [to.name_of(entry) if isinstance(entry, Symbol) else entry for entry in step.inputs]
        try:
            if step.function not in FORMS:
                raise Inexpressible("ONNX has no such operator, and nothing is known that it could be made of")
            to.bind(step.output, FORMS[step.function](to, step, *names, **step.attributes))
        except (Inexpressible, Fixed) as reason:
            kind = f" of {type(step.module).__name__}" if step.module is not None else ""
            place = f" ({to.scope})" if to.scope else ""
            raise GraphError(
                f"onnx.export: the operator {step.function.__name__}{kind}{place} has no form in ONNX: {reason}"
            ) from None
    to.scope = ""
    for symbol, name in zip(merged.results, results, strict=True):
        to.nodes.append(helper.make_node("Identity", [to.name_of(symbol)], [name]))
    _take_over_names(to.nodes, results)
    read = {name for node in to.nodes for name in node.input}
    constants = [constant for name, constant in to.initializers.items() if name in read]

    def described(names: Sequence[str], symbols: Sequence[Symbol]) -> list[Any]:
        pairs = zip(names, symbols, strict=True)
        return [helper.make_tensor_value_info(name, to.type_of(s.dtype), _dims(s.shape)) for name, s in pairs]

    inputs_and_outputs = described(given, merged.inputs), described(results, merged.results)
    graph = helper.make_graph(to.nodes, type(model).__name__, *inputs_and_outputs, constants)
    opset = helper.make_opsetid("", OPSET)
    proto = helper.make_model(graph, opset_imports=[opset], producer_name="fastnn", producer_version=version())
    proto.ir_version = IR
    helper.set_model_props(proto, _metadata(model))
    return proto


def _take_over_names(nodes: list[Any], results: Sequence[str]) -> None:
    """Nodes write the outputs themselves where nothing else reads what the last ones copy."""
    made = {name: (node, k) for node in nodes for k, name in enumerate(node.output)}
    read = [name for node in nodes for name in node.input]
    for node in [node for node in nodes if node.output[0] in results]:
        source = node.input[0]
        if source in made and read.count(source) == 1:
            before, k = made[source]
            before.output[k] = node.output[0]
            nodes.remove(node)


def _names(kind: str, names: Sequence[str] | None, count: int) -> list[str]:
    if names is None:
        return [kind] if count == 1 else [f"{kind}_{k}" for k in range(count)]
    if isinstance(names, str) or len(names) != count or len(set(names)) < count or not all(names):
        raise ArgumentError(
            f"onnx.export: expected {kind}_names with a name for each of the model's {kind}s ({count}), got {names!r}"
        )
    return list(names)


def _dims(shape: Sequence[Size]) -> list[int | str]:
    return [size if isinstance(size, int) else str(size) for size in shape]


def _read(value: Any) -> tuple[int | str, ...]:
    return tuple(dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim)


def _metadata(model: Module) -> dict[str, str]:
    known = about(model)
    if known is None:
        return {}
    found: dict[str, Any] = {"classes": known.classes, "columns": known.columns}
    if known.picture is not None:
        found["preparation"] = asdict(known.picture)
    said = {name: json.dumps(value) for name, value in found.items() if value}
    return {"outputs": known.outputs, **said}
