"""The trace: a model and its loss, written down once as a graph of operators, without computing anything.

What the tape records of values that exist, the tracer records of values that do not exist yet: each operator, what it
is applied to, and the shape of what comes out. Nothing else happens: no statistics are taken, no random numbers drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastnn.arrays import without_numbers
from fastnn.errors import GraphError
from fastnn.hooks import Handle, hooks_of
from fastnn.nn import Module, Parameter
from fastnn.nn.modes import mode
from fastnn.ops import shaping
from fastnn.ops.masked import Masked, refuse
from fastnn.ops.norms import Running
from fastnn.plan.handlers import handlers_apart
from fastnn.plan.inputs import Inputs
from fastnn.plan.memory import memory_of
from fastnn.plan.places import Entry
from fastnn.plan.shapes import output_of, trials, tried
from fastnn.tape import Context, Node, Write, current_module, no_grad, recording, traced_by
from fastnn.tensors import Array, Function, Tensor
from fastnn.trees import ARRAY, Nesting, flatten, is_tree, map_arrays
from fastnn.views import made_apart

__all__ = [
    "VIEWS", "Around", "Graph", "HasHooks", "Keeping", "Operator", "Traced", "Unsteady", "Value", "no_plan",
    "trace",
]  # fmt: skip


def no_plan(reason: str, advice: str) -> GraphError:
    """The error for what no plan can be made of."""
    error = GraphError(f"compile: {reason}: {advice}")
    error.reason = reason
    return error


class Unsteady(GraphError):
    """A model or a loss that does not do the same at every call; `reason` says what differs.

    `entries`, where it is about those, are keys of attributes that calls leave tensors in and look at.
    """

    untraced = True
    advice = (
        "draw by fnn.randn_like, fnn.rand_like, fnn.bernoulli or nn.Dropout, change attributes outside of forward and "
        "the loss"
    )

    def __init__(self, reason: str, entries: set[tuple[int, Any]] | None = None) -> None:
        super().__init__(
            f"compile: {reason}. A plan would repeat the first call for ever: {self.advice}, or call the model itself; "
            "in fit and evaluate, pass compile=False",
        )
        self.reason, self.entries = reason, entries or set()


class HasHooks(Unsteady):
    """A model with forward hooks that read values."""

    advice = "let hooks of forward compute with tensors alone, remove() others"

    def __init__(self, name: str) -> None:
        GraphError.__init__(
            self,
            f"compile: {name} has hooks that read values, of which a plan has none while it is traced: {self.advice}, "
            "or call the model itself; in fit and evaluate, pass compile=False",
        )
        self.reason = f"{name} has hooks that read values"


@dataclass(eq=False)
class Value:
    """An array of the graph: an input, a tensor that exists (a parameter, a constant), or what an operator makes."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    requires_grad: bool = False
    tensor: Tensor | None = None  # of a leaf: its live data are the value
    producer: Operator | None = None
    consumers: list[Operator] = field(default_factory=list)  # one entry a use
    hooks: dict[int, Callable[[Any], Any]] | None = None  # that wait for its gradient


@dataclass(eq=False)
class Operator:
    """A Function applied, in the forward of `module` (None: in none); `needs` says which gradients are wanted.

    `inputs` are Values, live arrays and constants.
    """

    function: type[Function]
    inputs: tuple[Any, ...]
    attributes: dict[str, Any]
    output: Value
    needs: tuple[bool, ...]
    module: Any = None


@dataclass(eq=False)
class Keeping:
    """An attribute, or an entry of a dict, and what forward or the loss leaves there: tensors, which are Traced here,
    by themselves or in lists, tuples, dicts and objects."""

    entry: Entry
    left: Any
    values: list[Value]


@dataclass(eq=False)
class Around:
    """Attributes that a trace reads besides its arguments, and those that it sets."""

    inputs: list[Value]  # in the place of tensors in
    states: list[Entry]  # which calls leave for the next
    keepings: list[Keeping]


