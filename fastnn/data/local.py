"""The files of a data set on this machine: where they lie, and whether they hold what they should."""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from fastnn.errors import DataError

from .idx import read_content
from .sources import File, Source, find_source

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
    import tarfile

    wanted = {file.name: file for file in files}
    contents: dict[str, bytes] = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                file = wanted.get(Path(member.name).name)
                if file is None or not member.isreg():
                    continue
                stream = cast(IO[bytes], archive.extractfile(member))  # None for links and folders alone
                content = stream.read(file.bytes + 1)
                check(content, file, f"{path}: {member.name}")
                contents[file.name] = content
                if len(contents) == len(wanted):
                    break  # the rest of a large archive need not be unpacked
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise DataError(f"{path} is truncated or corrupt: expected a tar archive, found: {error}") from error
    missing = [name for name in wanted if name not in contents]
    if missing:
        raise DataError(f"{path}: expected {', '.join(missing)} in the archive, found no such file")
    return [contents[file.name] for file in files]


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
