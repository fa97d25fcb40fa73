"""Data set, model, optimiser and schedule that go together: what `fastnn train` runs.

The four models are functions of the images' shape and the number of classes; each begins with `nn.Normalize`, so that
it takes uint8 images as they come. A `Recipe` adds the numbers to train one with.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastnn import weights
from fastnn.data import Augment, Dataset
from fastnn.errors import ArgumentError, DataError
from fastnn.nn import Conv2d, Flatten, Linear, MaxPool2d, Normalize, ReLU, Sequential
from fastnn.optim import SGD
from fastnn.schedules import LambdaLR
from fastnn.train.history import History
from fastnn.train.runs import HISTORIES, WEIGHTS, read_config

__all__ = ["MODELS", "Recipe", "augmentation", "cnn", "lenet5", "linear", "load_run", "mlp", "recipe"]

Channels = float | Sequence[float]  # one number, or one a channel


def linear(
    image_shape: Sequence[int] = (1, 28, 28), classes: int = 10, mean: Channels = 0.0, std: Channels = 1.0
) -> Sequential:
    """Linear classifier y = W x + b over all pixels.

    Args, of all four models:
        image_shape: (C, H, W) of the images. Raises ArgumentError if they are too small for the model.
        classes: number of outputs.
        mean, std: of the training images, on the scale 0 .. 1, for `nn.Normalize`.
    """
    return Sequential(Normalize(mean, std), Flatten(), Linear(math.prod(image_shape), classes))


def mlp(
    image_shape: Sequence[int] = (1, 28, 28), classes: int = 10, mean: Channels = 0.0, std: Channels = 1.0
) -> Sequential:
    """One hidden layer of 1000 ReLU units."""
    return Sequential(
        Normalize(mean, std), Flatten(), Linear(math.prod(image_shape), 1000), ReLU(), Linear(1000, classes)
    )


def lenet5(
    image_shape: Sequence[int] = (1, 28, 28), classes: int = 10, mean: Channels = 0.0, std: Channels = 1.0
) -> Sequential:
    """LeNet-5 with ReLU and max-pooling (after LeCun et al. 1998): two 5x5 convolutions, three dense layers."""
    channels, height, width = _at_least(12, image_shape, "lenet5")
    height, width = (height // 2 - 4) // 2, (width // 2 - 4) // 2
    return Sequential(
        Normalize(mean, std),
        Conv2d(channels, 6, 5, padding=2), ReLU(), MaxPool2d(2),
        Conv2d(6, 16, 5), ReLU(), MaxPool2d(2),
        Flatten(),
        Linear(16 * height * width, 120), ReLU(),
        Linear(120, 84), ReLU(),
        Linear(84, classes),
    )  # fmt: skip


def cnn(
    image_shape: Sequence[int] = (1, 28, 28), classes: int = 10, mean: Channels = 0.0, std: Channels = 1.0
) -> Sequential:
    """Two 3x3 convolutions of 32 and 64 filters, one max-pooling, two dense layers.

    >>> cnn()((__import__("numpy").zeros((2, 1, 28, 28), "uint8"))).shape
    (2, 10)
    """
    channels, height, width = _at_least(6, image_shape, "cnn")
    height, width = (height - 4) // 2, (width - 4) // 2
    return Sequential(
        Normalize(mean, std),
        Conv2d(channels, 32, 3), ReLU(),
        Conv2d(32, 64, 3), ReLU(), MaxPool2d(2),
        Flatten(),
        Linear(64 * height * width, 128), ReLU(),
        Linear(128, classes),
    )  # fmt: skip


MODELS: dict[str, Callable[..., Sequential]] = {"cnn": cnn, "lenet5": lenet5, "mlp": mlp, "linear": linear}


@dataclass(frozen=True)
class Recipe:
    """A model and the numbers to train it with: SGD with Nesterov's momentum, and a learning rate that falls from epoch
    to epoch.

    In epoch k = 0, 1, ... the learning rate is lr / (1 + k / patience)²: it depends on what has been trained, not on
    how much is still to come, so that a run can be made longer afterwards.

    Attributes:
        model: a key of `MODELS`.
        epochs, batch_size, lr, momentum, weight_decay: as their names say.
        patience: epochs after which the learning rate is a quarter of what it was.
        augment: whether the training images are moved at random (see `augmentation`).
    """

    model: str
    epochs: int
    batch_size: int
    lr: float
    patience: float
    momentum: float = 0.9
    weight_decay: float = 5e-4
    augment: bool = False

    def build(self, train: Dataset) -> Sequential:
        """The model for images such as these, normalised by their statistics; ArgumentError if they are too small."""
        mean, std = train.statistics()
        return MODELS[self.model](train.image_shape, len(train.classes), mean, std)

    def optimizer(self, model: Any) -> SGD:
        return SGD(
            model.parameters(), lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay, nesterov=True
        )

    def scheduler(self, optimizer: SGD) -> LambdaLR:
        return LambdaLR(optimizer, lambda epoch: (1 + epoch / self.patience) ** -2)

    def __str__(self) -> str:
        """In words, such as `fastnn train` prints it."""
        moved = ", images moved at random" if self.augment else ""
        return (
            f"{self.epochs} epoch{'' if self.epochs == 1 else 's'}, batches of {self.batch_size}, SGD with Nesterov "
            f"momentum {self.momentum:g}, weight decay {self.weight_decay:g}, learning rate {self.lr:g} / "
            f"(1 + epochs done / {self.patience:g})²{moved}"
        )


def recipe(model: str, train: Dataset, **changes: Any) -> Recipe:
    """The recipe for a model on a training set of this size, with `changes` to its numbers.

    Raises ArgumentError for an unknown model.

    >>> import fastnn as fnn
    >>> recipe("cnn", fnn.data.load("digits"), epochs=5).epochs
    5
    """
    if model not in MODELS:
        raise ArgumentError(f"expected a model among {', '.join(MODELS)}, got {model!r}")
    if len(train) < 10_000:  # few images: small batches and more epochs make up for the updates
        base = Recipe(model, epochs=10, batch_size=16, lr=0.02, patience=3, augment=True)
    else:
        base = Recipe(model, epochs=3, batch_size=64, lr=0.02 if model == "linear" else 0.05, patience=1)
    return dataclasses.replace(base, **changes)


def augmentation(dataset: str) -> Augment:
    """Random movements that leave the classes of a data set as they are: with reflections where they are known to."""
    if dataset in ("fashion-mnist", "cifar10"):
        return Augment(shift=2, flip=True)
    return Augment(shift=1, rotate=10)


def load_run(folder: str | os.PathLike[str]) -> tuple[Sequential, dict[str, Any], History]:
    """``(model, config, history)`` out of the folder that ``fastnn train --out`` made; the model is in eval mode.

    What ``train.Checkpoint`` keeps for a training in Python is no such folder, for lack of a description of the model.

    Raises DataError where there is no run, or one that has not finished an epoch, or one that is damaged.
    """
    folder = Path(folder)
    config = read_config(folder)
    if not (folder / WEIGHTS).exists():
        raise DataError(f"the run in {folder} has not finished an epoch: it has no weights yet")
    try:
        model = MODELS[config["model"]](config["image_shape"], len(config["classes"]), config["mean"], config["std"])
        model.load_state_dict(weights.load(folder / WEIGHTS))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"expected config and weights of one run in {folder}, got others ({error})") from error
    return model.eval(), config, History.load(folder / HISTORIES[0])


def _at_least(side: int, image_shape: Sequence[int], model: str) -> Sequence[int]:
    if len(image_shape) != 3 or min(image_shape[1:]) < side:
        raise ArgumentError(f"{model}: expected images (C, H, W) of at least {side}x{side}, got {tuple(image_shape)}")
    return image_shape
