"""The one reader of image files: what Pillow opens, as 8-bit pixels the right way up, on a ground of their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.errors import DataError, needs
from fastnn.files import open_regular

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Head", "Picture", "channels_first", "pillow", "pixels_of", "read_head", "read_picture"]

GRAY = {"1", "L", "LA", "La"}  # Pillow's modes of 8 bits or less a channel
COLOUR = {"P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV"}
GRAY_16 = {"I;16", "I;16B", "I;16L", "I;16N"}
FEWEST_OF_16 = 4096  # what is darker everywhere has 12 bits in use, or fewer: the range that it is meant for is unknown
LIGHT = 191  # what is brighter on average, of 255, would hardly be seen on white
_ORIENTATION = 0x0112  # in Exif; above 4, rows are columns
_ROW = 8  # bytes that Pillow keeps for a row beside its pixels: more than these take in a column of millions
_KEY = "expected an image, found: a 16-bit picture with a transparent colour, which cannot be told exactly"


@dataclass(frozen=True, eq=False)
class Picture:
    """An image file's pixels.

    Attributes:
        pixels: uint8, (H, W) of a gray file, (H, W, 3) of one in colour.
        several: whether the file holds more pictures, of which this is the first: an animation, or pages.
    """

    pixels: np.ndarray
    several: bool


@dataclass(frozen=True)
class Head:
    """A picture's height and width in pixels, and whether it is in colour, from its file's header."""

    height: int
    width: int
    colour: bool


def read_picture(path: Path) -> Picture:
    """Read an image file.

    Turned upright by its EXIF orientation. A transparent picture is put on white, or on black if what is visible of it
    is nearly white: brighter than 191 of 255 on average. Of several pictures in one file the first is taken. 16 bits a
    channel are scaled to 8.

    Raises:
        DataError: no such file, no regular file, no image, a damaged one, more pixels than Pillow's
            ``Image.MAX_IMAGE_PIXELS``, or numbers whose range is not recorded: floating ones, integers of 32 bits, and
            gray of 16 bits of which at most 12 are in use.
        MissingExtraError: Pillow is not installed.
    """
    with _opened(path) as image:
        several = image.format != "MPO" and getattr(image, "is_animated", False)  # a phone's photos keep previews
        return Picture(pixels_of(image), several)


def pixels_of(image: Image) -> np.ndarray:
    """Pixels of an image of Pillow's, as `read_picture` gives them: uint8 (H, W), or (H, W, 3) of one in colour.

    Raises DataError for numbers whose range is not recorded.
    """
    colour, deep = _kind(image)
    image.load()
    upright = _upright(image)
    return _scaled(upright) if deep else _flat(upright, colour)


def read_head(path: Path) -> Head:
    """The header of a picture, whose pixels are decoded only where it does not say enough. Raises what `read_picture`
    raises for a file that is no image."""
    with _opened(path) as image:
        colour, (width, height) = _kind(image)[0], image.size
        # Pillow looks for the Exif of a PNG behind its pixels, too, and decodes them for that.
        if (image.format != "PNG" or "exif" in image.info) and image.getexif().get(_ORIENTATION, 1) > 4:
            if image.format == "TIFF":  # which some versions of Pillow turn by themselves
                height, width = pixels_of(image).shape[:2]
            else:
                height, width = width, height
        return Head(height, width, colour)


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
    with needs("Pillow", "images"):
        from PIL import Image
    return Image


@contextmanager
def _opened(path: Path) -> Iterator[Image]:
    """The file, of which only the header is read yet; whatever goes wrong with it is a DataError."""
    library = pillow()
    try:
        with open_regular(path) as stream, library.open(stream) as image:
            most = library.MAX_IMAGE_PIXELS
            if most is not None and (image.width + _ROW) * image.height > most:
                raise DataError(f"expected an image of at most {most:,} pixels, found {image.width}x{image.height}")
            _kind(image)
            yield image
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except OSError as error:
        unknown = type(error).__name__ == "UnidentifiedImageError"  # it names the open stream, which says nothing
        problem = "cannot identify its format" if unknown else error.strerror or error
        raise DataError(f"{path}: expected an image, found: {problem}") from error
    except Exception as error:  # Pillow raises almost anything for damaged files
        raise DataError(f"{path}: expected an image, found: {error or type(error).__name__}") from error


def _kind(image: Image) -> tuple[bool, bool]:
    """Whether an image is in colour, and whether it is gray of 16 bits. DataError for numbers of another range."""
    # Pillow's mode I is of 32 bits, but also what it makes of these files, with 65535 for white.
    deep = image.mode in GRAY_16 or (image.mode == "I" and image.format in ("PNG", "PPM"))
    if not deep and image.mode not in GRAY | COLOUR:
        raise DataError(
            f"expected an image of 8 or 16 bits a channel, found one of Pillow's mode {image.mode!r}: "
            "convert it first, by the range that its numbers have"
        )
    return image.mode in COLOUR, deep


def _scaled(image: Image) -> np.ndarray:
    """Gray of 16 bits (H, W) as one of 8."""
    values = np.asarray(image).astype(np.uint32)
    if 0 < values.max() < FEWEST_OF_16:
        raise DataError(
            f"expected a 16-bit image with numbers up to 65535, found none above {values.max()}, as of 12 bits or "
            "fewer: convert it first, by the range that its numbers have"
        )
    if "transparency" in image.info:
        raise DataError(_KEY)
    return ((values + 128) // 257).astype(np.uint8)


def _upright(image: Image) -> Image:
    from PIL import ImageOps

    key = image.info.get("transparency")
    # A 16-bit PNG may name a 16-bit colour as transparent, of which Pillow keeps the upper bytes of the pixels alone.
    if isinstance(key, tuple) and max(key) > 255:
        raise DataError(_KEY)
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
