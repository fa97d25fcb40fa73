"""Every error that fastnn raises on purpose: subclasses of FastnnError, one sentence that says what was expected."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np


class FastnnError(Exception):
    """Base of all errors raised by fastnn.

    ``layers`` holds the layers that the error passed through, outermost first; modules fill it in as the error rises,
    so that the message names the layer in which it arose.

    >>> str(FastnnError("expected 3 channels, got 1"))
    'expected 3 channels, got 1'
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
        self.layers: list[str] = []

    def __str__(self) -> str:
        return f"{' > '.join(self.layers)}: {self.message}" if self.layers else self.message


class ShapeError(FastnnError, ValueError):
    """Array shapes that do not fit together, or a size that cannot be."""


class DTypeError(FastnnError, TypeError):
    """An array of a type that the operator does not take."""


class LabelError(FastnnError, ValueError):
    """Class labels outside 0 .. C-1, or targets of the wrong kind."""


class ArgumentError(FastnnError, ValueError):
    """An option with a value that makes no sense."""


class OutOfRangeError(FastnnError, IndexError):
    """An index beyond the ends of a sequence: of layers, samples or epochs."""


class GraphError(FastnnError, RuntimeError):
    """backward() where there is nothing to differentiate, or twice through one graph; a plan called within itself.

    `untraced` tells that it came while a plan was being made, of which nothing has run yet; `reason` may say in few
    words why there is none.
    """

    untraced = False
    reason = ""


class StateError(FastnnError, KeyError, RuntimeError):
    """state_dict entries that are missing, unexpected or of another shape; state that a step cannot write to.

    A RuntimeError, too, as PyTorch's is.
    """

    __str__ = FastnnError.__str__  # KeyError would print the repr


class DataError(FastnnError, ValueError):
    """A data set that cannot be found, read or verified."""


class NonFiniteError(FastnnError, ArithmeticError):
    """Training gave a loss that is not a number, or infinite.

    ``module`` is that in whose forward the operator ran whose gradient was NaN, where `detect_anomaly` found one.
    """

    module: object = None


class LinAlgError(FastnnError, np.linalg.LinAlgError, RuntimeError):
    """A matrix without an inverse, or without such a factorisation: NumPy's error, and PyTorch's RuntimeError."""


class BackendError(FastnnError, RuntimeError):
    """A backend, ISA or device that this machine or installation does not have."""


def meant(name: object, names: Iterable[str]) -> str:
    """What to add to a message about an unknown name: which of the known ones it resembles; nothing if none.

    >>> meant("minst", ["digits", "mnist"]), meant("cat", ["digits"])
    (": did you mean 'mnist'?", '')
    """
    from difflib import get_close_matches

    near = get_close_matches(str(name), list(names), 1)
    return f": did you mean {near[0]!r}?" if near else ""


def unreadable(error: Exception) -> str:
    """Why a file could not be read, in words: without Python's "[Errno 2]".

    >>> unreadable(FileNotFoundError(2, "No such file or directory"))
    'No such file or directory'
    """
    return str(getattr(error, "strerror", None) or error)


class MissingExtraError(FastnnError, ImportError):
    """An optional package is absent; the message names the extra that installs it."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f'{package} is needed for this and is not installed: pip install "fastnn-cpu[{extra}]"')


@contextmanager
def needs(package: str, extra: str) -> Iterator[None]:
    """Context for the import of an optional package: MissingExtraError where it is not installed.

    >>> with needs("Unknown", "plot"):
    ...     import unknown
    Traceback (most recent call last):
    fastnn.errors.MissingExtraError: Unknown is needed for this and is not installed: pip install "fastnn-cpu[plot]"
    """
    try:
        yield
    except ImportError as error:
        raise MissingExtraError(package, extra) from error
