"""fastnn demo: the server's answers, and whom it answers. The page itself: test_pages_demo.py."""

from __future__ import annotations

import base64
import http.client
import io
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

Image = pytest.importorskip("PIL.Image", reason="Pillow scales the drawings")


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
    names = ["0 normalize", "1 conv2d", "2 relu", "3 max_pool2d", "5 linear"]
    assert [layer["name"] for layer in answer["layers"]] == names
    assert answer["layers"][4]["shape"] == [10]
    np.testing.assert_allclose(answer["layers"][4]["values"], logits, rtol=1e-3, atol=1e-4)
    conv = answer["layers"][1]
    assert (conv["shape"], conv["size"]) == ([20, 26, 26], [26, 26])
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


def a_server(*layers: nn.Module, shape: tuple[int, ...], crop: bool = False) -> DemoServer:
    model = nn.Sequential(nn.Normalize(0.0, 1.0), *layers)
    return DemoServer(model, title="", prepared=Preparation(shape), classes=("a", "b"), crop=crop)


def test_of_wide_layers_the_first_values_are_shown_and_of_large_maps_means() -> None:
    """Columns 0, 0, 90 in turn become, in blocks of three, 30 everywhere, but for the last block, which is brighter."""
    picture = np.tile(np.array([0, 0, 90], np.uint8), (200, 70))[:, :200]
    picture[195:198, 195:198] = 240
    layers = (nn.MaxPool2d(100), nn.Flatten(), nn.Linear(4, 300), nn.Linear(300, 2))
    with a_server(*layers, shape=(1, 200, 200)) as server:
        assert server.scale == 2
        maps, _, wide, _ = server.answer(picture)["layers"]
    assert (maps["shape"], maps["size"]) == ((1, 200, 200), (66, 66))
    seen = decoded(maps["maps"][0], 66, 66)
    assert seen[65, 65] == 255
    assert not seen[:65].any()
    assert (wide["shape"], len(wide["values"])) == ((300,), 256)


def test_a_colour_drawing_keeps_its_colours_and_is_not_cropped() -> None:
    drawing = np.zeros((160, 160, 3), np.uint8)
    drawing[:, :80], drawing[:, 80:] = (250, 100, 0), (0, 20, 200)
    with a_server(nn.Flatten(), nn.Linear(768, 2), shape=(3, 16, 16), crop=True) as server:
        assert not server.describe()["crop"]
        image = np.frombuffer(base64.b64decode(server.answer(drawing)["image"]), np.uint8).reshape(16, 16, 3)
    assert (image[:, :7] == (250, 100, 0)).all()
    assert (image[:, 9:] == (0, 20, 200)).all()


def test_a_pictures_file_is_prepared_as_training_pictures_were(server: DemoServer) -> None:
    """One of the model's size is taken as it is, turned upright by EXIF."""
    pixels = np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8)
    stream, turned = io.BytesIO(), io.BytesIO()
    Image.fromarray(pixels).save(stream, "png")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees, clockwise
    Image.fromarray(pixels).save(turned, "png", exif=exif)
    for file, expected in ((stream, pixels), (turned, np.rot90(pixels, -1))):
        status, body, _ = ask(server, "POST", "/picture", file.getvalue())
        assert status == 200
        assert np.array_equal(decoded(json.loads(body)["image"], 28, 28), expected)
    large = io.BytesIO()
    Image.fromarray(a_drawing()).resize((140, 140)).save(large, "gif")
    assert json.loads(ask(server, "POST", "/picture", large.getvalue())[1])["changes"] == "scaled from 140×140"


def test_what_is_no_picture_is_refused(server: DemoServer) -> None:
    status, body, kind = ask(server, "POST", "/picture", b"hello")
    assert (status, kind.split(";")[0]) == (400, "text/plain")
    assert body.startswith(b"expected an image, found: ")
    for length in ("0", "-1", "999999999", "33554433", "1_0", "x"):
        assert ask(server, "POST", "/picture", None, **{"Content-Length": length})[:2] == (
            400,
            b"expected a picture of at most 32 MB",
        )
    assert ask(server, "GET", "/picture")[0] == 405


@pytest.mark.parametrize(
    ("prepared", "got"),
    [
        (None, "other data"),
        (Preparation((30,)), r"\(30,\)"),
        (Preparation((2, 32, 32)), r"\(2, 32, 32\)"),
    ],
)
def test_a_model_of_other_things_than_pictures_is_refused(prepared: Preparation | None, got: str) -> None:
    with pytest.raises(ArgumentError, match=rf"expected a model of gray or RGB pictures, .* got one of {got}"):
        DemoServer(a_model(), title="", prepared=prepared, classes=())


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
