"""What optimisers share whose step is one kernel."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from fastnn import backends

from .optimizer import Array, Group, Optimizer

__all__ = ["FusedOptimizer"]


class FusedOptimizer(Optimizer):
    """Base of the optimisers that a kernel of `fastnn.backends` steps, eagerly or inside a compiled plan.

    A subclass says which arrays it keeps and what numbers the kernel takes; plans read these descriptions, too.
    """

    kernel: ClassVar[str]  # the name of the kernel
    counts: ClassVar[bool] = True  # whether the state holds "step", the number of steps made

    def initial(self, group: Group) -> dict[str, float | None]:
        """Arrays of state in the kernel's order, and what each holds before the first step; None: not kept."""
        raise NotImplementedError

    def numbers(self, group: Group, step: int) -> dict[str, Any]:
        """The kernel's keywords for this step, counted from 1; where steps are not counted, 2 stands for all others."""
        raise NotImplementedError

    def steps_made(self, state: dict[str, Any]) -> int:
        """Of the parameter with this state."""
        return int(state.get("step", 0)) if self.counts else int(bool(state))

    def _update(self, param: Array, grad: Array, state: dict[str, Any], group: Group) -> None:
        step = self.steps_made(state) + 1
        if self.counts:
            state["step"] = step
        arrays: list[Array | None] = []
        for name, value in self.initial(group).items():
            if value is not None and name not in state:
                state[name] = np.full(param.shape, value, param.dtype)
            elif value is not None and state[name].dtype != param.dtype:  # the model was made double since, or single
                state[name] = state[name].astype(param.dtype)
            arrays.append(None if value is None else state[name])
        getattr(backends.kernels(param.dtype), self.kernel)(param, grad, *arrays, **self.numbers(group, step))
