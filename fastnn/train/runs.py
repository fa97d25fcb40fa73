"""A run's folder: what `Checkpoint` keeps in it while a model trains, and what a training goes on from.

weights.safetensors   the model's state after the last complete epoch, or after the best one
history.jsonl, .csv   the epochs so far
checkpoint.safetensors   all that the next epoch depends on, in one file, so that its parts always belong together
config.json           how the model was made (written by the `fastnn` command)
path/                 the states on the way, if `RecordPath` kept them
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from fastnn import files, formats, random, weights
from fastnn.checks import path, whole
from fastnn.errors import ArgumentError, DataError, StateError

from . import finite
from .callbacks import Callback, Training
from .conditions import ResumeWarning, conditions, tell_differences
from .config import CONFIG, WEIGHTS, read_config, write_config
from .history import History, record_from, row_of
from .packing import pack, unpack
from .path import FOLDER as PATH
from .path import clear as clear_path
from .stopping import StoppingRule, best_index, check_monitor

__all__ = ["Checkpoint", "clear", "clear_leftovers", "epochs_kept", "is_begun", "read_config", "write_config"]

CHECKPOINT = "checkpoint.safetensors"
FORMAT = 1  # of its note
HISTORIES = ("history.jsonl", "history.csv")


class Checkpoint(Callback):
    """Keeps a run's folder up to date after every epoch, and continues the training found in it.

    A continued training takes the same path, bit for bit, as one that was never stopped, if its data, batch size and
    options are the same: model, optimiser, schedule, random numbers and the order of the images are all put back. What
    else the bits depend on, from the batch size to the instruction set, is kept too; where it has changed, a
    `ResumeWarning` says so.

    The folder holds no config.json, which ``fastnn train --out`` writes beside these files: a model made in Python
    cannot be made again from a description. `load_run`, ``fastnn eval`` and ``predict`` need one; without it, make the
    model and then ``model.load_state_dict(fnn.weights.load(folder + "/weights.safetensors"))``.

    Args:
        folder: the run's folder, made if it is not there.
        resume: go on from the folder's checkpoint, if it has one.
        every: epochs from one checkpoint to the next. The last complete epoch is kept in any case, when the training
            ends: also where it is stopped within the next one, interrupted, or fails; but not where it is killed.
        best: a measurement such as "val_loss" ("val_accuracy", "train_loss", "train_accuracy"). The folder's weights
            are then those of the epoch that was best by it, not of the last; the checkpoint remains the last.

    Raises:
        DataError: a checkpoint that is damaged, or of another kind of model, optimiser or schedule.
        ArgumentError: the state of a callback holds what cannot be kept; before the first update, where it is known.

    >>> import tempfile, fastnn as fnn
    >>> def run(epochs, folder):
    ...     fnn.manual_seed(0)
    ...     model = fnn.nn.Sequential(fnn.nn.Flatten(), fnn.nn.Linear(64, 10))
    ...     data = fnn.data.load("digits", raw=True)
    ...     data = fnn.data.Dataset(data.images.astype("float32") / 16, data.labels)
    ...     keep = fnn.train.Checkpoint(folder, resume=True)
    ...     fnn.fit(model, data, epochs=epochs, seed=0, callbacks=[keep], verbose=False)
    ...     return model[1].weight.data
    >>> with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
    ...     _ = run(1, one)
    ...     bool((run(2, one) == run(2, other)).all())
    True
    """

    def __init__(
        self, folder: str | os.PathLike[str], *, resume: bool = False, every: int = 1, best: str | None = None
    ) -> None:
        self.folder, self.best = Path(path("Checkpoint", folder)), best
        self.every = whole("Checkpoint", "every", every, 1, expected="every to be at least 1 epoch")
        self._mode = "min" if best is None else check_monitor("Checkpoint", best)
        self._resume = resume
        self._conditions: dict[str, Any] = {}
        self._looked_at_callbacks = False
        self._not_kept: _Epoch | None = None  # the last epoch, where it was not yet due

    def on_train_begin(self, training: Training) -> None:
        behind = list(training.callbacks)[list(training.callbacks).index(self) :]
        rules = [type(callback).__name__ for callback in behind if isinstance(callback, StoppingRule)]
        if rules:
            raise ArgumentError(
                f"Checkpoint: expected {rules[0]} before it in callbacks=[...], got it behind: what the rule makes of "
                "an epoch has to be known when that is kept"
            )
        if self.best is not None and self.best.startswith("val_") and training.val is None:
            raise ArgumentError(f"Checkpoint: expected validation data for best={self.best!r}, got none: give fit val=")
        files.make_folder(self.folder)
        clear_leftovers(self.folder)
        self._not_kept = None
        self._looked_at_callbacks = False
        self._conditions = conditions(training)
        if self._resume and (self.folder / CHECKPOINT).exists():
            seed = training.batches.seed
            tell_differences(_restore(training, self.folder / CHECKPOINT), self._conditions)
            if training.seed == seed != training.batches.seed:
                warnings.warn(
                    f"the run goes on by seed={training.batches.seed}, with which it was begun, not by seed={seed}",
                    ResumeWarning,
                    stacklevel=2,
                )
            self._write_results(
                training.model, training.history
            )  # they are an epoch behind if the process was killed after the checkpoint
            training.epoch = len(training.history)
            for callback in training.callbacks:
                if isinstance(callback, StoppingRule):
                    callback.judge(training)

    def on_epoch_begin(self, training: Training) -> None:
        """Before the first update, what cannot be kept is noticed, not only after an epoch."""
        if self._looked_at_callbacks:
            return
        self._looked_at_callbacks = True
        for name, callback in _by_name(training):
            state = {}
            with contextlib.suppress(Exception):  # a callback may have no state before its own first epoch
                state = callback.state_dict()
            pack(state, {}, f"callbacks.{name}")

    def on_epoch_end(self, training: Training) -> None:
        finite.check_model(f"Checkpoint, after epoch {training.epoch}", training.model)  # of what callbacks before made
        if self.best is not None and self._is_best(training):
            weights.save(training.model, self.folder / WEIGHTS)
        if training.epoch % self.every == 0 or training.epoch == training.epochs or training.stopped:
            self._not_kept = None
            self._write(_Epoch.of(training, self._conditions))
        else:
            self._not_kept = _Epoch.of(training, self._conditions).copy()

    def on_train_end(self, training: Training) -> None:
        if self._not_kept is not None:
            self._write(self._not_kept)
            self._not_kept = None

    def _is_best(self, training: Training) -> bool:
        values = training.history[self.best or ""]
        if values[-1] is None:
            raise ArgumentError(f"Checkpoint: expected {self.best} to be measured: the targets are no classes")
        return best_index(values, 0.0, self._mode) in (None, len(values) - 1)

    def _write(self, epoch: _Epoch) -> None:
        weights.save(epoch.arrays, self.folder / CHECKPOINT, note=epoch.note)
        self._write_results(epoch.model, epoch.history)

    def _write_results(self, model: Any, history: History) -> None:
        if self.best is None or not (self.folder / WEIGHTS).exists():
            weights.save(model, self.folder / WEIGHTS)
        for name in HISTORIES:
            history.save(self.folder / name)


@dataclasses.dataclass
class _Epoch:
    """All that is kept of a training after a complete epoch: `note` says where the arrays belong."""

    model: dict[str, np.ndarray]
    arrays: dict[str, np.ndarray]
    note: str
    history: History

    @classmethod
    def of(cls, training: Training, conditions: dict[str, Any]) -> _Epoch:
        """With live arrays."""
        model = training.model.state_dict()
        arrays: dict[str, np.ndarray] = {}
        state = {
            "format": FORMAT,
            "model": pack(model, arrays, "model"),
            "optimizer": pack(training.optimizer.state_dict(), arrays, "optimizer"),
            "scheduler": pack(training.scheduler and training.scheduler.state_dict(), arrays, "scheduler"),
            "random": random.get_state(),
            "order": {"seed": int(training.batches.seed), "epoch": int(training.batches.epoch)},
            "history": [row_of(record) for record in training.history],
            "callbacks": {
                name: pack(callback.state_dict(), arrays, f"callbacks.{name}") for name, callback in _by_name(training)
            },
            "conditions": conditions,
        }
        return cls(model, arrays, json.dumps(state, allow_nan=False), training.history[:])

    def copy(self) -> _Epoch:
        model = {name: array.copy() for name, array in self.model.items()}
        arrays = {name: array.copy() for name, array in self.arrays.items()}
        return _Epoch(model, arrays, self.note, self.history)


def clear(folder: Path) -> None:
    """Remove a run's files from its folder, and no others."""
    for name in (CHECKPOINT, WEIGHTS, CONFIG, *HISTORIES):
        (folder / name).unlink(missing_ok=True)
    clear_path(folder)
    clear_leftovers(folder)


