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
        weight, counts = getattr(loss, "weight", None), labels != getattr(loss, "ignore_index", None)
        if weight is None:
            return float(np.count_nonzero(counts))
        return float(np.asarray(weight)[labels[counts]].sum(dtype=np.float64))
    return float(count_of(labels))
