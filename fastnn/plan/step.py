"""What compile() returns: called like a function, it makes a plan for each shape that it meets, and runs it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np

from fastnn import backends, locks
from fastnn.checks import called
from fastnn.errors import ArgumentError, GraphError, LabelError, ShapeError
from fastnn.nn import Module
from fastnn.nn.arguments import positional_parameters
from fastnn.nn.modes import mode
from fastnn.nn.shares import weight_of
from fastnn.optim import Optimizer
from fastnn.plan.accumulation import Accumulation
from fastnn.plan.describe import description
from fastnn.plan.execute import Execution
from fastnn.plan.fewest import fewest_in_training
from fastnn.plan.fuse import FUSIONS, fuse
from fastnn.plan.inputs import Inputs, argument, arguments, arrays_of, target
from fastnn.plan.keep import arrays_in, leave
from fastnn.plan.memory import overlap, read_by, statistics
from fastnn.plan.native import chain_is_supported, is_small_network
from fastnn.plan.region_stage import supported_regions
from fastnn.plan.release import note_plan, trim_memory
from fastnn.plan.shapes import image_by_image
from fastnn.plan.steady import CHECKED, Make, Unsteady, check_again, first_graph, steady_graph
from fastnn.plan.stepping import Reduce, Stepping, scale_of, update
from fastnn.plan.structure import Structure
from fastnn.plan.trace import Around, Graph, HasHooks, trace
from fastnn.plan.update import Updates
from fastnn.tables import Text
from fastnn.tensors import Array
from fastnn.trees import ARRAY, Nesting, flatten, map_arrays, unflatten
from fastnn.versions import wrote

__all__ = ["NOTHING_TO_TRAIN", "Plan", "Predictor", "Step"]

NOTHING_TO_TRAIN = (
    "expected a loss with a gradient for some parameter of the optimiser, got one that reaches none: they are frozen "
    "(requires_grad is False), or something on the way cuts gradients off (detach, no_grad)"
)
MOST_SHAPES = 8  # executions kept; the one that was not used for longest goes
MOST_IMAGES = 256  # that are predicted at a time
MOST_COMPARED = 4  # changes of a model after each of which it is traced twice


class Plan:
    """Executions of one model by shape, type and mode, made when first needed; one runs at a time, the others wait."""

    frozen = False

    def __init__(self, model: Module, options: frozenset[str], *others: Any) -> None:
        self.model, self.options = model, options
        self._lock = locks.lock(self._start_over)
        self._others = others
        self._start_over()
        note_plan(self)

    def _start_over(self) -> None:
        """Forgets everything that was made: in a forked child, where a run that another thread had begun never ends."""
        self._structure = Structure(self.model, *self._others)
        self._executions: OrderedDict[Any, Any] = OrderedDict()
        self._recent: tuple[Any, Any] = None, None  # key and value of the one that was found last
        self._last: Execution | None = None
        self._changes = 0  # of the model

    def _turn(self) -> Any:
        """The lock to hold while the plan is in use. Raises GraphError if the calling thread holds it already."""
        if self._lock._is_owned():
            raise _called_within()
        return self._lock

    def _find(self, key: Any, make: Callable[[], Any], stands: Callable[[Any], bool]) -> Any:
        """Returns the execution cached for `key`, rebuilt if anything it depends on has changed."""
        self._follow_model()
        recent, found = self._recent
        if recent == key and stands(found):
            return found
        found = self._executions.get(key)
        if found is None or not stands(found):
            found = self._executions[key] = make()
            if len(self._executions) > MOST_SHAPES:
                self._executions.popitem(last=False)
                trim_memory()
        self._executions.move_to_end(key)
        self._recent = key, found
        return found

    def _follow_model(self) -> bool:
        """Clears the cache if the model's structure has changed; returns whether it had."""
        changed = self._structure.changed()
        if changed:
            self._changes += 1
            self._forget()
        return changed

    def _steady_graph(self, make: Make, training: bool) -> Graph:
        """The graph that is traced, compared with a second one; but where the model changes all the time (a weight that
        is scheduled by steps), only now and then."""
        structure = self._structure
        structure.check_hooks(training)
        if not structure.has_users_code:
            return make(lambda: Around([], [], []))
        if structure.iterator is not None:
            raise Unsteady(f"forward takes values from {structure.iterator}, an iterator")
        known = len(structure.keepings) + len(structure.states)
        try:
            if self._changes > MOST_COMPARED and self._changes not in CHECKED:
                return first_graph(structure, make)
            return steady_graph(structure, make, training)
        except GraphError as error:
            if isinstance(error, Unsteady) or "hooked" not in vars(error):
                raise
            raise HasHooks(structure.name_of(vars(error)["hooked"])) from error
        finally:
            if len(structure.keepings) + len(structure.states) != known:
                self._forget()  # plans that read what lies there: it is watched no longer

    @staticmethod
    def _states_of(graph: Graph) -> list[Array]:
        """The arrays in what the calls before have left for the next."""
        return [array for entry in graph.states for array in arrays_in(entry.read())]

    def _leave_kept(self, execution: Execution) -> None:
        """Set the attributes in which the model leaves tensors, by what the execution has just computed."""
        if keepings := execution.graph.keepings:
            before = Module.changes
            leave(keepings, execution.array)
            self._structure.adopt(before, len(keepings))

    def _check_again(self, graph: Graph, make: Make, parameters: bool) -> None:
        """Unsteady, and the plans forgotten, where the model now does something else than what a plan was made of."""
        if not self._structure.has_users_code:
            return
        try:
            check_again(self._structure, graph, make, parameters)
        except Unsteady:
            self._forget()
            raise

    def _forget(self) -> None:
        self._executions.clear()
        self._recent = None, None

    def release(self) -> None:
        """Gives up the memory of all executions; but not while one of them runs."""
        if not self._lock._is_owned() and self._lock.acquire(blocking=False):
            try:
                self._forget()
                self._last = None
            finally:
                self._lock.release()

    def _stages(self, graph: Graph, training: bool) -> tuple[list[Any], bool]:
        """The stages of a graph, and whether operators that are not fused run natively, too."""
        native = backends.name() == "native"
        disable = self.options if native else frozenset(FUSIONS)
        if training and overlap(statistics(graph), [array for _, array in read_by(graph)]):
            disable = frozenset(FUSIONS)  # operators, one by one, write and read in the order of the eager step
        regions = [] if "region" in disable else supported_regions(graph, training, self.frozen, disable)
        chains = partial(chain_is_supported, training=training)
        small = partial(is_small_network, training=training, frozen=self.frozen)
        stages = fuse(graph, disable, chains, regions, small, self.frozen)
        return stages, "operators" not in disable

    def describe(self) -> Text:
        """The program of the call that ran last, stage by stage: kernels, FLOPs, bytes, and each one's share of it."""
        if self._last is None:
            raise ArgumentError("describe: expected a plan that has run: call it once, so that it knows its shapes")
        return Text(description(self._last))


