"""What is not finite ends a training before an update, or names it, with epoch, batch and layer; none of it is kept.

Into a network around each kind of layer NaN and infinities are planted: into a sample, each parameter and buffer, the
gradient behind the layer, and weights so large that its outputs overflow. The compiled steps and the eager ones are
tried, and what `Checkpoint` has kept as the best is read back.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from layer_cases import LAYERS

import fastnn as fnn
from fastnn import nn, weights
from fastnn.errors import FastnnError, NonFiniteError
from fastnn.tensors import Tensor
from fastnn.train import Checkpoint, EarlyStopping, Training, fit

IN_CI = 0.025
COUNT, SIZE, CLASSES = 12, 4, 3
AT = (2, 2)  # epoch and batch of what is planted


class Spoiled(fnn.autograd.Function):
    """The identity, whose gradient gets a value that is not finite."""

    value: float | None = None

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 1

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad if Spoiled.value is None else grad * float(Spoiled.value)


class Net(nn.Module):
    def __init__(self, layer: nn.Module, features: int) -> None:
        super().__init__()
        self.layer, self.head = layer, nn.Linear(features, CLASSES)

    def forward(self, x: Any) -> Tensor:
        outputs = self.layer(x)
        first = outputs[0] if isinstance(outputs, tuple) else outputs
        return self.head(Spoiled.apply(first.reshape(len(first), -1) * 1.0))


class Plant(fnn.train.Callback):
    """Calls a function after the batch before `AT`, and copies what the model then is."""

    def __init__(self, plant: Callable[[Training], None]) -> None:
        self.plant = plant

    def on_batch_end(self, training: Training) -> None:
        if (training.epoch, training.batch + 1) == AT:
            self.plant(training)
            self.state = {name: array.copy() for name, array in training.model.state_dict().items()}


def networks() -> Iterator[tuple[str, Callable[[], tuple[Net, np.ndarray]]]]:
    """A network around each layer that takes one array, batch first, and samples for it."""
    for name, cases in LAYERS.items():
        for number, (make, arguments) in enumerate(cases):
            x, *more = arguments()
            outputs = None if more or len(x) != SIZE else make()(Tensor(x) if x.dtype.kind == "f" else x)
            outputs = outputs[0] if isinstance(outputs, tuple) else outputs
            if outputs is None or outputs.ndim < 2 or len(outputs) != SIZE:
                continue

            def network(
                make: Any = make, x: Any = x, size: int = outputs.numpy().size // SIZE
            ) -> tuple[Net, np.ndarray]:
                fnn.manual_seed(0)
                return Net(make(), size), np.concatenate([x] * (COUNT // SIZE))

            yield f"{name} {number}", network


def said(model: Net, x: Any, plant: Callable[[Training], None], told: str, **options: Any) -> str:
    """What the training says to what is planted; AssertionError where it says nothing, or keeps something of it."""
    planted = Plant(plant)
    data = x, np.arange(COUNT) % CLASSES
    with tempfile.TemporaryDirectory() as folder, np.errstate(all="ignore"):
        keep = [planted, EarlyStopping("train_loss", patience=9), Checkpoint(folder, best="train_loss")]
        batches = fnn.data.Batches(*data, SIZE)
        try:
            fit(model, batches, epochs=3, seed=0, verbose=False, callbacks=keep, loss=nn.CrossEntropyLoss(), **options)
        except NonFiniteError as error:
            message = str(error)
        except FastnnError as error:
            raise AssertionError(f"{told}: {error!r}") from error
        else:
            raise AssertionError(f"{told}: nothing was said")
        for kept in Path(folder).glob("*.safetensors"):
            bad = [name for name, array in weights.load(kept).items() if not np.isfinite(array).all()]
            assert not bad, f"{told}: {kept.name} holds {bad}"
    bad = [name for name, array in model.state_dict().items() if not np.isfinite(array).all()]
    assert not bad, f"{told}: the model is left with {bad}"
    assert "epoch 2" in message, f"{told}: {message}"
    return message


def of_one(name: str, network: Callable[[], tuple[Net, np.ndarray]], value: float, compile: bool) -> int:
    """Plants it at every place of one network; how many there were."""
    at = f"epoch {AT[0]}, batch {AT[1]}"
    told = f"{name}, {value}, {'compiled' if compile else 'eager'}"
    model, x = network()
    count = 0
    places = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    for place, tensor in places.items():
        array = getattr(tensor, "data", tensor) if isinstance(tensor, Tensor) else tensor
        if array.dtype.kind != "f" or not array.size:
            continue
        model, x = network()

        def spoil(training: Training, place: str = place) -> None:
            training.model.state_dict()[place].reshape(-1)[0] = value

        message = said(model, x, spoil, f"{told}, in {place}", compile=compile)
        assert place in message or "layer" in message, f"{told}, in {place}: {message}"
        model, x = network()
        message = said(model, x, spoil, f"{told}, in {place}, detect_anomaly", detect_anomaly=True)
        assert place in message, f"{told}, in {place}: {message}"
        assert at in message, f"{told}, in {place}: {message}"
        count += 2
    if x.dtype.kind == "f":
        model, x = network()
        x = x.copy()

        def spoil_sample(training: Training) -> None:
            x.reshape(COUNT, -1)[SIZE + 1, 0] = value

        if "Dropout" not in name and not _swallows(network, value):  # which may drop it
            message = said(model, x, spoil_sample, f"{told}, in a sample", compile=compile)
            assert re.search(f"{at}.*sample {SIZE + 1} ", message), f"{told}, in a sample: {message}"
        count += 1
    if any(True for _ in model.layer.parameters()):
        model, x = network()
        Spoiled.value = None

        def spoil_gradient(training: Training) -> None:
            Spoiled.value = value

        message = said(model, x, spoil_gradient, f"{told}, in a gradient", detect_anomaly=True)
        assert f"the gradient became non-finite in {at}" in message, f"{told}, in a gradient: {message}"
        Spoiled.value = None
        count += 1 + _overflow(network, told, compile)
    return count


def _swallows(network: Callable[[], tuple[Net, np.ndarray]], value: float) -> bool:
    """Whether the outputs are finite though an input is not: a sigmoid's are."""
    model, x = network()
    x = x.copy()
    x.reshape(COUNT, -1)[SIZE + 1, 0] = value
    with np.errstate(all="ignore"):
        return bool(np.isfinite(model(Tensor(x)).numpy()).all())


