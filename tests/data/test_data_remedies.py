"""Data that cannot be trained on: what the message advises is right for what was given, and can be typed."""

from __future__ import annotations

import re

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn
from fastnn.errors import DataError, LabelError

pd = pytest.importorskip("pandas")
SIX = np.arange(6.0)


def test_what_a_message_about_a_frame_advises_is_run_as_it_stands() -> None:
    df = pd.DataFrame({"a": SIX, "b": SIX}).mask(lambda frame: frame == 2)
    with pytest.raises(DataError) as found:
        nn.Normalize.of(df)
    for remedy in re.findall(r"\((df\..*?)\)(?: or|$)", str(found.value)):
        assert nn.Normalize.of(eval(remedy, {"df": df})).mean.shape == (2,), remedy


def test_missing_values_of_an_array_are_left_out_as_an_array_s_are() -> None:
    x = np.stack([SIX, SIX], axis=1)
    x[3, 1] = np.nan
    with pytest.raises(DataError, match="in column 1, the first in row 3") as found:
        nn.Normalize.of(x)
    assert "df" not in str(found.value)
    remedy = str(found.value).split("rows out (")[1][:-1]
    assert nn.Normalize.of(eval(remedy, {"x": x, "np": np})).mean.shape == (2,)


def test_dates_become_days_as_the_message_says() -> None:
    df = pd.DataFrame({"when": pd.date_range("2026-01-01", periods=6), "a": SIX})
    with pytest.raises(DataError, match="'when'") as found:
        nn.Normalize.of(df)
    df["when"] = eval(str(found.value).split("a date, by ")[1], {"df": df})
    assert nn.Normalize.of(df).mean.tolist() == [2.5, 2.5]


class _Polars:
    """What fastnn looks at of a data frame of Polars, which need not be installed."""

    columns = ("a",)
    __module__ = "polars.dataframe.frame"

    def to_numpy(self) -> np.ndarray:
        return np.array([["x"]], object)

    def __getitem__(self, name: str) -> list[str]:
        return ["x"]


def test_a_frame_of_polars_is_told_what_polars_calls_it() -> None:
    with pytest.raises(DataError, match=r"df\.to_dummies") as found:
        nn.Normalize.of(_Polars())
    assert "drop(columns" not in str(found.value)


def test_a_lazy_frame_is_to_be_collected() -> None:
    class LazyFrame:
        def collect(self) -> None: ...

    with pytest.raises(DataError, match="got a LazyFrame, which is not computed yet"):
        nn.Normalize.of(LazyFrame())


@pytest.mark.parametrize(
    "y",
    [
        pd.Series([1, 2, None, 0, 1, 2], dtype="Int64"),
        pd.Series([1, 2, None, 0, 1, 2]),
        ["a", "b", None, "a", "b", "a"],
    ],
)
def test_missing_targets_are_no_missing_values_of_a_column(y: object) -> None:
    with pytest.raises(DataError, match="expected a label for every sample, got 1 missing, the first in row 2"):
        fnn.data.Dataset(SIX[:, np.newaxis], y)


def test_infinite_values_are_refused_by_column() -> None:
    df = pd.DataFrame({"a": SIX, "b": np.where(SIX == 3, np.inf, SIX)})
    with pytest.raises(DataError, match="expected finite numbers, got others in column 'b'"):
        nn.Normalize.of(df)


def test_labels_below_zero_become_names() -> None:
    y = [-1, 1, -1, 1, -1, 1]
    with pytest.raises(LabelError, match="other numbers are names of classes") as found:
        fnn.data.Dataset(SIX[:, np.newaxis], y)
    named = eval(str(found.value).rpartition("as text, ")[2], {"y": y, "np": np})
    assert fnn.data.Dataset(SIX[:, np.newaxis], named).classes == ("-1", "1")
