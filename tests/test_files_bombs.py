"""Small files that would be large, and headers that promise too much: refused within bounds of memory and time."""

from __future__ import annotations

import gzip
import io
import json
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from fastnn.data.picture import read_picture
from fastnn.errors import DataError

MEGABYTE = bytes(1 << 20)


def idx(*shape: int, kind: int = 8, ndim: int | None = None) -> bytes:
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, kind, len(shape) if ndim is None else ndim, *shape)


def packed(start: bytes, megabytes: int) -> bytes:
    """Gzipped: many members, which are one stream."""
    return gzip.compress(start, mtime=0) + gzip.compress(MEGABYTE, mtime=0) * megabytes


def npy(header: bytes, content: bytes = b"", version: tuple[int, int] = (1, 0)) -> bytes:
    length = struct.pack("<H" if version == (1, 0) else "<I", len(header))
    return b"\x93NUMPY" + bytes(version) + length + header + content


def zipped(content: bytes, megabytes: int = 0, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method, compresslevel=1) as archive, archive.open("words.npy", "w") as file:
        file.write(content)
        for _ in range(megabytes):
            file.write(MEGABYTE)
    return stream.getvalue()


def tensors(header: bytes, content: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + content


def array(dtype: str, shape: str, content: bytes = b"") -> bytes:
    return npy(f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}}}".encode(), content)


def weights(content: bytes = b"", **entries: tuple[list[int], list[int]]) -> bytes:
    header = {name: {"dtype": "F32", "shape": s, "data_offsets": place} for name, (s, place) in entries.items()}
    return tensors(json.dumps(header).encode(), content)


NAMED = '"%07d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
LARGE = "(999999999, 999999)"
RECORD = {"epoch": 0, **dict.fromkeys(("train_loss", "train_accuracy", "val_loss", "val_accuracy", "lr"), 1)}
RECORD |= {"seconds": 1, "images_per_second": 1}
BOMBS: dict[str, tuple[str, bytes]] = {
    "gzip that says its size": ("a.gz", packed(idx(400 << 20), 400)),
    "gzip that says less": ("a.gz", packed(idx(10), 400)),
    "gzip that says more": ("a.gz", packed(idx(*[2**32 - 1] * 4), 400)),
    "idx without entries": ("a.idx", idx(0, *[2**32 - 1] * 9)),
    "idx of 255 dimensions": ("a.idx", idx(*[1] * 255) + b"x"),
    "idx that ends": ("a.idx", idx(2**32 - 1, 2**32 - 1)),
    "tar of no file": ("a.tar.gz", packed(b"x" * 512, 400)),
    "npz that says its size": ("a.npz", zipped(array("|u1", "(419430400,)"), 400)),
    "npz of a large shape": ("a.npz", zipped(array("<f8", LARGE))),
    "npz by another method": ("a.npz", zipped(npy(b"{}"), 1, zipfile.ZIP_BZIP2)),
    "npz header": ("a.npz", zipped(npy(b"{" * 9000))),
    "npz of objects": ("a.npz", zipped(array("|O", "(1,)", b"x"))),
    "npz of empty text": ("a.npz", zipped(array("<U0", "(999999999999,)"))),
    "npy of objects": ("a.npy", array("|O", "(1,)", b"cos\nsystem\n(S'false'\ntR.")),
    "npy of a large shape": ("a.npy", array("|u1", LARGE)),
    "npy of a negative shape": ("a.npy", array("|u1", "(-1, -1)", b"x")),
    "npy of open brackets": ("a.npy", npy(b"{'descr': (")),
    "npy of nests": ("a.npy", npy(b"(" * 5000)),
    "npy of code": ("a.npy", npy(b"__import__('os').abort()")),
    "npy that ends": ("a.npy", b"\x93NUMPY\x01"),
    "npy of another version": ("a.npy", npy(b"{}", version=(9, 9))),
    "weights of a long header": ("a.safetensors", tensors(b"{}", length=2**63)),
    "weights that overlap": ("a.safetensors", weights(bytes(12), a=([2], [0, 8]), b=([2], [4, 12]))),
    "weights of a large shape": ("a.safetensors", weights(bytes(8), a=([2**62, 2**62], [0, 8]))),
    "weights of many names": (
        "a.safetensors",
        tensors(f"{{{','.join(NAMED % i for i in range(300_000))}}}".encode()),
    ),
    "weights of nests": ("a.safetensors", tensors(b'{"__metadata__":' + b'{"a":' * 100_000)),
    "weights of another note": ("a.safetensors", tensors(b'{"__metadata__":{"fastnn":3}}')),
    "history of one line": ("a.jsonl", b'{"epoch": ' + b"1" * (2 << 20)),
    "history of nests": ("a.jsonl", b"[" * 1_000_000),
    "history of other things": ("a.jsonl", b'["epoch"]\n3\n'),
    "history of a large number": ("a.jsonl", json.dumps({**RECORD, "epoch": 1}).replace("1", "1e999", 1).encode()),
    "history of text": ("a.jsonl", json.dumps({**RECORD, "train_loss": "x"}).encode()),
    "history that is no text": ("a.jsonl", b"\xff\xfe\0"),
    "table of one cell": ("a.csv", b"epoch\n" + b"1" * (2 << 20)),
    "table with a null": ("a.csv", b"epoch,train_loss\n1,\0\n"),
}
MEASURED = """
import os, resource, sys, time
import numpy as np, fastnn as fnn
from fastnn import weights, data, train, errors
from fastnn.data.local import read_archive
from fastnn.data.prepare import Preparation
from fastnn.data.sources import SOURCES
readers = {".gz": data.read_idx, ".idx": data.read_idx, ".npz": fnn.landscape.load, ".safetensors": weights.load,
           ".jsonl": train.History.load, ".csv": train.History.load,
           ".npy": Preparation((1, 28, 28))}
weights.save({"a": np.zeros(3)}, sys.argv[1] + "/warm.safetensors"), weights.load(sys.argv[1] + "/warm.safetensors")
try:
    fnn.landscape.load(sys.argv[1] + "/none.npz")
except errors.DataError:
    pass
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name in sorted(os.listdir(sys.argv[1])):
    path = os.path.join(sys.argv[1], name)
    start = time.process_time()
    said = "nothing"
    try:
        if name.endswith(".tar.gz"):
            read_archive(__import__("pathlib").Path(path), SOURCES["cifar10"].files)
        elif name != "warm.safetensors":
            readers[os.path.splitext(name)[1]](path)
    except errors.DataError:
        said = "DataError"
    except BaseException as error:
        said = repr(error)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    used /= 1 << (20 if sys.platform == "darwin" else 10)
    print(name, f"{time.process_time() - start:.2f}", f"{used:.0f}", said, sep="|")
"""


