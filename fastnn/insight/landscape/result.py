"""What was measured: losses on a grid, the grid's directions, and the paths on it; saved and read back as one file."""

from __future__ import annotations

import contextlib
import html
import io
import json
import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastnn import checks, formats
from fastnn.checks import plain
from fastnn.console import shown
from fastnn.errors import DataError, MissingExtraError, unreadable
from fastnn.files import write_atomically
from fastnn.tables import html_text, image_tag

__all__ = ["Axis", "Landscape", "Trajectory", "load"]

FORMAT = 1  # of the file
MOST_DRAWN = 900  # points of a path's line, unless it has more itself
_WORDS = ("centre", "title", "about", "time", "lowest", "log")  # of a Landscape, in every file
_LATER_WORDS = ("contours", "moment")  # not in those of version 0.2 and before
LOG_RATIO = 50.0  # between the highest and the lowest loss, from which on pictures have a log scale


@dataclass(frozen=True, eq=False)
class Axis:
    """One direction d of a landscape.

    Attributes:
        symbol: of the coordinate: t and s, as in the formula; x and y on surfaces that are no model's.
        values: (n,) float64, the multiples of d at which the loss was measured.
        name: what kind of direction it is; empty for a coordinate that is its own.
        explained: share of the paths' variance that lies along it, 0 .. 1; None unless it is a principal component.
    """

    symbol: str
    values: np.ndarray
    name: str = ""
    explained: float | None = None

    @property
    def label(self) -> str:
        """What a picture writes at it."""
        share = "" if self.explained is None else f" ({100 * self.explained:.1f} % of variance)"
        return f"{self.symbol} · {self.name}{share}" if self.name else self.symbol


