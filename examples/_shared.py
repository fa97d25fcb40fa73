"""What the examples share: their options, and how they write pictures."""

from __future__ import annotations

import argparse
import inspect
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastnn as fnn

COLOURS = 256  # a palette makes a picture a third as large
WIDTH = 1000  # pixels at most


def run(main: Callable[..., Any], description: str | None) -> None:
    """Calls main(out), or main(out, full) where it takes that, with what stands on the command line."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("pictures"), metavar="FOLDER", help="default: ./pictures")
    if "full" in inspect.signature(main).parameters:
        parser.add_argument("--full", action="store_true", help="MNIST instead of the digits in the package")
    options = vars(parser.parse_args())
    options["out"].mkdir(parents=True, exist_ok=True)
    try:
        main(**options)
    except fnn.FastnnError as error:
        sys.exit(f"{parser.prog}: {error}")


def save(figure: Any, path: Path) -> None:
    """Writes a figure as PNG."""
    from PIL import Image  # Matplotlib needs Pillow itself

    pixels = io.BytesIO()
    figure.savefig(pixels, format="png", dpi=min(110, WIDTH / figure.get_figwidth()))
    Image.open(pixels).convert("RGB").quantize(COLOURS, Image.Quantize.MAXCOVERAGE, kmeans=1).save(path, optimize=True)
    print(f"drawn: {path}")
