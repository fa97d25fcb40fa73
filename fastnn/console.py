"""Output to the terminal: safe in any encoding, and without a terminal."""

from __future__ import annotations

import errno
import sys
import unicodedata
from typing import Any

from fastnn import locks

__all__ = ["bar", "columns", "flush", "has_terminal", "notebook", "say", "shown", "silence", "width", "write"]

# Replacements for the non-ASCII characters that fastnn prints, for terminals limited to ASCII.
_PLAIN = str.maketrans(
    {"×": "x", "·": ".", "–": "-", "—": "-", "…": "...", "’": "'", "²": "^2", "Σ": "sum ", "→": "->"}
)
# The descriptor is closed, or the terminal has hung up: the output cannot be read, so losing it is no error.
_UNREAD = (errno.EBADF, errno.EIO)
_silent = False
_bars = locks.lock()  # held while a bar is drawn


def shown(text: Any, keep: str = "") -> str:
    r"""Returns `text` in a form that is safe to print: everything unprintable that a file or class name may contain is
    escaped, such as terminal commands, line ends, changes of direction and invalid bytes, except the characters `keep`.

    >>> print(shown("cat\x1b[2J\n"), shown("caf\udce9"), shown("naïve 猫"))
    cat\x1b[2J\n caf\xe9 naïve 猫
    """
    text = str(text)
    return text if text.isprintable() else "".join(c if c in keep else _shown(c) for c in text)


def silence() -> None:
    """Say nothing from here on: in a process that another one speaks for."""
    global _silent
    _silent = True


def say(text: Any = "", *, error: bool = False) -> None:
    """Print lines on standard output, or on standard error with `error`; see `write`."""
    if not _silent:
        write(f"{text}\n", sys.stderr if error else sys.stdout)


def write(text: str, stream: Any) -> None:
    """Writes a text to a stream and flushes it. Does nothing if the stream is missing or closed. Terminal commands, and
    characters that the stream's encoding lacks, are escaped.

    Raises OSError if standard output is a file or pipe that cannot be written to.
    """
    if not hasattr(stream, "write"):  # None, as a rule
        return
    text = shown(text, keep="\n")
    try:
        try:
            stream.write(text)
        except UnicodeEncodeError:
            stream.write(_encodable(text, stream))
        _flush(stream)
    except OSError as problem:
        if stream is not sys.stderr and problem.errno not in _UNREAD:
            raise
    except ValueError:  # it was closed
        pass


def flush() -> None:
    """Flushes standard output. Raises OSError as `write` does."""
    write("", sys.stdout)


def has_terminal() -> bool:
    """Whether standard error is a terminal, on which a bar can move."""
    try:
        return bool(sys.stderr.isatty())
    except (AttributeError, OSError, ValueError):
        return False


def width() -> int:
    """Columns of the terminal, or of $COLUMNS; no limit where there is neither."""
    import shutil

    return shutil.get_terminal_size((10_000, 24)).columns


def columns(text: str) -> int:
    """How many columns of a terminal a text takes: two for each wide character, none for an accent by itself.

    >>> columns("cat"), columns("猫"), columns("e\u0301")
    (3, 2, 1)
    """
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.category(c) in ("Mn", "Me", "Cf") else 1 + (unicodedata.east_asian_width(c) in "WF")
        for c in text
    )


def notebook() -> Any:
    """IPython's shell where it runs a notebook's cells; None anywhere else."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell if hasattr(shell, "kernel") else None


def bar(show: bool | None = None, **options: Any) -> Any:
    """A bar of tqdm, by default (None) in a notebook and on standard error if that is a terminal. `options`: tqdm's."""
    tqdm, stream = _tqdm()

    class Bar(tqdm):  # type: ignore[misc, valid-type]
        _lock = _bars  # tqdm's own is shared by processes: a child that died holding it would block all others

    wanted = stream is not None and (notebook() is not None or has_terminal() if show is None else show)
    return Bar(file=stream, disable=not wanted, **options)


def _tqdm() -> tuple[Any, Any]:
    """tqdm's class and stream for this place: a widget in a notebook, plain text where it has no widgets."""
    if notebook() is not None:
        try:
            import ipywidgets  # noqa: F401
            from tqdm.notebook import tqdm as widget

            return widget, sys.stdout
        except ImportError:
            stream = sys.stdout  # what comes on standard error is red there
    else:
        stream = sys.stderr
    from tqdm import tqdm

    return tqdm, stream


def _shown(character: str) -> str:
    code = ord(character)
    if character.isprintable() or unicodedata.category(character) == "Zs":
        return character
    if 0xDC80 <= code <= 0xDCFF:  # a byte in the name of a file that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


def _encodable(text: str, stream: Any) -> str:
    try:
        encoding = stream.encoding or "ascii"
        return str(text.translate(_PLAIN).encode(encoding, "backslashreplace").decode(encoding))
    except (AttributeError, LookupError, UnicodeError):
        return text.translate(_PLAIN).encode("ascii", "backslashreplace").decode("ascii")


def _flush(stream: Any) -> None:
    if hasattr(stream, "flush"):
        stream.flush()
