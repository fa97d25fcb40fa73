"""What a training left behind: `load_run`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

from fastnn import init, weights
from fastnn.checks import path
from fastnn.console import shown
from fastnn.data.about import About
from fastnn.data.prepare import Preparation
from fastnn.errors import DataError
from fastnn.nn import Sequential
from fastnn.tables import decimal, html_text
from fastnn.train.config import WEIGHTS, read_config
from fastnn.train.finite import check_model as check_finite
from fastnn.train.history import History
from fastnn.train.path import ParameterPath, recorded
from fastnn.train.runs import HISTORIES

from .recipe import MODELS, recipe_of

__all__ = ["Run", "load_run"]


class Run(NamedTuple):
    """What `load_run` found: also the tuple ``(model, config, history)``.

    Attributes:
        model: in eval mode.
        config: what it was trained with, as in the run's config.json.
        history: the epochs; ``history.path`` is what ``--record-path`` recorded, or None.
    """

    model: Sequential
    config: dict[str, Any]
    history: History

    def predict(self, image: Any, **options: Any) -> Any:
        """The class of a picture, or of each of several: the same as ``run.model.predict(image)``; see `fnn.predict`.

        >>> import fastnn as fnn
        >>> fnn.recipes.Run(fnn.recipes.linear(), {}, fnn.History()).predict(fnn.data.load("digits").images[:5]).shape
        (5,)
        """
        return self.model.predict(image, **options)

    def predict_proba(self, image: Any, **options: Any) -> Any:
        """The probabilities of the classes, likewise."""
        return self.model.predict_proba(image, **options)

    def __repr__(self) -> str:
        epochs = f"{len(self.history)} epoch{'' if len(self.history) == 1 else 's'}"
        about = f"{self.config.get('model')} trained on {self.config.get('dataset')}"
        return f"Run({shown(about)}: {epochs}{self._reached()}; .model, .config, .history, .predict(x))"

    def _repr_html_(self) -> str:
        return html_text(repr(self)) + (self.history._repr_html_() if len(self.history) else "")

    def _reached(self) -> str:
        """The last accuracy, or else loss, of the validation samples, or else of those trained on."""
        if not len(self.history):
            return ""
        last = self.history[-1]
        part = "validation" if last.val_loss is not None else "training"
        loss, accuracy = (
            (last.val_loss, last.val_accuracy) if part == "validation" else (last.train_loss, last.train_accuracy)
        )
        return f", {part} " + (f"loss {decimal(loss)}" if accuracy is None else f"accuracy {100 * accuracy:.2f} %")


def load_run(folder: str | os.PathLike[str]) -> Run:
    """The `Run` in the folder that ``fastnn train --out`` made: its ``.model``, ``.config`` and ``.history``.

    What ``train.Checkpoint`` keeps for a training in Python is no such folder, for lack of a description of the model.

    Raises DataError where there is no run, or one that has not finished an epoch, or one that is damaged, and
    NonFiniteError where the weights are not finite.
    """
    folder = Path(path("load_run", folder))
    config = read_config(folder)
    if not (folder / WEIGHTS).exists():
        raise DataError(f"the run in {folder} has not finished an epoch: it has no weights yet")
    try:
        with init.left_out():  # of a config that is not true, memory is asked for but never touched
            model = MODELS[config["model"]](
                config["image_shape"], len(config["classes"]), config["mean"], config["std"]
            )
        model.load_state_dict(weights.load(folder / WEIGHTS, like=model.state_dict()))
    except (KeyError, TypeError, ValueError, MemoryError, OverflowError) as error:
        raise DataError(f"expected config and weights of one run in {folder}, got others ({error})") from error
    check_finite(f"the run in {folder}", model)
    history = History.load(folder / HISTORIES[0])
    if recorded(folder):
        history.path = ParameterPath.load(folder)
    picture, classes = Preparation.of_run(config), tuple(config["classes"])
    loss = recipe_of(config).loss()
    vars(model)["_about"] = About(
        "classes", classes, picture, config["dataset"], config["images"], picture.shape, type(loss).__name__
    )
    return Run(model.eval(), config, history)
