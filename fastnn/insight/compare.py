"""Several optimisers from one start: on a function of two numbers, or on a network."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from fastnn import optim, random
from fastnn.checks import is_number, whole
from fastnn.console import bar, shown
from fastnn.errors import ArgumentError
from fastnn.nn import Module
from fastnn.tensors import Tensor
from fastnn.train import RecordPath, evaluate, fit
from fastnn.train.evaluate import as_dataset

from .landscape import Axis, Landscape, Trajectory, plane, sample
from .surfaces import SURFACES, Surface

__all__ = ["OPTIMIZERS", "compare_optimizers"]

PATHS_BYTES = 350_000_000  # that the paths on a network may take, all together
GRID = 101  # points of a function of two numbers, along each axis

# By name, of parameters and a learning rate.
OPTIMIZERS: dict[str, Callable[[Any, float], optim.Optimizer]] = {
    "SGD": lambda params, lr: optim.SGD(params, lr),
    "momentum": lambda params, lr: optim.SGD(params, lr, momentum=0.9),
    "Nesterov": lambda params, lr: optim.SGD(params, lr, momentum=0.9, nesterov=True),
    "Adam": lambda params, lr: optim.Adam(params, lr),
    "RMSprop": lambda params, lr: optim.RMSprop(params, lr),
    "Rprop": lambda params, lr: optim.Rprop(params, lr),
    "Adagrad": lambda params, lr: optim.Adagrad(params, lr),
}
# For networks. Rprop compares the signs of two gradients, which mean little from two different batches: left alone, its
# steps grow until it diverges, so that they are kept small.
LARGEST_RPROP = 0.001
RATES = {
    "SGD": 0.1, "momentum": 0.03, "Nesterov": 0.03, "Adam": 0.002, "RMSprop": 0.001, "Rprop": 0.0005, "Adagrad": 0.01,
}  # fmt: skip


def compare_optimizers(
    surface: str | Surface | Module = "ravine",
    data: Any = None,
    *,
    optimizers: Mapping[str, Callable[[Any], Any]] | None = None,
    steps: int | None = None,
    start: tuple[float, float] | None = None,
    epochs: int | None = None,
    batch_size: int = 32,
    loss: Any = None,
    seed: int = 0,
    **options: Any,
) -> Landscape:
    """The paths of several optimisers from one start, on one surface: `landscape.view` plays them.

    On a function of two numbers f(x, y), the paths are the points themselves. On a network every optimiser trains a
    copy of the model, on the same batches in the same order; all paths are projected on one plane, that of the two
    principal components of them all, through the model with the least loss at the end. The model itself is not changed.

    Args:
        surface: ``"ravine"``, ``"rosenbrock"``, ``"beale"``, ``"saddle"``, a `Surface` of your own, or a model.
        data: for a model, as for `fit`: of a data set's name the training part.
        optimizers: by name, functions of the parameters such as ``lambda params: optim.SGD(params, lr=0.1)``; by
            default SGD, momentum, Nesterov, Adam, RMSprop, Rprop and Adagrad, each at a rate at which it shows what it
            is like.
        steps: updates of each, on a function of two numbers; by default as many as tell its story.
        start: (x, y) on it, likewise.
        epochs: of each training of a network; 3 by default.
        batch_size, loss, seed: of each training of a network, as for `fit`.
        options: of `landscape.plane`, for a network: points, images, progress, ...

    Returns:
        A `Landscape` with one path an optimiser: ``result.paths[i].name``, ``.coordinates`` and ``.losses``. A path
        that becomes infinite ends before that.

    Raises ArgumentError for an unknown surface, a model without data, and the like.

    >>> import fastnn as fnn
    >>> result = fnn.compare_optimizers("ravine", steps=60)
    >>> [path.name for path in result.paths][:3], result.paths[0].coordinates.shape
    (['SGD', 'momentum', 'Nesterov'], (61, 2))
    """
    if isinstance(surface, Module):
        if data is None or steps is not None or start is not None:
            raise ArgumentError("compare_optimizers: a model expects data, and epochs instead of steps and start")
        small = {"Rprop": lambda params: optim.Rprop(params, RATES["Rprop"], step_sizes=(1e-6, LARGEST_RPROP))}
        chosen = {**_at(RATES), **small} if optimizers is None else _checked(optimizers)
        epochs = 3 if epochs is None else epochs
        epochs = whole("compare_optimizers", "epochs", epochs, 1)
        return _on_network(surface, data, chosen, epochs, batch_size, loss, seed, options)
    if data is not None or epochs is not None or loss is not None or options:
        raise ArgumentError(
            "compare_optimizers: expected a model with data, epochs, loss and options of a landscape, got a surface, "
            "which takes steps and start"
        )
    if not isinstance(surface, Surface):
        if not isinstance(surface, str) or surface not in SURFACES:
            raise ArgumentError(
                f"compare_optimizers: expected a model, a Surface, or one of {', '.join(SURFACES)}, got {surface!r}"
            )
        surface = SURFACES[surface]
    steps = surface.steps if steps is None else steps
    steps = whole("compare_optimizers", "steps", steps, 1)
    rates = {**dict.fromkeys(OPTIMIZERS, 0.01), **surface.rates}
    chosen = _at(rates) if optimizers is None else _checked(optimizers)
    start = surface.start if start is None else start
    if np.shape(start) != (2,) or not all(map(is_number, start)):
        raise ArgumentError(f"compare_optimizers: expected start=(x, y), two numbers, got {start!r}")
    return _on_surface(surface, chosen, steps, start)


def _checked(optimizers: Any) -> Mapping[str, Callable[[Any], Any]]:
    """ArgumentError unless there are functions by names."""
    if not isinstance(optimizers, Mapping) or not optimizers or not all(map(callable, optimizers.values())):
        raise ArgumentError(
            'compare_optimizers: expected functions by name, optimizers={"SGD": lambda params: optim.SGD(params, '
            f"lr=0.1)}}, got {optimizers!r}"
        )
    return optimizers


def _at(rates: Mapping[str, float]) -> dict[str, Callable[[Any], Any]]:
    """The optimisers, each at its rate."""

    def make(name: str) -> Callable[[Any], Any]:
        return lambda params: OPTIMIZERS[name](params, rates[name])

    return {name: make(name) for name in OPTIMIZERS}


def _on_surface(
    surface: Surface, optimizers: Mapping[str, Callable[[Any], Any]], steps: int, start: tuple[float, float]
) -> Landscape:
    axes = [np.linspace(low, high, GRID) for low, high in surface.window]
    x, y = np.meshgrid(*axes)
    return Landscape(
        np.asarray(surface.function(x, y), np.float64),
        tuple(Axis(symbol, values) for symbol, values in zip("xy", axes, strict=True)),
        paths=tuple(_descend(surface, name, make, steps, start) for name, make in optimizers.items()),
        title=f"Optimisers on {surface.name}",
        about={"formula": surface.formula},
        time="step",
        lowest=surface.lowest,
        log=surface.log,
        contours=True,
        moment=None if surface.moment is None else min(surface.moment, steps),
    )


def _descend(
    surface: Surface, name: str, make: Callable[[Any], Any], steps: int, start: tuple[float, float]
) -> Trajectory:
    """In float64, where overflow is somebody's learning rate and no warning."""
    point = [Tensor(np.array([value], np.float64), requires_grad=True) for value in start]
    optimizer = make(point)
    rate = optimizer.param_groups[0]["lr"]
    places, losses = [], []
    with np.errstate(over="ignore", invalid="ignore"):
        for step in range(steps + 1):
            loss = surface.function(*point).sum()
            place = [float(coordinate.data[0]) for coordinate in point]
            if not np.isfinite([loss.item(), *place]).all():
                break
            places.append(place)
            losses.append(loss.item())
            if step < steps:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    if not places:
        raise ArgumentError(f"compare_optimizers: expected a start where {surface.name} is finite, got {start}")
    times = np.arange(len(places), dtype=np.float64)
    return Trajectory(name, times, np.array(places), np.array(losses), np.zeros(len(places)), lr=rate)


