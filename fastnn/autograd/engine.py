"""The chain rule beyond `loss.backward()`: gradients of chosen tensors, gradients on the tape, hooks, a watch for NaN.

`backward()` itself goes through fastnn/tape.py, which knows arrays alone; it comes here where more is asked.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np

from fastnn.arrays import as_array, writable
from fastnn.autograd.second import backward_on_tape
from fastnn.checks import flag
from fastnn.errors import ArgumentError, GraphError, NonFiniteError, ShapeError
from fastnn.hooks import drop_hooks, hooks, key_of
from fastnn.ops.common import tensor_of
from fastnn.recording import no_grad, state
from fastnn.tape import Node, flat_leaves, in_reverse, lasting, node_gradients, tracer
from fastnn.tensors import Array, Tensor
from fastnn.versions import wrote

__all__ = ["as_hooks_leave", "backward", "flow", "grad", "watched_backward"]


def flow(
    roots: Sequence[tuple[Tensor, Any]],
    wanted: Iterable[Tensor] | None,
    *,
    graph: bool,
    keep: bool,
    partial: bool = False,
) -> dict[int, Any]:
    """The gradients of the wanted tensors, or of all leaves (None), by their keys (`key_of`).

    `roots` are tensors with the gradients to start from. With `graph` gradients are tensors on the tape, else arrays;
    without `keep` the nodes that are passed are freed. `partial`: what the wanted tensors were computed from stays out
    of it, so that each gets its partial derivative.
    """
    targets = None if wanted is None else {key_of(x) for x in wanted}
    outputs: dict[int, Tensor] = {}
    for x, _ in roots:
        outputs[key_of(x)] = x
    last = [x.node for x, _ in roots if x.node is not None]
    nodes = in_reverse(last) if targets is None else _reached(last, targets if partial else set())
    for node in nodes:
        outputs.update((key_of(x), x) for x in node.inputs if isinstance(x, Tensor))
    leading = _leading(nodes, targets)
    stay, level = lasting(nodes), flat_leaves(nodes)
    found: dict[int, Any] = {}
    for x, start in roots:
        _add(found, key_of(x), start)
    for node in nodes:
        grad = found.get(node.number)
        if grad is None:  # no path to here carries a gradient
            continue
        if node.number in hooks:
            grad = found[node.number] = as_hooks_leave(grad, hooks[node.number].values())
        if targets is None or node.number not in targets:
            del found[node.number]
        if node.number in leading:
            for x, result in _results(node, leading[node.number], grad, outputs[node.number], graph):
                _add(found, key_of(x), result)
            if not keep and node.number not in stay:
                node.free()
    for key in [key for key in found if key < 0 and key in hooks]:
        found[key] = as_hooks_leave(found[key], hooks[key].values())
    for x in level:
        if key_of(x) not in found and (targets is None or key_of(x) in targets):
            zeros = np.zeros(x.shape, x.dtype)
            found[key_of(x)] = Tensor(zeros) if graph else zeros
    return found


def _reached(last: list[Node], stop: set[int]) -> list[Node]:
    """The nodes that gradients may pass, later ones first; not those that are freed, which may lead nowhere wanted."""
    nodes: dict[int, Node] = {}
    todo = list(last)
    while todo:
        node = todo.pop()
        if node.number not in nodes and node.number not in stop and node.ctx is not None:
            nodes[node.number] = node
            todo += [x.node for x in node.inputs if isinstance(x, Tensor) and x.node is not None]
    return [nodes[number] for number in sorted(nodes, reverse=True)]


def _leading(nodes: list[Node], targets: set[int] | None) -> dict[int, tuple[bool, ...]]:
    """Of the nodes from which a gradient comes to a target, which inputs' gradients are needed for it."""
    leading: dict[int, tuple[bool, ...]] = {}
    for node in reversed(nodes):
        assert node.ctx is not None
        needs = node.ctx.needs_input_grad
        if targets is not None:
            needs = tuple(
                needed and (key_of(x) in targets or key_of(x) in leading)
                for x, needed in zip(node.inputs, needs, strict=True)
            )
        if any(needs):
            leading[node.number] = needs
    return leading


def _add(found: dict[int, Any], key: int, grad: Any) -> None:
    if key in found:
        grad = found[key] + grad
    found[key] = grad if isinstance(grad, Tensor) else np.asarray(grad)  # NumPy's sum of two scalars is no array


