"""Data set, model, optimiser and schedule that go together: what `fastnn train` runs.

The models are functions of the images' shape and the number of classes; each begins with `nn.Normalize`, so that it
takes uint8 images as they come. A `Recipe` adds the numbers to train one with. Two are made for an end: `fast` gets
MNIST to 99 % in the least time, `best` gets it as far as three minutes on two cores allow.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from fastnn import init, weights
from fastnn.checks import number, whole
from fastnn.console import shown
from fastnn.data import Augment, Dataset
from fastnn.data.about import About
from fastnn.data.prepare import Preparation
from fastnn.errors import ArgumentError, DataError
from fastnn.nn import (
    BatchNorm2d,
    Conv2d,
    CrossEntropyLoss,
    Flatten,
    Linear,
    MaxPool2d,
    Module,
    Normalize,
    ReLU,
    Sequential,
)
from fastnn.optim import SGD, Adagrad, Adam, AdamW, GradientDescent, Optimizer, RMSprop, Rprop
from fastnn.schedules import LambdaLR, LRScheduler, OneCycleLR
from fastnn.train.config import WEIGHTS, read_config
from fastnn.train.finite import check_model as check_finite
from fastnn.train.history import History
from fastnn.train.path import ParameterPath, recorded
from fastnn.train.runs import HISTORIES

__all__ = [
    "ALGORITHMS",
    "FULL",
    "MODELS",
    "Recipe",
    "Run",
    "augmentation",
    "best",
    "cnn",
    "fast",
    "lenet5",
    "linear",
    "load_run",
    "mlp",
    "recipe",
]

Channels = float | Sequence[float]  # one number, or one a channel


def linear(
    image_shape: Sequence[int] = (1, 28, 28), classes: int = 10, mean: Channels = 0.0, std: Channels = 1.0
) -> Sequential:
    """Linear classifier y = W x + b over all pixels.

    Args, of all models:
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


