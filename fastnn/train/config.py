"""config.json in the folder of a run that the `fastnn` command made: how the model is made again."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastnn import formats
from fastnn.checks import is_number, is_whole
from fastnn.errors import DataError
from fastnn.files import make_folder, write_atomically

__all__ = ["CONFIG", "WEIGHTS", "read_config", "write_config"]

CONFIG, WEIGHTS = "config.json", "weights.safetensors"
FORMAT = 1
MOST = 16 << 20  # bytes
MOST_SIDE = 1 << 16  # of an image
MOST_COUNTED = 1 << 48
LONGEST = 4096  # of a name or path
LARGEST = 1e30  # of a mean or deviation, which are float32 in the model


def write_config(folder: Path, config: dict[str, Any]) -> None:
    make_folder(folder)
    write_atomically(folder / CONFIG, (formats.to_json({"format": FORMAT, **config}, indent=2) + "\n").encode())


def read_config(folder: Path) -> dict[str, Any]:
    """What `write_config` wrote, each entry of the kind that it must be.

    Raises DataError where `folder` is not the folder of a run of the `fastnn` command, and for a config that is not
    what that writes.
    """
    expected = f"expected the folder of a run, made by fastnn train --out, got {folder}"
    if not folder.is_dir():
        why = "a file, which is for fnn.load" if folder.exists() else "there is no such folder"
        raise DataError(f"{expected}: {why}")
    if not (folder / CONFIG).exists() and (folder / WEIGHTS).exists():
        raise DataError(
            f"{expected}: what train.Checkpoint keeps for a training in Python says nothing of how the model was made; "
            f'make it again, and load model.load_state_dict(weights.load("{folder / WEIGHTS}"))'
        )
    try:
        config = formats.read_json(folder / CONFIG, MOST)
    except OSError as error:
        raise DataError(f"{expected}: {CONFIG}: {(error.strerror or str(error)).lower()}") from error
    except ValueError as error:
        raise DataError(f"{expected}: {CONFIG} is damaged ({error})") from error
    where = f"expected the config of a run in {folder / CONFIG}, got one"
    if isinstance(config, dict):
        try:
            formats.check_format(config.pop("format", 1), FORMAT)  # the first ones gave none
        except ValueError as error:
            raise DataError(f"expected the config of a run in {folder / CONFIG}, got another ({error})") from None
    missing = [key for key in NEEDED if not isinstance(config, dict) or key not in config]
    if missing:
        raise DataError(f"{where} without {', '.join(missing)}")
    for key, fits in {**NEEDED, **OPTIONAL}.items():
        if key in config and not fits(config[key]):
            raise DataError(f"{where} with {key}: {_shown(config[key])}")
    if len(config["mean"]) != len(config["std"]) or len(config["mean"]) not in (1, config["image_shape"][0]):
        raise DataError(f"{where} with {len(config['mean'])} means for {config['image_shape'][0]} channels")
    return config


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def _or_none(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or fits(value)


def _numbers(least: float) -> Callable[[Any], bool]:
    """Returns the check for a list of numbers, one for each channel, above `least`."""
    return lambda value: isinstance(value, list) and all(is_number(each) and least < each < LARGEST for each in value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= LONGEST and "\0" not in value


def _is_shape(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(is_whole(side, 1, MOST_SIDE) for side in value)


def _is_size(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(is_whole(side, 1, MOST_SIDE) for side in value)


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _is_positive(value: Any) -> bool:
    return is_number(value) and 0 < value < math.inf


def _is_count(value: Any) -> bool:
    return is_whole(value, 1, MOST_COUNTED)


NEEDED: dict[str, Callable[[Any], bool]] = {
    "dataset": _is_text,
    "model": _is_text,
    "seed": lambda value: is_whole(value, 0, 2**64 - 1),
    "val": _or_none(lambda value: is_number(value) and 0 < value < 1),
    "recipe": lambda value: isinstance(value, dict),
    "images": _is_count,
    "image_shape": _is_shape,
    "classes": lambda value: isinstance(value, list) and len(value) > 0 and all(map(_is_text, value)),
    "mean": _numbers(-LARGEST),
    "std": _numbers(0.0),
    "extent": lambda value: is_number(value) and 0 <= value <= 1,
}
OPTIONAL: dict[str, Callable[[Any], bool]] = {
    "augment": _or_none(_is_bool),
    "eager": _is_bool,
    "data": _is_text,
    "early_stopping": _or_none(_is_count),
    "stop_on_plateau": _or_none(_is_count),
    "stop_on_step": _or_none(_is_positive),
    "size": _or_none(_is_size),
    "gray": _or_none(_is_bool),
}