@dataclass
class Graph:
    """Operators in the order in which they ran, those left out that nothing depends on."""

    inputs: list[Value]  # the arrays that a call brings, then what it finds in `states`
    targets: list[Value]  # none for inference
    operators: list[Operator]
    results: list[Value]  # the model's outputs
    structure: Nesting  # in which the model returns them
    loss: Value | None  # None for inference
    states: list[Entry]
    keepings: list[Keeping]
    followed: list[Value] = field(default_factory=list)  # that nothing reads: batch norms let their statistics follow

    @property
    def x(self) -> Value:
        """The first input, which a program reads where it lies."""
        return self.inputs[0]

    @property
    def y(self) -> Value | None:
        """The first target, which a program reads where it lies."""
        return self.targets[0] if self.targets else None

    @property
    def shown(self) -> list[Value]:
        """All values that a run leaves: the model's outputs, those kept in attributes, and what only a batch norm
        whose statistics follow it has seen."""
        return [*self.results, *(value for keeping in self.keepings for value in keeping.values), *self.followed]

    def is_result(self, value: Value) -> bool:
        """Whether it is among what a run leaves."""
        return any(value is result for result in self.shown)

    @property
    def leaves(self) -> list[Value]:
        """The tensors that exist: parameters and constants."""
        used = {id(v): v for op in self.operators for v in op.inputs if isinstance(v, Value) and v.tensor is not None}
        return list(used.values())

    def reached_by_gradients(self) -> set[int]:
        """ids of the values to which backward() from the loss would come."""
        reached = {id(self.loss)}
        for op in reversed(self.operators):
            if id(op.output) in reached:
                reached.update(id(value) for value, needed in zip(op.inputs, op.needs, strict=True) if needed)
        return reached


class Traced(Tensor):
    """A tensor without numbers: it has shape and dtype; whoever asks for its values is told that there are none."""

    __slots__ = ()  # laid out as any tensor, so that one can become one that is traced

    @property
    def value(self) -> Value:
        return self._grad

    @value.setter
    def value(self, value: Value) -> None:
        self._data = without_numbers(value.shape, value.dtype)
        self._grad: Any = value
        self._requires_grad = value.requires_grad
        self.node = None

    @classmethod
    def of(cls, value: Value) -> Traced:
        traced = cls.__new__(cls)
        traced.value = value
        traced._view = None
        return traced

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise no_plan(
            "the model reads the value of a tensor (by .item(), .numpy(), bool(), float() or NumPy)",
            "a plan is made before there are values, so what the model does may depend on shapes alone; "
            "use the model uncompiled",
        )

    data = property(lambda self: self.detach(), _refuse)
    numpy = item = tolist = backward = _refuse
    __array__ = __bool__ = __float__ = __int__ = _refuse

    def register_hook(self, hook: Any) -> Handle:
        """It is called in each run, see hooked.py, and here where forward takes derivatives itself."""
        handle = super().register_hook(hook)
        self.value.hooks = hooks_of(self)
        return handle

    def retain_grad(self) -> None:
        """Nobody would see it: the tensor is gone when the gradient is there."""
        raise Unsteady(
            f"forward or the loss asks for the gradient of a tensor {self.shape} that it computes (retain_grad), which "
            "a plan has in its own memory alone: let a hook take it (register_hook)"
        )

    @property
    def is_leaf(self) -> bool:
        return self.node is None

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """From here on it is another value, by whose gradient the model may ask; the input's own is not computed."""
        if requires_grad and not self._requires_grad:
            self.value = shaping.Reshape.apply(self, shape=self.shape).value
            self.value.requires_grad = self._requires_grad = True
        return self

    def detach(self) -> Tensor:
        return Detach.apply(self)

    def detach_(self) -> Tensor:
        cut = Detach.apply(self)
        assert isinstance(cut, Traced)
        self.value, self._view = cut.value, None
        return self

    def __repr__(self) -> str:
        return f"Traced(shape={self.shape}, dtype={self.dtype})"

    __str__ = __repr__


class Detach(Function):
    """x itself, without its gradient."""

    differentiable = False

    @staticmethod
    def forward(ctx: Any, x: Array) -> Array:
        return x


VIEWS = (shaping.Reshape, shaping.Permute, shaping.Index, shaping.Expand, Detach)


