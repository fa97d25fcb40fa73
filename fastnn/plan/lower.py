"""From stages to what runs: fused stages with their arrays, operators by their rules, and the rest in Python.

Forward goes through the stages in their order; backward in reverse, where each stage finds the whole gradient of its
output and leaves parts of its inputs' gradients. Everything has its array when the plan is made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.errors import NonFiniteError
from fastnn.ops import activations, draws, joining, loss, norm, shaping
from fastnn.ops.norm import Running
from fastnn.plan import kernel_rules  # noqa: F401  (enters its rules)
from fastnn.plan.emit import Emitter, Step, Unlowered
from fastnn.plan.fuse import CrossEntropy, Single, Stage
from fastnn.plan.interpret import Interpreted
from fastnn.plan.native import native_stage
from fastnn.plan.rules import RULES, Backward
from fastnn.plan.tables import Table
from fastnn.plan.trace import Detach, Graph, Operator, Value
from fastnn.plan.update import Updates
from fastnn.tensor import Array, Cast, Tensor

__all__ = ["Lowering"]

_FLOAT32 = np.dtype(np.float32)
# Operators whose inputs may have other types than float32: what they cannot do, their rules say.
_OF_ANY_TYPE = {
    Cast, Detach, draws.RandLike, draws.RandnLike, joining.Where, loss.CrossEntropy, loss.NLL, norm.Normalize,
    shaping.Index, shaping.Permute, shaping.Reshape,
}  # fmt: skip
_DRAWING = {activations.Dropout, draws.Bernoulli, draws.RandLike, draws.RandnLike}


class Lowering(Emitter):
    """The steps of one graph. `disable` holds "operators": then those that are not fused run in Python."""

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
    ) -> None:
        super().__init__(graph)
        self.graph, self.training, self.frozen, self.options = graph, training, frozen, options
        self.updates, self.operators = updates, operators
        self.gradients: list[tuple[Tensor, Array]] = []  # of parameters
        self.updated: set[int] = set()  # ids of the parameters that their stage updates at once
        self.running: list[Running] = []  # statistics that native stages let follow
        self.tables: list[Table] = []
        self.held: list[Array] = []  # parameters and constants in whose memory operators read and write
        self.brought: dict[str, Any] = {}  # the input and the target of the run under way
        self.loss = np.zeros(())  # what the interpreter computed of the loss
        self.reached = graph.reached_by_gradients() if training else set()  # ids of values
        self._arrays: dict[int, Array] = {
            id(value): self.array(value.shape, value.dtype)  # into which a run copies all but the first of each
            for value in (*graph.inputs[1:], *graph.targets[1:])
        }
        self._parts: dict[int, list[Array]] = {}  # of gradients, by value
        self._uses: dict[int, int] = {}  # how many parts of gradients lie in one memory
        self._backwards: dict[int, Backward] = {}  # by operator
        self._one = np.ones((), np.float32)
        fused = [(stage, self._forward(stage)) for stage in stages]
        self._keep_outputs()
        if training:
            self._end_forward()
        self._backward(fused)
        if training:
            self._settle_parameters()

    # ---- values ----------------------------------------------------------------------------------------------------

    def value(self, value: Value) -> Array:
        """The array of a value; the stand-in of what a run brings."""
        if value.tensor is not None:
            return value.tensor.data
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
        return None if value is None or value.tensor is None else value.tensor.data

    def table(self, normalize: Operator | None) -> Array | None:
        """What Normalize makes of each byte, (C, 256); kept up to date."""
        if normalize is None:
            return None
        self.tables.append(Table(normalize))
        return self.tables[-1].array

    def momentum(self, running: Running) -> Array:
        """By how much statistics follow, ()."""
        before = sum(one is running for one in self.running)
        self.running.append(running)
        momentum = np.asarray(0.0 if running.momentum is None else running.momentum, np.float32)
        if running.momentum is None:

            def average() -> None:
                momentum[...] = 1 / (float(running.batches) + before + 1)

            self.early(average)
        return momentum

    # ---- gradients -------------------------------------------------------------------------------------------------

    def is_one(self, grad: Array) -> bool:
        """Whether it is the gradient of the loss itself."""
        return grad is self._one

    def contribute(self, value: Value, part: Array) -> None:
        """Enter a part of a value's gradient."""
        self._parts.setdefault(id(value), []).append(part)
        self._uses[_memory(part)] = self._uses.get(_memory(part), 0) + 1

    def target_of(self, value: Value | None, by: Operator) -> Array | None:
        """A new array for the part of a gradient that comes through the operator `by` of a fused stage; None for none."""
        if value is None or id(value) not in self.reached or id(by.output) not in self.reached:
            return None
        part = self.array(value.shape, value.dtype)
        self.contribute(value, part)
        return part

    def gradient(self, value: Value) -> Array | None:
        """The whole gradient of a value, all of whose users have left their parts; None where none is wanted."""
        if id(value) not in self.reached:
            return None
        total, *others = self._parts.get(id(value)) or [np.zeros(value.shape, value.dtype)]
        for part in others:
            if self.operators and part.dtype == _FLOAT32:
                total = self.map("add", total, part)
            else:
                total = self._interpreted_sum(total, part)
        self._parts[id(value)] = [total]
        return total

    def given(self, value: Value) -> Array | None:
        """The array with the gradient of a fused stage's output, contiguous, and no other's."""
        total = self.gradient(value)
        if total is None:
            return None
        mine = self._uses.get(_memory(total), 1) == 1 and total.flags.c_contiguous
        return total if mine else self._copied(total)

    def updated_at_once(self, *values: Value) -> bool:
        """Whether the stage that computes these parameters' gradients makes their step, too."""
        if self.updates is None:
            return False
        return all(
            id(value) in self.reached
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

    # ---- forward ---------------------------------------------------------------------------------------------------

    def _forward(self, stage: Stage) -> Step | None:
        """Take down a stage's forward; of a fused one, whose arrays of backward are not known yet, the step alone."""
        self.stage = stage
        if isinstance(stage, Single):
            self._operator(stage.operators[0])
            return None
        if not isinstance(stage, CrossEntropy):
            for value in stage.outputs:
                self._arrays[id(value)] = self.array(value.shape)
        for value in stage.inputs:
            source = self.value(value)
            if source is not self.input and (self.is_brought(source) or not source.flags.c_contiguous):
                if self.source(value) is not None or not source.flags.c_contiguous:
                    self._arrays[id(value)] = self._copied(source)
        step = Step(stage, "forward")
        self.steps.append(step)
        return step

    def _operator(self, op: Operator) -> None:
        """By its rule; where it has none, in Python."""
        before = len(self.steps)
        try:
            output, backward = self._lowered(op)
        except Unlowered as reason:
            del self.steps[before:]
            self._interpret(op, str(reason))
            return
        self._arrays[id(op.output)] = output
        if backward is not None:
            self._backwards[id(op)] = backward

    def _lowered(self, op: Operator) -> tuple[Array, Backward | None]:
        rule = RULES.get(op.function)
        if not self.operators:
            raise Unlowered("operators are disabled")
        if rule is None:
            raise Unlowered("it has no kernel")
        values = [v for v in op.inputs if isinstance(v, Value)]
        if any(0 in v.shape for v in (*values, op.output)):
            raise Unlowered("an array without entries")
        others = [str(v.dtype) for v in values if v.dtype != _FLOAT32]
        if others and op.function not in _OF_ANY_TYPE:
            raise Unlowered(f"numbers of type {others[0]}")
        arrays = [self.value(v) if isinstance(v, Value) else v for v in op.inputs]
        wrong = [
            x
            for v, x in zip(op.inputs, arrays, strict=True)
            if x is v and isinstance(x, np.ndarray) and x.dtype != _FLOAT32
        ]
        if wrong:
            raise Unlowered(f"numbers of type {wrong[0].dtype}")
        output, backward = rule(self, op, *arrays, **op.attributes)
        self.held += [self.value(v) for v in values if v.tensor is not None]
        self.held += [x for x in op.inputs if isinstance(x, np.ndarray)]
        running = op.attributes.get("running")
        if isinstance(running, Running):
            self.held += [running.mean, running.var]
        return output, backward

    def _interpret(self, op: Operator, why: str) -> None:
        output = self._arrays[id(op.output)] = self.array(op.output.shape, op.output.dtype)
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
            return lambda: tensor.data
        if value is self.graph.x or value is self.graph.y:
            name = "x" if value is self.graph.x else "y"
            return lambda: self.brought[name]
        array = self.value(value)
        if self.is_brought(array):  # a view of what a run brings, which is another array each time
            array = self._copied(array)
        return lambda: array

    def _keep_outputs(self) -> None:
        """Give the model's outputs contiguous memory of the plan's own."""
        for value in self.graph.results:
            array = self._arrays.get(id(value))
            if array is not None and (self.is_brought(array) or not array.flags.c_contiguous):
                self._arrays[id(value)] = self._copied(array)

    def _end_forward(self) -> None:
        """Look at the loss, and begin backward with it."""
        loss = self.graph.loss
        assert loss is not None
        self.stage = None
        if isinstance(loss.producer, Operator) and id(loss) in self._arrays:
            self.when = "loss"
            array = self._arrays[id(loss)]
            if self.operators and array.dtype == _FLOAT32:
                self.call("loss", self.contiguous(array), n=(1,))
            else:
                self.python(lambda: self._check_loss(array), "NumPy")
        self._one = np.ones((), loss.dtype)
        self._parts[id(loss)] = [self._one]
        self._uses[_memory(self._one)] = 2  # nobody may write to it
        self.when = "backward"

    def _check_loss(self, array: Array) -> None:
        self.loss[...] = array
        if not np.isfinite(self.loss):
            raise NonFiniteError(f"the loss became {self.loss.item()}: nothing was updated from it")

    # ---- backward --------------------------------------------------------------------------------------------------

    def _backward(self, stages: list[tuple[Stage, Step | None]]) -> None:
        for stage, step in reversed(stages):
            self.stage = stage
            if step is not None:
                step.native = native_stage(self, stage)
                step.how = step.native.kernels
                if stage.output is not self.graph.loss and any(id(value) in self.reached for value in stage.outputs):
                    self.steps.append(Step(stage, "backward", step.how, step.native, backward=True))
            elif id(stage.output) in self.reached:
                self._operator_backward(stage.operators[0])

    def _operator_backward(self, op: Operator) -> None:
        grad = self.gradient(op.output)
        assert grad is not None
        for value, needed, part in zip(op.inputs, op.needs, self._backwards[id(op)](grad), strict=True):
            if needed and part is not None:
                self.contribute(value, part)

    def _settle_parameters(self) -> None:
        """Bring the gradient of each parameter into one array."""
        self.stage, self.when = None, "sum of gradients"
        for value in self.graph.leaves:
            assert value.tensor is not None
            if id(value) in self.reached and id(value.tensor) not in self.updated:
                total = self.gradient(value)
                assert total is not None
                if not total.flags.c_contiguous or self.is_brought(total):
                    total = self._copied(total)
                self.gradients.append((value.tensor, total))


def _memory(array: Array) -> int:
    """What tells whether arrays share memory: the array that owns it."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return id(array)


def _into(array: Array, values: Array) -> None:
    array[...] = values
