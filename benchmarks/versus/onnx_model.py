"""A network as an ONNX graph for inference, which ONNX Runtime and OpenVINO run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .network import Network, Node, evaluate

OPSET, IR_VERSION = 20, 9
Statistics = tuple[list[float], list[float]]
SIMPLE = {
    "ReLU": "Relu", "Sigmoid": "Sigmoid", "Tanh": "Tanh", "GELU": "Gelu", "ELU": "Elu", "Flatten": "Flatten",
    "AdaptiveAvgPool2d": "GlobalAveragePool", "Add": "Add",
}  # fmt: skip


def build(
    network: Network, weights: Mapping[str, np.ndarray], batch: int, statistics: Statistics | None = None
) -> bytes:
    """Returns a serialised model from "x" to its result; with statistics, of uint8 pixels that it normalises."""
    graph = _Graph(weights)
    name = "x" if statistics is None else graph.normalised("x", *statistics)
    name = evaluate(network, name, graph.apply)
    kind = TensorProto.FLOAT if statistics is None else TensorProto.UINT8
    entry = helper.make_tensor_value_info("x", kind, [batch, *network.shape])
    leaving = helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, *network.shapes[-1]])
    constants = [numpy_helper.from_array(np.ascontiguousarray(value), key) for key, value in graph.tensors.items()]
    made = helper.make_graph(graph.nodes, "network", [entry], [leaving], constants)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


class _Graph:
    def __init__(self, weights: Mapping[str, np.ndarray]) -> None:
        self.weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: dict[str, np.ndarray] = {}

    def add(
        self, operator: str, inputs: list[str], constants: Mapping[str, np.ndarray] | None = None, **attributes: Any
    ) -> str:
        """Adds an operator on earlier results and constants; returns the name of its result."""
        self.tensors.update(constants or {})
        output = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, [*inputs, *(constants or ())], [output], **attributes))
        return output

    def normalised(self, name: str, mean: list[float], std: list[float]) -> str:
        means, deviations = (np.array(values, np.float32).reshape(1, -1, 1, 1) for values in (mean, std))
        name = self.add("Cast", [name], to=TensorProto.FLOAT)
        name = self.add("Mul", [name], {"scale": 1 / (255 * deviations)})
        return self.add("Add", [name], {"shift": -means / deviations})

    def apply(self, index: int, node: Node, inputs: list[str]) -> str:
        own = {
            key: value
            for key, value in self.weights.items()
            if key.startswith(f"{index}.") and "num_batches" not in key
        }
        if node.kind == "Conv2d":
            dilations, groups = list(node.pair("dilation", 1)), node.option("groups", 1)
            return self.add("Conv", inputs, own, **_window(node, 1), dilations=dilations, group=groups)
        if node.kind == "Linear":
            return self.add("Gemm", inputs, own, transB=1)
        if node.kind.startswith("BatchNorm"):
            return self.add("BatchNormalization", inputs, own)
        if node.kind == "MaxPool2d":
            return self.add("MaxPool", inputs, **_window(node, node.args[0]))
        if node.kind == "AvgPool2d":
            return self.add("AveragePool", inputs, **_window(node, node.args[0]), count_include_pad=1)
        if node.kind == "LeakyReLU":
            return self.add("LeakyRelu", inputs, alpha=float((node.args or (0.01,))[0]))
        if node.kind == "SiLU":
            return self.add("Mul", [*inputs, self.add("Sigmoid", inputs)])
        if node.kind == "Cat":
            return self.add("Concat", inputs, axis=1)
        if node.kind == "Dropout":  # nothing, in inference
            return inputs[0]
        return self.add(SIMPLE[node.kind], inputs)


def _window(node: Node, stride: Any) -> dict[str, Any]:
    return {
        "kernel_shape": list(node.pair("kernel_size", None)),
        "strides": list(node.pair("stride", stride)),
        "pads": list(node.pair("padding", 0)) * 2,
    }
