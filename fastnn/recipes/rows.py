"""Models for tables and for signals."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fastnn.errors import ArgumentError
from fastnn.nn import (
    AdaptiveAvgPool1d,
    BatchNorm1d,
    Conv1d,
    Flatten,
    Linear,
    Module,
    Normalize,
    ReLU,
    Sequential,
    Unflatten,
)

from .small import Channels, shape

__all__ = ["cnn1d", "tabular"]


def tabular(
    sample_shape: Sequence[int] = (10,), classes: int = 2, mean: Channels = 0.0, std: Channels = 1.0
) -> Sequential:
    """One hidden layer of 100 ReLU units, for the rows of a table, whose columns are brought to one scale.

    Args:
        sample_shape: (F,), the number of columns.
        classes: number of outputs.
        mean, std: of each column.
    """
    features = math.prod(shape("tabular", sample_shape))
    return Sequential(
        Normalize(mean, std, pixels=False), Flatten(), Linear(features, 100), ReLU(), Linear(100, classes)
    )


def cnn1d(
    sample_shape: Sequence[int] = (1, 100), classes: int = 2, mean: Channels = 0.0, std: Channels = 1.0
) -> Sequential:
    """Three convolutions along time with batch norm and an average over all times, for signals of any length: a fully
    convolutional network (Wang, Yan and Oates 2017, section II-B) of half its width.

    Args:
        sample_shape: (C, L) of the signals, or (L,) for one channel. Raises ArgumentError for any other.
        classes: number of outputs.
        mean, std: of each channel.

    >>> import fastnn as fnn
    >>> cnn1d((3, 50), 4)(fnn.zeros(2, 3, 50)).shape
    (2, 4)
    """
    sample_shape = shape("cnn1d", sample_shape)
    if len(sample_shape) not in (1, 2):
        raise ArgumentError(f"cnn1d: expected signals (C, L) or (L,), got samples of shape {tuple(sample_shape)}")
    channels = sample_shape[0] if len(sample_shape) == 2 else 1
    return Sequential(
        *(() if len(sample_shape) == 2 else (Unflatten(1, (1, sample_shape[0])),)),
        Normalize(mean, std, pixels=False),
        *_along_time(channels, 64, 7), *_along_time(64, 128, 5), *_along_time(128, 64, 3),
        AdaptiveAvgPool1d(1), Flatten(),
        Linear(64, classes),
    )  # fmt: skip


def _along_time(inputs: int, outputs: int, width: int) -> tuple[Module, ...]:
    return Conv1d(inputs, outputs, width, padding="same", bias=False), BatchNorm1d(outputs), ReLU()
