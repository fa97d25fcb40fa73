"""PyTorch's torch.distributions.utils: what distributions of people's own are written with."""

from __future__ import annotations

from functools import cached_property as lazy_property
from typing import Any

import numpy as np

from fastnn import ops
from fastnn.distributions.base import of_one_type, parameters
from fastnn.habits import no_such_name
from fastnn.tensors import Tensor

__all__ = ["broadcast_all", "clamp_probs", "lazy_property", "logits_to_probs", "probs_to_logits"]


def broadcast_all(*values: Any) -> tuple[Tensor, ...]:
    """Numbers and tensors as tensors of one floating type and one shape.

    >>> from fastnn.distributions.utils import broadcast_all
    >>> broadcast_all([1.0, 2.0], 0.5)
    (Tensor([1., 2.]), Tensor([0.5, 0.5]))
    """
    return parameters("broadcast_all", *values)


def clamp_probs(probs: Any) -> Tensor:
    """Probabilities that keep the type's epsilon away from 0 and 1."""
    (found,) = of_one_type(probs)
    smallest = float(np.finfo(found.dtype).eps)
    return found.clamp(smallest, 1 - smallest)


def logits_to_probs(logits: Any, is_binary: bool = False) -> Tensor:
    """Probabilities of K classes (..., K), or with `is_binary` of single events, from logits."""
    (found,) = of_one_type(logits)
    return ops.sigmoid(found) if is_binary else ops.softmax(found, -1)


def probs_to_logits(probs: Any, is_binary: bool = False) -> Tensor:
    """The logarithms of probabilities, or with `is_binary` those of p / (1 - p); 0 and 1 count as close to them."""
    found = clamp_probs(probs)
    return found.log() - (-found).log1p() if is_binary else found.log()


def __getattr__(name: str) -> Any:
    raise no_such_name("fastnn.distributions.utils", name)
