"""Pages in a real browser: headless Chromium, driven by Selenium, which both may be absent.

Debian has it as ``chromium`` and ``chromium-driver``; Selenium comes from PyPI. Where one is missing, tests that ask
for the fixture ``browser`` are skipped with the reason, unless FASTNN_REQUIRE_BROWSER=1, which makes that a failure.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PATIENCE = 60.0  # seconds, on a busy machine that draws without a graphics card


class Browser:
    """A page under test: what it says to scripts, asks the network for, and complains of."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, address: str | Path, width: int = 800, height: int = 640) -> None:
        """A file or an address, in a window of that size; what earlier pages logged is forgotten."""
        self.driver.set_window_size(width, height)
        self.requests()
        self.errors()
        self.driver.get(address.resolve().as_uri() if isinstance(address, Path) else address)

    def run(self, script: str, *arguments: Any) -> Any:
        """What a function with this body returns."""
        return self.driver.execute_script(script, *arguments)

    def wait(self, condition: str) -> None:
        """Until a JavaScript expression is true; fails after a while."""
        limit = time.monotonic() + PATIENCE
        while not self.run(f"return Boolean({condition})"):
            assert time.monotonic() < limit, f"the page has not come to {condition}; it says {self.errors()}"
            time.sleep(0.05)

    def click(self, identity: str) -> None:
        """On the element with this id, as a pointer does."""
        self.driver.find_element("id", identity).click()

    def point(self, x: float, y: float) -> None:
        """Move the pointer to a place in the window, in pixels from its upper left."""
        for place in ((x - 3, y), (x, y)):
            self._mouse("mouseMoved", *place)

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """The pointer, with its button held, from one place in the window to another."""
        self.point(*start)
        self._mouse("mousePressed", *start, held=True)
        for share in (0.25, 0.5, 0.75, 1):
            place = (a + share * (b - a) for a, b in zip(start, end, strict=True))
            self._mouse("mouseMoved", *place, held=True)
            time.sleep(0.05)  # a page looks where the pointer is when it draws
        self._mouse("mouseReleased", *end)

    def _mouse(self, kind: str, x: float, y: float, held: bool = False) -> None:
        button = "none" if kind == "mouseMoved" and not held else "left"
        event = {"type": kind, "x": x, "y": y, "button": button, "buttons": int(held), "clickCount": 1}
        self.driver.execute_cdp_cmd("Input.dispatchMouseEvent", event)

    def requests(self) -> list[str]:
        """Addresses that were asked for since the last call; data: and blob: are none."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
        return [address for address in sent if not address.startswith(("data:", "blob:"))]

    def errors(self) -> list[str]:
        """What the page has written to the console as errors since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests of pages."""
    try:
        from selenium import webdriver
    except ImportError:
        absent("Selenium is not installed: pip install selenium")
    programs = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if None in programs:
        absent("there is no Chromium with its driver: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    for argument in (
        "--headless=new",
        "--no-sandbox",  # as root, in a container
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--use-angle=swiftshader",  # WebGL without a graphics card
        "--enable-unsafe-swiftshader",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(executable_path=programs[1])
    driver = webdriver.Chrome(options=options, service=service)
    driver.set_script_timeout(PATIENCE)
    yield Browser(driver)
    driver.quit()


def absent(reason: str) -> None:
    """Skip the test, or fail where a browser is required."""
    if os.environ.get("FASTNN_REQUIRE_BROWSER", "0") not in ("", "0"):
        pytest.fail(f"{reason} (FASTNN_REQUIRE_BROWSER is set)")
    pytest.skip(reason)
