"""Buffers of the C file, and where they lie: those that are never needed at the same time share memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fastnn.tensors import Array

__all__ = ["Buffer", "Reference", "Statement", "plan"]


@dataclass(eq=False)
class Buffer:
    """Floats that C code names: the input "x", the output "y", constants "w", or scratch memory "m".

    `array` stands for it while operators are lowered: views of it are told by their addresses. Of constants it holds
    the numbers; if they are quantized, that is the int8 array and the scale (O,) of each channel.
    """

    array: Array
    kind: str
    name: str = ""
    quantized: tuple[Array, Array] | None = None
    offset: int = 0  # in m, once planned

    @property
    def size(self) -> int:
        return self.array.size


@dataclass(frozen=True)
class Reference:
    """An entry of a buffer, where an operand begins."""

    buffer: Buffer
    offset: int

    def __str__(self) -> str:
        """The address, as C has it."""
        name = "m" if self.buffer.kind == "m" else self.buffer.name
        offset = self.offset + self.buffer.offset
        return f"{name} + {offset}" if offset else name


@dataclass(eq=False)
class Statement:
    """C code in which $0, $1, ... stand for addresses: of what is written, and of what is read."""

    text: str
    written: Reference
    read: list[Reference | None]
    in_place: list[int] = field(default_factory=list)  # which of `read` the output may replace entry by entry

    def references(self) -> list[Reference | None]:
        return [self.written, *self.read]


@dataclass(eq=False)
class _Block:
    """Scratch buffers in one place, and the statements between which it is in use."""

    buffers: list[Buffer]
    first: int
    last: int
    offset: int = 0

    @property
    def size(self) -> int:
        return self.buffers[0].size


def plan(statements: list[Statement]) -> int:
    """Give every scratch buffer its offset; returns how many floats there are.

    An output takes the place of an input of equal size that is not read later. Then the blocks, largest first, go to
    the lowest place that is free for as long as they are in use.
    """
    last: dict[int, int] = {}
    for i, statement in enumerate(statements):
        last.update({id(r.buffer): i for r in statement.references() if r is not None})
    block_of: dict[int, _Block] = {}
    blocks: list[_Block] = []
    for i, statement in enumerate(statements):
        for reference in statement.references():
            if reference is None or (buffer := reference.buffer).kind != "m" or id(buffer) in block_of:
                continue
            block = _replaced(statement, block_of, i) if reference is statement.written else None
            if block is None:
                block = _Block([], i, i)
                blocks.append(block)
            block.buffers.append(buffer)
            block.last = last[id(buffer)]
            block_of[id(buffer)] = block
    placed: list[_Block] = []
    for block in sorted(blocks, key=lambda block: -block.size):
        others = sorted(
            (other for other in placed if other.first <= block.last and block.first <= other.last),
            key=lambda other: other.offset,
        )
        for other in others:
            if block.offset + block.size <= other.offset:
                break
            block.offset = max(block.offset, other.offset + other.size)
        placed.append(block)
        for buffer in block.buffers:
            buffer.offset = block.offset
    return max((block.offset + block.size for block in blocks), default=0)


def _replaced(statement: Statement, block_of: dict[int, _Block], now: int) -> _Block | None:
    """The block of an input that the statement's output may overwrite."""
    for k in statement.in_place:
        read: Any = statement.read[k]
        block = block_of.get(id(read.buffer))
        if block is not None and block.last == now and block.size == statement.written.buffer.size:
            return block
    return None
