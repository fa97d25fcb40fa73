"""`fnn.compile(model, loss_fn, optimizer)`: training steps by a plan for each shape of batch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from fastnn import backends
from fastnn.checks import called
from fastnn.errors import ArgumentError, LabelError, StateError
from fastnn.nn import Module
from fastnn.nn.shares import weight_of
from fastnn.optim import Optimizer
from fastnn.plan.accumulation import Accumulation
from fastnn.plan.executions import Plan, kernels_in_use
from fastnn.plan.fewest import fewest_in_training
from fastnn.plan.hooked import with_gradient_hooks
from fastnn.plan.inputs import Inputs, argument, arrays_of, target
from fastnn.plan.steady import CHECKED
from fastnn.plan.stepping import Reduce, Stepping, scale_of, update
from fastnn.plan.trace import Around, Graph, trace
from fastnn.plan.update import Updates
from fastnn.tensors import Array
from fastnn.trees import ARRAY, map_arrays

__all__ = ["NOTHING_TO_TRAIN", "Step"]

NOTHING_TO_TRAIN = (
    "expected a loss with a gradient for some parameter of the optimiser, got one that reaches none: they are frozen "
    "(requires_grad is False), or something on the way cuts gradients off (detach, no_grad)"
)


class Step(Plan):
    """`compile(model, loss_fn)` or `compile(model, loss_fn, optimizer)`. See `fnn.compile`."""

    def __init__(
        self,
        model: Module,
        loss_fn: Callable[..., Any],
        optimizer: Optimizer | None,
        options: frozenset[str],
        clip_norm: float | None,
        accumulate: int,
    ) -> None:
        self.loss_fn, self.optimizer = loss_fn, optimizer
        self.clip_norm, self.accumulate = clip_norm, accumulate
        self.reduce: Reduce | None = None
        self.lends = True  # whether `.grad` may be the plan's memory: see fastnn/plan/lending.py
        super().__init__(model, options, loss_fn)

    def __reduce__(self) -> Any:
        """A copy, or what a pickle gives, steps copies of model, loss and optimiser, which belong together.

        Raises StateError within a group of `accumulate` batches, whose gradients would be lost, and for a step that
        processes share.
        """
        if self.reduce is not None or (self.group is not None and self.group.count):
            raise StateError("a compiled step is copied between groups of batches, not within: call flush() first")
        options = (self.options, self.clip_norm, self.accumulate)
        return type(self), (self.model, self.loss_fn, self.optimizer, *options)

    def _start_over(self) -> None:
        super()._start_over()
        self._again: tuple[Any, Any, Stepping] | None = None  # of the last step: its Batch, the modes, how it is made
        self.updates: Updates | None = None  # of all executions
        self._ignores = False  # whether labels have been -100, which losses leave out: later plans reckon with it
        self.group = Accumulation(self.accumulate) if self.accumulate > 1 else None

    @property
    def outputs(self) -> Any:
        """What the model gave in the last step, before the update: (N, ...), overwritten by the next one."""
        if self._last is None:
            raise ArgumentError("outputs: expected a plan that has run: call it once")
        return map_arrays(np.ndarray.view, self._last.outputs)  # whose shapes, unlike the plan's own, anybody may set

    def __call__(self, x: Any, y: Any) -> float:
        """One step on the batch x (N, ...) with targets y: the loss, before the update.

        Several arrays come in tuples, lists and dicts: the loss is given y in its structure; a tuple x is spread over
        the parameters of the model's forward where there are several, and so is a dict that has their names.

        Raises NonFiniteError, and updates nothing, if the loss is infinite or not a number; LabelError for labels that
        the model has no output for; ShapeError, DTypeError or StateError for arrays of model or optimiser that were
        replaced by some that do not fit; GraphError if the step is running already, in the same thread.
        """
        with self._turn():
            return self._run(x, y)

    def prepare(self, x: Any, y: Any, check: Callable[[tuple[int, ...]], None] | None = None) -> None:
        """Make the plan for such a batch without running it; `check` is shown the shape of the model's outputs."""
        check = None if check is None else called("prepare", "check", check)
        given, wanted = argument(self.model, x), target(self.loss_fn, y)
        with self._turn():
            graph = self._stepping(given, wanted).execution.graph
            if check is not None and graph.structure == ARRAY:
                check(graph.results[0].shape)

    def flush(self) -> bool:
        """With `accumulate`: make the update of a group that is not complete, by the mean over the batches it has.

        Call it at the end of an epoch of your own, before parameters are measured or saved; `run_epoch` does. Returns
        whether there was one. Raises NonFiniteError, and drops the group, where clip_norm finds no finite norm.
        """
        with self._turn():
            return self._flush()

    def _fewest(self, images: Any) -> int:
        return fewest_in_training(self.model, lambda: images)

    def _flush(self) -> bool:
        if self.group is None or not self.group.count:
            return False
        gradients, count = self.group.take()
        update(self.optimizer, gradients, scale_of(gradients, count, self.clip_norm))
        return True

    def _run(self, x: Any, y: Any) -> float:
        backends.follow_cpus()
        stepping = self._same(x, y)
        if stepping is not None:
            inputs, targets = [x], [y]
        else:
            given, wanted = argument(self.model, x), target(self.loss_fn, y)
            stepping, inputs, targets = self._stepping(given, wanted), given.arrays, wanted.arrays
            self._remember(stepping, x, y, inputs, targets)
        graph = stepping.execution.graph
        stepping.calls += 1
        if stepping.calls in CHECKED:
            given, wanted = argument(self.model, x), target(self.loss_fn, y)
            self._check_again(graph, lambda around: self._trace(given, wanted, around), parameters=True)
        self._last = stepping.execution
        try:
            if not (graph.keepings or graph.states or stepping.is_hooked):
                return stepping.run(inputs, targets)
            loss = stepping.run([*inputs, *self._states_of(graph)], targets)
            self._leave_kept(stepping.execution)
            if stepping.is_hooked:
                self._structure.follow_hooks()
            return loss
        except LabelError:
            if self._ignores:
                raise
        self._ignores, self._again = True, None  # -100, given or computed, which losses leave out?
        try:
            return self._run(x, y)
        except LabelError:
            self._ignores = False
            raise

    def _same(self, x: Any, y: Any) -> Stepping | None:
        """The last step's plan if it fits this batch, too, or None: a key takes longer than a small network's step."""
        if self._again is None:
            return None
        batch, modes, stepping = self._again
        same = batch.fits(x, y) and not self._follow_model() and self._structure.modes() == modes and stepping.stands()
        return stepping if same else None

    def _remember(self, stepping: Stepping, x: Any, y: Any, inputs: list[Array], targets: list[Array]) -> None:
        """Let `_same` know the step, where it reads two arrays as they were given, and no state of the last one."""
        self._again = None
        plain = len(inputs) == len(targets) == 1 and inputs[0] is x and targets[0] is y
        if plain and not self._structure.keepings and backends.name() == "native":
            from fastnn._kernels import Batch

            self._again = Batch(x, y), self._structure.modes(), stepping

    def _forget(self) -> None:
        super()._forget()
        self._again = None

    def _stepping(self, x: Inputs, y: Inputs) -> Stepping:
        key = (x.key, y.key, self._ignores, kernels_in_use(), *self._structure.modes(), *self._structure.state_key())
        found: Stepping = self._find(key, lambda: self._make(x, y), Stepping.stands)
        return found

    def _trace(self, x: Inputs, y: Inputs, around: Callable[[], Around]) -> Graph:
        return with_gradient_hooks(trace(self.model, self.loss_fn, x, y, self._ignores, around))

    def _make(self, x: Inputs, y: Inputs) -> Stepping:
        graph = self._steady_graph(lambda around: self._trace(x, y, around), training=True)
        assert graph.loss is not None
        if graph.loss.shape != ():
            raise ArgumentError(
                f"expected a loss of one number (reduction 'mean' or 'sum'), got shape {graph.loss.shape}"
            )
        self._check_reached(graph)
        stages, operators = self._stages(graph, True)
        return Stepping(graph, stages, self, operators=operators)

    def _check_reached(self, graph: Graph) -> None:
        """ArgumentError for an optimiser whose steps would change nothing."""
        if self.optimizer is None:
            return
        held = {id(p) for group in self.optimizer.param_groups for p in group["params"]}
        used = {id(leaf) for leaf in graph.leaves if id(leaf.tensor) in held}
        if not used:
            raise ArgumentError("compile: expected an optimiser of this model's parameters, got one that holds none")
        if used.isdisjoint(graph.reached_by_gradients()):
            raise ArgumentError(NOTHING_TO_TRAIN)

    def run_epoch(
        self,
        images: Any,
        labels: Any,
        permutation: Array | None = None,
        batch_size: int = 128,
        scheduler: Any = None,
        *,
        progress: bool = True,
    ) -> float:
        """One epoch: a step on each batch of images[permutation], the short last one too; the mean loss of the images.

        With `accumulate`, the first batch begins a group: batches of an incomplete one before it, for which `flush` was
        not called, are dropped. What is left at the end makes an update by itself (`flush`). A single image that is
        left joins the batch before it where the model cannot take one alone, as with batch norm of features.

        Args:
            images: (N, ...), such as (N, C, H, W) uint8. labels: (N,) integers, or targets (N, ...). Both may be
                tuples, lists and dicts of arrays, as in a step.
            permutation: (n,) indices, the order; None takes all as they are.
            batch_size: images in a batch.
            scheduler: a schedule on the optimiser, stepped after each batch.
            progress: whether to show a bar on a terminal's standard error.

        Ctrl-C stops it after a whole step; with `accumulate`, a group that was not complete by then, or when anything
        else was raised, is dropped. Raises what a step raises; ArgumentError for indices out of range.
        """
        from fastnn.plan.epoch import run_epoch

        images, labels = arrays_of(self.model, images), arrays_of(self.loss_fn, labels)
        with self._turn():
            summed = getattr(self.loss_fn, "reduction", "mean") == "sum"
            weigh = None if summed else partial(weight_of, self.loss_fn)
            self._drop_group()
            try:
                return run_epoch(
                    self._run, self._flush, self._fewest,
                    images, labels, permutation, batch_size, scheduler, progress, weigh,
                )  # fmt: skip
            finally:
                self._drop_group()

    def _drop_group(self) -> None:
        if self.group is not None:
            self.group.drop()
