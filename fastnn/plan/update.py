"""Optimisers inside a plan: which kernel makes the step, and the numbers that it needs.

The optimiser stays the owner: its groups are read before every step, its state lies where `optimizer.state` has it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from fastnn.optim import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop, Rprop
from fastnn.optim.fused import FusedOptimizer
from fastnn.optim.optimizer import is_penalized
from fastnn.plan.memory import Watch
from fastnn.tensors import Array, Tensor

__all__ = ["Slot", "Updates"]

_KNOWN = (SGD, Rprop, Adagrad, RMSprop, Adam, AdamW)  # not their subclasses, which may step otherwise
_OWN = {"step", "zero_grad"}  # where one object has its own, as optimizer.step = clipped
_EMPTY: dict[str, Any] = {}


@dataclass(eq=False)
class Slot:
    """Parameters that share one set of numbers: a group's, where all have made the same number of steps."""

    group: dict[str, Any]
    numbers: Any  # fastnn._kernels.Numbers
    write: Any  # the method of numbers for this kind of optimiser
    steps: int  # made so far; where they are not counted, whether there were any
    names: tuple[str, ...]  # of the arrays of state
    penalized: bool
    params: list[Tensor] = field(default_factory=list)
    shown: list[tuple[Tensor, dict[str, Any], dict[str, Array]]] = field(default_factory=list)  # parameters' states
    entries: Any = None  # fastnn._kernels.Entries: what was shown, as the optimiser has to keep it


