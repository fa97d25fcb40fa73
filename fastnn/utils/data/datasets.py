"""Data sets: what has a length and gives a sample for an index, or what is iterated."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import numpy as np

from fastnn.checks import entries, number, place
from fastnn.errors import ArgumentError, ShapeError
from fastnn.ops.common import tensor_of
from fastnn.ops.draws import source_of
from fastnn.random import generator as shared
from fastnn.tensors import Tensor

__all__ = [
    "ChainDataset", "ConcatDataset", "Dataset", "IterableDataset", "StackDataset", "Subset", "TensorDataset",
    "random_split",
]  # fmt: skip

T = TypeVar("T", covariant=True)


class Dataset(Generic[T]):
    """Base of data sets: a subclass defines ``__getitem__(index)`` and ``__len__()``."""

    def __getitem__(self, index: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} needs a method __getitem__(self, index)")

    def __add__(self, other: Any) -> ConcatDataset[Any]:
        return ConcatDataset([self, other])


class IterableDataset(Dataset[T]):
    """Base of data sets without indices: a subclass defines ``__iter__()``."""

    def __iter__(self) -> Iterator[Any]:
        raise NotImplementedError(f"{type(self).__name__} needs a method __iter__(self)")

    def __add__(self, other: Any) -> ChainDataset[Any]:  # type: ignore[override]  # as in PyTorch
        return ChainDataset([self, other])


class ChainDataset(IterableDataset[T]):
    """Data sets that are iterated, one after the other; each is begun once the one before it has ended."""

    def __init__(self, datasets: Iterable[Any]) -> None:
        self.datasets = datasets

    def __iter__(self) -> Iterator[Any]:
        for each in self.datasets:
            yield from _iterated(each)

    def __len__(self) -> int:
        return sum(length("ChainDataset", _iterated(each)) for each in self.datasets)


def _iterated(dataset: Any) -> Any:
    if not isinstance(dataset, IterableDataset):
        raise ArgumentError(f"ChainDataset: expected data sets that are iterated, got {type(dataset).__name__}")
    return dataset


class TensorDataset(Dataset[tuple[Tensor, ...]]):
    """Samples (x[i], y[i], ...) of tensors, or arrays, of one length; `DataLoader` takes whole batches of it at once.

    >>> import numpy as np
    >>> from fastnn.utils.data import TensorDataset
    >>> data = TensorDataset(np.arange(6.0).reshape(3, 2), np.array([0, 1, 2]))
    >>> len(data), [x.tolist() for x in data[1]]
    (3, [[2.0, 3.0], 1])
    """

    def __init__(self, *tensors: Any) -> None:
        self.tensors = tuple(tensor_of(x) for x in tensors)
        if not self.tensors or len({x.shape[:1] or None for x in self.tensors} | {None}) != 2:
            got = ", ".join(str(x.shape) for x in self.tensors) or "none"
            raise ShapeError(f"TensorDataset: expected tensors of one length, got {got}")

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        return tuple(x[index] for x in self.tensors)

    def __len__(self) -> int:
        return len(self.tensors[0])


class Subset(Dataset[T]):
    """The samples of a data set at these indices."""

    def __init__(self, dataset: Any, indices: Sequence[int]) -> None:
        self.dataset, self.indices = dataset, indices

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, list) and index:
            return self.dataset[[self.indices[place("Subset", i, len(self))] for i in index]]
        return self.dataset[self.indices[place("Subset", index, len(self))]]

    def __len__(self) -> int:
        return len(self.indices)


class ConcatDataset(Dataset[T]):
    """Data sets one after the other."""

    def __init__(self, datasets: Any) -> None:
        self.datasets = entries("ConcatDataset", "datasets", datasets)
        if not self.datasets or any(isinstance(each, IterableDataset) for each in self.datasets):
            raise ArgumentError("ConcatDataset: expected at least one data set, and none that is only iterated")
        self.cumulative_sizes = list(itertools.accumulate(length("ConcatDataset", each) for each in self.datasets))

    def __getitem__(self, index: int) -> Any:
        at = place("ConcatDataset", index, len(self))
        which = bisect.bisect_right(self.cumulative_sizes, at)
        return self.datasets[which][at - (self.cumulative_sizes[which - 1] if which else 0)]

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]


class StackDataset(Dataset[T]):
    """Data sets of one length side by side: a sample is a tuple of theirs, or a dict of those of keywords.

    >>> from fastnn.utils.data import StackDataset
    >>> StackDataset([1, 2], "ab")[1], StackDataset(x=[1, 2], name="ab")[0]
    ((2, 'b'), {'x': 1, 'name': 'a'})
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if bool(args) == bool(kwargs):
            raise ArgumentError("StackDataset: expected data sets, either by place or by keyword")
        self.datasets: tuple[Any, ...] | dict[str, Any] = args or kwargs
        lengths = {length("StackDataset", each) for each in (args or kwargs.values())}
        if len(lengths) > 1:
            raise ArgumentError(f"StackDataset: expected data sets of one length, got {sorted(lengths)}")
        (self._length,) = lengths

    def __getitem__(self, index: Any) -> Any:
        if isinstance(self.datasets, dict):
            return {name: each[index] for name, each in self.datasets.items()}
        return tuple(each[index] for each in self.datasets)

    def __len__(self) -> int:
        return self._length


def length(where: str, dataset: Any) -> int:
    """The number of samples. Raises ArgumentError for what has none."""
    try:
        return len(dataset)
    except TypeError:
        raise ArgumentError(f"{where}: expected a data set with a length, got {type(dataset).__name__}") from None


def random_split(dataset: Any, lengths: Sequence[float], generator: Any = None) -> list[Subset[Any]]:
    """Subsets of these lengths, or shares that sum to 1, drawn at random without any sample twice.

    `generator` is an fnn.Generator or NumPy's; by default that of `fnn.manual_seed`. Raises ArgumentError for other
    sums.

    >>> from fastnn.utils.data import random_split
    >>> [len(part) for part in random_split(range(10), [0.75, 0.25])]
    [8, 2]
    """
    total = length("random_split", dataset)
    lengths = [number("random_split", "lengths", each, 0) for each in entries("random_split", "lengths", lengths)]
    if math.isclose(sum(lengths), 1) and sum(lengths) <= 1 + 1e-9:
        sizes = [math.floor(total * share) for share in lengths]
        for i in range(total - sum(sizes)):  # what rounding leaves goes around
            sizes[i % len(sizes)] += 1
    else:
        sizes = [int(length) for length in lengths]
    if sum(sizes) != total or min(sizes, default=0) < 0:
        raise ArgumentError(f"random_split: expected lengths with the sum {total}, or shares with 1, got {lengths!r}")
    order = drawn_by(generator).permutation(total).tolist()
    ends = list(itertools.accumulate(sizes))
    return [Subset(dataset, order[end - size : end]) for size, end in zip(sizes, ends, strict=True)]


def drawn_by(generator: Any) -> np.random.Generator:
    """The NumPy generator to draw from: the one given, that of an fnn.Generator, or fastnn's."""
    return shared() if generator is None else source_of("generator", generator)
