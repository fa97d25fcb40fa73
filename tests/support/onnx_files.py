"""ONNX files made for tests, and their comparison with ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

import fastnn as fnn

node = helper.make_node
rng = np.random.default_rng(0)


def drawn(*shape: int) -> Any:
    return (rng.normal(size=shape) / np.sqrt(max(1, np.prod(shape[1:])))).astype(np.float32)


def written(
    path: Path, nodes: list[Any], arrays: dict[str, Any], inputs: dict[str, Any], outputs: list[str], opset: int = 17
) -> Path:
    """A model in a file: inputs by name with their shapes, of floats or, as a pair, of another type."""
    taken = [
        helper.make_tensor_value_info(name, *(shape if isinstance(shape, tuple) else (TensorProto.FLOAT, shape)))
        for name, shape in inputs.items()
    ]
    made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    weights = [onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "net", taken, made, weights)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 3)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def runtime(path: Path, *inputs: Any) -> list[Any]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return list(session.run(None, {own.name: x for own, x in zip(session.get_inputs(), inputs, strict=True)}))


def agrees(path: Path, *inputs: Any, tolerance: float = 1e-5) -> fnn.interop.onnx.OnnxModel:
    """The loaded model, after a comparison with ONNX Runtime, eager and compiled."""
    wanted, model = runtime(path, *inputs), fnn.onnx.load(path).eval()
    for call in (model, fnn.compile(model)):
        found = call(*inputs)
        for y, expected in zip(found if isinstance(found, tuple) else (found,), wanted, strict=True):
            array = y.detach().numpy() if isinstance(y, fnn.Tensor) else y
            assert array.dtype == expected.dtype
            np.testing.assert_allclose(array, expected, rtol=tolerance, atol=tolerance)
    return model
