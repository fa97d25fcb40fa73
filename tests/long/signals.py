"""SIGINT and SIGTERM end every command within 2 s, with a checkpoint and exit 130 or 143; a second one ends it at once.

Each command gets a signal at a random moment of its work. A training's run is then gone on with, and its end compared,
bit for bit, with that of one that was left alone. Second signals come while a first one waits for a slow callback.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from fastnn.train import History

IN_CI = 0.02
ROUNDS, SEED, PATIENCE = 8, 14, 2.0
FASTNN = [sys.executable, "-W", "ignore", "-m", "fastnn"]
EXIT = {signal.SIGINT: 130, signal.SIGTERM: 143}
TRAIN = ["train", "--model", "linear", "--no-augment", "--seed", "3"]
BEGUN = "import sys\nfrom fastnn.cli import main\nprint('begun', flush=True)\nsys.exit(main(sys.argv[1:]))"

# What they do for longer than it takes to send them a signal; RUN and OUT are folders.
COMMANDS = [
    [*TRAIN, "--epochs", "100000"],
    ["train", "--model", "cnn", "--epochs", "1000", "--out", "OUT/run"],
    ["train", "--optimizer", "gd", "--model", "mlp", "--epochs", "1000", "--eager"],
    ["train", "--lr", "find", "--model", "cnn", "--val", "0.1", "--epochs", "1000"],
    ["bench", "--seconds", "5"],
    ["landscape", "RUN", "--points", "601", "--html", "OUT/page.html"],
    ["compare-optimizers", "--model", "mlp", "--epochs", "1000", "--html", "OUT/page.html"],
    ["compare-optimizers", "--surface", "rosenbrock", "--steps", "3000000", "--html", "OUT/page.html"],
    ["demo", "RUN", "--no-browser", "--port", "0"],
]
# These are done in a moment: a signal may also come too late.
SHORT = [["eval", "RUN"], ["diagnose", "RUN", "--out", "OUT/diagnosis"], ["export", "RUN", "OUT/m.c"], ["summary"]]

SLOW = """
import signal, sys, time
import numpy as np, fastnn as fnn

class Slow(fnn.train.Callback):
    def on_batch_end(self, training):
        if training.epoch == 2:
            print("slow", flush=True)
            until = time.monotonic() + 60
            while time.monotonic() < until:
                time.sleep(0.01)

data = np.ones((8, 4), "f4"), np.arange(8) % 2
keep = fnn.train.Checkpoint(sys.argv[1])
try:
    fnn.fit(fnn.nn.Linear(4, 2), data, epochs=9, seed=0, verbose=False, callbacks=[Slow(), keep])
except fnn.train.Interrupted as stop:
    sys.exit(128 + stop.signal)
"""


def measure(share: float = 1.0) -> str:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # else what a background job starts would ignore it
    rng = random.Random(SEED)
    longest = 0.0
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _ended([*FASTNN, *TRAIN, "--epochs", "2", "--out", str(root / "RUN")])
        commands = [*COMMANDS, *SHORT]
        chosen = rng.sample(range(len(commands) * ROUNDS), max(2, round(len(commands) * ROUNDS * share)))
        for number, c in enumerate(c % len(commands) for c in chosen):
            out = root / f"out{number}"
            out.mkdir()
            command = [word.replace("RUN", str(root / "RUN")).replace("OUT", str(out)) for word in commands[c]]
            longest = max(longest, _signalled(command, rng, late_is_fine=commands[c] in SHORT))
            left = [path.name for path in out.rglob("*.tmp")]
            assert not left, f"{' '.join(command)} left {left}"
        goes_on = [_goes_on(root / f"on{r}", rng) for r in range(round(ROUNDS * share / 2))]
        pairs = [(first, second) for first in EXIT for second in EXIT][: max(1, round(4 * share))]
        twice = max(_second_signal(root / f"{first}-{second}", first, second) for first, second in pairs)
    return (
        f"{len(chosen)} signals to {len(commands)} commands: ended after {longest:.1f} s at most; "
        f"{len(goes_on)} runs went on bit for bit; a second signal ended one after {twice:.2f} s"
    )


def _patience() -> float:
    """The seconds that are promised; more where more processes compute than there are cores."""
    return PATIENCE * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def _ended(command: list[str]) -> str:
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, f"{' '.join(command)}: {result.stderr}"
    return result.stdout


def _start(*command: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def _signalled(command: list[str], rng: random.Random, late_is_fine: bool) -> float:
    """Seconds that the command took to end after a signal at a random moment."""
    what, wait = rng.choice(list(EXIT)), rng.uniform(0.05, 3.0)
    told = f"{signal.Signals(what).name} {wait:.3f} s after the start of fastnn {' '.join(command)}"
    process = _start(sys.executable, "-c", BEGUN, *command)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "begun\n"
        time.sleep(wait)
        sent = time.monotonic()
        process.send_signal(what)
        _, errors = process.communicate(timeout=30)
        seconds = time.monotonic() - sent
    finally:
        process.kill()
    fine = (EXIT[what], 0) if late_is_fine else (EXIT[what],)
    assert process.returncode in fine, f"{told}: exit {process.returncode}, {errors}"
    assert seconds < _patience(), f"{told}: ended only after {seconds:.1f} s"
    if process.returncode:
        assert "stopped by" in errors, f"{told}: {errors}"
        assert "Traceback" not in errors, f"{told}: {errors}"
    return seconds


def _goes_on(folder: Path, rng: random.Random) -> int:
    """Epochs of a run that was stopped somewhere, and then is the same as one that never was."""
    process = _start(*FASTNN, *TRAIN, "--epochs", "1000000", "--out", str(folder))
    history = folder / "history.jsonl"
    try:
        while process.poll() is None and not history.exists():
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.2))
        process.send_signal(rng.choice(list(EXIT)))
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    done = len(History.load(history))
    assert f"after epoch {done}" in errors, errors
    _ended([*FASTNN, "train", "--resume", "--epochs", str(done + 1), "--out", str(folder)])
    straight = folder.with_name(f"{folder.name}-straight")
    _ended([*FASTNN, *TRAIN, "--epochs", str(done + 1), "--out", str(straight)])
    kept = [(run / "weights.safetensors").read_bytes() for run in (folder, straight)]
    assert kept[0] == kept[1], f"seed {SEED}: a run that was stopped in epoch {done + 1} took another path"
    return done


def _second_signal(folder: Path, first: int, second: int) -> float:
    process = _start(sys.executable, "-c", SLOW, str(folder))
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "slow\n"
        process.send_signal(first)
        time.sleep(0.3)
        assert process.poll() is None
        sent = time.monotonic()
        process.send_signal(second)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    seconds = time.monotonic() - sent
    told = f"{signal.Signals(second).name} after {signal.Signals(first).name}"
    assert process.returncode == EXIT[second], f"{told}: {process.returncode}, {errors}"
    assert seconds < _patience(), f"{told}: ended after {seconds:.1f} s"
    assert len(History.load(folder / "history.jsonl")) == 1
    return seconds
