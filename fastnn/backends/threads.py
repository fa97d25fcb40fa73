"""How many threads to start with: FASTNN_NUM_THREADS, or what affinity, the control group's CPU quota and
OMP_NUM_THREADS allow, which joblib and Dask set in their workers."""

from __future__ import annotations

import os

from fastnn.errors import ArgumentError

MOST_THREADS = 256  # MAX_THREADS of kernels/base/threads.c


def _quota(root: str = "/sys/fs/cgroup", membership: str = "/proc/self/cgroup") -> float | None:
    """CPUs that the control group may use, the least along its path; None: no limit, or no control groups here.

    Version 2 writes them into cpu.max, version 1 into cpu.cfs_quota_us and cpu.cfs_period_us.
    """
    limits = []
    for line in _read(membership).splitlines():
        controllers, _, path = line.partition(":")[2].partition(":")
        if not controllers or "cpu" in controllers.split(","):
            base = os.path.join(root, controllers)
            parts = path.strip("/").split("/")
            limits += [_limit(os.path.join(base, *parts[:depth])) for depth in range(len(parts) + 1)]
    return min((limit for limit in limits if limit is not None), default=None)


def _limit(folder: str) -> float | None:
    version_2 = _read(os.path.join(folder, "cpu.max")).split()
    version_1 = [_read(os.path.join(folder, f"cpu.cfs_{name}_us")).strip() for name in ("quota", "period")]
    try:
        quota, period = map(int, version_2 or version_1)
    except ValueError:  # "max", or nothing that Linux writes
        return None
    return quota / period if quota > 0 and period > 0 else None  # -1: no limit


def _read(path: str) -> str:
    try:
        with open(path, errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def default_threads() -> tuple[int, str]:
    """The number of threads to start with, and why; ArgumentError where FASTNN_NUM_THREADS is none of 1 .. 256."""
    asked = os.environ.get("FASTNN_NUM_THREADS")
    if asked:
        if not asked.isdecimal() or int(asked) < 1:
            raise ArgumentError(f"expected FASTNN_NUM_THREADS to be a positive integer, got {asked!r}")
        if int(asked) > MOST_THREADS:
            raise ArgumentError(f"expected FASTNN_NUM_THREADS to be at most {MOST_THREADS}, got {asked}")
        return int(asked), "FASTNN_NUM_THREADS"
    if hasattr(os, "sched_getaffinity"):
        cpus, why = len(os.sched_getaffinity(0)), "CPUs this process may run on"
    else:
        cpus, why = os.cpu_count() or 1, "CPUs of this machine"
    quota = _quota()
    if quota is not None and quota < cpus:
        cpus, why = max(1, round(quota)), "the control group's CPU quota"
    share = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()  # a list where OpenMP's regions are nested
    if share.isdecimal() and 0 < int(share) < cpus:
        cpus, why = int(share), "OMP_NUM_THREADS"
    return min(MOST_THREADS, cpus), why
