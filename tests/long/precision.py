"""Each operator's rounding error is within its published bound.

Kernels are held to twice the numbers in docs/PRECISION.md. Networks are trained over 1,000 compiled steps, with
Winograd's convolutions and with direct ones, and over as many of PyTorch's, all in float32 from the same weights and
batches; what counts is how far the weights then are from those that PyTorch's float64 steps give.
"""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from precision_table import measured, published
from torch_twins import build, copy_weights

import fastnn as fnn
from fastnn import data, nn, optim

IN_CI = 0.01
STEPS = 1000
MOST = 3.0  # times PyTorch's distance from float64
ROOM = 0.5  # ulp, where a published error is next to nothing
NETWORKS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "dense": [
        ("Flatten", {}),
        ("Linear", {"in_features": 64, "out_features": 100}),
        ("Tanh", {}),
        ("Linear", {"in_features": 100, "out_features": 10}),
    ],
    "convolutions": [
        ("Conv2d", {"in_channels": 1, "out_channels": 16, "kernel_size": 3, "padding": 1}),
        ("ReLU", {}),
        ("Conv2d", {"in_channels": 16, "out_channels": 16, "kernel_size": 3, "padding": 1}),
        ("ReLU", {}),
        ("MaxPool2d", {"kernel_size": 2}),
        ("Flatten", {}),
        ("Linear", {"in_features": 256, "out_features": 10}),
    ],
    "batch norm": [
        ("Conv2d", {"in_channels": 1, "out_channels": 16, "kernel_size": 3, "padding": 1, "bias": False}),
        ("BatchNorm2d", {"num_features": 16}),
        ("ReLU", {}),
        ("Conv2d", {"in_channels": 16, "out_channels": 16, "kernel_size": 3, "padding": 1, "bias": False}),
        ("BatchNorm2d", {"num_features": 16}),
        ("ReLU", {}),
        ("Flatten", {}),
        ("Linear", {"in_features": 1024, "out_features": 10}),
    ],
}


def trained(model: nn.Module, x: np.ndarray, y: np.ndarray, steps: int, exact: bool) -> list[np.ndarray]:
    """The parameters after compiled steps."""
    step = fnn.compile(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.02), exact=exact)
    for i in range(steps):
        at = slice(i * 32 % 1024, i * 32 % 1024 + 32)
        step(x[at], y[at])
    return [p.numpy() for p in model.parameters()]


def trained_by_torch(model: Any, x: np.ndarray, y: np.ndarray, steps: int) -> list[np.ndarray]:
    import torch

    optimizer, loss_fn = torch.optim.SGD(model.parameters(), lr=0.02), torch.nn.CrossEntropyLoss()
    for i in range(steps):
        at = slice(i * 32 % 1024, i * 32 % 1024 + 32)
        optimizer.zero_grad()
        loss_fn(model(torch.from_numpy(x[at])), torch.from_numpy(y[at])).backward()
        optimizer.step()
    return [p.detach().numpy() for p in model.parameters()]


def distance(found: list[np.ndarray], exact: list[np.ndarray]) -> float:
    """Of all parameters as one vector, relative to its length."""
    squares = sum(float(np.square(a - b).sum()) for a, b in zip(found, exact, strict=True))
    return (squares / sum(float(np.square(b).sum()) for b in exact)) ** 0.5


def beside_torch(name: str, steps: int) -> dict[str, float]:
    """Distances from PyTorch's float64 weights."""
    import torch

    fnn.manual_seed(0)
    model, twin = build(NETWORKS[name], nn), build(NETWORKS[name], torch.nn)
    copy_weights(model, twin)
    digits = data.load("digits")
    x = digits.images[:1024, :, 2:26:3, 2:26:3] / np.float32(255)  # 8x8 again, of the 28x28 that they are enlarged to
    y = digits.labels[:1024].astype(np.int64)
    exact = trained_by_torch(copy.deepcopy(twin).double(), x.astype(np.float64), y, steps)
    return {
        "winograd": distance(trained(copy.deepcopy(model), x, y, steps, False), exact),
        "direct": distance(trained(model, x, y, steps, True), exact),
        "torch": distance(trained_by_torch(twin, x, y, steps), exact),
    }


def measure(share: float = 1.0) -> str:
    """Kernels within their bounds; where PyTorch is installed, the largest ratio of a network's distance to its."""
    from importlib.util import find_spec

    bounds, found = published(), measured(min(1.0, 10 * share))
    over = [
        f"{name} {algorithm} on {isa}: {error:.2f} ulp, published {bounds[name, algorithm].get(isa, np.nan):g}"
        for (name, algorithm), row in found.items()
        for isa, error in row.items()
        if error > 2 * bounds[name, algorithm].get(isa, max(bounds[name, algorithm].values())) + ROOM
    ]
    assert not over, "\n".join(over)
    figure = f"{len(found)} kernels within twice their published ulp"
    if not find_spec("torch"):
        return figure
    steps = max(1, round(STEPS * share))
    ratios = {}
    for name in NETWORKS:
        away = beside_torch(name, steps)
        for way in ("winograd", "direct"):
            ratios[f"{name}, {way}"] = away[way] / away["torch"]
            assert away[way] <= MOST * away["torch"], f"{name}, {way}, {steps} steps: {away}"
    worst = max(ratios, key=lambda each: ratios[each])
    return f"{figure}; after {steps:,} steps at most {ratios[worst]:.2f} times as far from float64 as PyTorch ({worst})"
