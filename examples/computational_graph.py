"""The computational graph, forward and backward: of the lecture's function, and of a small network.

    python examples/computational_graph.py [--out FOLDER]

Prints f = 1 + e^(w1·x + w0) node by node, with each one's value and df/d(node), and draws function.svg and network.svg.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from _shared import run

import fastnn as fnn
from fastnn import nn
from fastnn.insight import Graph


def function() -> Graph:
    w1, w0 = fnn.Tensor(2.0, requires_grad=True), fnn.Tensor(-0.25, requires_grad=True)
    x = fnn.Tensor(0.5)
    return fnn.graph(1 + (w1 * x + w0).exp(), names={"w1": w1, "w0": w0, "x": x})


def network() -> Graph:
    """Two layers, softmax cross-entropy, three samples."""
    fnn.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 2))
    x = fnn.Tensor(np.array([[0.5, -1.0], [1.5, 0.25], [-0.5, 0.75]], np.float32))
    return fnn.graph(nn.CrossEntropyLoss()(model(x), [0, 1, 1]), model, names={"x": x})


def main(out: Path) -> dict[str, Graph]:
    graphs = {"function.svg": function(), "network.svg": network()}
    for name, graph in graphs.items():
        print(graph, "\n")
        graph.save(out / name)
        print(f"drawn: {out / name}")
    return graphs


if __name__ == "__main__":
    run(main, __doc__)
