"""A recipe carried out in one call."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from fastnn.checks import is_number
from fastnn.data import Batches, Dataset
from fastnn.errors import ArgumentError
from fastnn.random import manual_seed
from fastnn.train.callbacks import Callback
from fastnn.train.data import paired
from fastnn.train.evaluate import as_dataset
from fastnn.train.fit import fit

from .recipe import AUTO, Recipe, recipe
from .run import Run

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
    **changes: Any,
) -> Run:
    """Train a recipe's model: the one that suits the data, with the numbers that suit it.

    Args:
        data, y, val: as for `fnn.fit`: a data set's name, a folder of pictures, a `Dataset`, ``(X, y)``, or X and y.
        model: a key of `MODELS`, or "auto" for that of `choose`. A regression, of floating targets, gets as many
            outputs as there are targets.
        seed: of the first weights, of the split and of the order of the samples.
        callbacks, verbose, compile: as for `fnn.fit`.
        changes: numbers of the `Recipe`, such as ``epochs=5`` or ``algorithm="adam"``.

    Returns:
        The `Run`: ``run.model``, ``run.predict(x)``, ``run.history``.

    Raises ArgumentError for an unknown model or number, and whatever `fnn.fit` raises.

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
    unknown = changes.keys() - {field.name for field in dataclasses.fields(Recipe)}
    if unknown:
        raise ArgumentError(f"recipes.train: expected numbers of a Recipe, got {', '.join(sorted(unknown))}")
    chosen = recipe(model, samples, **changes)
    manual_seed(seed)
    network = chosen.build(samples)
    moves = chosen.augmentation(samples.name)
    batches = Batches.of(samples, chosen.batch_size, shuffle=True, seed=seed, augment=moves)
    optimizer = chosen.optimizer(network)
    history = fit(
        network, batches, held,
        loss=chosen.loss(), optimizer=optimizer, scheduler=chosen.scheduler(optimizer, len(batches)),
        epochs=chosen.epochs, callbacks=callbacks, verbose=verbose, compile=compile,
    )  # fmt: skip
    config = {"model": chosen.model, "dataset": samples.name, "recipe": dataclasses.asdict(chosen), "seed": seed}
    return Run(network.eval(), config, history)
