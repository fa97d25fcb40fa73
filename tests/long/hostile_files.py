"""A hostile file is a typed error within 2 s and 200 MB.

Whole files of each kind are changed where it hurts: lengths, offsets, shapes and types in their headers, keys and
values of their JSON, bytes, cuts and repetitions anywhere; then they are read.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import random
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import fastnn as fnn
from fastnn import formats, weights
from fastnn.data import read_idx
from fastnn.data.local import read_archive
from fastnn.data.prepare import Preparation
from fastnn.data.sources import SOURCES
from fastnn.errors import FastnnError
from fastnn.train import History

IN_CI = 0.0002
SECONDS = 600.0  # of each kind of file at full length
MOST_SECONDS, MOST_MEMORY = 2.0, 200 << 20
NUMBERS = (0, 1, -1, 255, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1)
VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 2**63, 10**30, 1.5, 1e308, "", "F64", "x" * 3000, "\0", [], {}, [[]], [-1], [2**40] * 3,
    {"a": 1},
)  # fmt: skip

READERS: dict[str, Callable[[Path], Any]] = {
    "weights.safetensors": weights.load,
    "model.fnn": fnn.load,
    "run": fnn.load_run,
    "model.onnx": fnn.onnx.load,
    "images-idx3-ubyte": read_idx,
    "images-idx3-ubyte.gz": read_idx,
    "landscape.npz": fnn.landscape.load,
    "array.npy": formats.read_npy,
    "history.jsonl": History.load,
    "history.csv": History.load,
    "image.png": lambda path: Preparation((1, 8, 8))(path),
    "image.bmp": lambda path: Preparation((1, 8, 8))(path),
    "archive.tar.gz": lambda path: read_archive(path, SOURCES["cifar10"].files),
}


def originals(folder: Path) -> dict[str, bytes]:
    """A whole file of each kind; of a run, its config."""
    from PIL import Image

    rng = np.random.default_rng(0)
    model = fnn.nn.Sequential(fnn.nn.Conv2d(1, 2, 3), fnn.nn.BatchNorm2d(2), fnn.nn.Flatten(), fnn.nn.Linear(72, 2))
    weights.save(model, folder / "weights.safetensors", note=json.dumps({"a": [1, {"b": None}]}))
    fnn.save(model, folder / "model.fnn")
    fnn.onnx.export(model, folder / "model.onnx", (1, 8, 8))
    data = rng.normal(size=(8, 4)).astype("f4"), np.arange(8) % 2
    history = fnn.fit(fnn.nn.Linear(4, 2), data, epochs=3, verbose=False)
    history.save(folder / "history.jsonl")
    history.save(folder / "history.csv")
    fnn.compare_optimizers("ravine", steps=2).save(folder / "landscape.npz")
    pixels = rng.integers(0, 255, (8, 8), np.uint8)
    np.save(folder / "array.npy", pixels)
    Image.fromarray(pixels).save(folder / "image.png")
    Image.fromarray(pixels).save(folder / "image.bmp")
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        from fastnn.cli import main

        main(["train", "--model", "linear", "--epochs", "1", "--no-augment", "--out", str(folder / "run")])
    idx = struct.pack(">4B3I", 0, 0, 8, 3, 2, 3, 3) + bytes(18)
    made = {"images-idx3-ubyte": idx, "images-idx3-ubyte.gz": gzip.compress(idx, mtime=0)}
    made["archive.tar.gz"] = gzip.compress(bytes(1024), mtime=0)
    made["run"] = (folder / "run" / "config.json").read_bytes()
    return made | {name: (folder / name).read_bytes() for name in READERS if name not in made}


def changed(rng: random.Random, whole: bytes) -> bytes:
    """The content with one to three changes."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        whole = rng.choice((numbers, flipped, cut, repeated, of_json, of_json, of_text))(rng, whole)
    return whole


def place(rng: random.Random, whole: bytes) -> int:
    return int(rng.random() ** 3 * len(whole)) if rng.random() < 0.8 else max(0, len(whole) - 1 - rng.randrange(64))


def numbers(rng: random.Random, whole: bytes) -> bytes:
    """A whole number, of a size and order that headers have, in the place of another."""
    size, start = rng.choice((1, 2, 4, 8)), place(rng, whole)
    value = (rng.choice(NUMBERS) % (1 << 8 * size)).to_bytes(size, rng.choice(("little", "big")))
    return whole[:start] + value + whole[start + size :]