@dataclass(frozen=True, eq=False)
class Trajectory:
    """A path, seen from a line or plane.

    Attributes:
        name: of the run or the optimiser.
        times: (n,) float64: epochs since the start, or steps.
        coordinates: (n, 1) or (n, 2) float64: (t, s) of the nearest point of the line or plane.
        losses: (n,) float64: at the path's own points, which need not lie in the plane.
        distances: (n,) float64: Euclidean, from the plane.
        explained: share of the path's variance along each axis, where these are its principal components; else None.
        lr: the optimiser's learning rate at the start; None if it is not known.
    """

    name: str
    times: np.ndarray
    coordinates: np.ndarray
    losses: np.ndarray
    distances: np.ndarray
    explained: tuple[float, ...] | None = None
    lr: float | None = None

    @property
    def label(self) -> str:
        """The name, with the learning rate unless the name says it.

        >>> one = np.zeros(1)
        >>> Trajectory("SGD", one, one[:, None], one, one, lr=0.1).label
        'SGD, lr 0.1'
        """
        return self.name if self.lr is None or f"{self.lr:.3g}" in self.name else f"{self.name}, lr {self.lr:.3g}"

    def drawn(self) -> tuple[np.ndarray, np.ndarray]:
        """Times and places of a line through the points that bends with the surface: up to a dozen on each piece."""
        n = len(self.times)
        pieces = min(12, max(1, MOST_DRAWN // max(n - 1, 1)))
        steps = np.linspace(0, n - 1, 1 + (n - 1) * pieces)
        times, *places = (np.interp(steps, np.arange(n), a) for a in (self.times, *self.coordinates.T))
        return times, np.stack(places, axis=1)

    def __repr__(self) -> str:
        first, last = self.losses[0], self.losses[-1]
        return f"Trajectory({shown(self.label)}: {len(self.times)} points, loss {first:.4g} to {last:.4g})"


@dataclass(frozen=True, eq=False)
class Landscape:
    """Losses along a line or over a plane.

    Attributes:
        losses: (n,) float64 along a line; (m, n) over a plane, row i at s = axes[1].values[i], column j at
            t = axes[0].values[j]. Infinite or NaN where the loss is.
        accuracies: likewise, shares; None where there are no classes.
        axes: the directions, one for a line, two for a plane.
        centre: the loss at w*; None on a surface that is no model's.
        paths: trajectories on it.
        title: what it is the landscape of.
        about: what it was made from, in words: data, images, batch norm.
        time: what the paths count: "epoch" or "step".
        lowest: the least loss that a log scale tells from less; None for the least above 0.
        log: whether pictures begin with the log scale; None where the largest loss is 50 times the smallest.
        contours: whether the page opens with the contours instead of the surface.
        moment: the time up to which the paths are drawn, until the page's slider is moved; None for all of them.
    """

    losses: np.ndarray
    axes: tuple[Axis, ...]
    accuracies: np.ndarray | None = None
    centre: float | None = None
    paths: tuple[Trajectory, ...] = ()
    title: str = "Loss landscape"
    about: dict[str, Any] = field(default_factory=dict)
    time: str = "epoch"
    lowest: float | None = None
    log: bool | None = None
    contours: bool = False
    moment: float | None = None

    @property
    def explained(self) -> tuple[float, ...] | None:
        """Share of the paths' variance along each axis; None unless they are principal components."""
        shares = tuple(axis.explained for axis in self.axes if axis.explained is not None)
        return shares if len(shares) == len(self.axes) else None

    @property
    def caveat(self) -> str:
        """What a picture of paths that leave the line or plane must say; empty if they do not."""
        if not any(path.distances.any() for path in self.paths):
            return ""
        what = "line" if len(self.axes) == 1 else "plane"
        paths = "The paths"
        if self.explained is not None:
            paths = f"The {what} holds {100 * sum(self.explained):.1f} % of the paths’ variance: they"
        return (
            f"{paths} are projected onto the {what}, whose heights are not their losses; those are drawn by {self.time}"
        )

    @property
    def floor(self) -> float | None:
        """What the log scale shows in place of smaller losses, such as 0; None where some are negative."""
        finite = self.losses[np.isfinite(self.losses)]
        positive = finite[finite > 0]
        if not positive.size or finite.min() < 0:
            return None
        return max(float(positive.min()), 1e-9 * float(positive.max()), self.lowest or 0.0)

    @property
    def wants_log(self) -> bool:
        """Whether pictures begin with the log scale."""
        floor = self.floor
        if self.log is not None:
            return self.log and floor is not None
        return floor is not None and bool(self.losses[np.isfinite(self.losses)].max() > LOG_RATIO * floor)

    @property
    def open_corner(self) -> tuple[int, int]:
        """Signs of t and s at the lowest corner of a plane, from which a picture's reader sees most."""
        heights = self.scaled(self.wants_log)
        rows, columns = (max(1, n // 3) for n in heights.shape)
        corners = {
            (t, s): heights[
                slice(-rows, None) if s > 0 else slice(rows), slice(-columns, None) if t > 0 else slice(columns)
            ]
            for t, s in ((1, -1), (1, 1), (-1, -1), (-1, 1))
        }
        means = {signs: part[np.isfinite(part)].mean() for signs, part in corners.items() if np.isfinite(part).any()}
        return min(means, key=lambda signs: round(float(means[signs]), 6), default=(1, -1))

    def scaled(self, log: bool) -> np.ndarray:
        """The losses, or their log10 (of those below `floor`, that of `floor`)."""
        floor = self.floor
        return np.log10(np.maximum(self.losses, floor)) if log and floor is not None else self.losses

    def heights(self, places: np.ndarray, *, log: bool = False) -> np.ndarray:
        """How high the picture is at places (n, 1) or (n, 2): `scaled`, straight between the points of the grid.

        NaN outside the grid.

        >>> axes = Axis("x", np.array([0.0, 1.0])), Axis("y", np.array([0.0, 1.0]))
        >>> Landscape(np.array([[0.0, 1.0], [2.0, 3.0]]), axes).heights(np.array([[0.5, 0.5], [0.5, 2.0]]))
        array([1.5, nan])
        """
        values = self.scaled(log)
        inside = np.ones(len(places), bool)
        cells, shares = [], []
        for axis, place in zip(self.axes, places.T, strict=True):
            grid = axis.values
            inside &= (place >= grid[0]) & (place <= grid[-1])
            cell = np.clip(np.searchsorted(grid, place, side="right") - 1, 0, len(grid) - 2)
            cells.append(cell)
            shares.append((place - grid[cell]) / (grid[cell + 1] - grid[cell]))
        heights = np.zeros(len(places))
        with np.errstate(invalid="ignore"):  # infinite losses
            for corner in np.ndindex(*(2,) * len(cells)):
                weight = np.ones(len(places))
                for far, share in zip(corner, shares, strict=True):
                    weight = weight * (share if far else 1 - share)
                index = tuple(cell + far for cell, far in zip(reversed(cells), reversed(corner), strict=True))
                heights += weight * values[index]
        return np.where(inside, heights, np.nan)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to one .npz file, which `load` reads back; numbers keep their bits. Raises OSError."""
        arrays = {"losses": self.losses}
        if self.accuracies is not None:
            arrays["accuracies"] = self.accuracies
        for i, axis in enumerate(self.axes):
            arrays[f"axis{i}"] = axis.values
        for i, trajectory in enumerate(self.paths):
            for name in ("times", "coordinates", "losses", "distances"):
                arrays[f"path{i}_{name}"] = getattr(trajectory, name)
        words = {
            "format": FORMAT,
            "axes": [{"symbol": axis.symbol, "name": axis.name, "explained": axis.explained} for axis in self.axes],
            "paths": [{"name": path.name, "explained": path.explained, "lr": path.lr} for path in self.paths],
            **{name: getattr(self, name) for name in (*_WORDS, *_LATER_WORDS)},
        }
        stream = io.BytesIO()
        np.savez_compressed(stream, words=np.array(json.dumps(plain(words))), **arrays)  # type: ignore[arg-type]
        write_atomically(path, stream.getvalue())

    def __repr__(self) -> str:
        size = "×".join(map(str, reversed(self.losses.shape)))
        around = "" if self.centre is None else f", {self.centre:.4g} at the centre"
        finite = self.losses[np.isfinite(self.losses)]
        span = f"{finite.min():.4g} to {finite.max():.4g}" if finite.size else "nowhere finite"
        words = [f"{shown(self.title)}: {size} points, loss {span}{around}"]
        words += [f"  {axis.label}" for axis in self.axes]
        words += [f"  {path!r}" for path in self.paths]
        return "\n".join(words)

    def _repr_html_(self) -> str:
        """The interactive page; without plotly the picture, and without Matplotlib the text."""
        with contextlib.suppress(MissingExtraError):
            from fastnn.insight.viewer import page

            frame = 'width="100%" height="640" style="border:0" sandbox="allow-scripts allow-downloads"'
            return f'<iframe srcdoc="{html.escape(page(self))}" {frame}></iframe>'
        with contextlib.suppress(MissingExtraError):
            from fastnn.insight import plots

            from .picture import picture

            return image_tag(plots.encoded(picture(self), "png"))
        return html_text(repr(self))


def load(path: str | os.PathLike[str]) -> Landscape:
    """The `Landscape` in a file that `Landscape.save` wrote. Raises DataError for any other file, or none."""
    checks.path("landscape.load", path)
    try:
        arrays = formats.read_npz(path)
        words = formats.parse_json(str(arrays["words"][()]), finite=False)
        formats.check_format(words["format"], FORMAT)
        axes = tuple(Axis(values=arrays[f"axis{i}"], **axis) for i, axis in enumerate(words["axes"]))
        paths = []
        for i, entry in enumerate(words["paths"]):
            parts = {name: arrays[f"path{i}_{name}"] for name in ("times", "coordinates", "losses", "distances")}
            explained = None if entry["explained"] is None else tuple(entry["explained"])
            paths.append(Trajectory(name=entry["name"], explained=explained, lr=entry.get("lr"), **parts))
        result = Landscape(
            losses=arrays["losses"],
            axes=axes,
            accuracies=arrays.get("accuracies"),
            paths=tuple(paths),
            **{name: words[name] for name in _WORDS},
            **{name: words[name] for name in _LATER_WORDS if name in words},
        )
        _check(result)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"expected a landscape that was saved, got {os.fspath(path)} ({unreadable(error)})") from error
    return result


def _check(result: Landscape) -> None:
    """ValueError where the parts of a landscape do not fit together."""
    shape = tuple(len(axis.values) for axis in reversed(result.axes))
    arrays = [(axis.values, axis.values.shape[:1]) for axis in result.axes]
    arrays += [(values, shape) for values in (result.losses, result.accuracies) if values is not None]
    for path in result.paths:
        count = len(path.times)
        arrays += [(values, (count,)) for values in (path.times, path.losses, path.distances)]
        arrays.append((path.coordinates, (count, len(shape))))
    words = [result.title, result.time, *(axis.symbol + axis.name for axis in result.axes)]
    words += [path.name for path in result.paths]
    numbers = [result.centre, result.lowest, result.moment, *(axis.explained for axis in result.axes)]
    numbers += [number for path in result.paths for number in (path.lr, *(path.explained or ()))]
    if (
        len(shape) not in (1, 2)
        or not all(values.dtype.kind == "f" and values.shape == wanted for values, wanted in arrays)
        or not all(isinstance(word, str) for word in words)
        or not all(number is None or isinstance(number, (int, float)) for number in numbers)
        or not isinstance(result.about, dict)
        or not all(flag is None or isinstance(flag, (bool, np.bool_)) for flag in (result.log, result.contours))
    ):
        raise ValueError("its parts do not fit together")
