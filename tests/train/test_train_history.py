"""Histories: columns, table, files and curves."""

from __future__ import annotations

import dataclasses
import re
import sys
from pathlib import Path

import pytest

from fastnn.errors import ArgumentError, DataError, MissingExtraError
from fastnn.train import EpochRecord, History

WATCHED = EpochRecord(1, 1 / 3, 0.5, 0.1 + 0.2, 2 / 3, 1e-3, 1.5, 1000.0)
UNWATCHED = EpochRecord(2, 1e-17, None, None, None, 5e-4, 2.5, 600.0)


@pytest.mark.parametrize("name", ["history.jsonl", "history.csv"])
def test_a_file_gives_back_the_same_numbers(tmp_path: Path, name: str) -> None:
    history = History([WATCHED, UNWATCHED])
    history.save(tmp_path / name)
    assert History.load(tmp_path / name) == history
    assert len((tmp_path / name).read_text().splitlines()) == 2 + name.endswith("csv")


def test_files_hold_what_they_are_said_to(tmp_path: Path) -> None:
    History([UNWATCHED]).save(tmp_path / "h.csv")
    assert (tmp_path / "h.csv").read_text() == (
        "epoch,train_loss,train_accuracy,val_loss,val_accuracy,lr,seconds,images_per_second,penalty\n"
        "2,1e-17,,,,0.0005,2.5,600.0,\n"
    )


@pytest.mark.parametrize("name", ["history.jsonl", "history.csv"])
def test_a_penalty_is_kept_and_shown_and_older_files_have_none(tmp_path: Path, name: str) -> None:
    penalized = History([dataclasses.replace(WATCHED, penalty=0.125), UNWATCHED])
    penalized.save(tmp_path / name)
    assert History.load(tmp_path / name) == penalized
    assert "penalty" in repr(penalized).splitlines()[0]
    assert "0.1250" in repr(penalized).splitlines()[1]
    assert len({len(line) for line in repr(penalized).splitlines()}) == 1
    assert "penalty" not in repr(History([WATCHED]))
    History([WATCHED]).save(tmp_path / name)
    text = (tmp_path / name).read_text()
    old = text.replace(', "penalty": null', "").replace(",penalty\n", "\n").replace(",\n", "\n")
    assert old != text
    (tmp_path / name).write_text(old)
    assert History.load(tmp_path / name) == History([WATCHED])


def test_an_empty_history_comes_back(tmp_path: Path) -> None:
    for name in ("h.jsonl", "h.csv"):
        History().save(tmp_path / name)
        assert len(History.load(tmp_path / name)) == 0


def test_columns_rows_and_slices() -> None:
    history = History([WATCHED, UNWATCHED])
    assert history["epoch"] == [1, 2]
    assert history["val_loss"] == [0.1 + 0.2, None]
    assert history[-1] is UNWATCHED
    assert list(history[:1]) == [WATCHED]
    with pytest.raises(ArgumentError, match="'accuracy'"):
        history["accuracy"]


def test_the_table_shows_every_epoch() -> None:
    lines = repr(History([WATCHED, UNWATCHED])).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert len(lines[0]) <= 80  # of a usual terminal
    assert lines[1].split() == ["1", "0.3333", "50.00", "%", "0.3000", "66.67", "%", "0.001", "1.5", "1,000"]
    assert lines[2].split() == ["2", "1e-17", "-", "-", "-", "0.0005", "2.5", "600"]


@pytest.mark.parametrize("text", ["not json", "{}", '{"epoch": 1}', "[1, 2]"])
def test_damaged_files_are_noticed(tmp_path: Path, text: str) -> None:
    (tmp_path / "h.jsonl").write_text(text)
    with pytest.raises(DataError, match=r"h\.jsonl"):
        History.load(tmp_path / "h.jsonl")


def test_a_record_without_its_numbers_is_noticed(tmp_path: Path) -> None:
    History([WATCHED]).save(tmp_path / "h.csv")
    text = (tmp_path / "h.csv").read_text().replace(str(1 / 3), "")
    (tmp_path / "h.csv").write_text(text)
    with pytest.raises(DataError, match="train_loss"):
        History.load(tmp_path / "h.csv")


def test_other_names_and_absent_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"\.jsonl or \.csv"):
        History().save(tmp_path / "h.txt")
    with pytest.raises(DataError, match="none"):
        History.load(tmp_path / "none.csv")


def test_the_plot_has_a_curve_for_each_column() -> None:
    pytest.importorskip("matplotlib")
    later = EpochRecord(2, 0.1, 0.9, 0.2, 0.8, 1e-3, 1.5, 1000.0)
    loss, accuracy = History([WATCHED, later]).plot().axes
    curves = {line.get_label(): list(line.get_ydata()) for line in loss.lines}
    assert curves == {"training": [1 / 3, 0.1], "validation": [0.1 + 0.2, 0.2]}
    assert [line.get_label() for line in accuracy.lines] == ["training", "validation"]
    assert len(History([UNWATCHED]).plot().axes) == 1  # no empty panel


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"fastnn-cpu\[plot\]"):
        History([WATCHED]).plot()


def test_a_notebook_shows_the_ends_of_a_long_training() -> None:
    def rows(count: int) -> list[str]:
        history = History(EpochRecord(i + 1, 1.0, None, None, None, 0.1, 1.0, 1.0) for i in range(count))
        return re.findall(r"<tr><td[^>]*>([^<]*)", history._repr_html_())

    assert rows(60) == [str(i) for i in range(1, 61)]
    assert rows(200) == [*map(str, range(1, 21)), "…", *map(str, range(181, 201))]
