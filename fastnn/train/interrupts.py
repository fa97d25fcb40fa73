"""What `fit` raises where Ctrl-C or SIGTERM ends a training."""

from __future__ import annotations

import signal

from .history import History

__all__ = ["Interrupted"]


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
