"""Random networks of five families, the same for the same seed and number whatever else is drawn.

* plain: convolutions of stride 1 with poolings between them;
* strided: convolutions of stride 2 (and now and then 1) without poolings;
* residual: stages of residual blocks, with 1×1 convolutions beside them where the shape changes;
* separable: depthwise and 1×1 convolutions, half of them as inverted residual blocks;
* dense: linear layers on rows.

Each draws its input's shape, depth, widths, kernel sizes, activation, batch norm or none, pooling, dropout, head,
batch and optimiser. A batch is halved until a step is at most MOST_FLOPS, so that sixty of them take minutes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .network import ACTIVATIONS, Builder, Network, Shape

MOST_FLOPS, LEAST_BATCH = 8e9, 4
BATCHES = (8, 16, 32, 50, 64, 100, 128, 256)
ROW_BATCHES = (16, 32, 64, 128, 200, 256, 1000, 2048)  # of dense networks
OPTIMIZERS: tuple[tuple[str, tuple[tuple[str, Any], ...]], ...] = (
    ("SGD", (("lr", 1e-3),)),
    ("SGD", (("lr", 1e-3), ("momentum", 0.9), ("nesterov", True), ("weight_decay", 5e-4))),
    ("Adam", (("lr", 1e-4),)),
    ("AdamW", (("lr", 1e-4), ("weight_decay", 1e-2))),
    ("RMSprop", (("lr", 1e-4),)),
)
MONOTONE_SHARE = 0.5  # of the networks have ReLU, the others any activation


@dataclass(frozen=True)
class Drawn:
    family: str
    network: Network
    batch: int

    def __str__(self) -> str:
        name, options = self.network.optimizer
        momentum = " momentum" if dict(options).get("momentum") else ""
        loss = "" if self.network.loss == "CrossEntropyLoss" else ", MSE"
        return f"{self.family}, {self.network}; B={self.batch}, {name}{momentum}{loss}"


def draw(seed: int, number: int) -> Drawn:
    """The network of this number among those of this seed; families take turns."""
    rng = np.random.default_rng([seed, number])
    family = list(FAMILIES)[number % len(FAMILIES)]
    style = Style(rng)
    net = FAMILIES[family](rng, style)
    by_error = family == "dense" and (net.shape == (1,) or rng.random() < 0.3)
    loss = "MSELoss" if by_error else "CrossEntropyLoss"
    network = net.build(loss=loss, optimizer=OPTIMIZERS[rng.integers(len(OPTIMIZERS))])
    batch = int(rng.choice(ROW_BATCHES if family == "dense" else BATCHES))
    while batch > LEAST_BATCH and batch * network.step_flops > MOST_FLOPS:
        batch //= 2
    return Drawn(family, network, batch)


class Style:
    """The choices that all layers of a network share."""

    def __init__(self, rng: np.random.Generator) -> None:
        relu = rng.random() < MONOTONE_SHARE
        self.activation = "ReLU" if relu else str(rng.choice([name for name in ACTIVATIONS if name != "ReLU"]))
        self.norm = rng.random() < 0.5
        self.dropout = float(rng.choice([0.1, 0.25, 0.5])) if rng.random() < 0.3 else 0.0
        self.pooling = rng.choice(["max 2", "max 2", "max 3/2", "avg 2", "avg 3/2"])

    def act(self, net: Builder) -> Builder:
        slope = (0.2,) if self.activation == "LeakyReLU" else ()
        return net.layer(self.activation, *slope)

    def conv(self, net: Builder, channels: int, size: int, acts: bool = True, **options: Any) -> Builder:
        """A convolution with what follows it."""
        if self.norm:
            net.conv_norm(channels, size, **options)
        else:
            net.conv(channels, size, **options)
        return self.act(net) if acts else net

    def pool(self, net: Builder) -> Builder:
        kind = "MaxPool2d" if self.pooling.startswith("max") else "AvgPool2d"
        if self.pooling.endswith("3/2"):
            return net.layer(kind, 3, stride=2, padding=1)
        return net.layer(kind, 2)

    def drop(self, net: Builder) -> Builder:
        return net.layer("Dropout", self.dropout) if self.dropout else net


def _plain(rng: np.random.Generator, style: Style) -> Builder:
    net = Builder(_image(rng))
    channels = int(rng.choice([6, 8, 16, 24, 32]))
    for _ in range(int(rng.integers(1, 4))):
        for _ in range(int(rng.integers(1, 3))):
            size = int(rng.choice([3, 3, 3, 5, 1]))
            padding = size // 2 if _side(net) < 10 or rng.random() < 0.6 else 0
            style.conv(net, channels, size, padding=padding)
        if _side(net) >= 6 and rng.random() < 0.85:
            style.pool(net)
        channels = min(int(channels * rng.choice([1, 1.5, 2])), 96)
    return _head(rng, style, net)


def _strided(rng: np.random.Generator, style: Style) -> Builder:
    net = Builder(_image(rng))
    channels = int(rng.choice([8, 16, 32, 48]))
    for number in range(int(rng.integers(2, 5))):
        size = int(rng.choice([3, 3, 4, 5])) if number or _side(net) < 48 else 8
        stride = 4 if size == 8 else 2 if rng.random() < 0.8 else 1
        if _side(net) < 2 * size:
            break
        style.conv(net, channels, size, stride=stride, padding=size // 2 if rng.random() < 0.6 else 0)
        channels = min(int(channels * rng.choice([1, 2])), 128)
    return _head(rng, style, net)


def _residual(rng: np.random.Generator, style: Style) -> Builder:
    net = Builder(_image(rng))
    channels = int(rng.choice([8, 16, 16, 24, 32]))
    blocks = int(rng.integers(1, 3))
    style.conv(net, channels, 3, padding=1)
    for stage in range(int(rng.integers(1, 4))):
        for number in range(blocks):
            _residual_block(style, net, channels, 2 if stage and number == 0 and _side(net) > 4 else 1)
        channels = min(2 * channels, 96)
    return _head(rng, style, net)


def _residual_block(style: Style, net: Builder, channels: int, stride: int) -> None:
    kept = net.last
    style.conv(net, channels, 3, stride=stride, padding=1)
    style.conv(net, channels, 3, acts=False, padding=1)
    if net.shape != net.shapes[kept]:
        main = net.last
        kept = style.conv(net.go(kept), channels, 1, acts=False, stride=stride).last
        net.go(main)
    style.act(net.plus(kept))


def _separable(rng: np.random.Generator, style: Style) -> Builder:
    net = Builder(_image(rng))
    channels, inverted = int(rng.choice([8, 16, 24, 32])), rng.random() < 0.5
    style.conv(net, channels, 3, stride=int(rng.choice([1, 1, 2])), padding=1)
    for _ in range(int(rng.integers(2, 6))):
        stride = 2 if _side(net) > 6 and rng.random() < 0.35 else 1
        size = int(rng.choice([3, 3, 3, 5]))
        wider = min(channels * stride, 128)
        if inverted:  # Sandler et al. 2018: widen, filter, narrow without an activation
            kept, hidden = net.last, 3 * channels
            style.conv(net, hidden, 1)
            style.conv(net, hidden, size, stride=stride, padding=size // 2, groups=hidden)
            style.conv(net, wider, 1, acts=False)
            if net.shape == net.shapes[kept]:
                net.plus(kept)
        else:
            style.conv(net, channels, size, stride=stride, padding=size // 2, groups=channels)
            style.conv(net, wider, 1)
        channels = wider
    return _head(rng, style, net)


def _dense(rng: np.random.Generator, style: Style) -> Builder:
    net = Builder((int(rng.choice([2, 4, 13, 24, 64, 100, 300, 784])),))
    width = int(rng.choice([16, 32, 50, 64, 100, 128, 256, 512]))
    for _ in range(int(rng.integers(1, 6))):
        net.linear(width)
        style.drop(style.act(net.norm() if style.norm else net))
        width = max(8, int(width * rng.choice([1, 1, 0.5])))
    return net.linear(int(rng.choice([1, 4, 10, 10, 100])) if width > 16 else 6)


FAMILIES: dict[str, Callable[[np.random.Generator, Style], Builder]] = {
    "plain": _plain, "strided": _strided, "residual": _residual, "separable": _separable, "dense": _dense,
}  # fmt: skip


# ---- helpers ---------------------------------------------------------------------------------------------------------


def _image(rng: np.random.Generator) -> Shape:
    sides = [(1, 28, 28), (1, 28, 28), (3, 32, 32), (3, 32, 32), (3, 48, 48), (4, 64, 64), (1, 40, 24), (2, 16, 16)]
    return sides[rng.integers(len(sides))]


def _side(net: Builder) -> int:
    return min(net.shape[1:])


def _head(rng: np.random.Generator, style: Style, net: Builder) -> Builder:
    """Global average or all features, perhaps a hidden layer, then ten classes."""
    if rng.random() < 0.4 or np.prod(net.shape) > 20_000:
        net.layer("AdaptiveAvgPool2d", 1)
    style.drop(net.layer("Flatten"))
    if rng.random() < 0.4:
        style.drop(style.act(net.linear(int(rng.choice([32, 64, 128, 256])))))
    return net.linear(10)
