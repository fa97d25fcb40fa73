"""What all pictures share: figures without global state, one style, grids of images, files."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import cache
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.console import notebook, shown
from fastnn.errors import ArgumentError, BackendError, MissingExtraError, needs
from fastnn.files import write_atomically
from fastnn.insight import fonts
from fastnn.tables import html_text, image_tag
from fastnn.tape import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

__all__ = [
    "BLUE",
    "GRAY",
    "GREEN",
    "ORANGE",
    "PATHS",
    "RED",
    "SURFACE",
    "by_depth",
    "check_format",
    "decades",
    "encoded",
    "figure",
    "heading",
    "html",
    "label",
    "percent",
    "picture",
    "save",
    "scaled",
    "styled",
    "tiles",
]

# Okabe and Ito's colours, which the colour-blind tell apart.
BLUE, ORANGE, GREEN, RED, GRAY = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#7f7f7f"
# Paths on a landscape, whose surface has no hue of its own and is lighter than every path: low losses are darkest.
PATHS = (RED, "#000000", "#cc79a7", ORANGE, BLUE, GREEN, "#56b4e9")
SURFACE = ((0, "#c2c8ce"), (0.15, "#cdd2d7"), (0.4, "#dce0e3"), (0.7, "#ebedef"), (1, "#f9f9fa"))
SMALLEST = 1e-9  # of the largest value: less is below such an axis
DECADES = 30.0  # between the largest and the smallest value, from which on an axis is logarithmic

FORMATS = ("png", "pdf", "svg", "jpg")


def figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches, off Matplotlib's list of open ones: nothing needs to be closed, or a screen.

    A notebook shows it as it is; it has ``.save(path)`` (see `save`) and ``.show()``, which opens a window.

    Raises MissingExtraError where Matplotlib is not installed.
    """
    with needs("Matplotlib", "plot"):
        from matplotlib.figure import Figure

    drawing: Figure = _shown_by_notebooks(Figure)(figsize=(width, height), layout="constrained", dpi=110)
    return drawing


@cache
def _shown_by_notebooks(figure: Any) -> Any:
    """A subclass of Matplotlib's Figure."""

    class Picture(figure):  # type: ignore[misc]
        """A figure that notebooks show without any set-up, once."""

        def draw(self, renderer: Any) -> None:
            """Draws as any figure does, but each text in fonts that have its characters."""
            with fonts.completed(self):
                super().draw(renderer)

        def _repr_png_(self) -> bytes:
            return encoded(self, "png")

        def save(self, path: str | os.PathLike[str], **options: Any) -> None:
            """Writes the figure; see `fastnn.insight.plots.save`."""
            save(self, path, **options)

        def show(self, warn: bool = True) -> None:
            """Shows the figure below a notebook's cell, or in a window, and waits until that is closed.

            Raises BackendError where no window can be opened.
            """
            if notebook() is not None:
                from IPython.display import display

                display(self)
                return
            from matplotlib import pyplot

            options: Any = {"FigureClass": lambda **_: self}  # any callable that gives a figure
            pyplot.figure(**options)
            try:
                if self.canvas.required_interactive_framework is None:
                    raise BackendError(
                        f"show: Matplotlib can open no window here (its backend is {pyplot.get_backend()}): "
                        'write a file, .save("picture.png")'
                    )
                pyplot.show(block=True)
            finally:
                pyplot.close(self)

    return Picture


