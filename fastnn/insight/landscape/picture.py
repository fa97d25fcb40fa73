"""A landscape as a still picture."""

from __future__ import annotations

import os
from collections.abc import Iterator
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.insight import plots

from .result import Landscape, Trajectory

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["picture"]

LEVELS = 24
MESH = 50  # cells of the drawn surface along a side, about


def picture(result: Landscape, path: str | os.PathLike[str] | None = None, *, log: bool | None = None) -> Figure:
    """The surface and its contours, or a line's curve, as a Matplotlib figure; no display is needed.

    Paths are drawn up to ``result.moment``; beside them are their losses from first to last, and their last ones.

    Args:
        path: where to write it as well: .png, .pdf, .svg or .jpg.
        log: whether losses have a log scale; by default where the largest is more than 50 times the smallest.

    Raises MissingExtraError without Matplotlib (``pip install "fastnn-cpu[plot]"``), OSError where the file cannot be
    written.

    >>> import numpy as np, fastnn as fnn
    >>> result = fnn.compare_optimizers("ravine", steps=20)
    >>> len(fnn.landscape.picture(result).axes)  # the surface, the contours and their scale, the losses by step
    4
    """
    log = result.wants_log if log is None else log and result.floor is not None
    rows = 1 + bool(result.paths)
    drawn = plots.figure(7.5, 0.9 + 2.9 * rows)
    plots.heading(drawn, result.title + _until(result))
    upper, *lower = drawn.subfigures(rows, 1, squeeze=False)[:, 0]  # each laid out by itself
    if len(result.axes) == 1:
        _curve(result, log, upper.subplots())
    else:
        grid = upper.add_gridspec(1, 2, width_ratios=(1, 1.15))
        _surface(result, log, upper.add_subplot(grid[0], projection="3d"), upper.add_subplot(grid[1]))
    if lower:
        _losses(result, lower[0].subplots())
    if result.caveat:
        drawn.supxlabel(fill(plots.label(result.caveat), 95), x=0.01, ha="left", fontsize=9)
    if path is not None:
        plots.save(drawn, path, dpi=150)
    return drawn


def _until(result: Landscape) -> str:
    """What a title says of paths that are not drawn to their ends."""
    last = max((path.times[-1] for path in result.paths), default=0)
    if result.moment is None or result.moment >= last:
        return ""
    return f": the first {result.moment:g} of {last:g} {result.time}s"


def _paths(result: Landscape) -> Iterator[tuple[Trajectory, int, dict[str, Any]]]:
    """Each path, how many of its points are drawn, and its colour and kind of line."""
    for i, path in enumerate(result.paths):
        color = plots.PATHS[i % len(plots.PATHS)]
        count = len(path.times) if result.moment is None else max(1, int((path.times <= result.moment).sum()))
        yield path, count, {"color": color, "linestyle": "-" if i < len(plots.PATHS) else "--"}


def _curve(result: Landscape, log: bool, axes: Axes) -> None:
    plots.styled(axes, x=result.axes[0].label, y="loss")
    axes.plot(result.axes[0].values, result.losses, color=plots.GRAY, marker=".")
    for path, count, style in _paths(result):
        places = path.coordinates[:count]
        heights = result.heights(places, log=log)  # of the curve below it, as in the page
        axes.plot(places[:, 0], 10**heights if log else heights, **style, marker="o", markersize=3)
    axes.set_yscale("log" if log else "linear")


def _surface(result: Landscape, log: bool, solid: Any, axes: Axes) -> None:
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.ticker import FuncFormatter

    heights = np.ma.masked_invalid(result.scaled(log))
    colors = LinearSegmentedColormap.from_list("landscape", plots.SURFACE)
    corner = result.open_corner
    t, s = np.meshgrid(*(axis.values for axis in result.axes))
    solid.computed_zorder = False  # so that paths lie on the surface and not within
    rows, columns = (1 + n // MESH for n in heights.shape)
    solid.plot_surface(
        t, s, heights, cmap=colors, rstride=rows, cstride=columns, linewidth=0.2, edgecolor=(0.1, 0.15, 0.2, 0.2)
    )
    solid.set(xlabel=result.axes[0].symbol, ylabel=result.axes[1].symbol)  # there is no room for all of the label
    solid.view_init(elev=42, azim=np.degrees(np.arctan2(1.07 * corner[1], 0.98 * corner[0])))
    solid.set_box_aspect((1, 1, 0.5))
    filled = axes.contourf(t, s, heights, levels=LEVELS, cmap=colors)
    axes.contour(t, s, heights, levels=LEVELS, colors=[(0.1, 0.15, 0.2, 0.25)], linewidths=0.5, linestyles="solid")
    numbers = FuncFormatter(lambda at, _: _number(at, log))
    ticks = np.arange(np.ceil(heights.min()), heights.max() + 1e-9) if log else None
    if ticks is not None and len(ticks) < 4:
        ticks = np.concatenate([ticks - np.log10(10 / 3), ticks, ticks + np.log10(3)])
    axes.figure.colorbar(filled, ax=axes, label="loss", format=numbers, ticks=ticks)
    for path, count, style in _paths(result):
        marker = "o" if len(path.times) <= 60 else None
        axes.plot(*path.coordinates[:count].T, **style, marker=marker, markersize=2.5, linewidth=1.5, label=path.name)
        times, places = path.drawn()
        places = places[times <= path.times[count - 1]]
        solid.plot(*places.T, result.heights(places, log=log), **style, linewidth=1.5, zorder=5)
        axes.plot(*path.coordinates[count - 1], **style, marker="o", markersize=7, markeredgecolor="white")
    axes.set(xlim=(t.min(), t.max()), ylim=(s.min(), s.max()))
    axes.set(xlabel=plots.label(result.axes[0].label), ylabel=plots.label(result.axes[1].label))
    for one in (solid, axes):
        one.tick_params(labelsize=9)
    if ticks is not None:
        solid.set_zticks(ticks)
        solid.set_zlim(heights.min(), heights.max())
    solid.zaxis.set_major_formatter(numbers)


def _losses(result: Landscape, axes: Axes) -> None:
    """The paths' own losses by time; the legend has the last ones."""
    plots.styled(axes, f"loss by {result.time}", result.time)
    for path, _, style in _paths(result):
        name = plots.label(f"{path.label}: {path.losses[-1]:.3g}")
        marker = "o" if len(path.times) <= 60 else None
        axes.plot(path.times, path.losses, **style, marker=marker, markersize=2.5, linewidth=1.5, label=name)
    plots.scaled(axes, [path.losses for path in result.paths])
    if result.moment is not None:
        axes.axvline(result.moment, color="0.4", linewidth=1, linestyle=":")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1.1), frameon=False, title="loss at the end", alignment="left")


def _number(height: float, log: bool) -> str:
    value = 10**height if log else height
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
