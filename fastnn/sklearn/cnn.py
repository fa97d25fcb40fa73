"""Convolutional networks as an estimator."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
from sklearn.utils.validation import validate_data

from fastnn import locks, nn, random
from fastnn.checks import is_whole
from fastnn.errors import ArgumentError, ShapeError, meant
from fastnn.recipes import MODELS

from .base import Classifier

__all__ = ["CNNClassifier"]

_seeding = locks.lock()  # held while fastnn's random numbers are borrowed for first weights


@dataclass(eq=False, repr=False)
class CNNClassifier(Classifier):
    """A convolutional network that classifies pictures.

    Args:
        model: "small", which is two 3x3 convolutions of 16 and 32 filters, each with max-pooling where there is room,
            and two dense layers; or one of `fastnn.recipes.MODELS`, such as "fast", "lenet5" or "resnet"; or a function
            of the shape (C, H, W) and the number of classes that returns a module. These get their pictures on one
            scale, by the mean and the deviation of each channel in the training data. Or a module, which is copied and
            gets them as they are.
        image_shape: (H, W) or (C, H, W) of flat samples (N, F); one number may be -1, for what is left. None: flat
            samples are square and gray.
        max_iter: epochs, 20 by default.

    All others are those of `MLPClassifier`, and so are the attributes, but for coefs_ and intercepts_;
    image_shape_: (C, H, W).

    >>> from sklearn.datasets import load_digits
    >>> X, y = load_digits(return_X_y=True)  # 8x8 pixels, flat
    >>> model = CNNClassifier(max_iter=5, random_state=0, learning_rate_init=0.01).fit(X[:1000], y[:1000])
    >>> model.score(X[1000:], y[1000:]) > 0.8
    True
    """

    model: Any = "small"
    image_shape: Sequence[int] | None = None
    _: KW_ONLY
    max_iter: int = 20

    def _samples(self, X: Any, y: Any = "no_validation", *, reset: bool = False) -> Any:
        """X as float32 (N, C, H, W), or the pair of that and y."""
        checked = validate_data(self, X, y, allow_nd=True, dtype=(np.float64, np.float32), reset=reset)
        X, y = checked if isinstance(checked, tuple) else (checked, None)
        images = np.ascontiguousarray(self._images(X), np.float32)
        if reset:
            self.image_shape_ = images.shape[1:]
        if images.shape[1:] != self.image_shape_:
            found = images.shape[1:]
            raise ShapeError(f"{self._name}: expected images {self.image_shape_} as in the training, got {found}")
        return images if y is None else (images, y)

    def _images(self, X: np.ndarray) -> np.ndarray:
        if X.ndim == 4:
            return X
        if X.ndim == 3:
            return X[:, np.newaxis]
        side = math.isqrt(X.shape[1])
        if self.image_shape is None and side * side == X.shape[1] and X.ndim == 2:
            return X.reshape(-1, 1, side, side)
        try:
            return X.reshape(len(X), *(1,) * (3 - len(self._shape())), *self._shape())
        except ValueError:
            pass
        raise ShapeError(
            f"{self._name}: expected images (N, H, W) or (N, C, H, W), or flat ones with their image_shape, such as "
            f"(28, 28), got {X.shape} and image_shape={self.image_shape}"
        )

    def _shape(self) -> tuple[int, ...]:
        return () if self.image_shape is None else tuple(self.image_shape)

    def _network(self, X: np.ndarray, state: np.random.RandomState) -> nn.Module:
        seed = int(state.randint(2**31))
        if isinstance(self.model, nn.Module):
            return copy.deepcopy(self.model)
        build = self.model if callable(self.model) else {"small": _small, **MODELS}[self.model]
        with _seeding:
            before = random.get_state()
            random.manual_seed(seed)
            try:
                return nn.Sequential(nn.Normalize.of(X), build(self.image_shape_, len(self.classes_)))
            finally:
                random.set_state(before)

    def _check_parameters(self) -> None:
        super()._check_parameters()
        known = ("small", *MODELS)
        if not (callable(self.model) or self.model in known):
            raise ArgumentError(
                f"{self._name}: expected model to be a module, a function that makes one, or one of "
                f"{', '.join(known)}, got {self.model!r}{meant(self.model, known)}"
            )
        shape = self._shape()
        if self.image_shape is not None and not (len(shape) in (2, 3) and all(is_whole(s, -1) and s for s in shape)):
            raise ArgumentError(f"{self._name}: expected image_shape (H, W) or (C, H, W), got {self.image_shape!r}")

    def _stratify(self, y: np.ndarray) -> np.ndarray:
        return y

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = False
        tags.input_tags.three_d_array = True
        return tags


def _small(image_shape: Sequence[int], classes: int) -> nn.Sequential:
    channels, height, width = image_shape
    layers: list[nn.Module] = []
    for filters in (16, 32):
        pool = (2 if height > 3 else 1, 2 if width > 3 else 1)
        layers += [nn.Conv2d(channels, filters, 3, padding=1), nn.ReLU(), nn.MaxPool2d(pool)]
        channels, height, width = filters, height // pool[0], width // pool[1]
    return nn.Sequential(
        *layers, nn.Flatten(), nn.Linear(channels * height * width, 128), nn.ReLU(), nn.Linear(128, classes)
    )
