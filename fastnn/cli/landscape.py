"""`fastnn landscape`: the loss around runs, and the way that their training took."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from fastnn.cli import options
from fastnn.console import say, shown
from fastnn.data import Dataset
from fastnn.errors import ArgumentError
from fastnn.insight import landscape, viewer
from fastnn.nn import Module
from fastnn.recipes import load_run
from fastnn.train import ParameterPath

EXAMPLES = """examples:
  fastnn train mnist --epochs 2 --out run --record-path && fastnn landscape run --html out.html
  fastnn landscape run another --html out.html          both paths on one surface
  fastnn landscape run --line --directions random --png out.png

Without a path, directions are random and normalised filter by filter (arXiv 1712.09913); with several runs, they are
those to the second run and the third.
"""


def add_commands(commands: Any) -> None:
    parser = commands.add_parser(
        "landscape",
        help="draw the loss around a run",
        description="The loss on a plane through a run's weights, with the paths that were recorded by "
        "fastnn train --record-path: a page to turn and zoom, or a picture.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folders of fastnn train --out, of one architecture")
    add_outputs(parser)
    parser.add_argument("--line", action="store_true", help="the loss along the first direction alone")
    parser.add_argument(
        "--directions", choices=("pca", "filter", "random"), help="default pca where there is a path, else see below"
    )
    parser.add_argument("--points", type=options.positive_int, metavar="N", help="a side; default 25, with --line 51")
    parser.add_argument(
        "--extent", type=options.positive_float, metavar="R", help="from -R to R; default what shows the runs, or 1"
    )
    parser.add_argument("--images", type=options.positive_int, default=2000, metavar="N", help="default 2000")
    parser.add_argument("--part", choices=("train", "test"), default="train", help="whose images; default train")
    parser.add_argument("--batch-norm", choices=("keep", "recompute"), default="keep", help="statistics; default keep")
    parser.add_argument("--seed", type=options.seed, default=0, metavar="N", help="of random directions; default 0")
    options.add_common(parser)


def add_outputs(parser: argparse.ArgumentParser) -> None:
    """--html, --png and --save."""
    parser.add_argument(
        "--html",
        metavar="FILE",
        help='write an interactive page that needs no network (pip install "fastnn-cpu[plot]")',
    )
    parser.add_argument(
        "--png", metavar="FILE", help='write a picture: .png, .pdf, .svg or .jpg (pip install "fastnn-cpu[plot]")'
    )
    parser.add_argument("--save", metavar="FILE", help="write the numbers as .npz, for fnn.landscape.load")


def check_outputs(arguments: argparse.Namespace) -> None:
    """Notice before the work what would fail after it."""
    for name in ("html", "save", "json"):
        options.check_writable(getattr(arguments, name), f"--{name}")
    if arguments.html is not None:
        viewer.script()
    options.check_picture(arguments.png)


def check_drawn(arguments: argparse.Namespace) -> None:
    """ArgumentError where nothing is asked for: before the work, after all else that can be wrong."""
    if all(getattr(arguments, name) is None for name in ("html", "png", "save", "json")):
        raise ArgumentError("nowhere to draw: add --html FILE, a page to turn and zoom, or --png FILE, a picture")


def write_outputs(arguments: argparse.Namespace, result: landscape.Landscape) -> None:
    if arguments.save is not None:
        result.save(arguments.save)
    if arguments.png is not None:
        landscape.picture(result, arguments.png)
    if arguments.html is not None:
        landscape.view(result, arguments.html, show=False)
        say(f"open {shown(arguments.html)} in a browser")


def run(arguments: argparse.Namespace) -> int:
    options.set_threads(arguments)
    check_outputs(arguments)
    loaded = [load_run(folder) for folder in arguments.runs]
    model, config, _ = loaded[0]
    _check_alike(arguments.runs, [config for _, config, _ in loaded])
    paths = {}
    for name, (each, _, history) in zip(_names(arguments.runs), loaded, strict=True):
        path = _path(each, history, len(loaded) > 1)
        if path is not None:
            paths[name] = path
    directions = arguments.directions or _directions([model for model, _, _ in loaded], paths)
    if arguments.line and isinstance(directions, tuple):
        directions = directions[0]
    check_drawn(arguments)
    measure: Any = landscape.line if arguments.line else landscape.plane
    result = measure(
        model,
        _images(config, arguments.part, arguments.data_dir),
        directions,
        path=paths,
        points=arguments.points or (51 if arguments.line else 25),
        extent=arguments.extent,
        images=arguments.images,
        batch_norm=arguments.batch_norm,
        seed=arguments.seed,
    )
    title = f"Loss of {config['model']} on {shown(Path(str(config['dataset'])).name)}"
    words = {"data": f"{result.about['data']} ({'training' if arguments.part == 'train' else 'test'} part)"}
    result = dataclasses.replace(result, title=title, about={**result.about, **words})
    say(result)
    write_outputs(arguments, result)
    options.write_json(arguments.json, summary(result))
    return 0


def summary(result: landscape.Landscape) -> dict[str, Any]:
    """What --json writes, to seven digits, but for the loss at the centre, which keeps them all."""
    paths = {
        path.name: {"times": path.times, "coordinates": path.coordinates, "losses": path.losses}
        for path in result.paths
    }
    words = {
        "axes": [{"label": axis.label, "values": axis.values} for axis in result.axes],
        "explained": result.explained,
        "losses": result.losses,
        "paths": paths,
    }
    return {"centre": result.centre, **viewer.finite(words)}


def _images(config: dict[str, Any], part: str, data_dir: str | None) -> Dataset:
    """What the run was trained on (without what it was watched by), or its test images."""
    dataset = options.load_data(config, part, data_dir, config)
    if part == "train" and config["val"] is not None:
        return dataset.split(config["val"], config["seed"])[0]
    return dataset


def _check_alike(folders: list[str], configs: list[dict[str, Any]]) -> None:
    """Refuse runs on other data than the first one's, whose loss on its images says nothing; and say where a run's
    images were normalised otherwise, which moves its loss a little."""
    for folder, config in zip(folders[1:], configs[1:], strict=True):
        for key, what in (("dataset", "data"), ("image_shape", "image shape"), ("classes", "classes")):
            if config[key] != configs[0][key]:
                raise ArgumentError(
                    f"landscape: expected runs on one data set, got {folders[0]} with {what} {configs[0][key]} and "
                    f"{folder} with {config[key]}"
                )
        if any(config[key] != configs[0][key] for key in ("mean", "std")):
            say(
                f"note: {shown(folder)} normalises by mean {config['mean']} and std {config['std']}; here its weights "
                f"are measured with those of {shown(folders[0])}, {configs[0]['mean']} and {configs[0]['std']}"
            )


def _path(model: Module, history: Any, needed: bool) -> ParameterPath | None:
    """The run's path, with its weights at the end; where `needed`, these alone if no path was recorded."""
    final = {name: array.copy() for name, array in model.state_dict().items()}
    path = history.path
    if path is None:
        return ParameterPath([final], [len(history)]) if needed else None
    if all(np.array_equal(array, final[name]) for name, array in path[-1].items() if name in final):
        return path
    return ParameterPath([*path, final], [*path.epochs, len(history)])


def _directions(models: list[Module], paths: dict[str, ParameterPath]) -> Any:
    if sum(map(len, paths.values())) > len(models):
        return "pca"
    others = models[1:3]
    return (*others, *["filter"] * (2 - len(others)))


def _names(folders: list[str]) -> list[str]:
    """The folders' own names, or all of each where that says too little."""
    places = [Path(folder).resolve() for folder in folders]
    if len(set(places)) < len(places):
        raise ArgumentError(f"landscape: expected different runs, got {' '.join(folders)}")
    short = [place.name for place in places]
    return short if len(set(short)) == len(short) else folders
