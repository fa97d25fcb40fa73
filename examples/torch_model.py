"""Train your PyTorch model faster: into fastnn, trained there, and back.

    python examples/torch_model.py [--out FOLDER] [--full]

A convolutional network is written for PyTorch as torchvision writes VGG, with batch norm and a forward of its own. A
copy of it is trained by PyTorch; the model itself goes into fastnn (`fnn.from_torch`), is trained there with the same
optimiser for one epoch of MNIST, or six of the digits, and comes back (`fnn.to_torch`). What to see: the training takes
a fraction of the time, the accuracy is the same, and the module that comes back says what fastnn's model says. Needs
PyTorch.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _shared import run, save

import fastnn as fnn
from fastnn import nn, optim
from fastnn.insight import plots

RATE, MOMENTUM, BATCH = 0.02, 0.9, 64


def network() -> Any:
    """VGG's layout, for images of 28 by 28 pixels."""
    import torch

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layers: list[Any] = []
            channels = 1
            for width in (16, "M", 32, "M", 64, "M"):
                if isinstance(width, str):
                    layers.append(torch.nn.MaxPool2d(kernel_size=2, stride=2))
                else:
                    layers += [torch.nn.Conv2d(channels, width, kernel_size=3, padding=1)]
                    layers += [torch.nn.BatchNorm2d(width), torch.nn.ReLU(inplace=True)]
                    channels = width
            self.features = torch.nn.Sequential(*layers)
            self.avgpool = torch.nn.AdaptiveAvgPool2d((3, 3))
            self.classifier = torch.nn.Linear(9 * channels, 10)

        def forward(self, x: Any) -> Any:
            x = self.avgpool(self.features(x))
            return self.classifier(torch.flatten(x, 1))

    torch.manual_seed(0)
    return Network()


def train_in_torch(module: Any, images: np.ndarray, labels: np.ndarray, epochs: int) -> None:
    import torch

    x, y = torch.from_numpy(images), torch.from_numpy(labels)
    optimizer = torch.optim.SGD(module.parameters(), lr=RATE, momentum=MOMENTUM)
    module.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(x)).split(BATCH):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(module(x[batch]), y[batch]).backward()
            optimizer.step()


def train_in_fastnn(model: nn.Module, images: np.ndarray, labels: np.ndarray, epochs: int) -> None:
    optimizer = optim.SGD(model.parameters(), lr=RATE, momentum=MOMENTUM)
    fnn.fit(model, images, labels, optimizer=optimizer, epochs=epochs, batch_size=BATCH, seed=0, verbose=False)


def seconds(function: Callable[..., None], *args: Any) -> float:
    start = time.perf_counter()
    function(*args)
    return time.perf_counter() - start


def main(out: Path, full: bool = False, epochs: int = 0) -> dict[str, Any]:
    """Draws the picture; gives seconds by threads and library, accuracies, and how far predictions are apart."""
    import torch

    name = "mnist" if full else "digits"
    train, test = fnn.data.load(name), fnn.data.load(name, split="test")
    images, unseen = (np.asarray(part.images, np.float32) / 255 for part in (train, test))
    labels = np.array(train.labels, np.int64)
    epochs = epochs or (1 if full else 6)
    results: dict[str, Any] = {"seconds": {}, "accuracy": {}}
    before = torch.get_num_threads(), fnn.get_num_threads()
    for threads in sorted({1, before[1]}):
        torch.set_num_threads(threads)
        fnn.set_num_threads(threads)
        theirs = network()
        mine = fnn.from_torch(copy.deepcopy(theirs))
        took = (
            seconds(train_in_torch, theirs, images, labels, epochs),
            seconds(train_in_fastnn, mine, images, labels, epochs),
        )
        results["seconds"][threads] = took
        print(
            f"{threads} threads: PyTorch {took[0]:.1f} s, fastnn {took[1]:.1f} s, {took[0] / took[1]:.1f} times as fast"
        )
    torch.set_num_threads(before[0])
    fnn.set_num_threads(before[1])
    back = fnn.to_torch(mine.eval()).eval()
    with torch.no_grad():
        said = {
            key: module.eval()(torch.from_numpy(unseen)).numpy()
            for key, module in (("PyTorch", theirs), ("fastnn", back))
        }
    results["accuracy"] = {key: float((logits.argmax(1) == test.labels).mean()) for key, logits in said.items()}
    with fnn.no_grad():
        results["difference"] = float(np.abs(mine(unseen).numpy() - said["fastnn"]).max())
    print(", ".join(f"trained by {key}: {value:.2%}" for key, value in results["accuracy"].items()))
    print(f"largest difference of logits, fastnn's model and what came back: {results['difference']:.1e}")
    save(picture(results["seconds"], name), out / "torch_model.png")
    return results


def picture(took: dict[int, tuple[float, float]], name: str) -> Any:
    figure = plots.figure(6, 3)
    axes = figure.subplots()
    plots.styled(axes, f"training on {name}", "seconds")
    rows = [
        (f"{library}, {n} thread{'s' * (n > 1)}", s[i], i)
        for n, s in took.items()
        for i, library in enumerate(("PyTorch", "fastnn"))
    ]
    axes.barh(
        [row[0] for row in rows], [row[1] for row in rows], color=[(plots.GRAY, plots.BLUE)[row[2]] for row in rows]
    )
    axes.invert_yaxis()
    return figure


if __name__ == "__main__":
    run(main, __doc__)
