"""Data sets, samplers and loaders, by PyTorch's names. Random orders come from `fnn.manual_seed`.

`fnn.data.Batches` is the same for arrays, with augmentation.
"""

import sys
from typing import Any

from fastnn.habits import no_such_name

from .datasets import (
    ChainDataset,
    ConcatDataset,
    Dataset,
    IterableDataset,
    StackDataset,
    Subset,
    TensorDataset,
    random_split,
)
from .loader import DataLoader, default_collate, default_convert, get_worker_info
from .samplers import (
    BatchSampler,
    DistributedSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

__all__ = [
    "BatchSampler",
    "ChainDataset",
    "ConcatDataset",
    "DataLoader",
    "Dataset",
    "DistributedSampler",
    "IterableDataset",
    "RandomSampler",
    "Sampler",
    "SequentialSampler",
    "StackDataset",
    "Subset",
    "SubsetRandomSampler",
    "TensorDataset",
    "WeightedRandomSampler",
    "default_collate",
    "default_convert",
    "get_worker_info",
    "random_split",
]

# Where PyTorch has them: ``from fastnn.utils.data.sampler import Sampler``.
_PLACES = ("dataset", "dataloader", "sampler", "distributed", "_utils", "_utils.collate")
sys.modules |= {f"{__name__}.{_place}": sys.modules[__name__] for _place in _PLACES}


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return sys.modules[__name__]
    raise no_such_name("fastnn.utils.data", name)
