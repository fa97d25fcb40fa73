"""Where a file cannot be written, the old one stays, one error says why, and the training can go on.

Every n-th call that changes something on the disk fails, for all n, of a training after a good checkpoint and of each
function that writes a file: with a full disk, a quota, a read-only or a broken file system (tests/support/disk.py).
Then a file system of 300 kB is filled for real, a limit on the size of files is set, and folders are deleted.
"""

from __future__ import annotations

import errno
import subprocess
import sys
import tempfile
from pathlib import Path

import disk

IN_CI = 0.05
FAST = "/dev/shm"  # where synchronising takes no time
ERRORS = (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS)

TRAINING = """
import json, os, shutil, sys
from pathlib import Path
import numpy as np, fastnn as fnn
from fastnn.train import Checkpoint, History, runs

data = np.random.default_rng(0).normal(size=(16, 6)).astype("f4"), np.arange(16) % 2

def train(folder, epochs):
    fnn.manual_seed(0)
    model = fnn.nn.Sequential(fnn.nn.Linear(6, 4), fnn.nn.BatchNorm1d(4), fnn.nn.Linear(4, 2))
    keep = [Checkpoint(folder, resume=True, best=BEST), fnn.train.RecordPath(folder, per_epoch=1)]
    fnn.fit(model, data, epochs=epochs, batch_size=4, seed=0, verbose=False, callbacks=keep, compile=False)
    return model

def finite(model):
    return all(np.isfinite(array).all() for array in model.state_dict().values())
"""

INJECTED = (
    TRAINING
    + """
root, codes, shares = Path(sys.argv[1]), json.loads(sys.argv[2]), float(sys.argv[3])
log, failures = Path(os.environ["DISK_LOG"]), 0

def failing(number, code, work):
    # Whether the n-th call from now on came and failed, and what was raised.
    log.write_text("")
    os.environ.update(DISK_FAIL=str(number), DISK_ERRNO=str(code))
    error = None
    try:
        work()
    except Exception as raised:
        error = raised
    os.environ["DISK_FAIL"] = "0"
    call = next((line.split("\\t") for line in log.read_text().splitlines() if line.endswith("\\t1")), None)
    if call is not None:
        assert error is not None or call[0] in ("unlink", "mkdir"), f"no word of call {number}, {call}"
        if error is not None:
            assert isinstance(error, OSError) and error.errno == code, (number, call, repr(error))
            assert str(root) in str(error.filename) and ".tmp" not in str(error), (number, call, str(error))
    return call

def each(work, before, after):
    # For all n, or every third or so; beginning with what `before` makes, and then judged by `after`.
    global failures
    for code in codes:
        for n in range(1, 1000):
            if (n * 7919 + code) % 100 >= 100 * shares and n > 1:
                continue
            made = before()
            call = failing(n, code, lambda: work(made))
            left = [path.name for path in root.rglob("*.tmp")]
            after(made)
            if call is None:
                break
            failures += 1
            assert not left or call[0] == "unlink", (n, call, left)

numbers = iter(range(10**6))
for BEST in (None, "train_loss"):
    straight = train(root / f"straight-{BEST}", 4).state_dict()

    train(root / "good", 1)

    def good():
        return Path(shutil.copytree(root / "good", root / f"run{next(numbers)}"))

    def goes_on(folder):
        assert runs.epochs_kept(folder) >= 1
        assert all(np.isfinite(array).all() for array in fnn.weights.load(folder / "weights.safetensors").values())
        for name in runs.HISTORIES:
            History.load(folder / name)
        model = train(folder, 4)
        assert all(np.array_equal(straight[name], array) for name, array in model.state_dict().items()), folder

    each(lambda folder: train(folder, 3), good, goes_on)
    shutil.rmtree(root / "good")

model = fnn.nn.Sequential(fnn.nn.Flatten(), fnn.nn.Linear(4, 2))
image = np.zeros((1, 4), "f4")
WRITERS = {
    "w.safetensors": lambda path: fnn.weights.save(model, path),
    "model.fnn": lambda path: fnn.save(model, path),
    "h.jsonl": lambda path: History().save(path),
    "h.csv": lambda path: History().save(path),
    "m.onnx": lambda path: fnn.onnx.export(model, path, shape=(4,)),
    "m.c": lambda path: fnn.interop.export_c(model, path, shape=(4,)),
    "g.svg": lambda path: fnn.graph(model(image)).save(path),
    "config.json": lambda path: runs.write_config(path.parent, {"a": 1}),
}
for name, write in WRITERS.items():
    def old():
        path = root / name
        path.write_bytes(b"old")
        return path

    write(root / name)
    new = (root / name).read_bytes()

    def whole(path):
        assert path.read_bytes() in (b"old", new), name
        write(path)
        assert path.read_bytes() == new, name

    each(write, old, whole)
print(failures)
"""
)

