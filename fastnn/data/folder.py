"""Images from files: a folder with one subfolder a class, or a single image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fastnn.errors import DataError, MissingExtraError

from .dataset import Dataset
from .local import PathLike

if TYPE_CHECKING:
    from PIL.Image import Image

_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp"}
_GRAY_MODES = {"1", "L", "LA"}
_COLOUR_MODES = {"P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"}
_TEST_SHARE = 0.2


def read_folder(
    path: PathLike, *, split: str = "train", size: tuple[int, int] | None = None, gray: bool | None = None
) -> Dataset:
    """A data set out of a folder of images by class.

    ``path/cat/*.png`` and ``path/dog/*.jpg`` make the classes "cat" and "dog", in alphabetical order. Where ``path``
    has the subfolders ``train`` and ``test``, each with the classes in it, these are the two parts; otherwise a fixed
    stratified fifth is kept for the test. Names beginning with a dot, and files without the suffix of an image, are
    passed over.

    Args:
        path: the folder.
        split: "train" or "test".
        size: (H, W) to which every image is resized; None: all have one size already.
        gray: True for one channel, False for RGB; None: one channel if the first training image is gray, or else RGB.

    Returns:
        Dataset with uint8 images (N, C, H, W), named after the folder; files in alphabetical order within a class.

    Raises:
        DataError: no such folder, no classes or images in it, an unreadable image, images of several sizes, a class in
            ``test`` that ``train`` lacks. MissingExtraError: Pillow is not installed.
    """
    root = Path(path).expanduser()
    parts = (root / "train", root / "test")
    own_split = all(part.is_dir() for part in parts)
    train = _files_by_class(parts[0] if own_split else root)
    classes = tuple(train)
    if gray is None:
        gray = _open(next(iter(train.values()))[0]).mode in _GRAY_MODES
    wanted = train
    if own_split and split == "test":
        wanted = _files_by_class(parts[1])
        unknown = [name for name in wanted if name not in train]
        if unknown:
            raise DataError(f"{parts[1]}: expected only classes that {parts[0]} has, found {', '.join(unknown)}")
    files = [file for paths in wanted.values() for file in paths]
    labels = np.array([classes.index(name) for name, paths in wanted.items() for _ in paths], np.int64)
    images = [_pixels(file, size, gray) for file in files]
    for file, image in zip(files, images, strict=True):
        if image.shape != images[0].shape:
            raise DataError(
                f"{file}: expected an image of {images[0].shape[1]}x{images[0].shape[2]} like {files[0]}, "
                f"found {image.shape[1]}x{image.shape[2]}: have all images resized, by size=(H, W) or --size HxW"
            )
    whole = Dataset(np.stack(images), labels, classes, root.resolve().name)
    if own_split:
        return whole
    if not round(_TEST_SHARE * len(whole)):
        raise DataError(
            f"{root}: expected images enough to keep {_TEST_SHARE:.0%} of them for the test, at least 3, or folders "
            f"train and test, found {len(whole)}"
        )
    return whole.split(_TEST_SHARE)[split == "test"]


def read_image(path: PathLike, image_shape: tuple[int, int, int]) -> np.ndarray:
    """One image file as a network takes it: uint8 (C, H, W).

    Args:
        path: any image that Pillow reads; turned upright by its EXIF orientation.
        image_shape: (C, H, W) wanted: C = 1 converts to gray, C = 3 to RGB; resized to H x W, whatever the aspect
            ratio.

    Raises:
        DataError: no such file, or not an image. MissingExtraError: Pillow is not installed.
    """
    channels, height, width = image_shape
    if channels not in (1, 3):
        raise DataError(f"{path}: expected a network for gray or RGB images, got one for {channels} channels")
    return _pixels(Path(path), (height, width), gray=channels == 1)


def _files_by_class(root: Path) -> dict[str, list[Path]]:
    if not root.is_dir():
        raise DataError(f"expected a folder of images by class, found no folder {root}")
    classes = {}
    for folder in sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith(".")):
        classes[folder.name] = sorted(
            file for file in folder.iterdir() if file.suffix.lower() in _SUFFIXES and not file.name.startswith(".")
        )
        if not classes[folder.name]:
            raise DataError(f"{folder}: expected images of the class {folder.name!r}, found none")
    if not classes:
        raise DataError(f"{root}: expected one subfolder of images for each class, found no subfolder")
    return classes


def _open(path: Path) -> Image:
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise MissingExtraError("Pillow", "images") from error
    try:
        with Image.open(path) as image:
            image.load()
            upright = ImageOps.exif_transpose(image)
    except (
        OSError,
        SyntaxError,
        ValueError,
        Image.DecompressionBombError,
    ) as error:  # what Pillow raises for broken files
        raise DataError(f"{path}: expected an image, found: {error}") from error
    if upright.mode not in _GRAY_MODES | _COLOUR_MODES:
        raise DataError(f"{path}: expected an image of 8 bits a channel, found one of Pillow's mode {upright.mode!r}")
    return upright


def _pixels(path: Path, size: tuple[int, int] | None, gray: bool) -> np.ndarray:
    """uint8 (C, H, W)."""
    image = _open(path).convert("L" if gray else "RGB")
    if size is not None:
        from PIL import Image

        height, width = size
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(image)
    return pixels[np.newaxis] if gray else np.ascontiguousarray(np.moveaxis(pixels, -1, 0))
