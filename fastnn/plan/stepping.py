"""An execution and what follows it: the optimiser's step, with clipping and accumulation, or the filling of .grad."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from fastnn import backends
from fastnn.backends.sums import squares
from fastnn.errors import NonFiniteError
from fastnn.optim import Optimizer
from fastnn.plan.execute import Execution
from fastnn.plan.fuse import Stage
from fastnn.plan.hooked import is_hooked
from fastnn.plan.lending import Loans
from fastnn.plan.memory import Kept, overlap, read_by, statistics
from fastnn.plan.trace import Graph
from fastnn.plan.update import Updates
from fastnn.tensors import Array, Tensor
from fastnn.versions import Writer

if TYPE_CHECKING:
    from fastnn.plan.step import Step

__all__ = ["Reduce", "Stepping", "scale_of", "update"]

NO_LOANS = Loans(set())
VERY_LONG = 1 << 20  # numbers in a batch: with more, all updates come last, so that Ctrl-C can end the step before them


class Reduce(Protocol):
    """How the processes that share a batch meet in a step."""

    @property
    def updates(self) -> bool:
        """Whether the call makes the optimiser's step, too."""

    def place(self, p: Tensor) -> Array | None:
        """The array that a step writes this parameter's gradient to, or None for any."""

    def __call__(self, gradients: Sequence[tuple[Tensor, Array]], loss: float) -> float:
        """Makes the gradients their means over processes, or the step by these; returns the mean loss."""


class Stepping:
    """One shape's training step."""

    def __init__(self, graph: Graph, stages: list[Stage], step: Step, *, operators: bool) -> None:
        self.step, self.optimizer = step, step.optimizer
        self.calls = 0
        self.updates = self._known_updates(graph)
        # Whether nothing looks at gradients before the update.
        self.whole = step.clip_norm is None and step.accumulate == 1 and step.reduce is None
        self.is_hooked = is_hooked(graph)
        soon = not self.is_hooked and sum(math.prod(value.shape) for value in graph.inputs) < VERY_LONG
        self.execution = Execution(
            graph,
            stages,
            training=True,
            options=step.options,
            updates=self.updates,
            at_once=self.whole and soon and "update" not in step.options and all(map(_cannot_fail, stages)),
            operators=operators,
            place=None if step.reduce is None else step.reduce.place,
        )
        self.gradients = self.execution.gradients
        if step.group is not None:
            self.gradients = [(p, step.group.sum_of(p, grad)) for p, grad in self.gradients]
        self._programs = [] if self.updates is None else self._add_updates(self.updates)
        slots = () if self.updates is None else self.updates.slots.values()
        updated = [p._data for slot in slots for p in slot.params]
        followed = [array for running in self.execution.running for array in (running.mean, running.var)]
        self._updated, self._followed = Writer(updated), Writer(followed)
        self._loans = Loans(self.execution.lendable if self._may_lend() else set())
        self._settled = -1  # growths before the last run
        if self.execution.at_once:
            from fastnn._kernels import scratch_growths

            self._growths = scratch_growths

    def _known_updates(self, graph: Graph) -> Updates | None:
        """The optimiser's kernels for the parameters of this graph; None where it steps by itself, or there is none."""
        if self.optimizer is None or backends.name() != "native" or not Updates.known(self.optimizer):
            return None
        if self.step.reduce is not None and self.step.reduce.updates:
            return None
        reached = graph.reached_by_gradients()
        leaves = {id(v.tensor) for v in graph.leaves if id(v) in reached}
        held = [p for group in self.optimizer.param_groups for p in group["params"] if id(p) in leaves]
        if not all(p.dtype == np.float32 and p._data.flags.carray for p in held):
            return None
        known = self.step.updates  # of another shape of input: its arrays and counts serve here, too
        if known is None or known.wanted != {id(p) for p in held} or not known.stand():
            known = self.step.updates = Updates(self.optimizer, held)
        wanted = {id(p) for p in held}
        others = [array for tensor, array in read_by(graph) if id(tensor) not in wanted]
        if overlap([*(p._data for p in held), *known.states_of_all()], [*others, *statistics(graph)]):
            return None  # the order of the steps counts where parameters share memory
        return known

    def _may_lend(self) -> bool:
        """Whether gradients go to `.grad` as they are, and there is a kernel's memory to lend."""
        alone = self.optimizer is None and self.whole
        return alone and self.step.lends and backends.name() == "native"

    def _add_updates(self, updates: Updates) -> list[Any]:
        """The kernels of the parameters that are not updated in backward: in the execution's last program where nothing
        has to come between, else in programs of their own, which are returned."""
        from fastnn._kernels import Program, UpdateStage

        programs: list[Any] = []
        for p, grad in self.gradients:
            if updates.holds(p):
                stage = UpdateStage(p._data, grad, updates.states(p), updates.numbers(p))
                if self.whole:
                    self.execution.add_update(stage)
                    continue
                if not programs:
                    programs.append(Program())
                programs[-1].add(stage)
        return programs

    def stands(self) -> bool:
        """Whether everything that kernels rely on still lies where it lay."""
        if not (self.execution.stands() and (self.updates is None or self.updates.stand())):
            return False
        if not self._loans.are_back():
            self.step.lends = False  # those who keep gradients do so again: they get copies from now on
            return False
        return True

    def run(self, inputs: list[Array], targets: list[Array]) -> float:
        """The loss of this batch; what compile() promised is done."""
        if self.updates is not None:
            self.updates.before_step()
        if self.execution.at_once:
            self._run_at_once(inputs, targets)
        else:
            self.execution.run(inputs, targets)
        if self.execution.running:
            self._followed.wrote()
        if self.updates is not None and self.whole:
            self.updates.after_step()
            self._updated.wrote()
        else:
            start = time.perf_counter()
            try:
                self._finish()
            except NonFiniteError:  # of the gradient's norm
                self.execution.put_back()
                raise
            self.execution.seconds_after = time.perf_counter() - start
        return self.execution.loss

    def _run_at_once(self, inputs: list[Array], targets: list[Array]) -> None:
        """A run that updates while later stages have yet to get their working buffers: where these are not known to
        suffice since the last run, what a lack of memory would leave half updated is put back. Parameters that have
        their step at the end are not among it: from there on nothing asks for memory."""
        assert self.updates is not None
        growths, kept = self._growths(), None
        if growths != self._settled:
            kept = Kept(self.updates.written_for(self.execution.updated_early))
        try:
            self.execution.run(inputs, targets)
        except BaseException:
            if kept is not None:
                kept.put_back()
            raise
        self._settled = growths

    def _finish(self) -> None:
        """What comes after the gradients where they are looked at as a whole."""
        gradients, count = self.gradients, 1
        if self.step.group is not None:
            if not self.step.group.add(self.execution.gradients):
                return
            gradients, count = self.step.group.take()
        if self.step.reduce is not None:
            self.execution.loss = self.step.reduce(gradients, self.execution.loss)
            if self.step.reduce.updates:
                return
        factor = scale_of(gradients, count, self.step.clip_norm)
        # Batches of another shape may have reached other parameters: then this shape's kernels are not those to call.
        if self.updates is None or {id(p) for p, _ in gradients} != {id(p) for p, _ in self.gradients}:
            update(self.optimizer, gradients, factor, self._loans)
            return
        self.updates.scale(factor)
        for program in self._programs:
            program.run(_NOTHING, None)
        self.updates.after_step()
        self._updated.wrote()


