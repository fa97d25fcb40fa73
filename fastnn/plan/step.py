"""What compile() returns: called like a function, it makes a plan for each shape that it meets, and runs it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn import backends, locks
from fastnn.errors import ArgumentError, GraphError, ShapeError
from fastnn.nn import Module
from fastnn.nn.module import mode
from fastnn.optim import Optimizer
from fastnn.plan.describe import description
from fastnn.plan.execute import Execution
from fastnn.plan.fuse import FUSIONS, fuse
from fastnn.plan.memory import overlap, read_by, statistics
from fastnn.plan.native import chain_is_supported
from fastnn.plan.shapes import image_by_image
from fastnn.plan.stepping import Stepping
from fastnn.plan.structure import MODES, Structure
from fastnn.plan.trace import Graph, trace
from fastnn.plan.update import Updates
from fastnn.tensor import Array, Tensor

__all__ = ["Plan", "Predictor", "Step"]

MOST_SHAPES = 8  # executions kept; the one that was not used for longest goes
MOST_IMAGES = 256  # that are predicted at a time


class Plan:
    """Executions of one model by shape, type and mode, made when first needed; one runs at a time, the others wait."""

    def __init__(self, model: Module, options: frozenset[str], *others: Any) -> None:
        self.model, self.options = model, options
        self._lock = locks.lock(self._start_over)
        self._others = [other for other in others if isinstance(other, Module)]
        self._start_over()

    def _start_over(self) -> None:
        """Forgets everything that was made: in a forked child, where a run that another thread had begun never ends."""
        self._structure = Structure(self.model, *self._others)
        self._executions: OrderedDict[Any, Any] = OrderedDict()
        self._last: Execution | None = None

    def _turn(self) -> Any:
        """The lock to hold while the plan is in use. Raises GraphError if the calling thread holds it already."""
        if self._lock._is_owned():
            raise _called_within()
        return self._lock

    def _find(self, key: Any, make: Callable[[], Any], stands: Callable[[Any], bool]) -> Any:
        """What was made for this key; made anew where what it relies on has changed since."""
        self._follow_model()
        found = self._executions.get(key)
        if found is None or not stands(found):
            found = self._executions[key] = make()
            if len(self._executions) > MOST_SHAPES:
                self._executions.popitem(last=False)
        self._executions.move_to_end(key)
        return found

    def _follow_model(self) -> bool:
        """Forget what was made for a model of other layers: whether it was."""
        changed = self._structure.changed()
        if changed:
            self._executions.clear()
        return changed

    def _stages(self, graph: Graph, training: bool) -> list[Any]:
        native = backends.name() == "native"
        disable = self.options if native else frozenset(FUSIONS)
        if training and overlap(statistics(graph), [array for _, array in read_by(graph)]):
            disable = frozenset(FUSIONS)  # operators, one by one, write and read in the order of the eager step
        return fuse(graph, disable, lambda layers: chain_is_supported(layers, training))

    def describe(self) -> str:
        """The program of the call that ran last, stage by stage: kernels, FLOPs, bytes, and each one's share of it."""
        if self._last is None:
            raise ArgumentError("describe: expected a plan that has run: call it once, so that it knows its shapes")
        return description(self._last)