class _Recorder:
    """Takes operators down as they are applied."""

    def __init__(self, ignores: bool, records: bool) -> None:
        self.ignores, self.records = ignores, records
        self.operators: list[Operator] = []
        self.leaves: dict[int, Value] = {}
        self._made: dict[int, Tensor] = {}

    def record(self, function: type[Function], inputs: tuple[Any, ...], attributes: dict[str, Any]) -> Tensor:
        given = tuple(self._value(x) if isinstance(x, Tensor) else x for x in inputs)
        on_tape = recording() and function.differentiable
        needs = tuple(on_tape and isinstance(v, Value) and v.requires_grad for v in given)
        shape, dtype = output_of(function, given, attributes, needs)
        output = Value(shape, dtype, requires_grad=any(needs))
        output.producer = Operator(function, given, attributes, output, needs, current_module())
        self.operators.append(output.producer)
        traced = Traced.of(output)
        if any(needs):  # for derivatives that the model or the loss takes itself
            traced.node = Node(function, inputs, attributes, Context(dtype, needs, attributes))
        if function in VIEWS:
            traced._view = inputs[0], function, attributes, given[0]
        return traced

    def trial(
        self, function: type[Function], inputs: tuple[Any, ...], attributes: dict[str, Any], needs: tuple[bool, ...]
    ) -> tuple[Context, list[Any], Array]:
        """What forward keeps, of arrays of the right shapes: its context, the arrays, and the output."""
        return tried(function, tuple(self._value(x) if isinstance(x, Tensor) else x for x in inputs), attributes, needs)

    def made(self, tensor: Tensor) -> None:
        """A tensor came into being in the course of the trace: it may be written to, but for arrays from before."""
        if not trials.known or memory_of(tensor._data) not in trials.known:
            self._made[id(tensor)] = tensor

    def take_over(self, tensor: Tensor, make: Callable[[Tensor], Tensor]) -> None:
        """Let `tensor` go on as what `make` makes of it, in the place of a write, and what it is a view of with it."""
        before = self._traced(tensor)
        self._check_cut(before.value)
        result = make(before)
        x = tensor
        while x._view:
            x, function, attributes, _ = x._view
            before = self._traced(x)
            self._check_cut(before.value)
            if function is not Detach:
                result = function.put_back(before, result, **attributes)
            elif before.requires_grad or result.requires_grad:
                raise no_plan(
                    "what detach() gives is written in place, or by something that needs a gradient",
                    "write to x.detach().clone(), or use the model uncompiled",
                )
        assert isinstance(x, Traced)
        self._go_on(x, before, result)

    def _traced(self, tensor: Tensor) -> Traced:
        """A tensor that may be written to as it is now; it becomes a traced one itself."""
        if not isinstance(tensor, Traced) and id(tensor) not in self._made:
            self.refuse_writing()
        value = self._value(tensor)
        if not isinstance(tensor, Traced):
            value = self._become_traced(tensor)
        before = Traced.of(value)
        before.node = tensor.node
        return before

    def _check_cut(self, value: Value) -> None:
        if self.records and not recording() and value.requires_grad:
            raise no_plan(
                "a tensor that needs a gradient is written in place under fnn.no_grad(), after which its gradient is "
                "that of what it was",
                "use the model uncompiled",
            )

    def _go_on(self, x: Traced, before: Traced, now: Any) -> None:
        x.value = now.value
        x.node = None if now.node is None else Write(now.node, x, before)

    def _become_traced(self, tensor: Tensor) -> Value:
        """The leaf of a tensor that is to go on as something else; it gets a tensor of its own, with the same array."""
        own = Tensor(tensor.data)
        leaf = self.leaves.pop(id(tensor), None) or self._value(own)
        leaf.tensor, self.leaves[id(own)] = own, leaf
        tensor.__class__ = Traced
        tensor.value = leaf  # type: ignore[attr-defined]
        return leaf

    def apart(self, tensor: Tensor) -> Tensor:
        """Another tensor of the same value, which sees no writes to the memory of this one."""
        if not isinstance(tensor, Traced):
            return shaping.Reshape.apply(tensor, shape=tensor.shape) if id(tensor) in self._made else tensor
        other = Traced.of(self._value(tensor))
        other.node = tensor.node
        return other

    def detached(self, tensor: Tensor, x: Tensor) -> Tensor:
        """`tensor` is x without its gradient; of what came into being in the course of the trace it sees the writes."""
        if id(x) not in self._made:
            self._made.pop(id(tensor), None)
        elif not isinstance(x, Traced):
            self.seen_in(tensor, x, Detach, {})
        return tensor

    def seen_in(self, view: Tensor, x: Tensor, function: Any, attributes: dict[str, Any]) -> None:
        """`view` is what `function` makes of x, and lies in its memory."""
        view._view = x, function, attributes, self._value(x)

    def _renew(self, x: Tensor) -> None:
        """Let a view of what was written since go on as a view of what it is now, as fastnn/views.py does."""
        if not x._view:
            return
        source, function, attributes, then = x._view
        now: Any = self._value(source)
        if now is then:
            return
        if not isinstance(x, Traced):
            self._become_traced(x)
        assert isinstance(x, Traced)
        seen: Any = then
        if function is not Detach and self.records and seen.requires_grad and not x._requires_grad:
            raise made_apart(x)
        with traced_by(self, recording=self.records):
            made = function.apply(source, **attributes)
        before = Traced.of(x.value)
        before.node = x.node
        self._go_on(x, before, made)
        x._view = source, function, attributes, now

    def refuse_writing(self) -> None:
        """Off the tape, code may write entries of a tensor with what it has computed; a plan would not do it again."""
        raise Unsteady("forward or the loss writes entries of a tensor (x[...] = ..., x.data = ...)")

    def _value(self, x: Tensor) -> Value:
        if not isinstance(x, Traced) and id(x) not in self.leaves:  # kept alive by the Value: its id stays its own
            self.leaves[id(x)] = Value(x.shape, x.dtype, x.requires_grad, tensor=x)
        if isinstance(x, Traced) or id(x) in self._made:
            self._renew(x)
        return x.value if isinstance(x, Traced) else self.leaves[id(x)]

    def value_of(self, x: Traced) -> Value:
        """What it is now."""
        return self._value(x)


