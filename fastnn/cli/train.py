"""`fastnn train`."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fastnn import backends, config, console, files, recipes
from fastnn.cli import optimization, options
from fastnn.console import say, shown
from fastnn.data import SOURCES, Batches, Dataset
from fastnn.data.centre import extent
from fastnn.data.loading import of_files, parts_of
from fastnn.data.reading import few, in_words, unequal
from fastnn.errors import ArgumentError, DataError
from fastnn.random import manual_seed
from fastnn.train import Evaluation, History, Interrupted, RecordPath, ResumeWarning, conditions, evaluate, fit, runs
from fastnn.train.path import recorded
from fastnn.train.team import Alone, team_of

EXAMPLES = """examples:
  fastnn train                                          the digits that come with fastnn
  fastnn train mnist --model cnn --epochs 3 --seed 0
  fastnn train mnist --model fast                       99 % of the test images in the least time
  fastnn train mnist --model best                       as many as three minutes on two cores allow
  fastnn train pictures/ --val 0.1 --out run            a folder with one subfolder of images for each class
  fastnn train --optimizer adam --lr find --val 0.1 --early-stopping 5 --epochs 50
  fastnn train --model linear --optimizer gd --l2 0.001 --stop-on-plateau 1
  fastnn train --out run --resume --epochs 40           go on with that run, exactly as if it had never stopped
                                                        (fast, best, resnet, mobile: if --epochs stays as it was)
