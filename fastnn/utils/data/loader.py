"""DataLoader, and how samples become batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Generic

import numpy as np

from fastnn import ops
from fastnn.arrays import as_array
from fastnn.checks import called, flag, shown, whole
from fastnn.errors import ArgumentError, DTypeError
from fastnn.tensors import Tensor

from .datasets import IterableDataset, Subset, T, TensorDataset
from .samplers import BatchSampler, RandomSampler, SequentialSampler

__all__ = ["DataLoader", "default_collate", "default_convert", "get_worker_info"]


def default_collate(batch: list[Any]) -> Any:
    """A batch of samples: tensors, arrays and numbers stacked into tensors, dicts, tuples and lists entry by entry.

    Python's floats become float64, integers int64; text stays a list, tuples become lists. Raises DTypeError for what
    cannot be stacked.

    >>> from fastnn.utils.data import default_collate
    >>> x, label = default_collate([([1.0, 2.0], 0), ([3.0, 4.0], 1)])
    >>> label.tolist(), [part.tolist() for part in x]
    ([0, 1], [[1.0, 3.0], [2.0, 4.0]])
    """
    if not isinstance(batch, (list, tuple)) or not batch:
        raise ArgumentError(f"default_collate: expected a list of samples, got {shown(batch)}")
    first = batch[0]
    if isinstance(first, Tensor):
        return ops.stack(batch) if any(x.requires_grad for x in batch) else Tensor(np.stack([x.data for x in batch]))
    if isinstance(first, (np.ndarray, np.generic)):
        return Tensor(np.stack(batch))
    if isinstance(first, (bool, int)):
        return Tensor(as_array(batch))
    if isinstance(first, float):
        return Tensor(as_array(batch))
    if isinstance(first, (str, bytes)):
        return batch
    if isinstance(first, Mapping):
        return {key: default_collate([sample[key] for sample in batch]) for key in first}
    if isinstance(first, (tuple, list)):
        if len({len(sample) for sample in batch}) > 1:
            raise ArgumentError("default_collate: expected samples of equal lengths: pass collate_fn= to pad them")
        parts = [default_collate(list(each)) for each in zip(*batch, strict=True)]
        if hasattr(first, "_fields"):
            return type(first)(*parts)
        return parts
    expected = "default_collate: expected tensors, arrays, numbers or containers of them"
    raise DTypeError(f"{expected}, got {type(first).__name__}")


class DataLoader(Generic[T]):
    """Iterable over the batches of a data set; each loop is one epoch.

    Args:
        dataset: anything with a length and indices, or an IterableDataset.
        batch_size: samples in a batch; None: samples one by one, as they are.
        shuffle: whether each epoch has a random order of its own.
        sampler, batch_sampler: say the order in its place: indices, or lists of them.
        num_workers: taken and ignored, as are pin_memory, timeout, worker_init_fn, multiprocessing_context,
            prefetch_factor, persistent_workers and pin_memory_device: samples are made in this process.
        collate_fn: makes a batch of a list of samples; by default `default_collate`.
        drop_last: whether an incomplete last batch is dropped.
        generator: an fnn.Generator, or NumPy's, for the order; by default that of `fnn.manual_seed`.

    Batches of a TensorDataset, and of a `Subset` of one, are taken out of its arrays at once. Raises ArgumentError for
    options that contradict each other.

    >>> import numpy as np
    >>> from fastnn.utils.data import DataLoader, TensorDataset
    >>> loader = DataLoader(TensorDataset(np.arange(5.0), np.arange(5)), batch_size=2)
    >>> [y.tolist() for x, y in loader], len(loader)
    ([[0, 1], [2, 3], [4]], 3)
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Iterable[int] | None = None,
        batch_sampler: Iterable[list[int]] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], None] | None = None,
        multiprocessing_context: Any = None,
        generator: Any = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        pin_memory_device: str = "",
        in_order: bool = True,
    ) -> None:
        self.dataset, self.num_workers, self.pin_memory, self.generator = dataset, num_workers, pin_memory, generator
        self.iterated = isinstance(dataset, IterableDataset)
        shuffle = flag("DataLoader", "shuffle", False if shuffle is None else shuffle)
        drop_last = flag("DataLoader", "drop_last", drop_last)
        if collate_fn is not None:
            called("DataLoader", "collate_fn", collate_fn)
        if batch_size is not None:
            batch_size = whole("DataLoader", "batch_size", batch_size, 1)
        if sampler is not None and shuffle:
            raise ArgumentError("DataLoader: expected sampler or shuffle=True, got both")
        if batch_sampler is not None and (batch_size != 1 or shuffle or sampler is not None or drop_last):
            raise ArgumentError(
                "DataLoader: expected batch_sampler alone, got batch_size, shuffle, sampler or drop_last, too"
            )
        if self.iterated and (shuffle or sampler is not None or batch_sampler is not None):
            raise ArgumentError("DataLoader: an IterableDataset has its own order: expected no shuffle and no sampler")
        if batch_size is None and drop_last:
            raise ArgumentError("DataLoader: expected a batch_size with drop_last=True, got None")
        if not self.iterated and not hasattr(dataset, "__len__"):
            raise ArgumentError(f"DataLoader: expected a data set with a length, got {type(dataset).__name__}")
        self.drop_last = drop_last
        if sampler is None and not self.iterated:
            sampler = RandomSampler(dataset, generator=generator) if shuffle else SequentialSampler(dataset)
        self.sampler = sampler
        self.batch_size = None if batch_sampler is not None else batch_size
        if batch_sampler is None and batch_size is not None and sampler is not None:
            batch_sampler = BatchSampler(sampler, batch_size, drop_last)
        self.batch_sampler = batch_sampler
        self.collate_fn = collate_fn

    def __len__(self) -> int:
        """Number of batches in an epoch."""
        if self.iterated:
            count, size = len(self.dataset), self.batch_size or 1
            return count // size if self.drop_last else -(-count // size)
        return len(self.sampler if self.batch_sampler is None else self.batch_sampler)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Any]:
        if self.iterated:
            return self._iterated()
        if self.batch_sampler is None:
            collate = self.collate_fn or default_convert
            assert self.sampler is not None
            return (collate(self.dataset[index]) for index in self.sampler)
        if self.collate_fn is None and (found := _arrays(self.dataset)) is not None:
            arrays, places = found
            return (_taken(arrays, batch, places) for batch in self.batch_sampler)
        collate = self.collate_fn or default_collate
        return (collate(self._samples(batch)) for batch in self.batch_sampler)

    def _samples(self, batch: list[int]) -> Any:
        together = getattr(self.dataset, "__getitems__", None)
        return together(batch) if together is not None else [self.dataset[index] for index in batch]

    def _iterated(self) -> Iterator[Any]:
        samples = iter(self.dataset)
        if self.batch_size is None:
            yield from map(self.collate_fn or default_convert, samples)
            return
        while batch := list(islice(samples, self.batch_size)):
            if len(batch) == self.batch_size or not self.drop_last:
                yield (self.collate_fn or default_collate)(batch)


