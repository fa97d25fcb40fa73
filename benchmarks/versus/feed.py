"""The images, labels and first weights that all peers get, as files: only fastnn's own worker needs fastnn."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .workloads import MODELS, SHAPES, Work

MOST_IMAGES = 12_800  # 40 MB of float32: more than caches hold, and a whole number of batches
MATRICES = "matrices.npy"


def write(folder: Path) -> dict[str, str]:
    """Fill the folder; returns what the images of each kind are: MNIST and CIFAR-10 where they are found."""
    import fastnn as fnn

    rng = np.random.default_rng(0)
    origin: dict[str, str] = {}
    digits = _found("mnist") or fnn.data.load("digits")
    colours = _found("cifar10")
    origin["mnist"] = digits.name
    origin["cifar"] = "cifar10" if colours else f"{digits.name}, three channels of 32×32 made of it"
    for name, dataset in (("mnist", digits), ("cifar", colours or digits)):
        order = np.resize(rng.permutation(len(dataset)), MOST_IMAGES)
        images = dataset.images[order]
        if images.shape[1:] != SHAPES[name]:
            images = _coloured(images)
        np.save(folder / f"{name}-uint8.npy", images)
        np.save(folder / f"{name}-labels.npy", dataset.labels[order].astype(np.int64))
        scaled = images.astype(np.float32) / 255
        mean, std = scaled.mean((0, 2, 3)), scaled.std((0, 2, 3))
        normalised = (scaled - mean[:, None, None]) / std[:, None, None]
        np.save(folder / f"{name}-float32.npy", normalised.astype(np.float32))
        statistics = {"mean": mean.tolist(), "std": std.tolist()}
        (folder / f"{name}.json").write_text(json.dumps(statistics))
    for name, layers in MODELS.items():
        fnn.manual_seed(0)
        state: dict[str, Any] = fnn.nn.Sequential(*(layer.build(fnn.nn) for layer in layers)).state_dict()
        np.savez(folder / f"{name}-weights.npz", **state)
    np.save(folder / MATRICES, rng.standard_normal((2, 1024, 1024), np.float32))
    return origin


def _found(name: str) -> Any:
    """A named data set if its files lie here and are right; nothing is downloaded."""
    import fastnn as fnn

    if not all(report.ok for report in fnn.data.verify(name)):
        return None
    return fnn.data.load(name)


def _coloured(images: np.ndarray) -> np.ndarray:
    """(N, 3, 32, 32) of (N, 1, 28, 28): each channel another shade, on other places."""
    result = np.zeros((len(images), *SHAPES["cifar"]), np.uint8)
    for channel, (place, shade) in enumerate(((0, 1.0), (2, 0.7), (4, 0.4))):
        result[:, channel, place : place + 28, place : place + 28] = images[:, 0] * shade
    return result


class Feed:
    """What a worker reads of that folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def images(self, work: Work) -> np.ndarray:
        """(N, C, H, W), uint8 as published, or float32 and normalised."""
        return np.load(self.folder / f"{work.images}-{'uint8' if work.uint8 else 'float32'}.npy")

    def labels(self, work: Work) -> np.ndarray:
        return np.load(self.folder / f"{work.images}-labels.npy")

    def statistics(self, work: Work) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each channel, of pixels divided by 255."""
        read = json.loads((self.folder / f"{work.images}.json").read_text())
        return read["mean"], read["std"]

    def weights(self, work: Work) -> dict[str, np.ndarray]:
        """By the names of a Sequential of the model's layers, with Normalize before them where images are uint8."""
        with np.load(self.folder / f"{work.model}-weights.npz") as saved:
            return {_shifted(name, int(work.uint8)): saved[name] for name in saved.files}

    def matrices(self) -> np.ndarray:
        return np.load(self.folder / MATRICES)


def _shifted(name: str, places: int) -> str:
    index, _, rest = name.partition(".")
    return f"{int(index) + places}.{rest}"


def batches(arrays: tuple[Any, ...], batch: int) -> Iterator[tuple[Any, ...]]:
    """Batch after batch of the arrays, and over again without end; the slices are made ahead of time."""
    count = len(arrays[0]) // batch
    return itertools.cycle([tuple(a[i * batch : (i + 1) * batch] for a in arrays) for i in range(count)])