"""

# What a resumed run keeps, and what it takes from the command line again.
DEFAULTS: dict[str, Any] = {
    "dataset": "digits", "model": recipes.AUTO, "seed": 0, "val": None, "augment": None, "eager": False,
    **optimization.RULES,
}  # fmt: skip
PICTURES = ("size", "gray")  # likewise; for folders of images
RECIPE_OPTIONS = ("epochs", "batch_size", "lr", "algorithm", "l1", "l2", "penalize_bias")
OPTION_NAMES = {"dataset": "DATASET", "algorithm": "--optimizer"}  # that do not follow from the setting's name


def add_commands(commands: Any) -> None:
    parser = commands.add_parser(
        "train",
        help="train a model",
        description="Train a model on a data set, and measure it on the data set's test images at the end.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "dataset",
        nargs="?",
        metavar="DATASET",
        help=f"{', '.join(SOURCES)}, or a folder of images by class, with folders train, val and test or without, or a "
        'CSV file with columns path and label (both need Pillow: pip install "fastnn-cpu[images]"); default digits',
    )
    parser.add_argument(
        "--model",
        choices=(*recipes.MODELS, recipes.AUTO),
        help="default auto: cnn for small gray images, else mobile, or resnet for 10,000 images and more",
    )
    few = "for fewer than 10,000 training images"
    own = "fast, best, resnet and mobile have their own"
    parser.add_argument("--epochs", type=options.positive_int, metavar="N", help=f"default 10 {few}, else 3; {own}")
    parser.add_argument(
        "--batch-size",
        type=optimization.batch_size,
        metavar="N",
        help=f"or full, for all images at once; default 16 {few}, else 64; {own}",
    )
    parser.add_argument(
        "--lr",
        type=optimization.rate,
        metavar="RATE",
        help="learning rate to begin with, for fast, best, resnet and mobile the highest; or find, by a range test; "
        f"default 0.02 {few} and for linear, else 0.05; {own}",
    )
    parser.add_argument("--seed", type=options.seed, metavar="N", help="default 0; equal seeds give equal weights")
    parser.add_argument(
        "--val",
        type=options.fraction,
        metavar="SHARE",
        help="share of the training images to watch by instead; default the folder val where there is one, else none",
    )
    parser.add_argument(
        "--augment",
        action=argparse.BooleanOptionalAction,
        help="move the training images at random; default for best, resnet and mobile, and, but for fast, for fewer "
        "than 10,000 images",
    )
    optimization.add_options(parser)
    parser.add_argument(
        "--eager",
        action=argparse.BooleanOptionalAction,
        help="run operator by operator instead of compiled steps; default no",
    )
    parser.add_argument(
        "--distributed",
        action="store_true",
        help="share the training among the processes that mpiexec starts: mpiexec -n 4 fastnn train mnist "
        '--distributed (pip install "fastnn-cpu[mpi]" mpich)',
    )
    options.add_pictures(parser, "their own, or their median up to 64 where it differs")
    parser.add_argument("--out", metavar="RUN", help="folder to keep weights, config and history in")
    parser.add_argument(
        "--record-path",
        action="store_true",
        help="also keep the parameters on the way in --out, four times an epoch, for fastnn landscape; at most 100 MB",
    )
    known = parser.add_mutually_exclusive_group()
    known.add_argument("--resume", action="store_true", help="go on with the run in --out")
    known.add_argument("--force", action="store_true", help="replace the run in --out")
    options.add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    options.set_threads(arguments)
    folder = None if arguments.out is None else Path(arguments.out)
    team = team_of(arguments.distributed)
    if team.rank:  # it writes nothing
        console.silence()
        arguments.out, folder, arguments.json = None, None, None
    with team.whole_job(), contextlib.ExitStack() as held:
        team.first(lambda: held.enter_context(_held(folder)))
        team.first(lambda: options.check_writable(arguments.json))
        return _run(arguments, folder, team)


def _run(arguments: argparse.Namespace, folder: Path | None, team: Alone) -> int:
    resumed = team.first(lambda: _config_to_resume(arguments, folder))
    settings = resumed or _settings(arguments)
    watched = settings["val"] is None and "val" in parts_of(settings["dataset"])
    if settings.get("early_stopping") is not None and settings["val"] is None and not watched:
        raise ArgumentError("--early-stopping needs --val SHARE, or a folder val, images to watch by")
    load = partial(options.load_data, settings, data_dir=arguments.data_dir)
    team.first(lambda: [load(part).name for part in ("train", "test")] if team.size > 1 else None)  # may download
    train, test = load("train"), load("test")
    held = load("val") if watched else None
    if settings["val"] is not None:
        train, held = train.split(settings["val"], settings["seed"])
    if resumed is None:
        given = {name: getattr(arguments, name) for name in RECIPE_OPTIONS if getattr(arguments, name) is not None}
        if given.get("lr") == optimization.FIND:
            del given["lr"]
        if settings["augment"] is not None:
            given["augment"] = settings["augment"]
        recipe = recipes.recipe(settings["model"], train, **given)
        picked = settings["model"] == recipes.AUTO
        settings["model"] = recipe.model
    else:
        if settings["images"] != len(train) or tuple(settings["image_shape"]) != train.image_shape:
            raise DataError(
                f"expected the {settings['images']} training images of the run in {folder}, of shape "
                f"{tuple(settings['image_shape'])}, got {len(train)} of shape {train.image_shape}"
            )
        if settings.get("data") not in (None, conditions.fingerprint(train.images, train.labels)):
            raise DataError(
                f"expected the training images of the run in {folder}, got others, as many: name another folder, or "
                "replace the run with --force"
            )
        recipe = recipes.recipe_of(resumed)
        recipe = dataclasses.replace(recipe, epochs=arguments.epochs or recipe.epochs)
        picked = False
    compiled = not settings["eager"]
    manual_seed(settings["seed"])
    model = recipe.build(train)
    moves = recipe.augmentation(train.name)
    batches = Batches.of(train, recipe.batch_size, shuffle=True, seed=settings["seed"], augment=moves)
    if resumed is None and arguments.lr == optimization.FIND:
        recipe = optimization.with_rate_found(recipe, model, batches, compiled)
    done = team.first(lambda: 0 if resumed is None or folder is None else runs.epochs_kept(folder))
    if done and recipe.epochs <= done:
        recipe = dataclasses.replace(recipe, epochs=done)
        say(
            f"the run in {shown(folder)} already has {_epochs(done)}: nothing is trained; a larger --epochs goes on "
            "with it"
        )
    elif folder is not None:  # of rank 0
        if arguments.force or resumed is None:
            runs.clear(folder)
        planned = recipe.epochs if resumed is None else resumed["recipe"]["epochs"]
        if done and recipe.patience is None and recipe.epochs != planned:
            say(
                f"the learning rate was planned for {_epochs(planned)}: it goes on where that of {recipe.epochs} would "
                f"be by now, so the result is not that of {_epochs(recipe.epochs)} in one go"
            )
        runs.write_config(folder, _config(settings, recipe, train))
    _print_header(recipe, picked, model, train, test, held)
    optimizer = recipe.optimizer(model)
    try:
        with _told_plainly():
            history = fit(
                model,
                batches,
                held,
                loss=recipe.loss(),
                optimizer=optimizer,
                scheduler=recipe.scheduler(optimizer, len(batches)),
                epochs=recipe.epochs,
                compile=compiled,
                callbacks=[*optimization.callbacks(settings, folder, arguments.resume), *_path(folder, arguments)],
                distributed=arguments.distributed,
            )
    except Interrupted as stop:
        raise Interrupted(f"{stop}; {_what_is_kept(folder, stop.history)}", stop.history, stop.signal) from None
    result = evaluate(model, test, compile=compiled, distributed=arguments.distributed)
    spent = [record.communication * record.seconds for record in history if record.communication is not None]
    share = sum(spent) / sum(history["seconds"]) if spent else None
    if share is not None:
        say(f"{team.size} ranks: {100 * share:.1f} % of the time in exchanges, waiting for one another included")
    say(f"test accuracy {100 * (result.accuracy or 0):.2f} % ({result.count:,} images, loss {result.loss:.4f})")
    if folder is not None:
        run = shown(folder)
        say(f"kept in {run}: fastnn eval {run}, fastnn predict {run} IMAGE...")
    else:
        say("the model is not kept: add --out RUN to keep it")
    summary = _summary(settings, recipe, model, history, result)
    options.write_json(arguments.json, {**summary, "ranks": team.size, "communication": share})
    return 0


@contextlib.contextmanager
def _held(folder: Path | None) -> Iterator[None]:
    """Context in which no other `fastnn train` takes this folder. Raises ArgumentError where one has it."""
    if folder is not None and folder.exists() and not folder.is_dir():
        raise ArgumentError(f"--out: expected a folder, got the file {folder}")
    if folder is None:
        yield
        return
    new = not folder.exists()
    files.make_folder(folder)
    try:
        with files.holding(folder) as held:
            if not held:
                raise ArgumentError(f"--out: another fastnn train is at work in {folder}")
            yield
    finally:
        if new:
            with contextlib.suppress(OSError):  # unless something was kept in it
                folder.rmdir()


@contextlib.contextmanager
def _told_plainly() -> Iterator[None]:
    """Context in which a ResumeWarning is a line of the command's own."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", ResumeWarning)
        usual = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *rest: Any) -> None:
            if issubclass(category, ResumeWarning):
                say(f"note     {message}")
            else:
                usual(message, category, *rest)

        warnings.showwarning = show  # type: ignore[assignment]  # the other arguments are handed on
        yield


