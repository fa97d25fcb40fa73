"""The workers: which process serves whom, on how many threads and on which instruction set."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .workloads import Work

ROOT = Path(__file__).parent.parent.parent
PEERS = {"torch": "PyTorch", "jax": "JAX", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
REQUIRED = {
    "torch": ("torch",),
    "jax": ("jax",),
    "onnxruntime": ("onnxruntime", "onnx"),
    "openvino": ("openvino", "onnx"),
}
WORKERS = {
    "fastnn": "fastnn_worker",
    "torch": "torch_worker",
    "jax": "jax_worker",
    "onnxruntime": "onnx_worker",
    "openvino": "openvino_worker",
}
POOLS = ("FASTNN", "OMP", "OPENBLAS", "MKL")
HELD_TO_AVX2 = {
    "FASTNN_ISA": "avx2",
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
    "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
}
DEFAULT_MODES = ("all threads", "jit")  # that need not be said
SECONDS_TO_END = 10
MOST_SECONDS = 90  # that a peer may take to answer; a slower one is left out of that work
NOT_HELD = ("onnxruntime", "openvino")  # nothing keeps them from AVX-512


class WorkerError(Exception):
    """What a worker could not do, in its own words."""


@dataclass(frozen=True)
class Contender:
    """Who runs a work: a library, in one of its modes, on so many threads."""

    peer: str
    mode: str
    threads: int

    def __str__(self) -> str:
        name = PEERS.get(self.peer, self.peer)
        return name if self.mode in DEFAULT_MODES else f"{name} {self.mode}"


def installed(peer: str) -> bool:
    return all(importlib.util.find_spec(name) is not None for name in REQUIRED[peer])


def environment(isa: str | None, threads: int) -> dict[str, str]:
    """What every process that is measured gets."""
    variables = {f"{pool}_NUM_THREADS": str(threads) for pool in POOLS}
    if isa == "avx2":
        variables |= HELD_TO_AVX2
    elif isa is not None:
        variables["FASTNN_ISA"] = isa
    return {**os.environ, **variables, "PYTHONUNBUFFERED": "1"}


class Worker:
    """One process; `ask` sends a request and waits for the reply."""

    def __init__(self, peer: str, threads: int, isa: str | None, feed: Path, log: Path) -> None:
        module = f"{__package__}.{WORKERS[peer]}"
        self._log = log
        with log.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, str(feed), str(threads)],
                cwd=ROOT, env=environment(isa, threads), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
                text=True,
            )  # fmt: skip

    def ask(self, **request: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            if not select.select([self.process.stdout], [], [], MOST_SECONDS)[0]:
                self.process.kill()
                self.process.wait()
                raise WorkerError(f"took longer than {MOST_SECONDS} s")
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            last = self._log.read_text(errors="replace").strip().splitlines()[-1:]
            raise WorkerError(f"the process ended with {self.process.wait()}: {''.join(last) or 'no message'}")
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise WorkerError(reply["error"])
        return reply

    def finish(self) -> None:
        """Let it end by itself."""
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()

    def close(self) -> None:
        self.finish()
        try:
            self.process.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


class Fleet:
    """The workers that have been needed so far, one a library, mode and number of threads; a context manager."""

    def __init__(self, folder: Path, isa: str | None) -> None:
        self.isa = isa
        self.feed = folder / "feed"
        self._folder = folder
        self._workers: dict[tuple[str, str, int], Worker] = {}

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *error: object) -> None:
        for worker in self._workers.values():
            worker.finish()
        for worker in self._workers.values():
            worker.close()

    def prepare(self, contender: Contender, work: Work) -> tuple[list[float], float]:
        """Have the work ready to run.

        Returns the losses of two steps, or the first image's outputs, and how long the very first iteration took.
        """
        reply = _prepare(self._worker(contender), contender, work)
        return reply.get("first", []), reply.get("first_seconds", 0.0)

    def peak_memory(self, contender: Contender, work: Work) -> float:
        """The most megabytes that a process of its own holds while it runs the work for a second."""
        worker = self._start(contender)
        try:
            _prepare(worker, contender, work)
            worker.ask(do="block", key=contender.mode, seconds=1.0)
            return float(worker.ask(do="memory")["bytes"]) / 1e6
        finally:
            worker.close()

    def block(self, contender: Contender, seconds: float) -> tuple[list[float], float]:
        """Times of the iterations of one block, and how many CPUs the worker used while it was to be idle."""
        reply = self._worker(contender).ask(do="block", key=contender.mode, seconds=seconds)
        return reply["times"], reply["idle"]

    def rest(self, contender: Contender) -> float:
        """Tell a worker that others are timed from now on; returns how many CPUs it used since its last block."""
        idle: float = self._worker(contender).ask(do="rest")["idle"]
        return idle

    def drop(self) -> None:
        """Forget what was prepared."""
        for key, worker in list(self._workers.items()):
            try:
                worker.ask(do="drop")
            except WorkerError:
                worker.close()
                del self._workers[key]

    def _worker(self, contender: Contender) -> Worker:
        key = contender.peer, contender.mode.partition(" without ")[0], contender.threads
        if key not in self._workers or self._workers[key].process.poll() is not None:
            self._workers[key] = self._start(contender)
        return self._workers[key]

    def _start(self, contender: Contender) -> Worker:
        log = self._folder / f"{contender.peer}-{contender.mode}-{contender.threads}.log".replace(" ", "_")
        return Worker(contender.peer, contender.threads, self.isa, self.feed, log)

    def __iter__(self) -> Iterator[Worker]:
        return iter(self._workers.values())


def _prepare(worker: Worker, contender: Contender, work: Work) -> dict[str, Any]:
    return worker.ask(do="prepare", key=contender.mode, work=dataclasses.asdict(work), mode=contender.mode)