class Predictor(Plan):
    """`compile(model)`: inference, always in eval mode; `frozen`: nothing else holds the model. See `fnn.compile`."""

    def __init__(self, model: Module, options: frozenset[str], frozen: bool) -> None:
        super().__init__(model, options)
        self.frozen = frozen

    def _start_over(self) -> None:
        super()._start_over()
        self._call: Any = None  # what ran last, ready to run again

    def __call__(self, x: Any, out: Array | None = None) -> Array:
        """The model's outputs for x (N, ...), an ndarray; with `out`, an array of their shape and type, in that one.

        Where each image's outputs depend on that image alone, 256 are in work at a time. Raises ShapeError or
        DTypeError, as the model would, for what it does not take, and ShapeError for an `out` that does not fit.
        """
        if self._lock._is_owned():  # as in _turn; a small network's whole call takes a microsecond
            raise _called_within()
        with self._lock:
            if not self.frozen and self._follow_model():
                self._call = None
            outputs = None if self._call is None else self._call(x, out)
            return self._predict(_input(x), out) if outputs is None else outputs

    def _predict(self, x: Array, out: Array | None) -> Array:
        if len(x) <= MOST_IMAGES or not image_by_image(self._execution(x[:MOST_IMAGES]).graph):
            return _into(out, self._outputs(x))
        if out is not None and isinstance(out, np.ndarray) and np.may_share_memory(x, out):
            x = x.copy()  # images that are still to be read must not be written over
        for start in range(0, len(x), MOST_IMAGES):
            part = self._outputs(x[start : start + MOST_IMAGES])
            if out is None:
                out = np.empty((len(x), *part.shape[1:]), part.dtype)
            elif start == 0:
                _check_out(out, (len(x), *part.shape[1:]), part.dtype)
            out[start : start + len(part)] = part
        assert out is not None
        return out

    def _outputs(self, x: Array) -> Array:
        self._last = self._execution(x)
        self._last.run(x, None)
        self._call = self._last.call(x)
        return self._last.outputs

    def _execution(self, x: Array) -> Execution:
        key = (x.shape, x.dtype, _kernels_in_use())
        return self._find(key, lambda: self._make(x), Execution.stands)

    def _make(self, x: Array) -> Execution:
        with MODES, self._structure.kept(), mode(self.model, training=False):
            graph = trace(self.model, None, (x.shape, x.dtype), None)
        return Execution(graph, self._stages(graph, False), training=False, frozen=self.frozen, options=self.options)


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
        super().__init__(model, options, loss_fn)
        self.loss_fn, self.optimizer = loss_fn, optimizer
        self.clip_norm, self.accumulate = clip_norm, accumulate

    def _start_over(self) -> None:
        super()._start_over()
        self.updates: Updates | None = None  # of all executions
        self.sums: dict[Tensor, Array] = {}  # of gradients, where several batches make one update
        self.collected = 0  # batches in them

    @property
    def outputs(self) -> Array:
        """What the model gave in the last step, before the update: (N, ...), overwritten by the next one."""
        if self._last is None:
            raise ArgumentError("outputs: expected a plan that has run: call it once")
        return self._last.outputs.view()  # whose shape, unlike the plan's own, anybody may set

    def __call__(self, x: Any, y: Any) -> float:
        """One step on the batch x (N, ...) with targets y: the loss, before the update.

        Raises NonFiniteError, and updates nothing, if the loss is infinite or not a number; LabelError for labels that
        the model has no output for; ShapeError, DTypeError or StateError for arrays of model or optimiser that were
        replaced by some that do not fit; GraphError if the step is running already, in the same thread.
        """
        with self._turn():
            return self._run(x, y)

    def prepare(self, x: Any, y: Any, check: Callable[[tuple[int, ...]], None] | None = None) -> None:
        """Make the plan for such a batch without running it; `check` is shown the shape of the model's outputs."""
        x, y = _input(x), _target(y)
        with self._turn():
            stepping = self._stepping(x, y)
            if check is not None:
                check(stepping.execution.graph.outputs.shape)

    def _run(self, x: Any, y: Any) -> float:
        x, y = _input(x), _target(y)
        stepping = self._stepping(x, y)
        self._last = stepping.execution
        return stepping.run(x, y)

    def _stepping(self, x: Array, y: Array) -> Stepping:
        with MODES:
            key = (x.shape, x.dtype, y.shape, y.dtype, _kernels_in_use(), *self._structure.modes())
            return self._find(key, lambda: self._make(x, y), Stepping.stands)

    def _make(self, x: Array, y: Array) -> Stepping:
        with self._structure.kept():
            graph = trace(self.model, self.loss_fn, (x.shape, x.dtype), (y.shape, y.dtype))
        assert graph.loss is not None
        if graph.loss.shape != ():
            raise ArgumentError(
                f"expected a loss of one number (reduction 'mean' or 'sum'), got shape {graph.loss.shape}"
            )
        held = {id(p) for group in (self.optimizer.param_groups if self.optimizer else ()) for p in group["params"]}
        if held and not any(id(leaf.tensor) in held for leaf in graph.leaves):
            raise ArgumentError("compile: expected an optimiser of this model's parameters, got one of none of them")
        return Stepping(graph, self._stages(graph, True), self)

    def run_epoch(
        self,
        images: Array,
        labels: Array,
        permutation: Array | None = None,
        batch_size: int = 128,
        scheduler: Any = None,
        *,
        progress: bool = True,
    ) -> float:
        """One epoch: a step on each batch of images[permutation], the short last one too; the mean loss of the images.

        Args:
            images: (N, ...), such as (N, C, H, W) uint8. labels: (N,) integers, or targets (N, ...).
            permutation: (n,) indices, the order; None takes all as they are.
            batch_size: images in a batch.
            scheduler: a schedule on the optimiser, stepped after each batch.
            progress: whether to show a bar on a terminal's standard error.

        Ctrl-C stops it after a whole step. Raises what a step raises; ArgumentError for indices out of range.
        """
        from fastnn.plan.epoch import run_epoch

        images, labels = np.asarray(images), _target(labels)
        with self._turn():
            summed = getattr(self.loss_fn, "reduction", "mean") == "sum"
            return run_epoch(self._run, images, labels, permutation, batch_size, scheduler, progress, summed)


def _called_within() -> GraphError:
    return GraphError(
        "a compiled plan was called while it is running: by a signal handler, a schedule, an optimiser or a Function "
        "that it runs itself: call it when it has returned, or compile a plan of its own for that"
    )


def _kernels_in_use() -> str:
    """Backend and instruction set: a plan's kernels are chosen when it is made."""
    name = backends.name()
    return backends.get(name).isa() if name == "native" else name


_TAKEN = {np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.uint8), np.dtype(np.int64)}


def _input(x: Any) -> Array:
    if type(x) is np.ndarray and x.dtype in _TAKEN:
        array = x
    else:
        array = x.data if isinstance(x, Tensor) else Tensor(x).data
    if array.ndim == 0:
        raise ShapeError(f"compile: expected a batch (N, ...), got {array.shape}")
    flags = array.flags
    return array if flags.c_contiguous and flags.aligned else array.copy()


def _target(y: Any) -> Array:
    array = _input(y)
    return array.astype(np.int64, copy=False) if array.dtype.kind in "iu" else array


def _check_out(out: Array, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    if not isinstance(out, np.ndarray) or out.shape != shape or out.dtype != dtype:
        got = f"{out.dtype} {out.shape}" if isinstance(out, np.ndarray) else type(out).__name__
        raise ShapeError(f"predict: expected out to be an array {dtype} {shape}, got {got}")
    if not out.flags.writeable:
        raise ArgumentError("predict: expected out to be an array that can be written to, got a read-only one")


def _into(out: Array | None, outputs: Array) -> Array:
    if out is None:
        return outputs.copy()
    _check_out(out, outputs.shape, outputs.dtype)
    np.copyto(out, outputs)
    return out
