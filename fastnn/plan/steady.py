"""Detection of models whose forward differs between calls: they are traced twice, and again after some steps.

A plan repeats for ever what forward did while it was traced. What forward draws itself, counts, or takes from places
that the plan does not follow would stay as it was then, without a word; so all that differs between two traces is an
error here. fit then runs the model operator by operator.
"""

from __future__ import annotations

import os
import random as python_random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from types import FunctionType
from typing import Any

import numpy as np

from fastnn import locks
from fastnn.errors import GraphError
from fastnn.plan.keep import StandIns, holds, replaced
from fastnn.plan.memory import memory_of
from fastnn.plan.places import MISSING, PLAIN, Place, same
from fastnn.plan.reach import Reach
from fastnn.plan.shapes import trials
from fastnn.plan.structure import Structure
from fastnn.plan.trace import Around, Graph, Operator, Unsteady, Value
from fastnn.tensors import Array

__all__ = ["CHECKED", "Unsteady", "check_again", "first_graph", "steady_graph", "undone"]

CHECKED = frozenset(10**k + 1 for k in range(12))  # the calls of a plan before which it is compared with a new trace
ATTEMPTS = 4  # traces until a change in a place that other threads use, too, counts as forward's own

UNSEEDED = "draws random numbers from a generator without a seed"

# A trace, given who knows what it takes from attributes and leaves there.
Make = Callable[[Callable[[], Around]], Graph]

_tracing = locks.lock()  # a trace puts back what it changed in the model: two at a time would mix that up


def steady_graph(structure: Structure, make: Make, parameters: bool) -> Graph:
    """The graph that `make` traces, if a second trace gives the same one and leaves everything as it is; else Unsteady.

    What the first trace alone creates, such as a table that forward keeps from its first call on, stays. With
    `parameters`, forward may not write into parameters and buffers either. Attributes in which forward leaves tensors
    are state, unless it does the same whatever it finds there.
    """
    with _tracing, _State(structure, parameters) as before:
        graph = before.steady(make)
    structure.leave_to_plan([array for op in graph.operators for array in map(_array, op.inputs) if array is not None])
    return graph


def first_graph(structure: Structure, make: Make) -> Graph:
    """The graph that `make` traces, compared with nothing."""
    if structure.keepings or structure.lists:
        with _tracing, _State(structure, parameters=False) as state:
            graph = state.traced(make, structure.stand_ins())
            structure.learn(graph.keepings)
            return graph
    before = trials.apart, trials.known
    trials.apart = lambda: _State(structure, parameters=False).apart()
    trials.known = frozenset(map(memory_of, structure.buffers))
    try:
        return make(lambda: Around([], [], []))
    finally:
        trials.apart, trials.known = before


def check_again(structure: Structure, graph: Graph, make: Make, parameters: bool) -> None:
    """Unsteady where a new trace differs from the graph that a plan was made of some calls ago."""
    with _tracing, _State(structure, parameters) as state:
        state.checked(graph, make, structure.stand_ins(), fixed=True)


@contextmanager
def undone(model: Any) -> Iterator[None]:
    """Context after which what the model's code can read is as it was before, but for its parameters and buffers."""
    structure = Structure(model)
    if not structure.has_users_code:
        yield
        return
    with _tracing:
        state = _State(structure, parameters=False)
        try:
            yield
        finally:
            for place, _ in state.changes():
                place.write(place.seen)


