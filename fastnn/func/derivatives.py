"""Derivatives of functions, as functions; nested calls give higher derivatives.

They are on the tape where the arguments take a gradient, or what else the function is computed from does: a loss of
derivatives by x goes back to the parameters of the model. Under `no_grad` they are numbers.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from fastnn.autograd import functional
from fastnn.checks import called, entries
from fastnn.errors import ArgumentError
from fastnn.recording import enable_grad, recording
from fastnn.tensors import Tensor
from fastnn.trees import flatten, unflatten

__all__ = ["grad", "grad_and_value", "hessian", "hvp", "jacfwd", "jacobian", "jacrev", "jvp", "vjp"]


class _Depth(threading.local):
    within = 0  # transformed functions that run now: an inner one's result is needed on the tape


_depth = _Depth()


def _graph(given: Iterable[Any]) -> bool | None:
    """Whether derivatives at `given` are to be on the tape; None: where the function depends on other tensors that
    take a gradient, such as the parameters of a model."""
    if not recording():
        return False
    return _depth.within > 0 or any(isinstance(x, Tensor) and x.requires_grad for x in given) or None


@contextmanager
def _transformed() -> Iterator[None]:
    _depth.within += 1
    try:
        with enable_grad():
            yield
    finally:
        _depth.within -= 1


def grad(func: Callable[..., Any], argnums: int | tuple[int, ...] = 0, has_aux: bool = False) -> Callable[..., Any]:
    """The function that gives the gradient of `func`, whose value is one number, by its arguments `argnums`.

    An argument may be a tensor, an array, or a dict, tuple or list of them, whose form the gradient then has.
    `has_aux`: func gives (value, something else), and the result is (gradient, something else).

    >>> import fastnn as fnn
    >>> fnn.func.grad(fnn.func.grad(lambda x: x**3))(fnn.Tensor(2.0))
    Tensor(12.)
    """
    both = grad_and_value(func, argnums, has_aux)

    def gradient(*args: Any, **kwargs: Any) -> Any:
        slopes, value = both(*args, **kwargs)
        return (slopes, value[1]) if has_aux else slopes

    return gradient


def grad_and_value(
    func: Callable[..., Any], argnums: int | tuple[int, ...] = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """As `grad`; the function gives (gradient, value), or (gradient, (value, something else))."""

    def gradient(*args: Any, **kwargs: Any) -> Any:
        places = _places("grad", argnums, args)
        trees = [flatten(args[place]) for place in places]
        given = [leaf for found, _ in trees for leaf in found]
        graph = _graph(given)
        with _transformed():
            xs = functional.leaves(given, bool(graph))
            result = func(*_with(args, places, trees, xs), **kwargs)
            value = result[0] if has_aux else result
            if not isinstance(value, Tensor) or value.numel() != 1:
                raise ArgumentError("grad: expected a function that gives a tensor with one entry")
            graph = functional.settled(graph, (value,), xs)
            slopes = iter(functional.slopes((value,), xs, (np.ones(value.shape, value.dtype),), graph, graph))
        parts = tuple(unflatten(structure, [next(slopes) for _ in found]) for found, structure in trees)
        value = value if graph else value.detach()
        return parts if isinstance(argnums, tuple) else parts[0], (value, result[1]) if has_aux else value

    return gradient


def _places(where: str, argnums: int | tuple[int, ...], args: tuple[Any, ...]) -> tuple[int, ...]:
    places = argnums if isinstance(argnums, tuple) else (argnums,)
    if not all(-len(args) <= place < len(args) for place in places):
        raise ArgumentError(f"{where}: expected argnums among {len(args)} arguments, got {argnums}")
    return places


def _with(args: tuple[Any, ...], places: tuple[int, ...], trees: list[Any], leaves: Iterable[Any]) -> list[Any]:
    """The arguments with other leaves in these places."""
    arguments, rest = list(args), iter(leaves)
    for place, (found, structure) in zip(places, trees, strict=True):
        arguments[place] = unflatten(structure, [next(rest) for _ in found])
    return arguments


def vjp(func: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
    """(func(*primals), the function that takes gradients of the output back to those of the primals)."""
    with _transformed():
        xs = functional.leaves(primals, True)
        output = called("vjp", "func", func)(*xs)
    outputs = tuple(output) if isinstance(output, (tuple, list)) else (output,)

    def back(v: Any) -> tuple[Any, ...]:
        starts = tuple(v) if isinstance(v, (tuple, list)) else (v,)
        graph = _graph((*primals, *starts))
        return functional.slopes(outputs, xs, starts, functional.settled(graph, outputs, xs))

    return output, back


def jvp(func: Callable[..., Any], primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    """(func(*primals), how fast it changes along the tangents)."""
    at, along = tuple(entries("jvp", "primals", primals)), tuple(entries("jvp", "tangents", tangents))
    return functional.jvp(func, at, along, create_graph=_graph((*at, *along)))


def hvp(func: Callable[..., Any], primals: Any, tangents: Any) -> Any:
    """The product of the second derivatives of `func`, whose value is one number, with `tangents`.

    >>> import fastnn as fnn
    >>> fnn.func.hvp(lambda x: (x**3).sum(), fnn.Tensor([1.0, 2.0]), fnn.Tensor([1.0, 1.0]))
    Tensor([ 6., 12.])
    """
    return functional.hvp(func, primals, tangents, create_graph=_graph(flatten((primals, tangents))[0]))[1]


def jacrev(
    func: Callable[..., Any],
    argnums: int | tuple[int, ...] = 0,
    has_aux: bool = False,
    *,
    chunk_size: int | None = None,
    randomness: str = "error",
) -> Callable[..., Any]:
    """The function that gives all derivatives of `func` by its arguments `argnums`: output.shape + argument.shape.

    Arguments and outputs may be dicts, tuples or lists; the result is in the form of the output, and each entry in that
    of `argnums` and of the argument. `has_aux`: func gives (output, something else), and so does the result. One
    backward for each entry of the output: `jacfwd` is the same function here, for its derivatives are the same, and
    pays where an output is small. `chunk_size` and `randomness` are taken and ignored.

    >>> import fastnn as fnn
    >>> fnn.func.jacrev(lambda x: x**2)(fnn.Tensor([1.0, 3.0]))
    Tensor([[2., 0.],
            [0., 6.]])
    """

    def derivatives(*args: Any, **kwargs: Any) -> Any:
        places = _places("jacrev", argnums, args)
        trees = [flatten(args[place]) for place in places]
        given = tuple(leaf for found, _ in trees for leaf in found)
        structure, aux = [], []

        def of_leaves(*xs: Tensor) -> tuple[Any, ...]:
            result = func(*_with(args, places, trees, xs), **kwargs)
            if has_aux:
                result, extra = result
                aux.append(extra)
            leaves, form = flatten(result)
            structure.append(form)
            return tuple(leaves)

        graph = _graph(given)
        with _transformed():
            found = functional.jacobian(of_leaves, given, create_graph=graph)
        outputs = []
        for parts in found:
            rest = iter(parts)
            by_argument = tuple(unflatten(form, [next(rest) for _ in held]) for held, form in trees)
            outputs.append(by_argument if isinstance(argnums, tuple) else by_argument[0])
        whole = unflatten(structure[0], outputs)
        return (whole, aux[0]) if has_aux else whole

    return derivatives


jacobian = jacfwd = jacrev


def hessian(func: Callable[..., Any], argnums: int | tuple[int, ...] = 0) -> Callable[..., Any]:
    """The function that gives all second derivatives of `func`, whose value is one number, by its arguments."""
    return jacrev(jacrev(func, argnums), argnums)
