"""`fastnn demo`: a page to draw on."""

from __future__ import annotations

import argparse
import webbrowser
from typing import Any

from fastnn.cli import options
from fastnn.console import say
from fastnn.data import SOURCES
from fastnn.data.about import about
from fastnn.errors import ArgumentError
from fastnn.recipes import load_run

USUAL_PORT = 8000


def add_commands(commands: Any) -> None:
    parser = commands.add_parser(
        "demo",
        help="draw in the browser, and see what a run makes of it",
        description="Serves one page on this machine alone (127.0.0.1): draw with mouse, finger or keys, in colour for "
        "a run on colour images, or open, drop or paste a picture, and see the probabilities of the classes and the "
        "layers' feature maps and values change. For a run on a named data set of gray images the drawing is cut out, "
        "scaled and centred as MNIST's digits were, for another it is resized as its images were; both need Pillow: "
        'pip install "fastnn-cpu[images]". A run on mnist reads drawings better than one on the coarser digits. '
        "Ctrl-C ends it.",
    )
    parser.set_defaults(run=run_demo)
    parser.add_argument("run_folder", metavar="RUN", help="folder that fastnn train --out made, on images")
    parser.add_argument(
        "--port", type=options.port, metavar="N", help=f"default {USUAL_PORT}, or any that is free if that is taken"
    )
    parser.add_argument(
        "--crop",
        action=argparse.BooleanOptionalAction,
        help="cut out what is drawn, and centre it; default for gray named data sets, but not for a folder of images",
    )
    parser.add_argument("--no-browser", action="store_true", help="only print where the page is")
    parser.add_argument("--threads", type=options.positive_int, metavar="N", help="threads to use")


def run_demo(arguments: argparse.Namespace) -> int:
    from fastnn.insight.demo import DemoServer

    options.set_threads(arguments)
    model, config, _ = load_run(arguments.run_folder)
    known = about(model)

    def serve(port: int) -> DemoServer:
        return DemoServer(
            model,
            title=f"{config['model']} trained on {config['dataset']}",
            prepared=known.picture if known else None,
            classes=tuple(config["classes"]),
            crop=config["dataset"] in SOURCES if arguments.crop is None else arguments.crop,
            port=port,
        )

    try:
        server = serve(USUAL_PORT if arguments.port is None else arguments.port)
    except OSError as error:
        if arguments.port is not None:
            raise ArgumentError(
                f"--port {arguments.port}: {error.strerror}: leave it out to take a free one"
            ) from error
        server = serve(0)
    with server:
        say(f"Draw at {server.url}  (Ctrl-C ends it)")
        if not arguments.no_browser:
            webbrowser.open(server.url)
        server.serve_forever(poll_interval=0.1)
    return 0