def styled(axes: Axes, title: str = "", x: str = "", y: str = "") -> Axes:
    """Curves and bars: two spines, a faint grid behind, the title on the left."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_title(label(title), loc="left", fontsize=11)
    axes.set(xlabel=x, ylabel=y)
    axes.tick_params(which="both", labelsize=9)
    return axes


def decades(values: Iterable[Any]) -> tuple[float, float] | None:
    """What a logarithmic axis shows of arrays of any length; None where a plain axis does.

    That is where some are negative, or none is many times another. What is not finite, or 0, counts for nothing.

    >>> decades([[0.1, 5.0], [0.0]]), decades([[1.0, 2.0]])
    ((0.1, 5.0), None)
    """
    found = np.concatenate([np.ravel(np.asarray(each, np.float64)) for each in values] or [np.zeros(0)])
    found = found[np.isfinite(found) & (found != 0)]
    if not found.size or found.min() < 0 or found.max() < DECADES * found.min():
        return None
    return max(float(found.min()), SMALLEST * float(found.max())), float(found.max())


def scaled(axes: Axes, values: Iterable[Any], which: str = "y") -> None:
    """Makes an axis logarithmic where the `decades` of the values call for it."""
    shown = decades(values)
    if shown is not None:
        axes.set(**{f"{which}scale": "log", f"{which}lim": (shown[0] / 1.5, shown[1] * 1.5)})


def percent(axis: Axis) -> None:
    """Shares from 0 to 1 as the terminal has them, in percent."""
    from matplotlib.ticker import PercentFormatter

    axis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))


def label(text: Any) -> str:
    r"""A name as Matplotlib shows it: no formula between dollars, and nothing that it cannot draw.

    >>> print(label("5$ or 10$\x1b"))
    5\$ or 10\$\x1b
    """
    return shown(text).replace("$", r"\$")


def heading(drawing: Figure, text: str) -> None:
    """What the whole figure shows, in as many lines as its width asks for."""
    drawing.suptitle(
        fill(label(text), max(16, int(10.4 * drawing.get_figwidth()))),
        x=0.01,
        ha="left",
        fontsize=11,
        fontweight="bold",
    )


def picture(axes: Axes, image: Array, *, limit: float | None = None, title: str = "") -> Any:
    """One image (C, H, W): three channels in colour, otherwise the mean of the channels in gray; a title of lines.

    With `limit`, signed numbers from -limit (blue) over 0 (white) to limit (red); of three channels from dark over gray
    to bright in each colour.
    """
    if len(image) == 3:
        colours = image if limit is None else 0.5 + image / (2 * limit)
        shown = axes.imshow(np.clip(np.moveaxis(colours, 0, -1), 0, 1), interpolation="nearest")
    elif limit is None:
        shown = axes.imshow(image.mean(axis=0), cmap="gray", interpolation="nearest")  # from its least to its largest
    else:
        shown = axes.imshow(image.mean(axis=0), cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    if title:
        axes.set_title("\n".join(map(label, title.split("\n"))), fontsize=9, pad=3)
    return shown


def tiles(
    images: Array, *, titles: Sequence[str] = (), columns: int | None = None, signed: str = "", size: float = 1.1
) -> Figure:
    """Images (n, C, H, W) in a grid, `size` inches each; `signed` ones, which it says the name of, on one scale, with
    its bar unless in colour."""
    count, channels = images.shape[:2]
    columns = min(count, columns or max(5, round(count**0.5 * 1.4)))
    rows = -(-count // columns)
    lines = max((title.count("\n") + 1 for title in titles), default=0)
    height = size * images.shape[2] / images.shape[3] + 0.1 + 0.17 * lines
    with_bar = bool(signed) and channels != 3
    drawing = figure(columns * size + 1.1 * with_bar + 0.2, rows * height + 0.5)
    limit = None
    if signed:
        limit = float(np.abs(images if channels == 3 else images.mean(axis=1)).max()) or 1.0  # 0 alone: white
    grid = drawing.subplots(rows, columns, squeeze=False)
    for i, axes in enumerate(grid.flat):
        if i < count:
            shown = picture(axes, images[i], limit=limit, title=titles[i] if titles else "")
        else:
            axes.set_visible(False)
    if with_bar:
        bar = drawing.colorbar(shown, ax=grid, shrink=min(1.0, 2.2 / (rows * height)), aspect=15)
        bar.set_label(signed)
        bar.ax.tick_params(labelsize=9)
    return drawing


def check_format(path: str | os.PathLike[str], what: str = "save") -> str:
    """Matplotlib's name of the format that a file's name ends in. Raises ArgumentError for one that it cannot write."""
    ending = os.path.splitext(path)[1].lower().removeprefix(".")
    if ending not in FORMATS:
        raise ArgumentError(
            f"{what}: expected a file name that ends in .{', .'.join(FORMATS)}, got {os.fspath(path)!r}"
        )
    return ending


def save(drawing: Figure, path: str | os.PathLike[str], **options: Any) -> None:
    """Write a figure in the format that the file's name ends in (png, pdf, svg, jpg), whole or not at all.

    `options` are those of Matplotlib's `savefig`. Raises ArgumentError for another ending.
    """
    write_atomically(path, encoded(drawing, check_format(path), **options))


def encoded(drawing: Figure, kind: str, **options: Any) -> bytes:
    """The bytes of such a file."""
    stream = io.BytesIO()
    drawing.savefig(stream, format=kind, **options)
    return stream.getvalue()


def html(words: str, plot: Callable[[], Figure]) -> str:
    """What a notebook shows of a result: the words, and the picture where Matplotlib is installed."""
    with suppress(MissingExtraError):
        return html_text(words) + image_tag(encoded(plot(), "png"))
    return html_text(words)


def by_depth(count: int) -> list[Any]:
    """Colours of `count` layers, dark at the input and light at the output."""
    from matplotlib import colormaps

    return [colormaps["viridis"](0.9 * i / max(1, count - 1)) for i in range(count)]
