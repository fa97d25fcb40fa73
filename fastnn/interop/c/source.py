"""The C file's text."""

from __future__ import annotations

import math
import re
from typing import Any

from fastnn.interop.c.kernels import FUNCTIONS
from fastnn.interop.c.lower import CEmitter
from fastnn.interop.c.memory import Buffer, Statement

__all__ = ["source_of", "weight_bytes"]

_WIDTH = 110


def weight_bytes(buffers: list[Buffer]) -> int:
    """What the constants that are used take."""
    return sum(b.size * (1 if b.quantized else 4) for b in buffers if b.kind == "w" and b.name)


def source_of(emitter: CEmitter, name: str, scratch: int, x: str, y: str, version: str) -> str:
    """The file, with a function of that name; `x` and `y` describe its arguments, `scratch` is the size of m."""
    body = "".join(f"    {_filled(statement)}\n" for statement in emitter.statements)
    body = body if re.search(r"\bx\b", body) else f"    (void)x;\n{body}"
    functions = "".join(map(_function, emitter.functions))
    used = [buffer for buffer in emitter.buffers if buffer.kind == "w" and buffer.name]
    math_h = re.search(r"\b\w+f\(|INFINITY|NAN", functions + body) is not None
    text = [
        f"/* {name}: a neural network as plain C99, written by fastnn {version}.\n *\n",
        f" * void {name}(const float *x, float *y)\n *   x: {x}\n *   y: {y}\n *\n",
        f" * Memory: {weight_bytes(used):,} bytes of constants, {4 * scratch:,} bytes of static memory, and no heap. "
        f"{emitter.macs:,}\n * multiply-accumulates. As the static memory is shared, one call at a time. x and y must "
        "not overlap.\n",
        f" * Compile with: cc -std=c99 -O3 -c FILE{', and link with -lm' if math_h else ''}\n */\n",
        "#include <math.h>\n\n" if math_h else "\n",
        f"void {name}(const float *x, float *y);\n\n",
        *map(_array, used),
        f"\nstatic float m[{scratch}];\n" if scratch else "",
        functions,
        f"\nvoid {name}(const float *x, float *y) {{\n{body}}}\n",
    ]
    return "".join(text)


def _filled(statement: Statement) -> str:
    references = statement.references()
    return re.sub(r"\$(\d+)", lambda found: str(references[int(found[1])]), statement.text)


def _function(name: str) -> str:
    """The function's text, with the type that its name's ending says."""
    plain = name.removesuffix("_int8")
    text = re.sub(rf"\b{plain}\(", f"{name}(", FUNCTIONS[plain])
    return text.replace("WEIGHT", "float" if name == plain else "signed char")


def _array(buffer: Buffer) -> str:
    array = buffer.array if buffer.quantized is None else buffer.quantized[0]
    kind, form = ("float", "%.9g") if buffer.quantized is None else ("signed char", "%d")
    numbers = ",".join([form % value for value in array.ravel().tolist()]).replace("inf", "INFINITY")
    lines = re.sub(rf"(.{{{_WIDTH},}}?,)", r"\1\n", numbers)
    shape = " x ".join(map(str, array.shape))
    return f"static const {kind} {buffer.name}[{array.size}] = {{ /* {shape} */\n{lines}\n}};\n"


def described(shape: tuple[int, ...], kind: str) -> str:
    """How the file's head describes an argument."""
    return f"{math.prod(shape):,} floats, {' x '.join(map(str, shape)) or '1'} in C order{kind}"


def in_comment(names: Any) -> str:
    """Names that cannot end a comment.

    >>> in_comment(["cat", "*/"])
    'cat, ??'
    """
    found = ", ".join(re.sub(r"[^\w .+-]", "?", str(name)) for name in names)
    return found if len(found) <= 200 else found[:200] + " ..."
