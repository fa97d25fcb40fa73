"""When arrays were written in place: what backward asks before it reads what forward has kept.

One clock numbers the nodes of the tape and the writes, so whether an array was written after a node had kept it is a
comparison of two numbers, and recording a node costs nothing. A view counts as the array that owns its memory.

Seen is what fastnn writes itself: in-place operators, optimisers, compiled steps, initialisers, load_state_dict, and
`x.data += y`, which ends with an assignment. What NumPy alone writes (``x.data[0] = 1``) is not.
"""

from __future__ import annotations

import contextlib
import itertools
import weakref
from collections.abc import Iterable
from typing import Any

__all__ = ["Writer", "clock", "owner", "record", "recorded", "written_since", "wrote"]

clock = itertools.count()
latest = -1  # the number of the last write of all: a node that is younger has nothing to ask

_writes: dict[int, int] = {}  # by the id of the owner, while it lives; an older number says nothing of a new owner
_alive: dict[int, weakref.KeyedRef[int, Any]] = {}
_writers: dict[int, weakref.ref[Writer]] = {}


def owner(array: Any) -> Any:
    """The object that owns the memory of `array`: the array itself, or the end of its chain of views.

    as_strided, memoryviews and arrays over a buffer put objects that are no arrays into that chain.
    """
    while (base := array.obj if type(array) is memoryview else getattr(array, "base", None)) is not None:
        array = base
    return array


def wrote(*arrays: Any) -> None:
    """Note that these arrays have just been written in place."""
    global latest
    number = next(clock)
    for array in arrays:
        memory = array if array.base is None else owner(array)
        key = id(memory)
        if key not in _writes:
            with contextlib.suppress(TypeError):  # bytearrays have no weak references: their few numbers stay
                _alive[key] = weakref.KeyedRef(memory, _forget, key)
        _writes[key] = number
    if number > latest:  # another thread may have written since; none comes between a comparison and what follows it
        latest = number


def _forget(ref: weakref.KeyedRef[int, Any]) -> None:
    del _writes[ref.key], _alive[ref.key]


class Writer:
    """One number for arrays that are written together over and over, such as those that a compiled step updates.

    It does not keep the arrays alive; its owner must.
    """

    __slots__ = ("__weakref__", "number", "owners")

    def __init__(self, arrays: Iterable[Any]) -> None:
        self.owners = frozenset(id(owner(array)) for array in arrays)
        self.number = -1
        key = id(self)
        _writers[key] = weakref.ref(self, lambda _: _writers.pop(key, None))

    def wrote(self) -> None:
        """Note that all of them have just been written."""
        global latest
        self.number = number = next(clock)
        if number > latest:
            latest = number


def written_since(array: Any, number: int) -> bool:
    """Whether anything has noted a write to the memory of `array` after the clock had given `number`."""
    key = id(owner(array))
    if _writes.get(key, -1) > number:
        return True
    if not _writers:
        return False
    alive = [writer for ref in _writers.copy().values() if (writer := ref()) is not None]
    return any(writer.number > number and key in writer.owners for writer in alive)


recorded: dict[int, weakref.KeyedRef[int, Any]] = {}  # what stands for a tensor that has changed on the tape


def record(change: Any) -> None:
    """Note that a tensor has changed on the tape, as long as `change` lives: operators ask which one they have seen."""
    recorded[id(change)] = weakref.KeyedRef(change, _drop, id(change))


def _drop(ref: weakref.KeyedRef[int, Any]) -> None:
    recorded.pop(ref.key, None)
