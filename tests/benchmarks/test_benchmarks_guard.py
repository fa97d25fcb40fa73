"""benchmarks/guard.py fails on what is slower than recorded, and not on noise."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT))  # `benchmarks` is a folder of the repository, not installed

from benchmarks import guard  # noqa: E402

RECORDS = {"avx2": {"one": {"a": 10.0, "b": 2.0}, "two": {"a": 6.0}}, "baseline": {"one": {"b": 1.0}}}


@pytest.mark.parametrize(
    ("isa", "cpu", "case", "expected"),
    [("avx2", "one", "a", 7.0), ("avx2", "two", "a", 4.2), ("avx2", "three", "a", 3.0), ("avx2", "two", "b", 1.0),
     ("avx2", "one", "c", None), ("avx512", "one", "a", None), ("baseline", "one", "a", 3.0)],
)  # fmt: skip
def test_bounds(isa: str, cpu: str, case: str, expected: float | None) -> None:
    assert guard.bound(RECORDS, isa, cpu, case) == pytest.approx(expected)


def test_what_is_slow_is_measured_again_when_the_others_have_been(monkeypatch: pytest.MonkeyPatch) -> None:
    fine, noisy, slow = (guard.Case(name, lambda: (int, int)) for name in ("fine", "noisy", "slow"))
    tries: list[tuple[str, int]] = []
    ratios = {"fine": [3.0], "noisy": [2.0, 1.0, 2.6], "slow": [1.0, 2.0, 1.5, 1.0]}

    def measure(case: guard.Case, rounds: int) -> float:
        tries.append((case.name, rounds))
        return ratios[case.name].pop(0)

    monkeypatch.setattr(guard, "measure", measure)
    assert guard.slower({noisy: 2.5, fine: 2.5, slow: 2.5}) == {slow: 2}
    assert tries[:4] == [("noisy", 5), ("fine", 5), ("slow", 5), ("noisy", 15)]
    assert tries[-1] == ("slow", 135)


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
