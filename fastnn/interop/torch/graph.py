"""Graphs of torch.fx: of programs that came from PyTorch, and of fastnn's traces of any other forward."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.arrays import without_numbers
from fastnn.errors import FastnnError, GraphError
from fastnn.interop.torch.layers import translatable
from fastnn.interop.torch.operators import expressions, of_lines
from fastnn.interop.torch.program import FromTorch, written_into
from fastnn.interop.torch.values import tensor_of, torch
from fastnn.nn import Module, Parameter
from fastnn.nn.modes import mode
from fastnn.ops.shaping import Reshape
from fastnn.plan.inputs import Inputs
from fastnn.plan.steady import undone
from fastnn.plan.trace import Graph, Operator, Traced, Value, trace
from fastnn.tape import tracer
from fastnn.tensors import Tensor, no_grad
from fastnn.trees import ARRAY, flatten, unflatten

__all__ = ["check_counts", "normalize", "of_program", "traced"]

COUNTS = 2, 3  # samples of the two traces that tell what grows with their number


# ---- a program that came from PyTorch -------------------------------------------------------------------------------


def of_program(module: FromTorch, root: Any) -> Any:
    """The module of a FromTorch; `root` holds its modules, parameters and buffers.

    It is a GraphModule, or, where training mode has steps of its own, a module that runs one of two.
    """
    programs = module._programs
    made = {
        training: _module(root, _graph(module, programs[mode]), module._name, module.training)
        for training, mode in ((False, "evaluation"), (True, "training"))
    }
    if programs["evaluation"] == programs["training"]:
        return made[False]
    forwards = {training: type(each).forward for training, each in made.items()}

    class ByMode(torch().nn.Module):  # type: ignore[misc]
        @functools.wraps(forwards[False])
        def forward(self, *inputs: Any) -> Any:
            return forwards[self.training](self, *inputs)

    ByMode.__name__ = module._name
    return _holding(ByMode(), root, module.training)


def _graph(module: FromTorch, program: dict[str, Any]) -> Any:
    library = torch()
    made = library.fx.Graph()
    nodes = [made.placeholder(name) for name in module._inputs]

    def value(described: Any) -> Any:
        if isinstance(described, (list, tuple)):
            return type(described)(map(value, described))
        if not isinstance(described, dict):
            return described
        ((kind, content),) = described.items()
        if kind == "step":
            return nodes[content]
        if kind == "training":
            return made.create_node("get_attr", "training")
        if kind == "slice":
            return slice(*map(value, content))
        if kind == "dict":
            return {key: value(entry) for key, entry in content.items()}
        return getattr(library, content) if kind == "dtype" else ...

    for kind, name, args, kwargs in program["steps"]:
        given = tuple(map(value, args)), {key: value(arg) for key, arg in kwargs.items()}
        if kind == "module":
            nodes.append(made.call_module(name, *given))
        elif kind == "value":
            nodes.append(made.create_node("get_attr", name))
        elif kind == "method":
            nodes.append(made.call_method(name, *given))
        elif kind == "attribute":
            nodes.append(made.call_function(getattr, (*given[0], name)))
        else:
            places = {"F": library.nn.functional, "fnn": library, "math": math, "operator": operator}
            function = written_into if name == "setitem" else getattr(places[kind], name)
            nodes.append(made.call_function(function, *given))
    made.output(value(program["result"]))
    return made


def _module(root: Any, made: Any, name: str, training: bool) -> Any:
    """Everything that `root` holds, in order, with this graph as its forward."""
    return _holding(torch().fx.GraphModule(root, made, name), root, training)


def _holding(result: Any, root: Any, training: bool) -> Any:
    for kept in ("_modules", "_parameters", "_buffers", "_non_persistent_buffers_set"):
        setattr(result, kept, getattr(root, kept))
    result.training = training
    return result


def normalize(module: Any) -> Any:
    """The GraphModule of an nn.Normalize."""
    library = torch()
    root = library.nn.Module()
    for name in module._buffers:
        root.register_buffer(name, tensor_of(getattr(module, name)))
    made = library.fx.Graph()
    tracer = library.fx.proxy.GraphAppendingTracer(made)
    x = library.fx.Proxy(made.placeholder("x"), tracer)
    mean, std = (library.fx.Proxy(made.create_node("get_attr", name), tracer) for name in ("mean", "std"))
    made.output(_normalized(x, mean, std).node)
    return _module(root, made, "Normalize", module.training)


def _normalized(x: Any, mean: Any, std: Any) -> Any:
    """Normalises (N, C, ...) by mean and std (C,); uint8 is divided by 255 first."""
    back = (x / ((x.dtype == torch().uint8) * 254 + 1)).transpose(1, -1)
    return ((back - mean) / std).transpose(1, -1)


# ---- a trace ---------------------------------------------------------------------------------------------------------


class _Call:
    """A call of a module that becomes one of PyTorch's: what it got, what it gave, and the operators within."""

    def __init__(self, module: Module, args: Any, kwargs: Any, first: int) -> None:
        self.module, self.args, self.kwargs, self.first = module, args, kwargs, first
        self.output: Any = None
        self.operators: set[int] = set()


