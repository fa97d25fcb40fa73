"""From stages to what runs: fused stages with their arrays, operators by their rules, and the rest in Python.

Forward goes through the stages in their order; backward in reverse, where each stage finds the whole gradient of its
output and leaves parts of its inputs' gradients. Everything has its array when the plan is made.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from fastnn.errors import NonFiniteError
from fastnn.ops.norms import Running
from fastnn.plan import layer_rules, place_rules, second_rules, sequence_rules  # noqa: F401 - they enter their rules
from fastnn.plan.emit import Emitter, Step, Unlowered
from fastnn.plan.fuse import Single, Stage
from fastnn.plan.hooked import GradientHook, Seed, hooks_of_leaf, is_seeded
from fastnn.plan.interpret import Interpreted
from fastnn.plan.keep import leave
from fastnn.plan.lending import lendable
from fastnn.plan.memory import memory_of
from fastnn.plan.native import native_stage
from fastnn.plan.rules import OF_ANY_TYPE, RULES, Backward
from fastnn.plan.tables import Table
from fastnn.plan.trace import Graph, Operator, Value
from fastnn.plan.update import Updates
from fastnn.tensors import Array, Tensor

__all__ = ["Lowering", "hand_over"]

_FLOAT32 = np.dtype(np.float32)


class Lowering(Emitter):
    """The steps of one graph. Without `operators`, those that are not fused run in Python."""

    def __init__(
        self,
        graph: Graph,
        stages: list[Stage],
        *,
        training: bool,
        frozen: bool,
        options: frozenset[str],
        updates: Updates | None,
        operators: bool,
        place: Callable[[Tensor], Array | None] | None,
    ) -> None:
        super().__init__(graph)
        self._place = place
        self.graph, self.training, self.frozen, self.options = graph, training, frozen, options
        self.updates, self.operators = updates, operators
        self.gradients: list[tuple[Tensor, Array]] = []  # of parameters
        self.updated: set[int] = set()  # ids of the parameters that their stage updates at once
        self.tables: list[Table] = []
        self.held: list[Array] = []  # parameters and constants in whose memory operators read and write
        self.brought: dict[str, Any] = {}  # the input and the target of the run under way
        self.loss = np.zeros(())  # what the interpreter computed of the loss
        self.reached = graph.reached_by_gradients() if training else set()  # ids of values
        self._arrays: dict[int, Array] = {}
        self._live: dict[int, int] = {}  # how many values lie in one memory
        self._parts: dict[int, list[Array]] = {}  # of gradients, by value
        self._uses: dict[int, int] = {}  # how many parts of gradients lie in one memory
        self._backwards: dict[int, Backward] = {}  # by operator
        self._users = self._count_users(stages)  # of values, still to come
        self.again = not training
        for value in (*graph.inputs[1:], *graph.targets[1:]):  # a run copies into them
            self._put(value, self.array(value.shape, value.dtype))
        fused = [(stage, self._forward(stage)) for stage in stages]
        self._keep_outputs()
        if training:
            self._end_forward()
        self.again = training
        self._backward(fused)
        if training:
            self._settle_parameters()
        self._backwards.clear()  # they refer to this object, and a plan is to be freed without a search for cycles

    # ---- values ------------------------------------------------------------------------------------------------------

    def value(self, value: Value) -> Array:
        """The array of a value; the stand-in of what a run brings."""
        if value.tensor is not None:
            return value.tensor._data
        if value is self.graph.x:
            return self.input
        if value is self.graph.y:
            assert self.target is not None
            return self.target
        return self._arrays[id(value)]

    def source(self, value: Value) -> Array | None:
        """The array that a fused stage reads; None for the program's own input."""
        array = self.value(value)
        return None if array.ctypes.data == self.input.ctypes.data and array.size == self.input.size else array

    def leaf(self, value: Value | None) -> Array | None:
        """The array of a parameter or constant, on whose address native stages rely as long as the plan stands."""
        return None if value is None or value.tensor is None else value.tensor._data

    def table(self, normalize: Operator | None) -> Array | None:
        """What Normalize makes of each byte, (C, 256); kept up to date."""
        if normalize is None:
            return None
        self.tables.append(Table(normalize))
        return self.tables[-1].array

    # ---- gradients ---------------------------------------------------------------------------------------------------

    def contribute(self, value: Value, part: Array) -> None:
        """Enter a part of a value's gradient."""
        self._parts.setdefault(id(value), []).append(part)
        self._uses[memory_of(part)] = self._uses.get(memory_of(part), 0) + 1

    def reaches(self, value: Value) -> bool:
        """Whether the gradient comes to this value."""
        return id(value) in self.reached

    def target_of(self, value: Value | None, by: Operator) -> Array | None:
        """A new array for the part of a gradient that comes through an operator of a fused stage; None for none."""
        if value is None or not self.reaches(value) or not self.reaches(by.output):
            return None
        part = None
        if self._place is not None and value.tensor is not None and len(value.consumers) == 1:
            part = self._place(value.tensor)
        if part is None:
            part = self.arena.array(value.shape, value.dtype)  # which a loss writes in forward
        self.contribute(value, part)
        return part

    def gradient(self, value: Value) -> Array | None:
        """The whole gradient of a value, all of whose users have left their parts; None where none is wanted."""
        if not self.reaches(value):
            return None
        total, *others = parts = self._parts.get(id(value)) or [np.zeros(value.shape, value.dtype)]
        for part in others:
            if self.operators and part.dtype == _FLOAT32:
                total = self.map("add", total, part)
            else:
                total = self._interpreted_sum(total, part)
        if others:
            self._done_with(parts)
            self._parts[id(value)] = []
            self.contribute(value, total)
        return total

    def _done_with(self, parts: list[Array]) -> None:
        """Release the memory of parts that were used, where no other ones lie in it."""
        for part in parts:
            memory = memory_of(part)
            self._uses[memory] = self._uses.get(memory, 1) - 1
            if not self._uses[memory]:
                self.arena.release(memory)

    def given(self, value: Value) -> Array | None:
        """The array with the gradient of a fused stage's output, contiguous, and no other's."""
        total = self.gradient(value)
        if total is None:
            return None
        mine = self._uses.get(memory_of(total), 1) == 1 and total.flags.c_contiguous
        return total if mine else self._copied(total)

    def updated_at_once(self, *values: Value) -> bool:
        """Whether the stage that computes these parameters' gradients makes their step, too."""
        if self.updates is None:
            return False
        return all(
            self.reaches(value)
            and len(value.consumers) == 1
            and value.tensor is not None
            and self.updates.holds(value.tensor)
            for value in values
        )

    def _copied(self, x: Array) -> Array:
        if self.operators:
            return self.map("copy", x, dtype=x.dtype)
        copy = self.array(x.shape, x.dtype)
        self.python(lambda: np.copyto(copy, x), "operators are disabled")
        return copy

    def _interpreted_sum(self, a: Array, b: Array) -> Array:
        total = self.array(a.shape, a.dtype)
        self.python(lambda: _into(total, np.add(a, b)), f"a sum of {a.dtype}")
        return total

    # ---- forward -----------------------------------------------------------------------------------------------------

    def _forward(self, stage: Stage) -> Step | None:
        """Take down a stage's forward; of a fused one, whose arrays of backward are not known yet, the step alone."""
        self.stage = stage
        self.taken = []
        if isinstance(stage, Single):
            self._operator(stage.operators[0])
            self._release_forward(stage)
            return None
        for value in stage.outputs:
            if value is not self.graph.loss:
                self._put(value, self.array(value.shape))
        for value in stage.inputs:
            source = self.value(value)
            is_kept = id(value) in self._arrays and self.graph.is_result(value)  # as a copy, see _keep_outputs
            in_place = (self.source(value) is None and not is_kept) or not self.is_brought(source)
            if not (in_place and source.flags.c_contiguous):
                self._put(value, self._copied(source))
        step = Step(stage, "forward")
        self.steps.append(step)
        self._release_forward(stage)
        return step

    def leave_kept(self) -> None:
        loss = self.graph.loss  # which has no array here
        if is_seeded(self.graph):  # they are on the tape already, perhaps those of a later call
            return
        kept = [keeping for keeping in self.graph.keepings if not any(value is loss for value in keeping.values)]
        leave(kept, lambda value: self._reader(value)())

    def _count_users(self, stages: list[Stage]) -> dict[int, int]:
        """How many stages read each value; the outputs, and what a run brings, are never done with."""
        kept = (*self.graph.shown, *self.graph.inputs, *self.graph.targets)
        users = dict.fromkeys(map(id, kept), 1)
        for stage in stages:
            for value in {id(v) for op in stage.operators for v in op.inputs if isinstance(v, Value)}:
                users[value] = users.get(value, 0) + 1
        return users

    def _put(self, value: Value, array: Array) -> None:
        """Enter the array of a value, in the place of another one if there is one."""
        before = self._arrays.get(id(value))
        self._arrays[id(value)] = array
        self._live[memory_of(array)] = self._live.get(memory_of(array), 0) + 1
        if before is not None:
            self._leave(before)

    def _leave(self, array: Array) -> None:
        memory = memory_of(array)
        self._live[memory] -= 1
        if not self._live[memory] and not self.training:
            self.arena.release(memory)

    def _release_forward(self, stage: Stage) -> None:
        """In inference, release what nobody reads any more."""
        if self.training:
            return
        read = {id(v): v for op in stage.operators for v in op.inputs if isinstance(v, Value)}
        for value in [*read, *(id(v) for v in stage.outputs if not self._users.get(id(v)))]:
            self._users[value] = self._users.get(value, 1) - 1
            if not self._users[value] and value in self._arrays:
                self._leave(self._arrays[value])
        for memory in self.taken:
            if not self._live.get(memory):
                self.arena.release(memory)

    def _operator(self, op: Operator) -> None:
        """By its rule; where it has none, in Python."""
        before = len(self.steps)
        try:
            output, backward = self._lowered(op)
        except Unlowered as reason:
            del self.steps[before:]
            self._interpret(op, str(reason))
            return
        self._put(op.output, output)
        if backward is not None:
            self._backwards[id(op)] = backward

    def _lowered(self, op: Operator) -> tuple[Array, Backward | None]:
        rule = RULES.get(op.function)
        if not self.operators and op.function is not GradientHook:  # which has no kernel to disable
            raise Unlowered("operators are disabled")
        if rule is None:
            raise Unlowered("it has no kernel")
        values = [v for v in op.inputs if isinstance(v, Value)]
        if any(0 in v.shape for v in (*values, op.output)):
            raise Unlowered("an array without entries")
        for i, v in enumerate(op.inputs):
            if isinstance(v, (Value, np.ndarray)) and v.dtype != _FLOAT32 and i not in OF_ANY_TYPE[op.function]:
                raise Unlowered(f"numbers of type {v.dtype}")
        arrays = [self.value(v) if isinstance(v, Value) else v for v in op.inputs]
        output, backward = rule(self, op, *arrays, **op.attributes)
        self.held += [self.value(v) for v in values if v.tensor is not None]
        self.held += [x for x in op.inputs if isinstance(x, np.ndarray)]
        running = op.attributes.get("running")
        if isinstance(running, Running):
            self.held += [running.mean, running.var]
        return output, backward

    def _interpret(self, op: Operator, why: str) -> None:
        output = self.array(op.output.shape, op.output.dtype)
        self._put(op.output, output)
        interpreted = Interpreted(op, [self._reader(v) for v in op.inputs], output, keeps=self.training)
        self.python(interpreted.forward, why)

        def backward(grad: Array) -> tuple[Array | None, ...]:
            parts = tuple(
                self.array(v.shape, v.dtype) if needed else None for v, needed in zip(op.inputs, op.needs, strict=True)
            )
            self.python(lambda: interpreted.backward(grad, parts), why)
            return parts

        self._backwards[id(op)] = backward

    def _reader(self, value: Any) -> Callable[[], Any]:
        """What gives an operator's input in a run."""
        if not isinstance(value, Value):
            return lambda: value
        if value.tensor is not None:
            tensor = value.tensor
            return lambda: tensor._data
        if value is self.graph.x or value is self.graph.y:
            name = "x" if value is self.graph.x else "y"
            return lambda: self.brought[name]
        array = self.value(value)
        if self.is_brought(array):  # a view of what a run brings, which is another array each time
            array = self._copied(array)
        return lambda: array

    def _keep_outputs(self) -> None:
        """Give what others are to see contiguous memory of the plan's own."""
        for value in self.graph.shown:
            array = self._arrays.get(id(value))
            if array is not None and (self.is_brought(array) or not array.flags.c_contiguous):
                self._put(value, self._copied(array))

    def _end_forward(self) -> None:
        """Look at the loss, and begin backward with it."""
        loss = self.graph.loss
        assert loss is not None
        self.stage = None
        if isinstance(loss.producer, Operator) and loss.producer.function is Seed:
            self.python(hand_over, "gradients are given")
        elif isinstance(loss.producer, Operator) and id(loss) in self._arrays:
            self.when = "loss"
            array = self._arrays[id(loss)]
            if self.operators and array.dtype == _FLOAT32:
                self.call("loss", self.contiguous(array), n=(1,))
            else:
                self.python(lambda: self._check_loss(array), "NumPy")
        self.one = np.ones((), loss.dtype)
        self._parts[id(loss)] = [self.one]
        self._uses[memory_of(self.one)] = 2  # nobody may write to it
        self.when = "backward"

    def _check_loss(self, array: Array) -> None:
        self.loss[...] = array
        if not np.isfinite(self.loss):
            raise NonFiniteError(f"the loss became {self.loss.item()}: nothing was updated from it")

    # ---- backward ----------------------------------------------------------------------------------------------------

    def _backward(self, stages: list[tuple[Stage, Step | None]]) -> None:
        for stage, step in reversed(stages):
            self.stage = stage
            if step is not None:
                step.native = native_stage(self, stage)
                step.how = step.native.kernels
                reached = [value for value in stage.outputs if self.reaches(value) and value is not self.graph.loss]
                if reached:
                    self.steps.append(Step(stage, "backward", step.how, step.native, backward=True))
                for value in reached:
                    self._done_with(self._parts.get(id(value), []))
            elif self.reaches(stage.output):
                self._operator_backward(stage.operators[0])

    def _operator_backward(self, op: Operator) -> None:
        grad = self.gradient(op.output)
        assert grad is not None
        self.taken = []
        for value, needed, part in zip(op.inputs, op.needs, self._backwards[id(op)](grad), strict=True):
            if needed and part is not None:
                self.contribute(value, part)
        self._done_with([grad])
        for memory in self.taken:
            if not self._uses.get(memory):
                self.arena.release(memory)

    def _settle_parameters(self) -> None:
        """Bring the gradient of each parameter into one array."""
        self.stage, self.when = None, "sum of gradients"
        for value in self.graph.leaves:
            assert value.tensor is not None
            if self.reaches(value) and id(value.tensor) not in self.updated:
                total = self.gradient(value)
                assert total is not None
                if hooks_of_leaf(value) and not is_seeded(self.graph):  # else the tape calls them
                    total = self.waited_for(total, partial(_live_hooks, value))
                if not total.flags.c_contiguous or self.is_brought(total):
                    total = self._copied(total)
                self.gradients.append((value.tensor, total))

    def lendable(self) -> set[int]:
        """The ids of the tensors whose gradient lies where nothing else does that is read after a run."""
        return lendable(self.gradients, self.arena.memories(), list(self._arrays.values()))


def hand_over() -> None:
    """The step between forward and a backward that begins with gradients from outside."""


def _live_hooks(leaf: Value) -> list[Callable[[Any], Any]]:
    """Those of this run: some may have been removed."""
    return list((hooks_of_leaf(leaf) or {}).values())


def _into(array: Array, values: Array) -> None:
    array[...] = values
