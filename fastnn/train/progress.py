"""What `fit` shows while it trains."""

from __future__ import annotations

import time
from typing import Any

from fastnn.console import bar, has_terminal, notebook, say, width
from fastnn.data.samples import is_several
from fastnn.nn import Flatten, Linear, Sequential
from fastnn.tables import decimal

from .callbacks import Callback, Training
from .evaluate import are_pixels, normalizes
from .history import Columns, EpochRecord

__all__ = ["Progress"]

SECONDS_BEFORE_BAR = 0.2  # of training: shorter ones are over before a bar is read, and notebooks keep what it drew
SECONDS_BETWEEN_MOVES = 0.05  # of the bar
SECONDS_BETWEEN_LINES = 10.0  # where there is no terminal to draw a bar on
LARGE = 1000.0  # standardised numbers stay far below


def _unscaled(model: Any, samples: Any) -> float:
    """The largest number of a table (N, F) that a dense layer gets as it is; 0 for everything else."""
    layers = model if type(model) is Sequential else (model,)
    first = next((layer for layer in layers if not isinstance(layer, Flatten)), None)
    if not isinstance(first, Linear) or is_several(samples) or samples.ndim != 2 or not samples.size:
        return 0.0
    return max(float(samples.max()), -float(samples.min()))


class Progress(Callback):
    """The table of the epochs on standard output; samples per second, loss and time left on standard error.

    The latter is a bar that moves in a notebook and if standard error is a terminal, and a line every ten seconds if it
    is neither. Where one of the two is closed, nothing is shown there.

    Args:
        every: how many epochs there are for a row; the last epoch has one anyway.
        within: whether anything is shown within an epoch.
        header: a line to begin with.
    """

    only_shows = True

    def __init__(self, every: int = 1, within: bool = True, header: str = "") -> None:
        self._every, self._within, self._header = every, within, header
        self._bar: Any = None
        self._next = 0.0  # when there is something to show within an epoch
        self._columns: Columns | None = None
        self._last = 0  # epoch that has a row

    def on_train_begin(self, training: Training) -> None:
        if self._header:
            say(self._header)
        if are_pixels(training.model, training.batches.images) and not normalizes(training.model):
            say("pixels are divided by 255, since the model has no nn.Normalize")
        elif (largest := _unscaled(training.model, training.batches.images)) > LARGE:
            say(f"samples have numbers up to {largest:.2g}: nn.Normalize.of(x) as the first layer would scale them")
        for record in training.history:  # of a training that goes on
            self._say(record)
        self._next = time.monotonic() + (SECONDS_BEFORE_BAR if _moves() else SECONDS_BETWEEN_LINES)

    def on_epoch_begin(self, training: Training) -> None:
        if self._bar is not None:
            self._bar.set_description_str(_epoch(training), refresh=False)
            self._bar.reset()
            self._next = 0.0

    def on_batch_end(self, training: Training) -> None:
        now = time.monotonic()
        if not self._within or now < self._next:
            return
        moves = _moves()
        self._next = now + (SECONDS_BETWEEN_MOVES if moves else SECONDS_BETWEEN_LINES)
        if moves:
            self._move_bar(training)
        else:
            say(progress_line(training), error=True)

    def on_epoch_end(self, training: Training) -> None:
        if self._bar is not None:
            self._bar.clear()  # there is one for all epochs: a notebook keeps each
        if training.epoch % self._every == 0:
            self._say(training.history[-1])

    def on_train_end(self, training: Training) -> None:
        if self._bar is not None:
            self._bar.close()
        if training.history and training.history[-1].epoch > self._last:
            self._say(training.history[-1])
        if training.stopped:
            say(f"stopped in epoch {training.epoch}: {training.stopped}")
        shell = notebook()
        if shell is not None and self._every == 1:
            training.history.shown_in = shell.execution_count

    def _say(self, record: EpochRecord) -> None:
        """A row of the table, below a header where the columns are not those of the row before."""
        columns = Columns.of([record], width())
        if self._columns is None or columns.fields != self._columns.fields:
            self._columns = columns
            say(columns.header)
        say(columns.row(record))
        self._last = record.epoch

    def _move_bar(self, training: Training) -> None:
        if self._bar is None:
            self._bar = bar(desc=_epoch(training), total=images_per_epoch(training), unit=" samples", leave=False)
        self._bar.set_postfix_str(losses(training), refresh=False)
        self._bar.update(training.images - self._bar.n)


def _moves() -> bool:
    """Whether there is a place for a bar that moves."""
    return has_terminal() or notebook() is not None


def _epoch(training: Training) -> str:
    return f"epoch {training.epoch}/{training.epochs}"


def progress_line(training: Training) -> str:
    """How far the epoch is, in one line."""
    total = images_per_epoch(training)
    rate = training.images / training.seconds
    return (
        f"{_epoch(training)}: {training.images:,} of {total:,} samples, {rate:,.0f} samples/s, "
        f"{losses(training)}, {(total - training.images) / rate:.0f} s left"
    )


def losses(training: Training) -> str:
    """The data's loss so far, and the penalty on parameters beside it."""
    penalty = "" if training.penalty is None else f" + penalty {decimal(training.penalty)}"
    return f"loss {decimal(training.loss)}{penalty}"


def images_per_epoch(training: Training) -> int:
    batches = training.batches
    return len(batches) * batches.batch_size if batches.drop_last else batches.count
