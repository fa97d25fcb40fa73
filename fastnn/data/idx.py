"""Reader of IDX files, the format of MNIST, plain or gzipped.

The format (http://yann.lecun.com/exdb/mnist/, "file formats for the MNIST database"): two zero bytes, one byte for the
type of the entries, one byte for the number of dimensions, each dimension as a big-endian uint32, then the entries in C
order, big-endian.
"""

from __future__ import annotations

import io
import math
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

import numpy as np

from fastnn import checks
from fastnn.errors import DataError
from fastnn.files import open_regular

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_CHUNK = 1 << 20
_MOST_DIMENSIONS = 32  # what every version of NumPy has

# A gzipped file of images grows three- to tenfold, one of sorted labels a hundredfold, a bomb a thousandfold.
_MOST_GROWTH = 50
_HARMLESS = 64 << 20  # bytes to which a file may grow at any rate


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """Read an IDX file.

    Args:
        path: the file; whether it is gzipped is told by its first two bytes, not by its name.

    Returns:
        Array of the file's dimensions and type (uint8, int8, int16, int32, float32 or float64), in native byte order.

    Raises:
        DataError: no such file, or a pipe or device; a broken gzip stream, or one that grows more than 50-fold to more
            than 64 MB; a wrong magic number, or more or fewer bytes than the dimensions ask for.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "labels-idx1-ubyte"
    ...     _ = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9]))
    ...     read_idx(path)
    array([7, 8, 9], dtype=uint8)
    """
    with unpacked(Path(checks.path("read_idx", path))) as (stream, size, packed):
        # Unpacked, nothing can be longer than this, whatever the header says.
        most = max(_HARMLESS, _MOST_GROWTH * size) if packed else size
        return _read_idx(stream, str(path), most, None if packed else size)


def parse_idx(content: bytes, name: str) -> np.ndarray:
    """The array in the bytes of an uncompressed IDX file; ``name`` is for messages."""
    return _read_idx(io.BytesIO(content), name, len(content), len(content))


def _read_idx(stream: IO[bytes], name: str, most: int, size: int | None) -> np.ndarray:
    """The array in a stream of at most `most` bytes, of `size` where that is known."""
    magic = stream.read(4)
    if len(magic) < 4:
        raise DataError(f"{name}: expected an IDX file, got {len(magic)} bytes, fewer than its magic number has")
    kind, ndim = magic[2], magic[3]
    if magic[:2] != b"\0\0" or kind not in _TYPES or not 1 <= ndim <= _MOST_DIMENSIONS:
        raise DataError(
            f"{name}: expected the magic number of an IDX file (00 00, type 08, 09, 0b, 0c, 0d or 0e, number of "
            f"dimensions), found {magic.hex(' ')}"
        )
    start = 4 + 4 * ndim
    header = stream.read(4 * ndim)
    if len(header) < 4 * ndim:
        raise DataError(
            f"{name}: expected {ndim} dimensions in a header of {start} bytes, found {4 + len(header)} bytes in all"
        )
    shape = tuple(int(side) for side in np.frombuffer(header, ">u4"))
    dtype = np.dtype(_TYPES[kind])
    expected = start + math.prod(shape) * dtype.itemsize  # Python integers: a broken header cannot make them overflow
    wanted = f"expected {expected} bytes for dimensions {shape}, found"
    if size is not None and size != expected:
        raise DataError(f"{name} is {'truncated' if size < expected else 'too long'}: {wanted} {size}")
    if expected > most:
        found = start + sum(map(len, _chunks(stream, _HARMLESS)))  # where it is damaged, that shows early
        if found < _HARMLESS:
            raise DataError(f"{name} is truncated: {wanted} {found}")
        raise DataError(
            f"{name} grows to more than {_MOST_GROWTH} times its size, as no images do: {wanted} at most {most} "
            "reasonable; if it is right, unpack it first, with gunzip"
        )
    try:
        content = bytearray(expected - start)
        done = 0
        for chunk in _chunks(stream, len(content)):
            content[done : done + len(chunk)] = chunk
            done += len(chunk)
        array = np.frombuffer(content, dtype).reshape(shape)
    except (ValueError, MemoryError) as error:  # no entries, but of too many dimensions; more than the memory holds
        raise DataError(f"{name}: expected the dimensions of an array, found {shape} ({error})") from error
    if done < len(content) or stream.read(1):
        problem, found = ("truncated", start + done) if done < len(content) else ("too long", expected + 1)
        raise DataError(f"{name} is {problem}: {wanted} {found}{' or more' if found > expected else ''}")
    return array.astype(dtype.newbyteorder("="), copy=False)


def _chunks(stream: IO[bytes], most: int) -> Iterator[bytes]:
    """The next bytes of a stream, up to `most` of them."""
    while most > 0 and (chunk := stream.read(min(most, _CHUNK))):
        most -= len(chunk)
        yield chunk


def read_content(path: Path, limit: int) -> bytes:
    """The bytes of a file, unpacked where it is gzipped.

    At most ``limit`` + 1 bytes are unpacked: enough to see that there are too many, however far a hostile file would
    inflate.

    Raises:
        DataError: no such file, or a broken gzip stream.
    """
    with unpacked(path) as (stream, _, _):
        return b"".join(_chunks(stream, limit + 1))


@contextmanager
def unpacked(path: Path) -> Iterator[tuple[IO[bytes], int, bool]]:
    """A file's content as a stream, its size on the disk, and whether it is gzipped. Its faults are DataErrors."""
    import gzip

    try:
        with open_regular(path) as raw:
            size = os.fstat(raw.fileno()).st_size
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            if not packed:
                yield raw, size, False
                return
            with gzip.GzipFile(fileobj=raw) as stream:
                yield cast(IO[bytes], stream), size, True
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path} is truncated or corrupt: expected a whole gzip stream, found: {error}") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
