"""An epoch of compiled steps in one call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.arrays import aligned
from fastnn.checks import whole
from fastnn.console import bar
from fastnn.data.batches import number_of_batches
from fastnn.errors import ArgumentError, ShapeError
from fastnn.interrupts import Interrupts
from fastnn.tensors import Array
from fastnn.trees import flatten, take, unflatten

__all__ = ["run_epoch"]


def run_epoch(
    step: Callable[[Any, Any], float],
    flush: Callable[[], object],
    fewest: Callable[[Any], int],
    images: Any,
    labels: Any,
    permutation: Array | None,
    batch_size: int,
    scheduler: Any,
    progress: bool,
    weigh: Callable[[Any], float] | None,
) -> float:
    """See `Step.run_epoch`: images and labels are arrays, or trees of them.

    `step` takes whole batches; its loss is a mean over them, in which a batch's targets weigh what `weigh` says, or a
    sum (`weigh` None); `flush` comes last.

    `fewest` says how many images, 1 or 2, a batch must have; it is asked, with two of them, where a single one is left.
    """
    (inputs, inputs_of), (targets, targets_of) = flatten(images), flatten(labels)
    arrays = [*inputs, *targets]
    order = _checked(arrays, permutation)
    batch_size = min(whole("run_epoch", "batch_size", batch_size, 1), len(order))
    alone = len(order) % batch_size == 1 and len(order) > 1
    least = fewest(take(images, order[:2])) if alone else 1
    batches = number_of_batches(len(order), batch_size, least)
    last = len(order) - (batches - 1) * batch_size  # images in the last batch, which may be one more than the others
    held = [aligned((max(batch_size, last), *array.shape[1:]), array.dtype) for array in arrays]
    total = weights = 0.0
    with (
        Interrupts() as interrupts,
        bar(None if progress else False, total=len(order), unit="image", leave=False) as moving,
    ):
        for batch in range(batches):
            start, n = batch * batch_size, batch_size if batch < batches - 1 else last
            chosen = order[start : start + n]
            batch_of = [to[:n] for to in held]
            for array, to in zip(arrays, batch_of, strict=True):
                np.take(array, chosen, axis=0, out=to, mode="clip")  # checked above; "raise" would buffer
            x, y = unflatten(inputs_of, batch_of[: len(inputs)]), unflatten(targets_of, batch_of[len(inputs) :])
            weight = 1.0 if weigh is None else weigh(y)
            total, weights = total + step(x, y) * weight, weights + weight
            if batch == batches - 1:
                flush()  # before the schedule goes on: at the rate of its batches
            if scheduler is not None:
                scheduler.step()
            moving.update(n)
            interrupts.heed()
    interrupts.heed()  # what came since; from now on signals take their own course again
    return total / (len(order) if weigh is None else weights)


def _checked(arrays: list[Array], permutation: Array | None) -> Array:
    images = arrays[0]
    if images.ndim == 0 or any(array.shape[:1] != images.shape[:1] for array in arrays):
        raise ShapeError(
            "run_epoch: expected images (N, ...) and labels (N, ...), got "
            + " and ".join(str(array.shape) for array in arrays)
        )
    order = np.arange(len(images)) if permutation is None else np.asarray(permutation)
    if order.ndim != 1 or not len(order) or order.dtype.kind not in "iu":
        raise ArgumentError(f"run_epoch: expected a permutation of at least one index, got {order.dtype} {order.shape}")
    if order.min() < 0 or order.max() >= len(images):
        raise ArgumentError(
            f"run_epoch: expected indices from 0 to {len(images) - 1}, got {order.min()} to {order.max()}"
        )
    return order.astype(np.intp, copy=False)
