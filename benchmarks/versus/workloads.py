"""What is measured: models as lists of layers, the works made of them, and what is aimed at.

Layers carry the names and the argument order that PyTorch and fastnn share, so that each side builds its own from the
same list.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    kind: str
    args: tuple[Any, ...] = ()
    options: tuple[tuple[str, Any], ...] = ()

    def build(self, library: Any) -> Any:
        """The layer of this name in a module such as torch.nn."""
        return getattr(library, self.kind)(*self.args, **dict(self.options))


def layer(kind: str, *args: Any, **options: Any) -> Layer:
    return Layer(kind, args, tuple(options.items()))


def _norm_block(inputs: int, outputs: int) -> tuple[Layer, ...]:
    return layer("Conv2d", inputs, outputs, 3, padding=1, bias=False), layer("BatchNorm2d", outputs), layer("ReLU")


_POOL = layer("MaxPool2d", 2)

MODELS: dict[str, tuple[Layer, ...]] = {
    "cnn": (
        layer("Conv2d", 1, 32, 3), layer("ReLU"), layer("Conv2d", 32, 64, 3), layer("ReLU"), _POOL,
        layer("Flatten"), layer("Linear", 9216, 128), layer("ReLU"), layer("Linear", 128, 10),
    ),
    "lenet5": (
        layer("Conv2d", 1, 6, 5, padding=2), layer("ReLU"), _POOL, layer("Conv2d", 6, 16, 5), layer("ReLU"), _POOL,
        layer("Flatten"), layer("Linear", 400, 120), layer("ReLU"), layer("Linear", 120, 84), layer("ReLU"),
        layer("Linear", 84, 10),
    ),
    "mlp": (layer("Flatten"), layer("Linear", 784, 1000), layer("ReLU"), layer("Linear", 1000, 10)),
    "cifar": (
        *_norm_block(3, 32), *_norm_block(32, 32), _POOL, *_norm_block(32, 64), *_norm_block(64, 64), _POOL,
        *_norm_block(64, 128), layer("AdaptiveAvgPool2d", 1), layer("Flatten"), layer("Linear", 128, 10),
    ),
    "linear": (layer("Flatten"), layer("Linear", 784, 10)),
}  # fmt: skip
IMAGES = {"cifar": "cifar"}  # which images a model takes, of feed.py; "mnist" where nothing is said
SHAPES: dict[str, Shape] = {"mnist": (1, 28, 28), "cifar": (3, 32, 32)}
SGD: dict[str, Any] = {"lr": 0.01, "momentum": 0.9}

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

    @property
    def images(self) -> str:
        return IMAGES.get(self.model, "mnist")

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


def step_flops(model: str) -> float:
    """Multiplications and additions of one image's training step, none left out: convolutions and dense layers.

    Forward, gradient of the weights, and gradient of the input for all but the first.
    """
    total, first = 0.0, True
    shape = SHAPES[IMAGES.get(model, "mnist")]
    for each in MODELS[model]:
        weights, shape = _weights_and_output(each, shape)
        flops = 2.0 * weights * math.prod(shape[1:])
        if flops:
            total += flops * (2 if first else 3)
            first = False
    return total


def _weights_and_output(each: Layer, shape: Shape) -> tuple[int, Shape]:
    if each.kind == "Conv2d":
        inputs, outputs, size = each.args
        shrinks = 2 * dict(each.options).get("padding", 0) - size + 1
        return inputs * outputs * size * size, (outputs, shape[1] + shrinks, shape[2] + shrinks)
    if each.kind == "Linear":
        return math.prod(each.args), (each.args[1],)
    if each.kind == "MaxPool2d":
        return 0, (shape[0], shape[1] // each.args[0], shape[2] // each.args[0])
    if each.kind == "AdaptiveAvgPool2d":
        return 0, (shape[0], 1, 1)
    if each.kind == "Flatten":
        return 0, (math.prod(shape),)
    return 0, shape
