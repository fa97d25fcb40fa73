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


def test_the_cpu_controller_is_found_among_others(control_group):
    root, membership = control_group
    membership.write_text("4:cpuset,cpu,cpuacct:/a\n")
    (root / "cpuset,cpu,cpuacct" / "a").mkdir(parents=True)
    (root / "cpuset,cpu,cpuacct" / "a" / "cpu.cfs_quota_us").write_text("300000\n")
    (root / "cpuset,cpu,cpuacct" / "a" / "cpu.cfs_period_us").write_text("100000\n")
    assert threads._quota(str(root), str(membership)) == 3.0


@pytest.mark.parametrize("text", ["", "max", "100000", "-1 100000", "0 100000", "100000 0", "a b", "1 2 3", "\xff\xfe"])
def test_what_no_control_group_says_is_no_limit(control_group, text):
    root, membership = control_group
    membership.write_text("nonsense\n0::/a\n")
    (root / "a" / "cpu.max").write_text(text, encoding="latin-1")
    assert threads._quota(str(root), str(membership)) is None


@pytest.mark.parametrize("decides", ["", "FASTNN_NUM_THREADS", "set_num_threads"])
def test_processors_are_counted_again_while_it_runs_unless_a_number_was_asked_for(monkeypatch, decides):
    from fastnn import backends

    cpus = [range(4)]
    for name in ("FASTNN_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads, "_quota", lambda: None)
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda _: cpus[0], raising=False)
    monkeypatch.setattr(backends, "_set_threads", 4 if decides == "set_num_threads" else None)
    if decides == "FASTNN_NUM_THREADS":
        monkeypatch.setenv(decides, "4")
    backends._default_threads.cache_clear()
    before = backends.get("native").get_num_threads() if backends.name() == "native" else None
    predict = fnn.compile(fnn.nn.Linear(3, 2))
    try:
        assert fnn.get_num_threads() == 4
        cpus[0] = range(2)
        monkeypatch.setattr(backends, "_counted", 0.0)
        predict(fnn.ones(1, 3).numpy())
        assert fnn.get_num_threads() == (4 if decides else 2)
        cpus[0] = range(3)
        predict(fnn.ones(1, 3).numpy())
        assert fnn.get_num_threads() == (4 if decides else 2), "within a second it does not look again"
    finally:
        monkeypatch.undo()
        backends._default_threads.cache_clear()
        if before is not None:
            backends.get("native").set_num_threads(before)


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
