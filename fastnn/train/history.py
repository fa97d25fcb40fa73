"""What a training run measured, epoch by epoch."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from fastnn import checks, console, files, formats, tables
from fastnn.checks import plain
from fastnn.errors import ArgumentError, DataError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .path import ParameterPath

__all__ = ["EpochRecord", "History"]


@dataclass(frozen=True)
class EpochRecord:
    """Measurements of one epoch; None where there was nothing to measure.

    Attributes:
        epoch: counted from 1.
        train_loss, train_accuracy: means over the epoch's samples, each taken just before the update that it led to
            (dropout on).
        val_loss, val_accuracy: over the validation samples, after the epoch.
        lr: learning rate of the epoch's last update (of the first parameter group).
        seconds: time for the epoch's updates, without validation.
        images_per_second: training samples by that time.
        penalty: mean over the epoch's samples of the optimiser's penalty (`l1=`, `l2=`), taken when the loss was; what
            the updates minimise is train_loss + penalty. None without one.
        communication: the part of `seconds` spent in exchanges with other processes, waiting for slower ones included;
            None for one process.
        metrics: what else was measured on the validation samples, by name; a history has it as ``history["val_mae"]``.
    """

    epoch: int
    train_loss: float
    train_accuracy: float | None
    val_loss: float | None
    val_accuracy: float | None
    lr: float
    seconds: float
    images_per_second: float
    penalty: float | None = None
    communication: float | None = None
    metrics: dict[str, float] = dataclasses.field(default_factory=dict)

    def measured(self) -> dict[str, Any]:
        """Everything by name, metrics as val_mae; communication only where there was some."""
        fields = {name: getattr(self, name) for name in FIELDS}
        if self.communication is None:
            del fields["communication"]
        return {**fields, **{f"val_{name}": value for name, value in self.metrics.items()}}


MOST_ROWS, ROWS_AT_EACH_END = 60, 20  # that a notebook shows of a long training
FIELDS = tuple(field.name for field in dataclasses.fields(EpochRecord) if field.name != "metrics")


class History:
    """The epochs of a training run, in order: a sequence of `EpochRecord`, with columns by name and a table as its
    repr, without the columns that are empty and as narrow as the terminal. `path` holds the parameters on the way,
    where `load_run` found some (see `RecordPath`), and else is None.

    >>> first = EpochRecord(1, 0.5, 0.8, None, None, lr=0.1, seconds=2.0, images_per_second=500.0)
    >>> history = History([first, EpochRecord(2, 0.25, 0.9, None, None, 0.1, 2.0, 500.0)])
    >>> history["train_loss"]
    [0.5, 0.25]
    >>> history[-1].train_accuracy
    0.9
    >>> history
    epoch  train loss  train acc         lr  seconds  samples/s
        1      0.5000    80.00 %        0.1      2.0        500
        2      0.2500    90.00 %        0.1      2.0        500
    """

    def __init__(self, records: Iterable[EpochRecord] = (), path: ParameterPath | None = None) -> None:
        self._records = checks.entries("History", "records", records)
        self.path = path
        self.shown_in: int | None = None  # the notebook's cell below which `fit` has shown the epochs

    def append(self, record: EpochRecord) -> None:
        self._records.append(record)

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[EpochRecord]:
        return iter(self._records)

    def __eq__(self, other: object) -> bool:
        return self._records == other._records if isinstance(other, History) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # it grows

    @overload
    def __getitem__(self, key: int) -> EpochRecord: ...
    @overload
    def __getitem__(self, key: slice) -> History: ...
    @overload
    def __getitem__(self, key: str) -> list[Any]: ...
    def __getitem__(self, key: int | slice | str) -> EpochRecord | History | list[Any]:
        """An epoch by its index, epochs by a slice, or a column by its name such as ``"val_accuracy"``."""
        if isinstance(key, slice):
            return History(self._records[key])
        if isinstance(key, str):
            rows = [record.measured() for record in self._records]
            known = {**dict.fromkeys(FIELDS), **{name: None for row in rows for name in row}}
            if key not in known:
                raise ArgumentError(f"expected one of {', '.join(known)}, got {key!r}")
            return [row.get(key) for row in rows]
        return self._records[checks.place("History", key, len(self._records))]

    def __repr__(self) -> str:
        columns = Columns.of(self._records, console.width())
        return "\n".join([columns.header, *map(columns.row, self._records)])

    def _repr_html_(self) -> str:
        columns = Columns.of(self._records)
        rows = [*map(columns.cells, self._records)]
        if len(rows) > MOST_ROWS:
            rows[ROWS_AT_EACH_END:-ROWS_AT_EACH_END] = [["…"] * len(columns.names)]
        return tables.html_table([columns.names, *rows])

    def _ipython_display_(self) -> None:
        """Nothing where `fit` has just shown it, below the same cell."""
        from IPython import display, get_ipython

        if self.shown_in is None or self.shown_in != get_ipython().execution_count:
            display.display({"text/plain": repr(self), "text/html": self._repr_html_()}, raw=True)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the epochs as JSON lines (``.jsonl``, an object a line) or a table (``.csv``, empty for None)."""
        if suffix_of(path) == ".jsonl":
            text = "".join(formats.to_json(row_of(record)) + "\n" for record in self._records)
        else:
            stream = io.StringIO()
            rows = csv.writer(stream, lineterminator="\n")
            names = list({name: None for record in self._records for name in record.measured()}) or FIELDS
            rows.writerow(names)
            rows.writerows([row_of(record).get(name) for name in names] for record in self._records)
            text = stream.getvalue()
        files.write_atomically(path, text.encode())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> History:
        """Read what `save` wrote, to the same numbers. Raises DataError for a file that is absent or something else."""
        suffix = suffix_of(path)
        try:
            text = files.read(path, formats.MOST_TEXT).decode()
            if suffix == ".jsonl":
                rows: Iterable[Any] = (formats.parse_json(line, finite=False) for line in text.splitlines())
            else:
                rows = csv.DictReader(io.StringIO(text))
            return cls(record_from(row) for row in rows)
        except (OSError, ValueError, KeyError, csv.Error) as error:
            reason = getattr(error, "strerror", None) or error  # without Python's "[Errno 2]"
            raise DataError(f"expected a history written by History.save, got {path} ({reason})") from error

    def plot(self) -> Figure:
        """Curves of loss and accuracy by epoch, as a Matplotlib figure; `fnn.diagnose` says what they mean.

        Raises MissingExtraError where Matplotlib is not installed.
        """
        from fastnn.insight.curves import learning_curves

        return learning_curves(self)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f} %"


