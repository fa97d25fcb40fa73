"""ONNX Runtime, for inference: the graph is written by hand, operator by operator; all its optimisations are on.

Modes: "all threads", "1 thread"; for uint8 images, which are normalised in the graph or by NumPy's table look-up before
it, "in graph" and "table", and each of them with ", 1 thread".
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from .feed import Feed, batches
from .worker import Call, serve
from .workloads import MODELS, SHAPES, Work

OPSET, IR_VERSION = 17, 8
_SIMPLE = {"ReLU": "Relu", "Flatten": "Flatten", "AdaptiveAvgPool2d": "GlobalAveragePool"}


def prepare(work: Work, mode: str, feed: Feed) -> Call:
    table = mode.startswith("table")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1 if mode.endswith("1 thread") else int(sys.argv[2])
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    graph = _graph(work, feed, in_graph=not table)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    several = batches((feed.images(work),), work.batch)
    if table:
        mean, std = feed.statistics(work)
        values = ((np.arange(256) / 255 - mean[0]) / std[0]).astype(np.float32)
        return lambda: session.run(None, {"x": values.take(next(several)[0])})[0]
    return lambda: session.run(None, {"x": next(several)[0]})[0]


def _graph(work: Work, feed: Feed, in_graph: bool) -> onnx.ModelProto:
    weights = feed.weights(work)
    nodes: list[onnx.NodeProto] = []
    tensors: dict[str, np.ndarray] = {}
    uint8 = work.uint8 and in_graph
    name = "x"

    def add(operator: str, *constants: tuple[str, np.ndarray], **attributes: Any) -> None:
        """The next operator, on the last one's result."""
        nonlocal name
        tensors.update(constants)
        output = f"t{len(nodes)}"
        nodes.append(helper.make_node(operator, [name, *(key for key, _ in constants)], [output], **attributes))
        name = output

    if uint8:
        mean, std = (np.array(values, np.float32).reshape(1, -1, 1, 1) for values in feed.statistics(work))
        add("Cast", to=TensorProto.FLOAT)
        add("Mul", ("scale", 1 / (255 * std)))
        add("Add", ("shift", -mean / std))
    for index, layer in enumerate(MODELS[work.model], int(work.uint8)):
        own = [(key, weights[key]) for key in weights if key.startswith(f"{index}.") and "num_batches" not in key]
        if layer.kind == "Conv2d":
            size, padding = layer.args[2], dict(layer.options).get("padding", 0)
            add("Conv", *own, kernel_shape=[size, size], pads=[padding] * 4)
        elif layer.kind == "Linear":
            add("Gemm", *own, transB=1)
        elif layer.kind == "BatchNorm2d":
            add("BatchNormalization", *own)
        elif layer.kind == "MaxPool2d":
            add("MaxPool", kernel_shape=[layer.args[0]] * 2, strides=[layer.args[0]] * 2)
        else:
            add(_SIMPLE[layer.kind])
    entry = helper.make_tensor_value_info(
        "x", TensorProto.UINT8 if uint8 else TensorProto.FLOAT, [work.batch, *SHAPES[work.images]]
    )
    leaving = helper.make_tensor_value_info(name, TensorProto.FLOAT, [work.batch, 10])
    constants = [numpy_helper.from_array(np.ascontiguousarray(value), key) for key, value in tensors.items()]
    graph = helper.make_graph(nodes, work.model, [entry], [leaving], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    return model


if __name__ == "__main__":
    serve(prepare)
