"""``python -m benchmarks.families``: steps of other families of networks, compiled and eager, against PyTorch's.

A GRU, networks of one-dimensional convolutions, an autoencoder of transposed convolutions, and a block of attention.
Adam, two threads; PyTorch and fastnn alternate, and the least time of each counts. Written once for both: `lib` is
torch or fastnn.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

import fastnn as fnn
from benchmarks.rl import THREADS, Update, least

Network = Callable[[Any], Any]


def gru(lib: Any) -> Any:
    """64 units over 50 steps of one number, and a number from the last state."""

    class Forecaster(lib.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru, self.head = lib.nn.GRU(1, 64, batch_first=True), lib.nn.Linear(64, 1)

        def forward(self, x: Any) -> Any:
            return self.head(self.gru(x)[0][:, -1])

    return Forecaster()


def beats(lib: Any) -> Any:
    """Heart beats of 187 numbers: three convolutions with batch norm and pools."""
    nn, layers, before = lib.nn, [], 1
    for channels in (32, 64, 128):
        layers += [nn.Conv1d(before, channels, 5, padding=2), nn.BatchNorm1d(channels), nn.ReLU(), nn.MaxPool1d(2)]
        before = channels
    return nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(128, 5))


def dilated(lib: Any) -> Any:
    """A temporal network: convolutions of 32 channels, dilated by 1, 2, 4 and 8, and a number at each place."""
    nn, layers, before = lib.nn, [], 4
    for d in (1, 2, 4, 8):
        layers += [nn.Conv1d(before, 32, 3, padding=d, dilation=d), nn.ReLU()]
        before = 32
    return nn.Sequential(*layers, nn.Conv1d(32, 1, 1))


def autoencoder(lib: Any) -> Any:
    """Two strided convolutions of 28×28 images to 32 channels of 7×7, and two transposed ones back."""
    nn = lib.nn
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(),
        nn.ConvTranspose2d(32, 16, 3, stride=2, padding=1, output_padding=1), nn.ReLU(),
        nn.ConvTranspose2d(16, 1, 3, stride=2, padding=1, output_padding=1), nn.Sigmoid(),
    )  # fmt: skip


def attention(lib: Any) -> Any:
    """A transformer's block: 64 places of 64 numbers, 4 heads, layer norm before each part, GELU."""
    F = fnn.nn.functional if lib is fnn else lib.nn.functional

    class Block(lib.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            nn = lib.nn
            self.first, self.second = nn.LayerNorm(64), nn.LayerNorm(64)
            self.qkv, self.project = nn.Linear(64, 192), nn.Linear(64, 64)
            self.mlp = nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 64))

        def forward(self, x: Any) -> Any:
            B, T, C = x.shape
            q, k, v = (p.view(B, T, 4, C // 4).transpose(1, 2) for p in self.qkv(self.first(x)).split(C, dim=2))
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.project(y.transpose(1, 2).reshape(B, T, C))
            return x + self.mlp(self.second(x))

    return Block()


# Network, shape of the input, and of the target: floats, or the number of classes.
CASES: dict[str, tuple[Network, tuple[int, ...], tuple[int, ...] | int]] = {
    "GRU 1x64, T=50, B=32": (gru, (32, 50, 1), (32, 1)),
    "Conv1d, 1x187, B=64": (beats, (64, 1, 187), 5),
    "Conv1d, dilated, 4x256, B=32": (dilated, (32, 4, 256), (32, 1, 256)),
    "ConvTranspose2d autoencoder, 28x28, B=64": (autoencoder, (64, 1, 28, 28), (64, 1, 28, 28)),
    "attention, T=64, d=64, 4 heads, B=32": (attention, (32, 64, 64), (32, 64, 64)),
}


def steps(name: str) -> tuple[Update, Update, Update]:
    """PyTorch's step, fastnn's compiled, and fastnn's eager one."""
    import torch

    network, shape, target = CASES[name]
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape).astype(np.float32)
    labels = isinstance(target, int)
    y = rng.integers(0, target, shape[0]) if labels else rng.random(target).astype(np.float32)

    def eager(lib: Any, tensor: Callable[[Any], Any]) -> Update:
        model = network(lib)
        loss = (lib.nn.CrossEntropyLoss if labels else lib.nn.MSELoss)()
        optimizer, inputs, targets = lib.optim.Adam(model.parameters()), tensor(x), tensor(y)

        def update() -> None:
            optimizer.zero_grad()
            loss(model(inputs), targets).backward()
            optimizer.step()

        return update

    model = network(fnn)
    loss = (fnn.nn.CrossEntropyLoss if labels else fnn.nn.MSELoss)()
    step = fnn.compile(model, loss, fnn.optim.Adam(model.parameters()))
    return eager(torch, torch.from_numpy), lambda: step(x, y), eager(fnn, fnn.from_numpy)


def main() -> None:
    """Prints a table; arguments choose the cases that have one of them in their names."""
    import torch

    torch.set_num_threads(THREADS)
    fnn.set_num_threads(THREADS)
    print(f"{'':42s} {'PyTorch':>10s} {'compiled':>10s} {'':7s} {'eager':>10s}")
    for name in CASES:
        if len(sys.argv) == 1 or any(part in name for part in sys.argv[1:]):
            other, own, eager = least(steps(name))
            ratios = f"{1e6 * own:8.0f}us {other / own:6.2f}x {1e6 * eager:8.0f}us {other / eager:6.2f}x"
            print(f"{name:42s} {1e6 * other:8.0f}us {ratios}", flush=True)


if __name__ == "__main__":
    main()
