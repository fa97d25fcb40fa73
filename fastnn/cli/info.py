"""`fastnn info`."""

from __future__ import annotations

import argparse
from typing import Any

from fastnn import config
from fastnn.cli import options


def add_commands(commands: Any) -> None:
    parser = commands.add_parser(
        "info",
        help="say what fastnn runs on here, and why",
        description="Say which kernels, instruction set and number of threads were chosen, and why.",
    )
    parser.set_defaults(run=run)
    parser.add_argument("--json", metavar="PATH", help="also write it as one JSON object")


def run(arguments: argparse.Namespace) -> int:
    config.show_config()
    options.write_json(arguments.json, config.configuration())
    return 0
