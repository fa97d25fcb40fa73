"""Downloads of data sets, from several mirrors in turn, verified before they count."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Sequence
from pathlib import Path

from fastnn.console import bar
from fastnn.errors import DataError
from fastnn.files import holding, make_folder, write_atomically

from .idx import read_content
from .local import PathLike, base_folder, check, locate, read_archive, read_verified
from .sources import File, Source, find_source

SCRATCH = ".download-"  # begins the name of a folder that is loaded into
YOUNG = 60.0  # seconds in which such a folder may not yet be held


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
    for mirror in sorted(source.mirrors, key=failed.__contains__):  # one that failed before is asked last
        try:
            path = _retrieve(mirror + remote, scratch / remote, progress)
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


def _retrieve(url: str, path: Path, progress: bool | None) -> Path:
    import logging

    import pooch

    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel(logging.WARNING)  # pooch would advise the user to note down the download's hash
    try:
        with bar(progress, desc=path.name, unit="B", unit_scale=True) as moving:
            moving.total = math.inf  # pooch asks for its bool, which a bar of unknown total does not have
            downloader = pooch.HTTPDownloader(progressbar=moving, chunk_size=1 << 16, timeout=(10, 60))
            return Path(pooch.retrieve(url, None, fname=path.name, path=path.parent, downloader=downloader))
    finally:
        logger.setLevel(level)
