"""PyTorch's torch.nn.utils: gradients clipped, parameters as one vector."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from importlib import import_module
from typing import Any

import numpy as np

from fastnn import ops, versions
from fastnn.arrays import as_array, numbers
from fastnn.checks import entries, flag, number
from fastnn.errors import ArgumentError, NonFiniteError, ShapeError
from fastnn.habits import no_such_name
from fastnn.tensors import Array, Tensor

__all__ = [
    "clip_grad_norm_",
    "clip_grad_value_",
    "get_total_norm",
    "parameters_to_vector",
    "vector_to_parameters",
]

# Where PyTorch has them: ``from fastnn.nn.utils.clip_grad import clip_grad_norm_``.
sys.modules |= {
    f"{__name__}.{_place}": sys.modules[__name__]
    for _place in ("clip_grad", "convert_parameters", "spectral_norm", "weight_norm")
}

_OLD = {  # names of PyTorch's older functions in parametrizations
    "remove_spectral_norm": "remove_spectral_norm",
    "remove_weight_norm": "remove_weight_norm",
    "spectral_norm": "old_spectral_norm",
    "weight_norm": "old_weight_norm",
}


def clip_grad_norm_(
    parameters: Any,
    max_norm: float,
    norm_type: float | str = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Scales all gradients down, in place, where the norm of all of them together is larger than `max_norm`.

    Args:
        parameters: one parameter, or several; those without a gradient do not count.
        norm_type: of the norm; infinity, or "inf", for the largest entry.
        error_if_nonfinite: whether a norm that is infinite or not a number is a NonFiniteError.
        foreach: taken and ignored.

    Returns the norm before, as a tensor. Compiled steps clip by ``fnn.compile(..., clip_norm=)``.

    >>> import numpy as np
    >>> import fastnn as fnn
    >>> from fastnn import nn
    >>> w = fnn.Tensor(np.zeros(2), requires_grad=True)
    >>> w.grad = np.array([3.0, 4.0])
    >>> norm = nn.utils.clip_grad_norm_([w], 1.0)
    >>> norm.item(), np.asarray(w.grad).round(3).tolist()
    (5.0, [0.6, 0.8])
    """
    max_norm = number("clip_grad_norm_", "max_norm", max_norm, 0, finite=False)
    gradients = _gradients(parameters)
    norm = _norm(gradients, norm_type)
    if flag("clip_grad_norm_", "error_if_nonfinite", error_if_nonfinite) and not math.isfinite(norm):
        raise NonFiniteError(f"clip_grad_norm_: the norm of the gradients is {norm}")
    factor = max_norm / (norm + 1e-6)
    if not factor >= 1:  # NaN, too
        for grad in gradients:
            grad *= grad.dtype.type(factor)
            versions.wrote(grad)
    return Tensor(np.asarray(norm, gradients[0].dtype if gradients else np.float32))


def clip_grad_value_(parameters: Any, clip_value: float, foreach: bool | None = None) -> None:
    """Brings every entry of every gradient to between -clip_value and clip_value, in place."""
    bound = number("clip_grad_value_", "clip_value", clip_value, 0, finite=False)
    for grad in _gradients(parameters):
        np.clip(grad, -bound, bound, out=grad)
        versions.wrote(grad)


def get_total_norm(
    tensors: Any, norm_type: float | str = 2.0, error_if_nonfinite: bool = False, foreach: bool | None = None
) -> Tensor:
    """The norm of all tensors together, as of one vector."""
    arrays = [numbers("get_total_norm", x) for x in _several(tensors)]
    norm = _norm(arrays, norm_type)
    if flag("get_total_norm", "error_if_nonfinite", error_if_nonfinite) and not math.isfinite(norm):
        raise NonFiniteError(f"get_total_norm: the norm is {norm}")
    return Tensor(np.asarray(norm, arrays[0].dtype if arrays else np.float32))


def parameters_to_vector(parameters: Iterable[Any]) -> Tensor:
    """The entries of all parameters, one after the other; on the tape."""
    return ops.cat([ops.ravel(p) for p in entries("parameters_to_vector", "parameters", parameters)])


def vector_to_parameters(vec: Any, parameters: Iterable[Any]) -> None:
    """Writes the entries of `vec` to the parameters, in their order. Raises ShapeError where their number differs."""
    given = entries("vector_to_parameters", "parameters", parameters)
    _check_parameters("vector_to_parameters", given)
    values: Array = vec.data if isinstance(vec, Tensor) else as_array(vec)
    total = sum(p.numel() for p in given)
    if values.shape != (total,):
        raise ShapeError(f"vector_to_parameters: expected a vector of {total} entries, got shape {values.shape}")
    at = 0
    for p in given:
        p.data[...] = values[at : at + p.numel()].reshape(p.shape)
        versions.wrote(p.data)
        at += p.numel()


def _check_parameters(where: str, given: list[Any]) -> None:
    for each in given:
        if not isinstance(each, Tensor):
            raise ArgumentError(f"{where}: expected parameters, got {type(each).__name__}")


def _several(given: Any) -> list[Any]:
    return [given] if isinstance(given, (Tensor, np.ndarray)) else entries("", "parameters", given)


def _gradients(parameters: Any) -> list[Array]:
    given = _several(parameters)
    _check_parameters("gradients", given)
    found = [p.grad for p in given]
    return [grad.data if isinstance(grad, Tensor) else grad for grad in found if grad is not None]


def _norm(arrays: list[Array], kind: float | str) -> float:
    kind = number(
        "norm", "norm_type", math.inf if isinstance(kind, str) and kind == "inf" else kind, above=0, finite=False
    )
    if math.isinf(kind):
        return max((float(np.abs(array).max()) for array in arrays if array.size), default=0.0)
    if kind == 2:
        return math.sqrt(math.fsum(float(np.sum(np.square(array, dtype=np.float64))) for array in arrays))
    return math.fsum(float(np.sum(np.abs(array, dtype=np.float64) ** kind)) for array in arrays) ** (1 / kind)


def __getattr__(name: str) -> Any:
    if name in ("parametrizations", "parametrize", "prune", "rnn"):
        return import_module(f"fastnn.nn.utils.{name}")
    if name in ("clip_grad", "convert_parameters"):
        return sys.modules[__name__]
    if name == "clip_grad_norm":  # before 2018
        return clip_grad_norm_
    if name in _OLD:
        return getattr(import_module("fastnn.nn.utils.parametrizations"), _OLD[name])
    raise no_such_name("fastnn.nn.utils", name)
