"""Executions of one model by shape, type and mode, which predictors and steps share: each is made when first needed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any

from fastnn import backends, locks
from fastnn.errors import ArgumentError, GraphError
from fastnn.nn import Module
from fastnn.plan.describe import description
from fastnn.plan.execute import Execution
from fastnn.plan.fuse import FUSIONS, fuse
from fastnn.plan.keep import arrays_in, leave
from fastnn.plan.memory import overlap, read_by, statistics
from fastnn.plan.native import chain_is_supported, is_small_network
from fastnn.plan.region_stage import supported_regions
from fastnn.plan.release import note_plan, trim_memory
from fastnn.plan.steady import CHECKED, Make, Unsteady, check_again, first_graph, steady_graph
from fastnn.plan.structure import Structure
from fastnn.plan.trace import Around, Graph, HasHooks
from fastnn.tables import Text
from fastnn.tensors import Array

__all__ = ["Plan", "called_within", "kernels_in_use"]

MOST_SHAPES = 8  # executions kept; the one that was not used for longest goes
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
            raise called_within()
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
            self._forget_structure()
        return changed

    def _forget_structure(self) -> None:
        """The model's structure has changed."""
        self._changes += 1
        self._forget()

    def _steady_graph(self, make: Make, training: bool) -> Graph:
        """The graph that is traced, compared with a second one; but where the model changes all the time (a weight that
        is scheduled by steps), only now and then."""
        structure = self._structure
        known = len(structure.keepings) + len(structure.states)
        try:
            if not structure.has_users_code:
                return make(lambda: Around([], [], []))
            if structure.iterator is not None:
                raise Unsteady(f"forward takes values from {structure.iterator}, an iterator")
            if self._changes > MOST_COMPARED and self._changes not in CHECKED:
                return first_graph(structure, make)
            return steady_graph(structure, make, training)
        except GraphError as error:
            error.untraced = True
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
        except GraphError as error:
            error.untraced = True
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


def called_within() -> GraphError:
    return GraphError(
        "a compiled plan was called while it is running: by a signal handler, a schedule, an optimiser or a Function "
        "that it runs itself: call it when it has returned, or compile a plan of its own for that"
    )


def kernels_in_use() -> str:
    """Backend and instruction set: a plan's kernels are chosen when it is made."""
    name = backends.name()
    return backends.get(name).isa() if name == "native" else name