def flipped(rng: random.Random, whole: bytes) -> bytes:
    start = place(rng, whole)
    return whole[:start] + bytes(rng.randrange(256) for _ in range(rng.randrange(1, 5))) + whole[start + 1 :]


def cut(rng: random.Random, whole: bytes) -> bytes:
    start = place(rng, whole)
    return whole[:start] + (b"" if rng.random() < 0.5 else whole[start + rng.randrange(1, 50) :])


def repeated(rng: random.Random, whole: bytes) -> bytes:
    start = place(rng, whole)
    return whole[:start] + whole[start : start + rng.randrange(1, 60)] * rng.choice((2, 3, 1000)) + whole[start:]


def of_text(rng: random.Random, whole: bytes) -> bytes:
    """Digits of one number in a text replaced."""
    places = [i for i, byte in enumerate(whole[:20000]) if 48 <= byte < 58]
    if not places:
        return whole
    start = rng.choice(places)
    return (
        whole[:start] + rng.choice((b"-1", b"1e999", b"NaN", b"9" * 500, b"", b"0", b"[" * 5000)) + whole[start + 1 :]
    )


def of_json(rng: random.Random, whole: bytes) -> bytes:
    """One value somewhere in the JSON of a file, or of a safetensors file's header, replaced or left out."""
    framed = whole[8:9] == b"{"
    length = int.from_bytes(whole[:8], "little") if framed else len(whole)
    text, rest = (whole[8 : 8 + length], whole[8 + length :]) if framed else (whole, b"")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):  # an earlier change may have nested it too deeply
        return flipped(rng, whole)
    text = json.dumps(altered(rng, value)).encode()
    return (len(text).to_bytes(8, "little") if framed else b"") + text + rest


def altered(rng: random.Random, value: Any) -> Any:
    if isinstance(value, str) and value[:1] in ("{", "["):  # JSON in JSON: a note
        with contextlib.suppress(ValueError, RecursionError):
            return json.dumps(altered(rng, json.loads(value)))
    if isinstance(value, (dict, list)) and value and rng.random() < 0.85:
        keys = list(value) if isinstance(value, dict) else range(len(value))
        key = rng.choice(keys)
        value = value.copy()
        if rng.random() < 0.1:
            del value[key]
        else:
            value[key] = altered(rng, value[key])
        return value
    return rng.choice(VALUES)


class Late(BaseException):
    """A reader took too long."""


def late(*_: Any) -> None:
    raise Late


def used() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def attack(folder: Path, seconds: float, corpus: Path) -> tuple[int, list[str]]:
    """Files read, and what went wrong; those files are left in `corpus`."""
    read, faults, whole = 0, [], originals(folder)
    path = {name: folder / name if name != "run" else folder / "run" / "config.json" for name in READERS}
    for name, content in whole.items():
        path[name].write_bytes(content)
        with contextlib.suppress(FastnnError):
            READERS[name](folder / name)
    before = used()
    for name, content in whole.items():
        until, number = time.monotonic() + seconds, 0
        while time.monotonic() < until and len(faults) < 20:
            rng = random.Random(f"{name} {number}")
            hostile, number, fault = changed(rng, content), number + 1, ""
            path[name].write_bytes(hostile)
            signal.setitimer(signal.ITIMER_REAL, MOST_SECONDS * 2)
            start = time.process_time()
            try:
                READERS[name](folder / name)
            except FastnnError:
                pass
            except (ValueError, OSError) as error:
                if name != "array.npy":  # a part of fastnn that its callers translate
                    fault = repr(error)
            except BaseException as error:
                fault = repr(error)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            if time.process_time() - start > MOST_SECONDS:
                fault = f"{time.process_time() - start:.1f} s"
            if used() - before > MOST_MEMORY:
                fault, before = f"{(used() - before) >> 20} MB", used()
            if fault:
                kept = corpus / f"{number - 1}-{name}"
                kept.write_bytes(hostile)
                faults.append(f"{kept}: {fault[:200]}")
        path[name].write_bytes(content)
        read += number
    return read, faults


def measure(share: float = 1.0) -> str:
    paths = os.pathsep.join([str(Path(fnn.__file__).parent.parent), str(Path(__file__).parent.parent / "support")])
    corpus = tempfile.mkdtemp(prefix="hostile-")
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, __file__, folder, str(SECONDS * share), corpus]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-3000:]}"
    os.rmdir(corpus)
    return done.stdout.strip()


def main() -> int:
    signal.signal(signal.SIGALRM, late)
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    read, faults = attack(Path(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3]))
    print("\n".join(faults) or f"{read:,} changed files of {len(READERS)} kinds: each was read or refused in words")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
