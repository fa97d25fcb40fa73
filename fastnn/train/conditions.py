"""Conditions on which the exact result of a training depends, besides its state; compared when a run is resumed."""

from __future__ import annotations

import hashlib
import re
import warnings
from typing import Any

import numpy as np

from fastnn import backends, config
from fastnn.checks import plain
from fastnn.trees import flatten

from .callbacks import Training

__all__ = ["ResumeWarning", "conditions", "fingerprint", "tell_differences"]

MOST_HASHED = 64 << 20  # bytes of an array; of larger ones, samples at even distances
SHOWN = 60  # letters of a value in a message

# Those that change the order of sums and no more; whatever else differs makes another training.
ROUNDING = ("instruction set", "kernels", "steps", "fastnn", "NumPy")


class ResumeWarning(UserWarning):
    """A training is resumed under conditions that differ from those it began under."""


def conditions(training: Training) -> dict[str, Any]:
    """Returns the conditions by name. The number of threads is not among them: results do not depend on it."""
    chosen = backends.describe()
    batches = training.batches
    return {
        "instruction set": chosen["isa"],
        "kernels": chosen["backend"],
        "steps": "compiled" if training.compile else "operator by operator",
        "fastnn": config.version(),
        "NumPy": np.__version__,
        "data": fingerprint(batches.images, batches.labels),
        "batch size": batches.batch_size,
        "order": "shuffled" if batches.shuffle else "as it is",
        "an incomplete batch": "dropped" if batches.drop_last else "kept",
        "augmentation": _described(batches.augment),
        "model": repr(training.model),
        "loss": _described(training.loss_fn),
        "optimizer": _optimizer(training),
        "scheduler": _described(training.scheduler, _moving(training.scheduler)),
        "ranks": training.team.size,
    }


def fingerprint(images: Any, labels: Any) -> str:
    """Returns a short hash of the arrays (of samples only, if they are very large)."""
    digest = hashlib.blake2b(digest_size=12)
    for array in (*flatten(images)[0], *flatten(labels)[0]):
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        if array.ndim and not array.dtype.hasobject:
            digest.update(np.ascontiguousarray(array[:: max(1, -(-array.nbytes // MOST_HASHED))]).data)
    return digest.hexdigest()


def tell_differences(then: Any, now: dict[str, Any]) -> None:
    """Warns, in one sentence, of what has changed since the run began; older runs recorded nothing to compare."""
    if not isinstance(then, dict):
        return
    changed = {name: value for name, value in now.items() if name in then and then[name] != value}
    if not changed:
        return
    told = "; ".join(f"{name}: {_difference(then[name], value)}" for name, value in changed.items())
    only_rounding = changed.keys() <= set(ROUNDING)
    effect = "results will differ in rounding" if only_rounding else "the result will be another"
    warnings.warn(
        f"the run goes on otherwise than it was begun, so that {effect} than without a stop ({told})",
        ResumeWarning,
        stacklevel=2,
    )


def _difference(then: Any, now: Any) -> str:
    """Both values; of descriptions, the parts that differ."""
    before, after = (re.split(r"\n|, |: |[(){}\[\]]", str(value)) for value in (then, now))
    old = ", ".join(part.strip() for part in before if part not in after) or f"{then}"
    new = ", ".join(part.strip() for part in after if part not in before) or f"{now}"
    old, new = (text if len(text) <= SHOWN else f"{text[:SHOWN]}…" for text in (old, new))
    return f"{old} then, {new} now"


def _optimizer(training: Training) -> str:
    """With the options it was given; those that a schedule moves are the schedule's."""
    moving = {"params"} if training.scheduler is None else {"params", "lr", "betas", "momentum"}
    groups = [{name: value for name, value in group.items() if name not in moving}
              for group in training.optimizer.param_groups]  # fmt: skip
    return f"{_described(training.optimizer, {'alpha', 'trials'})} {plain(groups)}"


def _moving(scheduler: Any) -> set[str]:
    """The attributes of a schedule that change from step to step."""
    return set(scheduler.state_dict()) if hasattr(scheduler, "state_dict") else set()


def _described(thing: Any, without: set[str] | frozenset[str] = frozenset()) -> str:
    """A function by its name, an object by its class and those of its attributes that are numbers, text or few of
    them."""
    if thing is None:
        return "none"
    if hasattr(thing, "__qualname__"):
        return str(thing.__qualname__)
    options = {
        name: plain(value)
        for name, value in sorted(getattr(thing, "__dict__", {}).items())
        if name[0] != "_" and name != "training" and name not in without and _is_plain(value)
    }
    inside = ", ".join(f"{name}={value!r}" for name, value in options.items())
    return f"{type(thing).__name__}({inside})"


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return len(value) <= 8 and all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str, np.generic))
