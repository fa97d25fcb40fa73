"""Forms of losses, for models that return them."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.interop.onnx.batch import Affine, Step
from fastnn.interop.onnx.forms.registry import form
from fastnn.interop.onnx.writer import Inexpressible, Writer
from fastnn.ops import loss

__all__: list[str] = []


def _reduced(to: Writer, losses: str, reduction: str) -> str:
    kinds = {"mean": "ReduceMean", "sum": "ReduceSum"}
    return str(to(kinds[reduction], losses, keepdims=0)) if reduction in kinds else losses


@form(loss.MSE)
def _mse(to: Writer, op: Step, prediction: str, target: str, *, reduction: str) -> str:
    away = to("Sub", prediction, target)
    return _reduced(to, to("Mul", away, away), reduction)


@form(loss.Huber, loss.SmoothL1)
def _two_pieces(to: Writer, op: Step, prediction: str, target: str, *, reduction: str, **knee: float) -> str:
    """away²/2 up to the knee, a line from there; of SmoothL1 both divided by the knee."""
    (at,) = knee.values()
    half, edge, middle = (to.constant(number, op.output.dtype) for number in (0.5, at, at / 2))
    away = to("Abs", to("Sub", prediction, target))
    line = to("Sub", away, middle)
    square = to("Mul", to("Mul", away, away), half)
    if op.function is loss.Huber:
        line = to("Mul", line, edge)
    elif at:
        square = to("Div", square, edge)
    return _reduced(to, to("Where", to("Less", away, edge), square, line), reduction)


@form(loss.BCE)
def _bce(to: Writer, op: Step, p: str, target: str, *, reduction: str) -> str:
    one, least = (to.constant(number, op.output.dtype) for number in (1, -100))
    logs = [to("Max", to("Log", each), least) for each in (p, to("Sub", one, p))]
    yes, no = (to("Mul", a, b) for a, b in zip((target, to("Sub", target, one)), logs, strict=True))
    return _reduced(to, to("Sub", no, yes), reduction)


@form(loss.BCEWithLogits)
def _bce_with_logits(to: Writer, op: Step, logits: str, target: str, *, reduction: str) -> str:
    return _reduced(to, to("Sub", to("Softplus", logits), to("Mul", logits, target)), reduction)


def _of_labels(to: Writer, log_probs: str, target: str) -> str:
    column = to.constant(np.array([1]))
    found = to("GatherElements", log_probs, to("Unsqueeze", target, column), axis=1)
    return str(to("Neg", to("Squeeze", found, column)))


@form(loss.NLL)
def _nll(to: Writer, op: Step, log_probs: str, target: str, *, reduction: str) -> str:
    return _reduced(to, _of_labels(to, log_probs, target), reduction)


@form(loss.CrossEntropy)
def _cross_entropy(to: Writer, op: Step, logits: str, target: str, *, label_smoothing: float, reduction: str) -> str:
    log_probs, column = to("LogSoftmax", logits, axis=1), to.constant(np.array([1]))
    classes, kind = op.inputs[0].shape[1], op.inputs[1].dtype.kind
    if isinstance(classes, Affine):
        raise Inexpressible("the number of classes is that of samples")

    def summed(terms: Any) -> str:
        return str(to("Neg", to("ReduceSum", terms, column, keepdims=0)))

    losses = summed(to("Mul", target, log_probs)) if kind == "f" else _of_labels(to, log_probs, target)
    if label_smoothing:
        kept, spread = (to.constant(n, op.output.dtype) for n in (1 - label_smoothing, label_smoothing / classes))
        losses = to("Add", to("Mul", losses, kept), to("Mul", summed(log_probs), spread))
    return _reduced(to, losses, reduction)
