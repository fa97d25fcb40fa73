"""The demo's server: Python's own http.server, the page's files, and an answer for each state of the drawing."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler
from importlib import resources
from typing import Any

import numpy as np

from fastnn.console import shown
from fastnn.data.prepare import Preparation
from fastnn.errors import ArgumentError, NonFiniteError
from fastnn.insight.demo.bounded import BoundedServer
from fastnn.insight.filters import feature_maps
from fastnn.nn import Module
from fastnn.ops import softmax
from fastnn.plan import compile
from fastnn.tape import Array
from fastnn.tensors import Tensor

__all__ = ["DemoServer"]

SCALE = 10  # of the canvas: its pixels to one of the model's
MOST_MAPS = 16  # of a layer, that are sent
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
        model: takes uint8 images (N, 1, H, W), light on dark, as the recipes' models do.
        title: what the page calls the model.
        prepared: how a drawing becomes an image (1, H, W) for the model.
        classes: names of the outputs.
        crop: whether drawings are cut out and centred first, as MNIST's digits were; without, they are only resized,
            and inverted where the model's images are dark on light.
        port: 0 takes any that is free.

    Raises ArgumentError for a model of colour images; OSError for a port that is taken.
    """

    def __init__(
        self,
        model: Module,
        *,
        title: str,
        prepared: Preparation,
        classes: tuple[str, ...],
        crop: bool = True,
        port: int = 0,
    ) -> None:
        if len(prepared.shape) != 3 or prepared.shape[0] != 1:
            raise ArgumentError(f"demo: expected a model of gray images (1, H, W), got one of {prepared.shape}")
        self.model, self.title, self.image_shape = model, title, prepared.shape
        self.classes, self.prepared, self.crop = tuple(classes), prepared, crop
        self._predict = compile(model, frozen=True)
        self._turn = threading.Lock()  # drawings are answered one at a time
        super().__init__(("127.0.0.1", port), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"

    def describe(self) -> dict[str, Any]:
        """What the page needs to know before the first stroke."""
        _, height, width = self.image_shape
        classes = [shown(name) for name in self.classes]
        return {"title": shown(self.title), "classes": classes, "height": height, "width": width, "scale": SCALE}

    def answer(self, drawing: Array) -> dict[str, Any]:
        """What the model makes of a drawing (H0, W0) uint8, white on black.

        The image that it sees, the probabilities of the classes, and of each layer the first maps, each from its least
        (0) to its largest (255). Raises NonFiniteError for a model that gives no numbers.
        """
        with self._turn:
            return self._answer(drawing)

    def _answer(self, drawing: Array) -> dict[str, Any]:
        if not (self.crop or self.prepared.light_on_dark):
            drawing = 255 - drawing
        image = self.prepared(drawing, crop=self.crop)
        logits = self._predict(image[np.newaxis])
        if not np.isfinite(logits).all():
            raise NonFiniteError("the model's outputs are infinite or not numbers: look at its weights")
        layers, found = [], feature_maps(self.model, image)
        for name, maps in zip(found.names[1:], found.maps[1:], strict=True):  # without the input
            first = _as_bytes(maps[:MOST_MAPS])
            layers.append({"name": name, "shape": maps.shape, "maps": [_encoded(channel) for channel in first]})
        return {
            "image": _encoded(image[0]),
            "probabilities": softmax(Tensor(logits)).numpy()[0].tolist(),
            "layers": layers,
        }


def _as_bytes(maps: Array) -> Array:
    """(C, H, W), each channel stretched to 0 .. 255; a constant one is 0."""
    least = maps.min(axis=(1, 2), keepdims=True)
    spread = maps.max(axis=(1, 2), keepdims=True) - least
    return np.rint(255 * (maps - least) / np.where(spread > 0, spread, 1)).astype(np.uint8)


def _encoded(plane: Array) -> str:
    return base64.b64encode(plane.tobytes()).decode()


class _Handler(BaseHTTPRequestHandler):
    """GET the page and /model; POST /draw a drawing of one byte a pixel."""

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
        elif self.path == "/draw":
            self._refuse_method("POST")
        else:
            self.send_error(404)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        if not self._is_ours():
            return
        _, height, width = self.server.image_shape
        expected = height * SCALE * width * SCALE
        if self.path == "/model" or self.path in FILES:
            self._refuse_method("GET, HEAD")
        elif self.path != "/draw" or self.headers.get_all("Content-Length") != [str(expected)]:
            self._refuse(400, f"expected a drawing of {expected} bytes")
        else:
            content = self.rfile.read(expected)
            if len(content) < expected:  # the client is gone
                self.close_connection = True
                return
            self._answer(np.frombuffer(content, np.uint8).reshape(height * SCALE, width * SCALE))

    def _answer(self, drawing: Array) -> None:
        self.server.work(self.connection)
        try:
            answer = json.dumps(self.server.answer(drawing), allow_nan=False)
        except Exception as error:  # whatever a model may do: the page says it, and the server goes on
            self.server.wait_for(self.connection)
            self._refuse(500, shown(error))
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

    def _send(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _refuse(self, code: int, reason: str) -> None:
        """Answer with an error, and part: what else the client sends is not read, but for what is on its way."""
        self.close_connection = True
        self.send_error(code, explain=reason)
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
