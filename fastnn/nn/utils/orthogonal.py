"""Parameters whose columns, or rows, stay orthonormal: maps from all matrices to those."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np

from fastnn import ops
from fastnn.checks import choice, flag
from fastnn.errors import ArgumentError, ShapeError
from fastnn.nn.module import Module
from fastnn.ops.factors import Solve
from fastnn.ops.matrices import reflected
from fastnn.tensors import Array, Tensor
from fastnn.values import Values

from .parametrize import register_parametrization

__all__ = ["orthogonal"]

M = TypeVar("M", bound=Module)
MAPS = ("matrix_exp", "cayley", "householder")


def orthogonal(
    module: M, name: str = "weight", orthogonal_map: str | None = None, *, use_trivialization: bool = True
) -> M:
    """The parameter's columns are orthonormal from now on, its rows where it has fewer rows than columns.

    Args:
        module: whose parameter; it is returned.
        name: the parameter's, of two dimensions or more: matrices (..., N, K).
        orthogonal_map: "matrix_exp", the exponential of a skew matrix, the default for square ones; "cayley",
            (1 - A/2)⁻¹(1 + A/2) of a skew matrix A; "householder", a product of reflections, the default for others.
        use_trivialization: keep the orthonormal matrix next to the parameter's value in a buffer, `base`, and learn
            what turns it (Lezcano-Casado 2019, https://arxiv.org/abs/1909.09501). Without, the first two maps start
            from what they make of the value, and nothing can be assigned to the parameter.

    Its state holds parametrizations.weight.original and parametrizations.weight.0.base. Raises ShapeError for vectors.

    >>> import fastnn as fnn
    >>> from fastnn import nn
    >>> w = nn.utils.parametrizations.orthogonal(nn.Linear(5, 3)).weight
    >>> fnn.allclose(w @ w.T, fnn.eye(3), atol=1e-5)
    True
    """
    weight = getattr(module, name, None)
    if not isinstance(weight, Tensor):
        raise ArgumentError(f"orthogonal: {type(module).__name__} has no parameter {name!r}")
    if weight.ndim < 2:
        raise ShapeError(f"orthogonal: expected matrices, got a parameter of shape {weight.shape}")
    if orthogonal_map is None:
        orthogonal_map = "matrix_exp" if weight.shape[-2] == weight.shape[-1] else "householder"
    chosen = choice("orthogonal", "orthogonal_map", orthogonal_map, MAPS)
    trivialized = flag("orthogonal", "use_trivialization", use_trivialization)
    register_parametrization(module, name, _Orthogonal(chosen, trivialized), unsafe=True)
    return module


class _NoInverse(ArgumentError, NotImplementedError):
    pass


class _Orthogonal(Module):
    base: Any

    def __init__(self, orthogonal_map: str, trivialized: bool) -> None:
        super().__init__()
        self.orthogonal_map, self.trivialized = orthogonal_map, trivialized
        if trivialized:
            self.register_buffer("base", None)

    def forward(self, x: Any) -> Any:
        wide = x.shape[-2] < x.shape[-1]
        x = x.mT if wide else x
        q = _reflections(x) if self.orthogonal_map == "householder" else _rotation(x, self.orthogonal_map)
        q = Tensor(self.base) @ q if self.trivialized else q
        return q.mT if wide else q

    def right_inverse(self, weight: Any) -> Any:
        """What is mapped to the orthonormal matrix of the weight's QR factorisation, with `base` next to it."""
        value = weight.detach().numpy()
        wide = value.shape[-2] < value.shape[-1]
        q = value.swapaxes(-1, -2) if wide else value
        n, k = q.shape[-2:]
        if self.trivialized:
            if n > k:
                filling = ops.randn(*q.shape[:-1], n - k).numpy().astype(q.dtype)
                q = np.concatenate([q, filling], -1)
            self.base = (q.copy() if _is_orthogonal(q) else _orthogonalised(q)).view(Values)
            start = np.zeros_like(value)
            start[..., range(k), range(k)] = -1
            return Tensor(start)
        if self.orthogonal_map != "householder":
            raise _NoInverse(
                f"orthogonal: nothing can be assigned to a parameter by {self.orthogonal_map} with "
                "use_trivialization=False"
            )
        raw, tau = (np.array(part) for part in np.linalg.qr(q, "raw"))
        x = raw.swapaxes(-1, -2).copy()
        diagonal = np.sign(x[..., range(k), range(k)])
        x[..., range(k), range(k)] = np.where(tau[..., :k] == 0, -diagonal, diagonal)
        return Tensor(x.swapaxes(-1, -2).copy() if wide else x)


def _rotation(x: Any, by: str) -> Any:
    """The first K columns of the rotation by the skew matrix that has the lower triangle of x (..., N, K)."""
    n, k = x.shape[-2:]
    x = x.tril()
    if n > k:
        x = ops.cat([x, Tensor(np.zeros((*x.shape[:-1], n - k), x.dtype))], -1)
    a = x - x.mT
    if by == "matrix_exp":
        return ops.matrix_exp(a)[..., :k]
    one = Tensor(np.eye(n, dtype=a.dtype))
    return Solve.apply(one - a * 0.5, one + a * 0.5)[..., :k]


def _reflections(x: Any) -> Any:
    """The first K columns of the product of the reflections whose vectors lie below the diagonal of x (..., N, K), each
    with 1 on it; times the signs on the diagonal, through which no gradient passes."""
    below = x.tril(-1)
    q = reflected(below, 2 / (1 + (below * below).sum(-2)))
    return q * Tensor(np.trunc(np.diagonal(x.detach().numpy(), 0, -2, -1))[..., None, :].astype(x.dtype))


def _is_orthogonal(q: Array) -> bool:
    n, k = q.shape[-2:]
    return np.allclose(q.swapaxes(-1, -2) @ q, np.eye(k), rtol=1e-5, atol=10 * n * float(np.finfo(q.dtype).eps))


def _orthogonalised(a: Array) -> Array:
    """Q of a = QR with a positive diagonal of R."""
    q, r = np.linalg.qr(a)
    result: Array = q * np.sign(np.diagonal(r, 0, -2, -1))[..., None, :]
    return result
