"""Ctrl-C and SIGTERM during a training: noted at once, heeded between two updates."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from .history import History

__all__ = ["Interrupted", "Interrupts"]


class Interrupted(KeyboardInterrupt):
    """Training was interrupted, by Ctrl-C (SIGINT) or SIGTERM.

    The model and its optimiser are as they were after the last whole update and can be used.

    Attributes:
        history: the epochs that were complete.
        signal: ``signal.SIGINT`` or ``signal.SIGTERM``.
    """

    def __init__(self, message: str, history: History, number: int) -> None:
        super().__init__(message)
        self.history = history
        self.signal = signal.Signals(number)


class Interrupts:
    """Context in which the two signals are only noted in `caught`; a second SIGINT is not waited with.

    Python lets only the main thread set handlers: in any other, nothing is noted.
    """

    def __init__(self) -> None:
        self.caught: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                # Left alone: what the program ignores, as nohup does, or handles outside of Python (then it is None).
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._note)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.caught == number == signal.SIGINT:
            raise KeyboardInterrupt
        self.caught = number

    def heed(self) -> None:
        """Raise KeyboardInterrupt if a signal came."""
        if self.caught is not None:
            raise KeyboardInterrupt

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
