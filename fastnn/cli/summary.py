"""`fastnn summary`: what a model consists of, and what it costs."""

from __future__ import annotations

import argparse
import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fastnn.cli import options
from fastnn.console import say, shown
from fastnn.data import SOURCES, load
from fastnn.nn import Conv2d, Linear, Sequential
from fastnn.recipes import MODELS, load_run
from fastnn.tables import aligned
from fastnn.tensors import no_grad

NUMBERS = ("parameters", "macs", "bytes")


def add_commands(commands: Any) -> None:
    parser = commands.add_parser(
        "summary",
        help="list a model's layers, and what they cost",
        description="Layers of a model with output shapes, parameters, multiply-accumulates and bytes, for one image.",
    )
    parser.set_defaults(run=run)
    parser.add_argument("run_folder", nargs="?", metavar="RUN", help="folder that fastnn train --out made")
    parser.add_argument("--model", choices=tuple(MODELS), default="cnn", help="without RUN; default cnn")
    parser.add_argument("--data", metavar="DATASET", default="digits", help="without RUN: whose images; default digits")
    parser.add_argument("--json", metavar="PATH", help="also write it as one JSON object")


@dataclass(frozen=True)
class Layer:
    """One layer: its repr, the shape of its output for one image, and its numbers."""

    layer: str
    output: tuple[int, ...]
    parameters: int
    macs: int

    @property
    def bytes(self) -> int:
        """Of its parameters and its output, in float32."""
        return 4 * (self.parameters + math.prod(self.output))


def layers_of(model: Sequential, image_shape: tuple[int, ...]) -> list[Layer]:
    """What each layer makes of one image (C, H, W).

    >>> from fastnn import nn
    >>> layers_of(nn.Sequential(nn.Conv2d(1, 2, 3)), (1, 5, 5))[0].macs  # 2 filters of 9 weights at 3x3 positions
    162
    """
    x: Any = np.zeros((1, *image_shape), np.float32)
    macs: list[int] = []

    def count(module: Any, inputs: Any, output: Any) -> None:
        if isinstance(module, Linear):
            macs.append(math.prod(output.shape) * module.weight.shape[1])
        elif isinstance(module, Conv2d):
            macs.append(math.prod(output.shape[2:]) * module.weight.data.size)  # every weight, at every position

    handles = [module.register_forward_hook(count) for module in model.modules()]
    layers = []
    with no_grad():
        for module in model:
            x = module(x)
            parameters = sum(parameter.data.size for parameter in module.parameters())
            layers.append(Layer(repr(module).partition("\n")[0], x.shape[1:], parameters, sum(macs)))
            macs.clear()
    for handle in handles:
        handle.remove()
    return layers


def run(arguments: argparse.Namespace) -> int:
    if arguments.run_folder is not None:
        model, config, _ = load_run(arguments.run_folder)
        name, shape, title = config["model"], tuple(config["image_shape"]), arguments.run_folder
    else:
        name, title = arguments.model, arguments.data
        if arguments.data in SOURCES:  # nothing need be read, let alone downloaded
            shape, classes = SOURCES[arguments.data].image_shape, len(SOURCES[arguments.data].classes)
        else:
            dataset = load(arguments.data)
            shape, classes = dataset.image_shape, len(dataset.classes)
        model = MODELS[name](shape, classes)
    layers = layers_of(model, shape)
    say(f"{name}, images {'×'.join(map(str, shape))} ({shown(title)})")
    say(table(layers))
    rows = [{**asdict(layer), "bytes": layer.bytes} for layer in layers]
    totals = {number: sum(row[number] for row in rows) for number in NUMBERS}
    options.write_json(arguments.json, {"model": name, "image_shape": shape, **totals, "layers": rows})
    return 0


def table(layers: list[Layer]) -> str:
    rows: list[tuple[str, ...]] = [("layer", "output", "parameters", "MACs", "bytes")]
    for entry in layers:
        output = "×".join(map(str, entry.output))
        rows.append((entry.layer, output, f"{entry.parameters:,}", f"{entry.macs:,}", f"{entry.bytes:,}"))
    sums = (sum(getattr(entry, name) for entry in layers) for name in NUMBERS)
    rows.append(("in all", "", *(f"{number:,}" for number in sums)))
    return aligned(rows, left=2)
