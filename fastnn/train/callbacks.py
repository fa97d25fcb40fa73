"""What can be hooked into `fit`, and what it is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from fastnn.data import Batches

from .history import History

__all__ = ["Callback", "Training"]


@dataclass
class Training:
    """A training under way, as callbacks see it.

    Attributes:
        model, optimizer, scheduler: what is trained, and by what (scheduler: None without one).
        batches: the training batches.
        epochs: how many epochs the history shall hold at the end.
        history: the epochs that are complete.
        epoch: the epoch under way, or the last one complete, counted from 1.
        batch: batches done in that epoch.
        images: samples done in that epoch.
        loss: mean loss over those samples.
        penalty: mean penalty of the optimiser on the parameters (`l1=`, `l2=`) over those samples; None without one.
        seconds: time spent on those batches.
        stopped: why the training ends early; empty if it does not.
        loss_fn: maps (outputs, labels) to the loss.
        compile: whether steps are compiled.
        val: what is watched by; None without validation.
        callbacks: all of them, in their order.
        feed: makes of the batches what a step is given.
        team: the processes that train together.
        seed: that of ``fit``, None where none was given.
    """

    model: Any
    optimizer: Any
    scheduler: Any
    batches: Batches
    epochs: int
    history: History = field(default_factory=History)
    epoch: int = 0
    batch: int = 0
    images: int = 0
    loss: float = 0.0
    penalty: float | None = None
    seconds: float = 0.0
    stopped: str = ""
    loss_fn: Any = None
    compile: bool = True
    val: Any = None
    callbacks: Sequence[Callback] = ()
    feed: Any = None
    team: Any = None
    seed: int | None = None

    def stop(self, reason: str) -> None:
        """End the training once the callbacks of this moment have run: within an epoch, that epoch is not recorded."""
        self.stopped = reason


class Callback:
    """Override what you need, and give instances to ``fit(..., callbacks=[...])``; they are called in that order.

    >>> import numpy as np, fastnn as fnn
    >>> class Tell(fnn.train.Callback):
    ...     def on_epoch_end(self, training):
    ...         print("epoch", training.epoch, "of", training.epochs)
    >>> model = fnn.nn.Sequential(fnn.nn.Flatten(), fnn.nn.Linear(4, 2))
    >>> data = np.zeros((6, 1, 2, 2), np.float32), np.array([0, 1, 0, 1, 0, 1])
    >>> _ = fnn.fit(model, data, epochs=2, callbacks=[Tell()], verbose=False)
    epoch 1 of 2
    epoch 2 of 2
    """

    only_shows: ClassVar[bool] = False  # whether it changes nothing in a training

    def on_train_begin(self, training: Training) -> None:
        """Before the first batch. May restore an earlier training: its history, then, says which epoch comes next."""

    def on_epoch_begin(self, training: Training) -> None:
        """Before the first batch of each epoch, when everything has been restored that will be."""

    def on_batch_end(self, training: Training) -> None:
        """After each update."""

    def on_epoch_end(self, training: Training) -> None:
        """After each epoch, its validation and the scheduler's step; ``training.history[-1]`` is its record."""

    def on_train_end(self, training: Training) -> None:
        """On every way out: complete, stopped, interrupted or failed. All callbacks get here whose `on_train_begin` was
        done, even where one of them, or another's `on_train_begin`, fails; the first failure is raised then."""

    def state_dict(self) -> dict[str, Any]:
        """What `Checkpoint` shall keep of this callback for a training that goes on: numbers, text, arrays, and lists
        and dicts of them."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what `state_dict` gave; called when a training goes on, after or before `on_train_begin`."""
