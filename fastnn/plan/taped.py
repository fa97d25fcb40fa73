"""A compiled model that is called with tensors, as `torch.compile(model)` is: its plan is one operator of the tape.

The call runs the plan's forward, and `backward()`, which comes when the loss has been computed outside, runs the rest.
Between the two the plan's memory holds what backward needs, so a call that comes earlier runs in another copy of the
plan. What no plan can be made of runs operator by operator, which a warning says once.
"""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from fastnn import backends, versions
from fastnn.autograd.engine import grad as gradients_of
from fastnn.autograd.several import Layout, one_array
from fastnn.errors import FastnnError, GraphError, ShapeError
from fastnn.nn import Module
from fastnn.plan.execute import Execution
from fastnn.plan.executions import Plan, kernels_in_use
from fastnn.plan.hooked import Seed, is_hooked, with_gradient_hooks
from fastnn.plan.inputs import Inputs, arguments
from fastnn.plan.keep import replaced
from fastnn.plan.memory import read_by, statistics
from fastnn.plan.steady import CHECKED
from fastnn.plan.trace import Around, Graph, Traced, Value, trace
from fastnn.recording import recording, tracer
from fastnn.tensors import Array, Context, Function, Tensor
from fastnn.trees import flatten, map_arrays, unflatten

__all__ = ["Taped", "holds_tensors", "predicted"]

MOST_COPIES = 4  # of a plan, whose backwards are still to come


def holds_tensors(args: tuple[Any, ...], named: dict[str, Any], objects: bool) -> bool:
    """True for tensors, alone or in tuples, lists and dicts; with `objects`, in attributes of others, too."""
    given = [x for value in (*args, *named.values()) for x in flatten(value)[0]]
    return any(
        isinstance(x, Tensor)
        or (objects and hasattr(x, "__dict__") and any(isinstance(held, Tensor) for held in vars(x).values()))
        for x in given
    )


