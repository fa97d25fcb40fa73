"""The rows of the result, and Markdown tables of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

COLUMNS = ("work", "fastnn", "best peer", "its best", "ratio", "target", "met")


@dataclass
class Row:
    """One line: what fastnn took, what the best mode of the best peer did, and what is aimed at."""

    work: str
    ours: str
    peer: str = ""
    theirs: str = ""
    ratio: float | None = None  # theirs / ours
    target: str = ""
    met: bool | None = None

    def cells(self) -> tuple[str, ...]:
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}×"
        verdict = "" if self.met is None else "yes" if self.met else "NO"
        return self.work, self.ours, self.peer, self.theirs, ratio, self.target, verdict


def at_least(row: Row, target: float | None) -> Row:
    """The row with a target for its ratio."""
    if target is not None and row.ratio is not None:
        row.target, row.met = f"≥ {target:g}×", row.ratio >= target
    return row


def time_of(seconds: float) -> str:
    """Three figures, in s, ms or µs."""
    unit, scale = ("s", 1.0) if seconds >= 1 else ("ms", 1e3) if seconds >= 1e-3 else ("µs", 1e6)
    value = seconds * scale
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f} {unit}"


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Lines of a table whose columns are aligned in plain text too."""
    cells = [tuple(header), *map(tuple, rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    for number, row in enumerate(cells):
        yield "| " + " | ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)) + " |"
        if number == 0:
            yield "|" + "|".join("-" * (width + 2) for width in widths) + "|"


def lines(rows: Iterable[Row]) -> Iterator[str]:
    return markdown(COLUMNS, (row.cells() for row in rows))
