"""x tanh(softplus(x)) by @fnn.elementwise beside Mish, NumPy and PyTorch: python -m benchmarks.own_operator

Forward and backward of one tensor, and steps of small networks; the ways take turns, the fastest call counts.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import fastnn as fnn
from fastnn import nn

ROUNDS = 60


@fnn.elementwise
def own(x: float) -> float:
    return x * math.tanh(math.log1p(math.exp(x)))


def fastest(ways: dict[str, Callable[[], Any]], rounds: int = ROUNDS) -> dict[str, float]:
    """Seconds of each way's fastest call of `rounds`."""
    best = dict.fromkeys(ways, math.inf)
    for way in ways.values():
        way()
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def eager(activation: Any, x: np.ndarray) -> Callable[[], Any]:
    tensor, grad = fnn.Tensor(x, requires_grad=True), np.ones_like(x)

    def run() -> None:
        tensor.grad = None
        activation(tensor).backward(grad)

    return run


def in_torch(torch: Any, x: np.ndarray, compiled: bool) -> Callable[[], Any]:
    tensor, grad = torch.tensor(x, requires_grad=True), torch.ones(*x.shape)

    def formula(x: Any) -> Any:
        return x * torch.tanh(torch.log1p(torch.exp(x)))

    activation = torch.compile(formula) if compiled else formula

    def run() -> None:
        tensor.grad = None
        activation(tensor).backward(grad)

    return run


def in_numpy(x: np.ndarray) -> Callable[[], Any]:
    def run() -> Any:
        e = np.exp(x)
        share = np.tanh(np.log1p(e))
        return x * share, share + x * (1 - share**2) * e / (1 + e)

    return run


def network(activation: nn.Module, convolutions: bool) -> nn.Sequential:
    if convolutions:
        return nn.Sequential(
            nn.Conv2d(1, 16, 3), activation, nn.Conv2d(16, 16, 3), activation, nn.Flatten(), nn.Linear(9216, 10)
        )
    return nn.Sequential(nn.Linear(784, 256), activation, nn.Linear(256, 128), activation, nn.Linear(128, 10))


def step(activation: nn.Module, convolutions: bool, compiled: bool) -> Callable[[], Any]:
    model, loss = network(activation, convolutions), nn.CrossEntropyLoss()
    optimizer = fnn.optim.SGD(model.parameters(), lr=0.01)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(128, 1, 28, 28) if convolutions else (128, 784)).astype(np.float32)
    labels = rng.integers(0, 10, 128)
    if compiled:
        run = fnn.compile(model, loss, optimizer)
        return lambda: run(x, labels)

    def slowly() -> None:
        optimizer.zero_grad()
        loss(model(fnn.Tensor(x)), labels).backward()
        optimizer.step()

    return slowly


def main() -> None:
    try:
        import torch

        torch.set_num_threads(fnn.get_num_threads())
    except ImportError:
        torch = None
    rng = np.random.default_rng(0)
    rows: list[tuple[str, dict[str, float]]] = []
    for count in (8192, 1 << 20):
        x = rng.normal(size=count).astype(np.float32)
        ways = {"built-in": eager(nn.Mish(), x), "elementwise": eager(own, x), "NumPy": in_numpy(x)}
        if torch is not None:
            ways["torch"] = in_torch(torch, x, False)
            ways["torch.compile"] = in_torch(torch, x, True)
        rows.append((f"{count:,} entries, forward and backward", fastest(ways)))
    for convolutions in (False, True):
        for compiled in (False, True):
            ways = {
                name: step(f, convolutions, compiled) for name, f in (("built-in", nn.Mish()), ("elementwise", own))
            }
            what = "convolutions" if convolutions else "dense layers"
            rows.append((f"step of {what}, {'compiled' if compiled else 'eager'}", fastest(ways)))
    for title, times in rows:
        parts = (f"{name} {1e6 * t:,.0f} µs ({t / times['built-in']:.2f})" for name, t in times.items())
        print(f"{title}: {', '.join(parts)}")


if __name__ == "__main__":
    main()
