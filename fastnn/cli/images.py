"""Images as users have them, made into images as a model was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fastnn import formats
from fastnn.data.centre import centred, resized
from fastnn.data.picture import channels_first, read_picture
from fastnn.errors import DataError, unreadable


def are_light_on_dark(mean: Sequence[float]) -> bool:
    """Of images whose channels have these means, from 0 to 1."""
    return sum(mean) / len(mean) < 0.5


def read(
    path: str, image_shape: tuple[int, ...], *, light_on_dark: bool, fill: float, resize: bool = False
) -> tuple[np.ndarray, str]:
    """An image for a model of images (C, H, W), and in words what was changed about it.

    Args:
        path: an image file, read as those of a folder of images are (`fastnn.data.picture`), or ``.npy`` with an array
            (H, W) or (C, H, W), integers from 0 to 255 or floating numbers from 0 to 1.
        image_shape: (C, H, W) of the model. An image of that size is taken as it is.
        light_on_dark: whether the model's images are so; a gray image of another size is then made so too, cut to what
            is drawn on it, and centred by its centre of mass, as those of MNIST were.
        fill: the share of the frame that the drawing is scaled to (see `fastnn.data.centre.extent`).
        resize: whether the model was trained on resized images of a folder: then this one is resized in the same way,
            and nothing else is done to it.

    Raises:
        DataError: no such file, or no image of this kind. MissingExtraError: Pillow is needed and not installed.
    """
    channels, height, width = image_shape
    changes: list[str] = []
    if path.endswith(".npy"):
        pixels = _read_array(path, channels)
    elif channels not in (1, 3):
        raise DataError(f"{path}: expected a run for gray or colour images, got one for {channels} channels: use .npy")
    else:
        picture = read_picture(Path(path))
        pixels = channels_first(picture.pixels, gray=channels == 1)
        if picture.several:
            changes.append("the first of several pictures")
    if pixels.shape[1:] != (height, width):
        if resize:
            changes.append(f"resized from {pixels.shape[1]}×{pixels.shape[2]}")
            pixels = np.stack([resized(channel, height, width) for channel in pixels])
        elif channels == 1 and light_on_dark:
            pixels, how = centred(pixels[0], height, width, fill)
            changes.append(how)
        else:
            changes.append(f"scaled from {pixels.shape[1]}×{pixels.shape[2]}")
            pixels = _scaled(pixels, height, width)
    return pixels, ", ".join(changes)


def _read_array(path: str, channels: int) -> np.ndarray:
    """uint8 (C, H, W)."""
    try:
        array = formats.read_npy(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: expected an array saved by numpy.save ({unreadable(error)})") from error
    if array.ndim == 2:
        array = array[np.newaxis]
    if array.ndim != 3 or array.shape[0] != channels or array.size == 0 or array.dtype.kind not in "iuf":
        raise DataError(
            f"{path}: expected one image (H, W) or ({channels}, H, W), integers from 0 to 255 or numbers from 0 to 1, "
            f"got {array.dtype} {array.shape}"
        )
    most = 1 if array.dtype.kind == "f" else 255
    if not (array.min() >= 0 and array.max() <= most):
        raise DataError(f"{path}: expected {array.dtype} from 0 to {most}, got {array.min():g} to {array.max():g}")
    return np.rint(array * (255 / most)).astype(np.uint8)


def _scaled(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """(C, H0, W0) -> (C, H, W): the middle of it that has the aspect wanted, scaled."""
    factor = min(pixels.shape[1] / height, pixels.shape[2] / width)
    h, w = max(1, round(height * factor)), max(1, round(width * factor))
    top, left = (pixels.shape[1] - h) // 2, (pixels.shape[2] - w) // 2
    middle = pixels[:, top : top + h, left : left + w]
    return np.stack([resized(channel, height, width) for channel in middle])