def trace(
    model: Callable[..., Any],
    loss: Callable[..., Any] | None,
    inputs: Inputs,
    targets: Inputs | None = None,
    ignores: bool = False,
    around: Callable[[], Around] = lambda: Around([], [], []),
) -> Graph:
    """The graph of model(inputs), or of loss(model(inputs), targets), for arrays of these shapes and types.

    `ignores` says that targets may hold -100, which cross-entropy leaves out; `around`, asked at the end, what the call
    has taken from attributes and left there.

    Raises GraphError where the model needs values, and whatever the model itself raises for such shapes.
    """
    _make_lazy_layers(model, inputs)
    recorder = _Recorder(ignores, records=loss is not None)
    taken = [Value(array.shape, array.dtype) for array in inputs.arrays]
    aims = [] if targets is None else [Value(array.shape, array.dtype) for array in targets.arrays]
    given, wanted = [Traced.of(value) for value in taken], [Traced.of(value) for value in aims]
    with handlers_apart(), traced_by(recorder, recording=loss is not None):
        outputs = inputs.call(model, (), given)
        if is_tree(outputs) and any(map(_is_plain, flatten(outputs)[0])):  # parameters, constants
            outputs = map_arrays(lambda t: shaping.Reshape.apply(t, shape=t.shape) if _is_plain(t) else t, outputs)
        result = None if loss is None or targets is None else targets.call(loss, (outputs,), wanted)
        surroundings = around()
        for tensor in (*(flatten(outputs)[0] if is_tree(outputs) else [outputs]), result):
            if isinstance(tensor, Traced):
                recorder.value_of(tensor)
    found, structure = flatten(outputs) if is_tree(outputs) else ([outputs], ARRAY)
    for name, tensors in (("the model", found), ("the loss", [result] if loss is not None else [])):
        for tensor in tensors:
            if isinstance(tensor, Masked):
                refuse()
            if not isinstance(tensor, Traced):
                raise GraphError(
                    f"compile: expected {name} to return a tensor that depends on its input, got {tensor!r}"
                )
    results = [tensor.value for tensor in found]
    last = None if result is None else result.value
    taken += surroundings.inputs
    graph = Graph(taken, aims, [], results, structure, last, surroundings.states, surroundings.keepings)
    following = [op.output for op in recorder.operators if isinstance(op.attributes.get("running"), Running)]
    graph.operators = _needed(recorder.operators, [*graph.shown, *following, *([] if last is None else [last])])
    for op in graph.operators:
        for value in op.inputs:
            if isinstance(value, Value):
                value.consumers.append(op)
    graph.followed = [value for value in following if not value.consumers and not graph.is_result(value)]
    return graph


def _is_plain(output: Any) -> bool:
    """Whether it is a tensor that exists, not one of the trace."""
    return isinstance(output, Tensor) and not isinstance(output, (Masked, Traced))


def _make_lazy_layers(model: Callable[..., Any], inputs: Inputs) -> None:
    """A forward in eval mode, on zeros, where lazy layers are still to learn their sizes. It leaves no tensors."""
    if isinstance(model, Module) and any(hasattr(module, "initialize_parameters") for module in model.modules()):
        zeros = [Tensor(np.zeros(array.shape, array.dtype)) for array in inputs.arrays]
        held = [(module, vars(module).copy()) for module in model.modules()]
        with no_grad(), mode(model, training=False):
            inputs.call(model, (), zeros)
        for module, before in held:
            for name, value in vars(module).copy().items():
                made = isinstance(value, Tensor) and not isinstance(value, Parameter)
                if before.get(name) is not value and (made or is_tree(value)):
                    setattr(module, name, before[name]) if name in before else delattr(module, name)


def _needed(operators: list[Operator], results: list[Value]) -> list[Operator]:
    wanted = {id(value) for value in results}
    needed = []
    for op in reversed(operators):
        if id(op.output) in wanted:
            needed.append(op)
            wanted.update(id(value) for value in op.inputs if isinstance(value, Value))
    return needed[::-1]