def traced(
    model: Module,
    shape: tuple[int, ...],
    translate: Callable[[Module], Any],
) -> Any:
    """The GraphModule of a model with a forward of its own, in eval mode, which calls the layers that are known."""
    modes = {id(module): module.training for module in model.modules()}
    with mode(model, training=False), no_grad(), undone(model):
        (first, calls), (second, _) = (_trace(model, shape, count) for count in COUNTS)
    if len(first.operators) != len(second.operators):
        raise GraphError("to_torch: expected a model that computes the same for any number of samples")
    return _Writer(model, translate).module(first, second, calls, modes)


def check_counts(model: Module, made: Any, shape: tuple[int, ...]) -> None:
    """GraphError where another number of samples than was traced shows that something else depends on it."""
    x = np.random.default_rng(0).standard_normal((sum(COUNTS), *shape)).astype(np.float32)
    library = torch()
    modes = {module: module.training for module in made.modules()}
    with mode(model, training=False), no_grad(), undone(model), library.no_grad():
        try:
            ours = flatten(model(x.copy()))[0]
        except FastnnError:  # it takes other numbers than these, such as those of words
            return
        try:
            theirs = flatten(made.eval()(library.from_numpy(x)))[0]
        finally:
            for module, training in modes.items():
                module.training = training
    for a, b in zip(ours, theirs, strict=True):
        a, b = (np.asarray(each.detach().numpy(), np.float64) for each in (a, b))
        near = 1e-2 * np.abs(a[np.isfinite(a)]).max(initial=0)
        if a.shape != b.shape or not np.allclose(a, b, 1e-2, near, equal_nan=True):
            raise GraphError("to_torch: expected a model that computes the same for any number of samples")


def _trace(model: Module, shape: tuple[int, ...], count: int) -> tuple[Graph, list[_Call]]:
    calls: list[_Call] = []
    open_calls: list[_Call] = []
    depth = [0]

    def before(module: Module, args: Any, kwargs: Any) -> None:
        if not open_calls:
            open_calls.append(_Call(module, args, kwargs, len(recorder().operators)))
        depth[0] += 1

    def after(module: Module, args: Any, output: Any) -> Any:
        depth[0] -= 1
        if depth[0]:
            return output
        call = open_calls.pop()
        if len(recorder().operators) == call.first and isinstance(output, Tensor):  # as of dropout in eval mode
            output = Reshape.apply(output, shape=output.shape)  # another value than the input
        call.output = output
        call.operators = {id(op) for op in recorder().operators[call.first :]}
        calls.append(call)
        return output

    def recorder() -> Any:
        return tracer()

    handles = []
    for module in _units(model):
        handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
        handles.append(module.register_forward_hook(after))
    try:
        return trace(model, None, Inputs([without_numbers((count, *shape), np.dtype(np.float32))], (ARRAY,))), calls
    except GraphError as error:
        raise GraphError(f"to_torch: the model cannot be traced: {error.message.removeprefix('compile: ')}") from None
    finally:
        for handle in handles:
            handle.remove()