def _on_network(
    model: Module,
    data: Any,
    optimizers: Mapping[str, Callable[[Any], Any]],
    epochs: int,
    batch_size: int,
    loss: Any,
    seed: int,
    options: dict[str, Any],
) -> Landscape:
    train = as_dataset(data, "train")
    shown = sample(train, options.get("images", 2000))
    paths, rates, ends = {}, {}, []
    before = random.get_state()
    most_bytes = PATHS_BYTES // len(optimizers)
    try:
        for name, make in _with_bar(optimizers, options.get("progress", True)):
            own = copy.deepcopy(model)
            optimizer = make(own.parameters())
            rates[name] = optimizer.param_groups[0]["lr"]
            record = RecordPath(per_epoch=max(4, round(40 / epochs)), most_bytes=most_bytes)
            fit(
                own,
                train,
                loss=loss,
                optimizer=optimizer,
                epochs=epochs,
                batch_size=batch_size,
                seed=seed,
                callbacks=[record],
                verbose=False,
            )
            paths[name] = record.path
            ends.append((evaluate(own, shown, loss=loss).loss, own))
    finally:
        random.set_state(before)
    best = min(ends, key=lambda end: end[0])[1]
    result = plane(best, shown, "pca", path=paths, loss=loss, seed=seed, **options)
    named = tuple(dataclasses.replace(path, lr=rates[path.name]) for path in result.paths)
    return dataclasses.replace(result, title="Optimisers from one start", paths=named)


def _with_bar(optimizers: Mapping[str, Callable[[Any], Any]], progress: bool) -> Iterator[tuple[str, Any]]:
    """The optimisers, with a bar that names the one that trains."""
    with bar(
        None if progress else False, desc="optimisers", total=len(optimizers), unit=" trained", leave=False
    ) as moving:
        for name, make in optimizers.items():
            moving.set_postfix_str(shown(name))
            yield name, make
            moving.update()
