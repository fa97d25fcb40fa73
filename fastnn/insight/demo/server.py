"""The demo's server: Python's own http.server, the page's files, and an answer for each state of the drawing."""

from __future__ import annotations

import base64
import contextlib
import json
import math
import re
import tempfile
import threading
from http.server import BaseHTTPRequestHandler
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from fastnn.console import shown
from fastnn.data.prepare import Preparation
from fastnn.errors import ArgumentError, DataError, NonFiniteError
from fastnn.insight.demo.bounded import BoundedServer
from fastnn.insight.filters import layer_outputs
from fastnn.nn import Module
from fastnn.ops import softmax
from fastnn.plan import compile
from fastnn.tape import Array
from fastnn.tensors import Tensor

__all__ = ["DemoServer"]

SIDE = 320  # of the canvas, at most: its pixels are so many to one of the model's as fit, but from 2 to 10
MOST_MAPS = 16  # of a layer, that are sent
MAP_SIDE = 96  # of a map that is sent: larger ones are averaged in blocks
MOST_BARS = 256  # of a dense layer, that are sent
MOST_BYTES = 32 << 20  # of a picture's file
DIGITS = tuple(map(str, range(10)))
FILES = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}
# The page may run its own script and ask this server, and nothing else.
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:"


class DemoServer(BoundedServer):
    """Serves the page on 127.0.0.1; `serve_forever()` runs it, `url` is where.

    Args:
        model: takes uint8 images (N, C, H, W), gray or RGB, as the recipes' models do.
        title: what the page calls the model.
        prepared: how a drawing or a picture becomes an image (C, H, W) for the model; None for a model of something
            else, which is refused.
        classes: names of the outputs.
        crop: whether gray drawings are cut out and centred first, as MNIST's digits were; without, they are only
            resized.
        port: 0 takes any that is free.

    Raises ArgumentError for a model of anything but gray or RGB images; OSError for a port that is taken.
    """

    def __init__(
        self,
        model: Module,
        *,
        title: str,
        prepared: Preparation | None,
        classes: tuple[str, ...],
        crop: bool = True,
        port: int = 0,
    ) -> None:
        shape = None if prepared is None else prepared.shape
        if prepared is None or shape is None or len(shape) != 3 or shape[0] not in (1, 3):
            raise ArgumentError(
                "demo: expected a model of gray or RGB pictures, (1, H, W) or (3, H, W), which can be drawn, got one "
                f"of {'other data' if shape is None else shape}"
            )
        self.model, self.title = model, title
        self.classes, self.prepared, self.crop = tuple(classes), prepared, crop and shape[0] == 1
        self.scale = min(10, max(2, SIDE // max(shape[1:])))
        # A drawing's pixels (H0, W0), or (H0, W0, 3) in colour.
        self.drawing_shape = (*(side * self.scale for side in shape[1:]), *shape[:1] * (shape[0] > 1))
        self._predict = compile(model, frozen=True)
        self._turn = threading.Lock()  # drawings are answered one at a time
        super().__init__(("127.0.0.1", port), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"

    def describe(self) -> dict[str, Any]:
        """What the page needs to know before the first stroke."""
        channels, height, width = self.prepared.shape
        classes = [shown(name) for name in self.classes]
        return {
            "title": shown(self.title),
            "subject": "a digit" if self.classes == DIGITS else "a picture",
            "classes": classes,
            "channels": channels,
            "height": height,
            "width": width,
            "scale": self.scale,
            "light_on_dark": self.prepared.light_on_dark,
            "crop": self.crop,
            "most_bytes": MOST_BYTES,
        }

    def answer(self, picture: Any) -> dict[str, Any]:
        """What the model makes of a drawing's pixels uint8 (H0, W0) or (H0, W0, 3), or of a picture's file.

        The image that it sees and what was changed for it, the probabilities of the classes, and of each layer the
        first maps, each from its least (0) to its largest (255), or the first values. Raises what the preparation
        raises, and NonFiniteError for a model that gives no numbers.
        """
        with self._turn:
            return self._answer(picture)

    def _answer(self, picture: Any) -> dict[str, Any]:
        image, changes = self.prepared.described(picture, crop=self.crop)
        logits = self._predict(image[np.newaxis])
        if not np.isfinite(logits).all():
            raise NonFiniteError("the model's outputs are infinite or not numbers: look at its weights")
        outputs = layer_outputs(self.model, image)[1:]  # without the input
        return {
            "image": _encoded(np.moveaxis(image, 0, -1)),
            "changes": changes,
            "probabilities": softmax(Tensor(logits)).numpy()[0].tolist(),
            "layers": [_shown(name, array) for name, array in outputs if not name.endswith("reshape")],
        }


def _shown(name: str, output: Array) -> dict[str, Any]:
    """Of a layer's output, (C, H, W) or (n,), what the page shows."""
    about = {"name": name, "shape": output.shape}
    if output.ndim == 1:
        return {**about, "values": [float(f"{value:.4g}") for value in np.nan_to_num(output[:MOST_BARS]).tolist()]}
    maps = _as_bytes(_coarser(output[:MOST_MAPS]))
    return {**about, "size": maps.shape[1:], "maps": [_encoded(channel) for channel in maps]}


def _coarser(maps: Array) -> Array:
    """(C, H, W), large ones as means of square blocks."""
    channels, *sides = maps.shape
    block = -(-max(sides) // MAP_SIDE)
    height, width = (side // block for side in sides)
    if block == 1 or not (height and width):
        return maps
    cut = maps[:, : height * block, : width * block]
    return cut.reshape(channels, height, block, width, block).mean(axis=(2, 4))


def _as_bytes(maps: Array) -> Array:
    """(C, H, W), each channel stretched to 0 .. 255; a constant one is 0."""
    least = maps.min(axis=(1, 2), keepdims=True)
    spread = maps.max(axis=(1, 2), keepdims=True) - least
    return np.rint(255 * (maps - least) / np.where(spread > 0, spread, 1)).astype(np.uint8)


def _encoded(pixels: Array) -> str:
    return base64.b64encode(pixels.tobytes()).decode()


class _Handler(BaseHTTPRequestHandler):
    """GET the page and /model; POST /draw a drawing's pixels, a byte for each channel, or /picture an image file."""

    server: DemoServer
    protocol_version = "HTTP/1.1"
    _served = False  # whether this connection had an answer before

    def handle_one_request(self) -> None:
        if self._served:
            self.server.wait_for(self.connection, self.server.idle)
            self.rfile.peek(1)  # type: ignore[attr-defined]  # a BufferedReader, which waits here for the next request
        self.server.wait_for(self.connection)
        super().handle_one_request()
        self._served = True

    def do_GET(self) -> None:
        if not self._is_ours():
            return
        if self.path == "/model":
            self._send(json.dumps(self.server.describe()).encode(), "application/json")
        elif self.path in FILES:
            name, kind = FILES[self.path]
            self._send(resources.files(__package__).joinpath(name).read_bytes(), kind)
        elif self.path in ("/draw", "/picture"):
            self._refuse_method("POST")
        else:
            self.send_error(404)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        if not self._is_ours():
            return
        shape = self.server.drawing_shape
        lengths = self.headers.get_all("Content-Length", [])
        if self.path == "/model" or self.path in FILES:
            self._refuse_method("GET, HEAD")
        elif self.path == "/picture":
            if len(lengths) != 1 or not re.fullmatch("[1-9][0-9]{0,8}", lengths[0]) or int(lengths[0]) > MOST_BYTES:
                self._refuse(400, f"expected a picture of at most {MOST_BYTES >> 20} MB")
            elif content := self._received(int(lengths[0])):
                with tempfile.TemporaryDirectory() as folder:  # files have one reader, which takes paths
                    path = Path(folder, "picture")
                    path.write_bytes(content)
                    self._answer(path)
        elif self.path != "/draw" or lengths != [str(math.prod(shape))]:
            self._refuse(400, f"expected a drawing of {math.prod(shape)} bytes")
        elif content := self._received(math.prod(shape)):
            self._answer(np.frombuffer(content, np.uint8).reshape(shape))

    def _received(self, size: int) -> bytes | None:
        """The body; None if the client is gone."""
        content = self.rfile.read(size)
        if len(content) == size:
            return content
        self.close_connection = True
        return None

    def _answer(self, picture: Array | Path) -> None:
        self.server.work(self.connection)
        try:
            answer = json.dumps(self.server.answer(picture), allow_nan=False)
        except Exception as error:  # whatever a model may do: the page says it, and the server goes on
            self.server.wait_for(self.connection)
            code = 400 if isinstance(error, DataError) else 500
            self._refuse(code, shown(error).removeprefix(f"{picture}: ") if isinstance(picture, Path) else shown(error))
            return
        self.server.wait_for(self.connection)
        self._send(answer.encode(), "application/json")

    def _is_ours(self) -> bool:
        """Refuse pages of other places: those that got their name to mean this machine, and those that send it forms;
        and requests that two programs could read in two ways."""
        port = self.server.server_address[1]
        names = (f"127.0.0.1:{port}", f"localhost:{port}")
        hosts, origins = (self.headers.get_all(name, []) for name in ("Host", "Origin"))
        if len(hosts) != 1 or hosts[0].lower() not in names:
            self._refuse(403, "expected a request to this machine")
        elif origins not in ([], *([f"http://{name}"] for name in names)):
            self._refuse(403, "expected a request of this server's own page")
        elif self.headers.defects or "Transfer-Encoding" in self.headers:
            self._refuse(400, "expected plain headers, and a body of a known length")
        elif self.command != "POST" and self.headers.get_all("Content-Length", ["0"]) != ["0"]:
            self._refuse(400, "expected no body")
        else:
            return True
        return False

    def _send(self, body: bytes, kind: str, code: int = 200) -> None:
        self.send_response(code)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("Cache-Control", "no-store")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _refuse(self, code: int, reason: str) -> None:
        """Answer with an error, and part: what else the client sends is not read, but for what is on its way."""
        self.close_connection = True
        self._send(reason.encode(errors="replace"), "text/plain", code)
        with contextlib.suppress(OSError):
            self.connection.settimeout(0.2)
            for _ in range(16):  # closing at once would take the answer back from a client that is still sending
                if not self.connection.recv(1 << 16):
                    break

    def _refuse_method(self, allowed: str = "GET, HEAD, POST") -> None:
        self.close_connection = True
        self.send_response(405)
        self.send_header("Allow", allowed)
        self.send_header("Content-Length", "0")
        self.send_header("Connection", "close")
        self.end_headers()

    def do_PUT(self) -> None:
        self._refuse_method()

    do_DELETE = do_PATCH = do_OPTIONS = do_TRACE = do_CONNECT = do_PUT

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the terminal is the user's."""
