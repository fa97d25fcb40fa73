"""The LU factorisation of matrices, by Gaussian elimination, and equations that it solves."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastnn.checks import flag
from fastnn.errors import ArgumentError, DTypeError, LinAlgError
from fastnn.ops import factors
from fastnn.ops.common import tensor_of
from fastnn.ops.dense import matmul
from fastnn.ops.matrices import check_stacks, identity, matrix, mt, square
from fastnn.ops.moving import tril, triu
from fastnn.ops.places import take_along_dim
from fastnn.ops.reductions import any as any_of
from fastnn.ops.shaping import expand
from fastnn.tape import tracer
from fastnn.tensors import Tensor

__all__ = ["lu", "lu_solve", "lu_unpack"]


class LU(NamedTuple):
    """The result of lu_factor."""

    LU: Tensor
    pivots: Tensor


class PLU(NamedTuple):
    """The result of linalg.lu: the matrix is P @ L @ U."""

    P: Tensor
    L: Tensor
    U: Tensor


def factored(op: str, A: Any, pivot: bool, *, check: bool = False) -> LU:
    """Both triangles in one matrix, and the pivots; with `check` a 0 on U's diagonal is a LinAlgError."""
    if not flag(op, "pivot", pivot):
        raise ArgumentError(f"{op}: expected pivot=True, as PyTorch does on the CPU")
    x = matrix(op, A)
    pivots = factors.Pivots.apply(x.detach())
    found = LU(factors.Lu.apply(_in_order(x, pivots)), pivots)
    if check and tracer() is None and (zeros := _first_zero(found.LU).data).any():
        raise LinAlgError(f"{op}: expected no 0 on U's diagonal, got one in place {zeros[zeros > 0][0]}")
    return found


def _in_order(x: Tensor, pivots: Tensor) -> Tensor:
    order = factors.Order.apply(pivots, rows=x.shape[-2])
    return take_along_dim(x, order.unsqueeze(-1), -2)


def lu(A: Any, pivot: bool = True, get_infos: bool = False) -> Any:
    """L and U of matrices (..., M, N) in one matrix, without L's ones, and the pivots (..., K), int32: row i changed
    places with row pivots[i] - 1 before the i-th elimination, K = min(M, N). With `get_infos` also (...), int32: where
    the first 0 stands on U's diagonal, from 1 on, or 0; else a 0 there, by which nothing could be solved, is a
    LinAlgError.

    >>> import fastnn as fnn
    >>> fnn.lu(fnn.tensor([[1.0, 2.0], [2.0, 2.0]])).LU
    Tensor([[2. , 2. ],
            [0.5, 1. ]])
    """
    if not flag("lu", "get_infos", get_infos):
        return factored("lu", A, pivot, check=True)
    found = factored("lu", A, pivot)
    return (*found, _first_zero(found.LU))


def _first_zero(factor: Tensor) -> Tensor:
    """The place of the first 0 on the diagonal, counted from 1, int32; 0 for none."""
    zero = factor.detach().diagonal(0, -2, -1) == 0
    if not zero.shape[-1]:
        return any_of(zero, -1).astype(np.int32)
    return (any_of(zero, -1).astype(np.int64) * (zero.astype(np.int64).argmax(-1) + 1)).astype(np.int32)


def lu_unpack(LU_data: Any, LU_pivots: Any, unpack_data: bool = True, unpack_pivots: bool = True) -> PLU:
    """P (..., M, M), L (..., M, K) and U (..., K, N) of what `lu` gave; what is not unpacked is empty."""
    factor, pivots = matrix("lu_unpack", LU_data), _pivots("lu_unpack", LU_pivots)
    (m, n), empty = factor.shape[-2:], Tensor(np.zeros(0, factor.dtype))
    k, p, lower, upper = min(m, n), empty, empty, empty
    if flag("lu_unpack", "unpack_data", unpack_data):
        lower = tril(factor[..., :k], -1) + Tensor(np.eye(m, k, dtype=factor.dtype))
        upper = triu(factor[..., :k, :])
    if flag("lu_unpack", "unpack_pivots", unpack_pivots):
        whole = expand(identity(factor, m), (*factor.shape[:-2], m, m))
        p = mt(_in_order(whole, pivots))
    return PLU(p, lower, upper)


def _pivots(op: str, pivots: Any) -> Tensor:
    found = tensor_of(pivots)
    if found.dtype.kind not in "iu":
        raise DTypeError(f"{op}: expected pivots as whole numbers, as lu gave them, got {found.dtype}")
    return found


def lu_solve(b: Any, LU_data: Any, LU_pivots: Any) -> Tensor:
    """X of A @ X = b, A (..., N, N) given as `lu` gave it, b (..., N, K).

    >>> import fastnn as fnn
    >>> fnn.lu_solve(fnn.ones(2, 1), *fnn.lu([[2.0, 0.0], [0.0, 4.0]]))
    Tensor([[0.5 ],
            [0.25]])
    """
    return solved(square("lu_solve", LU_data), LU_pivots, matrix("lu_solve", b))


def solved(factor: Tensor, pivots: Any, b: Tensor, *, transposed: bool = False) -> Tensor:
    """X of A @ X = b, or of A.T @ X = b."""
    check_stacks("lu_solve", factor.shape, b.shape)
    lower, upper = lu_unpack(factor, pivots, unpack_pivots=False)[1:]
    if transposed:
        x = factors.Solve.apply(mt(lower), factors.Solve.apply(mt(upper), b))
        return matmul(lu_unpack(factor, pivots, unpack_data=False).P, x)
    stack = np.broadcast_shapes(factor.shape[:-2], b.shape[:-2])
    b = _in_order(expand(b, (*stack, *b.shape[-2:])), _pivots("lu_solve", pivots))
    return factors.Solve.apply(upper, factors.Solve.apply(lower, b))