class Predictor(Plan):
    """`compile(model)`: inference, always in eval mode; `frozen`: nothing else holds the model. See `fnn.compile`."""

    def __init__(self, model: Module, options: frozenset[str], frozen: bool) -> None:
        super().__init__(model, options)
        self.frozen = frozen
        self._takes_one = len(positional_parameters(model)) == 1  # then a second positional argument is `out`

    def _start_over(self) -> None:
        super()._start_over()
        self._call: Any = None  # what ran last, ready to run again
        self._is_large = True  # enough for several threads, as far as is known
        self._of_one_size: set[Any] = set()  # inputs that the model, as it is now, does not take
        self._ignores = False  # whether labels among the inputs have held -100
        self._calls = 0  # of a model with users' code, which is looked at again and again
        self._is_due = False  # whether the call that runs has yet to compare its plan with a new trace

    def __call__(self, *args: Any, out: Array | None = None, **named: Any) -> Any:
        """The model's outputs for x (N, ...), an ndarray; with `out`, an array of their shape and type, in that one.

        Models of several inputs take them as in ``model(*args, **named)``: arrays, and tuples, lists and dicts of
        them. Outputs come in the structure in which the model returns them; `out` is for a single one.

        Where each image's outputs depend on that image alone, 256 are in work at a time. Raises ShapeError or
        DTypeError, as the model would, for what it does not take, and ShapeError for an `out` that does not fit.
        """
        if len(args) == 2 and self._takes_one and not named:
            x, out = args
            args = (x,)
        if self._lock._is_owned():  # as in _turn; a small network's whole call takes a microsecond
            raise _called_within()
        if self._is_large:
            backends.follow_cpus()
        with self._lock:
            if not self.frozen and (self._follow_model() or (self._structure.has_users_code and self._is_checked())):
                self._call = None
            outputs = None if self._call is None or len(args) != 1 or named else self._call(*args, out)
            if outputs is None:
                outputs = self._predict(arguments(self.model, args, named), out)
        if out is not None:
            wrote(out)
        return outputs

    def _forget(self) -> None:
        super()._forget()
        self._of_one_size.clear()
        self._call = None

    def _is_checked(self) -> bool:
        """Count a call; whether the plan is compared with a new trace before it."""
        self._calls += 1
        self._is_due = self._calls in CHECKED
        return self._is_due

    def _predict(self, x: Inputs, out: Array | None) -> Any:
        count = len(x.arrays[0])
        first = x.part(slice(0, MOST_IMAGES)) if count > MOST_IMAGES else x
        if count <= MOST_IMAGES or not self._may_be_cut(first):
            return _into(out, self._outputs(x))
        if out is not None and isinstance(out, np.ndarray):  # images still to be read must not be written over
            arrays = [array.copy() if np.may_share_memory(array, out) else array for array in x.arrays]
            x = Inputs(arrays, x.positional, x.named)
        to: list[Array] = []
        structure: Nesting = ARRAY
        for start in range(0, count, MOST_IMAGES):
            outputs = self._outputs(x.part(slice(start, start + MOST_IMAGES)))
            parts, structure = flatten(outputs)
            if not start:
                shapes = [((count, *part.shape[1:]), part.dtype) for part in parts]
                if out is not None:
                    _check_out(out, structure, *shapes[0])
                to = [np.empty(*shape) for shape in shapes] if out is None else [out]
            for part, whole in zip(parts, to, strict=True):
                whole[start : start + len(part)] = part
        return unflatten(structure, to)

    def _may_be_cut(self, first: Inputs) -> bool:
        """Whether the images can be predicted in parts; not by a model that takes one size of batch alone."""
        if first.key in self._of_one_size:
            return False
        try:
            return image_by_image(self._execution(first).graph)
        except ShapeError:
            self._of_one_size.add(first.key)  # so that the next call does not trace it again
            return False

    def _outputs(self, x: Inputs) -> Any:
        self._last, self._call = self._execution(x), None
        try:
            self._last.run([*x.arrays, *self._states_of(self._last.graph)], [])
        except LabelError:
            if self._ignores or not _may_be_ignored(x.arrays):
                raise
            self._ignores = True
            return self._outputs(x)
        self._leave_kept(self._last)
        self._call = self._last.call(x.arrays[0])
        self._is_large = self._call is None or x.arrays[0].size >= 1 << 10
        return self._last.outputs

    def _execution(self, x: Inputs) -> Execution:
        key = (x.key, self._ignores, _kernels_in_use(), *self._structure.state_key())
        known = self._executions.get(key)
        found: Execution = self._find(key, lambda: self._make(x), Execution.stands)
        due, self._is_due = self._is_due, False  # a call makes one comparison, however many parts its images come in
        if due and found is known:
            self._check_again(found.graph, lambda around: self._trace(x, around), parameters=False)
        return found

    def _trace(self, x: Inputs, around: Callable[[], Around]) -> Graph:
        with mode(self.model, training=False):
            return trace(self.model, None, x, None, self._ignores, around)

    def _make(self, x: Inputs) -> Execution:
        graph = self._steady_graph(lambda around: self._trace(x, around), training=False)
        stages, operators = self._stages(graph, False)
        return Execution(graph, stages, training=False, frozen=self.frozen, options=self.options, operators=operators)


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
        super().__init__(model, options, loss_fn)

    def _start_over(self) -> None:
        super()._start_over()
        self.updates: Updates | None = None  # of all executions
        self._ignores = False  # whether a target has held -100, which losses leave out: later plans reckon with it
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
        given, wanted = argument(self.model, x), target(self.loss_fn, y)
        stepping = self._stepping(given, wanted)
        stepping.calls += 1
        if stepping.calls in CHECKED:
            graph = stepping.execution.graph
            self._check_again(graph, lambda around: self._trace(given, wanted, around), parameters=True)
        self._last = stepping.execution
        try:
            loss = stepping.run([*given.arrays, *self._states_of(stepping.execution.graph)], wanted.arrays)
            self._leave_kept(stepping.execution)
            return loss
        except LabelError:
            if self._ignores or not _may_be_ignored([*given.arrays, *wanted.arrays]):
                raise
        self._ignores = True
        return self._run(x, y)

    def _stepping(self, x: Inputs, y: Inputs) -> Stepping:
        key = (x.key, y.key, self._ignores, _kernels_in_use(), *self._structure.modes(), *self._structure.state_key())
        found: Stepping = self._find(key, lambda: self._make(x, y), Stepping.stands)
        return found

    def _trace(self, x: Inputs, y: Inputs, around: Callable[[], Around]) -> Graph:
        return trace(self.model, self.loss_fn, x, y, self._ignores, around)

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


