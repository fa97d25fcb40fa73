"""Measures what docs/RELIABILITY.md promises: `python -m tests.long [NAME ...] [--share F] [--write]`.

Every other module of this folder holds one promise. Its docstring begins with the promise, in the table's words.
`measure(share)` tries to break it, at that share of the test's full length, and returns the figure as one line of
text, or raises AssertionError that says what failed and how to repeat it. `IN_CI` is the share that
tests/test_promises.py runs.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import importlib
import re
import sys
import time
import traceback
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).parent
TABLE = HERE.parent.parent / "docs" / "RELIABILITY.md"
NAMES = sorted(path.stem for path in HERE.glob("*.py") if not path.stem.startswith("_"))


@dataclasses.dataclass
class Row:
    """A line of the table: `| number | promise | how it is tested | figure | date |`."""

    number: int
    promise: str
    how: str
    figure: str
    date: str

    def __str__(self) -> str:
        return "|".join(["", *(f" {value} " for value in dataclasses.astuple(self)), ""])

    @property
    def modules(self) -> list[str]:
        """Names of the modules of this folder that measure it: at most one, so that its figure is that one's."""
        return re.findall(r"`tests/long/(\w+)\.py`", self.how)


def rows(text: str) -> list[Row]:
    """The table's rows in a page's text."""
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line[:2] == "| "]
    return [Row(int(row[0]), *row[1:]) for row in cells if row[0].isdecimal()]


def load(name: str) -> ModuleType:
    support = str(HERE.parent / "support")
    if support not in sys.path:
        sys.path.append(support)
    return importlib.import_module(f"tests.long.{name}")


def write(name: str, figure: str) -> None:
    """Put a figure and today's date into the row that names the module."""
    text = TABLE.read_text()
    for row in rows(text):
        if name in row.modules:
            today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
            text = text.replace(str(row), str(dataclasses.replace(row, figure=figure, date=today)))
    TABLE.write_text(text)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.long", description="Measures what docs/RELIABILITY.md promises."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; all by default")
    parser.add_argument("--share", type=float, default=1.0, help="of the full length (default: 1)")
    parser.add_argument("--write", action="store_true", help="figures and dates into docs/RELIABILITY.md")
    options = parser.parse_args()
    unknown = set(options.names) - set(NAMES)
    if unknown:
        parser.error(f"no such module: {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    failed = []
    for name in options.names or NAMES:
        start = time.perf_counter()
        try:
            figure = load(name).measure(options.share)
        except Exception:
            failed.append(name)
            figure = f"FAILED\n{traceback.format_exc()}"
        else:
            if options.write:
                write(name, figure)
        print(f"{name}  [{time.perf_counter() - start:.0f} s]  {figure}", flush=True)
    if failed:
        print(f"not kept: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
