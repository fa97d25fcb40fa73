"""What a lowered operator is made of: kernels on fixed arrays, which are NumPy views of the plan's memory.

A view costs nothing: reshaped, transposed, sliced and broadcast values share their buffers, and operators that take any
strides read them in place. What needs contiguous memory asks for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnn.autograd.engine import as_hooks_leave
from fastnn.backends.checks import first_of, is_alike
from fastnn.ops.norms import Running
from fastnn.plan.fuse import Stage
from fastnn.plan.memory import Arena, memory_of
from fastnn.plan.trace import Graph
from fastnn.tensors import Array

__all__ = ["Emitter", "Step", "Unlowered"]

_FLOAT32 = np.dtype(np.float32)
_READ = frozenset(map(np.dtype, (np.float32, np.float64, np.int64, np.int32, np.uint8, np.bool_)))  # by maps


class Unlowered(Exception):
    """An operator that has no kernel for these arrays; the message says why."""


@dataclass(eq=False)
class Step:
    """What runs as one: a native stage, or work for Python; `when` is forward, backward, ..., `how` names its kernels.

    Work that is `early` depends on nothing that the plan computes: it is done before the program that follows.
    """

    stage: Stage | None
    when: str
    how: str = ""
    native: Any = None
    backward: bool = False
    work: Callable[[], None] | None = None
    early: bool = False


class Emitter:
    """Takes down the steps of a plan one by one; `input` and `target` stand for the arrays that a run will bring."""

    def __init__(self, graph: Graph) -> None:
        self.arena = Arena()
        self.steps: list[Step] = []
        self.input = np.empty(graph.x.shape, graph.x.dtype)  # never touched: their addresses count
        self.target = None if graph.y is None else np.empty(graph.y.shape, graph.y.dtype)
        self.stage: Stage | None = None  # whose steps are taken down now
        self.when = "forward"
        self.running: list[Running] = []  # statistics that native stages let follow
        self.again = False  # whether arrays may lie in memory that earlier steps have released
        self.taken: list[int] = []  # memory of the arrays that were asked for lately
        self.one = np.ones((), np.float32)  # the gradient of the loss itself, to be told by its identity

    # ---- steps -------------------------------------------------------------------------------------------------------

    def native(self, native: Any) -> None:
        """Add a stage of fastnn._kernels."""
        self.steps.append(Step(self.stage, self.when, native.kernels, native))

    def python(self, work: Callable[[], None], why: str) -> None:
        """Add work for the interpreter; it ends the program before it."""
        self.steps.append(Step(self.stage, self.when, f"Python: {why}", work=work))

    def early(self, work: Callable[[], None]) -> None:
        """Add work that the interpreter does before the program with the stages that follow."""
        self.steps.append(Step(self.stage, self.when, work=work, early=True))

    def call(
        self, kind: str, *arrays: Array | None, n: tuple[Any, ...] = (), p: tuple[float, ...] = (), **layout: Any
    ) -> None:
        """Add an operator's kernel, with arrays and numbers as kernels/plan/operator.h has them."""
        from fastnn._kernels import OperatorStage

        layout = {"shape": None, "kept": 0} | layout
        self.native(OperatorStage(kind, arrays, n, p, input=self.input, target=self.target, **layout))

    def momentum(self, running: Running) -> Array:
        """By how much statistics follow in the use of them that is taken down now, ()."""
        before = sum(one.batches is running.batches for one in self.running)
        self.running.append(running)
        momentum = np.asarray(0.0 if running.momentum is None else running.momentum, np.float32)
        if running.momentum is None:

            def average() -> None:
                momentum[...] = 1 / (float(running.batches) + before + 1)

            self.early(average)
        return momentum

    def waited_for(self, grad: Array, waiting: Callable[[], Iterable[Callable[[Any], Any]]]) -> Array:
        """The gradient as the functions that wait for it in a run leave it."""
        left = self.array(grad.shape, grad.dtype)

        def call() -> None:
            self.leave_kept()  # which they may read
            left[...] = as_hooks_leave(grad.copy(), waiting())

        self.python(call, "a hook for a gradient")
        return left

    def leave_kept(self) -> None:
        """Set the attributes in which the model leaves tensors, in the course of a run."""
        raise NotImplementedError

    # ---- arrays ------------------------------------------------------------------------------------------------------

    def array(self, shape: tuple[int, ...], dtype: Any = _FLOAT32) -> Array:
        """An array of the plan's, contiguous, for what the coming steps write."""
        array = self.arena.array(shape, dtype, again=self.again)
        self.taken.append(memory_of(array))
        return array

    def is_brought(self, array: Array) -> bool:
        """Whether the array lies in what each run brings."""
        return any(
            whole is not None and 0 <= array.ctypes.data - whole.ctypes.data < max(1, whole.nbytes)
            for whole in (self.input, self.target)
        )

    def map(
        self,
        kind: str,
        *inputs: Array,
        out: Array | None = None,
        n: tuple[int, ...] = (),
        p: tuple[float, ...] = (),
        dtype: Any = _FLOAT32,
    ) -> Array:
        """An operator's value entry by entry, its inputs broadcast; written to `out`, or to a new array."""
        for x in inputs:
            if x.dtype not in _READ or not x.flags.aligned:
                raise Unlowered(f"numbers of type {x.dtype}")
        shape = np.broadcast_shapes(*(x.shape for x in inputs))
        out = self.array(shape, dtype) if out is None else out
        arrays = [x if x.shape == shape else np.broadcast_to(x, shape) for x in inputs]
        if kind == "copy" and out.dtype.itemsize == 8 and out.dtype == arrays[0].dtype:  # maps compute in float32
            arrays, halves = [_halves(arrays[0])], _halves(out)
            self.call(kind, halves, *arrays, p=p, shape=halves.shape)
            return out
        if not shape:
            shape, arrays = (1,), [x.reshape(1) for x in arrays]
        self.call(kind, out.reshape(1) if out.ndim == 0 else out, *arrays, n=n, p=p, shape=shape)
        return out

    def contiguous(self, x: Array) -> Array:
        """x as kernels take it, C-contiguous: itself or a copy."""
        return x if x.flags.c_contiguous and x.flags.aligned else self.map("copy", x, dtype=x.dtype)

    def one_or_contiguous(self, x: Array) -> Array:
        """The one number that all entries of x are, where its strides say so; else as `contiguous`."""
        return first_of(x) if is_alike(x) and x.flags.aligned else self.contiguous(x)

    def slope(self, kind: str, grad: Array, *others: Array) -> Array:
        """`map` of a gradient, computed once where its entries, and those of the others, are all the same number."""
        if not is_alike(grad) or any(x.size > 1 for x in others):
            return self.map(kind, grad, *others)
        return np.broadcast_to(self.map(kind, first_of(grad), *(x.reshape(()) for x in others)), grad.shape)

    def zeros(self, shape: tuple[int, ...], dtype: Any = _FLOAT32) -> Array:
        """A new array that is set to zero in each run."""
        return self.map("copy", np.broadcast_to(ZERO, shape), dtype=dtype)

    def sum(self, x: Array, axes: tuple[int, ...]) -> Array:
        """x summed over some dimensions, which are left out."""
        kept = tuple(d for d in range(x.ndim) if d not in axes)
        if math.prod(x.shape[d] for d in axes) == 1:
            return x.squeeze(axes)
        again = math.prod(x.shape[d] for d in axes if not x.strides[d])  # the same entries so many times
        if again > 1 and x.strides:
            first = x[tuple(slice(1) if d in axes and not x.strides[d] else slice(None) for d in range(x.ndim))]
            return self.map("mul", self.sum(first, axes), np.asarray(again, np.float32))
        view = x.transpose(*kept, *sorted(axes, key=lambda d: -abs(x.strides[d]) if x.shape[d] > 1 else -math.inf))
        out = self.array(tuple(x.shape[d] for d in kept))
        self.call("sum", out, view, shape=view.shape, kept=len(kept))
        return out

    def sum_to(self, grad: Array, shape: tuple[int, ...]) -> Array:
        """The transpose of broadcasting, as fastnn.ops.common.sum_to."""
        if grad.shape == shape:
            return grad
        added = grad.ndim - len(shape)
        stretched = [added + d for d, size in enumerate(shape) if size == 1 and grad.shape[added + d] != 1]
        return self.reshape(self.sum(grad, (*range(added), *stretched)), shape)

    def reshape(self, x: Array, shape: tuple[int, ...]) -> Array:
        """The same entries in another shape: a view, or a copy where no strides can express it."""
        view = x.reshape(shape)
        if x.size and not np.may_share_memory(x, view):  # NumPy's copy, which no step would fill
            view = self.contiguous(x).reshape(shape)
        return view


def _halves(x: Array) -> Array:
    """The bits of numbers of eight bytes as two of four: (..., 2) float32."""
    return x[..., np.newaxis].view(np.float32)


ZERO = np.zeros((), np.float32)
