"""What is wrong with a training, judged by its errors on training, validation and test data; and what helps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.checks import is_number
from fastnn.errors import ArgumentError
from fastnn.insight import plots
from fastnn.insight.curves import learning_curves
from fastnn.train import Evaluation, History

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Diagnosis", "diagnose"]

SUMMARIES = {
    "diverged": "the training came apart",
    "unfinished": "the training is not finished: it still improves",
    "stuck": "nothing was learned: the model is as good as guessing",
    "underfits": "the model underfits: its error is big on the very samples that it was trained on",
    "overfits": "the model overfits: it knows the training samples, and does badly on others",
    "differs": "training and test data differ: the error is big on the test samples alone",
    "unwatched": "the error is small on the training samples; nothing tells of others",
    "good": "the training went well",
}
STOPPING = "stopping where validation is best: fnn.train.EarlyStopping"
REMEDIES = {
    "diverged": (
        "a smaller learning rate: a tenth",
        "inputs centred and scaled: nn.Normalize(*train.statistics()) as the first layer",
        "gradients clipped: fnn.compile(..., clip_norm=1.0)",
        "look at the signals: fnn.signal_report(model, x, y)",
    ),
    "unfinished": ("more epochs", "a larger learning rate, or a schedule that begins with one"),
    "stuck": (
        "another learning rate: ten times as large, or a tenth; fnn.train.LRFinder finds one",
        "other initial weights, of another size: fnn.init; those that are all alike learn alike",
        "look at the signals: fnn.signal_report(model, x, y): dead units, gradients that vanish",
        "more updates: more epochs, smaller batches",
    ),
    "underfits": (
        "a stronger model: more layers, more units, convolutions for images",
        "longer training, another learning rate or optimiser",
        "less regularisation: weight decay, dropout, augmentation",
        "another approach: other features, another architecture; look at fnn.signal_report(model, x, y)",
    ),
    "overfits": (
        "more training data, or augmentation: fnn.data.Augment",
        "more regularisation: weight decay, l1= or l2=, dropout, label smoothing",
        STOPPING,
        "a smaller model",
    ),
    "differs": (
        "training data of the kind that the test data are: look at the worst mistakes",
        "the same preparation of both: scale, colours, cutting, labels",
        "validation samples taken from where the test samples come from",
    ),
    "unwatched": ("samples to watch by: fit(..., val=0.1)",),
    "good": (),
}
LEAST_ERROR = 0.005  # of a trend: below, a single sample more or less doubles an error
FALLING = 0.02  # per epoch: a loss that falls faster still improves
GUESSING = 0.95  # of the loss and the error of guessing: from there on nothing was learned
EXPLODED = 10.0  # a mean cross-entropy that no guess at random among fewer than 20,000 classes comes near


@dataclass(frozen=True, repr=False)
class Diagnosis:
    """What `diagnose` found; its repr is the text.

    Attributes:
        verdict: "good", "underfits", "overfits", "differs" (training and test data), "unfinished", "diverged",
            "stuck" (nothing was learned), or "unwatched" (neither validation nor test).
        reasons: the numbers that it was judged by, in sentences.
        remedies: what helps, the most promising first.
        numbers: "train", "val" and "test": errors, the share of images taken for another class, or losses where there
            are no classes; "acceptable"; "trend": relative change of the watched loss per epoch. None for the unknown.
        history: that was judged.
    """

    verdict: str
    reasons: tuple[str, ...]
    remedies: tuple[str, ...]
    numbers: dict[str, float | None]
    history: History

    def __repr__(self) -> str:
        lines = [f"{self.verdict}: {SUMMARIES[self.verdict]}", *(f"  {reason}" for reason in self.reasons)]
        if self.remedies:
            lines += ["what helps:", *(f"  - {remedy}" for remedy in self.remedies)]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """The text, and the learning curves where Matplotlib is installed."""
        return plots.html(repr(self), self.plot)

    def plot(self) -> Figure:
        """The learning curves, with what counts as small, and the verdict above."""
        drawing = learning_curves(self.history, self.numbers["acceptable"], self.numbers["test"])
        plots.heading(drawing, SUMMARIES[self.verdict])
        return drawing


def diagnose(
    history: History,
    *,
    train: Evaluation | None = None,
    val: Evaluation | None = None,
    test: Evaluation | None = None,
    acceptable: float | None = None,
) -> Diagnosis:
    """Which it is: underfitting, overfitting, training and test data that differ, unfinished, diverged, stuck, or good.

    Errors are looked at in the order in which they can be mended: big on the training images → a stronger model; small
    there and big on validation images → more data or regularisation; big on test images alone → other data than those
    that were trained on. A training whose watched loss and error (validation's, if there is any) still fall by more
    than 2 % an epoch is called unfinished, unless all errors are small; one that is no better than guessing, or (where
    no evaluation tells the classes) whose loss is no lower than in its first epoch, is called stuck; but unfinished
    while the training loss falls and only batch norm's running statistics lag behind.

    Args:
        history: what `fit` returned; its last epoch counts.
        train, val, test: what `evaluate` measured on those images afterwards, in the place of the history's numbers.
            (Those of the training images are from before each update, with dropout and augmentation.)
        acceptable: the error that counts as small: a share of images, by default 0.05; without classes a loss, by
            default a twentieth of the first epoch's.

    Raises ArgumentError for a history without epochs, an acceptable error that no model can have, and the like.

    >>> from fastnn.train import EpochRecord, History
    >>> accuracies = [(0.80, 0.78), (0.97, 0.85), (1.0, 0.86), (1.0, 0.86)]
    >>> losses = [(0.6, 0.7), (0.1, 0.5), (0.02, 0.5), (0.01, 0.52)]
    >>> history = History(
    ...     EpochRecord(i + 1, losses[i][0], accuracies[i][0], losses[i][1], accuracies[i][1], 0.1, 1.0, 100.0)
    ...     for i in range(4)
    ... )
    >>> diagnose(history).verdict
    'overfits'
    """
    if not isinstance(history, History):
        hint = ": pass its .history" if isinstance(getattr(history, "history", None), History) else ""
        raise ArgumentError(f"diagnose: expected the History that fit returned, got {type(history).__name__}{hint}")
    for name, given in (("train", train), ("val", val), ("test", test)):
        if given is not None and not isinstance(given, Evaluation):
            raise ArgumentError(f"diagnose: expected what evaluate measured, got {name}={given!r}")
    if not len(history):
        raise ArgumentError("diagnose: expected a history of at least one epoch, got an empty one")
    last = history[-1]
    classes = last.train_accuracy is not None
    most = 1 if classes else math.inf
    if acceptable is not None and not (is_number(acceptable) and 0 < acceptable < most):
        below = " and below 1" if classes else ""
        raise ArgumentError(f"diagnose: expected an acceptable error above 0{below}, got {acceptable!r}")
    numbers: dict[str, float | None] = {
        "train": _measured(train, last.train_loss, last.train_accuracy, classes),
        "val": _measured(val, last.val_loss, last.val_accuracy, classes),
        "test": _measured(test, None, None, classes),
        "acceptable": acceptable or (0.05 if classes else history[0].train_loss / 20),
        "trend": _trend(history, "loss"),
        "error_trend": _trend(history, "accuracy") if classes else None,
    }
    guess = _guessing(history, train, (val, test), numbers["train"], classes)
    lag = _lag(history, train, numbers["acceptable"])
    verdict, why = _judge(history, numbers, classes, 0 if test is None else test.count, guess, lag)
    doubt = _uncertainty(numbers, test) if classes else ()
    reasons = (_in_words(numbers, classes), *doubt, *why, *_turning_point(history, verdict))
    return Diagnosis(verdict, reasons, REMEDIES[verdict], numbers, history)


def _measured(given: Evaluation | None, loss: float | None, accuracy: float | None, classes: bool) -> float | None:
    if given is not None:
        loss, accuracy = given.loss, given.accuracy
    if not classes:
        return loss
    return None if accuracy is None else 1 - accuracy


def _guessing(
    history: History, train: Evaluation | None, others: Sequence[Evaluation | None], error: float | None, classes: bool
) -> str:
    """Why the model is as good as guessing on its training images; empty if it is better.

    Who only knows how frequent the classes are (shares p) has at best the error 1 - max p and the loss -Σ p ln p: of K
    equal ones, 1 - 1/K and ln K.
    """
    loss = history[-1].train_loss if train is None else train.loss
    measured = [each.confusion for each in (train, *others) if each is not None and each.confusion is not None]
    if measured and measured[0].sum() and error is not None:
        shares = measured[0].sum(axis=1) / measured[0].sum()
        blind = 1 - float(shares.max())
        entropy = -sum(share * math.log(share) for share in shares.tolist() if share)
        if error < GUESSING * blind or loss < GUESSING * entropy or blind == 0:
            return ""
        return (
            f"guessing among these {len(shares)} classes has an error of {100 * blind:.1f} % and a loss of "
            f"{entropy:.3g}; the model's loss on the training samples is {loss:.3g}"
        )
    first = history[0].train_loss
    wrong = not classes or (error is not None and error >= 0.5)  # who guesses between two is wrong half the time
    if not wrong or len(history) == 1 or loss < (1 - FALLING) * first:
        return ""
    return f"the training loss is no lower than in the first epoch: {first:.4g} then, {loss:.4g} at the end"


def _lag(history: History, train: Evaluation | None, small: float | None) -> str:
    """What shows that eval mode has not caught up with a training that still gets better; empty if nothing does.

    The last epoch's own error is from before its updates and with augmentation and dropout, and so the larger one, but
    for chance: where it is clearly the smaller one, batch norm's running statistics are those of weights of long ago.
    """
    last = history[-1]
    slope = _slope(history["train_loss"], 1e-6)
    if train is None or train.accuracy is None or last.train_accuracy is None or small is None or slope is None:
        return ""
    behind = last.train_accuracy - train.accuracy
    if behind <= max(small, 1 / math.sqrt(train.count)) or slope > -FALLING:  # two standard errors at a half
        return ""
    return (
        f"the training samples' error is {_amount(1 - train.accuracy, True)} in eval mode, but was "
        f"{_amount(1 - last.train_accuracy, True)} in training mode in the last epoch, whose loss still falls: batch "
        "norm's running statistics have not caught up"
    )


def _judge(
    history: History, numbers: dict[str, float | None], classes: bool, tested: int, guess: str, lag: str
) -> tuple[str, tuple[str, ...]]:
    """The verdict, and what speaks for it beside the errors. The order of the questions is the lecture's.

    `guess` says why the model is as good as guessing, `lag` why it is not yet what it will be; empty if neither.
    """
    came_apart = _divergence(history, classes)
    if came_apart:
        return "diverged", (came_apart,)
    train, val, test, small = (numbers[name] for name in ("train", "val", "test", "acceptable"))
    assert train is not None
    assert small is not None
    watched, name = (test, "test") if val is None else (val, "validation")
    gap = 0.0 if watched is None else watched - train
    bad_at_train = train > small and train >= gap / 2
    bad_at_others = watched is not None and watched > small
    if bad_at_train or bad_at_others:
        trends = {name: numbers[key] for name, key in (("loss", "trend"), ("error", "error_trend"))}
        known = {name: trend for name, trend in trends.items() if trend is not None}
        falling = bool(known) and all(trend < -FALLING for trend in known.values())
        if bad_at_train and lag:
            return "unfinished", (lag,)
        if bad_at_train and guess and not falling:
            return "stuck", (guess,)
        if not known:
            return "unfinished", ("one epoch shows no trend",)
        part = "training" if history[-1].val_loss is None else "validation"
        changes = "at the end, an epoch changes " + " and ".join(
            f"the {part} {name} by {100 * trend:+.1f} %" for name, trend in known.items()
        )
        if falling:
            return "unfinished", (changes,)
        if bad_at_train or gap <= small / 2:  # else not all of the gap is noise
            return "underfits", (changes,)
        if val is None:
            changes += "; without validation samples, training and test data that differ look the same"
        return "overfits", (f"{_amount(gap, classes)} more on {name} than on training samples", changes)
    if watched is None:
        return "unwatched", ()
    if test is not None and val is not None and test > small:
        noise = 3 * math.sqrt(test * (1 - test) / tested) if classes else 0.0
        if test - val > max(small / 2, noise):
            return "differs", (f"{_amount(test - val, classes)} more on test than on validation samples",)
    return "good", ()


def _divergence(history: History, classes: bool) -> str:
    """How the training came apart; empty if it did not."""
    losses, errors = history["train_loss"], [1 - (r.train_accuracy or 0) for r in history]
    wrong = [r.epoch for r in history if not math.isfinite(r.train_loss + (r.val_loss or 0))]
    if wrong:
        return f"the loss was not finite in epoch {wrong[0]}"
    worst = int(np.argmax(losses))
    if classes and losses[worst] > EXPLODED and errors[-1] > 0.5:
        return f"the training loss was {losses[worst]:.3g} in epoch {history[worst].epoch}, far above random guessing"
    best = int(np.argmin(losses))
    if losses[-1] > 2 * losses[best] and (not classes or errors[-1] > errors[best] + 0.05):
        return f"the training loss rose from {losses[best]:.3g} in epoch {history[best].epoch} to {losses[-1]:.3g}"
    return ""


def _trend(history: History, column: str) -> float | None:
    """Relative change of the watched loss or error per epoch, over the last third of the epochs (three at least, if
    there are as many): least squares of its logarithm; None for one epoch."""
    part = "train" if history[-1].val_loss is None else "val"
    values = history[f"{part}_{column}"]
    if column == "accuracy":
        return _slope([None if value is None else 1 - value for value in values], LEAST_ERROR)
    return _slope(values, 1e-6)


def _slope(values: Sequence[float | None], floor: float) -> float | None:
    """The relative change at the end; values below the floor are as good as that."""
    last = [value for value in values[-max(3, len(values) // 3) :] if value is not None]
    if len(last) < 2 or not all(math.isfinite(value) for value in last):
        return None
    return float(np.expm1(np.polyfit(range(len(last)), np.log(np.maximum(last, floor)), 1)[0]))


def _uncertainty(numbers: dict[str, float | None], test: Evaluation | None) -> tuple[str, ...]:
    """What chance makes of the error on few test samples, where that is more than what counts as small.

    Two standard errors of a binomial share, of which Agresti and Coull (1998) add two right and two wrong samples.
    """
    small = numbers["acceptable"]
    if test is None or numbers["test"] is None or small is None:
        return ()
    share = (numbers["test"] * test.count + 2) / (test.count + 4)
    spread = 2 * math.sqrt(share * (1 - share) / (test.count + 4))
    if spread <= small:
        return ()
    low, high = max(0.0, share - spread), min(1.0, share + spread)
    return (
        f"{test.count:,} test samples are few: on more, the error may well be {_amount(low, True)} or "
        f"{_amount(high, True)}",
    )


def _turning_point(history: History, verdict: str) -> tuple[str, ...]:
    losses = [(r.val_loss, r.epoch) for r in history if r.val_loss is not None]
    if verdict not in ("overfits", "good") or not losses:
        return ()
    lowest, epoch = min(losses)
    if losses[-1][0] < 1.1 * lowest:
        return ()
    return (f"the validation loss was lowest in epoch {epoch}: {lowest:.3g}, and was {losses[-1][0]:.3g} at the end",)


def _in_words(numbers: dict[str, float | None], classes: bool) -> str:
    """Such as "error: training 0.3 %, validation 14.2 %; up to 5.0 % counts as small"."""
    names = {"train": "training", "val": "validation", "test": "test"}
    parts = [f"{names[key]} {_amount(numbers[key], classes)}" for key in names if numbers[key] is not None]
    small = _amount(numbers["acceptable"], classes)
    return f"{'error' if classes else 'loss'}: {', '.join(parts)}; up to {small} counts as small"


def _amount(value: Any, classes: bool) -> str:
    return f"{100 * value:.1f} %" if classes else f"{value:.4g}"
