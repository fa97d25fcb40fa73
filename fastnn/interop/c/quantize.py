"""Weights of eight bits, with a scale for each channel, calibrated on data."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnn.data import Dataset
from fastnn.data.about import About, about
from fastnn.data.frames import as_labels, as_samples, is_frame
from fastnn.errors import ArgumentError, ShapeError
from fastnn.interop.c.fold import Folded, Weights, evaluate, run
from fastnn.ops.norms import on_scale
from fastnn.plan.trace import Graph, Operator
from fastnn.tensors import Array
from fastnn.train.evaluate import input_for
from fastnn.train.tally import classes_found

__all__ = ["Quantized", "quantize"]

CALIBRATION = 256  # samples that scales and biases are fitted to
CLIPPED = (0.6, 0.7, 0.8, 0.9, 1.0)  # the largest weight that is not cut, as a share of the largest one
BATCH = 256


@dataclass(frozen=True)
class Quantized:
    """What weights of eight bits cost, on the data given.

    Attributes:
        samples: how many these were.
        before, after: the accuracy of the model and of the quantized one; None without labels.
        same: the share of samples whose class is the same; None where outputs are values.
        error: the largest difference of an output, as a share of the largest output.
    """

    samples: int
    before: float | None
    after: float | None
    same: float | None
    error: float

    def __str__(self) -> str:
        if self.same is None:
            return f"int8: at most {100 * self.error:.2f} % of the largest output away on {self.samples:,} samples"
        cost = f"the same class for {100 * self.same:.2f} % of {self.samples:,} samples"
        if self.before is None or self.after is None:
            return f"int8: {cost}"
        lost = f"accuracy {100 * self.after:.2f} %, {100 * (self.after - self.before):+.2f} % against float"
        return f"int8: {lost}, {cost}"


def quantize(trace: Callable[[int], Graph], folded: Folded, model: Any, data: Any, test: Any) -> Quantized:
    """Quantize `folded` by `data`, and measure by `test`; `trace(n)` gives the model's graph for n samples."""
    shape, known, to_input = trace(1).x.shape[1:], about(model), input_for(model)
    some = _samples(data, shape, to_input, known)[0][:CALIBRATION]
    x, labels = _samples(test, shape, to_input, known)
    values = known is not None and known.outputs == "values"
    trace = functools.cache(trace)

    def outputs() -> Array:
        batches = (x[start : start + BATCH] for start in range(0, len(x), BATCH))
        return np.concatenate([run(trace(len(batch)), folded, batch) for batch in batches]).reshape(len(x), -1)

    before = outputs()
    fitted: dict[int, Weights] = {}

    def fit(i: int, op: Operator, inputs: Array, expected: Array) -> None:
        fitted[i] = _fitted(op, folded.weights[i], inputs, expected)

    run(trace(len(some)), folded, some, fit)
    folded.weights.update(fitted)
    after = outputs()
    was, became = (None if labels is None or values else _share(labels, y) for y in (before, after))
    error = float(abs(after - before).max() / (abs(before).max() or 1))
    same = None if values else _share(classes_found(before, None), after)
    return Quantized(len(x), was, became, same, error)


def _share(classes: Array, outputs: Array) -> float:
    """Of outputs that say these classes."""
    return float((classes_found(outputs, None) == classes).mean())


def _fitted(op: Operator, weights: Weights, x: Array, expected: Array) -> Weights:
    """The scales that come nearest to the outputs expected, channel by channel, and the bias that keeps their mean."""
    weight, bias = weights.weight, weights.bias
    channels = (-1, *[1] * (weight.ndim - 1))
    most = np.maximum(abs(weight.reshape(len(weight), -1)).max(1), 1e-30)
    axes = tuple(d for d in range(expected.ndim) if d != 1)
    best = np.full(len(weight), np.inf)
    kept, scale, shift = np.zeros(weight.shape, np.int8), np.ones(len(weight), np.float32), np.zeros(len(weight))
    for share in CLIPPED:
        scales = (share * most / 127).astype(np.float32)
        rounded = np.clip(np.rint(weight / scales.reshape(channels)), -127, 127).astype(np.int8)
        missing = expected - evaluate(op, [x, rounded * scales.reshape(channels), bias])
        mean = missing.mean(axes, dtype=np.float64)
        error = (missing.astype(np.float64) ** 2).mean(axes) - mean**2
        better = error < best
        best[better], kept[better] = error[better], rounded[better]
        scale[better], shift[better] = scales[better], mean[better]
    corrected = (shift if bias is None else bias + shift).astype(np.float32)
    return Weights(kept * scale.reshape(channels), corrected, (kept, scale))


def _samples(
    data: Any, shape: tuple[int, ...], to_input: Callable[[Any], Any], known: About | None
) -> tuple[Array, Array | None]:
    """Samples as the model is given them in float32, and labels where the data have some: columns and names of classes
    are those of the training, which `known` is about."""
    labels = None
    if isinstance(data, Dataset):
        data, labels = data.images, data.labels
    elif isinstance(data, tuple):
        if len(data) != 2:
            raise ArgumentError(f"export_c: expected int8=(samples, labels), got {len(data)} arrays")
        data, (labels, _) = data[0], as_labels(data[1], () if known is None else known.classes)
    x, _ = as_samples(data, known.columns if known is not None and is_frame(data) else ())
    if x.shape[1:] != shape or not len(x):
        raise ShapeError(f"export_c: expected samples (N, {', '.join(map(str, shape))}) for int8, got {x.shape}")
    if labels is not None and len(labels) != len(x):
        raise ShapeError(f"export_c: expected {len(x)} labels for int8, got {len(labels)}")
    if labels is not None and (labels.ndim != 1 or labels.dtype.kind not in "iu"):  # no classes
        labels = None
    return on_scale(to_input(x), np.dtype(np.float32)), labels
