"""`fastnn export`: a run's model for programs without fastnn."""

from __future__ import annotations

import argparse
from typing import Any

from fastnn.cli import options
from fastnn.console import say
from fastnn.data import Dataset
from fastnn.errors import ArgumentError
from fastnn.interop import export_c
from fastnn.recipes import load_run

IMAGES = 256, 2000  # to calibrate on, and to measure the loss of accuracy on


def add_commands(commands: Any) -> None:
    parser = commands.add_parser(
        "export",
        help="write a run's model as C",
        description="One C99 file without dependencies: the weights, and void predict(const float *x, float *y) in "
        "plain loops, for one image x of floats from 0 to 1. It allocates nothing, and says in its head what memory "
        "it takes.",
    )
    parser.set_defaults(run=run)
    parser.add_argument("run_folder", metavar="RUN", help="folder that fastnn train --out made")
    parser.add_argument("file", metavar="FILE", help="what to write, such as model.c")
    parser.add_argument("--name", default="predict", help="of the C function; default predict")
    parser.add_argument(
        "--int8",
        action="store_true",
        help="weights of eight bits, in a quarter of the memory, calibrated on images of the run's training data; says "
        "what accuracy that costs on its test images",
    )
    options.add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    options.set_threads(arguments)
    if not arguments.file.endswith(".c"):
        raise ArgumentError(f"export: expected a file that ends in .c, got {arguments.file}")
    model, config, _ = load_run(arguments.run_folder)
    images: list[Dataset | None] = [None, None]
    if arguments.int8:
        parts = [options.load_data(config, split, arguments.data_dir, config) for split in ("train", "test")]
        images = [part.subset(slice(None, None, -(-len(part) // n))) for part, n in zip(parts, IMAGES, strict=True)]
    exported = export_c(
        model, arguments.file, config["image_shape"], name=arguments.name, int8=images[0], test=images[1]
    )
    say(str(exported))
    options.write_json(arguments.json, exported.to_dict())
    return 0
