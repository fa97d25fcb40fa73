"""Memory that is kept to be used again, given back."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakSet

from fastnn import backends, locks

if TYPE_CHECKING:
    from fastnn.plan.executions import Plan

__all__ = ["note_plan", "release_memory", "trim_memory"]

_plans: WeakSet[Plan] = WeakSet()  # all that exist
_lock = locks.lock()


def note_plan(plan: Plan) -> None:
    """Have `release_memory` reach it, too."""
    with _lock:
        _plans.add(plan)


def release_memory() -> None:
    """Give the system the memory that is kept to be used again: after a large model or batch, before one elsewhere.

    What fastnn keeps is bounded: large arrays that are no longer used, which with those in use are up to twice the most
    that lately was in use at once (512 MiB at most); working buffers of each thread, as large as its largest kernel has
    needed; and for each compiled model the memory of its last eight shapes of input. All of it goes: that of compiled
    models which no other thread is running, and the buffers of the calling thread and of the kernels' own threads. It
    comes back when it is needed: a compiled model is traced again by its next call, which gives the same results.

    >>> import fastnn as fnn
    >>> predict = fnn.compile(fnn.nn.Linear(4, 2))
    >>> before = predict(fnn.ones(3, 4).numpy())
    >>> fnn.release_memory()
    >>> bool((predict(fnn.ones(3, 4).numpy()) == before).all())
    True
    """
    with _lock:
        plans = list(_plans)
    for plan in plans:
        plan.release()
    if backends.name() == "native":
        from fastnn._kernels import release_memory

        release_memory()


def trim_memory() -> None:
    """Give the system what a plan's arrays left behind, of which malloc would keep most."""
    if backends.name() == "native":
        from fastnn._kernels import trim_memory

        trim_memory()
