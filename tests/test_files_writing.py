"""Files are written whole: by any number of threads and processes at once, and though some of them are killed."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from fastnn import weights
from fastnn.cli import main

WRITER = """
import sys, numpy as np
from fastnn import weights
path, number, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
for _ in range(rounds):
    weights.save({"all": np.full(50_000, number, np.float32)}, path)
"""
STUCK = """
import os, sys, time
from fastnn import weights
os.replace = lambda *_: (print("stuck", flush=True), time.sleep(600))
weights.save({"all": __import__("numpy").zeros(1000)}, sys.argv[1])
"""


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, text=True)


def stuck_writer(path: Path) -> subprocess.Popen[str]:
    """A process that has written its temporary file and not yet renamed it."""
    process = start(STUCK, path)
    assert process.stdout is not None
    assert process.stdout.readline() == "stuck\n"
    return process


def killed(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def read_until(path: Path, done: threading.Event, failures: list[str]) -> None:
    while not done.is_set():
        try:
            values = np.unique(weights.load(path)["all"])
            if len(values) != 1:
                failures.append(f"a torn file: {values}")
        except Exception as error:
            failures.append(repr(error))


def test_threads_that_save_to_one_path_do_not_tear_its_file(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    weights.save({"all": np.zeros(50_000, np.float32)}, path)
    done, failures = threading.Event(), []

    def write(number: int) -> None:
        try:
            for _ in range(12):
                weights.save({"all": np.full(50_000, number, np.float32)}, path)
        except Exception as error:
            failures.append(repr(error))

    writers = [threading.Thread(target=write, args=(i,)) for i in range(8)]
    readers = [threading.Thread(target=read_until, args=(path, done, failures)) for _ in range(2)]
    for thread in writers + readers:
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    for thread in readers:
        thread.join()
    assert failures == []
    assert list(tmp_path.iterdir()) == [path]


def test_processes_that_save_to_one_path_do_not_tear_its_file(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    weights.save({"all": np.zeros(50_000, np.float32)}, path)
    done, failures = threading.Event(), []
    reader = threading.Thread(target=read_until, args=(path, done, failures))
    reader.start()
    writers = [start(WRITER, path, i, 15) for i in range(3)]
    codes = []
    for writer in writers:
        writer.communicate(timeout=60)
        codes.append(writer.returncode)
    done.set()
    reader.join()
    assert (codes, failures) == ([0, 0, 0], [])
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_writer_left_goes_with_the_next_save_and_what_another_writes_stays(tmp_path: Path) -> None:
    path, other = tmp_path / "w.safetensors", tmp_path / "other"
    for target in (path, other):
        killed(stuck_writer(target))
    assert len(list(tmp_path.iterdir())) == 2
    living = stuck_writer(path)
    try:
        weights.save({"all": np.ones(3)}, path)
        left = sorted(file.name for file in tmp_path.iterdir())
        assert len(left) == 3, left  # the file, the living writer's, and the one that belongs to another path
        assert left[0].startswith(".other.")
        assert f".{living.pid}-" in left[1]
    finally:
        killed(living)
    weights.save({"all": np.ones(3)}, path)
    weights.save({"all": np.ones(3)}, other)
    assert {file.name for file in tmp_path.iterdir()} == {"w.safetensors", "other"}


def test_files_of_others_that_look_alike_stay(tmp_path: Path) -> None:
    mine = [".w.tmp", "w.12.tmp", ".w.12.tmp.gz", ".v.12.tmp", ".w.twelve.tmp", ".w.x.12.tmp"]
    for name in mine:
        (tmp_path / name).write_text("precious")
    weights.save({"all": np.ones(3)}, tmp_path / "w")
    assert {file.name for file in tmp_path.iterdir()} == {*mine, "w"}


def test_names_as_long_as_the_system_has(tmp_path: Path) -> None:
    path = tmp_path / ("ä" * 120 + "w" * 15)  # 255 bytes
    weights.save({"all": np.ones(3)}, path)
    killed(stuck_writer(path))
    weights.save({"all": np.zeros(3)}, path)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_a_new_file_has_the_mask_s_mode_and_an_old_one_keeps_its_own(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        weights.write_atomically(tmp_path / "new", b"")
        assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o666 & ~mask
        for mode in (0o600, 0o640, 0o666, 0o444):
            (tmp_path / "old").touch()
            (tmp_path / "old").chmod(mode)
            weights.write_atomically(tmp_path / "old", b"content")
            assert stat.S_IMODE((tmp_path / "old").stat().st_mode) == mode
    finally:
        os.umask(before)


def test_links_stay_links_and_loops_of_them_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "link").symlink_to("second")
    (tmp_path / "second").symlink_to("far/file")  # which is not there yet
    weights.write_atomically(tmp_path / "link", b"content")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "second").is_symlink()
    assert (tmp_path / "far" / "file").read_bytes() == b"content"
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="symbolic links"):
        weights.write_atomically(tmp_path / "a", b"")
    assert (tmp_path / "a").is_symlink()


def test_the_folder_is_synchronised_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds, fsync = [], os.fsync

    def note(descriptor: int) -> None:
        kinds.append(stat.S_IFMT(os.fstat(descriptor).st_mode))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    weights.write_atomically(tmp_path / "file", b"content")
    assert kinds == [stat.S_IFREG, stat.S_IFDIR]


def test_pipes_are_written_to_and_nobody_is_waited_for_in_vain(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="nobody reads this pipe"):
        weights.write_atomically(pipe, b"content")
    reader = subprocess.Popen(["wc", "-c", str(pipe)], stdout=subprocess.PIPE, text=True)
    weights.write_atomically(pipe, b"x" * 200_000)  # more than a pipe holds
    assert reader.communicate()[0].split()[0] == "200000"
    assert list(tmp_path.iterdir()) == [pipe]


@pytest.mark.parametrize("through", ["pipe", "file"])
def test_standard_output_is_written_to_after_what_was_printed(tmp_path: Path, through: str) -> None:
    code = (
        "from fastnn.weights import write_atomically; print('before'); write_atomically('/dev/stdout', b'mine\\n');"
        "print('after')"
    )
    with open(tmp_path / "out", "w+") as out:
        kept = subprocess.PIPE if through == "pipe" else out
        result = subprocess.run([sys.executable, "-c", code], stdout=kept, text=True, check=True)
        out.seek(0)
        assert (result.stdout or out.read()) == "before\nmine\nafter\n"


def test_results_that_cannot_be_written_are_noticed_before_the_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        for path in (tmp_path / "socket", tmp_path, tmp_path / "none" / "m.json"):
            assert main(["train", "--model", "linear", "--epochs", "1", "--json", str(path)]) == 3
            said = capsys.readouterr()
            assert said.err.startswith("fastnn: --json: ")
            assert len(said.err.splitlines()) == 1
            assert said.out == ""


def test_a_writer_that_is_stopped_within_its_write_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    weights.save({"all": np.ones(3)}, path)
    process = stuck_writer(path)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    np.testing.assert_array_equal(weights.load(path)["all"], np.ones(3))
    weights.save({"all": np.zeros(3)}, path)
    assert list(tmp_path.iterdir()) == [path]
