"""The interactive page of a landscape: one HTML file that holds all it needs, plotly included, and asks for nothing.

page.html, page.css and page.js are put together with plotly's own script and the landscape's numbers. The page forbids
itself every request (its Content-Security-Policy), so that it shows the same with and without a network.
"""

from __future__ import annotations

import base64
import gzip
import html
import json
import math
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from fastnn.console import shown
from fastnn.errors import needs
from fastnn.insight import plots
from fastnn.insight.landscape.result import Landscape, Trajectory

__all__ = ["finite", "page", "script"]


def page(result: Landscape) -> str:
    """The whole page. Raises MissingExtraError without plotly."""
    parts = {name: (files(__package__) / f"page.{name}").read_text(encoding="utf-8") for name in ("html", "css", "js")}
    numbers = json.dumps(finite(numbers_of(result)), separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    filled = {
        "title": html.escape(shown(result.title)),
        "about": html.escape(shown(" · ".join(_about(result)))),
        "css": parts["css"],
        "js": parts["js"],
        "numbers": numbers,
        "plotly": script(),
    }
    head, *rest = parts["html"].split("{{")
    pieces = [head]
    for piece in rest:
        name, _, text = piece.partition("}}")
        pieces += [filled[name], text]
    return "".join(pieces)


def script() -> str:
    """Plotly's own, as gzip in Base64: a third of its 5 MB, which a notebook would hold for each landscape in it.

    Raises MissingExtraError without plotly.
    """
    with needs("plotly", "plot"):
        from plotly.offline import get_plotlyjs
    return _packed(str(get_plotlyjs()))


@cache
def _packed(text: str) -> str:
    return base64.b64encode(gzip.compress(text.encode(), 4, mtime=0)).decode()


def numbers_of(result: Landscape) -> dict[str, Any]:
    """What the page draws: grid, losses, paths with their height on the surface; and how it opens, in which colours."""
    floor = result.floor
    return {
        "title": shown(result.title),
        "time": result.time,
        "labels": [axis.label for axis in result.axes],
        "symbols": [axis.symbol for axis in result.axes],
        "grid": [axis.values for axis in result.axes],
        "losses": result.losses,
        "accuracies": result.accuracies,
        "centre": result.centre,
        "corner": result.open_corner if len(result.axes) == 2 else None,  # to look from
        "floor": floor,  # of the log scale; null where there is none
        "log": result.wants_log,  # to open with, and so are the next two
        "contours": result.contours,
        "moment": result.moment,
        "colors": plots.PATHS,
        "scale": plots.SURFACE,
        "curve": plots.GRAY,
        "decades": plots.decades(path.losses for path in result.paths),  # of the paths' losses by time
        "paths": [_path(result, path, floor) for path in result.paths],
    }


def _path(result: Landscape, path: Trajectory, floor: float | None) -> dict[str, Any]:
    """Its points, and the line through them, which follows the surface between two points that are far apart."""
    return {
        "name": shown(path.name),
        "label": shown(path.label),
        "points": {
            **_placed(result, path.times, path.coordinates, floor),
            "losses": path.losses,
            "distances": path.distances if path.distances.any() else None,
        },
        "line": _placed(result, *path.drawn(), floor),
    }


def _placed(result: Landscape, times: np.ndarray, places: np.ndarray, floor: float | None) -> dict[str, Any]:
    heights = {"height": result.heights(places)}
    if floor is not None:
        heights["log_height"] = result.heights(places, log=True)
    return {"times": times, "places": places.T, **heights}


def _about(result: Landscape) -> list[str]:
    words = []
    if result.centre is not None:
        words.append(f"loss {result.centre:.4g} at the centre")
    if "images" in result.about:
        words.append(f"{result.about['images']:,} images of {result.about['data']}")
    if result.about.get("batch_norm"):
        kept = result.about["batch_norm"] == "keep"
        words.append(f"batch norm with {'the model’s own' if kept else 'recomputed'} statistics")
    if "formula" in result.about:
        words.append(result.about["formula"])
    if result.caveat:
        words.append(result.caveat)
    return words


def finite(value: Any) -> Any:
    """Lists and numbers as JSON has them, to seven digits; None, JSON's null, for what is infinite or not a number.

    >>> finite({"losses": np.array([[1 / 3, np.inf]])})
    {'losses': [[0.3333333, None]]}
    """
    if isinstance(value, dict):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [finite(entry) for entry in value]
    if isinstance(value, (float, np.floating)):
        return float(f"{value:.7g}") if math.isfinite(value) else None
    return value
