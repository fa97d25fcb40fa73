"""Importing changes nothing of the process, and works without a home, a locale or open streams.

A child, started under circumstances that are drawn at random, imports, trains, saves and loads, and its weights are
compared bit for bit with those of a child in peace; another one looks at what the import has changed, down to
denormal numbers in every thread.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

IN_CI = 0.02
SEED = 20261128
ROOT = Path(__file__).parents[2]
LIBC = ctypes.CDLL(None)
OVERRIDES = (1, 2)  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, by which root writes where nobody may
DROP = 24  # PR_CAPBSET_DROP

# argv: the descriptor of a pipe. Writes to it as JSON what has changed.
UNCHANGED = """
import gc, json, locale, logging, os, random, resource, signal, sys, threading, time, warnings
import numpy as np

def tiny(found):
    # Kept, not flushed to 0: results and operands, of both precisions, by NumPy and by Python's own arithmetic.
    found.append((float(np.float32(1e-40) * np.float32(0.5)), float((np.full(64, 1e-40, np.float32) * 2).sum()),
                  sum([5e-324, 5e-324]), float(np.float64(2.3e-308) / 4)))

def threads():
    for _ in range(100):  # the system may take its time to remove one that has ended
        count = len(os.listdir("/proc/self/task"))
        if count == 1:
            break
        time.sleep(0.001)
    return count

def state():
    here, there = [], []
    tiny(here)
    thread = threading.Thread(target=tiny, args=(there,))
    thread.start()
    thread.join()
    limits = {name: resource.getrlimit(getattr(resource, name)) for name in dir(resource) if name.startswith("RLIMIT_")}
    mask = os.umask(0)
    os.umask(mask)
    return {
        "denormals": here, "denormals in a thread": there, "umask": mask, "limits": limits,
        "signals": {int(n): repr(signal.getsignal(n)) for n in signal.valid_signals()},
        "blocked signals": sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, []))),
        "wakeup": signal.set_wakeup_fd(-1), "timer": signal.getitimer(signal.ITIMER_REAL),
        "locale": locale.setlocale(locale.LC_ALL), "environment": dict(os.environ), "folder": os.getcwd(),
        "path": list(sys.path), "hooks": [repr(sys.excepthook), repr(sys.displayhook), repr(sys.unraisablehook)],
        "meta": repr(sys.meta_path), "trace": [repr(sys.gettrace()), repr(sys.getprofile())],
        "recursion": sys.getrecursionlimit(), "switch": sys.getswitchinterval(),
        "garbage collection": [gc.isenabled(), gc.get_threshold()],
        "warnings": [repr(entry) for entry in warnings.filters], "numpy's errors": np.geterr(),
        "numpy's print": repr(np.get_printoptions()), "numpy's random": repr(np.random.get_state()),
        "random": repr(random.getstate()), "streams": [repr(sys.stdin), repr(sys.stdout), repr(sys.stderr)],
        "logging": [logging.root.level, repr(logging.root.handlers), logging.raiseExceptions],
        "threads": threads(), "affinity": sorted(os.sched_getaffinity(0)),
        "files": [n for n in range(100) if os.path.exists(f"/proc/self/fd/{n}")],
        "niceness": os.nice(0),
    }

before = state()
import fastnn as fnn
after = {"import": state()}
model = fnn.nn.Sequential(fnn.nn.Linear(300, 300), fnn.nn.ReLU(), fnn.nn.Linear(300, 4))
step = fnn.compile(model, fnn.nn.CrossEntropyLoss(), fnn.optim.SGD(model.parameters(), lr=0.1))
x, y = np.random.default_rng(0).random((128, 300), np.float32), np.arange(128) % 4
step(x, y)
fnn.nn.CrossEntropyLoss()(model(x), y).backward()
after["training"] = state()
changed = [f"{what} changed {name}: {before[name]} is now {found[name]}" for what, found in after.items()
           for name in before if found[name] != before[name] and not (what == "training" and name == "threads")]
os.write(int(sys.argv[1]), json.dumps({"changed": changed, "denormals": before["denormals"]}).encode())
"""

# argv: the descriptor of a pipe, a folder, a file's name. Writes to it a hash of the weights, and what saving said.
WORKS = """
import hashlib, json, os, sys, threading
import numpy as np
import fastnn as fnn
from fastnn import nn
fnn.manual_seed(0)
x, y = np.random.default_rng(0).random((96, 1, 12, 12), np.float32), np.arange(96) % 10
model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
                      nn.Linear(200, 10))
