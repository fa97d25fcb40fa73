"""benchmarks/guard.py fails on what is slower than recorded, and not on noise."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT))  # `benchmarks` is a folder of the repository, not installed

from benchmarks import guard  # noqa: E402

RECORDS = {"avx2": {"one": {"a": 10.0, "b": 2.0}, "two": {"a": 6.0}}}


@pytest.mark.parametrize(
    ("isa", "cpu", "case", "expected"),
    [("avx2", "one", "a", 7.0), ("avx2", "two", "a", 4.2), ("avx2", "three", "a", 3.0), ("avx2", "two", "b", 1.0),
     ("avx2", "one", "c", None), ("avx512", "one", "a", None)],
)  # fmt: skip
def test_bounds(isa: str, cpu: str, case: str, expected: float | None) -> None:
    assert guard.bound(RECORDS, isa, cpu, case) == pytest.approx(expected)


def test_a_low_ratio_is_measured_again_and_longer() -> None:
    ratios: Iterator[float] = iter([1.0, 2.0, 3.0, 9.0])
    rounds: list[int] = []

    def measure(count: int) -> float:
        rounds.append(count)
        return next(ratios)

    assert guard.check(measure, 2.5) == 3
    assert rounds == [5, 15, 45]


def test_what_stays_slow_is_told() -> None:
    tries = []
    assert guard.check(lambda rounds: tries.append(rounds) or 1.0, 2.5) == 1
    assert len(tries) == 1 + guard.TRIES


def test_ratio_of_least_times() -> None:
    assert 2 < guard.ratio(lambda: time.sleep(0.002), lambda: time.sleep(0.01), 3) < 6


def test_the_record_covers_every_case() -> None:
    """On some CPU, for each instruction set that something is recorded for."""
    records = json.loads(guard.RECORD.read_text())
    names = [case.name for case in guard.cases()]
    assert len(set(names)) == len(names)
    for isa in records:
        missing = [name for name in names if guard.bound(records, isa, "any", name) is None]
        assert missing == [], f"FASTNN_ISA={isa} python -m benchmarks.guard --record"
