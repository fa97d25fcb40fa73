"""``load``: a data set from whatever names it."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastnn.checks import flag
from fastnn.errors import ArgumentError, DataError

from .dataset import Dataset
from .digits import enlarge
from .download import fetch_files
from .folder import find_pictures
from .idx import parse_idx
from .listing import are_paths, of_paths, read_listing
from .local import PathLike, base_folder, locate, named_folder, path_of, read_verified
from .reading import Pictures
from .sources import SOURCES, File, Source, find_source
from .split import check_size, stratified_split

_DIGITS_FOR_TEST = 360


def load(
    source: str | os.PathLike[str] | tuple[Any, Any] | Dataset,
    *,
    split: str = "train",
    data_dir: PathLike | None = None,
    raw: bool = False,
    size: tuple[int, int] | None = None,
    gray: bool | None = None,
    classes: Sequence[str] | None = None,
) -> Dataset:
    """A data set in memory.

    Of a folder, ``pets/cat/*.png`` and ``pets/dog/*.jpg`` make the classes "cat" and "dog", at any depth. Where it has
    ``train`` with the classes in it, and ``val`` (or ``valid``, ``validation``), ``test`` or both beside that, these
    are its parts; without ``test``, ``val`` is measured. Of any other folder or list a fifth of each class, always the
    same, is the test.

    Args:
        source: a name ("digits", "mnist", "fashion-mnist", "cifar10"); or the path of a folder of images by class
            (./mnist where a folder has the name of a data set); or that of a list of files and labels, .csv, .tsv or
            .txt, with columns ``path`` (from the list's folder on) and ``label``, and ``split`` where parts are named;
            or a pair ``(paths, labels)`` of image files, with names of classes or numbers; or a pair
            ``(images, labels)``; or a Dataset. Pairs and Datasets are taken whole, whatever ``split`` says.
        split: "train", "test", "val" where there is one, or "all" for all images of a folder or list.
        data_dir: folder that holds the files of a named data set, by default ``$FASTNN_DATA_DIR``:
            ``mnist/train-images-idx3-ubyte`` with or without ``.gz``, torchvision's ``MNIST/raw``, or the files
            themselves. Where it is given, it is the only place that is looked in; where it is not, files are kept in
            the user's cache and downloaded when missing.
        raw: the digits as they are, uint8 (N, 1, 8, 8) from 0 to 16, instead of enlarged to 28x28.
        size: (H, W) to which image files are resized; None for their own size, or where training images differ, or
            are of more than 256×256 pixels, for their median height and width, scaled so that both are at most 64 (a
            UserWarning says so).
        gray: whether image files are read as gray (1 channel) or as RGB (3); None: as RGB if any of them, of any part,
            is in colour.
        classes: the names of the classes of image files, in the order of their labels; None for those of the training
            images, in alphabetical order (whole numbers in theirs).

    Returns:
        Dataset with uint8 images (N, C, H, W) and int64 labels (N,). The arrays of named data sets are read-only: copy
        to change. Each file is read as `read_image` reads it. A UserWarning counts by reason what a folder holds and
        the data set does not; what a list names and cannot be read is an error.

    Raises:
        DataError: nothing of that name; files missing, damaged or not the published ones, by SHA-256; no mirror
            reached; image files of one class alone, or of one that is not among the training images or ``classes``.
        ArgumentError: another split, or an option that this source does not have.

    >>> load("digits", split="test").images.shape
    (360, 1, 28, 28)
    >>> load("digits", raw=True).images.shape
    (1437, 1, 8, 8)
    >>> load((np.zeros((4, 1, 2, 2), np.uint8), [0, 1, 1, 0]))
    Dataset(arrays: images (4, 1, 2, 2) uint8, labels (4,) int64, 2 classes)
    """
    raw = flag("load", "raw", raw)
    if not isinstance(split, str) or split not in ("train", "val", "test", "all"):
        raise ArgumentError(f'expected split="train", "val", "test" or "all", got {split!r}')
    if raw and not (isinstance(source, str) and source == "digits"):
        raise ArgumentError(f"raw=True is for the digits alone, got it for {source!r}")
    if size is not None:
        size = check_size("load", size)
    if of_files(source):
        return _pictures(source).read(split, size, gray, classes)
    if any(given is not None for given in (size, gray, classes)) and (not isinstance(source, str) or source in SOURCES):
        raise ArgumentError("size, gray and classes are for image files, got them for another source")
    if isinstance(source, Dataset):
        return source
    if not isinstance(source, str):
        if not isinstance(source, Sequence) or len(source) != 2:
            raise ArgumentError(
                f"expected a name, a folder, a pair (images, labels) or a Dataset, got {type(source).__name__}"
            )
        return Dataset(*source)
    known = find_source(source)
    if split not in ("train", "test"):
        raise ArgumentError(f'{source}: expected split="train" or split="test", got {split!r}')
    images, labels = _read(known, split, data_dir, raw)
    images.flags.writeable = labels.flags.writeable = False
    return Dataset(images, labels, known.classes, known.name)


def of_files(source: Any) -> bool:
    """Whether the source is image files: a folder, a list, or (paths, labels)."""
    if isinstance(source, str):
        return source not in SOURCES and os.path.exists(os.path.expanduser(source))
    return isinstance(source, os.PathLike) or (isinstance(source, tuple) and len(source) == 2 and are_paths(source[0]))


def parts_of(source: Any) -> tuple[str, ...]:
    """The parts that a data set has of its own: "train" and "test", and "val" of a folder or list that has one."""
    return tuple(_pictures(source).parts) if of_files(source) else ("train", "test")


def part_to_measure(source: Any, trained_on: str) -> str:
    """Which part a model is measured on: the test, or all of a folder or list without parts that is not the one that it
    was trained on."""
    if not of_files(source) or isinstance(source, tuple) or len(parts_of(source)) > 1:
        return "test"
    return "test" if Path(trained_on).name == Path(source).expanduser().resolve().name else "all"


def _pictures(source: Any) -> Pictures:
    if isinstance(source, tuple):
        return of_paths(*source)
    path = Path(source).expanduser()
    if not os.path.exists(path):
        raise DataError(f"expected a folder of images by class, or a list of files and labels, found no {path}")
    return find_pictures(path) if path.is_dir() else read_listing(path)


def _read(source: Source, split: str, data_dir: PathLike | None, raw: bool) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, C, H, W) uint8 and labels (N,) int64 of one part of a named data set."""
    files = source.train if split == "train" else source.test
    contents = _contents(source, files, data_dir)
    if source.name == "digits":
        return _read_digits(contents[0], split, raw)
    if source.name == "cifar10":
        return _read_cifar(contents)
    images, labels = (parse_idx(content, file.name) for content, file in zip(contents, files, strict=True))
    return images[:, np.newaxis], labels.astype(np.int64)


def _read_digits(content: bytes, split: str, raw: bool) -> tuple[np.ndarray, np.ndarray]:
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        images, labels = arrays["images"], arrays["labels"].astype(np.int64)
    part = stratified_split(labels, _DIGITS_FOR_TEST)[split == "test"]
    return (images[part] if raw else enlarge(images[part]))[:, np.newaxis], labels[part]


def _read_cifar(contents: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Records of one byte for the label and 3072 for the image, (3, 32, 32)."""
    records = np.concatenate([np.frombuffer(content, np.uint8).reshape(-1, 1 + 3 * 32 * 32) for content in contents])
    return np.ascontiguousarray(records[:, 1:]).reshape(-1, 3, 32, 32), records[:, 0].astype(np.int64)


def _contents(source: Source, files: tuple[File, ...], data_dir: PathLike | None) -> list[bytes]:
    """Verified contents of the files, downloaded into the cache where they lack and no folder was named."""
    base = base_folder(source, data_dir)
    folder = locate(source, files, base)
    if source.mirrors and named_folder(data_dir) is None:
        try:
            return read_verified(source, files, folder)
        except DataError:
            # To measure takes the test files alone; to train, in the end, both. An archive brings all at once.
            wanted = files if files == source.test and not source.archive else source.files
            return read_verified(source, files, fetch_files(source, wanted, base))
    if not any(path_of(folder, name) for name in (*(file.name for file in files), source.archive or "")):
        where = ", ".join(str(base / folder) for folder in source.folders)
        raise DataError(
            f"{source.name} is not in the data folder {base}: expected {files[0].name} and so on, gzipped or not, in "
            f"one of {where}; name another folder with data_dir= (of the command: --data-dir) or FASTNN_DATA_DIR, "
            f"download the data set with 'fastnn data fetch {source.name} --data-dir {base}', or train on the digits "
            "that come with fastnn: fastnn train digits"
        )
    return read_verified(source, files, folder)
