"""Forks, threads, asyncio, signal handlers, the interpreter's exit and other interpreters work, or are refused in words."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import process_programs as programs

IN_CI = 0.01


def run(what: str, *arguments: object, limit: float = 3600) -> None:
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
    assert done.returncode == 0, f"{what}: exit {done.returncode}\n{done.stderr[-2000:]}"


def measure(share: float = 1.0) -> str:
    forks = starts = max(5, round(1000 * share))
    ends = max(2, round(100 * share))
    run("forks", "-c", programs.FORKS, forks)
    run("threads", "-c", programs.STARTS, starts)
    for turn in range(ends):
        run(f"exit {turn} while threads compute", "-c", programs.ENDS, 0.01 * (turn % 30), limit=60)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "methods.py"
        path.write_text(programs.METHODS)
        run("spawn, forkserver, asyncio, signals", path, max(1, round(20 * share)))
    run("a second interpreter", "-c", programs.SUBINTERPRETER)
    return f"{forks} forks and {starts} starts of threads while others train, {ends} exits: all right"
