"""A model and the numbers to train it with."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnn.checks import flag, mapping, number, text, whole
from fastnn.data import Augment, Dataset
from fastnn.data.frames import refuse_without_target
from fastnn.errors import ArgumentError, DataError, meant
from fastnn.nn import CrossEntropyLoss, MSELoss, Normalize, Sequential
from fastnn.optim import Optimizer
from fastnn.schedules import LambdaLR, LRScheduler, OneCycleLR
from fastnn.train.targets import no_distribution

from .algorithms import ALGORITHMS, FULL, algorithm
from .deep import mobile, resnet
from .rows import cnn1d, tabular
from .small import best, cnn, fast, lenet5, linear, mlp

__all__ = ["AUTO", "MODELS", "Recipe", "augmentation", "choose", "recipe", "recipe_of"]

MODELS: dict[str, Callable[..., Sequential]] = {
    "cnn": cnn, "lenet5": lenet5, "mlp": mlp, "linear": linear, "fast": fast, "best": best, "resnet": resnet,
    "mobile": mobile, "tabular": tabular, "cnn1d": cnn1d,
}  # fmt: skip

AUTO = "auto"  # as a model: see `choose`
FEW = 10_000  # samples
SEEN = 8_640  # samples that a deep model is to see at least in all, where 60 epochs are enough for it


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
        values: whether the targets are values (a regression) instead of classes.
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
    values: bool = False

    def __post_init__(self) -> None:
        algorithm(self.algorithm)
        if not isinstance(self.model, str) or self.model not in MODELS:
            near = meant(self.model, (*MODELS, AUTO))
            raise ArgumentError(f"expected a model among {', '.join((*MODELS, AUTO))}, got {self.model!r}{near}")
        plain: dict[str, Any] = {
            name: whole("Recipe", name, getattr(self, name), 1) for name in ("epochs", "batch_size")
        }
        for name in ("lr", "momentum", "weight_decay", "l1", "l2"):
            plain[name] = number("Recipe", name, getattr(self, name), 0)
        for name in ("rise", "label_smoothing"):
            plain[name] = number("Recipe", name, getattr(self, name), 0, 1)
        if self.patience is not None:
            plain["patience"] = number("Recipe", "patience", self.patience, above=0)
        for name in ("augment", "penalize_bias", "values"):
            plain[name] = flag("Recipe", name, getattr(self, name))
        for name, value in plain.items():
            object.__setattr__(self, name, value)

    def build(self, train: Dataset) -> Sequential:
        """The model for samples such as these, normalised by their statistics; ArgumentError if images are too small.

        The model of a regression ends with the targets' own scale, so that it learns numbers of any size alike.
        """
        single = self.model == "cnn1d" and train.images.ndim == 2  # a signal of one channel, and not columns
        scale = Normalize.of(train.images[:, np.newaxis] if single else train)
        outputs = math.prod(train.labels.shape[1:]) if self.values else len(train.classes)
        model = MODELS[self.model](train.image_shape, outputs, scale.mean, scale.std)
        if self.values:
            targets = train.labels.reshape(len(train), -1)
            if (missing := np.isnan(targets).any(axis=1)).any():
                refuse_without_target(missing)
            of = Normalize.of(targets)
            model.append(Normalize(list(-of.mean / of.std), list(1 / of.std), pixels=False))
        return model

    def optimizer(self, model: Any) -> Optimizer:
        algorithm = ALGORITHMS[self.algorithm]
        numbers = {name: getattr(self, name) for name in ("lr", "l1", "l2", "penalize_bias", *algorithm.options)}
        found = algorithm.make(model.parameters(), **numbers)
        if self.values:  # gradients grow with the square of the targets' scale, and Adam's ε is for those of scale 1
            scale = 1 / float(model[-1].std.max())
            for group in found.param_groups:
                if "eps" in group:
                    group["eps"] *= min(1.0, scale**2)
        return found

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

    def loss(self) -> CrossEntropyLoss | MSELoss:
        return MSELoss() if self.values else CrossEntropyLoss(label_smoothing=self.label_smoothing)

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

    "auto" is the model of `choose`. With another `algorithm`, the other numbers are those that suit it;
    ``batch_size="full"`` is all images.

    Raises ArgumentError for an unknown model or algorithm.

    >>> import fastnn as fnn
    >>> recipe("cnn", fnn.data.load("digits"), epochs=5).epochs
    5
    """
    _check_data("recipe", train)
    model = choose(train) if text("recipe", "model", model) == AUTO else model
    values = changes.setdefault("values", _are_values(train.labels))
    if values and model not in ("tabular", "cnn1d"):
        changes.setdefault("algorithm", "adamw")  # whose steps do not grow with the targets' scale
    if values or train.images.ndim != 4:
        changes.setdefault("augment", False)
    chosen = algorithm(changes.get("algorithm", "nesterov"))
    few = len(train) < FEW  # then small batches and more epochs make up for the updates
    if model == "fast":
        epochs, batch, lr = (20, 32, 0.05) if few else (3, 64, 0.15)
        base = Recipe(model, epochs, batch, lr, rise=0.5, weight_decay=0.0, label_smoothing=0.1)
    elif model == "best":
        epochs, batch, lr = (20, 32, 0.05) if few else (20, 128, 0.1)
        base = Recipe(model, epochs, batch, lr, rise=0.15, label_smoothing=0.1, augment=True)
    elif model in ("resnet", "mobile"):
        epochs = max(20, min(60, SEEN // max(len(train), 1)))
        batch, lr = (16, 0.05) if few else (128, 0.1)
        base = Recipe(model, epochs, batch, lr, rise=0.15, label_smoothing=0.1, augment=True)
    elif model in ("tabular", "cnn1d"):
        epochs, batch, lr = (30, 16, 1e-3) if few else (20, 128, 3e-3)
        base = Recipe(model, epochs, batch, lr, rise=0.15, weight_decay=1e-2, algorithm="adamw")
    elif few:
        base = Recipe(model, epochs=10, batch_size=16, lr=0.02, patience=3, augment=True)
    else:
        base = Recipe(model, epochs=3, batch_size=64, lr=0.02 if model == "linear" else 0.05, patience=1)
    changes = {**chosen.numbers, **changes}
    if chosen.whole:
        changes = {"batch_size": FULL, "epochs": 100, "augment": False, "weight_decay": 0.0, **changes}
    if changes.get("batch_size") == FULL:
        changes["batch_size"] = len(train)
    return dataclasses.replace(base, **changes)


def _check_data(where: str, train: Any) -> None:
    if not isinstance(train, Dataset):
        raise ArgumentError(f"{where}: expected a Dataset, as fnn.data.load gives, got {type(train).__name__}")


def _are_values(labels: np.ndarray) -> bool:
    """Whether targets are those of a regression: floating, and no probabilities of classes."""
    return labels.dtype.kind == "f" and (
        labels.ndim == 1 or labels.shape[1] == 1 or no_distribution(labels) is not None
    )


def choose(train: Dataset) -> str:
    """The model that suits such samples: a key of `MODELS`, and what "auto" stands for.

    Rows (F,) of a table get `tabular`, signals (C, L) `cnn1d`, small gray pictures `cnn`. Pictures in colour or larger
    ones get `mobile`, which learns from few, and `resnet` from 10,000 on, unless they are smaller than 8x8.

    Raises ArgumentError for other samples.

    >>> import fastnn as fnn
    >>> choose(fnn.data.load("digits"))
    'cnn'
    """
    _check_data("choose", train)
    shape = train.image_shape
    if len(shape) == 1:
        return "tabular"
    if len(shape) == 2 and train.images.dtype != np.uint8:
        return "cnn1d"
    if len(shape) != 3:
        raise ArgumentError(
            f"auto: expected images (N, C, H, W), floating signals (N, C, L) or rows (N, F), got {train.images.dtype} "
            f"{train.images.shape}"
        )
    channels, *sides = shape
    if min(sides) < 6:
        return "mlp"
    if min(sides) < 8 or (channels == 1 and max(sides) <= 32):
        return "cnn"
    return "mobile" if len(train) < FEW else "resnet"


def augmentation(dataset: str, model: str = "cnn") -> Augment:
    """Random movements that leave the classes of a data set as they are: with reflections where they are known to. The
    recipes `best`, `resnet` and `mobile`, which see an image many times, also change their size and slant.
    """
    if text("augmentation", "dataset", dataset) in ("fashion-mnist", "cifar10"):
        return Augment(shift=2, flip=True)
    if text("augmentation", "model", model) in ("best", "resnet", "mobile"):
        return Augment(shift=2, rotate=10, scale=0.1, shear=0.1)
    return Augment(shift=1, rotate=10)


def recipe_of(config: Mapping[str, Any]) -> Recipe:
    """The recipe in a run's config. Raises DataError for one that is none."""
    given = mapping("recipe_of", "config", config).get("recipe")
    try:
        return Recipe(**given)  # type: ignore[arg-type]
    except (TypeError, ArgumentError) as error:
        raise DataError(f"expected a recipe in the config of the run, got {given} ({error})") from error
