"""`fastnn compare-optimizers`: several optimisers from one start."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from fastnn.cli import options
from fastnn.cli.landscape import add_outputs, check_drawn, check_outputs, summary, write_outputs
from fastnn.console import say
from fastnn.data import load
from fastnn.errors import ArgumentError
from fastnn.insight import compare_optimizers
from fastnn.insight.compare import OPTIMIZERS
from fastnn.insight.surfaces import SURFACES
from fastnn.random import manual_seed
from fastnn.recipes import MODELS

EXAMPLES = """examples:
  fastnn compare-optimizers --surface ravine --html out.html
  fastnn compare-optimizers --model lenet5 --data digits --png out.png
"""


def add_commands(commands: Any) -> None:
    parser = commands.add_parser(
        "compare-optimizers",
        help="draw the paths of several optimisers",
        description=f"The paths of {', '.join(OPTIMIZERS)} from one start: on a function of two numbers, or, by "
        "--model, on a network, where they are projected on the plane of their principal components.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--surface", choices=tuple(SURFACES), help="default ravine")
    what.add_argument("--model", choices=tuple(MODELS), help="train this model by each instead")
    add_outputs(parser)
    parser.add_argument("--steps", type=options.positive_int, metavar="N", help="of each, on a surface")
    parser.add_argument("--data", metavar="DATASET", help="for --model: whose training images; default digits")
    parser.add_argument("--epochs", type=options.positive_int, metavar="N", help="for --model; default 3")
    parser.add_argument("--points", type=options.positive_int, metavar="N", help="for --model: a side; default 25")
    parser.add_argument("--images", type=options.positive_int, metavar="N", help="for --model; default 2000")
    parser.add_argument("--seed", type=options.seed, metavar="N", help="for --model: weights and order; default 0")
    options.add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    options.set_threads(arguments)
    check_outputs(arguments)
    given = {
        name: getattr(arguments, name)
        for name in ("data", "epochs", "points", "images", "seed", "steps")
        if getattr(arguments, name) is not None
    }
    if arguments.model is None:
        wrong = [f"--{name}" for name in given if name != "steps"]
        if wrong:
            raise ArgumentError(f"{', '.join(wrong)}: expected with --model, got a surface")
        check_drawn(arguments)
        result = compare_optimizers(arguments.surface or "ravine", **given)
    elif "steps" in given:
        raise ArgumentError("--steps: expected with a surface, got --model, which takes --epochs")
    else:
        check_drawn(arguments)
        dataset = load(given.pop("data", "digits"), split="train", data_dir=arguments.data_dir)
        manual_seed(given.get("seed", 0))
        mean, std = dataset.statistics()
        model = MODELS[arguments.model](dataset.image_shape, len(dataset.classes), mean, std)
        result = compare_optimizers(model, dataset, **given)
        result = dataclasses.replace(result, title=f"Optimisers of {arguments.model} on {dataset.name}")
    say(result)
    write_outputs(arguments, result)
    options.write_json(arguments.json, summary(result))
    return 0
