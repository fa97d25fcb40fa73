"""What several commands share: options, types of options, and JSON output."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from typing import Any

from fastnn import backends, files
from fastnn.data import Dataset, load
from fastnn.data.loading import of_files
from fastnn.data.prepare import Preparation
from fastnn.errors import DataError
from fastnn.formats import to_json


def add_common(parser: argparse.ArgumentParser) -> None:
    """--threads, --data-dir and --json."""
    parser.add_argument("--threads", type=positive_int, metavar="N", help="threads to use, 1 to 256; same results")
    parser.add_argument(
        "--data-dir",
        metavar="DIR",
        help="folder with the data sets' files, the only place looked in; default $FASTNN_DATA_DIR, or a cache that "
        "is downloaded into",
    )
    parser.add_argument("--json", metavar="PATH", help="also write the results as one JSON object")


def add_pictures(parser: argparse.ArgumentParser, default: str) -> None:
    """--size and --gray, for image files."""
    parser.add_argument(
        "--size", type=size, metavar="H[xW]", help=f"resize image files, as 32 or 32x48; default {default}"
    )
    parser.add_argument("--gray", action=argparse.BooleanOptionalAction, help="read image files as gray, or in colour")


def set_threads(arguments: argparse.Namespace) -> None:
    if arguments.threads is not None:
        backends.set_num_threads(arguments.threads)


def load_data(
    settings: Mapping[str, Any], split: str, data_dir: str | None, run: Mapping[str, Any] | None = None
) -> Dataset:
    """A part of the data set that settings, such as a run's config, name; of a folder, pictures as they say.

    Where they say nothing, pictures are prepared as those of `run`, a config. DataError unless the images have the
    shape of those of `run` and as many classes.
    """
    size, gray, classes = settings.get("size"), settings.get("gray"), None
    if run is not None and of_files(settings["dataset"]):
        prepared, classes = Preparation.of_run(run).of_folder(), run["classes"]
        size, gray = prepared["size"] if size is None else size, prepared["gray"] if gray is None else gray
    data = load(
        settings["dataset"],
        split=split,
        data_dir=data_dir,
        size=None if size is None else tuple(size),
        gray=gray,
        classes=classes,
    )
    if not data.classes:
        raise DataError(f"{data.name}: expected labels that are classes, found numbers, for which there is fnn.fit")
    if run is not None and (data.image_shape, len(data.classes)) != (tuple(run["image_shape"]), len(run["classes"])):
        raise DataError(
            f"expected images {tuple(run['image_shape'])} of {len(run['classes'])} classes, as the run has them, "
            f"got {data!r}"
        )
    return data


def write_json(path: str | None, result: dict[str, Any]) -> None:
    """One JSON object; nothing without a path."""
    if path is not None:
        files.write_atomically(path, (to_json(result, indent=2) + "\n").encode())


def check_writable(path: str | None, option: str = "--json") -> None:
    """Notice before hours of training, not after them, that the results have nowhere to go."""
    if path is not None:
        try:
            files.check_writable(path)
        except OSError as error:
            raise DataError(f"{option}: {error.strerror}: {error.filename}") from error


def check_picture(path: str | None, option: str = "--png") -> None:
    """Notice before the work that a picture could not be written: no Matplotlib, another ending, no place."""
    if path is not None:
        from fastnn.insight import plots

        plots.figure(1, 1)
        plots.check_format(path, option)
        check_writable(path, option)


def port(text: str) -> int:
    return _number(text, int, lambda value: 0 <= value < 65536, "a port, from 0 (any that is free) to 65535")


def positive_int(text: str, otherwise: str = "") -> int:
    """`otherwise`: what else may be given, for the message."""
    return _number(text, int, lambda value: value >= 1, f"a whole number of at least 1{otherwise}")


def positive_float(text: str, otherwise: str = "") -> float:
    return _number(text, float, lambda value: 0 < value < math.inf, f"a number above 0{otherwise}")


def fraction(text: str) -> float:
    return _number(text, float, lambda value: 0 < value < 1, "a number between 0 and 1")


def size(text: str) -> list[int]:
    """[H, W].

    >>> size("32"), size("32x48")
    ([32, 32], [32, 48])
    """
    height, *width = text.lower().split("x", 1)
    sides = (height, width[0] if width else height)
    return [_number(side, int, lambda value: value > 0, "H or HxW, as 32 or 32x48") for side in sides]


def seed(text: str) -> int:
    return _number(text, int, lambda value: 0 <= value < 2**64, "a whole number from 0 to 2**64 - 1")


def _number(text: str, kind: Any, fits: Any, expected: str) -> Any:
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not fits(value):
        raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")
    return value