def _arrays(dataset: Any) -> tuple[list[Tensor], np.ndarray[Any, Any] | None] | None:
    """The tensors of a TensorDataset, and which of its samples are meant (None: all); None for other data sets."""
    places: np.ndarray[Any, Any] | None = None
    while type(dataset) is Subset:
        indices = np.asarray(dataset.indices, np.int64)
        places = indices if places is None else indices[places]
        dataset = dataset.dataset
    return (list(dataset.tensors), places) if type(dataset) is TensorDataset else None


def _taken(tensors: list[Tensor], batch: list[int], places: np.ndarray[Any, Any] | None) -> list[Tensor]:
    chosen = np.asarray(batch, np.int64)
    chosen = chosen if places is None else places[chosen]
    return [x[chosen] if x.requires_grad else Tensor(x.data[chosen]) for x in tensors]


def default_convert(data: Any) -> Any:
    """A sample by itself: arrays become tensors, in tuples, lists and dicts, too; everything else stays.

    >>> import numpy as np
    >>> from fastnn.utils.data import default_convert
    >>> default_convert({"x": np.arange(2), "name": "two"})
    {'x': Tensor([0, 1], dtype=int64), 'name': 'two'}
    """
    if isinstance(data, (np.ndarray, np.generic)) and data.dtype.kind not in "SUO":
        return Tensor(data)
    if isinstance(data, Mapping):
        return {key: default_convert(value) for key, value in data.items()}
    if isinstance(data, tuple) and hasattr(data, "_fields"):
        return type(data)(*map(default_convert, data))
    if isinstance(data, (tuple, list)):
        return [*map(default_convert, data)]
    return data


def get_worker_info() -> None:
    """None, as in PyTorch's main process: samples are made in this one."""
