"""Programs run on a disk that is watched, and that fails at a chosen call: `disk.c`, loaded before libc."""

from __future__ import annotations

import errno
import functools
import os
import shlex
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Call:
    """What a process did: create, open, write, fsync, rename, unlink, mkdir or chmod."""

    what: str
    path: str
    second: str  # a rename's new name
    failed: bool


@functools.cache
def shim() -> str:
    source = Path(__file__).with_name("disk.c")
    folder = tempfile.mkdtemp(prefix="fastnn-disk-")
    library = f"{folder}/disk.so"
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[0]
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, str(source), "-ldl"], check=True)
    return library


def run(
    code: str, folder: Path, *arguments: object, fail: int = 0, error: int = errno.ENOSPC
) -> tuple[subprocess.CompletedProcess[str], list[Call]]:
    """A Python program with arguments, and its calls about files below the folder; that numbered `fail` fails.

    The program may choose others itself, by DISK_FAIL and DISK_ERRNO in os.environ."""
    with tempfile.NamedTemporaryFile("r") as log:
        environment = {
            **os.environ, "LD_PRELOAD": shim(), "DISK_FOLDER": str(folder), "DISK_LOG": log.name,
            "DISK_FAIL": str(fail), "DISK_ERRNO": str(error),
        }  # fmt: skip
        result = subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)],
            env=environment, capture_output=True, text=True, timeout=900, check=False,
        )  # fmt: skip
        lines = [line.split("\t") for line in log.read().splitlines()]
    return result, [Call(what, path, second, failed == "1") for what, path, second, failed in lines]
