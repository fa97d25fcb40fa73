"""ONNX Runtime, for inference, with all its optimisations.

Modes: "all threads", "1 thread"; for uint8 images, which are normalised in the graph or by NumPy's table look-up before
it, "in graph" and "table", and each of them with ", 1 thread".
"""

from __future__ import annotations

import sys

import numpy as np
import onnxruntime

from . import onnx_model
from .feed import Feed, batches
from .network import Network
from .worker import Call, serve
from .workloads import Work


def prepare(network: Network, work: Work, mode: str, feed: Feed) -> Call:
    table = mode.startswith("table")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1 if mode.endswith("1 thread") else int(sys.argv[2])
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    statistics = feed.statistics(work) if work.uint8 else None
    graph = onnx_model.build(network, feed.weights(work), work.batch, None if table else statistics)
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    several = batches((feed.inputs(work),), work.batch)
    if table and statistics is not None:
        mean, std = statistics
        values = ((np.arange(256) / 255 - mean[0]) / std[0]).astype(np.float32)
        return lambda: session.run(None, {"x": values.take(next(several)[0])})[0]
    return lambda: session.run(None, {"x": next(several)[0]})[0]


if __name__ == "__main__":
    serve(prepare)
