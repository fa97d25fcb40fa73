"""The page of a landscape in a browser: it draws what it was given, keeps its camera, and asks for nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import Browser

import fastnn as fnn
from fastnn import landscape

pytestmark = pytest.mark.browser

# Plotly may keep numbers as typed arrays, which arrive as objects.
PLAIN = """
const numbers = (key, value) => (ArrayBuffer.isView(value) ? [...value] : value);
const plain = (value) => (value === undefined ? null : JSON.parse(JSON.stringify(value, numbers)));
"""


def trace(browser: Browser, index: int) -> dict[str, Any]:
    """A trace as it is drawn: its type, numbers and colours."""
    keys = ["type", "x", "y", "z", "text", "mode", "name"]
    script = "const t = document.getElementById('plot')._fullData[arguments[0]];"
    script += "return Object.fromEntries(arguments[1].map((k) => [k, plain(t[k])]));"
    result: dict[str, Any] = browser.run(PLAIN + script, index, keys)
    return result


def slide(browser: Browser, to: int) -> None:
    browser.run(
        "const s = document.getElementById('time'); s.value = arguments[0]; s.dispatchEvent(new Event('input'));", to
    )


@pytest.fixture(scope="module")
def result() -> landscape.Landscape:
    t, s = np.linspace(-1, 2, 7), np.linspace(-1, 1, 5)
    losses = 0.01 + t**2 + 5 * s[:, None] ** 2
    losses[0, 0] = np.inf
    ways = []
    for name, end in (("one", 0.0), ("two <b>", 0.5)):
        places = np.linspace([1.8, 0.6], [end, end], 5)
        own = 0.01 + places[:, 0] ** 2 + 5 * places[:, 1] ** 2
        ways.append(landscape.Trajectory(name, np.linspace(0, 2, 5), places, own, np.linspace(1, 0, 5)))
    axes = landscape.Axis("t", t, "PC 1", 0.8), landscape.Axis("s", s, "PC 2", 0.1)
    accuracies = np.full(losses.shape, 0.5)
    return landscape.Landscape(losses, axes, accuracies, 0.01, tuple(ways), "A test", {"images": 9, "data": "none"})


@pytest.fixture(scope="module")
def opened(browser: Browser, result: landscape.Landscape, tmp_path_factory: pytest.TempPathFactory) -> Browser:
    browser.open(landscape.view(result, tmp_path_factory.mktemp("page") / "page.html", show=False))
    browser.wait("document.body.dataset.drawn")
    return browser


def restored(opened: Browser, view: str) -> Browser:
    """The page with its surface or its contour, on a plain scale, and the paths as long as they are."""
    for button, wanted in ((view, True), ("log", False)):
        if (opened.run("return document.getElementById(arguments[0]).ariaPressed", button) == "true") != wanted:
            opened.click(button)
    slide(opened, 48)
    return opened


@pytest.fixture
def page(opened: Browser) -> Browser:
    """The page with its surface, which takes seconds to be drawn without a graphics card."""
    return restored(opened, "surface")


def test_the_surface_has_the_right_grid_and_the_paths_lie_on_it(page: Browser, result: landscape.Landscape) -> None:
    assert page.run("return document.querySelectorAll('#plot canvas').length") > 0
    surface = trace(page, 0)
    assert surface["type"] == "surface"
    for key, axis in zip("xy", result.axes, strict=True):
        np.testing.assert_allclose(surface[key], axis.values, rtol=1e-6)
    heights = np.array(surface["z"], float)
    assert np.isnan(heights[0, 0])
    np.testing.assert_allclose(heights[1:], result.losses[1:], rtol=1e-5)
    assert surface["text"][2][2].startswith("loss 0.01<br>accuracy 50.0 %")
    for i, way in enumerate(result.paths):
        line, points = trace(page, 1 + 3 * i), trace(page, 2 + 3 * i)
        assert (line["type"], line["mode"], points["mode"]) == ("scatter3d", "lines", "markers")
        np.testing.assert_allclose(np.stack([points["x"], points["y"]], axis=1), way.coordinates, rtol=1e-5)
        above = np.array(points["z"]) - result.heights(way.coordinates)
        assert (above > 0).all()
        assert (above < 0.05 * 9).all()
        assert len(line["x"]) == 4 * 12 + 1
    assert "two &lt;b&gt;" in page.run("return document.querySelector('#plot .legend').innerHTML").replace(
        "<b>", "&lt;b&gt;"
    )
    titles = "const s = plot._fullLayout.scene; return [s.xaxis, s.yaxis].map((a) => a.title.text)"
    scene = page.run(f"const plot = document.getElementById('plot'); {titles}")
    assert scene == [axis.label for axis in result.axes]


@pytest.mark.long
def test_toggles_change_the_picture_and_keep_the_camera(page: Browser, result: landscape.Landscape) -> None:
    eye = "document.getElementById('plot')._fullLayout.scene._scene.getCamera().eye"

    def camera() -> Any:
        return page.run(f"return {eye}")

    before = camera()
    x, y = page.run("const b = plot.getBoundingClientRect(); return [b.left + b.width / 2, b.top + b.height / 2]")
    page.drag((x, y), (x + 90, y + 40))
    page.wait(f"Math.abs({eye}.x - {before['x']}) > 0.1")
    turned = camera()

    def pressed() -> list[str]:
        return page.run("return [...document.querySelectorAll('[aria-pressed=true]')].map((b) => b.id)")

    page.click("log")
    assert pressed() == ["surface", "log"]
    logs = np.array(trace(page, 0)["z"], float)
    np.testing.assert_allclose(logs[1:], np.log10(result.losses[1:]), rtol=1e-5)
    assert camera() == pytest.approx(turned, abs=1e-6)
    page.click("log")
    assert pressed() == ["surface"]
    assert camera() == pytest.approx(turned, abs=1e-6)
    page.click("contour")
    assert pressed() == ["contour"]
    flat = trace(page, 0)
    assert flat["type"] == "contour"
    np.testing.assert_allclose(np.array(flat["z"], float)[1:], result.losses[1:], rtol=1e-5)
    np.testing.assert_allclose(
        np.stack([trace(page, 2)[k] for k in "xy"], axis=1), result.paths[0].coordinates, rtol=1e-5
    )
    page.click("log")
    np.testing.assert_allclose(np.array(trace(page, 0)["z"], float)[1:], np.log10(result.losses[1:]), rtol=1e-5)
    page.click("surface")
    assert trace(page, 0)["type"] == "surface"
    assert camera() == pytest.approx(turned, abs=1e-6)


def test_the_slider_and_the_player_go_along_the_paths(page: Browser) -> None:
    slide(page, 24)  # half of 48
    page.wait("document.getElementById('plot')._fullData[2].x.length === 3")
    assert page.run("return document.getElementById('now').value") == "epoch 1.00"
    assert [len(trace(page, i)["x"]) for i in (1, 2, 3, 4, 5, 6)] == [25, 3, 1, 25, 3, 1]
    slide(page, 0)
    page.wait("document.getElementById('plot')._fullData[2].x.length === 1")
    page.click("play")
    assert page.run("return document.getElementById('play').getAttribute('aria-label')") == "Pause"
    page.wait("document.getElementById('plot')._fullData[2].x.length > 2")
    page.wait("document.getElementById('play').getAttribute('aria-label') === 'Play'")  # it stops at the end
    assert len(trace(page, 2)["x"]) == 5
    page.click("contour")
    slide(page, 12)
    page.wait("document.getElementById('plot')._fullData[2].x.length === 2")


def test_values_are_shown_under_the_pointer(opened: Browser) -> None:
    page = restored(opened, "contour")
    place = """
    const { xaxis, yaxis } = document.getElementById("plot")._fullLayout;
    const box = document.getElementById("plot").getBoundingClientRect();
    return [box.left + xaxis._offset + xaxis.d2p(arguments[0]), box.top + yaxis._offset + yaxis.d2p(arguments[1])];
    """
    words = "[...document.querySelectorAll('.hoverlayer text')].map((t) => t.textContent).join(' ')"
    page.point(*page.run(place, -0.5, 0.5))
    page.wait(f"{words}.includes('loss {0.01 + 0.5**2 + 5 * 0.5**2:.4g}')")
    assert "t = -0.5, s = 0.5" in page.run(f"return {words}")
    page.point(*page.run(place, 0.9, 0.3))  # on a path
    page.wait(f"{words}.includes('one')")
    assert f"epoch 1loss {0.01 + 0.9**2 + 5 * 0.3**2:.4g}0.5 from the plane" in page.run(f"return {words}")


def test_nothing_leaves_the_machine_and_nothing_complains(page: Browser) -> None:
    """Whatever was done to the page so far."""
    for button in ("log", "play", "play"):
        page.click(button)
    assert page.requests() == [page.driver.current_url]
    assert page.errors() == []
    titles = page.run("return [...document.querySelectorAll('#plot .modebar-btn')].map((b) => b.dataset.title)")
    assert titles == ["Download plot as a PNG", "Reset camera to default"]  # none that sends the chart somewhere
    # And could not if it wished: the page's own policy stands in between.
    page.run("fetch('http://127.0.0.1:9/').catch(() => { document.body.dataset.refused = 'yes'; })")
    page.wait("document.body.dataset.refused")
    assert page.requests() == []
    assert any("Content Security Policy" in message for message in page.errors())


@pytest.mark.long
def test_it_fits_a_phone(browser: Browser, result: landscape.Landscape, tmp_path: Path) -> None:
    path = landscape.view(result, tmp_path / "page.html", show=False)
    metrics = {"width": 390, "height": 780, "deviceScaleFactor": 1, "mobile": True}
    browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        browser.open(path)
        browser.wait("document.body.dataset.drawn")
        assert browser.run("return document.documentElement.scrollWidth") <= 390
        box = browser.run("return document.getElementById('plot').getBoundingClientRect().toJSON()")
        assert box["width"] <= 390
        assert box["height"] > 400
    finally:
        browser.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.long
def test_lines_and_optimisers_have_pages_too(browser: Browser, tmp_path: Path) -> None:
    axes = (landscape.Axis("t", np.array([-1.0, 0, 1]), "random direction"),)
    browser.open(landscape.view(landscape.Landscape(np.array([3.0, 1, 2]), axes), tmp_path / "line.html", show=False))
    browser.wait("document.body.dataset.drawn")
    curve = trace(browser, 0)
    assert (curve["type"], curve["x"], curve["y"]) == ("scatter", [-1, 0, 1], [3, 1, 2])
    hidden = "return ['views', 'player'].map((id) => document.getElementById(id).hidden)"
    assert browser.run(hidden) == [True, True]
    result = fnn.compare_optimizers("saddle", steps=30)
    browser.open(landscape.view(result, tmp_path / "saddle.html", show=False))
    browser.wait("document.body.dataset.drawn")
    assert browser.run("return document.getElementById('log').hidden")  # losses are negative there
    names = browser.run(
        "return document.getElementById('plot')._fullData.filter((t) => t.showlegend).map((t) => t.name)"
    )
    assert names[0] == "SGD, lr 0.15"
    assert [name.split(",")[0] for name in names] == [path.name for path in result.paths]
    assert browser.run("return document.getElementById('now').value") == "step 23"  # where all paths are seen
    assert trace(browser, 0)["type"] == "contour"
    ends = browser.run("return document.getElementById('losses')._fullData.map((t) => [t.name, t.y.length])")
    assert ends == [[f"{path.name}: {path.losses[-1]:.4g}", 31] for path in result.paths]
    slide(browser, 60)  # a dozen places a step
    browser.wait("document.getElementById('losses')._fullLayout.shapes[0].x0 === 5")
    slide(browser, 24)
    browser.wait("document.getElementById('now').value === 'step 2'")
    assert browser.errors() == []


def test_without_webgl_the_page_opens_with_the_contour(
    browser: Browser, result: landscape.Landscape, tmp_path: Path
) -> None:
    without = "HTMLCanvasElement.prototype.getContext = ((own) => function (kind, ...rest) {"
    without += "return kind.includes('webgl') ? null : own.call(this, kind, ...rest); })"
    without += "(HTMLCanvasElement.prototype.getContext);"
    added = browser.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": without})
    try:
        browser.open(landscape.view(result, tmp_path / "page.html", show=False))
        browser.wait("document.body.dataset.drawn")
        assert trace(browser, 0)["type"] == "contour"
        assert browser.run("const b = document.getElementById('surface'); return [b.disabled, b.title]") == [
            True,
            "3-D needs WebGL, which this browser does not have",
        ]
    finally:
        browser.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)
