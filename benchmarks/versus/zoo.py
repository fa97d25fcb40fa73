"""The zoo: networks that people train, each with its batch size and targets."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .network import Builder, Network
from .workloads import Work

MNIST, CIFAR = (1, 28, 28), (3, 32, 32)
ADAM = ("Adam", (("lr", 1e-4),))


@dataclass(frozen=True)
class Entry:
    """A network, the batch of its training step, and how many times as fast as the best peer fastnn is to be.

    A single input's bound is against the better of ONNX Runtime and OpenVINO.
    """

    network: Network
    batch: int = 128
    step: float | None = None
    single: float | None = None
    inference: bool = True  # whether single inputs and batches of 32 are timed, too
    memory: bool = False  # whether training is to take no more memory than PyTorch's
    milliseconds: float | None = None  # the most that a step takes on REFERENCE_GFLOPS


REFERENCE_GFLOPS = 230.0  # of all threads together, for bounds in milliseconds
GEOMETRIC_MEAN, PERCENTILE_10, WORST = "geometric mean", "10th percentile", "worst"
# Least ratios of random networks: training steps; single inputs and batches of 32, against ONNX Runtime.
RANDOM_TARGETS: dict[str, dict[str, float]] = {
    "step": {GEOMETRIC_MEAN: 3.0, PERCENTILE_10: 1.5, WORST: 1.0},
    "inference 1": {GEOMETRIC_MEAN: 1.3, PERCENTILE_10: 0.8},
    "inference 32": {GEOMETRIC_MEAN: 1.5, PERCENTILE_10: 1.0},
}
AVX2_STEP_MEAN = 2.5  # likewise, where all are held to AVX2
FIRST_STEP_SECONDS = 0.05  # from compile to the end of the first step, beyond the step itself


def _mnist_example() -> Network:
    """PyTorch's examples/mnist."""
    net = Builder(MNIST).conv(32, 3).layer("ReLU").conv(64, 3).layer("ReLU").layer("MaxPool2d", 2)
    net.layer("Dropout", 0.25).layer("Flatten").linear(128).layer("ReLU").layer("Dropout", 0.5).linear(10)
    return net.build(images="mnist", optimizer=ADAM)


def _keras_convnet() -> Network:
    """Keras' mnist_convnet."""
    net = Builder(MNIST)
    for channels in (32, 64):
        net.conv(channels, 3).layer("ReLU").layer("MaxPool2d", 2)
    return net.layer("Flatten").layer("Dropout", 0.5).linear(10).build(images="mnist", optimizer=ADAM)


def _keras_mlp() -> Network:
    """Keras' mnist_mlp."""
    net = Builder(MNIST).layer("Flatten")
    for _ in range(2):
        net.linear(512).layer("ReLU").layer("Dropout", 0.2)
    return net.linear(10).build(images="mnist", optimizer=ADAM)


def basic_block(net: Builder, channels: int, stride: int = 1, activation: str = "ReLU") -> Builder:
    """Two convolutions and a residual sum (He et al. 2015); a 1×1 convolution beside them where the shape changes."""
    kept = net.last
    net.conv_norm(channels, 3, stride=stride, padding=1).layer(activation).conv_norm(channels, 3, padding=1)
    if net.shape != net.shapes[kept]:
        main = net.last
        kept = net.go(kept).conv_norm(channels, 1, stride=stride).last
        net.go(main)
    return net.plus(kept).layer(activation)


def _residual(blocks: int) -> Network:
    """16, 32 and 64 channels; of three blocks each it is ResNet-20."""
    net = Builder(CIFAR).conv_norm(16, 3, padding=1).layer("ReLU")
    for channels, stride in ((16, 1), (32, 2), (64, 2)):
        for number in range(blocks):
            basic_block(net, channels, stride if number == 0 else 1)
    net.layer("AdaptiveAvgPool2d", 1).layer("Flatten").linear(10)
    return net.build(images="cifar", optimizer=ADAM)


def _lenet(activation: str, pooling: str, padding: int) -> Network:
    """LeNet-5: 400 features where the first convolution is padded, 256 where it is not."""
    net = Builder(MNIST).conv(6, 5, padding=padding).layer(activation).layer(pooling, 2)
    net.conv(16, 5).layer(activation).layer(pooling, 2).layer("Flatten")
    for features in (120, 84):
        net.linear(features).layer(activation)
    return net.linear(10).build(images="mnist", optimizer=ADAM)


def _dense(sizes: tuple[int, ...], activation: str, loss: str) -> Network:
    net = Builder(sizes[:1])
    for features in sizes[1:-1]:
        net.linear(features).layer(activation)
    return net.linear(sizes[-1]).build(loss=loss, optimizer=ADAM)


def _strided(activation: str, *arguments: float) -> Network:
    net = Builder(CIFAR)
    for channels in (32, 64, 128):
        net.conv(channels, 3, stride=2, padding=1).layer(activation, *arguments)
    return net.layer("Flatten").linear(10).build(images="cifar", optimizer=ADAM)


def separable_block(net: Builder, channels: int, stride: int = 1, activation: str = "ReLU") -> Builder:
    """A depthwise and a 1×1 convolution with batch norm (Howard et al. 2017)."""
    net.conv_norm(net.shape[0], 3, stride=stride, padding=1, groups=net.shape[0]).layer(activation)
    return net.conv_norm(channels, 1).layer(activation)