def fast(
    image_shape: Sequence[int] = (1, 28, 28), classes: int = 10, mean: Channels = 0.0, std: Channels = 1.0
) -> Sequential:
    """Two 3x3 convolutions of 8 and 16 filters, each with max-pooling, and two dense layers."""
    channels, height, width = _at_least(10, image_shape, "fast")
    height, width = ((height - 2) // 2 - 2) // 2, ((width - 2) // 2 - 2) // 2
    return Sequential(
        Normalize(mean, std),
        Conv2d(channels, 8, 3), ReLU(), MaxPool2d(2),
        Conv2d(8, 16, 3), ReLU(), MaxPool2d(2),
        Flatten(),
        Linear(16 * height * width, 128), ReLU(),
        Linear(128, classes),
    )  # fmt: skip


def best(
    image_shape: Sequence[int] = (1, 28, 28), classes: int = 10, mean: Channels = 0.0, std: Channels = 1.0
) -> Sequential:
    """Twice two 3x3 convolutions with batch norm, of 32 and of 64 filters, and max-pooling; two dense layers."""
    channels, height, width = _at_least(16, image_shape, "best")
    height, width = ((height - 4) // 2 - 4) // 2, ((width - 4) // 2 - 4) // 2
    return Sequential(
        Normalize(mean, std),
        *_normalised(channels, 32), *_normalised(32, 32), MaxPool2d(2),
        *_normalised(32, 64), *_normalised(64, 64), MaxPool2d(2),
        Flatten(),
        Linear(64 * height * width, 128), ReLU(),
        Linear(128, classes),
    )  # fmt: skip


def _normalised(channels: int, filters: int) -> tuple[Module, ...]:
    return Conv2d(channels, filters, 3, bias=False), BatchNorm2d(filters), ReLU()


MODELS: dict[str, Callable[..., Sequential]] = {
    "cnn": cnn, "lenet5": lenet5, "mlp": mlp, "linear": linear, "fast": fast, "best": best,
}  # fmt: skip


FULL = "full"  # as a batch size: all images


@dataclass(frozen=True)
class Algorithm:
    """An optimiser, and the numbers that it is used with unless others are wanted."""

    make: Callable[..., Optimizer]
    name: str  # in a sentence
    numbers: dict[str, Any]  # fields of Recipe
    options: tuple[str, ...] = ("weight_decay",)  # which of them the optimiser takes, besides lr
    whole: bool = False  # of all images at once: then without a schedule, and 100 epochs


ALGORITHMS: dict[str, Algorithm] = {
    "gd": Algorithm(GradientDescent, "gradient descent with backtracking", {"lr": 1.0}, (), whole=True),
    "sgd": Algorithm(SGD, "SGD", {"lr": 0.1, "momentum": 0.0}),
    "momentum": Algorithm(SGD, "SGD with momentum {momentum:g}", {}, ("weight_decay", "momentum")),
    "nesterov": Algorithm(
        partial(SGD, nesterov=True), "SGD with Nesterov momentum {momentum:g}", {}, ("weight_decay", "momentum")
    ),
    "rprop": Algorithm(Rprop, "Rprop", {"lr": 1e-3}, (), whole=True),
    "adagrad": Algorithm(Adagrad, "Adagrad", {"lr": 1e-2, "weight_decay": 0.0}),
    "rmsprop": Algorithm(RMSprop, "RMSprop", {"lr": 1e-3, "weight_decay": 0.0}),
    "adam": Algorithm(Adam, "Adam", {"lr": 2e-3, "weight_decay": 0.0}),
    "adamw": Algorithm(AdamW, "AdamW", {"lr": 2e-3, "weight_decay": 1e-2}),
}


@dataclass(frozen=True)
class Recipe:
    """A model and the numbers to train it with: an optimiser, and a learning rate that changes.

    With `patience`, the learning rate in epoch k = 0, 1, ... is lr / (1 + k / patience)²: it depends on what has been
    trained, not on how much is still to come, so that a run can be made longer afterwards. Without, it makes one cycle
    over all batches of all epochs: in a straight line from lr / 10 up to lr, in another down to 0. Such a run is at its
    best at its end; made longer afterwards, it goes on where the longer cycle would be then. Gradient descent with
    backtracking and Rprop, which find their steps by themselves, keep the rate.

    Attributes:
        model: a key of `MODELS`.
        epochs, batch_size, lr, momentum, weight_decay, label_smoothing: as their names say.
        patience: epochs after which the learning rate is a quarter of what it was; None for one cycle.
        rise: the share of that cycle in which the learning rate rises.
        augment: whether the training images are moved at random (see `augmentation`).
        algorithm: a key of `ALGORITHMS`; those without momentum or weight decay leave these numbers alone.
        l1, l2, penalize_bias: penalties on the parameters, see `fastnn.optim.Optimizer`.
    """

    model: str
    epochs: int
    batch_size: int
    lr: float
    patience: float | None = None
    rise: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    label_smoothing: float = 0.0
    augment: bool = False
    algorithm: str = "nesterov"
    l1: float = 0.0
    l2: float = 0.0
    penalize_bias: bool = False

    def __post_init__(self) -> None:
        _algorithm(self.algorithm)
        if self.model not in MODELS:
            raise ArgumentError(f"expected a model among {', '.join(MODELS)}, got {self.model!r}")
        plain: dict[str, Any] = {
            name: whole("Recipe", name, getattr(self, name), 1) for name in ("epochs", "batch_size")
        }
        for name in ("lr", "momentum", "weight_decay", "l1", "l2"):
            plain[name] = number("Recipe", name, getattr(self, name), 0)
        for name in ("rise", "label_smoothing"):
            plain[name] = number("Recipe", name, getattr(self, name), 0, 1)
        if self.patience is not None:
            plain["patience"] = number("Recipe", "patience", self.patience, above=0)
        for name in ("augment", "penalize_bias"):
            plain[name] = bool(getattr(self, name))
        for name, value in plain.items():
            object.__setattr__(self, name, value)

    def build(self, train: Dataset) -> Sequential:
        """The model for images such as these, normalised by their statistics; ArgumentError if they are too small."""
        mean, std = train.statistics()
        return MODELS[self.model](train.image_shape, len(train.classes), mean, std)

    def optimizer(self, model: Any) -> Optimizer:
        algorithm = ALGORITHMS[self.algorithm]
        numbers = {name: getattr(self, name) for name in ("lr", "l1", "l2", "penalize_bias", *algorithm.options)}
        return algorithm.make(model.parameters(), **numbers)

    def scheduler(self, optimizer: Optimizer, batches: int) -> LRScheduler | None:
        """The schedule for epochs of so many batches; `fit` steps it after each batch or epoch, as it has to be."""
        if ALGORITHMS[self.algorithm].whole:
            return None
        if self.patience is not None:
            patience = self.patience
            return LambdaLR(optimizer, lambda epoch: (1 + epoch / patience) ** -2)
        return OneCycleLR(
            optimizer,
            self.lr,
            total_steps=self.epochs * batches,
            pct_start=self.rise,
            anneal_strategy="linear",
            cycle_momentum=False,
            div_factor=10,
        )

    def loss(self) -> CrossEntropyLoss:
        return CrossEntropyLoss(label_smoothing=self.label_smoothing)

    def augmentation(self, dataset: str) -> Augment | None:
        """What moves the images of that data set; None if this recipe does not."""
        return augmentation(dataset, self.model) if self.augment else None

    def __str__(self) -> str:
        """In words, such as `fastnn train` prints it."""
        algorithm = ALGORITHMS[self.algorithm]
        if algorithm.whole:
            rate = f"{self.lr:g}"
        elif self.patience is None:
            rate = f"up to {self.lr:g} in the first {100 * self.rise:g} % and then down to 0"
        else:
            rate = f"{self.lr:g} / (1 + epochs done / {self.patience:g})²"
        smoothed = f", labels smoothed by {self.label_smoothing:g}" if self.label_smoothing else ""
        moved = ", images moved at random" if self.augment else ""
        decay = f", weight decay {self.weight_decay:g}" if "weight_decay" in algorithm.options else ""
        terms = [f"{value:g} {norm}" for value, norm in ((self.l1, "Σ|w|"), (self.l2, "Σw²")) if value]
        penalty = f", penalty {' + '.join(terms)}{' with biases' if self.penalize_bias else ''}" if terms else ""
        return (
            f"{self.epochs} epoch{'' if self.epochs == 1 else 's'}, batches of {self.batch_size}, "
            f"{algorithm.name.format(momentum=self.momentum)}{decay}{penalty}, learning rate {rate}{smoothed}{moved}"
        )


def recipe(model: str, train: Dataset, **changes: Any) -> Recipe:
    """The recipe for a model on a training set of this size, with `changes` to its numbers.

    With another `algorithm`, the other numbers are those that suit it; ``batch_size="full"`` is all images.

    Raises ArgumentError for an unknown model or algorithm.

    >>> import fastnn as fnn
    >>> recipe("cnn", fnn.data.load("digits"), epochs=5).epochs
    5
    """
    algorithm = _algorithm(changes.get("algorithm", "nesterov"))
    few = len(train) < 10_000  # then small batches and more epochs make up for the updates
    if model == "fast":
        epochs, batch, lr = (20, 32, 0.05) if few else (3, 64, 0.15)
        base = Recipe(model, epochs, batch, lr, rise=0.5, weight_decay=0.0, label_smoothing=0.1)
    elif model == "best":
        epochs, batch, lr = (20, 32, 0.05) if few else (20, 128, 0.1)
        base = Recipe(model, epochs, batch, lr, rise=0.15, label_smoothing=0.1, augment=True)
    elif few:
        base = Recipe(model, epochs=10, batch_size=16, lr=0.02, patience=3, augment=True)
    else:
        base = Recipe(model, epochs=3, batch_size=64, lr=0.02 if model == "linear" else 0.05, patience=1)
    changes = {**algorithm.numbers, **changes}
    if algorithm.whole:
        changes = {"batch_size": FULL, "epochs": 100, "augment": False, "weight_decay": 0.0, **changes}
    if changes.get("batch_size") == FULL:
        changes["batch_size"] = len(train)
    return dataclasses.replace(base, **changes)


def _algorithm(name: str) -> Algorithm:
    if name not in ALGORITHMS:
        raise ArgumentError(f"expected an algorithm among {', '.join(ALGORITHMS)}, got {name!r}")
    return ALGORITHMS[name]


def augmentation(dataset: str, model: str = "cnn") -> Augment:
    """Random movements that leave the classes of a data set as they are: with reflections where they are known to. The
    recipe `best`, which sees an image many times, also changes their size and slant.
    """
    if dataset in ("fashion-mnist", "cifar10"):
        return Augment(shift=2, flip=True)
    return Augment(shift=2, rotate=10, scale=0.1, shear=0.1) if model == "best" else Augment(shift=1, rotate=10)


def recipe_of(config: Mapping[str, Any]) -> Recipe:
    """The recipe in a run's config. Raises DataError for one that is none."""
    try:
        return Recipe(**config["recipe"])
    except (TypeError, ArgumentError) as error:
        raise DataError(f"expected a recipe in the config of the run, got {config['recipe']} ({error})") from error


class Run(NamedTuple):
    """What `load_run` found: also the tuple ``(model, config, history)``.

    Attributes:
        model: in eval mode.
        config: what it was trained with, as in the run's config.json.
        history: the epochs; ``history.path`` is what ``--record-path`` recorded, or None.
    """

    model: Sequential
    config: dict[str, Any]
    history: History

    def predict(self, image: Any, **options: Any) -> Any:
        """The class of a picture, or of each of several: the same as ``run.model.predict(image)``; see `fnn.predict`.

        >>> import fastnn as fnn
        >>> fnn.recipes.Run(fnn.recipes.linear(), {}, fnn.History()).predict(fnn.data.load("digits").images[:5]).shape
        (5,)
        """
        return self.model.predict(image, **options)

    def predict_proba(self, image: Any, **options: Any) -> Any:
        """The probabilities of the classes, likewise."""
        return self.model.predict_proba(image, **options)

    def __repr__(self) -> str:
        about = f"{self.config.get('model')} trained on {self.config.get('dataset')}"
        return f"Run({shown(about)}: {len(self.history)} epochs; .model, .config, .history, .predict(image))"


def load_run(folder: str | os.PathLike[str]) -> Run:
    """The `Run` in the folder that ``fastnn train --out`` made: its ``.model``, ``.config`` and ``.history``.

    What ``train.Checkpoint`` keeps for a training in Python is no such folder, for lack of a description of the model.

    Raises DataError where there is no run, or one that has not finished an epoch, or one that is damaged, and
    NonFiniteError where the weights are not finite.
    """
    folder = Path(folder)
    config = read_config(folder)
    if not (folder / WEIGHTS).exists():
        raise DataError(f"the run in {folder} has not finished an epoch: it has no weights yet")
    try:
        with init.left_out():  # of a config that is not true, memory is asked for but never touched
            model = MODELS[config["model"]](
                config["image_shape"], len(config["classes"]), config["mean"], config["std"]
            )
        model.load_state_dict(weights.load(folder / WEIGHTS, like=model.state_dict()))
    except (KeyError, TypeError, ValueError, MemoryError, OverflowError) as error:
        raise DataError(f"expected config and weights of one run in {folder}, got others ({error})") from error
    check_finite(f"the run in {folder}", model)
    history = History.load(folder / HISTORIES[0])
    if recorded(folder):
        history.path = ParameterPath.load(folder)
    picture, classes = Preparation.of_run(config), tuple(config["classes"])
    loss = recipe_of(config).loss()
    vars(model)["_about"] = About(
        "classes", classes, picture, config["dataset"], config["images"], picture.shape, type(loss).__name__
    )
    return Run(model.eval(), config, history)


def _at_least(side: int, image_shape: Sequence[int], model: str) -> Sequence[int]:
    if len(image_shape) != 3 or min(image_shape[1:]) < side:
        raise ArgumentError(f"{model}: expected images (C, H, W) of at least {side}x{side}, got {tuple(image_shape)}")
    return image_shape