def _called_within() -> GraphError:
    return GraphError(
        "a compiled plan was called while it is running: by a signal handler, a schedule, an optimiser or a Function "
        "that it runs itself: call it when it has returned, or compile a plan of its own for that"
    )


def _may_be_ignored(arrays: Iterable[Array]) -> bool:
    """Whether there are labels -100, which losses leave out by default."""
    return any(-100 in array for array in arrays if array.dtype == np.int64)


def _kernels_in_use() -> str:
    """Backend and instruction set: a plan's kernels are chosen when it is made."""
    name = backends.name()
    return backends.get(name).isa() if name == "native" else name


def _check_out(out: Array, structure: Nesting, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    if structure != ARRAY:
        raise ArgumentError("predict: expected no out for a model of several outputs")
    if not isinstance(out, np.ndarray) or out.shape != shape or out.dtype != dtype:
        got = f"{out.dtype} {out.shape}" if isinstance(out, np.ndarray) else type(out).__name__
        raise ShapeError(f"predict: expected out to be an array {dtype} {shape}, got {got}")
    if not out.flags.writeable:
        raise ArgumentError("predict: expected out to be an array that can be written to, got a read-only one")


def _into(out: Array | None, outputs: Any) -> Any:
    """Copies of the outputs, which the next call overwrites."""
    if out is None:
        return map_arrays(np.ndarray.copy, outputs)
    arrays, structure = flatten(outputs)
    _check_out(out, structure, arrays[0].shape, arrays[0].dtype)
    np.copyto(out, outputs)
    return out
