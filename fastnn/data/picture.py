"""The one reader of image files: what Pillow opens, as 8-bit pixels the right way up, on a ground of their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.errors import DataError, MissingExtraError
from fastnn.files import open_regular

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Picture", "channels_first", "has_colour", "pillow", "pixels_of", "read_picture"]

GRAY = {"1", "L", "LA", "La"}  # Pillow's modes of 8 bits or less a channel
COLOUR = {"P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV"}
LIGHT = 191  # what is brighter on average, of 255, would hardly be seen on white


@dataclass(frozen=True, eq=False)
class Picture:
    """An image file's pixels.

    Attributes:
        pixels: uint8, (H, W) of a gray file, (H, W, 3) of one in colour.
        several: whether the file holds more pictures, of which this is the first: an animation, or pages.
    """

    pixels: np.ndarray
    several: bool


def read_picture(path: Path) -> Picture:
    """Read an image file.

    Turned upright by its EXIF orientation. A transparent picture is put on white, or on black if what is visible of it
    is nearly white: brighter than 191 of 255 on average. Of several pictures in one file the first is taken.

    Raises:
        DataError: no such file, no regular file, no image, a damaged one, more pixels than Pillow's
            ``Image.MAX_IMAGE_PIXELS``, or more than 8 bits a channel, whose range in use is not recorded: 12-bit
            pictures are kept as 16-bit ones.
        MissingExtraError: Pillow is not installed.
    """
    with _opened(path) as image:
        several = image.format != "MPO" and getattr(image, "is_animated", False)  # a phone's photos keep previews
        return Picture(pixels_of(image), several)


def pixels_of(image: Image) -> np.ndarray:
    """Pixels of an image of Pillow's, as `read_picture` gives them: uint8 (H, W), or (H, W, 3) of one in colour."""
    colour = image.mode in COLOUR
    image.load()
    return _flat(_upright(image), colour)


def has_colour(path: Path) -> bool:
    """Whether `read_picture` gives three channels; only the file's header is read. Raises what that raises for it."""
    with _opened(path) as image:
        return image.mode in COLOUR


def channels_first(pixels: np.ndarray, gray: bool) -> np.ndarray:
    """Pixels (H, W) or (H, W, 3) as (1, H, W) if they are wanted gray, as (3, H, W) if not; gray by ITU-R 601-2.

    >>> channels_first(np.full((2, 2), 7, np.uint8), gray=False).tolist()
    [[[7, 7], [7, 7]], [[7, 7], [7, 7]], [[7, 7], [7, 7]]]
    """
    if pixels.ndim == 3 and gray:
        return np.asarray(pillow().fromarray(pixels).convert("L"))[np.newaxis]
    if pixels.ndim == 3:
        return np.ascontiguousarray(np.moveaxis(pixels, -1, 0))
    return pixels[np.newaxis] if gray else np.repeat(pixels[np.newaxis], 3, axis=0)


def pillow() -> Any:
    """Pillow's module Image. Raises MissingExtraError where Pillow is not installed."""
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtraError("Pillow", "images") from error
    return Image


@contextmanager
def _opened(path: Path) -> Iterator[Image]:
    """The file, of which only the header is read yet; whatever goes wrong with it is a DataError."""
    library = pillow()
    try:
        with open_regular(path) as stream, library.open(stream) as image:
            most = library.MAX_IMAGE_PIXELS
            if most is not None and image.width * image.height > most:
                raise DataError(
                    f"{path}: expected an image of at most {most:,} pixels, found {image.width}x{image.height}"
                )
            if image.mode not in GRAY | COLOUR:
                raise DataError(
                    f"{path}: expected an image of 8 bits a channel, found one of Pillow's mode {image.mode!r}: "
                    "convert it first, by the range that its numbers have"
                )
            yield image
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{path}: expected an image, found: {error.strerror or error}") from error
    except Exception as error:  # Pillow raises almost anything for damaged files
        raise DataError(f"{path}: expected an image, found: {error or type(error).__name__}") from error


def _upright(image: Image) -> Image:
    from PIL import ImageOps

    key = image.info.get("transparency")
    # A 16-bit PNG may name a 16-bit colour as transparent, of which Pillow keeps the upper bytes of the pixels alone.
    if isinstance(key, tuple) and max(key) > 255:
        raise ValueError("a 16-bit picture with a transparent colour, which cannot be told exactly")
    upright = ImageOps.exif_transpose(image)
    assert upright is not None
    return upright


def _flat(image: Image, colour: bool) -> np.ndarray:
    """Pixels without transparency: uint8 (H, W, 3) or (H, W)."""
    if image.mode in ("La", "RGBa"):  # premultiplied
        image = image.convert(image.mode.upper())
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        ground = pillow().new("RGBA", image.size, "black" if _is_light(image) else "white")
        image = pillow().alpha_composite(ground, image)
    return np.asarray(image.convert("RGB" if colour else "L"))


def _is_light(image: Image) -> bool:
    """Whether what an RGBA image shows would hardly be seen on white."""
    alpha, brightness = (np.asarray(part) for part in (image.getchannel("A"), image.convert("RGB").convert("L")))
    # Row by row: large pictures are not held in eight bytes a pixel.
    light = sum(int(row.astype(np.int64) @ visible) for row, visible in zip(brightness, alpha, strict=True))
    return light > LIGHT * int(alpha.sum(dtype=np.int64))