def _results(node: Node, needs: tuple[bool, ...], grad: Any, output: Tensor, graph: bool) -> list[tuple[Tensor, Any]]:
    """One node's backward."""
    ctx = node.ctx
    assert ctx is not None
    if graph:
        results: list[tuple[Tensor, Any]] = backward_on_tape(node, needs, grad, output)
    else:
        if needs != ctx.needs_input_grad:
            ctx = copy.copy(ctx)
            ctx.needs_input_grad = needs
        results = list(node_gradients(node, ctx, grad))
    if state.anomaly:
        for x, result in results:
            if np.isnan(_array(result)).any():
                where = f" in the forward of {type(node.module).__name__}" if node.module is not None else ""
                place = next(i for i, given in enumerate(node.inputs) if given is x)
                error = NonFiniteError(
                    f"backward: {node.function.__name__}{where} gave NaN as gradient of input {place}"
                )
                error.module = node.module
                raise error
    return results


def _array(value: Any) -> Array:
    return value._data if isinstance(value, Tensor) else value


def as_hooks_leave(grad: Any, functions: Iterable[Callable[[Any], Any]]) -> Any:
    """The gradient as the hooks leave it; they see a tensor, and give one, an array, or None for no change."""
    on_tape = isinstance(grad, Tensor)
    for hook in list(functions):
        given = tensor_of(grad if on_tape else writable(grad))
        with nullcontext() if on_tape else no_grad():
            result = hook(given)
        if result is not None:
            grad = tensor_of(result)
            if grad.shape != given.shape:
                raise ShapeError(f"hook: expected a gradient of shape {given.shape}, got {grad.shape}")
            grad = grad.astype(given.dtype) if on_tape else np.array(grad._data, given.dtype)
    return grad


def accumulate(x: Tensor, grad: Any) -> None:
    """Add a gradient to `.grad`, which is a tensor where it is on the tape, else an array of its own."""
    before = x._grad
    if isinstance(grad, Tensor) and grad.requires_grad:
        x._grad = grad if before is None else grad + before  # type: ignore[assignment]
    elif before is None:
        x._grad = _array(grad).copy()
    elif isinstance(before, Tensor):
        x._grad = before + grad
    else:
        np.add(before, _array(grad), out=before)
        wrote(before)


def watched_backward(last: Node, start: Array, retain_graph: bool) -> None:
    """`loss.backward()` where hooks wait for gradients, or NaN is looked for."""
    for key in [key for key, registered in hooks.items() if not registered]:
        drop_hooks(key)
    output = Tensor.__new__(Tensor)
    output._data, output._grad, output._requires_grad, output.node = start, None, True, last
    output._view = None
    _backward([(output, start)], None, graph=False, keep=retain_graph)


def _backward(roots: list[tuple[Tensor, Any]], inputs: list[Tensor] | None, *, graph: bool, keep: bool) -> None:
    leaves = {key_of(x): x for x in (_leaves(roots) if inputs is None else inputs)}
    for key, found in flow(roots, inputs, graph=graph, keep=keep).items():
        accumulate(leaves[key], found)


def _leaves(roots: Sequence[tuple[Tensor, Any]]) -> list[Tensor]:
    nodes = in_reverse([x.node for x, _ in roots if x.node is not None])
    inputs = [x for node in nodes for x in node.inputs if isinstance(x, Tensor)]
    return [x for x in [*inputs, *flat_leaves(nodes), *(x for x, _ in roots)] if x.node is None and x.requires_grad]


def _starts(where: str, outputs: list[Tensor], given: Any, graph: bool) -> list[tuple[Tensor, Any]]:
    """Each output with the gradient to start from: what is given, or 1."""
    gradients = _listed(given) if given is not None else [None] * len(outputs)
    if len(gradients) != len(outputs):
        raise ArgumentError(f"{where}: expected a gradient for each of {len(outputs)} outputs, got {len(gradients)}")
    roots: list[tuple[Tensor, Any]] = []
    for output, start in zip(outputs, gradients, strict=True):
        if not isinstance(output, Tensor):
            raise ArgumentError(f"{where}: expected tensors as outputs, got {type(output).__name__}")
        if not output.requires_grad:
            raise GraphError(f"{where}: the output {output.shape} requires no gradient: nothing it depends on does")
        if start is None:
            if output.numel() != 1:
                raise GraphError(
                    f"{where}: expected a scalar, got shape {output.shape}: reduce it with .mean() or .sum(), or pass "
                    "grad_outputs=fnn.ones_like(output)"
                )
            start = np.ones(output.shape, output.dtype)
        start = start if isinstance(start, Tensor) else Tensor(as_array(start))
        if start.shape != output.shape:
            raise ShapeError(f"{where}: expected a gradient of shape {output.shape}, got {start.shape}")
        start = start.astype(output.dtype)
        roots.append((output, start if graph else start._data))
    return roots


