"""Readers and writers for JSON and NumPy files; the readers withstand hostile files."""

from __future__ import annotations

import json
import math
import os
import struct
import tokenize
import zipfile
import zlib
from typing import IO, Any, BinaryIO

import numpy as np

from fastnn import files
from fastnn.checks import plain

__all__ = ["check_format", "parse_json", "read_json", "read_npy", "read_npz", "to_json"]

MOST_TEXT = 64 << 20  # bytes of a JSON file or a table
MOST_ARRAYS = 128 << 20  # bytes of the arrays in one file, unpacked
MOST_DIRECTORY = 1 << 20  # bytes of an archive's directory: 10,000 arrays
LONGEST_END = 22 + 65535  # bytes of what ends an archive, with the longest comment
LONGEST_NUMBER = 400  # digits; Python's own limit, where it has one, is ten times that


def check_format(found: Any, newest: int) -> None:
    """Raises ValueError unless `found` is the number of a format that this version reads, 1 to `newest`.

    >>> check_format(3, 2)
    Traceback (most recent call last):
    ValueError: its format is 3, written by a newer fastnn: this version reads up to 2
    """
    if type(found) is not int or found < 1:
        raise ValueError(f"its format is {found!r:.50}, no number from 1 on")
    if found > newest:
        raise ValueError(f"its format is {found}, written by a newer fastnn: this version reads up to {newest}")


def to_json(value: Any, indent: int | None = None) -> str:
    """A value as JSON that every program reads: NumPy's numbers and arrays as Python's, numbers that JSON does not have
    (NaN, infinity) as null.

    >>> import numpy as np
    >>> to_json({"seed": np.int64(3), "loss": float("nan"), "mean": np.float32([0.5, 1.0])})
    '{"seed": 3, "loss": null, "mean": [0.5, 1.0]}'
    """
    return json.dumps(_strict(plain(value)), indent=indent, allow_nan=False)


def _strict(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _strict(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def parse_json(text: str | bytes, *, finite: bool = True) -> Any:
    """The value in a JSON text, UTF-8 where it is bytes.

    Raises ValueError for invalid JSON, and for valid JSON that is almost certainly a mistake: duplicate keys, very deep
    nesting, huge numbers and, with `finite`, NaN and infinity.
    """
    options: dict[str, Any] = {"object_pairs_hook": _unique, "parse_int": _integer}
    if finite:
        options |= {"parse_constant": _not_finite, "parse_float": _finite}
    try:
        return json.loads(text.decode("utf-8-sig") if isinstance(text, bytes) else text, **options)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_json(path: str | os.PathLike[str], most: int = MOST_TEXT) -> Any:
    """The value in a JSON file. Raises OSError for what is no such file, ValueError as `parse_json` does."""
    return parse_json(files.read(path, most))


def read_npy(path: str | os.PathLike[str], most: int = MOST_ARRAYS) -> np.ndarray:
    """The array of numbers or text in a file of `numpy.save`.

    Raises OSError for what is no such file, or one of more than `most` bytes; ValueError for any other content.
    """
    with files.open_regular(path) as stream:
        return _array(stream, os.fstat(stream.fileno()).st_size, most)


def read_npz(path: str | os.PathLike[str], most: int = MOST_ARRAYS) -> dict[str, np.ndarray]:
    """Names and arrays in a file of `numpy.savez`, all in memory.

    Raises OSError for what is no such file; ValueError for any other content, and for more than `most` bytes of it.
    """
    arrays = {}
    with files.open_regular(path) as stream:
        try:
            _check_directory(stream)
            with zipfile.ZipFile(stream) as archive:
                members = archive.infolist()
                if sum(member.file_size for member in members) > most:
                    raise ValueError(f"its arrays have more than {most:,} bytes")
                for member in members:
                    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                        raise ValueError(f"{member.filename} is compressed by another method than NumPy's")
                    with archive.open(member) as inner:
                        arrays[member.filename.removesuffix(".npy")] = _array(inner, member.file_size, most)
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OverflowError, struct.error, OSError) as error:
            raise ValueError(f"it is no whole archive of arrays: {error}") from None
    return arrays


def _check_directory(stream: BinaryIO) -> None:
    """ValueError for an archive with a directory that is far larger than that of any arrays: it is read as a whole."""
    size = os.fstat(stream.fileno()).st_size
    stream.seek(max(0, size - LONGEST_END))
    end = stream.read()
    start = end.rfind(b"PK\5\6")
    if start < 0 or len(end) < start + 22:
        raise ValueError("it is no archive of arrays")
    length = int.from_bytes(end[start + 12 : start + 16], "little")
    if length > MOST_DIRECTORY:
        raise ValueError(f"its directory has {length:,} bytes")


def _array(stream: IO[bytes], size: int, most: int) -> np.ndarray:
    """The array in a stream of so many bytes in .npy's format, whose header need not be true."""
    try:
        version = np.lib.format.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"its format {version} is none that numbers and text are saved in")
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read_header(stream)
    except (SyntaxError, tokenize.TokenError, TypeError, EOFError, RecursionError, MemoryError, OverflowError) as error:
        raise ValueError(f"its header is damaged: {error}") from None
    if dtype.kind not in "biufU" or not dtype.itemsize:
        raise ValueError(f"it holds {dtype}, neither numbers nor text")
    if not all(isinstance(n, int) and 0 <= n < 2**48 for n in shape) or len(shape) > 32:
        raise ValueError(f"its shape {shape} is none of an array")
    wanted, found = math.prod(shape) * dtype.itemsize, size - stream.tell()
    if wanted != found:
        raise ValueError(f"it is damaged: {dtype} {shape} has {wanted} bytes, found {found}")
    if wanted > most:
        raise ValueError(f"it has more than {most:,} bytes")
    content = bytearray(wanted)
    if stream.readinto(content) != wanted:  # type: ignore[attr-defined]  # all binary streams have it
        raise ValueError("it ends too early")
    flat = np.frombuffer(content, dtype, math.prod(shape))
    return flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"a key is given twice among {', '.join(sorted(found))[:200]}")
    return found


def _integer(digits: str) -> int:
    if len(digits) > LONGEST_NUMBER:
        raise ValueError(f"a number has {len(digits)} digits")
    return int(digits)


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"the number {digits[:50]} is too large")
    return number


def _not_finite(word: str) -> Any:
    raise ValueError(f"{word} is no number of JSON")