def _units(module: Module) -> list[Module]:
    """The modules below that become one of PyTorch's each: the highest ones."""
    if translatable(module) and type(module) is not Module and not type(module).__name__.endswith(("List", "Dict")):
        return [module]
    found = {id(unit): unit for child in module.children() for unit in _units(child)}
    return list(found.values())


class _Writer:
    """Nodes of torch.fx for the values of a trace."""

    def __init__(self, model: Module, translate: Callable[[Module], Any]) -> None:
        self.library = torch()
        self.model, self.translate = model, translate
        self.graph = self.library.fx.Graph()
        tracer = self.library.fx.proxy.GraphAppendingTracer(self.graph)
        self.proxy = lambda node: self.library.fx.Proxy(node, tracer)
        self.root = self.library.nn.Module()
        self.nodes: dict[int, Any] = {}
        self.names = {id(module): name for name, module in model.named_modules()}
        self.arrays = {id(p): name for name, p in model.named_parameters()}
        self.arrays |= {id(buffer): name for name, buffer in model.named_buffers()}
        self.expressions = expressions()
        self.kept: list[Any] = []  # arrays whose ids are in use

    def module(self, first: Graph, second: Graph, calls: list[_Call], modes: dict[int, bool]) -> Any:
        x = self.graph.placeholder("x")
        self.nodes[id(first.x)] = self.x = self.proxy(x)
        self._hold(self.model, self.root)
        inside = {number: call for call in calls for number in call.operators}
        done: set[int] = set()
        for op, other in zip(first.operators, second.operators, strict=True):
            call = inside.get(id(op))
            if call is None:
                self._operator(op, other)
            elif id(call) not in done:
                done.add(id(call))
                self._call(call)
        results = [self._node(value).node for value in first.results]
        self.graph.output(results[0] if first.structure is ARRAY else unflatten(first.structure, iter(results)))
        made = _module(self.root, self.graph, type(self.model).__name__, self.model.training)
        for name, module in self.model.named_modules():
            if id(module) in modes and _has(made, name):
                made.get_submodule(name).training = modes[id(module)]
        return made

    def _hold(self, ours: Module, theirs: Any) -> None:
        """Everything with a state, under its name."""
        for name, value in vars(ours).copy().items():
            if isinstance(value, Parameter):
                theirs.register_parameter(name, self.library.nn.Parameter(tensor_of(value.data)))
            elif name in ours._buffers:
                kept = name not in ours._transient
                theirs.register_buffer(name, None if value is None else tensor_of(value), persistent=kept)
            elif isinstance(value, Module):
                if translatable(value):
                    theirs.add_module(name, self.translate(value))
                else:
                    theirs.add_module(name, child := self.library.nn.Module())
                    self._hold(value, child)

    def _call(self, call: _Call) -> None:
        args = tuple(map(self._argument, call.args))
        kwargs = {key: self._argument(arg) for key, arg in call.kwargs.items()}
        made = self.graph.call_module(self.names[id(call.module)], args, kwargs)
        self._give(call.output, self.proxy(made))

    def _give(self, output: Any, node: Any) -> None:
        if isinstance(output, Traced):
            self.nodes[id(output.value)] = node
        elif isinstance(output, (list, tuple)):
            for i, part in enumerate(output):
                self._give(part, node[i])

    def _argument(self, arg: Any) -> Any:
        if isinstance(arg, Traced):
            return self._node(arg.value).node
        if isinstance(arg, (Tensor, np.ndarray)):
            return self._array(arg).node
        return type(arg)(map(self._argument, arg)) if isinstance(arg, (list, tuple)) else arg

    def _operator(self, op: Operator, other: Operator) -> None:
        name = op.function.__name__
        if op.function is not other.function:
            raise GraphError("to_torch: expected a model that computes the same for any number of samples")
        inputs = [self._input(a, b) for a, b in zip(op.inputs, other.inputs, strict=True)]
        attributes = {key: self._grown(value, other.attributes[key]) for key, value in op.attributes.items()}
        if op.inputs and len(getattr(op.inputs[0], "shape", ())) == 3:
            name, attributes = of_lines(name, attributes)
        try:
            if name == "Normalize":
                made = _normalized(*inputs)
            else:
                made = self.expressions[name](*inputs, **attributes)
        except LookupError as error:
            layer = f" in {type(op.module).__name__}" if op.module is not None else ""
            said = "" if name in str(error) else f" ({error})"
            raise GraphError(f"to_torch: the operator {name}{layer}{said} has no form in PyTorch") from None
        self.nodes[id(op.output)] = made

    def _input(self, value: Any, other: Any) -> Any:
        if isinstance(value, Value) and (value.tensor is None or id(value) in self.nodes):
            return self._node(value)
        if isinstance(value, Value) and value.tensor is not None:
            return self._array(value.tensor, getattr(other, "tensor", None))
        if isinstance(value, np.ndarray):
            return self._array(value, other)
        return self._grown(value, other)

    def _node(self, value: Value) -> Any:
        if id(value) in self.nodes:
            return self.nodes[id(value)]
        if value.tensor is not None:
            return self._array(value.tensor)
        raise GraphError("to_torch: the model uses what a layer computes within, and not only what it returns")

    def _array(self, tensor: Any, other: Any = None) -> Any:
        """A parameter, a buffer or a constant."""
        array = tensor._data if isinstance(tensor, Tensor) else tensor
        name = self.arrays.get(id(tensor)) or self.arrays.get(id(array))
        if name is None:
            name = next((n for n, b in self.model.named_buffers() if np.shares_memory(b, array)), None)
        if name is None:
            again = array if other is None else other._data if isinstance(other, Tensor) else other
            if again.shape != array.shape:
                return self._growing(array, again)
            if (again != array).any() and not np.array_equal(again, array, equal_nan=True):
                return self._scaled(array, again)
            name = f"_constant{len(self.kept)}"
            self.root.register_buffer(name, tensor_of(array), persistent=False)
            self.kept.append(tensor)
            self.arrays[id(tensor)] = name
        return self.proxy(self.graph.create_node("get_attr", name))

    def _growing(self, array: Any, other: Any) -> Any:
        """A constant that grows with the number of samples: places of samples, or rows that are all the same."""
        shape = self._grown(array.shape, other.shape)
        count = self.x.size(0)
        if all(np.array_equal(a.ravel(), np.arange(n)) for a, n in zip((array, other), COUNTS, strict=True)):
            made = self.proxy(self.graph.call_function(self.library.arange, (count.node,)))
            return made.reshape(shape)
        if array.shape[:1] + other.shape[:1] != COUNTS or (other != other[:1]).any() or (array != other[:1]).any():
            raise _depends(array.shape)
        return self._array(array[:1]).expand(shape)

    def _scaled(self, array: Any, other: Any) -> Any:
        """A constant, or a number, in proportion to the number of samples, or to its reciprocal."""
        few, more = COUNTS
        count = self.x.size(0)
        one, same = np.asarray(array) / few, np.asarray(other) / more
        if not np.allclose(one, same, 1e-6, 0):
            one, same, count = np.asarray(array) * few, np.asarray(other) * more, 1 / count
        if not np.allclose(one, same, 1e-6, 0):
            raise _depends(np.shape(array) or array)
        return (self._array(one.astype(array.dtype)) if isinstance(array, np.ndarray) else one.item()) * count

    def _grown(self, value: Any, other: Any) -> Any:
        """An attribute; a size that grows with the number of samples is computed from it."""
        if isinstance(value, (tuple, list)) and isinstance(other, (tuple, list)) and len(value) == len(other):
            return type(value)(map(self._grown, value, other))
        if isinstance(value, slice) and isinstance(other, slice):
            parts = ((getattr(value, key), getattr(other, key)) for key in ("start", "stop", "step"))
            return slice(*(self._grown(*pair) for pair in parts))
        if isinstance(value, (float, np.floating)) and value != other and value == value:
            return self._scaled(value, other)
        if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value == other:
            return value
        factor = int(other) - int(value)
        count = self.x.size(0)
        count = count if factor == 1 else count * factor
        offset = int(value) - factor * COUNTS[0]
        return count + offset if offset else count


def _depends(what: Any) -> GraphError:
    return GraphError(f"to_torch: expected constants that do not depend on the number of samples, got {what}")


def _has(module: Any, name: str) -> bool:
    try:
        module.get_submodule(name)
    except AttributeError:
        return False
    return True
