"""PyTorch's torch.autograd.forward_ad: tensors with a direction in which they change, and how fast results change."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from fastnn.autograd.functional import depends_on_others, leaves, slopes
from fastnn.errors import DTypeError, GraphError, ShapeError
from fastnn.ops.common import tensor_of
from fastnn.recording import enable_grad
from fastnn.tensors import Tensor

__all__ = ["UnpackedDualTensor", "dual_level", "enter_dual_level", "exit_dual_level", "make_dual", "unpack_dual"]


class UnpackedDualTensor(NamedTuple):
    """The result of `unpack_dual`."""

    primal: Tensor
    tangent: Tensor | None


class _Level(threading.local):
    duals: list[tuple[Tensor, Tensor]] | None = None  # each with its tangent; None outside of a level


_level = _Level()


def enter_dual_level() -> int:
    """Begins a level and returns its number, 0. GraphError within another: there is one level, as in PyTorch."""
    if _level.duals is not None:
        raise GraphError("enter_dual_level: expected no level within another: use fnn.func.jvp for second derivatives")
    _level.duals = []
    return 0


def exit_dual_level(*, level: int | None = None) -> None:
    """Ends the level: what was made in it has no tangent any more. GraphError where there is none."""
    if _level.duals is None:
        raise GraphError("exit_dual_level: expected a level that enter_dual_level() has begun, and there is none")
    _level.duals = None


@contextmanager
def dual_level() -> Iterator[int]:
    """Context in which tensors have tangents. The operators in it are recorded, as for backward().

    >>> import fastnn as fnn
    >>> from fastnn.autograd import forward_ad
    >>> with forward_ad.dual_level():
    ...     x = forward_ad.make_dual(fnn.tensor([1.0, 2.0]), fnn.tensor([1.0, 10.0]))
    ...     forward_ad.unpack_dual(x * x).tangent
    Tensor([ 2., 40.])
    """
    number = enter_dual_level()
    try:
        with enable_grad():
            yield number
    finally:
        exit_dual_level()


def make_dual(tensor: Tensor, tangent: Tensor, *, level: int | None = None) -> Tensor:
    """The tensor, which changes along `tangent`, of its shape and type.

    Raises GraphError outside of a level, ShapeError and DTypeError for another shape or type.
    """
    if _level.duals is None:
        raise GraphError("make_dual: expected a level: with forward_ad.dual_level()")
    primal, along = tensor_of(tensor), tensor_of(tangent)
    if primal.dtype.kind != "f" or primal.dtype != along.dtype:
        raise DTypeError(f"make_dual: expected a float tensor and a tangent of its type, got {primal.dtype} and "
                         f"{along.dtype}")  # fmt: skip
    if primal.shape != along.shape:
        raise ShapeError(f"make_dual: expected a tangent of shape {primal.shape}, got {along.shape}")
    (dual,) = leaves(primal, on_tape=True)
    _level.duals.append((dual, along))
    return dual


def unpack_dual(tensor: Tensor, *, level: int | None = None) -> UnpackedDualTensor:
    """(primal, tangent): the tensor, and how fast it changes; None for the tangent where it depends on no dual tensor,
    or outside of the level. Where it depends on parameters, too, both stay on the tape, for backward().

    That is two backwards through what was computed: J·v as the gradient of vᵀ·(Jᵀ·u) by u.
    """
    x, duals = tensor_of(tensor), _level.duals
    if not duals or not x.requires_grad:
        return UnpackedDualTensor(x, None)
    inputs, tangents = zip(*duals, strict=True)
    on_tape = depends_on_others((x,), inputs)
    primal = x if on_tape else x.detach()
    for dual, tangent in duals:
        if dual is x:
            return UnpackedDualTensor(primal, tangent)
    with enable_grad():
        start = Tensor(np.zeros(x.shape, x.dtype), requires_grad=True)
        first = slopes((x,), inputs, (start,), True)
        if not any(slope.requires_grad for slope in first):
            return UnpackedDualTensor(x, None)
        (tangent,) = slopes(first, (start,), tangents, on_tape or any(each.requires_grad for each in tangents))
    return UnpackedDualTensor(primal, tangent)
