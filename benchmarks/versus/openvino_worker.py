"""OpenVINO, for inference, compiled for least latency in float32; modes "all threads" and "1 thread"."""

from __future__ import annotations

import sys

import openvino

from . import onnx_model
from .feed import Feed, batches
from .network import Network
from .worker import Call, serve
from .workloads import Work


def prepare(network: Network, work: Work, mode: str, feed: Feed) -> Call:
    statistics = feed.statistics(work) if work.uint8 else None
    core = openvino.Core()
    model = core.read_model(onnx_model.build(network, feed.weights(work), work.batch, statistics))
    settings = {
        "INFERENCE_NUM_THREADS": 1 if mode == "1 thread" else int(sys.argv[2]),
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    several = batches((feed.inputs(work),), work.batch)
    return lambda: request.infer(next(several)[0], share_inputs=True)[0]


if __name__ == "__main__":
    serve(prepare)
