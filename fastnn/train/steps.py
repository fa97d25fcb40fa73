"""How `fit` makes one step: compiled, or operator by operator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.backends.stopping import Stoppable
from fastnn.data.samples import is_several
from fastnn.errors import ArgumentError, GraphError, NonFiniteError
from fastnn.interrupts import at_once, heed
from fastnn.nn import Dropout, Module
from fastnn.nn.arguments import spread
from fastnn.optim import Optimizer
from fastnn.plan.compile import compile
from fastnn.plan.memory import Buffers, Kept
from fastnn.plan.step import NOTHING_TO_TRAIN
from fastnn.plan.stepping import Reduce
from fastnn.recording import state
from fastnn.tensors import Tensor
from fastnn.trees import flatten, is_tree, map_arrays

from . import finite
from .team import Alone
from .unplanned import tell_without_plan

__all__ = ["EagerStep", "make_step"]


class EagerStep:
    """The step that `fnn.compile` makes, without a plan: the same calls, and the twin that it is tested against.

    Without an optimiser it only adds the gradients to `.grad`. `reduce` makes means over several processes of them.
    """

    def __init__(self, model: Any, loss: Any, optimizer: Any, reduce: Reduce | None = None) -> None:
        self.model, self.loss, self.optimizer, self.reduce = model, loss, optimizer, reduce
        self.outputs: Any = np.zeros(0)
        self.check: Callable[[tuple[int, ...]], None] | None = None  # is shown the shape of the first outputs
        self._buffers = Buffers(model)
        self._reaches = False  # whether gradients are known to get to the optimiser's parameters

    def prepare(self, x: Any, y: Any, check: Callable[[tuple[int, ...]], None]) -> None:
        self.check = check  # nothing is known before the first batch has run

    def __call__(self, x: Any, y: Any) -> float:
        self._buffers.keep()
        try:
            with at_once(), Stoppable(sum(map(np.size, flatten(x)[0]))):
                value = self._gradients(x, y)
        except BaseException:
            self._buffers.put_back()
            raise
        if self.optimizer is not None and not (self.reduce is not None and self.reduce.updates):
            self.optimizer.step()
        return value

    def _gradients(self, x: Any, y: Any) -> float:
        """The loss; its gradients are in `.grad` then. Forward and the loss may write into what they are given."""
        x, y = map_arrays(np.copy, x), map_arrays(np.copy, y)
        args, kwargs = spread(self.model, x)
        outputs = self.model(*args, **kwargs)
        if self.check is not None:
            if not is_tree(outputs):
                self.check(outputs.shape)
            self.check = None
        with np.errstate(over="ignore", invalid="ignore"):  # said below, better than NumPy's warning does
            loss = self.loss(outputs, map_arrays(Tensor, y) if is_several(y) else Tensor(y))  # as in a plan
        if loss.ndim:
            raise ArgumentError(f"expected a loss of one number (reduction 'mean' or 'sum'), got {loss.shape}")
        value = float(loss.item())
        if not np.isfinite(value):
            raise NonFiniteError(f"the loss became {value}: nothing was updated from it")
        if not loss.requires_grad:
            raise ArgumentError(NOTHING_TO_TRAIN)
        if self.optimizer is not None:
            self.optimizer.zero_grad()
        loss.backward()
        if self.reduce is not None:
            value = self.reduce([(p, p.grad) for p in self.model.parameters() if p.grad is not None], value)
        found = finite.bad_gradient(self.model) if state.anomaly else ""
        if found:
            raise NonFiniteError(f"backward: {found} is not finite")
        if self.optimizer is not None and not self._reaches:
            check_reached(self.optimizer)
            self._reaches = True
        self.outputs = map_arrays(lambda output: output.numpy(), outputs)
        return value


class CompiledStep:
    """A compiled step, until no plan can be made, or forward turns out not to do the same at every call: from there on
    operator by operator.

    That is said once, by a warning. A plan tells before it has changed anything, so no step is lost or made twice.
    """

    def __init__(self, model: Any, loss: Any, optimizer: Any, reduce: Reduce | None = None) -> None:
        self.eager = EagerStep(model, loss, optimizer, reduce)
        self._step: Any = compile(model, loss, optimizer)
        self._step.reduce = reduce
        self._made = 0

    @property
    def outputs(self) -> Any:
        return self._step.outputs

    def prepare(self, x: Any, y: Any, check: Callable[[tuple[int, ...]], None]) -> None:
        try:
            self._step.prepare(x, y, check)
        except GraphError as error:
            self._go_on_without_plan(error)
            self._step.prepare(x, y, check)

    def __call__(self, x: Any, y: Any) -> float:
        try:
            loss: float = self._step(x, y)
        except GraphError as error:
            self._go_on_without_plan(error)
            return self(x, y)
        self._made += 1
        return loss

    def _go_on_without_plan(self, error: GraphError) -> None:
        if not error.untraced:
            raise error
        self._step = self.eager
        tell_without_plan("fit", self.eager.model, error, self._made)


def check_reached(optimizer: Any) -> None:
    """ArgumentError where no parameter of the optimiser has got a gradient."""
    if all(p.grad is None for group in optimizer.param_groups for p in group["params"]):
        raise ArgumentError(NOTHING_TO_TRAIN)


class DescentStep:
    """A step of an optimiser that asks for the loss at several points of the same batch.

    The outputs, and what batch norm learns of the batch, are those of the point where the step begins. Loss and
    gradients come out of a compiled plan that updates nothing, or of the operators.
    """

    def __init__(self, model: Any, loss: Any, optimizer: Optimizer, compiled: bool, team: Alone) -> None:
        self.model, self.optimizer = model, optimizer
        self.outputs: Any = np.zeros(0)
        self._evaluate: Any = team.guarded((CompiledStep if compiled else EagerStep)(model, loss, None, team.reduce))

    def prepare(self, x: Any, y: Any, check: Callable[[tuple[int, ...]], None]) -> None:
        if any(isinstance(module, Dropout) and module.p > 0 for module in self.model.modules()):
            raise ArgumentError(
                f"{type(self.optimizer).__name__}: expected a model that gives the same loss for the same parameters, "
                "got one with Dropout: set its p to 0, or train with another optimiser"
            )
        self._evaluate.prepare(x, y, check)

    def __call__(self, x: Any, y: Any) -> float:
        buffers: list[Kept] = []

        def closure() -> float:
            self.optimizer.zero_grad()
            heed()
            value = float(self._evaluate(x, y))
            if not buffers:
                check_reached(self.optimizer)
                self.outputs = map_arrays(np.ndarray.copy, self._evaluate.outputs)
                buffers.append(Kept(self.model.buffers()))
            return value

        try:
            return float(self.optimizer.step(closure))
        finally:
            self.optimizer.zero_grad()
            for kept in buffers:
                kept.put_back()


def needs_closure(optimizer: Any) -> bool:
    """Whether the optimiser's step asks for the loss at several points."""
    return bool(getattr(optimizer, "needs_closure", False))


def make_step(model: Any, loss: Any, optimizer: Any, compiled: bool, team: Alone | None = None) -> Any:
    """A compiled step where that is wanted, and model and optimiser are fastnn's own; it is one of all of `team`."""
    team = Alone() if team is None else team
    if needs_closure(optimizer):
        return DescentStep(model, loss, optimizer, compiled and isinstance(model, Module), team)
    if compiled and isinstance(model, Module) and isinstance(optimizer, Optimizer):
        return team.guarded(CompiledStep(model, loss, optimizer, team.reduce))
    return team.guarded(EagerStep(model, loss, optimizer, team.reduce))
