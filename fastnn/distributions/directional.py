"""The distribution of angles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from fastnn.ops.draws import VonMises as DrawVonMises
from fastnn.ops.elementwise import i0, i1
from fastnn.ops.joining import where
from fastnn.tape import no_grad
from fastnn.tensors import Tensor

from . import constraints
from .base import Distribution, expanded, parameters, shape_of
from .constraints import Constraints

__all__ = ["VonMises"]

_LARGE, _TERMS = 50.0, 11  # from here on so many terms of the asymptotic series are exact


def _log_bessel(x: Tensor) -> tuple[Tensor, Tensor]:
    """log I₀(x), which does not overflow, and its slope I₁(x)/I₀(x), for x above 0 (Abramowitz and Stegun, 9.7.1)."""
    large = x > _LARGE
    near, far = where(large, 1.0, x), where(large, x, _LARGE)
    sums = []
    for order in (0, 1):
        term = total = far * 0 + 1
        for k in range(1, _TERMS):
            term = term * ((2 * k - 1) ** 2 - 4 * order) / (8 * k * far)
            total = total + term
        sums.append(total)
    logarithm = where(large, far - (2 * math.pi * far).log() / 2 + sums[0].log(), i0(near).log())
    return logarithm, where(large, sums[1] / sums[0], i1(near) / i0(near))


class VonMises(Distribution):
    """exp(concentration · cos(x - loc)) / (2π·I₀(concentration)): angles around `loc`, from -π to π (von Mises 1918).

    `variance` is the circular one, 1 - I₁/I₀. Samples have no gradient, as in PyTorch.

    >>> from fastnn.distributions import VonMises
    >>> VonMises(0.0, 1.0).log_prob(0.0).item()
    -1.073...
    """

    arg_constraints: ClassVar[Constraints] = {"loc": constraints.real, "concentration": constraints.positive}
    support = constraints.real

    def __init__(self, loc: Any, concentration: Any, validate_args: bool | None = None) -> None:
        self.loc, self.concentration = parameters("VonMises", loc, concentration)
        super().__init__(self.loc.shape, (), validate_args)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        shape = shape_of(sample_shape, self.batch_shape)
        with no_grad():
            return DrawVonMises.apply(*(expanded(x.detach(), shape) for x in (self.loc, self.concentration)))

    def log_prob(self, value: Any) -> Tensor:
        away = self.concentration * (self._value(value) - self.loc).cos()
        return away - math.log(2 * math.pi) - _log_bessel(self.concentration)[0]

    @property
    def mean(self) -> Tensor:
        return self.loc

    mode = mean

    @property
    def variance(self) -> Tensor:
        return 1 - _log_bessel(self.concentration)[1]
