"""Optimisers inside a plan: which kernel makes the step, and the numbers that it needs.

The optimiser stays the owner: its groups are read before every step, its state lies where `optimizer.state` has it.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastnn.optim import SGD, Adam, AdamW, Optimizer
from fastnn.tensor import Array, Tensor

__all__ = ["Slot", "Updates"]

States = tuple[Array | None, Array | None]


@dataclass(eq=False)
class Slot:
    """Parameters that share one set of numbers: a group's, where all have made the same number of steps."""

    group: dict[str, Any]
    numbers: Any  # fastnn._kernels.Numbers
    steps: int  # made so far; of SGD only whether there were any, which is what its first velocity depends on
    plain: bool  # SGD without momentum
    params: list[Tensor] = field(default_factory=list)
    shown: list[tuple[Tensor, dict[str, Any], dict[str, Array]]] = field(default_factory=list)  # parameters' states


class Updates:
    """The slots of an optimiser for some of its parameters; `known` says whether there are kernels for it.

    The state of a parameter that has made no step yet is shown to the optimiser with its first step, not before.
    """

    @staticmethod
    def known(optimizer: Optimizer) -> bool:
        return type(optimizer) in (SGD, Adam, AdamW)

    def __init__(self, optimizer: Optimizer, params: Iterable[Tensor]) -> None:
        from fastnn._kernels import Numbers

        self.optimizer = optimizer
        self.slots: dict[tuple[int, int], Slot] = {}
        self._slot_of: dict[int, Slot] = {}
        self._arrays: dict[int, dict[str, Array]] = {}
        self._members = [(group, list(group["params"])) for group in optimizer.param_groups]
        self._state, self._entries = optimizer.state, len(optimizer.state)
        self.wanted = wanted = {id(p) for p in params}
        for index, group in enumerate(optimizer.param_groups):
            for p in group["params"]:
                if id(p) in wanted:
                    state = optimizer.state.get(p, {})
                    plain = group.get("momentum") == 0
                    names = [] if plain else ["momentum_buffer"] if "momentum" in group else ["exp_avg", "exp_avg_sq"]
                    self._arrays[id(p)] = {
                        name: state[name] if name in state else np.zeros(p.shape, p.dtype) for name in names
                    }
                    steps = self._steps(state)
                    slot = self.slots.setdefault((index, steps), Slot(group, Numbers(), steps, plain))
                    slot.params.append(p)
                    self._slot_of[id(p)] = slot

    def _steps(self, state: dict[str, Any]) -> int:
        return int("momentum_buffer" in state) if type(self.optimizer) is SGD else int(state.get("step", 0))

    def holds(self, p: Tensor) -> bool:
        return id(p) in self._slot_of

    def numbers(self, p: Tensor) -> Any:
        return self._slot_of[id(p)].numbers

    def states(self, p: Tensor) -> States:
        first, second = (*self._arrays[id(p)].values(), None, None)[:2]
        return first, second

    def stand(self) -> bool:
        """Whether the optimiser is as it was: its groups, the steps it has counted, the arrays of its state."""
        groups = self.optimizer.param_groups
        if self.optimizer.state is not self._state or len(groups) != len(self._members):
            return False
        if len(self._state) < self._entries:  # cleared
            return False
        for group, (known, params) in zip(groups, self._members, strict=True):
            now = group["params"]
            if group is not known or len(now) != len(params) or not all(map(operator.is_, now, params)):
                return False
        for slot in self.slots.values():
            if (slot.group.get("momentum") == 0) != slot.plain or not (slot.plain or self._follow(slot)):
                return False
        return True

    def _follow(self, slot: Slot) -> bool:
        """Take over the number of steps, which others may have made; False where the parameters now differ in it, or
        where the optimiser keeps other arrays than the kernels were given."""
        if slot.steps == 0:
            return not any(self._steps(self._state.get(p, _EMPTY)) for p in slot.params)
        self._show(slot)
        steps = slot.shown[0][1].get("step")
        for p, state, arrays in slot.shown:
            if self._state.get(p) is not state or state.get("step") != steps:
                return False
            for name, array in arrays.items():
                if state.get(name) is not array:
                    return False
        if steps is not None:
            slot.steps = steps
        return True

    def before_step(self) -> None:
        """Write the numbers of the coming step."""
        for slot in self.slots.values():
            group = slot.group
            if type(self.optimizer) is SGD:
                dampening = group["dampening"] if slot.steps else 0.0  # v = g at first
                slot.numbers.sgd(group["lr"], group["momentum"], dampening, group["weight_decay"], group["nesterov"])
            else:
                self._write_adam(slot, group)

    def _write_adam(self, slot: Slot, group: dict[str, Any]) -> None:
        (beta1, beta2), step, decay = group["betas"], slot.steps + 1, group["weight_decay"]
        coupled = type(self.optimizer) is Adam
        slot.numbers.adam(
            beta1,
            beta2,
            group["eps"],
            group["lr"] / (1 - beta1**step),
            math.sqrt(1 - beta2**step),
            decay if coupled else 0.0,
            1.0 if coupled else 1 - group["lr"] * decay,
        )

    def after_step(self) -> None:
        """Count the step that was made, and show the state of a first one."""
        for slot in self.slots.values():
            if slot.plain:
                continue
            if slot.steps == 0:
                for p in slot.params:
                    self._state.setdefault(p, {}).update(self._arrays[id(p)])
                self._entries = len(self._state)
            self._show(slot)
            if type(self.optimizer) is SGD:
                slot.steps = 1
                continue
            slot.steps += 1
            for _, state, _ in slot.shown:
                state["step"] = slot.steps

    def _show(self, slot: Slot) -> None:
        """Look up once where the optimiser keeps the slot's state."""
        if not slot.shown:
            slot.shown = [(p, self._state.get(p, _EMPTY), self._arrays[id(p)]) for p in slot.params]

    def scale(self, factor: float) -> None:
        """Multiply every gradient of the coming steps by this first."""
        for slot in self.slots.values():
            slot.numbers.scale(factor)


_EMPTY: dict[str, Any] = {}