def test_bombs_and_absurd_headers_are_refused_within_bounds(tmp_path: Path) -> None:
    """Each by a DataError, within 200 MB and two seconds of computing."""
    for i, (file, content) in enumerate(BOMBS.values()):
        (tmp_path / f"{i:02d}.{file}").write_bytes(content)
    sparse = tmp_path / "99.jsonl"
    with open(sparse, "wb") as stream:
        stream.truncate(8 << 30)
    result = subprocess.run([sys.executable, "-c", MEASURED, str(tmp_path)], capture_output=True, text=True, check=True)
    rows = [line.split("|") for line in result.stdout.splitlines() if not line.startswith("warm")]
    assert len(rows) == len(BOMBS) + 1
    names = [*BOMBS, "a sparse file"]
    wrong = {names[i]: row for i, row in enumerate(rows) if row[3] != "DataError" or float(row[1]) > 2}
    assert wrong == {}
    assert max(float(row[2]) for row in rows) < 200


def test_a_picture_of_millions_of_rows_is_refused_by_its_header(tmp_path: Path) -> None:
    """Pillow keeps a pointer for each of them: 88 MB, beside the pixels."""
    pytest.importorskip("PIL")
    size = struct.pack("<IiiHHIIIIII", 40, 8, 11_075_592, 1, 8, 0, 0, 3780, 3780, 256, 256)
    (tmp_path / "a.bmp").write_bytes(struct.pack("<2sIII", b"BM", 1142, 0, 1078) + size + bytes(1088))
    with pytest.raises(DataError, match=r"at most [0-9,]+ pixels, found 8x11075592"):
        read_picture(tmp_path / "a.bmp")
