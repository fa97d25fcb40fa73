"""A plan for one shape of input: the fused stages with their arrays, run forward and backward, and then the update.

Neighbouring native stages make one Program, which is one call; what has no kernel of its own runs between the programs,
by its operator. Values that only operators see are ordinary arrays, made in each step.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from fastnn.backends import shapes
from fastnn.backends.stopping import Stoppable
from fastnn.errors import NonFiniteError
from fastnn.interrupts import heed
from fastnn.ops.norm import Running
from fastnn.plan.fuse import Single, Stage
from fastnn.plan.gradients import Gradients
from fastnn.plan.memory import Arena, Kept, Watch, read_by, statistics
from fastnn.plan.trace import Graph, Operator, Value
from fastnn.plan.update import Updates
from fastnn.tape import Context, checked, computing_dtype
from fastnn.tensor import Array, Tensor

__all__ = ["Execution", "Part"]


class Part:
    """Something that runs in one go: a Program, or Python between two of them.

    `names` are its stages, each with when it runs and by which kernels.
    """

    def __init__(self, program: Any = None, work: Callable[[], None] | None = None) -> None:
        self.program, self.work = program, work
        self.names: list[tuple[Stage | None, str, str]] = []
        self._seconds = 0.0

    @property
    def seconds(self) -> list[float]:
        """That the last run spent in each stage."""
        return [self._seconds] if self.program is None else self.program.seconds

    def run_work(self) -> None:
        start = time.perf_counter()
        assert self.work is not None
        with np.errstate(over="ignore", invalid="ignore"):  # said better, of the loss
            self.work()
        self._seconds = time.perf_counter() - start


class Execution:
    """`stages`, in their order, made executable.

    With `training` the gradients of all parameters that want one are computed, into `gradients` (a list of pairs), or,
    where `updates` holds a parameter that one dense stage alone uses and `at_once`, straight into the parameter's step.
    With `frozen` the model never changes: stages may keep what they make of its parameters.
    """

    def __init__(
        self,
        graph: Graph,
        stages: list[Stage],
        *,
        training: bool,
        frozen: bool = False,
        options: frozenset[str] = frozenset(),
        updates: Updates | None = None,
        at_once: bool = False,
    ) -> None:
        self.graph, self.stages, self.training, self.options = graph, stages, training, options
        self.frozen = frozen
        self.updates = updates if at_once else None
        self.arena = Arena()
        self.parts: list[Part] = []
        read = [(None if frozen else tensor, array) for tensor, array in read_by(graph)]
        self._relied_on = Watch([*read, *((None, array) for array in statistics(graph))])
        self.gradients: list[tuple[Tensor, Array]] = []  # rewritten in every step
        self.updated: set[int] = set()  # ids of the parameters that their stage updates at once
        self.running: list[Running] = []  # statistics that native stages let follow
        self._stoppable = Stoppable(math.prod(graph.x.shape))
        self._broken = False
        self._statistics = Kept(statistics(graph) if training else ())
        self._tables: list[_Table] = []
        self.loss = math.nan
        self.seconds_after = 0.0  # spent after the parts: on an update that looks at the whole gradient, or fills .grad
        self._flow = Gradients(self.arena, (value for stage in stages for value in stage.reads))
        self._call: Any = None
        self._values: dict[int, Array] = {}  # this step's, of operators that run by themselves
        self._contexts: dict[int, Context] = {}
        self._reached = graph.reached_by_gradients() if training else set()  # ids of values
        self._buffers = self._make_buffers()
        self._build()

    # ---- what native stages are given ------------------------------------------------------------------------------

    def _make_buffers(self) -> dict[int, Array]:
        """An array for each value that a native stage makes, or reads from an operator that runs by itself."""
        native = [stage for stage in self.stages if not isinstance(stage, Single)]
        made = [value for stage in native for value in stage.outputs if value is not self.graph.loss]
        read = [value for stage in native for value in stage.inputs]
        values = {id(value): value for value in made + read if value is not self.graph.x}
        return {key: self.arena.array(value.shape) for key, value in values.items()}

    def buffer(self, value: Value) -> Array | None:
        """The array of a value; None for the plan's own input."""
        return None if value is self.graph.x else self._buffers[id(value)]

    def leaf(self, value: Value | None) -> Array | None:
        """The array of a parameter or constant, on whose address native stages rely as long as the plan stands."""
        return None if value is None or value.tensor is None else value.tensor.data

    def reaches(self, value: Value) -> bool:
        """Whether the gradient comes to this value."""
        return id(value) in self._reached

    def target(self, value: Value | None) -> Array | None:
        """Where a native stage writes a gradient; None where none is wanted."""
        return None if value is None or id(value) not in self._reached else self._flow.target(value)

    def given(self, value: Value) -> Array | None:
        """The array with the gradient of a native stage's output."""
        if id(value) not in self._reached:
            return None
        settled = self._flow.settled(value)
        if settled is None:
            settled = self._provided[id(value)] = self.arena.array(value.shape)
        return settled

    def table(self, normalize: Operator | None) -> Array | None:
        """What Normalize makes of each byte, (C, 256); kept up to date."""
        if normalize is None:
            return None
        self._tables.append(_Table(normalize))
        return self._tables[-1].array

    def updated_at_once(self, *values: Value) -> bool:
        """Whether the stage that computes these parameters' gradients makes their step, too."""
        if self.updates is None:
            return False
        return all(
            id(value) in self._reached
            and len(value.consumers) == 1
            and value.tensor is not None
            and self.updates.holds(value.tensor)
            for value in values
        )

    # ---- building --------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        from fastnn.plan.native import native_stage

        self._provided: dict[int, Array] = {}  # gradients that are summed up before a native stage's backward
        native = {id(stage): native_stage(self, stage) for stage in reversed(self.stages)}  # users before producers
        for stage in self.stages:
            if isinstance(stage, Single):
                self.python(stage, "forward", partial(self._forward, stage.operators[0]))
            else:
                self.native(stage, "forward", native[id(stage)])
        if not self.training:
            return
        if isinstance(self.stages[-1], Single):
            self.python(None, "loss", self._start_backward)
        for stage in reversed(self.stages):
            if any(map(self.reaches, stage.outputs)):
                self._add_backward(stage, native[id(stage)])
        self._add_parameters()

    def _add_backward(self, stage: Stage, native: Any) -> None:
        if isinstance(stage, Single):
            self.python(stage, "backward", partial(self._backward, stage.operators[0]))
            return
        if stage.output is self.graph.loss:
            return  # its forward has computed the gradient
        for output in stage.outputs:
            provided = self._provided.get(id(output))
            if provided is not None:
                self.python(None, "sum of gradients", partial(self._flow.copy_total, output, provided))
        self.native(stage, "backward", native, backward=True)

    def _add_parameters(self) -> None:
        """Bring the gradient of each parameter into one array."""
        for value in self.graph.leaves:
            assert value.tensor is not None
            if id(value) not in self._reached:
                continue
            if id(value.tensor) in self.updated:
                continue
            array = self._flow.settled(value)
            if array is None:
                array = np.empty(value.shape, value.dtype)
                self.python(None, "sum of gradients", partial(self._flow.copy_total, value, array))
            self.gradients.append((value.tensor, array))

    def native(self, stage: Stage | None, name: str, native: Any, *, backward: bool = False) -> None:
        """Add a native stage, to the program that runs just before it if there is one."""
        from fastnn._kernels import Program

        if not self.parts or self.parts[-1].program is None or self.parts[-1].program.full:
            self.parts.append(Part(Program()))
        self.parts[-1].program.add(native, backward)
        self.parts[-1].names.append((stage, name, native.kernels))

    def python(self, stage: Stage | None, name: str, work: Callable[[], None]) -> None:
        """Add a step of the interpreter's."""
        self.parts.append(Part(work=work))
        self.parts[-1].names.append((stage, name, "its own" if stage else "NumPy"))

    def stands(self) -> bool:
        """Whether parameters, constants and statistics still are the arrays that they were, and as they were."""
        return not self._broken and self._relied_on.stands()

    # ---- running ---------------------------------------------------------------------------------------------------

    def run(self, x: Array, y: Array | None) -> None:
        """All parts, for this input. Raises LabelError and NonFiniteError, before anything is updated."""
        self._statistics.keep()
        self._flow.forget()
        self._values = {id(self.graph.x): x}
        if self.graph.y is not None and y is not None:
            self._values[id(self.graph.y)] = y
        for table in self._tables:
            table.refresh()
        try:
            with self._stoppable:
                self._run_parts(x, y)
        except BaseException as error:
            self.put_back()
            self._broken = isinstance(error, KeyboardInterrupt)  # stages may have kept half of something
            raise
        finally:
            self._contexts.clear()
        for running in self.running:
            running.batches += 1

    def _run_parts(self, x: Array, y: Array | None) -> None:
        for part in self.parts:
            if part.program is None:
                if self.updates is None:  # else parameters may have been updated already
                    heed()
                part.run_work()
            else:
                self._run_program(part.program, x, y)

    def put_back(self) -> None:
        """Undo what the last run did to batch norm's running statistics, which forward writes: its step failed."""
        self._statistics.put_back()

    def call(self, x: Array) -> Any:
        """The run for inputs such as x in one call (fastnn._kernels.Call); None where it is more than one program."""
        tabled = [array for table in self._tables for array in (table.mean, table.std)]
        whole = len(self.parts) == 1 and self.parts[0].program is not None and id(self.graph.outputs) in self._buffers
        if self.training or not whole or not all(array.flags.c_contiguous for array in tabled):
            return None
        from fastnn._kernels import Call

        if self._call is None or not self._call.stands():
            self._call = Call(self.parts[0].program, x, self.outputs, self._relied_on, tabled)
        return self._call

    def _run_program(self, program: Any, x: Array, y: Array | None) -> None:
        status = program.run(x, y)  # done, or why it stopped before anything was updated
        if not math.isnan(program.loss):
            self.loss = program.loss
        if status == program.NON_FINITE:
            self.loss = program.loss
            raise NonFiniteError(f"the loss became {self.loss}: nothing was updated from it")
        if status == program.BAD_LABEL:
            assert y is not None
            assert self.graph.loss is not None
            assert self.graph.loss.producer is not None
            logits = self.array(self.graph.loss.producer.inputs[0])
            shapes.softmax_cross_entropy(logits, y, 0.0, None, shapes.FLOAT32)  # raises, and says which label

    def array(self, value: Value) -> Array:
        """A value of the step that ran last."""
        if value.tensor is not None:
            return value.tensor.data
        found = self._buffers.get(id(value))
        return self._values[id(value)] if found is None else found

    @property
    def outputs(self) -> Array:
        """What the model gave in the step that ran last."""
        return self.array(self.graph.outputs)

    def _forward(self, op: Operator) -> None:
        """One operator, as Function.apply runs it."""
        arrays = [self.array(v) if isinstance(v, Value) else v for v in op.inputs]
        ctx = Context(computing_dtype(arrays), op.needs, op.attributes)
        output = np.asarray(op.function.forward(ctx, *arrays, **op.attributes))
        if self.training:
            self._contexts[id(op)] = ctx
        buffer = self._buffers.get(id(op.output))
        if buffer is not None:
            np.copyto(buffer, output)
        else:
            self._values[id(op.output)] = output

    def _start_backward(self) -> None:
        assert self.graph.loss is not None
        loss = self.array(self.graph.loss)
        self.loss = loss.item()
        if not math.isfinite(self.loss):
            raise NonFiniteError(f"the loss became {self.loss}: nothing was updated from it")
        self._flow.add(self.graph.loss, np.ones(loss.shape, loss.dtype))

    def _backward(self, op: Operator) -> None:
        grad = self._flow.total(op.output)
        if grad is None:
            return
        results = op.function.backward(self._contexts.pop(id(op)), grad)
        for value, needed, result in zip(op.inputs, op.needs, checked(op.function, op.inputs, results), strict=True):
            if needed and result is not None:
                self._flow.add(value, np.asarray(result).astype(value.dtype, copy=False))


class _Table:
    """What Normalize makes of the 256 values of a byte, by the operator itself, for each channel."""

    def __init__(self, normalize: Operator) -> None:
        images, self.mean, self.std = normalize.inputs
        levels = np.arange(256, dtype=np.uint8)
        self._levels = np.repeat(levels[None, None], images.shape[1], axis=1)  # (1, C, 256)
        self._function = normalize.function
        self._made_of: tuple[bytes, bytes] | None = None
        self.array = np.empty(self._levels.shape[1:], np.float32)
        self.refresh()

    def refresh(self) -> None:
        """Follow mean and std, which are live arrays."""
        now = self.mean.tobytes(), self.std.tobytes()
        if now != self._made_of:
            ctx = Context(self.mean.dtype, (False, False, False), {})
            self.array[...] = self._function.forward(ctx, self._levels, self.mean, self.std)[0]
            self._made_of = now
