"""Data sets, samplers and loaders, by PyTorch's names. Random orders come from `fnn.manual_seed`.

`fnn.data.Batches` is the same for arrays, with augmentation.
"""

import sys

from .datasets import ConcatDataset, Dataset, IterableDataset, Subset, TensorDataset, random_split
from .loader import DataLoader, default_collate
from .samplers import (
    BatchSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

__all__ = [
    "BatchSampler",
    "ConcatDataset",
    "DataLoader",
    "Dataset",
    "IterableDataset",
    "RandomSampler",
    "Sampler",
    "SequentialSampler",
    "Subset",
    "SubsetRandomSampler",
    "TensorDataset",
    "WeightedRandomSampler",
    "default_collate",
    "random_split",
]

# Where PyTorch has them: ``from fastnn.utils.data.sampler import Sampler``.
dataset = dataloader = sampler = sys.modules[__name__]
sys.modules |= {f"{__name__}.{_name}": sampler for _name in ("dataset", "dataloader", "sampler")}
