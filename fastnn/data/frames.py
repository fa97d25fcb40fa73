"""Tables and labels as users hold them: data frames, columns of objects, names of classes; as arrays of numbers.

Data frames are recognised by what they offer (`columns` and `to_numpy`), so no library of them is imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn.arrays import as_array
from fastnn.errors import DataError, LabelError, ShapeError

__all__ = [
    "as_labels",
    "as_samples",
    "check_missing",
    "check_rows",
    "columns_of",
    "is_frame",
    "refuse_without_target",
]

MOST_NAMED = 5  # columns in a message
# Remedies, spelled for arrays, and for the data frames of pandas and of Polars.
FILL = {
    "": "fill them, or leave those rows out (x[~np.isnan(x).any(axis=1)])",
    "pandas": "fill them (df.fillna(df.median())) or leave those rows out (df.dropna())",
    "polars": 'fill them (df.fill_nan(None).fill_null(strategy="mean")) or leave those rows out '
    "(df.fill_nan(None).drop_nulls())",
}
ENCODE = {
    "": "leave them out (np.delete(x, [...], axis=1)) or turn them into numbers, such as by pandas.get_dummies",
    "pandas": "leave them out (df.drop(columns=[...])) or turn them into numbers, such as by pandas.get_dummies",
    "polars": "leave them out (df.drop([...])) or turn them into numbers, such as by df.to_dummies([...])",
}
DAYS = {
    "pandas": "; a date, by (df[{0!r}] - df[{0!r}].min()).dt.days",
    "polars": "; a date, by (df[{0!r}] - df[{0!r}].min()).dt.total_days()",
}
SECONDS = "; a duration, by df[{0!r}].dt.total_seconds()"
NUMBERS = {
    "": "make numbers: x.astype(float)",
    "pandas": 'make numbers: df[{0!r}].astype(float), after .str.replace(",", ".") where commas are decimal points',
    "polars": 'make numbers: df[{0!r}].cast(float), after .str.replace(",", ".") where commas are decimal points',
}


def is_frame(x: Any) -> bool:
    """Returns whether `x` is a data frame."""
    return hasattr(x, "to_numpy") and hasattr(x, "__getitem__") and hasattr(x, "columns")


def columns_of(x: Any) -> tuple[str, ...]:
    """Returns the names of a data frame's columns; none of anything else."""
    return tuple(map(str, x.columns)) if is_frame(x) else ()


def check_rows(x: Any, y: Any, what: str = "labels") -> None:
    """Raises DataError where two tables name their rows alike, but in another order: they would be paired by place."""
    index: Any = getattr(x, "index", None)
    other: Any = getattr(y, "index", None)
    if not hasattr(index, "equals") or not hasattr(other, "equals") or len(index) != len(other) or index.equals(other):
        return
    try:
        same = index.sort_values().equals(other.sort_values())
    except TypeError:  # names that have no order
        return
    if same:
        raise DataError(
            f"expected {what} in the samples' order, got an index of the same names in another order: write "
            "y.loc[x.index] to pair rows by name, or y.reset_index(drop=True) and x.reset_index(drop=True) by place"
        )


def as_samples(x: Any, columns: Sequence[str] = ()) -> tuple[np.ndarray, tuple[str, ...]]:
    """Returns samples as an array of numbers, and the names of its columns, which only a data frame has.

    Args:
        x: an array of any type, or a data frame, which becomes (N, F).
        columns: what a data frame must have: its columns of these names are taken, in this order; all without.

    Raises:
        DataError: missing values, columns that are no numbers, none of that name, or several of one; each by name, or
        by number.

    >>> as_samples(np.array([[1, True], [2.5, False]], object))[0].tolist()
    [[1.0, 1.0], [2.5, 0.0]]
    """
    if hasattr(x, "collect") and not hasattr(x, "to_numpy"):
        raise DataError(f"expected a data frame, got a {type(x).__name__}, which is not computed yet: pass x.collect()")
    if not is_frame(x):
        array = as_array(x)
        if array.dtype.kind in "OUS" and array.ndim == 2:
            return _joined([(str(i), array[:, i]) for i in range(array.shape[1])]), ()
        return array, ()
    names = columns_of(x)
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise DataError(f"expected columns of different names, got several named {_listed(twice)}: rename them")
    series = [column for _, column in x.items()] if hasattr(x, "items") else [x[name] for name in x.columns]
    if columns:
        absent = [name for name in columns if name not in names]
        if absent:
            raise DataError(f"expected the columns of the training, got none of the name {_listed(absent)}")
        series, names = [series[names.index(name)] for name in columns], tuple(columns)
    if not series:
        raise ShapeError("expected a data frame with columns, got none")
    return _joined(list(zip(names, series, strict=True)), _library(x)), names


