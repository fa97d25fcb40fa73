"""The loss of a model that is moved about, over and over on the same images; and how it gets back to where it was."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from fastnn.backends.stopping import Stoppable
from fastnn.data import Batches, Dataset
from fastnn.interrupts import Interrupts, at_once
from fastnn.nn import Module
from fastnn.nn.modes import mode
from fastnn.tape import no_grad
from fastnn.train.evaluate import input_for, measure, predictor

__all__ = ["Meter", "averaging", "put_back"]


@contextmanager
def put_back(model: Module) -> Iterator[Interrupts]:
    """Context in eval mode and without a tape, after which every parameter and buffer has its bits again.

    Signals wait until then: inside, `heed()` on what the context gives says when it suits.
    """
    before = [(array, array.copy()) for array in model.state_dict().values()]
    interrupts, late = Interrupts(), Interrupts()
    try:
        with interrupts:
            try:
                with mode(model, training=False), no_grad():
                    yield interrupts
            finally:
                with late:  # a second Ctrl-C, which `interrupts` would not keep waiting, does not come between
                    for array, copy in before:
                        array[...] = copy
    finally:
        caught = interrupts.caught or late.caught
        if caught is not None:
            signal.raise_signal(caught)  # takes the course that it would have taken


@contextmanager
def averaging(norms: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Context in which running statistics are the means over all batches seen."""
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = None
    try:
        yield norms
    finally:
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum = momentum


class Meter:
    """Called, it gives a model's loss and accuracy (NaN without classes) where its parameters are just then.

    The model is compiled once; images that it takes as 0 .. 1 are put on that scale once. With `averaged`, layers of
    batch norm inside `averaging`, their running statistics are recomputed from the images each time.
    """

    def __init__(
        self, model: Module, dataset: Dataset, loss: Any, averaged: Sequence[Any], batch_size: int, compile: bool
    ) -> None:
        self._model, self._loss, self._averaged, self._batch_size = model, loss, averaged, batch_size
        self._predict = predictor(model, compile)
        images = input_for(model)(dataset.images)
        self._data = dataset.like(images, dataset.labels)

    def __call__(self) -> tuple[float, float]:
        if self._averaged:
            self._average()
        tally = measure(self._predict, self._data, self._loss, self._batch_size)
        return tally.loss, float("nan") if tally.accuracy is None else tally.accuracy

    def _average(self) -> None:
        """Only batch norm is in training mode: dropout drops nothing."""
        for norm in self._averaged:
            norm.running_mean[...], norm.running_var[...], norm.num_batches_tracked[...] = 0, 1, 0
            norm.training = True
        try:
            for images, _ in Batches(self._data.images, self._data.labels, self._batch_size):
                if len(images) > 1:  # one image has no spread
                    with at_once(), Stoppable(images.size):
                        self._model(images.copy())
        finally:
            for norm in self._averaged:
                norm.training = False
