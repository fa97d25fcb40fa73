"""A plan in words: a table of its stages."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from fastnn.ops import conv, dense
from fastnn.ops.common import tall_shape
from fastnn.plan.fuse import Chain, ChainLayer, Dense, Rows, Stage
from fastnn.plan.region_stage import region_lines
from fastnn.plan.regions import Region
from fastnn.plan.trace import Operator, Value

if TYPE_CHECKING:
    from fastnn.plan.execute import Execution, Part

__all__ = ["description"]

Row = tuple[str, ...]
_HEAD: Row = ("when", "stage", "kernels", "MFLOP", "MB", "ms", "share")
_TEXT = 3  # columns of words, to the left; numbers stand to the right


def description(execution: Execution) -> str:
    """One row a stage: what it fuses, its kernels, FLOPs, bytes that go in and out, milliseconds, share of them all."""
    after = execution.seconds_after
    total = math.fsum((after, *(s for part in execution.parts for s in part.seconds))) or 1.0
    rows = [_HEAD, *(row for part in execution.parts for row in _rows(part, total))]
    if after:
        rows.append(("after", "gradients as a whole", "", "", "", f"{after * 1e3:.3f}", f"{after / total:.1%}"))
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEAD))]
    calls = sum(part.program is not None for part in execution.parts)
    inputs = ", ".join(f"{'×'.join(map(str, value.shape))} {value.dtype}" for value in execution.graph.inputs)
    lines = [f"input {inputs}; native calls: {calls}; arrays: {execution.arena.bytes / 1e6:.1f} MB"]
    for row in rows:
        words = [cell.ljust(w) for cell, w in zip(row[:_TEXT], widths, strict=False)]
        numbers = [cell.rjust(w) for cell, w in zip(row[_TEXT:], widths[_TEXT:], strict=True)]
        lines.append("  ".join(words + numbers).rstrip())
    return "\n".join([*lines, f"together {total * 1e3:.3f} ms"])


def _rows(part: Part, total: float) -> Iterator[Row]:
    updates = 0.0
    for stage, when, kernels, spent in _together(part):
        if stage is None and when == "update":
            updates += spent
            continue
        time = f"{spent * 1e3:.3f}", f"{spent / total:.1%}"
        if stage is None:
            yield when, "", kernels, "", "", *time
            continue
        first, *more = _parts_of(stage)
        yield when, first, kernels, f"{_flops(stage, when) / 1e6:.1f}", f"{_bytes(stage) / 1e6:.2f}", *time
        yield from (("", line, *("" for _ in _HEAD[2:])) for line in more)
    if updates:
        yield "update", "the other parameters", "update", "", "", f"{updates * 1e3:.3f}", f"{updates / total:.1%}"


def _together(part: Part) -> Iterator[tuple[Stage | None, str, str, float]]:
    """Stage, when, kernels and seconds of what runs; the kernels of one operator in a row as one."""
    steps = zip(part.names, part.seconds, strict=True)
    for (_, when), group in itertools.groupby(steps, lambda step: (id(step[0][0]), step[0][1])):
        names, seconds = zip(*group, strict=True)
        kernels = ", ".join(dict.fromkeys(name for _, _, name in names))
        yield names[0][0], when, kernels, math.fsum(seconds)


def _parts_of(stage: Stage) -> list[str]:
    """What a stage fuses: one line, and one more for each further layer of a chain."""
    if isinstance(stage, Region):
        return region_lines(stage)
    if isinstance(stage, Chain):
        lines = [_layer(layer) for layer in stage.layers]
        return [f"Normalize, {lines[0]}", *lines[1:]] if stage.normalize else lines
    if isinstance(stage, Rows):
        return [line for part in (*stage.layers, *([stage.loss] if stage.loss else [])) for line in _parts_of(part)]
    if isinstance(stage, Dense):
        features = "{1}→{0}".format(*stage.linear.inputs[1].shape)
        names = ["Normalize"] * bool(stage.normalize) + [f"Linear {features}"]
        names += ["BatchNorm"] * bool(stage.norm)
        names += [stage.activation.function.__name__] if stage.activation else []
        return [", ".join(names)]
    return [" ".join(op.function.__name__ for op in stage.operators)]


def _layer(layer: ChainLayer) -> str:
    o, c, kh, kw = tall_shape(layer.conv.inputs[1].shape)
    names = [f"Conv2d {c}→{o} {kh}×{kw}"]
    return ", ".join(names + [_named(op) for op in layer.operators[1:]])


def _named(op: Operator) -> str:
    """The operator's name, and a pooling's window."""
    name, window = op.function.__name__, op.attributes.get("kernel_size")
    return name.removesuffix("Training") if window is None else "{} {}×{}".format(name, *window)


def _flops(stage: Stage, when: str) -> float:
    """Multiplications and additions of convolutions and dense layers, as if no zero and no Winograd saved any."""
    total = 0.0
    for op in stage.operators:
        if op.function in (conv.Conv2d, dense.Linear):
            once = 2.0 * math.prod(op.output.shape) * math.prod(op.inputs[1].shape[1:])
            total += once if when == "forward" else once * sum(op.needs[:2])
    return total


def _bytes(stage: Stage) -> int:
    """Of the stage's inputs, parameters and outputs."""
    made = {id(op.output) for op in stage.operators}
    others = [v for op in stage.operators for v in op.inputs[1:] if id(v) not in made]
    values = {id(v): v for v in [*stage.inputs, *stage.outputs, *others]}.values()
    return sum(math.prod(v.shape) * v.dtype.itemsize for v in values if isinstance(v, Value))