FULL = (
    TRAINING
    + """
import errno, resource
BEST, kind, root = None, sys.argv[1], Path(sys.argv[2])
folder = root / "run"
straight = train(root / "straight", 3).state_dict()
train(folder, 1)
before = (folder / "checkpoint.safetensors").read_bytes()
class Delete(fnn.train.Callback):
    def on_batch_end(self, training):
        if (training.epoch, training.batch) == (2, 2):
            shutil.rmtree(root / "deleted")

model = fnn.nn.Linear(6, 2)
for keep in (Checkpoint(root / "deleted"), fnn.train.RecordPath(root / "deleted")):
    if kind == "limit":
        try:
            fnn.fit(model, data, epochs=3, batch_size=4, seed=0, verbose=False, callbacks=[Delete(), keep])
            raise AssertionError("no word of a folder that was deleted")
        except OSError as error:
            assert str(root / "deleted") in str(error), error
        assert finite(model)

filler = root / "filler"
if kind == "full":
    with open(filler, "wb", buffering=0) as stream:
        try:
            while True:
                stream.write(b"x" * 512)
        except OSError as error:
            assert error.errno == errno.ENOSPC
elif kind == "limit":
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, resource.RLIM_INFINITY))
try:
    train(folder, 3)
    raise AssertionError("no word of it")
except OSError as error:
    assert str(folder) in str(error), error
assert (folder / "checkpoint.safetensors").read_bytes() == before
filler.unlink(missing_ok=True)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert all(np.array_equal(straight[name], array) for name, array in train(folder, 3).state_dict().items())
assert not list(root.rglob("*.tmp"))
"""
)
TMPFS = 'mount -t tmpfs -o size=300k,nr_inodes=100 tmpfs "$1" && shift && exec "$@"'


def measure(share: float = 1.0) -> str:
    with tempfile.TemporaryDirectory(dir=FAST if Path(FAST).is_dir() else None) as folder:
        root = Path(folder).resolve()
        codes = ERRORS[: max(1, round(len(ERRORS) * share))]
        result, _ = disk.run(INJECTED, root, root, list(codes), share)
        assert result.returncode == 0, f"share {share}: {result.stderr[-3000:]}"
        failures = int(result.stdout)
    with tempfile.TemporaryDirectory() as folder:
        _python(FULL, "limit", folder)
    said = "deleted folders, a limit on files"
    with tempfile.TemporaryDirectory() as folder:
        inside = ["unshare", "-Urm", "sh", "-c", TMPFS, "sh", folder]
        if not subprocess.run([*inside, "true"], capture_output=True, check=False).returncode:
            _python(FULL, "full", folder, through=inside)
            said = f"a full file system, {said}"
    return f"{failures} failing calls, {said}: nothing lost, each named, each run went on bit for bit"


def _python(code: str, *arguments: str, through: list[str] = []) -> None:  # noqa: B006  # it is not changed
    command = [*through, sys.executable, "-c", code, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, f"{arguments}: {result.stderr[-3000:]}"
