"""Callbacks that write epochs elsewhere: what is there after a training, one that went on, and one that was stopped."""

from __future__ import annotations

import csv
import glob
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn
from fastnn.errors import ArgumentError, DataError, MissingExtraError
from fastnn.train import Callback, Checkpoint, HistoryFile, Interrupted, MLflow, TensorBoard, Training, fit, logs
from fastnn.utils import tensorboard

RNG = np.random.default_rng(0)
DATA = RNG.normal(size=(24, 3)).astype(np.float32), RNG.normal(size=(24, 1)).astype(np.float32)


class InterruptIn(Callback):
    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_batch_end(self, training: Training) -> None:
        if training.epoch == self.epoch:
            raise KeyboardInterrupt


def train(epochs: int, *callbacks: Callback) -> fnn.History:
    fnn.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 1))
    return fit(model, DATA, val=DATA, metrics=["mae"], epochs=epochs, seed=0, callbacks=callbacks, verbose=False)


def rows(path: Path) -> list[dict[str, Any]]:
    with path.open() as stream:
        return [json.loads(line) for line in stream] if path.suffix == ".jsonl" else list(csv.DictReader(stream))


@pytest.mark.parametrize("name", ["log.csv", "log.jsonl"])
def test_a_file_is_complete_after_an_interrupt_and_goes_on_with_the_checkpoint(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    with pytest.raises(Interrupted):
        train(9, HistoryFile(path), Checkpoint(tmp_path / "run"), InterruptIn(3))
    assert [int(row["epoch"]) for row in rows(path)] == [1, 2]
    history = train(4, HistoryFile(path), Checkpoint(tmp_path / "run", resume=True))
    found = rows(path)
    assert [int(row["epoch"]) for row in found] == [1, 2, 3, 4]
    for column in ("train_loss", "val_loss", "val_mae", "lr"):
        assert [float(row[column]) for row in found] == history[column]
    assert path.read_text().count("train_loss") == (1 if path.suffix == ".csv" else 4)  # one header


def test_epochs_of_earlier_trainings_stay_where_that_is_asked_for(tmp_path: Path) -> None:
    path, run = tmp_path / "log.csv", tmp_path / "run"
    train(2, HistoryFile(path))
    train(1, HistoryFile(path))
    assert [row["epoch"] for row in rows(path)] == ["1"]
    train(2, HistoryFile(path, append=True), Checkpoint(run))
    assert [row["epoch"] for row in rows(path)] == ["1", "2", "3"]
    train(3, HistoryFile(path, append=True), Checkpoint(run, resume=True))
    assert [row["epoch"] for row in rows(path)] == ["1", "2", "3", "4"]
    path.write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match=r"expected a history written by History\.save"):
        train(1, HistoryFile(path, append=True))
    assert path.read_text() == "a,b\n1,2\n"
    with pytest.raises(ArgumentError, match=r"ends in \.jsonl or \.csv"):
        HistoryFile(tmp_path / "log.txt")


def scalars(folder: Path) -> dict[str, dict[int, float]]:
    """By tag and step, as TensorBoard reads them: a start of a session takes away what was from its step on."""
    from tensorboardX.proto.event_pb2 import Event, SessionLog
    from tensorboardX.record_writer import masked_crc32c

    found: dict[str, dict[int, float]] = {}
    for path in sorted(glob.glob(f"{folder}/*tfevents*"), key=lambda name: Path(name).stat().st_mtime_ns):
        for payload in records(Path(path).read_bytes(), masked_crc32c):
            event = Event.FromString(payload)
            if event.session_log.status == SessionLog.START:
                for values in found.values():
                    assert all(step < event.step for step in values), "the epochs that the checkpoint has come before"
            for value in event.summary.value:
                assert event.step not in found.setdefault(value.tag, {})
                found[value.tag][event.step] = value.simple_value
    return found


def records(data: bytes, crc: Any) -> Iterator[bytes]:
    """TFRecord: length (8), its checksum (4), payload, its checksum (4)."""
    while data:
        length = int.from_bytes(data[:8], "little")
        payload = data[12 : 12 + length]
        assert int.from_bytes(data[12 + length : 16 + length], "little") == crc(payload)
        yield payload
        data = data[16 + length :]


def test_tensorboard_has_every_epoch_once(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    with pytest.raises(Interrupted):
        train(9, TensorBoard(tmp_path / "tb"), Checkpoint(tmp_path / "run"), InterruptIn(3))
    history = train(4, TensorBoard(tmp_path / "tb"), Checkpoint(tmp_path / "run", resume=True))
    found = scalars(tmp_path / "tb")
    assert set(found) >= {"loss/train", "loss/val", "mae/val", "lr", "seconds"}
    assert "accuracy/train" not in found  # there is none
    for tag, column in (("loss/train", "train_loss"), ("mae/val", "val_mae")):
        assert list(found[tag]) == [1, 2, 3, 4]
        np.testing.assert_allclose(list(found[tag].values()), history[column], rtol=1e-6)


def test_mlflow_has_every_epoch_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")  # no small package: not among those of the tests
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((tmp_path / "mlruns").as_uri())
    client, keep = mlflow.MlflowClient(), Checkpoint(tmp_path / "run", every=2)
    log = MLflow("first")
    with pytest.raises(Interrupted):
        train(9, log, keep, InterruptIn(4))
    assert log.run_id is not None
    assert client.get_run(log.run_id).info.status == "KILLED"
    again = MLflow()
    history = train(5, again, Checkpoint(tmp_path / "run", resume=True))
    assert again.run_id == log.run_id
    assert client.get_run(log.run_id).info.status == "FINISHED"
    kept = client.get_metric_history(log.run_id, "val_mae")
    assert [(one.step, one.value) for one in kept] == list(enumerate(history["val_mae"], 1))
    with mlflow.start_run() as mine:
        train(1, inside := MLflow())
        assert mlflow.active_run() is not None, "a run of the caller's goes on"
    assert inside.run_id == mine.info.run_id


@pytest.mark.parametrize("make", [lambda: TensorBoard("x"), MLflow])
def test_what_is_missing_is_said_before_the_first_epoch(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> Any:
        raise ImportError(name)

    for module in (logs, tensorboard):
        monkeypatch.setattr(module, "import_module", absent)
    with pytest.raises(MissingExtraError, match=r"fastnn-cpu\[(tensorboard|mlflow)\]"):
        train(1, make(), InterruptIn(1))
