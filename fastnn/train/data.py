"""The data of a training: what `fit` takes, and what a step is given of it."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from fastnn.arrays import as_array
from fastnn.checks import is_number
from fastnn.data import Batches, Dataset
from fastnn.data.frames import check_rows
from fastnn.data.samples import Samples
from fastnn.data.split import stratified_split
from fastnn.errors import ArgumentError
from fastnn.nn import NLLLoss
from fastnn.nn.modes import mode
from fastnn.nn.shares import weight_of
from fastnn.plan.fewest import fewest_in_training, trial
from fastnn.trees import take

from .callbacks import Training
from .evaluate import as_dataset, input_for
from .targets import OF_PAIRS, as_targets, check_outputs, check_probabilities
from .team import Alone
from .weighing import Weighted, Weights

__all__ = ["Feed", "first_outputs", "first_samples", "paired", "settled", "stepped_per", "training_data"]


def paired(train: Any, y: Any, val: Any) -> tuple[Any, Any]:
    """Returns the training data and what to watch by, of ``fit(model, train, y, val)``.

    Where `train` is whole already, such as a data set's name or ``(images, labels)``, the argument after it is `val`.
    """
    whole = isinstance(train, (str, os.PathLike, Dataset, Samples, Batches)) or (
        isinstance(train, tuple) and len(train) == 2
    )
    if y is None:
        return train, val
    if whole and not (isinstance(y, (list, dict)) or len(getattr(y, "shape", ()))):
        if val is not None:
            raise ArgumentError(f"fit: expected targets after the samples, got {type(y).__name__} beside val=")
        return train, y
    if whole and not isinstance(train, tuple):
        raise ArgumentError(f"fit: expected no targets beside {type(train).__name__}, which has its own")
    return (train, y), val


def training_data(
    model: Any, train: Any, val: Any, batch_size: int | str, seed: int | None, sample_weight: Any
) -> tuple[Batches, Any, Any, Any]:
    """Returns training batches, what was given to watch by or split off, and the samples' weights of both, if any."""
    share, held_weight = is_number(val), None
    if isinstance(train, Batches):
        if share:
            raise ArgumentError(
                f"fit: expected validation data of their own beside Batches, got val={val}: split before making batches"
            )
        batches, held = train, val
    else:
        if isinstance(train, tuple):
            check_rows(train[0], sample_weight, "sample_weight")
        dataset, held = as_dataset(train, "train"), val
        if share:
            labels = dataset.labels if isinstance(dataset.labels, np.ndarray) else np.zeros(len(dataset))
            rest, chosen = stratified_split(labels, val, seed=0 if seed is None else seed)
            if sample_weight is not None:
                weights = as_array(sample_weight)
                if weights.shape != (len(dataset),):
                    raise ArgumentError(
                        f"fit: expected sample_weight ({len(dataset)},), one number for each sample before the split, "
                        f"got {weights.shape}"
                    )
                sample_weight, held_weight = weights[rest], weights[chosen]
            dataset, held = dataset.subset(rest), dataset.subset(chosen)
        if isinstance(batch_size, str):
            if batch_size != "full":
                raise ArgumentError(f'fit: expected batch_size to be a number of samples or "full", got {batch_size!r}')
            batch_size = max(len(dataset), 1)
        batches = Batches.of(dataset, batch_size, shuffle=True, seed=seed)
        if isinstance(batches.images, np.ndarray) and batches.images.ndim == 2 and batches.images.dtype.kind == "f":
            batches.images = input_for(model)(batches.images)  # once, and not batch by batch
    if not len(batches):
        raise ArgumentError("fit: expected at least one training sample, got none")
    return batches, held, sample_weight, held_weight


class Feed:
    """What a step is given: each batch's samples on the model's scale, its targets in the outputs' shape, its weights.

    Args:
        outputs: gives some of the model's outputs; called only for losses that pair them with targets.
        weights: what samples count; None: all the same.
        team: who shares the batches.

    `loss` is what takes the model's outputs and those targets; `chosen` says where in the data the batch given last is.
    """

    def __init__(
        self, model: Any, loss: Any, batches: Batches, outputs: Callable[[], Any], weights: Weights | None, team: Alone
    ) -> None:
        self.weights, self.loss = weights, loss if weights is None else Weighted(loss)
        self._weight, self._team = partial(weight_of, loss), team
        team.summed = getattr(loss, "reduction", "mean") == "sum"
        self.chosen: Any = slice(0, 0)
        self._to_input = input_for(model)
        some = outputs() if isinstance(loss, OF_PAIRS) else None
        if isinstance(some, np.ndarray):
            check_outputs(batches.labels, some.shape, loss)
        self._to_target = as_targets(batches.labels, some, loss)

    def __call__(self, batches: Batches) -> Iterator[tuple[Any, Any, Any, float | None]]:
        """One epoch: samples and targets for the step, the targets as they are, and the sum of their weights.

        The targets as they are are None where the same samples count in another process."""
        share = self._team.share
        for chosen, images, labels in batches.parts(share):
            self.chosen = chosen
            x, y, total = self._to_input(images), self._to_target(labels), None
            if self.weights is not None:
                weights, total = self.weights(labels, chosen)
                y = y, weights
            if share is not None:
                self._team.weight = 0.0 if share.again else self._weight(labels) if total is None else total
            yield x, y, None if share is not None and share.again else labels, total


def first_samples(model: Any, batches: Batches) -> Any:
    """Two samples of a batch, as the model is given them."""
    unshuffled = copy.copy(batches)
    unshuffled.shuffle = False  # an order of all samples would take longer than what is tried on these two
    images, _ = next(iter(unshuffled))
    return input_for(model)(take(images, slice(2)))


def first_outputs(model: Any, batches: Batches) -> Any:
    """What the model, in eval mode, makes of two samples."""
    with mode(model, training=False):
        return trial(model, first_samples(model, batches))


@contextmanager
def settled(training: Training) -> Iterator[None]:
    """Context in which no batch is of a single sample unless the model takes one; what has to be tried out for that,
    and to judge the loss, is tried before anything is updated."""
    model, batches, loss, scheduler = training.model, training.batches, training.loss_fn, training.scheduler
    samples = partial(first_samples, model, batches)
    before, number = batches.fewest, len(batches)
    if isinstance(loss, NLLLoss):
        check_probabilities("fit", trial(model, samples()), loss)
    if batches.batch_size > 1 and batches.count % batches.batch_size == 1 and not batches.drop_last:
        batches.fewest = max(before, fewest_in_training(model, samples))
    try:
        steps = training.epochs * len(batches)
        total = getattr(scheduler, "total_steps", None)
        if total == training.epochs * number != steps:
            raise ArgumentError(
                f"fit: expected {type(scheduler).__name__}(total_steps={steps}), got {scheduler.total_steps}: the "
                f"single sample that is left over in each epoch joins the batch before it, so there are {len(batches)}"
            )
        if total is not None and total < scheduler.last_epoch + steps:
            raise ArgumentError(
                f"fit: expected {type(scheduler).__name__}(total_steps={scheduler.last_epoch + steps}), since it "
                f"counts batches, of which there are {len(batches)} in each of {training.epochs} epochs, got {total}"
            )
        yield
    finally:
        batches.fewest = before


def stepped_per(scheduler: Any) -> str | None:
    """How often the schedule is stepped: once per "batch", per "epoch", or per "metric"; None without a schedule."""
    return None if scheduler is None else getattr(scheduler, "per", "epoch")
