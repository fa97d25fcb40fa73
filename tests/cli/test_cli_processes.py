"""The `fastnn` command as a process: exit codes, signals, and what stands in a run's folder after them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fastnn import backends
from fastnn.train import History

FASTNN = [sys.executable, "-W", "ignore", "-m", "fastnn"]  # the reference warns of overflows, being NumPy
TRAIN = [*FASTNN, "train", "--model", "linear", "--no-augment"]


def run(command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_keeps_the_epochs_so_far(tmp_path: Path, number: signal.Signals, code: int) -> None:
    folder, history = tmp_path / "run", tmp_path / "run" / "history.jsonl"
    process = subprocess.Popen(
        [*TRAIN, "--epochs", "1000000", "--out", str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        for _ in range(1200):
            if history.exists() and len(History.load(history)) >= 2:
                break
            time.sleep(0.05)
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == code
    done = len(History.load(history))
    assert f"stopped by {number.name}" in errors
    assert f"holds the state after epoch {done}: go on with fastnn train --out {folder} --resume" in errors
    assert len(errors.splitlines()) == 1
    again = run([*FASTNN, "train", "--resume", "--epochs", str(done + 1), "--out", str(folder)])
    assert again.returncode == 0, again.stderr
    assert History.load(history)["epoch"] == list(range(1, done + 2))


def test_a_training_that_goes_non_finite_is_exit_4(tmp_path: Path) -> None:
    result = run([*TRAIN, "--lr", "1e38", "--out", str(tmp_path / "run")])
    assert result.returncode == 4
    assert "non-finite" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "run" / "weights.safetensors").exists()


def test_data_that_are_not_there_are_exit_3(tmp_path: Path) -> None:
    result = run([*TRAIN, "mnist"], FASTNN_DATA_DIR=str(tmp_path))
    assert result.returncode == 3
    assert "--data-dir" in result.stderr
    assert "fastnn train digits" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_help_and_nonsense() -> None:
    help_ = run([*FASTNN, "--help"])
    assert help_.returncode == 0
    for word in (
        "train",
        "eval",
        "predict",
        "summary",
        "export",
        "data",
        "bench",
        "completion",
        "info",
        "130",
        "FASTNN_DATA_DIR",
    ):
        assert word in help_.stdout
    nonsense = run([*FASTNN, "nonsense"])
    assert nonsense.returncode == 2
    assert "Traceback" not in nonsense.stderr


def test_a_reader_that_leaves_early_is_no_error() -> None:
    process = subprocess.Popen([*TRAIN, "--epochs", "3"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) == 128 + signal.SIGPIPE
    assert errors == ""


@pytest.mark.parametrize(
    ("name", "value"), [("FASTNN_BACKEND", "foo"), ("FASTNN_NUM_THREADS", "0"), ("FASTNN_NUM_THREADS", "257")]
)
@pytest.mark.parametrize("command", ["info", "train"])
def test_an_environment_that_makes_no_sense_is_one_sentence(command: str, name: str, value: str) -> None:
    result = run([*FASTNN, command], **{name: value})
    assert result.returncode == 2
    assert result.stderr.startswith(f"fastnn: expected {name} to be ")
    assert len(result.stderr.splitlines()) == 1


def test_jit_without_numba_names_the_extra() -> None:
    program = "import sys; sys.modules['numba'] = None; from fastnn.cli import main; sys.exit(main(['info']))"
    result = run([sys.executable, "-c", program], FASTNN_BACKEND="jit")
    assert result.returncode == 2
    assert result.stderr == 'fastnn: Numba is needed for this and is not installed: pip install "fastnn-cpu[jit]"\n'


@pytest.mark.skipif(backends.name() != "native", reason="only the native kernels choose an instruction set")
def test_an_unknown_instruction_set_is_the_environments_fault_and_no_layers() -> None:
    result = run([*FASTNN, "info"], FASTNN_ISA="foo")
    assert (result.returncode, len(result.stderr.splitlines())) == (2, 1)
    assert result.stderr.startswith("fastnn: expected FASTNN_ISA to be one of baseline")
    result = run([sys.executable, "-c", "import fastnn; fastnn.nn.Linear(2, 3)([[1, 2]])"], FASTNN_ISA="foo")
    assert "RefusedError: expected FASTNN_ISA to be one of baseline" in result.stderr


def test_a_learning_rate_that_is_much_too_large_is_one_sentence() -> None:
    result = run([sys.executable, "-m", "fastnn", "train", "--model", "linear", "--no-augment", "--lr", "1e6"])
    assert "Warning" not in result.stderr
    assert result.returncode in (0, 4)