# By an epoch's field: the title, how wide its cells are at least, and how they are written.
_COLUMNS: dict[str, tuple[str, int, Callable[[Any], str]]] = {
    "epoch": ("epoch", 5, str),
    "train_loss": ("train loss", 9, tables.decimal),
    "penalty": ("penalty", 9, tables.decimal),
    "train_accuracy": ("train acc", 8, _share),
    "val_loss": ("val loss", 9, tables.decimal),
    "val_accuracy": ("val acc", 8, _share),
    "lr": ("lr", 9, "{:.3g}".format),
    "seconds": ("seconds", 7, lambda value: f"{value:.1f}" if value >= 1 else f"{value:.2g}"),
    "images_per_second": ("samples/s", 9, "{:,.0f}".format),
    "communication": ("exchange", 8, _share),
}
_LAST = ("lr", "seconds", "images_per_second", "communication")  # of the columns, behind metrics
# Where there is no room.
_DROPPED = ("communication", "images_per_second", "seconds", "lr", "penalty", "train_accuracy", "val_loss")


class Columns:
    """The table's columns: those of the fields that are wanted, as far as so many characters hold them."""

    def __init__(self, fields: Iterable[str], width: int | None = None) -> None:
        every = list(dict.fromkeys(fields))
        metrics = {field: (field.replace("_", " "), 9, tables.decimal) for field in every if field not in _COLUMNS}
        columns = {**_COLUMNS, **metrics}
        order = sorted(columns, key=lambda field: field in _LAST)
        wanted = [field for field in order if field in every]
        for field in (*_DROPPED, *metrics):
            self._columns = [columns[field] for field in wanted]
            if width is None or len(self.header) <= width:
                break
            wanted = [one for one in wanted if one != field]
        self.fields = tuple(wanted)
        self._columns = [columns[field] for field in wanted]

    @classmethod
    def of(cls, records: Sequence[EpochRecord], width: int | None = None) -> Columns:
        """Without the columns that are empty in all of these epochs; of no epoch at all, what each has."""
        there = [name for record in records for name, value in record.measured().items() if value is not None]
        return cls([*there, "epoch", "train_loss", "lr", "seconds", "images_per_second"], width)

    @property
    def names(self) -> list[str]:
        return [name for name, _, _ in self._columns]

    @property
    def header(self) -> str:
        return "  ".join(name.rjust(width) for name, width, _ in self._columns)

    def cells(self, record: EpochRecord) -> list[str]:
        row = record.measured()
        values = (row.get(field) for field in self.fields)
        return [write(value) for value, (_, _, write) in zip(values, self._columns, strict=True)]

    def row(self, record: EpochRecord) -> str:
        cells = zip(self.cells(record), self._columns, strict=True)
        return "  ".join(cell.rjust(max(width, len(name))) for cell, (name, width, _) in cells)


def record_from(row: Any) -> EpochRecord:
    """An epoch from its fields as numbers or text; raises KeyError or ValueError where one is missing or no number."""
    if not isinstance(row, dict):
        raise ValueError(f"expected the fields of an epoch, got {type(row).__name__}")
    row = {"penalty": None, "communication": None, **row}  # older files have none
    values = {name: None if row[name] in (None, "") else _number(name, row[name]) for name in FIELDS}
    optional = ("_accuracy", "val_loss", "penalty", "communication")
    needed = [name for name in FIELDS if values[name] is None and not name.endswith(optional)]
    if needed:
        raise ValueError(f"no {', '.join(needed)}")
    if not 1 <= values["epoch"] < 2**53 or values["epoch"] % 1:  # type: ignore[operator]  # it is needed
        raise ValueError(f"epoch {row['epoch']!r}")
    others = {str(name): value for name, value in row.items() if name not in FIELDS and str(name).startswith("val_")}
    metrics = {name[4:]: _number(name, value) for name, value in others.items() if value not in (None, "")}
    return EpochRecord(**{**values, "epoch": int(values["epoch"]), "metrics": metrics})  # type: ignore[arg-type]  # None only where it may be


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(f"{name} is no number: {value!r:.50}")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{name} is too large") from None


def row_of(record: EpochRecord) -> dict[str, Any]:
    """The fields by name, as Python's numbers; as text where JSON has no such number: "nan", "inf"."""
    values = plain(record.measured())
    return {n: str(v) if isinstance(v, float) and not math.isfinite(v) else v for n, v in values.items()}


def suffix_of(path: str | os.PathLike[str]) -> str:
    suffix = Path(checks.path("History", path)).suffix
    if suffix not in (".jsonl", ".csv"):
        raise ArgumentError(f"expected a file name that ends in .jsonl or .csv, got {os.fspath(path)!r}")
    return suffix
