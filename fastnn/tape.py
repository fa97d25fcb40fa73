"""The tape: what ran is recorded as a graph of nodes, and backward goes through it in reverse."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from fastnn import backends, versions
from fastnn.backends.checks import Array, copied
from fastnn.errors import GraphError, ShapeError
from fastnn.hooks import hooks
from fastnn.recording import (
    Tracer,
    current_module,
    enable_grad,
    no_grad,
    recording,
    set_module,
    state,
    traced_by,
    tracer,
)

if TYPE_CHECKING:
    from fastnn.tensors import Function, Tensor

__all__ = [
    "Context",
    "Node",
    "Tracer",
    "check_unchanged",
    "checked",
    "computed",
    "computing_dtype",
    "current_module",
    "enable_grad",
    "gradients",
    "lasting",
    "no_grad",
    "node_gradients",
    "recording",
    "run_backward",
    "set_module",
    "traced_by",
    "tracer",
]


_FLOAT32 = np.dtype(np.float32)


def computing_dtype(arrays: Iterable[Any]) -> np.dtype[Any]:
    """The type that an operator computes in: that of its first floating array, float32 where there is none."""
    for array in arrays:
        if isinstance(array, np.ndarray) and array.dtype.kind == "f":
            dtype: np.dtype[Any] = array.dtype
            return dtype
    return _FLOAT32


class Context:
    """What a Function's forward leaves for its backward.

    `attributes` are the keyword arguments of apply(), `needs_input_grad` says for each positional one whether its
    gradient is wanted, `kernels` is the backend for the dtype at hand, `saved_tensors` is what was given to
    `save_for_backward()`, arrays or other values. Other names may be set freely.
    """

    def __init__(self, dtype: np.dtype[Any], needs_input_grad: tuple[bool, ...], attributes: dict[str, Any]) -> None:
        self.dtype = dtype
        self.needs_input_grad = needs_input_grad
        self.attributes = attributes
        self.saved_tensors: tuple[Any, ...] = ()

    non_differentiable: tuple[Any, ...] = ()
    materialize_grads = True
    views: tuple[tuple[Array, Callable[[Tensor], Tensor]], ...] = ()  # outputs that lie side by side in the one

    def save_for_backward(self, *values: Any) -> None:
        self.saved_tensors = values

    def mark_non_differentiable(self, *outputs: Any) -> None:
        """No gradient flows through these outputs (of a fnn.autograd.Function)."""
        self.non_differentiable = outputs

    def mark_dirty(self, *inputs: Any) -> None:
        raise GraphError("mark_dirty: expected a forward that leaves its inputs as they are: return a new tensor")

    def set_materialize_grads(self, value: bool) -> None:
        """Whether an output that nothing was computed from has zeros as gradient, or None (of a fnn.autograd.Function
        with several). In a plan that takes second derivatives it has zeros."""
        self.materialize_grads = bool(value)

    @property
    def kernels(self) -> ModuleType:
        return backends.kernels(self.dtype)


class Node:
    """One operator that ran: which, on what, with which attributes, in which module's forward (None: in none).

    `ctx` is None once backward has freed it, which it does unless `lasting` names it.
    """

    __slots__ = ("__weakref__", "_inputs", "attributes", "ctx", "function", "module", "number")

    def __init__(
        self, function: type[Function], inputs: tuple[Any, ...], attributes: dict[str, Any], ctx: Context
    ) -> None:
        self.function = function
        self._inputs = inputs  # Tensors, arrays and other values, as they were given to apply()
        self.attributes = attributes
        self.ctx: Context | None = ctx
        self.module = state.module
        self.number = next(versions.clock)  # higher than its inputs': sorted by it, the graph is in order

    @property
    def inputs(self) -> tuple[Any, ...]:
        """What it ran on; a tensor that was written in place since, as it was then."""
        if versions.recorded:
            self._inputs = tuple([_as_it_was(x, self) if hasattr(x, "node") else x for x in self._inputs])
        return self._inputs

    def free(self) -> None:
        self.ctx = None
        self._inputs = ()

    def name(self) -> str:
        """PyTorch's name for what computes this operator's gradient: its own operators' end in a number."""
        return f"{self.function.__name__}Backward{'0' if self.function.__module__.startswith('fastnn.') else ''}"

    @property
    def next_functions(self) -> tuple[tuple[Node | None, int], ...]:
        """The nodes that the gradient goes on to, one entry an input, each with PyTorch's 0; None for none, such as
        numbers, which come last, as in PyTorch."""
        given = sorted(self.inputs, key=lambda x: not hasattr(x, "node"))
        return tuple((getattr(x, "node", None), 0) for x in given)

    def __repr__(self) -> str:
        return f"<{self.name()}>"


class Write(Node):
    """What `tensor` goes on as after a write in place that is on the tape: the output of another operator, `node`.

    `before` is the tensor as it was, which operators that ran earlier have seen.
    """

    __slots__ = ("before",)

    def __init__(self, node: Node, tensor: Tensor, before: Tensor) -> None:
        assert node.ctx is not None
        inputs = tuple([before if x is tensor else x for x in node.inputs])  # x += x
        super().__init__(node.function, inputs, node.attributes, node.ctx)
        self.module, self.before = node.module, before
        versions.record(self)


