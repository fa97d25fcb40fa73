"""Tensors that forward or the loss leaves in attributes and entries of dicts, and what the next call finds there.

A trace finds them there as tensors without numbers: more outputs. Each run sets the entry to a tensor with that run's
numbers, off the tape. Where forward looks at such an entry before it has set it, the entry is state that one call
leaves for the next: tensors in it are more inputs, and everything else that it may hold (None before the first call,
other shapes) has a plan of its own.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from fastnn.nn import Module
from fastnn.plan.places import MISSING, PLAIN, Entry, Place
from fastnn.plan.trace import VIEWS, Around, Detach, Keeping, Traced, Unsteady, Value
from fastnn.tape import tracer
from fastnn.tensors import Array, Tensor

__all__ = ["StandIns", "arrays_in", "bare", "holds", "leave", "replaced", "signature"]

MOST_LEVELS = 4  # of what is kept: a dict of lists of tuples of tensors, say


# ---- tensors in lists, tuples, dicts and objects ---------------------------------------------------------------------


def _entries(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return list(value) if isinstance(value, (list, tuple, set)) else list(getattr(value, "__dict__", {}).values())


def holds(value: Any, kind: type[Tensor] = Traced, levels: int = MOST_LEVELS) -> bool:
    """Whether it holds a tensor of that kind, itself or in so many levels of containers."""
    if isinstance(value, kind):
        return True
    if not levels or (isinstance(value, PLAIN) and not isinstance(value, tuple)):
        return False
    return any(holds(entry, kind, levels - 1) for entry in _entries(value))


def replaced(value: Any, new: Callable[[Any], Any], kind: type[Tensor] = Traced, levels: int = MOST_LEVELS) -> Any:
    """The same with `new(t)` in the place of each tensor t of that kind: what lies around it is copied."""
    if isinstance(value, kind):
        return new(value)
    if not levels or not holds(value, kind, levels):
        return value
    if isinstance(value, (list, tuple)):
        entries = [replaced(entry, new, kind, levels - 1) for entry in value]
        return type(value)(*entries) if hasattr(value, "_fields") else type(value)(entries)
    twin = copy.copy(value)
    space = twin if isinstance(value, dict) else vars(twin)
    for name, entry in list(space.items()):
        space[name] = replaced(entry, new, kind, levels - 1)
    return twin


def _can_be_kept(value: Any, levels: int = MOST_LEVELS) -> bool:
    """Whether `replaced` makes a value of it that has nothing to do with the trace any more."""
    if isinstance(value, Traced):
        return not _is_of_leaf(value.value)
    if isinstance(value, PLAIN) and not isinstance(value, tuple):
        return True
    if not levels or isinstance(value, (Module, set)):
        return not holds(value)
    return all(_can_be_kept(entry, levels - 1) for entry in _entries(value))


def arrays_in(value: Any) -> list[Array]:
    """The arrays of the tensors that are inputs where `value` is state, in their order."""
    arrays: list[Array] = []
    replaced(value, lambda t: t if t.requires_grad else arrays.append(t._data), Tensor)
    return arrays


class _Same:
    """Something as part of a key: equal to itself alone."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def signature(value: Any, levels: int = MOST_LEVELS) -> Any:
    """A hashable description of state that holds `value`: all that a plan depends on but the numbers themselves."""
    if isinstance(value, Tensor):
        return _Same(value) if value.requires_grad else (value.shape, value.dtype)
    if isinstance(value, PLAIN) and not isinstance(value, tuple):
        return type(value), repr(value)
    if not levels or not holds(value, Tensor, levels):
        return _Same(value)
    names = tuple(value if isinstance(value, dict) else getattr(value, "__dict__", ()))
    return type(value), names, tuple([signature(entry, levels - 1) for entry in _entries(value)])


# ---- what a trace leaves and finds -----------------------------------------------------------------------------------


class StandIn(Traced):
    """A tensor without numbers in the place of one that the call before has left; it notices who looks at it."""

    __slots__ = ("was_read",)

    @classmethod
    def of(cls, value: Value) -> StandIn:
        made = super().of(Value(value.shape, value.dtype))
        assert isinstance(made, StandIn)
        made.was_read = False
        return made

    def __getattribute__(self, name: str) -> Any:
        if name not in ("__class__", "was_read"):  # of which isinstance() asks, and who made it
            self.was_read = True
        return super().__getattribute__(name)


