"""`fastnn diagnose`: what is wrong with a run, and pictures of it."""

from __future__ import annotations

import argparse
import dataclasses
import os
from pathlib import Path
from typing import Any

from fastnn.cli import options
from fastnn.console import say, shown
from fastnn.errors import DataError
from fastnn.files import make_folder
from fastnn.insight import confusion_matrix, diagnose, plots, worst_mistakes
from fastnn.insight.diagnosis import STOPPING
from fastnn.recipes import load_run
from fastnn.train import evaluate

MISTAKES_SHOWN = 24


def add_commands(commands: Any) -> None:
    parser = commands.add_parser(
        "diagnose",
        help="say what is wrong with a run, and draw it",
        description="Whether a run underfits, overfits, is not finished, learned nothing, diverged, was trained on "
        "other data than it is tested on, or went well; with the numbers that tell, and what helps. Draws "
        "learning curves, the confusion matrix of the test images and the worst mistakes, as PNG files; the pictures "
        'need Matplotlib: pip install "fastnn-cpu[plot]".',
    )
    parser.set_defaults(run=run)
    parser.add_argument("run_folder", metavar="RUN", help="folder that fastnn train --out made")
    parser.add_argument("--out", metavar="DIR", help="folder for the pictures; default RUN/diagnosis")
    parser.add_argument(
        "--acceptable", type=options.fraction, metavar="SHARE", help="error that counts as small; default 0.05"
    )
    options.add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    options.set_threads(arguments)
    options.check_writable(arguments.json)
    model, config, history = load_run(arguments.run_folder)
    folder = _folder(arguments)
    train, test = (options.load_data(config, part, arguments.data_dir, config) for part in ("train", "test"))
    held = None
    if config["val"] is not None:
        train, held = train.split(config["val"], config["seed"])
    tested = evaluate(model, test)
    assert tested.confusion is not None  # the labels of a data set are classes
    diagnosis = diagnose(
        history,
        train=evaluate(model, train),
        val=None if held is None else evaluate(model, held),
        test=tested,
        acceptable=arguments.acceptable,
    )
    if config.get("early_stopping") is not None:  # it stopped there
        remedies = tuple(remedy for remedy in diagnosis.remedies if remedy != STOPPING)
        diagnosis = dataclasses.replace(diagnosis, remedies=remedies)
    say(diagnosis)
    options.write_json(
        arguments.json,
        {
            "dataset": config["dataset"],
            "model": config["model"],
            "verdict": diagnosis.verdict,
            "reasons": diagnosis.reasons,
            "remedies": diagnosis.remedies,
            "errors": diagnosis.numbers,
            "confusion": tested.confusion.tolist(),
        },
    )
    pictures = {
        "learning_curves.png": diagnosis.plot(),
        "confusion.png": confusion_matrix(tested.confusion, test.classes),
        "mistakes.png": worst_mistakes(model, test, MISTAKES_SHOWN).plot(),
    }
    for name, figure in pictures.items():
        plots.save(figure, folder / name)
    say(f"drawn in {shown(folder)}: {', '.join(pictures)}")
    return 0


def _folder(arguments: argparse.Namespace) -> Path:
    """Where the pictures go. Notices before the work what would fail after it: no Matplotlib, no place to write."""
    plots.figure(1, 1)
    folder = Path(arguments.run_folder) / "diagnosis" if arguments.out is None else Path(arguments.out)
    try:
        make_folder(folder)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DataError(f"--out: expected a folder that can be written, got {folder}: {reason}") from error
    if not os.access(folder, os.W_OK):
        raise DataError(f"--out: expected a folder that can be written, got {folder}")
    return folder
