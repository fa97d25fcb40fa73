"""The promises of docs/RELIABILITY.md: the tests that its table names exist, those of tests/long hold, shortened."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.long.__main__ import NAMES, TABLE, load, rows

ROOT = Path(__file__).parent.parent
ROWS = rows(TABLE.read_text())


@pytest.mark.parametrize("name", NAMES)
def test_a_promise_holds(name: str) -> None:
    module = load(name)
    figure = module.measure(module.IN_CI)
    assert figure
    assert not set(figure) & set("\n|")  # it has a place in the table


@pytest.mark.parametrize("name", NAMES)
def test_its_module_is_named_by_one_row_in_the_same_words(name: str) -> None:
    (row,) = [row for row in ROWS if name in row.modules]
    assert row.modules == [name]
    documented = (load(name).__doc__ or "").split("\n\n")[0]
    assert " ".join(documented.replace("`", "").split()).rstrip(".") == row.promise.replace("`", "").rstrip(".")


def test_the_table_has_every_promise_and_what_it_says_of_its_tests_is_so() -> None:
    assert sorted({row.number for row in ROWS}) == list(range(1, 25))
    for row in ROWS:
        assert bool(row.figure) == bool(re.fullmatch(r"\d{4}-\d\d-\d\d", row.date)), row
        named = re.findall(r"`(tests/[\w/]+\.(?:py|c))(?:::(\w+))?`", row.how)
        assert named or "not tested" in row.how, row
        for path, test in named:
            assert (ROOT / path).is_file(), f"row {row.number} names {path}"
            assert not test or f"def {test}(" in (ROOT / path).read_text(), f"row {row.number} names {path}::{test}"
