"""A drawing cut out, scaled and centred by its mass, as the images of MNIST were made."""

from __future__ import annotations

import numpy as np

from .picture import pillow

__all__ = ["centred", "extent", "resized"]

INK = 64  # a pixel brighter than this, on the scale 0 .. 255, is drawn on a dark ground


def extent(images: np.ndarray) -> float:
    """How much of the frame a typical image fills: its drawing's longer side by the frame's, from 0 to 1.

    images (N, C, H, W) uint8, light on dark; the first thousand are looked at.

    >>> image = np.zeros((1, 1, 28, 28), np.uint8)
    >>> image[0, 0, 4:24, 10:18] = 255
    >>> extent(image) == 20 / 28
    True
    """
    ink = images[:1000].max(axis=1) > INK  # (N, H, W)
    rows, columns = ink.any(axis=2).mean(axis=1), ink.any(axis=1).mean(axis=1)
    return float(np.median(np.maximum(rows, columns)))


def centred(pixels: np.ndarray, height: int, width: int, fill: float) -> tuple[np.ndarray, str]:
    """A gray image (H0, W0) uint8 as one (1, H, W), and in words what was changed.

    Light on dark, cut out, scaled so that its longer side is `fill` of the frame's, its centre of mass in the middle.

    Raises MissingExtraError where Pillow, which scales, is not installed.

    >>> drawing = np.zeros((100, 100), np.uint8)
    >>> drawing[10:50, 10:20] = 255
    >>> image, changes = centred(drawing, 28, 28, fill=20 / 28)
    >>> int(image[0].any(axis=1).sum()), int(image[0].any(axis=0).sum()), changes
    (20, 5, 'scaled from 100×100')
    """
    changes = [f"scaled from {pixels.shape[0]}×{pixels.shape[1]}"]
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    if np.median(border) > 127:
        pixels = 255 - pixels
        border = 255 - border
        changes.append("inverted")
    ground = int(np.median(border))
    pixels = np.maximum(pixels, ground) - ground
    if pixels.max() > 0:
        pixels = (pixels * (255 / pixels.max())).astype(np.uint8)
    rows, columns = ((pixels > INK).any(axis=axis).nonzero()[0] for axis in (1, 0))
    if not len(rows):
        return np.zeros((1, height, width), np.uint8), "nothing is drawn on it"
    cut = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    factor = min(fill * height / cut.shape[0], fill * width / cut.shape[1])
    small = resized(cut, *(max(1, round(side * factor)) for side in cut.shape)).astype(np.float64)
    frame = np.zeros((height, width), np.uint8)
    top, left = (_offset(small.sum(axis=1 - axis), side) for axis, side in enumerate((height, width)))
    frame[top : top + small.shape[0], left : left + small.shape[1]] = small
    return frame[np.newaxis], ", ".join(changes)


def _offset(mass: np.ndarray, side: int) -> int:
    """Where a drawing begins, so that its centre of mass is in the middle of the frame, or as near as it fits in."""
    centre = mass @ np.arange(len(mass)) / mass.sum()
    return int(np.clip(round((side - 1) / 2 - centre), 0, side - len(mass)))


def resized(plane: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 (H0, W0) -> (H, W), each pixel the mean of what it covers, weighted by nearness.

    Raises MissingExtraError where Pillow is not installed.
    """
    image = pillow()
    return np.asarray(image.fromarray(plane).resize((width, height), image.Resampling.BILINEAR))
