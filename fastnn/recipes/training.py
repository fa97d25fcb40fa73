"""A recipe carried out in one call."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Sequence
from inspect import signature
from typing import Any

import numpy as np

from fastnn.checks import is_number
from fastnn.console import say
from fastnn.data import Batches, Dataset
from fastnn.data.reading import few, in_words, unequal
from fastnn.errors import ArgumentError, LabelError, meant
from fastnn.random import seeded
from fastnn.train.callbacks import Callback
from fastnn.train.data import paired
from fastnn.train.evaluate import as_dataset
from fastnn.train.fit import fit

from .recipe import AUTO, Recipe, recipe
from .run import Run

FAR = 1000  # times the distance of the quartiles: no common distribution of a few thousand numbers goes as far

__all__ = ["train"]


def train(
    data: Any,
    y: Any = None,
    val: Any = None,
    *,
    model: str = AUTO,
    seed: int = 0,
    callbacks: Sequence[Callback] = (),
    verbose: bool | str | int = True,
    compile: bool = True,
    metrics: Any = (),
    class_weight: Any = None,
    **changes: Any,
) -> Run:
    """Train a recipe's model: the one that suits the data, with the numbers that suit it.

    Args:
        data, y, val: as for `fnn.fit`: a data set's name, a folder of pictures, a `Dataset`, ``(X, y)``, or X and y.
        model: a key of `MODELS`, or "auto" for that of `choose`. A regression, of floating targets, gets as many
            outputs as there are targets.
        seed: of the first weights, of the split and of the order of the samples.
        callbacks, verbose, compile, metrics, class_weight: as for `fnn.fit`. The progress begins with the model and the
            recipe.
        changes: numbers of the `Recipe`, such as ``epochs=5`` or ``algorithm="adam"``.

    Returns:
        The `Run`: ``run.model``, ``run.predict(x)``, ``run.history``.

    Raises ArgumentError for an unknown model or number, LabelError for samples of one class alone, and whatever
    `fnn.fit` raises. Warns where most classes, of numbers up to the largest label, have no sample.

    >>> import fastnn as fnn
    >>> from fastnn import recipes
    >>> run = recipes.train("digits", epochs=1, model="linear", verbose=False)
    >>> test = fnn.data.load("digits", split="test")
    >>> fnn.evaluate(run.model, test).accuracy > 0.6
    True
    """
    data, held = paired(data, y, val)
    samples = as_dataset(data, "train")
    if not isinstance(samples, Dataset):
        raise ArgumentError("recipes.train: expected one array of samples and one of targets, got several")
    if is_number(held):
        samples, held = samples.split(held, seed)
    known = [field.name for field in dataclasses.fields(Recipe)]
    for unknown in sorted(changes.keys() - set(known)):
        elsewhere = ": it is an argument of fnn.fit" if unknown in signature(fit).parameters else meant(unknown, known)
        raise ArgumentError(
            f"recipes.train: expected numbers of a Recipe ({', '.join(known)}), got {unknown}{elsewhere}"
        )
    _check_classes(samples)
    _check_signals(samples)
    if samples.labels.dtype.kind == "f":
        _check_targets(samples.labels)
    chosen = recipe(model, samples, **changes)
    if verbose:
        why = ", which suits such samples" if model == AUTO else ""
        say(f"model: {chosen.model}{why}, for {_outputs(samples, chosen)}")
        if (sizes := _sizes(samples)) and class_weight is None:
            say(f'classes: {sizes}; class_weight="balanced" lets each count the same')
        say(f"recipe: {chosen}")
    with seeded(seed):
        network = chosen.build(samples)
        moves = chosen.augmentation(samples.name)
        batches = Batches.of(samples, chosen.batch_size, shuffle=True, seed=seed, augment=moves)
        optimizer = chosen.optimizer(network)
        history = fit(
            network, batches, held,
            loss=chosen.loss(), optimizer=optimizer, scheduler=chosen.scheduler(optimizer, len(batches)),
            epochs=chosen.epochs, callbacks=callbacks, verbose=verbose, compile=compile, metrics=metrics,
            class_weight=class_weight,
        )  # fmt: skip
    config = {"model": chosen.model, "dataset": samples.name, "recipe": dataclasses.asdict(chosen), "seed": seed}
    return Run(network.eval(), config, history)


def _check_classes(samples: Dataset) -> None:
    """LabelError where there is nothing to tell apart; a warning where labels look like numbers of something else."""
    if samples.labels.ndim != 1 or samples.labels.dtype.kind == "f" or not len(samples):
        return
    found = np.unique(samples.labels)
    if len(found) == 1:
        only = few(samples.classes[found[0] :][:1])
        raise LabelError(f"recipes.train: expected samples of two classes or more, got only {only}")
    numbered = not samples.named and samples.classes[-1] == str(len(samples.classes) - 1)
    if numbered and 2 * len(found) < len(samples.classes):
        warnings.warn(
            f"recipes.train: whole numbers are labels of classes, of which there are {len(samples.classes):,}, from 0 "
            f"to {found[-1]}, but only {len(found)} have samples: pass np.asarray(y).astype(float) if these are "
            "values, np.asarray(y).astype(str) if they are names",
            stacklevel=3,
        )


def _check_targets(targets: np.ndarray) -> None:
    """A warning where a target lies so far from the others that the scale that the model learns is only its own."""
    columns = targets.reshape(len(targets), -1)
    if len(columns) < 4 or not np.isfinite(columns).all():
        return
    low, middle, high = np.quantile(columns, (0.25, 0.5, 0.75), axis=0)
    away = np.abs(columns - middle)
    far = (away > FAR * (high - low)) & (high > low)
    if far.any():
        row, column = np.argwhere(far)[int(away[far].argmax())]
        warnings.warn(
            f"recipes.train: the target {columns[row, column]:.4g} in row {row} is far from all others, half of which "
            f"lie between {low[column]:.4g} and {high[column]:.4g}: leave out what is no measurement, or train on "
            "np.log(y) where targets above 0 span many decades",
            stacklevel=3,
        )


def _check_signals(samples: Dataset) -> None:
    """A warning where the channels of signals come last, as Keras has them: (N, L, C) for (N, C, L)."""
    if len(samples.image_shape) == 2 and samples.image_shape[0] > samples.image_shape[1]:
        channels, length = samples.image_shape
        warnings.warn(
            f"recipes.train: signals are (N, C, L), so these have {channels} channels and {length} times: if it is the "
            "other way round, pass x.transpose(0, 2, 1)",
            stacklevel=3,
        )


def _sizes(samples: Dataset) -> str:
    """How many samples the smallest and the largest class have, where that matters."""
    if samples.labels.ndim != 1 or samples.labels.dtype.kind == "f":
        return ""
    counts = np.bincount(samples.labels, minlength=len(samples.classes)).tolist()
    return unequal(counts, samples.classes)


def _outputs(samples: Dataset, chosen: Recipe) -> str:
    """The task in words: classes, or values."""
    if chosen.values:
        number = math.prod(samples.labels.shape[1:])
        return "a regression" if number == 1 else f"a regression of {number} values"
    return in_words(samples.classes)
