"""A model's graph for any number of samples N: what stays, and what grows with N, of traces with 2, 3 and 5 samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastnn.interop.c.fold import evaluate
from fastnn.plan.trace import Graph, Operator, Value
from fastnn.tensors import Array, Function

__all__ = ["COUNTS", "Affine", "Fixed", "Merged", "Size", "Step", "Symbol", "merge", "same"]

COUNTS = 2, 3, 5  # two say how a size grows, the third whether that was right


class Fixed(Exception):
    """Why the number of samples cannot be left open."""


@dataclass(frozen=True)
class Affine:
    """factor · N + offset."""

    factor: int
    offset: int

    def __str__(self) -> str:
        grown = "N" if self.factor == 1 else f"{self.factor}*N"
        return f"{grown}{self.offset:+d}" if self.offset else grown


Size = int | Affine


@dataclass(eq=False)
class Symbol:
    """An array of the graph; `constants` are its numbers, for each of the counts, where no input has a part in them."""

    shape: tuple[Size, ...]
    dtype: np.dtype[Any]
    constants: list[Array] = field(default_factory=list)

    @property
    def array(self) -> Array | None:
        """Its numbers, if they are the same for any N."""
        if not self.constants:
            return None
        first, *others = self.constants
        return first if all(first is each or same(first, each) for each in others) else None


@dataclass(eq=False)
class Step:
    """An operator; its inputs are Symbols and numbers, sizes among its attributes may be Affine."""

    function: type[Function]
    inputs: tuple[Any, ...]
    attributes: dict[str, Any]
    output: Symbol
    module: Any


@dataclass
class Merged:
    """The steps that depend on the inputs, in order."""

    inputs: list[Symbol]
    steps: list[Step]
    results: list[Symbol]


def same(a: Array, b: Array) -> bool:
    """Whether they have one shape and the same entries."""
    return a.shape == b.shape and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


def merge(graphs: Sequence[Graph], counts: Sequence[int], random: Callable[[type[Function]], bool]) -> Merged:
    """One graph of those that were traced with so many samples; of one alone, for that number.

    What depends on no input is computed here, except by what is `random`. Raises Fixed where the graphs differ in more
    than sizes.
    """
    lengths = [len(graph.operators) for graph in graphs]
    if len(set(lengths)) > 1:
        raise Fixed(f"the model applies {_counted(lengths)} operators to {_counted(counts)} samples")
    known: list[dict[int, Symbol]] = [{} for _ in graphs]

    def entered(values: Sequence[Value], constants: list[Array]) -> Symbol:
        symbol = Symbol(_merged([value.shape for value in values], counts), values[0].dtype, constants)
        for symbols, value in zip(known, values, strict=True):
            symbols[id(value)] = symbol
        return symbol

    def given(entries: Sequence[Any]) -> Any:
        if all(isinstance(entry, np.ndarray) for entry in entries):
            shape = _merged([entry.shape for entry in entries], counts)
            return Symbol(shape, entries[0].dtype, list(entries))
        if not all(isinstance(entry, Value) for entry in entries):
            return _merged(entries, counts)
        found = [symbols.get(id(value)) for symbols, value in zip(known, entries, strict=True)]
        if any(symbol is not found[0] for symbol in found):
            raise Fixed("its operators are applied to others' results, depending on the number of samples")
        return found[0] or entered(entries, [np.asarray(value.tensor._data, order="C") for value in entries])

    inputs = [entered(values, []) for values in zip(*(graph.inputs for graph in graphs), strict=True)]
    steps = []
    for ops in zip(*(graph.operators for graph in graphs), strict=True):
        function = ops[0].function
        if any(op.function is not function for op in ops):
            names = " or ".join(dict.fromkeys(op.function.__name__ for op in ops))
            raise Fixed(f"the model applies {names}, depending on the number of samples")
        try:
            entries = tuple(given(each) for each in zip(*(op.inputs for op in ops), strict=True))
            arrays = [entry for entry in entries if isinstance(entry, Symbol)]
            constant = all(array.constants for array in arrays) and not random(function)
            values = [_numbers(op, entries, k) for k, op in enumerate(ops)] if constant else []
            output = entered([op.output for op in ops], values)
            if output.array is None:
                attributes = {name: _merged([op.attributes[name] for op in ops], counts) for name in ops[0].attributes}
                steps.append(Step(function, entries, attributes, output, ops[0].module))
                output.constants = []
        except Fixed as reason:
            raise Fixed(f"at the operator {function.__name__} {reason}") from None
    results = [given(values) for values in zip(*(graph.results for graph in graphs), strict=True)]
    return Merged(inputs, steps, results)


def _numbers(op: Operator, entries: Sequence[Any], k: int) -> Array:
    """What the operator makes of constants, for the count of that number."""
    pairs = zip(entries, op.inputs, strict=True)
    return evaluate(op, [entry.constants[k] if isinstance(entry, Symbol) else own for entry, own in pairs])


def _merged(values: Sequence[Any], counts: Sequence[int]) -> Any:
    """The one value that these are, whole numbers that grow with N as Affine; tuples, lists and slices by entries."""
    first = values[0]
    if all(isinstance(value, slice) for value in values):
        ends = (_merged([getattr(value, end) for value in values], counts) for end in ("start", "stop", "step"))
        return slice(*ends)
    if all(isinstance(value, (tuple, list)) for value in values):
        if len({len(value) for value in values}) > 1:
            raise Fixed(f"has {_counted([len(value) for value in values])} entries for {_counted(counts)} samples")
        found = [_merged(entries, counts) for entries in zip(*values, strict=True)]
        return found if isinstance(first, list) else tuple(found)
    if all(value is first or _equal(value, first) for value in values):
        return first
    if all(isinstance(value, (int, np.integer)) and not isinstance(value, bool) for value in values):
        factor, rest = divmod(int(values[1]) - int(first), counts[1] - counts[0])
        grown = Affine(factor, int(first) - factor * counts[0])
        if not rest and all(grown.factor * n + grown.offset == v for n, v in zip(counts, values, strict=True)):
            return grown
    raise Fixed(f"has {_counted(values)} for {_counted(counts)} samples, which is no multiple of their number")


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return same(a, b)
    alike = type(a) is type(b) and a == b
    return isinstance(alike, (bool, np.bool_)) and bool(alike)


def _counted(values: Sequence[Any]) -> str:
    return ", ".join(map(str, values[:-1])) + f" and {values[-1]}" if len(values) > 1 else str(values[0])
