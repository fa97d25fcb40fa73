"""fastnn demo with clients that are many, slow, broken or of other places: the next one is answered all the same."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn
from fastnn.data.prepare import Preparation
from fastnn.insight.demo import DemoServer

pytest.importorskip("PIL", reason="Pillow scales the drawings")
BYTES = 80 * 80
DRAWING = np.zeros((80, 80), np.uint8)
DRAWING[20:60, 30:40] = 255


def a_model() -> nn.Module:
    fnn.manual_seed(0)
    return nn.Sequential(nn.Normalize(0.2, 0.3), nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))


class Server(DemoServer):
    patience = 0.6
    idle = 1.2


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[DemoServer]:
    kind = getattr(request, "param", Server)
    with kind(a_model(), title="a\x1b[2Jm", prepared=Preparation((1, 8, 8)), classes=("zero", "caf\udce9")) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def draw(server: DemoServer, timeout: float = 30) -> int:
    connection = http.client.HTTPConnection(*server.server_address, timeout=timeout)
    connection.request("POST", "/draw", DRAWING.tobytes())
    response = connection.getresponse()
    response.read()
    connection.close()
    return response.status


def connected(server: DemoServer, *sent: bytes) -> socket.socket:
    client = socket.create_connection(server.server_address, timeout=20)
    for part in sent:
        client.sendall(part)
    return client


def exchange(server: DemoServer, *sent: bytes) -> bytes:
    """All that the server says until it hangs up."""
    with connected(server, *sent) as client:
        received = b""
        with contextlib.suppress(ConnectionError):
            while part := client.recv(1 << 16):
                received += part
        return received


def head(server: DemoServer, first: str, *lines: str) -> bytes:
    return "\r\n".join([first, f"Host: 127.0.0.1:{server.server_address[1]}", *lines, "", ""]).encode("latin-1")


def status(answer: bytes) -> int:
    return int(answer.split()[1])


def test_200_clients_at_once_are_all_answered(server: DemoServer) -> None:
    barrier = threading.Barrier(200)

    def client(_: int) -> int:
        barrier.wait(30)
        return draw(server)

    with ThreadPoolExecutor(200) as pool:
        assert set(pool.map(client, range(200))) == {200}


def test_connections_wait_in_line_while_nobody_accepts_them() -> None:
    with Server(a_model(), title="", prepared=Preparation((1, 8, 8)), classes=("a", "b")) as server:
        clients = [connected(server) for _ in range(200)]  # each would time out otherwise
        for client in clients:
            client.close()


SLOW = {
    "nothing": [],
    "half a line": [b"POST /dr"],
    "half the headers": [b"POST /draw HTTP/1.1\r\nHost: 127.0.0.1:"],
    "half a body": [b"POST /draw HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nContent-Length: 6400\r\n\r\n", b"x" * 100],
}


@pytest.mark.parametrize("kind", SLOW)
def test_slow_clients_lose_their_connection_and_hold_up_nobody(server: DemoServer, kind: str) -> None:
    port = str(server.server_address[1]).encode()
    before = threading.active_count()
    clients = [connected(server, *(part.replace(b"PORT", port) for part in SLOW[kind])) for _ in range(30)]
    assert draw(server) == 200
    start = time.monotonic()
    for client in clients:
        with contextlib.suppress(ConnectionError):
            assert client.recv(1) == b""  # hung up, in the server's time and not in the client's
        client.close()
    assert time.monotonic() - start < 15
    for _ in range(500):
        if threading.active_count() <= before:
            break
        time.sleep(0.01)
    assert threading.active_count() <= before


def test_a_client_that_sends_a_byte_now_and_then_has_no_more_time(server: DemoServer) -> None:
    with connected(server, b"GET / HTTP/1.1\r\n") as client:
        client.settimeout(0.1)
        for _ in range(200):
            try:
                client.sendall(b"a")
                if client.recv(1) == b"":
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                break
        else:
            pytest.fail("it was waited for without end")


def test_an_idle_connection_is_kept_for_the_next_stroke_and_not_for_ever(server: DemoServer) -> None:
    connection = http.client.HTTPConnection(*server.server_address, timeout=20)
    connection.connect()
    kept = connection.sock
    for _ in range(3):
        connection.request("POST", "/draw", DRAWING.tobytes())
        assert len(json.loads(connection.getresponse().read())["probabilities"]) == 2
    assert connection.sock is kept
    assert kept.recv(1) == b""
    connection.close()


class Small(Server):
    most = 8
    patience = 30.0
    grace = 0.05


@pytest.mark.parametrize("server", [Small], indirect=True)
def test_there_are_no_more_threads_than_that_and_who_waits_longest_goes(server: DemoServer) -> None:
    before = threading.active_count()
    clients = [connected(server, b"POST") for _ in range(40)]
    for _ in range(5):
        assert draw(server) == 200
        assert threading.active_count() <= before + 8
    for client in clients:
        client.close()


def test_broken_clients_leave_no_trace(server: DemoServer, capfd: pytest.CaptureFixture[str]) -> None:
    request = head(server, "POST /draw HTTP/1.1", f"Content-Length: {BYTES}") + DRAWING.tobytes()
    for cut in (0, 5, 40, len(request) - 3000, len(request)):
        client = connected(server, request[:cut])
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()  # by a reset
    for garbage in (
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" * 20,
        b"\r\n\r\n",
        b"\0" * 500,
        b"GET\r\n\r\n",
        b"\xff\xfe\n",
    ):
        exchange(server, garbage)
    assert draw(server) == 200
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "")


REFUSED = {
    "two hosts": (403, "GET /model HTTP/1.1", ["Host: 127.0.0.1:PORT"], b""),
    "two hosts, one foreign": (403, "POST /draw HTTP/1.1", ["Host: evil.example", "Content-Length: 6400"], b"x" * 6400),
    "a page of another place": (403, "POST /draw HTTP/1.1", ["Origin: http://evil.example"], b""),
    "a page of no place": (403, "POST /draw HTTP/1.1", ["Origin: null", "Content-Length: 6400"], b"x" * 6400),
    "another port": (403, "POST /draw HTTP/1.1", ["Origin: http://127.0.0.1:1", "Content-Length: 6400"], b"x" * 6400),
    "two origins": (
        403,
        "POST /draw HTTP/1.1",
        ["Origin: http://127.0.0.1:PORT", "Origin: http://evil.example", "Content-Length: 6400"],
        b"x" * 6400,
    ),
    "no length": (400, "POST /draw HTTP/1.1", [], b""),
    "two lengths": (400, "POST /draw HTTP/1.1", ["Content-Length: 6400", "Content-Length: 6400"], b"x" * 6400),
    "a list of lengths": (400, "POST /draw HTTP/1.1", ["Content-Length: 6400, 6400"], b"x" * 6400),
    "a negative length": (400, "POST /draw HTTP/1.1", ["Content-Length: -6400"], b""),
    "a signed length": (400, "POST /draw HTTP/1.1", ["Content-Length: +6400"], b"x" * 6400),
    "a length beyond all": (400, "POST /draw HTTP/1.1", ["Content-Length: 99999999999999999999"], b"x" * 6400),
    "a large body": (400, "POST /draw HTTP/1.1", ["Content-Length: 800000"], b"x" * 800000),
    "chunks": (
        400,
        "POST /draw HTTP/1.1",
        ["Transfer-Encoding: chunked", "Content-Length: 6400"],
        b"5\r\nhello\r\n0\r\n\r\n",
    ),
    "a body to a question": (400, "GET / HTTP/1.1", ["Content-Length: 5"], b"hello"),
    "a header that is none": (400, "GET / HTTP/1.1", ["Nonsense"], b""),
    "another method": (405, "PUT /draw HTTP/1.1", [], b""),
    "a question to the drawing": (405, "GET /draw HTTP/1.1", ["Connection: close"], b""),
    "a drawing to the page": (405, "POST /page.css HTTP/1.1", [], b""),
    "an unknown method": (501, "BREW / HTTP/1.1", [], b""),
    "a path upwards": (404, "GET /../server.py HTTP/1.1", ["Connection: close"], b""),
    "an encoded path upwards": (404, "GET /%2e%2e/server.py HTTP/1.1", ["Connection: close"], b""),
    "a proxy's path": (404, "GET http://evil.example/ HTTP/1.1", ["Connection: close"], b""),
    "many headers": (431, "GET / HTTP/1.1", [f"X-{i}: y" for i in range(200)], b""),
    "a long header": (431, "GET / HTTP/1.1", ["X: " + "y" * 70000], b""),
    "a long path": (414, "GET /" + "y" * 70000 + " HTTP/1.1", [], b""),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_request_of_the_page_is_refused(server: DemoServer, kind: str) -> None:
    code, first, lines, body = REFUSED[kind]
    port = str(server.server_address[1])
    answer = exchange(server, head(server, first, *(line.replace("PORT", port) for line in lines)), body)
    assert status(answer) == code
    assert b"probabilities" not in answer
    if code == 405:
        assert b"\r\nAllow: " in answer
    assert draw(server) == 200


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "LocalHost"])
def test_the_servers_own_page_may_ask_by_either_name(server: DemoServer, name: str) -> None:
    port = server.server_address[1]
    lines = [f"Host: {name}:{port}", f"Origin: http://{name.lower()}:{port}", f"Content-Length: {BYTES}"]
    request = "\r\n".join(["POST /draw HTTP/1.0", *lines, "", ""]).encode() + DRAWING.tobytes()
    answer = exchange(server, request)
    assert status(answer) == 200
    assert b"probabilities" in answer


def test_head_is_the_answer_without_its_body(server: DemoServer) -> None:
    whole = exchange(server, head(server, "GET /page.js HTTP/1.1", "Connection: close"))
    top = exchange(server, head(server, "HEAD /page.js HTTP/1.1", "Connection: close"))
    assert top.endswith(b"\r\n\r\n")
    length = int(top.split(b"Content-Length: ")[1].split()[0])
    assert length == len(whole.split(b"\r\n\r\n", 1)[1]) > 1000


def test_names_reach_the_page_as_text(server: DemoServer) -> None:
    answer = exchange(server, head(server, "GET /model HTTP/1.1", "Connection: close"))
    model = json.loads(answer.split(b"\r\n\r\n", 1)[1])
    assert (model["title"], model["classes"]) == (r"a\x1b[2Jm", ["zero", r"caf\xe9"])


def test_a_model_that_fails_is_said_to_the_page_alone(capfd: pytest.CaptureFixture[str]) -> None:
    model = a_model()
    model[4].weight.data[0, 0] = np.nan  # type: ignore[index]
    with Server(model, title="", prepared=Preparation((1, 8, 8)), classes=("a", "b")) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        request = head(server, "POST /draw HTTP/1.1", f"Content-Length: {BYTES}") + DRAWING.tobytes()
        answer = exchange(server, request)
        server.shutdown()
        thread.join()
    assert status(answer) == 500
    assert b"outputs are infinite or not numbers" in answer
    assert capfd.readouterr().err == ""
