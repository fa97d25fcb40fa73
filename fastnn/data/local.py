"""The files of a data set on this machine: where they lie, and whether they hold what they should."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from fastnn.errors import DataError

from .idx import read_content, unpacked
from .sources import File, Source, find_source

_BLOCK = 512  # of a tar archive
MOST_UNPACKED = 512 << 20  # bytes of one; the largest that is published has 184 million
_MOST_MEMBERS = 10_000

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class FileReport:
    """What :func:`verify` found out about one file; ``str()`` gives one line to print.

    Attributes:
        file: the file's name without ``.gz``.
        path: where it was found; None if it was not.
        sha256: what its content, without compression, should have.
        problem: what is wrong with it; empty if nothing is.
    """

    file: str
    path: Path | None
    sha256: str
    problem: str

    @property
    def ok(self) -> bool:
        """Whether the file is there and holds what it should."""
        return not self.problem

    def __str__(self) -> str:
        return f"{self.file}: {f'ok, SHA-256 {self.sha256}, {self.path}' if self.ok else self.problem}"


def verify(name: str, *, data_dir: PathLike | None = None) -> list[FileReport]:
    """Check every file of a data set by its SHA-256; nothing is downloaded.

    Args:
        name: a key of ``SOURCES``.
        data_dir: folder to look in, by default ``$FASTNN_DATA_DIR``, or else the user's cache.

    Returns:
        One report a file, in the order of the training files, then the test files.

    Raises:
        DataError: an unknown name.

    >>> [report.ok for report in verify("digits")]
    [True]
    """
    source = find_source(name)
    folder = locate(source, source.files, base_folder(source, data_dir))
    reports = []
    for file in source.files:
        try:
            read_verified(source, [file], folder)
            problem = ""
        except DataError as error:
            problem = str(error)
        path = path_of(folder, file.name) or (path_of(folder, source.archive) if source.archive else None)
        reports.append(FileReport(file.name, path, file.sha256, problem))
    return reports


def named_folder(data_dir: PathLike | None) -> Path | None:
    """The data folder that the user named, by argument or by ``$FASTNN_DATA_DIR``; None if none was."""
    named = data_dir if data_dir is not None else os.environ.get("FASTNN_DATA_DIR")
    return Path(named).expanduser() if named else None


def base_folder(source: Source, data_dir: PathLike | None) -> Path:
    """The folder below which a data set's files lie: this package, the user's data folder, or the user's cache."""
    if not source.mirrors:
        return Path(__file__).parent
    named = named_folder(data_dir)
    if named is not None:
        return named
    import pooch

    return Path(pooch.os_cache("fastnn"))


def locate(source: Source, files: Sequence[File], base: Path) -> Path:
    """The folder below ``base`` that holds the files, or most of them; where they would be put, if none holds any."""
    names = [file.name for file in files]
    if source.archive:
        names.append(source.archive)
    return max(
        (base / folder for folder in source.folders),
        key=lambda folder: sum(path_of(folder, name) is not None for name in names),
    )


def read_verified(source: Source, files: Sequence[File], folder: Path) -> list[bytes]:
    """Contents of files, which may lie in the folder gzipped or not, or inside the data set's archive.

    Raises:
        DataError: a file is missing, unreadable, or holds anything but what was published.
    """
    paths = {file: path for file in files if (path := path_of(folder, file.name)) is not None}
    if source.archive and len(paths) < len(files) and (folder / source.archive).is_file():
        return read_archive(folder / source.archive, files)
    contents = []
    for file in files:
        if file not in paths:
            archive = f", or {source.archive}," if source.archive else ""
            raise DataError(f"{source.name}: expected {file.name} or {file.name}.gz{archive} in {folder}, found none")
        content = read_content(paths[file], limit=file.bytes)
        check(content, file, f"{source.name}: {paths[file]}")
        contents.append(content)
    return contents


def read_archive(path: Path, files: Sequence[File]) -> list[bytes]:
    """Contents of files out of a tar archive, found by their base names, wherever in the archive they lie.

    Members are read into memory and verified; no path out of the archive is ever written to.

    Raises:
        DataError: the archive is broken, or lacks a file, or a file holds anything but what was published.
    """
    wanted = {file.name: file for file in files}
    contents: dict[str, bytes] = {}
    with unpacked(path) as (stream, _, _):
        for name, size in _members(stream, str(path)):
            file = wanted.get(Path(name).name)
            if file is not None:
                content = stream.read(min(size, file.bytes + 1))
                check(content, file, f"{path}: {name}")
                contents[file.name] = content
                if len(contents) == len(wanted):
                    break  # the rest of a large archive need not be unpacked
    missing = [name for name in wanted if name not in contents]
    if missing:
        raise DataError(f"{path}: expected {', '.join(missing)} in the archive, found no such file")
    return [contents[file.name] for file in files]


def _members(stream: IO[bytes], where: str) -> Iterator[tuple[str, int]]:
    """Names and sizes of the files in a tar archive; the stream then stands at the content, which may be read or not.

    POSIX.1-1988, "ustar": blocks of 512 bytes, a header with name, size and checksum before each content. Extensions
    are passed over: names as long as they are for belong to no data set. So nothing that a header promises is
    believed, as `tarfile` would.
    """
    count = 0
    while (header := stream.read(_BLOCK)).strip(b"\0"):
        start = stream.tell()
        try:
            size, checksum = (int(header[a:b].strip(b"\0 ") or b"0", 8) for a, b in ((124, 136), (148, 156)))
        except ValueError:
            size = checksum = -1
        if len(header) < _BLOCK or size < 0 or checksum != sum(header) - sum(header[148:156]) + 8 * ord(" "):
            raise DataError(f"{where} is truncated or corrupt: expected a tar archive, found none at {start - _BLOCK}")
        count, end = count + 1, start + -(-size // _BLOCK) * _BLOCK
        if end > MOST_UNPACKED or count > _MOST_MEMBERS:
            raise DataError(f"{where}: expected the published archive, found one with far more in it")
        if header[156:157] in (b"0", b"\0"):
            yield header[:100].rstrip(b"\0").decode("latin-1"), size
        while (left := end - stream.tell()) > 0:
            if not stream.read(min(left, 1 << 20)):
                raise DataError(f"{where} is truncated or corrupt: expected {end} bytes of a tar archive, found fewer")


def check(content: bytes, file: File, where: str) -> None:
    """Raise DataError unless the content, of which one byte too many may have been read, is the published one."""
    if len(content) != file.bytes:
        found = "more" if len(content) > file.bytes else f"only {len(content)}"
        raise DataError(f"{where}: expected the {file.bytes} bytes of the published {file.name}, found {found}")
    from hashlib import sha256

    found = sha256(content).hexdigest()
    if found != file.sha256:
        raise DataError(f"{where}: expected the published {file.name} with SHA-256 {file.sha256}, found {found}")


def path_of(folder: Path, name: str) -> Path | None:
    """Where a file lies in a folder, uncompressed or gzipped; None if it does not."""
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)
