"""The training loop: forward, backward, update, repeat."""

from __future__ import annotations

import copy
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from fastnn import random
from fastnn.checks import is_number, is_whole
from fastnn.data import Batches
from fastnn.data.about import about
from fastnn.errors import ArgumentError, NonFiniteError
from fastnn.interrupts import Interrupts
from fastnn.nn import CrossEntropyLoss, NLLLoss
from fastnn.nn.modes import training_mode
from fastnn.ops.norms import check_pixels
from fastnn.optim import Adam, Optimizer
from fastnn.plan.fewest import fewest_in_training, trial
from fastnn.trees import count_of, take

from . import finite
from .callbacks import Callback, Training
from .checks import check_fit, check_model, check_trainable
from .evaluate import Evaluation, Tally, are_pixels, as_dataset, evaluate, input_for
from .history import EpochRecord, History
from .interrupts import Interrupted
from .named import named_loss, named_optimizer
from .predict import remember
from .progress import Progress
from .steps import make_step, needs_closure
from .targets import check_outputs, check_probabilities, check_targets

__all__ = ["fit"]


def fit(
    model: Any,
    train: Any,
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
) -> History:
    """Train a model.

    Args:
        model: maps images (N, C, H, W), or other samples (N, ...), to outputs; logits (N, K) for classes.
        train: a data set's name, an image folder or a list of image files (its training part, see `fnn.data.load`), a
            `Dataset`, ``(images, labels)``, or `Batches`, which keep their own size, order and augmentation. uint8
            images, (N, H, W) or (N, C, H, W), are divided by 255, here or by the model's own ``nn.Normalize``; the
            features (N, F) of a table are divided only by the latter. Where a single image would be left for the last
            batch and the model cannot take one alone, as with batch norm of features, it joins the batch before. Models
            of several inputs or targets take a tuple or a dict of arrays in the place of either array, as a compiled
            step does.
        val: what to watch by, never trained on: a fraction or a number of the training images (stratified by class), a
            `Dataset`, ``(images, labels)``, the name of a data set (its test part), or image files, as for `evaluate`:
            "pets/val" for the folder val of "pets".
        loss: maps (outputs, labels) to one number, or "cross_entropy", "mse", "mae", "huber", "bce_with_logits" or
            "nll"; by default ``nn.CrossEntropyLoss()``.
        optimizer: holds the model's parameters, or "adam", "adamw", "rmsprop" (rate 0.001) or "sgd" (0.01, momentum
            0.9); by default ``optim.Adam(model.parameters(), lr=0.001)``. With
            ``optim.GradientDescent``, which wants ``batch_size="full"``, the training ends where no step descends.
        scheduler: a schedule on that optimiser. ``OneCycleLR`` counts batches and is stepped after each; all others
            count epochs, ``ReduceLROnPlateau`` by the validation loss (the training loss without validation).
        epochs: times through the training data.
        batch_size: images in a batch; the last one of an epoch may be smaller. "full" for all of them: gradient descent
            on the whole training data, one update an epoch.
        seed: for the split, the order of the images and dropout, by way of `manual_seed`. None goes on with fastnn's
            random numbers, and splits by seed 0.
        callbacks: see `Callback`; among them `EarlyStopping`, `StopOnPlateau`, `StopOnStep`, `Checkpoint` and
            `LRFinder`, in ``fnn.train``.
        verbose: whether to show progress: a table of the epochs on standard output, and a bar in notebooks and on
            standard error (plain lines where that is no terminal). "epoch" shows the table alone, a number n a row for
            every n-th epoch, False nothing.
        compile: whether the steps are compiled (`fnn.compile`): the same mathematics, faster. `.grad` then stays None.
            A model that reads values of its tensors to decide what to do needs False (GraphError tells). Where forward
            or the loss does not do the same at every call (draws in NumPy, counts its calls, writes into attributes),
            a warning says so, and the training runs operator by operator.

    Returns:
        The epochs' measurements. The model is trained in place, and its modes (train or eval) are those that it came
        with. It trains in training mode, but parts that you have put into eval mode stay in it, and so does batch norm
        in parts that are frozen (`Module.freeze`). Where the model itself is in eval mode, all of it is trained, unless
        `train()` was called on parts of it: then those alone are in training mode.

    Raises:
        NonFiniteError: the loss became infinite or not a number (it was used for no update, and batch norm's statistics
            are as before that batch), or a parameter, a buffer or the optimiser's state did, which is noticed at the
            end of an epoch at the latest, before anything is kept of it. The message says which, and where.
        Interrupted: a KeyboardInterrupt, by Ctrl-C or SIGTERM, raised after a whole update; the model is usable, and
            the exception holds the history. (Only in the main thread, where Python lets signals be handled.)
        ArgumentError: options that make no sense; among them a loss that cannot be right for such targets and outputs,
            and parameters of which none is to be learned, or none gets a gradient. LabelError: a label that the model
            has no output for, or targets that are none for this loss. DataError: no such data.

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
    callbacks = [*callbacks, *_progress(verbose)]
    epochs = int(epochs)
    if seed is not None:
        random.manual_seed(seed)
    batches, held = _data(train, val, batch_size, seed)
    if are_pixels(model, batches.images):
        check_pixels(batches.images)
    loss = CrossEntropyLoss() if loss is None else loss
    optimizer = Adam(model.parameters(), lr=1e-3) if optimizer is None else optimizer
    check_trainable(model, optimizer)
    check_targets("fit", batches.labels, loss)
    finite.check_model("fit", model)
    if needs_closure(optimizer) and len(batches) > 1:
        raise ArgumentError(
            f"fit: expected one batch of all images for {type(optimizer).__name__}, got {len(batches)} batches an "
            'epoch: give batch_size="full", or Batches of that size'
        )
    step = make_step(model, loss, optimizer, compile)
    remember(model, batches, loss)
    held = None if held is None else as_dataset(held, "test", about(model))
    numbers = finite.Watched(model, optimizer)
    watch = None if held is None else partial(evaluate, model, held, loss=loss, compile=compile)
    training = Training(
        model, optimizer, scheduler, batches, epochs,
        penalty=_penalty(optimizer), loss_fn=loss, compile=compile, val=held, callbacks=callbacks,
    )  # fmt: skip

    interrupts = Interrupts()
    try:
        with training_mode(model), interrupts, _tried_out(training):
            begun: list[Callback] = []
            try:
                for callback in callbacks:
                    callback.on_train_begin(training)
                    begun.append(callback)
                if training.history:  # restored
                    finite.check_model("fit, going on with a kept training", model)
                    _stop_without_descent(training)
                while len(training.history) < epochs and not training.stopped:
                    _run_epoch(training, step, loss, watch, numbers, interrupts)
            finally:
                interrupts.patient = True
                _end(begun, training)
        interrupts.patient = False
        interrupts.heed()  # what came while callbacks ended; from now on signals take their own course again
    except KeyboardInterrupt as error:
        number = interrupts.caught or signal.SIGINT
        raise Interrupted(
            f"training was stopped by {signal.Signals(number).name} in epoch {training.epoch}, "
            f"after {training.batch} of {len(training.batches)} batches",
            training.history,
            number,
        ) from error
    return training.history


def _progress(verbose: Any) -> list[Callback]:
    """What shows the training as `verbose` says."""
    if isinstance(verbose, (bool, np.bool_)):
        return [Progress()] if verbose else []
    if verbose == "epoch":
        return [Progress(within=False)]
    if not is_whole(verbose, 0):
        raise ArgumentError(f'fit: expected verbose to be True, False, "epoch" or a number of epochs, got {verbose!r}')
    return [Progress(every=int(verbose), within=False)] if verbose else []


def _run_epoch(
    training: Training, step: Any, loss: Any, watch: Any, numbers: finite.Watched, interrupts: Interrupts
) -> None:
    """One epoch: its updates, its validation, its record; or as much of it as there was before somebody stopped it."""
    model, optimizer, scheduler, history = training.model, training.optimizer, training.scheduler, training.history
    training.epoch, training.batch, training.images, training.seconds = len(history) + 1, 0, 0, 0.0
    per = _stepped_per(scheduler)
    tally, to_input, penalties, callbacks = Tally(loss), input_for(model), 0.0, training.callbacks
    _call(callbacks, "on_epoch_begin", training)
    start = time.perf_counter()
    for images, labels in training.batches:
        images = to_input(images)
        if not training.batch:
            step.prepare(images, labels, lambda shape: check_outputs(training.batches.labels, shape, loss))
        penalty = _penalty(optimizer)
        try:
            value = step(images, labels)
        except NonFiniteError:
            raise NonFiniteError(
                f"the training loss became non-finite in epoch {training.epoch}, batch "
                f"{training.batch + 1}, at learning rate {_rate(optimizer):g}, and no update was made from it: "
                f"{_cause(training, images, labels)}"
            ) from None
        tally.add(value, step.outputs, labels)
        rate = _rate(optimizer)
        if per == "batch":
            scheduler.step()
        training.batch, training.images, training.loss = training.batch + 1, tally.count, tally.loss
        penalties += count_of(labels) * (penalty or 0.0)
        training.penalty = None if penalty is None else penalties / tally.count
        training.seconds = time.perf_counter() - start
        _call(callbacks, "on_batch_end", training)
        interrupts.heed()
        if training.stopped:
            _check_finite(training, numbers)
            return
    seconds = training.seconds
    _check_finite(training, numbers)
    watched = None if watch is None else _watched(watch, training.epoch)
    if per == "metric":
        scheduler.step(tally.loss if watched is None else watched.loss)
    elif per == "epoch":
        scheduler.step()
    history.append(
        EpochRecord(
            epoch=training.epoch,
            train_loss=tally.loss,
            train_accuracy=tally.accuracy,
            val_loss=None if watched is None else watched.loss,
            val_accuracy=None if watched is None else watched.accuracy,
            lr=rate,
            seconds=seconds,
            images_per_second=tally.count / seconds,
            penalty=training.penalty,
        )
    )
    _stop_without_descent(training)
    _call(callbacks, "on_epoch_end", training)
    interrupts.heed()


def _data(train: Any, val: Any, batch_size: int | str, seed: int | None) -> tuple[Batches, Any]:
    """Training batches, and what was given to watch by, a part of the training data included."""
    share = is_number(val)
    if isinstance(train, Batches):
        if share:
            raise ArgumentError(
                f"fit: expected validation data of their own beside Batches, got val={val}: split before making batches"
            )
        batches, held = train, val
    else:
        dataset, held = as_dataset(train, "train"), val
        if share:
            dataset, held = dataset.split(val, seed=0 if seed is None else seed)
        if isinstance(batch_size, str):
            if batch_size != "full":
                raise ArgumentError(f'fit: expected batch_size to be a number of images or "full", got {batch_size!r}')
            batch_size = max(len(dataset), 1)
        batches = Batches(dataset.images, dataset.labels, batch_size, shuffle=True, seed=seed)
        batches.classes, batches.name = dataset.classes, dataset.name
    if not len(batches):
        raise ArgumentError("fit: expected at least one training image, got none")
    return batches, held


@contextmanager
def _tried_out(training: Training) -> Iterator[None]:
    """Context in which no batch is of a single image unless the model takes one; what has to be tried out for that, and
    to judge the loss, is tried before anything is updated."""
    model, batches, loss, scheduler = training.model, training.batches, training.loss_fn, training.scheduler

    def images() -> Any:
        """Two of the first batch, as the model is given them."""
        first, _ = next(iter(copy.copy(batches)))
        return to_input(take(first, slice(2)))

    to_input, before, number = input_for(model), batches.fewest, len(batches)
    if isinstance(loss, NLLLoss):
        check_probabilities("fit", trial(model, images()), loss)
    if batches.batch_size > 1 and batches.count % batches.batch_size == 1 and not batches.drop_last:
        batches.fewest = max(before, fewest_in_training(model, images))
    try:
        steps = training.epochs * len(batches)
        if _stepped_per(scheduler) == "batch" and scheduler.total_steps == training.epochs * number != steps:
            raise ArgumentError(
                f"fit: expected {type(scheduler).__name__}(total_steps={steps}), got {scheduler.total_steps}: the "
                f"single image that is left over in each epoch joins the batch before it, so there are {len(batches)}"
            )
        yield
    finally:
        batches.fewest = before


def _watched(watch: Any, epoch: int) -> Evaluation:
    try:
        result: Evaluation = watch()
        return result
    except NonFiniteError as error:
        raise NonFiniteError(f"in the validation of epoch {epoch}: {error}") from None


def _cause(training: Training, images: Any, labels: Any) -> str:
    """Where the loss of the batch under way comes from, which is not finite."""
    batches = training.batches
    order, start = batches.order(batches.epoch - 1), training.batch * batches.batch_size
    found = finite.cause(training.model, images, labels, order[start : start + count_of(images)])
    return f"{found}; try a smaller learning rate" if "overflowed" in found else found


def _check_finite(training: Training, numbers: finite.Watched) -> None:
    """A gradient can overflow where the loss does not, and a statistic where it leaves no trace in the loss."""
    found = numbers.found()
    if found:
        raise NonFiniteError(
            f"{found} became non-finite in epoch {training.epoch}, at learning rate {_rate(training.optimizer):g}: "
            "try a smaller one"
        )


def _stepped_per(scheduler: Any) -> str | None:
    """How often the schedule is stepped: once per "batch", per "epoch", or per "metric"; None without a schedule."""
    return None if scheduler is None else getattr(scheduler, "per", "epoch")


def _stop_without_descent(training: Training) -> None:
    if getattr(training.optimizer, "converged", False):
        training.stop("no step along the gradient decreases what is minimised")


def _penalty(optimizer: Any) -> float | None:
    """What the optimiser adds to the loss for the parameters as they are; None without a penalty."""
    return optimizer.penalty() if isinstance(optimizer, Optimizer) else None


def _rate(optimizer: Any) -> float:
    return float(optimizer.param_groups[0]["lr"])


def _call(callbacks: Sequence[Callback], moment: str, training: Training) -> None:
    for callback in callbacks:
        getattr(callback, moment)(training)


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
