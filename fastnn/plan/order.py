"""The order in which stages run."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from fastnn.ops.norms import Running

if TYPE_CHECKING:
    from fastnn.plan.fuse import Stage
    from fastnn.plan.trace import Graph

__all__ = ["in_order"]


def in_order(graph: Graph, stages: list[Stage]) -> list[Stage]:
    """The stages, each behind those whose values it reads, and, unless these are in a circle, those with an earlier use
    of its batch norms; else in the order of their first operators."""
    ordered = _ordered(graph, stages, _uses_before(graph, stages))
    return ordered if len(ordered) == len(stages) else _ordered(graph, stages, {})


def _uses_before(graph: Graph, stages: list[Stage]) -> dict[int, set[int]]:
    """By the stages' ids those with earlier uses of batch norms whose running statistics follow each use."""
    of = {id(op): id(stage) for stage in stages for op in stage.operators}
    found: dict[int, set[int]] = {}
    last: dict[int, int] = {}
    for op in graph.operators:
        running = op.attributes.get("running")
        if isinstance(running, Running):
            found.setdefault(of[id(op)], set()).add(last.get(id(running.mean), of[id(op)]))
            last[id(running.mean)] = of[id(op)]
    return found


def _ordered(graph: Graph, stages: list[Stage], more: dict[int, set[int]]) -> list[Stage]:
    """The stages, each behind those whose values it reads and those of `more`, as many as are in no circle."""
    place = {id(op): k for k, op in enumerate(graph.operators)}
    of = {id(op.output): stage for stage in stages for op in stage.operators}
    after: dict[int, list[Stage]] = {}
    waits: dict[int, int] = {}
    for stage in stages:
        before = {id(of[id(v)]) for op in stage.operators for v in op.inputs if id(v) in of}
        before = (before | more.get(id(stage), set())) - {id(stage)}
        waits[id(stage)] = len(before)
        for one in before:
            after.setdefault(one, []).append(stage)
    ready = [(place[id(stage.operators[0])], stage) for stage in stages if not waits[id(stage)]]
    heapq.heapify(ready)
    ordered: list[Stage] = []
    while ready:
        ordered.append(heapq.heappop(ready)[1])
        for stage in after.get(id(ordered[-1]), []):
            waits[id(stage)] -= 1
            if not waits[id(stage)]:
                heapq.heappush(ready, (place[id(stage.operators[0])], stage))
    return ordered
