"""Programs in which a chosen allocation fails: `allocations.c`, loaded before libc.

In the program, `watch(n)` makes the nth allocation of 512 bytes or more fail (0: none), `watch(n, True)` all from there
on; `seen()` ends that and tells how many there were.
"""

from __future__ import annotations

import functools
import os
import shlex
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

PRELUDE = """
import ctypes
_shim = ctypes.CDLL(None)
_shim.allocations_watch.argtypes, _shim.allocations_seen.restype = [ctypes.c_long, ctypes.c_int], ctypes.c_long
seen = _shim.allocations_seen
def watch(number, onwards=False):
    _shim.allocations_watch(number, onwards)
"""


@functools.cache
def shim() -> str:
    source = Path(__file__).with_name("allocations.c")
    library = f"{tempfile.mkdtemp(prefix='fastnn-allocations-')}/allocations.so"
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[0]
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, str(source)], check=True)
    return library


def run(code: str, *arguments: object) -> str:
    """What a Python program printed; AssertionError with what it said where it failed."""
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + code, *map(str, arguments)], env={**os.environ, "LD_PRELOAD": shim()},
        capture_output=True, text=True, timeout=3600, check=False,
    )  # fmt: skip
    assert not done.returncode, f"exit {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout
