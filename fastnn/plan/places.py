"""Somewhere that forward or a loss reads values from, and whether they are still what they were."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter, getitem
from types import FunctionType
from typing import Any

import numpy as np

__all__ = ["MISSING", "PLAIN", "ArrayPlace", "CodePlace", "Entry", "LongPlace", "Place", "same", "share_out"]

PLAIN = (bool, int, float, complex, str, bytes, tuple, np.generic, type(None))
SMALL_BYTES = 1024  # arrays up to this size are compared at every step,
WATCHED_BYTES = 1 << 20  # and larger ones, the smallest first, as long as they have no more bytes than this together
MOST_WHOLE = 24  # and are no more than this;
SAMPLED = 8  # of so many others
SAMPLES = 256  # that many numbers, evenly spaced, are; of the rest, the next trace that is compared tells
WATCHED_ENTRIES = 10_000  # long containers up to this length are compared at every step, of longer lists samples
MOST_ENTRIES_KEPT = 1 << 20  # of a container that is put back

MISSING = object()
_code_of = attrgetter("__code__")


def same(a: Any, b: Any) -> bool:
    """Whether a place holds what it held: the very object, or an equal number, text or tuple of such."""
    if a is b:
        return True
    if type(a) is not type(b) or not isinstance(a, PLAIN):
        return False
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b) or (a != a and b != b)


class Place:
    """Somewhere that values are read from: a namespace, a container, a cell, an array, a generator.

    `read` gives its entries by their names, `write` puts such entries back. `named` says what a message calls one of
    them (WarmUp.calls, the variable weight), `reader` whose code reads it (forward, the loss), `verb` what code that
    changes it does. Other threads write to `shared` places, too: a change there need not come from the one that looks.
    `put` sets a single entry, or takes it away (MISSING); places without it cannot be written to after a compiled call.
    What becomes of the entries in `free` is no change.
    """

    free: frozenset[Any] = frozenset()

    def __init__(
        self,
        named: Callable[[Any], str],
        owner: Any,
        read: Callable[[], dict[Any, Any]],
        write: Callable[[dict[Any, Any]], None],
        *,
        put: Callable[[Any, Any], None] | None = None,
        verb: str = "changes",
        shared: bool = False,
    ) -> None:
        self.reader, self.verb = "forward", verb
        self.named, self.owner, self.read, self.write, self.put = named, owner, read, write, put
        self.shared = shared
        self.seen = read()

    def changes(self, seen: dict[Any, Any] | None = None) -> list[Any]:
        """The names of the entries that are others now than in `seen` (else when the place was found), or have gone."""
        now, seen = self.read(), self.seen if seen is None else seen
        found = []
        for name, value in now.items():
            before = seen.get(name, MISSING)
            if before is not value and not same(before, value):
                found.append(name)
        if len(now) != len(seen):
            found += [name for name in seen if name not in now]
        return [name for name in found if name not in self.free] if self.free else found

    def fingerprint(self) -> list[Any]:
        """A summary that is equal as long as the entries are: plain ones by value, others by identity."""
        seen = [(name, value) for name, value in self.seen.items() if name not in self.free]
        return [id(self.owner), *((k, repr(v) if isinstance(v, PLAIN) else id(v)) for k, v in seen)]


class Entry:
    """One entry of a place, in which a compiled call leaves tensors."""

    def __init__(self, place: Place, name: Any) -> None:
        assert place.put is not None
        self.place, self.name, self.key = place, name, (id(place.owner), name)
        self._put = place.put

    def __str__(self) -> str:
        return str(self.place.named(self.name))

    def read(self) -> Any:
        return self.place.read().get(self.name, MISSING)

    def put(self, value: Any) -> None:
        if value is not MISSING or self.read() is not MISSING:
            self._put(self.name, value)


class ArrayPlace(Place):
    """The content of an array, `whole` or in samples, compared without a copy: nothing to put back."""

    def __init__(self, label: str, array: np.ndarray[Any, Any]) -> None:
        plain = np.asarray(array)
        self.whole = array.nbytes <= SMALL_BYTES
        self._bytes = plain.ravel(order="K").view(np.uint8) if plain.flags.forc else None  # a view
        self._flat, self._step = plain.flat, array.size // SAMPLES | 1  # odd: not always the same column
        super().__init__(lambda _: label, array, self._read, lambda _: None, verb="writes into")

    def _read(self) -> dict[Any, Any]:
        return {None: bytearray(self.owner.tobytes() if self.whole else self._samples())}

    def _samples(self) -> bytes:
        return self._flat[:: self._step].tobytes()

    def look(self, whole: bool) -> None:
        """From now on compare the whole content, or samples."""
        if whole != self.whole:
            self.whole, self.seen = whole, {}
            self.seen = self._read()

    def changes(self, seen: dict[Any, Any] | None = None) -> list[Any]:
        before = (self.seen if seen is None else seen)[None]
        if not self.whole:
            now: Any = self._samples()
        elif self._bytes is None:
            now = self.owner.tobytes()
        else:
            now = self._bytes
        return [] if before == now else [None]  # a bytearray compares with any buffer, as memcmp does

    def fingerprint(self) -> list[Any]:
        return [id(self.owner), self.seen[None]]


def share_out(places: Iterable[Place]) -> list[Place]:
    """These places, but of arrays only as many as can be looked at in every step, the smallest as a whole."""
    found, arrays = [], []
    for place in places:
        if isinstance(place, ArrayPlace) and place.owner.nbytes > SMALL_BYTES:
            arrays.append(place)
        else:
            found.append(place)
    left, samples, whole_ones = WATCHED_BYTES, SAMPLED, 0
    for place in sorted(arrays, key=lambda place: place.owner.nbytes):
        whole = place.owner.nbytes <= left and whole_ones < MOST_WHOLE
        if not whole and not samples:
            break
        place.look(whole)
        left -= place.owner.nbytes if whole else 0
        whole_ones += whole
        samples -= not whole
        found.append(place)
    return found


class CodePlace(Place):
    """The code of functions, which notebooks replace where a file has changed, and methods by their classes' names."""

    def __init__(self, functions: list[FunctionType], methods: list[tuple[Mapping[str, Any], str]]) -> None:
        self._functions, self._classes = functions, [space for space, _ in methods]
        self._names = [name for _, name in methods]
        super().__init__(lambda _: "a function or method", functions, lambda: {None: self._now()}, lambda _: None)

    def _now(self) -> list[Any]:
        return [*map(_code_of, self._functions), *map(getitem, self._classes, self._names)]

    def changes(self, seen: dict[Any, Any] | None = None) -> list[Any]:
        try:
            return [] if self._now() == (self.seen if seen is None else seen)[None] else [None]
        except KeyError:  # a method was deleted
            return [None]

    def fingerprint(self) -> list[Any]:
        return list(map(id, self.seen[None]))


