"""Normal vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from fastnn.errors import ArgumentError, ShapeError
from fastnn.ops.draws import randn_like
from fastnn.ops.joining import stack
from fastnn.ops.matrices import cholesky
from fastnn.tensors import Tensor

from . import constraints
from .base import Distribution, expanded, like, of_one_type, shape_of
from .constraints import Constraints

__all__ = ["MultivariateNormal", "log_det", "solved"]


class MultivariateNormal(Distribution):
    """Normal vectors of mean `loc` (..., D), with one of three matrices (..., D, D): the covariance, its inverse
    `precision_matrix`, or `scale_tril`, a lower triangular L with L·Lᵀ as covariance, which costs least.

    Gradients flow to whichever it is. Raises ArgumentError for none of them or several, ShapeError for shapes that do
    not fit.

    >>> from fastnn.distributions import MultivariateNormal
    >>> MultivariateNormal([0.0, 0.0], [[1.0, 0.0], [0.0, 1.0]]).log_prob([0.0, 0.0]).item()  # -log(2π)
    -1.837877...
    """

    arg_constraints: ClassVar[Constraints] = {
        "loc": constraints.real_vector,
        "covariance_matrix": constraints.positive_definite,
        "precision_matrix": constraints.positive_definite,
        "scale_tril": constraints.lower_cholesky,
    }
    support = constraints.real_vector
    has_rsample = True

    def __init__(
        self,
        loc: Any,
        covariance_matrix: Any = None,
        precision_matrix: Any = None,
        scale_tril: Any = None,
        validate_args: bool | None = None,
    ) -> None:
        given = {
            "covariance_matrix": covariance_matrix, "precision_matrix": precision_matrix, "scale_tril": scale_tril
        }  # fmt: skip
        given = {name: x for name, x in given.items() if x is not None}
        if len(given) != 1:
            raise ArgumentError(
                "MultivariateNormal: expected one of covariance_matrix, precision_matrix and scale_tril, got "
                + (" and ".join(given) or "none")
            )
        ((name, x),) = given.items()
        mean, matrix = of_one_type(loc, x)
        if not mean.ndim or matrix.ndim < 2 or {*matrix.shape[-2:], mean.shape[-1]} != {matrix.shape[-1]}:
            raise ShapeError(
                f"MultivariateNormal: expected loc (..., D) and {name} (..., D, D), got {mean.shape} and {matrix.shape}"
            )
        batch, size = np.broadcast_shapes(mean.shape[:-1], matrix.shape[:-2]), mean.shape[-1]
        self.loc, matrix = expanded(mean, (*batch, size)), expanded(matrix, (*batch, size, size))
        setattr(self, f"_{name}" if name != "scale_tril" else name, matrix)
        if validate_args is not False and self._checks():
            constraint = self.arg_constraints[name]
            if not constraint.check(matrix)._data.all():
                raise ArgumentError(f"MultivariateNormal: expected {name} {constraint.words}")
        if name == "covariance_matrix":
            self.scale_tril = cholesky(matrix)
        elif name == "precision_matrix":
            # L⁻ᵀ·L⁻¹ of the matrix with rows and columns in reverse order is upper times lower (as PyTorch has it).
            inverse = cholesky(matrix.flip(-1, -2)).flip(-1, -2).transpose(-1, -2)
            self.scale_tril = solved(inverse, Tensor(np.broadcast_to(np.eye(size, dtype=mean.dtype), matrix.shape)))
        super().__init__(batch, (size,), validate_args)

    def __repr__(self) -> str:
        given = [name for name in self.arg_constraints if f"_{name}" in vars(self)] or ["scale_tril"]
        return f"{type(self).__name__}(loc: {self.loc.shape}, {given[0]}: {self.scale_tril.shape})"

    @property
    def covariance_matrix(self) -> Tensor:
        """L·Lᵀ."""
        return self.scale_tril @ self.scale_tril.transpose(-1, -2)

    @property
    def precision_matrix(self) -> Tensor:
        """The inverse of the covariance."""
        size = self.event_shape[0]
        eye = Tensor(np.broadcast_to(np.eye(size, dtype=self.loc.dtype), self.scale_tril.shape))
        inverse = solved(self.scale_tril, eye)
        return inverse.transpose(-1, -2) @ inverse

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        drawn = randn_like(like(self.loc, shape_of(sample_shape, self.batch_shape, self.event_shape)))
        return self.loc + (self.scale_tril * drawn.unsqueeze(-2)).sum(-1)

    def log_prob(self, value: Any) -> Tensor:
        z = solved(self.scale_tril, (self._value(value) - self.loc).unsqueeze(-1)).squeeze(-1)
        return -0.5 * ((z * z).sum(-1) + self.event_shape[0] * math.log(2 * math.pi)) - log_det(self.scale_tril)

    def entropy(self) -> Tensor:
        return 0.5 * self.event_shape[0] * (1 + math.log(2 * math.pi)) + log_det(self.scale_tril)

    @property
    def mean(self) -> Tensor:
        return self.loc

    mode = mean

    @property
    def variance(self) -> Tensor:
        return (self.scale_tril * self.scale_tril).sum(-1)


def log_det(tril: Tensor) -> Tensor:
    """The logarithm of the determinant of triangular matrices (..., D, D)."""
    return (tril * np.eye(tril.shape[-1], dtype=tril.dtype)).sum(-1).log().sum(-1)


def solved(tril: Tensor, right: Tensor) -> Tensor:
    """X of L·X = right, L (..., D, D) and right (..., D, K), row by row: forward substitution."""
    rows = []
    for i in range(tril.shape[-1]):
        row = right[..., i, :] / tril[..., i, i].unsqueeze(-1)
        right = right - tril[..., i].unsqueeze(-1) * row.unsqueeze(-2)
        rows.append(row)
    return stack(rows, -2)
