"""Random shifts, rotations and reflections of whole batches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastnn.errors import ArgumentError, ShapeError

_BLOCK = 128  # images moved at once, so that coordinates and weights stay in the cache


@dataclass(frozen=True)
class Augment:
    """Moves every image of a batch at random; give it to :class:`Batches` as ``augment=``.

    Args:
        shift: largest shift, in whole pixels, in each direction.
        rotate: largest rotation, in degrees, either way about the image's centre, with bilinear interpolation.
        flip: whether half of the images are mirrored left to right. Not for digits or letters.

    What comes in from outside the image is 0. Called with images (N, C, H, W), uint8 or floating, and a
    ``numpy.random.Generator``, it returns new images of the same shape and type.

    Raises:
        ArgumentError: a negative shift or rotation. ShapeError, when called: images that are not (N, C, H, W).

    >>> moved = Augment(shift=1)(np.full((2, 1, 3, 3), 9, np.uint8), np.random.default_rng(3))
    >>> moved.shape, moved.dtype.name, sorted(set(moved.flat))
    ((2, 1, 3, 3), 'uint8', [np.uint8(0), np.uint8(9)])
    """

    shift: int = 0
    rotate: float = 0.0
    flip: bool = False

    def __post_init__(self) -> None:
        if self.shift < 0 or not 0 <= self.rotate < float("inf"):
            raise ArgumentError(
                f"expected a shift and a rotation of at least 0, got shift={self.shift}, rotate={self.rotate}"
            )

    def __call__(self, images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Images (N, C, H, W), each moved by its own random shift, angle and reflection."""
        if images.ndim != 4:
            raise ShapeError(f"expected images (N, C, H, W) to augment, got {images.shape}")
        n = len(images)
        dy, dx = generator.integers(-self.shift, self.shift, (2, n, 1), endpoint=True)
        angle = np.deg2rad(generator.uniform(-self.rotate, self.rotate, (n, 1, 1)).astype(np.float32))
        mirror = np.where(generator.random((n, 1)) < 0.5 * self.flip, -1, 1)
        moved = np.empty_like(images)
        for start in range(0, n, _BLOCK):
            part = slice(start, start + _BLOCK)
            if self.rotate:
                moved[part] = _move(images[part], dy[part], dx[part], mirror[part], angle[part])
            else:
                moved[part] = _slide(images[part], dy[part], dx[part], mirror[part], self.shift)
        return moved


def _slide(images: np.ndarray, dy: np.ndarray, dx: np.ndarray, mirror: np.ndarray, shift: int) -> np.ndarray:
    """Whole pixels only: rows and columns picked from a margin of zeros. dy, dx, mirror (N, 1)."""
    n, c, h, w = images.shape
    padded = np.zeros((n, c, h + 2 * shift, w + 2 * shift), images.dtype)
    padded[:, :, shift : shift + h, shift : shift + w] = images
    columns = np.where(mirror < 0, np.arange(w)[::-1], np.arange(w))
    rows = (np.arange(h) + shift - dy)[:, np.newaxis, :, np.newaxis]  # (N, 1, H, 1)
    columns = (columns + shift - dx * mirror)[:, np.newaxis, np.newaxis, :]  # (N, 1, 1, W)
    image, channel = np.arange(n).reshape(n, 1, 1, 1), np.arange(c).reshape(1, c, 1, 1)
    return padded[image, channel, rows, columns]


def _move(images: np.ndarray, dy: np.ndarray, dx: np.ndarray, mirror: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Each target pixel is looked up where it came from: shifted back, rotated back, mirrored. angle (N, 1, 1)."""
    n, c, h, w = images.shape
    centre_y, centre_x = np.float32((h - 1) / 2), np.float32((w - 1) / 2)
    y = (np.arange(h) - dy).astype(np.float32)[:, :, np.newaxis] - centre_y  # (N, H, 1)
    x = (np.arange(w) - dx).astype(np.float32)[:, np.newaxis, :] - centre_x  # (N, 1, W)
    cos, sin, sign = np.cos(angle), np.sin(angle), mirror.astype(np.float32)[:, :, np.newaxis]
    # (N, H, W); what lies outside is clipped into the margin of zeros
    source_y = np.clip(cos * y - sin * x + centre_y, -1, h)
    source_x = np.clip(sign * (sin * y + cos * x) + centre_x, -1, w)
    floor_y, floor_x = np.floor(source_y), np.floor(source_x)
    weight_y, weight_x = source_y - floor_y, source_x - floor_x
    padded = np.zeros((n, c, h + 3, w + 3), images.dtype)  # one zero before, two after: clipped to h, and its neighbour
    padded[:, :, 1 : h + 1, 1 : w + 1] = images
    corner = (floor_y.astype(np.int32) + 1) * (w + 3) + floor_x.astype(np.int32) + 1  # (N, H, W), index into one plane
    moved = np.empty_like(images)
    for channel in range(c):
        planes = padded[:, channel].reshape(-1)
        index = corner + np.arange(n).reshape(n, 1, 1) * ((h + 3) * (w + 3))
        upper = _between(planes, index, weight_x)
        lower = _between(planes, index + (w + 3), weight_x)
        upper += (lower - upper) * weight_y
        moved[:, channel] = np.rint(upper) if images.dtype == np.uint8 else upper
    return moved


def _between(planes: np.ndarray, index: np.ndarray, weight: np.ndarray) -> np.ndarray:
    left = planes.take(index).astype(np.float32)
    right = planes.take(index + 1).astype(np.float32)
    right -= left
    right *= weight
    right += left
    return right