def _separable() -> Network:
    net = Builder(CIFAR).conv_norm(32, 3, padding=1).layer("ReLU")
    for channels, stride in ((64, 1), (128, 2), (128, 1), (256, 2)):
        separable_block(net, channels, stride)
    net.layer("AdaptiveAvgPool2d", 1).layer("Flatten").linear(10)
    return net.build(images="cifar", optimizer=ADAM)


def _keyword_spotting() -> Network:
    """DS-CNN of "Hello Edge" (Zhang et al. 2017): 49 frames of 10 coefficients, 12 words."""
    net = Builder((1, 49, 10)).conv_norm(64, (10, 4), stride=2, padding=(5, 1)).layer("ReLU")
    for _ in range(4):
        separable_block(net, 64)
    return net.layer("AdaptiveAvgPool2d", 1).layer("Flatten").linear(12).build(optimizer=ADAM)


def _nature_cnn() -> Network:
    """The network of Mnih et al. 2015, for six actions."""
    net = Builder((4, 84, 84))
    for channels, size, stride in ((32, 8, 4), (64, 4, 2), (64, 3, 1)):
        net.conv(channels, size, stride=stride).layer("ReLU")
    return net.layer("Flatten").linear(512).layer("ReLU").linear(6).build(loss="MSELoss", optimizer=ADAM)


def _alphazero() -> Network:
    """Four residual blocks on 17 planes of a 9×9 board; policy (82) and value (1) in one row, trained by their sum."""
    net = Builder((17, 9, 9)).conv_norm(64, 3, padding=1).layer("ReLU")
    for _ in range(4):
        basic_block(net, 64)
    tower = net.last
    policy = net.conv_norm(2, 1).layer("ReLU").layer("Flatten").linear(82).last
    net.go(tower).conv_norm(1, 1).layer("ReLU").layer("Flatten").linear(64).layer("ReLU").linear(1).layer("Tanh")
    value = net.last
    return net.go(policy).cat(value).build(loss="PolicyValueLoss", optimizer=ADAM)


def _twin_critics() -> Network:
    """SAC's: two networks of their own on observation (17) and action (6)."""
    net = Builder((23,))
    heads = [net.go(0).linear(256).layer("ReLU").linear(256).layer("ReLU").linear(1).last for _ in range(2)]
    return net.go(heads[0]).cat(heads[1]).build(loss="MSELoss", optimizer=ADAM)


def _growth(shape: tuple[int, int, int], widths: tuple[int, int, int]) -> Network:
    net = Builder(shape)
    for channels in widths:
        net.conv(channels, 3, padding=1).layer("ReLU").layer("MaxPool2d", 2)
    return net.layer("Flatten").linear(10).build(images="cifar" if shape == CIFAR else "", optimizer=ADAM)


ZOO: dict[str, Entry] = {
    "mnist-example": Entry(_mnist_example(), 64, step=6),
    "keras-convnet": Entry(_keras_convnet(), step=9, single=2),
    "keras-mlp": Entry(_keras_mlp(), step=3),
    "residual": Entry(_residual(1), step=3, single=1.2),
    "resnet20": Entry(_residual(3), step=3),
    "lenet-tanh": Entry(_lenet("Tanh", "AvgPool2d", 2), step=4),
    "strided-relu": Entry(_strided("ReLU"), step=3),
    "strided-leaky": Entry(_strided("LeakyReLU", 0.2), step=3),
    "separable": Entry(_separable(), step=3, single=1.2),
    "nature-cnn": Entry(_nature_cnn(), 32, step=1.5, single=1),
    "ds-cnn": Entry(_keyword_spotting()),
    "alphazero": Entry(_alphazero(), 64, step=2.5),
    "policy": Entry(_dense((24, 64, 64, 6), "Tanh", "CrossEntropyLoss"), 64, step=6, single=3),
    "tanh-5x50": Entry(_dense((2, 50, 50, 50, 50, 50, 1), "Tanh", "MSELoss"), 1000, step=2.5),
    "sac-actor": Entry(_dense((17, 256, 256, 12), "ReLU", "MSELoss"), 256),
    "sac-critics": Entry(_twin_critics(), 256),
    "simplechains-lenet": Entry(_lenet("ReLU", "MaxPool2d", 0)),
    "simplechains-mlp": Entry(_dense((4, 32, 16, 4), "Tanh", "MSELoss"), 10_000, step=3.5, milliseconds=0.5),
    "growth-224": Entry(_growth((3, 224, 224), (32, 64, 128)), 4, step=3.5, inference=False, memory=True),
    "growth-32": Entry(_growth(CIFAR, (128, 256, 512)), 32, step=2, inference=False, memory=True),
    "growth-16": Entry(_growth((3, 16, 16), (256, 512, 1024)), step=1.2, inference=False, memory=True),
}
for _name in ("strided-relu", "strided-leaky"):
    ZOO[f"{_name}-32"] = replace(ZOO[_name], batch=32, inference=False)

TARGETS: dict[Work, float] = {
    Work("step", name, entry.batch): entry.step for name, entry in ZOO.items() if entry.step is not None
}
SINGLE_TARGETS: dict[Work, float] = {
    Work("inference", name, 1): entry.single for name, entry in ZOO.items() if entry.single is not None
}