fnn.fit(model, (x, y), epochs=2, seed=0, batch_size=32)
nn.CrossEntropyLoss()(model(x), y).backward()
fnn.optim.SGD(model.parameters(), lr=0.1).step()
assert len(fnn.data.load("digits", split="test")) > 100
fnn.predict(model, x)
repr(model)
saved = "saved"
try:
    fnn.save(model, os.path.join(sys.argv[2], sys.argv[3]))
except OSError as error:
    saved = str(error)
content = b"".join(np.ascontiguousarray(array).tobytes() for array in model.state_dict().values())
os.write(int(sys.argv[1]), json.dumps({"weights": hashlib.sha256(content).hexdigest(), "saved": saved}).encode())
"""


def _limit(name: str, number: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (number, number))


def _close(*numbers: int) -> Callable[[], None]:
    def close() -> None:
        for number in numbers:
            with contextlib.suppress(OSError):
                os.close(number)

    return close


def _vanish(room: Path) -> Callable[[], None]:
    """The working folder is removed."""

    def vanish() -> None:
        folder = tempfile.mkdtemp(dir=room)
        os.chdir(folder)
        os.rmdir(folder)

    return vanish


# By what they concern: name -> variables (None: unset), and what is done before Python starts. {locked} is a folder
# that the child cannot write to, {file} a file, {wide} a folder with odd characters.
Circumstance = tuple[dict[str, str | None], Callable[[Path], Callable[[], None]] | None]
CIRCUMSTANCES: dict[str, dict[str, Circumstance]] = {
    "locale": {
        **{f"LC_ALL={name}": ({"LC_ALL": name}, None)
           for name in ("C", "POSIX", "C.UTF-8", "tr_TR.UTF-8", "de_DE.ISO-8859-1", "nonsense", "")},
        "ASCII alone": ({"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}, None),
        **{f"streams in {code}": ({"PYTHONIOENCODING": code}, None) for code in ("ascii", "latin-1", "utf-16")},
    },
    "home": {
        "no HOME": ({"HOME": None}, None),
        "no HOME, no cache": ({"HOME": None, "XDG_CACHE_HOME": "", "USER": None, "LOGNAME": None}, None),
        "HOME is empty": ({"HOME": ""}, None),
        "HOME is absent": ({"HOME": "/nowhere/at/all"}, None),
        "HOME is locked": ({"HOME": "{locked}", "XDG_CACHE_HOME": "{locked}/cache"}, None),
        "HOME is a file": ({"HOME": "{file}"}, None),
        "HOME is odd": ({"HOME": "{wide}"}, None),
    },
    "temporary": {
        "TMPDIR is absent": ({"TMPDIR": "/nowhere/at/all"}, None),
        "TMPDIR is locked": ({"TMPDIR": "{locked}"}, None),
        "TMPDIR is a file": ({"TMPDIR": "{file}"}, None),
        "TMPDIR is odd": ({"TMPDIR": "{wide}"}, None),
        "TMPDIR is empty": ({"TMPDIR": ""}, None),
    },
    "streams": {
        **{f"without streams {numbers}": ({}, lambda _, numbers=numbers: _close(*numbers))  # type: ignore[misc]
           for numbers in ((0,), (1,), (2,), (0, 1), (1, 2), (0, 2), (0, 1, 2))},
        "no terminal": ({"TERM": None, "COLUMNS": "0"}, None),
        "a narrow terminal": ({"TERM": "dumb", "COLUMNS": "1"}, None),
    },
    "limits": {
        "16 files": ({}, lambda _: _limit("NOFILE", 16)),
        "files of 0 bytes": ({}, lambda _: _limit("FSIZE", 0)),
        "no core": ({}, lambda _: _limit("CORE", 0)),
        "2 GB of addresses": ({}, lambda _: _limit("AS", 2 << 30)),
        "stacks of 1 MB": ({}, lambda _: _limit("STACK", 1 << 20)),
        "stacks of 256 kB": ({}, lambda _: _limit("STACK", 256 << 10)),
        "stacks without end": ({}, lambda _: _limit("STACK", resource.RLIM_INFINITY)),
        "no memory locked": ({}, lambda _: _limit("MEMLOCK", 0)),
        "no more threads": ({}, lambda _: _limit("STACK", 1 << 46)),  # for whose stacks there is no room
    },
    "folder": {
        "the folder is gone": ({}, _vanish),
        "in /": ({}, lambda _: lambda: os.chdir("/")),
        "masked": ({}, lambda _: lambda: os.umask(0o777) and None),
    },
}  # fmt: skip


def _child(program: str, room: Path, chosen: list[str], arguments: list[str], path: str) -> dict[str, Any]:
    """What a child under these circumstances says."""
    places = {name: str(room / name) for name in ("locked", "file")} | {"wide": str(room / "a b\n\u00e4'\"$x")}
    environment = {**os.environ, "PYTHONPATH": path, "FASTNN_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "1"}
    before = []
    for kind in CIRCUMSTANCES.values():
        for name in set(chosen) & set(kind):
            variables, action = kind[name]
            before += [action(room)] if action else []
            for variable, value in variables.items():
                environment.pop(variable, None)
                if value is not None:
                    environment[variable] = value.format(**places)

    def prepare() -> None:
        if os.geteuid() == 0:
            for capability in OVERRIDES:
                assert LIBC.prctl(DROP, capability, 0, 0, 0) == 0
        for action in before:
            action()

    read, write = os.pipe()
    os.set_inheritable(write, True)
    try:
        with open(room / "said", "w+b") as stderr:
            done = subprocess.Popen(
                [sys.executable, "-c", program, str(write), *arguments], env=environment, preexec_fn=prepare,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr, pass_fds=[write], cwd=room,
            )  # fmt: skip
            os.close(write)
            write = -1
            answer = b"".join(iter(lambda: os.read(read, 1 << 16), b""))
            code = done.wait(120)
            stderr.seek(0)
            said = stderr.read().decode(errors="replace")
    finally:
        os.close(read)
        if write >= 0:
            os.close(write)
    assert code == 0, f"{code}: {said}"
    return json.loads(answer)


@contextlib.contextmanager
def _room() -> Any:
    """A folder of the child's own, with those that the circumstances name."""
    with tempfile.TemporaryDirectory() as folder:
        room = Path(folder)
        (room / "locked").mkdir()
        (room / "file").touch()
        (room / "a b\n\u00e4'\"$x").mkdir()
        (room / "locked").chmod(0o555)
        yield room