def _settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options given, and defaults for the others; a folder or list of images by its absolute path."""
    settings = {}
    for name, default in DEFAULTS.items():
        given = getattr(arguments, name)
        settings[name] = default if given is None else given
    for name in PICTURES:
        settings[name] = getattr(arguments, name)
    if of_files(settings["dataset"]):
        settings["dataset"] = os.path.abspath(settings["dataset"])
    return settings


def _path(folder: Path | None, arguments: argparse.Namespace) -> list[RecordPath]:
    """What keeps the parameters along the way, if that is wanted; a path that was begun is gone on with."""
    return [RecordPath(folder)] if folder is not None and (arguments.record_path or recorded(folder)) else []


def _epochs(count: int) -> str:
    return f"{count} epoch{'' if count == 1 else 's'}"


def _config_to_resume(arguments: argparse.Namespace, folder: Path | None) -> dict[str, Any] | None:
    """The config of the run to go on with; None for one that starts. ArgumentError where that is not what is there."""
    if folder is None:
        if arguments.resume or arguments.force or arguments.record_path:
            raise ArgumentError("--resume, --force and --record-path need --out RUN")
        return None
    if arguments.resume and not any(folder.iterdir()):
        raise ArgumentError(f"--resume: there is no run in {folder}: leave it out to start one")
    if not runs.is_begun(folder):  # empty, or killed in its first epoch
        if not arguments.resume or not (folder / runs.CONFIG).exists():
            return None
    elif not arguments.resume:
        if not arguments.force:
            raise ArgumentError(
                f"--out: the folder {folder} is not empty: add --resume to go on with its run, or --force to replace it"
            )
        return None
    resumed = {**DEFAULTS, **runs.read_config(folder)}
    if (folder / runs.WEIGHTS).exists() and not (folder / runs.CHECKPOINT).exists():
        raise ArgumentError(
            f"--resume: the run in {folder} has weights but no {runs.CHECKPOINT} to go on from: "
            "name another folder, or replace the run with --force"
        )
    given = {**_settings(arguments), **{name: getattr(arguments, name) for name in RECIPE_OPTIONS}}
    if given["batch_size"] == recipes.FULL:
        given["batch_size"] = resumed["images"]
    if given["model"] == recipes.AUTO:
        del given["model"]  # it was chosen then
    if given["lr"] == optimization.FIND:
        del given["lr"]  # the run goes on with the rate that it has
    for name, value in given.items():
        kept = resumed["recipe"][name] if name in resumed["recipe"] else resumed.get(name)
        if getattr(arguments, name) is not None and value != kept and name != "epochs":
            started = f"without {_option(name)}" if kept is None else f"with {_option(name, kept)}"
            got = _option(name, value) if isinstance(value, bool) else value
            raise ArgumentError(f"--resume: the run in {folder} was started {started}, got {got}")
    return resumed


def _option(name: str, value: Any = "") -> str:
    """As one would write it: --lr 0.1, --no-augment."""
    option = OPTION_NAMES.get(name, f"--{name.replace('_', '-')}")
    if isinstance(value, bool):
        return option if value else option.replace("--", "--no-", 1)
    return f"{option} {value}".rstrip()


def _config(settings: dict[str, Any], recipe: recipes.Recipe, train: Dataset) -> dict[str, Any]:
    """All that it takes to build the model again and to go on with its training; and what it was trained with."""
    mean, std = train.statistics()
    chosen = config.configuration()
    return {
        **{name: settings.get(name) for name in (*DEFAULTS, *PICTURES)},
        "recipe": dataclasses.asdict(recipe),
        "images": len(train),
        "image_shape": train.image_shape,
        "classes": train.classes,
        "mean": mean,
        "std": std,
        "extent": extent(train.images),
        "data": conditions.fingerprint(train.images, train.labels),
        "environment": {name: chosen[name] for name in ("fastnn", "numpy", "backend", "isa", "threads")},
    }


def _summary(
    settings: dict[str, Any], recipe: recipes.Recipe, model: Any, history: History, result: Evaluation
) -> dict[str, Any]:
    """What --json writes."""
    chosen = backends.describe()
    seconds = sum(history["seconds"])
    last = history[-1]
    return {
        "dataset": settings["dataset"],
        "model": recipe.model,
        "epochs": len(history),
        "seed": settings["seed"],
        "threads": chosen["threads"],
        "isa": chosen["isa"],
        "backend": chosen["backend"],
        "test_accuracy": result.accuracy,
        "train_seconds": seconds,
        "images_per_second": sum(r.seconds * r.images_per_second for r in history) / seconds,
        "test_loss": result.loss,
        "train_loss": last.train_loss,
        "train_accuracy": last.train_accuracy,
        "penalty": last.penalty,
        "val_loss": last.val_loss,
        "val_accuracy": last.val_accuracy,
        "parameters": sum(parameter.data.size for parameter in model.parameters()),
        "recipe": dataclasses.asdict(recipe),
    }


def _print_header(
    recipe: recipes.Recipe, picked: bool, model: Any, train: Dataset, test: Dataset, held: Dataset | None
) -> None:
    chosen = backends.describe()
    shape = "×".join(map(str, train.image_shape))
    watched = "" if held is None else f", {len(held):,} to watch by"
    parameters = sum(parameter.data.size for parameter in model.parameters())
    isa = f", {chosen['isa']}" if chosen["isa"] else ""
    say(f"data     {shown(train.name)}: {len(train):,} training images {shape}{watched}, {len(test):,} test images")
    why = " (which suits these images; --model takes others)" if picked else ""
    say(f"model    {recipe.model}{why}: {parameters:,} parameters, {in_words(train.classes)}")
    counts = [np.bincount(part.labels, minlength=len(train.classes)).tolist() for part in (train, test)]
    if sizes := unequal(counts[0], train.classes):
        say(f"classes  {sizes}: accuracy shows little of how the small ones do")
    if absent := [name for name, count in zip(test.classes, counts[1], strict=True) if not count]:
        say(f"classes  no test images of {few(absent)}: the test says nothing about them")
    say(f"recipe   {recipe}")
    say(f"kernels  {chosen['backend']}{isa}, threads: {chosen['threads']}")


def _what_is_kept(folder: Path | None, history: History) -> str:
    if folder is None:
        return "nothing was kept (--out RUN keeps every epoch)"
    again = f"fastnn train --out {folder} --resume"
    if not history:
        return f"no epoch was complete: start again with {again}"
    return f"{folder} holds the state after epoch {len(history)}: go on with {again}"
