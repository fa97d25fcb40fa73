"""The one way in which a picture becomes what a model takes: in training, `evaluate`, `predict` and the demo."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastnn import formats
from fastnn.errors import ArgumentError, DataError, unreadable

from .centre import centred, resized
from .picture import channels_first, pixels_of, read_picture

__all__ = ["Preparation", "fitted", "is_picture"]


def fitted(pixels: np.ndarray, size: tuple[int, int] | None, gray: bool) -> np.ndarray:
    """Pixels (H, W) or (H, W, 3), gray if that is wanted, resized to `size` whatever the aspect ratio."""
    if gray:
        pixels = channels_first(pixels, gray)[0]
    return pixels if size is None or pixels.shape[:2] == size else resized(pixels, *size)


def is_picture(value: Any) -> bool:
    """Whether a value is a file's path or an image of Pillow's."""
    return isinstance(value, str | os.PathLike) or (hasattr(value, "getbands") and hasattr(value, "convert"))


@dataclass(frozen=True)
class Preparation:
    """How a picture becomes an image for a model; kept with the model and its run.

    Calling it with a picture gives uint8 (C, H, W): made gray or RGB and resized, as the images of a folder are.

    Args:
        shape: (C, H, W) of the model's images.
        light_on_dark: whether the training images are so; a drawing that is cropped is made so, too.
        fill: the share of the frame that a cropped drawing is scaled to; MNIST's is 20/28.

    >>> picture = np.zeros((2, 4), np.uint8)
    >>> Preparation((1, 2, 2))(picture).shape, Preparation((3, 8, 8))(picture).shape
    ((1, 2, 2), (3, 8, 8))
    """

    shape: tuple[int, ...]
    light_on_dark: bool = True
    fill: float = 20 / 28

    @classmethod
    def of_run(cls, config: Mapping[str, Any]) -> Preparation:
        """That of a run, by its config."""
        mean = config["mean"]
        return cls(tuple(config["image_shape"]), sum(mean) / len(mean) < 0.5, config["extent"])

    def of_folder(self) -> dict[str, Any]:
        """The options of `fastnn.data.load` that prepare the pictures of a folder in this way."""
        return {"size": self.shape[1:], "gray": self.shape[0] == 1}

    def __call__(self, picture: Any, *, crop: bool = False) -> np.ndarray:
        return self.described(picture, crop=crop)[0]

    def described(self, picture: Any, *, crop: bool = False) -> tuple[np.ndarray, str]:
        """An image uint8 (C, H, W) for the model, and in words what was changed about the picture.

        Args:
            picture: an image file (see `fastnn.data.picture`); or ``.npy`` with an array (H, W) or (C, H, W), integers
                from 0 to 255 or floating numbers from 0 to 1; or an image of Pillow's; or pixels uint8 (H, W) or
                (H, W, 3). One of the model's size is taken as it is.
            crop: whether a gray picture of another size is a drawing, as on the demo's page: it is turned light on
                dark, cut to what is drawn, scaled to `fill`, and its centre of mass put in the middle, as MNIST's were;
                and inverted where the model's images are dark on light.

        Raises:
            DataError: no such file, or no image of this kind. MissingExtraError: Pillow is needed and not installed.
        """
        channels, height, width = self.shape
        pixels, changes = self._pixels(picture)
        before = pixels.shape[:2]
        if before == (height, width):
            pass
        elif crop and channels == 1:
            image, how = centred(fitted(pixels, None, gray=True), height, width, self.fill)
            return (image if self.light_on_dark else 255 - image), ", ".join([*changes, how])
        else:
            changes.append(f"resized from {before[0]}×{before[1]}")
        if channels in (1, 3):
            return channels_first(fitted(pixels, (height, width), channels == 1), channels == 1), ", ".join(changes)
        planes = [fitted(plane, (height, width), gray=True) for plane in np.moveaxis(pixels, -1, 0)]
        return np.stack(planes), ", ".join(changes)

    def _pixels(self, picture: Any) -> tuple[np.ndarray, list[str]]:
        """(H, W) or (H, W, C) uint8, and what is to be said about it."""
        channels = self.shape[0]
        if isinstance(picture, np.ndarray):
            return picture, []
        if isinstance(picture, str | os.PathLike):
            path = os.fspath(picture)
            if path.endswith(".npy"):
                array = _read_array(path, channels)
                return (array[0] if channels == 1 else np.moveaxis(array, 0, -1)), []
            if channels in (1, 3):
                read = read_picture(Path(path).expanduser())
                return read.pixels, ["the first of several pictures"] if read.several else []
        elif channels in (1, 3):
            if not is_picture(picture):
                raise ArgumentError(f"expected a picture's file, or an image of Pillow's, got {type(picture).__name__}")
            return pixels_of(picture), []
        raise DataError(f"{picture}: expected a model of gray or RGB images, got one for {channels} channels: use .npy")


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
