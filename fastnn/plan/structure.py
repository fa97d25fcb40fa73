"""What a plan relies on besides arrays: the model's layers, options and modes, and what its code reads elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.hooks import hooks, key_of
from fastnn.nn import Module, Parameter
from fastnn.nn.modes import modes_in_force
from fastnn.plan.keep import StandIns, bare, signature
from fastnn.plan.places import PLAIN, Place, share_out
from fastnn.plan.reach import UNREAD, Reach
from fastnn.plan.trace import Keeping, Unsteady
from fastnn.tensors import Array, Tensor

__all__ = ["Structure"]


class Structure:
    """Modules and parameters of a model (and of a loss), and whether they are still what they were.

    Walking through a model takes longer than a small network's step: it is done only after an attribute of some module
    was set, or where one of the places that do not report changes (closures, globals, lists) has changed.
    """

    def __init__(self, *roots: Any) -> None:
        self.roots = roots
        self.names: set[str] = set()
        self._seen = -1
        self._print: list[Any] = []
        self._kept: list[Any] = []
        self._loose: list[Place] = []
        self._live: list[Array] = []  # arrays that the plan itself reads: what is written into them counts anyway
        self.keepings: dict[tuple[int, Any], Keeping] = {}  # entries in which calls leave tensors
        self.states: set[tuple[int, Any]] = set()  # those among them that calls look at before they set them
        self.lists: dict[int, tuple[list[Any], list[Any]]] = {}  # that calls add tensors to, and what was in them first
        self._modes_of: Any = None
        self._watched: list[int] = []  # parameters with hooks
        self.changed()

    def changed(self) -> bool:
        """Whether layers, parameters, buffers, options or what else the code reads are others than at the last call."""
        if self._seen == Module.changes and not (hooks and self._with_hooks() != self._watched):
            for place in self._loose:  # any() takes twice as long, at every step
                if place.changes():
                    break
            else:
                return False
        self._seen = Module.changes
        reach = Reach(self.roots, self.names, free=self.keepings)
        for place in reach.places if self.keepings else ():
            place.free = frozenset(name for owner, name in self.keepings if owner == id(place.owner))
        self.names = reach.names
        self._modules = reach.modules
        self.has_users_code, self.iterator = reach.has_users_code, reach.iterator
        self._parameters = list(
            {id(p): p for m in reach.modules for p in vars(m).copy().values() if isinstance(p, Parameter)}.values()
        )
        self._loose = share_out(place for place in reach.places if not self._is_live(place))
        self._watched = self._with_hooks()
        before, self._print = self._print, self._summary()
        # kept, so that nothing else can come to have the id of what was replaced
        self._kept = [reach, [value for module in self._modules for value in vars(module).copy().values()]]
        self._modes_of = None
        if before != self._print:
            self._live = []
            self._loose = share_out(reach.places)  # the next plan may read other arrays
            return True
        return False

    @property
    def buffers(self) -> list[Array]:
        """The arrays of the modules' buffers."""
        values = [vars(module).get(name) for module in self._modules for name in module._buffer_names]
        arrays = [value._data if isinstance(value, Tensor) else value for value in values]
        return [array for array in arrays if isinstance(array, np.ndarray)]

    def learn(self, keepings: list[Keeping]) -> None:
        """From now on what is in these entries is no part of the structure: see `state_key`. But lists are: a plan is
        made for what is in them at the beginning. Raises Unsteady for those that grow from call to call."""
        new = []
        for keeping in keepings:
            entry, owner = keeping.entry, keeping.entry.place.owner
            if isinstance(owner, list) and entry.name >= len(owner):
                _, before = self.lists.setdefault(id(owner), (owner, [*owner]))
                if list(map(id, before)) != list(map(id, owner)):
                    raise Unsteady(
                        f"{entry.place.reader} adds {entry} to a list that grows from call to call (begin forward with "
                        "a new one, or clear it before each call)"
                    )
            elif entry.key not in self.keepings:
                new.append(keeping)
        if new:
            self.keepings.update((keeping.entry.key, bare(keeping)) for keeping in new)
            self._seen = -1
            self.changed()

    def stand_ins(self, *, states_alone: bool = False, none: bool = False) -> StandIns:
        """A context in which a trace finds tensors without numbers in the known entries."""
        known = [k for key, k in self.keepings.items() if key in self.states or not states_alone]
        return StandIns(known, self.states, none)

    def state_key(self) -> tuple[Any, ...]:
        """Shapes, types and plain values of the state that earlier calls left: each combination has its own plan."""
        return tuple([signature(k.entry.read()) for key, k in self.keepings.items() if key in self.states])

    def state_is_read(self) -> Unsteady:
        """The error for a trace that reads values, where states are known."""
        entries = [str(keeping.entry) for key, keeping in self.keepings.items() if key in self.states]
        state = f"{entries[0]}, which the call before has set"
        return Unsteady(f"{self.readers} reads the value of a tensor, perhaps of {state}")

    def take_as_state(self, entries: set[tuple[int, Any]]) -> bool:
        """Take these entries as state from now on, or, where it is all the same, all; returns whether that is new."""
        known = len(self.states)
        self.states |= entries or set(self.keepings)
        return len(self.states) > known

    def adopt(self, before: int, entries: int) -> None:
        """Take note that a call has just set so many entries, since when `Module.changes` was `before`."""
        if self._seen == before and Module.changes - before <= entries:  # more, where another thread set some, too
            self._seen = Module.changes

    def follow_hooks(self) -> None:
        """Take note of what a run's hooks for gradients have changed, such as the list that they collect them in. What
        forward itself reads of it is found out by the next trace (see steady.py); where all of it is fastnn's own there
        is none, and what has changed counts."""
        live = self._live
        if self.has_users_code and self.changed():
            self.leave_to_plan(live)

    def leave_to_plan(self, arrays: list[Array]) -> None:
        """Watch the contents of these arrays no longer: a plan reads them where they lie."""
        self._live += arrays
        self._loose = share_out(place for place in self._kept[0].places if not self._is_live(place))
        self._print = self._summary()

    def _is_live(self, place: Place) -> bool:
        owner = place.owner
        return isinstance(owner, np.ndarray) and any(np.may_share_memory(owner, array) for array in self._live)

    def _summary(self) -> list[Any]:
        return [self._watched, *map(self._fingerprint, self._modules), *(place.fingerprint() for place in self._loose)]

    def name_of(self, module: Module | None) -> str:
        """How a message names a module: its class, and where it lies in the model."""
        for root in self.roots:
            for name, found in root.named_modules() if isinstance(root, Module) else ():
                if found is module:
                    return f"{type(found).__name__} ({name})" if name else type(found).__name__
        return "the loss" if module is None else type(module).__name__

    def _with_hooks(self) -> list[int]:
        """The parameters that have hooks, by what these are entered by."""
        return [key for key in map(key_of, self._parameters) if hooks.get(key)] if hooks else []

    @property
    def readers(self) -> str:
        """What a message names where any of the roots may be meant."""
        return "forward" if len(self.roots) == 1 else "forward or the loss"

    def reader_of(self, module: Module | None) -> str:
        """Which of the roots this module's forward belongs to, as a message names it; no module's is the loss."""
        return "forward" if any(found is module for found in self.roots[0].modules()) else "the loss"

    def modes(self) -> tuple[tuple[bool, ...], tuple[bool, ...]]:
        """Which modules are in training mode for the calling thread, and which parameters want a gradient."""
        overlays, change = modes_in_force()
        known = self._modes_of
        if known is None or known[0] is not overlays or known[1] != change:
            self._modes_of = known = overlays, change, tuple([module.training for module in self._modules])
        return known[2], tuple([parameter._requires_grad for parameter in self._parameters])

    def _fingerprint(self, module: Module) -> list[Any]:
        """The module's identity, and its attributes: plain ones by value, others by identity."""
        options = [
            (name, repr(value) if isinstance(value, PLAIN) else id(value))
            for name, value in vars(module).copy().items()
            if name not in UNREAD and (id(module), name) not in self.keepings
        ]
        return [id(module), *options]
