"""Images from files: a folder with one subfolder a class, or a single image."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fastnn.console import shown
from fastnn.errors import DataError

from .dataset import Dataset
from .local import PathLike
from .picture import channels_first, has_colour, read_picture
from .prepare import Preparation, fitted

_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp"}
# Files that file managers and operating systems leave behind; ignored without a warning.
_JUNK = {"thumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir", "$recycle.bin", "system volume information"}
_PARTS = {"train", "training", "val", "valid", "validation", "test", "testing"}
_TEST_SHARE = 0.2


def read_folder(
    path: PathLike, *, split: str = "train", size: tuple[int, int] | None = None, gray: bool | None = None
) -> Dataset:
    """A data set out of a folder of images by class.

    ``path/cat/*.png`` and ``path/dog/*.jpg`` make the classes "cat" and "dog", in alphabetical order; images in folders
    below ``path/cat`` are cats, too. Where ``path`` has the subfolders ``train`` and ``test``, each with the classes in
    it, these are the two parts; otherwise a fixed stratified fifth is kept for the test. Names beginning with a dot,
    and what file managers leave behind, are passed over; a UserWarning says whatever else is left out: files without
    the suffix of an image, images outside the classes, pipes, broken links.

    Args:
        path: the folder.
        split: "train" or "test".
        size: (H, W) to which every image is resized; None: all have one size already.
        gray: True for one channel, False for RGB; None: RGB if any image, of either part, is in colour, or else gray.

    Returns:
        Dataset with uint8 images (N, C, H, W), named after the folder; files in alphabetical order within a class. Each
        image is read as `read_image` reads it.

    Raises:
        DataError: no such folder, no classes or images in it, an unreadable image, images of several sizes, a class in
            ``test`` that ``train`` lacks. MissingExtraError: Pillow is not installed.
    """
    root = Path(path).expanduser()
    parts = (root / "train", root / "test")
    own_split = all(part.is_dir() for part in parts)
    found = _Found(root)
    wanted = found.by_class(parts[split == "test"] if own_split else root)
    classes = tuple(wanted)
    if own_split:
        found.beside(root, parts)
        if split == "test":
            classes = tuple(_Found(root).by_class(parts[0]))
            unknown = [name for name in wanted if name not in classes]
            if unknown:
                raise DataError(f"{parts[1]}: expected only classes that {parts[0]} has, found {', '.join(unknown)}")
    files = [file for paths in wanted.values() for file in paths]
    labels = np.array([classes.index(name) for name, paths in wanted.items() for _ in paths], np.int64)
    pictures = [_read(file, size, gray, found) for file in files]
    if gray is None:
        gray = not any(pixels.ndim == 3 for pixels in pictures)
        if gray and own_split:
            gray = not _in_colour(parts[split == "train"])
    for file, pixels in zip(files, pictures, strict=True):
        if pixels.shape[:2] != pictures[0].shape[:2]:
            (h, w), (height, width) = pixels.shape[:2], pictures[0].shape[:2]
            raise DataError(
                f"{file}: expected an image of {height}x{width} like {files[0]}, found {h}x{w}: "
                "have all images resized, by size=(H, W) or --size HxW"
            )
    found.warn()
    images = np.stack([channels_first(pixels, gray) for pixels in pictures])
    names = [file.relative_to(root).as_posix() for file in files]
    whole = Dataset(images, labels, classes, root.resolve().name, files=names)
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
        path: any image of at most 8 bits a channel that Pillow reads; turned upright by its EXIF orientation. What is
            transparent becomes white, or black if all that is visible is nearly white; of an animation the first
            picture is taken.
        image_shape: (C, H, W) wanted: C = 1 converts to gray, C = 3 to RGB; resized to H x W, whatever the aspect
            ratio.

    Raises:
        DataError: no such file, or not an image. MissingExtraError: Pillow is not installed.
    """
    return Preparation(image_shape)(path)


def _in_colour(part: Path) -> bool:
    """Whether any image below a folder has colour; what is wrong with the others is said where they are read."""
    for file in _Found(part).below(part, set()):
        with contextlib.suppress(DataError):
            if has_colour(file):
                return True
    return False


def _read(file: Path, size: tuple[int, int] | None, gray: bool | None, found: _Found) -> np.ndarray:
    """uint8 (H, W), or (H, W, 3) of a file in colour unless gray is wanted."""
    picture = read_picture(file)
    if picture.several:
        found.note("files with several pictures, of which the first is taken", file.name)
    return fitted(picture.pixels, size, bool(gray))


@dataclass
class _Found:
    """The images below a folder, by class, and what else is there, by what is wrong with it."""

    root: Path
    others: dict[str, list[str]] = field(default_factory=dict)

    def note(self, what: str, name: str) -> None:
        self.others.setdefault(what, []).append(name)

    def by_class(self, folder: Path) -> dict[str, list[Path]]:
        if not folder.is_dir():
            raise DataError(f"expected a folder of images by class, found no folder {folder}")
        classes = {}
        for entry in _entries(folder):
            if _is(entry.is_dir):
                path = folder / entry.name
                classes[entry.name] = sorted(self.below(path, set()))
                if not classes[entry.name]:
                    raise DataError(f"{path}: expected images of the class {entry.name!r}, found none")
                if entry.name.lower() in _PARTS and all(file.parent != path for file in classes[entry.name]):
                    raise DataError(
                        f"{folder}: expected one subfolder of images for each class, or train and test with the "
                        f"classes in them; found {entry.name} with folders of images in it"
                    )
            elif _is_named_as_image(entry.name):
                self.note("images outside the classes' folders", entry.name)
        if not classes:
            raise DataError(f"{folder}: expected one subfolder of images for each class, found no subfolder")
        return classes

    def beside(self, folder: Path, known: tuple[Path, ...]) -> None:
        """Note what lies beside the parts of a data set."""
        for entry in _entries(folder):
            if _is(entry.is_dir) and folder / entry.name not in known:
                self.note("folders beside train and test", entry.name)
            elif _is_named_as_image(entry.name):
                self.note("images outside the classes' folders", entry.name)

    def below(self, folder: Path, visited: set[tuple[int, int]]) -> Iterator[Path]:
        """The images in a folder, at any depth; a folder that links lead to again is gone through once."""
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in visited:
            self.note("links to folders that were read already", folder.name)
            return
        visited.add((status.st_dev, status.st_ino))
        for entry in _entries(folder):
            if _is(entry.is_dir):
                yield from self.below(folder / entry.name, visited)
            elif not _is_named_as_image(entry.name):
                self.note("files that are no images by their names", entry.name)
            elif _is(entry.is_file):
                yield folder / entry.name
            else:  # to open a pipe would wait for its writer
                self.note("pipes, devices and links that lead nowhere", entry.name)

    def warn(self) -> None:
        if self.others:
            told = "; ".join(f"{what} ({len(names)}: {_few(names)})" for what, names in self.others.items())
            warnings.warn(f"{shown(self.root)}: not everything is used: {told}", stacklevel=4)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder, in alphabetical order, without what is hidden and what systems leave behind."""
    try:
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if not entry.name.startswith(".") and entry.name.lower() not in _JUNK]
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror}") from error
    return sorted(found, key=lambda entry: entry.name)


def _is(kind: Callable[[], bool]) -> bool:
    """Whether an entry is of a kind; a link that leads in a circle is of none."""
    try:
        return kind()
    except OSError:
        return False


def _is_named_as_image(name: str) -> bool:
    return Path(name).suffix.lower() in _SUFFIXES


def _few(names: list[str]) -> str:
    return ", ".join(map(shown, names[:3])) + (", ..." if len(names) > 3 else "")
