"""A run's folder: going on gives the bits of never having stopped, and what is kept is whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn, optim
from fastnn.data import Dataset
from fastnn.errors import DataError
from fastnn.train import Callback, Checkpoint, History, Interrupted, Training, fit

RNG = np.random.default_rng(0)
DATA = Dataset(RNG.normal(size=(30, 1, 4, 4)).astype(np.float32), np.arange(30) % 3)

OPTIMIZERS = {
    "sgd": lambda p: optim.SGD(p, lr=0.1),
    "momentum": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "adam": lambda p: optim.Adam(p, lr=0.01, betas=(0.8, 0.99)),
}
SCHEDULERS = {
    "none": lambda o: None,
    "step": lambda o: optim.lr_scheduler.StepLR(o, 1, gamma=0.5),
    "cycle": lambda o: optim.lr_scheduler.OneCycleLR(o, max_lr=0.05, total_steps=20),
    "cyclic": lambda o: optim.lr_scheduler.CyclicLR(o, 0.01, 0.1, 2),
    "plateau": lambda o: optim.lr_scheduler.ReduceLROnPlateau(o, patience=0, mode="max"),
}


def start(folder: Path, epochs: int, optimizer: str, scheduler: str, more: tuple[Callback, ...] = ()) -> History:
    """As a process would that is started anew: the same seed, a fresh model, then the checkpoint, if there is one."""
    fnn.manual_seed(5)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.4), nn.Linear(8, 3)
    )
    opt = OPTIMIZERS[optimizer](model.parameters())
    return fit(
        model,
        DATA,
        val=0.2,
        optimizer=opt,
        scheduler=SCHEDULERS[scheduler](opt),
        epochs=epochs,
        batch_size=7,
        callbacks=[Checkpoint(folder, resume=True), *more],
        verbose=False,
    )


def without_times(history: History) -> list[tuple[Any, ...]]:
    return [(r.epoch, r.train_loss, r.train_accuracy, r.val_loss, r.val_accuracy, r.lr) for r in history]


@pytest.mark.parametrize(
    ("optimizer", "scheduler"),
    [("sgd", "none"), ("momentum", "step"), ("momentum", "cycle"), ("momentum", "cyclic"), ("adam", "plateau")],
)
def test_one_epoch_and_two_more_are_three_epochs(tmp_path: Path, optimizer: str, scheduler: str) -> None:
    straight = start(tmp_path / "straight", 3, optimizer, scheduler)
    start(tmp_path / "resumed", 1, optimizer, scheduler)
    resumed = start(tmp_path / "resumed", 3, optimizer, scheduler)
    assert without_times(resumed) == without_times(straight)
    kept = [(tmp_path / name / "weights.safetensors").read_bytes() for name in ("straight", "resumed")]
    assert kept[0] == kept[1]
    assert History.load(tmp_path / "resumed" / "history.jsonl") == resumed
    assert History.load(tmp_path / "resumed" / "history.csv") == resumed


def test_an_interrupted_epoch_is_run_again(tmp_path: Path) -> None:
    class Stop(Callback):
        def on_batch_end(self, training: Training) -> None:
            if (training.epoch, training.batch) == (2, 2):
                raise KeyboardInterrupt

    straight = start(tmp_path / "straight", 2, "adam", "step")
    with pytest.raises(Interrupted):
        start(tmp_path / "stopped", 2, "adam", "step", more=(Stop(),))
    assert without_times(start(tmp_path / "stopped", 2, "adam", "step")) == without_times(straight)
    kept = [(tmp_path / name / "weights.safetensors").read_bytes() for name in ("straight", "stopped")]
    assert kept[0] == kept[1]


def test_a_complete_run_stays_as_it_is(tmp_path: Path) -> None:
    start(tmp_path, 2, "momentum", "none")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    (tmp_path / "weights.safetensors").unlink()  # as if the process had been killed just after the checkpoint
    assert len(start(tmp_path, 1, "momentum", "none")) == 2
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_without_resume_it_starts_again(tmp_path: Path) -> None:
    start(tmp_path, 1, "sgd", "none")
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    assert len(fit(model, DATA, callbacks=[Checkpoint(tmp_path)], verbose=False)) == 1
    assert json.loads((tmp_path / "history.jsonl").read_text())["epoch"] == 1


def test_checkpoints_of_something_else_or_damaged_are_refused(tmp_path: Path) -> None:
    start(tmp_path, 1, "adam", "step")
    other = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    with pytest.raises(DataError, match="not written by this training"):
        fit(other, DATA, callbacks=[Checkpoint(tmp_path, resume=True)], verbose=False)
    whole = (tmp_path / "checkpoint.safetensors").read_bytes()
    (tmp_path / "checkpoint.safetensors").write_bytes(whole[:-1])
    with pytest.raises(DataError, match=r"checkpoint\.safetensors"):
        start(tmp_path, 2, "adam", "step")
    (tmp_path / "checkpoint.safetensors").write_bytes((tmp_path / "weights.safetensors").read_bytes())
    with pytest.raises(DataError, match="not written by this training"):
        start(tmp_path, 2, "adam", "step")