class _State:
    """Everything that a model can read, as it is at one time; a context that puts it back where an error is raised."""

    def __init__(self, structure: Structure, parameters: bool) -> None:
        self.structure, self.parameters = structure, parameters
        self.unseeded = False  # whether the last trace seeded a generator by chance
        self.places = Reach(
            structure.roots, structure.names, whole=True, parameters=parameters, free=structure.keepings
        ).places
        arrays = [place.owner for place in self.places if isinstance(place.owner, np.ndarray)]
        self.known = frozenset(map(memory_of, [*arrays, *structure.buffers]))

    def __enter__(self) -> _State:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: Any) -> None:
        if error is not None:  # what other threads write to as well is only put back where forward has changed it
            for place, _ in self.changes(own=not isinstance(error, Unsteady)):
                place.write(place.seen)

    def steady(self, make: Make) -> Graph:
        """See `steady_graph`."""
        found: Unsteady | None = None
        while True:
            try:
                return self._steady(make)
            except Unsteady as error:
                found = error
                if not self.structure.take_as_state(error.entries):
                    raise
            except GraphError as error:  # it reads values
                if found is None and not self.structure.states:
                    raise
                raise (found or self.structure.state_is_read()) from error

    def _steady(self, make: Make) -> Graph:
        structure, settled = self.structure, self
        first = self.traced(make, structure.stand_ins(states_alone=True))
        if self.changes(own=True):
            self.refuse_traced_values()
            settled = _State(structure, self.parameters)
        structure.learn(first.keepings)
        graph = settled.checked(first, make, structure.stand_ins(), fixed=False)
        found = [keeping.entry.read() for key, keeping in structure.keepings.items() if key not in structure.states]
        if not all(value is None or value is MISSING for value in found):
            graph = settled.checked(graph, make, structure.stand_ins(none=True), fixed=False)
        return graph

    def traced(self, make: Make, instead: StandIns) -> Graph:
        """A trace, in which a trial of a user's operator leaves nothing: it draws and counts when it runs in a plan.

        What it leaves in attributes is in the graph; they hold afterwards what they held before.
        """
        with instead:
            try:
                graph = self._traced(lambda: make(lambda: instead.found_in(self.places)))
            except Exception as error:
                instead.check_unread(error)
                raise
        instead.check_unread()
        return graph

    def _traced(self, make: Callable[[], Graph]) -> Graph:
        before = trials.apart, trials.known
        trials.apart, trials.known = self.apart, self.known
        self.unseeded = False
        try:
            with self._watched():
                return make()
        finally:
            trials.apart, trials.known = before

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Context that notices where code asks the operating system for random numbers, to seed a new generator by:
        under the names by which the standard library, and by way of that NumPy, call the function."""
        real, thread = os.urandom, threading.get_ident()

        def noticed(size: int) -> bytes:
            self.unseeded |= threading.get_ident() == thread
            return real(size)

        os.urandom = python_random._urandom = noticed  # type: ignore[attr-defined]
        try:
            yield
        finally:
            os.urandom = python_random._urandom = real  # type: ignore[attr-defined]

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Context after which nothing is left of what was done in it, but to arrays."""
        seen = [(place, place.read()) for place in self.places if not isinstance(place.owner, np.ndarray)]
        unseeded = self.unseeded
        try:
            yield
        finally:
            self.unseeded = unseeded
            for place, entries in seen:
                if place.changes(entries):
                    place.write(entries)

    def changes(self, own: bool = False) -> list[tuple[Place, Any]]:
        """Places that have changed since, each with the name of one entry; `own`: not those that threads share."""
        found = [(place, place.changes()) for place in self.places if not (own and place.shared)]
        return [(place, entries[0]) for place, entries in found if entries]

    def checked(self, graph: Graph, make: Make, instead: StandIns, *, fixed: bool) -> Graph:
        """A new trace, if it is equal to `graph` and changes nothing; else Unsteady, which begins with what says most.

        Other threads may have come between: where there are any, and where only such places have changed that all of
        them write to, it counts if every trace of a few does so. Unless `fixed`, each is then compared with the last.
        """
        structure = self.structure
        seen = {place: place.seen for place in self.places}
        for _ in range(ATTEMPTS):
            now = self.traced(make, instead)
            differs = difference(graph, now, structure) or (
                f"{structure.readers} {UNSEEDED}" if self.unseeded else None
            )
            changes = [(place, names[0]) for place in seen if (names := place.changes(seen[place]))]
            if not changes and not differs:
                return now
            shared = not differs and all(place.shared for place, _ in changes)
            if not changes or (not shared and threading.active_count() == 1):
                break
            graph = graph if fixed else now
            for place, _ in changes:
                if place.shared and isinstance(place.owner, np.ndarray):
                    place.write(place.seen)  # the same may be written each time: only from the same start it is seen
                else:
                    seen[place] = place.read()
        for place, name in sorted(changes, key=lambda change: change[0].shared):
            raise Unsteady(f"{place.reader} {place.verb} {place.named(name)}")
        assert differs is not None
        raise Unsteady(differs)

    def refuse_traced_values(self) -> None:
        """Raise Unsteady if something now holds a value that only exists while a trace is made."""
        for place, _ in self.changes(own=True):
            now = place.read()
            for entry in place.changes():
                if holds(now.get(entry)):
                    raise Unsteady(f"{place.reader} keeps a tensor that it has computed in {place.named(entry)}")


