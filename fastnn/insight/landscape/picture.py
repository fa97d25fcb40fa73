"""A landscape as a still picture."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from fastnn.insight import plots

from .result import Landscape

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["picture"]

# As in the viewer's page: a pale surface, dark in its valleys, and strong colours for the paths.
SCALE = ((0, "#4a7fb5"), (0.15, "#7fb0d3"), (0.35, "#b5d8dc"), (0.6, "#e4efcf"), (0.8, "#fbe9b0"), (1, "#f7c78a"))
COLORS = ("#d1242f", "#1b1b1b", "#8338ec", "#fb8500", "#0077b6", "#2b9348", "#e0409a", "#7f5539")
LEVELS = 24


def picture(result: Landscape, path: str | os.PathLike[str] | None = None, *, log: bool | None = None) -> Figure:
    """The surface and its contours with the paths, or a line's curve, as a Matplotlib figure; no display is needed.

    Args:
        path: where to write it as well: .png, .pdf, .svg or .jpg.
        log: whether losses have a log scale; by default where the largest is more than 50 times the smallest.

    Raises MissingExtraError without Matplotlib (``pip install "fastnn-cpu[plot]"``), OSError where the file cannot be
    written.

    >>> import numpy as np, fastnn as fnn
    >>> result = fnn.compare_optimizers("ravine", steps=20)
    >>> len(fnn.landscape.picture(result).axes)  # the surface, the contours and their scale
    3
    """
    log = result.wants_log if log is None else log and result.floor is not None
    drawn = (_curve if len(result.axes) == 1 else _surface)(result, log)
    if path is not None:
        plots.save(drawn, path, dpi=150)
    return drawn


def _curve(result: Landscape, log: bool) -> Figure:
    drawn = plots.figure(7, 4.5)
    axes = drawn.subplots()
    axes.plot(result.axes[0].values, result.losses, color="#2a5d9f", marker=".")
    for path, color in zip(result.paths, COLORS * len(result.paths), strict=False):
        heights = result.heights(path.coordinates, log=log)  # of the curve below it, as in the page
        heights = 10**heights if log else heights
        axes.plot(path.coordinates[:, 0], heights, color=color, marker="o", markersize=3, label=plots.label(path.name))
    axes.set(
        xlabel=plots.label(result.axes[0].label),
        ylabel="loss",
        title=plots.label(result.title),
        yscale="log" if log else "linear",
    )
    axes.grid(alpha=0.3)
    if result.paths:
        axes.legend(frameon=False)
    return drawn


def _surface(result: Landscape, log: bool) -> Figure:
    drawn = plots.figure(13, 5.6)
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.ticker import FuncFormatter

    heights = np.ma.masked_invalid(result.scaled(log))
    colors = LinearSegmentedColormap.from_list("landscape", SCALE)
    corner = result.open_corner
    t, s = np.meshgrid(*(axis.values for axis in result.axes))
    drawn.suptitle(plots.label(result.title))
    solid = drawn.add_subplot(1, 2, 1, projection="3d")
    solid.computed_zorder = False  # so that paths lie on the surface and not within
    solid.plot_surface(t, s, heights, cmap=colors, rstride=1, cstride=1, linewidth=0.2, edgecolor=(0.1, 0.15, 0.2, 0.2))
    solid.view_init(elev=42, azim=np.degrees(np.arctan2(1.07 * corner[1], 0.98 * corner[0])))
    solid.set_box_aspect((1, 1, 0.5))
    axes = drawn.add_subplot(1, 2, 2)
    drawn.set_layout_engine("constrained", wspace=0.08)
    filled = axes.contourf(t, s, heights, levels=LEVELS, cmap=colors)
    axes.contour(t, s, heights, levels=LEVELS, colors=[(0.1, 0.15, 0.2, 0.35)], linewidths=0.5, linestyles="solid")
    numbers = FuncFormatter(lambda at, _: _number(at, log))
    ticks = np.arange(np.ceil(heights.min()), heights.max() + 1e-9) if log else None
    if ticks is not None and len(ticks) < 4:
        ticks = np.concatenate([ticks - np.log10(10 / 3), ticks, ticks + np.log10(3)])
    drawn.colorbar(filled, ax=axes, label="loss", format=numbers, ticks=ticks)
    for path, color in zip(result.paths, COLORS * len(result.paths), strict=False):
        marker = "o" if len(path.times) <= 60 else None
        axes.plot(
            *path.coordinates.T, color=color, marker=marker, markersize=3, linewidth=1.5, label=plots.label(path.name)
        )
        places = path.drawn()[1]
        solid.plot(*places.T, result.heights(places, log=log), color=color, linewidth=1.5, zorder=5)
        axes.plot(*path.coordinates[-1], color=color, marker="o", markersize=8, markeredgecolor="white")
    axes.set(xlim=(t.min(), t.max()), ylim=(s.min(), s.max()))
    if result.paths:
        axes.legend(loc="upper left", bbox_to_anchor=(0, -0.12), ncols=4, frameon=False)
    for one in (solid, axes):
        one.set(xlabel=plots.label(result.axes[0].label), ylabel=plots.label(result.axes[1].label))
    if ticks is not None:
        solid.set_zticks(ticks)
        solid.set_zlim(heights.min(), heights.max())
    solid.zaxis.set_major_formatter(numbers)
    return drawn


def _number(height: float, log: bool) -> str:
    value = 10**height if log else height
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
