"""Bit replay: hashes of what compiled plans compute for forty fixed networks, by instruction set and number of threads.

python tests/support/plan_replay.py FILE     records the hashes where FILE does not exist, and else compares with it

A pure refactoring of kernels or of the plan changes none of them. Networks, weights and data come from seeds alone.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import plan_networks as networks
import torch_twins

import fastnn as fnn
from fastnn import nn

NETWORKS = 40
BATCHES = (1, 3, 17, 33, 64)


def fixed_network(seed: int) -> tuple[list[networks.Layer], tuple[int, ...], bool]:
    """Convolutions with ReLU or nothing, whole max-pooling windows and batch norm, then dense layers."""
    rng = np.random.default_rng(seed)
    batch, side = BATCHES[seed % len(BATCHES)], int(rng.integers(12, 21))
    c, uint8 = int(rng.choice([1, 3])), bool(rng.random() < 0.3)
    shape, h, w = (batch, c, side, side + 1), side, side + 1
    layers: list[networks.Layer] = [("Normalize", {"mean": [0.25] * c, "std": [0.5] * c})] if uint8 else []
    few, normed = bool(rng.random() < 0.5), bool(rng.random() < 0.25) and batch > 1
    for _ in range(int(rng.integers(1, 4))):
        kernel = int(rng.choice([1, 3, 3, 5]))
        if min(h, w) < kernel:
            break
        out = int(rng.choice([3, 6, 8, 12] if few else [16, 24, 32, 48]))
        padding = kernel // 2 if rng.random() < 0.5 else 0
        layers.append(("Conv2d", {"in_channels": c, "out_channels": out, "kernel_size": kernel, "padding": padding}))
        c, h, w = out, h + 2 * padding - kernel + 1, w + 2 * padding - kernel + 1
        layers += [("BatchNorm2d", {"num_features": c})] * normed
        layers += [("ReLU", {})] * bool(rng.random() < 0.8)
        pool = int(rng.choice([1, 2, 2, 3]))
        if pool > 1 and min(h, w) >= pool:
            layers.append(("MaxPool2d", {"kernel_size": pool}))
            h, w = h // pool, w // pool
    layers.append(("Flatten", {}))
    layers += [("Linear", {"in_features": c * h * w, "out_features": 20}), ("ReLU", {})]
    layers.append(("Linear", {"in_features": 20, "out_features": networks.CLASSES}))
    return layers, shape, uint8


def digest(arrays: dict[str, np.ndarray]) -> str:
    """A hash of names and bits."""
    found = hashlib.sha256()
    for name, values in sorted(arrays.items()):
        found.update(name.encode() + np.ascontiguousarray(values).tobytes())
    return found.hexdigest()[:16]


def replay() -> dict[str, str]:
    """The hash of loss, gradients and predictions by network, instruction set and number of threads."""
    hashes: dict[str, str] = {}
    for seed in range(NETWORKS):
        layers, shape, uint8 = fixed_network(seed)
        fnn.manual_seed(seed)
        model: Any = torch_twins.build(layers, nn)
        x, y = networks.draw_batch(np.random.default_rng(seed), shape, uint8, 0)
        for isa in networks.ISAS:
            for threads in (1, 2):
                with networks.running_on(isa, threads):
                    arrays = networks.compiled_gradients(model, nn.CrossEntropyLoss(), x, y, exact=seed % 4 == 3)
                    arrays["prediction"] = np.asarray(fnn.compile(model)(x))
                hashes[f"{seed} {isa} {threads}"] = digest(arrays)
    return hashes


if __name__ == "__main__":
    file, now = Path(sys.argv[1]), replay()
    if not file.exists():
        file.write_text(json.dumps(now, indent=0))
    before = json.loads(file.read_text())
    changed = [name for name in now if now[name] != before.get(name)]
    print(f"{len(now)} runs, {len(changed)} differ", *changed[:20], sep="\n")
    sys.exit(bool(changed))