def predicted(predict: Callable[..., Any], args: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """What `predict` makes of the arrays of tensors, as tensors without a gradient."""
    return map_arrays(Tensor, predict(*[map_arrays(_array, value) for value in args], **_mapped(named)))


class Taped(Plan):
    """The model as a function of tensors; `predict` runs it where no gradient is wanted.

    `whole`: what no plan can be made of is an error.
    """

    def __init__(self, model: Any, options: frozenset[str], predict: Callable[..., Any], whole: bool) -> None:
        super().__init__(model, options)
        self._predict, self.whole = predict, whole
        self._is_planned = True

    def __call__(self, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        given = [x for value in (*args, *named.values()) for x in flatten(value)[0]]
        plain = all(isinstance(x, (Tensor, np.ndarray)) for x in given)
        if not (self._is_planned and plain) or tracer() is not None or self._lock._is_owned():
            return self.model(*args, **named)
        needs = tuple([isinstance(x, Tensor) and x.requires_grad for x in given])
        with self._turn():
            self._follow_model()
            wanted = recording() and (any(needs) or any(self._structure.modes()[1]))
        try:
            if wanted and not self._is_lazy():
                with self._turn():
                    run = self._begin(args, named, needs)
                    if run is not None:
                        return run.outputs([x for x, needed in zip(given, needs, strict=True) if needed])
            elif not wanted and not any(self._structure.modes()[0]):
                return predicted(self._predict, args, named)
        except ShapeError:  # which the model itself raises, too, or an argument that plans do not take
            pass
        except Exception as error:
            if self.whole:
                raise
            outputs = self.model(*args, **named)  # an error that is the model's own comes again
            self._is_planned = False
            said = str(error).removeprefix("compile: ") if isinstance(error, FastnnError) else repr(error)
            reason = getattr(error, "reason", "") or said
            warnings.warn(
                f"compile: this model runs operator by operator, not compiled: {reason}", UserWarning, stacklevel=4
            )
            return outputs
        return self.model(*args, **named)

    def _is_lazy(self) -> bool:
        """Whether layers are still to learn their sizes."""
        return not self._executions and any(hasattr(m, "initialize_parameters") for m in self.model.modules())

    def _begin(self, args: tuple[Any, ...], named: dict[str, Any], needs: tuple[bool, ...]) -> _Run | None:
        """Forward; None where it cannot wait for its backward in a plan."""
        backends.follow_cpus()
        x = arguments(self.model, tuple([map_arrays(_array, value) for value in args]), _mapped(named))
        if len(x.arrays) != len(needs):  # a layer of fastnn's takes a list of arrays as one
            return None
        ignores = any(-100 in array for array in x.arrays if array.dtype == np.int64)  # which losses leave out
        key = (x.key, needs, ignores, kernels_in_use(), *self._structure.modes())
        copies: _Copies = self._find(key, lambda: _Copies(self, x, needs, ignores), _Copies.stand)
        copies.calls += 1
        if copies.calls in CHECKED:
            self._check_again(copies.graph, lambda around: copies.trace(x, around), parameters=True)
        return copies.run(x, lambda: self.model(*args, **named))


class _Copies:
    """The graph of one shape of input, and executions of it, each with a run whose backward may be still to come."""

    def __init__(self, taped: Taped, x: Inputs, needs: tuple[bool, ...], ignores: bool) -> None:
        self.taped, self.needs, self.ignores, self.calls = taped, needs, ignores, 0
        self.starts: dict[int, Tensor] = {}  # gradients of the outputs, which backward begins with
        self.came: dict[int, Tensor] = {}  # gradients of the inputs
        self.graph = graph = taped._steady_graph(lambda around: self.trace(x, around), training=True)
        if graph.states:
            raise GraphError(f"forward reads {graph.states[0]}, which the call before has set")
        assert graph.loss is not None
        if not graph.loss.requires_grad:
            raise GraphError("no output depends on a parameter, or an input, that requires a gradient")
        self.values = _values_of(graph)
        self.is_hooked = is_hooked(graph)
        followed = {id(array) for array in statistics(graph)}  # which forward itself writes
        self.read = [array for _, array in read_by(graph) if id(array) not in followed]
        self.executions: list[Execution] = []
        self.runs: list[weakref.ref[_Run]] = []

    def trace(self, x: Inputs, around: Callable[[], Around]) -> Graph:
        def model(*args: Any, **named: Any) -> Any:
            given = [t for value in (*args, *named.values()) for t in flatten(value)[0]]
            for i, (t, needed) in enumerate(zip(given, self.needs, strict=True)):
                if needed:
                    t.requires_grad_().register_hook(partial(self.came.__setitem__, i))
            before = [t.value for t in given]
            outputs = self.taped.model(*args, **named)
            if any(t.value is not value for t, value in zip(given, before, strict=True)):
                raise GraphError("forward changes its input (requires_grad_, or a write in place), which others hold")
            return outputs

        def loss(outputs: Any) -> Tensor:
            found = flatten(outputs)[0]
            if not all(isinstance(output, Traced) for output in found):
                raise GraphError(f"forward returns other things than tensors that depend on its inputs: {outputs!r}")
            return Seed.apply(*found)

        graph = trace(model, loss, x, Inputs([], ()), self.ignores, around)
        self._seed(graph)
        return with_gradient_hooks(graph)

    def _seed(self, graph: Graph) -> None:
        """Let what forward leaves in attributes be outputs, too, and give each the gradient that begins there."""
        assert graph.loss is not None
        assert graph.loss.producer is not None
        seed, values = graph.loss.producer, _values_of(graph)
        for value in values[len(graph.results) :]:
            value.consumers.append(seed)
        starts = [self.starts.setdefault(i, Tensor(np.zeros(v.shape, v.dtype))) for i, v in enumerate(values)]
        leaves = [Value(start.shape, start.dtype, tensor=start, consumers=[seed]) for start in starts]
        seed.inputs = (*values, *leaves)
        seed.needs = (*(value.requires_grad for value in values), *(False for _ in leaves))
        graph.loss.requires_grad = any(seed.needs)

    def stand(self) -> bool:
        return all(execution.stands() for execution in self.executions)

    def run(self, x: Inputs, again: Callable[[], Any]) -> _Run | None:
        """Forward in an execution that no backward is waited for in; None where there is none."""
        free = next((i for i, run in enumerate(self.runs) if (of := run()) is None or of.is_over), len(self.runs))
        if free == MOST_COPIES:
            return None
        if free == len(self.executions):
            stages, operators = self.taped._stages(self.graph, True)
            options = self.taped.options
            self.executions.append(Execution(self.graph, stages, training=True, options=options, operators=operators))
        made = _Run(self, self.executions[free], x, again)
        self.runs[free:] = [weakref.ref(made), *self.runs[free + 1 :]]
        return made


def _values_of(graph: Graph) -> list[Value]:
    """The outputs, and what else is left in attributes."""
    kept = {id(value): value for keeping in graph.keepings for value in keeping.values}
    return [*graph.results, *(value for key, value in kept.items() if key not in set(map(id, graph.results)))]


class _Run:
    """One forward, and its backward; `again` computes the outputs once more, by operators of the tape."""

    def __init__(self, copies: _Copies, execution: Execution, x: Inputs, again: Callable[[], Any]) -> None:
        self._x, self._again = x, again
        self._copies, self._execution, self.is_over = copies, execution, False
        self._kept, self._number = [*x.arrays, *copies.read], next(versions.clock)
        self._modes = copies.taped._structure.modes()
        self._half = next(i for i, part in enumerate(execution.parts) if part.hands_over)
        execution.run(x.arrays, [], self._half)
        self._results = [execution.array(value).copy() for value in copies.values]

    def outputs(self, inputs: list[Tensor]) -> Any:
        """The outputs on the tape, computed from the inputs and the parameters; what forward leaves is there, too."""
        copies = self._copies
        self._reached = [*inputs, *(p for p, _ in self._execution.gradients)]
        layout = Layout()
        outputs = layout.outputs(CompiledFunction.apply(*self._reached, run=self, layout=layout))
        made = list(outputs) if isinstance(outputs, tuple) else [outputs]
        if keepings := copies.graph.keepings:
            of = {id(value): output for value, output in zip(copies.values, made, strict=True)}
            before = Module.changes
            for keeping in keepings:
                keeping.entry.put(
                    replaced(keeping.left, lambda t: of[id(t.value)] if t.requires_grad else of[id(t.value)].detach())
                )
            copies.taped._structure.adopt(before, len(keepings))
        return unflatten(copies.graph.structure, made[: len(copies.graph.results)])

    def forward(self, ctx: Context) -> Any:
        results, self._results = [*map(Tensor, self._results)], []
        fixed = zip(results, self._copies.values, strict=True)
        ctx.mark_non_differentiable(*(result for result, value in fixed if not value.requires_grad))
        return tuple(results) if len(results) > 1 else results[0]

    def backward(self, grads: list[Tensor]) -> tuple[Array | None, ...]:
        self._check_unwritten()
        if self.is_over:  # and the graph was retained
            return self._forward_again().backward(grads)
        copies = self._copies
        with copies.taped._turn():
            self.is_over = True
            copies.taped._follow_model()  # for its next call
            for i, grad in enumerate(grads):
                np.copyto(copies.starts[i]._data, grad._data)
            self._execution.resume(self._half)
            if copies.is_hooked:
                copies.taped._structure.follow_hooks()
            came = [copies.came.pop(i, None) for i, needed in enumerate(copies.needs) if needed]
            inputs = [None if grad is None else grad._data for grad in came]  # where no output depends on it
            return (*inputs, *(array.copy() for _, array in self._execution.gradients))

    def _forward_again(self) -> _Run:
        """The same forward once more, for another backward: the first has overwritten the plan's memory."""
        copies = self._copies
        with copies.taped._turn():
            self._check_unchanged("second backward")
            if any(part.early for part in self._execution.parts):
                raise GraphError("a second backward of a compiled model that draws: call the model itself")
            run = copies.run(self._x, self._again)
            if run is None:
                raise GraphError("a second backward of a compiled model, of which others are waited for: call it again")
            run._execution.put_back()  # statistics, which have followed this batch already
            return run

    def _check_unchanged(self, when: str) -> None:
        taped = self._copies.taped
        if taped._follow_model() or taped._structure.modes() != self._modes:
            raise GraphError(f"a compiled model was changed between forward and its {when}: call it again")

    def _check_unwritten(self) -> None:
        """GraphError where something that forward has read was written since."""
        written = versions.latest > self._number
        if written and any(versions.written_since(array, self._number) for array in self._kept):
            raise GraphError(
                "backward: a weight or the input of a compiled model was modified in place after forward: call "
                "backward() before what changes it (an optimiser's step(), +=, load_state_dict()), or the model again"
            )

    def backward_on_tape(self, grads: list[Tensor]) -> tuple[Any, ...]:
        """For second derivatives. GraphError where the outputs cannot be computed once more as they were."""
        self._check_unwritten()
        with self._copies.taped._turn():
            self._check_unchanged("second derivatives")
        draws = self._execution.running or any(part.early for part in self._execution.parts)
        if draws or self._copies.graph.keepings:
            raise GraphError("a compiled model that draws, follows statistics or keeps tensors: call the model itself")
        outputs = flatten(self._again())[0]
        pairs = [(y, grad) for y, grad in zip(outputs, grads, strict=True) if y.requires_grad]
        return gradients_of(
            [y for y, _ in pairs], self._reached, [grad for _, grad in pairs], create_graph=True, allow_unused=True
        )


class CompiledFunction(Function):
    """The call of a compiled model. Attributes: its run, and how the outputs lie in the one array of an operator."""

    @staticmethod
    def forward(ctx: Context, *arrays: Array, run: _Run, layout: Layout) -> Array:
        return one_array("compile", ctx, run.forward(ctx), layout)

    @staticmethod
    def backward(ctx: Context, grad: Any) -> tuple[Any, ...]:
        run, layout = ctx.attributes["run"], ctx.attributes["layout"]
        if isinstance(grad, Tensor):
            return run.backward_on_tape(layout.gradients(ctx, grad))
        return run.backward(layout.gradients(ctx, Tensor(grad)))


def _array(x: Any) -> Array:
    return x._data if isinstance(x, Tensor) else x


def _mapped(named: dict[str, Any]) -> dict[str, Any]:
    return {name: map_arrays(_array, value) for name, value in named.items()}