def _as_it_was(x: Any, user: Node) -> Any:
    """The tensor that `user` saw, behind the writes that came later."""
    while True:
        if x.node is None:
            number, before = detached.get(id(x), (-1, x))
            if number < user.number:
                return x
            x = before
        elif x.node.number > user.number and isinstance(x.node, Write):
            x = x.node.before
        else:
            return x


detached: dict[int, tuple[int, Tensor]] = {}  # by the id of what detach_() took off the tape: when, and as it was


def detach(x: Tensor, number: int, before: Tensor) -> None:
    """Let operators that ran before the clock gave `number` find `before` in the place of x, which is off the tape."""
    if id(x) not in detached:
        weakref.finalize(x, detached.pop, id(x))
    detached[id(x)] = number, before
    versions.record(before)


def run_backward(last: Node, start: Array, retain_graph: bool) -> None:
    """The chain rule from `last` down to the leaves."""
    backends.follow_cpus()
    if hooks or state.anomaly:
        from fastnn.autograd.engine import watched_backward

        watched_backward(last, start, retain_graph)
        return
    grads: dict[int, Array] = {last.number: start}
    nodes = in_reverse([last])
    stay, level = lasting(nodes), flat_leaves(nodes)
    for node in nodes:
        grad = grads.pop(node.number, None)
        if grad is not None:  # None: no path to here carries a gradient
            for x, result in node_gradients(node, node.ctx, grad):
                if x.node is None:
                    if x._grad is None:
                        x._grad = result
                    elif not isinstance(x._grad, np.ndarray):  # a tensor, by create_graph
                        x._grad = x._grad + result
                    else:
                        np.add(x._grad, result, out=x._grad)
                        versions.wrote(x._grad)
                else:
                    before = grads.get(x.node.number)
                    # the sum of two numbers is no array
                    grads[x.node.number] = result if before is None else np.asarray(before + result)
        if not retain_graph and node.number not in stay:
            node.free()
    for x in level:
        if x._grad is None:
            x._grad = np.zeros(x._data.shape, x._data.dtype)


# Nodes of slopes that are constant but for jumps, and the tensors whose signs they follow: second derivatives of ReLU.
flat: WeakKeyDictionary[Node, Any] = WeakKeyDictionary()


def flat_leaves(nodes: Iterable[Node]) -> list[Tensor]:
    """The leaves that reach a result through such slopes. As in PyTorch their gradient is 0 at least, not absent: an
    optimiser such as Adam updates what has a gradient, and skips what has none."""
    if not flat:
        return []
    todo = [flat[node] for node in nodes if node in flat]
    leaves: list[Tensor] = []
    seen: set[int] = set()
    while todo:
        x = todo.pop()
        if x.node is None and x.requires_grad:
            leaves.append(x)
        if x.node is None or x.node.number in seen or x.node.ctx is None:
            continue
        seen.add(x.node.number)
        todo += [each for each, needed in zip(x.node.inputs, x.node.ctx.needs_input_grad, strict=True) if needed]
    return leaves


def lasting(nodes: list[Node]) -> set[int]:
    """The numbers of those of `nodes`, later ones first, that backward need not free: from leaves on, operators that
    keep no arrays (casts, views, sums). As in PyTorch a tensor so computed may serve several backwards."""
    stay: set[int] = set()
    for node in reversed(nodes):
        assert node.ctx is not None
        for x, needed in zip(node.inputs, node.ctx.needs_input_grad, strict=True):
            if needed and x.node is not None and x.node.number not in stay:
                break
        else:
            if not _keeps_arrays(vars(node.ctx).values()):
                stay.add(node.number)
    return stay


def _keeps_arrays(values: Iterable[Any]) -> bool:
    for value in values:
        if isinstance(value, np.ndarray) or hasattr(value, "node"):
            return True
        if isinstance(value, (tuple, list, dict)) and _keeps_arrays(value.values() if type(value) is dict else value):
            return True
    return False


def computed(output: Tensor) -> list[tuple[Tensor, Node]]:
    """The tensors on the tape that `output` depends on, and itself, each with its node, in the order of computation.

    Raises GraphError for a tape that backward() has freed.
    """
    found: dict[int, tuple[Tensor, Node]] = {}
    todo: list[Any] = [output]
    while todo:
        tensor = todo.pop()
        node = getattr(tensor, "node", None)
        if node is None or node.number in found:
            continue
        if node.ctx is None:
            raise GraphError("this graph was freed by backward(): look at it before, or pass retain_graph=True")
        found[node.number] = tensor, node
        todo += node.inputs
    return [found[number] for number in sorted(found)]


def gradients(last: Node, start: Array) -> tuple[dict[int, Array], dict[int, Array]]:
    """Every gradient that run_backward passes on: of nodes' outputs by node number, of leaves by id.

    `.grad` and the graph stay as they are.
    """
    nodes: dict[int, Array] = {last.number: start}
    leaves: dict[int, Array] = {}
    for node in in_reverse([last]):
        if node.number in nodes:
            for x, result in node_gradients(node, node.ctx, nodes[node.number]):
                found, key = (leaves, id(x)) if x.node is None else (nodes, x.node.number)
                found[key] = np.asarray(found[key] + result) if key in found else result
    return nodes, leaves


