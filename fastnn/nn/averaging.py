"""Averages of weights over training, by PyTorch's names; users find them as `optim.swa_utils`.

Stochastic weight averaging: Izmailov et al. 2018, https://arxiv.org/abs/1803.05407.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from fastnn import versions
from fastnn.checks import flag, number
from fastnn.errors import ArgumentError, ShapeError
from fastnn.nn.module import Module, expect_module
from fastnn.nn.norm import BatchNorm1d, BatchNorm2d
from fastnn.schedules import SWALR as SWALR
from fastnn.tape import no_grad
from fastnn.tensors import Array

__all__ = [
    "SWALR",
    "AveragedModel",
    "get_ema_avg_fn",
    "get_ema_multi_avg_fn",
    "get_swa_avg_fn",
    "get_swa_multi_avg_fn",
    "update_bn",
]

Average = Callable[[Any, Any, Any], Any]


def get_ema_avg_fn(decay: float = 0.999) -> Average:
    """decay · average + (1 - decay) · value: an exponential moving average."""
    decay = number("get_ema_avg_fn", "decay", decay, 0, 1)
    return lambda average, value, count: decay * average + (1 - decay) * value


def get_swa_avg_fn() -> Average:
    """The mean of all values so far."""
    return lambda average, value, count: average + (value - average) / (count + 1)


def _of_lists(one: Average) -> Callable[[Sequence[Any], Sequence[Any], Any], None]:
    def update(averages: Sequence[Any], values: Sequence[Any], count: Any) -> None:
        for average, value in zip(averages, values, strict=True):
            average[...] = one(average, value, count)

    return update


def get_ema_multi_avg_fn(decay: float = 0.999) -> Callable[[Sequence[Any], Sequence[Any], Any], None]:
    """`get_ema_avg_fn` for lists of arrays, in place."""
    return _of_lists(get_ema_avg_fn(decay))


def get_swa_multi_avg_fn() -> Callable[[Sequence[Any], Sequence[Any], Any], None]:
    """`get_swa_avg_fn` for lists of arrays, in place."""
    return _of_lists(get_swa_avg_fn())


class AveragedModel(Module):
    """A copy of a model (`module`) whose parameters are averages of the model's, as of each `update_parameters(model)`.

    Args:
        model: the Module to copy.
        device: taken and ignored.
        avg_fn: ``avg_fn(average, value, count)`` gives the new average of one parameter; by default the mean.
        multi_avg_fn: the same for lists of arrays, in place.
        use_buffers: whether buffers are averaged, too; otherwise they are copied.

    `n_averaged`, a buffer, counts the updates.

    >>> from fastnn import nn, optim
    >>> model = nn.Linear(1, 1)
    >>> mean = optim.swa_utils.AveragedModel(model)
    >>> for value in (1.0, 2.0, 6.0):
    ...     model.weight.data[...] = value
    ...     mean.update_parameters(model)
    >>> mean.module.weight.item(), int(mean.n_averaged)
    (3.0, 3)
    """

    n_averaged: Array

    def __init__(
        self,
        model: Module,
        device: Any = None,
        avg_fn: Average | None = None,
        multi_avg_fn: Callable[..., None] | None = None,
        use_buffers: bool = False,
    ) -> None:
        super().__init__()
        model = getattr(model, "_orig_mod", model)  # of a compiled one
        model = expect_module("AveragedModel", model)
        if avg_fn is not None and multi_avg_fn is not None:
            raise ArgumentError("AveragedModel: expected avg_fn or multi_avg_fn, got both")
        self.module = copy.deepcopy(model)
        self.register_buffer("n_averaged", np.zeros((), np.int64))
        self.use_buffers = flag("AveragedModel", "use_buffers", use_buffers)
        self._average = multi_avg_fn or _of_lists(avg_fn or get_swa_avg_fn())

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)

    def update_parameters(self, model: Module) -> None:
        """Let the model's present weights count; the first ones are copied."""
        model = getattr(model, "_orig_mod", model)
        model = expect_module("update_parameters", model)
        averages, values = _arrays(self.module, self.use_buffers), _arrays(model, self.use_buffers)
        if [each.shape for each in averages] != [each.shape for each in values]:  # before any is written
            raise ShapeError("update_parameters: expected the model that was averaged, got one with other parameters")
        if self.n_averaged == 0:
            _copy(averages, values)
        else:
            self._average(averages, values, int(self.n_averaged))
        if not self.use_buffers:
            _copy(_buffers(self.module), _buffers(model))
        versions.wrote(*averages)
        self.n_averaged += 1


def _buffers(model: Module) -> list[Array]:
    return [np.asarray(buffer) for buffer in model.buffers()]


def _arrays(model: Module, with_buffers: bool) -> list[Array]:
    return [np.asarray(p.data) for p in model.parameters()] + (_buffers(model) if with_buffers else [])


def _copy(to: list[Array], values: list[Any]) -> None:
    for mine, value in zip(to, values, strict=True):
        mine[...] = value


def update_bn(loader: Iterable[Any], model: Module, device: Any = None) -> None:
    """Sets the running statistics of the model's batch norms to those of all batches of `loader`.

    A batch is the input, or a tuple or list that begins with it. Averaged weights need it: nothing else has computed
    statistics for them.
    """
    norms = [m for m in model.modules() if isinstance(m, (BatchNorm1d, BatchNorm2d)) and m.running_mean is not None]
    if not norms:
        return
    before, training = [norm.momentum for norm in norms], model.training
    for norm in norms:
        _copy([norm.running_mean, norm.running_var, norm.num_batches_tracked], [0, 1, 0])  # type: ignore[list-item]
        norm.momentum = None  # the mean over the batches
    model.train()
    try:
        with no_grad():
            for batch in loader:
                model(batch[0] if isinstance(batch, (tuple, list)) else batch)
    finally:
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum = momentum
        model.train(training)
