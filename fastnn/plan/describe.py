"""A plan in words: a table of its stages."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from fastnn.ops import conv, dense
from fastnn.plan.fuse import Chain, CrossEntropy, Dense, Single, Stage

if TYPE_CHECKING:
    from fastnn.plan.execute import Execution

__all__ = ["description"]


def description(execution: Execution) -> str:
    """One line a stage: what it fuses, its FLOPs, the bytes of what goes in and out, its milliseconds, its share."""
    rows = [("", "stage", "runs", "MFLOP", "MB", "ms", "share")]
    seconds = [s for part in execution.parts for s in part.seconds]
    total = math.fsum(seconds) or 1.0
    names = [(part, *name) for part in execution.parts for name in part.names]
    for (part, stage, when), spent in zip(names, seconds, strict=True):
        native = "native" if part.program is not None else "Python"
        flops = "" if stage is None else f"{_flops(stage, when) / 1e6:.1f}"
        size = "" if stage is None else f"{_bytes(stage) / 1e6:.2f}"
        what = when if stage is None else _operators(stage)
        rows.append((when, what, native, flops, size, f"{spent * 1e3:.3f}", f"{spent / total:6.1%}"))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    left = (0, 1, 2)
    lines = [
        "  ".join(cell.ljust(w) if i in left else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]
    shape = ", ".join(map(str, execution.graph.x.shape))
    calls = sum(part.program is not None for part in execution.parts)
    lines.insert(0, f"input ({shape}) {execution.graph.x.dtype}: {calls} native calls, {execution.arena.bytes / 1e6:.1f} MB of arrays")
    lines.append(f"together {total * 1e3:.3f} ms")
    return "\n".join(line.rstrip() for line in lines)


def _operators(stage: Stage) -> str:
    kind = {Chain: "chain: ", Dense: "dense: ", CrossEntropy: "loss: ", Single: ""}[type(stage)]
    return kind + " ".join(op.function.__name__ for op in stage.operators)


def _flops(stage: Stage, when: str) -> float:
    """Multiplications and additions of convolutions and dense layers, as if no zero and no Winograd saved any."""
    total = 0.0
    for op in stage.operators:
        if op.function in (conv.Conv2d, dense.Linear):
            weight = op.inputs[1].shape
            once = 2.0 * math.prod(op.output.shape) * math.prod(weight[1:])
            total += once if when == "forward" else once * sum(op.needs[:2])
    return total


def _bytes(stage: Stage) -> int:
    """Of the stage's input, parameters and output."""
    values = [stage.input, stage.output, *(v for op in stage.operators for v in op.inputs[1:] if hasattr(v, "shape"))]
    return sum(math.prod(v.shape) * v.dtype.itemsize for v in values)
