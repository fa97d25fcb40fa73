"""Data frames, columns of objects and names of classes as data sets, without any library of data frames."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn
from fastnn.data import Batches, Dataset
from fastnn.errors import ArgumentError, DataError, LabelError


class Frame:
    """As much of a data frame as there is to know one by; columns are lists of Python's objects."""

    def __init__(self, **columns: Any) -> None:
        self._columns = columns
        self.columns = list(columns)
        self.shape = (len(next(iter(columns.values()))), len(columns))

    def to_numpy(self) -> np.ndarray:
        return np.array(list(self._columns.values()), object).T

    def __getitem__(self, name: str) -> np.ndarray:
        return np.array(self._columns[name])


TABLE = Frame(age=[31, 4, 58], fare=[7.25, 30.0, 8.5], alone=[True, False, True])
ROWS = [[31, 7.25, 1], [4, 30.0, 0], [58, 8.5, 1]]


def test_a_frame_becomes_a_table_of_numbers_with_named_columns() -> None:
    data = Dataset(TABLE, ["no", "yes", "no"])
    assert data.images.tolist() == ROWS
    assert (data.columns, data.classes, data.labels.tolist()) == (("age", "fare", "alone"), ("no", "yes"), [0, 1, 0])
    assert data.subset(slice(1)).columns == data.columns
    assert ">age</th>" in data._repr_html_()
    assert "samples (3, 3) float64" in repr(data)
    batches = Batches(TABLE, ["no", "yes", "no"])
    assert (batches.images.tolist(), batches.labels.tolist(), batches.classes) == (ROWS, [0, 1, 0], ("no", "yes"))


@pytest.mark.parametrize("array", [np.array(ROWS, object), np.array(ROWS), np.array(ROWS, int), np.eye(3) > 0])
def test_arrays_of_any_numbers_are_tables(array: np.ndarray) -> None:
    assert Dataset(array, [0, 1, 0]).images.tolist() == array.tolist()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (Frame(age=[31, 4], name=["Ann", "Bob"], town=["Rome", "Oslo"]), r"other values in 'name', 'town': .*drop"),
        (Frame(age=[31, None], fare=[np.nan, np.nan]), "got 1 in column age, 2 in column fare, the first in row 0"),
        (Frame(age=[1.0, 2.0], when=np.array(["2026-01-01", "2026-01-02"], "M8[D]")), "other values in 'when'"),
        (
            Frame(age=[1, 2], price=["1,5", "2"]),
            r"values in 'price': of the text in 'price', make numbers: df\['price'",
        ),
        (
            Frame(name=["Ann", "Bob"], price=["1,5", "2"]),
            "'name', 'price': .*get_dummies; of the text in 'price', make",
        ),
        (
            Frame(age=[1.0, 2.0], past=np.array([1, 2], "m8[s]")),
            r"in 'past': .*; a duration, by df\['past'\].dt.total_",
        ),
        (np.array([[1.0, np.nan], [2.0, 3.0]]), "got 1 in column 1, the first in row 0"),
        (np.array([[1, 2], [None, 3]], object), "got 1 in column 0, the first in row 1"),
    ],
)
def test_what_is_no_number_is_refused_by_column(table: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Dataset(table, [0, 1])


@pytest.mark.parametrize("labels", [["a", None, "b"], np.array([0, None, 1], object)])
def test_missing_labels_are_refused_by_row(labels: Any) -> None:
    with pytest.raises(DataError, match="1 missing, the first in row 1"):
        Dataset(TABLE, labels)


def test_labels_take_the_numbers_of_classes_that_are_named() -> None:
    assert Dataset(TABLE, ["yes", "no", "yes"], classes=("yes", "maybe", "no")).labels.tolist() == [0, 2, 0]
    assert Dataset(TABLE, np.array([2, 0, 1], object)).labels.tolist() == [2, 0, 1]
    with pytest.raises(LabelError, match="expected labels among 'yes', got 'no'"):
        Dataset(TABLE, ["yes", "no", "yes"], classes=("yes",))


def test_pandas() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"age": pandas.array([31, 4, 58], "Int64"), "fare": [7.25, 30.0, 8.5], "alone": [1, 0, 1]})
    size = pandas.Series(pandas.Categorical(["low", "high", "low"], ["low", "middle", "high"]))
    data = Dataset(frame, size)
    assert (data.images.tolist(), data.classes, data.labels.tolist()) == (ROWS, ("low", "high"), [0, 1, 0])
    assert data.columns == ("age", "fare", "alone")
    frame.loc[1, "age"] = None
    with pytest.raises(DataError, match="got 1 in column age, the first in row 1"):
        nn.Normalize.of(frame)
    with pytest.raises(DataError, match="1 missing, the first in row 2"):
        Dataset(frame.drop(columns="age"), pandas.Series(["a", "b", None]))


# ---- Normalize.of ----------------------------------------------------------------------------------------------------