def _works(chosen: list[str], expected: dict[str, Any] | None, path: str) -> dict[str, Any]:
    with _room() as room:
        found = _child(WORKS, room, chosen, [str(room), "mod\u00e4l.fnn"], path)
        if "files of 0 bytes" in chosen:
            assert "File too large" in found["saved"], f"{chosen}: {found['saved']}"
        else:
            assert found["saved"] == "saved", f"{chosen}: {found['saved']}"
        assert expected is None or found["weights"] == expected["weights"], f"{chosen}: other weights than in peace"
    return found


@contextlib.contextmanager
def _installed() -> Iterator[str]:
    """Where a copy of the package lies that the child cannot write to, without bytecode."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(ROOT / "fastnn", Path(folder, "fastnn"), ignore=shutil.ignore_patterns("__pycache__"))
        places = [Path(folder), *(path for path in Path(folder).rglob("*") if path.is_dir())]
        for path in places:
            path.chmod(0o555)
        try:
            yield folder
        finally:
            for path in places:
                path.chmod(0o755)


def measure(share: float = 1.0) -> str:
    """Under how many circumstances it worked; an import that changes the process fails."""
    rng = random.Random(SEED)
    with _room() as room:
        found = _child(UNCHANGED, room, [], [], str(ROOT))
    assert not found["changed"], "\n".join(found["changed"])
    assert all(number > 0 for number in found["denormals"][0]), "denormal numbers are lost here without fastnn, too"
    peace = _works([], None, str(ROOT))
    single = [name for kind in CIRCUMSTANCES.values() for name in kind]
    drawn = [[name] for name in single] if share >= 0.2 else []
    drawn += [
        [rng.choice([*kind]) for kind in CIRCUMSTANCES.values() if rng.random() < 0.6]
        for _ in range(max(2, round(100 * share)))
    ]
    with _installed() if share >= 0.2 else contextlib.nullcontext(str(ROOT)) as installed:
        for turn, chosen in enumerate(drawn):
            try:
                _works(chosen, peace, str(ROOT) if turn % 2 else installed)
            except AssertionError as error:
                raise AssertionError(f"seed {SEED}, turn {turn}, {chosen}: {error}") from None
        assert share < 0.2 or not [*Path(installed).rglob("__pycache__")], "the copy could be written to"
    return (
        f"{len(drawn)} sets of {len(single)} circumstances, half with a package that cannot be written: the same "
        "weights, bit for bit; an import changes nothing of the process"
    )
