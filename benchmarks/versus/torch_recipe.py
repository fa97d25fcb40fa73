"""A recipe of `fastnn train mnist` in PyTorch, as a process of its own: the peer of the whole runs and of the memory.

`describe` puts a recipe into numbers that need no fastnn: layers, optimiser, learning rates. The script trains by them
on tensors that lie in memory whole, which is faster than a DataLoader, in NCHW or channels_last, with the fused
optimiser:

    python -m benchmarks.versus.torch_recipe RECIPE.json MNIST_FOLDER --seed 0 --json OUT.json [--channels-last]
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

ARGUMENTS = {  # by which each layer is built, in PyTorch's names
    "Conv2d": ("in_channels", "out_channels", "kernel_size", "stride", "padding"),
    "Linear": ("in_features", "out_features"),
    "MaxPool2d": ("kernel_size", "stride"),
    "BatchNorm2d": ("num_features",),
    "Dropout": ("p",),
    "AdaptiveAvgPool2d": ("output_size",),
    "Normalize": ("mean", "std"),
}


def describe(model_name: str, **changes: Any) -> dict[str, Any]:
    """The recipe of a model on MNIST, as JSON can hold it."""
    import fastnn as fnn

    mnist = fnn.data.load("mnist")
    recipe = fnn.recipes.recipe(model_name, mnist, **changes)
    if recipe.augment:
        raise NotImplementedError("the PyTorch side moves no images")
    model = recipe.build(mnist)
    optimizer = recipe.optimizer(model)
    batches = -(-len(mnist) // recipe.batch_size)
    return {
        "layers": [_describe_layer(layer) for layer in model],
        "epochs": recipe.epochs,
        "batch_size": recipe.batch_size,
        "optimizer": type(optimizer).__name__,
        "settings": {"momentum": recipe.momentum, "weight_decay": recipe.weight_decay, "nesterov": True},
        "label_smoothing": recipe.label_smoothing,
        "learning_rates": _learning_rates(recipe, optimizer, batches),
    }


def _describe_layer(layer: Any) -> dict[str, Any]:
    kind = type(layer).__name__
    values = (getattr(layer, name) for name in ARGUMENTS.get(kind, ()))
    options = {"bias": layer.bias is not None} if kind in ("Conv2d", "Linear") else {}
    return {"kind": kind, "args": [np.asarray(value).tolist() for value in values], "options": options}


def _learning_rates(recipe: Any, optimizer: Any, batches: int) -> list[float]:
    """One a step of the whole training; a schedule by epochs keeps its rate for all batches of one."""
    from fastnn.schedules import OneCycleLR

    scheduler = recipe.scheduler(optimizer, batches)
    each = 1 if isinstance(scheduler, OneCycleLR) else batches
    rates: list[float] = []
    while len(rates) < recipe.epochs * batches:
        rates += [float(optimizer.param_groups[0]["lr"])] * each
        scheduler.step()
    return rates


# ---- the process ----------------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a recipe of fastnn's in PyTorch.")
    parser.add_argument("recipe", type=Path, help="what describe() made, as JSON")
    parser.add_argument("mnist", type=Path, help="folder of the four files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write test_accuracy and train_seconds here")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--most-steps", type=int, help="stop early, to see how much memory it takes")
    arguments = parser.parse_args()
    recipe = json.loads(arguments.recipe.read_text())
    result = train(recipe, arguments.mnist, arguments.seed, arguments.channels_last, arguments.most_steps)
    print(result)
    if arguments.json:
        arguments.json.write_text(json.dumps(result))


def train(
    recipe: dict[str, Any], folder: Path, seed: int, channels_last: bool, most_steps: int | None
) -> dict[str, float]:
    import torch

    torch.manual_seed(seed)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model: Any = torch.nn.Sequential(*(_build(each) for each in recipe["layers"]))
    model = model.to(memory_format=layout)
    kind = getattr(torch.optim, recipe["optimizer"])
    optimizer = kind(model.parameters(), lr=recipe["learning_rates"][0], fused=True, **recipe["settings"])
    loss_fn = torch.nn.CrossEntropyLoss(label_smoothing=recipe["label_smoothing"])
    images, labels = (torch.from_numpy(array) for array in read_mnist(folder, "train"))
    batches = (
        chosen for _ in range(recipe["epochs"]) for chosen in torch.randperm(len(images)).split(recipe["batch_size"])
    )
    started = time.perf_counter()
    for rate, chosen in zip(recipe["learning_rates"][:most_steps], batches, strict=False):
        optimizer.param_groups[0]["lr"] = rate
        loss = loss_fn(model(images[chosen]), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    seconds = time.perf_counter() - started
    images, labels = (torch.from_numpy(array) for array in read_mnist(folder, "t10k"))
    model.eval()
    with torch.inference_mode():
        right = sum(
            int((model(x).argmax(1) == y).sum()) for x, y in zip(images.split(500), labels.split(500), strict=True)
        )
    return {"test_accuracy": right / len(labels), "train_seconds": seconds}


def _build(each: dict[str, Any]) -> Any:
    import torch

    if each["kind"] != "Normalize":
        return getattr(torch.nn, each["kind"])(*each["args"], **each["options"])

    class Normalize(torch.nn.Module):
        def __init__(self, mean: Any, std: Any) -> None:
            super().__init__()
            scale = 1 / (255 * torch.tensor(std)).reshape(1, -1, 1, 1)
            self.register_buffer("scale", scale)
            self.register_buffer("shift", -torch.tensor(mean).reshape(1, -1, 1, 1) * 255 * scale)

        def forward(self, x: Any) -> Any:
            return x.float().mul_(self.scale).add_(self.shift)

    return Normalize(*each["args"])


def read_mnist(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 1, 28, 28) uint8 and labels (N,) int64 of "train" or "t10k"."""
    images = np.frombuffer(_read(folder / f"{part}-images-idx3-ubyte"), np.uint8, offset=16).reshape(-1, 1, 28, 28)
    labels = np.frombuffer(_read(folder / f"{part}-labels-idx1-ubyte"), np.uint8, offset=8)
    return images.copy(), labels.astype(np.int64)


def _read(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else gzip.decompress(path.with_name(path.name + ".gz").read_bytes())


if __name__ == "__main__":
    main()
