"""Losses along a line, over a plane and on a path: the model is moved there, measured, and put back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from fastnn.checks import whole
from fastnn.console import bar
from fastnn.data import Dataset
from fastnn.errors import ArgumentError
from fastnn.nn import BatchNorm1d, BatchNorm2d, Module
from fastnn.tensors import Array
from fastnn.train.checks import check_loss
from fastnn.train.evaluate import as_dataset, loss_for
from fastnn.train.path import ParameterPath

from .directions import Direction, choose, coordinates, flat, flattened
from .meter import Meter, averaging, put_back
from .result import Axis, Landscape, Trajectory

__all__ = ["line", "plane", "sample", "trajectory"]

MARGIN = 0.25  # of a path's width, or of the way to another model, that is shown on each side of it
NARROWEST = 0.4  # of the wider side of such a plane: what the other one has at least

Extent = float | tuple[float, float] | tuple[tuple[float, float], tuple[float, float]] | None
Paths = ParameterPath | Mapping[str, ParameterPath] | None


def line(model: Module, data: Any, direction: Any = "filter", *, points: int = 51, **options: Any) -> Landscape:
    """The loss at w* + t·d for t from -1 to 1 (see extent): exactly L(w*) at t = 0.

    Args:
        points: how many; odd numbers have one at t = 0.
        others: as for `plane`, with one direction.

    >>> import fastnn as fnn
    >>> model = fnn.nn.Sequential(fnn.nn.Normalize(0.3, 0.4), fnn.nn.Flatten(), fnn.nn.Linear(784, 10))
    >>> other = fnn.nn.Sequential(fnn.nn.Normalize(0.3, 0.4), fnn.nn.Flatten(), fnn.nn.Linear(784, 10))
    >>> between = fnn.landscape.line(model, "digits", other, points=5, extent=(0, 1), progress=False)
    >>> between.axes[0].values, bool(abs(between.losses[-1] - fnn.evaluate(other, "digits").loss) < 1e-5)
    (array([0.  , 0.25, 0.5 , 0.75, 1.  ]), True)
    """
    return _landscape(model, data, direction, 1, points=_counts((points,), 1), **options)


def plane(
    model: Module,
    data: Any,
    directions: Any = None,
    *,
    points: int | tuple[int, int] = 25,
    **options: Any,
) -> Landscape:
    """The loss at w* + t·d + s·p for t and s from -1 to 1, in eval mode: exactly what `evaluate` gives at (0, 0).

    Directions are a kind for both, or a pair of what follows, also mixed:

    * ``"filter"``: Gaussian, each filter as long as the model's, biases and batch norm left alone (Li et al. 2018,
      https://arxiv.org/abs/1712.09913): pictures of different models can be compared.
    * ``"random"``: Gaussian, as long as all parameters together.
    * ``"pca"``: the principal components of `path`, of length 1, so that t and s are distances; from all paths.
    * arrays by parameters' names (others do not move); another model, or a run's folder, whose parameters lie at t = 1.
      Buffers stay w*'s: what `nn.Normalize` subtracts and batch norm's running statistics. With others of its own the
      other model has another loss than the landscape at t = 1; for batch norm see ``batch_norm="recompute"``.

    Args:
        model: a module; w* are its parameters. It is moved while it is measured, and put back bit for bit on every
            way out, Ctrl-C and errors too; no other thread should use it meanwhile.
        data: as for `evaluate`: of a data set's name the test part.
        directions: see above; by default ``"pca"`` with a path, else ``"filter"``.
        points: along each axis, or a pair; odd numbers have one at 0.

    Options, also of `line`:
        path: a `ParameterPath` to draw, or several by name (of models of this architecture).
        loss: as for `evaluate`.
        images: at most so many, a sample of each class (`sample` makes the same); 2,000 by default.
        extent: t and s go from -extent to extent, or (low, high), or a pair of those; 1 by default, or what shows the
            paths, for principal components; towards another model about (-1/4, 5/4), so that both are inside.
        seed: of random directions.
        batch_norm: ``"keep"`` uses the running statistics of w* everywhere; ``"recompute"`` takes new ones of the
            images at each point, which costs more than the rest, and by which the centre is no longer `evaluate`'s.
        batch_size: images at a time, as for `evaluate`.
        compile: whether the model is compiled, as for `evaluate`.
        progress: whether to show a bar on a terminal's standard error.

    Raises:
        ArgumentError, ShapeError, StateError: directions, paths or numbers that do not fit. DataError: no such data.

    >>> import fastnn as fnn
    >>> record = fnn.train.RecordPath()
    >>> model = fnn.nn.Sequential(fnn.nn.Normalize(0.3, 0.4), fnn.nn.Flatten(), fnn.nn.Linear(784, 10))
    >>> _ = fnn.fit(model, "digits", epochs=2, callbacks=[record], verbose=False)
    >>> result = fnn.landscape.plane(model, "digits", path=record.path, points=5, progress=False)
    >>> result.paths[0].coordinates.shape, bool(sum(result.explained) > 0.5)
    ((10, 2), True)
    """
    if directions is None:
        directions = "filter" if options.get("path") is None else "pca"
    pair = points if isinstance(points, tuple) else (points, points)
    return _landscape(model, data, directions, 2, points=_counts(pair, 2), **options)


def trajectory(model: Module, data: Any, path: ParameterPath, directions: Any = "pca", **options: Any) -> Trajectory:
    """Where a path lies in the plane through w* with these directions, and the loss at each of its points.

    Args and errors: as for `plane`, which does this for the paths it is given, but without a grid.

    >>> import fastnn as fnn
    >>> record = fnn.train.RecordPath(per_epoch=2)
    >>> model = fnn.nn.Sequential(fnn.nn.Normalize(0.3, 0.4), fnn.nn.Flatten(), fnn.nn.Linear(784, 10))
    >>> _ = fnn.fit(model, "digits", epochs=1, callbacks=[record], verbose=False)
    >>> way = fnn.landscape.trajectory(model, "digits", record.path, progress=False)
    >>> way.coordinates[-1].round(4) + 0, bool(way.losses[0] > way.losses[-1])
    (array([0., 0.]), True)
    """
    return _landscape(model, data, directions, 2, points=(0, 0), path=path, **options).paths[0]


def sample(data: Any, images: int = 2000) -> Dataset:
    """The images that a landscape is measured on: all, in their order, or so many of a larger data set, by class.

    Args:
        data: as for `evaluate`: of a data set's name the test part.

    >>> len(sample("digits", 100))
    100
    """
    dataset = as_dataset(data, "test")
    images = whole("landscape", "images", images, 1)
    if not len(dataset):
        raise ArgumentError(f"landscape: expected at least one image, got {dataset!r}")
    return dataset if len(dataset) <= images else dataset.split(images)[1]


def _landscape(
    model: Module,
    data: Any,
    directions: Any,
    count: int,
    *,
    points: tuple[int, ...],
    path: Paths = None,
    loss: Any = None,
    images: int = 2000,
    extent: Extent = None,
    seed: int = 0,
    batch_norm: str = "keep",
    batch_size: int = 256,
    compile: bool = True,
    progress: bool = True,
) -> Landscape:
    _check(model, batch_norm)
    seed = whole("landscape", "seed", seed, 0)
    check_loss("landscape", loss)
    paths = _paths(path)
    dataset = sample(data, images)
    loss = loss_for(model, dataset.images, dataset.labels) if loss is None else loss
    parameters = {name: parameter.numpy() for name, parameter in model.named_parameters()}
    chosen = choose(directions, count, parameters, paths, seed)
    origin, vectors = flattened(parameters), [flattened(direction.vector) for direction in chosen]
    placed = {name: coordinates(flat([way], parameters), origin, vectors) for name, way in paths.items()}
    grids = _grids(extent, points, chosen, [nearest for nearest, _ in placed.values()])

    norms = [module for module in model.modules() if isinstance(module, (BatchNorm1d, BatchNorm2d))]
    norms = [norm for norm in norms if norm.running_mean is not None and not norm.frozen]
    shape = tuple(len(grid) for grid in reversed(grids))
    losses, accuracies = np.full(shape, np.nan), np.full(shape, np.nan)
    trajectories = []
    with put_back(model) as interrupts, averaging(norms if batch_norm == "recompute" else []) as averaged:
        meter = Meter(model, dataset, loss, averaged, batch_size, compile)
        centre, share = meter()
        with _bar(losses.size + sum(map(len, paths.values())), progress) as bar:
            for index, _ in zip(np.ndindex(shape), _places(parameters, grids, chosen), strict=True):
                losses[index], accuracies[index] = meter()
                bar.update()
                interrupts.heed()
            for name, way in paths.items():
                along = []
                for state in way:
                    model.load_state_dict(state, strict=False)
                    along.append(meter()[0])
                    bar.update()
                    interrupts.heed()
                trajectories.append(_trajectory(name, way, *placed[name], along, chosen))
    return Landscape(
        losses,
        tuple(Axis(t, grid, d.name, d.explained) for t, grid, d in zip("ts", grids, chosen, strict=False)),
        None if np.isnan(share) else accuracies,
        centre,
        tuple(trajectories),
        about={"data": dataset.name, "images": len(dataset), "batch_norm": batch_norm if norms else None},
    )


def _trajectory(
    name: str, way: ParameterPath, nearest: Array, distances: Array, losses: list[float], chosen: list[Direction]
) -> Trajectory:
    shares = tuple(direction.explained for direction in chosen if direction.explained is not None)
    explained = shares if len(shares) == len(chosen) else None
    return Trajectory(name, np.array(way.epochs), nearest, np.array(losses), distances, explained)


def _places(parameters: dict[str, Array], grids: list[Array], chosen: list[Direction]) -> Iterator[None]:
    """Put the parameters, live arrays, to each point of the grid in turn, row by row; at 0 with their very bits."""
    start = {name: array.copy() for name, array in parameters.items()}
    for s in grids[1].tolist() if len(grids) > 1 else [0.0]:
        row = start
        if s != 0:
            row = {name: array + s * chosen[1].vector[name] for name, array in start.items()}
        for name, array in parameters.items():
            array[...] = row[name]
        moving = [(array, row[name], chosen[0].vector[name]) for name, array in parameters.items()]
        moving = [(array, base, along) for array, base, along in moving if along.any()]
        for t in grids[0].tolist():
            for array, base, along in moving:
                if t == 0:
                    array[...] = base
                else:
                    np.multiply(along, t, out=array)
                    array += base
            yield


def _grids(extent: Extent, points: tuple[int, ...], chosen: list[Direction], seen: list[Array]) -> list[Array]:
    """The multiples of each direction."""
    if extent is None and seen and all(direction.explained is not None for direction in chosen):
        return _around(np.concatenate([*seen, np.zeros((1, len(chosen)))]), points)
    if extent is None:
        return [_between(n) if d.towards else _grid(-1.0, 1.0, n) for d, n in zip(chosen, points, strict=True)]
    try:
        spans = np.asarray(extent, np.float64)
    except (TypeError, ValueError):
        spans = np.zeros(0)
    if spans.ndim == 0:
        spans = np.stack([-spans, spans])
    if spans.ndim == 1:
        spans = np.stack([spans] * len(chosen))
    if spans.shape != (len(chosen), 2) or not np.isfinite(spans).all() or not (spans[:, 0] < spans[:, 1]).all():
        raise ArgumentError(f"landscape: expected an extent above 0, (low, high) or a pair of those, got {extent!r}")
    return [_grid(low, high, n) for (low, high), n in zip(spans.tolist(), points, strict=True)]


def _between(n: int) -> Array:
    """n numbers from about -1/4 to 5/4, evenly spaced, of which one is 0 and one is 1, where the other model lies."""
    steps = max(1, round((n - 1) / (1 + 2 * MARGIN)))  # from 0 to 1
    return (np.arange(n) - max(0, n - 1 - steps) // 2) / steps


def _grid(low: float, high: float, n: int) -> Array:
    """n numbers, evenly spaced; symmetric where the ends are, so that the middle one is exactly 0."""
    grid = np.linspace(low, high, n)
    if low == -high:
        return (grid - grid[::-1]) / 2
    return np.where(np.abs(grid) < 1e-9 * (high - low), 0.0, grid)


def _around(points: Array, counts: tuple[int, ...]) -> list[Array]:
    """Grids that show all points with a margin, and on which 0 is a number."""
    low, high = points.min(axis=0), points.max(axis=0)
    half = (0.5 + MARGIN) * (high - low)
    half = np.maximum(half, NARROWEST * half.max())
    grids = []
    for middle, reach, n in zip((low + high) / 2, half, counts, strict=True):
        step = 2 * reach / max(n - 1, 1)
        grids.append(step * (np.arange(n) + np.round((middle - reach) / step)))
    return grids


def _check(model: Any, batch_norm: str) -> None:
    if not isinstance(model, Module):
        raise ArgumentError(f"landscape: expected a model (an nn.Module), got {type(model).__name__}")
    if next(iter(model.parameters()), None) is None:
        raise ArgumentError("landscape: expected a model with parameters, got one without")
    if batch_norm not in ("keep", "recompute"):
        raise ArgumentError(f"landscape: expected batch_norm 'keep' or 'recompute', got {batch_norm!r}")


def _counts(points: tuple[int, ...], count: int) -> tuple[int, ...]:
    """Points along each direction. ArgumentError unless they are."""
    if len(points) != count:
        raise ArgumentError(f"landscape: expected a number of points along each direction, got {points}")
    return tuple(whole("landscape", "points", n, 1) for n in points)


def _paths(path: Paths) -> dict[str, ParameterPath]:
    """By name. ArgumentError unless they are paths."""
    paths = {"path": path} if isinstance(path, ParameterPath) else {} if path is None else path
    if not isinstance(paths, Mapping) or not all(isinstance(each, ParameterPath) for each in paths.values()):
        raise ArgumentError(
            f"landscape: expected a path, or several by name, got {path!r}: train.ParameterPath.load(folder) reads "
            "that of a run"
        )
    return dict(paths)


def _bar(total: int, progress: bool) -> Any:
    return bar(None if progress else False, desc="landscape", total=total, unit=" points", leave=False)
