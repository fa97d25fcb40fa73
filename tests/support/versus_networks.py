"""A network with every kind of node that benchmarks/versus describes, for the tests of what is built of it."""

from __future__ import annotations

from benchmarks.versus.network import Builder, Network


def with_everything() -> Network:
    """By hand: 6×8×8 → 8×4×4, twice; their sum; beside the mean of all, 8 + 8 features; 5 classes."""
    net = Builder((6, 8, 8))
    net.conv(8, 3, stride=2, padding=1, groups=2).norm().layer("LeakyReLU", 0.2)
    first = net.last
    net.go(0).conv(8, (1, 3), padding=(0, 2), dilation=(1, 2), bias=False).layer("AvgPool2d", 3, stride=2, padding=1)
    net.plus(first).layer("GELU").layer("AdaptiveAvgPool2d", 1).layer("Flatten")
    mean = net.last
    net.go(first).layer("MaxPool2d", 3, stride=1, padding=1).layer("AdaptiveAvgPool2d", 1).layer("Flatten")
    return net.cat(mean).layer("Dropout", 0.5).linear(5).build(optimizer=("SGD", (("lr", 0.1),)))
