"""Random shifts, rotations, changes of size, slants and reflections of whole batches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastnn.checks import flag, number, whole
from fastnn.errors import DTypeError, ShapeError

_BLOCK = 32  # images moved at once, so that coordinates and weights stay in the cache, and malloc keeps its pages
_PAIR = np.uint32(0x00FF00FF)  # the two bytes of a left or right edge, with room for a product beside each


@dataclass(frozen=True)
class Augment:
    """Moves every image of a batch at random; give it to :class:`Batches` as ``augment=``.

    Args:
        shift: largest shift, in whole pixels, in each direction.
        rotate: largest rotation, in degrees, either way about the image's centre, with bilinear interpolation.
        flip: whether half of the images are mirrored left to right. Not for digits or letters.
        scale: largest share, below 1, by which height and width are changed, each by its own: 0.1 for 0.9 to 1.1 times.
        shear: largest slant, as pixels to the side for each pixel of height.

    What comes in from outside the image is 0. Called with images (N, C, H, W), uint8 or floating, and a
    ``numpy.random.Generator``, it returns new images of the same shape and type.

    Raises:
        ArgumentError: a negative number, or an infinite one. When called: ShapeError for images that are not
        (N, C, H, W), DTypeError for images that are neither uint8 nor floating.

    >>> moved = Augment(shift=1)(np.full((2, 1, 3, 3), 9, np.uint8), np.random.default_rng(3))
    >>> moved.shape, moved.dtype.name, sorted(set(moved.flat))
    ((2, 1, 3, 3), 'uint8', [np.uint8(0), np.uint8(9)])
    """

    shift: int = 0
    rotate: float = 0.0
    flip: bool = False
    scale: float = 0.0
    shear: float = 0.0

    def __post_init__(self) -> None:
        moved = "a shift, in whole pixels, and a rotation of at least 0"
        stretched = "a scale from 0 to below 1 and a shear of at least 0"
        plain = {
            "shift": whole("Augment", "shift", self.shift, 0, expected=moved),
            "rotate": number("Augment", "rotate", self.rotate, 0, expected=moved),
            "scale": number("Augment", "scale", self.scale, 0, below=1, expected=stretched),
            "shear": number("Augment", "shear", self.shear, 0, expected=stretched),
            "flip": flag("Augment", "flip", self.flip),
        }
        for name, value in plain.items():
            object.__setattr__(self, name, value)

    def __call__(self, images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Images (N, C, H, W), each moved by its own random numbers."""
        if np.ndim(images) != 4:
            raise ShapeError(f"expected images (N, C, H, W) to augment, got {np.shape(images)}")
        if images.dtype != np.uint8 and images.dtype.kind != "f":
            raise DTypeError(f"expected uint8 or floating images to augment, got {images.dtype}")
        n = len(images)
        dy, dx = generator.integers(-self.shift, self.shift, (2, n, 1), endpoint=True)
        angle = np.deg2rad(generator.uniform(-self.rotate, self.rotate, (n, 1)).astype(np.float32))
        mirror = np.where(generator.random((n, 1)) < 0.5 * self.flip, -1, 1)
        back = _inverse(angle, mirror, *self._stretch(n, generator)) if self._turns() else None
        moved = np.empty_like(images)
        for start in range(0, n, _BLOCK):
            part = slice(start, start + _BLOCK)
            if back is None:
                moved[part] = _slide(images[part], dy[part], dx[part], mirror[part], self.shift)
            else:
                moved[part] = _move(images[part], dy[part], dx[part], back[:, part])
        return moved

    def _turns(self) -> bool:
        return bool(self.rotate or self.scale or self.shear)

    def _stretch(self, n: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Factors of height and width (2, N, 1), and slants (N, 1); drawn only where they are asked for."""
        factors, slant = np.ones((2, n, 1), np.float32), np.zeros((n, 1), np.float32)
        if self.scale:
            factors += generator.uniform(-self.scale, self.scale, (2, n, 1)).astype(np.float32)
        if self.shear:
            slant += generator.uniform(-self.shear, self.shear, (n, 1)).astype(np.float32)
        return factors, slant


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


def _inverse(angle: np.ndarray, mirror: np.ndarray, factors: np.ndarray, slant: np.ndarray) -> np.ndarray:
    """(4, N, 1) float32: yy, yx, xy, xx of source = (yy·y + yx·x, xy·y + xx·x), about the centre: rotated back,
    slanted back, stretched back, mirrored. All given as (N, 1), factors (2, N, 1)."""
    cos, sin = np.cos(angle), np.sin(angle)
    height, width = factors
    width = width * mirror
    yy, yx = cos / height, -sin / height
    return np.stack([yy, yx, (sin + slant * cos) / width, (cos - slant * sin) / width]).astype(np.float32)


def _move(images: np.ndarray, dy: np.ndarray, dx: np.ndarray, back: np.ndarray) -> np.ndarray:
    """Each target pixel is looked up where it came from: shifted back, then moved by `back` (4, N, 1)."""
    n, c, h, w = images.shape
    y = (np.arange(h) - dy).astype(np.float32) - np.float32((h - 1) / 2)  # (N, H)
    x = (np.arange(w) - dx).astype(np.float32) - np.float32((w - 1) / 2)  # (N, W)
    yy, yx, xy, xx = back
    # (N, H, W); what lies outside is clipped into the margin of zeros
    source_y = (yy * y + np.float32((h - 1) / 2))[:, :, np.newaxis] + (yx * x)[:, np.newaxis, :]
    source_x = (xy * y + np.float32((w - 1) / 2))[:, :, np.newaxis] + (xx * x)[:, np.newaxis, :]
    np.clip(source_y, -1, h, out=source_y)
    np.clip(source_x, -1, w, out=source_x)
    padded = np.zeros((c, n, h + 3, w + 3), images.dtype)  # one zero before, two after: clipped to h, and its neighbour
    padded[:, :, 1 : h + 1, 1 : w + 1] = np.moveaxis(images, 1, 0)
    sample = _sample_bytes if images.dtype == np.uint8 else _sample
    return np.moveaxis(sample(padded, source_y, source_x), 0, 1)


def _sample(padded: np.ndarray, source_y: np.ndarray, source_x: np.ndarray) -> np.ndarray:
    """Bilinear samples (C, N, H, W) of floating planes with margins (C, N, H + 3, W + 3), at (N, H, W) positions."""
    c, n, height, width = padded.shape
    floor_y, floor_x = np.floor(source_y), np.floor(source_x)
    weight_y, weight_x = source_y - floor_y, source_x - floor_x
    corner = (floor_y.astype(np.intp) + 1) * width + floor_x.astype(np.intp) + 1
    corner += np.arange(n).reshape(n, 1, 1) * (height * width)
    moved = np.empty((c, *source_y.shape), padded.dtype)
    for plane, out in zip(padded.reshape(c, -1), moved, strict=True):
        upper = plane.take(corner) * (1 - weight_x) + plane.take(corner + 1) * weight_x
        lower = plane.take(corner + width) * (1 - weight_x) + plane.take(corner + width + 1) * weight_x
        out[...] = upper * (1 - weight_y) + lower * weight_y
    return moved


def _sample_bytes(padded: np.ndarray, source_y: np.ndarray, source_x: np.ndarray) -> np.ndarray:
    """The same of uint8, with positions rounded to 1/256 pixel: the four neighbours of a pixel are one uint32, so that
    one look-up finds them and one multiplication weights two of them."""
    c, n, height, width = padded.shape
    source_y += 1
    source_x += 1
    y = np.rint(np.multiply(source_y, 256, out=source_y), out=source_y).astype(np.uint32)
    x = np.rint(np.multiply(source_x, 256, out=source_x), out=source_x).astype(np.uint32)
    corner = (y >> 8) * np.uint32(width)
    corner += x >> 8
    corner += (np.arange(n, dtype=np.uint32) * (height * width)).reshape(n, 1, 1)
    index = corner.astype(np.intp)
    y &= 255
    x &= 255
    rest = 256 - x
    moved = np.empty((c, *source_y.shape), np.uint8)
    for plane, out in zip(padded.reshape(c, -1), moved, strict=True):
        four = _neighbours(plane, width).take(index)
        both = four & _PAIR  # upper left, lower left
        both *= rest
        four >>= 8
        four &= _PAIR  # upper right, lower right
        four *= x
        both += four  # upper and lower, each 256 times
        np.bitwise_and(both, 0xFFFF, out=four)
        both >>= 16
        both *= y
        four *= 256 - y
        both += four
        both += 1 << 15
        both >>= 16
        out[...] = both
    return moved


def _neighbours(plane: np.ndarray, width: int) -> np.ndarray:
    """At each place of a flat uint8 plane but the last rows: it, its right, its lower, its lower right neighbour."""
    wide = plane.astype(np.uint32)
    pairs = wide[:-1] | wide[1:] << 8
    return pairs[:-width] | pairs[width:] << 16