def test_each_feature_of_a_table_gets_its_mean_and_deviation() -> None:
    """Integers are numbers here, of any size; a feature that is the same everywhere gets the deviation 1."""
    layer = nn.Normalize.of([[1000, 5, 0.5], [3000, 5, 0.5], [5000, 5, 0.25]])
    np.testing.assert_allclose(layer.mean, [3000, 5, 1.25 / 3], rtol=1e-6)
    np.testing.assert_allclose(layer.std, [np.sqrt(8e6 / 3), 1, np.sqrt(2 * 0.25**2 / 9)], rtol=1e-6)
    integers = np.array([[1000, 5], [3000, 5]])
    layer = nn.Normalize.of(integers)
    for found in (layer(integers).data, fnn.compile(layer)(integers), layer(integers.astype(np.float32)).data):
        np.testing.assert_allclose(found, [[-1, 0], [1, 0]])
    assert "mean=[0, 0, 0, 0, 0, and 15 more]" in repr(nn.Normalize.of(np.zeros((2, 20))))


def test_what_is_infinite_is_named_by_its_column() -> None:
    table = Frame(age=[1.0, 2.0], fare=[np.inf, 2.0])
    for data in (table, Dataset(table, [0, 1])):
        with pytest.raises(DataError, match="got others in column 'fare'"):
            nn.Normalize.of(data)
    with pytest.raises(DataError, match="got others in column 'fare'"):
        fnn.recipes.train(table, [0, 1], verbose=False)


def test_channels_of_pictures_and_signals_get_theirs() -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (5, 3, 4, 4)).astype(np.uint8)
    scaled = pictures / 255
    for data in (pictures, Dataset(pictures, np.arange(5))):
        layer = nn.Normalize.of(data)
        np.testing.assert_allclose(layer.mean, scaled.mean(axis=(0, 2, 3)), rtol=1e-6)
        np.testing.assert_allclose(layer.std, scaled.std(axis=(0, 2, 3)), rtol=1e-6)
    assert nn.Normalize.of(pictures[:, 0]).mean.shape == (1,)
    signals = scaled[:, :, 0]
    np.testing.assert_allclose(nn.Normalize.of(signals).std, signals.std(axis=(0, 2)), rtol=1e-6)
    with pytest.raises(fnn.errors.ShapeError, match=r"Normalize.of: expected data \(N, F\)"):
        nn.Normalize.of(np.zeros(3))


def test_columns_of_one_name_are_refused() -> None:
    pandas = pytest.importorskip("pandas")
    twice = pandas.DataFrame([[1.0, 2.0, 3.0]], columns=["v", "w", "v"])
    with pytest.raises(DataError, match="different names, got several named 'v'"):
        fnn.data.Dataset(twice, [0])


def test_rows_of_one_name_are_not_paired_by_place() -> None:
    """frame.sample(frac=1) with labels in the old order trained on labels at random, without a word."""
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [1.0, 2.0, 3.0], "b": [0.0, 1.0, 0.0]}, index=[7, 8, 9])
    labels, weights = pandas.Series(["x", "y", "x"], frame.index), pandas.Series([1.0, 2.0, 3.0], frame.index)
    mixed, model = frame.loc[[9, 7, 8]], nn.Linear(2, 2)
    pairs: list[Callable[..., Any]] = [
        Dataset, fnn.data.Batches, lambda x, y: fnn.evaluate(model, (x, y)),
        lambda x, y: fnn.fit(model, x, y, verbose=False),
        lambda x, y: fnn.fit(model, x, y.loc[x.index], sample_weight=weights, verbose=False),
        lambda x, y: fnn.evaluate(model, x, y.loc[x.index], sample_weight=weights),
    ]  # fmt: skip
    for pair in pairs:
        with pytest.raises(DataError, match=r"in the samples' order, got an index .*y\.loc\[x\.index\].*reset_index"):
            pair(mixed, labels)
    assert Dataset(mixed, labels.loc[mixed.index]).labels.tolist() == [0, 0, 1]
    assert Dataset(mixed, labels.reset_index(drop=True)).labels.tolist() == [0, 1, 0]
    assert Dataset(mixed, labels.tolist()).labels.tolist() == [0, 1, 0]


def test_a_class_without_a_name_is_no_crash() -> None:
    model, x = nn.Linear(2, 3), np.eye(2, dtype=np.float32)
    model.weight.data[...], model.bias.data[...] = 0, [0, 0, 9]
    fnn.fit(model, x, ["no", "yes"], optimizer=fnn.optim.SGD(model.parameters(), lr=1e-6), verbose=False)
    with pytest.raises(ArgumentError, match="one of the 2 classes that the model was trained on, got number 2"):
        fnn.predict(model, x)


def test_a_notebook_shows_signals_as_curves() -> None:
    ramp = np.stack([np.linspace(0, 1, 400), np.linspace(1, 0, 400)])[None]
    shown = Dataset(np.concatenate([ramp, ramp]), ["up", "down"])._repr_html_()
    assert shown.count("<svg") == 2
    lines = re.findall(r'stroke="(#\w+)" points="([^"]*)"', shown)
    assert [colour for colour, _ in lines] == 2 * ["#0072b2", "#e69f00"]
    first = [tuple(map(float, point.split(","))) for point in lines[0][1].split()]
    assert (len(first), first[0]) == (134, (2.0, 46.0))  # each third of 400, from the lower left
    assert first[-1] == (158.0, 2.0)  # 399 is the last of the thirds
