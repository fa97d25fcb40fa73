"""A plan for one shape of input: its steps, run forward and backward, and then the update.

Neighbouring native steps make one Program, which is one call; what has no kernel runs in Python between the programs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.backends.stopping import Stoppable
from fastnn.errors import NonFiniteError
from fastnn.interrupts import heed
from fastnn.plan.emit import Step
from fastnn.plan.fuse import Stage
from fastnn.plan.interpret import computed
from fastnn.plan.lower import Lowering, hand_over
from fastnn.plan.memory import Kept, Watch, read_by, statistics
from fastnn.plan.trace import Graph, Operator, Value
from fastnn.plan.update import Updates
from fastnn.tensors import Array, Tensor
from fastnn.trees import ARRAY, unflatten

__all__ = ["Execution", "Part"]


class Part:
    """Something that runs in one go: a Program, or Python between two of them.

    `names` are its stages, each with when it runs and by which kernels; `early` are steps that
    the interpreter does first.
    """

    def __init__(self, program: Any = None, work: Callable[[], None] | None = None) -> None:
        self.program, self.work = program, work
        self.names: list[tuple[Stage | None, str, str]] = []
        self.early: list[Any] = []  # steps
        self._seconds = 0.0

    @property
    def hands_over(self) -> bool:
        """Whether forward ends here, and the gradients with which backward begins are still to be given."""
        return self.work is hand_over

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
    With `frozen` the model never changes: stages may keep what they make of its parameters. `operators` says whether
    operators that are not fused run natively, too; `place` where a parameter's gradient shall lie, if it matters.
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
        operators: bool = True,
        place: Callable[[Tensor], Array | None] | None = None,
    ) -> None:
        self.graph, self.training, self.at_once = graph, training, updates is not None and at_once
        self._others = [*graph.inputs[1:], *graph.targets[1:]]  # which a run copies into the plan's memory
        read = [(None if frozen else tensor, array) for tensor, array in read_by(graph)]
        self._relied_on = Watch([*read, *((None, array) for array in statistics(graph))])
        self._stoppable = Stoppable(math.prod(graph.x.shape))
        self._broken = False
        self._statistics = Kept(statistics(graph) if training else ())
        self.loss = math.nan
        self.seconds_after = 0.0  # spent after the parts: on an update that looks at the whole gradient, or fills .grad
        self._call: Any = None
        self._plan = Lowering(
            graph,
            stages,
            training=training,
            frozen=frozen,
            options=options,
            updates=updates if at_once else None,
            operators=operators,
            place=place,
        )
        self.arena, self.gradients = self._plan.arena, self._plan.gradients
        self.lendable = self._plan.lendable()  # ids of tensors whose gradient's memory `.grad` may have
        self.running = self._plan.running  # statistics that native stages let follow
        self.updated_early = self._plan.updated  # ids of parameters that backward updates, before later stages run
        self.parts: list[Part] = []
        order = {id(op): i for i, op in enumerate(graph.operators)}
        for step in self._plan.steps:
            self._add(step)
        self._plan.steps.clear()  # some of which refer to it
        for part in self.parts:  # random numbers are drawn in the order of the operators, whatever that of the stages
            part.early.sort(key=lambda step: order[id(step.stage.operators[0])])
            if part.program is not None:
                part.program.hold(self._plan.held)

    def _add(self, step: Step) -> None:
        if step.native is not None:
            part = self._program()
            part.program.add(step.native, step.backward)
            part.names.append((step.stage, step.when, step.how))
        elif step.early:
            self._program().early.append(step)
        else:
            self.parts.append(Part(work=step.work))
            self.parts[-1].names.append((step.stage, step.when, step.how))

    def _program(self) -> Part:
        """The program at the end of what there is so far, or a new one."""
        from fastnn._kernels import Program

        if not self.parts or self.parts[-1].program is None:
            self.parts.append(Part(Program()))
        return self.parts[-1]

    def add_update(self, native: Any) -> None:
        """Add the step of a parameter, at the end."""
        part = self._program()
        part.program.add(native)
        part.names.append((None, "update", native.kernels))

    def stands(self) -> bool:
        """Whether parameters, constants and statistics still are the arrays that they were, and as they were."""
        return not self._broken and self._relied_on.stands()

    # ---- running -----------------------------------------------------------------------------------------------------

    def run(self, inputs: list[Array], targets: list[Array], end: int | None = None) -> None:
        """All parts, or those before `end`, for these arrays.

        Raises LabelError and NonFiniteError, before anything is updated.
        """
        x, y = inputs[0], targets[0] if targets else None
        self.loss = math.nan
        self._statistics.keep()
        self._plan.brought.update(x=x, y=y)
        if self._others:
            for value, array in zip(self._others, [*inputs[1:], *targets[1:]], strict=True):
                np.copyto(self._plan.value(value), array)
        for table in self._plan.tables:
            table.refresh()
        try:
            with self._stoppable:
                self._run_parts(x, y, self.parts if end is None else self.parts[:end])
        except BaseException as error:
            self.put_back()
            self._broken = isinstance(error, KeyboardInterrupt)  # stages may have kept half of something
            raise
        for running in self.running:
            if running.batches is not None:
                running.batches[()] = running.batches.item() + 1  # += may find no memory, after all was updated

    def resume(self, start: int) -> None:
        """The parts from `start` on, of the run that ended there."""
        with self._stoppable:
            self._run_parts(self._plan.brought["x"], self._plan.brought["y"], self.parts[start:])

    def _run_parts(self, x: Array, y: Array | None, parts: list[Part]) -> None:
        for part in parts:
            for step in part.early:
                step.work()
            if part.program is None:
                if not self.at_once:  # else parameters may have been updated already
                    heed()
                part.run_work()
            else:
                self._run_program(part, x, y)
        if self.training and math.isnan(self.loss):
            self.loss = self._plan.loss.item()

    def put_back(self) -> None:
        """Undo what the last run did to batch norm's running statistics, which forward writes: its step failed."""
        self._statistics.put_back()

    def call(self, x: Array) -> Any:
        """The run for inputs such as x in one call (fastnn._kernels.Call); None where it is more than one program."""
        tabled = [array for table in self._plan.tables for array in (table.mean, table.std)]
        whole = len(self.parts) == 1 and self.parts[0].program is not None and not self.parts[0].early
        whole = whole and not self.graph.keepings
        if self.training or not whole or self.graph.structure != ARRAY or len(self.graph.inputs) > 1:
            return None
        outputs = self.outputs
        plain = outputs is not x and outputs.dtype == np.float32
        if not plain or not all(array.flags.c_contiguous for array in tabled):
            return None
        from fastnn._kernels import Call

        if self._call is None or not self._call.stands():
            self._call = Call(self.parts[0].program, x, outputs, self._relied_on, tabled)
        return self._call

    def _run_program(self, part: Part, x: Array, y: Array | None) -> None:
        program = part.program
        status = program.run(x, y)  # done, or why it stopped before anything was updated
        if not math.isnan(program.loss):
            self.loss = program.loss
        if status == program.NON_FINITE:
            self.loss = program.loss
            raise NonFiniteError(f"the loss became {self.loss}: nothing was updated from it")
        if status == program.REFUSED:
            stage = part.names[program.reached][0]
            assert stage is not None
            self._refused(stage.operators[-1])

    def _refused(self, op: Operator) -> None:
        """Run an operator whose kernel does not take its arrays in Python, which raises and says what is wrong."""
        for stand_in, name in ((self._plan.input, "x"), (self._plan.target, "y")):
            if stand_in is not None:  # inputs may be views of it
                np.copyto(stand_in, self._plan.brought[name])
        arrays = [self.array(v) if isinstance(v, Value) else v for v in op.inputs]
        computed(op, arrays)
        raise AssertionError(f"{op.function.__name__}: its kernel refused what it takes in Python")

    def array(self, value: Value) -> Array:
        """A value of the step that ran last."""
        if value is self.graph.x or value is self.graph.y:
            return self._plan.brought["x" if value is self.graph.x else "y"]
        if value is self.graph.loss:  # whose stage may have no array for it
            return np.asarray(self.loss, value.dtype)
        return self._plan.value(value)

    @property
    def outputs(self) -> Any:
        """What the model gave in the step that ran last, in its structure."""
        return unflatten(self.graph.structure, map(self.array, self.graph.results))
