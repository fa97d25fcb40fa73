"""Function as PyTorch has it: forward and backward see tensors. fnn.Function, whose methods see arrays, is faster."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np

from fastnn import tensors
from fastnn.arrays import writable
from fastnn.autograd.several import Layout, one_array
from fastnn.errors import GraphError
from fastnn.recording import no_grad, recording, tracer
from fastnn.tensors import Array, Context, Tensor
from fastnn.versions import owner

__all__ = ["Function", "InplaceFunction", "once_differentiable"]


class Function:
    """An operator of one's own in PyTorch's form: static methods forward(ctx, *inputs) and backward(ctx, *grads).

    Both see tensors and give them: forward one, or a tuple, off the tape; backward, which is given a gradient for each
    output, one gradient an input, None where there is none. `ctx` has `save_for_backward`, `saved_tensors`,
    `needs_input_grad`, `mark_non_differentiable` and `set_materialize_grads`; what else is set on it stays.
    An operator whose backward consists of fastnn's operators has derivatives of any order, if `ctx` keeps inputs and
    outputs alone. In compiled plans it runs in Python.

    >>> import fastnn as fnn
    >>> class Square(fnn.autograd.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         ctx.save_for_backward(x)
    ...         return x * x
    ...     @staticmethod
    ...     def backward(ctx, grad_output):
    ...         (x,) = ctx.saved_tensors
    ...         return grad_output * 2 * x
    >>> x = fnn.Tensor([1.0, 2.0], requires_grad=True)
    >>> Square.apply(x).sum().backward()
    >>> x.grad
    array([2., 4.], dtype=float32)
    """

    _operator: type[tensors.Function] | None = None

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Any:
        raise NotImplementedError("a Function needs a static method forward(ctx, *inputs)")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Where it is defined, forward has no `ctx`, and this one saves."""

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        raise NotImplementedError("a Function needs a static method backward(ctx, *grad_outputs)")

    @classmethod
    def apply(cls, *inputs: Any) -> Any:
        """The operator on these inputs; those that are no tensors reach forward as they are."""
        if "_operator" not in vars(cls):
            cls._operator = _operator(cls)
        operator = cls._operator
        assert operator is not None
        layout = Layout(leaves=[x if _is_leaf(x) else None for x in inputs] if tracer() is None else [])
        output = operator.apply(*inputs, tensors=tuple(isinstance(x, Tensor) for x in inputs), layout=layout)
        return layout.outputs(output)


class InplaceFunction(Function):
    """PyTorch's base of operators that may write into their input, where they are asked to: fastnn's never do, and
    `ctx.mark_dirty` raises GraphError."""


def _is_leaf(x: Any) -> bool:
    return isinstance(x, Tensor) and x.requires_grad and x.is_leaf


def _operator(user: type[Function]) -> type[tensors.Function]:
    """fastnn's own Function, of arrays, for one of tensors."""

    def forward(ctx: Context, *arrays: Any, tensors: tuple[bool, ...], layout: Layout) -> Array:
        given = [
            Tensor(x, need) if is_tensor else x
            for x, is_tensor, need in zip(arrays, tensors, ctx.needs_input_grad, strict=True)
        ]
        for i, leaf in enumerate(layout.leaves):  # themselves: backward may ask for gradients of what it saved
            given[i] = given[i] if leaf is None else leaf
        layout.leaves = []
        with no_grad():
            if user.setup_context is Function.setup_context:
                output = user.forward(ctx, *given)
            else:
                output = user.forward(*given)
                user.setup_context(ctx, tuple(given), output)
        found = one_array(user.__name__, ctx, output, layout)
        return found.copy() if any(isinstance(x, np.ndarray) and owner(x) is owner(found) for x in arrays) else found

    def backward(ctx: Context, grad: Any) -> Any:
        on_tape = isinstance(grad, Tensor)
        given = grad if on_tape else Tensor(writable(grad))
        with nullcontext() if on_tape else no_grad():
            results = user.backward(ctx, *ctx.attributes["layout"].gradients(ctx, given))
        if on_tape:
            return results
        results = results if isinstance(results, tuple) else (results,)
        given, beyond = results[: len(ctx.needs_input_grad)], results[len(ctx.needs_input_grad) :]
        results = results if any(x is not None for x in beyond) else given  # more Nones than inputs, as PyTorch allows
        return tuple(x._data if isinstance(x, Tensor) else x for x in results)

    members = {"forward": staticmethod(forward), "backward": staticmethod(backward), "__doc__": user.__doc__}
    return type(user.__name__, (tensors.Function,), members)


def once_differentiable(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator for a backward without derivatives of its own: it runs off the tape, GraphError for second ones."""

    @functools.wraps(backward)
    def once(ctx: Any, *grads: Any) -> Any:
        if recording():
            raise GraphError("it is marked as once_differentiable")
        return backward(ctx, *grads)

    return once
