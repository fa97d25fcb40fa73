"""Backward on the tape: a Function's own backward, run on tensors in the place of arrays, so that it has a derivative.

What forward kept and is one of its inputs, or its output, is that tensor again; numbers of other kinds (labels, places
of maxima, masks) are constants. Kernels that backward calls have operators of the same name here, and NumPy's functions
those of fastnn. What this cannot express has a formula in fastnn/autograd/formulas.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np

from fastnn import ops, versions
from fastnn.errors import FastnnError, GraphError
from fastnn.ops.activations import LeakyReLU, ReLU, ReLU6
from fastnn.ops.arithmetic import Abs
from fastnn.recording import enable_grad, state, tracer
from fastnn.tape import Context, Node, check_unchanged, checked, flat
from fastnn.tensors import Tensor

__all__ = ["FORMULAS", "Given", "backward_on_tape", "formula"]

FORMULAS: dict[Any, Callable[..., Any]] = {}
FLAT = {ReLU, LeakyReLU, ReLU6, Abs}  # whose slope is constant but for jumps


def formula(*functions: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator: the backward of these Functions on the tape, from what is Given and the gradient of the output."""

    def enter(backward: Callable[..., Any]) -> Callable[..., Any]:
        FORMULAS.update(dict.fromkeys(functions, backward))
        return backward

    return enter


class Given(SimpleNamespace):
    """What a formula may use of an operator that ran: inputs and output (tensors), attributes, needs, and what its
    forward kept (`saved`, arrays)."""


class _OnTape(Context):
    """The context of an operator that ran, with tensors in the place of arrays."""

    def __init__(self, node: Node, needs: tuple[bool, ...], output: Tensor) -> None:
        ctx, arrays, y = node.ctx, [x._data if isinstance(x, Tensor) else x for x in node.inputs], output._data
        if (plan := tracer()) is not None:
            ctx, arrays, y = plan.trial(node.function, node.inputs, node.attributes, needs)
        assert ctx is not None
        pairs = zip(arrays, node.inputs, strict=True)
        known = {id(array): x for array, x in pairs if isinstance(x, Tensor)} | {id(y): output}
        known.update((id(array), view(output)) for array, view in ctx.views)
        constants = {id(versions.owner(x)) for x in node.inputs if isinstance(x, np.ndarray)}
        vars(self).update({name: _swapped(v, known, constants, y, output) for name, v in vars(ctx).items()})
        self.needs_input_grad = needs

    @property
    def kernels(self) -> Any:
        from fastnn.autograd.formulas import Kernels

        return Kernels


def _swapped(value: Any, known: dict[int, Tensor], constants: set[int], y: Any, output: Tensor) -> Any:
    """What forward kept, with tensors for the arrays that it was given or gave. GraphError for floats that are neither:
    as constants they would give a wrong derivative. In a trial, which has no values yet, that holds for any numbers."""
    if isinstance(value, Tensor):
        found = _swapped(value._data, known, constants, y, output)
        return found if isinstance(found, Tensor) else value
    if isinstance(value, (tuple, list)):
        return type(value)(_swapped(entry, known, constants, y, output) for entry in value)
    if isinstance(value, dict):
        return {key: _swapped(entry, known, constants, y, output) for key, entry in value.items()}
    if isinstance(value, np.ndarray):
        if id(value) in known:
            return known[id(value)]
        if id(versions.owner(value)) in constants or (value.dtype.kind != "f" and tracer() is None):
            return value
    elif not isinstance(value, np.floating):
        return value
    if output.ndim == 0 and np.ndim(value) == 0 and value == y:  # NumPy made a scalar of it
        return output
    raise GraphError("its forward keeps numbers that are neither an input nor the output, so their derivative is lost")


def backward_on_tape(node: Node, needs: tuple[bool, ...], grad: Tensor, output: Tensor) -> list[tuple[Tensor, Tensor]]:
    """One node's backward, on the tape: each tensor that wants a gradient, and that gradient.

    Raises GraphError that names the operator where its backward cannot be differentiated.
    """
    from fastnn.autograd import formulas

    assert node.ctx is not None
    function = node.function
    known = FORMULAS.get(function)
    if versions.latest > node.number and tracer() is None:
        check_unchanged(node, vars(node.ctx).values() if known is None else (vars(node.ctx), node.inputs, output))
    with enable_grad(), _numpy_means(formulas.NUMPY):
        if known is not None:
            saved = node.ctx.saved_tensors  # nothing yet while a plan is made
            results = known(
                Given(inputs=node.inputs, output=output, attributes=node.attributes, needs=needs, saved=saved), grad
            )
        else:
            backward: Any = function.backward
            try:
                results = backward(_OnTape(node, needs, output), grad)
            except (FastnnError, TypeError, AttributeError) as error:
                raise GraphError(
                    f"create_graph: the gradient of {function.__name__} cannot be differentiated: {error}: save inputs "
                    "and the output alone, and write backward with operators of tensors (fnn.autograd.Function)"
                ) from error
        results = checked(function, node.inputs, results)
        if function in FLAT and tracer() is None and (of := getattr(results[0], "node", None)) is not None:
            flat[of] = node.inputs[0]
        return [
            (x, _of_type(result, x))
            for x, needed, result in zip(node.inputs, needs, results, strict=True)
            if needed and result is not None
        ]


def _of_type(result: Any, x: Tensor) -> Tensor:
    return (result if isinstance(result, Tensor) else Tensor(result)).astype(x.dtype)


@contextmanager
def _numpy_means(operators: dict[Any, Any]) -> Iterator[None]:
    """Within it NumPy's functions of tensors are fastnn's operators."""
    before = state.on_tape
    state.on_tape = operators
    try:
        yield
    finally:
        state.on_tape = before


def operator_named(name: str) -> Any:
    """The operator that fastnn has by this name, as a function or as a method of tensors; None for none."""
    return getattr(ops, name, None) or getattr(Tensor, name, None)
