"""Samplers: iterables of indices, and of lists of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic

import numpy as np

from fastnn.arrays import numbers
from fastnn.checks import flag, whole
from fastnn.errors import ArgumentError

from .datasets import T, drawn_by, length

__all__ = [
    "BatchSampler",
    "DistributedSampler",
    "RandomSampler",
    "Sampler",
    "SequentialSampler",
    "SubsetRandomSampler",
    "WeightedRandomSampler",
]


class Sampler(Generic[T]):
    """Base of samplers: a subclass defines ``__iter__()`` and, where it is known, ``__len__()``."""

    def __init__(self, data_source: Any = None) -> None: ...

    def __iter__(self) -> Iterator[T]:
        raise NotImplementedError(f"{type(self).__name__} needs a method __iter__(self)")


class SequentialSampler(Sampler[int]):
    """0, 1, 2, ..."""

    def __init__(self, data_source: Any) -> None:
        self.data_source = data_source

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.data_source)))

    def __len__(self) -> int:
        return len(self.data_source)


class RandomSampler(Sampler[int]):
    """All indices in a new random order in each loop; with `replacement`, `num_samples` independent ones."""

    def __init__(
        self, data_source: Any, replacement: bool = False, num_samples: int | None = None, generator: Any = None
    ) -> None:
        self.data_source, self.generator = data_source, generator
        self.replacement = flag("RandomSampler", "replacement", replacement)
        wanted = length("RandomSampler", data_source) if num_samples is None else num_samples
        self.num_samples = whole("RandomSampler", "num_samples", wanted, 0)

    def __iter__(self) -> Iterator[int]:
        count, draw = len(self.data_source), drawn_by(self.generator)
        if self.replacement:
            return iter(draw.integers(count, size=self.num_samples).tolist())
        rounds = -(-self.num_samples // count) if count else 0
        order = np.concatenate([draw.permutation(count) for _ in range(rounds)]) if rounds else np.zeros(0, int)
        return iter(order[: self.num_samples].tolist())

    def __len__(self) -> int:
        return self.num_samples


class SubsetRandomSampler(Sampler[int]):
    """These indices in a new random order in each loop."""

    def __init__(self, indices: Sequence[int], generator: Any = None) -> None:
        self.indices, self.generator = indices, generator

    def __iter__(self) -> Iterator[int]:
        return (self.indices[i] for i in drawn_by(self.generator).permutation(len(self.indices)).tolist())

    def __len__(self) -> int:
        return len(self.indices)


class WeightedRandomSampler(Sampler[int]):
    """`num_samples` indices, each with a probability in proportion to its weight: to balance classes."""

    def __init__(
        self, weights: Sequence[float], num_samples: int, replacement: bool = True, generator: Any = None
    ) -> None:
        self.weights = numbers("WeightedRandomSampler", weights).astype(np.float64)
        self.num_samples = whole("WeightedRandomSampler", "num_samples", num_samples, 1)
        self.replacement, self.generator = flag("WeightedRandomSampler", "replacement", replacement), generator
        if self.weights.ndim != 1 or not (self.weights >= 0).all() or not self.weights.sum() > 0:
            raise ArgumentError("WeightedRandomSampler: expected a list of weights of at least 0, not all of them 0")
        if not self.replacement and num_samples > np.count_nonzero(self.weights):
            raise ArgumentError(f"WeightedRandomSampler: expected {num_samples} weights above 0, to draw each one once")

    def __iter__(self) -> Iterator[int]:
        shares = self.weights / self.weights.sum()
        drawn = drawn_by(self.generator).choice(len(shares), self.num_samples, self.replacement, shares)
        return iter(drawn.tolist())

    def __len__(self) -> int:
        return self.num_samples


class BatchSampler(Sampler[list[int]]):
    """Lists of `batch_size` indices of another sampler; the last one may be shorter, unless it is dropped.

    >>> list(BatchSampler(range(5), 2, False))
    [[0, 1], [2, 3], [4]]
    """

    def __init__(self, sampler: Iterable[int], batch_size: int, drop_last: bool) -> None:
        self.sampler, self.drop_last = sampler, flag("BatchSampler", "drop_last", drop_last)
        self.batch_size = whole("BatchSampler", "batch_size", batch_size, 1)

    def __iter__(self) -> Iterator[list[int]]:
        batch: list[int] = []
        for index in self.sampler:
            batch.append(index)
            if len(batch) == self.batch_size:
                yield batch
                batch = []
        if batch and not self.drop_last:
            yield batch

    def __len__(self) -> int:
        count = len(self.sampler)  # type: ignore[arg-type]
        return count // self.batch_size if self.drop_last else -(-count // self.batch_size)


class DistributedSampler(Sampler[int]):
    """The share of process `rank` of `num_replicas` in the indices: every num_replicas-th one, as many for each.

    With `shuffle` they are in an order of `seed` and the epoch that `set_epoch` has said, the same for all processes.
    The first indices come again where they cannot be shared out evenly; with `drop_last` the last ones are left out.
    `num_replicas` and `rank` are by default those of `mpiexec`, `fnn.distributed.size()` and ``rank()``.

    >>> [list(DistributedSampler(range(5), 2, rank, shuffle=False)) for rank in range(2)]
    [[0, 2, 4], [1, 3, 0]]
    """

    def __init__(
        self,
        dataset: Any,
        num_replicas: int | None = None,
        rank: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        if num_replicas is None or rank is None:
            from fastnn import distributed  # which starts MPI when it is asked

            num_replicas = distributed.size() if num_replicas is None else num_replicas
            rank = distributed.rank() if rank is None else rank
        self.dataset, self.epoch = dataset, 0
        self.num_replicas = whole("DistributedSampler", "num_replicas", num_replicas, 1)
        self.rank = whole("DistributedSampler", "rank", rank, 0, self.num_replicas - 1)
        self.shuffle = flag("DistributedSampler", "shuffle", shuffle)
        self.seed, self.drop_last = (
            whole("DistributedSampler", "seed", seed, 0),
            flag("DistributedSampler", "drop_last", drop_last),
        )
        count = length("DistributedSampler", dataset)
        self.num_samples = count // self.num_replicas if self.drop_last else -(-count // self.num_replicas)
        self.total_size = self.num_samples * self.num_replicas

    def __iter__(self) -> Iterator[int]:
        count = len(self.dataset)
        order = np.random.default_rng(self.seed + self.epoch).permutation(count) if self.shuffle else np.arange(count)
        return iter(np.resize(order, self.total_size)[self.rank :: self.num_replicas].tolist())

    def __len__(self) -> int:
        return self.num_samples

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch begins, for another order in each."""
        self.epoch = whole("DistributedSampler", "epoch", epoch, 0)