class Updates:
    """The slots of an optimiser for some of its parameters; `known` says whether there are kernels for it.

    The state of a parameter that has made no step yet is shown to the optimiser with its first step, not before. Where
    steps were made, an array that an option has asked for since, and one of another dtype, is replaced at once.
    """

    @staticmethod
    def known(optimizer: Optimizer) -> bool:
        if type(optimizer) not in _KNOWN or not _OWN.isdisjoint(vars(optimizer)):
            return False
        return all(map(optimizer.has_kernel, optimizer.param_groups))  # type: ignore[attr-defined]

    def __init__(self, optimizer: Any, params: Iterable[Tensor]) -> None:
        from fastnn._kernels import Groups, Numbers

        self.optimizer: FusedOptimizer = optimizer
        self.slots: dict[tuple[int, int, bool], Slot] = {}
        self._slot_of: dict[int, Slot] = {}
        self._arrays: dict[int, dict[str, Array]] = {}
        self._filled: dict[int, float | None] = {}  # what new arrays of state hold, until their first step is attempted
        self._groups = Groups(optimizer.param_groups)
        self._members = self._described()
        self._state, self._entries = optimizer.state, len(optimizer.state)
        self.wanted = wanted = {id(p) for p in params}
        for index, group in enumerate(optimizer.param_groups):
            names = tuple(name for name, value in optimizer.initial(group).items() if value is not None)
            for p in group["params"]:
                if id(p) in wanted:
                    state = optimizer.state.get(p, _EMPTY)
                    steps = optimizer.steps_made(state)
                    initial = optimizer.initial(group)
                    self._arrays[id(p)] = arrays = optimizer.arrays(p._data, state, initial)
                    self._filled.update(
                        {id(array): initial[name] for name, array in arrays.items() if name not in state}
                    )
                    state.update({name: array for name, array in arrays.items() if steps or name in state})
                    penalized = is_penalized(group, p._data)
                    numbers = Numbers()
                    write = getattr(numbers, optimizer.kernel.removesuffix("_update"))
                    new = Slot(group, numbers, write, steps, names, penalized)
                    slot = self.slots.setdefault((index, steps, penalized), new)
                    slot.params.append(p)
                    self._slot_of[id(p)] = slot
        self._relied_on = Watch([(None, array) for array in self.states_of_all()])

    def states_of_all(self) -> list[Array]:
        """Every array of state that a step writes."""
        return [array for arrays in self._arrays.values() for array in arrays.values()]

    def written_for(self, params: set[int]) -> list[Array]:
        """The arrays that steps of these parameters write; `params` holds their ids."""
        held = [p for slot in self.slots.values() for p in slot.params if id(p) in params]
        return [array for p in held for array in (p._data, *self._arrays[id(p)].values())]

    def holds(self, p: Tensor) -> bool:
        return id(p) in self._slot_of

    def numbers(self, p: Tensor) -> Any:
        return self._slot_of[id(p)].numbers

    def states(self, p: Tensor) -> list[Array | None]:
        """In the kernel's order; None for what is not kept."""
        arrays = self._arrays[id(p)]
        return [arrays.get(name) for name in self.optimizer.initial(self._slot_of[id(p)].group)]

    def stand(self) -> bool:
        """Whether the optimiser is as it was: its groups, the steps it has counted, the arrays of its state."""
        if self.optimizer.state is not self._state or len(self._state) < self._entries:  # cleared
            return False
        if not _OWN.isdisjoint(vars(self.optimizer)):
            return False
        if not self._groups.stand(self.optimizer.param_groups):  # a rate was set, or something that counts here
            if self._described() != self._members:
                return False
            self._groups = type(self._groups)(self.optimizer.param_groups)
        return self._relied_on.stands() and all(map(self._follow, self.slots.values()))

    def _described(self) -> list[Any]:
        """The groups and their parameters, by identity, and what of their options is relied on."""
        return [(id(group), [*map(id, group["params"])], self._kind(group)) for group in self.optimizer.param_groups]

    def _kind(self, group: dict[str, Any]) -> list[Any]:
        """What of a group decides which arrays are kept, and which parameters are penalised."""
        kept = [value is None for value in self.optimizer.initial(group).values()]
        return [*kept, not group["l1"] and not group["l2"], group["penalize_bias"]]

    def _follow(self, slot: Slot) -> bool:
        """Take over the number of steps, which others may have made; False where the parameters now differ in it, or
        where the optimiser keeps other arrays than the kernels were given."""
        if not slot.names:
            return True
        if slot.steps == 0:
            return all(
                state.get(name, array) is array
                for state, arrays in ((self._state.get(p, _EMPTY), self._arrays[id(p)]) for p in slot.params)
                for name, array in arrays.items()
            ) and not any(self.optimizer.steps_made(self._state.get(p, _EMPTY)) for p in slot.params)
        self._show(slot)
        if not slot.entries.stand():
            return False
        if self.optimizer.counts:
            slot.steps = self.optimizer.steps_made(slot.shown[0][1])
        return slot.steps > 0

    def before_step(self) -> None:
        """Write the numbers of the coming step."""
        for slot in self.slots.values():
            if slot.steps == 0:
                self._begin(slot)
            try:
                slot.write(**self.optimizer.numbers(slot.group, slot.steps + 1))
                is_wrong = (lr := slot.group["lr"]) - lr != 0  # NaN or infinity
            except TypeError:
                self.optimizer._check_group(slot.group)
                raise
            if is_wrong:
                self.optimizer._check_group(slot.group)
            if slot.penalized:
                slot.numbers.penalty(slot.group["l1"], slot.group["l2"])
            slot.numbers.scale(_sign(slot.group))

    def _begin(self, slot: Slot) -> None:
        """Before a first step: what state holds at first may have been changed since the plan was made, and an attempt
        that failed may have written to it."""
        initial = self.optimizer.initial(slot.group)
        for p in slot.params:
            state = self._state.get(p, _EMPTY)
            for name, array in self._arrays[id(p)].items():
                if name not in state and self._filled.pop(id(array), None) != initial[name]:
                    array.fill(initial[name])

    def after_step(self) -> None:
        """Count the step that was made, and show the state of a first one."""
        for slot in self.slots.values():
            if not slot.names:
                continue
            if slot.steps == 0:
                for p in slot.params:
                    self._state.setdefault(p, {}).update(self._arrays[id(p)])
                self._entries = len(self._state)
            self._show(slot)
            if not self.optimizer.counts:
                slot.steps = 1
                continue
            slot.steps += 1
            for _, state, _ in slot.shown:
                state["step"] = slot.steps

    def _show(self, slot: Slot) -> None:
        """Look up once where the optimiser keeps the slot's state."""
        if slot.shown:
            return
        from fastnn._kernels import Entries

        slot.shown = [(p, self._state.get(p, _EMPTY), self._arrays[id(p)]) for p in slot.params]
        states = [(self._state, p, state) for p, state, _ in slot.shown]
        arrays = [(state, name, array) for _, state, arrays in slot.shown for name, array in arrays.items()]
        slot.entries = Entries([*states, *arrays], [state for _, state, _ in slot.shown], "step")

    def scale(self, factor: float) -> None:
        """Multiply every gradient of the coming steps by this first."""
        for slot in self.slots.values():
            slot.numbers.scale(factor * _sign(slot.group))


def _sign(group: dict[str, Any]) -> float:
    """What gradients are multiplied by: -1 where the loss is maximised."""
    return -1.0 if group["maximize"] else 1.0
