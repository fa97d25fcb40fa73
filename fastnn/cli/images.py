"""Images as users have them, made into images as a model was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fastnn import formats
from fastnn.data.centre import centred, resized
from fastnn.errors import DataError, MissingExtraError


def are_light_on_dark(mean: Sequence[float]) -> bool:
    """Of images whose channels have these means, from 0 to 1."""
    return sum(mean) / len(mean) < 0.5


def read(path: str, image_shape: tuple[int, ...], *, light_on_dark: bool, fill: float) -> tuple[np.ndarray, str]:
    """An image for a model of images (C, H, W), and in words what was changed about it.

    Args:
        path: an image file, or ``.npy`` with an array (H, W) or (C, H, W), uint8 or from 0 to 1.
        image_shape: (C, H, W) of the model. An image of that size is taken as it is.
        light_on_dark: whether the model's images are so; a gray image of another size is then made so too, cut to what
            is drawn on it, and centred by its centre of mass, as those of MNIST were.
        fill: the share of the frame that the drawing is scaled to (see `fastnn.data.centre.extent`).

    Raises:
        DataError: no such file, or no image of this kind. MissingExtraError: Pillow is needed and not installed.
    """
    channels, height, width = image_shape
    pixels = _read_array(path, channels) if path.endswith(".npy") else _read_file(path, channels)
    if pixels.shape[1:] == (height, width):
        return pixels, ""
    if channels == 1 and light_on_dark:
        return centred(pixels[0], height, width, fill)
    return _scaled(pixels, height, width), f"scaled from {pixels.shape[1]}×{pixels.shape[2]}"


def _read_array(path: str, channels: int) -> np.ndarray:
    """uint8 (C, H, W)."""
    try:
        array = formats.read_npy(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error  # without Python's "[Errno 2]"
        raise DataError(f"{path}: expected an array saved by numpy.save ({reason})") from error
    if array.ndim == 2:
        array = array[np.newaxis]
    if array.ndim != 3 or array.shape[0] != channels or array.size == 0 or array.dtype.kind not in "uf":
        raise DataError(
            f"{path}: expected one image (H, W) or ({channels}, H, W), uint8 or from 0 to 1, "
            f"got {array.dtype} {array.shape}"
        )
    if array.dtype != np.uint8:
        if not (array.min() >= 0 and array.max() <= 1):
            raise DataError(f"{path}: expected {array.dtype} from 0 to 1, got {array.min():g} to {array.max():g}")
        array = np.rint(255 * array).astype(np.uint8)
    return array


def _read_file(path: str, channels: int) -> np.ndarray:
    """uint8 (C, H, W)."""
    if channels not in (1, 3):
        raise DataError(f"{path}: expected a run for gray or colour images, got one for {channels} channels: use .npy")
    if not Path(path).is_file():
        raise DataError(f"{path}: expected an image file, found none")
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise MissingExtraError("Pillow", "images") from error
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image)
            if "A" in upright.getbands() or "transparency" in upright.info:  # transparent stands for paper
                upright = upright.convert("RGBA")
                upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright)
            pixels = np.asarray(upright.convert("L" if channels == 1 else "RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # Pillow's for broken files
        raise DataError(f"{path}: expected an image, found: {error}") from error
    return pixels[np.newaxis] if channels == 1 else np.ascontiguousarray(np.moveaxis(pixels, -1, 0))


def _scaled(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """(C, H0, W0) -> (C, H, W): the middle of it that has the aspect wanted, scaled."""
    factor = min(pixels.shape[1] / height, pixels.shape[2] / width)
    h, w = max(1, round(height * factor)), max(1, round(width * factor))
    top, left = (pixels.shape[1] - h) // 2, (pixels.shape[2] - w) // 2
    middle = pixels[:, top : top + h, left : left + w]
    return np.stack([resized(channel, height, width) for channel in middle])
