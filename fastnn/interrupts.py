"""Ctrl-C and SIGTERM during long work: noted when they come, raised where the work can be left."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

__all__ = ["Interrupts", "at_once", "heed", "innermost"]

SAME = 0.1  # seconds in which a second SIGTERM is still the first: `timeout` sends it to a process and to its group

_active: list[Interrupts] = []  # the main thread's, outermost first


class Interrupts:
    """Context in which SIGINT and SIGTERM are recorded in `caught`, not raised; only a second one is raised at once.

    `heed()` raises what was recorded. While `patient` is set it does not, nor does anything else: what ends the work,
    such as a last checkpoint, is not to be left either. Python lets only the main thread set handlers: in any other
    thread nothing is recorded.
    """

    def __init__(self) -> None:
        self.caught: int | None = None
        self._when = 0.0  # it came
        self.patient = False
        self.raising = 0  # contexts `at_once` that are open
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                # Left alone: what the program ignores, as nohup does, or handles outside of Python (then it is None).
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._note)
            _active.append(self)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        again = self.caught is not None and (number == signal.SIGINT or now - self._when > SAME)
        self.caught, self._when = number, now
        if again or (self.raising and not self.patient):
            raise KeyboardInterrupt

    def heed(self) -> None:
        """Raise KeyboardInterrupt if a signal came."""
        if self.caught is not None and not self.patient:
            raise KeyboardInterrupt

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self in _active:
            _active.remove(self)
        for number, handler in self._before.items():
            signal.signal(number, handler)


def innermost() -> Interrupts | None:
    """The calling thread's innermost `Interrupts`; None where signals take their own course."""
    return _active[-1] if _active and threading.current_thread() is threading.main_thread() else None


def heed() -> None:
    """Raise KeyboardInterrupt if a signal was recorded: for work that does not know whose part it is."""
    interrupts = innermost()
    if interrupts is not None:
        interrupts.heed()


class at_once:
    """Context of work that may be left at any point: signals raise KeyboardInterrupt instead of being recorded only."""

    def __enter__(self) -> None:
        self._interrupts = innermost()
        if self._interrupts is not None:
            self._interrupts.heed()
            self._interrupts.raising += 1

    def __exit__(self, *_: object) -> None:
        if self._interrupts is not None:
            self._interrupts.raising -= 1
