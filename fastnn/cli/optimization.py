"""How `fastnn train` optimises: options for the optimiser, penalties, stopping rules and the learning rate."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from fastnn import recipes
from fastnn.cli import options
from fastnn.console import say
from fastnn.data import Batches
from fastnn.errors import ArgumentError
from fastnn.train import Callback, Checkpoint, EarlyStopping, LRFinder, StopOnPlateau, StopOnStep

FIND = "find"
RULES: dict[str, Any] = {"early_stopping": None, "stop_on_step": None, "stop_on_plateau": None}


def add_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("optimisation")
    group.add_argument(
        "--optimizer",
        dest="algorithm",
        choices=tuple(recipes.ALGORITHMS),
        help="default nesterov; gd (gradient descent that backtracks until a step descends) and rprop take all images "
        "at once, 100 times; each has a learning rate of its own by default",
    )
    group.add_argument("--l1", type=options.positive_float, metavar="X", help="penalty X Σ|w| (lasso)")
    group.add_argument("--l2", type=options.positive_float, metavar="X", help="penalty X Σw² (ridge)")
    group.add_argument(
        "--penalize-bias",
        action=argparse.BooleanOptionalAction,
        help="whether biases count in the penalties, too; default no",
    )
    group.add_argument(
        "--early-stopping",
        type=options.positive_int,
        metavar="PATIENCE",
        help="stop after so many epochs without a lower loss on the --val images, and go back to the best epoch",
    )
    group.add_argument(
        "--stop-on-plateau",
        type=options.positive_int,
        metavar="N",
        help="stop when training loss and penalty together have not decreased for N epochs",
    )
    group.add_argument(
        "--stop-on-step",
        type=options.positive_float,
        metavar="EPS",
        help="stop when an update moves the parameters by less than EPS",
    )


def rate(text: str) -> float | str:
    return FIND if text == FIND else options.positive_float(text, f", or {FIND}")


def batch_size(text: str) -> int | str:
    return recipes.FULL if text == recipes.FULL else options.positive_int(text, f", or {recipes.FULL}")


def with_rate_found(recipe: recipes.Recipe, model: Any, batches: Batches, compile: bool) -> recipes.Recipe:
    """The recipe at the learning rate that a range test on this model finds; it says so on standard output.

    Raises ArgumentError where there is none."""
    finder = LRFinder().run(model, batches, loss=recipe.loss(), optimizer=recipe.optimizer(model), compile=compile)
    if finder.suggestion is None:
        raise ArgumentError("--lr find: the loss falls at no learning rate: give one, --lr RATE")
    found = float(f"{finder.suggestion:.2g}")
    say(f"rate     {found:g}, found by {len(finder.rates)} steps with rates from {finder.start:g} on")
    return dataclasses.replace(recipe, lr=found)


def callbacks(settings: dict[str, Any], folder: Path | None, resume: bool) -> list[Callback]:
    """The stopping rules, and what keeps the run in its folder: with early stopping, its best weights."""
    patience, plateau, step = (settings.get(name) for name in ("early_stopping", "stop_on_plateau", "stop_on_step"))
    chosen: list[Callback] = []
    if step is not None:
        chosen.append(StopOnStep(step))
    if plateau is not None:
        chosen.append(StopOnPlateau(plateau))
    if patience is not None:
        chosen.append(EarlyStopping(patience=patience))
    if folder is not None:
        chosen.append(Checkpoint(folder, resume=resume, best=None if patience is None else "val_loss"))
    return chosen
