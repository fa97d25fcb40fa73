"""Files on disk: written whole or not at all, read without waiting and within bounds.

A file is first written under a temporary name in its own folder, `.NAME.PID-RANDOM.tmp`, and then renamed. While it is
being written it is locked, so that what a killed process left behind can be told from what another one is writing.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import sys
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from fastnn.errors import ArgumentError

try:
    from fcntl import LOCK_EX, LOCK_NB, flock
except ImportError:  # Windows
    flock = None  # type: ignore[assignment]

__all__ = [
    "check_writable",
    "clear_leftovers",
    "holding",
    "is_leftover",
    "make_folder",
    "open_regular",
    "read",
    "write_atomically",
]

LONGEST_NAME = 200  # bytes of a name that still leave room for the rest of a temporary one, 255 being the limit
PATIENCE = 1.0  # seconds that are waited for the reader of a pipe
FAILING = (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # of a disk; others are of file systems that cannot
OLD = 3600.0  # seconds after which a temporary file counts as left behind where there are no locks

_TEMPORARY = re.compile(r"\.(.+)\.\d+(-[0-9a-f]{16})?\.tmp", re.DOTALL)
_DESCRIPTOR = re.compile(r"/dev/std(?:out|err)|(?:/dev|/proc/self)/fd/(\d+)")
_NONBLOCK, _NOCTTY, _NOFOLLOW, _BINARY = (
    getattr(os, f"O_{name}", 0) for name in ("NONBLOCK", "NOCTTY", "NOFOLLOW", "BINARY")
)


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Put `content` into the file `path`: what was there stays until the new content lies whole on the disk.

    Any number of threads and processes may write to one path: the last to finish wins, and a reader sees one whole
    content or another. What writers of this path that were killed left behind is removed. A new file has the
    permissions that `open` would give it, an old one keeps its own. A symbolic link stays a link. Pipes, terminals and
    the like are written to directly.

    Raises OSError: the file cannot be written; the pipe has no reader.
    """
    if not isinstance(content, (bytes, bytearray, memoryview)):
        raise ArgumentError(f"write_atomically: expected bytes, got {type(content).__name__}")
    try:
        own = _DESCRIPTOR.fullmatch(os.fsdecode(path))
    except TypeError:
        raise ArgumentError(f"expected the name of a file, got {path!r}") from None
    if own is not None:
        return _write_to_descriptor(int(own[1] or (1 if own[0].endswith("out") else 2)), content)
    before = _status(path)
    if before is not None and not stat.S_ISREG(before.st_mode):
        return _write_to_special(path, before.st_mode, content)
    target = Path(os.path.realpath(path))
    clear_leftovers(target.parent, target.name)
    temporary: Path | None = None
    try:
        temporary, descriptor = _create_temporary(target, 0o666 if before is None else 0o600)
        with open(descriptor, "wb") as stream:  # the lock ends with it, when the file has its own name
            stream.write(content)
            stream.flush()
            if before is not None:
                _take_over(temporary, before)
            os.fsync(stream.fileno())
            os.replace(temporary, target)
    except BaseException as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink()
        if isinstance(error, OSError):
            if not target.parent.is_dir():
                raise FileNotFoundError(f"cannot write {os.fspath(path)}: there is no folder {target.parent}") from None
            error.filename, error.filename2 = os.fspath(path), None  # not the temporary file's name
        raise
    _sync(target.parent)


