"""Losses that stand in the graph."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.interop.onnx.operators.elements import DTYPES
from fastnn.interop.onnx.operators.registry import Call, op, reads, tensor
from fastnn.tensors import Tensor


@reads("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss")
def likelihood(call: Call, x: Any, labels: Any, weight: Any = None) -> Any:
    """Of log-probabilities, or of logits, (N, C, ...) and labels (N, ...)."""
    x, labels = tensor(x), tensor(labels)
    logs = x if call.operator == "NegativeLogLikelihoodLoss" else op("log_softmax")(x, 1)
    ignored = call.get("ignore_index")
    counts = Tensor(np.ones((), x.dtype)) if ignored is None else (labels != ignored).astype(x.dtype)
    places = labels if ignored is None else op("where")(labels == ignored, np.zeros((), labels.dtype), labels)
    if weight is not None:
        counts = counts * tensor(weight)[places]
    losses = -op("gather")(logs, 1, places.unsqueeze(1)).squeeze(1) * counts
    kind = call.get("reduction", "mean")
    if kind == "sum":
        losses = losses.sum()
    elif kind == "mean":
        total = counts.expand(*labels.shape).sum() if counts.shape != labels.shape else counts.sum()
        losses = losses.sum() / total
    return (losses, logs) if call.outputs > 1 else losses


@reads("Bernoulli")
def bernoulli(call: Call, x: Any) -> Any:
    """1 with the probability that x says, else 0."""
    return op("bernoulli")(tensor(x)).astype(DTYPES.get(call.get("dtype", 0), x.dtype))


@reads("RandomNormalLike", "RandomUniformLike")
def random_like(call: Call, x: Any) -> Any:
    """Random numbers in the shape of x."""
    like = tensor(x)
    if call.operator == "RandomNormalLike":
        return op("randn_like")(like) * call.get("scale", 1.0) + call.get("mean", 0.0)
    low, high = call.get("low", 0.0), call.get("high", 1.0)
    return op("rand_like")(like) * (high - low) + low
