"""Pictures named one by one: in a list of files and labels, such as a CSV file, or in Python."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastnn import files
from fastnn.errors import DataError, ShapeError, unreadable

from .folder import PARTS, is_named_as_image
from .reading import Part, Pictures

__all__ = ["are_paths", "of_paths", "read_listing"]

_FILE = ("path", "file", "filename", "file_name", "filepath", "image", "image_path", "img")
_LABEL = ("label", "class", "class_name", "category", "target", "species")
_PART = ("split", "part", "subset", "set")
_MOST = 256 << 20  # bytes of a list
_SUFFIXES = (".csv", ".tsv", ".txt", ".lst")


def read_listing(path: Path) -> Pictures:
    """The pictures that a text file names, a row for each: its file, from the text file's folder on, and its label.

    Rows are separated into columns by commas, semicolons, tabs, or else by the last blank. A first row without the name
    of an image is the columns' names: one of `_FILE` and one of `_LABEL`, in any case, or two columns of any name; in a
    column ``split`` the part of each row may stand. Labels are the names of classes; whole numbers are put in their
    order; where one has a fraction, all are the targets of a regression.

    Raises DataError for what is no such list, for a row without file or label, and for files that are not there.
    """
    rows = _rows(path)
    names = [] if any(map(is_named_as_image, rows[0][1])) else [cell.lower() for cell in rows[0][1]]
    body = rows[1:] if names else rows
    if not body:
        raise DataError(f"{path}: expected rows of an image's file and its label, found none")
    file, label = _columns(path, names, body[0][1])
    split = next((names.index(name) for name in _PART if name in names), None)
    absent: list[str] = []
    entries: list[tuple[Path, str, str]] = []
    for number, row in body:
        if len(row) <= max(file, label, split or 0) or not row[file] or not row[label]:
            raise DataError(f"{path}, line {number}: expected an image's file and its label, found {', '.join(row)!r}")
        kind = "train" if split is None else PARTS.get(row[split].lower(), "")
        if not kind:
            raise DataError(f"{path}, line {number}: expected train, val or test, found {row[split or 0]!r}")
        at = path.parent / row[file]
        if not os.path.exists(at):
            at = path.parent / row[file].replace("\\", "/")  # as lists made on Windows have it
        entries.append((at, row[label], kind))
        if not os.path.exists(at):
            absent.append(f"{row[file]} of line {number}")
    if absent:
        raise DataError(f"{path}: {len(absent)} of {len(entries)} files are not there, the first is {absent[0]}")
    values = _values([entry[1] for entry in entries])
    parts: dict[str, Part] = {}
    for kind in ("train", "val", "test"):
        chosen = [(at, value) for (at, _, of), value in zip(entries, values, strict=True) if of == kind]
        if chosen:
            parts[kind] = Part(chosen)
    if "train" not in parts:
        raise DataError(f"{path}: expected rows of the part train, found only {' and '.join(parts)}")
    return Pictures(path.name, str(path), path.parent, parts, named=True)


def are_paths(value: Any) -> bool:
    """Whether a value holds paths: a list, tuple, array or data-frame column."""
    if hasattr(value, "to_numpy") and len(value.shape) == 1:  # a column; a whole frame would be copied for nothing
        value = value.to_numpy()
    if isinstance(value, np.ndarray):
        return value.ndim == 1 and value.size > 0 and isinstance(value[0], str | os.PathLike)
    return isinstance(value, Sequence) and len(value) > 0 and isinstance(value[0], str | os.PathLike)


def of_paths(paths: Sequence[Any], labels: Any) -> Pictures:
    """Pictures by their paths and labels: names of classes, or numbers. Raises ShapeError unless they are as many."""
    values = np.asarray(labels).tolist()
    if not isinstance(values, list) or len(values) != len(paths):
        count = len(values) if isinstance(values, list) else 1
        raise ShapeError(f"expected one label for each of {len(paths)} files, got {count} labels")
    found = [Path(path).expanduser() for path in paths]
    return Pictures("files", "files", Path(), {"all": Part(list(zip(found, values, strict=True)))}, named=True)


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """Cells by the number of their line; empty lines are left out."""
    expected = f"expected a folder of images by class, or a list of files and labels ({', '.join(_SUFFIXES)})"
    if path.suffix.lower() not in _SUFFIXES:
        raise DataError(f"{expected}, got the file {path}")
    try:
        text = files.read(path, _MOST).decode("utf-8-sig")
        first = next((line for line in text.splitlines() if line.strip()), "")
        delimiter = max("\t;,", key=first.count)
        if delimiter in first:
            reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
            rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
        else:
            rows = [(number, line.rsplit(None, 1)) for number, line in enumerate(text.splitlines(), 1)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: {expected} in UTF-8 ({unreadable(error)})") from error
    rows = [(number, row) for number, row in rows if any(row)]
    if not rows:
        raise DataError(f"{path}: expected rows of an image's file and its label, found none")
    return rows


def _columns(path: Path, names: list[str], row: list[str]) -> tuple[int, int]:
    """Which columns hold the file and the label."""
    images = [number for number, cell in enumerate(row) if is_named_as_image(cell)]
    file = next((names.index(name) for name in _FILE if name in names), images[0] if images else None)
    label = next((names.index(name) for name in _LABEL if name in names), None)
    if label is None and file is not None and len(row) == 2:
        label = 1 - file
    if file is None or label is None or file == label:
        table = (
            ""
            if images
            else (
                ": a table of numbers is trained on in Python, df = pandas.read_csv(...), "
                'fnn.recipes.train(df.drop(columns="y"), df["y"])'
            )
        )
        raise DataError(
            f"{path}: expected a column with images' files and one with labels, named path and label if there are "
            f"more than two, found {', '.join(names or row)}{table}"
        )
    return file, label


def _values(labels: list[str]) -> list[Any]:
    """Labels as they are, or as numbers where all are numbers and one has a fraction."""
    try:
        numbers = list(map(float, labels))
    except ValueError:
        return list(labels)
    return list(labels) if all(label.lstrip("+-").isdecimal() for label in labels) else numbers
