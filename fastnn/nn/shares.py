"""The weight of a batch among others."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.nn.loss import CrossEntropyLoss, NLLLoss
from fastnn.trees import count_of

__all__ = ["weight_of"]


def weight_of(loss: Any, labels: Any) -> float:
    """The weight of a batch in a mean over batches: the divisor of its own mean loss."""
    if getattr(loss, "reduction", "mean") == "sum":
        return 1.0
    if isinstance(loss, (CrossEntropyLoss, NLLLoss)) and isinstance(labels, np.ndarray) and labels.dtype.kind in "iu":
        weight, labels = getattr(loss, "weight", None), labels[labels != getattr(loss, "ignore_index", None)]
        return float(labels.size if weight is None else np.asarray(weight)[labels].sum(dtype=np.float64))
    return float(count_of(labels))
