"""The demo answers this machine alone, and loses no request of 200 clients at once.

A server in a process of its own, and for a minute 200 clients that draw and compare each answer with the one that they
got in peace, among others that are slow, break off, send what is no request of the page, or come from elsewhere.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

IN_CI = 0.015
SEED = 20261128
CLIENTS, SLOW = 200, 20
BYTES = 80 * 80

# Prints its address. Ends when its standard input does.
SERVER = """
import sys, threading
import fastnn as fnn
from fastnn import nn
from fastnn.data.prepare import Preparation
from fastnn.insight.demo import DemoServer
fnn.manual_seed(0)
model = nn.Sequential(nn.Normalize(0.2, 0.3), nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
DemoServer.patience = 2.0
with DemoServer(model, title="demo", prepared=Preparation((1, 8, 8)), classes=("zero", "one")) as server:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    print(server.server_address[1], flush=True)
    sys.stdin.read()
    server.shutdown()
    thread.join()
"""

# Status, first line, headers and body of what is no request of the page. PORT is the server's.
REFUSED: list[tuple[int, str, list[str], bytes]] = [
    (403, "GET /model HTTP/1.1", ["Host: evil.example"], b""),
    (403, "GET / HTTP/1.1", ["Host: 127.0.0.1.evil.example:PORT"], b""),
    (403, "GET / HTTP/1.1", ["Host: 127.0.0.1:1"], b""),
    (403, "GET / HTTP/1.1", ["Host: 127.0.0.1:PORT", "Host: 127.0.0.1:PORT"], b""),
    (403, "GET / HTTP/1.1", [], b""),
    *((403, "POST /draw HTTP/1.1", ["Host: localhost:PORT", f"Origin: {origin}", "Content-Length: 6400"], b"x" * BYTES)
      for origin in ("http://evil.example", "null", "https://127.0.0.1:PORT", "http://127.0.0.1", "file://", "")),
    *((404, f"GET {path} HTTP/1.1", ["Host: 127.0.0.1:PORT", "Connection: close"], b"")
      for path in ("/../server.py", "/%2e%2e/server.py", "//etc/passwd", "/page.html", "/draw/", "/model?x", "*",
                   "http://127.0.0.1:PORT/", "/page.css%00", "/etc/passwd", "\\..\\server.py")),
    *((405, f"{method} /draw HTTP/1.1", ["Host: 127.0.0.1:PORT", "Connection: close"], b"")
      for method in ("GET", "PUT", "DELETE", "OPTIONS", "TRACE")),
    *((400, "POST /draw HTTP/1.1", ["Host: 127.0.0.1:PORT", f"Content-Length: {size}"], b"x" * 100)
      for size in ("6399", "6401", "0", "-1", "+6400", "6400, 6400", "0x1900", "99999999999999999999", "", "6_400")),
    *((400, "POST /picture HTTP/1.1", ["Host: 127.0.0.1:PORT", f"Content-Length: {size}"], b"x" * 100)
      for size in ("0", "-1", str((32 << 20) + 1), "1e3")),
    (400, "POST /picture HTTP/1.1", ["Host: 127.0.0.1:PORT", "Content-Length: 100"], b"no picture".ljust(100)),
    (400, "POST /draw HTTP/1.1", ["Host: 127.0.0.1:PORT", "Transfer-Encoding: chunked"], b"5\r\nhello\r\n0\r\n\r\n"),
    (400, "GET / HTTP/1.1", ["Host: 127.0.0.1:PORT", "Content-Length: 5"], b"hello"),
    (414, "GET /" + "y" * 70000 + " HTTP/1.1", ["Host: 127.0.0.1:PORT"], b""),
    (431, "GET / HTTP/1.1", ["Host: 127.0.0.1:PORT", "X: " + "y" * 70000], b""),
    (431, "GET / HTTP/1.1", ["Host: 127.0.0.1:PORT", *(f"X-{i}: y" for i in range(200))], b""),
    (501, "BREW /draw HTTP/1.1", ["Host: 127.0.0.1:PORT"], b""),
]  # fmt: skip
BROKEN = [b"", b"POST /dr", b"POST /draw HTTP/1.1\r\nHost: 127.0.0.1:", b"\0" * 300, b"\x16\x03\x01\x02\0\x01\0\x01"]


@contextlib.contextmanager
def _server() -> Iterator[tuple[int, int]]:
    """Its process, and its port."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        port = process.stdout.readline()
        assert port, process.communicate()[1]
        yield process.pid, int(port)
        _, said = process.communicate("", timeout=30)
        assert (process.returncode, said) == (0, ""), f"the server ended with {process.returncode}, and said {said}"
    finally:
        process.kill()
        process.wait()


def _exchange(port: int, content: bytes) -> bytes:
    """What the server says until it hangs up."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        with contextlib.suppress(ConnectionError):  # it need not read all of it
            client.sendall(content)
        with contextlib.suppress(ConnectionError):
            while part := client.recv(1 << 16):
                received += part
    return received


def _drawing(seed: int) -> bytes:
    rng = random.Random(seed)
    pixels, left = bytearray(BYTES), rng.randrange(10, 60)
    for row in range(rng.randrange(5, 20), rng.randrange(50, 75)):
        pixels[row * 80 + left : row * 80 + left + 10] = bytes([rng.randrange(128, 256)]) * 10
    return bytes(pixels)


def _draw(connection: http.client.HTTPConnection, drawing: bytes) -> bytes:
    connection.request("POST", "/draw", drawing)
    response = connection.getresponse()
    content = response.read()
    assert response.status == 200, f"{response.status}: {content[:200]!r}"
    return content


class _Load:
    """Clients that go on until `stop`; `wrong` says what any of them did not get."""

    def __init__(self, port: int) -> None:
        self.port, self.stop, self.wrong, self.count = port, threading.Event(), [], Counter()  # type: ignore[var-annotated]
        self.drawings = [_drawing(seed) for seed in range(8)]
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self.answers = [_draw(connection, drawing) for drawing in self.drawings]
        connection.close()
        assert len(set(self.answers)) == len(self.answers), "different drawings have one answer"

    def draws(self, number: int) -> None:
        """As the page does: over one connection that is kept, and now and then a new one."""
        rng, connection = random.Random(number), None
        while not self.stop.is_set() or connection is None:
            if connection is None or rng.random() < 0.1:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
            which = rng.randrange(len(self.drawings))
            if _draw(connection, self.drawings[which]) != self.answers[which]:
                self.wrong.append(f"client {number} got the answer to another drawing")
            self.count["drawings"] += 1
            if rng.random() < 0.1:
                connection.close()
        connection.close()

    def intrudes(self, number: int) -> None:
        rng = random.Random(number)
        while not self.stop.is_set():
            self.refused(rng.choice(REFUSED))
            time.sleep(0.01)

    def refused(self, request: tuple[int, str, list[str], bytes]) -> None:
        status, first, headers, body = request
        head = "\r\n".join([first, *headers, "", ""]).replace("PORT", str(self.port)).encode("latin-1")
        said = _exchange(self.port, head + body)
        if said.split(b" ", 2)[1:2] != [str(status).encode()] or b"probabilities" in said or b"root:" in said:
            self.wrong.append(f"{first[:60]} {headers[:2]}: expected {status}, got {said[:100]!r}")
        self.count["refused"] += 1

    def dawdles(self, number: int) -> None:
        """A part of a request, and then nothing, or a byte at a time; or a reset."""
        rng = random.Random(number)
        whole = f"POST /draw HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nContent-Length: {BYTES}\r\n\r\n".encode()
        parts = [*BROKEN, whole, whole + bytes(100)]
        while not self.stop.is_set():
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=20) as client:
                client.sendall(rng.choice(parts))
                if rng.random() < 0.3:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
                    continue
                client.settimeout(0.1)
                for _ in range(100):
                    with contextlib.suppress(TimeoutError):
                        if not client.recv(1 << 12):
                            break
                    if self.stop.is_set():
                        break
                    if rng.random() < 0.5:
                        client.send(b"a")
            self.count["slow"] += 1

    def run(self, seconds: float) -> None:
        def guarded(client, number: int) -> None:  # type: ignore[no-untyped-def]
            try:
                client(number)
            except Exception as error:
                self.wrong.append(f"client {number} of {client.__name__}: {type(error).__name__}: {error}")

        kinds = [self.draws] * CLIENTS + [self.dawdles] * SLOW + [self.intrudes] * 4
        threads = [threading.Thread(target=guarded, args=(kind, number)) for number, kind in enumerate(kinds)]
        for thread in threads:
            thread.start()
        self.stop.wait(seconds)
        self.stop.set()
        for thread in threads:
            thread.join(120)
        assert not any(thread.is_alive() for thread in threads), "a client waits for ever"


def _listens(port: int) -> set[str]:
    """Addresses on which something listens at that port, as /proc/net has them."""
    found = set()
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(FileNotFoundError):
            for line in Path("/proc/net", name).read_text().splitlines()[1:]:
                address, number = line.split()[1].split(":")
                if int(number, 16) == port and line.split()[3] == "0A":
                    found.add(address)
    return found


def _kept(pid: int) -> tuple[int, int, int]:
    """Threads, descriptors and kilobytes of memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    memory = int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])
    return len(os.listdir(f"/proc/{pid}/task")), len(os.listdir(f"/proc/{pid}/fd")), memory


