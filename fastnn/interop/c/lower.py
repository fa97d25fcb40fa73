"""A traced model as C statements: the rules of compiled plans, with an emitter that writes C.

All memory is float in C, whatever NumPy's type: places and truth values are small whole numbers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from fastnn.backends.reference.kinds import name_of
from fastnn.errors import GraphError
from fastnn.interop.c.entries import INPUTS, formula_of, literal
from fastnn.interop.c.fold import Folded, affine
from fastnn.interop.c.kernels import FORMULAS
from fastnn.interop.c.memory import Buffer, Reference, Statement
from fastnn.ops.norms import Running
from fastnn.own.operator import Elementwise, Formula
from fastnn.plan.emit import Emitter, Unlowered
from fastnn.plan.lower import RULES
from fastnn.plan.trace import Graph, Operator, Value
from fastnn.tensors import Array

__all__ = ["CEmitter"]

_INTS = "ijklmnrs"  # of loops


def _extent(array: Array) -> tuple[int, int]:
    """Addresses of its first byte and behind its last."""
    ways = [stride * (size - 1) for stride, size in zip(array.strides, array.shape, strict=True)]
    first = array.ctypes.data + sum(way for way in ways if way < 0)
    return first, first + sum(map(abs, ways)) + array.itemsize


class CEmitter(Emitter):
    """The statements of one graph, its constants, and the names of the functions that they call."""

    def __init__(self, graph: Graph, folded: Folded, known: dict[int, Array], name_of: Callable[[Any], str]) -> None:
        super().__init__(graph)
        self.statements: list[Statement] = []
        self.functions: list[str] = []
        self.macs = 0
        self.buffers = [Buffer(self.input, "x", "x")]
        self._name_of = name_of
        arrays: dict[int, Any] = {**known, id(graph.x): self.input}
        for i, op in enumerate(graph.operators):
            if id(op.output) in arrays:
                continue
            values = [self._of(arrays[id(v)]) if isinstance(v, Value) else v for v in op.inputs]
            if i in folded.left_out:
                arrays[id(op.output)] = values[0]
                continue
            if i in folded.weights:
                weights = folded.weights[i]
                values[1:] = weights.weight, weights.bias
                self._constant(weights.weight).quantized = weights.quantized
            arrays[id(op.output)] = self._lowered(op, values)
        self._finish(self._of(arrays[id(graph.results[0])]))

    # ---- operators ---------------------------------------------------------------------------------------------------

    def _lowered(self, op: Operator, values: list[Any]) -> Array:
        try:
            rule = RULES.get(op.function)
            if rule is None:
                raise Unlowered("a compiled plan would run it in Python")
            if op.output.dtype == np.float64:
                raise Unlowered("it computes in float64: model.float() computes in float32")
            if op.function is Elementwise:
                return self._own(values, op.output.shape, **op.attributes)
            output: Array = rule(self, op, *values, **op.attributes)[0]
        except Unlowered as reason:
            name = op.function.__name__ + ("" if op.module is None else f" of {self._name_of(op.module)}")
            raise GraphError(f"export_c: the operator {name} has no form in C: {reason}") from None
        return output

    def native(self, native: Any) -> NoReturn:
        raise Unlowered("it needs the plan's own kernels")

    def python(self, work: Callable[[], None], why: str) -> NoReturn:
        raise Unlowered(why)

    def early(self, work: Callable[[], None]) -> NoReturn:
        raise Unlowered("it draws random numbers")

    def momentum(self, running: Running) -> NoReturn:
        raise Unlowered("it changes running statistics")

    def array(self, shape: tuple[int, ...], dtype: Any = np.float32) -> Array:
        array = np.empty(shape, dtype)
        self.buffers.append(Buffer(array, "m"))
        return array

    def map(
        self,
        kind: str,
        *inputs: Array,
        out: Array | None = None,
        n: tuple[int, ...] = (),
        p: tuple[float, ...] = (),
        dtype: Any = np.float32,
    ) -> Array:
        shape = np.broadcast_shapes(*(x.shape for x in inputs))
        out = self.array(shape, dtype) if out is None else out
        if kind == "copy" and out.dtype.kind != "f" and inputs[0].dtype.kind == "f":
            kind = "truth" if out.dtype == np.bool_ else "trunc"
        self.call(kind, out, *(np.broadcast_to(x, shape) for x in inputs), p=p, shape=shape)
        return out

    def call(
        self, kind: str, *arrays: Array | None, n: tuple[Any, ...] = (), p: tuple[float, ...] = (), **layout: Any
    ) -> None:
        name = name_of(n[1]) if kind == "activation_forward" else kind.removesuffix("_forward")
        if name in FORMULAS:
            given = [array for array in arrays if array is not None]
            shape = layout.get("shape")
            if shape is None:  # of contiguous arrays
                shape, given = n[:1], [array.reshape(-1) for array in given]
            self._map(FORMULAS[name], shape, given, p)
        elif hasattr(self, f"_{name}"):
            getattr(self, f"_{name}")(*arrays, n=n, p=p, **layout)
        else:
            raise Unlowered(f"there is no loop for its kernel {name}")

    # ---- addresses ---------------------------------------------------------------------------------------------------

    def _of(self, array: Array) -> Array:
        """The array, known as a constant unless it lies in a buffer."""
        return array if self._buffer(array) is not None else self._constant(array).array

    def _constant(self, array: Array) -> Buffer:
        known = self._buffer(array)
        if known is None:
            known = Buffer(array if array.flags.c_contiguous else array.copy(), "w")
            self.buffers.append(known)
        return known

    def _buffer(self, array: Array) -> Buffer | None:
        """That in whose memory the array begins; a constant's holds all of it, for a part of it may be one, too."""
        address, (first, last) = array.ctypes.data, _extent(array)
        for buffer in self.buffers:
            start = buffer.array.ctypes.data
            end = start + buffer.array.nbytes
            if start <= address < end and (buffer.kind != "w" or start <= first <= last <= end):
                return buffer
        return None

    def at(self, array: Array) -> Reference:
        buffer = self._constant(array)  # of a rule's own, if it is new
        if not buffer.name:
            buffer.name = f"w{sum(other.kind == 'w' and other.name != '' for other in self.buffers)}"
        offset = array.ctypes.data - buffer.array.ctypes.data
        return Reference(buffer, offset // array.itemsize if 0 <= offset < buffer.array.nbytes else 0)

    def _add(self, text: str, *arrays: Array | None, in_place: list[int] | None = None) -> None:
        written, *read = [None if array is None else self.at(array) for array in arrays]
        assert written is not None
        self.statements.append(Statement(text, written, read, in_place or []))

    def _function(self, name: str, *arrays: Array | None, n: tuple[Any, ...], in_place: bool = False) -> None:
        """A call of one of FUNCTIONS: the arrays, an absent one as 0, and the numbers."""
        if name not in self.functions:
            self.functions.append(name)
        present = [array for array in arrays if array is not None]
        names = iter(range(len(present)))
        given = [f"${next(names)}" if array is not None else "0" for array in arrays]
        self._add(f"{name}({', '.join([*given, *map(_number, n)])});", *present, in_place=[0] if in_place else None)

    # ---- loops -------------------------------------------------------------------------------------------------------

    def _map(self, formula: str, shape: tuple[int, ...], arrays: list[Array], p: tuple[float, ...]) -> None:
        """y = formula(a, b, ...), entry by entry; constants that are the same everywhere stand in the formula."""
        named = dict(zip("pq", map(literal, p), strict=False))
        operands, pointers = [arrays[0]], ""
        for name, array in zip(INPUTS, arrays[1:], strict=False):
            if self._buffer(array) is None and array.size and (array == array.flat[0]).all():
                named[name] = literal(float(array.flat[0]))
            else:
                array = array if self._buffer(array) is not None else np.ascontiguousarray(array, np.float32)
                named[name] = f"{name}[$I{len(operands)}]"
                pointers += f" const float *{name} = ${len(operands)};"
                operands.append(array)
        steps = [_steps(array, len(shape)) for array in operands]
        sizes, steps = _joined(shape, steps)
        text = re.sub(rf"\b[{INPUTS}pq]\b", lambda found: named[found[0]], formula)
        text = text.replace(" / 1.0f", "")
        text = re.sub(r"\$I(\d+)", lambda found: _index(steps[int(found[1])]), text)
        *lines, text = text.split("; ")
        lines.append(f"to[{_index(steps[0])}] = {text}")
        body = "{" + "".join(f"\n        {line};" for line in lines) + "\n      }" if lines[1:] else f"{lines[0]};"
        in_place = [
            k - 1
            for k in range(1, len(operands))
            if steps[k] == steps[0] == [1]
            and all(
                self._buffer(a) is not self._buffer(operands[k]) or (steps[j] == steps[k] and self.at(a).offset == 0)
                for j, a in enumerate(operands)
                if j
            )
        ]
        self._add(
            f"{{ float *to = $0;{pointers}\n      {_loops(sizes)}{body} }}",
            *operands,
            in_place=in_place,
        )

    def _own(self, inputs: list[Array], shape: tuple[int, ...], *, formula: Formula) -> Array:
        """A formula of fnn.elementwise, in float32."""
        text, used = formula_of(formula.expression)
        out = self.array(shape)
        self._map(text, shape, [out, *(np.broadcast_to(inputs[k], shape) for k in used)], ())
        return out

    def _sum(self, y: Array, x: Array, *, shape: tuple[int, ...], kept: int, **_: Any) -> None:
        steps = _steps(x, len(shape))
        sizes, (written, outer) = _joined(shape[:kept], [_steps(y, kept), steps[:kept]])
        inner_sizes, (inner,) = _joined(shape[kept:], [steps[kept:]])
        self._add(
            "{ float *to = $0; const float *a = $1;\n"
            f"      {_loops(sizes)}{{\n        float sum = 0;\n        {_loops(inner_sizes, len(sizes))}"
            f"sum += a[{_index(outer)} + {_index(inner, len(sizes))}];\n"
            f"        to[{_index(written)}] = sum;\n      }} }}",
            y,
            x,
        )

    def _pick(self, y: Array, moved: Array, *rest: Any, n: tuple[int, ...], shape: tuple[int, ...], **_: Any) -> None:
        """Entries of `moved`, shifted by one or two indices; n holds their dimensions' sizes and strides."""
        places, whole = [place for place in rest[:2] if place is not None], rest[-1]
        places = [place if self._buffer(place) is not None else np.ascontiguousarray(place) for place in places]
        sizes, steps = _joined(shape, [_steps(array, len(shape)) for array in (y, moved, *places)])
        at = _index(steps[1])
        for k, step in enumerate(steps[2:]):
            entry = f"(int)p{k}[{_index(step)}]"
            at += f" + ({entry} < 0 ? {entry} + {n[k]} : {entry}) * {n[2 + k] // whole.itemsize}"
        pointers = "".join(f" const float *p{k} = ${k + 2};" for k in range(len(places)))
        self._add(
            f"{{ float *to = $0; const float *a = $1;{pointers}\n"
            f"      {_loops(sizes)}to[{_index(steps[0])}] = a[{at}]; }}",
            y,
            moved,
            *places,
        )

    # ---- functions ---------------------------------------------------------------------------------------------------

    def _weighted(self, name: str, y: Array, x: Array, weight: Array, bias: Array | None, n: tuple[int, ...]) -> None:
        quantized = self._constant(weight).quantized
        if quantized is None:
            self._function(name, y, x, weight, None, bias, n=n)
        else:
            self._function(f"{name}_int8", y, x, weight, quantized[1], bias, n=n)

    def _conv2d(self, y: Array, x: Array, weight: Array, bias: Array | None = None, *, n: Any, **_: Any) -> None:
        images, c, h, w, o, kh, kw, oh, ow, *rest = n
        self.macs += y.size * kh * kw * (c // rest[-1])
        if (kh, kw, *rest[:4]) == (1, 1, 1, 1, 0, 0):
            h, w, oh, ow = 1, h * w, 1, oh * ow
        name = "conv2d"
        if o // rest[-1] % 8 == 0 and (buffer := self._constant(weight)).kind == "w":
            name, weight = "conv2d_blocks", _in_blocks(weight)
            if (quantized := buffer.quantized) is not None:
                self._constant(weight).quantized = _in_blocks(quantized[0]), quantized[1]
        for i in range(images):
            self._weighted(name, y[i], x[i], weight, bias, (c, h, w, o, kh, kw, oh, ow, *rest))

    def _conv2d_backward_input(self, y: Array, x: Array, weight: Array, *, n: Any, **_: Any) -> None:
        self.macs += x.size * n[5] * n[6] * (n[1] // n[-1])
        for i in range(n[0]):
            self._function("conv_transpose2d", y[i], x[i], weight, n=n[1:])

    def _matmul(self, y: Array, a: Array, b: Array, bias: Array | None = None, *, n: Any, shape: Any, **_: Any) -> None:
        rows, columns, inner, am, ak, bk, bn = n
        self.macs += y.size * inner
        by_rows = ak == 1 and bk == 1 and (rows == 1 or am == inner) and (columns == 1 or bn == inner)
        for place in np.ndindex(*shape):
            if by_rows and y[place].flags.c_contiguous:
                self._weighted("dense", y[place], a[place], b[place], bias, (rows, columns, inner))
            elif not y[place].flags.c_contiguous:
                raise Unlowered("a product of this layout")
            else:
                self._function("matmul", y[place], a[place], b[place], bias, n=n)

    def _max_pool2d(self, y: Array, where: Array, x: Array, *, n: Any, **_: Any) -> None:
        self._function("max_pool2d", y, x, n=n[:-1])

    def _avg_pool2d(self, y: Array, x: Array, *, n: Any, **_: Any) -> None:
        self._function("avg_pool2d", y, x, n=n)

    def _global_avg_pool2d(self, y: Array, x: Array, *, n: Any, **_: Any) -> None:
        self._function("average", y, x, n=n)

    def _batch_norm(self, y: Array, x: Array, *given: Any, n: Any, p: Any, **_: Any) -> None:
        if any(a is not None and getattr(self._buffer(a), "kind", "w") != "w" for a in given):
            return self._normalised(y, x, *given, eps=p[0])
        factor, shift = affine(*given, eps=p[0])
        scales = [np.broadcast_to(a, (n[1],)).astype(np.float32) for a in (factor, shift)]
        for i in range(n[0]):
            self._function("scale_shift", y[i], x[i], *scales, n=n[1:], in_place=n[0] == 1)

    def _normalised(self, y: Array, x: Array, mean: Array, var: Array, *given: Array | None, eps: float) -> None:
        """By statistics that are computed."""
        channels = (-1, *[1] * (x.ndim - 2))
        root = self.map("sqrt", self.map("add", var, np.asarray(eps, np.float32)))
        self.map("sub", x, mean.reshape(channels), out=y)
        self.map("div", y, root.reshape(channels), out=y)
        for kind, a in zip(("mul", "add"), given, strict=True):
            if a is not None:
                self.map(kind, y, a.reshape(channels), out=y)

    def _batch_norm_statistics(self, mean: Array, var: Array, x: Array, *, n: Any, **_: Any) -> None:
        rows = x.reshape(n).transpose(1, 0, 2)
        count = np.asarray(n[0] * n[2], np.float32)
        self.map("div", self.sum(rows, (1, 2)), count, out=mean)
        centred = self.map("sub", rows, mean[:, None, None])
        self.map("div", self.sum(self.map("mul", centred, centred), (1, 2)), count, out=var)

    def _group_norm(self, y: Array, statistics: Array, x: Array, *affine: Any, n: Any, p: Any, **_: Any) -> None:
        y, x = y.reshape(n[:3]), x.reshape(n[:3])  # views: a rule passes contiguous arrays
        for i in range(n[0]):
            self._function("group_norm", y[i], x[i], *affine, n=(*n[1:], p[0]), in_place=n[0] == 1)

    def _softmax(self, y: Array, x: Array, *, n: Any, **_: Any) -> None:
        self._function("softmax", y, x, n=(math.prod(n[:-1]), n[-1], 0), in_place=True)

    def _log_softmax(self, y: Array, x: Array, *, n: Any, **_: Any) -> None:
        self._function("softmax", y, x, n=(math.prod(n[:-1]), n[-1], 1), in_place=True)

    def _extremum(self, y: Array | None, where: Array, x: Array, *, n: Any, **_: Any) -> None:
        self._function("extremum", y, where if y is None else None, x, n=n)

    def _cumsum(self, y: Array, x: Array, *, n: Any, **_: Any) -> None:
        self._function("cumsum", y, x, n=n[:-1])

    def _recurrent(self, y: Array, gates: Array, extra: Any, weight: Array, *rest: Any, n: Any, **_: Any) -> None:
        cells = extra if n[3] == 3 else None
        self.macs += weight.size * n[0] * n[1]
        self._function("recurrent", y, gates, cells, weight, *rest, n=n)

    # ---- the output --------------------------------------------------------------------------------------------------

    def _finish(self, result: Array) -> None:
        """The result is written where y points to."""
        buffer = self._buffer(result)
        assert buffer is not None
        whole = buffer.size == result.size and result.flags.c_contiguous
        if buffer.kind != "m" or not whole:
            buffer = Buffer(np.empty(result.shape, np.float32), "y", "y")
            self.buffers.append(buffer)
            self.map("copy", result, out=buffer.array)
        buffer.kind, buffer.name = "y", "y"


def _in_blocks(weight: Array) -> Array:
    """Filters (O, ...) as (O / 8, ..., 8)."""
    return np.ascontiguousarray(np.moveaxis(weight.reshape(-1, 8, *weight.shape[1:]), 1, -1))


def _steps(array: Array, ndim: int) -> list[int]:
    strides = [stride // array.itemsize for stride in array.strides]
    return [0] * (ndim - len(strides)) + [0 if n == 1 else s for n, s in zip(array.shape, strides, strict=True)]


def _joined(shape: tuple[int, ...], steps: list[list[int]]) -> tuple[list[int], list[list[int]]]:
    """The same loops with the fewest dimensions."""
    sizes: list[int] = []
    joined: list[list[int]] = [[] for _ in steps]
    for d, size in enumerate(shape):
        if size == 1:
            continue
        if sizes and all(j[-1] == step[d] * size for j, step in zip(joined, steps, strict=True)):
            sizes[-1] *= size
            for j, step in zip(joined, steps, strict=True):
                j[-1] = step[d]
        else:
            sizes.append(size)
            for j, step in zip(joined, steps, strict=True):
                j.append(step[d])
    return sizes, joined


def _loops(sizes: list[int], after: int = 0) -> str:
    letters = _INTS[after:]
    return "".join(f"for (int {i} = 0; {i} < {size}; {i}++) " for i, size in zip(letters, sizes, strict=False))


def _index(steps: list[int], after: int = 0) -> str:
    terms = [i if step == 1 else f"{i} * {step}" for i, step in zip(_INTS[after:], steps, strict=False) if step]
    return " + ".join(terms) or "0"


def _number(value: Any) -> str:
    return literal(value) if isinstance(value, float) else str(int(value))
