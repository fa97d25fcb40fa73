"""`fastnn convert`: weights from a file of PyTorch's to one of fastnn's, or the other way."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastnn import saving, weights
from fastnn.cli import options
from fastnn.console import say
from fastnn.errors import ArgumentError, DataError, meant
from fastnn.interop.torch import load_pt, save_pt

PICKLED = (".pt", ".pth", ".bin", ".ckpt")


def add_commands(commands: Any) -> None:
    parser = commands.add_parser(
        "convert",
        help="weights from PyTorch's files, and to them",
        description="Reads the tensors of a file that torch.save wrote, and writes them as safetensors, which "
        "fnn.weights.load and fnn.load read; or the other way, by the names of the files. Nothing in a file is "
        "executed. PyTorch has to be installed.",
    )
    parser.set_defaults(run=run)
    parser.add_argument("source", metavar="FROM", help=f"a file of PyTorch's ({', '.join(PICKLED)}) or of safetensors")
    parser.add_argument("file", metavar="TO", help="what to write, of the other kind")
    parser.add_argument(
        "--key",
        metavar="NAME",
        help="part of a checkpoint to take, such as model or ema.model; or the beginning of names to leave out: module",
    )
    options.add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    options.set_threads(arguments)
    from_torch, to_torch = (path.lower().endswith(PICKLED) for path in (arguments.source, arguments.file))
    if from_torch == to_torch:
        raise ArgumentError(
            f"convert: expected one file that ends in {', '.join(PICKLED)} and one of safetensors, got "
            f"{arguments.source} and {arguments.file}"
        )
    content = load_pt(arguments.source) if from_torch else saving.load(arguments.source)
    content = content.state_dict() if hasattr(content, "state_dict") else content
    part = _part(content, arguments.key, arguments.source)
    arrays = list(_arrays(part))
    if not arrays:
        raise DataError(f"convert: expected tensors, got none in {arguments.source}")
    if to_torch:
        save_pt(part, arguments.file)
    elif isinstance(part, Mapping) and all(isinstance(value, np.ndarray) for value in part.values()):
        weights.save(part, arguments.file)
    else:
        saving.save(part, arguments.file)
    numbers = sum(array.size for array in arrays)
    say(f"{arguments.file}: {len(arrays)} tensors, {numbers:,} numbers")
    result = {"path": os.fspath(arguments.file), "tensors": len(arrays), "numbers": numbers}
    options.write_json(arguments.json, result)
    return 0


def _part(content: Any, key: str | None, source: str) -> Any:
    for name in key.split(".") if key else ():
        known = list(content) if isinstance(content, Mapping) else []
        within = {k.removeprefix(f"{name}."): content[k] for k in map(str, known) if k.startswith(f"{name}.")}
        if name not in known and within:  # as the names of DataParallel's state are
            content = within
            continue
        if name not in known:
            listed = ", ".join(map(str, known[:10])) or "no parts"
            raise ArgumentError(f"convert: {source} has no part {key}{meant(name, map(str, known))}; it has {listed}")
        content = content[name]
    return content


def _arrays(value: Any) -> Any:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for entry in value:
            yield from _arrays(entry)
    elif hasattr(value, "dtype"):
        yield value
