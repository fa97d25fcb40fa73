"""Locks that are free in a forked child, even if a thread of the parent held them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary, WeakMethod

__all__ = ["free_in_children", "lock"]

_locks: WeakKeyDictionary[Any, Callable[[], Any]] = WeakKeyDictionary()  # each with a reference to its `lost`


def lock(lost: Callable[[], None] | None = None) -> Any:
    """Returns a new threading.RLock.

    A forked child has only the thread that forked, but inherits the locks that other threads of the parent held. Such a
    lock is freed in the child, and `lost`, a bound method, is called to clean up what its holder left unfinished.
    """
    new = threading.RLock()
    free_in_children(new, lost)
    return new


def free_in_children(known: Any, lost: Callable[[], None] | None = None) -> None:
    """Let forked children find a lock of somebody else's making free, too."""
    _locks[known] = (lambda: None) if lost is None else WeakMethod(lost)


def _free_locks_of_lost_threads() -> None:
    for one, find_lost in list(_locks.items()):
        if one.acquire(blocking=False):  # free, or held by the thread that forked
            one.release()
            continue
        one._at_fork_reinit()
        lost = find_lost()
        if lost is not None:
            lost()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_free_locks_of_lost_threads)
