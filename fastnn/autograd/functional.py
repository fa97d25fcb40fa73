"""Derivatives of functions of tensors, as torch.autograd.functional has them: matrices, and products with vectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn import ops
from fastnn.autograd.engine import grad
from fastnn.checks import called, flag
from fastnn.errors import ArgumentError, ShapeError
from fastnn.ops.common import tensor_of
from fastnn.ops.shaping import Reshape
from fastnn.recording import enable_grad
from fastnn.tape import in_reverse, tracer
from fastnn.tensors import Tensor

__all__ = ["hessian", "hvp", "jacobian", "jvp", "vhp", "vjp"]

Tensors = tuple[Tensor, ...]


def leaves(inputs: Any, on_tape: bool = False) -> Tensors:
    """The inputs as tensors that take a gradient: new leaves, or (`on_tape`) other names for what they are."""
    found: list[Tensor] = []
    for x in inputs if isinstance(inputs, (tuple, list)) else (inputs,):
        x = tensor_of(x)
        if on_tape and x.requires_grad:
            found.append(Reshape.apply(x, shape=x.shape))
        elif tracer() is not None:
            found.append(x.detach().requires_grad_())
        else:
            found.append(Tensor(x._data, requires_grad=True))
    if not found:
        raise ArgumentError("derivatives: expected at least one input, got none")
    return tuple(found)


def _like(result: Tensors, inputs: Any) -> Any:
    return result if isinstance(inputs, (tuple, list)) else result[0]


def _outputs(where: str, outputs: Any) -> tuple[Tensor, ...]:
    found = tuple(outputs) if isinstance(outputs, (tuple, list)) else (outputs,)
    for output in found:
        if not isinstance(output, Tensor):
            raise ArgumentError(f"{where}: expected a function that gives tensors, got {type(output).__name__}")
    return found


def depends_on_others(outputs: Tensors, xs: Tensors) -> bool:
    """Whether the outputs depend on leaves with a gradient besides `xs`."""
    own = set(map(id, xs))
    others = [x for x in outputs if x.node is None and x.requires_grad]
    for node in in_reverse([x.node for x in outputs if x.node is not None]):
        others += [x for x in node.inputs if isinstance(x, Tensor) and x.node is None and x.requires_grad]
    return any(id(x) not in own for x in others)


def slopes(outputs: Tensors, inputs: Tensors, starts: Any, create_graph: bool, keep: bool = True) -> Tensors:
    """The gradients of the outputs, zeros for what they do not depend on."""
    on_tape = [(output, start) for output, start in zip(outputs, starts, strict=True) if output.requires_grad]
    if not on_tape:
        return tuple(Tensor(np.zeros(x.shape, x.dtype)) for x in inputs)
    found, starts = zip(*on_tape, strict=True)
    return grad(list(found), inputs, list(starts), keep, create_graph, materialize_grads=True)


def _vector(where: str, v: Any, like: Tensors) -> Tensors:
    """The vector of a product, a tensor for each of `like`; ones for scalars where none is given."""
    if v is None:
        if len(like) != 1 or like[0].numel() != 1:
            raise ArgumentError(f"{where}: expected a vector v, of the shape {like[0].shape}, got None")
        return (Tensor(np.ones(like[0].shape, like[0].dtype)),)
    given = tuple(tensor_of(x) for x in (v if isinstance(v, (tuple, list)) else (v,)))
    if [x.shape for x in given] != [x.shape for x in like]:
        raise ShapeError(f"{where}: expected v of shapes {[x.shape for x in like]}, got {[x.shape for x in given]}")
    return given


def _given(create_graph: bool | None) -> bool:
    """Whether create_graph was given as True."""
    return create_graph is not None and flag("derivatives", "create_graph", create_graph)


def settled(create_graph: bool | None, outputs: Tensors, xs: Tensors) -> bool:
    """None, which fastnn.func passes: the results are on the tape where the function itself brings that about."""
    return depends_on_others(outputs, xs) if create_graph is None else create_graph


def jacobian(
    func: Callable[..., Any],
    inputs: Any,
    create_graph: bool | None = False,
    strict: bool = False,
    vectorize: bool = False,
) -> Any:
    """All derivatives of func(*inputs), of shape output.shape + input.shape; a backward for each entry of the output.

    For several inputs a tuple, for several outputs a tuple of those. `strict` raises GraphError where an output does
    not depend on an input; `vectorize` says how PyTorch computes, and changes nothing.

    >>> import fastnn as fnn
    >>> fnn.autograd.functional.jacobian(lambda x: x * x, fnn.Tensor([1.0, 3.0]))
    Tensor([[2., 0.],
            [0., 6.]])
    """
    xs = leaves(inputs, _given(create_graph))
    with enable_grad():
        given = called("jacobian", "func", func)(*xs)
        outputs = _outputs("jacobian", given)
        create_graph = settled(create_graph, outputs, xs)
        found = []
        for output in outputs:
            rows = []
            for i in range(output.numel()):
                start = np.zeros(output.shape, output.dtype)
                start.flat[i] = 1
                if flag("jacobian", "strict", strict):
                    rows.append(grad(output, xs, start, True, create_graph))
                else:
                    rows.append(slopes((output,), xs, (start,), create_graph))
            parts = [
                ops.stack([row[j] for row in rows]).reshape(output.shape + x.shape)
                if rows
                else Tensor(np.zeros(output.shape + x.shape, x.dtype))
                for j, x in enumerate(xs)
            ]
            found.append(_like(tuple(parts), inputs))
    return tuple(found) if isinstance(given, (tuple, list)) else found[0]


def hessian(
    func: Callable[..., Any], inputs: Any, create_graph: bool = False, strict: bool = False, vectorize: bool = False
) -> Any:
    """All second derivatives of a function with one number as value: input.shape + input.shape.

    For several inputs a tuple of tuples.

    >>> import fastnn as fnn
    >>> fnn.autograd.functional.hessian(lambda x: (x**3).sum(), fnn.Tensor([1.0, 2.0]))
    Tensor([[ 6.,  0.],
            [ 0., 12.]])
    """

    def first(*xs: Tensor) -> Any:
        value = called("hessian", "func", func)(*xs)
        if not isinstance(value, Tensor) or value.numel() != 1:
            raise ArgumentError("hessian: expected a function that gives a tensor with one entry")
        return _like(slopes((value,), xs, (np.ones(value.shape, value.dtype),), True), inputs)

    return jacobian(first, inputs, create_graph, strict)


def vjp(func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> Any:
    """(func(*inputs), vᵀJ): the outputs, and the gradients that backward from `v` gives."""
    xs = leaves(inputs, _given(create_graph))
    with enable_grad():
        given = called("vjp", "func", func)(*xs)
        outputs = _outputs("vjp", given)
        result = slopes(outputs, xs, _vector("vjp", v, outputs), create_graph, create_graph)
    return _detached(given, create_graph), _like(result, inputs)


def jvp(
    func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool | None = False, strict: bool = False
) -> Any:
    """(func(*inputs), J·v): the outputs, and how fast they change along `v`; by two backwards."""
    xs = leaves(inputs, _given(create_graph))
    with enable_grad():
        given = called("jvp", "func", func)(*xs)
        outputs = _outputs("jvp", given)
        create_graph = settled(create_graph, outputs, xs)
        starts = tuple(Tensor(np.zeros(x.shape, x.dtype), requires_grad=True) for x in outputs)
        first = slopes(outputs, xs, starts, True)
        result = slopes(first, starts, _vector("jvp", v, xs), create_graph)
    return _detached(given, create_graph), _like(result, given)


def hvp(
    func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool | None = False, strict: bool = False
) -> Any:
    """(func(*inputs), H·v): the number, and the product of its second derivatives with `v`; by two backwards.

    >>> import fastnn as fnn
    >>> fnn.autograd.functional.hvp(lambda x: (x**3).sum(), fnn.Tensor([1.0, 2.0]), fnn.Tensor([1.0, 1.0]))
    (Tensor(9.), Tensor([ 6., 12.]))
    """
    xs = leaves(inputs, _given(create_graph))
    with enable_grad():
        value = called("hvp", "func", func)(*xs)
        (output,) = _outputs("hvp", value)
        create_graph = settled(create_graph, (output,), xs)
        first = slopes((output,), xs, (np.ones(output.shape, output.dtype),), True)
        result = slopes(first, xs, _vector("hvp", v, xs), create_graph)
    return _detached(value, create_graph), _like(result, inputs)


def vhp(func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> Any:
    """(func(*inputs), vᵀH): the same as `hvp`, for second derivatives are symmetric."""
    return hvp(func, inputs, v, create_graph, strict)


def _detached(outputs: Any, on_tape: bool) -> Any:
    if on_tape:
        return outputs
    return tuple(x.detach() for x in outputs) if isinstance(outputs, (tuple, list)) else outputs.detach()
