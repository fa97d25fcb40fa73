"""Directions in the space of a model's parameters, and what of a path lies along them.

Vectors are dicts from parameters' names to arrays of their shapes; paths are matrices (n, P), a flat state a row.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastnn import weights
from fastnn.errors import ArgumentError, ShapeError, StateError
from fastnn.nn import Module
from fastnn.tensors import Array
from fastnn.train.path import ParameterPath
from fastnn.train.runs import WEIGHTS

__all__ = [
    "Direction",
    "choose",
    "coordinates",
    "filter_normalised",
    "flat",
    "principal_components",
    "random_direction",
]

KINDS = ("random", "filter", "pca")
COLUMNS = 1 << 16  # of a path's matrix that are turned into float64 at a time

Vector = dict[str, Array]


@dataclass(frozen=True, eq=False)
class Direction:
    """A vector, what it is called, the share of the paths' variance along it if it is a principal component, and
    whether another model lies at its end."""

    name: str
    vector: Vector
    explained: float | None = None
    towards: bool = False


def choose(
    wanted: Any, count: int, parameters: Vector, paths: Mapping[str, ParameterPath], seed: int
) -> list[Direction]:
    """`count` directions from what the user asked for: one thing for all, or a pair of things."""
    if isinstance(wanted, (tuple, list)):
        if len(wanted) != count:
            raise ArgumentError(f"landscape: expected {count} directions, got {len(wanted)}")
        each = list(wanted)
    elif count > 1 and not isinstance(wanted, str):
        raise ArgumentError("landscape: a plane expects two directions: a kind such as 'filter', or a pair")
    else:
        each = [wanted] * count
    rng = np.random.default_rng(seed)
    main = [isinstance(one, str) and one == "pca" for one in each]
    components = iter(_components(sum(main), parameters, paths))
    return [
        next(components) if is_main else _direction(one, parameters, rng)
        for one, is_main in zip(each, main, strict=True)
    ]


def _direction(wanted: Any, parameters: Vector, rng: np.random.Generator) -> Direction:
    if isinstance(wanted, np.ndarray):
        raise ArgumentError("landscape: expected a direction as arrays by parameters' names, got one array")
    if wanted == "random":
        return Direction("random direction", random_direction(parameters, rng))
    if wanted == "filter":
        return Direction("filter-normalised direction", filter_normalised(parameters, rng))
    if isinstance(wanted, Module):
        vector = _towards(dict(wanted.state_dict()), parameters)
        return Direction("towards the other model", vector, towards=True)
    if isinstance(wanted, Mapping):
        return Direction("given direction", _given(wanted, parameters))
    if isinstance(wanted, (str, os.PathLike)) and Path(wanted).is_dir():
        vector = _towards(weights.load(Path(wanted) / WEIGHTS), parameters)
        return Direction(f"towards {Path(wanted).name}", vector, towards=True)
    raise ArgumentError(
        f"landscape: expected a direction among {', '.join(map(repr, KINDS))}, arrays by parameters' names, another "
        f"model or a run's folder, got {wanted if isinstance(wanted, str) else type(wanted).__name__!r}"
    )


def random_direction(parameters: Vector, rng: np.random.Generator) -> Vector:
    """Every entry Gaussian, the whole as long as all parameters together (Goodfellow et al. 2015)."""
    vector = {name: rng.standard_normal(array.shape) for name, array in parameters.items()}
    wanted, length = (
        np.sqrt(sum(float((a * a).sum(dtype=np.float64)) for a in v.values())) for v in (parameters, vector)
    )
    scale = (wanted or 1.0) / length
    return {name: (scale * vector[name]).astype(array.dtype) for name, array in parameters.items()}


def filter_normalised(parameters: Vector, rng: np.random.Generator) -> Vector:
    """Li et al. 2018, https://arxiv.org/abs/1712.09913: each filter of a Gaussian direction as long as the model's.

    A filter is a row of the weight: of a convolution (out, in, kh, kw) an output channel, of a dense layer (out, in) an
    output. Biases and the parameters of batch norm, which have one dimension, stay where they are, as they do in the
    paper: d ← d / ‖d‖ · ‖w‖ for each filter, else 0.

    Raises ArgumentError where all parameters have one dimension, so that nothing is left.
    """
    vector = {}
    for name, array in parameters.items():
        if array.ndim < 2:
            vector[name] = np.zeros_like(array)
            continue
        drawn = rng.standard_normal(array.shape)
        rows = tuple(range(1, array.ndim))
        lengths = [np.sqrt((a.astype(np.float64) ** 2).sum(axis=rows, keepdims=True)) for a in (array, drawn)]
        vector[name] = (drawn / lengths[1] * lengths[0]).astype(array.dtype)
    if not any(array.any() for array in vector.values()):
        raise ArgumentError(
            "landscape: expected weights of two or more dimensions for filter-normalised directions, got a model "
            "without, or with zeros alone: ask for 'random' directions"
        )
    return vector


def _given(arrays: Mapping[str, Any], parameters: Vector) -> Vector:
    unknown = [name for name in arrays if name not in parameters]
    if unknown or not arrays:
        got = ", ".join(unknown) or "none"
        raise StateError(f"landscape: expected a direction with names among {', '.join(parameters)}, got {got}")
    vector = {}
    for name, array in parameters.items():
        given = np.asarray(arrays.get(name, np.zeros_like(array)))
        if given.shape != array.shape:
            raise ShapeError(f"landscape: expected a direction with {name} of shape {array.shape}, got {given.shape}")
        vector[name] = given.astype(array.dtype)
    return vector


def _towards(state: Mapping[str, Array], parameters: Vector) -> Vector:
    """From these parameters to those of another model."""
    missing = [name for name in parameters if name not in state]
    if missing:
        raise StateError(f"landscape: expected a model of the same architecture, got one without {', '.join(missing)}")
    for name, array in parameters.items():
        if state[name].shape != array.shape:
            raise ShapeError(
                f"landscape: expected a model of the same architecture, with {name} of shape {array.shape}, "
                f"got {state[name].shape}"
            )
    return {name: state[name].astype(array.dtype) - array for name, array in parameters.items()}


# ---- paths -------------------------------------------------------------------------------------------------------


def flat(paths: Collection[ParameterPath], parameters: Vector) -> Array:
    """Paths as one matrix (n, P): a state a row, the parameters one after another. StateError if one does not fit."""
    size = sum(map(len, paths)), sum(array.size for array in parameters.values())
    rows = np.empty(size, np.result_type(*parameters.values()))
    for row, state in zip(rows, itertools.chain.from_iterable(paths), strict=True):
        for name, array in parameters.items():
            if name not in state or state[name].shape != array.shape:
                got = f"shape {state[name].shape}" if name in state else "none"
                raise StateError(f"landscape: expected a path with {name} of shape {array.shape}, got {got}")
        np.concatenate([state[name].reshape(-1) for name in parameters], out=row)
    return rows


def flattened(vector: Vector) -> Array:
    return np.concatenate([array.reshape(-1) for array in vector.values()])


def _components(count: int, parameters: Vector, paths: Mapping[str, ParameterPath]) -> list[Direction]:
    if not count:
        return []
    if not paths:
        raise ArgumentError("landscape: 'pca' expects the path that a training took: give path=..., see RecordPath")
    rows = flat(paths.values(), parameters)
    vectors, explained = principal_components(rows, count)
    cuts = np.cumsum([array.size for array in parameters.values()])[:-1]
    return [
        Direction(
            f"PC {i}",
            {
                name: part.reshape(array.shape).astype(array.dtype)
                for (name, array), part in zip(parameters.items(), np.split(vector, cuts), strict=True)
            },
            share,
        )
        for i, (vector, share) in enumerate(zip(vectors, explained, strict=True), 1)
    ]


def principal_components(rows: Array, count: int) -> tuple[Array, list[float]]:
    """The first unit directions of the largest variance of rows (n, P): (count, P) float64, and each one's share of it.

    By the eigenvectors u of the Gram matrix of the centred rows X: X Xᵀ u = λ u gives the component Xᵀ u / √λ, so that
    no matrix of P × P is needed. Signs are such that the last row lies further along than the first.

    Raises ArgumentError where the rows do not span so many directions.
    """
    mean = rows.mean(axis=0, dtype=np.float64)
    blocks = [slice(start, start + COLUMNS) for start in range(0, rows.shape[1], COLUMNS)]
    gram = np.zeros((len(rows), len(rows)))
    for block in blocks:
        centred = rows[:, block] - mean[block]
        gram += centred @ centred.T
    values, vectors = np.linalg.eigh(gram)
    values, vectors = values[::-1], vectors[:, ::-1]
    if len(rows) <= count or values[count - 1] <= 1e-10 * max(values[0], 0) or values[0] <= 0:
        raise ArgumentError(
            f"landscape: expected a path that spans {count} direction{'s' if count > 1 else ''}, got {len(rows)} "
            "points that do not: record more of them"
        )
    components = np.empty((count, rows.shape[1]))
    for block in blocks:
        components[:, block] = vectors[:, :count].T @ (rows[:, block] - mean[block])
    components /= np.sqrt(values[:count, None])
    backwards = vectors[-1, :count] < vectors[0, :count]
    components[backwards] *= -1
    return components, [float(value) for value in values[:count] / values.clip(0).sum()]


def coordinates(rows: Array, origin: Array, directions: Sequence[Array]) -> tuple[Array, Array]:
    """Multiples of flat directions whose sum is nearest to rows (n, P) seen from the origin, and the distances to it:
    (n, count) and (n,) float64. Least squares, since the directions need not be orthogonal."""
    count = len(directions)
    gram, products, squares = np.zeros((count, count)), np.zeros((len(rows), count)), np.zeros(len(rows))
    for start in range(0, rows.shape[1], COLUMNS):
        block = slice(start, start + COLUMNS)
        basis = np.stack([direction[block] for direction in directions]).astype(np.float64)
        seen = rows[:, block].astype(np.float64) - origin[block]
        gram += basis @ basis.T
        products += seen @ basis.T
        squares += (seen * seen).sum(axis=1)
    nearest = np.linalg.lstsq(gram, products.T, rcond=None)[0].T
    return nearest, np.sqrt(np.maximum(squares - (nearest * products).sum(axis=1), 0))