def as_labels(y: Any, classes: Sequence[str] = ()) -> tuple[np.ndarray, tuple[str, ...]]:
    """Returns labels or targets as an array of numbers, and the classes' names where labels are text.

    Args:
        y: labels (N,) of text become numbers from 0, in the order of the sorted names, or of a categorical series'
            categories; everything else is as for `as_samples`.
        classes: the names in their order, where they are known.

    Raises DataError for missing labels, LabelError for a label that is none of `classes`.

    >>> as_labels(["dog", "cat", "dog"])
    (array([1, 0, 1]), ('cat', 'dog'))
    """
    array = as_array(y)
    if hasattr(y, "isna") and array.ndim == 1:  # of whole numbers with gaps NumPy makes floats with NaN
        missing = np.asarray(y.isna(), bool)
        if missing.any():
            refuse_without_target(missing)
    if array.dtype.kind not in "OUS":
        return array, ()
    if not array.ndim:
        raise ShapeError(f"expected labels (N,), got {y!r} alone")
    flat = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
    missing = _missing(flat) if flat.ndim == 1 and flat.dtype.kind == "O" else np.zeros(0, bool)
    if missing.any():
        refuse_without_target(missing)
    if flat.ndim != 1 or not any(isinstance(label, (str, bytes)) for label in flat.tolist()):
        return as_samples(array if array.ndim == 2 else array[:, np.newaxis])[0].reshape(array.shape), ()
    text = np.array([label.decode() if isinstance(label, bytes) else str(label) for label in flat.tolist()])
    found = np.unique(text)
    names = tuple(map(str, classes)) or _ordered(y, found.tolist())
    places = {name: place for place, name in enumerate(names)}
    unknown = [name for name in found.tolist() if name not in places]
    if unknown:
        raise LabelError(f"expected labels among {_listed(names)}, got {unknown[0]!r}")
    numbers = np.array([places[name] for name in found.tolist()], np.int64)
    return numbers[np.searchsorted(found, text)], names


def refuse_without_target(missing: np.ndarray) -> None:
    """Raises DataError: the samples at which `missing` (N,) is true have no label or target."""
    raise DataError(
        f"expected a label for every sample, got {int(missing.sum())} missing, the first in row "
        f"{int(missing.argmax())}: leave those rows out, such as by keep = y.notna(), X[keep] and y[keep] in pandas"
    )


def check_missing(table: np.ndarray, names: Sequence[str] = ()) -> None:
    """Raises DataError where a table (N, F) of floating numbers holds NaN, which stands for a missing value."""
    with np.errstate(all="ignore"):  # of a table with infinities the sum may be NaN, too
        if table.ndim != 2 or table.dtype.kind != "f" or not table.size or not np.isnan(table.sum()):
            return
    missing = np.isnan(table)
    if missing.any():
        counts = missing.sum(axis=0)
        _refuse_missing(
            {names[i] if names else str(i): int(counts[i]) for i in np.flatnonzero(counts).tolist()},
            int(missing.any(axis=1).argmax()),
            "pandas" if names else "",
        )


def _library(frame: Any) -> str:
    """Which library's data frame this is, for what helps; those that are not known mostly do as pandas does."""
    return "polars" if type(frame).__module__.startswith("polars") else "pandas"


def _joined(columns: list[tuple[str, Any]], library: str = "") -> np.ndarray:
    """The columns side by side, as numbers."""
    arrays: list[np.ndarray] = []
    wrong: list[str] = []
    numbers: list[str] = []
    date = duration = ""
    counts: dict[str, int] = {}
    first = 0
    for name, column in columns:
        array = as_array(column)
        missing = np.zeros(len(array), bool)
        if array.dtype.kind in "OMm" or hasattr(column, "isna"):
            missing = _missing(array, column)
        elif array.dtype.kind == "f":
            missing = np.isnan(array)
        if array.dtype.kind == "O" and not any(isinstance(entry, (str, bytes)) for entry in array[~missing].tolist()):
            array = np.array(np.where(missing, 0, array).tolist())  # of integers alone, integers
        if array.dtype.kind not in "fiub":
            wrong.append(name)
            date = date or (name if array.dtype.kind == "M" else "")
            duration = duration or (name if array.dtype.kind == "m" else "")
            if _are_numbers(array[~missing]):
                numbers.append(name)
        elif missing.any():
            first = min(first, int(missing.argmax())) if counts else int(missing.argmax())
            counts[name] = int(missing.sum())
        arrays.append(array)
    if wrong:
        days = DAYS[library].format(date) if date and library else ""
        days += SECONDS.format(duration) if duration and library else ""
        helps = [] if wrong == numbers else [ENCODE[library] + days]
        if numbers:
            helps.append(f"of the text in {_listed(numbers)}, {NUMBERS[library].format(numbers[0])}")
        raise DataError(f"expected numbers in every column, got other values in {_listed(wrong)}: {'; '.join(helps)}")
    if counts:
        _refuse_missing(counts, first, library)
    return np.stack(arrays, axis=1)


def _are_numbers(entries: np.ndarray) -> bool:
    """Whether text is numbers, such as those of a file whose decimals have commas."""
    try:
        return len(entries) > 0 and all(np.isfinite(float(str(entry).replace(",", "."))) for entry in entries.tolist())
    except ValueError:
        return False


def _missing(array: np.ndarray, column: Any = None) -> np.ndarray:
    """Which entries are missing: None, NaN, or what a data frame's column says."""
    if hasattr(column, "isna"):
        return np.asarray(column.isna(), bool)
    return np.array([entry is None or type(entry).__name__ == "NAType" or entry != entry for entry in array.tolist()])


def _refuse_missing(counts: dict[str, int], row: int, library: str) -> None:
    found = _listed([f"{count} in column {name}" for name, count in counts.items()], quoted=False)
    raise DataError(f"expected no missing values, got {found}, the first in row {row}: {FILL[library]}")


def _ordered(y: Any, found: list[str]) -> tuple[str, ...]:
    """Class names in the order of a categorical series' categories, where `y` is one, and sorted otherwise."""
    categories = getattr(getattr(y, "cat", None), "categories", ())
    order = [str(category) for category in categories if str(category) in set(found)]
    return tuple(order) or tuple(found)


def _listed(names: Sequence[str], quoted: bool = True) -> str:
    shown = ", ".join(map(repr, names[:MOST_NAMED]) if quoted else names[:MOST_NAMED])
    return shown + (f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else "")
