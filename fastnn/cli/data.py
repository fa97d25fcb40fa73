"""`fastnn data list`, `fetch` and `verify`."""

from __future__ import annotations

import argparse
from typing import Any

from fastnn.console import say
from fastnn.data import SOURCES, fetch, verify


def add_commands(commands: Any) -> None:
    parser = commands.add_parser("data", help="list, download and verify data sets", description="Data sets by name.")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)

    listing = actions.add_parser("list", help="say which data sets there are, and under which licence")
    listing.set_defaults(run=run_list)

    fetching = actions.add_parser("fetch", help="download data sets, and verify what came")
    fetching.set_defaults(run=run_fetch)
    fetching.add_argument("names", nargs="+", metavar="NAME", choices=tuple(SOURCES), help=", ".join(SOURCES))

    verifying = actions.add_parser("verify", help="check files by their SHA-256; exit code 3 if one fails")
    verifying.set_defaults(run=run_verify)
    verifying.add_argument("names", nargs="+", metavar="NAME", choices=tuple(SOURCES), help=", ".join(SOURCES))

    for action in (fetching, verifying):
        action.add_argument(
            "--data-dir", metavar="DIR", help="folder of the files; default $FASTNN_DATA_DIR, or the user's cache"
        )


def run_list(arguments: argparse.Namespace) -> int:
    for name, source in SOURCES.items():
        shape = "×".join(map(str, source.image_shape))
        say(f"{name:<15}{shape:<9}{source.title}; licence: {source.licence}\n{'':<24}{source.homepage}")
    return 0


def run_fetch(arguments: argparse.Namespace) -> int:
    for name in arguments.names:
        say(f"{name}: {fetch(name, data_dir=arguments.data_dir)}")
    return 0


def run_verify(arguments: argparse.Namespace) -> int:
    reports = [report for name in arguments.names for report in verify(name, data_dir=arguments.data_dir)]
    for report in reports:
        say(report)
    return 0 if all(report.ok for report in reports) else 3
