"""A run's folder: what `Checkpoint` keeps in it while a model trains, and what a training goes on from.

weights.safetensors   the model's state after the last complete epoch, or after the best one
history.jsonl, .csv   the epochs so far
checkpoint.safetensors   all that the next epoch depends on, in one file, so that its parts always belong together
config.json           how the model was made (written by whoever starts the run)
path/                 the states on the way, if `RecordPath` kept them
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from fastnn import random, weights
from fastnn.checks import whole
from fastnn.errors import ArgumentError, DataError, StateError

from .callbacks import Callback, Training
from .history import History, record_from
from .path import clear as clear_path
from .stopping import StoppingRule, best_index, check_monitor

__all__ = ["Checkpoint", "clear", "read_config", "write_config"]

WEIGHTS, CHECKPOINT, CONFIG = "weights.safetensors", "checkpoint.safetensors", "config.json"
HISTORIES = ("history.jsonl", "history.csv")
CONFIG_KEYS = ("dataset", "model", "seed", "val", "recipe", "images", "image_shape", "classes", "mean", "std", "extent")


class Checkpoint(Callback):
    """Keeps a run's folder up to date after every epoch, and continues the training found in it.

    A continued training takes the same path, bit for bit, as one that was never stopped, if its data, batch size and
    options are the same: model, optimiser, schedule, random numbers and the order of the images are all put back.

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
        self.folder, self.best = Path(folder), best
        self.every = whole("Checkpoint", "every", every, 1, expected="every to be at least 1 epoch")
        self._mode = "min" if best is None else check_monitor("Checkpoint", best)
        self._resume = resume
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
        self.folder.mkdir(parents=True, exist_ok=True)
        self._not_kept = None
        if self._resume and (self.folder / CHECKPOINT).exists():
            _restore(training, self.folder / CHECKPOINT)
            self._write_results(
                training.model, training.history
            )  # they are an epoch behind if the process was killed after the checkpoint
            training.epoch = len(training.history)
            for callback in training.callbacks:
                if isinstance(callback, StoppingRule):
                    callback.judge(training)

    def on_epoch_end(self, training: Training) -> None:
        if self.best is not None and self._is_best(training):
            weights.save(training.model, self.folder / WEIGHTS)
        if training.epoch % self.every == 0 or training.epoch == training.epochs or training.stopped:
            self._not_kept = None
            self._write(_Epoch.of(training))
        else:
            self._not_kept = _Epoch.of(training).copy()

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
    def of(cls, training: Training) -> _Epoch:
        """With live arrays."""
        model = training.model.state_dict()
        arrays: dict[str, np.ndarray] = {}
        state = {
            "model": _without_arrays(model, arrays, "model"),
            "optimizer": _without_arrays(training.optimizer.state_dict(), arrays, "optimizer"),
            "scheduler": _without_arrays(training.scheduler and training.scheduler.state_dict(), arrays, "scheduler"),
            "random": random.get_state(),
            "order": {"seed": training.batches.seed, "epoch": training.batches.epoch},
            "history": [dataclasses.asdict(record) for record in training.history],
            "callbacks": {
                name: _without_arrays(callback.state_dict(), arrays, f"callbacks.{name}")
                for name, callback in _by_name(training)
            },
        }
        return cls(model, arrays, json.dumps(state), training.history[:])

    def copy(self) -> _Epoch:
        model = {name: array.copy() for name, array in self.model.items()}
        arrays = {name: array.copy() for name, array in self.arrays.items()}
        return _Epoch(model, arrays, self.note, self.history)


def clear(folder: Path) -> None:
    """Remove a run's files from its folder, and no others."""
    for name in (CHECKPOINT, WEIGHTS, CONFIG, *HISTORIES):
        (folder / name).unlink(missing_ok=True)
    clear_path(folder)


def write_config(folder: Path, config: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    weights.write_atomically(folder / CONFIG, (json.dumps(config, indent=2) + "\n").encode())


def read_config(folder: Path) -> dict[str, Any]:
    """What `write_config` wrote. Raises DataError where `folder` is not the folder of a run of the `fastnn` command."""
    expected = f"expected the folder of a run, made by fastnn train --out, got {folder}"
    if not folder.is_dir():
        raise DataError(f"{expected}: there is no such folder")
    if not (folder / CONFIG).exists() and (folder / WEIGHTS).exists():
        raise DataError(
            f"{expected}: what train.Checkpoint keeps for a training in Python says nothing of how the model was made; "
            f'make it again, and load model.load_state_dict(weights.load("{folder / WEIGHTS}"))'
        )
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{expected}: {CONFIG}: {(error.strerror or str(error)).lower()}") from error
    except ValueError as error:
        raise DataError(f"{expected}: {CONFIG} is damaged ({error})") from error
    missing = [key for key in CONFIG_KEYS if key not in config]
    if missing:
        raise DataError(f"expected the config of a run in {folder / CONFIG}, got one without {', '.join(missing)}")
    return dict(config)


def _restore(training: Training, path: Path) -> None:
    arrays, note = weights.load_with_note(path)
    try:
        state = json.loads(note or "")
        training.model.load_state_dict(_with_arrays(state["model"], arrays))
        training.optimizer.load_state_dict(_with_arrays(state["optimizer"], arrays))
        if training.scheduler is not None:
            training.scheduler.load_state_dict(_with_arrays(state["scheduler"], arrays))
        random.set_state(state["random"])
        training.batches.seed, training.batches.epoch = state["order"]["seed"], state["order"]["epoch"]
        training.history = History(record_from(row) for row in state["history"])
        kept = state.get("callbacks", {})  # older checkpoints have none
        for name, callback in _by_name(training):
            if name in kept:
                callback.load_state_dict(_with_arrays(kept[name], arrays))
    except (ValueError, KeyError, TypeError, AttributeError, StateError) as error:
        raise DataError(f"cannot go on from {path}: it was not written by this training ({error})") from error


def _by_name(training: Training) -> list[tuple[str, Callback]]:
    """The callbacks by their class, numbered where there are several of one."""
    names = [type(callback).__name__ for callback in training.callbacks]
    return [(f"{name}.{names[:i].count(name)}", training.callbacks[i]) for i, name in enumerate(names)]


def _without_arrays(value: Any, arrays: dict[str, np.ndarray], name: str) -> Any:
    """A state as JSON can hold it: arrays go into `arrays` and are named in it, and a mapping is a list of pairs,
    because JSON has no keys but text."""
    if isinstance(value, np.ndarray):
        arrays[name] = value
        return {"array": name}
    if isinstance(value, dict):
        return {"pairs": [[key, _without_arrays(entry, arrays, f"{name}.{key}")] for key, entry in value.items()]}
    if isinstance(value, (list, tuple)):
        return [_without_arrays(entry, arrays, f"{name}.{index}") for index, entry in enumerate(value)]
    return value.item() if isinstance(value, np.generic) else value


def _with_arrays(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(value, dict):
        if "array" in value:
            return arrays[value["array"]]
        return {key: _with_arrays(entry, arrays) for key, entry in value["pairs"]}
    if isinstance(value, list):
        return [_with_arrays(entry, arrays) for entry in value]
    return value
