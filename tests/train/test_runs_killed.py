"""A run that is killed at its very beginning can be started again, or gone on with; nothing of it stays behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastnn as fnn
from fastnn import files, nn
from fastnn.cli import main
from fastnn.train import Checkpoint, History

TRAIN = ("train", "--model", "linear", "--epochs", "2", "--no-augment", "--seed", "3")
# The process dies, as by SIGKILL, in the write that is counted by its second argument.
KILLED = """
import os, sys
import fastnn.files
from fastnn.cli import main
writes, replace = 0, os.replace
def deadly(*names):
    global writes
    writes += 1
    if writes == int(sys.argv[1]):
        os.kill(os.getpid(), 9)
    replace(*names)
os.replace = deadly
main(sys.argv[2:])
"""


def die_in_write(number: int, *arguments: str) -> None:
    command = [sys.executable, "-c", KILLED, str(number), *arguments]
    result = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert result.returncode == -9, result.stderr


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("straight") / "run"
    assert main([*TRAIN, "--out", str(folder)]) == 0
    return (folder / "weights.safetensors").read_bytes()


def is_whole(folder: Path, straight: bytes) -> bool:
    names = {"weights.safetensors", "checkpoint.safetensors", "config.json", "history.jsonl", "history.csv"}
    same = (folder / "weights.safetensors").read_bytes() == straight
    return {file.name for file in folder.iterdir()} == names and same and len(fnn.load_run(folder)[2]) == 2


# 1: config.json; 2: the first checkpoint; 3: the first weights; 4: the first history; 6: the second checkpoint.
@pytest.mark.parametrize("write", [1, 2, 3, 4, 6])
def test_a_killed_run_goes_on(tmp_path: Path, straight: bytes, write: int) -> None:
    die_in_write(write, *TRAIN, "--out", str(tmp_path / "run"))
    assert any(files.is_leftover(file.name) for file in (tmp_path / "run").iterdir())
    assert main(["train", "--out", str(tmp_path / "run"), "--resume", *TRAIN[1:]]) == 0
    assert is_whole(tmp_path / "run", straight)


@pytest.mark.parametrize("write", [1, 2])
def test_a_run_killed_before_its_first_epoch_is_started_anew_without_being_asked_to(
    tmp_path: Path, straight: bytes, write: int
) -> None:
    die_in_write(write, *TRAIN, "--out", str(tmp_path / "run"))
    assert main([*TRAIN, "--out", str(tmp_path / "run")]) == 0
    assert is_whole(tmp_path / "run", straight)


@pytest.mark.parametrize("write", [1, 3])
def test_force_leaves_nothing_behind(tmp_path: Path, straight: bytes, write: int) -> None:
    die_in_write(write, *TRAIN, "--out", str(tmp_path / "run"))
    assert main([*TRAIN, "--force", "--out", str(tmp_path / "run")]) == 0
    assert is_whole(tmp_path / "run", straight)


def test_a_run_with_an_epoch_is_not_started_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    die_in_write(6, *TRAIN, "--out", str(tmp_path / "run"))
    assert main([*TRAIN, "--out", str(tmp_path / "run")]) == 2
    assert "is not empty" in capsys.readouterr().err


def test_files_that_are_no_run_s_are_not_taken_for_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, content in (("config.json", '{"theirs": 1}'), ("path/theirs", "precious")):
        folder = tmp_path / name.replace("/", "-")
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text(content)
        assert main([*TRAIN, "--out", str(folder)]) == 2
        assert "is not empty" in capsys.readouterr().err
        assert (folder / name).read_text() == content


def test_a_torn_history_is_written_anew_from_the_checkpoint(tmp_path: Path, straight: bytes) -> None:
    run = tmp_path / "run"
    assert main([*TRAIN, "--out", str(run), "--epochs", "1"]) == 0
    whole = (run / "history.jsonl").read_text()
    (run / "history.jsonl").write_text(whole + whole[:30])
    (run / "history.csv").write_text("")
    assert main(["train", "--out", str(run), "--resume", "--epochs", "2"]) == 0
    assert is_whole(run, straight)
    assert len(History.load(run / "history.jsonl")) == len(History.load(run / "history.csv")) == 2


def test_a_training_in_python_clears_up_too(tmp_path: Path) -> None:
    code = (
        "import os, numpy as np, fastnn as fnn\n"
        f"os.replace = lambda *_: os.kill(os.getpid(), 9)\n"
        "fnn.fit(fnn.nn.Linear(4, 2), (np.zeros((8, 4), 'f4'), np.arange(8) % 2), verbose=False,\n"
        f"        callbacks=[fnn.train.Checkpoint({str(tmp_path)!r})])"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert [files.is_leftover(file.name) for file in tmp_path.iterdir()] == [True]
    model = nn.Linear(4, 2)
    data = np.zeros((8, 4), np.float32), np.arange(8) % 2
    history = fnn.fit(model, data, callbacks=[Checkpoint(tmp_path, resume=True)], verbose=False)
    assert len(history) == 1
    assert not any(files.is_leftover(file.name) for file in tmp_path.iterdir())


def test_two_commands_do_not_share_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with files.holding(tmp_path) as held:
        assert held
        assert main([*TRAIN, "--out", str(tmp_path)]) == 2
    assert "another fastnn train is at work in" in capsys.readouterr().err
    assert main([*TRAIN, "--out", str(tmp_path)]) == 0


def test_a_command_that_fails_early_leaves_no_folder(tmp_path: Path) -> None:
    assert main(["train", "no-such-data", "--out", str(tmp_path / "run")]) == 3
    assert not (tmp_path / "run").exists()


def test_histories_with_numbers_that_json_has_not(tmp_path: Path) -> None:
    inf = float("inf")
    record = fnn.train.EpochRecord(
        1, np.float32(0.5), None, inf, float("nan"), lr=np.float64(0.1), seconds=1.0, images_per_second=np.int64(3)
    )
    for name in ("h.jsonl", "h.csv"):
        History([record]).save(tmp_path / name)
        (found,) = History.load(tmp_path / name)
        assert (found.epoch, found.train_loss, found.val_loss, found.images_per_second) == (1, 0.5, inf, 3.0)
        assert np.isnan(found.val_accuracy)
    line = (tmp_path / "h.jsonl").read_text()
    assert json.loads(line, parse_constant=lambda word: pytest.fail(word))["val_loss"] == "inf"
