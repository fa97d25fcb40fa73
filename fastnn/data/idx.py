"""Reader of IDX files, the format of MNIST, plain or gzipped.

The format (http://yann.lecun.com/exdb/mnist/, "file formats for the MNIST database"): two zero bytes, one byte for the
type of the entries, one byte for the number of dimensions, each dimension as a big-endian uint32, then the entries in C
order, big-endian.
"""

from __future__ import annotations

import math
import os
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from fastnn.errors import DataError

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_CHUNK = 1 << 20


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """Read an IDX file.

    Args:
        path: the file; whether it is gzipped is told by its first two bytes, not by its name.

    Returns:
        Array of the file's dimensions and type (uint8, int8, int16, int32, float32 or float64), in native byte order.

    Raises:
        DataError: no such file, a broken gzip stream, a wrong magic number, or more or fewer bytes than the dimensions
            ask for.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "labels-idx1-ubyte"
    ...     _ = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9]))
    ...     read_idx(path)
    array([7, 8, 9], dtype=uint8)
    """
    content = read_content(Path(path))
    return parse_idx(content, str(path))


def parse_idx(content: bytes, name: str) -> np.ndarray:
    """The array in the bytes of an uncompressed IDX file, copied only to swap bytes; ``name`` is for messages."""
    if len(content) < 4:
        raise DataError(f"{name}: expected an IDX file, got {len(content)} bytes, fewer than its magic number has")
    kind, ndim = content[2], content[3]
    if content[:2] != b"\0\0" or kind not in _TYPES or ndim == 0:
        raise DataError(
            f"{name}: expected the magic number of an IDX file (00 00, type 08, 09, 0b, 0c, 0d or 0e, number of "
            f"dimensions), found {content[:4].hex(' ')}"
        )
    start = 4 + 4 * ndim
    if len(content) < start:
        raise DataError(
            f"{name}: expected {ndim} dimensions in a header of {start} bytes, found {len(content)} bytes in all"
        )
    shape = tuple(int(size) for size in np.frombuffer(content, ">u4", ndim, 4))
    dtype = np.dtype(_TYPES[kind])
    expected = (
        start + math.prod(shape) * dtype.itemsize
    )  # Python integers: dimensions out of a broken header cannot overflow
    if len(content) != expected:
        problem = "truncated" if len(content) < expected else "too long"
        raise DataError(f"{name} is {problem}: expected {expected} bytes for dimensions {shape}, found {len(content)}")
    return np.frombuffer(content, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def read_content(path: Path, limit: int | None = None) -> bytes:
    """The bytes of a file, unpacked where it is gzipped.

    At most ``limit`` + 1 bytes are unpacked: enough to see that there are too many, however far a hostile file would
    inflate.

    Raises:
        DataError: no such file, or a broken gzip stream.
    """
    import gzip

    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            if not packed:
                return _read(raw, limit)
            with gzip.GzipFile(fileobj=raw) as stream:
                return _read(cast(BinaryIO, stream), limit)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path} is truncated or corrupt: expected a whole gzip stream, found: {error}") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


def _read(stream: BinaryIO, limit: int | None) -> bytes:
    if limit is None:
        return stream.read()
    chunks, left = [], limit + 1
    while left > 0 and (chunk := stream.read(min(left, _CHUNK))):
        chunks.append(chunk)
        left -= len(chunk)
    return b"".join(chunks)
