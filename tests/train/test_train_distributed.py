"""Trainings on several ranks: real jobs of mpiexec, compared with the same program in one process."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn.data.batches import Share
from fastnn.nn.shares import weight_of

pytest.importorskip("mpi4py")
PROGRAM = Path(__file__).parent.parent / "support" / "distributed_program.py"
MPIEXEC = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}") or "mpiexec"
ENVIRONMENT = {**os.environ, "FASTNN_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}


def started(ranks: int, *command: Any) -> subprocess.Popen[str]:
    launcher = [MPIEXEC, "-n", str(ranks)] if ranks > 1 else []
    return subprocess.Popen(
        [*launcher, sys.executable, *map(str, command)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=ENVIRONMENT,
    )  # fmt: skip


def finished(job: subprocess.Popen[str], within: float = 60) -> tuple[int, str]:
    try:
        said, _ = job.communicate(timeout=within)
    except subprocess.TimeoutExpired:
        job.kill()
        raise
    return job.returncode, said


class Found:
    """What the program has written on all ranks."""

    def __init__(self, ranks: int, place: Path) -> None:
        code, text = finished(started(ranks, PROGRAM, place, *(["--distributed"] if ranks > 1 else [])))
        assert code == 0, text
        self.printed = text
        self.said = [json.loads(Path(f"{place}.{rank}.json").read_text()) for rank in range(ranks)]
        self.arrays = [dict(np.load(f"{place}.{rank}.npz")) for rank in range(ranks)]


@functools.cache
def found(ranks: int, place: Path) -> Found:
    return Found(ranks, place / f"of{ranks}")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("distributed")


SEVERAL = pytest.mark.parametrize("ranks", [2, pytest.param(3, marks=pytest.mark.long)])
PATHS = (
    "adam", "steps", "eager", "sum", "ignored", "descent", "part", "part, eager", "unplanned", "tiny", "callback",
)  # fmt: skip
MEAN = ("adam", "eager", "descent", "part, eager")  # whose parameters the ranks do not share


@SEVERAL
def test_several_ranks_follow_one(ranks: int, place: Path) -> None:
    """100 steps, uneven shares, short last batches, and batches of fewer samples than ranks."""
    one, several = found(1, place), found(ranks, place)
    for name in PATHS:
        np.testing.assert_allclose(several.arrays[0][name], one.arrays[0][name], rtol=0, atol=1e-5, err_msg=name)
        if name != "callback":
            expected, got = (np.array(job.said[0][name], float) for job in (one, several))
            np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5, err_msg=name)
    for name in ("steps, state", "callback, state"):  # what checkpoints hold of the optimiser
        np.testing.assert_allclose(several.arrays[0][name], one.arrays[0][name], rtol=0, atol=1e-5, err_msg=name)
    expected_kinds = ["Mean" if name in MEAN else "Sharded" for name in PATHS[:-1]]
    assert several.said[0]["exchanges"][: len(expected_kinds)] == expected_kinds
    assert several.said[0]["callback"] == one.said[0]["callback"] == [8, 1]  # 6 batches in the first epoch, then 2


@SEVERAL
def test_all_ranks_end_alike(ranks: int, place: Path) -> None:
    job = found(ranks, place)
    for said, arrays in zip(job.said[1:], job.arrays[1:], strict=True):
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, job.arrays[0][name], err_msg=name)
        for name in ("adam", "random", "evaluation"):
            assert said[name] == job.said[0][name]
        assert said["callback"] == [0, 1]  # rank 0's are called
        assert said["steps, own memory"]
    assert job.printed == ""


@SEVERAL
def test_a_job_has_the_same_bits_again_and_random_numbers_of_each_rank(ranks: int, place: Path) -> None:
    job = found(ranks, place)
    for name in ("random", "random, statistics"):
        again = name.replace("random", "random again")
        np.testing.assert_array_equal(job.arrays[0][name], job.arrays[0][again])
    drawn = [said["random, drawn"] for said in job.said]
    assert drawn == [said["random again, drawn"] for said in job.said]
    assert drawn[0] != drawn[1]


@SEVERAL
def test_evaluation_is_shared(ranks: int, place: Path) -> None:
    one, several = found(1, place), found(ranks, place)
    np.testing.assert_allclose(several.said[0]["evaluation"], one.said[0]["evaluation"], rtol=1e-6)
    np.testing.assert_array_equal(several.arrays[0]["confusion"], one.arrays[0]["confusion"])


@SEVERAL
def test_what_one_rank_raises_in_a_step_all_raise(ranks: int, place: Path) -> None:
    one, several = found(1, place), found(ranks, place)
    for said in several.said:
        assert said["error"] == one.said[0]["error"] == "ValueError: fails on one rank"
        assert said["not finite"] == one.said[0]["not finite"]
        assert "sample 7 of the data is not finite" in said["not finite"]
        assert said["not finite, compiled"] == said["not finite"]
        assert said["not finite, compiled, as before"]
        assert said["other data"].startswith("ArgumentError: fit: expected the same training data on all ranks")


def children(pid: int) -> list[int]:
    of = Path(f"/proc/{pid}/task/{pid}/children")
    direct = [int(child) for child in of.read_text().split()] if of.exists() else []
    return [one for child in direct for one in (child, *children(child))]


def command(*options: Any) -> subprocess.Popen[str]:
    return started(
        2, "-m", "fastnn", "train", "digits", "--model", "linear", "--no-augment", "--distributed", "--threads", 1,
        *options,
    )  # fmt: skip


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc to find the ranks")
def test_a_killed_rank_ends_the_job_and_leaves_a_checkpoint_to_go_on_from(tmp_path: Path) -> None:
    run = tmp_path / "run"
    job = command("--epochs", 10_000, "--out", run)
    end = time.monotonic() + 30
    while not (run / "history.csv").exists() and time.monotonic() < end and job.poll() is None:
        time.sleep(0.05)
    os.kill(children(job.pid)[-1], signal.SIGKILL)
    killed = time.monotonic()
    code, said = finished(job)
    assert time.monotonic() - killed < 10
    assert code != 0
    assert "signal 9" in said.lower() or "killed" in said.lower()
    kept = len(fnn.load_run(run).history)
    assert kept >= 1

    again = command("--epochs", 10_000, "--out", run, "--resume")  # and then Ctrl-C, once for the whole job
    rows = 0
    assert again.stdout is not None
    for line in again.stdout:
        rows += bool(re.match(r" +\d+ ", line))
        if rows > kept:
            break
    again.send_signal(signal.SIGINT)
    code, said = finished(again, 10)
    assert code == 130
    assert said.count("training was stopped by SIGINT") == 1, said
    assert len(fnn.load_run(run).history) > kept


def test_an_exception_on_one_rank_ends_the_job_with_its_message(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import fastnn as fnn\n"
        "from fastnn import distributed, nn\n"
        "if distributed.rank() == 1:\n"
        "    raise OSError('no such disk')\n"
        "fnn.fit(nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), 'digits', distributed=True, verbose=False)\n"
    )
    start = time.monotonic()
    code, said = finished(started(2, program))
    assert time.monotonic() - start < 15
    assert code != 0
    assert "rank 1 of 2 has failed, which ends the job: OSError: no such disk" in said


@pytest.mark.long
def test_the_command_prints_and_writes_once(tmp_path: Path) -> None:
    code, said = finished(command("--epochs", 1, "--json", tmp_path / "m.json"))
    assert code == 0, said
    written = json.loads((tmp_path / "m.json").read_text())
    assert said.count("test accuracy") == said.count("train loss") == 1
    assert written["ranks"] == 2
    assert 0 < written["communication"] < 1
    assert written["test_accuracy"] > 0.7


@pytest.mark.long
def test_a_command_that_fails_on_one_rank_ends_the_job(tmp_path: Path) -> None:
    program = "import sys; from fastnn import cli, distributed; "
    program += f"sys.exit(cli.main(['train', {str(tmp_path)!r} * distributed.rank() or 'digits', '--distributed']))"
    code, said = finished(started(2, "-c", program))
    assert code != 0
    assert "rank 1 of 2 has failed, which ends the job: DataError" in said


@pytest.mark.long
def test_a_mistake_of_all_ranks_is_told_once() -> None:
    code, said = finished(command("--early-stopping", 3))
    assert code == 2
    assert said.count("--early-stopping needs --val SHARE") == 1


def test_shares_are_of_all_samples() -> None:
    for count, ranks, fewest in [(10, 3, 1), (2, 3, 1), (5, 3, 2), (1, 2, 2), (7, 7, 1)]:
        taken: list[int] = []
        for rank in range(ranks):
            share = Share(rank, ranks, fewest)
            part = share.of(20, 20 + count)
            assert part.stop - part.start >= min(fewest, count)
            taken += [] if share.again else list(range(part.start, part.stop))
        assert taken == list(range(20, 20 + count))


def test_a_share_counts_what_its_mean_divides_by() -> None:
    labels = np.array([0, 1, 1, 2])
    losses: dict[Any, float] = {
        fnn.nn.CrossEntropyLoss(): 4,
        fnn.nn.CrossEntropyLoss(ignore_index=1): 2,
        fnn.nn.NLLLoss(weight=np.array([1, 10, 100], np.float32)): 121,
        fnn.nn.CrossEntropyLoss(reduction="sum"): 1,
        fnn.nn.MSELoss(): 4,
    }
    assert [weight_of(loss, labels) for loss in losses] == list(losses.values())


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores cannot be chosen here")
@pytest.mark.parametrize(
    ("cores", "bound", "why", "threads", "mine"),
    [
        (8, False, "CPUs this process may run on", 4, {4, 5, 6, 7}),
        (8, False, "FASTNN_NUM_THREADS", None, {4, 5, 6, 7}),
        (8, True, "CPUs this process may run on", None, None),  # by the launcher
        (1, False, "CPUs this process may run on", 1, {0}),  # more ranks than cores
    ],
)
def test_ranks_share_the_cores(
    monkeypatch: pytest.MonkeyPatch, cores: int, bound: bool, why: str, threads: int | None, mine: set[int] | None
) -> None:
    from fastnn import backends, distributed

    class Node:
        def allgather(self, value: list[int]) -> list[list[int]]:
            return [[], value] if bound else [value, value]

        def Get_rank(self) -> int:
            return 1

        def Get_size(self) -> int:
            return 2

    done: dict[str, Any] = {"threads": None, "mine": None}
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)))
    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, chosen: done.update(mine=set(chosen)))
    monkeypatch.setattr(backends, "describe", lambda: {"threads": cores, "threads_why": why})
    monkeypatch.setattr(backends, "set_num_threads", lambda count: done.update(threads=count))
    monkeypatch.setattr(backends, "get_num_threads", lambda: done["threads"] or 2)
    distributed.share_cores(Node())
    assert done == {"threads": threads, "mine": mine}


@pytest.mark.long
def test_the_formula_of_scaling_holds_for_injected_delays() -> None:
    code, said = finished(started(2, "-m", "benchmarks.scaling", "--check"), 120)
    assert code == 0, said
    rows = re.findall(r"^\| mlp \| .*Ethernet \| ([\d.]+) \| ([\d.]+) \|$", said, re.MULTILINE)
    assert len(rows) == 2
    for measured, computed in rows:
        assert 0.7 < float(measured) / float(computed) < 1.6, said


def test_one_process_is_a_job_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    distributed = importlib.import_module("fastnn.distributed")
    assert (distributed.rank(), distributed.size()) == (0, 1)
    history = fnn.fit(
        fnn.nn.Sequential(fnn.nn.Flatten(), fnn.nn.Linear(784, 10)), "digits", distributed=True, verbose=False
    )
    assert history[-1].communication is None
    distributed.world.cache_clear()
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "4")
    with pytest.raises(fnn.errors.BackendError, match="expected 4 ranks, as mpiexec has started, got one"):
        distributed.rank()
    monkeypatch.delenv("OMPI_COMM_WORLD_SIZE")
    distributed.world.cache_clear()
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(fnn.errors.MissingExtraError, match=r'pip install "fastnn-cpu\[mpi\]"'):
        distributed.rank()
    distributed.world.cache_clear()