def clear_leftovers(folder: Path) -> None:
    """Remove what killed processes left behind of files that they were writing."""
    for place in (folder, folder / PATH):
        files.clear_leftovers(place)


def is_begun(folder: Path) -> bool:
    """Whether a folder holds anything but a run that was killed before its first epoch was kept."""
    names = {entry.name for entry in folder.iterdir() if not files.is_leftover(entry.name)}
    if CONFIG not in names or not names <= {CONFIG, PATH}:
        return bool(names)
    try:
        read_config(folder)
    except DataError:  # it is another program's
        return True
    return False


def epochs_kept(folder: Path) -> int:
    """Epochs that a run's checkpoint holds; 0 without one. Raises DataError for one that is damaged."""
    path = folder / CHECKPOINT
    if not path.exists():
        return 0
    try:
        return len(_read_note(weights.load_note(path))["history"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"expected the checkpoint of a run in {path}, got another file ({error})") from error


def _restore(training: Training, path: Path) -> Any:
    """Put the training where the checkpoint was made; the conditions under which that was, None in older ones."""
    arrays, note = weights.load_with_note(path)
    try:
        state = _read_note(note)
        training.model.load_state_dict(unpack(state["model"], arrays))
        training.optimizer.load_state_dict(unpack(state["optimizer"], arrays))
        if training.scheduler is not None:
            training.scheduler.load_state_dict(unpack(state["scheduler"], arrays))
        random.set_state(state["random"])
        training.batches.seed = whole("order", "seed", state["order"]["seed"], 0, 2**64 - 1)
        training.batches.epoch = whole("order", "epoch", state["order"]["epoch"], 0, 2**63)
        training.history = History(record_from(row) for row in state["history"])
        kept = state.get("callbacks", {})  # older checkpoints have none
        for name, callback in _by_name(training):
            if name in kept:
                callback.load_state_dict(unpack(kept[name], arrays))
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError, StateError) as error:
        raise DataError(f"cannot go on from {path}: it was not written by this training ({error})") from error
    return state.get("conditions")


def _read_note(note: str | None) -> Any:
    """What a checkpoint's note says; the first ones gave no format. Raises ValueError, TypeError or AttributeError."""
    state = formats.parse_json(note or "", finite=False)
    formats.check_format(state.get("format", 1), FORMAT)
    return state


def _by_name(training: Training) -> list[tuple[str, Callback]]:
    """The callbacks by their class, numbered where there are several of one."""
    names = [type(callback).__name__ for callback in training.callbacks]
    return [(f"{name}.{names[:i].count(name)}", training.callbacks[i]) for i, name in enumerate(names)]
