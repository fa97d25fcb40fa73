"""A worker: one library in one process, told line by line on standard input what to prepare and when to run.

Requests and replies are lines of JSON. {"do": "prepare", "work": {...}, "mode": ...} builds a model, runs it until
it is warm and replies with what came out of its first runs; {"do": "block", "seconds": s} runs it and replies with the
times of the iterations; {"do": "rest"} says that others may be timed from now on; {"do": "memory"} asks for the most
bytes that the process ever held; {"do": "drop"} forgets all. While others are timed a worker should use no CPU: replies
to a block and to a rest say how much it used since the request before.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .feed import Feed
from .network import Network
from .weighed import peak_bytes
from .workloads import Work

Call = Callable[[], Any]  # one iteration: a step on the next batch, with its loss, or an inference, with its outputs
Prepare = Callable[[Network, Work, str, Feed], Call]

WARM_SECONDS = 0.2
LEAST_CALLS, LONG_SECONDS = 3, 1.0  # so many calls of a block or for warming, unless they take that long


def serve(
    prepare: Prepare,
    matmul: Callable[[Feed], Call] | None = None,
    set_up: Callable[[int], None] | None = None,
) -> None:
    """Answer requests until standard input ends. Arguments of the process: the feed's folder, the number of threads."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print does not get into the replies
    feed = Feed(Path(sys.argv[1]))
    if set_up is not None:
        set_up(int(sys.argv[2]))
    calls: dict[str, Call] = {}
    rested = time.perf_counter(), time.process_time()
    for line in sys.stdin:
        request = json.loads(line)
        key = request.get("key", "")
        reply: dict[str, Any] = {}
        try:
            if request["do"] == "prepare":
                work = Work(**request["work"])
                if work.kind == "matmul":
                    calls[key] = matmul(feed) if matmul is not None else _impossible
                    calls[key]()
                else:
                    calls[key], reply = _prepared(prepare, work, request["mode"], feed)
                _block(calls[key], WARM_SECONDS)
                gc.collect()
            elif request["do"] == "block":
                reply["idle"] = _idle_share(rested)
                reply["times"] = _block(calls[key], request["seconds"])
            elif request["do"] == "rest":
                reply["idle"] = _idle_share(rested)
            elif request["do"] == "memory":
                reply["bytes"] = peak_bytes()
            elif request["do"] == "drop":
                calls.clear()
                gc.collect()
        except Exception as error:
            traceback.print_exc()
            reply["error"] = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        rested = time.perf_counter(), time.process_time()
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


def _prepared(prepare: Prepare, work: Work, mode: str, feed: Feed) -> tuple[Call, dict[str, Any]]:
    """Returns the call, and what its first runs gave and how long the very first one took.

    Random masks differ from library to library: a step with dropout is checked on the same network without it.
    """
    network = feed.network(work)
    checked: Call | None = None
    if work.kind == "step" and network.has("Dropout"):
        checked = prepare(network.without_dropout(), work, mode, feed)
    call = prepare(network, work, mode, feed)
    started = time.perf_counter()
    results = [call()]
    seconds = time.perf_counter() - started
    if checked is not None:
        results = [checked()]
    if work.kind == "step":  # the second loss is one after an update
        results.append((checked or call)())
    return call, {"first": [value for result in results for value in plain(result)], "first_seconds": seconds}


def _impossible() -> None:
    raise NotImplementedError("this library multiplies no matrices by itself")


def plain(result: Any) -> list[float]:
    """A loss, or the first image's outputs, as numbers for JSON."""
    row = result[0] if getattr(result, "ndim", 0) == 2 else result
    return [float(value) for value in (row if getattr(row, "ndim", 0) else (row,))]


def _block(call: Call, seconds: float) -> list[float]:
    """Seconds of each call: for as long as asked, and a few calls at least."""
    times: list[float] = []
    gc.disable()
    now = began = time.perf_counter()
    while now - began < (seconds if len(times) >= LEAST_CALLS else max(seconds, LONG_SECONDS)):
        call()
        after = time.perf_counter()
        times.append(after - now)
        now = after
    gc.enable()
    return times


def _idle_share(rested: tuple[float, float]) -> float:
    """CPU used since then, in CPUs."""
    return (time.process_time() - rested[1]) / max(time.perf_counter() - rested[0], 1e-9)
