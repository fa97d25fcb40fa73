"""An epoch of compiled steps in one call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.checks import whole
from fastnn.errors import ArgumentError, ShapeError
from fastnn.interrupts import Interrupts
from fastnn.tensor import Array

__all__ = ["run_epoch"]


def run_epoch(
    step: Callable[[Array, Array], float],
    images: Array,
    labels: Array,
    permutation: Array | None,
    batch_size: int,
    scheduler: Any,
    progress: bool,
    summed: bool,
) -> float:
    """See `Step.run_epoch`; `step` takes whole batches, and its loss is a sum or a mean over them."""
    from tqdm import tqdm

    order = _checked(images, labels, permutation, batch_size)
    batch_size = min(batch_size, len(order))
    x = np.empty((batch_size, *images.shape[1:]), images.dtype)
    y = np.empty((batch_size, *labels.shape[1:]), labels.dtype)
    total = 0.0
    with (
        Interrupts() as interrupts,
        tqdm(total=len(order), unit="image", leave=False, disable=None if progress else True) as bar,
    ):
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            n = len(chosen)
            np.take(images, chosen, axis=0, out=x[:n], mode="clip")  # checked above; "raise" would buffer
            np.take(labels, chosen, axis=0, out=y[:n], mode="clip")
            total += step(x[:n], y[:n]) * (1 if summed else n)
            if scheduler is not None:
                scheduler.step()
            bar.update(n)
            interrupts.heed()
    return total / len(order)


def _checked(images: Array, labels: Array, permutation: Array | None, batch_size: int) -> Array:
    if images.ndim == 0 or images.shape[:1] != labels.shape[:1]:
        raise ShapeError(
            f"run_epoch: expected images (N, ...) and labels (N, ...), got {images.shape} and {labels.shape}"
        )
    whole("run_epoch", "batch_size", batch_size, 1)
    order = np.arange(len(images)) if permutation is None else np.asarray(permutation)
    if order.ndim != 1 or not len(order) or order.dtype.kind not in "iu":
        raise ArgumentError(f"run_epoch: expected a permutation of at least one index, got {order.dtype} {order.shape}")
    if order.min() < 0 or order.max() >= len(images):
        raise ArgumentError(
            f"run_epoch: expected indices from 0 to {len(images) - 1}, got {order.min()} to {order.max()}"
        )
    return order.astype(np.intp, copy=False)