def in_reverse(last: Iterable[Node]) -> list[Node]:
    """All nodes that those of `last` were computed from, and themselves, later ones first."""
    todo = list(last)
    nodes = {node.number: node for node in todo}
    while todo:
        node = todo.pop()
        if node.ctx is None:
            raise GraphError(
                "backward: this graph was freed by an earlier backward(): run the forward pass again, "
                "or pass retain_graph=True the first time"
            )
        for x, needed in zip(node.inputs, node.ctx.needs_input_grad, strict=True):
            if needed and x.node is not None and x.node.number not in nodes:
                nodes[x.node.number] = x.node
                todo.append(x.node)
    return [nodes[number] for number in sorted(nodes, reverse=True)]


def checked(function: type[Function], inputs: tuple[Any, ...], results: Any) -> tuple[Any, ...]:
    """What a backward returned, one entry an input; GraphError for another number, ShapeError for another shape."""
    results = results if isinstance(results, tuple) else (results,)
    if len(results) != len(inputs):
        raise GraphError(
            f"{function.__name__}.backward: expected {len(inputs)} gradients, one per input, got {len(results)}"
        )
    for x, result in zip(inputs, results, strict=True):
        if result is not None and hasattr(x, "node"):
            shape = getattr(result, "shape", None)
            if shape is None:
                shape = np.shape(result)
            if shape != x._data.shape:
                raise ShapeError(f"{function.__name__}.backward: expected a gradient of shape {x.shape}, got {shape}")
    return results


def node_gradients(node: Node, ctx: Context | None, grad: Array) -> list[tuple[Tensor, Array]]:
    """One node's backward: each tensor that wants a gradient, and that gradient, checked and of the tensor's type.

    `ctx` is the node's, or a copy of it that wants fewer gradients.
    """
    assert ctx is not None
    if versions.latest > node.number:
        check_unchanged(node, vars(ctx).values())
    inputs = node.inputs
    results = checked(node.function, inputs, node.function.backward(ctx, grad))
    found = []
    for i, (x, needed, result) in enumerate(zip(inputs, ctx.needs_input_grad, results, strict=True)):
        if needed and result is not None:
            array = np.asarray(result)
            if array.dtype != x._data.dtype:
                array = array.astype(x._data.dtype)
            elif x.node is None:  # a leaf's .grad is added to in place, so nothing else may share its memory
                arrays = [each._data if hasattr(each, "node") else each for each in inputs]
                others = (grad, *ctx.saved_tensors, *arrays, *results[:i], *results[i + 1 :])
                array = copied(array) if _is_shared(array, others) or not array.flags.writeable else array
            found.append((x, array))
    return found


def _is_shared(array: Array, others: Iterable[Any]) -> bool:
    """Whether others hold some of its memory. What is a view of memory has its owner as base: to compare is quick."""
    owner = array.base is None
    for other in others:
        if other is array or (getattr(other, "base", None) is array if owner else _may_share(other, array)):
            return True
    return False


def _may_share(other: Any, array: Array) -> bool:
    return isinstance(other, np.ndarray) and np.may_share_memory(other, array)


_UNCHANGING = frozenset((type(None), bool, int, float, str, type(np.dtype(np.float32)), type(np.dtype(np.float64))))


def check_unchanged(node: Node, kept_values: Iterable[Any]) -> None:
    """GraphError if an array that backward may read was written in place since forward kept it."""
    todo: list[Any] = [*kept_values]  # arrays may stand in tuples, lists and dicts
    while todo:
        kept = todo.pop()
        if type(kept) in _UNCHANGING:
            continue
        if isinstance(kept, np.ndarray):
            if versions.written_since(kept, node.number):
                raise GraphError(
                    f"backward: {_described(kept, node)} was modified in place after {node.function.__name__} had kept "
                    "it for its gradient: call backward() before what changes it (an optimiser's step(), +=, "
                    "load_state_dict()), or run the forward pass again"
                )
        elif isinstance(kept, (tuple, list)):
            todo += kept
        elif isinstance(kept, dict):
            todo += kept.values()
        elif hasattr(kept, "node"):
            todo.append(kept._data)


def _described(array: Array, node: Node) -> str:
    """The tensor that `array` is, or is a view of: a parameter by its name, others by shape and operator."""
    memory = versions.owner(array)
    module, maker, found = node.module, node, None
    while maker is not None:
        given = [x for x in maker.inputs if hasattr(x, "node") and versions.owner(x._data) is memory]
        if not given:
            break
        found, maker, module = given[0], given[0].node, maker.module
    if found is None:
        return f"the output {array.shape} of {node.function.__name__}"
    if maker is not None:
        return f"the output {found.shape} of {maker.function.__name__}"
    for name, parameter in module.named_parameters() if module is not None else ():
        if parameter is found:
            return f"{name} {found.shape} of {type(module).__name__}"
    return f"a tensor of shape {found.shape}"
