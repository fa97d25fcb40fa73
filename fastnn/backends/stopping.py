"""Long computations that a signal can interrupt, such as a step over a whole data set."""

from __future__ import annotations

import signal
import threading
from types import TracebackType
from typing import Any

from fastnn import interrupts

__all__ = ["LONG", "Stoppable"]

LONG = 1 << 17  # numbers: computations on smaller inputs finish quickly


class Stoppable:
    """Context in which native kernels are left out once SIGINT or SIGTERM has come; it then raises KeyboardInterrupt.

    What was computed inside is undefined in that case, and so is any other error that came of it. Signals count that
    would end the work: Ctrl-C with Python's own handler, and both within `Interrupts` that are not patient. Handlers of
    others run as they always did. Contexts may be nested: the outermost one counts. Those of inputs of fewer than LONG
    numbers do nothing.
    """

    _depth = 0  # in the main thread

    def __init__(self, size: int) -> None:
        self._size = size

    def __enter__(self) -> None:
        self._begun = False
        if self._size >= LONG and threading.current_thread() is threading.main_thread():
            interrupts.heed()
            if Stoppable._depth == 0:
                self._begun = _begin(*map(_ends_work, (signal.SIGINT, signal.SIGTERM)))
            Stoppable._depth += self._begun

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._begun:
            Stoppable._depth -= 1
            if _kernels().stoppable_end() and not (kind is not None and issubclass(kind, KeyboardInterrupt)):
                raise KeyboardInterrupt from None


def _begin(on_interrupt: bool, on_terminate: bool) -> bool:
    kernels = _kernels()
    if kernels is None or not (on_interrupt or on_terminate):
        return False
    kernels.stoppable_begin(on_interrupt, on_terminate)
    return True


def _kernels() -> Any:
    try:
        from fastnn import _kernels
    except ImportError:
        return None
    return _kernels


def _ends_work(number: int) -> bool:
    """Whether that signal, as it is handled now, ends what the main thread is doing."""
    handler = signal.getsignal(number)
    owner = getattr(handler, "__self__", None)
    if isinstance(owner, interrupts.Interrupts):
        return not owner.patient
    return handler is signal.default_int_handler
