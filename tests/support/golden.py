"""Program that writes one file of each kind with the version of fastnn that it finds; argv: a folder.

`tests/long/upgrades.py` runs it under old versions, so that it uses what they had, and notes what they lacked.
expected.json holds what that version computed.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import numpy as np

import fastnn as fnn
from fastnn import nn, optim, weights

X = np.random.default_rng(0).random((24, 1, 6, 6), np.float32)
Y = np.arange(24) % 3
ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "Bilinear": (2, 3, 4), "GroupNorm": (2, 4), "MultiheadAttention": (8, 2), "TransformerEncoderLayer": (8, 2, 16),
    "TransformerDecoderLayer": (8, 2, 16), "Transformer": (8, 2, 1, 1, 16), "Unflatten": (1, (2, 2)),
}  # fmt: skip


def network() -> Any:
    """No bias before the batch norm, whose gradient is rounding alone: Adam would make steps of it."""
    fnn.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3))


def outputs(model: Any) -> list[list[float]]:
    """Of the samples, in eval mode."""
    model.eval()
    found = model(X).data
    model.train()
    return np.asarray(found).tolist()


def every_layer() -> dict[str, Any]:
    """A layer of each class that this version has and whose arguments are known or none."""
    found: dict[str, Any] = {}
    for name in dir(nn):
        cls = getattr(nn, name)
        if not inspect.isclass(cls) or not issubclass(cls, nn.Module) or cls is nn.Module:
            continue
        for arguments in (ARGUMENTS.get(name, ()), (2,), (2, 3), (2, 3, 3), (0.5, 0.5)):
            try:
                found[name] = cls(*arguments)
                break
            except Exception:  # old versions raise what they like
                continue
    return found


def fitted(model: Any, epochs: int, folder: Path | None, optimizer: Any, resume: bool = False) -> Any:
    keep = [] if folder is None else [fnn.train.Checkpoint(folder, resume=resume)]
    data = fnn.data.Dataset(X, Y)
    return fnn.fit(
        model, data, epochs=epochs, seed=0, batch_size=8, optimizer=optimizer, callbacks=keep, verbose=False
    )  # fmt: skip


def fastnn_command(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "fastnn", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        done.check_returncode()


def write_weights(room: Path) -> Any:
    model = network()
    weights.save(model, room / "weights.safetensors", note="a note")
    return outputs(model)


def write_run(room: Path) -> Any:
    model = network()
    history = fitted(model, 2, room / "run", optim.Adam(model.parameters(), lr=0.01))
    after = outputs(model)
    longer = network()
    fitted(longer, 3, None, optim.Adam(longer.parameters(), lr=0.01))
    return {"train_loss": history["train_loss"], "outputs": after, "third": outputs(longer)}


def write_containers(room: Path) -> Any:
    model = network()
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    fitted(model, 1, None, optimizer)
    about = {"epoch": 1, "best": 0.5, "none": None, "both": (1, [True, "text"]), "nan": float("nan")}
    fnn.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), **about}, room / "containers.pt")
    return outputs(model)


def write_model(room: Path) -> Any:
    model = network()
    fitted(model, 1, None, optim.SGD(model.parameters(), lr=0.01))
    fnn.save(model, room / "model.fnn")
    return outputs(model)


def write_layers(room: Path) -> Any:
    layers = nn.ModuleDict(every_layer())
    fnn.save(layers, room / "layers.fnn")
    return {name: float(np.abs(np.asarray(array)).sum()) for name, array in layers.state_dict().items()}


def write_command(room: Path) -> Any:
    command = ["train", "digits", "--model", "linear", "--epochs", "1", "--out", str(room / "command")]
    for options in (["--record-path"], ["--record-path", "--eager"], ["--eager"], []):  # what they had
        with contextlib.suppress(subprocess.CalledProcessError):
            fastnn_command(*command, *options)
            break
    history = fnn.train.History.load(room / "command/history.jsonl")
    state = weights.load(room / "command/weights.safetensors")
    return {"train_loss": history["train_loss"], "sums": {name: float(np.abs(state[name]).sum()) for name in state}}


def write_landscape(room: Path) -> Any:
    options = ["--points", "3", "--images", "20", "--save", str(room / "landscape.npz")]
    fastnn_command("landscape", str(room / "command"), *options)
    with np.load(room / "landscape.npz") as arrays:
        return arrays["losses"].tolist()


def write_history(room: Path) -> Any:
    model = network()
    history = fitted(model, 2, None, optim.SGD(model.parameters(), lr=0.01))
    history.save(room / "history.csv")
    return history["train_loss"]


KINDS = {
    "weights": write_weights, "run": write_run, "containers": write_containers, "model": write_model,
    "layers": write_layers, "command": write_command, "landscape": write_landscape, "history": write_history,
}  # fmt: skip


def main(room: Path) -> None:
    expected, lacking = {}, {}
    for kind, write in KINDS.items():
        try:
            expected[kind] = write(room)
        except (Exception, SystemExit):
            lacking[kind] = traceback.format_exc()
    (room / "expected.json").write_text(json.dumps({"expected": expected, "lacking": lacking}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