def _listed(value: Any) -> list[Any]:
    several = isinstance(value, Iterable) and not isinstance(value, (Tensor, np.ndarray))
    return list(value) if several else [value]


def grad(
    outputs: Any,
    inputs: Any,
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    only_inputs: bool = True,
    allow_unused: bool | None = None,
    is_grads_batched: bool = False,
    materialize_grads: bool = False,
) -> tuple[Any, ...]:
    """The gradients of `outputs` (one tensor or several, summed) with respect to each of `inputs`, as tensors.

    `.grad` stays as it is. Inputs may be leaves or computed. `grad_outputs` are the gradients to start from, of the
    outputs' shapes; scalars need none. With `create_graph` the results are on the tape themselves, for derivatives of
    any order. The graph is freed on the way unless `retain_graph`, which defaults to `create_graph`. For an input that
    the outputs do not depend on: GraphError, None with `allow_unused`, or zeros with `materialize_grads`.
    `only_inputs` is taken and says nothing, as in PyTorch.

    >>> import fastnn as fnn
    >>> x = fnn.Tensor([1.0, 2.0], requires_grad=True)
    >>> (slope,) = fnn.autograd.grad((x**3).sum(), x, create_graph=True)
    >>> fnn.autograd.grad(slope.sum(), x)
    (Tensor([ 6., 12.]),)
    """
    create_graph = flag("grad", "create_graph", create_graph)
    allow_unused = None if allow_unused is None else flag("grad", "allow_unused", allow_unused)
    materialize_grads = flag("grad", "materialize_grads", materialize_grads)
    if flag("grad", "is_grads_batched", is_grads_batched):
        raise ArgumentError("grad: expected is_grads_batched=False: loop over the gradients, with retain_graph=True")
    if materialize_grads and allow_unused is False:
        raise ArgumentError("grad: materialize_grads gives zeros for unused inputs: leave out allow_unused=False")
    wanted = _listed(inputs)
    if not wanted:
        raise ArgumentError("grad: expected at least one input")
    for i, x in enumerate(wanted):
        if not isinstance(x, Tensor) or not x.requires_grad:
            raise GraphError(f"grad: expected inputs that require a gradient, got {type(x).__name__} as input {i}")
    keep = create_graph if retain_graph is None else flag("grad", "retain_graph", retain_graph)
    recorded = create_graph or tracer() is not None  # a plan computes gradients by operators, too
    roots = _starts("grad", _listed(outputs), grad_outputs, recorded)
    found = flow(roots, wanted, graph=recorded, keep=keep)
    if recorded and not create_graph:
        found = {key: result.detach() for key, result in found.items()}
    results: list[Tensor | None] = []
    for i, x in enumerate(wanted):
        result = found.get(key_of(x))
        if result is None and not (allow_unused or materialize_grads):
            raise GraphError(
                f"grad: the outputs do not depend on input {i}, or the graph to it was freed by an earlier backward: "
                "allow_unused=True gives None for it, retain_graph=True keeps a graph"
            )
        if result is None:
            results.append(Tensor(np.zeros(x.shape, x.dtype)) if materialize_grads else None)
        else:
            results.append(result if isinstance(result, Tensor) else Tensor(np.array(result)))
    return tuple(results)


def backward(
    tensors: Any,
    grad_tensors: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    grad_variables: None = None,
    inputs: Any = None,
) -> None:
    """Add the gradients of `tensors` to `.grad` of the leaves, or of `inputs` alone; `tensor.backward()` for several.

    >>> import fastnn as fnn
    >>> x = fnn.Tensor([1.0, 2.0], requires_grad=True)
    >>> fnn.autograd.backward([x.sum(), (x * x).sum()])
    >>> x.grad
    array([3., 5.], dtype=float32)
    """
    wanted = None if inputs is None else _listed(inputs)
    if wanted is not None and (not wanted or not all(isinstance(x, Tensor) and x.requires_grad for x in wanted)):
        raise GraphError("backward: expected inputs= to be tensors that require a gradient")
    given = grad_tensors if grad_variables is None else grad_variables
    roots = _starts("backward", _listed(tensors), given, create_graph)
    keep = create_graph if retain_graph is None else flag("backward", "retain_graph", retain_graph)
    _backward(roots, wanted, graph=create_graph, keep=keep)
