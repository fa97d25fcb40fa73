"""The training loop: forward, backward, update, repeat."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from functools import cache, partial, wraps
from typing import Any, TypeVar

import numpy as np

from fastnn import random
from fastnn.autograd import is_anomaly_enabled, set_detect_anomaly
from fastnn.checks import flag, is_whole
from fastnn.errors import ArgumentError, NonFiniteError
from fastnn.interrupts import Interrupts
from fastnn.nn import CrossEntropyLoss
from fastnn.nn.modes import training_mode
from fastnn.ops.norms import check_pixels
from fastnn.optim import Adam, Optimizer
from fastnn.trees import count_of

from . import finite
from .callbacks import Callback, Training
from .checks import check_fit, check_model, check_trainable
from .data import Feed, first_outputs, first_samples, paired, settled, stepped_per, training_data
from .evaluate import Evaluation, are_pixels, as_dataset, evaluate
from .history import EpochRecord, History
from .interrupts import Interrupted
from .named import check_metrics, named_loss, named_metrics, named_optimizer
from .predict import remember
from .progress import Progress
from .steps import make_step, needs_closure
from .tally import Tally
from .targets import check_ending, check_outputs, check_targets, default_loss
from .team import team_of
from .weighing import weights_of

__all__ = ["fit"]


_Function = TypeVar("_Function", bound=Callable[..., Any])


def _drawing_by_seed(function: _Function) -> _Function:
    """The function, whose random numbers are those of its `seed`, whatever other threads draw meanwhile."""

    @wraps(function)
    def seeded(*args: Any, seed: int | None = None, **options: Any) -> Any:
        with random.seeded(seed):
            return function(*args, seed=seed, **options)

    return seeded  # type: ignore[return-value]


@_drawing_by_seed
def fit(
    model: Any,
    train: Any,
    y: Any = None,
    val: Any = None,
    *,
    loss: Any = None,
    optimizer: Any = None,
    scheduler: Any = None,
    epochs: int = 1,
    batch_size: int | str = 128,
    seed: int | None = None,
    callbacks: Sequence[Callback] = (),
    verbose: bool | str | int = True,
    compile: bool = True,
    metrics: Any = (),
    class_weight: Any = None,
    sample_weight: Any = None,
    distributed: bool = False,
    detect_anomaly: bool = False,
) -> History:
    """Train a model.

    Args:
        model: maps images (N, C, H, W), or other samples (N, ...), to outputs; logits (N, K) for classes.
        train: a data set's name, an image folder or a list of image files (its training part, see `fnn.data.load`), a
            `Dataset`, ``(X, y)``, ``X`` alone with `y` after it, or `Batches`, which keep their own size, order and
            augmentation. X are arrays of any numeric type or data frames; columns without numbers and missing values
            are refused, by name. uint8 images, (N, H, W) or (N, C, H, W), are divided by 255, here or by the model's
            own ``nn.Normalize``; the features (N, F) of a table are numbers (see ``nn.Normalize.of``). Where a single
            sample would be left for the last batch and the model cannot take one alone, as with batch norm of features,
            it joins the batch before. Models of several inputs or targets take a tuple or a dict of arrays in the place
            of either array, as a compiled step does.
        y: the targets of X: integers or names of classes (N,), which `predict` gives back; or values (N,) or (N, K).
            Targets (N,) go with outputs (N, 1).
        val: what to watch by, never trained on: a fraction or a number of the training samples (stratified by class), a
            `Dataset`, ``(X, y)``, the name of a data set (its test part), or image files, as for `evaluate`:
            "pets/val" for the folder val of "pets".
        loss: maps (outputs, targets) to one number, or "cross_entropy", "mse", "mae", "huber", "bce_with_logits" or
            "nll". By default it follows from the targets: cross-entropy for classes and rows of probabilities,
            ``nn.BCEWithLogitsLoss()`` for 0 and 1 with one output or with one column for each, ``nn.MSELoss()`` for
            other floating numbers; the progress says which. `evaluate` uses the same.
        optimizer: holds the model's parameters, or "adam", "adamw", "rmsprop" (rate 0.001) or "sgd" (0.01, momentum
            0.9); by default ``optim.Adam(model.parameters(), lr=0.001)``. With
            ``optim.GradientDescent``, which wants ``batch_size="full"``, the training ends where no step descends.
        scheduler: a schedule on that optimiser. ``OneCycleLR`` and ``CyclicLR`` count batches, and are stepped after
            each; all others count epochs, ``ReduceLROnPlateau`` by the validation loss (the training loss without
            validation).
        epochs: times through the training data.
        batch_size: samples in a batch; the last one of an epoch may be smaller. "full" for all of them: gradient
            descent on the whole training data, one update an epoch.
        seed: for the split, the order of the samples and dropout, as by `manual_seed`, but that other threads draw from
            numbers of their own. None goes on with fastnn's random numbers, and splits by seed 0.
        callbacks: see `Callback`; among them `EarlyStopping`, `StopOnPlateau`, `StopOnStep`, `Checkpoint`,
            `LRFinder`, `HistoryFile`, `TensorBoard` and `MLflow`, in ``fnn.train``.
        verbose: whether to show progress: a table of the epochs on standard output, and a bar in notebooks and on
            standard error (plain lines where that is no terminal). "epoch" shows the table alone, a number n a row for
            every n-th epoch, False nothing.
        compile: whether the steps are compiled (`fnn.compile`): the same mathematics, faster. `.grad` then stays None.
            Where no plan can be made (forward or the loss reads values of its tensors, or does not do the same at every
            call: draws in NumPy, counts its calls, writes into attributes), a warning says so, and the training runs
            operator by operator.
        metrics: what else to measure on the validation data: names from ``fnn.metrics``, such as "mae", "r2" or "f1",
            and functions of (targets, outputs). The history has them as ``history["val_mae"]``.
        class_weight: what the classes count in the loss, ``{label: weight}`` by number or name, 1 where left out, or an
            array (K,); or "balanced": N / (K · the class's number of samples), with K classes. On validation data, too.
        sample_weight: (N,) what the samples count, at least 0, times their classes' weight w. The loss of a batch, an
            epoch or the validation is the weighted mean, sum(w · loss) / sum(w), a sample's own loss being the mean
            over its outputs. Validation data split off keep theirs, others have 1. Accuracy and metrics weigh nothing.
        distributed: whether all processes that mpiexec has started train this model together, each on its share of
            every batch; all call `fit` alike, with the same data. The model starts as rank 0's, whose callbacks alone
            are called, and is the same on all ranks at the end, and so is the history. Batch norm takes the statistics
            of a rank's own share; the running ones are averaged after every epoch. Random numbers of dropout and
            augmentation are each rank's own. What one rank raises within a step, all do; where one fails otherwise, the
            job ends.
        detect_anomaly: whether every step looks for gradients that are not finite, before its update, and for
            parameters, buffers and the optimiser's state after it, so that the message names the batch and the
            operator or layer; slower, operator by operator. As within ``fnn.autograd.detect_anomaly()``.

    Returns:
        The epochs' measurements. The model is trained in place, and its modes (train or eval) are those that it came
        with. It trains in training mode, but parts that you have put into eval mode stay in it, and so does batch norm
        in parts that are frozen (`Module.freeze`). Where the model itself is in eval mode, all of it is trained, unless
        `train()` was called on parts of it: then those alone are in training mode. A callback may set the modes of
        parts; where one leaves the model itself in eval mode, the training goes on in the modes before.

    Raises:
        NonFiniteError: the loss became infinite or not a number (it was used for no update, and batch norm's statistics
            are as before that batch), or a parameter, a buffer or the optimiser's state did, which is noticed at the
            end of an epoch at the latest, before anything is kept of it. The message says which, and where: epoch and
            batch, and the first layer whose outputs were not finite. With `detect_anomaly`, gradients as well.
        Interrupted: a KeyboardInterrupt, by Ctrl-C or SIGTERM, raised after a whole update; the model is usable, and
            the exception holds the history. (Only in the main thread, where Python lets signals be handled.)
        ArgumentError: options that make no sense; among them a loss that cannot be right for such targets and outputs,
            and parameters of which none is to be learned, or none gets a gradient. LabelError: a label that the model
            has no output for, or targets that are none for this loss. DataError: no such data, missing values, or
            columns that are no numbers. MissingExtraError: distributed without mpi4py.

    >>> import fastnn as fnn
    >>> from fastnn import nn
    >>> fnn.manual_seed(0)
    >>> model = nn.Sequential(nn.Normalize(0.3, 0.4), nn.Flatten(), nn.Linear(784, 10))
    >>> history = fnn.fit(model, "digits", val=0.1, epochs=2, seed=0, verbose=False)
    >>> len(history), history[-1].val_accuracy > 0.7
    (2, True)
    """
    check_model("fit", model)
    loss, optimizer = named_loss("fit", loss), named_optimizer(optimizer, model)
    check_fit(loss, optimizer, scheduler, epochs, callbacks)
    wanted, epochs = named_metrics("fit", metrics), int(epochs)
    batches, held, sample_weight, held_weight = training_data(
        model, *paired(train, y, val), batch_size, seed, sample_weight
    )
    if wanted and held is None:
        raise ArgumentError("fit: expected validation data to measure metrics on, got none: give val=, such as val=0.1")
    if are_pixels(model, batches.images):
        check_pixels(batches.images)
    outputs, why = cache(partial(first_outputs, model, batches)), ""
    if loss is None:
        loss, why = default_loss(batches.labels, outputs)
    optimizer = Adam(model.parameters(), lr=1e-3) if optimizer is None else optimizer
    check_trainable(model, optimizer)
    check_targets("fit", batches.labels, loss)
    check_ending("fit", model, loss)
    check_metrics("fit", wanted, batches.labels, loss)
    finite.check_model("fit", model)
    if needs_closure(optimizer) and len(batches) > 1:
        raise ArgumentError(
            f"fit: expected one batch of all samples for {type(optimizer).__name__}, got {len(batches)} batches an "
            'epoch: give batch_size="full", or Batches of that size'
        )
    weights = weights_of("fit", batches.labels, batches.classes, loss, class_weight, sample_weight)
    team = team_of(flag("fit", "distributed", distributed))
    feed = Feed(model, loss, batches, outputs, weights, team)
    detect_anomaly = detect_anomaly or is_anomaly_enabled()
    compile = flag("fit", "compile", compile) and not detect_anomaly
    step = make_step(model, feed.loss, optimizer, compile, team)
    known = remember(model, batches, loss)
    held = None if held is None else as_dataset(held, "test", known)
    numbers = finite.Watched(model, optimizer, every_step=detect_anomaly)
    watch = None
    if held is not None:
        watch = partial(
            evaluate, model, held, loss=loss, compile=compile, metrics=metrics, sample_weight=held_weight,
            class_weight=None if weights is None else weights.of_class, distributed=distributed,
        )  # fmt: skip
    training = Training(
        model, optimizer, scheduler, batches, epochs,
        penalty=_penalty(optimizer), loss_fn=loss, compile=compile, val=held, feed=feed,
        callbacks=[*callbacks, *_progress(verbose, _header(loss, why))],
        team=team, seed=seed,
    )  # fmt: skip
    callbacks = training.callbacks = team.callbacks(training.callbacks)

    interrupts = Interrupts()
    try:
        with training_mode(model) as resume, interrupts, settled(training), set_detect_anomaly(detect_anomaly):
            begun: list[Callback] = []
            try:
                with team.in_step():
                    team.first(lambda: _begin(callbacks, training, begun))
                    team.begin(training, interrupts, partial(first_samples, model, batches))
                    if training.history:  # restored
                        finite.check_model("fit, going on with a kept training", model)
                        _stop_without_descent(training)
                    while len(training.history) < epochs and not training.stopped:
                        _run_epoch(training, step, loss, watch, numbers, interrupts, resume)
            finally:
                interrupts.patient = True
                try:
                    team.first(lambda: _end(begun, training))
                finally:
                    team.end(training)
        interrupts.patient = False
        interrupts.heed()  # what came while callbacks ended; from now on signals take their own course again
    except KeyboardInterrupt as error:
        team.give_up(error)
        number = interrupts.caught or signal.SIGINT
        raise Interrupted(
            f"training was stopped by {signal.Signals(number).name} in epoch {training.epoch}, "
            f"after {training.batch} of {len(training.batches)} batches",
            training.history,
            number,
        ) from error
    except BaseException as error:
        team.give_up(error)
        raise
    return training.history


def _header(loss: Any, why: str) -> str:
    """What the progress begins with: the loss that follows from the targets, and one that `evaluate` does not share."""
    lines = [f"loss: {type(loss).__name__}, for {why}"] if why else []
    smoothing = getattr(loss, "label_smoothing", 0) if isinstance(loss, CrossEntropyLoss) else 0
    if smoothing:
        lines.append(f"labels are smoothed by {smoothing:g} in the losses below, but not in those of evaluate")
    return "\n".join(lines)


def _progress(verbose: Any, header: str) -> list[Callback]:
    """What shows the training as `verbose` says."""
    if isinstance(verbose, (bool, np.bool_)):
        return [Progress(header=header)] if verbose else []
    if isinstance(verbose, str) and verbose == "epoch":
        return [Progress(within=False, header=header)]
    if not is_whole(verbose, 0):
        raise ArgumentError(f'fit: expected verbose to be True, False, "epoch" or a number of epochs, got {verbose!r}')
    return [Progress(every=int(verbose), within=False, header=header)] if verbose else []


def _run_epoch(
    training: Training, step: Any, loss: Any, watch: Any, numbers: finite.Watched, interrupts: Interrupts,
    resume: Callable[[], None],
) -> None:  # fmt: skip
    """One epoch: its updates, its validation, its record; or as much of it as there was before somebody stopped it.

    `resume` brings back the modes of the training where a callback has left the model in eval mode.
    """
    optimizer, scheduler, history = training.optimizer, training.scheduler, training.history
    training.epoch, training.batch, training.images, training.seconds = len(history) + 1, 0, 0, 0.0
    per = stepped_per(scheduler)
    tally, penalties, callbacks = Tally(loss, training.batches.labels), 0.0, training.callbacks
    _call(callbacks, "on_epoch_begin", training)
    resume()
    start = time.perf_counter()
    for x, y, labels, weights in training.feed(training.batches):
        if not training.batch:
            step.prepare(x, y, lambda shape: check_outputs(training.batches.labels, shape, loss))
        penalty = _penalty(optimizer)
        try:
            value = step(x, y)
        except NonFiniteError as error:
            of_gradient = str(error) if error.message.startswith("backward: ") else ""  # detect_anomaly's
            if error.module is not None:
                of_gradient += f", in {finite.named(training.model, error.module)}"
            raise NonFiniteError(
                f"the {'gradient' if of_gradient else 'training loss'} became non-finite in epoch {training.epoch}, "
                f"batch {training.batch + 1}, at learning rate {_rate(optimizer):g}, and no update was made from it: "
                f"{_cause(training, x, y, of_gradient)}"
            ) from None
        if labels is not None:
            tally.add(value, step.outputs if tally.needs_outputs else None, labels, weights=weights)
            if penalty is not None:
                penalties += count_of(labels) * penalty
        rate = _rate(optimizer)
        if per == "batch":
            scheduler.step()
        training.batch, training.images, training.loss = training.batch + 1, tally.count, tally.loss
        training.images = training.team.images(training)
        training.penalty = None if penalty is None else penalties / max(tally.count, 1)
        training.seconds = time.perf_counter() - start
        if numbers.every_step:
            _check_finite(training, numbers)
        training.team.call(callbacks, "on_batch_end", training)
        if not training.model.training:
            resume()
        interrupts.heed()
        if training.stopped:
            training.team.settle(training)
            _check_finite(training, numbers)
            return
    seconds = training.seconds
    training.team.settle(training)
    tally.join(training.team.collect, whole=True)
    _check_finite(training, numbers)
    watched = None if watch is None else _watched(watch, training.epoch)
    metrics = {} if watched is None else dict(watched.metrics)
    accuracy = metrics.pop("accuracy", None if watched is None else watched.accuracy)  # which has its own column
    if per == "metric":
        scheduler.step(tally.loss if watched is None else watched.loss)
    elif per == "epoch":
        scheduler.step()
    record = EpochRecord(
        epoch=training.epoch,
        train_loss=tally.loss,
        train_accuracy=tally.accuracy,
        val_loss=None if watched is None else watched.loss,
        val_accuracy=accuracy,
        lr=rate,
        seconds=seconds,
        images_per_second=tally.count / seconds,
        penalty=training.penalty,
        communication=training.team.communication,
        metrics=metrics,
    )
    history.append(training.team.same(record))
    _stop_without_descent(training)
    _call(callbacks, "on_epoch_end", training)
    resume()
    interrupts.heed()


def _watched(watch: Any, epoch: int) -> Evaluation:
    try:
        result: Evaluation = watch()
        return result
    except NonFiniteError as error:
        raise NonFiniteError(f"in the validation of epoch {epoch}: {error}") from None


def _cause(training: Training, x: Any, y: Any, of_gradient: str) -> str:
    """Where the loss of the batch under way comes from, which is not finite; or what is known of the gradient."""
    own = finite.cause(training.model, x, y, np.arange(training.batches.count)[training.feed.chosen])
    found = min(training.team.collect(own), key=lambda cause: "overflowed" in cause)  # who does not know says that
    if "overflowed" in found:
        return f"{of_gradient or found}; try a smaller learning rate"
    return f"{of_gradient}; {found}" if of_gradient else found


def _check_finite(training: Training, numbers: finite.Watched) -> None:
    """A gradient can overflow where the loss does not, and a statistic where it leaves no trace in the loss."""
    found = numbers.found()
    if found:
        batch = f", batch {training.batch}" if numbers.every_step else ""
        advice = "" if numbers.every_step else ", or find the batch by detect_anomaly=True"
        raise NonFiniteError(
            f"{found} became non-finite in epoch {training.epoch}{batch}, at learning rate "
            f"{_rate(training.optimizer):g}: try a smaller one{advice}"
        )


def _stop_without_descent(training: Training) -> None:
    if getattr(training.optimizer, "converged", False):
        training.stop("no step along the gradient decreases what is minimised")


def _penalty(optimizer: Any) -> float | None:
    """What the optimiser adds to the loss for the parameters as they are; None without a penalty."""
    return optimizer.penalty() if isinstance(optimizer, Optimizer) else None


def _rate(optimizer: Any) -> float:
    return float(optimizer.param_groups[0]["lr"])


def _call(callbacks: Sequence[Callback], moment: str, training: Training) -> None:
    training.team.call(callbacks, moment, training)


def _begin(callbacks: Sequence[Callback], training: Training, begun: list[Callback]) -> None:
    for callback in callbacks:
        callback.on_train_begin(training)
        begun.append(callback)


def _end(callbacks: Sequence[Callback], training: Training) -> None:
    """The callbacks' last moment, also where one of them fails in it: weights are put back, files are closed."""
    failures: list[BaseException] = []
    for callback in callbacks:
        try:
            callback.on_train_end(training)
        except BaseException as error:
            failures.append(error)
    if failures:
        raise failures[0]
