"""Pictures in folders, one for each class; and a single image."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from fastnn.checks import entries, whole
from fastnn.errors import ArgumentError, DataError

from .local import PathLike
from .prepare import Preparation
from .reading import Part, Pictures

__all__ = ["PARTS", "find_pictures", "images_at", "is_named_as_image", "read_image"]

PARTS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
    "testing": "test",
}  # fmt: skip
_SUFFIXES = {
    ".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".gif", ".pbm", ".pgm", ".ppm", ".pnm", ".tif", ".tiff", ".webp", ".avif",
}  # fmt: skip
# Files that file managers and operating systems leave behind; ignored without a warning.
_JUNK = {"thumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir", "$recycle.bin", "system volume information"}
_OUTSIDE = "images outside the classes' folders"


def find_pictures(path: Path) -> Pictures:
    """The pictures below a folder, by class, in alphabetical order; none is read yet.

    ``path/cat/*.png`` and ``path/dog/*.jpg`` make the classes "cat" and "dog"; images in folders below ``path/cat`` are
    cats, too. Where ``path`` has subfolders named as parts (`PARTS`, in any case) with classes in them, ``train`` among
    them, these are its parts. ``path/train`` with ``path/test`` or ``path/val`` beside it is taken for ``path``. Names
    beginning with a dot, and what file managers leave behind, are passed over without a word.

    Raises DataError for a folder without images by class, for a class's folder that is empty, and where it is not clear
    what its subfolders are.
    """
    named = _parts_in(path)
    if not named and PARTS.get(path.resolve().name.lower()) == "train":
        beside = _parts_in(path.resolve().parent)
        if len(beside) > 1:
            path, named = path.resolve().parent, beside
    if not named:
        part = _by_class(path)
        return Pictures(path.resolve().name, str(path), path, {"train": part}, hint=_hint(path, part))
    parts = {kind: _by_class(folder) for kind, folder in named.items()}
    for entry in _entries(path):
        if _is(entry.is_dir) and path / entry.name not in named.values():
            _leave_in_all(parts, f"folders beside {' and '.join(parts)}", entry.name)
        elif is_named_as_image(entry.name):
            _leave_in_all(parts, _OUTSIDE, entry.name)
    return Pictures(path.resolve().name, str(path), path, parts, hint=_hint(named["train"], parts["train"]))


def read_image(path: PathLike, image_shape: tuple[int, int, int]) -> np.ndarray:
    """One image file as a network takes it: uint8 (C, H, W).

    Args:
        path: any image that Pillow reads, of 8 or 16 bits a channel; turned upright by its EXIF orientation. What is
            transparent becomes white, or black if all that is visible is nearly white; of an animation the first
            picture is taken.
        image_shape: (C, H, W) wanted: C = 1 converts to gray, C = 3 to RGB; resized to H x W, whatever the aspect
            ratio.

    Raises:
        DataError: no such file, or not an image. MissingExtraError: Pillow is not installed.
    """
    shape = entries("read_image", "image_shape", image_shape)
    if len(shape) != 3:
        raise ArgumentError(f"read_image: expected an image_shape (C, H, W), got {image_shape!r}")
    return Preparation(tuple(whole("read_image", "a size", size, 1) for size in shape))(path)


def images_at(path: str) -> list[str]:
    """The path itself, or those of all images in the folder that it names, at any depth. DataError where none is."""
    if not os.path.isdir(path):
        return [path]
    found = [str(file) for file in sorted(_below(Path(path), Part(), _above(Path(path))))]
    if not found:
        raise DataError(f"{path}: expected images in the folder, found none")
    return found


def is_named_as_image(name: str) -> bool:
    """Whether a file name has an image's suffix, in any case."""
    return os.path.splitext(name)[1].lower() in _SUFFIXES


def _parts_in(folder: Path) -> dict[str, Path]:
    """The folders of the parts of a data set, train first; none where the subfolders are classes."""
    found: dict[str, Path] = {}
    classes = False
    for entry in _entries(folder):
        if not _is(entry.is_dir):
            continue
        kind, path = PARTS.get(entry.name.lower()), folder / entry.name
        if kind is None:
            classes = True
        elif any(_is(inner.is_dir) for inner in _entries(path)):
            if kind in found:
                raise DataError(f"{folder}: expected one folder for {kind}, found {found[kind].name} and {entry.name}")
            found[kind] = path
    if "train" in found and (len(found) > 1 or not classes):
        return {kind: found[kind] for kind in ("train", "val", "test") if kind in found}
    for path in found.values():
        if not any(is_named_as_image(inner.name) for inner in _entries(path)):
            raise DataError(
                f"{folder}: expected one subfolder of images for each class, or train and test with the classes in "
                f"them; found {path.name} with folders of images in it"
            )
    return {}


def _by_class(folder: Path) -> Part:
    """The images below a folder with one subfolder a class."""
    part, folders = Part(), 0
    for entry in _entries(folder):
        if _is(entry.is_dir):
            files, folders = sorted(_below(folder / entry.name, part, _above(folder / entry.name))), folders + 1
            part.files += [(file, entry.name) for file in files]
            if not files and not any(True for _ in _entries(folder / entry.name)):
                raise DataError(
                    f"{folder}: expected images in each class's folder, found {entry.name} empty: put them there, or "
                    "remove it"
                )
            if not files:
                part.leave("folders without images", entry.name)
        elif is_named_as_image(entry.name):
            part.leave(_OUTSIDE, entry.name)
    if not part.files:
        found = "none in them" if folders else "no subfolder"
        raise DataError(f"{folder}: expected one subfolder of images for each class, found {found}")
    return part


def _below(folder: Path, part: Part, visited: set[tuple[int, int]]) -> Iterator[Path]:
    """The images in a folder, at any depth; a folder that links lead to again is gone through once."""
    identity = _identity(folder)
    if identity in visited:
        part.leave("links to folders that were read already", folder.name)
        return
    visited.add(identity)
    for entry in _entries(folder):
        if _is(entry.is_dir):
            yield from _below(folder / entry.name, part, visited)
        elif not is_named_as_image(entry.name):
            part.leave("files that are no images by their names", entry.name)
        elif _is(entry.is_file):
            yield folder / entry.name
        else:  # to open a pipe would wait for its writer
            part.leave("pipes, devices and links that lead nowhere", entry.name)


def _above(folder: Path) -> set[tuple[int, int]]:
    """The folders that this one lies in: a link to one of them would find the images of all classes."""
    return {_identity(parent) for path in (folder.absolute(), folder.resolve()) for parent in path.parents}


def _identity(folder: Path) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


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


def _leave_in_all(parts: dict[str, Part], why: str, name: str) -> None:
    for part in parts.values():
        part.leave(why, name)


def _hint(folder: Path, part: Part) -> str:
    """A hint where the only class holds nothing but folders, as when an archive was unpacked into its own folder."""
    wrapper = folder / part.files[0][1]
    if any(file.parent == wrapper for file, _ in part.files):
        return ""
    return f": name {wrapper} if the classes are the folders in it"
