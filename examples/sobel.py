"""Sobel's filters (1968): a convolution with fixed kernels finds the edges of an image, with nothing learned.

    python examples/sobel.py [--out FOLDER] [--full]

Layers do not compute true convolutions but correlations, out(x, y) = Σ K(i, j)·in(x + i, y + j): the kernels are not
turned over, as in scipy.ndimage.correlate, with which the result agrees.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from _shared import run, save

import fastnn as fnn
from fastnn import nn
from fastnn.insight import plots

HORIZONTAL = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], np.float32)  # change from left to right


def sobel() -> nn.Conv2d:
    """Gray images (N, 1, H, W) to (N, 2, H, W): the change from left to right, and from top to bottom."""
    layer = nn.Conv2d(1, 2, 3, padding=1, bias=False).requires_grad_(False)
    layer.weight.data[...] = np.stack([HORIZONTAL, HORIZONTAL.T])[:, np.newaxis]
    return layer


def main(out: Path, full: bool = False) -> Any:
    """Draws the picture; gives the figure."""
    images = fnn.data.load("mnist" if full else "digits").images[:6].astype(np.float32) / 255
    edges = sobel()(images).numpy()
    figure = plots.figure(6.8, 4.6)
    rows = figure.subplots(4, 6)
    for row, (image, (across, down)) in zip(rows.T, zip(images, edges, strict=True), strict=True):
        shown = [plots.picture(row[0], image)]
        shown += [plots.picture(row[i], edge[np.newaxis], limit=4.0) for i, edge in ((1, across), (2, down))]
        shown.append(plots.picture(row[3], np.hypot(across, down)[np.newaxis]))
        for picture, highest in ((shown[0], 1.0), (shown[3], 4.0)):  # each row on one scale
            picture.set_clim(0, highest)
    names = ("image", "change\nacross", "change\ndown", "length\nof both")
    for row, picture, name in zip(rows, shown, names, strict=True):
        row[0].set_ylabel(name, rotation=0, ha="right", va="center")
        bar = figure.colorbar(picture, ax=row, aspect=8, ticks=np.linspace(*picture.get_clim(), 3))
        bar.ax.tick_params(labelsize=9)
    figure.supxlabel("black is 0, white 1: a step from one to the other gives ±4", fontsize=9)
    save(figure, out / "sobel.png")
    return figure


if __name__ == "__main__":
    run(main, __doc__)
