"""What values a parameter or a sample may have: ``Normal.arg_constraints``, ``distribution.support``.

A constraint's `check` tells for each of the batch whether a value is allowed; `event_dim` counts the last dimensions
that are one value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fastnn.arrays import numbers
from fastnn.checks import shown, whole
from fastnn.errors import ArgumentError, ShapeError
from fastnn.tensors import Tensor

__all__ = [
    "Constraint",
    "boolean",
    "greater_than_eq",
    "half_open_interval",
    "independent",
    "integer_interval",
    "interval",
    "lower_cholesky",
    "multinomial",
    "nonnegative",
    "nonnegative_integer",
    "one_hot",
    "positive",
    "positive_definite",
    "real",
    "real_vector",
    "simplex",
    "unit_interval",
]


class Constraint:
    """Allowed values: what an error says of them, which arrays `holds` for, and how many dimensions one value has.

    >>> from fastnn.distributions import constraints
    >>> constraints.positive.check([1.0, -1.0]).tolist()
    [True, False]
    """

    def __init__(self, words: str, holds: Callable[[Any], Any], event_dim: int = 0, is_discrete: bool = False) -> None:
        self.words, self.holds, self.event_dim, self.is_discrete = words, holds, event_dim, is_discrete

    def check(self, value: Any) -> Tensor:
        """True or False for each of the batch. DTypeError for no numbers, ShapeError for what is no such value."""
        array = numbers("check", value)
        try:
            return Tensor(np.asarray(self.holds(array)))
        except ValueError:  # NumPy's: too few dimensions, none that broadcast with the bounds, no square
            raise ShapeError(f"check: expected values {self.words}, got an array of shape {array.shape}") from None

    def __repr__(self) -> str:
        return f"Constraint({self.words})"


Constraints = Mapping[str, Constraint]  # by the names of a distribution's tensors


def interval(lower_bound: Any, upper_bound: Any) -> Constraint:
    """From the one to the other, both included."""
    low, high = numbers("interval", lower_bound), numbers("interval", upper_bound)
    return Constraint(f"from {_said(low)} to {_said(high)}", lambda x: (x >= low) & (x <= high))


def greater_than_eq(lower_bound: Any) -> Constraint:
    """From the bound on."""
    low = numbers("greater_than_eq", lower_bound)
    return Constraint(f"from {_said(low)} on", lambda x: x >= low)


def half_open_interval(lower_bound: Any, upper_bound: Any) -> Constraint:
    """From the one on, and below the other."""
    low, high = numbers("half_open_interval", lower_bound), numbers("half_open_interval", upper_bound)
    return Constraint(f"from {_said(low)} on, below {_said(high)}", lambda x: (x >= low) & (x < high))


def integer_interval(lower_bound: Any, upper_bound: Any) -> Constraint:
    """Whole numbers from the one to the other."""
    low, high = numbers("integer_interval", lower_bound), numbers("integer_interval", upper_bound)
    return Constraint(
        f"as a whole number from {_said(low)} to {_said(high)}",
        lambda x: (x == np.rint(x)) & (x >= low) & (x <= high),
        is_discrete=True,
    )


def _said(bound: Any) -> str:
    return f"{bound.flat[0]:g}" if bound.size == 1 else "the lower bounds"


def independent(base_constraint: Constraint, reinterpreted_batch_ndims: int) -> Constraint:
    """All along the last dimensions, as one value."""
    if not isinstance(base_constraint, Constraint):
        raise ArgumentError(f"independent: expected a constraint, got {shown(base_constraint)}")
    count = whole("independent", "reinterpreted_batch_ndims", reinterpreted_batch_ndims, 0)
    return Constraint(
        base_constraint.words,
        lambda x: (
            np.all(base_constraint.check(x)._data, tuple(range(-count, 0))) if count else base_constraint.check(x)
        ),
        base_constraint.event_dim + count,
        base_constraint.is_discrete,
    )


def multinomial(upper_bound: int) -> Constraint:
    """Vectors of counts that sum to it."""
    upper_bound = whole("multinomial", "upper_bound", upper_bound, 0)
    return Constraint(
        f"as counts that sum to {upper_bound}",
        lambda x: ((x == np.rint(x)) & (x >= 0)).all(-1) & (x.sum(-1) == upper_bound),
        1,
        True,
    )


def _is_simplex(x: Any) -> Any:
    return (x >= 0).all(-1) & (np.abs(x.sum(-1) - 1) < 1e-6)


def _is_lower_cholesky(x: Any) -> Any:
    return (np.triu(x, 1) == 0).all((-2, -1)) & (np.diagonal(x, 0, -2, -1) > 0).all(-1)


def _is_positive_definite(x: Any) -> Any:
    with np.errstate(invalid="ignore"):
        symmetric = np.isclose(x, np.swapaxes(x, -1, -2), atol=1e-6).all((-2, -1))
        return symmetric & (np.linalg.eigvalsh(np.where(symmetric[..., None, None], x, 0)) > 0).all(-1)


real = Constraint("without NaN", lambda x: x == x)
positive = Constraint("above 0", lambda x: x > 0)
nonnegative = Constraint("of at least 0", lambda x: x >= 0)
unit_interval = Constraint("of at least 0 and at most 1", lambda x: (x >= 0) & (x <= 1))
boolean = Constraint("as 0 or 1", lambda x: (x == 0) | (x == 1), is_discrete=True)
nonnegative_integer = Constraint("as a whole number of at least 0", lambda x: (x == np.rint(x)) & (x >= 0), 0, True)
real_vector = Constraint("without NaN", lambda x: (x == x).all(-1), 1)
simplex = Constraint("of at least 0 with the sum 1", _is_simplex, 1)
one_hot = Constraint("as one 1 among zeros", lambda x: ((x == 0) | (x == 1)).all(-1) & (x.sum(-1) == 1), 1, True)
lower_cholesky = Constraint("as a lower triangular matrix with a diagonal above 0", _is_lower_cholesky, 2)
positive_definite = Constraint("as a symmetric, positive definite matrix", _is_positive_definite, 2)
