"""A power cut at any moment leaves the last checkpoint that was kept, or a newer one, whole.

Programs that keep their work run on a watched disk (tests/support/disk.py). Then the power is cut after each of their
calls: what was not synchronised may be there or not, in the worst way for each file.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import disk

IN_CI = 0.34

PROGRAMS = {
    "fnn.fit with Checkpoint": """
import sys, numpy as np, fastnn as fnn
from fastnn.train import Checkpoint
data = np.ones((8, 4), "f4"), np.arange(8) % 2
for epochs in (2, 3):
    keep = Checkpoint(sys.argv[1] + "/new/run", resume=True, best="train_loss")
    fnn.fit(fnn.nn.Linear(4, 2), data, epochs=epochs, seed=0, verbose=False, callbacks=[keep])
""",
    "fastnn train": """
import sys
from fastnn.cli import main
run = ["--out", sys.argv[1] + "/new/run", "--record-path", "--json", sys.argv[1] + "/result.json"]
assert main(["train", "--model", "linear", "--epochs", "2", *run]) == 0
assert main(["train", "--resume", "--epochs", "3", *run]) == 0
""",
    "fnn.save": """
import sys, numpy as np, fastnn as fnn
model = fnn.nn.Linear(4, 2)
for _ in range(2):
    fnn.save(model, sys.argv[1] + "/model.fnn")
    fnn.weights.save(model, sys.argv[1] + "/w.safetensors")
    fnn.train.History().save(sys.argv[1] + "/h.jsonl")
""",
}


class Disk:
    """What is on a disk for certain, and what may be: files by number, and the names that lead to them."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.seen: dict[str, int] = {}  # as processes see it: names, also of folders, and what they lead to
        self.kept: dict[str, int] = {}  # as it is after a power cut, whatever else is
        self.under_way: list[tuple[str, int | None]] = []  # changes of names that may have come to the disk
        self.whole: set[int] = set()  # files with all their content on the disk
        self.files = 0

    def _name(self, path: str, file: int | None) -> None:
        if file is None:
            self.seen.pop(path, None)
        else:
            self.seen[path] = file
        self.under_way.append((path, file))

    def take(self, call: disk.Call) -> None:
        if call.what in ("create", "mkdir") and call.path not in self.seen:
            if call.what == "create" or str(Path(call.path).parent) in {self.root, *self.seen}:
                self.files += 1
                self._name(call.path, self.files)
        elif call.what in ("write", "open"):
            self.whole.discard(self.seen[call.path])
        elif call.what == "rename":
            file = self.seen[call.path]
            self._name(call.path, None)
            self._name(call.second, file)
        elif call.what == "unlink" and call.path in self.seen:
            self._name(call.path, None)
        elif call.what == "fsync":
            self.whole.add(self.seen.get(call.path, 0))
            for path, file in [change for change in self.under_way if str(Path(change[0]).parent) == call.path]:
                self.under_way.remove((path, file))
                if file is None:
                    self.kept.pop(path, None)
                else:
                    self.kept[path] = file

    def faults(self) -> list[str]:
        """What the power, cut now, would spoil."""
        found = []
        for path in {*self.kept, *(path for path, _ in self.under_way)}:
            may_be = [self.kept.get(path), *(file for name, file in self.under_way if name == path)]
            if not path.endswith(".tmp") and not Path(path).is_dir():
                found += [f"{path} without its content" for file in may_be if file and file not in self.whole]
                found += [f"{path} gone" for file in may_be[1:] if file is None and "/path/" not in path]
        for path in self.kept:
            above = str(Path(path).parent)
            if above != self.root and above not in self.kept:
                found.append(f"{path} gone with its folder {above}")
        return found


def measure(share: float = 1.0) -> str:
    cuts = 0
    for name in list(PROGRAMS)[: max(1, round(share * len(PROGRAMS)))]:
        with tempfile.TemporaryDirectory() as folder:
            root = str(Path(folder).resolve())
            result, calls = disk.run(PROGRAMS[name], Path(root), root)
            assert result.returncode == 0, result.stderr
            state = Disk(root)
            for number, call in enumerate(calls):
                state.take(call)
                faults = state.faults()
                assert not faults, f"{name}: a power cut after call {number}, {call}, leaves {'; '.join(faults)}"
            left = {path for path, _ in state.under_way if not path.endswith(".tmp") and "/path/" not in path}
            assert not left, f"{name}: when it has ended, names are not yet kept: {left}"
            cuts += len(calls)
    return f"{cuts} cuts of the power, none of which takes a file that was kept"
