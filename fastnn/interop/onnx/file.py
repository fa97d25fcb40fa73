"""ONNX files as nodes and arrays: what is read here is checked here, and is Python's and NumPy's own from then on."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import numpy as np

from fastnn import checks, files
from fastnn.errors import DataError, FastnnError, needs
from fastnn.tensors import Array

__all__ = ["Contents", "Node", "read"]

MOST_BYTES = 2 << 30  # of a file: more than this, the format itself cannot hold
MOST_NODES = 200_000
DEEPEST = 16  # levels of branches within branches


class Node(NamedTuple):
    """One operator of the graph, in plain Python; a branch of an If is a tuple (nodes, constants, outputs)."""

    operator: str  # with its domain, unless that is ONNX's own: "ai.onnx.ml.ZipMap"
    name: str
    inputs: tuple[str, ...]  # "" for one that is left out
    outputs: tuple[str, ...]
    attributes: dict[str, Any]
    version: int  # of the operator's domain


@dataclass
class Contents:
    """A graph: its nodes in order, the arrays by name, and the inputs as (name, shape, kind), None what is open."""

    nodes: list[Node]
    arrays: dict[str, Array]
    inputs: list[tuple[str, list[int | None] | None, str]]
    outputs: list[str]
    text_outputs: set[str]


def read(path: str | os.PathLike[str], own: Collection[str]) -> Contents:
    """The contents of the file `path`, in the operators `own` as far as ONNX can write others by them.

    Raises DataError for anything but a whole ONNX model that can be read, MissingExtraError without the package onnx.
    """
    with needs("onnx", "onnx"):
        import onnx

    shown = checks.path("onnx.load", path)
    try:
        content = files.read(path, MOST_BYTES)
        try:
            model = onnx.ModelProto.FromString(content)
        except Exception as error:  # of protobuf, which has its own errors
            raise ValueError(str(error)) from error
        if not model.HasField("graph") or not (model.graph.node or model.graph.output):
            raise ValueError("it has no graph")
        model = _written_by(_without_functions(model), own)
        versions = {each.domain or "ai.onnx": each.version for each in model.opset_import} or {"ai.onnx": 1}
        return _Reader(os.path.dirname(os.path.abspath(shown)), versions).graph(model.graph)
    except FileNotFoundError as error:
        raise DataError(f"expected an ONNX file, got {shown}, which is not there") from error
    except IsADirectoryError as error:
        raise DataError(f"expected an ONNX file, got {shown}, which is a folder") from error
    except FastnnError as error:
        raise DataError(f"expected a whole ONNX model, got {shown}: {error.message}") from error
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError, OverflowError,
            RecursionError, MemoryError, OSError) as error:  # fmt: skip
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"expected a whole ONNX model, got {shown} ({reason})") from error


def _without_functions(model: Any) -> Any:
    """The model with the calls of its own functions written out."""
    if not model.functions:
        return model
    from onnx.inliner import inline_local_functions

    bodies = {(each.domain, each.name): each.node for each in model.functions}
    sizes: dict[tuple[str, str], int] = {}

    def size(nodes: Any, within: tuple[tuple[str, str], ...] = ()) -> int:
        total = 0
        for node in nodes:
            key = node.domain, node.op_type
            if key in within:
                raise ValueError(f"its function {node.op_type} calls itself")
            if key in bodies and key not in sizes:
                sizes[key] = size(bodies[key], (*within, key))
            total += sizes.get(key, 1) + sum(size(each.g.node, within) for each in node.attribute if each.HasField("g"))
        if total > MOST_NODES:
            raise ValueError(f"its functions stand for more than {MOST_NODES:,} nodes")
        return total

    size(model.graph.node)
    return inline_local_functions(model)


def _written_by(model: Any, own: Collection[str]) -> Any:
    """The model with operators that are not among `own` replaced by what ONNX defines them to be, where it does."""
    from onnx.inliner import inline_selected_functions

    unknown = {node.op_type for node in model.graph.node if not node.domain} - {*own, "Constant", "If"}
    if unknown:
        kept = [("", name) for name in {*own, "Constant"}]
        with contextlib.suppress(TypeError, RuntimeError):  # an older package; a definition without types
            return inline_selected_functions(model, kept, exclude=True, inline_schema_functions=True)
    return model


class _Reader:
    """Protocol buffers into plain values."""

    def __init__(self, folder: str, versions: dict[str, int]) -> None:
        self.folder, self.versions = folder, versions
        self.count = 0

    def graph(self, graph: Any, depth: int = 0) -> Contents:
        if depth > DEEPEST:
            raise ValueError(f"it has more than {DEEPEST} levels of branches")
        arrays = {tensor.name: self.array(tensor) for tensor in graph.initializer}
        if graph.sparse_initializer:
            raise DataError(f"the tensor {graph.sparse_initializer[0].values.name!r} is sparse, which fastnn has not")
        inputs = [(each.name, *_kind(each.type)) for each in graph.input if each.name not in arrays]
        nodes: list[Node] = []
        for node in graph.node:
            self.count += 1
            if self.count > MOST_NODES:
                raise ValueError(f"it has more than {MOST_NODES:,} nodes")
            read = self.node(node, depth)
            if read.operator == "Constant" and len(read.outputs) == 1:
                arrays[read.outputs[0]] = _constant(read)
            else:
                nodes.append(read)
        known = {*arrays, *(name for name, _, _ in inputs), *(name for node in nodes for name in node.outputs)}
        outputs = [each.name for each in graph.output]
        if depth == 0 and not set(outputs) <= known:
            raise ValueError(f"nothing makes the output {next(name for name in outputs if name not in known)!r}")
        text = {each.name for each in graph.output if _kind(each.type)[1] == "text"}
        return Contents(_in_order(nodes, known if depth == 0 else None), arrays, inputs, outputs, text)

    def node(self, node: Any, depth: int) -> Node:
        domain = node.domain or "ai.onnx"
        operator = node.op_type if domain == "ai.onnx" else f"{domain}.{node.op_type}"
        version = self.versions.get(domain, 1)
        name = node.name or (node.output[0] if node.output else "")
        attributes = {each.name: self.attribute(each, depth) for each in node.attribute}
        return Node(operator, name, tuple(node.input), tuple(node.output), attributes, version)

    def attribute(self, attribute: Any, depth: int) -> Any:
        import onnx

        if attribute.type == onnx.AttributeProto.GRAPH:
            branch = self.graph(attribute.g, depth + 1)
            if branch.inputs:
                return f"a graph with inputs {[name for name, _, _ in branch.inputs]}"
            return [list(branch.nodes), branch.arrays, branch.outputs]
        if attribute.type == onnx.AttributeProto.TENSOR:
            return self.array(attribute.t)
        value = onnx.helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            return value.decode("utf-8", "replace")
        if isinstance(value, str | int | float):
            return value
        if isinstance(value, Iterable):
            entries = [each.decode("utf-8", "replace") if isinstance(each, bytes) else each for each in value]
            if all(isinstance(each, str | int | float) for each in entries):
                return entries
        return f"an attribute of the kind {onnx.AttributeProto.AttributeType.Name(attribute.type)}"

    def array(self, tensor: Any) -> Array:
        """The numbers of a tensor, which may lie in a file beside the model's; 16-bit floats become float32."""
        import onnx

        shape = tuple(tensor.dims)
        if any(size < 0 for size in shape):
            raise ValueError(f"the tensor {tensor.name!r} has the shape {shape}")
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
            raw = self.external(tensor, prod(shape) * dtype.itemsize)
            array = np.frombuffer(raw, dtype.newbyteorder("<")).reshape(shape)
        else:
            array = onnx.numpy_helper.to_array(tensor)
        return plain_array(array)

    def external(self, tensor: Any, size: int) -> bytes:
        """The bytes of a tensor in a file of its own, which must lie in the model's folder or below."""
        about = {entry.key: entry.value for entry in tensor.external_data}
        location, offset = about.get("location", ""), int(about.get("offset", 0))
        length = int(about.get("length", size))
        path = os.path.realpath(os.path.join(self.folder, location))
        inside = os.path.commonpath([os.path.realpath(self.folder), path]) == os.path.realpath(self.folder)
        if not location or os.path.isabs(location) or not inside:
            raise DataError(f"expected the data of {tensor.name!r} in the model's folder, got {location!r}")
        if length != size or offset < 0:
            raise DataError(f"expected {size:,} bytes of data for {tensor.name!r}, got {length:,}")
        try:
            with files.open_regular(path) as stream:
                if os.fstat(stream.fileno()).st_size < offset + size:
                    raise DataError(f"{location} is too short for the data of {tensor.name!r}")
                stream.seek(offset)
                return stream.read(size)
        except FileNotFoundError as error:
            raise DataError(f"the data of {tensor.name!r} should be in {location}, which is not there") from error


