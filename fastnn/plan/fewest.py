"""How few images a model can take at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn import random
from fastnn.errors import ArgumentError
from fastnn.nn import BatchNorm1d, BatchNorm2d
from fastnn.nn.arguments import spread
from fastnn.plan.memory import Buffers
from fastnn.plan.steady import undone
from fastnn.tape import no_grad
from fastnn.tensors import Tensor
from fastnn.trees import flatten, map_arrays, take

__all__ = ["fewest_for", "fewest_in_training", "trial"]


def fewest_for(forward: Callable[[Any], Any], images: Any) -> int:
    """2 where `forward` fails for one image, or gives other than finite numbers, and does not for two; else 1.

    So do statistics of a batch: batch norm raises, and the standard deviation of one number is not a number. images is
    (2, ...) or more, or a tree of such arrays.
    """

    def works(n: int) -> bool:
        try:
            with np.errstate(all="ignore"):
                outputs, _ = flatten(forward(take(images, slice(n))))
                return all(np.isfinite(np.asarray(output)).all() for output in outputs)
        except Exception:  # whatever a user's forward raises for it
            return False

    return 1 if works(1) or not works(2) else 2


def fewest_in_training(model: Any, images: Callable[[], Any]) -> int:
    """As `fewest_for`, in the model's present mode; `images` is called only where statistics of a batch may be used."""
    if all(type(m).__module__.startswith("fastnn.") and not isinstance(m, _NORMS) for m in model.modules()):
        return 1
    return fewest_for(lambda batch: trial(model, batch), images())


def trial(model: Any, images: Any) -> Any:
    """The model's outputs for these images; its buffers, what else its code reads, and random numbers are as before."""
    buffers, state = Buffers(model), random.get_state()
    buffers.keep()
    try:
        with undone(model), no_grad():
            args, kwargs = spread(model, map_arrays(np.copy, images))
            return map_arrays(_array_of, model(*args, **kwargs))
    finally:
        buffers.put_back()
        random.set_state(state)


def _array_of(output: Any) -> Any:
    if not isinstance(output, Tensor):
        raise ArgumentError(f"expected a model that gives tensors, got {type(output).__name__} from it")
    return output.numpy()


_NORMS = (BatchNorm1d, BatchNorm2d)
