"""What optimisers share whose step is one kernel."""

from __future__ import annotations

from collections.abc import Callable
from operator import index
from typing import Any, ClassVar, NamedTuple

import numpy as np

from fastnn import backends
from fastnn.arrays import aligned, aligned_copy
from fastnn.backends.checks import in_place
from fastnn.errors import StateError

from .optimizer import Array, Group, Optimizer, Prepared

__all__ = ["FusedOptimizer"]


class _Coming(NamedTuple):
    """The coming step of parameters of one group that have made as many."""

    step: int  # its number, from 1
    initial: dict[str, float | None]
    kept: list[str]  # the arrays of `initial` that are kept
    numbers: dict[str, Any]


class FusedOptimizer(Optimizer):
    """Base of the optimisers that a kernel of `fastnn.backends` steps, eagerly or inside a compiled plan.

    A subclass says which arrays it keeps and what numbers the kernel takes; plans read these descriptions, too.
    """

    kernel: ClassVar[str]  # the name of the kernel
    counts: ClassVar[bool] = True  # whether the state holds "step", the number of steps made
    _coming: dict[tuple[int, int], _Coming]  # in this step, by the group and the number of steps made
    _made: dict[int, tuple[dict[str, Array], _Coming]]  # in this step, by the id of a parameter's state: its arrays

    def initial(self, group: Group) -> dict[str, float | None]:
        """Arrays of state in the kernel's order, and what each holds before the first step; None: not kept."""
        raise NotImplementedError

    def has_kernel(self, group: Group) -> bool:
        """Whether the kernel makes the steps of this group."""
        return True

    def numbers(self, group: Group, step: int) -> dict[str, Any]:
        """The kernel's keywords for this step, counted from 1; where steps are not counted, 2 stands for all others."""
        raise NotImplementedError

    def steps_made(self, state: dict[str, Any]) -> int:
        """Of the parameter with this state. StateError if its "step" is no such number."""
        if not self.counts:
            return int(bool(state))
        try:
            step = index(state.get("step", 0))
        except TypeError:
            step = -1
        if step < 0:
            raise StateError(f"{self._name}: expected step to be a parameter's number of steps, got {state['step']!r}")
        return step

    def arrays(self, param: Array, state: dict[str, Any], initial: dict[str, float | None]) -> dict[str, Array]:
        """The parameter's arrays of state: those in `state`, and new ones, of what is `initial`, where it has none yet.

        An array of another floating type, as of a model that was double meanwhile, is cast. StateError for one that the
        kernel cannot step in place: of another shape, not C-contiguous or not aligned, or read-only.
        """
        arrays = {}
        for name, value in initial.items():
            if value is None:
                continue
            if name in state:
                array = state[name]
            else:
                array = aligned(param.shape, param.dtype)
                array.fill(value)
            if isinstance(array, np.ndarray) and array.dtype != param.dtype and array.dtype.kind == "f":
                array = aligned_copy(array, param.dtype)
            self._check_array(name, array, param)
            arrays[name] = array
        return arrays

    def _check_array(self, name: str, array: Any, param: Array) -> None:
        same = isinstance(array, np.ndarray) and array.shape == param.shape and array.dtype == param.dtype
        if same and array.flags.carray:
            return
        expected = f"{self._name}: expected {name} of a parameter of shape {param.shape}"
        if not isinstance(array, np.ndarray):
            raise StateError(f"{expected} to be an array, got {type(array).__name__}")
        if not same:
            raise StateError(f"{expected} to be {param.dtype} of that shape, got {array.dtype} {array.shape}")
        raise StateError(f"{expected} to be C-contiguous, aligned and writable, got an array that is not")

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        self._coming, self._made = {}, {}  # users change what stands in the groups
        try:
            return super().step(closure)
        finally:
            self._made = {}

    def _prepared(self, p: Any, data: Array, grad: Any, group: Group) -> Prepared:
        prepared = super()._prepared(p, data, grad, group)
        param, grad, state, _ = prepared
        steps = self.steps_made(state)
        coming = self._coming.get((id(group), steps))
        if coming is None:
            initial = self.initial(group)
            kept = [name for name, value in initial.items() if value is not None]
            coming = _Coming(steps + 1, initial, kept, self.numbers(group, steps + 1))
            self._coming[id(group), steps] = coming
        arrays: dict[str, Any] = {name: state.get(name) for name in coming.kept}
        if not in_place(param, grad, *arrays.values()):  # such as before the first step
            arrays = self.arrays(param, state, coming.initial)
        self._made[id(state)] = arrays, coming
        return prepared

    def _update(self, param: Array, grad: Array, state: dict[str, Any], group: Group) -> None:
        arrays, coming = self._made[id(state)]
        in_order = [arrays.get(name) for name in coming.initial]
        getattr(backends.kernels(param.dtype), self.kernel)(param, grad, *in_order, **coming.numbers)
        state.update(arrays)
        if self.counts:
            state["step"] = coming.step
