"""The `fastnn` command: one file for each group of subcommands."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from types import FrameType
from typing import Any

from fastnn import console
from fastnn.errors import ArgumentError, BackendError, DataError, FastnnError, NonFiniteError, meant

__all__ = ["main"]

MOST_LINES = 4  # of a usage before an error
EXIT_CODES = """exit codes:
  0    done
  1    anything not named below
  2    the command, or an option of it, makes no sense
  3    data or run missing, damaged, or not to be read or written
  4    training went non-finite
  130  stopped by Ctrl-C (SIGINT)
  143  stopped by SIGTERM

environment: FASTNN_DATA_DIR, FASTNN_NUM_THREADS, FASTNN_BACKEND, FASTNN_ISA; `fastnn info` says what they led to.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (by default the process's own); returns the exit code.

    >>> main(["data", "verify", "digits"])  # doctest: +ELLIPSIS
    digits.npz: ok...
    0
    """
    before, warnings.formatwarning = warnings.formatwarning, _in_a_line
    try:
        with _Terminable():
            arguments = _parser().parse_args(argv)
            _check_environment()
            code: int = arguments.run(arguments)
            console.flush()
        return code
    except (ArgumentError, BackendError) as error:
        return _fail(2, str(error))
    except (DataError, OSError) as error:
        if isinstance(error, BrokenPipeError):  # the reader of the output has closed the pipe
            with contextlib.suppress(AttributeError, OSError, ValueError):  # a stream that is none of the system's
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes it once more at exit
            return 128 + signal.SIGPIPE
        return _fail(3, _in_words(error))
    except NonFiniteError as error:
        return _fail(4, str(error))
    except FastnnError as error:
        return _fail(1, str(error))
    except MemoryError as error:
        return _fail(1, f"there is not enough memory: smaller batches or images take less ({error or 'none is left'})")
    except KeyboardInterrupt as stop:
        return _fail(128 + getattr(stop, "signal", signal.SIGINT), str(stop) or "stopped by SIGINT")
    finally:
        warnings.formatwarning = before


def _check_environment() -> None:
    """Refuse what FASTNN_BACKEND, FASTNN_ISA or FASTNN_NUM_THREADS cannot have before anything is done."""
    from fastnn import backends

    backends.describe()


def _in_words(error: Exception) -> str:
    """The message without Python's "[Errno 2]"."""
    if not isinstance(error, OSError) or error.strerror is None:
        return str(error)
    place = "" if error.filename is None else f"{error.filename}: "
    return f"{place}{error.strerror.lower()}"


class _Terminated(KeyboardInterrupt):
    signal = signal.SIGTERM


class _Terminable:
    """Context in which SIGTERM is an exception, as SIGINT always is."""

    def __enter__(self) -> None:
        self._before = signal.signal(signal.SIGTERM, self._stop)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        raise _Terminated("stopped by SIGTERM")

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGTERM, self._before)


def _fail(code: int, message: str) -> int:
    console.say(f"fastnn: {console.shown(message)}", error=True)
    return code


def _in_a_line(message: Warning | str, *_: Any, **__: Any) -> str:
    """A warning without the line of Python that gave it, which is none of the user's."""
    return f"fastnn: {console.shown(message)}\n"


class _Parser(argparse.ArgumentParser):
    """Help and errors on any terminal; a name that is not known brings the nearest one to mind."""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            near = meant(value, map(str, action.choices or ()))
            raise argparse.ArgumentError(action, f"{error.message}{near}") from None

    def print_usage(self, file: Any = None) -> None:
        """The usage before an error, unless it would push what the error says out of sight."""
        usage = self.format_usage()
        lines = usage.count("\n")
        self._print_message(usage if lines <= MOST_LINES else f"usage: {self.prog} --help lists the options\n", file)

    def _print_message(self, message: str, file: Any = None) -> None:
        console.write(message, file)


class _Command(_Parser):
    """A subcommand that refuses unknown options itself, and so with its own usage, not with that of `fastnn`.

    Options are written out: `--data`, short for `--data-dir`, would leave what was meant for the data set unused.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            first = unknown[0].partition("=")[0]
            near = meant(first, self._option_string_actions) if first.startswith("-") else ""
            if first in ("--data", "--dataset") and any(action.dest == "dataset" for action in self._actions):
                near = f": the data set is named by itself, without {first}"
            self.error(f"unrecognized arguments: {' '.join(unknown)}{near}")
        return found, unknown


def _parser() -> argparse.ArgumentParser:
    # Imported here, within main's try: a Ctrl-C meanwhile is a Ctrl-C like any other.
    from fastnn.cli import (
        bench,
        compare_optimizers,
        completion,
        convert,
        data,
        demo,
        diagnose,
        export,
        info,
        landscape,
        runs,
        summary,
        train,
    )
    from fastnn.config import version

    parser = _Parser(
        prog="fastnn",
        description="Train small neural networks on the CPU, and look at them.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"fastnn {version()}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=_Command)
    for group in (
        train,
        runs,
        diagnose,
        landscape,
        compare_optimizers,
        demo,
        export,
        convert,
        summary,
        data,
        bench,
        info,
    ):
        group.add_commands(commands)
    completion.add_commands(commands, lambda: parser)
    return parser
