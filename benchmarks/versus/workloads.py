"""Networks, the works made of them, and their targets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .network import Builder, Network, Shape

SHAPES: dict[str, Shape] = {"mnist": (1, 28, 28), "cifar": (3, 32, 32)}
SGD = ("SGD", (("lr", 0.01), ("momentum", 0.9)))


def _cnn() -> Builder:
    net = Builder(SHAPES["mnist"]).conv(32, 3).layer("ReLU").conv(64, 3).layer("ReLU").layer("MaxPool2d", 2)
    return net.layer("Flatten").linear(128).layer("ReLU").linear(10)


def _lenet5() -> Builder:
    net = Builder(SHAPES["mnist"]).conv(6, 5, padding=2).layer("ReLU").layer("MaxPool2d", 2)
    net.conv(16, 5).layer("ReLU").layer("MaxPool2d", 2).layer("Flatten")
    return net.linear(120).layer("ReLU").linear(84).layer("ReLU").linear(10)


def _mlp() -> Builder:
    return Builder(SHAPES["mnist"]).layer("Flatten").linear(1000).layer("ReLU").linear(10)


def _cifar() -> Builder:
    net = Builder(SHAPES["cifar"])
    for channels, follows in ((32, ""), (32, "pool"), (64, ""), (64, "pool"), (128, "")):
        net.conv(channels, 3, padding=1, bias=False).norm().layer("ReLU")
        if follows:
            net.layer("MaxPool2d", 2)
    return net.layer("AdaptiveAvgPool2d", 1).layer("Flatten").linear(10)


def _linear() -> Builder:
    return Builder(SHAPES["mnist"]).layer("Flatten").linear(10)


MODELS: dict[str, Network] = {
    "cnn": _cnn().build(images="mnist", optimizer=SGD),
    "lenet5": _lenet5().build(images="mnist", optimizer=SGD),
    "mlp": _mlp().build(images="mnist", optimizer=SGD),
    "cifar": _cifar().build(images="cifar", optimizer=SGD),
    "linear": _linear().build(images="mnist", optimizer=SGD),
}

WORKLOADS = ("cnn", "lenet5", "mlp", "mlp-uint8", "cifar", "linear")  # -uint8: images as they are, Normalize first
BATCHES = (1, 32, 128, 512)
INFERENCE_BATCHES = (1, 32)
MATMUL = 1024


@dataclass(frozen=True)
class Work:
    """One thing to time: a training step or an inference of a model, or the product of two square matrices."""

    kind: str  # "step", "inference", "matmul"
    model: str = ""
    batch: int = 0
    uint8: bool = False

    def __str__(self) -> str:
        if self.kind == "matmul":
            return f"matmul {MATMUL}³"
        return f"{self.model} {self.kind}, B={self.batch}{', uint8' if self.uint8 else ''}"


def works(kind: str, workloads: tuple[str, ...], batches: tuple[int, ...]) -> Iterator[Work]:
    """Steps or inferences of the workloads, by model and batch."""
    for name in workloads:
        model, _, dtype = name.partition("-")
        for batch in batches:
            yield Work(kind, model, batch, dtype == "uint8")


# At least so many times as fast as the best mode of the best peer.
TARGETS: dict[Work, float] = {
    Work("step", "cnn", 128): 4.5,
    Work("step", "cnn", 32): 3.8,
    Work("step", "lenet5", 128): 4.5,
    Work("step", "lenet5", 32): 6.0,
    Work("step", "mlp", 128): 1.3,
    Work("step", "mlp", 128, uint8=True): 2.0,
    Work("step", "cifar", 128): 1.5,
}
# Likewise, against ONNX Runtime.
INFERENCE_TARGETS: dict[Work, float] = {
    Work("inference", "cnn", 1): 1.5,
    Work("inference", "lenet5", 1): 2.5,
    Work("inference", "mlp", 1): 1.25,
    Work("inference", "mlp", 1, uint8=True): 3.0,
}
# Operator by operator against PyTorch doing the same.
EAGER_TARGETS: dict[Work, float] = {Work("step", "cnn", 128): 1.0, Work("step", "lenet5", 128): 1.0}
SCALING_TARGETS: dict[Work, float] = {Work("step", "cnn", 128): 1.8, Work("step", "lenet5", 128): 1.8}
ABLATED = tuple(Work("step", model, 128) for model in ("cnn", "lenet5", "mlp", "cifar"))

DENSE_TIME_TARGET = 0.6  # of the time that the step's dense arithmetic takes at the FMA peak, at most
DENSE_TIME_WORK = Work("step", "cnn", 128)
MATMUL_TARGETS = {"avx512": 0.75, "avx2": 0.85}  # share of the FMA peak, at least
RUN_ACCURACY, RUN_SECONDS, RUN_RATIO = 0.99, 3.5, 4.0
MEMORY_MB = 300
