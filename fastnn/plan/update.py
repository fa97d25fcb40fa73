"""Optimisers inside a plan: which kernel makes the step, and the numbers that it needs.

The optimiser stays the owner: its groups are read before every step, its state lies where `optimizer.state` has it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnn.optim import SGD, Adam, AdamW, Optimizer
from fastnn.tensor import Array, Tensor

__all__ = ["Slot", "Updates"]

_ARRAYS = ("momentum_buffer", "exp_avg", "exp_avg_sq")
States = tuple[Array | None, Array | None]


@dataclass(eq=False)
class Slot:
    """Parameters that share one set of numbers: a group's, where all have made the same number of steps."""

    group: dict[str, Any]
    states: list[dict[str, Any]]  # of its parameters, in the optimiser
    numbers: Any  # fastnn._kernels.Numbers
    plain: bool  # SGD without momentum
    first: bool  # SGD: no step made yet, so that the velocity begins as the gradient


class Updates:
    """The slots of an optimiser for some of its parameters; `known(optimizer)` says whether there are kernels for it."""

    @staticmethod
    def known(optimizer: Optimizer) -> bool:
        return type(optimizer) in (SGD, Adam, AdamW)

    def __init__(self, optimizer: Optimizer, params: Iterable[Tensor]) -> None:
        from fastnn._kernels import Numbers

        self.optimizer = optimizer
        self.slots: dict[tuple[int, int], Slot] = {}
        self._slot_of: dict[int, Slot] = {}
        self._states: dict[int, States] = {}
        self._bound: list[tuple[Tensor, dict[str, Array]]] = []
        wanted = {id(p) for p in params}
        for index, group in enumerate(optimizer.param_groups):
            for p in group["params"]:
                if id(p) in wanted:
                    state = optimizer.state.setdefault(p, {})
                    steps, self._states[id(p)] = self._prepare(p, state, group)
                    plain = group.get("momentum") == 0
                    slot = self.slots.setdefault((index, steps), Slot(group, [], Numbers(), plain, first=steps == 0))
                    slot.states.append(state)
                    self._bound.append((p, {key: state[key] for key in _ARRAYS if key in state}))
                    self._slot_of[id(p)] = slot

    def _prepare(self, p: Tensor, state: dict[str, Any], group: dict[str, Any]) -> tuple[int, States]:
        """Steps made so far (of SGD only whether any), and the arrays of the state, made where they are absent."""
        if type(self.optimizer) is SGD:
            if group["momentum"] == 0:
                return 1, (None, None)
            fresh = "momentum_buffer" not in state
            if fresh:
                state["momentum_buffer"] = np.zeros(p.shape, p.dtype)
            return int(not fresh), (state["momentum_buffer"], None)
        if not state:
            state.update(step=0, exp_avg=np.zeros(p.shape, p.dtype), exp_avg_sq=np.zeros(p.shape, p.dtype))
        return state["step"], (state["exp_avg"], state["exp_avg_sq"])

    def holds(self, p: Tensor) -> bool:
        return id(p) in self._slot_of

    def numbers(self, p: Tensor) -> Any:
        return self._slot_of[id(p)].numbers

    def states(self, p: Tensor) -> States:
        return self._states[id(p)]

    def stand(self) -> bool:
        """Whether the optimiser still has the state that the kernels were given, and a velocity where it needs one."""
        of = self.optimizer.state.get
        return all(
            (state := of(p)) is not None and all(state.get(key) is array for key, array in arrays.items())
            for p, arrays in self._bound
        ) and all(("momentum" in slot.group and slot.group["momentum"] == 0) == slot.plain for slot in self.slots.values())

    def before_step(self) -> None:
        """Write the numbers of the coming step."""
        for slot in self.slots.values():
            group = slot.group
            if type(self.optimizer) is SGD:
                dampening = 0.0 if slot.first else group["dampening"]
                slot.numbers.sgd(group["lr"], group["momentum"], dampening, group["weight_decay"], group["nesterov"])
            else:
                self._write_adam(slot, group)

    def _write_adam(self, slot: Slot, group: dict[str, Any]) -> None:
        (beta1, beta2), step, decay = group["betas"], slot.states[0]["step"] + 1, group["weight_decay"]
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
        """Count the step that was made."""
        for slot in self.slots.values():
            slot.first = False
            for state in slot.states:
                if "step" in state:
                    state["step"] += 1

    def scale(self, factor: float) -> None:
        """Multiply every gradient of the coming steps by this first."""
        for slot in self.slots.values():
            slot.numbers.scale(factor)
