"""Measures the figures of README and docs again and compares them:
`python -m benchmarks.reproduce [NAME ...] [--list]`.

The published number is read from the page where it stands, so that neither can change without the other. What depends
on the machine, as times do, has a wide spread; what does not, as accuracies and counts, has a narrow one. Tables of
ratios against other libraries take `python -m benchmarks.versus`; here is one row of them. Exit code 1 where a figure
lies outside of its spread.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Figure:
    """A published number.

    Attributes:
        name: what it is.
        page, pattern: where it stands; the pattern's groups are the numbers that were seen, one a machine.
        low, high: the spread: from the least published number times low to the largest times high.
        measure: makes it again.
        needs: a package, or "mnist", without which it is left out.
        quick: whether it takes seconds.
    """

    name: str
    page: str
    pattern: str
    low: float
    high: float
    measure: Callable[[], float]
    needs: str = ""
    quick: bool = False

    def published(self) -> list[float]:
        found = re.search(self.pattern, (ROOT / self.page).read_text())
        assert found, f"{self.page} no longer says {self.pattern}"
        return [float(number.replace(",", "")) for number in found.groups()]

    def bounds(self) -> tuple[float, float]:
        return self.low * min(self.published()), self.high * max(self.published())

    def missing(self) -> str:
        """What it needs and is not there; empty where all is."""
        here = (
            os.environ.get("FASTNN_DATA_DIR")
            if self.needs == "mnist"
            else self.needs and importlib.util.find_spec(self.needs)
        )
        return "" if here or not self.needs else self.needs


class Ended(NamedTuple):
    """What a command printed, its seconds, those of the processor, and its peak of memory in MB."""

    text: str
    seconds: float
    busy: float
    megabytes: float


def command(*words: str) -> Ended:
    """Runs Python with these words. OSError says what a failing command said."""
    kept = {
        name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"
    }  # as it is installed
    environment = {**kept, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests/support")])}
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryDirectory() as folder:
        run = subprocess.Popen(
            [sys.executable, *words], cwd=folder, env=environment, stdout=said, stderr=subprocess.STDOUT
        )
        _, status, usage = os.wait4(run.pid, 0)
        run.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        text = said.read()
    if run.returncode:
        raise OSError(f"{' '.join(words)} ends with {run.returncode}: {text[-300:]}")
    unit = 1e6 if sys.platform == "darwin" else 1e3
    return Ended(text, time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / unit)


def trained(*words: str) -> float:
    """The test accuracy in percent of `fastnn train`."""
    return float(re.findall(r"test accuracy ([\d.]+) %", command("-m", "fastnn", "train", *words).text)[-1])


def imported() -> float:
    """Milliseconds of one core that `import fastnn` adds to starting Python.

    The least of some, the first of which compiles it.
    """
    least = [min(command("-c", program).busy for _ in range(7)) for program in ("pass", "import fastnn")]
    return 1e3 * (least[1] - least[0])


def conformance() -> float:
    """How many of ONNX's node tests pass."""
    said = command(str(ROOT / "tests/interop/onnx_conformance.py"), "--failures").text
    return float(re.findall(r"^(\d+) of \d+", said, re.MULTILINE)[-1])


def ratio(work: str) -> float:
    """How many times as long PyTorch takes for a training step, of 128 images."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "all.json")
        options = [
            "--quick",
            "--no-runs",
            "--peers",
            "torch",
            "--parts",
            "steps",
            "--compile",
            "none",
            "--batches",
            "128",
        ]
        command("-m", "benchmarks.versus", *options, "--workloads", work, "--json", str(out))
        tables = json.loads(out.read_text())
    return float(re.findall(rf"{work} step, B=128.*?([\d.]+)×", json.dumps(tables, ensure_ascii=False))[0])


FIGURES = [
    Figure("digits", "README.md", r"ends at ([\d.]+) % or ([\d.]+) %", 0.996, 1.004, lambda: trained("--seed", "0")),
    Figure("import", "README.md", r"import, NumPy's included \| (\d+) ms", 0.2, 6, imported, quick=True),
    Figure(
        "mnist-fast",
        "README.md",
        r"--model fast`: ([\d.]+) %",
        0.998,
        1.002,
        lambda: trained("mnist", "--model", "fast"),
        "mnist",
    ),
    Figure(
        "mnist-fast-seconds",
        "README.md",
        r"--model fast`: [\d.]+ % \| ([\d.]+) s",
        0.3,
        6,
        lambda: command("-m", "fastnn", "train", "mnist", "--model", "fast").seconds,
        "mnist",
    ),
    Figure(
        "mnist-cnn-memory",
        "docs/PERFORMANCE.md",
        r"--model cnn` \| (\d+) MB",
        0.6,
        1.5,
        lambda: command("-m", "fastnn", "train", "mnist", "--model", "cnn", "--epochs", "1").megabytes,
        "mnist",
    ),
    Figure(
        "onnx-conformance", "docs/howto/onnx_load.md", r"(\d+) of \d+ tests of the operators", 1, 1, conformance, "onnx"
    ),
    Figure(
        "lenet5-against-pytorch",
        "docs/PERFORMANCE.md",
        r"`lenet5`, B=128 / B=32 .*?([\d.]+)× / .*?([\d.]+)× \|\n",
        0.5,
        1.5,
        lambda: ratio("lenet5"),
        "torch",
    ),
]


def compared(figure: Figure) -> tuple[bool, str]:
    """Whether a figure is within its spread, and the line that says so."""
    low, high = figure.bounds()
    found = figure.measure()
    said = " or ".join(f"{number:g}" for number in figure.published())
    return low <= found <= high, f"{figure.name}: {found:.4g}, published {said} ({low:.4g} to {high:.4g})"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.reproduce", description="Measures published figures again."
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(each.name for each in FIGURES)}; all by default"
    )
    parser.add_argument("--list", action="store_true", help="say what stands where, and measure nothing")
    options = parser.parse_args()
    unknown = set(options.names) - {each.name for each in FIGURES}
    if unknown:
        parser.error(f"no such figure: {', '.join(sorted(unknown))}")
    outside = 0
    for figure in FIGURES:
        if options.list:
            print(f"{figure.name}: {' or '.join(map(str, figure.published()))} in {figure.page}")
        elif not options.names or figure.name in options.names:
            if missing := figure.missing():
                print(f"{figure.name}: left out, for want of {missing}", flush=True)
                continue
            within, line = compared(figure)
            outside += not within
            print(line if within else f"{line}  OUTSIDE", flush=True)
    return int(outside > 0)


if __name__ == "__main__":
    sys.exit(main())