def scale_of(gradients: list[tuple[Tensor, Array]], count: int, clip_norm: float | None) -> float:
    """What sums over `count` batches are multiplied by: 1 / count, and less where the norm of their mean is clipped."""
    factor = 1 / count
    if clip_norm is not None:
        norm = factor * math.sqrt(math.fsum(squares(grad) for _, grad in gradients))
        if not math.isfinite(norm):
            raise NonFiniteError(f"clip_norm: the norm of the gradient became {norm}: nothing was updated from it")
        factor *= min(1.0, clip_norm / (norm + 1e-6))
    return factor


def update(
    optimizer: Optimizer | None, gradients: list[tuple[Tensor, Array]], factor: float, loans: Loans = NO_LOANS
) -> None:
    """The optimiser's own step by these gradients times `factor`; without an optimiser they are added to `.grad`."""
    if optimizer is not None:
        optimizer.zero_grad()
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        gradients = [(p, grad) for p, grad in gradients if id(p) in held]
    for p, grad in gradients:
        part = grad if factor == 1 else grad * grad.dtype.type(factor)
        if p._grad is None:
            p._grad = loans.given(p, part) if part is grad else part
        else:
            p.grad += part
    if optimizer is not None:
        optimizer.step()
        optimizer.zero_grad()


def _cannot_fail(stage: Stage) -> bool:
    """Whether it is fastnn's own: a user's backward may raise, and then nothing shall have been updated yet."""
    return all(op.function.__module__.startswith("fastnn.") for op in stage.operators)


_NOTHING = np.zeros(0, np.float32)