def _overflow(network: Callable[[], tuple[Net, np.ndarray]], told: str, compile: bool) -> int:
    model, x = network()
    for parameter in model.layer.parameters():
        parameter.data[...] = 3e38
    with np.errstate(all="ignore"):
        outputs = model.layer(Tensor(x[SIZE : 2 * SIZE]) if x.dtype.kind == "f" else x[SIZE : 2 * SIZE])
    first = outputs[0] if isinstance(outputs, tuple) else outputs
    if np.isfinite(first.numpy()).all():
        return 0
    model, x = network()

    def large(training: Training) -> None:
        for parameter in training.model.layer.parameters():
            parameter.data[...] = 3e38

    message = said(model, x, large, f"{told}, overflow", compile=compile)
    assert re.search(r"epoch 2, batch 2.*first in the layer layer", message), f"{told}, overflow: {message}"
    return 1


def measure(share: float = 1.0) -> str:
    Spoiled.value = None
    every = list(networks())
    chosen = every if share >= 1 else every[:: max(1, round(1 / share / 2))]
    values = (np.nan, np.inf, -np.inf) if share >= 1 else (np.nan, np.inf)
    planted = 0
    try:
        for number, (name, network) in enumerate(chosen):
            for i, value in enumerate(values):
                for compile in (True, False) if share >= 1 else ((number + i) % 2 == 0,):
                    planted += of_one(name, network, float(value), compile)
    finally:
        Spoiled.value = None
    return (
        f"{planted} planted into {len({name.split()[0] for name, _ in chosen})} kinds of layer, each named, none kept"
    )
