"""What is measured as whole processes: import, peak memory, training to an accuracy."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .fleet import ROOT

RECIPE_SCRIPT = f"{__package__}.torch_recipe"


class ProcessError(Exception):
    """What a process said when it failed."""


@dataclass
class Training:
    """A process that trained a model and measured it on the test images."""

    seed: int
    seconds: float  # from start to end of the process
    accuracy: float
    train_seconds: float


def import_seconds(packages: list[str], environment: dict[str, str], rounds: int) -> dict[str, float]:
    """What importing each package adds to Python's own start, in turns; medians."""
    programs = {"": "pass", **{package: f"import {package}" for package in packages}}
    times: dict[str, list[float]] = {package: [] for package in programs}
    for number in range(rounds + 1):
        for package, program in programs.items():
            seconds = _run([sys.executable, "-c", program], environment)
            if number:  # the first one reads the files from disk
                times[package].append(seconds)
    return {
        package: statistics.median(a - b for a, b in zip(times[package], times[""], strict=True))
        for package in packages
    }


def peak_memory(module: str, arguments: list[str], environment: dict[str, str], folder: Path) -> float:
    """The most megabytes that a module holds while it runs."""
    out = folder / "weighed.json"
    _run([sys.executable, "-m", f"{__package__}.weighed", str(out), module, *arguments], environment)
    return float(json.loads(out.read_text())["peak_bytes"]) / 1e6


def train(module: str, arguments: list[str], seed: int, environment: dict[str, str], folder: Path) -> Training:
    """Run a module that trains, takes ``--seed`` and ``--json``, and writes test_accuracy and train_seconds."""
    out = folder / "trained.json"
    command = [sys.executable, "-m", module, *arguments, "--seed", str(seed), "--json", str(out)]
    seconds = _run(command, environment)
    read: dict[str, Any] = json.loads(out.read_text())
    return Training(seed, seconds, read["test_accuracy"], read["train_seconds"])


def _run(command: list[str], environment: dict[str, str]) -> float:
    started = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise ProcessError(f"{' '.join(command[1:4])} ended with {done.returncode}: {said[0]}")
    return seconds
