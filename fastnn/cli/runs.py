"""`fastnn eval` and `fastnn predict`: what a kept run can do."""

from __future__ import annotations

import argparse
import warnings
from typing import Any

import numpy as np

from fastnn.cli import options
from fastnn.console import columns, say, shown
from fastnn.data import SOURCES
from fastnn.data.folder import images_at
from fastnn.data.loading import part_to_measure
from fastnn.data.prepare import Preparation
from fastnn.data.reading import few, unequal
from fastnn.errors import DataError
from fastnn.insight import confusion_matrix, plots
from fastnn.recipes import load_run
from fastnn.tables import padded
from fastnn.train import evaluate, predict_proba
from fastnn.train.evaluate import MOST_CLASSES_SHOWN


def add_commands(commands: Any) -> None:
    parser = commands.add_parser(
        "eval",
        help="measure a run on test images",
        description="Loss, accuracy and confusion matrix of a run on a data set's test images.",
    )
    parser.set_defaults(run=run_eval)
    parser.add_argument("run_folder", metavar="RUN", help="folder that fastnn train --out made")
    parser.add_argument(
        "dataset",
        nargs="?",
        metavar="DATASET",
        help="default: what the run was trained on; another folder or list of images without parts is measured whole",
    )
    options.add_pictures(parser, "as the run has them")
    parser.add_argument(
        "--png",
        metavar="FILE",
        help='draw the confusion matrix: .png, .pdf, .svg or .jpg (pip install "fastnn-cpu[plot]")',
    )
    options.add_common(parser)

    parser = commands.add_parser(
        "predict",
        help="say what is on images",
        description="Classes of images, and how sure the model is. An image is prepared as fastnn train and eval "
        "prepare those of a folder: made gray or RGB, and resized if it is not of the run's own size. With --crop, a "
        "gray drawing of another size is cut out and centred first. What is transparent becomes white, or "
        'black if all that is visible is nearly white. Image files need Pillow: pip install "fastnn-cpu[images]"; '
        "arrays (.npy) of the run's own size do not.",
    )
    parser.set_defaults(run=run_predict)
    parser.add_argument("run_folder", metavar="RUN", help="folder that fastnn train --out made")
    parser.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="PNG, JPEG or another image file, or an array as .npy; of a folder all images that can be read",
    )
    parser.add_argument(
        "--crop",
        action="store_true",
        help="turn drawings light on dark, cut them to what is drawn, and centre them by mass, as MNIST's digits were",
    )
    parser.add_argument("--top", type=options.positive_int, default=3, metavar="N", help="classes to name; default 3")
    parser.add_argument("--threads", type=options.positive_int, metavar="N", help="threads to use")
    parser.add_argument("--json", metavar="PATH", help="also write all probabilities as one JSON object")


def run_eval(arguments: argparse.Namespace) -> int:
    options.set_threads(arguments)
    options.check_picture(arguments.png)
    model, config, _ = load_run(arguments.run_folder)
    name = arguments.dataset or config["dataset"]
    settings = {"dataset": name}
    for key in ("size", "gray"):
        given = getattr(arguments, key)
        settings[key] = config.get(key) if given is None and arguments.dataset is None else given
    part = part_to_measure(name, config["dataset"])
    test = options.load_data(settings, part, arguments.data_dir, config)
    result = evaluate(model, test)
    assert result.accuracy is not None  # the labels of a data set are classes
    assert result.confusion is not None
    measured = f"accuracy {100 * result.accuracy:.2f} %, loss {result.loss:.4f}, {result.count:,} test images"
    say(f"{shown(test.name)}: {measured}")
    counts = result.confusion.sum(axis=1).tolist()
    present = [i for i, count in enumerate(counts) if count]
    if sizes := unequal([counts[i] for i in present], [test.classes[i] for i in present]):
        recalls = [result.confusion[i, i] / counts[i] for i in present]
        say(f"classes {sizes}: balanced accuracy {100 * sum(recalls) / len(recalls):.2f} %, by class")
    if absent := [name for name, count in zip(test.classes, counts, strict=True) if not count]:
        say(f"no test images of {few(absent)}")
    if len(test.classes) <= MOST_CLASSES_SHOWN:
        say(confusion_table(result.confusion, test.classes))
    if arguments.png is not None:
        plots.save(confusion_matrix(result.confusion, test.classes), arguments.png)
    options.write_json(
        arguments.json,
        {
            "dataset": name,
            "model": config["model"],
            "test_accuracy": result.accuracy,
            "test_loss": result.loss,
            "count": result.count,
            "confusion": result.confusion.tolist(),
        },
    )
    return 0


def confusion_table(confusion: np.ndarray, classes: tuple[str, ...]) -> str:
    """Rows are true classes, columns what they were taken for (numbered, since names may be long); nothing for 0.

    >>> print(confusion_table(np.array([[3, 0], [1, 4]]), ("cat", "dog")))
           0  1
    0 cat  3
    1 dog  1  4
    """
    names = [name if name == str(i) else f"{i} {shown(name)}" for i, name in enumerate(classes)]
    left = max(map(columns, names))
    width = 2 + max(len(str(confusion.max())), len(str(len(classes) - 1)))
    lines = [" " * left + "".join(f"{i:>{width}}" for i in range(len(classes)))]
    for name, row in zip(names, confusion.tolist(), strict=True):
        lines.append(padded(name, left) + "".join(f"{count or '':>{width}}" for count in row))
    return "\n".join(line.rstrip() for line in lines)


def run_predict(arguments: argparse.Namespace) -> int:
    options.set_threads(arguments)
    model, config, _ = load_run(arguments.run_folder)
    classes, prepared = config["classes"], Preparation.of_run(config)
    results = {}
    damaged = []
    refused: list[DataError] = []
    found: list[tuple[Any, bool]] = []
    for named in arguments.images:
        try:
            found += [(file, file == named) for file in images_at(named)]
        except DataError as error:
            refused.append(error)
    for path, is_named in found:
        try:
            image, changes = prepared.described(path, crop=arguments.crop)
        except DataError as error:
            if is_named:
                refused.append(error)  # those named after it, as by a pattern of the shell, have their answers first
            else:
                damaged.append(path)
            continue
        if "resized" in changes and config["dataset"] in SOURCES and prepared.shape[0] == 1:
            changes += "; --crop cuts out a drawing"
        probabilities = predict_proba(model, image[np.newaxis])[0]
        best = np.argsort(-probabilities, kind="stable")[: arguments.top]
        named = ", ".join(f"{shown(classes[i])} ({100 * probabilities[i]:.1f} %)" for i in best)
        say(f"{shown(path)}: {named}{f'  [{changes}]' if changes else ''}")
        results[path] = {
            "class": classes[best[0]],
            "probabilities": dict(zip(classes, probabilities.tolist(), strict=True)),
        }
    if damaged:
        warnings.warn(
            f"not everything is used: images that cannot be read ({len(damaged)}: {few(damaged)})", stacklevel=2
        )
    if not results and not refused:
        raise DataError("expected an image that can be read, found none")
    if results:
        options.write_json(arguments.json, results)
    for problem in refused[:-1]:
        say(f"fastnn: {shown(problem)}", error=True)
    if refused:
        raise refused[-1]
    return 0
