"""The networks, inputs, targets and first weights that all peers get, as files: only fastnn's worker needs fastnn."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .network import Network
from .workloads import MODELS, SHAPES, Work

MOST_IMAGES = 12_800  # 40 MB of float32: more than caches hold, and a whole number of batches
RANDOM_BYTES = 32e6  # likewise, of random inputs
MATRICES = "matrices.npy"
CLASSES = 10  # of the images


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
    for name, network in MODELS.items():
        add(folder, name, network)
    np.save(folder / MATRICES, rng.standard_normal((2, 1024, 1024), np.float32))
    return origin


def add(folder: Path, name: str, network: Network, batch: int = 1) -> None:
    """Write a network, its weights and, where images and labels will not do, random inputs and targets of a batch."""
    from .fastnn_model import build

    own, rng = folder / name, np.random.default_rng(1)
    own.mkdir()
    (own / "network.json").write_text(json.dumps(network.as_json()))
    weights: dict[str, Any] = _weights(build, network, rng)
    np.savez(own / "weights.npz", **weights)
    if network.images and network.loss == "CrossEntropyLoss" and network.outputs == CLASSES:
        return
    count = int(np.clip(RANDOM_BYTES / (4 * np.prod(network.shape)), batch, MOST_IMAGES))
    if network.images:
        count = MOST_IMAGES
    else:
        np.save(own / "inputs.npy", rng.standard_normal((count, *network.shape), np.float32))
    np.save(own / "targets.npy", _targets(network, count, rng))


def remove(folder: Path, name: str) -> None:
    shutil.rmtree(folder / name, ignore_errors=True)


def _weights(build: Any, network: Network, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """First weights by fastnn; batch norm's and its running statistics as if it had been trained."""
    import fastnn as fnn

    fnn.manual_seed(0)
    state = {name.removeprefix("layer"): value for name, value in build(network).state_dict().items()}
    for index, node in enumerate(network.nodes):
        if node.kind.startswith("BatchNorm"):
            for name, least, most in (("weight", 0.7, 1.3), ("running_mean", -0.2, 0.2), ("running_var", 0.5, 1.5)):
                values = rng.uniform(least, most, node.args[0])
                state[f"{index}.{name}"] = values.astype(np.float32)
    return state


def _targets(network: Network, count: int, rng: np.random.Generator) -> np.ndarray:
    shape = count, network.outputs
    if network.loss == "CrossEntropyLoss":
        return rng.integers(network.outputs, size=count)
    targets = rng.standard_normal(shape, np.float32)
    if network.loss == "PolicyValueLoss":
        policy = np.exp(targets[:, :-1])
        return np.hstack([policy / policy.sum(1, keepdims=True), np.tanh(targets[:, -1:])])
    return targets


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

    def network(self, work: Work) -> Network:
        return Network.from_json(json.loads((self.folder / work.model / "network.json").read_text()))

    def inputs(self, work: Work) -> np.ndarray:
        """(N, C, H, W) or (N, C), float32; images are normalised, or uint8 as published where the work takes these."""
        own = self.folder / work.model / "inputs.npy"
        if own.exists():
            return np.load(own)
        return np.load(self.folder / f"{self.network(work).images}-{'uint8' if work.uint8 else 'float32'}.npy")

    def targets(self, work: Work) -> np.ndarray:
        """(N,) classes, or (N, outputs)."""
        own = self.folder / work.model / "targets.npy"
        return np.load(own if own.exists() else self.folder / f"{self.network(work).images}-labels.npy")

    def statistics(self, work: Work) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each channel, of pixels divided by 255."""
        read = json.loads((self.folder / f"{self.network(work).images}.json").read_text())
        return read["mean"], read["std"]

    def weights(self, work: Work) -> dict[str, np.ndarray]:
        """By the positions of the nodes: "0.weight"."""
        with np.load(self.folder / work.model / "weights.npz") as saved:
            return {name: saved[name] for name in saved.files}

    def matrices(self) -> np.ndarray:
        return np.load(self.folder / MATRICES)


def batches(arrays: tuple[Any, ...], batch: int) -> Iterator[tuple[Any, ...]]:
    """Batch after batch of the arrays, and over again without end; the slices are made ahead of time."""
    count = len(arrays[0]) // batch
    return itertools.cycle([tuple(a[i * batch : (i + 1) * batch] for a in arrays) for i in range(count)])
