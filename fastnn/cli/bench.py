"""`fastnn bench`: how fast this machine is."""

from __future__ import annotations

import argparse
from typing import Any

from fastnn.cli import options
from fastnn.console import say
from fastnn.recipes.speed import OF_IMAGES, SEEN, measure_speed


def add_commands(commands: Any) -> None:
    parser = commands.add_parser(
        "bench",
        help="measure how fast this machine is, in half a minute",
        description="Measures, on one core and on all: matrix products, memory, and training and inference of the "
        "recipes' models on images of 28 x 28, in batches and one by one. Leave the machine alone meanwhile.",
    )
    parser.set_defaults(run=run)
    parser.add_argument("--png", metavar="PATH", help="also draw it; .pdf, .svg and .jpg, too")
    parser.add_argument("--threads", type=options.positive_int, metavar="N", help="what all cores are, 1 to 256")
    parser.add_argument(
        "--seconds", type=options.positive_float, metavar="S", default=0.5, help="for each number; default 0.5"
    )
    parser.add_argument(
        "--models", nargs="+", choices=OF_IMAGES, default=SEEN, metavar="MODEL", help=f"default {' '.join(SEEN)}"
    )
    parser.add_argument("--json", metavar="PATH", help="also write it as one JSON object")


def run(arguments: argparse.Namespace) -> int:
    options.set_threads(arguments)
    options.check_writable(arguments.json)
    options.check_picture(arguments.png)
    speed = measure_speed(arguments.seconds, arguments.models)
    say(str(speed))
    if arguments.png is not None:
        speed.plot().save(arguments.png)
    options.write_json(arguments.json, speed.to_dict())
    return 0
