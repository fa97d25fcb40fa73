"""Where a training went in the space of its parameters: recorded on the way, read back for `fnn.landscape`."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

import numpy as np

from fastnn import weights
from fastnn.checks import entries, number, path, place, whole
from fastnn.errors import ArgumentError, DataError
from fastnn.files import make_folder

from .callbacks import Callback, Training

__all__ = ["ParameterPath", "RecordPath"]

FOLDER = "path"  # in a run's folder
FEWEST = 8  # states that thinning begins with, however large the model is
EARLY = (1 / 16, 1 / 4)  # of the way to the first state within the first epoch: much happens there

State = dict[str, np.ndarray]


class ParameterPath(Sequence[State]):
    """A model's states on the way: a sequence of state dicts, the first one from before the first update.

    Args:
        states: what `Module.state_dict` gave, or safetensors files with that, which are read when they are asked for.
        epochs: when, in epochs since the start; one number a state.

    Raises ArgumentError where the two do not fit together.

    >>> path = ParameterPath([{"w": np.zeros(2)}, {"w": np.ones(2)}], epochs=[0, 0.5])
    >>> len(path), path[-1]["w"], path.epochs
    (2, array([1., 1.]), (0.0, 0.5))
    """

    def __init__(self, states: Sequence[State | Path], epochs: Sequence[float]) -> None:
        states, epochs = entries("ParameterPath", "states", states), entries("ParameterPath", "epochs", epochs)
        if len(states) != len(epochs):
            raise ArgumentError(f"ParameterPath: expected one epoch a state, got {len(epochs)} for {len(states)}")
        self._states = tuple(states)
        self.epochs = tuple(float(number("ParameterPath", "an epoch", each)) for each in epochs)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> ParameterPath:
        """The path in a run's folder, as ``fastnn train --record-path`` leaves it. Raises DataError without one."""
        points = _points(Path(path("ParameterPath.load", folder)) / FOLDER)
        if not points:
            raise DataError(f"expected a run with a path, got {folder}: it was not trained with --record-path")
        return cls([file for _, file in points], [epoch for epoch, _ in points])

    def __len__(self) -> int:
        return len(self._states)

    @overload
    def __getitem__(self, index: int) -> State: ...
    @overload
    def __getitem__(self, index: slice) -> ParameterPath: ...
    def __getitem__(self, index: int | slice) -> State | ParameterPath:
        if isinstance(index, slice):
            return ParameterPath(self._states[index], self.epochs[index])
        state = self._states[place("ParameterPath", index, len(self))]
        return weights.load(state) if isinstance(state, Path) else state

    def __iter__(self) -> Iterator[State]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        last = self.epochs[-1] if self.epochs else 0
        return f"ParameterPath({len(self)} states, epochs 0 to {last:g})"