def difference(a: Graph, b: Graph, structure: Structure) -> str | None:
    """In which operator two graphs of one model differ, in words; None where they are the same."""
    where = {id(v): ("value", i) for g in (a, b) for i, v in enumerate([*g.inputs, *g.targets])}

    def named(op: Operator) -> str:
        return f"{op.function.__name__} in {structure.name_of(op.module)}"

    for index, (one, other) in enumerate(zip(a.operators, b.operators, strict=False)):
        if one.function is not other.function or len(one.inputs) != len(other.inputs):
            return (
                f"{structure.readers} does not run the same operators at every call "
                f"(once {named(one)}, once {named(other)})"
            )
        if not (
            one.needs == other.needs
            and one.output.shape == other.output.shape
            and all(_equal(x, y, where) for x, y in zip(one.inputs, other.inputs, strict=True))
        ):
            return f"{structure.reader_of(other.module)} does not give {named(other)} the same inputs at every call"
        if not _equal(one.attributes, other.attributes, where):
            return f"{structure.reader_of(other.module)} does not give {named(other)} the same options at every call"
        where[id(one.output)] = where[id(other.output)] = "operator", index
    if len(a.operators) != len(b.operators):
        return (
            f"{structure.readers} does not run the same operators at every call "
            f"(once {len(a.operators)}, once {len(b.operators)})"
        )
    if [where.get(id(v)) for v in a.results] != [where.get(id(v)) for v in b.results]:
        return "forward does not return the same tensor at every call"
    before, now = (
        {k.entry.key: replaced(k.left, lambda traced: traced.value) for k in graph.keepings} for graph in (a, b)
    )
    if not _equal(before, now, where):
        entries = {k.entry.key: k.entry for k in (*b.keepings, *a.keepings)}
        changed = [str(entry) for key, entry in entries.items() if (key in before) != (key in now)]
        entry = (changed or [*map(str, entries.values())])[0]
        return f"{structure.readers} does not keep the same in {entry} at every call"
    return None


def _equal(a: Any, b: Any, where: dict[int, Any], depth: int = 6) -> bool:
    """Whether two operators were given the same: the same value of their graphs, or equal constants."""
    if a is b:
        return True
    if isinstance(a, Value) and isinstance(b, Value):
        if a.tensor is not None and b.tensor is not None:
            return a.tensor is b.tensor or (
                a.requires_grad == b.requires_grad and _equal_arrays(a.tensor._data, b.tensor._data)
            )
        return id(a) in where and where[id(a)] == where.get(id(b))
    if type(a) is not type(b) or not depth:
        return type(a) is type(b)
    if isinstance(a, np.ndarray):
        return _equal_arrays(a, b)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(_equal(x, y, where, depth - 1) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_equal(a[key], b[key], where, depth - 1) for key in a)
    if isinstance(a, PLAIN):
        return same(a, b)
    if isinstance(a, FunctionType):
        cells = [[cell.cell_contents for cell in f.__closure__ or ()] for f in (a, b)]
        return a.__code__ is b.__code__ and _equal(
            [cells[0], a.__defaults__], [cells[1], b.__defaults__], where, depth - 1
        )
    if is_dataclass(a):
        return all(_equal(getattr(a, f.name), getattr(b, f.name), where, depth - 1) for f in fields(a))
    equality: Any = type(a).__eq__
    if equality is not object.__eq__:
        return bool(a == b)
    return _equal(getattr(a, "__dict__", None), getattr(b, "__dict__", None), where, depth - 1)


def _equal_arrays(a: Array, b: Array) -> bool:
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.__array_interface__["data"] == b.__array_interface__["data"] and a.strides == b.strides:
        return True
    return a.tobytes() == b.tobytes()


def _array(given: Any) -> Array | None:
    """The array that an operator reads its input from in every step."""
    if isinstance(given, Value):
        return None if given.tensor is None else given.tensor._data
    return given if isinstance(given, np.ndarray) else None
