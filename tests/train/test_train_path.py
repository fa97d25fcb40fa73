"""The path that a training takes: recorded at the right moments, bounded, gone on with, read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn, optim
from fastnn.cli import main
from fastnn.errors import ArgumentError, DataError, FastnnError
from fastnn.train import Callback, Checkpoint, ParameterPath, RecordPath, Training, fit

RNG = np.random.default_rng(0)
DATA = RNG.normal(size=(35, 1, 4, 4)).astype(np.float32), np.arange(35) % 3
LINEAR = ("train", "--model", "linear", "--seed", "2")


class EveryBatch(Callback):
    """The weight after each update, and before the first."""

    def __init__(self) -> None:
        self.weights: list[np.ndarray] = []

    def on_train_begin(self, training: Training) -> None:
        self.weights.append(training.model[1].weight.data.copy())

    def on_batch_end(self, training: Training) -> None:
        self.weights.append(training.model[1].weight.data.copy())


def train(*callbacks: Callback, epochs: int = 2) -> nn.Sequential:
    """Seven batches an epoch."""
    fnn.manual_seed(1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3))
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    fit(model, DATA, optimizer=optimizer, epochs=epochs, batch_size=5, seed=4, callbacks=callbacks, verbose=False)
    return model


@pytest.mark.parametrize("kept", ["in memory", "in files"])
@pytest.mark.parametrize(
    ("per_epoch", "batches"),
    [(1, [0, 1, 2, 7, 14]), (2, [0, 1, 4, 7, 11, 14]), (3, [0, 1, 3, 5, 7, 10, 12, 14]), (20, range(15))],
)
def test_states_are_those_after_the_batches(tmp_path: Path, kept: str, per_epoch: int, batches: Any) -> None:
    every, record = EveryBatch(), RecordPath(tmp_path if kept == "in files" else None, per_epoch=per_epoch)
    model = train(every, record)
    path = record.path if kept == "in memory" else ParameterPath.load(tmp_path)
    assert len(path) == len(batches)
    for state, batch in zip(path, batches, strict=True):
        np.testing.assert_array_equal(state["1.weight"], every.weights[batch])
    assert path.epochs[0] == 0
    assert path.epochs[-1] == pytest.approx(2, abs=1e-4)
    assert (
        list(path[-1]) == list(model.state_dict()) if kept == "in memory" else set(path[-1]) == set(model.state_dict())
    )


def test_a_long_path_is_thinned_evenly(tmp_path: Path) -> None:
    size = sum(array.nbytes for array in train().state_dict().values())
    for folder in (None, tmp_path):
        record = RecordPath(folder, per_epoch=7, most_bytes=12 * size)
        train(record, epochs=10)
        path = record.path
        assert 6 <= len(path) <= 12
        assert np.ptp(np.diff(path.epochs)) < 1e-3
        assert path.epochs[0] == 0
    assert sum(file.stat().st_size for file in (tmp_path / "path").iterdir()) < 24 * size  # with names and headers


@pytest.mark.parametrize("kept", ["in memory", "in files"])
@pytest.mark.parametrize("resumed", [False, True])
def test_epochs_of_one_batch_are_thinned_evenly(tmp_path: Path, kept: str, resumed: bool) -> None:
    """Fewer batches than states asked for: their numbers go by fours, and no state lies between."""

    def run(epochs: int, record: RecordPath) -> None:
        fnn.manual_seed(1)
        model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
        keep = Checkpoint(tmp_path, resume=True)
        fit(model, DATA, epochs=epochs, batch_size="full", seed=4, callbacks=[keep, record], verbose=False)

    record = RecordPath(tmp_path if kept == "in files" else None, most_bytes=10 * (16 * 3 + 3) * 4)
    for epochs in (13, 40) if resumed else (40,):
        run(epochs, record)
    assert 5 <= len(record.path) <= 10
    assert record.path.epochs == tuple(range(0, 41, 8))


@pytest.mark.parametrize("first", [False, True], ids=["behind Checkpoint", "before Checkpoint"])
def test_the_order_of_the_callbacks_does_not_matter(tmp_path: Path, first: bool) -> None:
    for epochs in (2, 3):
        callbacks = [Checkpoint(tmp_path, resume=True), RecordPath(tmp_path, per_epoch=1)]
        train(*(callbacks[::-1] if first else callbacks), epochs=epochs)
    assert ParameterPath.load(tmp_path).epochs == (0, 0.1429, 0.2857, 1, 2, 3)


def test_a_training_that_goes_on_goes_on_with_its_path(tmp_path: Path) -> None:
    """Also where it was stopped within an epoch, and after thinning."""

    class Stop(Callback):
        def on_batch_end(self, training: Training) -> None:
            if training.epoch == 3 and training.batch == 5:
                training.stop("enough")

    straight, broken = tmp_path / "straight", tmp_path / "broken"
    most = 10 * sum(array.nbytes for array in train().state_dict().values())
    train(Checkpoint(straight, resume=True), RecordPath(straight, most_bytes=most), epochs=4)
    train(Checkpoint(broken, resume=True), RecordPath(broken, most_bytes=most), Stop(), epochs=4)
    train(Checkpoint(broken, resume=True), RecordPath(broken, most_bytes=most), epochs=4)
    wanted, path = ParameterPath.load(straight), ParameterPath.load(broken)
    assert path.epochs == wanted.epochs
    for one, other in zip(path, wanted, strict=True):
        assert all(np.array_equal(one[name], other[name]) for name in other)


def test_a_new_training_in_the_same_folder_begins_a_new_path(tmp_path: Path) -> None:
    train(RecordPath(tmp_path, per_epoch=2), epochs=3)
    record = RecordPath(tmp_path, per_epoch=1)
    train(record)
    assert ParameterPath.load(tmp_path).epochs == pytest.approx(record.path.epochs, abs=1e-4)
    assert record.path.epochs == (0, 1 / 7, 2 / 7, 1, 2)


def test_the_command_records_and_load_run_gives_it_back(tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    assert main([*LINEAR, "--epochs", "1", "--out", run, "--record-path"]) == 0
    assert main(["train", "--out", run, "--resume", "--epochs", "2"]) == 0  # goes on recording
    model, _, history = fnn.load_run(run)
    assert history.path is not None
    early = [round(batch / 90, 4) for batch in (1, 6)]  # of 90: a 16th and a quarter of the way to the first state
    assert history.path.epochs == (0, *early, *np.arange(1, 9) / 4)
    assert history.path[4:6].epochs == (0.5, 0.75)
    np.testing.assert_array_equal(history.path[-1]["2.weight"], model[2].weight.data)
    assert main([*LINEAR, "--epochs", "1", "--out", run, "--force"]) == 0
    assert fnn.load_run(run)[2].path is None
    assert not (tmp_path / "run" / "path").exists()


def test_what_makes_no_sense_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--record-path"]) == 2
    assert "--record-path need --out RUN" in capsys.readouterr().err
    with pytest.raises(ArgumentError, match="at least one state"):
        RecordPath(per_epoch=0)
    with pytest.raises(ArgumentError, match="got 2 for 1"):
        ParameterPath([{}], [0, 1])
    with pytest.raises(DataError, match="--record-path"):
        ParameterPath.load(tmp_path)
    train(RecordPath(tmp_path))
    next(iter((tmp_path / "path").iterdir())).write_bytes(b"no")
    with pytest.raises(FastnnError, match="safetensors"):
        list(ParameterPath.load(tmp_path))