def plain_array(array: Array) -> Array:
    """An array of NumPy's own types in memory of its own; ONNX's small floats as float32, small integers as int8."""
    if array.dtype.kind in "biuO" or array.dtype in (np.float32, np.float64):
        return np.array(array, array.dtype.newbyteorder("="))
    if array.dtype.kind in "US":
        return array.astype(object)
    if "int" in array.dtype.name:
        return array.astype(np.int8)
    if array.dtype.kind == "c":
        raise DataError(f"it holds complex numbers ({array.dtype}), which fastnn has not")
    return array.astype(np.float32)


def _constant(node: Node) -> Array:
    for name in ("value", "value_float", "value_int", "value_floats", "value_ints", "value_string", "value_strings"):
        if name in node.attributes:
            value = node.attributes[name]
            if isinstance(value, np.ndarray):
                return value
            kind = {"float": np.float32, "int": np.int64, "string": object}[name.split("_")[1].rstrip("s")]
            return np.asarray(value, kind)
    raise DataError(f"the Constant {node.name!r} has no value that fastnn can read")


def _kind(declared: Any) -> tuple[list[int | None] | None, str]:
    """Shape and kind ("float", "whole", "text", "other") of a declared value."""
    import onnx

    if declared.WhichOneof("value") != "tensor_type":
        return None, "other"
    tensor = declared.tensor_type
    shape = [d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim]
    if tensor.elem_type == onnx.TensorProto.STRING:
        kind = "text"
    else:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type) if tensor.elem_type else np.dtype("f4")
        kind = "whole" if dtype.kind in "biu" else "float"
    return (shape if tensor.HasField("shape") else None), kind


def _in_order(nodes: list[Node], known: set[str] | None) -> list[Node]:
    """The nodes, which must stand in the order in which they can run; of a branch, what is outside may come before."""
    if known is None:
        return nodes
    made: set[str] = known - {name for node in nodes for name in node.outputs}
    for node in nodes:
        for name in node.inputs:
            if name and name not in made:
                raise ValueError(
                    f"the node {node.name!r} ({node.operator}) reads {name!r}, which nothing before it makes"
                )
        made.update(node.outputs)
    return nodes
