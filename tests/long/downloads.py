"""A download is what was asked for, from the next mirror where one fails, or one message.

A server on 127.0.0.1 stands for mirrors that fail in every way that is known: random rows of them are asked, by one
process and by several at once, of which some are killed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import hashlib
import http.server
import os
import random
import re
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from fastnn.data import download
from fastnn.data.sources import SOURCES, File, Source
from fastnn.errors import DataError

IN_CI = 0.03
SEED = 20261128
TIMEOUT, PATIENCE, SLOWEST = (2.0, 0.4), 0.4, 20_000  # short ones of fastnn.data.download
LONGEST = 2.0  # seconds that a mirror may take: those, and some for the machine's other work


def _idx(content: bytes) -> bytes:
    return struct.pack(">BBBBI", 0, 0, 8, 1, len(content)) + content


CONTENTS = {file.name: _idx(random.Random(i).randbytes(5000 + i)) for i, file in enumerate(SOURCES["mnist"].files)}
BOMB = gzip.compress(bytes(20 << 20), 1)
FAILS = [
    "403", "404", "500", "503", "html", "wrong", "long", "empty", "cut", "cut gzip", "slow", "silent", "endless",
    "bomb", "loop", "ring", "file", "garbage", "hangs up",
]  # fmt: skip
FOLDERS = 5  # that processes fetch into one after the other
SERVES = ["good", "plain", "redirect", "chunked"]


def _tiny(mirrors: list[str]) -> Source:
    """MNIST's description with contents of 5 kB a file."""

    def file(old: File) -> File:
        return File(old.name, len(CONTENTS[old.name]), hashlib.sha256(CONTENTS[old.name]).hexdigest())

    source = SOURCES["mnist"]
    halves = {half: tuple(map(file, getattr(source, half))) for half in ("train", "test")}
    return dataclasses.replace(source, mirrors=tuple(mirrors), **halves)


class _Mirrors(http.server.BaseHTTPRequestHandler):
    """GET /KIND/FILE.gz: the file, in the way that the kind says."""

    timeout = 10

    def do_GET(self) -> None:
        _, kind, name = self.path.partition("?")[0].split("/", 2)
        kind = kind.replace("%20", " ")
        content = CONTENTS[name.removesuffix(".gz")]
        packed = gzip.compress(content, 1)
        bodies = {
            "good": packed,
            "plain": content,
            "html": b"<!DOCTYPE html><title>Please sign in</title>" + b" " * 3000,
            "wrong": gzip.compress(content[:-1] + bytes([content[-1] ^ 1])),
            "long": gzip.compress(content + b"\0"),
            "empty": b"",
            "cut gzip": packed[:-3],
            "bomb": BOMB,
        }
        if kind.isdecimal():
            self._head(int(kind), 0)
        elif kind in bodies:
            self._head(200, len(bodies[kind]))
            self.wfile.write(bodies[kind])
        elif kind in ("loop", "ring", "file", "redirect"):
            to = {"loop": f"/loop/{name}", "ring": f"/ring/{name}?{time.monotonic_ns()}",
                  "file": "file:///etc/passwd", "redirect": f"/good/{name}"}  # fmt: skip
            self._head(302, 0, Location=to[kind])
        elif kind == "cut":
            self._head(200, len(packed) + 10)
            self.wfile.write(packed)
        elif kind == "chunked":
            self._head(200, None)  # its end is that of the connection
            self.wfile.write(packed)
        elif kind == "garbage":
            self.wfile.write(b"\0\xff" * 300)
        elif kind == "slow":
            self._head(200, len(packed))
            self._until_it_leaves(bytes([packed[0]]), 0.02)
        elif kind == "silent":
            self._until_it_leaves(b"", 0.02)
        elif kind == "endless":
            self._head(200, None)
            self._until_it_leaves(bytes(1 << 16), 0)

    def _head(self, status: int, length: int | None, **more: str) -> None:
        self.send_response(status)
        for key, value in ({} if length is None else {"Content-Length": str(length)} | more).items():
            self.send_header(key, value)
        self.end_headers()

    def _until_it_leaves(self, what: bytes, pause: float) -> None:
        until = time.monotonic() + 10
        self.connection.setblocking(False)
        while time.monotonic() < until:
            time.sleep(pause)
            with contextlib.suppress(BlockingIOError):
                if what:
                    self.connection.send(what)
                if not self.connection.recv(1):
                    return

    def handle(self) -> None:
        with contextlib.suppress(OSError):  # the client has left
            super().handle()

    def finish(self) -> None:
        with contextlib.suppress(OSError):
            super().finish()

    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def _server() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Mirrors)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _check(folder: Path, what: str, expected: dict[str, bytes] = CONTENTS, scratch: bool = False) -> None:
    """The folder holds these files and no others, but for what is being loaded where that is said."""
    entries = [path for path in folder.iterdir() if path.name[0] != "."] if scratch else folder.rglob("*")
    paths = [path for path in entries if path.is_file()]
    found = {path.name: path.read_bytes() for path in paths}
    assert found.keys() == expected.keys(), f"{what}: left {sorted(found)}, expected {sorted(expected)}"
    assert found == expected, f"{what}: a file has another content"


