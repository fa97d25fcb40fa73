"""Modules as functions of their parameters and buffers; gradients of single samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fastnn import ops
from fastnn.autograd import functional
from fastnn.checks import entries, flag, mapping, text
from fastnn.errors import ArgumentError, StateError
from fastnn.nn import Module
from fastnn.nn.module import expect_module
from fastnn.recording import enable_grad
from fastnn.tensors import Tensor

__all__ = ["functional_call", "per_sample_grad", "stack_module_state"]


def functional_call(
    module: Module,
    parameter_and_buffer_dicts: Any,
    args: Any = None,
    kwargs: Mapping[str, Any] | None = None,
    *,
    tie_weights: bool = True,
    strict: bool = False,
) -> Any:
    """module(*args, **kwargs) with other parameters and buffers, by their names; the module stays as it is.

    `parameter_and_buffer_dicts` is a dict, or several; gradients flow into what it holds. A parameter that stands in
    several places changes in all of them, unless `tie_weights` is False. Raises StateError for names that the module
    does not have, and with `strict` for those that are not given.

    >>> import fastnn as fnn
    >>> layer = fnn.nn.Linear(2, 1)
    >>> given = {"weight": fnn.Tensor([[1.0, 2.0]]), "bias": fnn.Tensor([0.5])}
    >>> fnn.func.functional_call(layer, given, fnn.Tensor([[1.0, 1.0]]))
    Tensor([[3.5]])
    """
    module = expect_module("functional_call", module)
    dicts = parameter_and_buffer_dicts
    given: dict[str, Any] = {}
    for part in dicts if isinstance(dicts, (tuple, list)) else (dicts,):
        given.update(mapping("functional_call", "parameters and buffers", part))
    kind, modules = type(module).__name__, dict(module.named_modules())
    if flag("functional_call", "strict", strict):
        missing = sorted({name for name, _ in (*module.named_parameters(), *module.named_buffers())} - set(given))
        if missing:
            raise StateError(f"functional_call: expected all parameters and buffers of {kind}, got no {missing[0]!r}")
    places = []
    for name, value in given.items():
        path, _, attribute = text("functional_call", "a name", name).rpartition(".")
        owner = modules.get(path)
        if owner is None or attribute not in vars(owner):
            raise StateError(f"functional_call: {kind} has no parameter or buffer {name!r}")
        places.append((vars(owner), attribute, value))
        if tie_weights:
            held = vars(owner)[attribute]
            places += [
                (vars(other), key, value)
                for other in modules.values()
                for key, also in vars(other).items()
                if also is held and isinstance(held, Tensor) and (other is not owner or key != attribute)
            ]
    before = [held[attribute] for held, attribute, _ in places]
    try:
        for (held, attribute, value), kept in zip(places, before, strict=True):
            held[attribute] = value._data if isinstance(kept, np.ndarray) and isinstance(value, Tensor) else value
        return module(*(args if isinstance(args, tuple) else () if args is None else (args,)), **(kwargs or {}))
    finally:
        for (held, attribute, _), kept in zip(places, before, strict=True):
            held[attribute] = kept


def stack_module_state(models: Sequence[Module]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(parameters, buffers) of models of one kind, by their names, each stacked along a new first dimension: with
    `functional_call` and `vmap` an ensemble is called as one. The parameters are new leaves that take gradients.

    Raises ArgumentError for no models, or models of several kinds, or shapes.

    >>> import fastnn as fnn
    >>> from fastnn import nn
    >>> models = [nn.Linear(3, 2) for _ in range(4)]
    >>> params, buffers = fnn.func.stack_module_state(models)
    >>> def call(params, x):
    ...     return fnn.func.functional_call(models[0], params, x)
    >>> fnn.vmap(call, in_dims=(0, None))(params, fnn.zeros(5, 3)).shape
    (4, 5, 2)
    """
    given = entries("stack_module_state", "models", models)
    models = [expect_module("stack_module_state", each) for each in given]
    kinds = sorted({type(model).__name__ for model in models})
    if len(kinds) != 1:
        raise ArgumentError(f"stack_module_state: expected models of one kind, got {' and '.join(kinds) or 'none'}")

    def stacked(held: list[dict[str, Any]], grad: bool) -> dict[str, Tensor]:
        shapes = [{name: np.shape(x) for name, x in each.items()} for each in held]
        if any(each != shapes[0] for each in shapes):
            raise ArgumentError("stack_module_state: expected models whose parameters and buffers have the same shapes")
        found = {}
        for name in held[0]:
            arrays = [x._data if isinstance(x, Tensor) else np.asarray(x) for x in (each[name] for each in held)]
            found[name] = Tensor(np.stack(arrays), requires_grad=grad and held[0][name].requires_grad)
        return found

    return (
        stacked([dict(model.named_parameters()) for model in models], True),
        stacked([dict(model.named_buffers()) for model in models], False),
    )


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