def _settled(pid: int) -> tuple[int, int, int]:
    """`_kept`, once threads and descriptors are the same for half a second: a connection is closed after its answer."""
    until = time.monotonic() + 10
    kept, since = _kept(pid), time.monotonic()
    while time.monotonic() < min(until, since + 0.5):
        time.sleep(0.02)
        now = _kept(pid)
        if now[:2] != kept[:2]:
            since = time.monotonic()
        kept = now
    return kept


def measure(share: float = 1.0) -> str:
    """How many requests were answered, of how many clients, and what was left of them."""
    with _server() as (pid, port):
        assert _listens(port) == {"0100007F"}, f"the demo listens on {_listens(port)}, expected 127.0.0.1 alone"
        own = {str(entry[4][0]) for entry in socket.getaddrinfo(socket.gethostname(), port)}
        for address in {"127.0.0.2", *own} - {"127.0.0.1"}:
            with contextlib.suppress(OSError):
                socket.create_connection((address, port), timeout=5).close()
                raise AssertionError(f"the demo answers at {address}")
        load = _Load(port)
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(load.refused, REFUSED))
        assert not load.wrong, load.wrong[:5]
        threads, files, memory = _settled(pid)
        load.run(60 * share)
        assert not load.wrong, f"{len(load.wrong)} times, such as {load.wrong[:5]}"
        until = time.monotonic() + 10
        while (left := _kept(pid))[0] > threads or left[1] > files:
            assert time.monotonic() < until, f"{left[:2]} threads and files are left, {threads, files} before"
            time.sleep(0.02)
        assert left[2] - memory < 100_000, f"{left[2] - memory} kB more memory"
    return (
        f"{load.count['drawings']} drawings of {CLIENTS} clients at once in {60 * share:.0f} s, each with its own "
        f"answer, among {load.count['slow']} slow or broken clients and {load.count['refused']} refused requests; no "
        "thread kept"
    )
