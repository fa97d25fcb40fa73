"""Signal handlers that run while a model is traced: what they compute is theirs, and no part of the plan."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fastnn.interrupts import Interrupts
from fastnn.tape import recording, traced_by

__all__ = ["handlers_apart"]


@contextmanager
def handlers_apart() -> Iterator[None]:
    """Within it, handlers compute as they would outside: Python calls them between any two lines of the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    replaced: dict[int, tuple[Any, Any]] = {}
    for number in map(int, signal.valid_signals()):
        handler: Any = signal.getsignal(number)
        theirs = callable(handler) and handler is not signal.default_int_handler
        if theirs and not isinstance(getattr(handler, "__self__", None), Interrupts):
            replaced[number] = handler, _apart(handler, recording())
            signal.signal(number, replaced[number][1])
    try:
        yield
    finally:
        for number, (before, ours) in replaced.items():
            if signal.getsignal(number) is ours:  # it may have put another one in its own place
                signal.signal(number, before)


def _apart(handler: Callable[[int, Any], Any], records: bool) -> Callable[[int, Any], None]:
    def run(number: int, frame: Any) -> None:
        with traced_by(None, recording=records):
            handler(number, frame)

    return run
