"""The page to draw on in a browser: strokes become a drawing, the drawing an answer, and nobody else is asked."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import Browser

import fastnn as fnn
from fastnn import nn
from fastnn.data.prepare import Preparation
from fastnn.insight.demo import DemoServer

pytestmark = pytest.mark.browser
Image = pytest.importorskip("PIL.Image", reason="Pillow scales the drawings")

Place = tuple[float, float]  # on the canvas, from 0 to 1
ONE: list[Place] = [(0.38, 0.3), (0.52, 0.15), (0.52, 0.85)]
ZERO: list[Place] = [(0.5 + 0.2 * np.sin(a), 0.5 - 0.34 * np.cos(a)) for a in np.linspace(0, 2 * np.pi, 13)]
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


@pytest.fixture(scope="module")
def colour_server() -> Iterator[DemoServer]:
    """Of a model that knows nothing, of colour pictures."""
    fnn.manual_seed(0)
    model = nn.Sequential(nn.Normalize(0.5, 0.5), nn.Flatten(), nn.Linear(768, 40), nn.ReLU(), nn.Linear(40, 2))
    prepared = Preparation((3, 16, 16), light_on_dark=False)
    with DemoServer(model, title="", prepared=prepared, classes=("cat", "dog")) as server:
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
    return np.ascontiguousarray(colours(page, selector)[:, :, 0])


def colours(page: Browser, selector: str) -> np.ndarray:
    """A canvas with its opacity, (H, W, 4)."""
    script = """
    const c = document.querySelector(arguments[0]);
    const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
    return [c.height, c.width, btoa(Array.from(d, (v) => String.fromCharCode(v)).join(''))];
    """
    height, width, data = page.run(script, selector)
    return np.frombuffer(base64.b64decode(data), np.uint8).reshape(height, width, 4)


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
    maps = [layer for layer in answer["layers"] if "maps" in layer]
    for row, layer in enumerate(maps, start=1):
        last = pixels(page, f"#layers .layer:nth-child({row}) canvas:last-child")
        assert last.tobytes() == base64.b64decode(layer["maps"][-1])
    assert page.errors() == []
    assert all(address.startswith(server.url) for address in page.requests())


def test_maps_change_as_one_draws_and_clear_begins_anew(page: Browser) -> None:
    seen = [pixels(page, MAP)]
    for part in (ZERO[:5], ZERO[5:]):
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


def test_the_hint_goes_with_the_first_stroke_and_strokes_can_be_taken_back(page: Browser) -> None:
    hint = "return [document.getElementById('hint').hidden, document.getElementById('undo').disabled]"
    assert page.run(hint) == [False, True]
    states = [pixels(page, "#canvas")]
    for stroke in (ZERO[:3], ONE):
        draw(page, stroke)
        states.append(pixels(page, "#canvas"))
    assert page.run(hint) == [True, False]
    page.click("clear")
    for state in states[:0:-1]:  # the clearing is taken back, too
        control_z(page)
        assert np.array_equal(pixels(page, "#canvas"), state)
    page.click("undo")
    settle(page)
    assert not pixels(page, "#canvas").any()
    assert page.run(hint) == [False, True]
    assert page.run("return document.querySelector('#bars .best')") is None


def control_z(page: Browser) -> None:
    event = {"modifiers": 2, "key": "z", "code": "KeyZ", "windowsVirtualKeyCode": 90}
    for kind in ("keyDown", "keyUp"):
        page.driver.execute_cdp_cmd("Input.dispatchKeyEvent", {"type": kind, **event})


def test_keys_draw_too(page: Browser) -> None:
    """From the middle 8/28 to the right, and away with the pen lifted."""
    keys = [" ", *["ArrowRight"] * 8, " ", *["ArrowDown"] * 5]
    for key in keys:
        page.run("canvas.dispatchEvent(new KeyboardEvent('keydown', { key: arguments[0], bubbles: true }))", key)
    drawing = pixels(page, "#canvas")
    assert drawing[140, 140:221].min() == 255
    assert drawing[:125].max() == drawing[155:].max() == 0


def test_dense_layers_are_bars(page: Browser, server: DemoServer) -> None:
    """Each bar reaches as far as its value says."""
    draw(page, ONE)
    settle(page)
    layers = server.answer(pixels(page, "#canvas"))["layers"]
    row = next(i for i, layer in enumerate(layers) if layer["shape"] == (84,))
    values = np.array(layers[row]["values"])
    shown = colours(page, f"#layers .layer:nth-child({row + 1}) canvas")
    unit = (shown.shape[0] - 1) / (max(0, values.max()) - min(0, values.min()))
    centres = ((np.arange(84) + 0.4) * shown.shape[1] / 84).astype(int)
    # Blue rises, vermilion goes down.
    blue, red = (shown[:, centres, :3].astype(int) @ np.array(rgb) > 50 * 255 for rgb in ((-99, 0, 99), (99, 0, -99)))
    found = np.where(values > 0, blue.sum(axis=0), -red.sum(axis=0))
    np.testing.assert_allclose(found, values * unit, atol=2)


def test_runs_on_colour(browser: Browser, colour_server: DemoServer) -> None:
    browser.open(colour_server.url, 600, 900)
    browser.wait("document.querySelectorAll('#layers .layer').length")
    settle(browser)
    assert colours(browser, "#canvas")[0, 0].tolist() == [255, 255, 255, 255], "dark on light"
    for name, colour in (("ground", "#2060d0"), ("ink", "#d02020")):
        browser.run(
            "const e = document.getElementById(arguments[0]); e.value = arguments[1];"
            "e.dispatchEvent(new Event('change'))",
            name,
            colour,
        )
    draw(browser, [(0.5, 0.2), (0.5, 0.8)])
    settle(browser)
    drawing = colours(browser, "#canvas")[:, :, :3]
    assert drawing[80, 80].tolist() == [0xD0, 0x20, 0x20]
    assert drawing[80, 10].tolist() == [0x20, 0x60, 0xD0]
    expected = colour_server.answer(np.ascontiguousarray(drawing))
    np.testing.assert_allclose(shares(browser), 100 * np.array(expected["probabilities"]), atol=0.051)
    assert np.array_equal(colours(browser, "#seen")[:, :, :3].tobytes(), base64.b64decode(expected["image"]))


def test_a_dropped_picture_is_seen_as_its_file_is(browser: Browser, colour_server: DemoServer, tmp_path: Path) -> None:
    """And is drawn on; what is no picture is said, and leaves the drawing as it is."""
    browser.open(colour_server.url, 1200, 900)
    browser.wait("document.querySelectorAll('#layers .layer').length")
    file = tmp_path / "noise.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)).save(file)
    drop(browser, "noise.png", file.read_bytes())
    browser.wait("parts.length")
    settle(browser)
    expected = colour_server.answer(file)
    np.testing.assert_allclose(shares(browser), 100 * np.array(expected["probabilities"]), atol=0.051)
    caption = "return document.getElementById('caption').textContent"
    assert browser.run(caption) == "What the model sees of noise.png: resized from 40×60"
    on_it = colours(browser, "#canvas")
    drop(browser, "notes.txt", b"hello")
    browser.wait("!document.getElementById('failure').hidden")
    said = browser.run("return document.getElementById('failure').textContent")
    assert said.startswith("notes.txt: expected an image, found: ")
    assert np.array_equal(colours(browser, "#canvas"), on_it)
    draw(browser, ONE)
    settle(browser)
    changed = (colours(browser, "#canvas") != on_it).any(axis=2)
    assert 0 < changed.mean() < 0.5
    control_z(browser)
    settle(browser)
    assert browser.run(caption).endswith("resized from 40×60")
    assert all(address.startswith(colour_server.url) for address in browser.requests())


def drop(page: Browser, name: str, content: bytes) -> None:
    script = """
    const data = new DataTransfer();
    data.items.add(new File([Uint8Array.from(atob(arguments[1]), (c) => c.charCodeAt(0))], arguments[0]));
    document.body.dispatchEvent(new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true }));
    """
    page.run(script, name, base64.b64encode(content).decode())


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