def _row(at: str, kinds: list[str], what: str) -> None:
    """Ask mirrors of these kinds, in this order."""
    mirrors = [f"{at}/{kind.replace(' ', '%20')}/" for kind in kinds]
    start, said = time.monotonic(), ""
    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(SOURCES, mnist=_tiny(mirrors)):
        try:
            download.fetch("mnist", data_dir=folder, progress=False)
        except DataError as error:
            said = str(error)
        if set(kinds) & set(SERVES):
            assert not said, f"{what}: {said}"
            _check(Path(folder, "mnist"), what)
        else:
            assert re.fullmatch("cannot download train-images-idx3-ubyte.gz of mnist.*", said), f"{what}: said {said!r}"
            for mirror in mirrors:
                assert len(re.findall(re.escape(mirror) + r" \([^()]+.*?\)", said)) == 1, f"{what}: {said}"
            _check(Path(folder), what, {})
    seconds = time.monotonic() - start
    assert seconds < 1 + LONGEST * len(kinds), f"{what}: took {seconds:.1f} s"


PROGRAM = """
import sys
from tests.long import downloads
downloads._child(*sys.argv[1:])
"""


def _child(folder: str, number: str, count: str, *mirrors: str) -> None:
    download.TIMEOUT, download.PATIENCE = (10.0, 10.0), 10.0  # several share the processors
    SOURCES["mnist"] = _tiny(list(mirrors))
    for turn in range(FOLDERS):
        room = Path(folder, str(turn))
        room.mkdir(exist_ok=True)
        (room / f"here-{number}").touch()
        until = time.monotonic() + 1  # one may have been killed
        while len([*room.glob("here-*")]) < int(count) and time.monotonic() < until:
            pass
        download.fetch("mnist", data_dir=room, progress=False)
        _check(room / "mnist", "a process's own look", scratch=True)


def _several(at: str, rng: random.Random, what: str, kill: bool) -> None:
    """Processes fetch into the same folders at the same time; one of them may be killed."""
    mirrors = [f"{at}/{kind}/" for kind in (rng.choice(["html", "404", "wrong"]), rng.choice(SERVES))]
    count = 3 if kill else 2
    with tempfile.TemporaryDirectory() as folder:
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", PROGRAM, folder, str(number), str(count), *mirrors],
                stderr=subprocess.PIPE, text=True,
            )
            for number in range(count)
        ]  # fmt: skip
        if kill:
            while not Path(folder, "1").exists():
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 0.3))
            processes[0].send_signal(signal.SIGKILL)
        for process in processes:
            _, said = process.communicate(timeout=120)
            assert process.returncode == 0 or (kill and process is processes[0]), f"{what}: {said}"
        with mock.patch.dict(SOURCES, mnist=_tiny(mirrors)), mock.patch.object(download, "YOUNG", -1.0):
            for turn in range(FOLDERS):
                room = Path(folder, str(turn), "mnist")
                _check(room, what, scratch=True)
                (room / "train-labels-idx1-ubyte").unlink()
                download.fetch("mnist", data_dir=room.parent, progress=False)  # it clears what a killed one left
                _check(room, what)


def measure(share: float = 1.0) -> str:
    """How many rows of mirrors were asked, and how many processes at once."""
    rng = random.Random(SEED)
    rows, rounds = max(len(FAILS), round(300 * share)), max(1, round(30 * share))
    short = mock.patch.multiple(download, TIMEOUT=TIMEOUT, PATIENCE=PATIENCE, SLOWEST=SLOWEST)
    with _server() as at, mock.patch.dict(os.environ, NO_PROXY="127.0.0.1"):
        with short:
            for turn in range(rows):
                first = FAILS[turn % len(FAILS)]  # each way comes as often
                kinds = rng.sample([kind for kind in FAILS + SERVES if kind != first], rng.randint(0, 3))
                kinds.insert(rng.randint(0, len(kinds)), first)
                _row(at, kinds, f"seed {SEED}, row {turn}: {kinds}")
        for turn in range(rounds):
            _several(at, rng, f"seed {SEED}, processes at once, round {turn}", kill=turn % 2 == 0)
    return (
        f"{rows} rows of mirrors that fail in {len(FAILS)} ways: the published files or one message; "
        f"{rounds} times several processes at once, half with one killed: all whole"
    )
