"""Data whose samples are several arrays."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastnn.errors import ShapeError
from fastnn.trees import count_of, flatten, is_tree, map_arrays, take

from .frames import as_samples
from .split import stratified_split

__all__ = ["Samples", "check_counts", "in_arrays", "is_several"]


@dataclass(frozen=True)
class Samples:
    """Inputs and targets of a model that takes or gives several arrays; a `Dataset` holds one of each.

    Args:
        images: (N, ...) array, or a tuple or dict of such arrays.
        labels: the same.
        classes, name, columns, named: as of a `Dataset`.

    Raises ShapeError for arrays of different numbers of samples.

    >>> samples = Samples({"board": np.zeros((8, 3, 9, 9)), "clock": np.zeros((8, 1))}, np.zeros(8, int))
    >>> len(samples), [len(part) for part in samples.split(0.25)]
    (8, [6, 2])
    """

    images: Any
    labels: Any
    classes: tuple[str, ...] = ()
    name: str = "arrays"
    columns: tuple[str, ...] = ()
    named: bool = False

    def __post_init__(self) -> None:
        for name in ("images", "labels"):
            object.__setattr__(self, name, in_arrays(getattr(self, name)))
        check_counts(self.images, self.labels)

    def __len__(self) -> int:
        """Number of samples."""
        return count_of(self.images)

    def subset(self, indices: np.ndarray | slice) -> Samples:
        """The samples at ``indices``."""
        return replace(self, images=take(self.images, indices), labels=take(self.labels, indices))

    def split(self, held: float | int, seed: int = 0) -> tuple[Samples, Samples]:
        """``(rest, held out)``, stratified where labels (N,) are the only targets; see `stratified_split`."""
        labels = self.labels if isinstance(self.labels, np.ndarray) else np.zeros(len(self))
        rest, chosen = stratified_split(labels, held, seed)
        return self.subset(rest), self.subset(chosen)


def is_several(value: Any) -> bool:
    """Whether a data set's inputs or targets are several arrays: a dict, or a tuple of arrays."""
    return isinstance(value, (tuple, dict)) and is_tree(value)


def in_arrays(value: Any) -> Any:
    """Returns one array, or a tree of arrays."""
    return map_arrays(lambda x: as_samples(x)[0], value) if is_several(value) else as_samples(value)[0]


def check_counts(images: Any, labels: Any) -> None:
    """Raises ShapeError unless all arrays are of the same number of samples."""
    shapes = [[array.shape for array in flatten(tree)[0]] for tree in (images, labels)]
    if any(not shape or shape[0] != shapes[0][0][0] for shape in (*shapes[0], *shapes[1])):
        found = [", ".join(map(str, of_tree)) for of_tree in shapes]
        raise ShapeError(f"expected samples (N, ...) and labels (N, ...), got samples {found[0]} and labels {found[1]}")
