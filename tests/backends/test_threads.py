"""How many threads fastnn starts with, and that it says so when it is asked for nonsense."""

from pathlib import Path

import pytest

import fastnn as fnn
from fastnn.backends import threads
from fastnn.errors import ArgumentError


@pytest.fixture
def control_group(tmp_path: Path) -> tuple[Path, Path]:
    """A root of control groups, and the file that says which one a process is in: /a/b."""
    (tmp_path / "root" / "a" / "b").mkdir(parents=True)
    (tmp_path / "root" / "cpu,cpuacct" / "a" / "b").mkdir(parents=True)
    return tmp_path / "root", tmp_path / "membership"


def test_quota_of_version_2_is_the_least_along_the_path(control_group):
    root, membership = control_group
    membership.write_text("0::/a/b\n")
    (root / "a" / "cpu.max").write_text("150000 100000\n")
    (root / "a" / "b" / "cpu.max").write_text("max 100000\n")
    assert threads._quota(str(root), str(membership)) == 1.5


def test_quota_of_version_1(control_group):
    root, membership = control_group
    membership.write_text("7:memory:/a/b\n4:cpu,cpuacct:/a/b\n")
    folder = root / "cpu,cpuacct" / "a" / "b"
    (folder / "cpu.cfs_quota_us").write_text("200000\n")
    (folder / "cpu.cfs_period_us").write_text("50000\n")
    (root / "cpu,cpuacct" / "cpu.cfs_quota_us").write_text("-1\n")
    (root / "cpu,cpuacct" / "cpu.cfs_period_us").write_text("50000\n")
    assert threads._quota(str(root), str(membership)) == 4.0


def test_no_quota_is_no_limit(control_group):
    root, membership = control_group
    assert threads._quota(str(root), str(membership)) is None
    membership.write_text("0::/a/b\n")
    assert threads._quota(str(root), str(membership)) is None


def test_a_quota_below_the_cpus_decides(monkeypatch):
    monkeypatch.delenv("FASTNN_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "_quota", lambda: 0.5)
    assert threads.default_threads() == (1, "the control group's CPU quota")


@pytest.mark.parametrize(("value", "expected"), [("2", (2, "OMP_NUM_THREADS")), ("3,1", (3, "OMP_NUM_THREADS"))])
def test_what_workers_of_joblib_and_dask_are_left_is_heeded(monkeypatch, value, expected):
    """They set the variable for OpenMP's libraries; so many processes share the CPUs."""
    monkeypatch.delenv("FASTNN_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "_quota", lambda: None)
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda _: range(4), raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert threads.default_threads() == expected


@pytest.mark.parametrize("value", ["", "8", "0", "many"])
def test_it_makes_no_threads_that_there_are_no_cpus_for(monkeypatch, value):
    monkeypatch.delenv("FASTNN_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "_quota", lambda: None)
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda _: range(4), raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert threads.default_threads() == (4, "CPUs this process may run on")


def test_the_variable_wins(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("FASTNN_NUM_THREADS", "7")
    assert threads.default_threads() == (7, "FASTNN_NUM_THREADS")


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5"])
def test_a_variable_that_is_no_number_of_threads_is_named(monkeypatch, value):
    monkeypatch.setenv("FASTNN_NUM_THREADS", value)
    with pytest.raises(ArgumentError, match="positive integer, got"):
        threads.default_threads()


def test_no_more_threads_than_the_pool_can_have(monkeypatch):
    before = fnn.get_num_threads()
    with pytest.raises(ArgumentError, match="at most 256 threads, got 257"):
        fnn.set_num_threads(257)
    assert fnn.get_num_threads() == before
    monkeypatch.setenv("FASTNN_NUM_THREADS", "257")
    with pytest.raises(ArgumentError, match="FASTNN_NUM_THREADS to be at most 256"):
        threads.default_threads()


@pytest.mark.parametrize("value", [0, -2, 1.5, True, "2"])
def test_set_num_threads_takes_positive_integers(value):
    before = fnn.get_num_threads()
    with pytest.raises(ArgumentError, match="positive number of threads"):
        fnn.set_num_threads(value)
    assert fnn.get_num_threads() == before
