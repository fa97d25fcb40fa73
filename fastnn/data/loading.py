"""``load``: a data set from whatever names it."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastnn.errors import ArgumentError, DataError

from .dataset import Dataset
from .digits import enlarge
from .download import fetch_files
from .folder import read_folder
from .idx import parse_idx
from .local import PathLike, base_folder, locate, named_folder, path_of, read_verified
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
) -> Dataset:
    """A data set in memory.

    Args:
        source: a name ("digits", "mnist", "fashion-mnist", "cifar10"); or the path of a folder of images by class
            (./mnist where a folder has the name of a data set); or a pair ``(images, labels)``; or a Dataset. The last
            two come back as they are, whatever ``split`` says.
        split: "train" or "test".
        data_dir: folder that holds the files of a named data set, by default ``$FASTNN_DATA_DIR``:
            ``mnist/train-images-idx3-ubyte`` with or without ``.gz``, torchvision's ``MNIST/raw``, or the files
            themselves. Where it is given, it is the only place that is looked in; where it is not, files are kept in
            the user's cache and downloaded when missing.
        raw: the digits as they are, uint8 (N, 1, 8, 8) from 0 to 16, instead of enlarged to 28x28.
        size: (H, W) to which the images of a folder are resized; without it they must all have one size.
        gray: whether the images of a folder are read as gray (1 channel) or as RGB (3); None: as RGB if any of them is
            in colour.

    Returns:
        Dataset with uint8 images (N, C, H, W) and int64 labels (N,). The arrays of named data sets are read-only: copy
        to change.

    Raises:
        DataError: nothing of that name; files missing, damaged or not the published ones, by SHA-256; no mirror
            reached.
        ArgumentError: another split, or an option that this source does not have.

    >>> load("digits", split="test").images.shape
    (360, 1, 28, 28)
    >>> load("digits", raw=True).images.shape
    (1437, 1, 8, 8)
    >>> load((np.zeros((4, 1, 2, 2), np.uint8), [0, 1, 1, 0]))
    Dataset(arrays: images (4, 1, 2, 2) uint8, labels (4,) int64, 2 classes)
    """
    if split not in ("train", "test"):
        raise ArgumentError(f'expected split="train" or split="test", got {split!r}')
    if raw and source != "digits":
        raise ArgumentError(f"raw=True is for the digits alone, got it for {source!r}")
    named = isinstance(source, str) and not is_folder(source)
    if size is not None:
        size = check_size("load", size)
    if isinstance(source, str | os.PathLike) and not named:
        return read_folder(source, split=split, size=size, gray=gray)
    if (size is not None or gray is not None) and (not isinstance(source, str) or source in SOURCES):
        raise ArgumentError("size and gray are for folders of images, got them for another source")
    if isinstance(source, Dataset):
        return source
    if not isinstance(source, str):
        if not isinstance(source, Sequence) or len(source) != 2:
            raise ArgumentError(
                f"expected a name, a folder, a pair (images, labels) or a Dataset, got {type(source).__name__}"
            )
        return Dataset(*source)
    known = find_source(source)
    images, labels = _read(known, split, data_dir, raw)
    images.flags.writeable = labels.flags.writeable = False
    return Dataset(images, labels, known.classes, known.name)


def is_folder(source: Any) -> bool:
    """Whether what names a data set is a path, and not the name of a published one."""
    if isinstance(source, str):
        return source not in SOURCES and Path(source).expanduser().is_dir()
    return isinstance(source, os.PathLike)


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
