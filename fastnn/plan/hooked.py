"""Functions that wait for gradients (`register_hook`), as operators of a graph.

An operator leaves a computed tensor as it is, and calls the functions with its gradient on the way back. Those of
parameters are called with the whole gradient before the update, see `Lowering`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from fastnn.autograd.engine import as_hooks_leave
from fastnn.hooks import hooks, key_of
from fastnn.plan.trace import Graph, Operator, Traced, Unsteady, Value
from fastnn.tensors import Array, Function
from fastnn.trees import flatten

__all__ = ["GradientHook", "Seed", "hooks_of_leaf", "is_hooked", "is_seeded", "with_gradient_hooks"]


class GradientHook(Function):
    """x itself; `hooks` are called with its gradient, in a tensor of their own, and may put another in its place."""

    @staticmethod
    def forward(ctx: Any, x: Array, *, hooks: tuple[Callable[[Any], Any], ...]) -> Array:
        return x

    @staticmethod
    def backward(ctx: Any, grad: Array) -> tuple[Array]:
        return (as_hooks_leave(grad.copy(), ctx.attributes["hooks"]),)


class Seed(Function):
    """A loss of 0, of whose inputs the first half are outputs, and the others the gradients that begin backward."""

    @staticmethod
    def forward(ctx: Any, *arrays: Array) -> Array:
        ctx.starts = arrays[len(arrays) // 2 :]
        return np.zeros((), arrays[0].dtype)

    @staticmethod
    def backward(ctx: Any, grad: Array) -> tuple[Array | None, ...]:
        return (*ctx.starts, *[None] * len(ctx.starts))


def is_seeded(graph: Graph) -> bool:
    """Whether backward begins with gradients from outside."""
    return graph.loss is not None and graph.loss.producer is not None and graph.loss.producer.function is Seed


def with_gradient_hooks(graph: Graph) -> Graph:
    """The graph with an operator behind each value whose gradient is waited for. Raises Unsteady for functions that
    hold tensors of the trace, which have no numbers."""
    operators: list[Operator] = []
    others: dict[int, Value] = {}  # by the id of what they take the place of
    for op in graph.operators:
        op.inputs = tuple([others.get(id(x), x) for x in op.inputs])
        operators.append(op)
        waiting = tuple((op.output.hooks or {}).values())
        if waiting:
            _check_parts(waiting)
            passed = Value(op.output.shape, op.output.dtype, requires_grad=True)
            attributes = {"hooks": waiting}
            passed.producer = Operator(GradientHook, (op.output,), attributes, passed, (True,), op.module)
            operators.append(passed.producer)
            passed.consumers, op.output.consumers = op.output.consumers, [passed.producer]
            others[id(op.output)] = passed
    graph.operators = operators
    if graph.loss is not None:
        graph.loss = others.get(id(graph.loss), graph.loss)
    return graph


def _check_parts(waiting: tuple[Callable[[Any], Any], ...]) -> None:
    for hook in waiting:
        function: Any = hook.func if isinstance(hook, partial) else hook
        given = [*hook.args, *hook.keywords.values()] if isinstance(hook, partial) else []
        given += [cell.cell_contents for cell in getattr(function, "__closure__", None) or ()]
        given += getattr(function, "__defaults__", None) or ()
        if any(isinstance(part, Traced) for value in given for part in flatten(value)[0]):
            raise Unsteady(
                "a hook for a gradient reads a tensor that forward or the loss has computed (leave it in an attribute, "
                "self.mask = mask, and let the hook read that)"
            )


def hooks_of_leaf(value: Value) -> dict[int, Callable[[Any], Any]] | None:
    """The functions that wait for a parameter's gradient, live; None if there are none."""
    return None if value.tensor is None else hooks.get(key_of(value.tensor)) or None


def is_hooked(graph: Graph) -> bool:
    """Whether a step calls functions with gradients; they may raise, and look at parameters."""
    reached = graph.reached_by_gradients()
    return any(op.function is GradientHook for op in graph.operators) or (
        bool(hooks) and any(id(leaf) in reached and hooks_of_leaf(leaf) for leaf in graph.leaves)
    )
