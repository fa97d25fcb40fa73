"""Which learning rate to begin with: the range test."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import random
from fastnn.checks import is_number, whole
from fastnn.errors import ArgumentError, NonFiniteError
from fastnn.interrupts import heed
from fastnn.nn.modes import training_mode
from fastnn.tables import html_text

from .callbacks import Callback, Training
from .steps import make_step

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["LRFinder"]

SMOOTHING = 0.9  # of the losses: the share of the past in their running mean
BLOWN_UP = 4.0  # times the least loss: further rates are not tried
CAUTION = 0.5  # of the rate of the steepest fall, the share to train at


class LRFinder(Callback):
    """The range test of Smith 2017 (https://arxiv.org/abs/1506.01186, section 3.3): the loss while the rate grows.

    One step on one batch for each rate from `start` to `end`, in equal factors, by a copy of model and optimiser; it
    ends early where the loss has blown up. Model, optimiser, random numbers and the order of the batches are as before,
    bit for bit. As a callback of `fit`, it makes the test before the first batch and trains at the rate found, but not
    where `Checkpoint`, before it, goes on with a training, whose rate stays; `run` only tests.

    What it suggests is half the rate at which the loss falls steepest: the test makes one step at each rate, and a rate
    that is only just stable for one step is too large for epochs, the more so with momentum. (By a rule of thumb that
    Smith takes from Bengio 2012, https://arxiv.org/abs/1206.5533, the best rate is within a factor of two of the
    largest one that converges.)

    Args:
        start, end: the least and the largest learning rate, of the first parameter group; others keep their ratio.
        steps: how many rates, and batches.

    Attributes:
        rates: (n,) the learning rates tried, n at most `steps`.
        losses: (n,) the loss of each batch, before the step at that rate.
        smoothed: (n,) their running mean.
        centres: (n,) the rates that these are about: the geometric mean of the rates, with the weights of the losses.
            The running mean of the losses up to rates[i] trails that rate by some 9 others.

    Raises ArgumentError for optimisers that choose their steps by themselves, and as a callback beside a scheduler,
    which would set another rate, and where no rate is found.

    >>> import fastnn as fnn
    >>> from fastnn import nn
    >>> fnn.manual_seed(0)
    >>> model = nn.Sequential(nn.Normalize(0.3, 0.4), nn.Flatten(), nn.Linear(784, 10))
    >>> optimizer = fnn.optim.SGD(model.parameters(), lr=1.0)
    >>> finder = fnn.train.LRFinder().run(model, "digits", optimizer=optimizer, batch_size=32)
    >>> 1e-4 < finder.suggestion < 1
    True
    """

    def __init__(self, start: float = 1e-6, end: float = 10.0, steps: int = 100) -> None:
        if not (is_number(start) and is_number(end) and 0 < start < end < math.inf):
            raise ArgumentError(f"LRFinder: expected 0 < start < end, got start={start!r} and end={end!r}")
        self.start, self.end = float(start), float(end)
        self.steps = whole("LRFinder", "steps", steps, 10, expected="at least 10 steps")
        self._only_test = False
        self._forget()

    def _forget(self) -> None:
        self.rates = self.losses = self.smoothed = self.centres = np.zeros(0)

    def __repr__(self) -> str:
        if not len(self.rates):
            return f"LRFinder({self.start:g} to {self.end:g} in {self.steps} steps; .run(model, data))"
        found = "none" if self.suggestion is None else f"{self.suggestion:.2g}"
        return (
            f"LRFinder(suggestion {found}, of {len(self.rates)} rates from {self.rates[0]:.2g} to {self.rates[-1]:.2g})"
        )

    def _repr_html_(self) -> str:
        from fastnn.insight import plots

        return plots.html(repr(self), self.plot) if len(self.rates) else html_text(repr(self))

    def run(self, model: Any, train: Any, **options: Any) -> LRFinder:
        """Make the test for `fnn.fit(model, train, **options)`, and train nothing; returns the finder itself.

        The options that count are those of `fit`: loss, optimizer, batch_size, seed, compile. Raises what `fit` does.
        """
        from .fit import fit

        before = random.get_state()
        self._only_test = True
        try:
            fit(model, train, callbacks=[self], verbose=False, **options)
        finally:
            self._only_test = False
            random.set_state(before)
        return self

    def on_train_begin(self, training: Training) -> None:
        if not getattr(training.optimizer, "follows_lr", True):
            name = type(training.optimizer).__name__
            raise ArgumentError(f"LRFinder: expected an optimiser whose steps follow its lr, got {name}")
        if self._only_test:
            training.stop("the range test is done")
        elif training.scheduler is not None:
            raise ArgumentError(
                "LRFinder: expected no scheduler, which would set another rate: find one by LRFinder().run(model, "
                "data), and give it to both"
            )
        elif training.history:
            return
        before = random.get_state()
        try:
            self._test(training)
        finally:
            random.set_state(before)
        if not self._only_test:
            if self.suggestion is None:
                raise ArgumentError(
                    f"LRFinder: expected a loss that falls at some rate from {self.start:g} to {self.end:g}, got none"
                )
            _set_rate(training.optimizer, _ratios(training.optimizer), self.suggestion)

    def _test(self, training: Training) -> None:
        self._forget()
        model, optimizer = copy.deepcopy((training.model, training.optimizer))
        batches, ratios = copy.copy(training.batches), _ratios(optimizer)
        step = make_step(model, training.feed.loss, optimizer, training.compile)
        epoch: Iterator[tuple[Any, ...]] = iter(())
        losses: list[float] = []
        smoothed: list[float] = []
        centres: list[float] = []
        rates = np.geomspace(self.start, self.end, self.steps)
        means = np.zeros(2)  # of the losses, and of the rates' logarithms
        with training_mode(model):
            for rate in rates:
                batch = next(epoch, None)
                if batch is None:
                    epoch = training.feed(batches)
                    batch = next(epoch)
                heed()
                _set_rate(optimizer, ratios, float(rate))
                try:
                    loss = step(*batch[:2])
                except NonFiniteError:
                    break
                losses.append(loss)
                means = SMOOTHING * means + (1 - SMOOTHING) * np.array([loss, math.log(rate)])
                mean, centre = means / (1 - SMOOTHING ** len(losses))  # as Adam corrects for the zeros at first
                smoothed.append(float(mean))
                centres.append(math.exp(centre))
                if smoothed[-1] > BLOWN_UP * min(smoothed):
                    break
        self.rates, self.losses = rates[: len(losses)], np.array(losses)
        self.smoothed, self.centres = np.array(smoothed), np.array(centres)

    @property
    def suggestion(self) -> float | None:
        """A rate to train at: half of that where the smoothed loss falls steepest by the logarithm of the rate, in the
        lower half of its fall (on a plateau before, chance may fall as steeply). None where it does not fall."""
        first = self.steps // 10  # before, the mean is of too few batches
        least = int(np.argmin(self.smoothed)) if len(self.smoothed) else 0
        if least <= first:
            return None
        fall = self.smoothed[first : least + 1]
        high = first + int(np.flatnonzero(fall >= (fall.max() + fall.min()) / 2)[-1])
        slopes = np.gradient(self.smoothed, np.log(self.centres))[high : least + 1]
        return float(CAUTION * self.centres[high + int(np.argmin(slopes))])

    def plot(self) -> Figure:
        """The losses by learning rate, and the suggestion, as a Matplotlib figure.

        Raises MissingExtraError where Matplotlib is not installed.
        """
        from fastnn.insight import plots

        figure = plots.figure(6, 3.5)
        axes = plots.styled(figure.subplots(), x="learning rate", y="loss")
        axes.plot(self.rates, self.losses, color="0.8", label="loss of each batch")
        axes.plot(self.centres, self.smoothed, color=plots.BLUE, label="running mean")
        if self.suggestion is not None:
            axes.axvline(self.suggestion, linestyle="--", color="black", label=f"suggestion {self.suggestion:.2g}")
        axes.set(xscale="log")
        plots.scaled(axes, [self.losses])
        axes.legend(fontsize=9)
        return figure


def _ratios(optimizer: Any) -> list[float]:
    """Of the groups' rates to the first one's."""
    rates = [float(group["lr"]) for group in optimizer.param_groups]
    return [rate / rates[0] if rates[0] else 1.0 for rate in rates]


def _set_rate(optimizer: Any, ratios: list[float], rate: float) -> None:
    for group, ratio in zip(optimizer.param_groups, ratios, strict=True):
        group["lr"] = rate * ratio
