"""Where else a training's epochs are written to, one by one: a file, TensorBoard, MLflow."""

from __future__ import annotations

import os
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from fastnn.checks import path as path_name
from fastnn.checks import whole
from fastnn.errors import StateError, needs
from fastnn.utils.tensorboard import writer_class

from .callbacks import Callback, Training
from .history import EpochRecord, History, suffix_of

__all__ = ["HistoryFile", "MLflow", "TensorBoard"]


class HistoryFile(Callback):
    """Keeps a file of the epochs, whole after each: a table (``.csv``), or JSON lines (``.jsonl``).

    The file is `History.save`'s, which `History.load` reads; a column is there for each measurement, metrics as
    "val_mae". At every moment, also after Ctrl-C or a kill, it has all epochs that are complete. A training that
    `Checkpoint` takes up again goes on in it, and no epoch is there twice.

    Args:
        path: the file, in a folder that is there.
        append: leave the epochs that the file has when a new training begins, and count on from them. By default they
            are replaced at the end of the first epoch.

    Raises:
        ArgumentError: another kind of file.
        DataError: the file to append to is something else than a history; when the training begins.
        OSError: the file cannot be written.

    >>> import numpy as np, tempfile, fastnn as fnn
    >>> from pathlib import Path
    >>> model = fnn.nn.Sequential(fnn.nn.Linear(2, 2))
    >>> data = np.eye(2, dtype=np.float32), np.array([0, 1])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "epochs.csv")
    ...     _ = fnn.fit(model, data, epochs=3, callbacks=[fnn.train.HistoryFile(path)], verbose=False)
    ...     [line.split(",")[0] for line in path.read_text().splitlines()]
    ['epoch', '1', '2', '3']
    """

    def __init__(self, path: str | os.PathLike[str], *, append: bool = False) -> None:
        suffix_of(path)
        self.path, self.append = Path(path), append
        self._before: History | None = None  # epochs of earlier trainings; None before they were looked for
        self._restored: int | None = None  # how many of them there were when the training was kept that goes on

    def on_train_begin(self, training: Training) -> None:
        self._before = None

    def on_epoch_begin(self, training: Training) -> None:
        if self._before is not None:
            return
        there = self.append and self.path.exists()
        self._before = History.load(self.path) if there else History()
        if training.history:
            self._before = self._before[: self._restored or 0]

    def on_epoch_end(self, training: Training) -> None:
        assert self._before is not None
        count = len(self._before)
        History([*self._before, *(replace(one, epoch=one.epoch + count) for one in training.history)]).save(self.path)

    def state_dict(self) -> dict[str, Any]:
        return {"before": len(self._before or ())}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._restored = whole("HistoryFile", "before", state_dict["before"], 0)


class TensorBoard(Callback):
    """Writes every epoch's measurements for TensorBoard, by tensorboardX or, where that is not installed, PyTorch.

    Tags are "loss/train", "loss/val", "accuracy/val", "mae/val", "lr" and the like; the step is the epoch. A training
    that `Checkpoint` takes up again goes on in the same folder: of epochs that it does anew, TensorBoard shows the
    later ones.

    Args:
        folder: of this training, made if it is not there; ``tensorboard --logdir`` takes it or one above it.

    Raises MissingExtraError where neither package is installed.

    >>> import fastnn as fnn
    >>> fnn.train.TensorBoard("runs/first").folder
    'runs/first'
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = path_name("TensorBoard", folder)
        self._writer: Any = None

    def on_train_begin(self, training: Training) -> None:
        writer_class()  # noticed before the first epoch

    def on_epoch_begin(self, training: Training) -> None:
        if self._writer is None:
            again = training.epoch if training.history else None
            self._writer = writer_class()(self.folder, purge_step=again, filename_suffix=f".{training.epoch}")

    def on_epoch_end(self, training: Training) -> None:
        for name, value in _values(training.history[-1]).items():
            part, _, rest = name.partition("_")
            self._writer.add_scalar(f"{rest}/{part}" if part in ("train", "val") else name, value, training.epoch)
        self._writer.flush()

    def on_train_end(self, training: Training) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class MLflow(Callback):
    """Logs every epoch's measurements to MLflow, under their names in the history; the step is the epoch.

    They go to the run that is active, where there is one (``with mlflow.start_run(): fnn.fit(...)``), or else to a run
    of its own, which ends with the training: finished, or killed where it ended before its last epoch by anything but a
    callback's `Training.stop`. A training that `Checkpoint` takes up again goes on in the same run, and no epoch is
    logged twice. Where runs are kept, and under what experiment, MLflow itself is told.

    Args:
        name: of a run of its own; None lets MLflow make one up.

    Attributes:
        run_id: MLflow's name for the run; None before the first epoch.

    Raises MissingExtraError where MLflow is not installed.

    >>> import fastnn as fnn
    >>> fnn.train.MLflow("first").run_id is None
    True
    """

    def __init__(self, name: str | None = None) -> None:
        self.name = name
        self.run_id: str | None = None
        self._own = False
        self._logged = 0  # the last epoch in the run
        self._begun = False

    def on_train_begin(self, training: Training) -> None:
        _package("MLflow", "mlflow")
        self._begun = False

    def on_epoch_begin(self, training: Training) -> None:
        if self._begun:
            return
        mlflow, self._begun = _package("MLflow", "mlflow"), True
        again = self.run_id if training.history else None
        active = mlflow.active_run()
        self._own = active is None
        self.run_id = (active or mlflow.start_run(run_id=again, run_name=self.name)).info.run_id
        kept = mlflow.MlflowClient().get_metric_history(self.run_id, "train_loss") if again == self.run_id else ()
        self._logged = max((one.step for one in kept), default=0)

    def on_epoch_end(self, training: Training) -> None:
        if training.epoch > self._logged:
            mlflow = _package("MLflow", "mlflow")
            mlflow.log_metrics(_values(training.history[-1]), step=training.epoch, run_id=self.run_id)

    def on_train_end(self, training: Training) -> None:
        if self._begun and self._own:
            complete = training.stopped or len(training.history) >= training.epochs
            _package("MLflow", "mlflow").end_run("FINISHED" if complete else "KILLED")
        self._begun = False

    def state_dict(self) -> dict[str, Any]:
        return {"run_id": self.run_id}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        run_id = state_dict["run_id"]
        if not isinstance(run_id, (str, type(None))):
            raise StateError(f"MLflow: expected run_id to be text, got {run_id!r}")
        self.run_id = run_id


def _values(record: EpochRecord) -> dict[str, float]:
    """What was measured, by name, without the epoch's number."""
    return {name: float(v) for name, v in record.measured().items() if v is not None and name != "epoch"}


def _package(name: str, module: str) -> Any:
    with needs(name, module):
        return import_module(module)
