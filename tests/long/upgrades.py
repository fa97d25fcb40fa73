"""Runs, weights and model files of every released version load, or are refused in words.

tests/golden holds a file of each kind as versions wrote them, by the day and commit of the version; where the history
of the sources is at hand, more of its commits write theirs now. What loads computes what its own version did, and a
training goes on; files that say that a newer version wrote them are refused.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import golden
import numpy as np

import fastnn as fnn
from fastnn import formats, optim, weights
from fastnn.errors import DataError

IN_CI = 0.01
ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"
PROGRAM = ROOT / "tests" / "support" / "golden.py"
CLOSE: dict[str, float] = {"rtol": 1e-3, "atol": 1e-4}  # kernels sum in another order than theirs did


def _weights(room: Path, expected: Any) -> None:
    model = golden.network()
    model.load_state_dict(weights.load(room / "weights.safetensors"))
    assert weights.load_note(room / "weights.safetensors") == "a note"
    np.testing.assert_allclose(golden.outputs(model), expected, **CLOSE)


def _run(room: Path, expected: Any) -> None:
    """The weights, both histories, and the next epoch."""
    model = golden.network()
    model.load_state_dict(weights.load(room / "run/weights.safetensors"))
    np.testing.assert_allclose(golden.outputs(model), expected["outputs"], **CLOSE)
    for name in ("history.jsonl", "history.csv"):
        assert fnn.train.History.load(room / "run" / name)["train_loss"] == expected["train_loss"]
    model = golden.network()
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(room / "run", folder, dirs_exist_ok=True)
        golden.fitted(model, 3, Path(folder), optim.Adam(model.parameters(), lr=0.01), resume=True)
        assert len(fnn.train.History.load(Path(folder, "history.jsonl"))) == 3
    np.testing.assert_allclose(golden.outputs(model), expected["third"], **CLOSE)


def _containers(room: Path, expected: Any) -> None:
    found = fnn.load(room / "containers.pt")
    model = golden.network()
    model.load_state_dict(found["model"])
    np.testing.assert_allclose(golden.outputs(model), expected, **CLOSE)
    optim.Adam(model.parameters(), lr=0.01).load_state_dict(found["optimizer"])
    others = {key: found[key] for key in ("epoch", "best", "none", "both")}
    assert others == {"epoch": 1, "best": 0.5, "none": None, "both": (1, [True, "text"])}
    assert np.isnan(found["nan"])


def _model(room: Path, expected: Any) -> None:
    """It computes, and trains on."""
    model = fnn.load(room / "model.fnn")
    np.testing.assert_allclose(golden.outputs(model), expected, **CLOSE)
    golden.fitted(model, 1, None, optim.SGD(model.parameters(), lr=0.01))
    model.predict(golden.X)


def _layers(room: Path, expected: Any) -> None:
    """Every layer has the attributes that one of its class has today: it would fail later where one is missing."""
    layers = fnn.load(room / "layers.fnn")
    sums = {name: float(np.abs(np.asarray(array)).sum()) for name, array in layers.state_dict().items()}
    assert sums == expected
    repr(layers)
    fresh = golden.every_layer()
    for name, layer in layers.items():
        parts = dict(layer.named_modules())
        for place, wanted in fresh[name].named_modules():
            missing = [key for key in vars(wanted) if not hasattr(parts[place], key)]
            assert not missing, f"{name}: {type(wanted).__name__} {place} came back without {missing}"


def _command(room: Path, expected: Any) -> None:
    run = fnn.load_run(room / "command")
    assert run.history["train_loss"] == expected["train_loss"]
    assert {n: float(np.abs(array).sum()) for n, array in run.model.state_dict().items()} == expected["sums"]
    fnn.predict(run.model, np.zeros((1, 1, 28, 28), np.uint8))
    if not (room / "command/checkpoint.safetensors").exists():  # a fixture has none, for its size
        return
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(room / "command", folder, dirs_exist_ok=True)
        golden.fastnn_command("train", "--out", folder, "--resume", "--epochs", "2")
        assert len(fnn.load_run(folder).history) == 2


def _landscape(room: Path, expected: Any) -> None:
    found = fnn.landscape.load(room / "landscape.npz")
    np.testing.assert_array_equal(found.losses, expected)
    repr(found)


def _history(room: Path, expected: Any) -> None:
    assert fnn.train.History.load(room / "history.csv")["train_loss"] == expected


CHECKS: dict[str, Callable[[Path, Any], None]] = {
    "weights": _weights, "run": _run, "containers": _containers, "model": _model, "layers": _layers,
    "command": _command, "landscape": _landscape, "history": _history,
}  # fmt: skip


def _load_all(room: Path, version: str, count: Counter[str]) -> None:
    """Each kind of file that the version wrote."""
    for kind, expected in json.loads((room / "expected.json").read_text())["expected"].items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", fnn.train.ResumeWarning)  # another fastnn, which it should say
                CHECKS[kind](room, expected)
            count["loaded"] += 1
        except DataError as error:
            if "its format is" not in str(error):
                raise AssertionError(f"{kind} of {version}: {error}") from error
            count["refused"] += 1
        except Exception as error:
            raise AssertionError(f"{kind} of {version}: {type(error).__name__}: {error}") from error


def _written(commit: str, room: Path) -> bool:
    """Lets the sources of a commit write their files; False where it has none to do so."""
    sources = subprocess.run(["git", "archive", commit, "fastnn"], cwd=ROOT, capture_output=True, check=False)
    if sources.returncode:
        return False
    subprocess.run(["tar", "x", "-C", str(room)], input=sources.stdout, check=True)
    clean = {name: value for name, value in os.environ.items() if name != "FASTNN_DATA_DIR"}
    environment = {**clean, "PYTHONPATH": str(room), "FASTNN_BACKEND": "reference", "PYTHONDONTWRITEBYTECODE": "1"}
    (room / "files").mkdir()
    command = [sys.executable, str(PROGRAM), str(room / "files")]
    said = subprocess.run(command, cwd=room, env=environment, capture_output=True, text=True, check=False).stderr
    done = (room / "files/expected.json").exists()
    assert done or "ImportError" in said or "AttributeError" in said, f"{commit}: {said}"  # too early
    return done


def _commits(count: int) -> list[str]:
    """So many of the history, evenly; none where it is not at hand."""
    command = ["git", "log", "--first-parent", "--reverse", "--format=%h", "--", "fastnn"]
    with contextlib.suppress(FileNotFoundError):
        said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
        return [said[round(i * (len(said) - 1) / max(1, count - 1))] for i in range(min(count, len(said)))]
    return []


def _newer() -> Iterator[tuple[str, Callable[[], Any]]]:
    """Files of today that say they have a newer format, each with what reads it."""
    with tempfile.TemporaryDirectory() as folder:
        room = Path(folder)
        golden.write_run(room)
        golden.write_containers(room)
        shutil.copytree(next(iter(GOLDEN.glob("*/command"))), room / "command")
        landscape = next(iter(GOLDEN.glob("*/landscape.npz")))

        arrays, note = weights.load_with_note(room / "run/checkpoint.safetensors")
        weights.save(
            arrays, room / "run/checkpoint.safetensors", note=(note or "").replace('"format": 1', '"format": 2')
        )
        model = golden.network()
        yield "a checkpoint", lambda: golden.fitted(model, 3, room / "run", optim.Adam(model.parameters()), resume=True)

        config = json.loads((room / "command/config.json").read_text())
        (room / "command/config.json").write_text(json.dumps({**config, "format": 2}))
        yield "a config", lambda: fnn.load_run(room / "command")

        arrays, note = weights.load_with_note(room / "containers.pt")
        weights.save(arrays, room / "containers.pt", note=(note or "").replace("containers 1", "containers 2"))
        yield "containers", lambda: fnn.load(room / "containers.pt")

        entries = formats.read_npz(landscape)
        words = json.loads(str(entries.pop("words")))
        np.savez(room / "landscape.npz", words=np.array(json.dumps({**words, "format": 2})), **entries)
        yield "a landscape", lambda: fnn.landscape.load(room / "landscape.npz")


def measure(share: float = 1.0) -> str:
    """How many files of how many versions load."""
    for kind, read in _newer():
        said = ""
        try:
            read()
        except DataError as error:
            said = str(error)
        assert "its format is 2, written by a newer fastnn: this version reads up to 1" in said, f"{kind}: {said!r}"
    count: Counter[str] = Counter()
    kept = sorted(path.parent for path in GOLDEN.glob("*/expected.json"))
    assert len(kept) > 2, f"{GOLDEN} has lost its files"
    for room in kept:
        _load_all(room, room.name, count)
    versions = len(kept)
    for commit in _commits(round(60 * share)) if share >= 0.1 else []:
        with tempfile.TemporaryDirectory() as folder:
            if _written(commit, Path(folder)):
                _load_all(Path(folder, "files"), commit, count)
                versions += 1
    return (
        f"{count['loaded']} files of {versions} versions load, and compute what they did; {count['refused']} are "
        "refused in words, and so is a newer format of each kind"
    )