class StandIns:
    """A context for a trace, which finds tensors without numbers in known entries.

    In the `states` among them tensors become inputs. The others hold stand-ins or, with `none`, None: of them a trace
    has to be independent.
    """

    def __init__(self, known: Iterable[Keeping], states: set[tuple[int, Any]], none: bool = False) -> None:
        self._known, self._states, self._none = list(known), states, none

    def __enter__(self) -> StandIns:
        self._made: list[tuple[Entry, StandIn]] = []
        self._around = Around([], [], [])
        self._actual = [(keeping.entry, keeping.entry.read()) for keeping in self._known]
        self._put: dict[tuple[int, Any], Any] = {}
        self._forms: list[tuple[Entry, Any, Any]] = []
        self._given: list[tuple[Traced, Value]] = []
        for keeping, (entry, actual) in zip(self._known, self._actual, strict=True):
            if entry.key in self._states:
                self._around.states.append(entry)
                given = replaced(actual, self._input, Tensor)
            else:
                given = None if self._none else replaced(keeping.left, partial(self._stand_in, entry))
            self._put[entry.key] = given
            self._forms.append((entry, given, _form(given)))
            entry.put(given)
        return self

    def __exit__(self, *_: object) -> None:
        for entry, value in self._actual:
            entry.put(value)

    def _input(self, tensor: Tensor) -> Tensor:
        if tensor.requires_grad:
            return tensor
        self._around.inputs.append(Value(tensor.shape, tensor.dtype))
        self._given.append((Traced.of(self._around.inputs[-1]), self._around.inputs[-1]))
        return self._given[-1][0]

    def _was_written(self, left: Any) -> bool:
        """Whether a tensor of the state in it has been written in place, which is another value then."""
        written = {id(traced) for traced, value in self._given if traced.value is not value}
        found: list[int] = []
        replaced(left, lambda traced: found.append(id(traced)) if written else None)
        return not written.isdisjoint(found)

    def _stand_in(self, entry: Entry, traced: Traced) -> StandIn:
        self._made.append((entry, StandIn.of(traced.value)))
        return self._made[-1][1]

    def found_in(self, places: Iterable[Place]) -> Around:
        """Returns what the trace has read from known entries and left in these places, and puts the places back.

        Tensors without numbers that lie anywhere else, or in what cannot be copied, stay where they are.
        """
        for entry, given, form in self._forms:
            if _form(given) != form:
                raise Unsteady(f"{entry.place.reader} changes what is in {entry}, which the call before has set")
        for place in places:
            if place.put is None:
                continue
            now, found = place.read(), []
            for name in place.changes():
                left, given = now.get(name), self._put.get((id(place.owner), name), MISSING)
                if (left is not given or self._was_written(left)) and holds(left) and _can_be_kept(left):
                    found.append(_keeping(Entry(place, name), left))
            for keeping in reversed(found):  # of a list, the last entry first
                keeping.entry.put(place.seen.get(keeping.entry.name, MISSING))
            self._around.keepings += found
        return self._around

    def check_unread(self, error: Exception | None = None) -> None:
        """Raises Unsteady where a trace, which may have failed by `error`, has looked at what should not matter."""
        read = [entry for entry, stand_in in self._made if stand_in.was_read]
        if self._none and error is not None:
            read = [entry for entry, _ in self._actual if entry.key not in self._states]
        if read:
            raise Unsteady(
                f"{read[0].place.reader} reads {read[0]}, which the call before has set", {entry.key for entry in read}
            ) from error


def _form(value: Any, levels: int = MOST_LEVELS) -> Any:
    """The identities of all that is in it."""
    if isinstance(value, (Tensor, *PLAIN)) and not isinstance(value, tuple):
        return id(value)
    return id(value), [_form(entry, levels - 1) for entry in _entries(value)] if levels else None


def _undetached(value: Value) -> Value:
    """The value whose numbers it has, before any detach()."""
    while value.producer is not None and value.producer.function is Detach:
        value = value.producer.inputs[0]
    return value


def _keeping(entry: Entry, left: Any) -> Keeping:
    values: list[Value] = []

    def of_its_own(traced: Traced) -> Traced:
        recorder: Any = tracer()
        values.append(_undetached(traced.value if recorder is None else recorder.value_of(traced)))
        own = Traced.of(values[-1])
        own._requires_grad = traced._requires_grad
        return own

    return Keeping(entry, replaced(left, of_its_own), values)


def _is_of_leaf(value: Value) -> bool:
    """Whether it is a view of a parameter or constant, which others write to between calls."""
    while value.producer is not None and value.producer.function in VIEWS:
        value = value.producer.inputs[0]
    return value.tensor is not None


def bare(keeping: Keeping) -> Keeping:
    """The same shapes in the same entry, with nothing of the trace."""
    return _keeping(keeping.entry, replaced(keeping.left, lambda t: Traced.of(Value(t.value.shape, t.value.dtype))))


def leave(keepings: list[Keeping], array_of: Callable[[Value], Array]) -> None:
    """Set the entries to tensors with copies of the arrays that a run has made."""
    made: dict[int, Tensor] = {}

    def tensor(traced: Traced) -> Tensor:
        if id(traced.value) not in made:
            made[id(traced.value)] = Tensor(array_of(traced.value).copy())
        return made[id(traced.value)]

    for keeping in keepings:
        keeping.entry.put(replaced(keeping.left, tensor))
