"""The loss of sequences whose labels come in order, at places that nobody knows: connectionist temporal classification.

Graves et al. 2006, https://www.cs.toronto.edu/~graves/icml_2006.pdf; sums over paths are kept as logarithms.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.checks import flag, whole
from fastnn.errors import DTypeError, LabelError, ShapeError
from fastnn.ops.common import floating, loss_target
from fastnn.ops.loss import check_loss
from fastnn.tensors import Array, Context, Function, Tensor

__all__ = ["ctc_loss"]


class CTC(Function):
    """log_probs (T, N, C), targets (N, S) or (sum of lengths,), lengths of inputs and targets (N,) -> (N,).

    Saves the gradient, PyTorch's: for probabilities of a log_softmax, whose own backward makes exp(log_probs) nothing.
    Attributes: blank, zero_infinity.
    """

    @staticmethod
    def forward(
        ctx: Context,
        log_probs: Array,
        targets: Array,
        input_lengths: Array,
        target_lengths: Array,
        *,
        blank: int,
        zero_infinity: bool,
    ) -> Array:
        states, leaps = states_of(targets, input_lengths, target_lengths, log_probs.shape, blank)
        rows = np.arange(len(states))
        emitted = log_probs[:, rows[:, None], states]
        before = _before(emitted, leaps)
        last = np.stack([2 * target_lengths, np.maximum(2 * target_lengths - 1, 0)], 1)
        ends = np.take_along_axis(before[np.maximum(input_lengths - 1, 0), rows], last, 1)
        ends[(target_lengths == 0), 1] = -np.inf  # the one state of no label is not two
        losses: Array = -np.logaddexp(ends[:, 0], ends[:, 1])
        losses[input_lengths == 0] = np.where(target_lengths[input_lengths == 0] == 0, 0, np.inf)
        if ctx.needs_input_grad[0]:
            behind = _behind(emitted, leaps, last, input_lengths)
            ctx.save_for_backward(_gradient(log_probs, before, behind, losses, states, input_lengths, zero_infinity))
        return np.where(np.isinf(losses), 0, losses).astype(losses.dtype) if zero_infinity else losses

    @staticmethod
    def backward(ctx: Context, grad: Array) -> tuple[Array, None, None, None]:
        (saved,) = ctx.saved_tensors
        return saved * grad[:, np.newaxis], None, None, None


def states_of(
    targets: Array, input_lengths: Array, target_lengths: Array, shape: Any, blank: int
) -> tuple[Array, Array]:
    """(N, 2·S + 1) each: a row's labels with a blank before and after each, and blanks behind; and whether a state
    follows the last but one, as a label does that is not the same again. Raises for what cannot be."""
    steps, count, classes = shape
    longest = int(target_lengths.max(initial=0))
    if input_lengths.size and not 0 <= input_lengths.min() <= input_lengths.max() <= steps:
        raise ShapeError(f"ctc_loss: expected input_lengths from 0 to {steps}, got {input_lengths.tolist()}")
    most = targets.shape[1] if targets.ndim == 2 else targets.size
    if target_lengths.size and (target_lengths.min() < 0 or longest > most):
        raise ShapeError(f"ctc_loss: expected target_lengths from 0 to {most}, got {target_lengths.tolist()}")
    inside = np.arange(longest) < target_lengths[:, None]
    if targets.ndim == 1 and inside.sum() != targets.size:
        raise ShapeError(f"ctc_loss: expected {inside.sum()} targets, as target_lengths say, got {targets.size}")
    given = targets[:, :longest][inside] if targets.ndim == 2 else targets
    if given.size and not 0 <= given.min() <= given.max() < classes:
        raise LabelError(f"ctc_loss: expected labels from 0 to {classes - 1}, got {given.min()} to {given.max()}")
    labels = np.full((count, longest), blank)
    labels[inside] = given
    states = np.full((count, 2 * longest + 1), blank)
    states[:, 1::2] = labels
    leaps = np.zeros(states.shape, bool)
    leaps[:, 2:] = (states[:, 2:] != blank) & (states[:, 2:] != states[:, :-2])
    return states, leaps


def _shifted(x: Array, by: int) -> Array:
    moved = np.full_like(x, -np.inf)
    if by > 0:
        moved[:, by:] = x[:, :-by]
    else:
        moved[:, :by] = x[:, -by:]
    return moved


def _before(emitted: Array, leaps: Array) -> Array:
    """α (T, N, 2·S + 1): the logarithm of all paths up to a step, with it, that end in a state; equation 6."""
    bar = np.where(leaps, 0, -np.inf).astype(emitted.dtype)
    found = np.full_like(emitted, -np.inf)
    found[:1, :, :2] = emitted[:1, :, :2]
    for t in range(1, len(emitted)):
        a = found[t - 1]
        found[t] = np.logaddexp(np.logaddexp(a, _shifted(a, 1)), _shifted(a, 2) + bar) + emitted[t]
    return found


def _behind(emitted: Array, leaps: Array, last: Array, input_lengths: Array) -> Array:
    """β (T, N, 2·S + 1): the logarithm of all paths from behind a step on, from a state to the end; equation 9."""
    bar = np.where(leaps, 0, -np.inf).astype(emitted.dtype)
    found = np.full_like(emitted, -np.inf)
    ends = np.full_like(emitted[0], -np.inf) if len(emitted) else emitted
    np.put_along_axis(ends, last, 0, 1)
    for t in reversed(range(len(emitted))):
        if t + 1 < len(emitted):
            b = found[t + 1] + emitted[t + 1]
            found[t] = np.logaddexp(np.logaddexp(b, _shifted(b, -1)), _shifted(b + bar, -2))
        found[t][t >= input_lengths] = -np.inf
        found[t][t == input_lengths - 1] = ends[t == input_lengths - 1]
    return found


def _gradient(
    log_probs: Array, before: Array, behind: Array, losses: Array, states: Array, lengths: Array, zero_infinity: bool
) -> Array:
    """exp(log_probs) less the share of the paths that go through a label at a step; equation 16."""
    lost = np.isinf(losses)
    shares = np.exp(before + behind + np.where(lost, 0, losses)[:, None])
    is_label = (states[..., None] == np.arange(log_probs.shape[2])).astype(log_probs.dtype)
    through = (shares.transpose(1, 0, 2) @ is_label).transpose(1, 0, 2)
    grad: Array = np.exp(log_probs) - through
    grad[np.arange(len(log_probs))[:, None] >= lengths] = 0
    grad[:, lost] = 0 if zero_infinity else np.nan
    return grad


def ctc_loss(
    log_probs: Any,
    targets: Any,
    input_lengths: Any,
    target_lengths: Any,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Tensor:
    """-log of the probability that the sequences of labels come out of the steps, blanks and repetitions left away.

    Args:
        log_probs: (T, N, C) or (T, C), logarithms of probabilities, as log_softmax gives them. The gradient is
            PyTorch's, which is right behind a log_softmax.
        targets: whole numbers (N, S), with anything behind each row's length, or all rows' one after the other.
        input_lengths, target_lengths: (N,), or a number each for (T, C); how many steps and labels count.
        blank: the class that stands for no label.
        reduction: "mean" (of losses by target lengths), "sum" or "none".
        zero_infinity: whether rows that have too few steps count as 0, with no gradient, and not as infinity.

    Raises ShapeError for lengths that do not fit, LabelError for labels out of range, DTypeError for others than whole.

    >>> import fastnn as fnn
    >>> steps = fnn.zeros(2, 1, 3).log_softmax(2)
    >>> loss = fnn.ops.ctc_loss(steps, [[1]], [2], [1])  # 11, 01 or 10: three of nine paths
    >>> round(loss.item(), 4)
    1.0986
    """
    check_loss("ctc_loss", reduction, None, None)
    x, aims = floating(log_probs), loss_target("ctc_loss", targets)
    lengths, wanted = (loss_target("ctc_loss", each, "lengths") for each in (input_lengths, target_lengths))
    if any(each.dtype.kind not in "iu" for each in (aims, lengths, wanted)):
        raise DTypeError(f"ctc_loss: expected whole numbers, got {aims.dtype}, {lengths.dtype} and {wanted.dtype}")
    batched = x.ndim == 3
    if x.ndim == 2:
        x, lengths, wanted = x.unsqueeze(1), lengths.reshape(1), wanted.reshape(1)
    if x.ndim != 3 or not x.shape[0] or {lengths.shape, wanted.shape} != {x.shape[1:2]} or aims.ndim not in (1, 2):
        raise ShapeError(
            f"ctc_loss: expected log_probs (T, N, C), targets (N, S) or of one dimension, and lengths (N,), got "
            f"{x.shape}, {aims.shape}, {lengths.shape} and {wanted.shape}"
        )
    if aims.ndim == 2 and aims.shape[0] != x.shape[1]:
        raise ShapeError(f"ctc_loss: expected targets of {x.shape[1]} rows, got {aims.shape}")
    blank = whole("ctc_loss", "blank", blank, 0, x.shape[2] - 1)
    zero = flag("ctc_loss", "zero_infinity", zero_infinity)
    losses = CTC.apply(x, *(each.astype(np.int64) for each in (aims, lengths, wanted)), blank=blank, zero_infinity=zero)
    if reduction == "mean":
        return (losses / wanted.astype(x.dtype).clamp(min=1)).mean()
    if reduction == "sum":
        return losses.sum()
    return losses if batched else losses.squeeze(0)
