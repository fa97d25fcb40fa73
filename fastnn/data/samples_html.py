"""A data set's first samples, for notebooks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import tables

if TYPE_CHECKING:
    from .dataset import Dataset

__all__ = ["samples_html"]

MOST = 20  # samples
MOST_FEATURES = 12
MOST_TIMES = 160  # of a curve, a point each pixel
CURVES = ("#0072b2", "#e69f00", "#009e73", "#d55e00")  # Okabe and Ito's, a channel each


def samples_html(data: Dataset) -> str:
    """Up to 20 samples, of all classes as far as they go, with their labels: pictures, curves of signals, or rows of a
    table; other samples are only counted."""
    chosen = _one_of_each(data.labels)
    named = [_named(data, label) for label in data.labels[chosen]]
    signals = data.images.ndim == 3 and data.images.dtype.kind == "f" and data.images.shape[2] > 1
    if signals or (data.images.ndim == 4 and data.images.shape[1] in (1, 3)):
        pictures = (
            _curves(data.images[i]) if signals else tables.image_tag(tables.png(_pixels(data.images[i])), 64)
            for i in chosen
        )
        cells = zip(pictures, named, strict=True)
        shown = "".join(f'<div style="text-align:center">{i}<br>{tables.html_text(name)}</div>' for i, name in cells)
        shown = f'<div style="display:flex;flex-wrap:wrap;gap:8px">{shown}</div>'
    elif data.images.ndim == 2:
        features = data.images[chosen, :MOST_FEATURES]
        more = ["…"] * (data.images.shape[1] > MOST_FEATURES)
        rows = ([*(f"{x:.4g}" for x in row), *more, name] for row, name in zip(features, named, strict=True))
        shown = tables.html_table(
            [[*(data.columns[:MOST_FEATURES] or range(features.shape[1])), *more, "label"], *rows]
        )
    else:
        shown = ""
    return tables.html_text(repr(data)) + shown


def _one_of_each(labels: Any) -> list[int]:
    """Places of the first sample of each class, then of the second of each, and so on."""
    if labels.dtype != np.int64:
        return list(range(min(MOST, len(labels))))
    order = np.argsort(labels, kind="stable")
    turns = np.empty(len(labels), np.int64)
    starts = np.searchsorted(labels[order], labels[order])
    turns[order] = np.arange(len(labels)) - starts
    return [int(i) for i in np.lexsort((labels, turns))[:MOST]]


def _named(data: Dataset, label: Any) -> str:
    return str(data.classes[label]) if data.labels.dtype == np.int64 else f"{np.round(label, 4)}"


def _curves(signal: np.ndarray) -> str:
    """The first channels of a signal (C, L) as curves, all on the scale from its least to its largest value."""
    shown = np.nan_to_num(signal[: len(CURVES), :: -(-signal.shape[1] // MOST_TIMES)].astype(np.float64))
    low, high = shown.min(), shown.max()
    heights = 2 + 44 * (high - shown) / ((high - low) or 1)
    places = np.linspace(2, 158, shown.shape[1])
    lines = ""
    for row, colour in zip(heights, CURVES, strict=False):
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(places, row, strict=True))
        lines += f'<polyline fill="none" stroke="{colour}" points="{points}"/>'
    return f'<svg width="160" height="48" style="background:#f7f8f9">{lines}</svg>'


def _pixels(image: np.ndarray) -> np.ndarray:
    """One image (C, H, W) as uint8 (H, W) or (H, W, 3); floating numbers from their least to their largest."""
    if image.dtype != np.uint8:
        low, high = np.nanmin(image), np.nanmax(image)
        image = np.nan_to_num((image - low) * (255 / ((high - low) or 1))).astype(np.uint8)
    return image[0] if len(image) == 1 else np.moveaxis(image, 0, -1)
