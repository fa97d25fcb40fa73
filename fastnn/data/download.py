"""Downloads of data sets, from several mirrors in turn, verified before they count."""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Sequence
from pathlib import Path

from fastnn.console import bar
from fastnn.errors import DataError
from fastnn.files import holding, make_folder, write_atomically

from .idx import read_content
from .local import MOST_UNPACKED, PathLike, base_folder, check, locate, read_archive, read_verified
from .sources import File, Source, find_source

SCRATCH = ".download-"  # begins the name of a folder that is loaded into
YOUNG = 60.0  # seconds in which such a folder may not yet be held
TIMEOUT = (10.0, 60.0)  # seconds until a mirror is connected, and between any two things that it sends
SLOWEST = 4096  # bytes a second, on average from PATIENCE on, with which a mirror is still waited for
PATIENCE = 60.0  # seconds


def fetch(name: str, *, data_dir: PathLike | None = None, progress: bool | None = None) -> Path:
    """Download those files of a data set that are not there yet, or are damaged.

    Args:
        name: a key of ``SOURCES``.
        data_dir: folder below which the data set's own folder is made; by default ``$FASTNN_DATA_DIR``, or else the
            user's cache.
        progress: whether a progress bar is shown on standard error; None shows it on a terminal only.

    Returns:
        The folder that holds the files, every one of them verified by SHA-256.

    Raises:
        DataError: an unknown name, no mirror that serves the published content, or a folder that cannot be written.

    >>> sorted(path.name for path in fetch("digits").glob("*.npz"))
    ['digits.npz']
    """
    source = find_source(name)
    return fetch_files(source, source.files, base_folder(source, data_dir), progress)


def fetch_files(source: Source, files: Sequence[File], base: Path, progress: bool | None = None) -> Path:
    """`fetch` for some of a data set's files, below the folder `base`."""
    folder, own = locate(source, files, base), base / source.folders[0]
    missing = _missing(source, files, folder)
    if not missing:
        return folder
    if folder != own:  # nothing is written there: other data sets have files of the same names
        missing = _missing(source, files, own)
    download(source, missing, own, progress)
    return own


def _missing(source: Source, files: Sequence[File], folder: Path) -> list[File]:
    missing = []
    for file in files:
        try:
            read_verified(source, [file], folder)
        except DataError:
            missing.append(file)
    return missing


def download(source: Source, files: Sequence[File], folder: Path, progress: bool | None = None) -> None:
    """Put files of a data set into a folder, uncompressed; each appears there whole and verified, or not at all.

    Raises:
        DataError: no mirror serves the published content, or the folder cannot be written.
    """
    import tempfile

    try:
        make_folder(folder)
        _clear_abandoned(folder)
        with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=folder) as scratch, holding(scratch):
            failed: dict[str, str] = {}  # mirror: reason
            for served in [list(files)] if source.archive else [[file] for file in files]:
                contents = _from_mirrors(source, served, Path(scratch), failed, progress)
                for file, content in zip(served, contents, strict=True):
                    write_atomically(folder / file.name, content)
    except OSError as error:
        raise DataError(f"cannot keep {source.name} in {folder}: {error.strerror or error}") from error


def _clear_abandoned(folder: Path) -> None:
    """Remove what downloads that were killed left in the folder; what another process is loading stays."""
    import shutil

    for scratch in folder.glob(f"{SCRATCH}*"):
        with contextlib.suppress(OSError):
            if time.time() - scratch.stat().st_mtime > YOUNG:
                with holding(scratch) as abandoned:
                    if abandoned:
                        shutil.rmtree(scratch, ignore_errors=True)


def _from_mirrors(
    source: Source, files: list[File], scratch: Path, failed: dict[str, str], progress: bool | None
) -> list[bytes]:
    """Verified contents of the files that one download brings: an archive's files, or a single one."""
    remote = source.archive or f"{files[0].name}.gz"
    most = MOST_UNPACKED if source.archive else files[0].bytes + (1 << 20)  # gzip makes a file hardly larger
    for mirror in sorted(source.mirrors, key=failed.__contains__):  # one that failed before is asked last
        try:
            path = _retrieve(mirror + remote, scratch / remote, most, progress)
        except (OSError, ValueError) as error:  # the exceptions of requests are OSErrors
            response = getattr(error, "response", None)
            reason = getattr(error, "strerror", None) or type(error).__name__
            failed[mirror] = reason if response is None else f"HTTP {response.status_code}"
            continue
        try:
            if source.archive:
                return read_archive(path, files)
            content = read_content(path, limit=files[0].bytes)
            check(content, files[0], remote)
            return [content]
        except DataError as error:
            failed[mirror] = str(error).replace(str(path), remote)
            path.unlink()
    tried = "; ".join(f"{mirror} ({reason})" for mirror, reason in failed.items())
    raise DataError(
        f"cannot download {remote} of {source.name} from any of its mirrors: {tried}; without a network, put the files "
        "into a folder and name it with data_dir= (of the command: --data-dir) or FASTNN_DATA_DIR, or train on the "
        "digits that come with fastnn: fastnn train digits"
    )


def _retrieve(url: str, path: Path, most: int, progress: bool | None) -> Path:
    """What is served there, as a file. OSError for what breaks off, is too slow, or has more bytes than `most`."""
    import requests
    from urllib3.exceptions import HTTPError

    plain = {"Accept-Encoding": "identity"}  # files are packed as they are published
    with (
        bar(progress, desc=path.name, unit="B", unit_scale=True) as moving,
        requests.get(url, headers=plain, stream=True, timeout=TIMEOUT) as response,
        open(path, "wb") as stream,
    ):
        response.raise_for_status()
        length = response.headers.get("Content-Length", "")
        moving.total = int(length) if length.isdecimal() else None
        # read1, which urllib3 has from version 2 on, waits for one arrival, not for all that was asked for.
        read = getattr(response.raw, "read1", response.raw.read)
        start, received = time.monotonic(), 0
        try:
            while chunk := read(1 << 16):
                stream.write(chunk)
                moving.update(len(chunk))
                received, seconds = received + len(chunk), time.monotonic() - start
                if received > most:
                    raise OSError(errno.EFBIG, f"it sends more than {most:,} bytes")
                if seconds > PATIENCE and received < SLOWEST * seconds:
                    raise OSError(errno.ETIMEDOUT, f"it sent {received:,} bytes in {seconds:.0f} s")
        except HTTPError as error:
            raise requests.ConnectionError(error) from error
    return path
