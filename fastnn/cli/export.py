"""`fastnn export`: a run's model for programs without fastnn."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from fastnn.cli import options
from fastnn.console import say
from fastnn.data import Dataset
from fastnn.errors import ArgumentError
from fastnn.interop import Exported, export_c, onnx
from fastnn.nn import Module
from fastnn.recipes import load_run

IMAGES = 256, 2000  # to calibrate on, and to measure the loss of accuracy on


def add_commands(commands: Any) -> None:
    parser = commands.add_parser(
        "export",
        help="write a run's model as C or ONNX",
        description="FILE.c: one C99 file without dependencies: the weights, and void predict(const float *x, "
        "float *y) in plain loops, for one image x of floats from 0 to 1. It allocates nothing, and says in its head "
        "what memory it takes. FILE.onnx: an ONNX file for any number of such images, with the classes' names in "
        "its metadata.",
    )
    parser.set_defaults(run=run)
    parser.add_argument("run_folder", metavar="RUN", help="folder that fastnn train --out made")
    parser.add_argument("file", metavar="FILE", help="what to write, such as model.c or model.onnx")
    parser.add_argument("--name", help="of the C function; default predict")
    parser.add_argument(
        "--int8",
        action="store_true",
        help="in C, weights of eight bits, in a quarter of the memory, calibrated on images of the run's training data;"
        " says what accuracy that costs on its test images",
    )
    parser.add_argument("--uint8", action="store_true", help="in ONNX, images as bytes from 0 to 255")
    options.add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    options.set_threads(arguments)
    suffix = Path(arguments.file).suffix
    if suffix not in (".c", ".onnx"):
        raise ArgumentError(f"export: expected a file that ends in .c or .onnx, got {arguments.file}")
    foreign = ("int8", "name") if suffix == ".onnx" else ("uint8",)
    for option in foreign:
        if getattr(arguments, option):
            raise ArgumentError(f"export: expected --{option} with a file of the other kind, got {arguments.file}")
    model, config, _ = load_run(arguments.run_folder)
    exported = _as_c(model, config, arguments) if suffix == ".c" else _as_onnx(model, config, arguments)
    say(str(exported))
    options.write_json(arguments.json, exported.to_dict())
    return 0


def _as_c(model: Module, config: dict[str, Any], arguments: argparse.Namespace) -> Exported:
    images: list[Dataset | None] = [None, None]
    if arguments.int8:
        parts = [options.load_data(config, split, arguments.data_dir, config) for split in ("train", "test")]
        images = [part.subset(slice(None, None, -(-len(part) // n))) for part, n in zip(parts, IMAGES, strict=True)]
    name = arguments.name or "predict"
    return export_c(model, arguments.file, config["image_shape"], name=name, int8=images[0], test=images[1])


def _as_onnx(model: Module, config: dict[str, Any], arguments: argparse.Namespace) -> onnx.Exported:
    dtype = "uint8" if arguments.uint8 else "float32"
    return onnx.export(model, arguments.file, config["image_shape"], dtype=dtype)