class RecordPath(Callback):
    """Records a training's path: the model's state before the first update and then several times an epoch.

    Two more are from early in the first epoch, when most happens. Where all would take more than `most_bytes`, every
    second state is dropped and the distance between two doubles, however long the training becomes. (An epoch of fewer
    batches than `per_epoch` has one state a batch.)

    Args:
        folder: the run's folder, which gets a folder ``path`` with one safetensors file a state; None keeps the states
            in memory. A training that `Checkpoint` continues goes on with the path, too.
        per_epoch: states an epoch, evenly spaced, the last one at its end; at least 1.
        most_bytes: that all states together may take (but no fewer than 8 are kept); about that of the files.

    Raises ArgumentError for a `per_epoch` below 1.

    >>> import fastnn as fnn
    >>> record = RecordPath(per_epoch=2)
    >>> model = fnn.nn.Sequential(fnn.nn.Normalize(0.3, 0.4), fnn.nn.Flatten(), fnn.nn.Linear(784, 10))
    >>> _ = fnn.fit(model, "digits", epochs=2, callbacks=[record], verbose=False)
    >>> record.path
    ParameterPath(7 states, epochs 0 to 2)
    """

    def __init__(
        self, folder: str | os.PathLike[str] | None = None, *, per_epoch: int = 4, most_bytes: int = 100_000_000
    ) -> None:
        self._per_epoch = whole("RecordPath", "per_epoch", per_epoch, 1, expected="at least one state an epoch")
        self._most_bytes = number("RecordPath", "most_bytes", most_bytes, 0, finite=False)
        self._folder = None if folder is None else Path(path("RecordPath", folder)) / FOLDER
        self._kept: list[tuple[float, State | Path]] = []  # epoch and state
        self._every = 1  # of the states that per_epoch asks for, each, or each second, fourth, ... is kept
        self._begun = False

    @property
    def path(self) -> ParameterPath:
        """The states so far."""
        return ParameterPath([state for _, state in self._kept], [epoch for epoch, _ in self._kept])

    def on_train_begin(self, training: Training) -> None:
        self._begun = False
        if self._folder is not None:
            make_folder(self._folder)
            self._kept = list(_points(self._folder))

    def on_epoch_begin(self, training: Training) -> None:
        """Before the first one: only now is it known whether an earlier training goes on."""
        if self._begun:
            return
        self._begun = True
        done = len(training.history)
        for epoch, kept in list(self._kept):
            if not done or epoch > done:  # of another training, or of an epoch that was not completed
                self._drop(epoch, kept)
        self._every = max(1, math.gcd(*(number for number, _, _ in self._regular())))
        if not done:
            self._record(training, 0)

    def on_batch_end(self, training: Training) -> None:
        """State p of P in an epoch of B batches is the one after batch ceil(p·B/P)."""
        batches = len(training.batches)
        now, before = ((batch * self._per_epoch) // batches for batch in (training.batch, training.batch - 1))
        first = -(-batches // self._per_epoch)
        if now > before:
            self._record(training, (training.epoch - 1) * self._per_epoch + now)
        elif training.epoch == 1 and training.batch in [max(1, round(share * first)) for share in EARLY]:
            self._keep(training.batch / batches, training.model.state_dict())

    def _record(self, training: Training, number: int) -> None:
        """Keep state `number`, counted from 0, if it is one of those that are kept."""
        state = training.model.state_dict()
        size = sum(array.nbytes for array in state.values())
        count = len(self._kept)
        while (
            number % self._every == 0 and len(self._kept) == count >= FEWEST and (count + 1) * size > self._most_bytes
        ):
            self._every *= 2  # not always are there states in between: an epoch may have fewer batches than per_epoch
            for other, epoch, kept in self._regular():
                if other % self._every:
                    self._drop(epoch, kept)
        if number % self._every == 0:
            self._keep(number / self._per_epoch, state)

    def _regular(self) -> list[tuple[int, float, State | Path]]:
        """(number, epoch, state) of all but the early ones; files' names have four decimals."""
        numbers = [epoch * self._per_epoch for epoch, _ in self._kept]
        return [
            (round(number), *kept)
            for kept, number in zip(self._kept, numbers, strict=True)
            if abs(number - round(number)) < 0.01
        ]

    def _keep(self, epoch: float, state: State) -> None:
        if self._folder is None:
            self._kept.append((epoch, {name: np.array(array) for name, array in state.items()}))
        else:
            file = self._folder / f"epoch-{epoch:09.4f}.safetensors"
            weights.save(state, file)
            self._kept.append((epoch, file))

    def _drop(self, epoch: float, kept: State | Path) -> None:
        self._kept.remove((epoch, kept))
        if isinstance(kept, Path):
            kept.unlink()


def clear(folder: Path) -> None:
    """Remove the path from a run's folder."""
    for _, file in _points(folder / FOLDER):
        file.unlink()
    if (folder / FOLDER).is_dir() and not any((folder / FOLDER).iterdir()):
        (folder / FOLDER).rmdir()


def recorded(folder: Path) -> bool:
    """Whether a run's folder holds a path."""
    return bool(_points(folder / FOLDER))


def _points(folder: Path) -> list[tuple[float, Path]]:
    """(epoch, file), in order."""
    found = ((re.fullmatch(r"epoch-(\d+\.\d+)", file.stem), file) for file in folder.glob("*.safetensors"))
    return sorted((float(match[1]), file) for match, file in found if match)
