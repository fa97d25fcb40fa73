"""The page to draw on in a browser: strokes become a drawing, the drawing an answer, and nobody else is asked."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from browser import Browser

import fastnn as fnn
from fastnn.data.prepare import Preparation
from fastnn.insight.demo import DemoServer

pytestmark = pytest.mark.browser
pytest.importorskip("PIL", reason="Pillow scales the drawings")

Place = tuple[float, float]  # on the canvas, from 0 to 1
ONE: list[Place] = [(0.38, 0.3), (0.52, 0.15), (0.52, 0.85)]
ZERO: list[Place] = [(0.5 + 0.2 * np.sin(a), 0.5 - 0.34 * np.cos(a)) for a in np.linspace(0, 2 * np.pi, 25)]
MAP = "#layers .layer:nth-child(2) canvas"  # of the first convolution


@pytest.fixture(scope="module")
def server() -> Iterator[DemoServer]:
    """A LeNet-5 that has learned the embedded digits."""
    fnn.manual_seed(0)
    model = fnn.recipes.lenet5()
    augment = fnn.data.Augment(shift=2, rotate=10, scale=0.1)
    digits = fnn.data.load("digits")
    batches = fnn.data.Batches(digits.images, digits.labels, 64, shuffle=True, seed=0, augment=augment)
    optimizer = fnn.optim.Adam(model.parameters(), lr=2e-3)
    fnn.fit(model, batches, optimizer=optimizer, epochs=12, seed=0, verbose=False)
    classes = tuple(map(str, range(10)))
    with DemoServer(
        model, title="lenet5 trained on digits", prepared=Preparation((1, 28, 28)), classes=classes
    ) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def page(browser: Browser, server: DemoServer) -> Browser:
    browser.open(server.url, 1200, 900)
    browser.wait("document.querySelectorAll('#layers .layer').length")
    settle(browser)
    return browser


def settle(page: Browser) -> None:
    """Until the last question is answered."""
    page.wait("!waiting && !changed")


def on_canvas(page: Browser, place: Place) -> dict[str, float]:
    """In pixels of the window."""
    script = "const b = document.getElementById('canvas').getBoundingClientRect(); return [b.x, b.y, b.width, b.height]"
    left, top, width, height = page.run(script)
    return {"x": left + place[0] * width, "y": top + place[1] * height}


def draw(page: Browser, stroke: list[Place]) -> None:
    """With the mouse, as a hand does."""
    kinds = ["mousePressed", *["mouseMoved"] * (len(stroke) - 1), "mouseReleased"]
    for kind, place in zip(kinds, [*stroke, stroke[-1]], strict=True):
        event = {"type": kind, "button": "left", "buttons": 1, "clickCount": 1, **on_canvas(page, place)}
        page.driver.execute_cdp_cmd("Input.dispatchMouseEvent", event)


def pixels(page: Browser, selector: str) -> np.ndarray:
    """The first channel of a canvas, (H, W)."""
    script = """
    const c = document.querySelector(arguments[0]);
    const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
    return [c.height, c.width, btoa(Array.from(d, (v, i) => (i % 4 ? '' : String.fromCharCode(v))).join(''))];
    """
    height, width, data = page.run(script, selector)
    return np.frombuffer(base64.b64decode(data), np.uint8).reshape(height, width)


def shares(page: Browser) -> list[float]:
    texts: list[str] = page.run("return [...document.querySelectorAll('#bars .share')].map((e) => e.textContent)")
    return [float(text.rstrip(" %")) for text in texts]


@pytest.mark.parametrize(("digit", "stroke"), [(1, ONE), (0, ZERO)])
def test_a_drawn_digit_is_recognised(page: Browser, server: DemoServer, digit: int, stroke: list[Place]) -> None:
    draw(page, stroke)
    settle(page)
    assert page.run("return document.querySelector('#bars .best .name').textContent") == str(digit)
    assert page.run("return document.getElementById('verdict').textContent").startswith(f"I see {digit}:")
    answer = server.answer(pixels(page, "#canvas"))  # of what is on the canvas, asked directly
    np.testing.assert_allclose(shares(page), 100 * np.array(answer["probabilities"]), atol=0.051)
    assert pixels(page, "#seen").tobytes() == base64.b64decode(answer["image"])
    for row, layer in enumerate(answer["layers"], start=1):
        last = pixels(page, f"#layers .layer:nth-child({row}) canvas:last-child")
        assert last.tobytes() == base64.b64decode(layer["maps"][-1])
    assert page.errors() == []
    assert all(address.startswith(server.url) for address in page.requests())


def test_maps_change_as_one_draws_and_clear_begins_anew(page: Browser) -> None:
    seen = [pixels(page, MAP)]
    for part in (ZERO[:9], ZERO[9:]):
        draw(page, part)
        settle(page)
        seen.append(pixels(page, MAP))
    assert not np.array_equal(seen[0], seen[1])
    assert not np.array_equal(seen[1], seen[2])
    page.click("clear")
    settle(page)
    assert not pixels(page, "#canvas").any()
    assert np.array_equal(pixels(page, MAP), seen[0])
    assert page.run("return document.querySelector('#bars .best')") is None


def test_a_finger_draws_too(page: Browser) -> None:
    kinds = ["touchStart", *["touchMove"] * (len(ONE) - 1), "touchEnd"]
    for kind, place in zip(kinds, [*ONE, None], strict=True):
        points = [] if place is None else [on_canvas(page, place)]
        page.driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    settle(page)
    drawing = pixels(page, "#canvas")
    for x, y in ((0.52, 0.5), (0.45, 0.22)):
        assert drawing[int(280 * y), int(280 * x)] == 255


def test_a_server_that_has_ended_is_said(page: Browser) -> None:
    page.run("window.fetch = () => Promise.reject(new Error('gone'))")
    draw(page, ONE)
    page.wait("!document.getElementById('failure').hidden")
    assert "is fastnn demo still running" in page.run("return document.getElementById('failure').textContent")
