"""Batches of a data set, in a seeded order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnn.checks import flag, whole
from fastnn.errors import ArgumentError
from fastnn.interrupts import at_once
from fastnn.random import generator
from fastnn.trees import count_of, flatten, take

from .dataset import Dataset
from .frames import as_labels, check_rows, columns_of
from .samples import Samples, check_counts, in_arrays, is_several
from .split import AUGMENT, check_seed, permutation, philox

_SMALL = 1 << 22  # bytes: so little is put in order at once, and not batch by batch


@dataclass
class Share:
    """What one of several processes gets of each batch; by default all of it.

    Args:
        rank, ranks: which process it is, of how many.
        fewest: samples in a share. Where a batch has too few for all, the last processes get the first one's again.

    Attributes:
        again: whether the share given last is one that another process has.
    """

    rank: int = 0
    ranks: int = 1
    fewest: int = 1
    again: bool = False

    def of(self, start: int, stop: int) -> slice:
        """The share of what lies from start to stop.

        >>> share = Share(rank=1, ranks=2)
        >>> share.of(0, 5), share.again, share.of(5, 6), share.again
        (slice(2, 5, None), False, slice(5, 6, None), True)
        """
        if self.ranks == 1:
            return slice(start, stop)
        count = stop - start
        taking = max(1, min(self.ranks, count // self.fewest))
        self.again = self.rank >= taking
        rank = 0 if self.again else self.rank
        return slice(start + count * rank // taking, start + count * (rank + 1) // taking)


class Batches:
    """Iterable over ``(images, labels)`` batches; each ``for`` loop over it is one epoch.

    Args:
        images: (N, ...) array of any dtype, such as (N, C, H, W) uint8; or a tuple or dict of arrays.
        labels: (N, ...) array, or a tuple or dict of arrays; names of classes (N,) become numbers.
        batch_size: samples in a batch; the last batch of an epoch holds what is left, unless it is dropped.
        shuffle: whether each epoch has a random order of its own, given by seed and epoch alone.
        seed: 0 to 2**64 - 1, for the order and the augmentation; None draws one, where there is anything random, from
            the numbers that ``fnn.manual_seed`` sets off.
        drop_last: whether an incomplete last batch is dropped.
        fewest: samples that the last batch must have; where fewer are left, they are joined to the batch before it.
            (Batch norm, in training, cannot take a single sample: `fit` asks for 2 where it finds that.)
        augment: ``augment(images, generator) -> images``, applied to every batch, such as :class:`Augment`.
            ``generator`` is a ``numpy.random.Generator`` of its own for each seed, epoch and batch.

    Attributes:
        count: number of samples.
        classes, name, columns, named: as of the `Dataset` that they are made of (see `of`); else the labels' names,
            "arrays", a data frame's columns, and whether the labels are names.
        epoch: the number of the epoch that the next loop goes through; it counts up by itself. Set it to resume a
            training.

    Raises:
        ShapeError: images and labels of different number. ArgumentError: a batch size or `fewest` below 1, or dropping
            the only batch.

    Without shuffling and augmentation a batch is a view of the arrays, not a copy.

    >>> batches = Batches(np.arange(5.0), np.arange(5), batch_size=2, shuffle=True, seed=1)
    >>> [y.tolist() for x, y in batches], [y.tolist() for x, y in batches], batches.epoch
    ([[0, 3], [4, 2], [1]], [[2, 3], [4, 1], [0]], 2)
    """

    def __init__(
        self,
        images: Any,
        labels: Any,
        batch_size: int = 128,
        *,
        shuffle: bool = False,
        seed: int | None = None,
        drop_last: bool = False,
        fewest: int = 1,
        augment: Callable[[np.ndarray, np.random.Generator], np.ndarray] | None = None,
    ) -> None:
        self.classes: tuple[str, ...] = ()
        check_rows(images, labels)
        if not is_several(labels):
            labels, self.classes = as_labels(labels)
        self.images, self.labels = in_arrays(images), in_arrays(labels)
        check_counts(self.images, self.labels)
        self.count = count_of(self.images)
        batch_size = whole("", "batch_size", batch_size, 1, expected="a whole batch size of at least 1")
        fewest = whole("", "fewest", fewest, 1)
        shuffle, drop_last = flag("Batches", "shuffle", shuffle), flag("Batches", "drop_last", drop_last)
        if drop_last and 0 < self.count < batch_size:
            raise ArgumentError(
                "expected at least one whole batch with drop_last=True, "
                f"got {self.count} samples for batches of {batch_size}"
            )
        if seed is None:
            seed = int(generator().integers(2**63)) if shuffle or augment else 0
        seed = check_seed(seed)
        self.batch_size, self.shuffle, self.seed, self.drop_last = batch_size, shuffle, seed, drop_last
        self.fewest, self.augment = fewest, augment
        self.epoch = 0
        self.name, self.columns, self.named = "arrays", columns_of(images), bool(self.classes)

    @classmethod
    def of(cls, dataset: Dataset, batch_size: int = 128, **options: Any) -> Batches:
        """Batches of a data set, which keep its classes, name and columns; options as of `Batches`.

        >>> from fastnn.data import load
        >>> Batches.of(load("digits"), 64, shuffle=True, seed=0)
        Batches(23 of 64, 1437 samples shuffled by seed 0)
        """
        if not isinstance(dataset, (Dataset, Samples)):
            raise ArgumentError(f"Batches.of: expected a Dataset, got {type(dataset).__name__}: Batches takes arrays")
        batches = cls(dataset.images, dataset.labels, batch_size, **options)
        batches.classes, batches.name = dataset.classes, dataset.name
        batches.columns, batches.named = dataset.columns, dataset.named
        return batches

    def __len__(self) -> int:
        """Number of batches in an epoch."""
        if self.drop_last:
            return self.count // self.batch_size
        return number_of_batches(self.count, self.batch_size, self.fewest)

    def __repr__(self) -> str:
        order = f"shuffled by seed {self.seed}" if self.shuffle else "in order"
        return f"Batches({len(self)} of {self.batch_size}, {self.count} samples {order})"

    def order(self, epoch: int) -> np.ndarray:
        """Indices of all samples in the order of that epoch: int64 (N,).

        >>> Batches(np.zeros((3, 1)), np.zeros(3)).order(7)
        array([0, 1, 2])
        """
        n = self.count
        return permutation(n, self.seed, epoch) if self.shuffle else np.arange(n)

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return ((images, labels) for _, images, labels in self.parts())

    def parts(self, share: Share | None = None) -> Iterator[tuple[Any, Any, Any]]:
        """One epoch: of each batch the share, by default all of it, as (where it is in the data, images, labels)."""
        epoch, self.epoch = self.epoch, self.epoch + 1
        return self._parts_of(epoch, Share() if share is None else share)

    def _parts_of(self, epoch: int, share: Share) -> Iterator[tuple[Any, Any, Any]]:
        order = self.order(epoch) if self.shuffle else None
        all_images, all_labels = self.images, self.labels
        together = order is not None and sum(array.nbytes for array in flatten((all_images, all_labels))[0]) <= _SMALL
        if together:
            all_images, all_labels = take(all_images, order), take(all_labels, order)
        batches = len(self)
        for batch in range(batches):
            rest = batch == batches - 1 and not self.drop_last
            start = batch * self.batch_size
            span = share.of(start, self.count if rest else start + self.batch_size)
            chosen = span if order is None else order[span]
            rows = span if together else chosen
            images, labels = take(all_images, rows), take(all_labels, rows)
            if self.augment is not None:
                numbers = philox(self.seed, AUGMENT, epoch, batch, *([share.rank] if share.rank else []))
                with at_once():
                    images = self.augment(images, np.random.Generator(numbers))
            yield chosen, images, labels


def number_of_batches(count: int, size: int, fewest: int = 1) -> int:
    """Of `count` images in batches of `size`; a rest of less than `fewest` is no batch of its own.

    >>> number_of_batches(33, 16), number_of_batches(33, 16, fewest=2), number_of_batches(1, 16, fewest=2)
    (3, 2, 1)
    """
    whole, left = divmod(count, size)
    return whole + (left >= fewest or (left > 0 and not whole))
