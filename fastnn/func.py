"""Derivatives as functions of functions, as torch.func has them; nested calls give higher derivatives."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from fastnn import ops
from fastnn.autograd import functional
from fastnn.checks import called, entries, mapping, text
from fastnn.errors import ArgumentError, ShapeError, StateError
from fastnn.nn import Module
from fastnn.nn.module import expect_module
from fastnn.recording import enable_grad
from fastnn.tensors import Tensor
from fastnn.trees import flatten, is_tree, unflatten

__all__ = [
    "functional_call",
    "grad",
    "grad_and_value",
    "hessian",
    "hvp",
    "jacfwd",
    "jacobian",
    "jacrev",
    "jvp",
    "per_sample_grad",
    "vjp",
    "vmap",
]


class _Depth(threading.local):
    within = 0  # transformed functions that run now: an inner one's result is needed on the tape


_depth = _Depth()


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
        places = argnums if isinstance(argnums, tuple) else (argnums,)
        if not all(-len(args) <= place < len(args) for place in places):
            raise ArgumentError(f"grad: expected argnums among {len(args)} arguments, got {argnums}")
        trees = [flatten(args[place]) if is_tree(args[place]) else ([args[place]], None) for place in places]
        given = [leaf for found, _ in trees for leaf in found]
        graph = _depth.within > 0 or any(isinstance(x, Tensor) and x.requires_grad for x in given)
        with _transformed():
            xs = functional.leaves(given, graph)
            arguments, rest = list(args), iter(xs)
            for place, (found, structure) in zip(places, trees, strict=True):
                arguments[place] = _rebuilt(structure, [next(rest) for _ in found])
            result = func(*arguments, **kwargs)
            value = result[0] if has_aux else result
            if not isinstance(value, Tensor) or value.numel() != 1:
                raise ArgumentError("grad: expected a function that gives a tensor with one entry")
            slopes = iter(functional.slopes((value,), xs, (np.ones(value.shape, value.dtype),), graph, graph))
        parts = tuple(_rebuilt(structure, [next(slopes) for _ in found]) for found, structure in trees)
        value = value if graph else value.detach()
        return parts if isinstance(argnums, tuple) else parts[0], (value, result[1]) if has_aux else value

    return gradient


def _rebuilt(structure: Any, leaves: list[Any]) -> Any:
    return leaves[0] if structure is None else unflatten(structure, leaves)


def vjp(func: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
    """(func(*primals), the function that takes gradients of the output back to those of the primals)."""
    with _transformed():
        xs = functional.leaves(primals, True)
        output = called("vjp", "func", func)(*xs)
    outputs = tuple(output) if isinstance(output, (tuple, list)) else (output,)

    def back(v: Any) -> tuple[Any, ...]:
        starts = tuple(v) if isinstance(v, (tuple, list)) else (v,)
        graph = _depth.within > 0 or any(isinstance(x, Tensor) and x.requires_grad for x in (*primals, *starts))
        return functional.slopes(outputs, xs, starts, graph)

    return output, back


def jvp(func: Callable[..., Any], primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    """(func(*primals), how fast it changes along the tangents)."""
    at, along = tuple(entries("jvp", "primals", primals)), tuple(entries("jvp", "tangents", tangents))
    return functional.jvp(func, at, along, create_graph=_depth.within > 0)


def hvp(func: Callable[..., Any], primals: Any, tangents: Any) -> Any:
    """The product of the second derivatives of `func`, whose value is one number, with `tangents`.

    >>> import fastnn as fnn
    >>> fnn.func.hvp(lambda x: (x**3).sum(), fnn.Tensor([1.0, 2.0]), fnn.Tensor([1.0, 1.0]))
    Tensor([ 6., 12.])
    """
    return functional.hvp(func, primals, tangents, create_graph=_depth.within > 0)[1]


def jacrev(func: Callable[..., Any], argnums: int = 0) -> Callable[..., Any]:
    """The function that gives all derivatives of `func` by one argument: output.shape + argument.shape."""

    def derivatives(*args: Any) -> Any:
        def of_one(x: Any) -> Any:
            return func(*args[:argnums], x, *args[argnums + 1 :])

        given = args[argnums]
        graph = _depth.within > 0 or (isinstance(given, Tensor) and given.requires_grad)
        with _transformed():
            return functional.jacobian(of_one, given, create_graph=graph)

    return derivatives


jacobian = jacfwd = jacrev


def hessian(func: Callable[..., Any], argnums: int = 0) -> Callable[..., Any]:
    """The function that gives all second derivatives of `func`, whose value is one number, by one argument."""
    return jacrev(jacrev(func, argnums), argnums)


def vmap(func: Callable[..., Any], in_dims: Any = 0, out_dims: int = 0) -> Callable[..., Any]:
    """`func` for each entry along the dimension `in_dims` of its arguments (None: the same for all), stacked again.

    A loop in Python: it saves writing, not time.

    >>> import fastnn as fnn
    >>> fnn.func.vmap(lambda x, y: (x * y).sum(), in_dims=(0, None))(fnn.Tensor([[1.0, 2.0], [3.0, 4.0]]), 10.0)
    Tensor([30., 70.])
    """

    def mapped(*args: Any) -> Any:
        dims = in_dims if isinstance(in_dims, (tuple, list)) else (in_dims,) * len(args)
        if len(dims) != len(args):
            raise ArgumentError(f"vmap: expected in_dims for {len(args)} arguments, got {len(dims)}")
        trees = [flatten(x) if is_tree(x) else ([x], None) for x in args]
        sizes = {
            np.shape(leaf)[dim]
            for (found, _), dim in zip(trees, dims, strict=True)
            if dim is not None
            for leaf in found
        }
        if len(sizes) != 1:
            raise ShapeError(f"vmap: expected one size along the mapped dimensions, got {sorted(sizes)}")

        def entry(i: int) -> list[Any]:
            picked = []
            for (found, structure), dim in zip(trees, dims, strict=True):
                picked.append(_rebuilt(structure, found if dim is None else [_taken(leaf, dim, i) for leaf in found]))
            return picked

        results = [func(*entry(i)) for i in range(sizes.pop())]
        if not is_tree(results[0]):
            return ops.stack(results, out_dims)
        columns = zip(*(flatten(result)[0] for result in results), strict=True)
        return unflatten(flatten(results[0])[1], [ops.stack(list(column), out_dims) for column in columns])

    return mapped


def _taken(x: Any, dim: int, i: int) -> Any:
    return x[(slice(None),) * (dim % x.ndim) + (i,)]


def functional_call(
    module: Module, parameter_and_buffer_dicts: Any, args: Any = None, kwargs: Mapping[str, Any] | None = None
) -> Any:
    """module(*args, **kwargs) with other parameters and buffers, by their names; the module stays as it is.

    Gradients flow into those that are given. Raises StateError for names that the module does not have.
    """
    expect_module("functional_call", module)
    dicts = parameter_and_buffer_dicts
    given: dict[str, Any] = {}
    for part in dicts if isinstance(dicts, (tuple, list)) else (dicts,):
        given.update(mapping("functional_call", "parameters and buffers", part))
    places = {}
    modules = dict(module.named_modules())
    for name in given:
        path, _, attribute = text("functional_call", "a name", name).rpartition(".")
        owner = modules.get(path)
        if owner is None or attribute not in vars(owner):
            raise StateError(f"functional_call: {type(module).__name__} has no parameter or buffer {name!r}")
        places[name] = vars(owner), attribute
    before = {name: held[attribute] for name, (held, attribute) in places.items()}
    try:
        for name, (held, attribute) in places.items():
            value = given[name]
            is_buffer = isinstance(before[name], np.ndarray)
            held[attribute] = value._data if is_buffer and isinstance(value, Tensor) else value
        return module(*(args if isinstance(args, tuple) else () if args is None else (args,)), **(kwargs or {}))
    finally:
        for name, (held, attribute) in places.items():
            held[attribute] = before[name]


def per_sample_grad(model: Module, loss_fn: Callable[..., Any]) -> Callable[..., dict[str, Tensor]]:
    """The function that gives, for inputs x (N, ...) and targets y (N, ...), each sample's gradient of its own loss.

    A dict by the parameters' names, of arrays (N, *parameter.shape); a loop over the samples. The model runs in the
    mode that it is in, and sees batches of one; `.grad` stays as it is.

    >>> import numpy as np, fastnn as fnn
    >>> from fastnn import nn
    >>> model = nn.Linear(2, 1)
    >>> found = fnn.func.per_sample_grad(model, nn.MSELoss())(np.ones((5, 2), np.float32), np.ones((5, 1), np.float32))
    >>> found["weight"].shape
    (5, 1, 2)
    """

    def gradients(x: Any, y: Any) -> dict[str, Tensor]:
        names, parameters = zip(*((n, p) for n, p in model.named_parameters() if p.requires_grad), strict=True)
        rows = []
        for i in range(len(x)):
            with enable_grad():
                loss = loss_fn(model(x[i : i + 1]), y[i : i + 1])
            rows.append(functional.slopes((loss,), parameters, (None,), False, False))
        return {name: ops.stack([row[j] for row in rows]) for j, name in enumerate(names)}

    return gradients