def make_folder(folder: str | os.PathLike[str]) -> None:
    """Make a folder, and those above it, where they are not there; a loss of power does not take them away again.

    Raises OSError: it cannot be made, or is a file.
    """
    absent = [path for path in (Path(folder), *Path(folder).parents) if not path.exists()]
    Path(folder).mkdir(parents=True, exist_ok=True)
    for path in reversed(absent):
        _sync(path.parent)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise OSError where `write_atomically` cannot work, without writing anything."""
    before = _status(path)
    if before is not None and not stat.S_ISREG(before.st_mode):
        if stat.S_ISDIR(before.st_mode):
            raise IsADirectoryError(errno.EISDIR, "it is a folder", os.fspath(path))
        _refuse(path, before.st_mode, stat.S_ISFIFO(before.st_mode) or stat.S_ISCHR(before.st_mode))
        return
    folder = os.path.dirname(os.path.realpath(path))
    if not os.path.isdir(folder):
        raise FileNotFoundError(errno.ENOENT, "there is no such folder", folder)
    if not os.access(folder, os.W_OK):
        raise PermissionError(errno.EACCES, "cannot write into the folder", folder)


def clear_leftovers(folder: str | os.PathLike[str], name: str | None = None) -> None:
    """Remove the temporary files that killed writers left in a folder, of one file's or of all; no live writer's."""
    wanted = None if name is None else _stem(name)
    for entry in _names(folder):
        found = _TEMPORARY.fullmatch(entry)
        if found is not None and wanted in (None, found[1]):
            with contextlib.suppress(OSError):  # it is being written, or another process was faster
                _remove_if_dead(os.path.join(folder, entry))


def is_leftover(name: str) -> bool:
    """Whether a file has the name of a temporary one.

    >>> is_leftover(".weights.safetensors.123-0123456789abcdef.tmp"), is_leftover("weights.safetensors")
    (True, False)
    """
    return _TEMPORARY.fullmatch(name) is not None


@contextlib.contextmanager
def holding(folder: str | os.PathLike[str]) -> Iterator[bool]:
    """Context that holds a folder until its end, or that of the process; False where another holds it already."""
    if flock is None:
        yield True
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield _locked(descriptor)
    finally:
        os.close(descriptor)


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """A file opened for reading in binary.

    Raises OSError, in words, for anything but a regular file: a pipe, whose writer might never come, a device, which
    might never end, a folder, a socket.
    """
    try:
        _refuse(path, os.stat(path).st_mode)  # before it is opened, which of a device may have effects
        # Between the two it may have become another; opening a pipe this way does not wait.
        descriptor = os.open(path, os.O_RDONLY | _NONBLOCK | _NOCTTY | _BINARY)
    except ValueError as error:  # a null byte in the name
        raise OSError(errno.EINVAL, str(error), os.fspath(path)) from None
    stream = open(descriptor, "rb")  # noqa: SIM115  # handed on
    try:
        _refuse(path, os.fstat(descriptor).st_mode)
    except OSError:
        stream.close()
        raise
    return stream


def read(path: str | os.PathLike[str], most: int) -> bytes:
    """The content of a regular file of at most `most` bytes. Raises OSError for anything else, and for a larger one."""
    with open_regular(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        content = b"" if size > most else stream.read(most + 1)  # a file may grow, and those in /proc have no size
    if max(size, len(content)) > most:
        raise OSError(errno.EFBIG, f"it has more than {most:,} bytes", os.fspath(path))
    return content


def _status(path: str | os.PathLike[str]) -> os.stat_result | None:
    try:
        return os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise OSError(errno.EINVAL, str(error), os.fspath(path)) from None


def _refuse(path: str | os.PathLike[str], mode: int, allowed: bool = False) -> None:
    """OSError that says what is there, unless it is a regular file or otherwise allowed."""
    if stat.S_ISREG(mode) or allowed:
        return
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder", os.fspath(path))
    kinds = ((stat.S_ISFIFO, "pipe"), (stat.S_ISSOCK, "socket"), (lambda _: True, "device"))
    kind = next(kind for fits, kind in kinds if fits(mode))
    raise OSError(errno.EINVAL, f"it is a {kind}, not a file", os.fspath(path))


def _write_to_descriptor(number: int, content: bytes) -> None:
    """To what this process has open: neither truncated nor replaced, and after what was printed before."""
    for printed in (sys.stdout, sys.stderr):
        if printed is not None:
            printed.flush()
    with open(os.dup(number), "wb") as stream:
        stream.write(content)


def _write_to_special(path: str | os.PathLike[str], mode: int, content: bytes) -> None:
    _refuse(path, mode, stat.S_ISFIFO(mode) or stat.S_ISCHR(mode))
    until = time.monotonic() + PATIENCE
    while True:
        try:
            descriptor = os.open(path, os.O_WRONLY | _NONBLOCK | _NOCTTY | _BINARY)
            break
        except OSError as error:
            if error.errno != errno.ENXIO or not stat.S_ISFIFO(mode):
                raise
            if time.monotonic() > until:
                raise OSError(errno.ENXIO, "nobody reads this pipe", os.fspath(path)) from None
            time.sleep(0.01)
    os.set_blocking(descriptor, True)
    with open(descriptor, "wb") as stream:
        stream.write(content)


def _stem(name: str) -> str:
    """What stands for a file's name in those of its temporary files."""
    encoded = os.fsencode(name)
    return name if len(encoded) <= LONGEST_NAME else sha256(encoded).hexdigest()


def _create_temporary(target: Path, mode: int) -> tuple[Path, int]:
    """A new file beside the target, and its descriptor, which is locked."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NOFOLLOW | _BINARY
    while True:
        temporary = target.with_name(f".{_stem(target.name)}.{os.getpid()}-{os.urandom(8).hex()}.tmp")
        descriptor = os.open(temporary, flags, mode)
        # Who clears leftovers may have been faster than the lock: then that one has it, or has removed the file.
        if _locked(descriptor) and temporary.exists():
            return temporary, descriptor
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    """Take the lock of an open file, if it is free; True also where the file system has no locks."""
    try:
        if flock is not None:
            flock(descriptor, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def _remove_if_dead(path: str) -> None:
    if flock is None:
        if time.time() - os.stat(path).st_mtime > OLD:
            os.unlink(path)
        return
    descriptor = os.open(path, os.O_RDWR | _NONBLOCK | _NOFOLLOW)
    try:
        flock(descriptor, LOCK_EX | LOCK_NB)
        os.unlink(path)
    finally:
        os.close(descriptor)


def _take_over(temporary: Path, before: os.stat_result) -> None:
    """The permissions of the file that is replaced and, where that is allowed, its owner."""
    if hasattr(os, "chown"):
        with contextlib.suppress(OSError):
            os.chown(temporary, before.st_uid, before.st_gid)
    os.chmod(temporary, stat.S_IMODE(before.st_mode) & 0o777)


def _sync(folder: Path) -> None:
    """Make the new name survive a loss of power, where folders can be synchronised."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # one that may be written and not read; Windows
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno in FAILING:
            error.filename = os.fspath(folder)
            raise
    finally:
        os.close(descriptor)


def _names(folder: str | os.PathLike[str]) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