class LongPlace(Place):
    """The entries of a long list, dict, deque or set, compared in one go; those in it are not looked into.

    `whole`: all of them are kept, so that they can be put back.
    """

    def __init__(self, label: str, container: Any, whole: bool) -> None:
        self.owner, self._whole = container, whole
        self._is_kept = whole and len(container) <= MOST_ENTRIES_KEPT
        super().__init__(lambda _: label, container, lambda: {None: [*self._now()]}, self._refill)

    def _now(self) -> list[Any]:
        held, count = self.owner, len(self.owner)
        if count > (MOST_ENTRIES_KEPT if self._whole else WATCHED_ENTRIES):
            return [count, *held[:: count // SAMPLES | 1]] if isinstance(held, list) else [count]
        if isinstance(held, dict):
            return [*(held.items() if self._whole else held.values())]
        return held if isinstance(held, list) else [*held]

    def _refill(self, entries: dict[Any, Any]) -> None:
        if self._is_kept:
            self.owner.clear()
            (self.owner.extend if hasattr(self.owner, "extend") else self.owner.update)(entries[None])

    def changes(self, seen: dict[Any, Any] | None = None) -> list[Any]:
        try:
            is_same = bool(self._now() == (self.seen if seen is None else seen)[None])
        except Exception:  # of an == of theirs, such as that of arrays; those that are identical are not asked
            is_same = False
        return [] if is_same else [None]

    def fingerprint(self) -> list[Any]:
        return [id(self.owner), [repr(v) if isinstance(v, PLAIN) else id(v) for v in self.seen[None]]]
