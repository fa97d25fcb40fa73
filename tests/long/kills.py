"""A checkpoint can be loaded after a kill at any moment, also while several processes and threads save at once.

Processes that only save, in two threads, to paths of their own and to one that all share, and processes that train with
`Checkpoint`, are ended by SIGKILL at random moments. After each, all that was ever kept is loaded.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile

IN_CI = 0.1
KILLS, SEED = 200, 14

# Ends its children itself: they are forks of a process that has loaded fastnn, and so begin at once.
PROGRAM = """
import os, random, signal, sys, threading, time
from pathlib import Path
import numpy as np, fastnn as fnn
from fastnn.train import Checkpoint, History, runs

parent = os.getpid()
root, kills, rng = Path(sys.argv[1]), int(sys.argv[2]), random.Random(int(sys.argv[3]))
data = np.ones((8, 40), "f4"), np.arange(8) % 2

def save(paths, number):
    while True:
        for path in paths:
            fnn.weights.save({"all": np.full(20_000, number, "f4")}, path, note=str(number))

def train(folder, epochs=1_000_000):
    fnn.manual_seed(0)
    model = fnn.nn.Sequential(fnn.nn.Linear(40, 50), fnn.nn.Linear(50, 2))
    keep = Checkpoint(folder, resume=True)
    return fnn.fit(model, data, epochs=epochs, seed=0, verbose=False, callbacks=[keep]), model

def watch():
    while os.getppid() == parent:
        time.sleep(0.05)
    os._exit(1)

def child(number):
    def work():
        threading.Thread(target=watch, daemon=True).start()  # none outlives this program, if it fails
        if number == 2:
            train(root / "run")
        for thread in range(2):
            target = [root / f"own{number}", root / "shared"]
            threading.Thread(target=save, args=(target, 10 * number + thread)).start()
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            time.sleep(600)  # to be killed
    return pid

children = {number: child(number) for number in range(3)}
kept = 0
for kill in range(kills):
    time.sleep(rng.uniform(0.001, 0.03) if kill else 0.3)
    number = rng.randrange(3)
    os.kill(children[number], signal.SIGKILL)
    os.waitpid(children[number], 0)
    for name in ("own0", "own1", "shared"):
        if (root / name).exists():
            arrays, note = fnn.weights.load_with_note(root / name)
            values = np.unique(arrays["all"])
            assert values.tolist() == [float(note)], (kill, name, values, note)
    if number == 2 and (root / "run" / "checkpoint.safetensors").exists():
        epochs = runs.epochs_kept(root / "run")
        assert epochs >= kept, (kill, epochs, kept)
        kept = epochs
        for name in runs.HISTORIES:
            if (root / "run" / name).exists():
                assert epochs - 1 <= len(History.load(root / "run" / name)) <= epochs, (kill, name)
        if kill % 10 == 0:
            train(root / "run", epochs + 1)
            kept += 1
    children[number] = child(number)
for pid in children.values():
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
for name in ("own0", "own1", "shared"):
    fnn.weights.save({"all": np.zeros(1, "f4")}, root / name)
history, model = train(root / "run", kept + 2)
straight, twin = train(root / "straight", len(history))
assert history["train_loss"] == straight["train_loss"], "the run that was killed took another path"
assert all(map(np.array_equal, model.state_dict().values(), twin.state_dict().values()))
left = sorted(path.name for path in (*root.iterdir(), *(root / "run").iterdir()) if path.name.endswith(".tmp"))
assert not left, left
"""


def measure(share: float = 1.0) -> str:
    kills = max(1, round(share * KILLS))
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", PROGRAM, folder, str(kills), str(SEED)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert result.returncode == 0, f"seed {SEED}, {kills} kills: {result.stderr[-2000:]}"
    return f"{kills} of {kills} SIGKILLs left every file loadable, and the run goes on bit for bit"
