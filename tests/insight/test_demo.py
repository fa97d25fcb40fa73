"""fastnn demo: the server's answers, and whom it answers. The page itself: test_pages_demo.py."""

from __future__ import annotations

import base64
import http.client
import json
import threading
from collections.abc import Iterator

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn
from fastnn.cli import main
from fastnn.data.centre import centred
from fastnn.data.prepare import Preparation
from fastnn.errors import ArgumentError
from fastnn.insight.demo import DemoServer

pytest.importorskip("PIL", reason="Pillow scales the drawings")


def a_model() -> nn.Module:
    fnn.manual_seed(0)
    return nn.Sequential(
        nn.Normalize([0.2], [0.3]), nn.Conv2d(1, 20, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(3380, 10)
    )


@pytest.fixture
def server() -> Iterator[DemoServer]:
    classes = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    with DemoServer(a_model(), title="a model", prepared=Preparation((1, 28, 28)), classes=classes) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(
    server: DemoServer, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, bytes, str]:
    connection = http.client.HTTPConnection(*server.server_address, timeout=30)
    connection.request(method, path, body, headers)
    response = connection.getresponse()
    found = response.status, response.read(), response.headers.get("Content-Type", "")
    connection.close()
    return found


def a_drawing() -> np.ndarray:
    drawing = np.zeros((280, 280), np.uint8)
    drawing[30:200, 100:130] = 255
    drawing[30:60, 100:180] = 255
    return drawing


def decoded(text: str, height: int, width: int) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), np.uint8).reshape(height, width)


def test_the_page_asks_nobody_else(server: DemoServer) -> None:
    for path, kind in (("/", "text/html"), ("/page.css", "text/css"), ("/page.js", "text/javascript")):
        status, body, found = ask(server, "GET", path)
        assert (status, found.split(";")[0]) == (200, kind)
        assert b"http:" not in body
        assert b"https:" not in body
        assert b"//cdn" not in body
    assert ask(server, "GET", "/../server.py")[0] == 404
    status, body, _ = ask(server, "GET", "/model")
    assert status == 200
    assert json.loads(body)["classes"][1] == "one"
    assert server.server_address[0] == "127.0.0.1"


def test_a_drawing_is_answered_by_what_the_model_says_of_it(server: DemoServer) -> None:
    status, body, _ = ask(server, "POST", "/draw", a_drawing().tobytes())
    assert status == 200
    answer = json.loads(body)
    image, _ = centred(a_drawing(), 28, 28, 20 / 28)
    assert np.array_equal(decoded(answer["image"], 28, 28), image[0])
    model = a_model().double().eval()
    logits = model(fnn.Tensor(image[np.newaxis])).data[0]
    expected = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-5)
    assert [layer["name"] for layer in answer["layers"]] == ["0 normalize", "1 conv2d", "2 relu", "3 max_pool2d"]
    conv = answer["layers"][1]
    assert conv["shape"] == [20, 26, 26]
    assert len(conv["maps"]) == 16, "the first sixteen"
    maps = model[1](model[0](fnn.Tensor(image[np.newaxis]))).data[0, :16]
    least, most = (getattr(maps, f)(axis=(1, 2), keepdims=True) for f in ("min", "max"))
    found = np.stack([decoded(each, 26, 26) for each in conv["maps"]])
    assert np.abs(found - 255 * (maps - least) / (most - least)).max() <= 0.51


def test_an_empty_drawing_is_answered_too(server: DemoServer) -> None:
    status, body, _ = ask(server, "POST", "/draw", bytes(280 * 280))
    answer = json.loads(body)
    assert status == 200
    assert not decoded(answer["image"], 28, 28).any()
    assert sum(answer["probabilities"]) == pytest.approx(1, abs=1e-5)


def test_what_is_no_drawing_is_refused(server: DemoServer) -> None:
    assert ask(server, "POST", "/draw", b"short")[0] == 400
    assert ask(server, "POST", "/elsewhere", a_drawing().tobytes())[0] == 400
    assert ask(server, "POST", "/draw", a_drawing().tobytes())[0] == 200, "and the next one is answered"


def test_pages_of_other_places_are_refused(server: DemoServer) -> None:
    """Their script could otherwise reach this server under a name that was made to mean 127.0.0.1."""
    port = server.server_address[1]
    assert ask(server, "GET", "/model", Host=f"evil.example:{port}")[0] == 403
    assert ask(server, "POST", "/draw", a_drawing().tobytes(), Host="evil.example")[0] == 403
    assert ask(server, "GET", "/model", Host=f"localhost:{port}")[0] == 200


def test_colour_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"gray images \(1, H, W\), got one of \(3, 32, 32\)"):
        DemoServer(a_model(), title="", prepared=Preparation((3, 32, 32)), classes=())


def test_help_and_wrong_ports(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, code, word in (
        (["demo", "--help"], 0, "127.0.0.1"),
        (["demo", "run", "--port", "70000"], 2, "65535"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == code
        assert word in "".join(capsys.readouterr())
    assert main(["demo", "/nowhere", "--no-browser"]) == 3
    assert "there is no such folder" in capsys.readouterr().err
